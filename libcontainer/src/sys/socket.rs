//! AF_UNIX sockets: addresses of any length, one descriptor per message (unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, UnixAddr, bind,
    connect as connect_to, getsockopt, recvmsg, send, sendmsg, setsockopt, socket, socketpair,
    sockopt,
};
use nix::sys::stat::Mode;
use nix::sys::time::{TimeVal, TimeValLike};

pub use nix::sys::socket::SockType;

/// The longest path `sun_path` holds, in bytes, with the final NUL kept free.
const PATH_MAX: usize = 107;

/// How many descriptors of one message are received: more than there are cgroup hierarchies.
pub const RECEIVED_FDS: usize = 32;

/// Connects a new socket to the one at `path`, which may be longer than `sun_path`.
///
/// # Errors
/// Those of connect(2), and of open(2) for a long path.
pub fn connect(path: &Path, kind: SockType) -> nix::Result<OwnedFd> {
    if path.as_os_str().len() <= PATH_MAX {
        return connect_address(&UnixAddr::new(path)?, kind);
    }
    let target = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    connect_address(&UnixAddr::new(&*format!("/proc/self/fd/{}", target.as_raw_fd()))?, kind)
}

/// Connects a new socket to the abstract address `name`, without the leading NUL.
///
/// # Errors
/// Those of connect(2).
pub fn connect_abstract(name: &[u8], kind: SockType) -> nix::Result<OwnedFd> {
    connect_address(&UnixAddr::new_abstract(name)?, kind)
}

/// [`connect`] for a stream whose listener may not accept anybody in time: then EAGAIN. Sending waits no longer either.
///
/// # Errors
/// Those of [`connect`].
pub fn connect_stream_within(path: &Path, time: Duration) -> nix::Result<OwnedFd> {
    if path.as_os_str().len() <= PATH_MAX {
        return connect_within(&UnixAddr::new(path)?, time);
    }
    let target = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    connect_within(&UnixAddr::new(&*format!("/proc/self/fd/{}", target.as_raw_fd()))?, time)
}

/// The same for the abstract address `name`, without the leading NUL.
///
/// # Errors
/// Those of connect(2).
pub fn connect_abstract_within(name: &[u8], time: Duration) -> nix::Result<OwnedFd> {
    connect_within(&UnixAddr::new_abstract(name)?, time)
}

fn connect_within(address: &UnixAddr, time: Duration) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Zero would be for ever.
    let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX).clamp(1, 1 << 30);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(time))?;
    loop {
        match connect_to(fd.as_raw_fd(), address) {
            Err(Errno::EINTR) => {}
            other => return other.map(|()| fd),
        }
    }
}

/// The user id and the pid of who listens at the other end, as this process's namespaces have them (`SO_PEERCRED`). The
/// pid is 0 for who is in another pid namespace, and not in one below.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer(sock: BorrowedFd<'_>) -> nix::Result<(u32, i32)> {
    getsockopt(&sock, sockopt::PeerCredentials).map(|peer| (peer.uid(), peer.pid()))
}

fn connect_address(address: &UnixAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    connect_to(fd.as_raw_fd(), address)?;
    Ok(fd)
}

/// Makes a datagram socket bound to `name` in the directory `dir`, however deep that is. Its mode is 0777 less the umask.
///
/// # Errors
/// Those of bind(2).
pub fn bind_datagram(dir: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    bind(fd.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
    Ok(fd)
}

/// Makes a connected pair of SOCK_SEQPACKET sockets.
///
/// # Errors
/// Those of socketpair(2).
pub fn seqpacket_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends `data` with `fd` beside it: one sendmsg(2), one control message, one descriptor.
///
/// The descriptor travels with the first byte; should the kernel take less than all of a stream's data, the rest
/// follows alone.
///
/// # Errors
/// Those of sendmsg(2); `EPIPE` without SIGPIPE.
pub fn send_fd(sock: BorrowedFd<'_>, data: &[u8], fd: BorrowedFd<'_>) -> nix::Result<()> {
    send_fds(sock, data, &[fd])
}

/// The same with several descriptors.
///
/// # Errors
/// Those of sendmsg(2); `EPIPE` without SIGPIPE.
pub fn send_fds(sock: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let rights: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&rights)];
    let mut sent = retry(|| {
        sendmsg::<UnixAddr>(
            sock.as_raw_fd(),
            &[IoSlice::new(data)],
            &control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
    })?;
    while let Some(rest @ [_, ..]) = data.get(sent..) {
        sent += retry(|| send(sock.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL))?;
    }
    Ok(())
}

/// Receives one message of at most `data.len()` bytes and the descriptor beside it, close-on-exec. No bytes: the peer
/// has closed.
///
/// # Errors
/// Those of recvmsg(2); `EBADMSG` for more than one descriptor, `EMSGSIZE` for a longer datagram: what was received
/// is closed.
pub fn recv_fd(sock: BorrowedFd<'_>, data: &mut [u8]) -> nix::Result<(usize, Option<OwnedFd>)> {
    let (bytes, mut fds) = recv_fds(sock, data)?;
    if fds.len() > 1 {
        return Err(Errno::EBADMSG);
    }
    Ok((bytes, fds.pop()))
}

