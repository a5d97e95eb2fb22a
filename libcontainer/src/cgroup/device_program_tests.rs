//! The device program, run by a small interpreter and compared with the rules read word by word.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an interpreter of small numbers"
)]

use super::super::device::{MKNOD, READ, WRITE};
use super::*;
use crate::spec::DeviceRule;

/// Runs the program as the kernel would; panics on anything the verifier would refuse.
fn run(program: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let kind = match kind {
        Kind::Block => 1_u32,
        Kind::Char => 2,
    };
    let context = [kind | u32::from(access) << 16, major, minor];
    let mut registers = [None::<u64>; 11];
    let mut at = 0_usize;
    loop {
        let op = program[at];
        let (to, from) = (op.destination() as usize, op.source() as usize);
        let value = |n: usize| registers[n].expect("a register is read before it is written");
        let operand = i64::from(op.immediate) as u64;
        let mut jump = false;
        match op.code {
            LOAD_WORD => {
                assert_eq!(from, CONTEXT as usize);
                registers[to] = Some(u64::from(context[op.offset as usize / 4]));
            }
            MOVE => registers[to] = Some(operand),
            MOVE_REGISTER => registers[to] = Some(value(from)),
            AND => registers[to] = Some(value(to) & operand),
            SHIFT_RIGHT => registers[to] = Some(value(to) >> operand),
            JUMP => jump = true,
            JUMP_EQUAL => jump = value(to) == operand,
            JUMP_NOT_EQUAL => jump = value(to) != operand,
            JUMP_SET => jump = value(to) & operand != 0,
            EXIT => return value(0) == 1,
            other => panic!("unknown operation {other:#x}"),
        }
        assert!(op.offset >= 0, "the kernel sees no loop");
        at += 1 + if jump { op.offset as usize } else { 0 };
    }
}

/// Every instruction must be reachable, or the verifier refuses the program.
fn reachable(program: &[Instruction]) -> bool {
    let mut seen = vec![false; program.len()];
    let mut work = vec![0];
    while let Some(at) = work.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let op = program[at];
        match op.code {
            EXIT => {}
            JUMP => work.push(at + 1 + op.offset as usize),
            JUMP_EQUAL | JUMP_NOT_EQUAL | JUMP_SET => {
                work.extend([at + 1, at + 1 + op.offset as usize]);
            }
            _ => work.push(at + 1),
        }
    }
    seen.iter().all(|seen| *seen)
}

/// For each kind of access the last rule that names it and the device decides.
fn by_the_rules(rules: &Rules, kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let last = rules.list.iter().rev().find(|rule| {
            rule.kind == kind
                && rule.access & bit != 0
                && rule.major.is_none_or(|n| n == major)
                && rule.minor.is_none_or(|n| n == minor)
        });
        last.map_or(rules.default_allow, |rule| rule.allow)
    })
}

fn compare(rules: &Rules) {
    let program = program(rules);
    assert!(reachable(&program), "{rules:?}");
    for kind in [Kind::Block, Kind::Char] {
        for access in 1..=ALL {
            for major in [0, 1, 2, 5, 8, 10, 136, 300] {
                for minor in [0, 1, 2, 3, 5, 9, 200, 229, 70_000] {
                    assert_eq!(
                        run(&program, kind, access, major, minor),
                        by_the_rules(rules, kind, access, major, minor),
                        "{kind:?} {major}:{minor} {access:#b} with {rules:?}"
                    );
                }
            }
        }
    }
}

fn parsed(json: &str) -> Rules {
    let rules: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
    Rules::new(&rules, true).unwrap()
}

#[test]
fn dockers_list_is_short_and_exact() {
    let rules = parsed(
        r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
            {"allow":true,"type":"c","major":5,"minor":0,"access":"rwm"},
            {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"},
            {"allow":true,"type":"b","major":8,"access":"r"}]"#,
    );
    assert!(program(&rules).len() <= 42, "{}", program(&rules).len());
    compare(&rules);
}

#[test]
fn holes_and_denials_are_honoured() {
    compare(&parsed("[]"));
    compare(&parsed(r#"[{"allow":true}]"#));
    for json in [
        // A hole in a wildcard, which version 1 cannot express.
        r#"[{"allow":true,"type":"c","major":1},{"allow":false,"type":"c","major":1,"minor":3},
            {"allow":true,"type":"c","major":1,"minor":3,"access":"r"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"b"},{"allow":true,"type":"b","major":8,"access":"rw"},
            {"allow":false,"type":"b","major":8,"minor":1,"access":"w"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c","major":10,"minor":229,"access":"w"}]"#,
    ] {
        let rules: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
        compare(&Rules::new(&rules, false).unwrap());
    }
}

#[test]
fn any_rules_give_a_program_that_agrees_with_them() {
    let mut seed = 2026_u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..400 {
        let mut rules = Rules { default_allow: below(4) == 0, list: Vec::new() };
        for _ in 0..below(14) {
            rules.list.push(Rule {
                allow: below(2) == 0,
                kind: if below(3) == 0 { Kind::Block } else { Kind::Char },
                major: [None, Some(1), Some(5), Some(8), Some(136)][below(5) as usize],
                minor: [None, Some(0), Some(1), Some(3)][below(4) as usize],
                access: if below(2) == 0 { ALL } else { below(7) as u8 + 1 },
            });
        }
        compare(&rules);
    }
}
