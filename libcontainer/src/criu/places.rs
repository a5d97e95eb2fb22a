//! The directories of a request: made, checked, opened once, and taken away by their descriptors.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Options, trust};
use crate::error::{Context, Error, Result};
use crate::sys::fd;

const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY;

/// The directories of a request.
#[derive(Debug)]
pub(crate) struct Places {
    images: Directory,
    /// Logs and statistics, if not there.
    work: Option<Directory>,
    /// The name of the log.
    pub(super) log: &'static str,
    pub(super) log_path: PathBuf,
}

#[derive(Debug)]
struct Directory {
    fd: OwnedFd,
    /// If it was made for the request: where, and its name there.
    made: Option<(OwnedFd, CString)>,
}

impl Places {
    /// Makes, where they are missing, and opens the directories of a checkpoint with this `--parent-path`.
    ///
    /// # Errors
    /// Those of making and opening them; one that somebody else may write to. None is left then.
    pub(crate) fn make(options: &Options, parent: Option<&Path>) -> Result<Self> {
        let mut places = Self::new(Directory::make(&options.images)?, options, "dump.log");
        let prepared =
            places.prepare(options, parent).and_then(|()| places.check_writable(options));
        prepared.inspect_err(|_| places.discard())?;
        Ok(places)
    }

    /// Opens those of a restore.
    ///
    /// # Errors
    /// Those of opening them; one that somebody else may write to.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let images = Directory::open(&options.images).map_err(|error| match error.raw_errno() {
            Some(Errno::ENOENT) => error.hint("--image-path names the directory of the checkpoint"),
            _ => error,
        })?;
        let mut places = Self::new(images, options, "restore.log");
        places.prepare(options, None).inspect_err(|_| places.discard())?;
        Ok(places)
    }

    fn new(images: Directory, options: &Options, log: &'static str) -> Self {
        let log_path = options.work.as_ref().unwrap_or(&options.images).join(log);
        Self { images, work: None, log, log_path }
    }

    fn prepare(&mut self, options: &Options, parent: Option<&Path>) -> Result<()> {
        trust::check_images(&self.images.fd, &options.images)?;
        if let Some(parent) = parent {
            trust::check_parent(&self.images.fd, &options.images, parent)?;
        }
        if let Some(path) = &options.work {
            let work = self.work.insert(Directory::make(path)?);
            trust::check_work(&work.fd, path)?;
        }
        // What it said another time is not to be taken for what it says now.
        let _none = unlinkat(self.log_directory(), self.log, UnlinkatFlags::NoRemoveDir);
        Ok(())
    }

    fn check_writable(&self, options: &Options) -> Result<()> {
        match fd::is_read_only(self.images.fd.as_fd()) {
            Ok(true) => Err(Error::os("write the images to", Errno::EROFS).path(&options.images)),
            _ => Ok(()),
        }
    }

    /// The number of the images' descriptor.
    pub(super) fn images(&self) -> i32 {
        self.images.fd.as_raw_fd()
    }

    /// That of the work directory's, if it is another.
    pub(super) fn work(&self) -> Option<i32> {
        self.work.as_ref().map(|work| work.fd.as_raw_fd())
    }

    /// Writes a file among the images.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        // A FIFO would wait for a reader.
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = self.file(name, flags).on("create", name)?;
        nix::unistd::ftruncate(&file, 0).on("truncate", name)?;
        fd::write_all(&file, content).on("write", name)
    }

    /// Replaces a file among the images, by way of one with the name `new`; as it was if that fails.
    pub(crate) fn replace(&self, name: &str, new: &str, content: &[u8]) -> Result<()> {
        let images = &self.images.fd;
        let replaced = self
            .write(new, content)
            .and_then(|()| nix::fcntl::renameat(images, new, images, name).on("rename", new));
        replaced.inspect_err(|_| {
            let _gone = unlinkat(images, new, UnlinkatFlags::NoRemoveDir);
        })
    }

    /// Reads a file among the images, of at most so many bytes; nothing if it is not there.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        match self.file(name, flags) {
            Err(Errno::ENOENT) => Ok(Vec::new()),
            other => fd::read_all(&other.on("open", name)?, limit).on("read", name),
        }
    }

    fn file(&self, name: &str, flags: i32) -> Result<OwnedFd, Errno> {
        let name = CString::new(name).unwrap_or_default();
        let file = fd::openat(self.images.fd.as_fd(), &name, flags, 0o600)?;
        let regular = fd::stat(file.as_fd(), c"")?.is(libc::S_IFREG);
        if regular { Ok(file) } else { Err(Errno::EINVAL) }
    }

    pub(super) fn log_directory(&self) -> &OwnedFd {
        &self.work.as_ref().unwrap_or(&self.images).fd
    }

    /// Removes what a checkpoint that failed has made: the images, of which only the log stays, and directories without
    /// one.
    pub(crate) fn discard(&self) {
        if self.images.made.is_some() {
            // By the descriptor: who owns the directory above may have put another one in its place.
            for name in trust::names(&self.images.fd).unwrap_or_default() {
                if self.work.is_some() || name.as_bytes() != self.log.as_bytes() {
                    let _stays =
                        unlinkat(&self.images.fd, name.as_c_str(), UnlinkatFlags::NoRemoveDir);
                }
            }
        }
        for directory in [Some(&self.images), self.work.as_ref()].into_iter().flatten() {
            directory.remove();
        }
    }
}

impl Directory {
    fn open(path: &Path) -> Result<Self> {
        let fd = fd::openat(fd::CWD, &name(path)?, DIRECTORY, 0).on("open", path)?;
        Ok(Self { fd, made: None })
    }

    /// Opens it, made if it is not there.
    fn make(path: &Path) -> Result<Self> {
        let (Some(above), Some(last)) = (path.parent(), path.file_name()) else {
            return Self::open(path);
        };
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let above = fd::openat(fd::CWD, &name(above)?, flags, 0).on("mkdir", path)?;
        let last = name(Path::new(last))?;
        match mkdirat(&above, last.as_c_str(), Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Self::open(path),
            Err(errno) => return Err(Error::os("mkdir", errno).path(path)),
        }
        let fd = fd::openat(above.as_fd(), &last, DIRECTORY | libc::O_NOFOLLOW, 0);
        if fd.is_err() {
            // Too many open files, say: nothing is in it yet.
            let _gone = unlinkat(&above, last.as_c_str(), UnlinkatFlags::RemoveDir);
        }
        let directory = Self { fd: fd.on("open", path)?, made: Some((above, last)) };
        let stat = fd::stat(directory.fd.as_fd(), c"").on("stat", path)?;
        let ours = stat.uid == nix::unistd::geteuid().as_raw();
        if !ours || !trust::names(&directory.fd).on("list", path)?.is_empty() {
            return Err(
                Error::config("somebody has put another directory in the place of").path(path)
            );
        }
        Ok(directory)
    }

    /// Removes it, if it was made for the request, nothing is in it, and it is still where it was made.
    fn remove(&self) {
        let Some((above, name)) = &self.made else { return };
        let (Ok(found), Ok(own)) = (fd::stat(above.as_fd(), name), fd::stat(self.fd.as_fd(), c""))
        else {
            return;
        };
        if (found.dev, found.ino) == (own.dev, own.ino) {
            let _not_empty = unlinkat(above, name.as_c_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

fn name(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_nul| Error::config("a path with NUL").path(path))
}
