//! A profile that allows the program what the program needs, and the runtime nothing but to become it.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::seccomp::Agent;
use crate::harness::{Container, Kind, Test, Value, json, probe};

cases![
    run_under_a_filter_that_kills,
    create_and_start_under_a_filter_that_kills,
    exec_under_a_filter_that_kills,
    a_created_container_can_be_terminated_under_a_filter_that_denies,
    home_is_found_before_the_filter,
    exec_without_the_saved_filter_is_filtered,
    a_filter_that_cannot_be_loaded_is_explained,
];

/// What the C library and busybox do for `true`; read, write and execve are the runtime's own.
const NEEDED: [&str; 21] = [
    "execve",
    "read",
    "write",
    "exit_group",
    "arch_prctl",
    "brk",
    "getrandom",
    "getuid",
    "mprotect",
    "prctl",
    "prlimit64",
    "readlink",
    "readlinkat",
    "rseq",
    "set_robust_list",
    "set_tid_address",
    // Those of busybox for a user that is not root.
    "newfstatat",
    "getgid",
    "setgid",
    "setuid",
    "mmap",
];

fn profile(default: &str, more: &[&str]) -> Value {
    let names: Vec<&str> = NEEDED.iter().chain(more).copied().collect();
    json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"],
           "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]})
}

fn strict(t: &Test) -> Container<'_> {
    t.need(cfg!(target_arch = "x86_64"), "the profile is for x86_64");
    t.need(t.kind() == Kind::Skep, "runc and crun make more system calls under the filter");
    t.container().args(&["true"]).set("/linux/seccomp", profile("SCMP_ACT_KILL_PROCESS", &[]))
}

fn run_under_a_filter_that_kills(t: &Test) {
    strict(t).run().ok();
    let c = strict(t).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    c.run().ok();
}

fn create_and_start_under_a_filter_that_kills(t: &Test) {
    for uid in [0, 1000] {
        let c = strict(t).set("/process/user", json!({"uid": uid, "gid": uid}));
        c.create();
        assert_eq!(c.status(), "created");
        c.start().ok();
        assert_eq!(c.wait_exit(), 0);
        c.delete().ok();
    }
}

fn exec_under_a_filter_that_kills(t: &Test) {
    let sleeping = ["clock_nanosleep", "nanosleep", "restart_syscall"];
    let c = strict(t).set("/linux/seccomp", profile("SCMP_ACT_KILL_PROCESS", &sleeping)).lasting();
    c.run_detached();
    c.exec(&["true"]).ok();
}

fn a_created_container_can_be_terminated_under_a_filter_that_denies(t: &Test) {
    let c = strict(t).set("/linux/seccomp", profile("SCMP_ACT_ERRNO", &[]));
    c.create();
    c.kill("TERM").ok();
    c.wait_exit();
    assert_eq!(c.status(), "stopped");
}

fn home_is_found_before_the_filter(t: &Test) {
    t.need(cfg!(target_arch = "x86_64"), "the profile is for x86_64");
    // Older profiles know no openat2; a file less may be open than it takes to look.
    let rules = json!([{"names": ["openat2", "statx", "open_tree"], "action": "SCMP_ACT_ERRNO"}]);
    let c = t
        .container()
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
        .sh("echo $HOME");
    let few = json!([{"type": "RLIMIT_NOFILE", "hard": 4, "soft": 4}]);
    let c = if t.kind() == Kind::Skep { c.set("/process/rlimits", few) } else { c };
    c.run().ok().prints("/root\n");
}

/// An upgrade may not know what the version before has saved.
fn exec_without_the_saved_filter_is_filtered(t: &Test) {
    t.need(cfg!(target_arch = "x86_64"), "the profile is for x86_64");
    t.need(t.kind() == Kind::Skep, "the saved filter is skep's");
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 133}]);
    let c = t
        .container()
        .with_probe()
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
        .lasting();
    c.run_detached();
    let number = libc::SYS_getpriority.to_string();
    let denied = || c.exec(&["probe", "syscall", &number, "99", "0"]).ok().prints("errno 133\n");
    denied();
    let saved = t.root.join(&c.id).join("seccomp.bpf");
    fs::write(&saved, "of another version").unwrap();
    denied();
    fs::remove_file(&saved).unwrap();
    denied();
}

fn a_filter_that_cannot_be_loaded_is_explained(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun say it in their own words");
    let agent = t.path("agent");
    let _agent = Agent::listen(&agent);
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]);
    let c = t.container().args(&["true"]).set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "listenerPath": agent}),
    );
    let probe = probe::path(t);
    // There may be but one listener, and the runtime has one.
    let call = c.bundle_call("run", &[]).by(&[probe.to_str().unwrap(), "listening"]);
    call.run().fails().one_line().names("device or resource busy").names("seccomp");
    t.assert_nothing_left();
}
