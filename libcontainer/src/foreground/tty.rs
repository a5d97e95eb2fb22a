//! The two ends of a terminal in the foreground: the container's master, and the host's standard streams.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{getpgrp, read, tcgetpgrp, write};

use crate::error::{Context, Result};
use crate::sys::pty::{self, Modes, standard_streams};
use crate::sys::spawn::signal::SignalFd;

/// The size of each direction's buffer, in bytes: what a pseudoterminal gives at once.
const BUFFER_SIZE: usize = 4096;

/// How many buffers are moved before signals are looked at again.
const ROUNDS: usize = 64;

/// How much is still copied after the process has ended, in bytes. More than the kernel's buffers hold (640 KiB), so
/// only a process that goes on writing reaches it.
const DRAIN_MAX: usize = 1 << 20;

/// How much a poll(2) says a pipe takes without blocking, in bytes (PIPE_BUF).
const PIPE_BUF: usize = 4096;

/// A container's terminal and the host's, connected.
#[derive(Debug)]
pub struct Tty {
    master: OwnedFd,
    /// Edges of `master`. Its level is no use: POLLHUP stays while no process has the terminal open, and the next one
    /// may open it again, as systemd does with /dev/console.
    edges: Epoll,
    readable: bool,
    writable: bool,
    /// Gone at its end of file: that is no reason to end anything inside.
    stdin: Option<Stream>,
    stdin_ready: bool,
    /// Gone when nobody reads it any more: the container goes on.
    stdout: Option<Stream>,
    stdout_blocked: bool,
    input: Buffer,
    output: Buffer,
    size_from: Option<Terminal>,
    /// Restores the host's terminal when it goes.
    _raw: Option<Raw>,
}

