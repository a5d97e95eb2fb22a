//! The store: an OCI layout, which other tools read, with unpacked layers beside it.
//!
//! | below the store | what |
//! |---|---|
//! | `oci-layout` `index.json` `blobs/` | the layout; an image's name is the annotation `org.opencontainers.image.ref.name` of its entry |
//! | `unpacked/ALGORITHM/HEX/` | a layer as a directory for overlay, by diff ID, or by [`Name::stacked`] where it depends on those below it |
//! | `.skep/ingest/` | blobs that are being downloaded; a later pull goes on where they end |
//! | `.skep/tmp/` | layers that are being unpacked, and small files that are being written |
//! | `.skep/bundles/` | which bundles use which unpacked layers |
//! | `.skep/locks/` | files that are locked, never read |
//!
//! Nothing has its final name before it is whole and verified, so there is nothing to repair after a kill: what is without a final name is
//! gone on with (blobs) or removed by who comes next (layers, small files).

mod blob;
mod gc;
mod index;
mod layers;
mod lock;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::hash::RandomState;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libcontainer::sys::fd;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};

pub use blob::Fetched;
pub use gc::{Problem, Removed, Usage, Verdict};
pub use index::Entry;
pub use layers::{Name, Unpacked};
pub use lock::{Held, Lock};

use crate::error::{Error, Kind, Result};
use crate::limits::Limits;
use crate::source::{Directory, Layout, Select};

const INDEX: &str = "index.json";
const EMPTY_INDEX: &str = "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}";

/// The store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: OwnedFd,
    limits: Limits,
}

impl Store {
    /// Where the store is when nobody says: `/var/lib/skep/images` for root, `$XDG_DATA_HOME/skep/images` for others.
    ///
    /// # Errors
    /// [`Kind::Usage`] when an ordinary user has neither `XDG_DATA_HOME` nor `HOME`.
    pub fn default_path(uid: u32, env: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
        let set = |name: &str| {
            env(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from)
        };
        if let Some(path) = env("SKEP_STORE").filter(|path| !path.is_empty()) {
            return Ok(path.into());
        }
        if uid == 0 {
            return Ok("/var/lib/skep/images".into());
        }
        set("XDG_DATA_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("skep/images"))
            .ok_or_else(|| {
                Error::usage("there is neither XDG_DATA_HOME nor HOME to find the store by")
                    .hint("--store DIR says where it is")
            })
    }

    /// Opens the store, and makes what of it is not there.
    ///
    /// # Errors
    /// Those of opening and making it. A directory that holds something else is refused.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        // Layers are named in bundles, and found again from other directories.
        let path = &std::path::absolute(path).map_err(|error| {
            Error::io(format_args!("cannot find the store {}", path.display()), error)
        })?;
        make_directories(path)?;
        let store = Self { path: path.to_owned(), dir: open_directory(path)?, limits };
        if store.read_small("oci-layout")?.is_none() {
            let mut entries = std::fs::read_dir(path).map_err(|error| {
                Error::io(format_args!("cannot read {}", path.display()), error)
            })?;
            // Another process may be making it, be done with it since the question above, or have been killed at that.
            let ours = |name: &std::ffi::OsStr| {
                [".skep", "blobs", "unpacked", INDEX, "oci-layout"].iter().any(|own| name == *own)
            };
            if entries.any(|entry| entry.is_ok_and(|entry| !ours(&entry.file_name()))) {
                return Err(Error::usage(format!("{} is not empty and no store", path.display())));
            }
        }
        for name in [
            ".skep",
            ".skep/locks",
            ".skep/ingest",
            ".skep/tmp",
            ".skep/bundles",
            "blobs",
            "blobs/sha256",
            "unpacked",
        ] {
            store.make_directory(name)?;
            store.must_be_directory(name)?;
        }
        if store.read_small(INDEX)?.is_none() {
            let _lock = store.lock("index", true)?;
            if store.read_small(INDEX)?.is_none() {
                store.replace(INDEX, EMPTY_INDEX.as_bytes())?;
            }
        }
        // Last: a directory is a store once this is there.
        if store.read_small("oci-layout")?.is_none() {
            store.replace("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        }
        store.sweep();
        Ok(store)
    }

    /// Removes the small files that killed processes were writing: who still does has them locked. What cannot be removed is left to a collection.
    fn sweep(&self) {
        let Ok(temporaries) = self.open_below(".skep/tmp") else { return };
        for name in crate::draft::names(temporaries.as_fd()).unwrap_or_default() {
            let random = name.to_bytes().rsplit(|byte| *byte == b'.').next().unwrap_or_default();
            if random.len() != 16 || random.len() == name.to_bytes().len() {
                continue;
            }
            let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let Ok(file) = openat(&temporaries, name.as_c_str(), flags, Mode::empty()) else {
                continue;
            };
            let file = std::fs::File::from(file);
            if file.metadata().is_ok_and(|file| file.is_file())
                && fd::try_flock(file.as_raw_fd()).is_ok()
            {
                let _collected_later = nix::unistd::unlinkat(
                    &temporaries,
                    name.as_c_str(),
                    nix::unistd::UnlinkatFlags::NoRemoveDir,
                );
            }
        }
    }

    /// The store's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes away what makes a store of a layout, as far as it is empty: for one that was only a destination.
    pub fn strip(&self) {
        // Dropping it removes its file.
        drop(self.lock("store", true));
        for name in
            [".skep/locks", ".skep/ingest", ".skep/tmp", ".skep/bundles", ".skep", "unpacked"]
        {
            let _in_use =
                nix::unistd::unlinkat(self.dir(), name, nix::unistd::UnlinkatFlags::RemoveDir);
        }
    }

    /// An image of the store as a source.
    ///
    /// # Errors
    /// Those of opening the layout.
    pub fn source(&self, select: Select) -> Result<Layout<Directory>> {
        Layout::new(Directory::open(&self.path)?, select, self.limits)
    }

    /// Says that the store is in use, to put something into it. Waits for a collection.
    ///
    /// # Errors
    /// Those of locking.
    pub fn hold(&self) -> Result<Held<'_>> {
        Ok(Held { store: self, _lock: self.lock("store", false)? })
    }

    fn lock(&self, name: &str, exclusive: bool) -> Result<Lock> {
        Lock::take(self.dir.as_fd(), &format!(".skep/locks/{name}"), exclusive)
            .map_err(|errno| self.failed("lock", name, errno))
    }

    fn failed(&self, verb: &str, name: &str, errno: Errno) -> Error {
        Error::sys(format_args!("cannot {verb} {}/{name}", self.path.display()), errno)
    }

    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        use crate::source::Files as _;
        Directory::open(&self.path)?.small(name, self.limits.document)
    }

