//! Removal of a tree by descriptors: nothing outside it is touched, whatever changes meanwhile.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};

const OPEN: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK);

/// Directories that are open at a time.
const DEPTH: usize = 100;

/// A directory that is being emptied.
struct Level {
    dir: Dir,
    name: CString,
}

/// Removes `name` below `dir`, with all in it. It need not be there. Mounts in it stop it, and symlinks are not followed. Directories that
/// their owner may not write are made so first.
///
/// # Errors
/// Those of opening and removing, with the name.
pub fn remove(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let failed = |errno| Error::sys(format_args!("cannot remove {}", name.display()), errno);
    remove_all(dir, name).map_err(failed)
}

fn remove_all(parent: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    let name = nix::NixPath::with_nix_path(name, CStr::to_owned)?;
    match unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    let device = fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?.st_dev;
    // Not recursive: a layer may be deeper than the stack.
    let mut levels = vec![open_level(parent, name, device)?];
    let mut moved = 0u64;
    while let Some(level) = levels.last_mut() {
        let fd = level.dir.as_fd().try_clone_to_owned().map_err(|_full| Errno::EMFILE)?;
        let mut below = None;
        for entry in level.dir.iter() {
            let entry = entry?;
            let child = entry.file_name();
            if child == c"." || child == c".." {
                continue;
            }
            if entry.file_type() == Some(Type::Directory) {
                below = Some(child.to_owned());
                break;
            }
            match unlinkat(&fd, child, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR) => {
                    below = Some(child.to_owned());
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
        match below {
            Some(child) => match unlinkat(&fd, child.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EACCES) => {
                    let level = open_level(fd.as_fd(), child, device)?;
                    match levels.first().filter(|_| levels.len() >= DEPTH) {
                        None => levels.push(level),
                        // Deeper than there are descriptors: its turn comes at the top.
                        Some(top) => {
                            moved += 1;
                            let name = format!(".skep-deep-{moved}");
                            renameat(&fd, level.name.as_c_str(), top.dir.as_fd(), name.as_str())?;
                        }
                    }
                }
                Err(errno) => return Err(errno),
            },
            None => {
                let Some(done) = levels.pop() else { break };
                let above = levels.last().map_or(parent, |level| level.dir.as_fd());
                match unlinkat(above, done.name.as_c_str(), UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
    }
    Ok(())
}

fn open_level(parent: BorrowedFd<'_>, name: CString, device: u64) -> Result<Level, Errno> {
    let fd: OwnedFd = match openat(parent, name.as_c_str(), OPEN, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::EACCES) => {
            // Ours, and not readable even for us. By name, but not through a symlink: fchmodat cannot, so O_PATH.
            let path = openat(parent, name.as_c_str(), OPEN | OFlag::O_PATH, Mode::empty())?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&path));
            nix::sys::stat::fchmodat(
                nix::fcntl::AT_FDCWD,
                link.as_str(),
                Mode::S_IRWXU,
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )?;
            openat(parent, name.as_c_str(), OPEN, Mode::empty())?
        }
        Err(errno) => return Err(errno),
    };
    let stat = fstat(&fd)?;
    if stat.st_dev != device {
        return Err(Errno::EXDEV);
    }
    if stat.st_mode & 0o700 != 0o700 {
        // Root needs no permission, and one who is not the owner cannot give it.
        match fchmod(&fd, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Level { dir: Dir::from_fd(fd)?, name })
}
