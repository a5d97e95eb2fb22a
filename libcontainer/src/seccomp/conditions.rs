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

/// Where a test leads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Branch {
    /// To the next test of the level, or of the one above when this was the last.
    Next,
    Return(u32),
    Level(Vec<Test>),
}

/// One comparison of 32 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// The rules of one system call on one architecture.
#[derive(Debug)]
pub(super) struct Tree {
    tests: Vec<Test>,
    layout: Layout,
}

impl Tree {
    /// Makes a tree without rules for an architecture of `layout`.
    pub(super) fn new(layout: Layout) -> Self {
        Self { tests: Vec::new(), layout }
    }

    /// Adds a rule: `action` if all `conditions` hold. They are on different arguments, in ascending order.
    ///
    /// # Errors
    /// [`Conflict`] where the tree has another action for the same arguments.
    pub(super) fn add(&mut self, conditions: &[Condition], action: u32) -> Result<(), Conflict> {
        match chain(conditions, self.layout, action) {
            Branch::Level(tests) => {
                tests.into_iter().try_for_each(|test| insert(&mut self.tests, test))
            }
            Branch::Next | Branch::Return(_) => Ok(()),
        }
    }

    /// Writes the tests; a call no rule matches goes to `default`.
    pub(super) fn emit(&self, assembler: &mut Assembler, default: Target) -> Target {
        emit_level(&self.tests, assembler, self.layout, default, None)
    }
}

/// Drops the conditions that always hold.
pub(super) fn significant(conditions: &[Condition], layout: Layout) -> Vec<Condition> {
    let always = |condition: &Condition| match layout.wide {
        true => condition.mask == 0,
        false => low(condition.mask) == 0,
    };
    conditions.iter().filter(|condition| !always(condition)).copied().collect()
}

/// Makes the tests of one rule.
fn chain(conditions: &[Condition], layout: Layout, action: u32) -> Branch {
    let Some((condition, rest)) = conditions.split_first() else { return Branch::Return(action) };
    let success = chain(rest, layout, action);
    if layout.wide { wide(condition, success) } else { narrow(condition, success) }
}

fn narrow(condition: &Condition, success: Branch) -> Branch {
    let (jump, negated) = match condition.operator {
        Operator::Eq | Operator::MaskedEq => (Jump::Eq, false),
        Operator::Ne => (Jump::Eq, true),
        Operator::Gt => (Jump::Gt, false),
        Operator::Le => (Jump::Gt, true),
        Operator::Ge => (Jump::Ge, false),
        Operator::Lt => (Jump::Ge, true),
    };
    let (then, otherwise) = if negated { (Branch::Next, success) } else { (success, Branch::Next) };
    Branch::Level(vec![Test {
        index: condition.index,
        high: false,
        jump,
        mask: low(condition.mask),
        datum: low(condition.value) & low(condition.mask),
        operator: condition.operator,
        value: condition.value,
        then,
        otherwise,
    }])
}

