//! From rules to a program: intervals of numbers that have one answer each, searched by halves.

use super::arch::X32_BIT;
use super::assembler::{Assembler, Jump, Target};
use super::conditions::Tree;
use super::rules::{Leaf, Rules};
use super::tables::Column;
use crate::sys::seccomp::Instruction;

/// Offset of `seccomp_data.nr`.
const NR: u32 = 0;
/// Offset of `seccomp_data.arch`.
const ARCH: u32 = 4;

/// What a filter answers besides what its rules say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    /// To a call without a rule.
    pub(super) default: u32,
    /// To an architecture the profile does not name.
    pub(super) bad_arch: u32,
    /// To a call newer than the newest the profile names; `None` leaves it to `default`.
    pub(super) newer: Option<u32>,
}

/// From `start` on, up to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    start: u32,
    leaf: Leaf,
}

/// Writes the program for `all`, the native architecture first.
pub(super) fn assemble(all: &[Rules], trees: &[Tree], answers: Answers) -> Vec<Instruction> {
    let mut assembler = Assembler::with_capacity(1024);
    let mut next = Target::Return(answers.bad_arch);
    for (at, rules) in all.iter().enumerate().rev() {
        let token = rules.arch.token;
        // x86_64 and x32 are one architecture to the kernel: the first of them brings the other along.
        if all.iter().take(at).any(|earlier| earlier.arch.token == token) {
            continue;
        }
        let partner = all.iter().skip(at + 1).find(|later| later.arch.token == token);
        let intervals = Intervals::new(answers).of(rules, partner);
        let default = Target::Return(answers.default);
        let mut search = Search { trees, default, assembler: &mut assembler };
        let section = search.emit(&intervals);
        let section = match section {
            Target::At(_) => assembler.load(NR),
            Target::Return(_) => section,
        };
        next = assembler.branch(Jump::Eq, token, section, next);
    }
    if matches!(next, Target::At(_)) {
        next = assembler.load(ARCH);
    }
    assembler.finish(next)
}

/// Intervals in ascending order, neighbours of one answer made one.
#[derive(Debug)]
struct Intervals {
    found: Vec<Interval>,
    answers: Answers,
}

impl Intervals {
    fn new(answers: Answers) -> Self {
        Self { found: Vec::with_capacity(256), answers }
    }

    fn of(mut self, rules: &Rules, partner: Option<&Rules>) -> Vec<Interval> {
        let is_x32 = |rules: &&Rules| rules.arch.base == X32_BIT;
        let both = [Some(rules), partner];
        let x32 = both.into_iter().flatten().find(is_x32);
        let x86_64 = both.into_iter().flatten().find(|rules| !is_x32(rules));
        match (x86_64, x32) {
            (Some(rules), None) if rules.arch.column != Column::X86_64 => {
                self.fill(0, u32::MAX, Some(rules), self.answers.default);
            }
            (x86_64, x32) => self.fill_x86(x86_64, x32),
        }
        self.found
    }

    /// The kernel takes the call for one of x32 where bit 30 is set; -1 is a call a tracer has skipped, never bad.
    fn fill_x86(&mut self, x86_64: Option<&Rules>, x32: Option<&Rules>) {
        let Answers { default, bad_arch, .. } = self.answers;
        let below = if x86_64.is_some() { default } else { bad_arch };
        let above = if x32.is_some() { default } else { bad_arch };
        self.fill(0, X32_BIT - 1, x86_64, below);
        self.fill(X32_BIT, 2 * X32_BIT - 1, x32, above);
        self.fill(2 * X32_BIT, 3 * X32_BIT - 1, x86_64, above);
        self.fill(3 * X32_BIT, u32::MAX - 1, x32, above);
        self.fill(u32::MAX, u32::MAX, x32, default);
    }

    /// Covers `start` to `end` with what `rules` say, and `gap` where they say nothing.
    fn fill(&mut self, start: u32, end: u32, rules: Option<&Rules>, gap: u32) {
        let Some(rules) = rules else { return self.push(start, Leaf::Return(gap)) };
        let newer = self.answers.newer.zip(rules.newest);
        let mut next = start;
        if let Some((answer, _)) = newer
            && rules.arch.unknown_is_zero
        {
            self.push(0, Leaf::Return(answer));
            next = 1;
        }
        for (number, leaf) in rules.leaves().skip_while(|(number, _)| *number < start) {
            if number > end {
                break;
            }
            if number > next {
                self.fill_gap(next, number - 1, gap, newer);
            }
            self.push(number, leaf);
            next = number + 1;
        }
        if next <= end {
            self.fill_gap(next, end, gap, newer);
        }
    }

    fn fill_gap(&mut self, start: u32, end: u32, gap: u32, newer: Option<(u32, u32)>) {
        match newer {
            Some((answer, newest)) if start > newest => self.push(start, Leaf::Return(answer)),
            Some((answer, newest)) if end > newest => {
                self.push(start, Leaf::Return(gap));
                self.push(newest + 1, Leaf::Return(answer));
            }
            _ => self.push(start, Leaf::Return(gap)),
        }
    }

    fn push(&mut self, start: u32, leaf: Leaf) {
        if self.found.last().is_none_or(|last| last.leaf != leaf) {
            self.found.push(Interval { start, leaf });
        }
    }
}

struct Search<'a> {
    trees: &'a [Tree],
    default: Target,
    assembler: &'a mut Assembler,
}

impl Search<'_> {
    fn emit(&mut self, intervals: &[Interval]) -> Target {
        match intervals {
            [] => self.default,
            [one] => self.leaf(one.leaf),
            // A single number among others of one answer needs one comparison, not two.
            [before, one, after]
                if before.leaf == after.leaf && one.start.checked_add(1) == Some(after.start) =>
            {
                let (then, otherwise) = (self.leaf(one.leaf), self.leaf(before.leaf));
                self.assembler.branch(Jump::Eq, one.start, then, otherwise)
            }
            several => {
                // An odd left half is what makes the case above frequent.
                let (left, right) = several.split_at((several.len() / 2) | 1);
                let Some(first) = right.first() else { return self.emit(left) };
                let (then, otherwise) = (self.emit(right), self.emit(left));
                self.assembler.branch(Jump::Ge, first.start, then, otherwise)
            }
        }
    }

    fn leaf(&mut self, leaf: Leaf) -> Target {
        match leaf {
            Leaf::Return(value) => Target::Return(value),
            Leaf::Tree(tree) => match self.trees.get(tree) {
                Some(tree) => tree.emit(self.assembler, self.default),
                None => self.default,
            },
        }
    }
}
