//! The files of a cgroup: small, opened by absolute path, read and written whole.
//!
//! Paths, not descriptors of directories: nobody but root can rename anything above them, cgroup file systems have
//! no symlinks, and an `open` of the directory for each controller would cost more than the longer walk.

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd;

use crate::sys::fd;

/// Opens with close-on-exec.
pub(super) fn open_with(path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    path.with_nix_path(|path| fd::openat(fd::CWD, path, flags.bits(), 0))?
}

/// Whether there is anything at `path`.
pub(super) fn exists(path: &str) -> bool {
    path.with_nix_path(|path| fd::stat(fd::CWD, path)).is_ok_and(|stat| stat.is_ok())
}

pub(super) fn read(path: &str) -> nix::Result<String> {
    let fd = open_with(path, OFlag::O_RDONLY)?;
    read_all(&fd)
}

pub(super) fn read_all(fd: &OwnedFd) -> nix::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match unistd::read(fd, &mut buffer) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn write(path: &str, value: &str) -> nix::Result<()> {
    let fd = open_with(path, OFlag::O_WRONLY)?;
    write_to(&fd, value)
}

/// One write(2): every file of a cgroup takes its value in a single one. The kernel restarts none of them by itself.
pub(super) fn write_to(fd: impl AsFd, value: &str) -> nix::Result<()> {
    loop {
        match unistd::write(fd.as_fd(), value.as_bytes()) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

/// The value of `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    pairs(text).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The `key value` lines of a file whose values are numbers.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The names of the directories directly below `path`.
pub(super) fn subdirectories(path: &str) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_lines_are_found_by_the_whole_key() {
        let text = "oom 1\noom_kill 7\noom_group_kill 0\n";
        assert_eq!(keyed(text, "oom_kill"), Some(7));
        assert_eq!(keyed(text, "oom"), Some(1));
        assert_eq!(keyed(text, "kill"), None);
        assert_eq!(pairs("a 1\nb x\nc 3").collect::<Vec<_>>(), [("a", 1), ("c", 3)]);
    }
}
