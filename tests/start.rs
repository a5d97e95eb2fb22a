//! `start` tells the truth: it succeeds when the program runs, and says why when it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Running, Test, json, say, wait};

cases![
    a_program_that_is_gone_makes_start_fail,
    a_program_whose_interpreter_is_gone_makes_start_fail,
    a_program_that_is_not_executable_any_more_makes_start_fail,
    a_program_of_another_machine_makes_start_fail,
    a_program_that_is_no_program_makes_start_fail,
    a_filter_that_denies_execve_makes_start_fail,
    a_filter_that_kills_at_execve_makes_start_fail,
    run_under_a_filter_that_denies_execve_fails,
    exec_under_a_filter_that_denies_execve_fails,
    a_start_hook_that_is_missing_makes_start_fail,
    a_start_hook_killed_by_a_signal_makes_start_fail,
    a_start_hook_past_its_timeout_makes_start_fail,
    a_start_that_failed_runs_no_poststart_hook,
    an_init_killed_before_start_makes_start_fail,
    an_init_killed_during_start_makes_start_fail,
    an_init_killed_before_it_passed_the_gate_makes_start_fail,
    a_fault_is_told_after_a_start_that_was_killed,
    a_fault_that_an_earlier_version_left_is_told,
    a_program_that_runs_was_started_whatever_is_in_the_gate,
    all_that_a_hook_has_to_say_passes_the_gate,
    a_program_that_ends_at_once_is_a_success,
    nothing_is_left_of_a_start_that_failed,
    the_configuration_of_create_counts_for_everything,
    a_waiting_init_can_give_all_read_only_segments_back,
];

/// Skips a test of what only skep promises.
fn need_truth(t: &Test) {
    t.need(t.kind() == Kind::Skep, "start of the other runtimes does not wait for the program");
}

/// The failed start of a created container, which is stopped then.
#[track_caller]
fn failed(c: &Container<'_>) -> Output {
    let output = c.start().fails().one_line();
    wait::for_exit(c.pid());
    assert_eq!(c.status(), "stopped");
    output
}

/// A created container whose program is changed before it starts.
fn created<'t>(t: &'t Test, content: &str) -> Container<'t> {
    need_truth(t);
    let c = t.container().file("/program", content, 0o755).args(&["/program"]);
    c.create();
    c
}

const SCRIPT: &str = "#!/bin/sh\nsleep 1000\n";

fn a_program_that_is_gone_makes_start_fail(t: &Test) {
    let c = created(t, SCRIPT);
    fs::remove_file(c.path("/program")).unwrap();
    failed(&c).says(&say::NO_SUCH_FILE).names("/program");
}

fn a_program_whose_interpreter_is_gone_makes_start_fail(t: &Test) {
    let c = created(t, "#!/interpreter\n");
    failed(&c).says(&say::NO_SUCH_FILE).names("/interpreter");
}

fn a_program_that_is_not_executable_any_more_makes_start_fail(t: &Test) {
    let c = created(t, SCRIPT);
    fs::set_permissions(c.path("/program"), fs::Permissions::from_mode(0o644)).unwrap();
    failed(&c).says(&say::PERMISSION_DENIED).names("/program");
}

fn a_program_of_another_machine_makes_start_fail(t: &Test) {
    let c = created(t, SCRIPT);
    // e_machine of an ELF header: no machine has this number.
    let mut elf = fs::read("/proc/self/exe").unwrap();
    elf.truncate(4096);
    elf[18..20].copy_from_slice(&[0x34, 0x12]);
    fs::write(c.path("/program"), elf).unwrap();
    failed(&c).names("exec format error").names("the program is for");
}

fn a_program_that_is_no_program_makes_start_fail(t: &Test) {
    let c = created(t, SCRIPT);
    fs::write(c.path("/program"), "echo hello\n").unwrap();
    failed(&c).names("exec format error").names("#!");
}

/// A container whose filter answers execve with `action`.
fn filtered<'t>(t: &'t Test, action: &str) -> Container<'t> {
    need_truth(t);
    let rules = json!([{"names": ["execve", "execveat"], "action": action}]);
    t.container()
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
}

fn a_filter_that_denies_execve_makes_start_fail(t: &Test) {
    let c = filtered(t, "SCMP_ACT_ERRNO");
    c.create();
    failed(&c).names("operation not permitted").names("seccomp");
}

fn a_filter_that_kills_at_execve_makes_start_fail(t: &Test) {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let c = filtered(t, action);
        c.create();
        failed(&c).names("seccomp");
        c.delete().ok();
    }
}

fn run_under_a_filter_that_denies_execve_fails(t: &Test) {
    filtered(t, "SCMP_ACT_ERRNO").run().fails().one_line().names("seccomp");
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let c = filtered(t, action);
        c.run().not_ok().one_line().names("seccomp");
        t.assert_nothing_left();
        c.bundle_call("run", &["--detach"]).run().not_ok().one_line().names("seccomp");
        t.assert_nothing_left();
    }
}

