//! sd_notify(3) across the container's border: a socket of ours inside, the service manager's outside.
//!
//! The container cannot reach the manager's socket, and what it says of itself is only partly true outside: a pid of
//! its own namespace means nothing there. So each datagram is read line by line and passed on as far as it holds.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::unistd::{Pid, UnlinkatFlags, pipe2, unlinkat};

/// The directory in the container's state directory that is bound on [`PLACE`].
pub const DIRECTORY: &str = "notify";

/// Where the container has it, as runc's containers do.
pub const PLACE: &str = "/run/notify";

use crate::error::{Context, Error, Result};
use crate::path;
use crate::sys::socket::{self, SockType};
/// The socket's name in the directory.
const SOCKET: &str = "notify.sock";

/// How long the service manager may take to read what was sent, in milliseconds.
const BARRIER_LIMIT: u16 = 30_000;

/// How long a full queue of the service manager is waited for while the container runs, in milliseconds.
const QUEUE_LIMIT: u16 = 1000;

/// The longest datagram, in bytes; systemd reads no more either (`NOTIFY_BUFFER_MAX`).
const DATAGRAM_MAX: usize = 4096;

/// The assignments that mean the same outside the container.
const PASSED_ON: [&[u8]; 10] = [
    b"READY",
    b"RELOADING",
    b"STOPPING",
    b"MONOTONIC_USEC",
    b"STATUS",
    b"ERRNO",
    b"BUSERROR",
    b"WATCHDOG",
    b"WATCHDOG_USEC",
    b"EXTEND_TIMEOUT_USEC",
];

/// The longest path that connect(2) takes, in bytes: the NUL after it may be missing, but not for the C library.
const PATH_MAX: usize = 107;

/// What the container's process gets in its environment for a directory that is mounted on `place`.
pub fn variable(place: &str) -> String {
    format!("NOTIFY_SOCKET={place}/{SOCKET}")
}

/// Where crun's containers have the directory: on the path of the service manager's socket, `host`. None where that is no
/// place for one, or too long for what is in it: a name in the abstract namespace, the root, not UTF-8.
pub fn place_of(host: &OsStr) -> Option<String> {
    let place = format!("/{}", path::clean(host.to_str().filter(|path| path.starts_with('/'))?));
    (place != "/" && place.len() + 1 + SOCKET.len() <= PATH_MAX).then_some(place)
}

/// Makes the directory for the socket in `state_dir`, before the container's mounts.
///
/// # Errors
/// Those of mkdirat(2).
pub fn create_directory(state_dir: BorrowedFd<'_>) -> Result<()> {
    mkdirat(state_dir, DIRECTORY, Mode::from_bits_truncate(0o755)).on("mkdir", DIRECTORY)
}

/// A notification socket of one container and the service manager behind it.
#[derive(Debug)]
pub struct Proxy {
    container: OwnedFd,
    host: OwnedFd,
}

impl Proxy {
    /// Binds the container's socket in `state_dir` and connects to `host`, the value of the runtime's own
    /// `NOTIFY_SOCKET`: a path, or a name in the abstract namespace after `@`.
    ///
    /// # Errors
    /// Those of bind(2) and connect(2).
    pub fn bind(state_dir: BorrowedFd<'_>, host: &OsStr) -> Result<Self> {
        Self::bind_first(state_dir, host)?
    }

