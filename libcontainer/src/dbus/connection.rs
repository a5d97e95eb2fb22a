//! A connection: authentication, calls, signals, all before one deadline.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::address::{Address, Socket};
use super::message::{self, Body, ERROR, FIXED, Header, METHOD_RETURN, Message, SIGNAL};
use crate::sys::socket;

/// The longest line of an authentication that is read, in bytes.
const MAX_LINE: usize = 16 << 10;
/// Signals nobody has asked for yet that are kept.
const MAX_KEPT: usize = 256;
/// And how large they may be, in bytes: those that are asked for have a few hundred, and on a bus anybody may send more.
const MAX_KEPT_SIZE: usize = 4 << 10;

/// Why a conversation failed; what was to be done is the caller's to say.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no socket, or nobody listens.
    Connect(Errno),
    /// Somebody else than those who may listens: his user id.
    Stranger(u32),
    /// The peer does not let us in.
    Rejected(String),
    /// The deadline passed.
    Timeout,
    /// The peer hung up, or a system call failed.
    Lost(Errno),
    /// What the peer sent is not D-Bus.
    Nonsense,
    /// The peer answers with an error: its name and text.
    Error(String, String),
}

/// Who listens.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Where.
    pub(crate) address: Address,
    /// The user ids he may have.
    pub(crate) owners: Vec<u32>,
}

/// A method call.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) body: Body,
}

/// A connection to a bus, or to a peer without one.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    deadline: Instant,
    serial: u32,
    /// Received and not yet read.
    buffer: Vec<u8>,
    direct: bool,
    shares_pids: bool,
    /// Signals that came while a reply was waited for.
    signals: Vec<Message>,
    name: PathBuf,
}

const DAEMON: &str = "org.freedesktop.DBus";

