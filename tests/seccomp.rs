//! linux.seccomp: what a filter does to the program, action by action, and the notify listener.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::seccomp::Agent;
use crate::harness::{Container, Kind, Test, Value, json, sys};

cases![
    without_a_profile_there_is_no_filter,
    a_filter_is_loaded,
    errno_is_eperm_by_default,
    errno_is_the_one_of_the_rule,
    the_default_errno_is_the_one_of_the_profile,
    an_allow_list_allows,
    kill_process_kills,
    kill_thread_kills,
    kill_is_kill_thread,
    trap_sends_sigsys,
    trace_without_a_tracer_is_enosys,
    log_lets_the_call_pass,
    an_argument_is_compared_for_equality,
    every_operator_compares,
    masked_equality_compares_bits,
    arguments_of_different_indexes_are_anded,
    arguments_of_the_same_index_are_alternatives,
    rules_for_one_syscall_are_alternatives,
    sixty_four_bit_arguments_are_compared_whole,
    an_unknown_syscall_is_ignored,
    a_syscall_newer_than_the_profile_is_enosys,
    a_filter_applies_to_the_32_bit_entry,
    the_32_bit_entry_of_an_architecture_not_listed_is_denied,
    clone3_can_be_made_enosys,
    flags_are_set,
    an_unknown_action_is_refused,
    an_unknown_operator_is_refused,
    an_unknown_architecture_is_refused,
    an_unknown_flag_is_refused,
    an_errno_for_an_action_that_has_none,
    an_argument_index_out_of_range_is_refused,
    a_profile_without_names_is_refused,
    the_filter_works_without_no_new_privileges,
    the_filter_works_for_a_user_that_is_not_root,
    a_filter_that_denies_what_the_runtime_needs_still_starts,
    the_default_profile_of_docker_works,
    the_notify_listener_is_sent,
    the_notify_listener_of_an_exec_is_sent,
    the_agent_decides,
    a_missing_agent_makes_create_fail,
    notify_without_a_listener_path_is_refused,
    listener_metadata_without_a_path_is_refused,
    an_unused_listener_path_is_ignored,
];

/// A profile that allows all but these rules.
fn profile(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

/// A container that makes one system call under a profile and prints what came of it.
fn calling<'t>(t: &'t Test, profile: Value, number: i64, args: &[u64]) -> Container<'t> {
    need_x86_64(t);
    let mut words = vec!["probe".to_owned(), "syscall".to_owned(), number.to_string()];
    words.extend(args.iter().map(u64::to_string));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    t.container().with_probe().args(&words).set("/linux/seccomp", profile)
}

fn need_x86_64(t: &Test) {
    t.need(cfg!(target_arch = "x86_64"), "the profiles of these tests are for x86_64");
}

/// What a call comes to under rules.
#[track_caller]
fn result(t: &Test, rules: Value, number: i64, args: &[u64]) -> String {
    calling(t, profile(rules), number, args).run().ok().text().to_owned()
}

/// getpriority(2) with bad arguments, harmless: EINVAL without a filter.
const HARMLESS: i64 = libc::SYS_getpriority;
const EINVAL: &str = "errno 22";

fn without_a_profile_there_is_no_filter(t: &Test) {
    t.container().sh("grep Seccomp: /proc/self/status").run().ok().prints("Seccomp:\t0\n");
}

fn a_filter_is_loaded(t: &Test) {
    need_x86_64(t);
    let c = t
        .container()
        .sh("grep -E 'Seccomp:|Seccomp_filters' /proc/self/status")
        .set("/linux/seccomp", profile(json!([])));
    c.run().ok().prints("Seccomp:\t2\nSeccomp_filters:\t1\n");
}

fn errno_is_eperm_by_default(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0]), "errno 1");
}

fn errno_is_the_one_of_the_rule(t: &Test) {
    for errno in [1, 38, 95, 133] {
        let rules =
            json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]);
        assert_eq!(result(t, rules, HARMLESS, &[99, 0]), format!("errno {errno}"));
    }
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0]), "ok 0");
}

