//! Unmounting and removing.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd};

use libcontainer::sys::fd;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::error::{Error, Result};

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
    super::userns::remove_any(parent, name)
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
