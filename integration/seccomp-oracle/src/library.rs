//! libseccomp, driven as runc drives it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_void};
use std::io::Read;
use std::os::fd::AsRawFd;

use libcontainer::seccomp::{ACTIONS, Action, Arch, OPERATORS, Operator};
use libcontainer::spec::{Seccomp, SeccompArg};
use libcontainer::sys::seccomp::Instruction;
use libseccomp_sys::{
    scmp_arg_cmp, scmp_compare, scmp_filter_attr, scmp_filter_ctx, seccomp_arch_add,
    seccomp_arch_native, seccomp_arch_remove, seccomp_attr_set, seccomp_export_bpf, seccomp_init,
    seccomp_release, seccomp_rule_add_array, seccomp_syscall_resolve_name,
    seccomp_syscall_resolve_name_arch, seccomp_syscall_resolve_num_arch, seccomp_version,
};

unsafe extern "C" {
    fn free(pointer: *mut c_void);
}

/// The library has a token of its own for x32; all others are those of the kernel.
fn token(arch: &Arch) -> u32 {
    if arch.name == "SCMP_ARCH_X32" { 0x4000_003e } else { arch.token }
}

/// Version of the library, as numbers that compare.
pub fn version() -> (u32, u32, u32) {
    let version = unsafe { *seccomp_version() };
    (version.major, version.minor, version.micro)
}

/// What the library knows of one architecture.
#[derive(Debug, Default)]
pub struct Numbers {
    /// The number socketcall(2), or 200 and the number ipc(2), knows a name by.
    pub multiplexed: HashMap<String, u32>,
    /// Every number a name has, multiplexed or not.
    pub direct: HashMap<String, u32>,
}

/// Asks for every name on `arch`; `None` where the library does not know the architecture.
pub fn numbers(arch: &Arch, names: &[String]) -> Option<Numbers> {
    let token = token(arch);
    if !has(arch) {
        return None;
    }
    let mut numbers = Numbers::default();
    for number in (0..0x2000).chain(0x000f_0000..0x000f_0100).chain(0x4000_0000..0x4000_1000) {
        if let Some(name) = name_of(token, number) {
            // Some tables answer to a number without its base as well.
            let based = number.unsigned_abs();
            let entry = numbers.direct.entry(name).or_insert(based);
            *entry = (*entry).max(based);
        }
    }
    for name in names {
        let c_name = CString::new(name.as_str()).expect("no NUL");
        let number = unsafe { seccomp_syscall_resolve_name_arch(token, c_name.as_ptr()) };
        match number {
            -120..=-101 => numbers.multiplexed.insert(name.clone(), number.unsigned_abs() - 100),
            -224..=-201 => numbers.multiplexed.insert(name.clone(), number.unsigned_abs()),
            _ => None,
        };
        if let Ok(number) = u32::try_from(number) {
            numbers.direct.insert(name.clone(), number);
        }
    }
    Some(numbers)
}

/// Says whether the library knows the architecture.
pub fn has(arch: &Arch) -> bool {
    let filter = Context::new(0x7fff_0000);
    let native = unsafe { seccomp_arch_native() };
    // One filter has one byte order, so the native architecture goes first.
    token(arch) == native
        || (unsafe { seccomp_arch_remove(filter.0, native) } == 0
            && unsafe { seccomp_arch_add(filter.0, token(arch)) } == 0)
}

/// Says whether the library knows the name on any architecture, and by a number no other name has.
///
/// `switch_endian` and `sys_debug_setcontext` share one in 2.6.1, so it takes the one for the other.
pub fn knows(name: &str) -> bool {
    let c_name = CString::new(name).expect("no NUL");
    let number = unsafe { seccomp_syscall_resolve_name(c_name.as_ptr()) };
    number != -1 && name_of(unsafe { seccomp_arch_native() }, number).as_deref() == Some(name)
}

fn name_of(token: u32, number: i32) -> Option<String> {
    let text = unsafe { seccomp_syscall_resolve_num_arch(token, number) };
    if text.is_null() {
        return None;
    }
    let name = unsafe { CStr::from_ptr(text) }.to_str().expect("ASCII").to_owned();
    unsafe { free(text.cast_mut().cast()) };
    Some(name)
}

struct Context(scmp_filter_ctx);

