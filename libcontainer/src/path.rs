//! Paths inside a root filesystem that is not trusted: always (descriptor of the root, relative path), walked by the
//! kernel with openat2(2), never joined as text.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::stat::Mode;

use crate::sys::fd;

/// Symlinks are followed inside the root, magic links of procfs never are (CVE-2024-21626).
pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

/// Symlinks the walk may meet before it is a loop, as the kernel has it.
const MAX_LINKS: usize = 40;

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// A directory, mode 0755.
    Directory,
    /// An empty regular file, mode 0644.
    File,
}

/// Opens `path` below `root` as `O_PATH`.
///
/// # Errors
/// Those of openat2(2).
pub fn open(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    fd::openat2(root, here_if_empty(path), libc::O_PATH, 0, IN_ROOT)
}

/// Opens `path` below `root` as `O_PATH`, refusing any symlink on the way (CVE-2019-19921).
///
/// # Errors
/// ELOOP for a symlink; those of openat2(2).
pub fn open_no_symlinks(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    fd::openat2(root, here_if_empty(path), libc::O_PATH, 0, IN_ROOT | libc::RESOLVE_NO_SYMLINKS)
}

/// Opens `path` below `root` with `flags`.
///
/// # Errors
/// Those of openat2(2).
pub fn open_with(root: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> Result<OwnedFd, Errno> {
    fd::openat2(root, here_if_empty(path), flags, 0, IN_ROOT)
}

/// Opens `path` below `root` as `O_PATH`, making what is missing: directories on the way, `make` at its end. Says
/// whether it was there.
///
/// # Errors
/// ELOOP after 40 symlinks; ENOTDIR for a file on the way; those of openat2(2), mkdirat(2) and openat(2).
pub fn open_or_make(
    root: BorrowedFd<'_>,
    path: &CStr,
    make: Make,
) -> Result<(OwnedFd, bool), Errno> {
    match open(root, path) {
        Ok(found) => Ok((found, true)),
        Err(Errno::ENOENT) => make_missing(root, path, make).map(|made| (made, false)),
        Err(errno) => Err(errno),
    }
}

/// Makes and opens `path`, which [`open`] has not found, as [`open_or_make`] does.
///
/// # Errors
/// As those of [`open_or_make`].
pub fn make_missing(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd, Errno> {
    match make_last(root, path, make)? {
        Some(made) => Ok(made),
        None => Walk::new(path).make(root, make),
    }
}

/// The directory a clean path's last component lies in, and that component.
///
/// # Errors
/// EINVAL for an empty path.
pub fn parent(path: &CStr) -> Result<(CString, CString), Errno> {
    let bytes = path.to_bytes();
    let slash = bytes.iter().rposition(|byte| *byte == b'/');
    let (above, name) = match slash {
        Some(slash) => (bytes.get(..slash), bytes.get(slash + 1..)),
        None => (None, Some(bytes)),
    };
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_nul| Errno::EINVAL);
    let name = name.filter(|name| !name.is_empty()).ok_or(Errno::EINVAL)?;
    Ok((text(above.unwrap_or_default())?, text(name)?))
}

/// The usual case, that only the last component is missing; `None` if it is another.
fn make_last(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<Option<OwnedFd>, Errno> {
    let Ok((above, name)) = parent(path) else { return Ok(None) };
    if name.as_c_str() == c"." || name.as_c_str() == c".." {
        return Ok(None);
    }
    let above = match open(root, &above) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    match make_new(above.as_fd(), name.to_bytes(), make) {
        // A symlink to what is not there: it is followed to where that is to be made.
        Err(Errno::EEXIST) => return Ok(None),
        other => other?,
    }
    let beneath = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    fd::openat2(above.as_fd(), &name, libc::O_PATH | libc::O_NOFOLLOW, 0, beneath).map(Some)
}

fn here_if_empty(path: &CStr) -> &CStr {
    if path.is_empty() { c"." } else { path }
}

/// A walk that makes directories as it goes. It follows symlinks itself, because one that dangles inside the root
/// (`/var/run` to a `/run` the image lacks) names a directory to be made there.
struct Walk {
    done: Vec<u8>,
    rest: Vec<Vec<u8>>,
    links: usize,
}

impl Walk {
    fn new(path: &CStr) -> Self {
        let mut walk = Self { done: Vec::new(), rest: Vec::new(), links: 0 };
        walk.push(path.to_bytes());
        walk
    }

    /// Puts the components of `path` before what is left; the last one to walk is the first of the vector.
    fn push(&mut self, path: &[u8]) {
        let parts =
            path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        self.rest.extend(parts.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev());
    }

    fn text(bytes: &[u8]) -> Result<CString, Errno> {
        let bytes = if bytes.is_empty() { b"." } else { bytes };
        CString::new(bytes).map_err(|_nul| Errno::EINVAL)
    }

    fn make(mut self, root: BorrowedFd<'_>, make: Make) -> Result<OwnedFd, Errno> {
        let mut steps = 0;
        while let Some(name) = self.rest.pop() {
            steps += 1;
            if steps > 4096 {
                return Err(Errno::ELOOP);
            }
            if name == b".." {
                let parent = self.done.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                self.done.truncate(parent);
                continue;
            }
            let parent = self.done.len();
            if !self.done.is_empty() {
                self.done.push(b'/');
            }
            self.done.extend_from_slice(&name);
            let path = Self::text(&self.done)?;
            match fd::openat2(root, &path, libc::O_PATH | libc::O_NOFOLLOW, 0, IN_ROOT) {
                Ok(found) => {
                    let stat = fd::stat(found.as_fd(), c"")?;
                    if stat.is(libc::S_IFLNK) {
                        self.done.truncate(parent);
                        self.follow(&found)?;
                    } else if !stat.is(libc::S_IFDIR) && !self.rest.is_empty() {
                        return Err(Errno::ENOTDIR);
                    }
                }
                Err(Errno::ENOENT) => {
                    let above = Self::text(self.done.get(..parent).unwrap_or_default())?;
                    let above = open(root, &above)?;
                    let last = self.rest.is_empty();
                    make_one(above.as_fd(), &name, if last { make } else { Make::Directory })?;
                }
                Err(errno) => return Err(errno),
            }
        }
        fd::openat2(root, &Self::text(&self.done)?, libc::O_PATH | libc::O_NOFOLLOW, 0, IN_ROOT)
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = nix::fcntl::readlinkat(link, c"")?;
        if target.as_bytes().starts_with(b"/") {
            self.done.clear();
        }
        self.push(target.as_bytes());
        Ok(())
    }
}

fn make_one(parent: BorrowedFd<'_>, name: &[u8], make: Make) -> Result<(), Errno> {
    match make_new(parent, name, make) {
        // Somebody else's is as good: the caller opens it anew, inside the root.
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

fn make_new(parent: BorrowedFd<'_>, name: &[u8], make: Make) -> Result<(), Errno> {
    let name = OsStr::from_bytes(name);
    match make {
        Make::Directory => nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755)),
        Make::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            let name = CString::new(name.as_bytes()).map_err(|_nul| Errno::EINVAL)?;
            fd::openat(parent, &name, flags, 0o644).map(drop)
        }
    }
}

/// Cleans a path of `config.json` into one relative to the root: no empty, `.` or `..` component, which
/// cannot leave the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(name: &str) -> (std::path::PathBuf, OwnedFd) {
        let dir = std::env::temp_dir().join(format!("skep-path-{}-{name}", std::process::id()));
        let _leftover = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let path = CString::new(dir.as_os_str().as_bytes()).unwrap();
        let fd = fd::openat(fd::CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        (dir, fd)
    }

    #[test]
    fn cleaning_never_leaves_the_root() {
        for (path, want) in
            [("/", ""), ("/a//b/./c", "a/b/c"), ("../../etc", "etc"), ("a/../../b", "b"), ("", "")]
        {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let (dir, fd) = root("make");
        let (_, there) = open_or_make(fd.as_fd(), c"a/b/c", Make::Directory).unwrap();
        assert!(!there);
        open_or_make(fd.as_fd(), c"a/b/f", Make::File).unwrap();
        assert!(dir.join("a/b/c").is_dir());
        assert!(dir.join("a/b/f").is_file());
        assert!(open_or_make(fd.as_fd(), c"a/b/f", Make::File).unwrap().1);
        assert_eq!(open_or_make(fd.as_fd(), c"a/b/f/g", Make::File).unwrap_err(), Errno::ENOTDIR);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn symlinks_stay_inside_and_dangling_ones_are_completed() {
        let (dir, fd) = root("link");
        symlink("/run", dir.join("var-run")).unwrap();
        symlink("../../../../../../outside", dir.join("up")).unwrap();
        open_or_make(fd.as_fd(), c"var-run/x/y", Make::Directory).unwrap();
        assert!(dir.join("run/x/y").is_dir());
        open_or_make(fd.as_fd(), c"up/z", Make::Directory).unwrap();
        assert!(dir.join("outside/z").is_dir());
        symlink("loop2", dir.join("loop1")).unwrap();
        symlink("loop1", dir.join("loop2")).unwrap();
        assert_eq!(
            open_or_make(fd.as_fd(), c"loop1/a", Make::Directory).unwrap_err(),
            Errno::ELOOP
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_symlink_is_refused_where_none_may_be() {
        let (dir, fd) = root("proc");
        symlink("tmp", dir.join("proc")).unwrap();
        assert_eq!(open_no_symlinks(fd.as_fd(), c"proc").unwrap_err(), Errno::ELOOP);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