/// What a static program needs, and little more.
fn allow_list(default: Value) -> Value {
    let mut profile = json!({"architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": [
        "execve", "exit_group", "exit", "write", "writev", "read", "brk", "mmap", "munmap", "mprotect", "arch_prctl",
        "fstat", "newfstatat", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink", "readlinkat",
        "getrandom", "ioctl", "close", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "openat", "capget",
        "capset", "prctl", "setuid", "setgid", "setgroups", "chdir", "fchdir", "getcwd", "open", "access", "faccessat",
        "fcntl", "dup", "dup2", "dup3", "getpid", "gettid", "tgkill", "sched_getaffinity", "sched_yield", "nanosleep",
        "epoll_pwait", "epoll_ctl", "eventfd2", "clone", "mincore", "sigaltstack", "madvise", "stat", "lstat",
        "getdents64", "fstatfs", "statfs", "statx", "uname", "sysinfo", "close_range", "poll", "ppoll", "umask",
        "keyctl", "getppid", "setsid", "pread64", "lseek"
    ]}]});
    for (key, value) in default.as_object().unwrap() {
        profile[key] = value.clone();
    }
    profile
}

fn the_default_errno_is_the_one_of_the_profile(t: &Test) {
    let profile = allow_list(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95}));
    calling(t, profile, HARMLESS, &[99, 0]).run().ok().prints("errno 95\n");
    let profile = allow_list(json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    calling(t, profile, HARMLESS, &[99, 0]).run().ok().prints("errno 1\n");
}

fn an_allow_list_allows(t: &Test) {
    let mut profile = allow_list(json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    profile["syscalls"]
        .as_array_mut()
        .unwrap()
        .push(json!({"names": ["getpriority"], "action": "SCMP_ACT_ALLOW"}));
    calling(t, profile, HARMLESS, &[99, 0]).run().ok().prints("errno 22\n");
}

fn kill_process_kills(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_KILL_PROCESS"}]);
    calling(t, profile(rules), HARMLESS, &[99, 0]).run().code(128 + libc::SIGSYS);
}

fn kill_thread_kills(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_KILL_THREAD"}]);
    calling(t, profile(rules), HARMLESS, &[99, 0]).run().code(128 + libc::SIGSYS);
}

fn kill_is_kill_thread(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_KILL"}]);
    calling(t, profile(rules), HARMLESS, &[99, 0]).run().code(128 + libc::SIGSYS);
}

fn trap_sends_sigsys(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_TRAP"}]);
    let c = calling(t, profile(rules), HARMLESS, &[]).sh("probe syscall 140 99 0; echo $?");
    assert_eq!(c.run().stdout, format!("{}\n", 128 + libc::SIGSYS));
}

fn trace_without_a_tracer_is_enosys(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_TRACE"}]);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0]), "errno 38");
}

fn log_lets_the_call_pass(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_LOG"}]);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0]), EINVAL);
}

fn arg(index: u32, value: u64, op: &str) -> Value {
    json!({"index": index, "value": value, "op": format!("SCMP_CMP_{op}")})
}

/// A rule that answers EXDEV when its arguments match.
fn rule(args: Value) -> Value {
    json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18, "args": args})
}

const MATCHED: &str = "errno 18";

fn an_argument_is_compared_for_equality(t: &Test) {
    let rules = json!([rule(json!([arg(0, 99, "EQ")]))]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, 0]), MATCHED);
    assert_eq!(result(t, rules, HARMLESS, &[98, 0]), EINVAL);
}

fn every_operator_compares(t: &Test) {
    let table: [(&str, [bool; 3]); 6] = [
        ("NE", [true, false, true]),
        ("LT", [true, false, false]),
        ("LE", [true, true, false]),
        ("EQ", [false, true, false]),
        ("GE", [false, true, true]),
        ("GT", [false, false, true]),
    ];
    need_x86_64(t);
    for (op, matches) in table {
        let c = t
            .container()
            .with_probe()
            .set("/linux/seccomp", profile(json!([rule(json!([arg(0, 50, op)]))])));
        let output = c.sh("for n in 49 50 51; do probe syscall 140 $n 0; done").run().ok();
        let seen: Vec<bool> = output.stdout.lines().map(|line| line == MATCHED).collect();
        assert_eq!(seen, matches, "{op}: {output}");
    }
}

fn masked_equality_compares_bits(t: &Test) {
    let args = json!([{"index": 0, "value": 0xf0, "valueTwo": 0x50, "op": "SCMP_CMP_MASKED_EQ"}]);
    let rules = json!([rule(args)]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[0x5f, 0]), MATCHED);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[0xf05, 0]), EINVAL);
    assert_eq!(result(t, rules, HARMLESS, &[0x6f, 0]), EINVAL);
}

