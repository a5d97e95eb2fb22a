//! rtnetlink(7): one request at a time, its answers, and the kernel's own words for a refusal.
//!
//! Six kinds of requests are all that moving a network device takes, and the crates there are bring an async runtime
//! or a dozen others; so this is a client of our own. A socket stays in the network namespace it was opened in.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::check;

/// Length of `struct nlmsghdr`, in bytes.
const HEADER: usize = 16;
/// rtnetlink sends no larger datagram when it lists things.
const BUFFER: usize = 32 << 10;
/// netlink(7) `NLMSGERR_ATTR_MSG`.
const ERROR_MESSAGE: u16 = 1;
/// netlink(7) `NLM_F_ACK_TLVS`: attributes follow an error.
const HAS_ERROR_ATTRIBUTES: u16 = 0x200;

/// Why the kernel did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub errno: Errno,
    /// The sentence the kernel adds to some; empty for the others.
    pub said: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, said: String::new() }
    }
}

/// What is asked: a fixed part, then attributes.
#[derive(Debug, Clone)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of type `kind` (`RTM_*`) with `flags` (`NLM_F_*`) whose fixed part is `fixed`.
    pub fn new(kind: u16, flags: libc::c_int, fixed: &[u8]) -> Self {
        let flags = u16::try_from(flags).unwrap_or_default();
        Self { kind, flags, body: fixed.to_vec() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(aligned(self.body.len()), 0);
        self
    }

    /// Writes `value` into the fixed part, from `offset` on.
    #[must_use]
    pub fn with_fixed(mut self, offset: usize, value: &[u8]) -> Self {
        if let Some(place) = self.body.get_mut(offset..offset + value.len()) {
            place.copy_from_slice(value);
        }
        self
    }

    /// Adds a name, with the NUL the kernel wants.
    #[must_use]
    pub fn with_name(self, kind: u16, name: &str) -> Self {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        self.with(kind, &value)
    }
}

/// One message of the kernel: its fixed part and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(Vec<u8>);

impl Answer {
    /// The first `N` bytes; `None` if there are not as many.
    pub fn fixed<const N: usize>(&self) -> Option<[u8; N]> {
        self.0.first_chunk().copied()
    }

    /// The attributes behind the first `fixed` bytes.
    pub fn attributes(&self, fixed: usize) -> Attributes<'_> {
        Attributes(self.0.get(fixed..).unwrap_or_default())
    }
}

/// Attributes: kind and value.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[a, b, c, d] = self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        // The two highest bits say how the value is written, not what it is.
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    }
}

fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// A socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one in the network namespace this process is in.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> Result<Self, Errno> {
        let route = SockProtocol::NetlinkRoute;
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(route))?;
        // Sentences with errors (Linux 4.12), errors without the request in them (4.3), filters that are held to (4.20):
        // better with them, right without.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            let _older_kernel = switch_on(&fd, option);
        }
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends `request` and returns the answers, without the acknowledgement.
    ///
    /// # Errors
    /// The kernel's refusal; `EBADMSG` for what is no answer.
    pub fn ask(&mut self, request: &Request) -> Result<Vec<Answer>, Refusal> {
        let &mut Self { ref fd, ref mut sequence } = self;
        *sequence = sequence.wrapping_add(1);
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).unwrap_or_default();
        let length = u32::try_from(HEADER + request.body.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(HEADER + request.body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&request.kind.to_ne_bytes());
        message.extend_from_slice(&(request.flags | flags).to_ne_bytes());
        message.extend_from_slice(&sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&request.body);
        // Unconnected, it is for the kernel, which takes all of a message or none.
        send(fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut rest = buffer.get(..length).ok_or(Errno::EMSGSIZE)?;
            while !rest.is_empty() {
                let message = Message::first(rest).ok_or(Errno::EBADMSG)?;
                rest = rest.get(aligned(message.length)..).unwrap_or_default();
                // What is left of an earlier request that failed half-way.
                if message.sequence != *sequence {
                    continue;
                }
                match message.outcome() {
                    None => answers.push(Answer(message.body.to_vec())),
                    Some(Ok(())) => return Ok(answers),
                    Some(Err(refusal)) => return Err(refusal),
                }
            }
        }
    }
}

