//! What a compiled profile answers, seen by a simulator and by the kernel.

use super::simulator::{Call, run};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0;

const X86: u32 = 0x4000_0003;
const X86_64: u32 = 0xc000_003e;
const ARM: u32 = 0x4000_0028;

const READ: u32 = 0;
const OPEN: u32 = 2;
const SOCKET: u32 = 41;
const PERSONALITY: u32 = 135;

fn options(native: &str) -> CompileOptions {
    CompileOptions {
        native: Arch::from_name(native).unwrap(),
        enosys: true,
        fail_unknown_syscall: false,
    }
}

fn compiled_for(native: &str, profile: &str) -> Result<Filter> {
    let profile: Seccomp<'_> = serde_json::from_str(profile).unwrap();
    compile(&profile, &options(native)).map(|filter| filter.expect("not empty"))
}

fn compiled(profile: &str) -> Filter {
    compiled_for("SCMP_ARCH_X86_64", profile).unwrap()
}

fn refusal(profile: &str) -> String {
    compiled_for("SCMP_ARCH_X86_64", profile).unwrap_err().to_string()
}

fn answer(filter: &Filter, arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    run(&filter.program, &Call { nr, arch, args }, false).unwrap()
}

fn plain(filter: &Filter, arch: u32, nr: u32) -> u32 {
    answer(filter, arch, nr, [0; 6])
}

/// A profile that denies all but what `rules` say.
fn denying(rules: &str) -> String {
    format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#)
}

fn rule(name: &str, action: &str, args: &str) -> String {
    format!(r#"{{"names":["{name}"],"action":"{action}","args":[{args}]}}"#)
}

fn arg(index: u32, operator: &str, value: u64) -> String {
    format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_{operator}"}}"#)
}

#[test]
fn a_call_gets_the_action_of_its_rule_and_any_other_the_default() {
    let filter = compiled(&denying(
        r#"{"names":["read","openat2"],"action":"SCMP_ACT_ALLOW"},
           {"names":["open"],"action":"SCMP_ACT_ERRNO","errnoRet":13}"#,
    ));
    assert_eq!(plain(&filter, X86_64, READ), ALLOW);
    assert_eq!(plain(&filter, X86_64, 437), ALLOW);
    assert_eq!(plain(&filter, X86_64, OPEN), 0x0005_000d);
    assert_eq!(plain(&filter, X86_64, 1), EPERM);
    assert_eq!(plain(&filter, X86_64, 436), EPERM);
    assert!(!filter.notify);
    assert_eq!(filter.flags, 4);
    assert_eq!(filter.warnings, [""; 0]);
}

#[test]
fn every_action_is_what_the_kernel_calls_it() {
    for action in &ACTIONS {
        let profile = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/l","syscalls":[{}]}}"#,
            rule("open", action.name, "")
        );
        let data = if action.data.is_some() { 1 } else { 0 };
        let filter = compiled(&profile);
        assert_eq!(plain(&filter, X86_64, OPEN), action.value | data, "{}", action.name);
        assert_eq!(filter.notify, action.name == "SCMP_ACT_NOTIFY");
    }
}

#[test]
fn an_architecture_that_is_not_named_is_killed() {
    let filter = compiled(&denying(&rule("read", "SCMP_ACT_ALLOW", "")));
    assert_eq!(plain(&filter, X86, 3), KILL);
    assert_eq!(plain(&filter, 0x1234_5678, READ), KILL);
    assert_eq!(plain(&filter, X86_64, 0x4000_0000), KILL, "x32 is not named");
    assert_eq!(plain(&filter, X86_64, u32::MAX), EPERM, "a call a tracer skipped is never bad");
}

