//! Unmounting and removing, of trees that an image has made: as deep as it liked, with names as it liked, and with
//! directories that nobody may write to.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use libcontainer::sys::fd;
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};

/// Directories open at once. What is deeper is first moved to the top.
const MAX_OPEN: usize = 100;

/// Unmounts the root filesystem of the bundle `directory`, which is `name` in `parent`, and removes it with all that is
/// in it.
///
/// # Errors
/// Something else that is mounted inside, and those of unlinkat(2).
pub fn bundle(parent: BorrowedFd<'_>, name: &OsStr, directory: BorrowedFd<'_>) -> Result<()> {
    let failed = |errno| Error::sys(format!("cannot remove the bundle {}", name.display()), errno);
    // One that was moved onto another is below it.
    for _ in 0..8 {
        let Ok(rootfs) = fd::openat(
            directory,
            c"rootfs",
            libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY,
            0,
        ) else {
            break;
        };
        if !is_mounted(directory, rootfs.as_fd())? {
            break;
        }
        drop(rootfs);
        unmount(directory, c"rootfs").map_err(failed)?;
    }
    let name = CString::new(name.as_bytes()).map_err(|_nul| failed(Errno::EINVAL))?;
    child(parent, &name)
}

/// Whether `rootfs` is the root of a mount and not just a directory of the bundle.
///
/// # Errors
/// Those of statx(2).
pub fn is_mounted(directory: BorrowedFd<'_>, rootfs: BorrowedFd<'_>) -> Result<bool> {
    let failed = |errno| Error::sys("cannot look at the root filesystem of the bundle", errno);
    let stat = fd::stat(rootfs, c"").map_err(failed)?;
    // Linux 5.8; and of a file system of its own before.
    let mount_root = stat.attributes & u64::from(libc::STATX_ATTR_MOUNT_ROOT.unsigned_abs()) != 0;
    Ok(mount_root || stat.dev != fd::stat(directory, c"").map_err(failed)?.dev)
}

/// umount2(2) has no directory descriptor: it is the current directory for it.
fn unmount(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    let path = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), name.to_string_lossy());
    umount2(path.as_str(), flags)
}

/// Removes `name` in `parent` with all that is in it, on the same file system.
///
/// # Errors
/// EXDEV for what is mounted inside, and those of unlinkat(2).
pub fn child(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    tree(parent, name).map_err(|errno| match errno {
        Errno::EXDEV => Error::sys(
            format!("cannot remove {}: something is mounted in it", name.to_string_lossy()),
            errno,
        ),
        errno => Error::sys(format!("cannot remove {}", name.to_string_lossy()), errno),
    })
}

fn tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(Errno::ENOENT) => return Ok(()),
        other => return other,
    }
    let device = fd::stat(open(parent, name)?.as_fd(), c"")?.dev;
    let mut moved = 0_u64;
    loop {
        let before = moved;
        // Opened anew each time: a directory is listed once from one opening.
        let top = open(parent, name)?;
        empty(top.as_fd(), top.as_fd(), device, 1, &mut moved)?;
        if before == moved {
            break;
        }
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}

/// Removes what is in `directory`, which is `depth` below `top`. `moved` counts the directories that were too deep.
fn empty(
    directory: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    device: (u32, u32),
    depth: usize,
    moved: &mut u64,
) -> Result<(), Errno> {
    let mut entries = Vec::new();
    fd::list(directory, |name, kind, _| entries.push((name.to_owned(), kind)))?;
    for (name, kind) in entries {
        if kind != libc::DT_DIR {
            match unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                // A file system that does not say what is a directory.
                Err(Errno::EISDIR | Errno::EPERM) => {}
                Err(Errno::ENOENT) => continue,
                other => {
                    other?;
                    continue;
                }
            }
        }
        let below = open(directory, &name)?;
        if fd::stat(below.as_fd(), c"")?.dev != device {
            return Err(Errno::EXDEV);
        }
        if depth >= MAX_OPEN {
            move_up(directory, &name, top, moved)?;
            continue;
        }
        empty(below.as_fd(), top, device, depth + 1, moved)?;
        drop(below);
        unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Moves a directory to `top`, under a name that is free there.
fn move_up(
    directory: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let place = format!(".deep-{moved}");
        match renameat2(directory, name, top, place.as_str(), RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => {}
            done => return done,
        }
    }
}

/// Opens a directory to be emptied; one that its owner may not read or write to, he may change.
fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let own = |directory: &OwnedFd| -> Result<(), Errno> {
        let mode = fd::stat(directory.as_fd(), c"")?.mode;
        if mode & 0o700 != 0o700 && !nix::unistd::geteuid().is_root() {
            fchmod(directory, Mode::S_IRWXU)?;
        }
        Ok(())
    };
    match fd::openat(parent, name, flags, 0) {
        Ok(directory) => own(&directory).map(|()| directory),
        Err(Errno::EACCES) => {
            use nix::fcntl::AT_FDCWD;
            use std::os::fd::AsRawFd;
            // fchmod(2) takes no O_PATH; the name in procfs leads to that very directory.
            let place =
                fd::openat(parent, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
            let path = format!("/proc/self/fd/{}", place.as_raw_fd());
            nix::sys::stat::fchmodat(
                AT_FDCWD,
                path.as_str(),
                Mode::S_IRWXU,
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )?;
            fd::openat(parent, name, flags, 0)
        }
        Err(errno) => Err(errno),
    }
}
