//! What the rules of a profile say, per architecture and system call.

use super::arch::Arch;
use super::conditions::{Condition, Conflict, Forest, Layout, Operator, significant};
use super::tables::{self, Column, Multiplexer, NONE, PRIVATE};

/// socketcall(2) relative to the base, on every architecture that has it.
const SOCKETCALL: usize = 102;
/// ipc(2), the same.
const IPC: usize = 117;

/// Room for arm's private calls behind the ordinary ones.
const PRIVATE_SPAN: usize = 16;
/// Where arm's private calls are.
const PRIVATE_BASE: u32 = 0x000f_0000;

/// What a filter answers to one number, or to an interval of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// `SECCOMP_RET_*`, whatever the arguments.
    Return(u32),
    /// A tree of the profile's forest.
    Tree(u32),
}

/// One rule of a profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule<'a> {
    /// `SECCOMP_RET_*`.
    pub(super) action: u32,
    /// All of them must hold; they are on different arguments, in ascending order.
    pub(super) conditions: &'a [Condition],
}

/// A rule contradicts an earlier one on the call in this row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contradiction(pub(super) usize);

/// The rules of one architecture.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) arch: &'static Arch,
    numbers: &'static [u16],
    /// One per number from the base on, then arm's private calls.
    leaves: Vec<Option<Leaf>>,
    /// The newest call any rule names, be its action the default or not: an index into `leaves`.
    newest: Option<usize>,
}

/// Numbers without a gap, and what is said of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<'a> {
    pub(super) start: u32,
    /// `None` where there is no rule.
    pub(super) leaves: &'a [Option<Leaf>],
    /// How many of them are not newer than the profile; `None` where it names no call of this architecture.
    pub(super) known: Option<usize>,
}

impl Rules {
    /// Makes the rules of `arch`: none yet.
    pub(super) fn new(arch: &'static Arch) -> Self {
        let leaves = vec![None; usize::from(tables::span(arch.column)) + PRIVATE_SPAN];
        Self { arch, numbers: tables::numbers(arch.column), leaves, newest: None }
    }

    /// Returns the numbers the architecture has: the ordinary ones, then arm's private ones.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<'_>> {
        let (ordinary, private) = self.leaves.split_at(self.span());
        let private = if self.arch.column == Column::Arm { private } else { &[] };
        let known = |before: usize| self.newest.map(|newest| (newest + 1).saturating_sub(before));
        let ordinary = Range { start: self.arch.base, leaves: ordinary, known: known(0) };
        let private = Range { start: PRIVATE_BASE, leaves: private, known: known(self.span()) };
        [ordinary, private].into_iter().filter(|range| !range.leaves.is_empty())
    }

    /// Says whether the profile names any call of this architecture.
    pub(super) fn any_known(&self) -> bool {
        self.newest.is_some()
    }

    fn layout(&self) -> Layout {
        Layout { wide: self.arch.wide, big_endian: self.arch.big_endian }
    }

    fn index(&self, row: usize) -> Option<usize> {
        match self.numbers.get(row).copied() {
            Some(ordinary) if ordinary < PRIVATE => Some(usize::from(ordinary)),
            None | Some(NONE) => None,
            Some(private) => Some(self.span() + usize::from(private - PRIVATE)),
        }
    }

    fn span(&self) -> usize {
        self.leaves.len() - PRIVATE_SPAN
    }

    /// Notes that the profile knows the calls in `rows` of the table.
    pub(super) fn know(&mut self, rows: &[usize]) {
        self.newest = rows.iter().map(|row| self.index(*row)).fold(self.newest, Option::max);
    }

    /// Adds a rule for the calls in `rows` of the table.
    ///
    /// # Errors
    /// [`Contradiction`] where another action is already there for the same arguments.
    pub(super) fn add(
        &mut self,
        forest: &mut Forest,
        rows: &[usize],
        rule: Rule<'_>,
    ) -> Result<(), Contradiction> {
        self.know(rows);
        for row in rows.iter().copied() {
            if self.arch.multiplexed
                && let Some((multiplexer, call)) = tables::multiplexer(row)
            {
                let added = self.add_multiplexed(forest, multiplexer, call, rule);
                added.map_err(|Conflict| Contradiction(row))?;
            }
            let Some(index) = self.index(row) else { continue };
            let Some(leaf) = self.leaves.get_mut(index) else { continue };
            // A rule without conditions covers all others of its call; the first of them stands.
            match leaf {
                Some(Leaf::Return(_)) => {}
                _ if rule.conditions.is_empty() => *leaf = Some(Leaf::Return(rule.action)),
                _ => self.add_at(forest, index, rule).map_err(|Conflict| Contradiction(row))?,
            }
        }
        Ok(())
    }

    /// The first argument of a multiplexer says which call is meant. The others are not the call's (socketcall(2) has
    /// a pointer to them), so a condition on the first is lost and those on the rest compare something else; that
    /// is how libseccomp has it, and profiles are written for it.
    fn add_multiplexed(
        &mut self,
        forest: &mut Forest,
        multiplexer: Multiplexer,
        call: u8,
        Rule { action, conditions }: Rule<'_>,
    ) -> Result<(), Conflict> {
        let which =
            Condition { index: 0, operator: Operator::Eq, mask: u64::MAX, value: u64::from(call) };
        let rest = conditions.iter().filter(|condition| condition.index != 0).copied();
        let all: Vec<Condition> = std::iter::once(which).chain(rest).collect();
        let index = match multiplexer {
            Multiplexer::Socketcall => SOCKETCALL,
            Multiplexer::Ipc => IPC,
        };
        self.add_at(forest, index, Rule { action, conditions: &all })
    }

    fn add_at(
        &mut self,
        forest: &mut Forest,
        index: usize,
        Rule { action, conditions }: Rule<'_>,
    ) -> Result<(), Conflict> {
        let layout = self.layout();
        let Some(leaf) = self.leaves.get_mut(index) else { return Ok(()) };
        // A rule without conditions covers all others of its call; the first of them stands.
        if matches!(leaf, Some(Leaf::Return(_))) {
            return Ok(());
        }
        let conditions = significant(conditions, layout);
        if conditions.is_empty() {
            *leaf = Some(Leaf::Return(action));
            return Ok(());
        }
        let tree = match leaf {
            Some(Leaf::Tree(tree)) => *tree,
            _ => forest.plant(layout),
        };
        *leaf = Some(Leaf::Tree(tree));
        forest.add(tree, &conditions, action)
    }
}