fn exec_under_a_filter_that_denies_execve_fails(t: &Test) {
    for (action, hint) in [("SCMP_ACT_ERRNO", "seccomp"), ("SCMP_ACT_KILL_PROCESS", "seccomp")] {
        let c = filtered(t, action);
        c.create();
        c.exec(&["true"]).exec_fails().one_line().names(hint);
        c.delete().ok();
    }
}

fn a_start_hook_that_is_missing_makes_start_fail(t: &Test) {
    need_truth(t);
    let c = t.container().lasting().push("/hooks/startContainer", json!({"path": "/no/such/hook"}));
    c.create();
    failed(&c).names("startContainer").names("/no/such/hook").says(&say::NO_SUCH_FILE);
}

fn a_start_hook_killed_by_a_signal_makes_start_fail(t: &Test) {
    need_truth(t);
    let c = t.container().lasting().hook("startContainer", "echo why >&2; kill -9 $$");
    c.create();
    failed(&c).names("startContainer hook #0").names("signal").names("why");
}

fn a_start_hook_past_its_timeout_makes_start_fail(t: &Test) {
    need_truth(t);
    // What the hook has started is killed with it: else the pipe would stay open, and the fifo unread.
    let script = "sleep 1000 & echo $! > /child; sleep 1000";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1,
                      "env": ["PATH=/bin"]});
    let c = t.container().lasting().push("/hooks/startContainer", hook);
    c.create();
    failed(&c).names("hook ran past specified timeout of 1.0s");
    assert!(fs::metadata(c.path("/child")).is_ok());
}

fn a_start_that_failed_runs_no_poststart_hook(t: &Test) {
    need_truth(t);
    let ran = t.path("ran");
    let c = t
        .container()
        .file("/program", SCRIPT, 0o755)
        .args(&["/program"])
        .hook("poststart", &format!("echo poststart >> {}", ran.display()))
        .hook("poststop", &format!("echo poststop >> {}", ran.display()));
    c.create();
    fs::remove_file(c.path("/program")).unwrap();
    failed(&c);
    c.delete().ok();
    assert_eq!(fs::read_to_string(ran).unwrap(), "poststop\n");
}

fn an_init_killed_before_start_makes_start_fail(t: &Test) {
    let c = t.container().lasting();
    c.create();
    c.kill("KILL").ok();
    c.wait_exit();
    c.start().fails();
    assert_eq!(c.status(), "stopped");
}

fn an_init_killed_during_start_makes_start_fail(t: &Test) {
    need_truth(t);
    // The hook shows that start is at it, and waits to be killed together with init.
    let c = t.container().lasting().hook("startContainer", "echo here > /here; sleep 1000");
    c.create();
    let start = c.call("start", &[]).spawn();
    c.wait_file("/here");
    kill_and_reap(&c, &start);
    start.wait().fails().one_line().names("died before it became the program");
    assert_eq!(c.status(), "stopped");
}

fn an_init_killed_before_it_passed_the_gate_makes_start_fail(t: &Test) {
    need_truth(t);
    let c = t.container().lasting();
    c.create();
    let init = Pid::from_raw(c.pid());
    kill(init, Signal::SIGSTOP).unwrap();
    // Until then it may still take the byte.
    wait::until("init has stopped", || (wait::process_state(c.pid()) == Some('T')).then_some(()));
    let start = c.call("start", &[]).spawn();
    let gate = t.root.join(&c.id).join("exec.fifo");
    wait::until("start waits for init", || (!gate.exists()).then_some(()));
    kill_and_reap(&c, &start);
    start.wait().fails().one_line().names("died before it became the program");
    assert_eq!(c.status(), "stopped");
}

fn a_fault_is_told_after_a_start_that_was_killed(t: &Test) {
    need_truth(t);
    // Killed once it has opened the gate and before it has taken its name away.
    let c = created(t, SCRIPT);
    let gate = t.root.join(&c.id).join("exec.fifo");
    let init = Pid::from_raw(c.pid());
    kill(init, Signal::SIGSTOP).unwrap();
    wait::until("init has stopped", || (wait::process_state(c.pid()) == Some('T')).then_some(()));
    let mut first = fs::OpenOptions::new().write(true).open(&gate).unwrap();
    std::io::Write::write_all(&mut first, b"1").unwrap();
    drop(first);
    fs::remove_file(c.path("/program")).unwrap();
    let start = c.call("start", &[]).spawn();
    wait::until("start waits for init", || (!gate.exists()).then_some(()));
    kill(init, Signal::SIGCONT).unwrap();
    start.wait().fails().one_line().says(&say::NO_SUCH_FILE).names("/program");
    assert_eq!(c.status(), "stopped");
}

fn a_fault_that_an_earlier_version_left_is_told(t: &Test) {
    need_truth(t);
    let c = t.container().lasting().hook("startContainer", "echo here > /here; sleep 1000");
    c.create();
    let start = c.call("start", &[]).spawn();
    c.wait_file("/here");
    // Its init had a file for it; this is not one that any version has written.
    fs::write(t.root.join(&c.id).join("start.fault"), "?").unwrap();
    kill_and_reap(&c, &start);
    start.wait().fails().one_line().names("init left a fault nobody knows");
}

