//! The layers below that a layer in overlay form is applied above: what of them is seen, and what it takes from them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use libcontainer::sys::fd::{openat, set_attribute};
use libcontainer::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, futimens, mknodat, utimensat};
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, lseek, symlinkat};

use super::archive::Time;
use super::attributes::{self, spec};
use super::failed;
use super::record::{Record, Set};
use crate::error::{Error, Result};

const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// The layers below, topmost first.
pub(super) struct Lowers<'a> {
    layers: &'a [OwnedFd],
    /// The directory that was last asked for: most questions are about one after the other.
    last: Option<(Vec<Vec<u8>>, Vec<OwnedFd>)>,
}

/// What is seen of the layers below under a name.
pub(super) struct Found {
    directory: OwnedFd,
    name: CString,
    pub(super) stat: FileStat,
}

impl<'a> Lowers<'a> {
    pub(super) fn new(layers: &'a [OwnedFd]) -> Self {
        Self { layers, last: None }
    }

    /// Forgets what may be hidden now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// What is seen as `name` in the directory `parent`, a path without symlinks. `is_hidden` is asked whether this layer
    /// hides all that is in `parent`.
    pub(super) fn look(
        &mut self,
        parent: &[Vec<u8>],
        name: &[u8],
        is_hidden: impl FnOnce() -> Result<bool, Errno>,
    ) -> Result<Option<Found>, Errno> {
        if self.last.as_ref().is_none_or(|(known, _)| known.as_slice() != parent) {
            let hidden = self.layers.is_empty() || is_hidden()?;
            let directories = if hidden { Vec::new() } else { self.directories(parent)? };
            self.last = Some((parent.to_vec(), directories));
        }
        let name = CString::new(name).map_err(|_nul| Errno::EINVAL)?;
        for directory in self.last.iter().flat_map(|(_, directories)| directories) {
            match fstatat(directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
                Ok(stat) if is_whiteout(&stat) => return Ok(None),
                Ok(stat) => {
                    let directory = directory.try_clone().map_err(|_full| Errno::EMFILE)?;
                    return Ok(Some(Found { directory, name, stat }));
                }
            }
        }
        Ok(None)
    }

    /// The directories that overlayfs merges into the one at `path`, topmost first.
    fn directories(&self, path: &[Vec<u8>]) -> Result<Vec<OwnedFd>, Errno> {
        let mut merged = Vec::new();
        'layers: for layer in self.layers {
            let mut directory = openat(layer.as_fd(), c".", DIRECTORY, 0)?;
            let mut hides = is_opaque(directory.as_fd());
            for name in path {
                let name = CString::new(name.as_slice()).map_err(|_nul| Errno::EINVAL)?;
                directory = match openat(directory.as_fd(), &name, DIRECTORY, 0) {
                    Ok(next) => next,
                    Err(Errno::ENOENT) if hides => break 'layers,
                    Err(Errno::ENOENT) => continue 'layers,
                    // A file, a symlink or a whiteout: what is below it is not seen.
                    Err(Errno::ENOTDIR | Errno::ELOOP) => break 'layers,
                    Err(errno) => return Err(errno),
                };
                hides |= is_opaque(directory.as_fd());
            }
            merged.push(directory);
            if hides {
                break;
            }
        }
        Ok(merged)
    }
}

impl Found {
    pub(super) fn kind(&self) -> u32 {
        self.stat.st_mode & libc::S_IFMT
    }

    /// The target of a symlink.
    pub(super) fn target(&self) -> Result<Vec<u8>, Errno> {
        Ok(readlinkat(&self.directory, &*self.name)?.into_vec())
    }

    /// A directory of this layer that is as the one below.
    pub(super) fn record(&self) -> Result<Record, Errno> {
        let directory = openat(self.directory.as_fd(), &self.name, DIRECTORY, 0)?;
        let (atime, mtime) = times(&self.stat);
        let owner = Some((self.stat.st_uid, self.stat.st_gid));
        let names = xattr::list(directory.as_fd())?;
        let xattrs = kept(&names, |name| xattr::get(directory.as_fd(), name))?;
        Ok(Record::new(atime, mtime, Some(Set::new(self.stat.st_mode, owner, xattrs))))
    }

