//! What a profile says about one call, read from its rules one by one.

use libcontainer::seccomp::Arch;
use libcontainer::spec::{Seccomp, SeccompArg, SeccompRule};

use crate::library::{self, Numbers};
use crate::simulator::Call;

/// Returns the actions of all rules that match, or the default.
///
/// Where they are several the specification is silent, and it is the order of libseccomp that counts.
pub fn answers(profile: &Seccomp<'_>, arch: &Arch, numbers: &Numbers, call: &Call) -> Vec<u32> {
    let default = library::action(&profile.default_action, profile.default_errno_ret);
    let mut matching = Vec::new();
    for rule in profile.syscalls.iter() {
        let action = library::action(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        for name in rule.names.iter() {
            let direct = numbers.direct.get(name.as_str()) == Some(&call.nr);
            let through = match numbers.multiplexed.get(name.as_str()) {
                Some(sub) if arch.multiplexed => {
                    let (number, sub) = if *sub > 200 { (117, *sub - 200) } else { (102, *sub) };
                    (call.nr == arch.base + number).then_some(sub)
                }
                _ => None,
            };
            match (direct, through) {
                (false, None) => {}
                (true, _) if all_hold_always(rule, arch) => return vec![action],
                (_, Some(sub)) => {
                    if call.args[0] & width(arch) == u64::from(sub)
                        && holds_without_first(rule, arch, call)
                    {
                        matching.push(action);
                    }
                }
                (true, None) => {
                    if rule_holds(rule, arch, call) {
                        matching.push(action);
                    }
                }
            }
        }
    }
    if matching.is_empty() {
        matching.push(default);
    }
    matching
}

fn repeated(rule: &SeccompRule<'_>) -> bool {
    (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1)
}

/// Two conditions on one argument make each condition a rule of its own.
fn all_hold_always(rule: &SeccompRule<'_>, arch: &Arch) -> bool {
    let mut always = rule.args.iter().map(|arg| always(arg, arch));
    if repeated(rule) { always.any(|always| always) } else { always.all(|always| always) }
}

fn rule_holds(rule: &SeccompRule<'_>, arch: &Arch, call: &Call) -> bool {
    let mut holding = rule.args.iter().map(|arg| holds(arg, arch, call));
    if repeated(rule) { holding.any(|holds| holds) } else { holding.all(|holds| holds) }
}

/// The first argument of a multiplexer is taken, so a condition on it is lost.
fn holds_without_first(rule: &SeccompRule<'_>, arch: &Arch, call: &Call) -> bool {
    let mut holding = rule.args.iter().map(|arg| arg.index == 0 || holds(arg, arch, call));
    if repeated(rule) { holding.any(|holds| holds) } else { holding.all(|holds| holds) }
}

fn width(arch: &Arch) -> u64 {
    if arch.wide { u64::MAX } else { 0xffff_ffff }
}

fn always(arg: &SeccompArg<'_>, arch: &Arch) -> bool {
    &*arg.op == "SCMP_CMP_MASKED_EQ" && arg.value & width(arch) == 0
}

fn holds(arg: &SeccompArg<'_>, arch: &Arch, call: &Call) -> bool {
    let narrow = |value: u64| value & width(arch);
    let given = narrow(call.args[arg.index as usize]);
    let (value, second) = (narrow(arg.value), narrow(arg.value_two.unwrap_or(0)));
    match &*arg.op {
        "SCMP_CMP_EQ" => given == value,
        "SCMP_CMP_NE" => given != value,
        "SCMP_CMP_LT" => given < value,
        "SCMP_CMP_LE" => given <= value,
        "SCMP_CMP_GE" => given >= value,
        "SCMP_CMP_GT" => given > value,
        _ => given & value == second & value,
    }
}
