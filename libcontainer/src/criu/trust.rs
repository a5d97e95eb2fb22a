//! Whom CRIU's directories belong to. What images say is done with every privilege, and CRIU writes beside them as
//! root, through whatever it finds under its names: nobody but root and the caller may have a say there.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::unistd::{getegid, geteuid};

use crate::error::{Context, Error, Result};
use crate::sys::{fd, xattr};

/// What leads to the images of an earlier pre-dump.
const PARENT: &CStr = c"parent";
/// How many pre-dumps may be behind one another.
const PARENTS: usize = 256;
const SAME: &CStr = c"";

/// Checks a directory of images, what is in it, and the same of its parents.
pub(super) fn check_images(images: &OwnedFd, path: &Path) -> Result<()> {
    let mut parent = check_files(images, path)?;
    let (mut at, mut shown) = (None, path.to_owned());
    for _ in 0..PARENTS {
        let Some(link) = parent else { return Ok(()) };
        let from = at.as_ref().unwrap_or(images);
        let next = follow(from, &shown, &link)?;
        shown.push(link);
        // One that is not there is none for CRIU either, and nobody else can put one there.
        let Some(next) = next else { return Ok(()) };
        parent = check_files(&next, &shown)?;
        at = Some(next);
    }
    Err(Error::config(format!("there are more than {PARENTS} parents behind the images"))
        .path(path)
        .hint("one of them may be its own parent"))
}

/// Checks the images that `--parent-path` leads to from `images`.
pub(super) fn check_parent(images: &OwnedFd, path: &Path, parent: &Path) -> Result<()> {
    let whole = path.join(parent);
    match follow(images, path, parent)? {
        Some(found) => check_images(&found, &whole),
        None => Err(Error::config("--parent-path is no directory").path(whole)),
    }
}

/// Checks a directory of logs and statistics. It may be an engine's, with sockets and the like of its own in it.
pub(super) fn check_work(work: &OwnedFd, path: &Path) -> Result<()> {
    check_directory(work.as_fd(), path)?;
    for name in names(work).on("list", path)? {
        let stat = fd::stat(work.as_fd(), &name).on("stat", path.join(shown(&name)))?;
        if !stat.is(libc::S_IFDIR) {
            check_owner(stat, &path.join(shown(&name)))?;
        }
    }
    Ok(())
}

/// The names in a directory, but `.` and `..`.
pub(super) fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    // One of its own, which begins at the beginning.
    let list = fd::openat(directory.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut names = Vec::new();
    fd::list(list.as_fd(), |name, _, _| names.push(name.to_owned()))?;
    Ok(names)
}

fn shown(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// Checks a directory of images and what is in it; where its parent is.
fn check_files(images: &OwnedFd, path: &Path) -> Result<Option<PathBuf>> {
    check_directory(images.as_fd(), path)?;
    let mut parent = None;
    for name in names(images).on("list", path)? {
        let whole = path.join(shown(&name));
        let stat = fd::stat(images.as_fd(), &name).on("stat", &whole)?;
        check_owner(stat, &whole)?;
        match stat.mode & libc::S_IFMT {
            libc::S_IFREG => {
                if writers(stat) {
                    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
                    let file = fd::openat(images.as_fd(), &name, flags, 0).on("open", &whole)?;
                    check_writers(file.as_fd(), stat, &whole)?;
                }
            }
            libc::S_IFLNK if name.as_c_str() == PARENT => {
                let link = readlinkat(images, name.as_c_str()).on("readlink", &whole)?;
                parent = Some(PathBuf::from(link));
            }
            libc::S_IFDIR if name.as_c_str() == PARENT => {
                parent = Some(PathBuf::from(OsStr::from_bytes(PARENT.to_bytes())));
            }
            // CRIU opens none by the name of an image. A server of lazy pages leaves its socket.
            libc::S_IFDIR | libc::S_IFSOCK => {}
            kind => {
                let kind = match kind {
                    libc::S_IFLNK => "a symbolic link",
                    libc::S_IFIFO => "a FIFO",
                    _ => "a device",
                };
                return Err(Error::config(format!("CRIU is not given {kind} as an image"))
                    .path(whole)
                    .hint("images are regular files; remove it"));
            }
        }
    }
    Ok(parent)
}

/// Goes from `images` to `link`, as CRIU will, through directories in which nobody else can put another in place
/// meanwhile; `None` if it is not there.
fn follow(images: &OwnedFd, path: &Path, link: &Path) -> Result<Option<OwnedFd>> {
    let whole = path.join(link);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let begin = if link.is_absolute() { c"/" } else { c"." };
    let mut at = fd::openat(images.as_fd(), begin, flags, 0).on("open", &whole)?;
    for part in link.components() {
        let name = match part {
            Component::ParentDir => OsStr::new(".."),
            Component::Normal(name) => {
                check_way(at.as_fd(), &whole)?;
                name
            }
            _ => continue,
        };
        let name = CString::new(name.to_owned().into_vec())
            .map_err(|_nul| Error::config("a path with NUL").path(&whole))?;
        at = match fd::openat(at.as_fd(), &name, flags, 0) {
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno @ (Errno::ELOOP | Errno::ENOTDIR)) => {
                return Err(Error::os("go to the parent of the images", errno)
                    .path(&whole)
                    .hint("name it without symbolic links"));
            }
            other => other.on("open", &whole)?,
        };
    }
    Ok(Some(at))
}

/// Checks a directory that leads to images: one like /tmp will do, for what is looked for there is checked as well.
fn check_way(directory: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let way = |error: Error| error.context("on the way to the parent of the images");
    let stat = fd::stat(directory, SAME).on("stat", path)?;
    check_owner(stat, path).map_err(way)?;
    if stat.mode & libc::S_ISVTX != 0 {
        return Ok(());
    }
    check_writers(directory, stat, path).map_err(way)
}

fn check_directory(directory: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let stat = fd::stat(directory, SAME).on("stat", path)?;
    check_owner(stat, path)?;
    check_writers(directory, stat, path)
}

fn check_owner(stat: fd::Stat, path: &Path) -> Result<()> {
    if stat.uid == 0 || stat.uid == geteuid().as_raw() {
        return Ok(());
    }
    Err(Error::config(format!("CRIU is not given what belongs to user {}", stat.uid))
        .path(path)
        .hint("he could make of it what he likes: if he is to be trusted, chown it first"))
}

/// Whether others than the owner may write to it.
fn writers(stat: fd::Stat) -> bool {
    stat.mode & (libc::S_IWGRP | libc::S_IWOTH) != 0
}

fn check_writers(file: BorrowedFd<'_>, stat: fd::Stat, path: &Path) -> Result<()> {
    if !writers(stat) {
        return Ok(());
    }
    let refused = |who: &str, cure: &str| {
        Err(Error::config(format!("CRIU is not given what {who} may write to"))
            .path(path)
            .hint(format!("if it is to be trusted, {cure} it first")))
    };
    if stat.mode & libc::S_IWOTH != 0 {
        return refused("everybody", "chmod o-w");
    }
    if stat.gid != 0 && stat.gid != getegid().as_raw() {
        return refused(&format!("group {}", stat.gid), "chmod g-w");
    }
    // Where there is a list, the group's bits are all it may grant to anybody (acl(5)).
    match xattr::get(file, c"system.posix_acl_access") {
        Ok(Some(_)) => refused("somebody on its access control list", "setfacl -b"),
        _ => Ok(()),
    }
}
