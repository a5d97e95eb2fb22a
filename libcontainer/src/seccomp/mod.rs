//! `linux.seccomp` (config-linux.md "Seccomp") compiled to a classic BPF program.
//!
//! Per architecture, the system calls of the profile are merged into intervals of numbers that have one answer, and
//! the program searches them by halves; rules that look at arguments are a tree of tests (`conditions`) at the end
//! of that search. What the filter answers is what libseccomp's would, and what runc puts before it: see
//! `design/0009-seccomp.md`. Nothing here makes a system call; [`crate::sys::seccomp`] loads the result.

mod arch;
mod assembler;
mod conditions;
mod filter;
mod names;
mod program;
mod raw;
mod rules;
mod simulator;
mod tables;
#[cfg(test)]
mod tests;

pub use arch::{ARCHES, Arch};
pub use conditions::Operator;
pub use filter::Filter;
pub use names::{ACTIONS, Action, FLAGS, OPERATORS};
pub use raw::raw;

use conditions::{Condition, Forest};
use program::Answers;
use rules::{Contradiction, Rule, Rules};

use crate::error::{Error, Result};
use crate::spec::{Seccomp, SeccompArg, SeccompRule};
use crate::sys::seccomp::{NEW_LISTENER, SPEC_ALLOW, WAIT_KILLABLE_RECV};

/// The kernel takes no longer program (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// A system call has arguments 0 to 5.
const ARGUMENTS: usize = 6;

/// What a profile does not say.
#[derive(Debug, Clone, Copy)]
pub struct CompileOptions {
    /// The architecture the filter is for.
    pub native: &'static Arch,
    /// Answer ENOSYS to calls newer than the profile, where its default is to refuse (runc does).
    pub enosys: bool,
    /// A name nobody knows is an error (`run.oci.seccomp_fail_unknown_syscall`), not a warning.
    pub fail_unknown_syscall: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { native: Arch::native(), enosys: true, fail_unknown_syscall: false }
    }
}

/// Compiles `profile`; `None` where it is empty, which runc takes for no seccomp at all.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) naming the field that is not valid.
pub fn compile(profile: &Seccomp<'_>, options: &CompileOptions) -> Result<Option<Filter>> {
    if profile.default_action.is_empty() && profile.syscalls.is_empty() {
        return Ok(None);
    }
    let mut warnings = Vec::new();
    let default = default_action(profile)?;
    let mut compiler = Compiler {
        options,
        default,
        all: architectures(profile, options, &mut warnings)?,
        forest: Forest::default(),
        rows: Vec::new(),
        warnings,
        notify: false,
    };
    for (index, rule) in profile.syscalls.iter().enumerate() {
        compiler.add(index, rule)?;
    }
    let flags = flags(profile, compiler.notify)?;
    listener(profile, compiler.notify)?;

    let answers = Answers {
        default,
        bad_arch: libc::SECCOMP_RET_KILL_THREAD,
        newer: newer(profile, default).filter(|_| options.enosys),
    };
    let program = program::assemble(&compiler.all, &compiler.forest, answers);
    if program.len() > MAX_INSTRUCTIONS {
        let len = program.len();
        return Err(Error::config(format!("the profile needs {len} BPF instructions"))
            .field("linux.seccomp")
            .hint(format!(
                "the kernel takes {MAX_INSTRUCTIONS}: name fewer arguments or architectures"
            )));
    }
    let Compiler { notify, warnings, .. } = compiler;
    Ok(Some(Filter { program, flags, notify, warnings }))
}

/// Returns the names of the flags this kernel takes, for `features`.
pub fn supported_flags() -> impl Iterator<Item = &'static str> {
    let supported = |(_, flag): &&(&str, u32)| crate::sys::seccomp::flags_supported(*flag);
    FLAGS.iter().filter(supported).map(|(name, _)| *name)
}

/// Returns the names of those flags of a filter that this kernel does not take.
pub fn unsupported_flags(flags: u32) -> impl Iterator<Item = &'static str> {
    let unsupported = move |(_, flag): &&(&str, u32)| {
        flags & flag != 0 && !crate::sys::seccomp::flags_supported(*flag)
    };
    FLAGS.iter().filter(unsupported).map(|(name, _)| *name)
}

struct Compiler<'a> {
    options: &'a CompileOptions,
    default: u32,
    all: Vec<Rules>,
    forest: Forest,
    /// Those of the rule at hand.
    rows: Vec<usize>,
    warnings: Vec<String>,
    notify: bool,
}

