//! Pseudoterminals and terminals (ioctl_tty(2), termios(3)).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Allows the slave of `master` to be opened (`TIOCSPTLCK`).
///
/// # Errors
/// Those of ioctl(2).
pub fn unlock(master: BorrowedFd<'_>) -> nix::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: the argument is a pointer to a live int, which the kernel reads.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
    Errno::result(result).map(drop)
}

/// Returns the number of the slave of `master` in its devpts (`TIOCGPTN`).
///
/// # Errors
/// Those of ioctl(2).
pub fn number(master: BorrowedFd<'_>) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the argument is a pointer to a live unsigned int, which the kernel fills in.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    Errno::result(result)?;
    Ok(number)
}

/// Opens the slave of `master` without a path (`TIOCGPTPEER`), close-on-exec.
///
/// # Errors
/// Those of ioctl(2); `EIO` while the slave is locked.
pub fn peer(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is a number.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the size of `terminal` (`TIOCGWINSZ`).
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn window_size(terminal: BorrowedFd<'_>) -> nix::Result<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the argument is a pointer to a live winsize, which the kernel fills in.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of `terminal` (`TIOCSWINSZ`); its foreground process group gets SIGWINCH if it changes.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> nix::Result<()> {
    let size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the argument is a pointer to a live winsize, which the kernel reads.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result).map(drop)
}

/// Makes `terminal` the controlling terminal of the calling session leader (`TIOCSCTTY`), stealing it from nobody.
///
/// # Errors
/// `EPERM` when the caller leads no session or has a terminal, or another session has this one.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the argument is a number.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(result).map(drop)
}

/// The modes of a terminal (termios(3)).
#[derive(Debug, Clone, Copy)]
pub struct Modes(libc::termios);

impl Modes {
    /// Reads those of `terminal`.
    ///
    /// # Errors
    /// `ENOTTY` when it is none.
    pub fn get(terminal: BorrowedFd<'_>) -> nix::Result<Self> {
        // Zeroed, for musl fills in only what the kernel knows; nix would hand out the rest uninitialized.
        // SAFETY: termios is plain data, for which zeros are valid.
        let mut modes: libc::termios = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the argument is a pointer to a live termios, which the call fills in.
        Errno::result(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut modes) })?;
        Ok(Self(modes))
    }

    /// Makes them those of `terminal`, at once.
    ///
    /// # Errors
    /// `ENOTTY` when it is none.
    pub fn set(&self, terminal: BorrowedFd<'_>) -> nix::Result<()> {
        // SAFETY: the argument is a pointer to a live termios, which the call reads.
        let result =
            unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const self.0) };
        Errno::result(result).map(drop)
    }

    /// Without turning each written LF into CR LF (`ONLCR`).
    #[must_use]
    pub fn without_onlcr(mut self) -> Self {
        self.0.c_oflag &= !libc::ONLCR;
        self
    }

    /// With every key passed on.
    ///
    /// Output is still processed, unlike cfmakeraw(3)'s: what a program writes through two terminals needs its CR
    /// from one.
    #[must_use]
    pub fn raw(mut self) -> Self {
        // SAFETY: the argument is a pointer to a live termios.
        unsafe { libc::cfmakeraw(&raw mut self.0) };
        self.0.c_oflag |= libc::OPOST;
        self
    }
}

/// Returns the standard streams of this process, by their numbers.
pub fn standard_streams() -> [BorrowedFd<'static>; 3] {
    [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO].map(|fd| {
        // SAFETY: std opens what of these three is closed when the program starts, and nothing of ours closes them.
        unsafe { BorrowedFd::borrow_raw(fd) }
    })
}
