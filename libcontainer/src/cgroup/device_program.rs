//! The device program of version 2: [`Rules`] as eBPF.
//!
//! The kernel runs it at each open and mknod with a `struct bpf_cgroup_dev_ctx`. Of the access asked for, each bit is
//! decided by the last rule that names it; so the rules are tried from the last to the first, and a register keeps
//! the bits nobody has decided. Where order does not matter (nearly always) each device is tested once, and devices
//! of one major number share its test: Docker's list becomes 34 instructions.

use super::device::{ALL, Kind, Rule, Rules};
use crate::sys::bpf::Instruction;

/// The name the program is loaded under, by which `update` knows it again.
pub(super) const NAME: &[u8] = b"skep_devices";

// Registers: the context comes in r1, the verdict goes out in r0.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operation codes (Documentation/bpf/standardization/instruction-set.rst).
pub(super) const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
pub(super) const MOVE: u8 = 0xb7; // ALU64 | MOV | K
pub(super) const MOVE_REGISTER: u8 = 0xbf; // ALU64 | MOV | X
pub(super) const AND: u8 = 0x57; // ALU64 | AND | K
pub(super) const SHIFT_RIGHT: u8 = 0x77; // ALU64 | RSH | K
pub(super) const JUMP: u8 = 0x05; // JMP | JA
pub(super) const JUMP_EQUAL: u8 = 0x15; // JMP | JEQ | K
pub(super) const JUMP_NOT_EQUAL: u8 = 0x55; // JMP | JNE | K
pub(super) const JUMP_SET: u8 = 0x45; // JMP | JSET | K
pub(super) const EXIT: u8 = 0x95; // JMP | EXIT

/// Where a jump goes, before the distances are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Behind the block being written.
    Next,
    Allow,
    Deny,
}

#[derive(Debug, Default)]
struct Assembler {
    code: Vec<Instruction>,
    /// Jumps of the present block that leave it.
    open: Vec<usize>,
    /// Jumps to the two ends.
    ends: Vec<(usize, Target)>,
}

impl Assembler {
    fn put(&mut self, code: u8, destination: u8, source: u8, offset: i16, immediate: i32) {
        self.code.push(Instruction::new(code, destination, source, offset, immediate));
    }

    /// A jump, or a comparison of a register with a number that jumps.
    fn jump(&mut self, code: u8, register: u8, operand: u32, to: Target) {
        match to {
            Target::Next => self.open.push(self.code.len()),
            end => self.ends.push((self.code.len(), end)),
        }
        // Comparisons with an immediate sign-extend it to 64 bits; majors and minors stay far below 2^31.
        self.put(code, register, 0, 0, operand.cast_signed());
    }

    fn aim(&mut self, from: usize, to: usize) {
        let distance = i16::try_from(to - from - 1).unwrap_or(i16::MAX);
        if let Some(jump) = self.code.get_mut(from) {
            jump.offset = distance;
        }
    }

    /// Ends a block: what jumped to [`Target::Next`] lands here.
    fn end_block(&mut self) {
        for from in std::mem::take(&mut self.open) {
            self.aim(from, self.code.len());
        }
    }

    /// Writes both ends and resolves the jumps to them.
    fn finish(mut self, default_allow: bool) -> Vec<Instruction> {
        for (verdict, target) in
            [(default_allow, None), (true, Some(Target::Allow)), (false, Some(Target::Deny))]
        {
            let wanted: Vec<usize> = self
                .ends
                .iter()
                .filter(|(_, to)| Some(*to) == target)
                .map(|(from, _)| *from)
                .collect();
            // The verifier refuses code nothing reaches.
            if target.is_some() && wanted.is_empty() {
                continue;
            }
            for from in wanted {
                self.aim(from, self.code.len());
            }
            self.put(MOVE, VERDICT, 0, 0, i32::from(verdict));
            self.put(EXIT, 0, 0, 0, 0);
        }
        self.code
    }
}

/// The program for `rules`.
pub(super) fn program(rules: &Rules) -> Vec<Instruction> {
    let list = match rules.exceptions() {
        Ok(mut exceptions) => {
            // Whole access first, then by number: neighbours share tests.
            exceptions.sort_by_key(|rule| (rule.access != ALL, rule.kind, rule.major, rule.minor));
            exceptions
        }
        Err(_order_matters) => rules.list.iter().rev().copied().collect(),
    };
    let mut out = Assembler::default();
    if !list.is_empty() {
        // The low half of the first word is the kind (1 block, 2 char), the high half the access.
        out.put(LOAD_WORD, KIND, CONTEXT, 0, 0);
        out.put(MOVE_REGISTER, ACCESS, KIND, 0, 0);
        out.put(AND, KIND, 0, 0, 0xffff);
        out.put(SHIFT_RIGHT, ACCESS, 0, 0, 16);
        out.put(LOAD_WORD, MAJOR, CONTEXT, 4, 0);
        out.put(LOAD_WORD, MINOR, CONTEXT, 8, 0);
    }
    for rules in list.chunk_by(share_tests) {
        block(&mut out, rules);
    }
    out.finish(rules.default_allow)
}

/// Whether two neighbours differ only in their minor number and decide the whole access.
fn share_tests(a: &Rule, b: &Rule) -> bool {
    let whole = |rule: &Rule| rule.access == ALL && rule.major.is_some() && rule.minor.is_some();
    whole(a) && whole(b) && a.allow == b.allow && a.kind == b.kind && a.major == b.major
}

fn block(out: &mut Assembler, rules: &[Rule]) {
    let Some(rule) = rules.first() else { return };
    let kind = match rule.kind {
        Kind::Block => 1,
        Kind::Char => 2,
    };
    out.jump(JUMP_NOT_EQUAL, KIND, kind, Target::Next);
    if let Some(major) = rule.major {
        out.jump(JUMP_NOT_EQUAL, MAJOR, major, Target::Next);
    }
    let verdict = if rule.allow { Target::Allow } else { Target::Deny };
    if rule.access == ALL {
        // Whatever is left undecided is decided here.
        let minors: Vec<u32> = rules.iter().filter_map(|rule| rule.minor).collect();
        for &minor in &minors {
            out.jump(JUMP_EQUAL, MINOR, minor, verdict);
        }
        if minors.is_empty() {
            out.jump(JUMP, 0, 0, verdict);
        }
    } else {
        if let Some(minor) = rule.minor {
            out.jump(JUMP_NOT_EQUAL, MINOR, minor, Target::Next);
        }
        let bits = u32::from(rule.access);
        if rule.allow {
            out.put(AND, ACCESS, 0, 0, i32::from(ALL & !rule.access));
            out.jump(JUMP_EQUAL, ACCESS, 0, Target::Allow);
        } else {
            out.jump(JUMP_SET, ACCESS, bits, Target::Deny);
        }
    }
    out.end_block();
}

#[cfg(test)]
#[path = "device_program_tests.rs"]
mod tests;
