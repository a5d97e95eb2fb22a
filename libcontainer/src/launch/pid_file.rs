//! The pid file.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use crate::error::{Context, Error, Result};
use crate::sys::fd;

/// Writes the pid, and nothing else, under its final name at once: callers watch for the file.
pub(super) fn write(path: &Path, pid: Pid) -> Result<()> {
    let directory =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else {
        return Err(Error::config("the pid file has no name").path(path));
    };
    let directory_name = CString::new(directory.as_os_str().as_bytes())
        .map_err(|_nul| Error::config("a path with NUL").path(path))?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let dir = fd::openat(fd::CWD, &directory_name, flags, 0)
        .on("open the directory of the pid file", directory)?;
    // Unlike a fixed name, one with our own pid cannot have been left by a crash of somebody alive.
    let temporary = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let temporary = CString::new(temporary).unwrap_or_default();
    let file = create(dir.as_fd(), &temporary).on("create the pid file", path)?;
    let written = fd::write_all(&file, pid.to_string().as_bytes())
        .and_then(|()| nix::fcntl::renameat(&dir, temporary.as_c_str(), &dir, name));
    if let Err(errno) = written {
        let _gone = unlinkat(&dir, temporary.as_c_str(), UnlinkatFlags::NoRemoveDir);
        return Err(Error::os("write the pid file", errno).path(path));
    }
    Ok(())
}

/// Makes the file anew: what has its name in a directory that others may write to (a FIFO, a hard link) is not ours.
fn create(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    match fd::openat(dir, name, flags, 0o644) {
        Err(Errno::EEXIST) => {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
            fd::openat(dir, name, flags, 0o644)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_way_is_not_written_to() {
        let dir = std::env::temp_dir().join(format!("skep-pid-file-{}", std::process::id()));
        let _leftover = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let temporary = dir.join(format!(".pid.{}", std::process::id()));
        std::fs::write(dir.join("victim"), "precious").unwrap();
        std::fs::hard_link(dir.join("victim"), &temporary).unwrap();
        write(&dir.join("pid"), Pid::from_raw(42)).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("victim")).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(dir.join("pid")).unwrap(), "42");
        // Opening a FIFO without a reader would wait for ever.
        nix::unistd::mkfifo(&temporary, nix::sys::stat::Mode::S_IRWXU).unwrap();
        write(&dir.join("pid"), Pid::from_raw(43)).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("pid")).unwrap(), "43");
        assert!(std::fs::symlink_metadata(&temporary).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
