//! The six hooks: when, where, with what on standard input, and what their failure does.

use std::fs;
use std::time::Duration;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, Value, json, wait};

cases![
    every_hook_runs_in_its_order,
    hooks_of_a_phase_run_in_listed_order,
    each_hook_gets_the_state_on_standard_input,
    the_pid_in_the_state_is_that_of_init,
    annotations_are_in_the_state_of_a_hook,
    runtime_hooks_run_in_the_namespaces_of_the_runtime,
    create_container_hooks_run_in_the_namespaces_of_the_container,
    start_container_hooks_run_in_the_root_of_the_container,
    start_container_hooks_have_the_users_privileges_and_no_more,
    prestart_sees_the_mounts_before_the_pivot,
    the_environment_of_a_hook_is_that_of_the_hook,
    a_hook_without_an_environment_has_none_of_the_callers,
    a_start_container_hook_without_an_environment_has_that_of_the_process,
    start_container_hooks_are_under_the_filter,
    the_arguments_of_a_hook_are_passed,
    a_hook_without_arguments_gets_its_path,
    a_failing_prestart_hook_makes_create_fail,
    a_failing_create_runtime_hook_makes_create_fail,
    a_failing_create_container_hook_makes_create_fail,
    a_failing_start_container_hook_makes_start_fail,
    a_failing_poststart_hook_stops_the_container,
    a_failing_poststart_hook_of_an_old_version_is_only_a_warning,
    a_failing_poststop_hook_is_only_a_warning,
    the_hooks_after_a_failing_one_do_not_run,
    the_poststop_hooks_after_a_failing_one_run,
    poststop_runs_after_a_failed_create,
    a_failing_hook_is_named_in_the_error,
    the_standard_error_of_a_failing_hook_is_in_the_error,
    the_output_of_a_hook_is_not_that_of_the_runtime,
    a_missing_hook_makes_create_fail,
    a_hook_that_is_not_executable_makes_create_fail,
    a_hook_killed_by_a_signal_makes_create_fail,
    a_hook_past_its_timeout_is_killed,
    a_hook_past_its_timeout_is_killed_with_its_children,
    a_hook_within_its_timeout_is_left_alone,
    a_timeout_that_is_not_positive_is_refused,
    a_hook_that_does_not_read_its_standard_input,
    a_hook_that_leaves_a_daemon_does_not_hold_the_runtime,
    a_relative_hook_path_is_refused,
    a_hook_may_ask_for_the_state,
    a_hook_gets_no_descriptor_of_the_runtime,
    a_hook_may_change_the_root_of_the_container,
    poststop_runs_when_delete_forces,
    run_runs_every_hook,
    a_large_state_reaches_a_hook_whole,
];

pub const PHASES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A container whose hooks append their names to a file, also visible inside as /log.
pub fn logging(t: &Test) -> (Container<'_>, std::path::PathBuf) {
    let log = t.path("log");
    fs::write(&log, "").unwrap();
    let c = t.container().mount("/log", "bind", log.to_str().unwrap(), &["bind"]);
    (c, log)
}

/// Appends a hook that writes a word to the log. startContainer runs in the container's root, with its own shell.
pub fn log_hook<'t>(
    c: Container<'t>,
    phase: &str,
    log: &std::path::Path,
    word: &str,
) -> Container<'t> {
    let file =
        if phase == "startContainer" { "/log".to_owned() } else { log.display().to_string() };
    c.hook(phase, &format!("echo {word} >> {file}"))
}

fn every_hook_runs_in_its_order(t: &Test) {
    let (mut c, log) = logging(t);
    for phase in PHASES.iter().rev() {
        c = log_hook(c, phase, &log, phase);
    }
    let c = c.sh("echo program >> /log");
    let seen = || fs::read_to_string(&log).unwrap();
    c.create();
    assert_eq!(seen(), "prestart\ncreateRuntime\ncreateContainer\n");
    c.start().ok();
    c.wait_exit();
    // poststart and the program run side by side.
    let text = seen();
    let mut lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(lines.remove(0), "startContainer");
    lines.sort_unstable();
    assert_eq!(lines, ["poststart", "program"]);
    c.delete().ok();
    assert!(seen().ends_with("\npoststop\n"));
}