/// The same with all descriptors, at most [`RECEIVED_FDS`].
///
/// # Errors
/// Those of recvmsg(2); `EBADMSG` for more descriptors, `EMSGSIZE` for a longer datagram.
pub fn recv_fds(sock: BorrowedFd<'_>, data: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; RECEIVED_FDS]);
    let mut iov = [IoSliceMut::new(data)];
    let message = loop {
        match recvmsg::<UnixAddr>(
            sock.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for entry in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = entry {
            for fd in received {
                // SAFETY: the kernel has just installed this descriptor for us alone.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EBADMSG);
    }
    Ok((message.bytes, fds))
}

/// Repeats `call` while a signal interrupts it.
fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use nix::unistd::{getpid, write};

    use super::*;

    /// A directory whose path no `sockaddr_un` can hold; removed with the value.
    struct Deep {
        top: PathBuf,
        dir: PathBuf,
    }

    impl Deep {
        fn new(name: &str) -> Self {
            let top = std::env::temp_dir().join(format!("socket-{name}-{}", getpid()));
            let dir = top.join("d".repeat(100)).join("e".repeat(100));
            fs::create_dir_all(&dir).unwrap();
            Self { top, dir }
        }
    }

    impl Drop for Deep {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.top).unwrap();
        }
    }

    #[test]
    fn a_path_longer_than_sun_path_is_reached() {
        let deep = Deep::new("long");
        // std cannot bind there either: it is bound under a short name and moved.
        let short = deep.top.join("s");
        let listener = UnixListener::bind(&short).unwrap();
        let long = deep.dir.join("f".repeat(200));
        fs::rename(&short, &long).unwrap();
        let client = connect(&long, SockType::Stream).unwrap();
        write(&client, b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_missing_or_deaf_socket_is_an_errno() {
        let deep = Deep::new("deaf");
        let missing = deep.dir.join("none");
        assert_eq!(connect(&missing, SockType::Stream).err(), Some(Errno::ENOENT));
        let short = deep.top.join("s");
        assert_eq!(connect(&short, SockType::Stream).err(), Some(Errno::ENOENT));
        drop(UnixListener::bind(&short).unwrap());
        assert_eq!(connect(&short, SockType::Stream).err(), Some(Errno::ECONNREFUSED));
        let file = short.with_extension("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(connect(&file, SockType::Stream).err(), Some(Errno::ECONNREFUSED));
    }

    #[test]
    fn a_datagram_socket_is_bound_below_a_deep_directory() {
        let deep = Deep::new("bind");
        let dir = File::open(&deep.dir).unwrap();
        let server = bind_datagram(dir.as_fd(), "x.sock").unwrap();
        let client = connect(&deep.dir.join("x.sock"), SockType::Datagram).unwrap();
        send(client.as_raw_fd(), b"hi", MsgFlags::empty()).unwrap();
        let mut data = [0_u8; 8];
        let (len, fd) = recv_fd(server.as_fd(), &mut data).unwrap();
        assert_eq!((&data[..len], fd.is_none()), (&b"hi"[..], true));
        assert_eq!(bind_datagram(dir.as_fd(), "x.sock").err(), Some(Errno::EADDRINUSE));
    }

    #[test]
    fn one_descriptor_crosses_with_its_message() {
        let (left, right) = seqpacket_pair().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        send_fd(left.as_fd(), b"name", writer.as_fd()).unwrap();
        drop(writer);
        let mut data = [0_u8; 64];
        let (len, fd) = recv_fd(right.as_fd(), &mut data).unwrap();
        assert_eq!(&data[..len], b"name");
        File::from(fd.unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(left);
        assert!(matches!(recv_fd(right.as_fd(), &mut data), Ok((0, None))));
    }

    #[test]
    fn two_descriptors_and_long_datagrams_are_refused() {
        let (left, right) = seqpacket_pair().unwrap();
        let rights = [0, 1];
        let control = [ControlMessage::ScmRights(&rights)];
        let iov = [IoSlice::new(b"two")];
        sendmsg::<UnixAddr>(left.as_raw_fd(), &iov, &control, MsgFlags::empty(), None).unwrap();
        let mut data = [0_u8; 8];
        assert_eq!(recv_fd(right.as_fd(), &mut data).err(), Some(Errno::EBADMSG));
        send(left.as_raw_fd(), &[0; 9], MsgFlags::empty()).unwrap();
        assert_eq!(recv_fd(right.as_fd(), &mut data).err(), Some(Errno::EMSGSIZE));
        drop(right);
        let null = File::open("/dev/null").unwrap();
        assert_eq!(send_fd(left.as_fd(), b"x", null.as_fd()), Err(Errno::EPIPE));
    }

    #[test]
    fn a_stream_message_longer_than_the_buffers_arrives_whole() {
        let (left, right) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        let data = vec![b'x'; 4 << 20];
        let reader = std::thread::spawn(move || {
            let mut first = [0_u8; 4096];
            let (len, fd) = recv_fd(right.as_fd(), &mut first).unwrap();
            let mut rest = Vec::new();
            File::from(right).read_to_end(&mut rest).unwrap();
            (len + rest.len(), fd.is_some())
        });
        let null = File::open("/dev/null").unwrap();
        send_fd(left.as_fd(), &data, null.as_fd()).unwrap();
        drop(left);
        assert_eq!(reader.join().unwrap(), (data.len(), true));
    }
}
