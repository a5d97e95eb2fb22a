//! From rules to a program: intervals of numbers that have one answer each, searched by halves.

use super::arch::X32_BIT;
use super::assembler::{Assembler, Jump, Target};
use super::conditions::Forest;
use super::rules::{Leaf, Range, Rules};
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
pub(super) fn assemble(all: &[Rules], forest: &Forest, answers: Answers) -> Vec<Instruction> {
    let mut assembler = Assembler::with_capacity(512);
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
        let mut search = Search { forest, default, assembler: &mut assembler };
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
                self.fill(0, Some(rules), self.answers.default);
            }
            (x86_64, x32) => self.fill_x86(x86_64, x32),
        }
        self.found
    }

    /// The kernel takes a call for one of x32 where bit 30 is set; -1 is a call a tracer has skipped, never bad.
    fn fill_x86(&mut self, x86_64: Option<&Rules>, x32: Option<&Rules>) {
        let Answers { default, bad_arch, .. } = self.answers;
        let above = if x32.is_some() { default } else { bad_arch };
        self.fill(0, x86_64, if x86_64.is_some() { default } else { bad_arch });
        self.fill(X32_BIT, x32, above);
        self.push(2 * X32_BIT, self.beyond(x86_64, above));
        self.push(3 * X32_BIT, self.beyond(x32, above));
        self.push(u32::MAX, self.beyond(x32, default));
    }

    /// Covers the numbers from `start` on with what `rules` say, and with `gap` where they say nothing.
    fn fill(&mut self, start: u32, rules: Option<&Rules>, gap: u32) {
        self.push(start, Leaf::Return(gap));
        let Some(rules) = rules else { return };
        let beyond = self.beyond(Some(rules), gap);
        let gap = Leaf::Return(gap);
        for Range { start, leaves, known } in rules.ranges() {
            let known = known.unwrap_or(leaves.len());
            let mut last = None;
            for ((at, leaf), number) in leaves.iter().enumerate().zip(start..) {
                let leaf = leaf.unwrap_or(if at < known { gap } else { beyond });
                if last.replace(leaf) != Some(leaf) {
                    self.push(number, leaf);
                }
            }
            // One that is known can only be in the next range.
            let end = start.saturating_add(u32::try_from(leaves.len()).unwrap_or(u32::MAX));
            self.push(end, if known > leaves.len() { gap } else { beyond });
        }
        if rules.arch.unknown_is_zero && beyond != gap {
            self.zero(beyond);
        }
    }

    /// Returns the answer to a number that is newer than all `rules` name.
    fn beyond(&self, rules: Option<&Rules>, otherwise: u32) -> Leaf {
        let known = rules.is_some_and(Rules::any_known);
        Leaf::Return(self.answers.newer.filter(|_| known).unwrap_or(otherwise))
    }

    /// Answers `leaf` to number 0, which has no rule.
    fn zero(&mut self, leaf: Leaf) {
        let Some(first) = self.found.first_mut() else { return };
        let rest = Interval { start: 1, leaf: first.leaf };
        first.leaf = leaf;
        if self.found.get(1).is_none_or(|second| second.start > 1) {
            self.found.insert(1, rest);
        }
    }

    fn push(&mut self, start: u32, leaf: Leaf) {
        if self.found.last().is_none_or(|last| last.leaf != leaf) {
            self.found.push(Interval { start, leaf });
        }
    }
}

struct Search<'a> {
    forest: &'a Forest,
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
            Leaf::Tree(tree) => self.forest.emit(tree, self.assembler, self.default),
        }
    }
}