fn hooks_of_a_phase_run_in_listed_order(t: &Test) {
    let (mut c, log) = logging(t);
    for phase in PHASES {
        for n in 1..=3 {
            c = log_hook(c, phase, &log, &format!("{phase}{n}"));
        }
    }
    c.run().ok();
    let text = fs::read_to_string(&log).unwrap();
    let expected: Vec<String> =
        PHASES.iter().flat_map(|phase| (1..=3).map(move |n| format!("{phase}{n}"))).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

/// Runs a container to its end with a hook in each phase that keeps its standard input; returns them.
fn states(t: &Test) -> (Container<'_>, Vec<(&'static str, Value)>) {
    let dir = t.path("states");
    fs::create_dir(&dir).unwrap();
    let mut c = t
        .container()
        .lasting()
        .mount("/states", "bind", dir.to_str().unwrap(), &["bind"])
        .set("/annotations", json!({"org.example": "yes"}));
    for phase in PHASES {
        let file = if phase == "startContainer" {
            "/states".to_owned()
        } else {
            dir.display().to_string()
        };
        c = c.hook(phase, &format!("cat > {file}/{phase}"));
    }
    c.create();
    c.start().ok();
    c.kill("KILL").ok();
    c.wait_exit();
    c.delete().ok();
    let read = |phase: &'static str| {
        let text = fs::read_to_string(dir.join(phase)).unwrap();
        (
            phase,
            serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{phase}: {error}: {text:?}")),
        )
    };
    (c, PHASES.map(read).to_vec())
}

fn each_hook_gets_the_state_on_standard_input(t: &Test) {
    let (c, states) = states(t);
    let statuses = ["created", "creating", "creating", "created", "running", "stopped"];
    for ((phase, state), status) in states.iter().zip(statuses) {
        assert_eq!(state["id"], json!(c.id), "{phase}");
        assert_eq!(state["bundle"], json!(c.dir.to_str()), "{phase}");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{phase}: {state}");
        assert_eq!(state["status"], json!(status), "{phase}");
    }
}

fn the_pid_in_the_state_is_that_of_init(t: &Test) {
    let (c, states) = states(t);
    for (phase, state) in &states[..5] {
        // runtime.md: as seen by the runtime, or by the container for the hooks that run in its namespaces.
        let inside = matches!(*phase, "createContainer" | "startContainer");
        let expected = if inside { 1 } else { c.pid() };
        assert_eq!(state["pid"], json!(expected), "{phase}");
    }
}

fn annotations_are_in_the_state_of_a_hook(t: &Test) {
    let (_, states) = states(t);
    for (phase, state) in &states {
        assert_eq!(state["annotations"]["org.example"], json!("yes"), "{phase}");
    }
}

/// Where a hook of a phase runs: the output of a script in it.
fn inside_hook(t: &Test, phase: &str, script: &str) -> String {
    let out = t.path("out");
    fs::write(&out, "").unwrap();
    let c = t.container().mount("/out", "bind", out.to_str().unwrap(), &["bind"]);
    let file = if phase == "startContainer" { "/out" } else { out.to_str().unwrap() };
    let c = c.hook(phase, &format!("({script}) > {file} 2>&1"));
    c.run().ok();
    fs::read_to_string(out).unwrap()
}

fn runtime_hooks_run_in_the_namespaces_of_the_runtime(t: &Test) {
    for phase in ["prestart", "createRuntime", "poststart", "poststop"] {
        for name in ["mnt", "pid", "net", "ipc", "uts"] {
            let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
            assert_eq!(
                inside_hook(t, phase, &format!("readlink /proc/self/ns/{name}")).trim(),
                own,
                "{phase} {name}"
            );
        }
    }
}

