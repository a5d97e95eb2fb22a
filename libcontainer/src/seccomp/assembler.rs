//! Writes a filter from its last instruction to its first.
//!
//! A classic BPF jump goes forward, and a conditional one at most 255 instructions. Written backwards, every
//! target exists before the jump to it and its distance is known, so a target out of reach is brought near at
//! once: a `ret` by a copy of it, anything else by a `ja` to it.

use crate::sys::seccomp::Instruction;

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JA: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const RET: u16 = 0x06;

/// How far a conditional jump reaches.
const REACH: usize = u8::MAX as usize;

/// What a conditional jump compares, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Jump {
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    Eq = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    Gt = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    Ge = 0x35,
}

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A `ret` of this value, wherever one is.
    Return(u32),
    /// An instruction, counted from the end of the program.
    At(usize),
}

/// A filter under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    backwards: Vec<Instruction>,
    /// Where the nearest `ret` of a value is.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    /// Makes an assembler with room for `len` instructions.
    pub(super) fn with_capacity(len: usize) -> Self {
        Self { backwards: Vec::with_capacity(len), returns: Vec::new() }
    }

    /// Writes a load of the word at `offset` of `seccomp_data`, before the last written instruction.
    pub(super) fn load(&mut self, offset: u32) -> Target {
        self.push(LOAD, 0, 0, offset)
    }

    /// Writes a mask of the accumulator, before the last written instruction.
    pub(super) fn and(&mut self, mask: u32) -> Target {
        self.push(AND, 0, 0, mask)
    }

    /// Writes a comparison of the accumulator with `k`; nothing where both ways are the same.
    pub(super) fn branch(&mut self, jump: Jump, k: u32, then: Target, otherwise: Target) -> Target {
        if then == otherwise {
            return then;
        }
        // Bringing the second near may add one instruction between this one and the first.
        let then = self.near(then, 1);
        let otherwise = self.near(otherwise, 0);
        let jt = self.distance(then);
        let jf = self.distance(otherwise);
        self.push(jump as u16, jt, jf, k)
    }

    /// Returns the program, which begins at the last written instruction, or is nothing but a `ret`.
    pub(super) fn finish(mut self, entry: Target) -> Vec<Instruction> {
        if let Target::Return(value) = entry {
            self.push(RET, 0, 0, value);
        }
        self.backwards.reverse();
        self.backwards
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Target {
        self.backwards.push(Instruction { code, jt, jf, k });
        Target::At(self.backwards.len() - 1)
    }

    /// Returns an instruction in reach of the one to be written after `slack` more.
    fn near(&mut self, target: Target, slack: usize) -> usize {
        let here = self.backwards.len();
        let reached = |at: usize| here + slack - at - 1 <= REACH;
        match target {
            Target::At(at) if reached(at) => at,
            Target::At(at) => {
                let k = u32::try_from(here - at - 1).unwrap_or(u32::MAX);
                self.push(JA, 0, 0, k);
                here
            }
            Target::Return(value) => {
                let known = self.returns.iter_mut().find(|(known, _)| *known == value);
                match known {
                    Some((_, at)) if reached(*at) => return *at,
                    Some((_, at)) => *at = here,
                    None => self.returns.push((value, here)),
                }
                self.push(RET, 0, 0, value);
                here
            }
        }
    }

    fn distance(&self, at: usize) -> u8 {
        u8::try_from(self.backwards.len() - at - 1).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulator::{Call, run};
    use super::*;

    fn answer(program: &[Instruction], nr: u32) -> u32 {
        run(program, &Call { nr, arch: 0, args: [0; 6] }, false).unwrap()
    }

    #[test]
    fn a_chain_longer_than_a_jump_reaches_still_gets_everywhere() {
        let mut assembler = Assembler::default();
        let mut next = Target::Return(0);
        for nr in (0..1000).rev() {
            // Every fourth goes to the far end by way of one shared instruction.
            next = assembler.branch(Jump::Eq, nr, Target::Return(nr % 7 + 1), next);
        }
        let entry = assembler.load(0);
        let program = assembler.finish(entry);
        for nr in 0..1000 {
            assert_eq!(answer(&program, nr), nr % 7 + 1);
        }
        assert_eq!(answer(&program, 1000), 0);
    }

    #[test]
    fn a_far_instruction_is_reached_by_a_long_jump() {
        let mut assembler = Assembler::default();
        let far = assembler.branch(Jump::Gt, 5000, Target::Return(1), Target::Return(2));
        let mut next = Target::Return(3);
        for nr in (0..600).rev() {
            next = assembler.branch(Jump::Eq, nr, far, next);
        }
        assembler.branch(Jump::Ge, 4000, far, next);
        let entry = assembler.load(0);
        let program = assembler.finish(entry);
        assert_eq!(answer(&program, 0), 2);
        assert_eq!(answer(&program, 599), 2);
        assert_eq!(answer(&program, 600), 3);
        assert_eq!(answer(&program, 4000), 2);
        assert_eq!(answer(&program, 5001), 1);
    }

    #[test]
    fn two_equal_ways_need_no_comparison() {
        let mut assembler = Assembler::default();
        let target = assembler.branch(Jump::Eq, 1, Target::Return(9), Target::Return(9));
        assert_eq!(target, Target::Return(9));
        let program = assembler.finish(target);
        assert_eq!(program.len(), 1);
        assert_eq!(answer(&program, 1), 9);
    }
}