/// Compares the high half first: where it is equal the low half decides.
fn wide(condition: &Condition, success: Branch) -> Branch {
    let test = |is_high: bool, jump: Jump, then: Branch, otherwise: Branch| {
        let half = |word: u64| if is_high { low(word >> 32) } else { low(word) };
        Branch::Level(vec![Test {
            index: condition.index,
            high: is_high,
            jump,
            mask: half(condition.mask),
            datum: half(condition.value) & half(condition.mask),
            operator: condition.operator,
            value: condition.value,
            then,
            otherwise,
        }])
    };
    let (high, low) = (true, false);
    let ordered = |low_jump: Jump, greater: Branch, less: Branch| {
        let low_half = test(low, low_jump, greater.clone(), less.clone());
        test(high, Jump::Gt, greater, test(high, Jump::Eq, low_half, less))
    };
    match condition.operator {
        Operator::Eq | Operator::MaskedEq => {
            test(high, Jump::Eq, test(low, Jump::Eq, success, Branch::Next), Branch::Next)
        }
        Operator::Ne => {
            test(high, Jump::Eq, test(low, Jump::Eq, Branch::Next, success.clone()), success)
        }
        Operator::Gt => ordered(Jump::Gt, success, Branch::Next),
        Operator::Ge => ordered(Jump::Ge, success, Branch::Next),
        Operator::Le => ordered(Jump::Gt, Branch::Next, success),
        Operator::Lt => ordered(Jump::Ge, Branch::Next, success),
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

    /// Takes over the branches of `new`, the same test in another rule.
    fn merge(&mut self, new: Self) -> Result<(), Conflict> {
        let last = self.is_last() || new.is_last();
        // Both rules match any high half greater than theirs: the one with the narrower condition decides.
        let narrower = new.high && new.value > self.value;
        merge_branch(&mut self.then, new.then, last, narrower)?;
        let narrower = new.high && new.value < self.value;
        merge_branch(&mut self.otherwise, new.otherwise, last, narrower)
    }
}

fn merge_branch(
    known: &mut Branch,
    new: Branch,
    last: bool,
    narrower: bool,
) -> Result<(), Conflict> {
    match (&mut *known, new) {
        (_, Branch::Next) => Ok(()),
        (Branch::Next, new) => {
            *known = new;
            Ok(())
        }
        (Branch::Return(action), Branch::Return(other)) => {
            if *action != other && narrower {
                *action = other;
                return if last { Err(Conflict) } else { Ok(()) };
            }
            if *action != other && last { Err(Conflict) } else { Ok(()) }
        }
        // The shorter rule covers the longer.
        (Branch::Return(_), Branch::Level(_)) => Ok(()),
        (Branch::Level(tests), Branch::Return(action)) => {
            if !tests.iter().all(|test| only_returns(test, action)) {
                return Err(Conflict);
            }
            *known = Branch::Return(action);
            Ok(())
        }
        (Branch::Level(tests), Branch::Level(new)) => {
            new.into_iter().try_for_each(|test| insert(tests, test))
        }
    }
}

fn only_returns(test: &Test, action: u32) -> bool {
    [&test.then, &test.otherwise].into_iter().all(|branch| match branch {
        Branch::Next => true,
        Branch::Return(known) => *known == action,
        Branch::Level(tests) => tests.iter().all(|test| only_returns(test, action)),
    })
}

fn insert(level: &mut Vec<Test>, new: Test) -> Result<(), Conflict> {
    for at in 0..level.len() {
        let Some(known) = level.get_mut(at) else { break };
        if known.same_as(&new) {
            return known.merge(new);
        }
        if known.yields_to(&new) {
            level.insert(at, new);
            return Ok(());
        }
    }
    level.push(new);
    Ok(())
}

/// What the accumulator is known to hold: the word at an offset, under a mask.
type Accumulator = Option<(u32, u32)>;

fn emit_level(
    level: &[Test],
    assembler: &mut Assembler,
    layout: Layout,
    default: Target,
    accumulator: Accumulator,
) -> Target {
    let mut next = default;
    for (at, test) in level.iter().enumerate().rev() {
        // Only the first test of a level is reached from one place alone.
        let accumulator = if at == 0 { accumulator } else { None };
        next = emit_test(test, assembler, layout, next, accumulator);
    }
    next
}

fn emit_test(
    test: &Test,
    assembler: &mut Assembler,
    layout: Layout,
    next: Target,
    accumulator: Accumulator,
) -> Target {
    let offset = 16 + 8 * u32::from(test.index) + 4 * u32::from(test.high != layout.big_endian);
    let (mask, k) = (test.mask, test.datum);
    let always = mask == 0 && test.jump == Jump::Eq;
    let holds = if always { accumulator } else { Some((offset, mask)) };
    let mut follow = |branch: &Branch| match branch {
        Branch::Next => next,
        Branch::Return(action) => Target::Return(*action),
        Branch::Level(tests) => emit_level(tests, assembler, layout, next, holds),
    };
    if always {
        return follow(&test.then);
    }
    let (then, otherwise) = (follow(&test.then), follow(&test.otherwise));
    if then == otherwise {
        return then;
    }
    let mut entry = assembler.branch(test.jump, k, then, otherwise);
    if accumulator == Some((offset, mask)) {
        return entry;
    }
    if mask != u32::MAX {
        entry = assembler.and(mask);
    }
    match accumulator {
        Some((known, u32::MAX)) if known == offset => entry,
        _ => assembler.load(offset),
    }
}
