//! CVE-2019-5736: a container must not reach the runtime's own file through /proc/PID/exe and write to it.
//!
//! `create`, `run` and `exec` put a process of ours into the container. It is undumpable, but its executable can still be
//! what a container's program names as its interpreter. So they run from a detached read-only clone of the mount their
//! file is on (design note 0017): the kernel refuses to write there, whoever asks. A file that lies on a read-only mount or
//! is immutable is as safe already.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::sys::entry::{self, Arguments};
use crate::sys::exec::execve_again;
use crate::sys::fd::{self, CWD};
use crate::sys::image;
use crate::sys::mount::{Attr, Recursive, mount_setattr, move_mount_to, open_tree_clone};

const SELF: &std::ffi::CStr = c"/proc/self/exe";
/// How the kernel names a program that was executed by its descriptor (execveat(2)).
const BY_DESCRIPTOR: &[u8] = b"/dev/fd/";
/// Larger than this binary by far.
const MAX_BINARY: u64 = 64 << 20;

/// Makes this program run from where it cannot be written to, unless it does already.
///
/// Where the kernel lets it, the pages it runs on are exchanged for the same pages of the read-only clone (design note
/// 0017). Otherwise the clone is executed; the new image begins with [`arrive`].
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
            if exchange(own.as_fd(), clone.as_fd(), arguments).is_ok() {
                hold(clone);
                return Ok(());
            }
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

/// Goes on from `clone`, a read-only mount of the file `own`; fails if this program or this kernel cannot.
fn exchange(own: BorrowedFd<'_>, clone: BorrowedFd<'_>, arguments: Arguments) -> Result<(), Errno> {
    // A descriptor that open_tree(2) returns maps nothing, and only /proc opens what it leads to.
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", clone.as_raw_fd()))
        .map_err(|_nul| Errno::EINVAL)?;
    let file = fd::openat(CWD, &path, libc::O_RDONLY, 0)?;
    let (wanted, found) = (fd::stat(own, c"")?, fd::stat(file.as_fd(), c"")?);
    if (wanted.dev, wanted.ino) != (found.dev, found.ino) || !fd::is_read_only(file.as_fd())? {
        return Err(Errno::ESTALE);
    }
    image::run_from(file.as_fd(), arguments)
}

/// The descriptor of the clone; -1 without one.
static HELD: AtomicI32 = AtomicI32::new(-1);

/// Keeps the clone open. Closing it unmounts the clone, which waits until every processor has passed a quiescent state
/// (RCU): up to milliseconds, for which [`let_go`] finds a better moment.
fn hold(clone: OwnedFd) {
    // Not where a standard stream belongs.
    if clone.as_raw_fd() > libc::STDERR_FILENO && fd::set_cloexec(clone.as_raw_fd(), true).is_ok() {
        HELD.store(clone.into_raw_fd(), Relaxed);
    }
}

/// Closes the clone: a child at once, for it is not to be inherited by what comes next; the runtime when it would only
/// wait for somebody else.
pub(crate) fn let_go() {
    let number = HELD.swap(-1, Relaxed);
    if number >= 0 {
        drop(entry::take_inherited(number));
    }
}

/// Leaves the clone among the mounts that the caller is about to unmount, as part of which it costs nothing to end.
pub(crate) fn leave_behind() {
    let number = HELD.load(Relaxed);
    if number >= 0 {
        // Any file does; this one is wherever there is a procfs. Where it fails, closing the clone unmounts it.
        let _attached = move_mount_to(entry::inherited(number), CWD, c"/proc/version");
        let_go();
    }
}

/// Whether `number` is the descriptor of the clone, which no caller has passed.
pub(crate) fn holds(number: RawFd) -> bool {
    number >= 0 && HELD.load(Relaxed) == number
}

/// How this process is protected, for `--debug`. The words in brackets are what scripts look for in the log of runc, where
/// they are as true: the clone is one of the mount this file is on.
pub fn describe() -> &'static str {
    if HELD.load(Relaxed) >= 0 {
        "runs from where nobody can write to it (runc: runc exeseal: using /proc/self/exe clone)"
    } else {
        "runs from its own file, which this container cannot write to"
    }
}

/// Whether this is the image that [`seal`] has executed; the descriptor it came by is kept for later then.
///
/// Nobody but the kernel writes the name an image was executed by, and the descriptor it names is still the executed
/// file, for it has been open ever since. To be called before anything else is opened or closed.
pub fn arrive() -> bool {
    let Some(number) = entry::executed_as().strip_prefix(BY_DESCRIPTOR) else { return false };
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
    // A caller may have its own reasons to execute by descriptor: then it is one of his, and stays.
    match number.filter(|number| fd::is_open(*number)) {
        Some(number) if cannot_be_written(entry::inherited(number)) => {
            hold(entry::take_inherited(number));
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
