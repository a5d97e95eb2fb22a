//! The rules of one system call that look at its arguments, as a tree of 32-bit tests.
//!
//! Which of several matching rules decides is not in the specification; callers live with what libseccomp makes
//! of their profile, so this is its order: tests of a higher argument first, of equality before "less" before
//! "greater", of larger values first (smaller first for "less"), then as the profile has them. Rules that begin
//! with the same test share it. `design/0009-seccomp.md` has the details and where this one differs.

use super::assembler::{Assembler, Jump, Target};

/// How an argument is compared, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal to the value.
    Eq,
    /// Not equal to the value.
    Ne,
    /// Less than the value.
    Lt,
    /// Less than or equal to the value.
    Le,
    /// Greater than or equal to the value.
    Ge,
    /// Greater than the value.
    Gt,
    /// Equal to the second value under the mask that is the first.
    MaskedEq,
}

impl Operator {
    /// Which of two operators on the same argument is tested first: the greater.
    fn rank(self) -> u8 {
        match self {
            Self::Eq | Self::Ne | Self::MaskedEq => 3,
            Self::Le | Self::Lt => 2,
            Self::Ge | Self::Gt => 1,
        }
    }
}

/// One condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0 to 5.
    pub(super) index: u8,
    pub(super) operator: Operator,
    /// All ones where the operator has no mask.
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// The arguments differ between the architectures in width and in where their halves are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// 64-bit arguments; the others compare the low half only.
    pub(super) wide: bool,
    pub(super) big_endian: bool,
}

/// Two rules of different actions match the same arguments, and nothing says which one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict;

/// A test, as an index into the forest.
type Id = u32;

/// Where a test leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// To the next test of the level, or of the one above when this was the last.
    Next,
    Return(u32),
    /// To a level, which this test begins.
    Level(Id),
}

/// One comparison of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Test {
    index: u8,
    high: bool,
    jump: Jump,
    mask: u32,
    datum: u32,
    /// The operator of the condition this is a part of; it decides the order.
    operator: Operator,
    /// The whole value of that condition.
    value: u64,
    then: Branch,
    otherwise: Branch,
    /// The one after it on its level.
    next: Option<Id>,
}

/// The rules of one system call on one architecture.
#[derive(Debug, Clone, Copy)]
struct Tree {
    first: Option<Id>,
    layout: Layout,
}

/// All trees of a profile. Their tests are in one list: allocating each would take longer than all the rest.
#[derive(Debug, Default)]
pub(super) struct Forest {
    tests: Vec<Test>,
    trees: Vec<Tree>,
}

