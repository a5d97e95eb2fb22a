//! CVE-2019-5736: a container must not reach the runtime's own file through /proc/PID/exe and write to it.
//!
//! `create`, `run` and `exec` put a process of ours into the container. It is undumpable, but its executable can still be
//! what a container's program names as its interpreter. So they run from a detached read-only clone of the mount their
//! file is on: the kernel refuses to write there, whoever asks. A file that lies on a read-only mount or is immutable
//! is as safe already.

use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::sys::entry::Arguments;
use crate::sys::exec::execve_again;
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{Attr, Recursive, mount_setattr, open_tree_clone};

const SELF: &std::ffi::CStr = c"/proc/self/exe";
/// Larger than this binary by far.
const MAX_BINARY: u64 = 64 << 20;

/// Executes this program once more from where it cannot be written to, unless it is there already.
///
/// Returns only if nothing had to be done.
///
/// # Errors
/// Those of open_tree(2), mount_setattr(2), memfd_create(2) and execveat(2).
pub fn seal(arguments: Arguments) -> Result<()> {
    if is_safe()? {
        return Ok(());
    }
    let sealed = match open_tree_clone(CWD, SELF, Recursive::No, false) {
        Ok(clone) => {
            let attr = Attr { set: libc::MOUNT_ATTR_RDONLY, ..Attr::default() };
            mount_setattr(clone.as_fd(), Recursive::No, attr)
                .on("mount_setattr", "/proc/self/exe")?;
            clone
        }
        // Without CAP_SYS_ADMIN only a file that is not the caller's own is out of the container's reach.
        Err(Errno::EPERM) => {
            let file = fd::openat(CWD, SELF, libc::O_RDONLY, 0).on("open", "/proc/self/exe")?;
            if fd::stat(file.as_fd(), c"").on("stat", "/proc/self/exe")?.uid
                != nix::unistd::geteuid().as_raw()
            {
                return Ok(());
            }
            let binary = fd::read_all(&file, MAX_BINARY).on("read", "/proc/self/exe")?;
            fd::sealed_memfd(c"skep", &binary).doing("memfd_create")?
        }
        Err(errno) => return Err(Error::os("open_tree", errno).path("/proc/self/exe")),
    };
    let errno = execve_again(sealed.as_fd(), arguments);
    Err(Error::os("execute the read-only copy of this program", errno))
}

/// Whether the file this program runs from cannot be written by anybody.
fn is_safe() -> Result<bool> {
    if fd::is_read_only(SELF).on("statfs", "/proc/self/exe")? {
        return Ok(true);
    }
    let stat = fd::stat_follow(CWD, SELF).on("stat", "/proc/self/exe")?;
    if stat.attributes & libc::STATX_ATTR_IMMUTABLE as u64 != 0 {
        return Ok(true);
    }
    // A memfd has no name in any directory.
    if stat.links > 0 {
        return Ok(false);
    }
    let file = fd::openat(CWD, SELF, libc::O_RDONLY, 0).on("open", "/proc/self/exe")?;
    Ok(fd::is_write_sealed(file.as_fd()))
}