fn create_container_hooks_run_in_the_namespaces_of_the_container(t: &Test) {
    for name in ["mnt", "net", "ipc", "uts", "pid"] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
        let seen = inside_hook(t, "createContainer", &format!("readlink /proc/self/ns/{name}"));
        assert!(seen.starts_with(&format!("{name}:[")) && seen.trim() != own, "{seen}");
    }
}

/// The hook is a file of the image: as root with every capability it would own the host.
fn start_container_hooks_have_the_users_privileges_and_no_more(t: &Test) {
    let out = t.path("out");
    fs::write(&out, "").unwrap();
    fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let c = t.container().mount("/out", "bind", out.to_str().unwrap(), &["bind"]);
    let c = c.hook("startContainer", "(id -u; grep -E 'CapEff|CapPrm' /proc/self/status) > /out");
    let c = c.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    c.run().ok();
    let seen = fs::read_to_string(out).unwrap();
    assert!(seen.starts_with("1000\n"), "{seen}");
    assert_eq!(seen.matches("0000000000000000").count(), 2, "{seen}");
}

fn start_container_hooks_run_in_the_root_of_the_container(t: &Test) {
    let seen = inside_hook(t, "startContainer", "hostname; ls /home; readlink /bin/sh");
    assert_eq!(seen, "blackbox\nuser\nbusybox\n");
}

fn prestart_sees_the_mounts_before_the_pivot(t: &Test) {
    // nvidia's hook enters the mount namespace of the pid it is given and works on the rootfs path.
    t.need_program("nsenter");
    let c = t.container().mount("/mnt", "tmpfs", "tmpfs", &[]);
    let (rootfs, out) = (c.rootfs(), t.path("out"));
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -1); nsenter -t $pid -m grep -c ' {}/mnt ' /proc/self/mountinfo > {}",
        rootfs.display(),
        out.display()
    );
    let c = c.hook("prestart", &script);
    c.run();
    assert_eq!(fs::read_to_string(&out).unwrap(), "1\n");
}

fn the_environment_of_a_hook_is_that_of_the_hook(t: &Test) {
    let out = t.path("out");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("env > {}", out.display())],
                      "env": ["PATH=/usr/bin:/bin", "MINE=yes"]});
    let c = t.container().push("/hooks/createRuntime", hook);
    c.bundle_call("run", &[]).env("LEAKED", "yes").run().ok();
    let text = fs::read_to_string(out).unwrap();
    assert!(text.contains("MINE=yes\n") && !text.contains("LEAKED"), "{text}");
}

fn a_hook_without_an_environment_has_none_of_the_callers(t: &Test) {
    for phase in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let out = t.path(phase);
        let script = format!("env > {}", out.display());
        let c = t.container().hook(phase, &script);
        c.bundle_call("run", &[]).env("LEAKED", "yes").run().ok();
        let text = fs::read_to_string(out).unwrap();
        // The environment of the image must not reach it either (CVE-2025-23266).
        assert!(!text.contains("LEAKED") && !text.contains("TERM=xterm"), "{phase}: {text}");
    }
}

fn a_start_container_hook_without_an_environment_has_that_of_the_process(t: &Test) {
    let c = t
        .container()
        .push("/process/env", json!("ONE=two"))
        .hook("startContainer", "echo \"$ONE $HOME\" > /out");
    c.run().ok();
    assert_eq!(fs::read_to_string(c.path("/out")).unwrap(), "two /root\n");
}

fn start_container_hooks_are_under_the_filter(t: &Test) {
    for no_new_privileges in [true, false] {
        let c = t
            .container()
            .set("/process/noNewPrivileges", json!(no_new_privileges))
            .set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}),
            )
            .hook("startContainer", "mkdir /made && exit 1; exit 0");
        c.run().ok();
        assert!(!c.path("/made").exists());
    }
}

