//! User and group ids, capabilities, securebits.

use nix::errno::Errno;

use super::{check, int};

/// A set of capabilities, one bit each (capabilities(7)).
pub type CapSet = u64;

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The three sets capset(2) knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadCaps {
    /// What the kernel checks.
    pub effective: CapSet,
    /// What may become effective.
    pub permitted: CapSet,
    /// What an execve may keep.
    pub inheritable: CapSet,
}

/// The capabilities of this process.
///
/// # Errors
/// Those of capget(2).
pub fn capget() -> Result<ThreadCaps, Errno> {
    let mut header = Header { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: header and data have the layout of version 3, which takes two data structs.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(ThreadCaps {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// Sets the capabilities of this process.
///
/// # Errors
/// Those of capset(2).
#[allow(clippy::cast_possible_truncation, reason = "the halves of a 64-bit set")]
pub fn capset(caps: ThreadCaps) -> Result<(), Errno> {
    let mut header = Header { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (caps.effective >> shift) as u32,
        permitted: (caps.permitted >> shift) as u32,
        inheritable: (caps.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: header and data have the layout of version 3, which takes two data structs.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

fn prctl(option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> Result<libc::c_int, Errno> {
    // SAFETY: none of the options used here takes a pointer.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0, 0) }).map(int)
}

/// Whether capability `cap` is in the bounding set; `None` past the last one the kernel knows.
pub fn bounding_has(cap: u32) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, cap.into(), 0).ok().map(|is| is == 1)
}

/// Takes `cap` out of the bounding set.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn bounding_drop(cap: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, cap.into(), 0).map(drop)
}

/// Empties the ambient set.
///
/// # Errors
/// Those of prctl(2).
pub fn ambient_clear() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0).map(drop)
}

/// Puts `cap` into the ambient set; it has to be permitted and inheritable.
///
/// # Errors
/// EPERM if it is not both.
pub fn ambient_raise(cap: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, cap.into()).map(drop)
}

/// Says whether a change from uid 0 keeps the permitted capabilities.
///
/// # Errors
/// Those of prctl(2).
pub fn set_keepcaps(on: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, on.into(), 0).map(drop)
}

/// Sets no_new_privs, which nothing can take back.
///
/// # Errors
/// Those of prctl(2).
pub fn set_no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether this program was started as root of its user namespace, as the kernel told it then (getauxval(3)): no system
/// call.
pub fn started_as_root() -> bool {
    // SAFETY: getauxval reads what the kernel has left on the stack.
    unsafe { libc::getauxval(libc::AT_EUID) == 0 }
}

/// Whether no_new_privs is set.
pub fn has_no_new_privs() -> bool {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0) == Ok(1)
}

/// Says whether this process may be ptraced, dumped and looked into through /proc.
///
/// # Errors
/// Those of prctl(2).
pub fn set_dumpable(on: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, on.into(), 0).map(drop)
}

/// Asks for `signal` when the parent dies; 0 for none.
///
/// # Errors
/// Those of prctl(2).
pub fn set_parent_death_signal(signal: libc::c_int) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal.unsigned_abs()), 0).map(drop)
}

/// Real, effective and saved user id at once. The raw call: a C library would tell its threads.
///
/// # Errors
/// EINVAL for an id without a mapping in this user namespace; EPERM.
pub fn setresuid(uid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Real, effective and saved group id at once.
///
/// # Errors
/// EINVAL for an id without a mapping in this user namespace; EPERM.
pub fn setresgid(gid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Supplementary groups.
///
/// # Errors
/// EPERM, also where the user namespace denies setgroups(2).
pub fn setgroups(gids: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads gids.len() ids from the slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) }).map(drop)
}
