//! Two trees, entry by entry: what an image says, and what is there.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libcontainer::sys::fd::{self, Stat};
use libcontainer::sys::xattr;
use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Result};

/// Directories in each other that are followed: each has two descriptors open.
const DEPTH: usize = 400;
/// Entries of one directory, which are held in memory.
const NAMES: usize = 1 << 20;
const PIECE: usize = 128 << 10;

/// What is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is there, and the image has no such thing; of a directory, with all that is in it.
    Added,
    /// The image has it, and it is not there.
    Missing,
    /// Both have it, and in these properties they differ: `type`, `mode`, `owner`, `size`, `content`, `time`, `target`,
    /// `device`, `attributes`.
    Changed(Vec<&'static str>),
}

/// Compares `found` with `wanted`, and tells of each difference with its path, from the top in the order of names.
///
/// Times of directories are nothing: to make a mount point in one changes it.
///
/// # Errors
/// Those of reading either; those of `tell`.
pub fn trees(
    wanted: BorrowedFd<'_>,
    found: BorrowedFd<'_>,
    tell: &mut dyn FnMut(&str, &Difference) -> Result<()>,
) -> Result<()> {
    let (a, b) = (look(wanted, c"")?, look(found, c"")?);
    let changed = properties(&a, &b, &open(wanted)?, &open(found)?)?;
    if !changed.is_empty() {
        tell("/", &Difference::Changed(changed))?;
    }
    directories(wanted, found, "", 0, tell)
}

fn directories(
    wanted: BorrowedFd<'_>,
    found: BorrowedFd<'_>,
    path: &str,
    depth: usize,
    tell: &mut dyn FnMut(&str, &Difference) -> Result<()>,
) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::no_space(format!(
            "{path}: more than {DEPTH} directories in each other"
        )));
    }
    let (here, there) = (names(wanted, path)?, names(found, path)?);
    for name in here.union(&there) {
        let shown = format!("{path}/{}", name.to_string_lossy());
        if !there.contains(name) {
            tell(&shown, &Difference::Missing)?;
            continue;
        }
        if !here.contains(name) {
            tell(&shown, &Difference::Added)?;
            continue;
        }
        let a = entry(wanted, name).context(|| shown.clone())?;
        let b = match entry(found, name) {
            // Gone since it was listed: somebody is at work there.
            Err(error) if error.kind() == Kind::NotFound => {
                tell(&shown, &Difference::Missing)?;
                continue;
            }
            other => other.context(|| shown.clone())?,
        };
        let (x, y) = (look(a.as_fd(), c"")?, look(b.as_fd(), c"")?);
        let changed = properties(&x, &y, &a, &b).context(|| shown.clone())?;
        if !changed.is_empty() {
            tell(&shown, &Difference::Changed(changed))?;
        }
        if x.is(libc::S_IFDIR) && y.is(libc::S_IFDIR) {
            directories(a.as_fd(), b.as_fd(), &shown, depth + 1, tell)?;
        }
    }
    Ok(())
}

/// What is in a directory, of which a container may have made any number.
fn names(directory: BorrowedFd<'_>, path: &str) -> Result<BTreeSet<CString>> {
    let mut found = BTreeSet::new();
    let listed = fd::openat(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0);
    listed
        .and_then(|listed| {
            fd::list(listed.as_fd(), |name, _, _| {
                if found.len() <= NAMES && !matches!(name.to_bytes(), b"." | b"..") {
                    found.insert(name.to_owned());
                }
            })
        })
        .map_err(|errno| Error::sys(format_args!("cannot list {path}/"), errno))?;
    if found.len() > NAMES {
        return Err(Error::no_space(format!("{path}/ has more than {NAMES} entries")));
    }
    Ok(found)
}

fn look(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Stat> {
    fd::stat(directory, name).map_err(|errno| Error::sys("cannot look at it", errno))
}

/// Itself, whatever it is: nothing is opened that does something by that.
fn entry(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    fd::openat(directory, name, libc::O_PATH | libc::O_NOFOLLOW, 0)
        .map_err(|errno| Error::sys("cannot open it", errno))
}

fn open(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    directory.try_clone_to_owned().context(|| "cannot open it")
}

/// In what two entries of one name differ.
fn properties(a: &Stat, b: &Stat, one: &OwnedFd, other: &OwnedFd) -> Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    if a.mode & libc::S_IFMT != b.mode & libc::S_IFMT {
        return Ok(vec!["type"]);
    }
    let mut note = |differs: bool, what| {
        if differs {
            changed.push(what);
        }
    };
    let kind = a.mode & libc::S_IFMT;
    note(kind != libc::S_IFLNK && a.mode & 0o7777 != b.mode & 0o7777, "mode");
    note((a.uid, a.gid) != (b.uid, b.gid), "owner");
    match kind {
        libc::S_IFREG => {
            let (x, y) = (reopen(one)?, reopen(other)?);
            let size =
                |file: &File| file.metadata().map(|m| m.len()).context(|| "cannot look at it");
            let (long, short) = (size(&x)?, size(&y)?);
            note(long != short, "size");
            note(long == short && !same_content(&x, &y, long)?, "content");
        }
        libc::S_IFLNK => note(target(one)? != target(other)?, "target"),
        libc::S_IFCHR | libc::S_IFBLK => note(a.rdev != b.rdev, "device"),
        _ => {}
    }
    if kind != libc::S_IFDIR {
        let time = |fd: &OwnedFd| {
            let stat = nix::sys::stat::fstat(fd).map_err(|e| Error::sys("cannot look at it", e))?;
            Ok::<_, Error>((stat.st_mtime, stat.st_mtime_nsec))
        };
        note(time(one)? != time(other)?, "time");
    }
    if matches!(kind, libc::S_IFREG | libc::S_IFDIR) {
        note(attributes(one)? != attributes(other)?, "attributes");
    }
    Ok(changed)
}