impl Compiler<'_> {
    fn add(&mut self, index: usize, rule: &SeccompRule<'_>) -> Result<()> {
        let field = |part: &str| format!("linux.seccomp.syscalls[{index}].{part}");
        let action = action(&rule.action, rule.errno_ret, field)?;
        let conditions = conditions(index, &rule.args)?;
        if action == libc::SECCOMP_RET_USER_NOTIF && !rule.names.is_empty() {
            self.notify = true;
            // The listener would have to be sent by a process that waits for its own write(2) to be answered.
            if let Some(at) = rule.names.iter().position(|name| &**name == "write") {
                return Err(Error::config("SCMP_ACT_NOTIFY cannot be used for the write syscall")
                    .field(format!("linux.seccomp.syscalls[{index}].names[{at}]")));
            }
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        for (at, name) in rule.names.iter().enumerate() {
            match tables::find(name) {
                Some(row) => rows.push(row),
                None => self.unknown(index, at, name)?,
            }
        }
        for rules in &mut self.all {
            // libseccomp refuses a rule that says what the default says, so runc leaves it out, and another rule
            // for the same call counts as if it were alone.
            if action == self.default {
                rules.know(&rows);
                continue;
            }
            let mut add = |conditions: &[Condition]| {
                rules.add(&mut self.forest, &rows, Rule { action, conditions })
            };
            let added = match &conditions {
                Conditions::All(all) => add(all),
                Conditions::Any(any) => any.chunks(1).try_for_each(add),
            };
            added.map_err(|Contradiction(row)| {
                let name = tables::name(row);
                Error::config(format!("seccomp rules for {name:?} contradict each other"))
                    .field(format!("linux.seccomp.syscalls[{index}]"))
                    .hint("an earlier rule has another action for the same arguments")
            })?;
        }
        self.rows = rows;
        Ok(())
    }

    fn unknown(&mut self, index: usize, at: usize, name: &str) -> Result<()> {
        let sentence = format!("seccomp: unknown system call {name:?}");
        if self.options.fail_unknown_syscall || name.is_empty() {
            let field = format!("linux.seccomp.syscalls[{index}].names[{at}]");
            return Err(Error::config(sentence).field(field));
        }
        self.warnings.push(sentence + " is ignored");
        Ok(())
    }
}

/// How the conditions of one rule belong together.
enum Conditions {
    All(Vec<Condition>),
    /// Two on the same argument cannot both be in one rule, so each one is a rule of its own (runc, crun).
    Any(Vec<Condition>),
}