fn the_arguments_of_a_hook_are_passed(t: &Test) {
    let out = t.path("out");
    let script = format!("echo \"$0|$1|$2\" > {}", out.display());
    let hook = json!({"path": "/bin/sh", "args": ["name", "-c", script, "zero", "a b", "$c"]});
    t.container().push("/hooks/createRuntime", hook).run().ok();
    assert_eq!(fs::read_to_string(out).unwrap(), "zero|a b|$c\n");
}

fn a_hook_without_arguments_gets_its_path(t: &Test) {
    let (script, out) = (t.path("hook"), t.path("out"));
    fs::write(&script, format!("#!/bin/sh\necho \"$0 $#\" > {}\n", out.display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    t.container().push("/hooks/createRuntime", json!({"path": script.to_str()})).run().ok();
    assert_eq!(fs::read_to_string(out).unwrap(), format!("{} 0\n", script.display()));
}

/// `create` with a failing hook fails, names the phase, and leaves nothing.
#[track_caller]
fn create_fails(t: &Test, phase: &str) {
    let c = t.container().hook(phase, "exit 7").sh("echo ran > /ran");
    let output = c.try_create().fails();
    if t.kind() == Kind::Skep {
        output.names(&format!("{phase} hook #0")).names("exit status 7");
    }
    assert!(fs::metadata(c.path("/ran")).is_err());
    t.assert_nothing_left();
}

fn a_failing_prestart_hook_makes_create_fail(t: &Test) {
    create_fails(t, "prestart");
}

fn a_failing_create_runtime_hook_makes_create_fail(t: &Test) {
    create_fails(t, "createRuntime");
}

fn a_failing_create_container_hook_makes_create_fail(t: &Test) {
    create_fails(t, "createContainer");
}

fn a_failing_start_container_hook_makes_start_fail(t: &Test) {
    let c = t.container().hook("startContainer", "exit 7").sh("echo ran > /ran; sleep 1000");
    c.create();
    c.start().fails();
    wait::for_exit(c.pid());
    assert!(fs::metadata(c.path("/ran")).is_err(), "the program ran");
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
    t.assert_nothing_left();
}

fn a_failing_poststart_hook_stops_the_container(t: &Test) {
    let c = t.container().set("/ociVersion", json!("1.2.0")).hook("poststart", "exit 7").lasting();
    c.create();
    c.start().fails();
    wait::for_exit(c.pid());
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// Versions 1.0 and 1.1 say to warn and to go on.
fn a_failing_poststart_hook_of_an_old_version_is_only_a_warning(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun do the one or the other, whatever the version");
    for version in ["1.0.2-dev", "1.1.0"] {
        let ran = t.path(&format!("ran-{version}"));
        let c = t.container().set("/ociVersion", json!(version));
        let c = c
            .hook("poststart", "exit 7")
            .hook("poststart", &format!("echo x >> {}", ran.display()));
        let c = c.lasting();
        let log = t.path("log").display().to_string();
        c.create();
        let start = ["--log", &log, "start", &c.id];
        t.call(&start).run().ok();
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
        c.run_detached();
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
        assert_eq!(fs::read_to_string(&ran).unwrap(), "x\nx\n");
        assert!(fs::read_to_string(&log).unwrap().contains("error running poststart hook #0"));
    }
    t.assert_nothing_left();
}

fn a_failing_poststop_hook_is_only_a_warning(t: &Test) {
    let c = t.container().hook("poststop", "exit 7").lasting();
    c.create();
    c.delete().ok();
    t.assert_nothing_left();
}

fn the_hooks_after_a_failing_one_do_not_run(t: &Test) {
    let (c, log) = logging(t);
    let c = log_hook(c.hook("createRuntime", "exit 1"), "createRuntime", &log, "second");
    let c = log_hook(c, "createContainer", &log, "third");
    c.try_create().fails();
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}

fn the_poststop_hooks_after_a_failing_one_run(t: &Test) {
    let (c, log) = logging(t);
    let c = log_hook(c.hook("poststop", "exit 1"), "poststop", &log, "second");
    c.run().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "second\n");
}

fn poststop_runs_after_a_failed_create(t: &Test) {
    // runtime.md: after a failing hook the life cycle goes on with the container's end and the poststop hooks.
    let (c, log) = logging(t);
    let c = log_hook(c.hook("createRuntime", "exit 1"), "poststop", &log, "poststop");
    c.try_create().fails();
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n");
    t.assert_nothing_left();
}

fn a_failing_hook_is_named_in_the_error(t: &Test) {
    let c = t.container().hook("createRuntime", "true").hook("createRuntime", "exit 3");
    c.try_create().fails().names("createRuntime hook #1").names("exit status 3");
}

fn the_standard_error_of_a_failing_hook_is_in_the_error(t: &Test) {
    let c = t.container().hook("createRuntime", "echo what went wrong >&2; exit 1");
    c.try_create().fails().names("what went wrong");
}

fn the_output_of_a_hook_is_not_that_of_the_runtime(t: &Test) {
    let mut c = t.container().sh("echo program");
    for phase in PHASES {
        c = c.hook(phase, "echo from the hook; echo error from the hook >&2");
    }
    c.run().ok().prints("program\n").no_stderr();
}

fn a_missing_hook_makes_create_fail(t: &Test) {
    let c = t.container().push("/hooks/createRuntime", json!({"path": "/no/such/hook"}));
    c.try_create().fails().names("/no/such/hook");
    t.assert_nothing_left();
}

fn a_hook_that_is_not_executable_makes_create_fail(t: &Test) {
    let hook = t.path("hook");
    fs::write(&hook, "#!/bin/sh\n").unwrap();
    let c = t.container().push("/hooks/createRuntime", json!({"path": hook.to_str()}));
    c.try_create().fails().names(hook.to_str().unwrap());
    t.assert_nothing_left();
}

fn a_hook_killed_by_a_signal_makes_create_fail(t: &Test) {
    let c = t.container().hook("createRuntime", "kill -9 $$");
    let output = c.try_create().fails();
    if t.kind() != Kind::Crun {
        output.names("killed");
    }
    t.assert_nothing_left();
}

/// A hook that gives its pid to a file; killed at the end of the test if the runtime has not done so.
struct Stubborn {
    hook: Value,
    pid_file: std::path::PathBuf,
}

impl Stubborn {
    fn new(t: &Test, script: &str, timeout: i64) -> Self {
        let pid_file = t.path("hook-pid");
        let script = script.replace("PIDFILE", pid_file.to_str().unwrap());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout});
        Self { hook, pid_file }
    }

    fn pid(&self) -> i32 {
        fs::read_to_string(&self.pid_file).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(&self.pid_file).unwrap_or_default().trim().parse() {
            let _gone = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

const SHORT: Duration = Duration::from_secs(6);

fn a_hook_past_its_timeout_is_killed(t: &Test) {
    let stubborn = Stubborn::new(t, "echo $$ > PIDFILE; exec sleep 1000", 1);
    let c = t.container().push("/hooks/createRuntime", stubborn.hook.clone());
    c.bundle_call("create", &[]).limit(SHORT).run().fails();
    assert!(!wait::is_alive(stubborn.pid()));
    t.assert_nothing_left();
}

fn a_hook_past_its_timeout_is_killed_with_its_children(t: &Test) {
    // The child keeps the hook's output open: waiting for its end would hang.
    let stubborn = Stubborn::new(t, "sleep 1000 & echo $! > PIDFILE; wait", 1);
    let c = t.container().push("/hooks/createRuntime", stubborn.hook.clone());
    c.bundle_call("create", &[]).limit(SHORT).run().fails();
    let child = stubborn.pid();
    wait::until("the hook's child is gone", || (!wait::is_alive(child)).then_some(()));
    t.assert_nothing_left();
}

fn a_hook_within_its_timeout_is_left_alone(t: &Test) {
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "sleep 0.2"], "timeout": 10});
    t.container().push("/hooks/createRuntime", hook).run().ok();
}

