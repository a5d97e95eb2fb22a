//! CVE-2019-5736: a container must not reach the runtime's own file through /proc/PID/exe and write to it.
//!
//! `create`, `run` and `exec` put a process of ours into the container. It is undumpable, but its executable can still be
//! what a container's program names as its interpreter. So they run from a detached read-only clone of the mount their
//! file is on: the kernel refuses to write there, whoever asks. A file that lies on a read-only mount or is immutable
//! is as safe already.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::sys::entry::{self, Arguments};
use crate::sys::exec::execve_again;
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{Attr, Recursive, mount_setattr, open_tree_clone};

const SELF: &std::ffi::CStr = c"/proc/self/exe";
/// How the kernel names a program that was executed by its descriptor (execveat(2)).
const BY_DESCRIPTOR: &[u8] = b"/dev/fd/";
/// Larger than this binary by far.
const MAX_BINARY: u64 = 64 << 20;

/// Executes this program once more from where it cannot be written to, unless it is there already.
///
/// Returns only if nothing had to be done. The new image begins with [`arrive`].
///
/// # Errors
/// Those of open_tree(2), mount_setattr(2), memfd_create(2) and execveat(2).
pub fn seal(arguments: Arguments) -> Result<()> {
    // One walk through /proc, whose directories the kernel makes anew for each process.
    let own = fd::openat(CWD, SELF, libc::O_PATH, 0).on("open", "/proc/self/exe")?;
    if is_safe(own.as_fd())? {
        return Ok(());
    }
    let sealed = match open_tree_clone(own.as_fd(), c"", Recursive::No, false) {
        Ok(clone) => {
            let attr = Attr { set: libc::MOUNT_ATTR_RDONLY, ..Attr::default() };
            mount_setattr(clone.as_fd(), Recursive::No, attr)
                .on("mount_setattr", "/proc/self/exe")?;
            clone
        }
        // Without CAP_SYS_ADMIN only a file that is not the caller's own is out of the container's reach.
        Err(Errno::EPERM) => {
            let file = open_file()?;
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

/// Whether this is the image that [`seal`] has executed; the descriptor it came by is closed then.
///
/// Nobody but the kernel writes the name an image was executed by, and the descriptor it names is still the executed
/// file, for it has been open ever since. To be called before anything else is opened or closed.
pub fn arrive() -> bool {
    let Some(number) = entry::executed_as().strip_prefix(BY_DESCRIPTOR) else { return false };
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
    // A caller may have its own reasons to execute by descriptor: then it is one of his, and stays.
    match number.filter(|number| fd::is_open(*number)) {
        Some(number) if cannot_be_written(entry::inherited(number)) => {
            drop(entry::take_inherited(number));
            true
        }
        _ => false,
    }
}

fn open_file() -> Result<OwnedFd> {
    fd::openat(CWD, SELF, libc::O_RDONLY, 0).on("open", "/proc/self/exe")
}

fn cannot_be_written(file: BorrowedFd<'_>) -> bool {
    fd::is_read_only(file).unwrap_or(false) || fd::is_write_sealed(file)
}

/// Whether `own`, the file this program runs from, cannot be written by anybody.
fn is_safe(own: BorrowedFd<'_>) -> Result<bool> {
    if fd::is_read_only(own).on("statfs", "/proc/self/exe")? {
        return Ok(true);
    }
    let stat = fd::stat(own, c"").on("stat", "/proc/self/exe")?;
    if stat.attributes & libc::STATX_ATTR_IMMUTABLE as u64 != 0 {
        return Ok(true);
    }
    // A memfd has no name in any directory.
    Ok(stat.links == 0 && fd::is_write_sealed(open_file()?.as_fd()))
}
