//! run, in the foreground and detached, and what every caller of create and run sees: pid file, parent, streams.

use std::fs;
use std::process::Command;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json, reaper, say, sys, wait};

cases![
    run_returns_the_exit_status_of_the_program,
    run_returns_128_plus_the_signal,
    run_leaves_nothing_behind,
    run_passes_standard_streams,
    run_detached_returns_at_once,
    run_keep_keeps_the_stopped_container,
    run_of_a_used_id_is_refused,
    run_forwards_signals_to_the_program,
    run_can_be_terminated_by_a_signal,
    a_pid_file_holds_the_pid_and_no_newline,
    a_relative_pid_file_is_relative_to_the_caller,
    an_unwritable_pid_file_makes_create_fail,
    a_pid_file_replaces_an_old_one,
    init_is_a_child_of_the_caller,
    no_helper_process_is_left_after_create,
    a_container_outlives_a_caller_that_dies,
    create_works_with_closed_standard_output,
    twenty_containers_at_once,
    the_default_bundle_is_the_current_directory,
];

/// A program that says which signal it got. Pid 1 needs handlers, or the kernel drops the signal.
pub const TRAPS: &str =
    "trap 'echo TERM > /got; exit 7' TERM; trap 'echo USR1 > /got; exit 8' USR1;
    trap 'echo HUP > /got; exit 9' HUP; trap 'echo INT > /got; exit 10' INT;
    echo up > /up; while :; do sleep 0.05; done";

fn run_returns_the_exit_status_of_the_program(t: &Test) {
    for code in [0, 1, 2, 42, 126, 255] {
        t.container().sh(&format!("exit {code}")).run().code(code).no_stdout().no_stderr();
    }
}

fn run_returns_128_plus_the_signal(t: &Test) {
    // Pid 1 cannot kill itself by a signal without a handler, so the signal comes from outside.
    let c = t.container().sh("echo up > /up; sleep 1000");
    let running = c.spawn();
    c.wait_file("/up");
    c.kill("KILL").ok();
    running.wait().code(128 + libc::SIGKILL);
}

fn run_leaves_nothing_behind(t: &Test) {
    t.container().run().ok().no_stdout().no_stderr();
    t.assert_nothing_left();
    t.container().sh("exit 3").run().code(3);
    t.assert_nothing_left();
}

fn run_passes_standard_streams(t: &Test) {
    let c = t.container().sh("cat; echo to stderr >&2");
    let output = c.bundle_call("run", &[]).stdin("from stdin\n").run().ok();
    assert_eq!(output.stdout, "from stdin\n");
    assert_eq!(output.stderr, "to stderr\n");
}

fn run_detached_returns_at_once(t: &Test) {
    let c = t.container().lasting();
    c.run_detached().no_stdout().no_stderr();
    assert_eq!(c.status(), "running");
    assert_eq!(c.state()["pid"], json!(c.pid()));
}

fn run_keep_keeps_the_stopped_container(t: &Test) {
    let c = t.container().sh("exit 5");
    c.bundle_call("run", &["--keep"]).run().code(5);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
    t.assert_nothing_left();
}

fn run_of_a_used_id_is_refused(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.run().fails().says(&say::ID_IN_USE);
    assert_eq!(c.status(), "running");
}

fn run_forwards_signals_to_the_program(t: &Test) {
    use nix::sys::signal::Signal;
    for (signal, name, code) in
        [(Signal::SIGUSR1, "USR1", 8), (Signal::SIGHUP, "HUP", 9), (Signal::SIGINT, "INT", 10)]
    {
        let c = t.container().sh(TRAPS);
        let running = c.spawn();
        c.wait_file("/up");
        running.signal(signal);
        running.wait().code(code);
        assert_eq!(c.read("/got"), format!("{name}\n"));
    }
}

fn run_can_be_terminated_by_a_signal(t: &Test) {
    let c = t.container().sh(TRAPS);
    let running = c.spawn();
    c.wait_file("/up");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().code(7);
    t.assert_nothing_left();
}

fn a_pid_file_holds_the_pid_and_no_newline(t: &Test) {
    let c = t.container().lasting();
    let file = t.path("the.pid");
    let flag = format!("--pid-file={}", file.display());
    c.bundle_call("create", &[&flag]).run().ok();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, c.state()["pid"].to_string());
    let others: Vec<_> = fs::read_dir(&t.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("the.pid") && name != "the.pid")
        .collect();
    assert!(others.is_empty(), "a temporary file is left: {others:?}");
    c.delete_force().ok();
}

