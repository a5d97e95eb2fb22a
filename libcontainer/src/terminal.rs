//! The container's terminal: made inside its devpts by init, handed to whoever will drive it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, setsid};

use crate::error::{Context, Error, Result};
use crate::spec::ConsoleSize;
use crate::sys::pty::{self, WindowSize};
use crate::sys::socket::{self, SockType};

/// `f_type` of a devpts (statfs(2)).
const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

/// The device number of /dev/null (null(4)).
const NULL_DEVICE: (u64, u64) = (1, 3);

/// Refuses a terminal nobody would drive, and a console socket nothing would be sent to. `detach` is true for `create`.
///
/// # Errors
/// [`crate::Kind::Config`], in the words of runc, which containerd's tests match; crun's are the hint.
pub fn check_terminal(terminal: bool, detach: bool, console_socket: bool) -> Result<()> {
    if terminal && detach && !console_socket {
        return Err(Error::config(
            "cannot allocate tty if runc will detach without setting console socket",
        )
        .hint("use --console-socket"));
    }
    if console_socket && !(terminal && detach) {
        return Err(Error::config(
            "cannot use console socket if runc will not detach or allocate tty",
        ));
    }
    Ok(())
}

/// Connects to the stream socket of `--console-socket`; before the clone, for the path is the caller's.
///
/// # Errors
/// Those of connect(2).
pub fn connect_console_socket(path: &Path) -> Result<OwnedFd> {
    socket::connect(path, SockType::Stream).on("connect to the console socket", path)
}

/// Connects to the stream socket of `--pidfd-socket`.
///
/// # Errors
/// Those of connect(2).
pub fn connect_pidfd_socket(path: &Path) -> Result<OwnedFd> {
    socket::connect(path, SockType::Stream).on("connect to the pidfd socket", path)
}

/// Whose pidfd goes over `--pidfd-socket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PidfdKind {
    /// A container's init.
    Standard,
    /// A process `exec` has started.
    Setns,
}

impl PidfdKind {
    /// The data beside the descriptor, as runc sends it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Setns => "setns",
        }
    }
}

/// Sends `pidfd` over a connected pidfd socket.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_pidfd(
    pidfd_socket: BorrowedFd<'_>,
    kind: PidfdKind,
    pidfd: BorrowedFd<'_>,
) -> Result<()> {
    socket::send_fd(pidfd_socket, kind.name().as_bytes(), pidfd)
        .doing("send the pidfd to the pidfd socket")
}

/// A pseudoterminal of the container's devpts.
#[derive(Debug)]
pub struct Pty {
    /// The side of whoever drives the terminal.
    pub master: OwnedFd,
    /// The side of the container's process.
    pub slave: OwnedFd,
    number: u32,
}

impl Pty {
    /// Makes a pseudoterminal in the devpts whose root is `devpts` (`O_PATH` is enough).
    ///
    /// No path inside the container is trusted: `ptmx` is opened within that very mount, and the slave comes from its
    /// master (CVE-2025-52565: /dev/pts/N may be swapped for a symlink).
    ///
    /// # Errors
    /// `ENODEV` when `devpts` is no devpts, and those of openat2(2) and ioctl_tty(2).
    pub fn open(devpts: BorrowedFd<'_>) -> Result<Self> {
        check_devpts(devpts)?;
        let how = OpenHow::new().flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_SYMLINKS,
        );
        let master = openat2(devpts, c"ptmx", how).on("open", "/dev/pts/ptmx")?;
        check_devpts(master.as_fd())?;
        pty::unlock(master.as_fd()).doing("unlock the terminal")?;
        let number = pty::number(master.as_fd()).doing("number the terminal")?;
        let slave = pty::peer(master.as_fd()).doing("open the terminal")?;
        Ok(Self { master, slave, number })
    }

    /// The path of the slave inside the container.
    pub fn name(&self) -> String {
        format!("/dev/pts/{}", self.number)
    }

    /// Sets the size of the terminal (`process.consoleSize`); a dimension that a terminal cannot have is its largest.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn set_size(&self, size: ConsoleSize) -> Result<()> {
        let size = WindowSize {
            rows: u16::try_from(size.height).unwrap_or(u16::MAX),
            columns: u16::try_from(size.width).unwrap_or(u16::MAX),
        };
        pty::set_window_size(self.slave.as_fd(), size)
            .map_err(|errno| Error::os("resize the terminal", errno).field("process.consoleSize"))
    }

    /// Gives the slave to `uid`; its group stays the one devpts gives (`gid=`, which is tty).
    ///
    /// # Errors
    /// Those of fchown(2).
    pub fn chown(&self, uid: Uid) -> Result<()> {
        fchown(&self.slave, Some(uid), None).on("chown", self.name())
    }
}

/// Refuses a descriptor that is on no devpts.
fn check_devpts(fd: BorrowedFd<'_>) -> Result<()> {
    if fstatfs(fd).on("statfs", "/dev/pts")?.filesystem_type() == DEVPTS_SUPER_MAGIC {
        return Ok(());
    }
    Err(Error::os("make a terminal", Errno::ENODEV)
        .path("/dev/pts")
        .hint("process.terminal needs a devpts mount there"))
}

/// Makes the calling process a session leader with `slave` as its controlling terminal and standard streams.
///
/// # Errors
/// Those of ioctl_tty(2) and dup2(2).
pub fn make_controlling(slave: OwnedFd) -> Result<()> {
    match setsid() {
        // It leads its session already.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(Error::os("setsid", errno)),
    }
    pty::set_controlling(slave.as_fd()).doing("set the controlling terminal")?;
    dup2_stdin(&slave).doing("attach the terminal to standard input")?;
    dup2_stdout(&slave).doing("attach the terminal to standard output")?;
    dup2_stderr(&slave).doing("attach the terminal to standard error")?;
    drop(slave);
    Ok(())
}

/// Gives the standard streams to `uid`, so that the container's user can open /dev/stdout again.
///
/// A stream whose owner cannot be changed stays as it is: an id that is not mapped, a read-only file system.
/// /dev/null is shared with everybody and is left alone.
///
/// # Errors
/// Those of fchown(2) but `EINVAL`, `EPERM` and `EROFS`.
pub fn chown_stdio(uid: Uid) -> Result<()> {
    for stream in pty::standard_streams() {
        chown_stream(stream, uid).doing("chown a standard stream")?;
    }
    Ok(())
}

fn chown_stream(stream: BorrowedFd<'_>, uid: Uid) -> nix::Result<()> {
    let stat = fstat(stream)?;
    let device = (libc::major(stat.st_rdev).into(), libc::minor(stat.st_rdev).into());
    let is_null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && device == NULL_DEVICE;
    if is_null || stat.st_uid == uid.as_raw() {
        return Ok(());
    }
    match fchown(stream, Some(uid), None) {
        Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