fn arguments_of_different_indexes_are_anded(t: &Test) {
    let rules = json!([rule(json!([arg(0, 99, "EQ"), arg(1, 7, "EQ")]))]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, 7]), MATCHED);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, 8]), EINVAL);
    assert_eq!(result(t, rules, HARMLESS, &[98, 7]), EINVAL);
}

fn arguments_of_the_same_index_are_alternatives(t: &Test) {
    let rules = json!([rule(json!([arg(0, 99, "EQ"), arg(0, 97, "EQ")]))]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, 0]), MATCHED);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[97, 0]), MATCHED);
    assert_eq!(result(t, rules, HARMLESS, &[98, 0]), EINVAL);
}

fn rules_for_one_syscall_are_alternatives(t: &Test) {
    let rules = json!([rule(json!([arg(0, 99, "EQ")])), rule(json!([arg(1, 7, "EQ")]))]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, 0]), MATCHED);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[98, 7]), MATCHED);
    assert_eq!(result(t, rules, HARMLESS, &[98, 0]), EINVAL);
}

fn sixty_four_bit_arguments_are_compared_whole(t: &Test) {
    let big = 0x1_0000_0063_u64;
    let rules = json!([rule(json!([arg(1, big, "EQ")]))]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, big]), MATCHED);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0x63]), EINVAL);
    let rules = json!([rule(json!([arg(1, 0xffff_ffff, "GT")]))]);
    assert_eq!(result(t, rules.clone(), HARMLESS, &[99, big]), MATCHED);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0xffff_ffff]), EINVAL);
}

fn an_unknown_syscall_is_ignored(t: &Test) {
    let rules = json!([{"names": ["no_such_syscall", "getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]);
    assert_eq!(result(t, rules, HARMLESS, &[99, 0]), MATCHED);
}

fn a_syscall_newer_than_the_profile_is_enosys(t: &Test) {
    // The stub runc has prepended since 1.0-rc93: glibc probes for new syscalls and takes EPERM for an answer.
    t.need(t.kind() != Kind::Crun, "crun has no such stub");
    let profile = allow_list(json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    calling(t, profile.clone(), 1999, &[]).run().ok().prints("errno 38\n");
    calling(t, profile, HARMLESS, &[99, 0]).run().ok().prints("errno 1\n");
}

fn a_filter_applies_to_the_32_bit_entry(t: &Test) {
    need_x86_64(t);
    let both = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]});
    // 96 is getpriority of i386.
    let c = t.container().with_probe().args(&["probe", "syscall32", "96", "99", "0"]);
    let plain = c.run();
    t.need(
        plain.code == Some(0) && plain.stdout.starts_with("errno"),
        "this kernel has no i386 system calls",
    );
    let c = c.set("/linux/seccomp", both);
    c.write();
    c.run().ok().prints("errno 18\n");
}

fn the_32_bit_entry_of_an_architecture_not_listed_is_denied(t: &Test) {
    need_x86_64(t);
    let c = t.container().with_probe().args(&["probe", "syscall32", "96", "99", "0"]);
    let plain = c.run();
    t.need(
        plain.code == Some(0) && plain.stdout.starts_with("errno"),
        "this kernel has no i386 system calls",
    );
    let c = c.set("/linux/seccomp", profile(json!([])));
    c.write();
    // libseccomp's answer to a foreign architecture is to kill.
    c.run().code(128 + libc::SIGSYS);
}

fn clone3_can_be_made_enosys(t: &Test) {
    let rules = json!([{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]);
    assert_eq!(result(t, rules, libc::SYS_clone3, &[0, 0]), "errno 38");
}

fn flags_are_set(t: &Test) {
    need_x86_64(t);
    for (flags, number) in [
        (json!([]), 0),
        (Value::Null, 4),
        (json!(["SECCOMP_FILTER_FLAG_LOG"]), 2),
        (json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), 4),
        (json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]), 2),
    ] {
        let mut profile = profile(json!([]));
        profile["flags"] = flags;
        let c = t.container().sh("grep Seccomp: /proc/self/status").set("/linux/seccomp", profile);
        c.run().ok().prints("Seccomp:\t2\n");
        if t.kind() == Kind::Skep {
            let told = c.bundle_call("run", &[]).global(&["--debug"]).run().ok();
            told.names(&format!("msg=\"seccomp filter flags: {number}\""));
        }
    }
}

