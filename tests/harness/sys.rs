//! The few system calls that neither std nor nix offers in a safe form: all `unsafe` of the tests.

#![allow(unsafe_code, reason = "the tests need pre_exec, received descriptors and three ioctls")]

use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// What one `recvmsg(2)` brought.
pub struct Message {
    pub data: Vec<u8>,
    pub fds: Vec<OwnedFd>,
    /// The number of control messages, of any kind.
    pub controls: usize,
    pub truncated: bool,
}

/// Receives one message with room for more descriptors than any sender may send.
pub fn receive(stream: &UnixStream) -> io::Result<Message> {
    let mut data = vec![0_u8; 65536];
    let mut space = nix::cmsg_space!([RawFd; 16]);
    let (len, fds, controls, truncated) = {
        let mut iov = [io::IoSliceMut::new(&mut data)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        let mut controls = 0;
        for control in message.cmsgs()? {
            controls += 1;
            if let ControlMessageOwned::ScmRights(received) = control {
                for fd in received {
                    // SAFETY: the kernel has just installed this descriptor for us alone.
                    fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        (message.bytes, fds, controls, message.flags.contains(MsgFlags::MSG_CTRUNC))
    };
    data.truncate(len);
    Ok(Message { data, fds, controls, truncated })
}

/// `pidfd_open(2)`.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Does `what` with the effective user id of another in this thread, which is no others'.
pub fn as_user<T>(uid: u32, what: impl FnOnce() -> T) -> T {
    const SAME: u32 = u32::MAX;
    // SAFETY: no pointers are passed; the system call, unlike the C library's function, changes this thread alone.
    let switch = |uid: u32| unsafe { libc::syscall(libc::SYS_setresuid, SAME, uid, SAME) };
    assert_eq!(switch(uid), 0);
    let done = what();
    assert_eq!(switch(0), 0);
    done
}

/// `renameat2(2)` with `RENAME_EXCHANGE`; nix has it for glibc only.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let one = CString::new(one.as_os_str().as_bytes())?;
    let other = CString::new(other.as_os_str().as_bytes())?;
    // SAFETY: both paths are C strings that outlive the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes each descriptor available to the command under the given number.
pub fn pass_fds(command: &mut Command, fds: Vec<(OwnedFd, RawFd)>) {
    let hook = move || {
        // Two rounds, so that a target number never overwrites a source that is still needed.
        for (fd, target) in &fds {
            // SAFETY: fcntl and dup2 are async-signal-safe and take no pointers here.
            let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 200 + target) };
            if high != 200 + target {
                return Err(io::Error::last_os_error());
            }
        }
        for (_, target) in &fds {
            // SAFETY: as above.
            if unsafe { libc::dup2(200 + target, *target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the hook makes system calls only; it neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
}

/// Has the command inherit the standard streams and no other descriptor, whoever left one open.
pub fn inherit_streams_alone(command: &mut Command) {
    let hook = || {
        const FLAGS: libc::c_uint = libc::CLOSE_RANGE_CLOEXEC;
        // SAFETY: no pointers are passed, and nothing is closed before execve.
        if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, FLAGS) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the hook makes one system call.
    unsafe { command.pre_exec(hook) };
}

/// Makes the command's standard input, a terminal, its controlling terminal.
pub fn control_stdin_terminal(command: &mut Command) {
    let hook = || {
        // SAFETY: setsid takes no arguments.
        if unsafe { libc::setsid() } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: TIOCSCTTY takes an integer.
        if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the hook makes two system calls and nothing else.
    unsafe { command.pre_exec(hook) };
}

/// Has the kernel send SIGKILL to the command when the thread that started it ends, as go-runc does.
pub fn die_with_parent(command: &mut Command) {
    let hook = || {
        // SAFETY: PR_SET_PDEATHSIG takes an integer.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the hook makes one system call.
    unsafe { command.pre_exec(hook) };
}

/// Starts the command with a signal ignored, as a careless caller leaves it.
pub fn ignore_signal(command: &mut Command, signal: i32) {
    let hook = move || {
        // SAFETY: SIG_IGN is a valid disposition.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the hook makes one system call.
    unsafe { command.pre_exec(hook) };
}

/// Starts the command with this umask.
pub fn with_umask(command: &mut Command, mask: u32) {
    let hook = move || {
        // SAFETY: umask cannot fail.
        unsafe { libc::umask(mask) };
        Ok(())
    };
    // SAFETY: the hook makes one system call.
    unsafe { command.pre_exec(hook) };
}

/// Gives a file an extended attribute.
pub fn set_attribute(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (bytes, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: path and name are C strings, value has length bytes; all outlive the call.
    match unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), bytes, length, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A new terminal, its master and its slave: close-on-exec from the first, which openpty(3) cannot, so that no process
/// that another thread starts inherits it.
pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    const FLAGS: libc::c_int = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let master = OpenOptions::new().read(true).write(true).custom_flags(FLAGS).open("/dev/ptmx")?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TIOCGPTPEER takes the flags of open(2) as an integer.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, FLAGS) };
    if slave < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((master.into(), unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// Rows and columns of a terminal.
pub fn window_size(terminal: &impl AsRawFd) -> io::Result<(u16, u16)> {
    // SAFETY: winsize is plain data.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a winsize, as TIOCGWINSZ wants.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((size.ws_row, size.ws_col))
}

/// Sets rows and columns of a terminal, which sends SIGWINCH to its foreground group.
pub fn set_window_size(terminal: &impl AsRawFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a winsize, as TIOCSWINSZ wants.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const SECCOMP_IOCTL_NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND: libc::c_ulong = 0xc018_2101;

/// Takes one notification off a seccomp listener: its id, the caller's pid, the syscall number.
pub fn notification(listener: &impl AsRawFd) -> io::Result<(u64, u32, i32)> {
    // SAFETY: seccomp_notif is plain data, and the kernel wants it zeroed.
    let mut notif: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a seccomp_notif.
    let rc =
        unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut notif) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((notif.id, notif.pid, notif.data.nr))
}

/// Answers a notification with a return value, or with an errno (positive).
pub fn answer(listener: &impl AsRawFd, id: u64, value: i64, errno: i32) -> io::Result<()> {
    // SAFETY: seccomp_notif_resp is plain data.
    let mut response: libc::seccomp_notif_resp = unsafe { mem::zeroed() };
    response.id = id;
    response.val = value;
    response.error = -errno;
    // SAFETY: the pointer is to a seccomp_notif_resp.
    let rc = unsafe {
        libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut response)
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
