//! Removing a tree, or what a layer has not made of it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libcontainer::sys::fd::openat;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// What stays, by the inode of the directory and the name in it.
pub(super) trait Keep {
    /// This and everything below it.
    fn whole(&self, directory: u64, name: &[u8]) -> bool;
    /// This directory, and of what is in it what [`whole`](Self::whole) says.
    fn itself(&self, directory: u64, name: &[u8]) -> bool;
    /// Everything that is in this directory.
    fn content(&self, directory: u64) -> bool;
}

/// Nothing stays.
pub(super) struct Nothing;

impl Keep for Nothing {
    fn whole(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    fn itself(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    fn content(&self, _: u64) -> bool {
        false
    }
}

struct Level {
    ino: u64,
    /// Of last access and modification: those of what is kept are its own.
    times: (TimeSpec, TimeSpec),
    name: CString,
    names: Vec<CString>,
    kept: bool,
}

const OPEN: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// Removes `name` from `parent`, and all below it, but for what `keep` says. Says whether something is left.
///
/// Not recursive, and with two descriptors: the tree may be as deep as a hostile image likes. Another file system is not
/// entered. Directories that their owner may not search or write are made so first: an image may have 0500 in it. `parent` stays as it is.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &CStr, keep: &dyn Keep) -> Result<bool, Errno> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(false),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let above = fstat(parent)?;
    let (fd, level) = enter(parent, name, above.st_dev, keep)?;
    let kept = walk(fd, level, above.st_dev, keep)? || keep.itself(above.st_ino, name.to_bytes());
    if !kept {
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(kept)
}

/// Removes what is in `directory`, but for what `keep` says.
pub(super) fn empty(directory: BorrowedFd<'_>, keep: &dyn Keep) -> Result<(), Errno> {
    let device = fstat(directory)?.st_dev;
    let (fd, level) = enter(directory, c".", device, keep)?;
    walk(fd, level, device, keep).map(drop)
}

fn walk(mut fd: OwnedFd, first: Level, device: u64, keep: &dyn Keep) -> Result<bool, Errno> {
    let mut above: Vec<Level> = Vec::new();
    let mut level = first;
    loop {
        let Some(name) = level.names.pop() else {
            if level.kept {
                futimens(&fd, &level.times.0, &level.times.1)?;
            }
            let Some(mut upper) = above.pop() else { return Ok(level.kept) };
            let back = openat(fd.as_fd(), c"..", OPEN, 0)?;
            // Somebody moves the tree under our feet.
            if fstat(&back)?.st_ino != upper.ino {
                return Err(Errno::ESTALE);
            }
            if level.kept || keep.itself(upper.ino, level.name.to_bytes()) {
                upper.kept = true;
            } else {
                unlinkat_dir(back.as_fd(), &level.name)?;
            }
            (fd, level) = (back, upper);
            continue;
        };
        if keep.whole(level.ino, name.to_bytes()) {
            level.kept = true;
            continue;
        }
        match unlink(fd.as_fd(), &name) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => {
                let (next, below) = enter(fd.as_fd(), &name, device, keep)?;
                above.push(std::mem::replace(&mut level, below));
                fd = next;
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// EISDIR for a directory. One that may not be written is made so.
fn unlink(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EACCES) => {
            let writable = openat(parent, c".", OPEN, 0)?;
            fchmod(&writable, Mode::S_IRWXU)?;
            unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)
        }
        other => other,
    }
}

fn unlinkat_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EACCES) => {
            let writable = openat(parent, c".", OPEN, 0)?;
            fchmod(&writable, Mode::S_IRWXU)?;
            unlinkat(parent, name, UnlinkatFlags::RemoveDir)
        }
        Err(errno) => Err(errno),
    }
}

fn enter(
    parent: BorrowedFd<'_>,
    name: &CStr,
    device: u64,
    keep: &dyn Keep,
) -> Result<(OwnedFd, Level), Errno> {
    let fd = match openat(parent, name, OPEN, 0) {
        Err(Errno::EACCES) => {
            let path = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let handle = openat(parent, name, path, 0)?;
            // By the descriptor: the name could be a symlink by now.
            let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
            fchmodat(nix::fcntl::AT_FDCWD, &*link, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            openat(parent, name, OPEN, 0)?
        }
        other => other?,
    };
    let stat = fstat(&fd)?;
    if stat.st_dev != device {
        return Err(Errno::EXDEV);
    }
    let mut names = Vec::new();
    let mut kept = false;
    for entry in Dir::openat(
        &fd,
        c".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?
    .iter()
    {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        if keep.content(stat.st_ino) {
            kept = true;
            break;
        }
        names.push(entry.file_name().to_owned());
    }
    let times = (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    );
    Ok((fd, Level { ino: stat.st_ino, times, name: name.to_owned(), names, kept }))
}