#[track_caller]
fn refused(t: &Test, profile: Value, word: &str) {
    need_x86_64(t);
    let output = t.container().set("/linux/seccomp", profile).run().fails();
    if t.kind() == Kind::Skep {
        output.names(word);
    }
    t.assert_nothing_left();
}

fn an_unknown_action_is_refused(t: &Test) {
    refused(
        t,
        profile(json!([{"names": ["getpriority"], "action": "SCMP_ACT_NONSENSE"}])),
        "SCMP_ACT_NONSENSE",
    );
    refused(t, json!({"defaultAction": "SCMP_ACT_NONSENSE"}), "SCMP_ACT_NONSENSE");
}

fn an_unknown_operator_is_refused(t: &Test) {
    refused(t, profile(json!([rule(json!([arg(0, 1, "NONSENSE")]))])), "SCMP_CMP_NONSENSE");
}

fn an_unknown_architecture_is_refused(t: &Test) {
    refused(
        t,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONSENSE"]}),
        "SCMP_ARCH_NONSENSE",
    );
}

fn an_unknown_flag_is_refused(t: &Test) {
    refused(
        t,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONSENSE"],
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]}),
        "SECCOMP_FILTER_FLAG_NONSENSE",
    );
}

fn an_errno_for_an_action_that_has_none(t: &Test) {
    // config-linux.md: an error for an action that does not support an errno.
    refused(
        t,
        profile(json!([{"names": ["getpriority"], "action": "SCMP_ACT_KILL", "errnoRet": 5}])),
        "errnoRet",
    );
}

fn an_argument_index_out_of_range_is_refused(t: &Test) {
    refused(t, profile(json!([rule(json!([arg(6, 1, "EQ")]))])), "index");
}

fn a_profile_without_names_is_refused(t: &Test) {
    refused(t, profile(json!([{"names": [], "action": "SCMP_ACT_ERRNO"}])), "names");
}

fn the_filter_works_without_no_new_privileges(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]);
    let c = calling(t, profile(rules), HARMLESS, &[99, 0])
        .set("/process/noNewPrivileges", json!(false));
    c.run().ok().prints("errno 18\n");
    let c = c.sh("grep NoNewPrivs /proc/self/status");
    c.write();
    c.run().ok().prints("NoNewPrivs:\t0\n");
}

fn the_filter_works_for_a_user_that_is_not_root(t: &Test) {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]);
    for privileges in [true, false] {
        let c = calling(t, profile(rules.clone()), HARMLESS, &[99, 0])
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/noNewPrivileges", json!(privileges));
        c.run().ok().prints("errno 18\n");
    }
}

fn a_filter_that_denies_what_the_runtime_needs_still_starts(t: &Test) {
    // With no_new_privs the filter is the last thing before execve: getcwd, mount and the like are done by then.
    let rules = json!([{"names": ["getcwd", "mount", "setns", "chdir", "openat2", "pivot_root", "sendmsg", "close_range",
        "setresuid", "setgroups", "capset", "socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]);
    assert_eq!(result(t, rules, libc::SYS_getcwd, &[0, 0]), MATCHED);
}

fn the_default_profile_of_docker_works(t: &Test) {
    // The shape of the real profile: three architectures, an errno default, clone with a masked flag test.
    let mut profile = allow_list(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}));
    let rules = profile["syscalls"].as_array_mut().unwrap();
    let names = rules[0]["names"].as_array_mut().unwrap();
    names.retain(|name| name != "clone");
    names.extend(
        [
            "wait4",
            "fork",
            "vfork",
            "kill",
            "getuid",
            "geteuid",
            "getgid",
            "getegid",
            "rt_sigsuspend",
            "pipe",
            "pipe2",
            "sigaltstack",
            "times",
            "getpgrp",
            "setpgid",
            "mkdir",
            "unlink",
        ]
        .map(Value::from),
    );
    rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 2_114_060_288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    rules.push(json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}));
    need_x86_64(t);
    let c = t.container().with_probe().set("/linux/seccomp", profile).sh(
        "(echo child); probe syscall 56 0x10000000; probe syscall 135 0; probe syscall 135 8; probe syscall 435 0 0; \
         probe syscall 165; probe syscall 272 0x10000000",
    );
    c.run().ok().prints("child\nerrno 1\nok 0\nerrno 1\nerrno 38\nerrno 1\nerrno 1\n");
}