fn conditions(rule: usize, args: &[SeccompArg<'_>]) -> Result<Conditions> {
    let mut all = Vec::with_capacity(args.len());
    for (at, arg) in args.iter().enumerate() {
        let field = |part: &str| format!("linux.seccomp.syscalls[{rule}].args[{at}].{part}");
        all.push(condition(arg, field)?);
    }
    let mut seen = [false; ARGUMENTS];
    let repeated = all.iter().any(|condition: &Condition| {
        let seen = seen.get_mut(usize::from(condition.index));
        seen.is_some_and(|seen| std::mem::replace(seen, true))
    });
    if repeated {
        return Ok(Conditions::Any(all));
    }
    all.sort_unstable_by_key(|condition| condition.index);
    Ok(Conditions::All(all))
}

fn condition(arg: &SeccompArg<'_>, field: impl Fn(&str) -> String) -> Result<Condition> {
    let index = u8::try_from(arg.index).ok().filter(|index| usize::from(*index) < ARGUMENTS);
    let Some(index) = index else {
        let sentence = format!("a system call has no argument {}", arg.index);
        return Err(Error::config(sentence).field(field("index")).hint("they are 0 to 5"));
    };
    let Some(operator) = names::operator(&arg.op) else {
        return Err(not_valid("operator", &arg.op, field("op")));
    };
    let (mask, value) = match operator {
        Operator::MaskedEq => (arg.value, arg.value_two.unwrap_or(0)),
        _ => (u64::MAX, arg.value),
    };
    Ok(Condition { index, operator, mask, value })
}

fn default_action(profile: &Seccomp<'_>) -> Result<u32> {
    let field = |part: &str| match part {
        "action" => "linux.seccomp.defaultAction".to_owned(),
        _ => "linux.seccomp.defaultErrnoRet".to_owned(),
    };
    let default = action(&profile.default_action, profile.default_errno_ret, field)?;
    if default == libc::SECCOMP_RET_USER_NOTIF {
        let sentence = "SCMP_ACT_NOTIFY cannot be used as default action";
        return Err(Error::config(sentence).field(field("action")));
    }
    Ok(default)
}

/// Makes the `SECCOMP_RET_*` of an action and the errno or message it carries, EPERM where none is given.
///
/// `field` names the `action` or the `errnoRet` in question.
fn action(name: &str, data: Option<u32>, field: impl Fn(&str) -> String) -> Result<u32> {
    let Some(action) = Action::from_name(name) else {
        return Err(not_valid("action", name, field("action")));
    };
    match (action.data, data) {
        (None, None) => Ok(action.value),
        (None, Some(_)) => {
            Err(Error::config(format!("{name} takes no errno")).field(field("errnoRet")))
        }
        (Some(_), None) => Ok(action.value | libc::EPERM.unsigned_abs()),
        (Some(max), Some(data)) if data <= max => Ok(action.value | data),
        (Some(max), Some(data)) => Err(Error::config(format!("{name} cannot return {data}"))
            .field(field("errnoRet"))
            .hint(format!("the largest value is {max}"))),
    }
}

fn not_valid(what: &str, text: &str, field: String) -> Error {
    Error::config(format!("{text:?} is not a valid {what} for seccomp")).field(field)
}

/// Returns the rules to be filled, the native architecture first.
fn architectures(
    profile: &Seccomp<'_>,
    options: &CompileOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Rules>> {
    let mut all = vec![Rules::new(options.native)];
    for (index, name) in profile.architectures.iter().enumerate() {
        let Some(arch) = Arch::from_name(name) else {
            return Err(not_valid("arch", name, format!("linux.seccomp.architectures[{index}]")));
        };
        if arch.big_endian != options.native.big_endian {
            // No process of this kernel can have it, and its data would be laid out otherwise.
            warnings.push(format!("seccomp: {name} is ignored: it has the other byte order"));
        } else if all.iter().all(|rules| rules.arch != arch) {
            all.push(Rules::new(arch));
        }
    }
    Ok(all)
}

/// Returns the flags for seccomp(2). An absent list is SPEC_ALLOW, as for runc; an empty one is none.
fn flags(profile: &Seccomp<'_>, notify: bool) -> Result<u32> {
    let mut flags = if notify { NEW_LISTENER } else { 0 };
    let Some(named) = &profile.flags else { return Ok(flags | SPEC_ALLOW) };
    for (index, name) in named.iter().enumerate() {
        let field = || format!("linux.seccomp.flags[{index}]");
        let Some(flag) = names::flag(name) else { return Err(not_valid("flag", name, field())) };
        if flag == WAIT_KILLABLE_RECV && !notify {
            return Err(
                Error::config(format!("{name} needs a rule with SCMP_ACT_NOTIFY")).field(field())
            );
        }
        flags |= flag;
    }
    Ok(flags)
}

fn listener(profile: &Seccomp<'_>, notify: bool) -> Result<()> {
    let set =
        |text: &Option<crate::spec::Str<'_>>| text.as_ref().is_some_and(|text| !text.is_empty());
    let field = "linux.seccomp.listenerPath";
    if let Some(path) = profile.listener_path.as_deref().filter(|path| !path.is_empty()) {
        if path.contains('\0') {
            return Err(Error::config("a NUL byte in the path of the listener").field(field));
        }
        return Ok(());
    }
    if set(&profile.listener_metadata) {
        return Err(Error::config("listenerMetadata needs a listenerPath").field(field));
    }
    if notify {
        return Err(Error::config("SCMP_ACT_NOTIFY needs a listenerPath").field(field));
    }
    Ok(())
}

/// Returns the answer to calls newer than the profile: ENOSYS, where the profile refuses what it does not name.
///
/// A libc that tries a new call first falls back on ENOSYS, and fails on EPERM. TRACE counts as permissive: a
/// tracer knows better. runc decides the same way.
fn newer(profile: &Seccomp<'_>, default: u32) -> Option<u32> {
    let enosys = libc::ENOSYS.unsigned_abs();
    let permissive = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_TRACE];
    if permissive.contains(&(default & libc::SECCOMP_RET_ACTION_FULL))
        || profile.default_errno_ret == Some(enosys)
    {
        return None;
    }
    Some(libc::SECCOMP_RET_ERRNO | enosys)
}