/// The same file, to be read. It is a regular one, and what one descriptor names stays what it is.
fn reopen(file: &OwnedFd) -> Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(path).context(|| "cannot open it")
}

fn target(link: &OwnedFd) -> Result<std::ffi::OsString> {
    nix::fcntl::readlinkat(link, c"").map_err(|errno| Error::sys("cannot read the link", errno))
}

/// Whether both have the same `size` bytes; one that grows meanwhile is not followed.
fn same_content(a: &File, b: &File, size: u64) -> Result<bool> {
    let failed = || "cannot read it";
    let (mut a, mut b) = (a.take(size), b.take(size));
    let (mut x, mut y) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let (n, m) = (fill(&mut a, &mut x).context(failed)?, fill(&mut b, &mut y).context(failed)?);
        if x.get(..n) != y.get(..m) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Extended attributes but for those that the host gives of itself.
fn attributes(file: &OwnedFd) -> Result<BTreeSet<(CString, Option<Vec<u8>>)>> {
    let file = reopen(file)?;
    let failed = |errno| Error::sys("cannot read its attributes", errno);
    let mut found = BTreeSet::new();
    for name in xattr::list(file.as_fd()).or_else(none).map_err(failed)? {
        if name.to_bytes().starts_with(b"security.selinux") || name.to_bytes() == b"security.ima" {
            continue;
        }
        let value = xattr::get(file.as_fd(), &name).map_err(failed)?;
        found.insert((name, value));
    }
    Ok(found)
}

/// A file system without attributes has none.
fn none<T: Default>(errno: Errno) -> Result<T, Errno> {
    if errno == Errno::EOPNOTSUPP { Ok(T::default()) } else { Err(errno) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::draft::open_directory;

    #[test]
    fn each_difference_is_told() {
        let place = std::env::temp_dir().join(format!("skep-compare-{}", std::process::id()));
        let _leftover = fs::remove_dir_all(&place);
        for tree in ["a", "b"] {
            let tree = place.join(tree);
            fs::create_dir_all(tree.join("d/deep")).unwrap();
            for file in ["same", "content", "size", "mode", "type", "d/deep/time"] {
                fs::write(tree.join(file), "one").unwrap();
            }
            symlink("x", tree.join("link")).unwrap();
        }
        let b = place.join("b");
        fs::write(b.join("content"), "two").unwrap();
        fs::write(b.join("size"), "longer").unwrap();
        fs::set_permissions(b.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(b.join("type")).unwrap();
        fs::create_dir(b.join("type")).unwrap();
        fs::remove_file(b.join("link")).unwrap();
        symlink("y", b.join("link")).unwrap();
        fs::create_dir_all(b.join("new/below")).unwrap();
        fs::write(place.join("a/gone"), "x").unwrap();
        // A FIFO is not opened, which would last for ever.
        for tree in ["a", "b"] {
            let fifo = place.join(tree).join("fifo");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        }
        let now = fs::metadata(place.join("a/same")).unwrap().modified().unwrap();
        for tree in ["a", "b"] {
            for file in ["same", "content", "size", "mode", "d/deep/time"] {
                let file =
                    fs::File::options().write(true).open(place.join(tree).join(file)).unwrap();
                file.set_modified(now).unwrap();
            }
        }
        fs::File::options()
            .write(true)
            .open(b.join("d/deep/time"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        let mut told = Vec::new();
        let open = |name| open_directory(&place.join(name)).unwrap();
        trees(open("a").as_fd(), open("b").as_fd(), &mut |path, what| {
            told.push((path.to_owned(), what.clone()));
            Ok(())
        })
        .unwrap();
        fs::remove_dir_all(&place).unwrap();
        let mut told: Vec<String> = told
            .into_iter()
            .map(|(path, what)| match what {
                Difference::Changed(mut what) => {
                    // Links and FIFOs were made at different times.
                    what.retain(|what| *what != "time" || path.ends_with("time"));
                    if what.is_empty() {
                        String::new()
                    } else {
                        format!("{path} {}", what.join(","))
                    }
                }
                what => format!("{path} {what:?}"),
            })
            .collect();
        told.retain(|line| !line.is_empty());
        assert_eq!(
            told,
            [
                "/content content",
                "/d/deep/time time",
                "/gone Missing",
                "/link target",
                "/mode mode",
                "/new Added",
                "/size size",
                "/type type"
            ]
        );
    }
}
