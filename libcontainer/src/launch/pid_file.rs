//! The pid file.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::Pid;

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
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
    let file = fd::openat(dir.as_fd(), &temporary, flags, 0o644).on("create the pid file", path)?;
    let written = fd::write_all(&file, pid.to_string().as_bytes())
        .and_then(|()| nix::fcntl::renameat(&dir, temporary.as_c_str(), &dir, name));
    if let Err(errno) = written {
        let no_dir = nix::unistd::UnlinkatFlags::NoRemoveDir;
        let _gone = nix::unistd::unlinkat(&dir, temporary.as_c_str(), no_dir);
        return Err(Error::os("write the pid file", errno).path(path));
    }
    Ok(())
}