// --- the listener ---

/// A profile that asks an agent about getpriority.
fn asking(socket: &std::path::Path) -> Value {
    let mut profile = profile(json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]));
    profile["listenerPath"] = json!(socket.to_str());
    profile["listenerMetadata"] = json!("some metadata");
    profile
}

fn the_notify_listener_is_sent(t: &Test) {
    let socket = t.path("agent");
    let agent = Agent::listen(&socket);
    let c = calling(t, asking(&socket), HARMLESS, &[99, 0])
        .set("/annotations", json!({"key": "value"}));
    let running = c.spawn();
    let (state, listener) = agent.receive_whole();
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], json!("some metadata"));
    assert_eq!(state["state"]["id"], json!(c.id));
    assert_eq!(state["state"]["bundle"], json!(c.dir.to_str()));
    assert_eq!(state["state"]["annotations"]["key"], json!("value"));
    assert!(
        ["creating", "created"].contains(&state["state"]["status"].as_str().unwrap()),
        "{state}"
    );
    assert_eq!(state["pid"], state["state"]["pid"]);
    assert!(state["pid"].as_i64().unwrap() > 1);
    let (id, pid, number) = sys::notification(&listener).unwrap();
    assert_eq!((i64::from(pid), i64::from(number)), (state["pid"].as_i64().unwrap(), HARMLESS));
    sys::answer(&listener, id, 0, 77).unwrap();
    running.wait().ok().prints("errno 77\n");
}

fn the_notify_listener_of_an_exec_is_sent(t: &Test) {
    let socket = t.path("agent");
    let agent = Agent::listen(&socket);
    let c = calling(t, asking(&socket), HARMLESS, &[]).lasting();
    let create =
        c.bundle_call("create", &["--pid-file", c.dir.join("pid").to_str().unwrap()]).spawn();
    let (_, _first) = agent.receive();
    create.wait().ok();
    c.start().ok();
    let exec = c.exec_with(&[], &["probe", "syscall", &HARMLESS.to_string(), "99", "0"]).spawn();
    let (state, listener) = agent.receive();
    assert_eq!(state["state"]["id"], json!(c.id));
    assert_ne!(state["pid"], json!(c.pid()));
    let (id, _, number) = sys::notification(&listener).unwrap();
    assert_eq!(i64::from(number), HARMLESS);
    sys::answer(&listener, id, 5, 0).unwrap();
    exec.wait().ok().prints("ok 5\n");
}

fn the_agent_decides(t: &Test) {
    let socket = t.path("agent");
    let agent = Agent::listen(&socket);
    let c = calling(t, asking(&socket), HARMLESS, &[])
        .sh("probe syscall 140 99 0; probe syscall 140 98 0; echo end");
    let running = c.spawn();
    let (_, listener) = agent.receive();
    for answer in [11, 12] {
        let (id, _, _) = sys::notification(&listener).unwrap();
        sys::answer(&listener, id, 0, answer).unwrap();
    }
    running.wait().ok().prints("errno 11\nerrno 12\nend\n");
}

fn a_missing_agent_makes_create_fail(t: &Test) {
    let c = calling(t, asking(&t.path("nobody")), HARMLESS, &[]);
    c.run().fails().names("nobody");
    t.assert_nothing_left();
}

fn notify_without_a_listener_path_is_refused(t: &Test) {
    refused(
        t,
        profile(json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}])),
        "listenerPath",
    );
}

fn listener_metadata_without_a_path_is_refused(t: &Test) {
    let mut profile = profile(json!([]));
    profile["listenerMetadata"] = json!("x");
    refused(t, profile, "listenerMetadata");
}

fn an_unused_listener_path_is_ignored(t: &Test) {
    need_x86_64(t);
    let mut profile = profile(json!([]));
    profile["listenerPath"] = json!("/no/such/socket");
    t.container().set("/linux/seccomp", profile).run().ok();
    assert!(fs::metadata("/no/such").is_err());
}