fn switch_on(fd: &OwnedFd, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(4);
    // SAFETY: the option is an int, and `on` outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&on).cast(),
            length,
        )
    };
    check(ret.into()).map(drop)
}

/// One message of a datagram.
struct Message<'a> {
    length: usize,
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l, ..] = bytes.first_chunk::<HEADER>()?;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        Some(Self {
            length,
            kind: u16::from_ne_bytes([e, f]),
            flags: u16::from_ne_bytes([g, h]),
            sequence: u32::from_ne_bytes([i, j, k, l]),
            body: bytes.get(HEADER..length)?,
        })
    }

    /// Whether this is the last message, and what it says.
    fn outcome(&self) -> Option<Result<(), Refusal>> {
        let kind = libc::c_int::from(self.kind);
        if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
            return None;
        }
        let code = self.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if code == 0 {
            return Some(Ok(()));
        }
        let mut said = String::new();
        if self.flags & HAS_ERROR_ATTRIBUTES != 0 {
            // struct nlmsgerr: the code and the header of the request, whose body NETLINK_CAP_ACK leaves out.
            let behind = if kind == libc::NLMSG_ERROR { 4 + HEADER } else { 4 };
            let mut all = Attributes(self.body.get(behind..).unwrap_or_default());
            if let Some((_, text)) = all.find(|(kind, _)| *kind == ERROR_MESSAGE) {
                said = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
            }
        }
        Some(Err(Refusal { errno: Errno::from_raw(code.wrapping_neg()), said }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let request = Request::new(16, 0, &[1; 16])
            .with_name(3, "eth0")
            .with(10, &7_u32.to_ne_bytes())
            .with(9, &[]);
        assert_eq!(request.body.len() % 4, 0);
        let answer = Answer(request.body);
        assert_eq!(answer.fixed::<16>(), Some([1; 16]));
        let read: Vec<_> = answer.attributes(16).collect();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (10, &7_u32.to_ne_bytes()), (9, &[])]);
        // A length that lies ends it.
        assert_eq!(Attributes(&[200, 0, 1, 0, 5]).next(), None);
        assert_eq!(Attributes(&[3, 0, 1, 0]).next(), None);
    }

    #[test]
    fn the_kernel_answers() {
        let mut socket = Socket::open().unwrap();
        let all = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; 16]);
        let links = socket.ask(&all).unwrap();
        let names: Vec<_> = links
            .iter()
            .flat_map(|link| link.attributes(16))
            .filter(|(kind, _)| *kind == libc::IFLA_IFNAME)
            .map(|(_, name)| name)
            .collect();
        assert!(names.contains(&&b"lo\0"[..]), "{names:?}");
        let none = Request::new(libc::RTM_GETLINK, 0, &[0; 16])
            .with_name(libc::IFLA_IFNAME, "no-such-device");
        assert_eq!(socket.ask(&none).unwrap_err().errno, Errno::ENODEV);
    }

    #[test]
    fn an_error_carries_the_kernels_sentence() {
        let mut body = (-libc::EINVAL).to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        body.extend([9, 0, 1, 0]);
        body.extend(b"nope\0\0\0\0");
        let message = |flags| Message { length: 0, kind: 2, flags, sequence: 1, body: &body };
        let refusal = message(HAS_ERROR_ATTRIBUTES).outcome().unwrap().unwrap_err();
        assert_eq!(refusal, Refusal { errno: Errno::EINVAL, said: "nope".to_owned() });
        assert_eq!(message(0).outcome().unwrap().unwrap_err(), Errno::EINVAL.into());
    }
}