impl Connection {
    /// Connects and authenticates, and on a bus says hello.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn open(peer: &Peer, deadline: Instant) -> Result<Self, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let connected = match &peer.address {
            Address::Direct(path) | Address::Bus(Socket::Path(path)) => {
                socket::connect_stream_within(path, left)
            }
            Address::Bus(Socket::Abstract(name)) => socket::connect_abstract_within(name, left),
        };
        let socket = match connected {
            Err(Errno::EAGAIN | Errno::EINPROGRESS | Errno::ETIMEDOUT) => {
                return Err(Failure::Timeout);
            }
            other => other.map_err(Failure::Connect)?,
        };
        let (owner, pid) = socket::peer(socket.as_fd()).map_err(Failure::Lost)?;
        if !peer.owners.contains(&owner) {
            return Err(Failure::Stranger(owner));
        }
        let mut connection = Self {
            socket,
            deadline,
            serial: 0,
            buffer: Vec::new(),
            direct: matches!(peer.address, Address::Direct(_)),
            shares_pids: pid != 0,
            signals: Vec::new(),
            name: peer.address.name(),
        };
        connection.authenticate()?;
        if !connection.direct {
            connection.call_daemon("Hello", Body::default())?;
        }
        Ok(connection)
    }

    /// The socket's name.
    pub(crate) fn name(&self) -> &PathBuf {
        &self.name
    }

    /// Whether the peer is there without a bus between.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether a pid means the same process to the peer, as far as his own pid can tell: one who is out of this process's pid
    /// namespace has none here.
    pub(crate) fn shares_pids(&self) -> bool {
        self.shares_pids
    }

    /// Asks the bus for the signals that `rule` describes.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn add_match(&mut self, rule: &str) -> Result<(), Failure> {
        self.call_daemon("AddMatch", Body::default().text(rule)).map(drop)
    }

    fn call_daemon(&mut self, member: &str, body: Body) -> Result<Message, Failure> {
        self.call(&Call {
            destination: DAEMON,
            path: "/org/freedesktop/DBus",
            interface: DAEMON,
            member,
            body,
        })
    }

    /// Calls a method and waits for the reply.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Result<Message, Failure> {
        let serial = self.send(call)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                METHOD_RETURN if message.reply_serial == serial => return Ok(message),
                ERROR if message.reply_serial == serial => {
                    let text = message.arguments().into_iter().next().unwrap_or_default();
                    return Err(Failure::Error(message.error_name, text));
                }
                SIGNAL if self.signals.len() < MAX_KEPT && message.size() <= MAX_KEPT_SIZE => {
                    self.signals.push(message);
                }
                // A call to us, or an answer to nothing.
                _ => {}
            }
        }
    }

    /// Waits for a signal that `wanted` accepts. Others are forgotten.
    ///
    /// `sender` is who sent the reply the signal belongs to: on a bus, anybody may send signals.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn wait_for<T>(
        &mut self,
        interface: &str,
        member: &str,
        sender: &Message,
        wanted: impl Fn(&[String]) -> Option<T>,
    ) -> Result<T, Failure> {
        let look = |message: &Message| {
            let fits = message.kind == SIGNAL
                && message.interface == interface
                && message.member == member
                && message.sender == sender.sender;
            if fits { wanted(&message.arguments()) } else { None }
        };
        for message in std::mem::take(&mut self.signals) {
            if let Some(found) = look(&message) {
                return Ok(found);
            }
        }
        loop {
            if let Some(found) = look(&self.receive()?) {
                return Ok(found);
            }
        }
    }

    fn send(&mut self, call: &Call<'_>) -> Result<u32, Failure> {
        self.serial += 1;
        let header = Header {
            destination: (!self.direct).then_some(call.destination),
            path: call.path,
            interface: call.interface,
            member: call.member,
        };
        self.write(&message::encode_call(self.serial, &header, &call.body))?;
        Ok(self.serial)
    }

    /// SASL EXTERNAL without a name: the peer takes our user id from the socket, which is right in a user namespace too.
    fn authenticate(&mut self) -> Result<(), Failure> {
        // BEGIN at once, and nothing behind it before the OK: what systemd reads together with BEGIN lies in its buffer until
        // more comes, for ever.
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut lines = 0;
        loop {
            let line = self.line()?;
            lines += 1;
            match line.split(' ').next() {
                Some("OK") => return Ok(()),
                Some("DATA" | "ERROR") if lines < 4 => {}
                _ => return Err(Failure::Rejected(line)),
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                let printable = line.iter().all(|byte| (b' '..=b'~').contains(byte));
                let line = String::from_utf8(line).ok().filter(|_| printable);
                return line.ok_or(Failure::Nonsense);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Failure::Nonsense);
            }
            self.fill()?;
        }
    }

    fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            // A peer that took our DATA for a mistake says so after its OK (systemd before 246).
            if self.buffer.first() == Some(&b'E') {
                self.line()?;
            }
            if self.buffer.len() >= FIXED {
                let length = Message::length(&self.buffer).ok_or(Failure::Nonsense)?;
                if self.buffer.len() >= length {
                    let bytes: Vec<u8> = self.buffer.drain(..length).collect();
                    return Message::decode(&bytes).ok_or(Failure::Nonsense);
                }
            }
            self.fill()?;
        }
    }

    /// Reads what there is, once there is something.
    fn fill(&mut self) -> Result<(), Failure> {
        let mut piece = [0_u8; 4096];
        loop {
            self.wait(PollFlags::POLLIN)?;
            match recv(self.socket.as_raw_fd(), &mut piece, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(Failure::Lost(Errno::ECONNRESET)),
                Ok(length) => {
                    self.buffer.extend_from_slice(piece.get(..length).unwrap_or_default());
                    return Ok(());
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Failure::Lost(errno)),
            }
        }
    }

    fn write(&mut self, mut data: &[u8]) -> Result<(), Failure> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        while !data.is_empty() {
            match send(self.socket.as_raw_fd(), data, flags) {
                Ok(sent) => data = data.get(sent..).unwrap_or_default(),
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Failure::Lost(errno)),
            }
        }
        Ok(())
    }

    /// Also a peer that never stops talking is cut off at the deadline.
    fn wait(&self, what: PollFlags) -> Result<(), Failure> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Timeout);
            }
            // Rounded up, or the last millisecond would be spent turning in circles.
            let left = left + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Failure::Lost(errno)),
            }
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
