//! A directory on its way to its name: made beside its place under a name that says so, locked while somebody is at it, and renamed when it is whole.
//!
//! What a killed process leaves is unlocked, and the next one that makes something in the same place removes it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libcontainer::sys::fd;
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, mkdirat};

use crate::error::{Error, Result};
use crate::interrupt::{self, HalfMade};
use crate::layer::remove_tree;

/// A directory that is being made.
#[derive(Debug)]
pub struct Draft {
    /// The directory that it is in, and will be.
    pub parent: OwnedFd,
    /// What it is called until then.
    pub name: OsString,
    /// The directory, locked until this is closed.
    pub directory: OwnedFd,
    remove: Remove,
    half_made: HalfMade,
}

/// Removes a directory that has not become what it was to be: by the directory it is in, its name there and itself.
pub type Remove = fn(BorrowedFd<'_>, &OsStr, BorrowedFd<'_>) -> Result<()>;

impl Draft {
    /// Makes one in `parent`, whose name begins with `prefix`. A signal that nobody heeds has it removed by `remove`.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn new(parent: OwnedFd, prefix: &str, remove: Remove) -> Result<Self> {
        let failed = |errno| Error::sys("cannot make a new directory", errno);
        let _until_it_is_noted = interrupt::busy();
        // Between making and locking it, somebody's sweep may have come: then once more.
        for _ in 0..16 {
            let name = name(prefix);
            mkdirat(&parent, name.as_os_str(), Mode::S_IRWXU).map_err(failed)?;
            let path = CString::new(name.as_bytes()).map_err(|_nul| failed(Errno::EINVAL))?;
            let Ok(directory) = open_below(parent.as_fd(), &path) else { continue };
            if lock(directory.as_fd()).is_ok() && fd::stat(parent.as_fd(), &path).is_ok() {
                let half_made = unless_named(&parent, &name, &directory, prefix, remove)?;
                return Ok(Self { parent, name, directory, remove, half_made });
            }
        }
        Err(failed(Errno::EAGAIN))
    }

    /// Removes it. What cannot be removed is unlocked then, and the next one that makes something there tries again.
    pub fn discard(self) {
        let _to_its_end = interrupt::busy();
        drop(self.half_made);
        let _swept_later = (self.remove)(self.parent.as_fd(), &self.name, self.directory.as_fd());
    }

    /// Gives it its name, which nothing has yet.
    ///
    /// # Errors
    /// EEXIST, and the others of renameat2(2).
    pub fn publish(&self, name: &CStr) -> Result<(), Errno> {
        let from = CString::new(self.name.as_bytes()).map_err(|_nul| Errno::EINVAL)?;
        let parent = self.parent.as_fd();
        match fd::rename_new(parent, &from, parent, name) {
            // A file system that does not know the flag. A directory replaces nothing but an empty one there.
            Err(Errno::EINVAL) => self.publish_over_empty(name),
            done => done,
        }
    }

    /// As [`publish`](Self::publish), also in the place of an empty directory.
    ///
    /// # Errors
    /// ENOTEMPTY or EEXIST, and the others of rename(2).
    pub fn publish_over_empty(&self, name: &CStr) -> Result<(), Errno> {
        renameat(&self.parent, self.name.as_os_str(), &self.parent, name)
    }
}

/// Under another name first, that it is not given its own while it is removed.
fn unless_named(
    parent: &OwnedFd,
    name: &OsStr,
    directory: &OwnedFd,
    prefix: &str,
    remove: Remove,
) -> Result<HalfMade> {
    let copy = |fd: &OwnedFd| {
        fd.try_clone().map_err(|error| Error::io("cannot remember a directory", error))
    };
    let (parent, directory, from) = (copy(parent)?, copy(directory)?, name.to_owned());
    let prefix = prefix.to_owned();
    Ok(interrupt::half_made(move || {
        let to = self::name(&prefix);
        if renameat(&parent, from.as_os_str(), &parent, to.as_os_str()).is_ok() {
            // Somebody may still be putting something in.
            let gone = || remove(parent.as_fd(), &to, directory.as_fd()).is_ok();
            let _swept_later = (0..16).any(|_| gone());
        }
    }))
}

/// A name that nobody else makes.
#[must_use]
pub fn name(prefix: &str) -> OsString {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{}-{number}-{:x}", std::process::id(), now.as_nanos()).into()
}