/// A hook of the container may find the gate among init's descriptors.
fn a_program_that_runs_was_started_whatever_is_in_the_gate(t: &Test) {
    need_truth(t);
    for words in ["no fault of init's", "0", "11111111111111111111"] {
        let c = t.container().lasting().hook("startContainer", "echo here > /here; read go < /go");
        nix::unistd::mkfifo(&c.path("/go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        c.create();
        let gate = t.root.join(&c.id).join("exec.fifo");
        let mut gate = fs::OpenOptions::new().write(true).open(gate).unwrap();
        let start = c.call("start", &[]).spawn();
        c.wait_file("/here");
        std::io::Write::write_all(&mut gate, words.as_bytes()).unwrap();
        wait::write_to_reader(&c.path("/go"), "go\n");
        start.wait().ok().no_stderr();
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
    }
}

fn all_that_a_hook_has_to_say_passes_the_gate(t: &Test) {
    need_truth(t);
    let script = "i=0; while [ $i -lt 1000 ]; do echo 'many words'; i=$((i + 1)); done; exit 1";
    let c = t.container().lasting().hook("startContainer", script);
    c.create();
    let output = failed(&c).names("startContainer hook #0").names("many words");
    assert!(output.stderr.len() > 3000, "{output}");
}

/// Ends init while start, which waits for it, cannot look: it finds that somebody has reaped it.
fn kill_and_reap(c: &Container<'_>, start: &Running) {
    start.signal(Signal::SIGSTOP);
    kill(Pid::from_raw(c.pid()), Signal::SIGKILL).unwrap();
    wait::until("init is reaped", || wait::process_state(c.pid()).is_none().then_some(()));
    start.signal(Signal::SIGCONT);
}

fn a_program_that_ends_at_once_is_a_success(t: &Test) {
    for script in ["exit 0", "exit 3", "kill -9 $$"] {
        let c = t.container().sh(script);
        c.create();
        c.start().ok();
        c.delete_force().ok();
    }
    t.assert_nothing_left();
}

fn nothing_is_left_of_a_start_that_failed(t: &Test) {
    let c = created(t, SCRIPT);
    fs::remove_file(c.path("/program")).unwrap();
    failed(&c);
    c.start().fails().names("stopped");
    c.kill("TERM").fails().names("container not running");
    c.exec(&["true"]).exec_fails();
    c.delete().ok();
    t.assert_nothing_left();
}

fn the_configuration_of_create_counts_for_everything(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc reads the bundle again, crun's exec has its own defaults");
    let log = t.path("log");
    let hook = |word: &str| format!("echo {word} >> {}", log.display());
    let c = t
        .container()
        .lasting()
        .hook("poststart", &hook("first start"))
        .hook("poststop", &hook("first stop"))
        .set("/process/noNewPrivileges", json!(true))
        .set("/process/user/umask", json!(63));
    c.create();
    let mut changed = c.config.clone();
    for (pointer, value) in [
        ("/process/noNewPrivileges", json!(false)),
        ("/process/user/umask", json!(0)),
        ("/process/capabilities", json!({"bounding": ["CAP_SYS_ADMIN"]})),
        ("/linux/resources", json!({"pids": {"limit": 3}})),
        ("/root/path", json!("/")),
    ] {
        *changed.pointer_mut(pointer).unwrap() = value;
    }
    changed["hooks"] = json!({});
    changed["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS"});
    changed["linux"]["personality"] = json!({"domain": "LINUX32"});
    fs::write(c.dir.join("config.json"), changed.to_string()).unwrap();
    c.start().ok();
    let shown = "umask; grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; uname -m";
    let seen = c.exec(&["sh", "-c", shown]).ok().stdout;
    assert!(
        seen.starts_with("0077\nCapBnd:\t0000000020000420\nNoNewPrivs:\t1\nSeccomp:\t0\n"),
        "{seen}"
    );
    assert!(!seen.ends_with("i686\n"), "{seen}");
    // update merges what it is given with what was, not with what the bundle says now.
    c.call("update", &["--pids-limit", "100"]).run().ok();
    fs::write(c.dir.join("config.json"), "no JSON").unwrap();
    c.exec(&["true"]).ok();
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    assert_eq!(fs::read_to_string(log).unwrap(), "first start\nfirst stop\n");
    t.assert_nothing_left();
}

/// It has room for four of them (elf(5)); the release binary has as many.
fn a_waiting_init_can_give_all_read_only_segments_back(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others keep theirs");
    let program = fs::read(&t.runtime.path).unwrap();
    let half = |at: usize| usize::from(u16::from_le_bytes([program[at], program[at + 1]]));
    let word = |at: usize| u32::from_le_bytes(program[at..at + 4].try_into().unwrap());
    let table = u64::from_le_bytes(program[32..40].try_into().unwrap()) as usize;
    let headers = (0..half(56)).map(|i| table + i * half(54));
    let read_only =
        headers.filter(|at| word(*at) == libc::PT_LOAD && word(at + 4) & libc::PF_W == 0);
    assert!((1..=4).contains(&read_only.count()));
}
