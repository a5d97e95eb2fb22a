//! `tmpcopyup`: what lay below a tmpfs's target is copied into it.
//!
//! The source is the image's: everything is opened relative to descriptors, no symlink is followed, and depth is
//! bounded. What a tmpfs cannot hold of it (device nodes, sockets) is left out, as runc does.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::sys::fd;

/// Deeper than any real tree, and far from the end of the stack.
const MAX_DEPTH: u32 = 256;

/// Copies what is in directory `from` (which may be open as `O_PATH`) into directory `to`.
pub(super) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    directory(from, to, 0)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::ELOOP);
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let mut entries = Dir::from_fd(fd::openat(from, c".", flags, 0)?)?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = fd::stat(from, name)?;
    let mode = Mode::from_bits_truncate(stat.mode & 0o7777);
    let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
    let own = |at| fchownat(to, name, Some(uid), Some(gid), at);
    match stat.mode & libc::S_IFMT {
        libc::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let source = fd::openat(from, name, flags, 0)?;
            let copy = fd::openat(to, name, flags, 0)?;
            directory(source.as_fd(), copy.as_fd(), depth + 1)?;
            own(AtFlags::AT_SYMLINK_NOFOLLOW)?;
            fchmod(&copy, mode)
        }
        libc::S_IFREG => {
            let source =
                fd::openat(from, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let copy = fd::openat(to, name, flags, 0o600)?;
            content(&source, &copy)?;
            own(AtFlags::AT_SYMLINK_NOFOLLOW)?;
            fchmod(&copy, mode)
        }
        libc::S_IFLNK => {
            let target = nix::fcntl::readlinkat(from, name)?;
            symlinkat(target.as_os_str(), to, name)?;
            own(AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        _ => Ok(()),
    }
}

fn content(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut chunk = [0; 16384];
    loop {
        match nix::unistd::read(from, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => fd::write_all(to, chunk.get(..n).unwrap_or_default())?,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
