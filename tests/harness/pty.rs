//! Terminals: the receiver of a console socket, and a terminal to run the runtime on.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::termios::{Termios, tcgetattr};

use super::{sys, wait};

/// The master side of a terminal.
pub struct Terminal {
    pub master: File,
    /// All that came so far, as it came.
    pub raw: String,
    /// The same without carriage returns before newlines.
    pub seen: String,
}

impl Terminal {
    fn new(master: OwnedFd) -> Self {
        let flags = OFlag::from_bits_truncate(fcntl(&master, FcntlArg::F_GETFL).unwrap());
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
        Self { master: File::from(master), raw: String::new(), seen: String::new() }
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until these words have come, and returns all that came so far.
    #[track_caller]
    pub fn expect(&mut self, words: &str) -> String {
        let deadline = Instant::now() + wait::patience();
        while !self.seen.contains(words) {
            let left = deadline.saturating_duration_since(Instant::now());
            let alive = !left.is_zero() && self.read_some(left);
            assert!(
                alive || self.seen.contains(words),
                "expected {words:?}, the terminal said {:?}",
                self.seen
            );
        }
        self.seen.clone()
    }

    /// Reads until the other side is closed.
    pub fn read_to_end(&mut self) -> String {
        while self.read_some(wait::patience()) {}
        self.seen.clone()
    }

    fn read_some(&mut self, limit: Duration) -> bool {
        if !wait::readable(&self.master, limit) {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) => false,
            Ok(len) => {
                self.raw.push_str(&String::from_utf8_lossy(&buffer[..len]));
                self.seen = self.raw.replace("\r\n", "\n");
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
            Err(_) => false, // EIO: the last slave is closed
        }
    }

    pub fn attributes(&self) -> Termios {
        tcgetattr(&self.master).unwrap()
    }

    pub fn size(&self) -> (u16, u16) {
        sys::window_size(&self.master).unwrap()
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        sys::set_window_size(&self.master, rows, columns).unwrap();
    }
}

/// Listens where `--console-socket` points.
pub struct ConsoleSocket {
    listener: UnixListener,
    pub path: PathBuf,
}

impl ConsoleSocket {
    pub fn listen(path: PathBuf) -> Self {
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    pub fn arg(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Accepts as go-runc and conmon do: one message, a name, exactly one descriptor, then the end.
    #[track_caller]
    pub fn receive(&self) -> Terminal {
        self.receive_named().0
    }

    /// The same, with the name that came along.
    #[track_caller]
    pub fn receive_named(&self) -> (Terminal, String) {
        let (fd, name) = receive_one(&self.listener);
        assert!(!name.is_empty() && name.len() < 4096, "the name has {} bytes", name.len());
        let flags = FdFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
        tcgetattr(&fd).expect("what was sent is a terminal");
        (Terminal::new(fd), name)
    }

    /// Whether anybody has connected.
    pub fn is_untouched(&self) -> bool {
        !wait::readable(&self.listener, Duration::ZERO)
    }
}

/// Receives the one descriptor that `--console-socket` and `--pidfd-socket` promise, with its name.
#[track_caller]
pub fn receive_one(listener: &UnixListener) -> (OwnedFd, String) {
    assert!(wait::readable(listener, wait::patience()), "nobody connected to the socket");
    let (stream, _) = listener.accept().unwrap();
    assert!(wait::readable(&stream, wait::patience()), "nothing was sent");
    let mut message = sys::receive(&stream).unwrap();
    assert_eq!(
        (message.fds.len(), message.controls, message.truncated),
        (1, 1, false),
        "SCM_RIGHTS"
    );
    assert!(wait::readable(&stream, wait::patience()), "the runtime keeps the connection open");
    assert_eq!(sys::receive(&stream).unwrap().data, b"", "a second message");
    (message.fds.remove(0), String::from_utf8(message.data).unwrap())
}

/// A terminal of the host's, for a runtime in the foreground.
pub struct HostTerminal {
    pub terminal: Terminal,
    pub slave: OwnedFd,
}

impl HostTerminal {
    pub fn open(rows: u16, columns: u16) -> Self {
        let (master, slave) = sys::terminal().unwrap();
        sys::set_window_size(&master, rows, columns).unwrap();
        Self { terminal: Terminal::new(master), slave }
    }

    /// Another descriptor of the slave side.
    pub fn slave(&self) -> OwnedFd {
        self.slave.try_clone().unwrap()
    }
}