impl Tty {
    /// Connects the pseudoterminal behind `master` with our standard streams: a host's terminal among them becomes
    /// raw and gives its size, and CR before LF is left to it.
    ///
    /// # Errors
    /// Those of the terminal's ioctls, epoll_create(2) and fcntl(2).
    pub fn new(master: OwnedFd) -> Result<Self> {
        let [stdin, stdout, _] = standard_streams();
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing("fcntl")?;
        Modes::get(master.as_fd())
            .and_then(|modes| modes.without_onlcr().set(master.as_fd()))
            .doing("set up the container's terminal")?;
        let edges = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).doing("epoll_create")?;
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        edges.add(&master, EpollEvent::new(events, 0)).doing("epoll_ctl")?;
        let tty = Self {
            edges,
            readable: true,
            writable: true,
            stdin: Some(Stream::new(stdin, OFlag::O_RDONLY)),
            stdin_ready: false,
            stdout: Some(Stream::new(stdout, OFlag::O_WRONLY)),
            stdout_blocked: false,
            input: Buffer::new(),
            output: Buffer::new(),
            size_from: Terminal::find(),
            _raw: Raw::begin(stdin).doing("set the terminal to raw mode")?,
            master,
        };
        tty.resize();
        Ok(tty)
    }

    /// Gives the container's terminal the size of the host's, if that has one.
    pub(super) fn resize(&self) {
        let Some(host) = &self.size_from else { return };
        match pty::window_size(host.as_fd()) {
            Ok(size) if size.rows > 0 && size.columns > 0 => {
                let _may_be_gone = pty::set_window_size(self.master.as_fd(), size);
            }
            // A terminal that has no size, or none any more.
            _ => {}
        }
    }

    /// What to poll for; [`Tty::wake`] takes the answers in this order.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let mut polled = vec![PollFd::new(self.edges.0.as_fd(), PollFlags::POLLIN)];
        if let Some(stdin) = self.stdin_wanted() {
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stdout) = self.stdout_wanted() {
            polled.push(PollFd::new(stdout.as_fd(), PollFlags::POLLOUT));
        }
        polled
    }

    /// Takes in what poll(2) said of [`Tty::interests`].
    pub(super) fn wake(&mut self, woken: &[bool]) {
        let mut woken = woken.iter().copied();
        if woken.next().unwrap_or(false) {
            self.take_edges();
        }
        if self.stdin_wanted().is_some() {
            self.stdin_ready = woken.next().unwrap_or(false);
        }
        if self.stdout_wanted().is_some() && woken.next().unwrap_or(false) {
            self.stdout_blocked = false;
        }
    }

    /// Standard input, while what was read of it is written.
    fn stdin_wanted(&self) -> Option<&Stream> {
        self.stdin.as_ref().filter(|_| self.input.is_empty())
    }

    /// Standard output, while it does not take what is there.
    fn stdout_wanted(&self) -> Option<&Stream> {
        self.stdout.as_ref().filter(|_| self.stdout_blocked)
    }

    fn take_edges(&mut self) {
        let mut events = [EpollEvent::empty()];
        if let Ok(1) = self.edges.wait(&mut events, EpollTimeout::ZERO) {
            // Of a hang-up only a read tells whether it is over.
            self.readable = true;
            self.writable = true;
        }
    }

    /// Tells whether [`Tty::copy`] could go on without waiting for anything.
    pub(super) fn has_work(&self) -> bool {
        (self.readable && !self.stdout_blocked) || (self.writable && !self.input.is_empty())
    }

    /// Moves in both directions what can be moved now.
    pub(super) fn copy(&mut self) -> nix::Result<()> {
        for _ in 0..ROUNDS {
            let out = self.copy_out()?.is_some();
            if !self.copy_in()? && !out {
                break;
            }
        }
        Ok(())
    }

    /// One step from the container to the host: `None` if there is nothing to do, or how many bytes were read.
    fn copy_out(&mut self) -> nix::Result<Option<usize>> {
        if !self.output.is_empty() {
            return Ok(self.write_out().then_some(0));
        }
        if !self.readable {
            return Ok(None);
        }
        match self.output.fill(|free| read(&self.master, free)) {
            Ok(len @ 1..) => Ok(Some(len)),
            // EIO: no process has the terminal open.
            Ok(0) | Err(Errno::EAGAIN | Errno::EIO) => {
                self.readable = false;
                Ok(None)
            }
            Err(Errno::EINTR) => Ok(Some(0)),
            Err(errno) => Err(errno),
        }
    }

    /// Writes to the host; tells whether that led anywhere.
    fn write_out(&mut self) -> bool {
        let Some(stdout) = &self.stdout else {
            self.output.clear();
            return true;
        };
        match self.output.empty(|text| stdout.write(text)) {
            Ok(()) | Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => {
                self.stdout_blocked = true;
                false
            }
            // Nobody reads it any more: a closed pipe, a terminal that was hung up.
            Err(_) => {
                self.stdout = None;
                self.stdout_blocked = false;
                true
            }
        }
    }

    /// One step from the host to the container; tells whether that led anywhere.
    fn copy_in(&mut self) -> nix::Result<bool> {
        if !self.input.is_empty() {
            return self.write_in();
        }
        let Some(stdin) = self.stdin.as_ref().filter(|_| self.stdin_ready) else {
            return Ok(false);
        };
        self.stdin_ready = false;
        match self.input.fill(|free| stdin.read(free)) {
            Ok(1..) => Ok(true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            // Its end, or a terminal that was hung up or is not ours to read.
            Ok(0) | Err(_) => {
                self.stdin = None;
                Ok(false)
            }
        }
    }

    fn write_in(&mut self) -> nix::Result<bool> {
        if !self.writable {
            return Ok(false);
        }
        match self.input.empty(|text| write(&self.master, text)) {
            Ok(()) | Err(Errno::EINTR) => Ok(true),
            Err(Errno::EAGAIN) => {
                self.writable = false;
                Ok(false)
            }
            // No process has the terminal open to read what was typed.
            Err(Errno::EIO) => {
                self.input.clear();
                Ok(true)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Copies what the process, which has ended, has written; a signal ends the wait for a host that takes nothing.
    pub(super) fn drain(&mut self, signals: &SignalFd) -> nix::Result<()> {
        let mut copied = 0;
        loop {
            // poll(2) of a master completes the deliveries under way, so what does not show now was never written.
            self.readable = self.is_readable()?;
            match self.copy_out()? {
                Some(len) => copied += len,
                None if self.stdout_blocked => {
                    if self.wait_for_host(signals)? {
                        return Ok(());
                    }
                }
                None => return Ok(()),
            }
            if copied > DRAIN_MAX && self.output.is_empty() {
                return Ok(());
            }
        }
    }

    fn is_readable(&self) -> nix::Result<bool> {
        let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO)?;
        let [master] = polled;
        Ok(master.revents().is_some_and(|events| events.contains(PollFlags::POLLIN)))
    }

    /// Waits until the host takes more; tells whether a signal asks to give up.
    fn wait_for_host(&mut self, signals: &SignalFd) -> nix::Result<bool> {
        let Some(stdout) = &self.stdout else { return Ok(false) };
        let mut polled = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdout.as_fd(), PollFlags::POLLOUT),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        self.stdout_blocked = false;
        while let Some(received) = signals.take()? {
            if ![libc::SIGCHLD, libc::SIGWINCH, libc::SIGURG, libc::SIGPIPE, libc::SIGCONT]
                .contains(&received.signal)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A host's standard stream that never blocks us, without changing the mode our caller's processes share.
#[derive(Debug)]
enum Stream {
    /// A pipe or terminal, opened once more: the non-blocking mode is ours alone.
    Own(OwnedFd),
    /// A socket, which has a flag for it.
    Socket(BorrowedFd<'static>),
    /// A file, or what could not be opened again: asked before each read or write.
    Shared(BorrowedFd<'static>),
}

impl Stream {
    fn new(fd: BorrowedFd<'static>, access: OFlag) -> Self {
        let kind = fstat(fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT);
        match kind {
            libc::S_IFSOCK => Self::Socket(fd),
            libc::S_IFIFO | libc::S_IFCHR => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                // A terminal of another user's, a pipe without reader.
                open(path.as_str(), flags, Mode::empty()).map_or(Self::Shared(fd), Self::Own)
            }
            _ => Self::Shared(fd),
        }
    }

    /// Reads once poll(2) has said that there is something.
    fn read(&self, free: &mut [u8]) -> nix::Result<usize> {
        match self {
            Self::Own(fd) => read(fd, free),
            Self::Socket(fd) => recv(fd.as_raw_fd(), free, MsgFlags::MSG_DONTWAIT),
            Self::Shared(fd) => read(fd, free),
        }
    }

    fn write(&self, text: &[u8]) -> nix::Result<usize> {
        match self {
            Self::Own(fd) => write(fd, text),
            Self::Socket(fd) => {
                send(fd.as_raw_fd(), text, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            }
            Self::Shared(fd) => {
                let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut polled, PollTimeout::ZERO)? == 0 {
                    return Err(Errno::EAGAIN);
                }
                write(fd, text.get(..PIPE_BUF).unwrap_or(text))
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Socket(fd) | Self::Shared(fd) => *fd,
        }
    }
}

/// Bytes on their way in one direction; refilled when empty.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    filled: Range<usize>,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; BUFFER_SIZE], filled: 0..0 }
    }

    fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    fn clear(&mut self) {
        self.filled = 0..0;
    }

    /// Replaces the content by what `read` brings.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> nix::Result<usize>) -> nix::Result<usize> {
        let len = read(&mut self.bytes)?;
        self.filled = 0..len;
        Ok(len)
    }

    /// Removes what `write` takes.
    fn empty(&mut self, write: impl FnOnce(&[u8]) -> nix::Result<usize>) -> nix::Result<()> {
        let written = write(self.bytes.get(self.filled.clone()).unwrap_or_default())?;
        self.filled.start += written;
        Ok(())
    }
}

/// The host's terminal, whose size the container's follows.
#[derive(Debug)]
enum Terminal {
    Stream(BorrowedFd<'static>),
    Controlling(File),
}

impl Terminal {
    /// The first standard stream that is a terminal, or the controlling one, if there is any.
    fn find() -> Option<Self> {
        let [stdin, stdout, stderr] = standard_streams();
        // Standard error first, like runc: it is redirected the least.
        for stream in [stderr, stdout, stdin] {
            if pty::window_size(stream).is_ok() {
                return Some(Self::Stream(stream));
            }
        }
        File::open("/dev/tty").ok().map(Self::Controlling)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(fd) => *fd,
            Self::Controlling(file) => file.as_fd(),
        }
    }
}

/// The host's terminal in raw mode, until this goes.
#[derive(Debug)]
struct Raw {
    terminal: BorrowedFd<'static>,
    modes: Modes,
}

impl Raw {
    /// Makes `stdin` raw if it is a terminal; not from the background, where the shell is using it.
    fn begin(stdin: BorrowedFd<'static>) -> nix::Result<Option<Self>> {
        if tcgetpgrp(stdin).is_ok_and(|foreground| foreground != getpgrp()) {
            return Ok(None);
        }
        let modes = match Modes::get(stdin) {
            // No terminal, or one that was hung up.
            Err(Errno::ENOTTY | Errno::EIO) => return Ok(None),
            other => other?,
        };
        modes.raw().set(stdin)?;
        Ok(Some(Self { terminal: stdin, modes }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _may_be_gone = self.modes.set(self.terminal);
    }
}