impl Forest {
    /// Plants a tree without rules for an architecture of `layout`, and returns its index.
    pub(super) fn plant(&mut self, layout: Layout) -> u32 {
        self.trees.push(Tree { first: None, layout });
        u32::try_from(self.trees.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds a rule: `action` if all `conditions` hold. They are on different arguments, in ascending order.
    ///
    /// # Errors
    /// [`Conflict`] where the tree has another action for the same arguments.
    pub(super) fn add(
        &mut self,
        tree: u32,
        conditions: &[Condition],
        action: u32,
    ) -> Result<(), Conflict> {
        let Some(Tree { first, layout }) = self.tree(tree) else { return Ok(()) };
        if let Branch::Level(new) = self.chain(conditions, layout, action) {
            let first = match first {
                Some(first) => self.insert(first, new)?,
                None => new,
            };
            if let Some(tree) = self.trees.get_mut(tree as usize) {
                tree.first = Some(first);
            }
        }
        Ok(())
    }

    /// Writes the tests of a tree; a call no rule matches goes to `default`.
    pub(super) fn emit(&self, tree: u32, assembler: &mut Assembler, default: Target) -> Target {
        match self.tree(tree) {
            Some(Tree { first: Some(first), layout }) => {
                self.emit_level(first, assembler, layout, default, None)
            }
            _ => default,
        }
    }

    fn tree(&self, tree: u32) -> Option<Tree> {
        self.trees.get(tree as usize).copied()
    }

    fn push(&mut self, test: Test) -> Branch {
        self.tests.push(test);
        Branch::Level(Id::try_from(self.tests.len() - 1).unwrap_or(Id::MAX))
    }

    fn test(&self, id: Id) -> Option<&Test> {
        self.tests.get(id as usize)
    }

    fn test_mut(&mut self, id: Id) -> Option<&mut Test> {
        self.tests.get_mut(id as usize)
    }

    /// The tests of a level, in order.
    fn level(&self, first: Id) -> impl Iterator<Item = &Test> {
        std::iter::successors(self.test(first), |test| test.next.and_then(|next| self.test(next)))
    }

    /// Makes the tests of one rule. They are made anew for each way that leads to them, so that a rule which is
    /// merged into one of them does not appear behind the others as well.
    fn chain(&mut self, conditions: &[Condition], layout: Layout, action: u32) -> Branch {
        let Some((condition, rest)) = conditions.split_first() else {
            return Branch::Return(action);
        };
        let (low_jump, negated) = match condition.operator {
            Operator::Eq | Operator::MaskedEq => (Jump::Eq, false),
            Operator::Ne => (Jump::Eq, true),
            Operator::Gt => (Jump::Gt, false),
            Operator::Le => (Jump::Gt, true),
            Operator::Ge => (Jump::Ge, false),
            Operator::Lt => (Jump::Ge, true),
        };
        let success = self.chain(rest, layout, action);
        let (then, otherwise) =
            if negated { (Branch::Next, success) } else { (success, Branch::Next) };
        let low_half = self.push(condition.test(Half::Low, low_jump, then, otherwise));
        if !layout.wide {
            return low_half;
        }
        // The high half goes first: only where it is equal the low half decides.
        let mut again = |wanted: bool| match wanted {
            true => self.chain(rest, layout, action),
            false => Branch::Next,
        };
        match low_jump {
            Jump::Eq => {
                let otherwise = again(negated);
                self.push(condition.test(Half::High, Jump::Eq, low_half, otherwise))
            }
            Jump::Gt | Jump::Ge => {
                let (greater, less) = (again(!negated), again(negated));
                let equal = self.push(condition.test(Half::High, Jump::Eq, low_half, less));
                self.push(condition.test(Half::High, Jump::Gt, greater, equal))
            }
        }
    }

    /// Puts a test into the level that begins with `first`, and returns with which it begins then.
    fn insert(&mut self, first: Id, new: Id) -> Result<Id, Conflict> {
        let Some(test) = self.test(new).copied() else { return Ok(first) };
        let mut before = None;
        let mut at = Some(first);
        while let Some(id) = at {
            let Some(known) = self.test(id) else { break };
            if known.same_as(&test) {
                self.merge(id, test)?;
                return Ok(first);
            }
            if known.yields_to(&test) {
                break;
            }
            before = at;
            at = known.next;
        }
        if let Some(test) = self.test_mut(new) {
            test.next = at;
        }
        let Some(before) = before.and_then(|before| self.test_mut(before)) else {
            return Ok(new);
        };
        before.next = Some(new);
        Ok(first)
    }

    /// Gives the test `id` the branches of `new`, the same test in another rule.
    fn merge(&mut self, id: Id, new: Test) -> Result<(), Conflict> {
        let Some(known) = self.test(id).copied() else { return Ok(()) };
        let last = known.is_last() || new.is_last();
        // Both rules match any high half greater than theirs: the one with the narrower condition decides.
        let narrower = new.high && new.value > known.value;
        let then = self.merge_branch(known.then, new.then, last, narrower)?;
        let narrower = new.high && new.value < known.value;
        let otherwise = self.merge_branch(known.otherwise, new.otherwise, last, narrower)?;
        if let Some(test) = self.test_mut(id) {
            (test.then, test.otherwise) = (then, otherwise);
        }
        Ok(())
    }

    fn merge_branch(
        &mut self,
        known: Branch,
        new: Branch,
        last: bool,
        narrower: bool,
    ) -> Result<Branch, Conflict> {
        match (known, new) {
            (_, Branch::Next) => Ok(known),
            (Branch::Next, _) => Ok(new),
            (Branch::Return(action), Branch::Return(other)) if action != other => match last {
                true => Err(Conflict),
                false => Ok(if narrower { new } else { known }),
            },
            // The shorter rule covers the longer.
            (Branch::Return(_), _) => Ok(known),
            (Branch::Level(tests), Branch::Return(action)) => {
                if self.only_returns(tests, action) {
                    Ok(new)
                } else {
                    Err(Conflict)
                }
            }
            (Branch::Level(tests), Branch::Level(new)) => {
                self.insert(tests, new).map(Branch::Level)
            }
        }
    }

    fn only_returns(&self, first: Id, action: u32) -> bool {
        self.level(first).flat_map(|test| [test.then, test.otherwise]).all(|branch| match branch {
            Branch::Next => true,
            Branch::Return(known) => known == action,
            Branch::Level(tests) => self.only_returns(tests, action),
        })
    }

    fn emit_level(
        &self,
        first: Id,
        assembler: &mut Assembler,
        layout: Layout,
        default: Target,
        accumulator: Accumulator,
    ) -> Target {
        let tests: Vec<&Test> = self.level(first).collect();
        let mut next = default;
        for (at, test) in tests.into_iter().enumerate().rev() {
            // Only the first test of a level is reached from one place alone.
            let accumulator = if at == 0 { accumulator } else { None };
            next = self.emit_test(test, assembler, layout, next, accumulator);
        }
        next
    }

    fn emit_test(
        &self,
        test: &Test,
        assembler: &mut Assembler,
        layout: Layout,
        next: Target,
        accumulator: Accumulator,
    ) -> Target {
        let offset = 16 + 8 * u32::from(test.index) + 4 * u32::from(test.high != layout.big_endian);
        let always = test.mask == 0 && test.jump == Jump::Eq;
        let holds = if always { accumulator } else { Some((offset, test.mask)) };
        let mut follow = |branch: Branch| match branch {
            Branch::Next => next,
            Branch::Return(action) => Target::Return(action),
            Branch::Level(tests) => self.emit_level(tests, assembler, layout, next, holds),
        };
        if always {
            return follow(test.then);
        }
        let (then, otherwise) = (follow(test.then), follow(test.otherwise));
        if then == otherwise {
            return then;
        }
        let mut entry = assembler.branch(test.jump, test.datum, then, otherwise);
        if accumulator == Some((offset, test.mask)) {
            return entry;
        }
        if test.mask != u32::MAX {
            entry = assembler.and(test.mask);
        }
        match accumulator {
            Some((known, u32::MAX)) if known == offset => entry,
            _ => assembler.load(offset),
        }
    }
}

/// What the accumulator is known to hold: the word at an offset, under a mask.
type Accumulator = Option<(u32, u32)>;

/// Drops the conditions that always hold.
pub(super) fn significant(conditions: &[Condition], layout: Layout) -> Vec<Condition> {
    let always = |condition: &Condition| match layout.wide {
        true => condition.mask == 0,
        false => low(condition.mask) == 0,
    };
    conditions.iter().filter(|condition| !always(condition)).copied().collect()
}

/// A part of a 64-bit argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

impl Condition {
    fn test(&self, half: Half, jump: Jump, then: Branch, otherwise: Branch) -> Test {
        let part = |word: u64| match half {
            Half::Low => low(word),
            Half::High => low(word >> 32),
        };
        Test {
            index: self.index,
            high: half == Half::High,
            jump,
            mask: part(self.mask),
            datum: part(self.value) & part(self.mask),
            operator: self.operator,
            value: self.value,
            then,
            otherwise,
            next: None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn low(word: u64) -> u32 {
    word as u32
}

impl Test {
    fn same_as(&self, other: &Self) -> bool {
        self.place() == other.place()
            && self.jump == other.jump
            && self.datum == other.datum
            && self.mask == other.mask
    }

    fn place(&self) -> (u8, bool) {
        (self.index, self.high)
    }

    /// Says whether `other` is tested before this one.
    fn yields_to(&self, other: &Self) -> bool {
        let order =
            (self.place(), self.operator.rank()).cmp(&(other.place(), other.operator.rank()));
        order
            .then_with(|| match self.operator {
                Operator::Le | Operator::Lt => other.datum.cmp(&self.datum),
                _ => self.datum.cmp(&other.datum),
            })
            .is_lt()
    }

    fn is_last(&self) -> bool {
        !matches!(self.then, Branch::Level(_)) && !matches!(self.otherwise, Branch::Level(_))
    }
}
