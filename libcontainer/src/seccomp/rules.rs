//! What the rules of a profile say, per architecture and system call.

use super::arch::Arch;
use super::conditions::{Condition, Conflict, Layout, Operator, Tree, significant};
use super::tables::{self, Multiplexer, NONE, PRIVATE};

/// socketcall(2) relative to the base, on every architecture that has it.
const SOCKETCALL: u16 = 102;
/// ipc(2), the same.
const IPC: u16 = 117;

/// Room for arm's private calls behind the ordinary ones.
const PRIVATE_SPAN: usize = 16;
/// Where arm's private calls are.
const PRIVATE_BASE: u32 = 0x000f_0000;

/// What a filter answers to one number, or to an interval of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// `SECCOMP_RET_*`, whatever the arguments.
    Return(u32),
    /// An index into the trees of the profile.
    Tree(usize),
}

/// The rules of one architecture.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) arch: &'static Arch,
    /// One per number from the base on, then arm's private calls.
    leaves: Vec<Option<Leaf>>,
    /// The newest call any rule names, be its action the default or not.
    pub(super) newest: Option<u32>,
}

impl Rules {
    /// Makes the rules of `arch`: none yet.
    pub(super) fn new(arch: &'static Arch) -> Self {
        let leaves = vec![None; usize::from(tables::span(arch.column)) + PRIVATE_SPAN];
        Self { arch, leaves, newest: None }
    }

    /// Returns the numbers that have a rule, in ascending order.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (u32, Leaf)> {
        let all = self.leaves.iter().enumerate();
        all.filter_map(|(index, leaf)| leaf.map(|leaf| (self.number_at(index), leaf)))
    }

    fn layout(&self) -> Layout {
        Layout { wide: self.arch.wide, big_endian: self.arch.big_endian }
    }

    /// Notes that the profile knows the call in `row` of the table.
    pub(super) fn know(&mut self, row: usize) {
        let number = tables::number(self.arch.column, row);
        if let Some(index) = self.index(number) {
            self.newest = self.newest.max(Some(self.number_at(index)));
        }
    }

    /// Adds a rule for the call in `row` of the table.
    ///
    /// # Errors
    /// [`Conflict`] where another action is already there for the same arguments.
    pub(super) fn add(
        &mut self,
        trees: &mut Vec<Tree>,
        row: usize,
        conditions: &[Condition],
        action: u32,
    ) -> Result<(), Conflict> {
        if self.arch.multiplexed
            && let Some((multiplexer, call)) = tables::multiplexer(row)
        {
            self.add_multiplexed(trees, multiplexer, call, conditions, action)?;
        }
        self.add_number(trees, tables::number(self.arch.column, row), conditions, action)
    }

    /// The first argument of a multiplexer says which call is meant. The others are not the call's (socketcall(2) has
    /// a pointer to them), so a condition on the first is lost and those on the rest compare something else; that
    /// is how libseccomp has it, and profiles are written for it.
    fn add_multiplexed(
        &mut self,
        trees: &mut Vec<Tree>,
        multiplexer: Multiplexer,
        call: u8,
        conditions: &[Condition],
        action: u32,
    ) -> Result<(), Conflict> {
        let which =
            Condition { index: 0, operator: Operator::Eq, mask: u64::MAX, value: u64::from(call) };
        let rest = conditions.iter().filter(|condition| condition.index != 0).copied();
        let all: Vec<Condition> = std::iter::once(which).chain(rest).collect();
        let number = match multiplexer {
            Multiplexer::Socketcall => SOCKETCALL,
            Multiplexer::Ipc => IPC,
        };
        self.add_number(trees, number, &all, action)
    }

    fn add_number(
        &mut self,
        trees: &mut Vec<Tree>,
        number: u16,
        conditions: &[Condition],
        action: u32,
    ) -> Result<(), Conflict> {
        let layout = self.layout();
        let Some(index) = self.index(number) else { return Ok(()) };
        let Some(leaf) = self.leaves.get_mut(index) else { return Ok(()) };
        // A rule without conditions covers all others of its call; the first of them stands.
        if matches!(leaf, Some(Leaf::Return(_))) {
            return Ok(());
        }
        let conditions = match conditions {
            [] => Vec::new(),
            some => significant(some, layout),
        };
        if conditions.is_empty() {
            *leaf = Some(Leaf::Return(action));
            return Ok(());
        }
        let tree = match leaf {
            Some(Leaf::Tree(tree)) => *tree,
            _ => {
                trees.push(Tree::new(layout));
                trees.len() - 1
            }
        };
        *leaf = Some(Leaf::Tree(tree));
        let Some(tree) = trees.get_mut(tree) else { return Ok(()) };
        tree.add(&conditions, action)
    }

    fn span(&self) -> usize {
        self.leaves.len() - PRIVATE_SPAN
    }

    fn index(&self, number: u16) -> Option<usize> {
        match number {
            NONE => None,
            private if private >= PRIVATE => Some(self.span() + usize::from(private - PRIVATE)),
            ordinary => Some(usize::from(ordinary)),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 2^16 leaves")]
    fn number_at(&self, index: usize) -> u32 {
        match index.checked_sub(self.span()) {
            Some(private) => PRIVATE_BASE + private as u32,
            None => self.arch.base + index as u32,
        }
    }
}