    /// Copies what is no directory to `base` in `parent`, as overlayfs does before it changes something of a lower layer.
    pub(super) fn copy(&self, parent: BorrowedFd<'_>, base: &CStr) -> Result<()> {
        let wrong = |errno| failed("cannot copy it from the layer below", errno);
        if self.kind() == libc::S_IFREG {
            return self.copy_file(parent, base);
        }
        match self.kind() {
            libc::S_IFLNK => {
                let target = readlinkat(&self.directory, &*self.name).map_err(wrong)?;
                symlinkat(&*target, parent, base).map_err(wrong)?;
            }
            kind => {
                let kind = SFlag::from_bits_truncate(kind);
                mknodat(parent, base, kind, Mode::S_IRUSR, self.stat.st_rdev).map_err(wrong)?;
            }
        }
        let (uid, gid) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
        fchownat(parent, base, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(wrong)?;
        if self.kind() != libc::S_IFLNK {
            attributes::disinherit_at(parent, base).map_err(wrong)?;
            attributes::chmod_at(parent, base, self.stat.st_mode & 0o7777).map_err(wrong)?;
        }
        let (directory, name) = (self.directory.as_fd(), &*self.name);
        let names = xattr::list_at(directory, name).map_err(wrong)?;
        for (key, value) in
            kept(&names, |key| xattr::get_at(directory, name, key)).map_err(wrong)?
        {
            xattr::set_at(parent, base, &key, &value).map_err(wrong)?;
        }
        let (atime, mtime) = times(&self.stat);
        let flag = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
        utimensat(parent, base, &spec(atime), &spec(mtime), flag).map_err(wrong)
    }

    fn copy_file(&self, parent: BorrowedFd<'_>, base: &CStr) -> Result<()> {
        let wrong = |errno| failed("cannot copy it from the layer below", errno);
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let from = openat(self.directory.as_fd(), &self.name, flags, 0).map_err(wrong)?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let to = openat(parent, base, flags, 0o600).map_err(wrong)?;
        let (from, to) = (File::from(from), File::from(to));
        let size = u64::try_from(self.stat.st_size).unwrap_or_default();
        copy_pieces(&from, &to, size)
            .map_err(|error| Error::io("cannot copy it from the layer below", error))?;
        let (uid, gid) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
        fchown(&to, Some(uid), Some(gid)).map_err(wrong)?;
        attributes::disinherit(to.as_fd()).map_err(wrong)?;
        fchmod(&to, Mode::from_bits_truncate(self.stat.st_mode & 0o7777)).map_err(wrong)?;
        let names = xattr::list(from.as_fd()).map_err(wrong)?;
        for (name, value) in kept(&names, |name| xattr::get(from.as_fd(), name)).map_err(wrong)? {
            set_attribute(to.as_fd(), &name, &value).map_err(wrong)?;
        }
        let (atime, mtime) = times(&self.stat);
        futimens(&to, &spec(atime), &spec(mtime)).map_err(wrong)
    }
}

/// Copies `size` bytes, and no holes: a hostile image has as many as it likes.
fn copy_pieces(from: &File, to: &File, size: u64) -> std::io::Result<()> {
    to.set_len(size)?;
    let mut buffer = vec![0; 256 << 10];
    let place = |position: u64| i64::try_from(position).map_err(std::io::Error::other);
    let mut position = 0;
    while position < size {
        let start = match lseek(from, place(position)?, Whence::SeekData) {
            // Holes to the end.
            Err(Errno::ENXIO) => break,
            other => u64::try_from(other?).unwrap_or(size),
        };
        let end = u64::try_from(lseek(from, place(start)?, Whence::SeekHole)?).unwrap_or(size);
        position = start;
        while position < end.min(size) {
            let wanted = usize::try_from(end.min(size) - position).unwrap_or(usize::MAX);
            let piece = buffer.len().min(wanted);
            let count = match from.read_at(buffer.get_mut(..piece).unwrap_or_default(), position) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            to.write_all_at(buffer.get(..count).unwrap_or_default(), position)?;
            position = position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
    Ok(())
}

pub(super) fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

pub(super) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let names = [c"trusted.overlay.opaque", c"user.overlay.opaque"];
    names.iter().any(|name| matches!(xattr::get(directory, name), Ok(Some(value)) if value == b"y"))
}

/// The attributes that are copied: all but what a file of a layer says to overlayfs.
fn kept(
    names: &[CString],
    get: impl Fn(&CStr) -> Result<Option<Vec<u8>>, Errno>,
) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let mut attributes = Vec::new();
    for name in names {
        let bytes = name.to_bytes();
        let own = [b"trusted.overlay.".as_slice(), b"user.overlay."].iter().any(|prefix| {
            bytes.strip_prefix(*prefix).is_some_and(|rest| !rest.starts_with(b"overlay."))
        });
        if own || bytes == b"security.selinux" {
            continue;
        }
        if let Some(value) = get(name)? {
            attributes.push((name.clone(), value));
        }
    }
    attributes.sort_by_key(|(name, _)| name.to_bytes() == b"security.capability");
    Ok(attributes)
}

fn times(stat: &FileStat) -> (Time, Time) {
    let atime = Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec };
    (atime, Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec })
}