/// Removes with `remove`, which says whether it could, what begins with `prefix` in `parent` and nobody is at.
pub fn sweep(
    parent: BorrowedFd<'_>,
    prefix: &str,
    remove: &dyn Fn(&OsStr, BorrowedFd<'_>) -> bool,
) -> u32 {
    let mut removed = 0;
    for name in names(parent).unwrap_or_default() {
        if !name.to_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let Ok(directory) = open_below(parent, &name) else { continue };
        // In a directory that others write to, what they call so is theirs.
        let own = nix::unistd::geteuid().as_raw();
        if fd::stat(directory.as_fd(), c"").is_ok_and(|stat| stat.uid == own)
            && lock(directory.as_fd()).is_ok()
            && remove(OsStr::from_bytes(name.to_bytes()), directory.as_fd())
        {
            removed += 1;
        }
    }
    removed
}

/// How the trees begin that [`tree`] has not finished.
const UNFINISHED: &str = ".skep-unpack-";

/// Makes the directory `place`, filled by `fill`: all of it or nothing. An empty directory may be there.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for a place where something is; those of `fill`, of making and naming it.
pub fn tree(place: &Path, fill: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    let shown = place.display();
    let (parent, name) = split(place)?;
    let parent = open_directory(&parent)?;
    sweep(parent.as_fd(), UNFINISHED, &|name, _| remove_tree(parent.as_fd(), name).is_ok());
    let taken = || {
        Error::usage(format!("{shown} is there already, and not an empty directory"))
            .hint("an image is unpacked into a new directory")
    };
    let there = fd::stat(parent.as_fd(), &name);
    match there {
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(Error::sys(format_args!("cannot look at {shown}"), errno)),
        Ok(_) => {
            let there = open_below(parent.as_fd(), &name).map_err(|_no_directory| taken())?;
            if names(there.as_fd())?.iter().any(|name| !matches!(name.to_bytes(), b"." | b"..")) {
                return Err(taken());
            }
        }
    }
    let draft = Draft::new(parent, UNFINISHED, |parent, name, _| remove_tree(parent, name))?;
    let made = fill(draft.directory.as_fd()).and_then(|()| {
        draft.publish_over_empty(&name).map_err(|errno| match errno {
            Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR => taken(),
            errno => Error::sys(format_args!("cannot name it {shown}"), errno),
        })
    });
    if made.is_err() {
        // The first error is what counts.
        draft.discard();
    }
    made
}

/// Makes the file `place`, written by `fill`: all of it or nothing. Nothing may be there.
///
/// # Errors
/// As [`tree`].
pub fn file(place: &Path, fill: impl FnOnce(&std::fs::File) -> Result<()>) -> Result<()> {
    const WRITTEN: &CStr = c"file";
    let shown = place.display();
    let (parent, name) = split(place)?;
    let parent = open_directory(&parent)?;
    sweep(parent.as_fd(), UNFINISHED, &|name, _| remove_tree(parent.as_fd(), name).is_ok());
    let taken = || Error::usage(format!("{shown} is there already"));
    match fd::stat(parent.as_fd(), &name) {
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(Error::sys(format_args!("cannot look at {shown}"), errno)),
        Ok(_) => return Err(taken()),
    }
    let draft = Draft::new(parent, UNFINISHED, |parent, name, _| remove_tree(parent, name))?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let made = fd::openat(draft.directory.as_fd(), WRITTEN, flags, 0o644)
        .map_err(|errno| Error::sys(format_args!("cannot make {shown}"), errno))
        .and_then(|file| fill(&std::fs::File::from(file)))
        .and_then(|()| {
            let (from, to) = (draft.directory.as_fd(), draft.parent.as_fd());
            match fd::rename_new(from, WRITTEN, to, &name) {
                // A file system that does not know the flag.
                Err(Errno::EINVAL) => renameat(from, WRITTEN, to, name.as_c_str()),
                done => done,
            }
            .map_err(|errno| match errno {
                Errno::EEXIST => taken(),
                errno => Error::sys(format_args!("cannot name it {shown}"), errno),
            })
        });
    draft.discard();
    made
}

/// What is in a directory.
///
/// # Errors
/// Those of reading it.
pub fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let failed = |errno| Error::sys("cannot list a directory", errno);
    let listed =
        fd::openat(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(failed)?;
    let mut names = Vec::new();
    fd::list(listed.as_fd(), |name, _, _| names.push(name.to_owned())).map_err(failed)?;
    Ok(names)
}

/// Says that somebody is at a directory, unless somebody is.
///
/// # Errors
/// EWOULDBLOCK when somebody is.
pub fn lock(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    fd::try_flock(directory.as_raw_fd())
}

/// The directory a path is in, and its name there.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for a path without one: `/`, `..`.
pub fn split(place: &Path) -> Result<(PathBuf, CString)> {
    let bad = || Error::usage(format!("{} names no directory to make", place.display()));
    let name = place.file_name().ok_or_else(bad)?;
    let parent = match place.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    Ok((parent, CString::new(name.as_bytes()).map_err(|_nul| bad())?))
}

/// Opens a directory by a path of the host.
///
/// # Errors
/// Those of open(2).
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(format!("cannot open {}", path.display()), errno))
}

