//! What of linux.seccomp is not a rule: architectures, flags, and the agent at listenerPath.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;

use crate::harness::runner::cases;
use crate::harness::seccomp::Agent;
use crate::harness::{Container, Kind, Test, Value, json, sys, wait};

cases![
    every_architecture_of_the_specification_is_accepted,
    every_flag_of_the_specification_is_accepted,
    what_features_lists_is_what_is_accepted,
    absent_null_and_empty_flags_are_accepted,
    a_flag_for_listeners_needs_a_listener,
    flags_and_a_listener_go_together,
    a_long_metadata_arrives_whole,
    an_agent_that_hangs_up_makes_create_fail,
    a_listener_path_that_is_no_socket_is_reported,
    a_listener_path_that_is_too_long_is_reported,
    a_listener_path_that_is_relative_is_refused,
];

/// SCMP_ARCH_* of config-linux.md.
const ARCHITECTURES: [&str; 23] = [
    "X86",
    "X86_64",
    "X32",
    "ARM",
    "AARCH64",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
];

/// SECCOMP_FILTER_FLAG_* of config-linux.md.
const FLAGS: [&str; 4] = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];

fn seccomp<'t>(c: Container<'t>, architectures: Value, flags: Value) -> Container<'t> {
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]);
    c.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "flags": flags,
               "syscalls": rules}),
    )
}

fn every_architecture_of_the_specification_is_accepted(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the library of the others may be older than an architecture");
    let names: Vec<String> = ARCHITECTURES.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    let show = "grep Seccomp: /proc/self/status";
    for name in &names {
        let c = seccomp(t.container().sh(show), json!([name]), json!([]));
        c.run().ok().prints("Seccomp:\t2\n");
    }
    seccomp(t.container().sh(show), json!(names), json!([])).run().ok().prints("Seccomp:\t2\n");
}

fn every_flag_of_the_specification_is_accepted(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the library of the others may be older than a flag");
    for flag in &FLAGS[..3] {
        let flag = format!("SECCOMP_FILTER_FLAG_{flag}");
        seccomp(t.container(), json!([]), json!([flag])).run().ok();
    }
}

fn what_features_lists_is_what_is_accepted(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others list what their library has");
    let features = t.bare_call(&["features"]).run().ok().json();
    let list = |name: &str| {
        let list = features["linux"]["seccomp"][name].as_array().unwrap().clone();
        let mut names: Vec<String> =
            list.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    let sorted = |prefix: &str, words: &[&str]| {
        let mut names: Vec<String> = words.iter().map(|word| format!("{prefix}{word}")).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(list("archs"), sorted("SCMP_ARCH_", &ARCHITECTURES));
    assert_eq!(list("knownFlags"), sorted("SECCOMP_FILTER_FLAG_", &FLAGS));
    for flag in list("supportedFlags") {
        assert!(list("knownFlags").contains(&flag), "{flag}");
    }
    assert_eq!(list("actions").len(), 9);
    assert_eq!(list("operators").len(), 7);
}

fn absent_null_and_empty_flags_are_accepted(t: &Test) {
    seccomp(t.container(), json!([]), json!(null)).run().ok();
    seccomp(t.container(), json!(null), json!([])).run().ok();
    seccomp(t.container(), json!([]), json!([])).unset("/linux/seccomp/flags").run().ok();
}

fn a_flag_for_listeners_needs_a_listener(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others leave it to the kernel");
    let flags = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let output = seccomp(t.container(), json!([]), flags).run().fails();
    output.names("linux.seccomp.flags[1]").names("SCMP_ACT_NOTIFY");
    t.assert_nothing_left();
}

/// A profile whose agent is asked about getpriority.
fn asking(socket: &std::path::Path) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
           "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]})
}

fn flags_and_a_listener_go_together(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the library of the others may refuse it");
    // The kernel takes TSYNC and a listener only together with a third flag; one thread needs no TSYNC.
    for (number, flags) in [
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_LOG"]),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = t.path(&format!("agent{number}"));
        let agent = Agent::listen(&socket);
        let mut profile = asking(&socket);
        profile["flags"] = flags;
        let number = nix::libc::SYS_getpriority.to_string();
        let c = t.container().with_probe().args(&["probe", "syscall", &number, "0", "0"]);
        let running = c.set("/linux/seccomp", profile).spawn();
        let (_, listener) = agent.receive();
        let (id, _, _) = sys::notification(&listener).unwrap();
        sys::answer(&listener, id, 0, 76).unwrap();
        running.wait().ok().prints("errno 76\n");
    }
}

fn a_long_metadata_arrives_whole(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others keep the connection open");
    let socket = t.path("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let metadata = "\"\\\u{e4}\u{20ac}\n".repeat(30_000);
    let mut profile = asking(&socket);
    profile["listenerMetadata"] = json!(metadata);
    let c = t.container().set("/linux/seccomp", profile);
    let running = c.spawn();
    assert!(wait::readable(&listener, wait::patience()));
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert!(state["metadata"] == json!(metadata), "{} bytes", text.len());
    running.wait().ok();
}

fn an_agent_that_hangs_up_makes_create_fail(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others may not notice");
    let socket = t.path("agent");
    drop(UnixListener::bind(&socket).unwrap());
    let c = t.container().set("/linux/seccomp", asking(&socket));
    let output = c.run().fails().one_line();
    output.names("linux.seccomp.listenerPath").names("connection refused");
    t.assert_nothing_left();
}

fn a_listener_path_that_is_no_socket_is_reported(t: &Test) {
    let file = t.path("agent");
    fs::write(&file, "").unwrap();
    let c = t.container().set("/linux/seccomp", asking(&file));
    let output = c.run().fails();
    if t.kind() == Kind::Skep {
        output.names("linux.seccomp.listenerPath");
    }
    t.assert_nothing_left();
}

fn a_listener_path_that_is_too_long_is_reported(t: &Test) {
    let path = t.path(&"a".repeat(200));
    let output = t.container().set("/linux/seccomp", asking(&path)).run().fails();
    if t.kind() == Kind::Skep {
        output.names("linux.seccomp.listenerPath");
    }
    t.assert_nothing_left();
}

fn a_listener_path_that_is_relative_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others take it as relative to whatever");
    let c = t.container().set("/linux/seccomp", asking("agent".as_ref()));
    c.run().fails().names("linux.seccomp.listenerPath");
    t.assert_nothing_left();
}
