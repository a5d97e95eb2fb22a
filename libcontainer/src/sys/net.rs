//! The loopback interface of a new network namespace.

use nix::errno::Errno;

use super::check;

/// Brings `lo` up.
///
/// # Errors
/// Those of socket(2) and of the ioctl SIOCSIFFLAGS (netdevice(7)).
pub fn loopback_up() -> Result<(), Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = match socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
    {
        // A kernel without IPv4 still has the generic socket ioctls on a unix socket.
        Err(Errno::EAFNOSUPPORT) => {
            socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?
        }
        other => other?,
    };
    // SAFETY: ifreq is a plain C struct for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0x41);
    // SAFETY: request is the struct this ioctl reads, and it outlives the call.
    check(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) }
            .into(),
    )
    .map(drop)
}