/// Opens a directory in a directory, and no symlink.
///
/// # Errors
/// Those of open(2).
pub fn open_below(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    fd::openat(directory, name, flags, 0)
        .map_err(|errno| Error::sys(format!("cannot open {}", name.to_string_lossy()), errno))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Kind;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("skep-draft-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _left = fs::remove_dir_all(&self.0);
        }
    }

    fn fill(root: BorrowedFd<'_>) -> Result<()> {
        let root = format!("/proc/self/fd/{}", root.as_raw_fd());
        fs::create_dir(format!("{root}/d")).unwrap();
        fs::write(format!("{root}/d/f"), "x").unwrap();
        Ok(())
    }

    #[test]
    fn a_tree_is_made_whole_or_not_at_all() {
        let place = Place::new("tree");
        let at = place.0.join("t");
        tree(&at, fill).unwrap();
        assert_eq!(fs::read_to_string(at.join("d/f")).unwrap(), "x");
        // What is there stays.
        assert_eq!(tree(&at, fill).unwrap_err().kind(), Kind::Usage);
        fs::write(place.0.join("file"), "mine").unwrap();
        assert_eq!(tree(&place.0.join("file"), fill).unwrap_err().kind(), Kind::Usage);
        std::os::unix::fs::symlink(&at, place.0.join("link")).unwrap();
        assert_eq!(tree(&place.0.join("link"), fill).unwrap_err().kind(), Kind::Usage);
        assert_eq!(tree(&place.0.join(".."), fill).unwrap_err().kind(), Kind::Usage);
        // An empty directory is taken; one that fills meanwhile is not.
        fs::create_dir(place.0.join("empty")).unwrap();
        tree(&place.0.join("empty"), fill).unwrap();
        let late = place.0.join("late");
        fs::create_dir(&late).unwrap();
        let error = tree(&late, |root| {
            fs::write(late.join("mine"), "x").unwrap();
            fill(root)
        });
        assert_eq!(error.unwrap_err().kind(), Kind::Usage);
        assert_eq!(fs::read_dir(&late).unwrap().count(), 1);
        let error = tree(&place.0.join("bad"), |root| {
            fill(root)?;
            Err(Error::no_space("full"))
        });
        assert_eq!(error.unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(place.names(), ["empty", "file", "late", "link", "t"]);
    }

    #[test]
    fn a_file_is_made_whole_or_not_at_all() {
        use std::os::unix::fs::FileExt;
        let place = Place::new("file");
        let at = place.0.join("f");
        let write = |file: &fs::File| {
            file.write_all_at(b"x", 0).unwrap();
            Ok(())
        };
        file(&at, write).unwrap();
        assert_eq!(fs::read(&at).unwrap(), b"x");
        assert_eq!(file(&at, write).unwrap_err().kind(), Kind::Usage);
        assert_eq!(file(&place.0.join(".."), write).unwrap_err().kind(), Kind::Usage);
        let error = file(&place.0.join("bad"), |file| {
            write(file)?;
            Err(Error::no_space("full"))
        });
        assert_eq!(error.unwrap_err().kind(), Kind::NoSpace);
        // Somebody else was faster.
        let late = place.0.join("late");
        let error = file(&late, |file| {
            fs::write(&late, "mine").unwrap();
            write(file)
        });
        assert_eq!(error.unwrap_err().kind(), Kind::Usage);
        assert_eq!(fs::read(&late).unwrap(), b"mine");
        assert_eq!(place.names(), ["f", "late"]);
    }

    #[test]
    fn what_is_left_is_removed_and_what_is_in_use_is_not() {
        let place = Place::new("sweep");
        fs::create_dir_all(place.0.join(".skep-unpack-1-2-3/d")).unwrap();
        fs::create_dir(place.0.join(".skep-unpack-4-5-6")).unwrap();
        let busy = open_directory(&place.0.join(".skep-unpack-4-5-6")).unwrap();
        lock(busy.as_fd()).unwrap();
        // Two at once, one inside the other.
        tree(&place.0.join("one"), |root| {
            fill(root)?;
            tree(&place.0.join("two"), fill)
        })
        .unwrap();
        assert_eq!(place.names(), [".skep-unpack-4-5-6", "one", "two"]);
    }
}