    /// The same, with the error of connect(2) apart: the container's socket is there then, and refuses whoever connects.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn bind_first(state_dir: BorrowedFd<'_>, host: &OsStr) -> Result<Result<Self>> {
        let container = Self::bind_container(state_dir)?;
        let connected = match host.as_bytes().strip_prefix(b"@") {
            Some(name) => socket::connect_abstract(name, SockType::Datagram),
            None => socket::connect(Path::new(host), SockType::Datagram),
        };
        let connected = connected.on("connect to NOTIFY_SOCKET", host);
        Ok(connected.map(|host| Self { container, host }))
    }

    /// Binds the container's socket.
    fn bind_container(state_dir: BorrowedFd<'_>) -> Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let dir = openat2(state_dir, DIRECTORY, how).on("open", DIRECTORY)?;
        match unlinkat(&dir, SOCKET, UnlinkatFlags::NoRemoveDir) {
            // A `start` that failed has left it.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(Error::os("unlink", errno).path(SOCKET)),
        }
        // Any user of the container may notify. A chmod afterwards could be led astray by a symlink.
        let before = umask(Mode::empty());
        let container = socket::bind_datagram(dir.as_fd(), SOCKET);
        umask(before);
        container.on("bind", SOCKET)
    }

    /// Waits until the container says `READY=1` or its init, behind `init`, is dead, and tells whether it was ready.
    ///
    /// What it says before is passed on at once. A ready container's `pid` becomes the service's main process, and
    /// the call returns only when the service manager has read that, for it asks the kernel who the sender is.
    ///
    /// # Errors
    /// Those of recv(2) and send(2); `ETIMEDOUT` when the service manager reads nothing for 30 s.
    pub fn wait_ready(&self, init: BorrowedFd<'_>, pid: Pid) -> Result<bool> {
        loop {
            let mut polled = [
                PollFd::new(self.container.as_fd(), PollFlags::POLLIN),
                PollFd::new(init, PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.doing("wait for READY=1")?,
            };
            let dead = polled.last().and_then(PollFd::any).unwrap_or(false);
            // Looked for after the death: what init sent before it is in the queue.
            if self.pass_on(PollTimeout::NONE)? {
                self.tell(format!("MAINPID={pid}\n").as_bytes(), PollTimeout::NONE)?;
                self.barrier()?;
                return Ok(true);
            }
            if dead {
                return Ok(false);
            }
        }
    }

    /// Passes on what the container has said since, while the runtime itself is the service's main process.
    ///
    /// # Errors
    /// Those of recv(2) and send(2).
    pub fn relay(&self) -> Result<()> {
        self.pass_on(PollTimeout::from(QUEUE_LIMIT)).map(drop)
    }

    /// Passes on every datagram that is there; stops after one with `READY=1` and returns true.
    fn pass_on(&self, limit: PollTimeout) -> Result<bool> {
        let mut datagram = [0_u8; DATAGRAM_MAX];
        loop {
            // MSG_TRUNC: the datagram's own length is returned. No room for descriptors: the kernel closes them.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let len = match recv(self.container.as_raw_fd(), &mut datagram, flags) {
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => continue,
                other => other.doing("read the container's notifications")?,
            };
            // One that is longer than the buffer is dropped, as systemd does.
            let Some(text) = datagram.get(..len) else { continue };
            let (message, ready) = outside(text);
            if !message.is_empty() {
                self.tell(&message, limit)?;
            }
            if ready {
                return Ok(true);
            }
        }
    }

    /// Sends one datagram, waiting at most `limit` for room in the service manager's queue.
    fn tell(&self, message: &[u8], limit: PollTimeout) -> Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match send(self.host.as_raw_fd(), message, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut polled = [PollFd::new(self.host.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut polled, limit) {
                        Ok(0) => return Err(unread(Errno::EAGAIN)),
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(unread(errno)),
                    }
                }
                Err(errno) => return Err(unread(errno)),
            }
        }
    }

    /// Waits until the service manager has worked off its queue (sd_notify_barrier(3)).
    fn barrier(&self) -> Result<()> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
        socket::send_fd(self.host.as_fd(), b"BARRIER=1", writer.as_fd()).map_err(unread)?;
        // The manager's copy is the last one: its end is the answer.
        drop(writer);
        loop {
            let mut polled = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, BARRIER_LIMIT) {
                Ok(0) => return Err(unread(Errno::ETIMEDOUT)),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(unread(errno)),
            }
        }
    }
}

impl AsFd for Proxy {
    /// The socket that is readable when [`Proxy::relay`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

/// The error for a service manager that was not told.
fn unread(errno: Errno) -> Error {
    Error::os("notify the service manager behind NOTIFY_SOCKET", errno)
}

/// The lines of a datagram that mean the same outside the container, and whether `READY=1` is among them.
fn outside(datagram: &[u8]) -> (Vec<u8>, bool) {
    let mut message = Vec::new();
    let mut ready = false;
    for line in datagram.split(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        if PASSED_ON.contains(&name) && name.len() < line.len() {
            // Between lines, not after the last: a manager that reads no more than `READY=1` is content with that.
            if !message.is_empty() {
                message.push(b'\n');
            }
            message.extend_from_slice(line);
            ready |= line == b"READY=1";
        }
    }
    (message, ready)
}

#[cfg(test)]
mod tests;
