//! Signals as the kernel counts them, all 64: nix knows no real-time signals, and libc hides those it uses itself.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd;

/// The size of the kernel's `sigset_t`, in bytes.
const SET_SIZE: usize = size_of::<u64>();

/// The highest signal number (signal(7)).
pub const MAX: i32 = 64;

/// A set of blocked signals; bit `n - 1` is signal `n` (sigprocmask(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalMask(u64);

impl SignalMask {
    /// Blocks nothing.
    pub const EMPTY: Self = Self(0);
    /// Blocks everything that can be blocked.
    pub const ALL: Self = Self(u64::MAX);

    /// Tells whether `signal` is blocked.
    pub fn blocks(self, signal: i32) -> bool {
        (1..=MAX).contains(&signal) && self.0 >> (signal - 1) & 1 == 1
    }

    /// Makes this the mask of the calling thread and returns the one before.
    ///
    /// # Errors
    /// Those of sigprocmask(2).
    pub fn set(self) -> nix::Result<Self> {
        let mut old = 0_u64;
        // SAFETY: both pointers are to live 8-byte sets and the size says so.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const self.0,
                &raw mut old,
                SET_SIZE,
            )
        };
        Errno::result(result)?;
        Ok(Self(old))
    }

    /// Reads the mask of the calling thread.
    ///
    /// # Errors
    /// Those of sigprocmask(2).
    pub fn current() -> nix::Result<Self> {
        let mut old = 0_u64;
        // SAFETY: a null new set is allowed; the old one is a live 8-byte set.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                ptr::null::<u64>(),
                &raw mut old,
                SET_SIZE,
            )
        };
        Errno::result(result)?;
        Ok(Self(old))
    }
}

/// Gives `signal` its default action (`SIG_DFL`).
///
/// # Errors
/// `EINVAL` for SIGKILL, SIGSTOP and numbers out of range.
pub fn set_default(signal: i32) -> nix::Result<()> {
    // On every architecture SIG_DFL, no flags, no restorer and an empty mask are zeros, and 32 bytes hold them.
    let action = [0_u64; 4];
    // SAFETY: the kernel reads no more than 32 bytes of the action and writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<u64>(), SET_SIZE)
    };
    Errno::result(result).map(drop)
}

/// Gives every signal its default action; execve(2) would keep the ignored ones ignored.
pub fn reset_dispositions() {
    for signal in 1..=MAX {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            let _always_valid = set_default(signal);
        }
    }
}

/// SIGPIPE ignored for as long as this lives: a write to a pipe without reader is only `EPIPE`.
#[derive(Debug)]
pub struct PipeIgnored {
    before: libc::sighandler_t,
}

impl PipeIgnored {
    /// Ignores SIGPIPE.
    pub fn begin() -> Self {
        // SAFETY: SIG_IGN is no handler: no code of ours runs.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        Self { before }
    }
}

impl Drop for PipeIgnored {
    fn drop(&mut self) {
        if self.before != libc::SIG_IGN && self.before != libc::SIG_ERR {
            // SAFETY: puts back what was there.
            unsafe { libc::signal(libc::SIGPIPE, self.before) };
        }
    }
}

/// One signal read from a [`SignalFd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The signal's number.
    pub signal: i32,
    /// The process that sent it, 0 for the kernel.
    pub sender: i32,
}

/// signalfd(2) on every signal, non-blocking.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Makes the descriptor; the caller has blocked the signals.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn all() -> nix::Result<Self> {
        let mask = u64::MAX;
        // SAFETY: the mask is a live 8-byte set.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const mask,
                SET_SIZE,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        owned(fd).map(Self)
    }

    /// Takes the next pending signal, if there is one.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn take(&self) -> nix::Result<Option<Received>> {
        // struct signalfd_siginfo is 128 bytes: ssi_signo at 0, ssi_errno at 4, ssi_code at 8, ssi_pid at 12.
        let mut info = [0_u8; 128];
        let read = loop {
            match unistd::read(&self.0, &mut info) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                other => break other?,
            }
        };
        if read != info.len() {
            return Err(Errno::EIO);
        }
        let [s0, s1, s2, s3, _, _, _, _, _, _, _, _, p0, p1, p2, p3, ..] = info;
        Ok(Some(Received {
            signal: i32::from_ne_bytes([s0, s1, s2, s3]),
            sender: i32::from_ne_bytes([p0, p1, p2, p3]),
        }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Wraps the descriptor that a system call returned.
fn owned(fd: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(|_too_large| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[test]
    fn the_mask_holds_real_time_signals_too() {
        let before = SignalMask::ALL.set().unwrap();
        let now = SignalMask::current().unwrap();
        assert!(now.blocks(34) && now.blocks(64) && now.blocks(libc::SIGCHLD));
        assert!(!now.blocks(libc::SIGKILL) && !now.blocks(libc::SIGSTOP) && !now.blocks(65));
        assert_eq!(before.set().unwrap(), now);
    }

    #[test]
    fn a_blocked_signal_is_read_with_its_sender() {
        let before = SignalMask::ALL.set().unwrap();
        let signals = SignalFd::all().unwrap();
        assert_eq!(signals.take().unwrap(), None);
        raise(Signal::SIGUSR2).unwrap();
        let received = signals.take().unwrap().unwrap();
        assert_eq!(received.signal, libc::SIGUSR2);
        assert_eq!(received.sender, unistd::getpid().as_raw());
        assert_eq!(signals.take().unwrap(), None);
        before.set().unwrap();
    }
}
