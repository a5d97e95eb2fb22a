//! clone3(2), setns(2), unshare(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{check, int};

/// clone(2) `CLONE_INTO_CGROUP`; libc's constant does not fit its own flags type on every target.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the clone the caller is on.
#[derive(Debug)]
pub enum Side {
    /// The process that called; the child's pid and pidfd.
    Parent(Pid, OwnedFd),
    /// The new process.
    Child,
}

/// Makes a child process in the namespaces `flags` (`CLONE_NEW*`, `CLONE_PARENT`), born in the v2 cgroup
/// whose directory is `cgroup` (Linux 5.7) if there is one.
///
/// The child has a copy of this process's memory, as after fork(2).
///
/// # Safety
/// The calling process has exactly one thread: locks held by others would stay held in the child for ever.
///
/// # Errors
/// Those of clone3(2).
pub unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a plain C struct for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    // CLONE_PARENT takes its exit signal from the parent's own: clone3 refuses a second one with EINVAL.
    let signal = if flags & bits(libc::CLONE_PARENT) == 0 { libc::SIGCHLD } else { 0 };
    args.flags = flags | bits(libc::CLONE_PIDFD);
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = u64::from(signal.unsigned_abs());
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().unsigned_abs());
    }
    // SAFETY: args outlives the call and has no stack: the child goes on here in its own copy. The caller
    // promises one thread.
    let ret = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&args), size_of::<libc::clone_args>())
    };
    match check(ret)? {
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: the kernel has just put a new descriptor there, and nobody else has it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(Pid::from_raw(int(pid)), pidfd))
        }
    }
}

/// [`clone3`] for a process that is itself a clone and will be the new one's sibling: the child's parent is this
/// process's parent.
///
/// # Errors
/// Those of clone3(2).
pub fn clone_sibling(flags: u64) -> Result<Side, Errno> {
    // SAFETY: only called in a process that clone3 has made from a single-threaded one, before execve; it has one
    // thread as well.
    unsafe { clone3(flags | bits(libc::CLONE_PARENT), None) }
}

/// [`clone3`] for a process with one thread; with more it is refused.
///
/// # Errors
/// EBUSY for a second thread; those of clone3(2).
pub fn clone_single_threaded(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Errno> {
    // unshare(2): CLONE_THREAD changes nothing, and is refused to a process with threads. The cheapest way to ask.
    if unshare(libc::CLONE_THREAD) == Err(Errno::EINVAL) {
        return Err(Errno::EBUSY);
    }
    // SAFETY: this process has one thread, which is this one.
    unsafe { clone3(flags, cgroup) }
}

/// Which kind of namespace (`CLONE_NEW*`) `fd` refers to (ioctl_ns(2)).
///
/// # Errors
/// ENOTTY if it is none.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this ioctl takes no memory.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) }.into()).map(int)
}

/// Widens a `CLONE_*` constant.
pub const fn bits(flag: libc::c_int) -> u64 {
    flag.cast_unsigned() as u64
}

/// Joins the namespace (or, with a pidfd, the namespaces; Linux 5.8) `fd` refers to; `kinds` are `CLONE_NEW*`.
///
/// # Errors
/// Those of setns(2).
pub fn setns(fd: BorrowedFd<'_>, kinds: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kinds) }).map(drop)
}

/// Puts this process into new namespaces.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare(kinds: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds) }).map(drop)
}
