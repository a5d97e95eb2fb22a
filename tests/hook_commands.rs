//! Hooks that are themselves commands of the runtime on their container.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, wait};

cases![
    a_poststart_hook_of_run_may_update_the_container,
    a_poststart_hook_of_run_may_delete_the_container,
    a_poststart_hook_of_run_may_put_another_in_its_place,
    run_takes_back_what_a_failing_poststart_hook_leaves,
];

/// The beginning of a call of the runtime, as a shell has it.
fn runtime(t: &Test) -> String {
    t.need(t.kind() == Kind::Skep, "the others lock, or do not");
    format!("{} --root {}", t.runtime.path.display(), t.root.display())
}

/// A container whose poststop hook writes a line into a file; a failing poststart hook of this version stops it.
fn counting(t: &Test) -> (Container<'_>, std::path::PathBuf) {
    let log = t.path("log");
    fs::write(&log, "").unwrap();
    let poststop = format!("echo poststop >> {}", log.display());
    let c = t.container().lasting().set("/ociVersion", json!("1.3.0"));
    (c.hook("poststop", &poststop), log)
}

fn a_poststart_hook_of_run_may_update_the_container(t: &Test) {
    t.need_controller("pids");
    let c = t.container().lasting();
    let update = format!("{} update --pids-limit 37 {}", runtime(t), c.id);
    let c = c.hook("poststart", &update).set("/ociVersion", json!("1.3.0"));
    c.run_detached();
    c.expect_limit(("pids", "pids.max", "37"), ("pids.max", "37"));
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// Whether it fails after that or not, nothing is there to be taken back, and poststop hooks have run.
fn a_poststart_hook_of_run_may_delete_the_container(t: &Test) {
    for (rest, flags) in
        [("true", &["--detach"][..]), ("true", &[]), ("exit 1", &["--detach"]), ("exit 1", &[])]
    {
        let (c, log) = counting(t);
        let script = format!("{} delete --force {} && {rest}", runtime(t), c.id);
        let c = c.hook("poststart", &script);
        let output = c.bundle_call("run", flags).run();
        if rest == "exit 1" {
            output.fails().one_line().names("poststart");
        } else {
            assert_eq!(output.stderr, "", "{output}");
        }
        assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n", "{rest} {flags:?}");
        t.assert_nothing_left();
    }
}

/// The one that has the id now is not the failing one's to take back.
fn a_poststart_hook_of_run_may_put_another_in_its_place(t: &Test) {
    let other = t.container().lasting();
    other.write();
    let (c, log) = counting(t);
    let (runtime, bundle) = (runtime(t), other.dir.display());
    let script = format!(
        "exec > /dev/null 2>&1 < /dev/null; {runtime} delete --force {0} && \
         {runtime} create --bundle {bundle} {0}; exit 1",
        c.id
    );
    let c = c.hook("poststart", &script);
    c.bundle_call("run", &["--detach"]).run().fails().one_line().names("poststart");
    assert_eq!(c.status(), "created");
    c.start().ok();
    c.exec(&["true"]).ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n");
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn run_takes_back_what_a_failing_poststart_hook_leaves(t: &Test) {
    let (c, log) = counting(t);
    let runtime = runtime(t);
    let script = format!(
        "exec > /dev/null 2>&1 < /dev/null; {runtime} update --pids-limit 37 {0}; \
         {runtime} exec {0} true & exit 1",
        c.id
    );
    let c = c.hook("poststart", &script);
    let output = c.bundle_call("run", &["--detach", "--pid-file", "pid"]).run();
    output.fails().one_line().names("poststart");
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n");
    assert!(!c.dir.join("pid").exists() && !t.path("pid").exists());
    wait::until("nothing is left", || t.leftovers().is_empty().then_some(()));
}
