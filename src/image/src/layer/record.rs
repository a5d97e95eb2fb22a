//! What waits for the end of a layer: the attributes of its directories.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat};
use nix::unistd::geteuid;

use super::archive::Time;

/// What a directory is to become at the end.
#[derive(Debug)]
pub(super) struct Record {
    /// Joined: one of 2000 directories below each other is to cost what its name does.
    pub(super) path: Vec<u8>,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    /// `None` for one of a lower layer that was written to: it is what it was, its times too.
    pub(super) set: Option<Set>,
    /// The mode it had, and has again where `set` says nothing: its owner could not write to it.
    pub(super) restore: Option<u32>,
    /// This layer has made it.
    pub(super) made: bool,
    /// Nothing of the layers below is seen in it.
    pub(super) opaque: bool,
}

/// Everything but the times.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) mode: u32,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
}

impl Record {
    /// A directory that no entry names.
    pub(super) fn implied(owner: Option<(u32, u32)>) -> Self {
        let set = Some(Set { mode: 0o755, owner, xattrs: Vec::new() });
        let (path, time) = (Vec::new(), Time::default());
        Self { path, atime: time, mtime: time, set, restore: None, made: true, opaque: false }
    }
}

/// Lets the caller read, write and search a directory of his. Returns the mode it had, if that was another.
pub(super) fn open_up(directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<u32>, Errno> {
    let mode = stat.st_mode & 0o7777;
    if mode & 0o700 == 0o700 || stat.st_uid != geteuid().as_raw() {
        return Ok(None);
    }
    // It may be open as a place alone, which fchmod(2) does not take.
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let open = Mode::from_bits_truncate(mode | 0o700);
    fchmodat(nix::fcntl::AT_FDCWD, &*link, open, FchmodatFlags::FollowSymlink)?;
    Ok(Some(mode))
}