impl Context {
    fn new(default: u32) -> Self {
        Self(unsafe { seccomp_init(default) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        unsafe { seccomp_release(self.0) };
    }
}

/// Compiles `profile` for a host of `native`; the error is what the library refused.
pub fn compile(profile: &Seccomp<'_>, native: &Arch) -> Result<Vec<Instruction>, String> {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let filter = Context::new(default);
    let host = unsafe { seccomp_arch_native() };
    if token(native) != host {
        check(unsafe { seccomp_arch_remove(filter.0, host) }, "arch_remove")?;
        check(unsafe { seccomp_arch_add(filter.0, token(native)) }, "arch_add")?;
    }
    for name in profile.architectures.iter() {
        let arch = Arch::from_name(name).expect("known");
        if arch.name != native.name {
            let rc = unsafe { seccomp_arch_add(filter.0, token(arch)) };
            if rc != -libc_eexist() {
                check(rc, name)?;
            }
        }
    }
    let names: usize = profile.syscalls.iter().map(|rule| rule.names.len()).sum();
    if names > 32 {
        let rc =
            unsafe { seccomp_attr_set(filter.0, scmp_filter_attr::SCMP_FLTATR_CTL_OPTIMIZE, 2) };
        check(rc, "optimize")?;
    }
    for rule in profile.syscalls.iter() {
        let action = action(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        for name in rule.names.iter() {
            let c_name = CString::new(name.as_str()).expect("no NUL");
            let number = unsafe { seccomp_syscall_resolve_name(c_name.as_ptr()) };
            if number == -1 {
                continue;
            }
            let comparisons: Vec<_> = rule.args.iter().map(comparison).collect();
            let repeated =
                (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
            let add = |all: &[scmp_arg_cmp]| {
                let len = u32::try_from(all.len()).expect("few");
                let rc =
                    unsafe { seccomp_rule_add_array(filter.0, action, number, len, all.as_ptr()) };
                check(rc, name)
            };
            if repeated {
                comparisons.chunks(1).try_for_each(add)?;
            } else {
                add(&comparisons)?;
            }
        }
    }
    export(&filter, native.big_endian)
}

fn check(rc: i32, what: &str) -> Result<(), String> {
    if rc == 0 { Ok(()) } else { Err(format!("{what}: {rc}")) }
}

fn libc_eexist() -> i32 {
    17
}

/// `SECCOMP_RET_*` of an action, EPERM where it takes an errno and none is given.
pub fn action(name: &str, data: Option<u32>) -> u32 {
    let action = Action::from_name(name).expect("known");
    match name {
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => action.value | data.unwrap_or(1),
        _ => action.value,
    }
}

fn comparison(arg: &SeccompArg<'_>) -> scmp_arg_cmp {
    let (_, operator) = OPERATORS.iter().find(|(name, _)| *name == &*arg.op).expect("known");
    scmp_arg_cmp {
        arg: arg.index,
        op: match operator {
            Operator::Eq => scmp_compare::SCMP_CMP_EQ,
            Operator::Ne => scmp_compare::SCMP_CMP_NE,
            Operator::Lt => scmp_compare::SCMP_CMP_LT,
            Operator::Le => scmp_compare::SCMP_CMP_LE,
            Operator::Ge => scmp_compare::SCMP_CMP_GE,
            Operator::Gt => scmp_compare::SCMP_CMP_GT,
            Operator::MaskedEq => scmp_compare::SCMP_CMP_MASKED_EQ,
        },
        datum_a: arg.value,
        datum_b: arg.value_two.unwrap_or(0),
    }
}

fn export(filter: &Context, big_endian: bool) -> Result<Vec<Instruction>, String> {
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    let collector = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let rc = unsafe { seccomp_export_bpf(filter.0, writer.as_raw_fd()) };
    drop(writer);
    let bytes = collector.join().expect("joined").expect("read");
    check(rc, "export")?;
    let (chunks, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty());
    let instruction = |[a, b, jt, jf, k @ ..]: &[u8; 8]| {
        let (code, k) = if big_endian {
            let (code, k) = (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*k));
            // The library swaps the value of a `ret` it has to repeat twice when the byte orders differ.
            let known =
                |value: u32| ACTIONS.iter().any(|action| action.value == value & 0xffff_0000);
            let swapped = code == 6 && k != 0 && k >> 16 == 0 && known(k.swap_bytes());
            (code, if swapped || code == 6 && !known(k) { k.swap_bytes() } else { k })
        } else {
            (u16::from_le_bytes([*a, *b]), u32::from_le_bytes(*k))
        };
        Instruction { code, jt: *jt, jf: *jf, k }
    };
    Ok(chunks.iter().map(instruction).collect())
}

/// Says whether a program compares whatever argument was loaded last.
///
/// libseccomp 2.6.1 leaves a load out where the test before it on the same level has the same argument, also when
/// a deeper level that loads another argument comes back in between. A comparison that is reached with two
/// contents of the accumulator is such a place.
pub fn is_confused(program: &[Instruction]) -> bool {
    // What the accumulator may hold before each instruction: the offset of a load and the mask on it. Jumps go
    // forward only, so one pass is enough.
    let mut states: Vec<BTreeSet<(u32, u32)>> = vec![BTreeSet::new(); program.len() + 1];
    for (at, insn) in program.iter().enumerate() {
        let state = states[at].clone();
        let next = at + 1;
        match insn.code {
            0x20 => drop(states[next].insert((insn.k, u32::MAX))),
            0x54 => {
                states[next].extend(state.iter().map(|(offset, mask)| (*offset, mask & insn.k)))
            }
            0x05 => states[next + insn.k as usize].extend(state),
            0x15 | 0x25 | 0x35 => {
                if state.len() > 1 {
                    return true;
                }
                states[next + usize::from(insn.jt)].extend(state.iter().copied());
                states[next + usize::from(insn.jf)].extend(state);
            }
            _ => {}
        }
    }
    false
}

/// All names the library has on any of `arches`.
pub fn names(arches: &[&Arch]) -> Vec<String> {
    let mut all = BTreeSet::new();
    for arch in arches {
        for number in (-20_000..0x2000).chain(0x000f_0000..0x000f_0100) {
            all.extend(name_of(token(arch), number));
        }
    }
    all.into_iter().collect()
}