fn a_timeout_that_is_not_positive_is_refused(t: &Test) {
    for timeout in [0, -1] {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "true"], "timeout": timeout});
        t.container().push("/hooks/createRuntime", hook).try_create().fails().names("timeout");
        t.assert_nothing_left();
    }
}

fn a_hook_that_does_not_read_its_standard_input(t: &Test) {
    let mut c = t.container().set("/annotations", json!({"large": "x".repeat(200_000)}));
    for phase in PHASES {
        c = c.hook(phase, "exec <&-; exit 0");
    }
    c.run().ok().no_stderr();
}

fn a_hook_that_leaves_a_daemon_does_not_hold_the_runtime(t: &Test) {
    let stubborn = Stubborn::new(t, "setsid sleep 1000 & echo $! > PIDFILE", 10);
    let c = t.container().push("/hooks/createRuntime", stubborn.hook.clone());
    c.bundle_call("create", &[]).limit(SHORT).run().ok();
}

fn a_relative_hook_path_is_refused(t: &Test) {
    let c = t
        .container()
        .push("/hooks/createRuntime", json!({"path": "bin/sh", "args": ["sh", "-c", "true"]}));
    c.try_create().fails();
    t.assert_nothing_left();
}

fn a_hook_may_ask_for_the_state(t: &Test) {
    // No lock may be held while somebody else's code runs.
    let out = t.path("out");
    let c = t.container();
    let script = format!(
        "{} --root {} state {} > {} 2>&1; true",
        t.runtime.path.display(),
        t.root.display(),
        c.id,
        out.display()
    );
    let c = c.hook("createRuntime", &script).hook("poststart", &script).lasting();
    c.create();
    c.start().ok();
    let state: Value = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
    assert_eq!((&state["id"], &state["status"]), (&json!(c.id), &json!("running")));
}

