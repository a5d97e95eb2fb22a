//! Files by name, in a directory or in a tar archive: what layouts and `docker save` are made of.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use crate::error::{Context, Error, Kind, Result};

/// Files by name. Names are relative, and made by this crate or checked by it.
pub trait Files: Send + Sync {
    /// What it is called in an error.
    fn place(&self) -> String;

    /// The length of a file; `None` when it is not there.
    ///
    /// # Errors
    /// Those of opening it; also when it is no regular file.
    fn size(&self, name: &str) -> Result<Option<u64>>;

    /// Its bytes from `offset` on.
    ///
    /// # Errors
    /// As [`size`](Self::size); [`Kind::NotFound`] when it is not there.
    fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// All of a small file; `None` when it is not there.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Kind::NoSpace`] when it is larger than `limit` bytes.
    fn small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(size) = self.size(name)? else { return Ok(None) };
        let too_large =
            || Error::no_space(format!("{name} in {} is larger than {limit} bytes", self.place()));
        if size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut reader = self.open(name, 0)?.take(limit + 1);
        reader
            .read_to_end(&mut bytes)
            .context(|| format!("cannot read {name} in {}", self.place()))?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(Some(bytes)) }
    }
}

/// A directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Opens it.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and those of opening.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|errno| Error::sys(format_args!("cannot open {}", path.display()), errno))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// The path it was opened by, for errors.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file. What is none is not opened for long: a FIFO must not stop us, nor a device do anything.
    fn file(&self, name: &str) -> Result<Option<std::fs::File>> {
        let what = || format!("cannot open {}/{name}", self.path.display());
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = match openat2(self.fd.as_fd(), name, how) {
            Ok(fd) => std::fs::File::from(fd),
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(Error::sys(what(), errno)),
        };
        if !file.metadata().context(what)?.is_file() {
            return Err(Error::verification(format!("{}: it is not a regular file", what())));
        }
        Ok(Some(file))
    }
}

impl Files for Directory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let metadata = file.metadata().context(|| format!("cannot read {name}"))?;
        Ok(Some(metadata.len()))
    }

    fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let file = self.file(name)?.ok_or_else(|| {
            Error::not_found(format!("there is no {name} in {}", self.path.display()))
        })?;
        Ok(Box::new(Window { file, position: offset, end: u64::MAX }))
    }
}

/// Bytes of a file from one place to another.
pub(super) struct Window<F> {
    pub(super) file: F,
    pub(super) position: u64,
    pub(super) end: u64,
}

impl<F: std::borrow::Borrow<std::fs::File>> Read for Window<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.file.borrow().read_at(buffer, self.position)?;
        self.position = self.position.saturating_add(count as u64);
        if count == 0 && wanted > 0 && self.end != u64::MAX {
            return Err(
                Error::new(Kind::Verification, "the archive ends in the middle of a file").into()
            );
        }
        Ok(count)
    }
}