fn a_relative_pid_file_is_relative_to_the_caller(t: &Test) {
    let c = t.container().lasting();
    c.bundle_call("create", &["--pid-file", "relative.pid"]).cwd(&t.dir).run().ok();
    assert_eq!(fs::read_to_string(t.path("relative.pid")).unwrap(), c.state()["pid"].to_string());
    assert!(fs::metadata(c.dir.join("relative.pid")).is_err());
}

fn an_unwritable_pid_file_makes_create_fail(t: &Test) {
    let c = t.container().lasting();
    c.bundle_call("create", &["--pid-file", "/no/such/dir/pid"])
        .run()
        .fails()
        .names("/no/such/dir");
    t.assert_nothing_left();
}

fn a_pid_file_replaces_an_old_one(t: &Test) {
    let c = t.container().lasting();
    let file = t.path("old.pid");
    fs::write(&file, "1234567890123").unwrap();
    c.bundle_call("create", &["--pid-file", file.to_str().unwrap()]).run().ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), c.state()["pid"].to_string());
}

/// The parent of a process, from `/proc/PID/stat`.
pub fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

fn init_is_a_child_of_the_caller(t: &Test) {
    let c = t.container().lasting();
    c.create();
    // The tests are a subreaper, as a shim and conmon are.
    assert_eq!(parent(c.pid()), std::process::id() as i32);
    c.start().ok();
    assert_eq!(parent(c.pid()), std::process::id() as i32);
}

fn no_helper_process_is_left_after_create(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let mut processes = Vec::new();
    for cgroup in t.cgroups() {
        processes.extend(
            fs::read_to_string(cgroup.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .map(str::to_owned),
        );
    }
    processes.sort();
    processes.dedup();
    assert_eq!(processes, [c.pid().to_string()]);
    // Nothing with this container's id on its command line but init itself.
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != c.pid() && wait::is_alive(pid) && String::from_utf8_lossy(&words).contains(&c.id)
        {
            panic!("process {pid} is left: {}", String::from_utf8_lossy(&words));
        }
    }
}

fn a_container_outlives_a_caller_that_dies(t: &Test) {
    let c = t.container().sh("echo up > /up; sleep 1000");
    // go-runc sets PDEATHSIG on the runtime; the container must not inherit it.
    c.bundle_call("create", &["--pid-file", c.dir.join("pid").to_str().unwrap()])
        .with(sys::die_with_parent)
        .run()
        .ok();
    c.call("start", &[]).with(sys::die_with_parent).run().ok();
    c.wait_file("/up");
    assert!(wait::is_alive(c.pid()));
}

fn create_works_with_closed_standard_output(t: &Test) {
    let c = t.container().lasting();
    c.write();
    let script = format!(
        "exec \"$0\" --root {} create --bundle {} --pid-file {} {} <&- >&- 2>&-",
        t.root.display(),
        c.dir.display(),
        c.dir.join("pid").display(),
        c.id
    );
    let shell =
        reaper::output(Command::new("sh").args(["-c", &script]).arg(&t.runtime.path)).unwrap();
    assert!(shell.status.success(), "{shell:?}");
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.status(), "running");
}

fn twenty_containers_at_once(t: &Test) {
    let containers: Vec<_> = (0..20).map(|_| t.container().lasting()).collect();
    let calls: Vec<_> = containers
        .iter()
        .map(|c| {
            let pid_file = c.dir.join("pid");
            c.bundle_call("run", &["--detach", "--pid-file", pid_file.to_str().unwrap()]).spawn()
        })
        .collect();
    for call in calls {
        call.wait().ok();
    }
    let list = t.call(&["list", "--format", "json"]).run().ok().json();
    assert_eq!(list.as_array().unwrap().len(), 20);
    assert!(list.as_array().unwrap().iter().all(|entry| entry["status"] == "running"));
    let deletes: Vec<_> =
        containers.iter().map(|c| c.call("delete", &["--force"]).spawn()).collect();
    for delete in deletes {
        delete.wait().ok();
    }
    t.assert_nothing_left();
}

fn the_default_bundle_is_the_current_directory(t: &Test) {
    let c = t.container().sh("echo from here");
    c.write();
    c.call("run", &[]).cwd(&c.dir).run().ok().prints("from here\n");
    if t.kind() != Kind::Crun {
        c.call("run", &["-b", "."]).cwd(&c.dir).run().ok().prints("from here\n");
    }
}
