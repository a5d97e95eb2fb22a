//! pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{check, int};

/// A descriptor that stands for the process `pid` until it is reaped (Linux 5.3).
///
/// # Errors
/// ESRCH if there is no such process.
pub fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) })
}

/// Sends `signal` to the process.
///
/// # Errors
/// ESRCH if it is gone; EPERM.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> Result<(), Errno> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo is allowed and means an ordinary kill.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) })
        .map(drop)
}

/// A copy of the other process's descriptor number `fd` (Linux 5.6).
///
/// # Errors
/// EBADF if it has no such descriptor; EPERM.
pub fn getfd(pidfd: BorrowedFd<'_>, fd: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) })
}

/// The pid, in the pid namespace of the procfs at /proc, of the process `pidfd` stands for (pidfd_open(2) "fdinfo").
///
/// # Errors
/// ESRCH if it is gone or not visible there.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Pid, Errno> {
    let path = std::ffi::CString::new(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))
        .map_err(|_nul| Errno::EINVAL)?;
    let file = super::fd::openat(super::fd::CWD, &path, libc::O_RDONLY, 0)?;
    let mut text = [0; 512];
    let n = nix::unistd::read(&file, &mut text)?;
    std::str::from_utf8(text.get(..n).unwrap_or_default())
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("Pid:")))
        .and_then(|number| number.trim().parse().ok())
        .filter(|number| *number > 0)
        .map(Pid::from_raw)
        .ok_or(Errno::ESRCH)
}
