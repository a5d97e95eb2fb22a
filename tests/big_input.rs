//! Configurations far greater than real ones: they work, or one sentence says why not, in a time nobody notices.

use std::fs;
use std::time::Duration;

use crate::bad_input::clear;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, Value, json, wait};
use crate::hooks::{PHASES, log_hook, logging};

cases![
    a_thousand_hooks_of_each_kind_run,
    a_seccomp_profile_of_five_megabytes_works,
    five_megabytes_of_conditions_are_too_many,
];

/// For what the kernel does in a second or two, on a machine that does other things as well.
fn patience() -> Duration {
    wait::stretched(Duration::from_secs(120))
}

fn a_thousand_hooks_of_each_kind_run(t: &Test) {
    let (mut c, log) = logging(t);
    for phase in PHASES {
        // One hook of the shape the runtime at hand wants, a thousand times.
        c = log_hook(c, phase, &log, phase);
        let hook = c.config["hooks"][phase][0].clone();
        c = c.set(&format!("/hooks/{phase}"), json!(vec![hook; 1000]));
    }
    c.bundle_call("run", &[]).limit(patience()).run().ok();
    let text = fs::read_to_string(&log).unwrap();
    let expected = PHASES.map(|phase| vec![phase; 1000]).concat();
    let mut seen: Vec<&str> = text.lines().collect();
    if t.kind() != Kind::Skep {
        // Their startContainer and poststart hooks run at the same time.
        seen.sort_by_key(|line| PHASES.iter().position(|phase| phase == line));
    }
    assert_eq!(seen.len(), expected.len());
    assert!(seen == expected, "not in the order of the specification");
    t.assert_nothing_left();
}

/// A profile that refuses personality(2) with 5 million bytes of rules: each names it often, for one value.
fn profile(rules: u64, names: usize) -> Value {
    let rule = |i| {
        let value = json!([{"index": 0, "value": 1_000_000 + i, "op": "SCMP_CMP_EQ"}]);
        json!({"names": vec!["personality"; names], "action": "SCMP_ACT_ERRNO", "args": value})
    };
    let rules: Vec<_> = (0..rules).map(rule).collect();
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

fn a_seccomp_profile_of_five_megabytes_works(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun take minutes");
    let number = libc::SYS_personality;
    // The first, one within and the last of the values; those beside them; and the question which one it is.
    let calls: String = [1_000_000, 1_000_326, 1_000_649, 999_999, 1_000_650, 0xffff_ffff_u64]
        .map(|value| format!("probe syscall {number} {value};"))
        .concat();
    let c = t.container().with_probe().sh(&calls).set("/linux/seccomp", profile(650, 640));
    assert!(c.config.to_string().len() > 5_000_000, "{}", c.config.to_string().len());
    let output = c.bundle_call("run", &[]).limit(patience()).run().ok();
    let (refused, passed): (Vec<_>, Vec<_>) =
        output.stdout.lines().partition(|line| *line == "errno 1");
    assert_eq!((refused.len(), passed.len()), (3, 3), "{output}");
    assert!(output.stdout.starts_with("errno 1\nerrno 1\nerrno 1\nok "), "{output}");
    t.assert_nothing_left();
}

/// As many as the program has no room for: the kernel takes 4096 instructions.
fn five_megabytes_of_conditions_are_too_many(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun take minutes");
    let c = t.container().set("/linux/seccomp", profile(50_000, 1));
    assert!(c.config.to_string().len() > 5_000_000, "{}", c.config.to_string().len());
    let output = c.bundle_call("run", &[]).limit(patience()).run().fails();
    clear(&output);
    output.names("the profile needs ").names(" BPF instructions (config.json: linux.seccomp)");
    t.assert_nothing_left();
}