fn a_hook_gets_no_descriptor_of_the_runtime(t: &Test) {
    for phase in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        let text = inside_hook(t, phase, "ls -l /proc/$$/fd");
        for line in text.lines().filter(|line| line.contains(" -> ")) {
            let (left, target) = line.split_once(" -> ").unwrap();
            let number: u32 = left.rsplit(' ').next().unwrap().parse().unwrap();
            // The shell keeps copies of its own streams at 10 and up.
            assert!(number <= 2 || (number >= 10 && !target.contains("cgroup")), "{phase}: {line}");
        }
    }
}

fn a_hook_may_change_the_root_of_the_container(t: &Test) {
    let c = t.container().sh("cat /from-hook");
    let file = c.path("/from-hook");
    let c = c.hook("createRuntime", &format!("echo hooked > {}", file.display()));
    c.run().ok().prints("hooked\n");
}

fn poststop_runs_when_delete_forces(t: &Test) {
    let (c, log) = logging(t);
    let c = log_hook(c, "poststop", &log, "poststop").lasting();
    c.run_detached();
    c.delete_force().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n");
}

fn run_runs_every_hook(t: &Test) {
    let (mut c, log) = logging(t);
    for phase in PHASES {
        c = log_hook(c, phase, &log, phase);
    }
    c.run().ok();
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), PHASES);
}

fn a_large_state_reaches_a_hook_whole(t: &Test) {
    let out = t.path("out");
    let c = t
        .container()
        .set("/annotations", json!({"large": "x".repeat(300_000)}))
        .hook("createRuntime", &format!("cat > {}", out.display()));
    c.run().ok();
    let state: Value = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
    assert_eq!(state["annotations"]["large"].as_str().unwrap().len(), 300_000);
}