#[test]
fn one_rule_holds_on_every_named_architecture_under_its_own_number() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO",
        "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_ARM"],
        "syscalls":[{"names":["open","set_tls","openat2","readv"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let filter = compiled(profile);
    assert_eq!(plain(&filter, X86_64, OPEN), ALLOW);
    assert_eq!(plain(&filter, X86, 5), ALLOW);
    assert_eq!(plain(&filter, X86, OPEN), EPERM);
    assert_eq!(plain(&filter, X86_64, 0x4000_0000 + OPEN), ALLOW);
    assert_eq!(plain(&filter, X86_64, 0x4000_0000 + 515), ALLOW, "readv of x32");
    assert_eq!(plain(&filter, X86_64, 0x4000_0000 + 19), EPERM, "readv of x86_64");
    assert_eq!(plain(&filter, ARM, 0x000f_0005), ALLOW);
    assert_eq!(plain(&filter, ARM, 0x000f_0004), EPERM);
}

#[test]
fn every_operator_compares_all_64_bits_unsigned() {
    let values =
        [0, 1, 6, 7, 8, 0xffff_ffff, 0x1_0000_0006, 0x1_0000_0007, 0x1_0000_0008, u64::MAX];
    for (name, operator) in OPERATORS {
        for value in values {
            let text = arg(1, name.trim_start_matches("SCMP_CMP_"), value);
            let text = text.replace('}', r#","valueTwo":7}"#);
            let filter = compiled(&denying(&rule("open", "SCMP_ACT_ALLOW", &text)));
            for given in values {
                let holds = match operator {
                    Operator::Eq => given == value,
                    Operator::Ne => given != value,
                    Operator::Lt => given < value,
                    Operator::Le => given <= value,
                    Operator::Ge => given >= value,
                    Operator::Gt => given > value,
                    Operator::MaskedEq => given & value == 7 & value,
                };
                let expected = if holds { ALLOW } else { EPERM };
                let found = answer(&filter, X86_64, OPEN, [9, given, 9, 9, 9, 9]);
                assert_eq!(found, expected, "{given:#x} {name} {value:#x}");
            }
        }
    }
}

#[test]
fn a_narrow_architecture_compares_the_low_half() {
    let profile = denying(&rule("open", "SCMP_ACT_ALLOW", &arg(0, "EQ", 0x5_0000_0007)));
    let filter = compiled_for("SCMP_ARCH_X86", &profile).unwrap();
    assert_eq!(answer(&filter, X86, 5, [7, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86, 5, [0xf_0000_0007, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86, 5, [8, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn big_endian_arguments_have_their_high_half_first() {
    let profile = denying(&rule("open", "SCMP_ACT_ALLOW", &arg(2, "GT", 0x1_0000_0007)));
    let filter = compiled_for("SCMP_ARCH_S390X", &profile).unwrap();
    for (given, expected) in [(8, EPERM), (0x1_0000_0008, ALLOW), (0x1_0000_0007, EPERM)] {
        let call = Call { nr: 5, arch: 0x8000_0016, args: [0, 0, given, 0, 0, 0] };
        assert_eq!(run(&filter.program, &call, true).unwrap(), expected, "{given:#x}");
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let args = format!("{},{}", arg(2, "EQ", 9), arg(0, "NE", 16));
    let filter = compiled(&denying(&rule("socket", "SCMP_ACT_ALLOW", &args)));
    assert_eq!(answer(&filter, X86_64, SOCKET, [1, 0, 9, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86_64, SOCKET, [16, 0, 9, 0, 0, 0]), EPERM);
    assert_eq!(answer(&filter, X86_64, SOCKET, [1, 0, 8, 0, 0, 0]), EPERM);
}

#[test]
fn conditions_on_one_argument_are_rules_of_their_own() {
    let args = [arg(0, "EQ", 1), arg(0, "EQ", 2), arg(1, "EQ", 3)].join(",");
    let filter = compiled(&denying(&rule("socket", "SCMP_ACT_ALLOW", &args)));
    assert_eq!(answer(&filter, X86_64, SOCKET, [1, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86_64, SOCKET, [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86_64, SOCKET, [7, 3, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86_64, SOCKET, [7, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn rules_that_begin_with_the_same_test_keep_their_own_ends() {
    // libseccomp hangs the second condition of both rules behind both values.
    let pair = |socket, kind| format!("{},{}", arg(0, "NE", socket), arg(1, "EQ", kind));
    let rules = [
        rule("socket", "SCMP_ACT_ALLOW", &pair(16, 1)),
        rule("socket", "SCMP_ACT_ALLOW", &pair(17, 2)),
    ];
    let filter = compiled(&denying(&rules.join(",")));
    for (socket, kind, expected) in [
        (17, 1, ALLOW),
        (17, 2, EPERM),
        (16, 2, ALLOW),
        (16, 1, EPERM),
        (5, 1, ALLOW),
        (5, 3, EPERM),
    ] {
        let found = answer(&filter, X86_64, SOCKET, [socket, kind, 0, 0, 0, 0]);
        assert_eq!(found, expected, "{socket} {kind}");
    }
}

#[test]
fn several_rules_for_one_call_add_up() {
    let rules: Vec<String> = [0, 8, 0x20000, 0x20008, 0xffff_ffff]
        .map(|value| rule("personality", "SCMP_ACT_ALLOW", &arg(0, "EQ", value)))
        .to_vec();
    let filter = compiled(&denying(&rules.join(",")));
    for (given, expected) in
        [(0, ALLOW), (8, ALLOW), (0x20008, ALLOW), (1, EPERM), (u64::MAX, EPERM)]
    {
        let found = answer(&filter, X86_64, PERSONALITY, [given, 0, 0, 0, 0, 0]);
        assert_eq!(found, expected, "{given:#x}");
    }
}

#[test]
fn a_rule_without_conditions_covers_the_others_wherever_it_stands() {
    let some = rule("open", "SCMP_ACT_TRAP", &arg(0, "EQ", 1));
    let all = rule("open", "SCMP_ACT_ALLOW", "");
    for rules in [[&*some, &*all], [&*all, &*some]] {
        let filter = compiled(&denying(&rules.join(",")));
        assert_eq!(answer(&filter, X86_64, OPEN, [1, 0, 0, 0, 0, 0]), ALLOW);
    }
}

#[test]
fn a_rule_that_repeats_the_default_changes_nothing() {
    let rules = [rule("open", "SCMP_ACT_ERRNO", ""), rule("open", "SCMP_ACT_ALLOW", "")];
    let filter = compiled(&denying(&rules.join(",")));
    assert_eq!(plain(&filter, X86_64, OPEN), ALLOW);
}

#[test]
fn rules_that_contradict_each_other_are_refused() {
    let rules = [
        rule("open", "SCMP_ACT_ALLOW", &arg(0, "EQ", 1)),
        rule("open", "SCMP_ACT_TRAP", &arg(0, "EQ", 1)),
    ];
    assert_eq!(
        refusal(&denying(&rules.join(","))),
        "seccomp rules for \"open\" contradict each other (config.json: linux.seccomp.syscalls[1]); \
         an earlier rule has another action for the same arguments"
    );
}

#[test]
fn socket_and_ipc_calls_are_reached_through_their_multiplexer_too() {
    let profile = denying(r#"{"names":["socket","shmat","statx"],"action":"SCMP_ACT_ALLOW"}"#);
    let filter = compiled_for("SCMP_ARCH_X86", &profile).unwrap();
    assert_eq!(plain(&filter, X86, 359), ALLOW);
    assert_eq!(answer(&filter, X86, 102, [1, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86, 102, [2, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(plain(&filter, X86, 397), ALLOW, "shmat on its own, since 5.1");
    assert_eq!(plain(&filter, X86, 396), EPERM);
    assert_eq!(plain(&filter, X86, 398), ENOSYS);
    assert_eq!(answer(&filter, X86, 117, [21, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86, 117, [22, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn calls_newer_than_the_profile_are_not_there() {
    let rules = r#"{"names":["read","statx"],"action":"SCMP_ACT_ALLOW"}"#;
    let filter = compiled(&denying(rules));
    assert_eq!(plain(&filter, X86_64, 332), ALLOW);
    assert_eq!(plain(&filter, X86_64, 331), EPERM);
    for nr in [333, 500, 0x3fff_ffff, 0x8000_0000] {
        assert_eq!(plain(&filter, X86_64, nr), ENOSYS, "{nr:#x}");
    }
    assert_eq!(plain(&filter, X86_64, 0x4000_0000 + 500), KILL);

    for default in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let profile = format!(r#"{{"defaultAction":"{default}","syscalls":[{rules}]}}"#);
        assert_eq!(plain(&compiled(&profile), X86_64, 333), ENOSYS, "{default}");
    }
    for default in ["SCMP_ACT_TRACE", "SCMP_ACT_LOG"] {
        let profile = format!(r#"{{"defaultAction":"{default}","syscalls":[{rules}]}}"#);
        assert_ne!(plain(&compiled(&profile), X86_64, 333), ENOSYS, "{default}");
    }
    // A rule that only repeats the default still says that the profile knows the call.
    let knows = denying(&format!(r#"{rules},{}"#, rule("openat2", "SCMP_ACT_ERRNO", "")));
    assert_eq!(plain(&compiled(&knows), X86_64, 437), EPERM);
    assert_eq!(plain(&compiled(&knows), X86_64, 438), ENOSYS);
}

#[test]
fn the_call_behind_unknown_calls_of_s390_is_not_there() {
    let profile = denying(&rule("statx", "SCMP_ACT_ALLOW", ""));
    let filter = compiled_for("SCMP_ARCH_S390X", &profile).unwrap();
    for (nr, expected) in [(0, ENOSYS), (1, EPERM), (379, ALLOW), (380, ENOSYS)] {
        let call = Call { nr, arch: 0x8000_0016, args: [0; 6] };
        assert_eq!(run(&filter.program, &call, true).unwrap(), expected, "{nr}");
    }
}

#[test]
fn unknown_names_are_a_warning_or_an_error() {
    let profile = denying(r#"{"names":["read","no_such"],"action":"SCMP_ACT_ALLOW"}"#);
    let filter = compiled(&profile);
    assert_eq!(filter.warnings, ["seccomp: unknown system call \"no_such\" is ignored"]);
    assert_eq!(plain(&filter, X86_64, READ), ALLOW);

    let profile: Seccomp<'_> = serde_json::from_str(&profile).unwrap();
    let strict = CompileOptions { fail_unknown_syscall: true, ..options("SCMP_ARCH_X86_64") };
    assert_eq!(
        compile(&profile, &strict).unwrap_err().to_string(),
        "seccomp: unknown system call \"no_such\" (config.json: linux.seccomp.syscalls[0].names[1])"
    );
}

#[test]
fn flags_are_absent_empty_or_named() {
    let flags =
        |text: &str| compiled(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{text}}}"#)).flags;
    assert_eq!(flags(""), 4);
    assert_eq!(flags(r#","flags":null"#), 4);
    assert_eq!(flags(r#","flags":[]"#), 0);
    assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC"]"#), 2);
    let notify = r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"listenerPath":"/l",
        "syscalls":[{"names":["open"],"action":"SCMP_ACT_NOTIFY"}]"#;
    assert_eq!(flags(notify), 32 | 8);
}

#[test]
fn what_is_not_valid_is_named() {
    let cases = [
        (r#"{"syscalls":[{"names":["read"]}]}"#, "config.json: linux.seccomp.defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_NONE"}"#, "\"SCMP_ACT_NONE\" is not a valid action"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "cannot be used as default action"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#,
            "linux.seccomp.defaultErrnoRet",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#, "cannot return 4096"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_VAX"]}"#,
            "\"SCMP_ARCH_VAX\" is not a valid arch for seccomp (config.json: linux.seccomp.architectures[1])",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#, "linux.seccomp.flags[0]"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            "needs a rule with SCMP_ACT_NOTIFY",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["open"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            "SCMP_ACT_NOTIFY needs a listenerPath",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#, "needs a listenerPath"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
    ];
    for (profile, expected) in cases {
        let found = refusal(profile);
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
    let trap = rule("open", "SCMP_ACT_TRAP", "").replace('}', r#","errnoRet":1}"#);
    let cases = [
        (trap, "SCMP_ACT_TRAP takes no errno (config.json: linux.seccomp.syscalls[0].errnoRet)"),
        (rule("", "SCMP_ACT_ALLOW", ""), "linux.seccomp.syscalls[0].names[0]"),
        (
            rule("open", "SCMP_ACT_ALLOW", &arg(6, "EQ", 1)),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        (rule("open", "SCMP_ACT_ALLOW", &arg(0, "IS", 1)), "linux.seccomp.syscalls[0].args[0].op"),
    ];
    for (rules, expected) in cases {
        let found = refusal(&denying(&rules));
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

#[test]
fn a_profile_with_one_answer_is_one_instruction() {
    let filter = compiled(r#"{"defaultAction":"SCMP_ACT_KILL"}"#);
    assert_eq!(filter.program.len(), 1);
    assert_eq!(plain(&filter, X86_64, READ), KILL);
}

#[test]
fn a_filter_knows_what_it_lets_pass_here() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","open"],"action":"SCMP_ACT_ALLOW"},
        {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    let filter = compiled_for(Arch::native().name, profile).unwrap();
    assert!(filter.allows(libc::SYS_read));
    assert!(!filter.allows(libc::SYS_write));
    assert!(!filter.allows(libc::SYS_close));
    assert!(!filter.allows(-1));
}

#[test]
fn an_empty_profile_is_no_seccomp() {
    let profile: Seccomp<'_> = serde_json::from_str("{}").unwrap();
    assert_eq!(compile(&profile, &CompileOptions::default()).unwrap(), None);
}

#[test]
fn an_architecture_of_the_other_byte_order_is_left_out() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_S390X"],
        "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let filter = compiled(profile);
    assert_eq!(plain(&filter, 0x8000_0016, 3), KILL);
    assert_eq!(filter.warnings.len(), 1);
}

#[test]
fn a_program_the_kernel_would_refuse_is_refused_here() {
    let rules: Vec<String> = (0..1500)
        .map(|value| rule("open", "SCMP_ACT_ALLOW", &arg(0, "EQ", value << 32 | value)))
        .collect();
    let found = refusal(&denying(&rules.join(",")));
    assert!(found.contains("BPF instructions (config.json: linux.seccomp)"), "{found}");
    // Half of it fits, and is searched over more than one jump's reach.
    let filter = compiled(&denying(&rules[..700].join(",")));
    assert_eq!(answer(&filter, X86_64, OPEN, [699 << 32 | 699, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, X86_64, OPEN, [699 << 32 | 698, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(plain(&filter, X86_64, READ), EPERM);
}

#[test]
fn every_architecture_compiles_and_ends() {
    for arch in &ARCHES {
        let profile = denying(r#"{"names":["read","write","statx"],"action":"SCMP_ACT_ALLOW"}"#);
        let filter = compiled_for(arch.name, &profile).unwrap();
        let allowed = (0..0x2000)
            .filter(|nr| {
                let call = Call {
                    nr: arch.base + nr - arch.base % 0x1000,
                    arch: arch.token,
                    args: [0; 6],
                };
                run(&filter.program, &call, arch.big_endian).unwrap() == ALLOW
            })
            .count();
        assert_eq!(allowed, 3, "{}", arch.name);
    }
}

/// A filter is for one thread and what it starts, so a thread of its own is enough to try one.
fn under(filter: Filter, act: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        let listener = crate::sys::seccomp::load(&filter.program, filter.flags).unwrap();
        assert_eq!(listener.is_some(), filter.notify);
        drop(listener);
        act();
    });
    thread.join().unwrap();
}

#[test]
fn the_kernel_takes_the_program_and_answers_as_it_says() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":100},
        {"names":["getpriority"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":77,"op":"SCMP_CMP_EQ"}]}]}"#;
    let profile: Seccomp<'_> = serde_json::from_str(profile).unwrap();
    let filter = compile(&profile, &CompileOptions::default()).unwrap().unwrap();
    under(filter, || {
        let made = std::fs::create_dir("/this/is/not/made").unwrap_err();
        assert_eq!(made.raw_os_error(), Some(libc::ENETDOWN));
        assert!(std::fs::read("/proc/self/comm").is_ok());
    });
}

#[test]
fn a_filter_with_notify_returns_a_listener() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/l",
        "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let profile: Seccomp<'_> = serde_json::from_str(profile).unwrap();
    let filter = compile(&profile, &CompileOptions::default()).unwrap().unwrap();
    // The listener is closed at once, which the kernel answers with ENOSYS.
    under(filter, || {
        let made = std::fs::create_dir("/this/is/not/made").unwrap_err();
        assert_eq!(made.raw_os_error(), Some(libc::ENOSYS));
    });
}