    /// Makes a directory of the store, which only its owner may enter. It may be there.
    fn make_directory(&self, name: &str) -> Result<()> {
        match mkdirat(self.dir.as_fd(), name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            // One that is read-only has all it needs, or fails where it matters.
            Err(Errno::EROFS) => Ok(()),
            Err(errno) => Err(self.failed("make", name, errno)),
        }
    }

    /// Refuses a link in the place of a directory: a layout comes from anywhere, and what is not used in a store is removed.
    fn must_be_directory(&self, name: &str) -> Result<()> {
        use nix::sys::stat::{SFlag, fstatat};
        match fstatat(self.dir(), name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() => Ok(()),
            // Of one that is read-only not all has to be there.
            Err(Errno::ENOENT) => Ok(()),
            Ok(_) => Err(Error::usage(format!(
                "{}/{name} is not a directory: this is no store",
                self.path.display()
            ))
            .hint("a link in its place would lead out of the store")),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Puts `content` in the place of a file, in one step.
    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        // A collection by somebody else may take a temporary file away where the store is not held, as while it is being made.
        let mut again = 3;
        loop {
            match self.try_replace(name, content) {
                Err(error) if error.kind() == Kind::NotFound && again > 0 => again -= 1,
                other => return other,
            }
        }
    }

    fn try_replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let _to_its_end = crate::interrupt::busy();
        let (temporary, mut file) = self.temporary(name)?;
        let written = file.write_all(content).and_then(|()| file.sync_data());
        let renamed = written
            .map_err(|error| {
                Error::io(format_args!("cannot write {}/{name}", self.path.display()), error)
            })
            .and_then(|()| {
                renameat(self.dir.as_fd(), temporary.as_str(), self.dir.as_fd(), name)
                    .map_err(|errno| self.failed("replace", name, errno))
            });
        if renamed.is_err() {
            let _gone = nix::unistd::unlinkat(
                self.dir.as_fd(),
                temporary.as_str(),
                nix::unistd::UnlinkatFlags::NoRemoveDir,
            );
        }
        renamed
    }

    /// A new file that becomes `name`, locked. One that a kill leaves is not, and [`sweep`](Self::sweep) removes it.
    fn temporary(&self, name: &str) -> Result<(String, std::fs::File)> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o644);
        loop {
            // Process ids are no names: two containers that share a store both have a process 1. The keys of a hash table are random.
            let random = std::hash::BuildHasher::hash_one(&RandomState::new(), name);
            let temporary = format!(".skep/tmp/{}.{random:016x}", name.replace('/', "-"));
            match openat(self.dir.as_fd(), temporary.as_str(), flags, mode) {
                Ok(fd) => {
                    let file = std::fs::File::from(fd);
                    // Locked by somebody else it is being swept away, and before the lock was ours it may have been.
                    let locked = fd::try_flock(file.as_raw_fd()) != Err(Errno::EWOULDBLOCK);
                    if locked && !file.metadata().is_ok_and(|file| file.nlink() == 0) {
                        return Ok((temporary, file));
                    }
                }
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.failed("write", &temporary, errno)),
            }
        }
    }

    /// A directory of the store.
    fn open_below(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.dir.as_fd(), name, flags, Mode::empty())
            .map_err(|errno| self.failed("open", name, errno))
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn make_directories(path: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder
        .create(path)
        .map_err(|error| Error::io(format_args!("cannot make the store {}", path.display()), error))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| {
        Error::sys(format_args!("cannot open the store {}", path.display()), errno)
    })
}
