//! Every system call that needs `unsafe`, one thin function each; nothing above this module has any.
//!
//! A function here is its man page: typed arguments, an `Errno` back, `O_CLOEXEC` always, EINTR where the page
//! says it is safe to repeat. Decisions live above.

pub mod alloc;
pub mod bpf;
pub mod clone;
pub mod creds;
pub mod entry;
pub mod exec;
pub mod fd;
pub mod image;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod regex;
pub mod scheduling;
pub mod seccomp;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod xattr;

use nix::errno::Errno;

/// Turns the return value of a raw system call into a result.
pub(crate) fn check(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret == -1 { Err(Errno::last()) } else { Ok(ret) }
}

/// Narrows a descriptor or pid that the kernel returned; those always fit.
#[allow(clippy::cast_possible_truncation, reason = "descriptors and pids are ints in the kernel")]
pub(crate) fn int(value: libc::c_long) -> libc::c_int {
    value as libc::c_int
}
