//! The directories of the tree: found below the root's descriptor, made where they are missing, and remembered, for what
//! they are to become is done to them last.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use libcontainer::sys::fd::{openat, openat2};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};

use super::archive::Time;
use super::failed;
use super::name::{Path, components};
use super::prune::{self, Keep};
use crate::error::{Error, Result};

/// Directories whose descriptors are kept.
const OPEN: usize = 256;
/// Bytes of names and attributes that wait for the end of a layer: those of 400 000 directories.
const MEMORY: usize = 64 << 20;
/// Symlinks on the way to one directory: the kernel's own count (path_resolution(7)).
const MAX_LINKS: usize = 40;

const HANDLE: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// A directory of the tree.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    pub(super) ino: u64,
    /// This layer has made it, so nothing in it is inherited: neither group nor access control list.
    pub(super) made: bool,
}

/// What a directory is to become at the end.
#[derive(Debug)]
pub(super) struct Record {
    /// Joined: one of 2000 directories below each other is to cost what its name does.
    pub(super) path: Vec<u8>,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    /// `None` for one of a lower layer that was written to: it is what it was, its times too.
    pub(super) set: Option<Set>,
    /// This layer has made it.
    pub(super) made: bool,
}

/// Everything but the times.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) mode: u32,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
}

/// What a directory becomes that no entry names: what it is in the layers below, or this.
pub(super) type Implied<'a> = &'a dyn Fn(&[Vec<u8>]) -> Result<Below>;

/// What the layers below have under a name.
pub(super) enum Below {
    Nothing,
    Directory(Box<Record>),
    Symlink(Vec<u8>),
}

/// The tree and what is known of it.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    device: u64,
    /// Of directories that no entry names: root, as the layer's owners are mapped.
    owner: Option<(u32, u32)>,
    cache: HashMap<Vec<u8>, Rc<Directory>>,
    last: Option<(Vec<u8>, Rc<Directory>)>,
    /// By inode, so that two names of one directory are one.
    pub(super) records: HashMap<u64, Record>,
    /// Hashes of inode and name: what this layer has made. The key is random, so nobody can aim at a collision.
    made: HashSet<u64>,
    hasher: RandomState,
    /// What waits for the end, in bytes, against [`MEMORY`].
    waiting: usize,
}

impl Keep for Tree<'_> {
    fn whole(&self, directory: u64, name: &[u8]) -> bool {
        self.made.contains(&self.hasher.hash_one((directory, name, true)))
    }

    fn itself(&self, directory: u64, name: &[u8]) -> bool {
        self.made.contains(&self.hasher.hash_one((directory, name, false)))
    }
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, owner: Option<(u32, u32)>) -> Result<Self> {
        let stat =
            fstat(root).map_err(|errno| failed("cannot look at the root directory", errno))?;
        Ok(Self {
            root,
            device: stat.st_dev,
            owner,
            cache: HashMap::new(),
            last: None,
            records: HashMap::new(),
            made: HashSet::new(),
            hasher: RandomState::new(),
            waiting: 0,
        })
    }

    pub(super) fn root(&self) -> Result<Rc<Directory>> {
        let fd = openat(self.root, c".", HANDLE, 0);
        fd.and_then(|fd| self.directory(fd, false))
            .map(Rc::new)
            .map_err(|errno| failed("cannot open the root directory", errno))
    }

    /// `name` in `directory` is of this layer; a directory of a lower one that has an entry here is `merged`.
    pub(super) fn mark(&mut self, directory: &Directory, name: &[u8], merged: bool) {
        self.made.insert(self.hasher.hash_one((directory.ino, name, !merged)));
    }

    /// The directory that `path` leads to, symlinks followed inside the root; `None` when there is none.
    pub(super) fn find(&mut self, path: &[Vec<u8>]) -> Result<Option<Rc<Directory>>> {
        let key = path.join(&b'/');
        if let Some(known) = self.known(&key) {
            return Ok(Some(known));
        }
        match self.open(&key) {
            Ok(found) => Ok(Some(self.remember(key, found)?)),
            Err(Errno::ENAMETOOLONG) => self.walk(path, None),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(failed("cannot open its directory", errno)),
        }
    }

    /// The same, made where it is missing. What is no directory and in the way is removed.
    pub(super) fn make(&mut self, path: &[Vec<u8>], implied: Implied<'_>) -> Result<Rc<Directory>> {
        match self.find(path)? {
            Some(found) => Ok(found),
            None => match self.walk(path, Some(implied))? {
                Some(made) => Ok(made),
                None => Err(Error::verification("its directory cannot be made")),
            },
        }
    }

    fn known(&mut self, key: &[u8]) -> Option<Rc<Directory>> {
        match &self.last {
            Some((last, directory)) if last == key => return Some(Rc::clone(directory)),
            _ => {}
        }
        let directory = Rc::clone(self.cache.get(key)?);
        self.last = Some((key.to_vec(), Rc::clone(&directory)));
        Some(directory)
    }

    fn open(&self, key: &[u8]) -> Result<OwnedFd, Errno> {
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        let path = if key.is_empty() { b".".as_slice() } else { key };
        let path = CString::new(path).map_err(|_nul| Errno::EINVAL)?;
        openat2(self.root, &path, HANDLE, 0, resolve)
    }

    fn directory(&self, fd: OwnedFd, made: bool) -> Result<Directory, Errno> {
        let stat = fstat(&fd)?;
        // Nothing may be mounted below the root: it would be written through.
        if stat.st_dev != self.device {
            return Err(Errno::EXDEV);
        }
        Ok(Directory { fd, ino: stat.st_ino, made })
    }

    /// Keeps an opened directory, and the times of one that is not of this layer.
    fn remember(&mut self, key: Vec<u8>, fd: OwnedFd) -> Result<Rc<Directory>> {
        let wrong = |errno| failed("cannot look at its directory", errno);
        let stat = fstat(&fd).map_err(wrong)?;
        let made = self.records.get(&stat.st_ino).is_some_and(|record| record.made);
        let directory = Rc::new(self.directory(fd, made).map_err(wrong)?);
        self.charge(key.len())?;
        self.records.entry(stat.st_ino).or_insert_with(|| Record {
            path: key.clone(),
            atime: Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec },
            mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec },
            set: None,
            made: false,
        });
        self.insert(key, &directory);
        Ok(directory)
    }

    fn insert(&mut self, key: Vec<u8>, directory: &Rc<Directory>) {
        if self.cache.len() >= OPEN {
            self.cache.clear();
        }
        self.cache.insert(key.clone(), Rc::clone(directory));
        self.last = Some((key, Rc::clone(directory)));
    }

    /// Counts bytes that are kept until the end of the layer.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<()> {
        self.waiting = self.waiting.saturating_add(bytes).saturating_add(100);
        if self.waiting <= MEMORY {
            return Ok(());
        }
        Err(Error::no_space(format!(
            "the names and attributes of the layer's directories, whiteouts and links are more than {MEMORY} bytes: that is the limit"
        )))
    }

    /// Makes the directory `base` in `parent`, of which no name is there, to become `record`.
    pub(super) fn make_directory(
        &mut self,
        parent: &Directory,
        base: &CStr,
        record: Record,
    ) -> Result<Rc<Directory>, Errno> {
        mkdirat(&parent.fd, base, Mode::S_IRWXU)?;
        let fd = openat(parent.fd.as_fd(), base, HANDLE | libc::O_NOFOLLOW, 0)?;
        let directory = Rc::new(self.directory(fd, true)?);
        self.mark(parent, base.to_bytes(), false);
        let key = record.path.clone();
        self.records.insert(directory.ino, record);
        self.insert(key, &directory);
        Ok(directory)
    }

    /// Removes what stands in the way of an entry.
    pub(super) fn clear(&mut self, parent: &Directory, base: &CStr) -> Result<(), Errno> {
        // The name may have been a directory or a symlink on the way to one.
        self.forget();
        prune::remove(parent.fd.as_fd(), base, &prune::Nothing).map(drop)
    }

    /// Removes what lower layers have under a name.
    pub(super) fn hide(&mut self, parent: &Directory, base: &CStr) -> Result<(), Errno> {
        if self.whole(parent.ino, base.to_bytes()) {
            return Ok(());
        }
        self.forget();
        prune::remove(parent.fd.as_fd(), base, self).map(drop)
    }

    /// Removes what lower layers have in a directory.
    pub(super) fn hide_content(&mut self, directory: &Directory) -> Result<(), Errno> {
        if directory.made {
            return Ok(());
        }
        self.forget();
        prune::empty(directory.fd.as_fd(), self)
    }

    fn forget(&mut self) {
        self.cache.clear();
        self.last = None;
    }

    /// One component after the other, which openat2(2) cannot do: names beyond PATH_MAX, and directories that are
    /// missing, behind symlinks too. Without `implied` nothing is made.
    fn walk(
        &mut self,
        path: &[Vec<u8>],
        implied: Option<Implied<'_>>,
    ) -> Result<Option<Rc<Directory>>> {
        let mut todo: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut directory = self.root()?;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            let shown = name.escape_ascii().to_string();
            let wrong = |errno| failed(format_args!("cannot open {shown:?}"), errno);
            if name == b".." {
                at.pop();
                directory = self.descend(&at).map_err(wrong)?;
                continue;
            }
            let base = CString::new(name.as_slice())
                .map_err(|_nul| Error::verification("a NUL in a name"))?;
            let target = match self.step(&directory, &base).map_err(wrong)? {
                Step::Directory(next, stat) => {
                    at.push(name);
                    let key = at.join(&b'/');
                    directory = match self.records.contains_key(&stat.st_ino) {
                        true => Rc::new(next),
                        false => self.remember(key, next.fd)?,
                    };
                    continue;
                }
                Step::Symlink(target) => target,
                found => {
                    let Some(implied) = implied else { return Ok(None) };
                    at.push(name);
                    match implied(&at)? {
                        Below::Symlink(target) if matches!(found, Step::Nothing) => {
                            at.pop();
                            target
                        }
                        below => {
                            if matches!(found, Step::Other) {
                                self.clear(&directory, &base).map_err(wrong)?;
                            }
                            let record = match below {
                                Below::Directory(record) => *record,
                                _ => Record::implied(at.join(&b'/'), self.owner),
                            };
                            self.charge(record.path.len())?;
                            directory =
                                self.make_directory(&directory, &base, record).map_err(wrong)?;
                            continue;
                        }
                    }
                }
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::verification("symlinks in a loop on the way to it"));
            }
            if target.starts_with(b"/") {
                at.clear();
                directory = self.root()?;
            }
            let parts = target.split(|&byte| byte == b'/').rev();
            todo.extend(parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec));
        }
        // Under the name that was asked for: the next file is likely to be there too.
        self.insert(path.join(&b'/'), &directory);
        Ok(Some(directory))
    }

    fn step(&self, parent: &Directory, base: &CStr) -> Result<Step, Errno> {
        let stat = match fstatat(&parent.fd, base, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(Step::Nothing),
            other => other?,
        };
        Ok(match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
            SFlag::S_IFDIR => {
                let fd = openat(parent.fd.as_fd(), base, HANDLE | libc::O_NOFOLLOW, 0)?;
                let made = self.records.get(&stat.st_ino).is_some_and(|record| record.made);
                Step::Directory(self.directory(fd, made)?, stat)
            }
            SFlag::S_IFLNK => {
                use std::os::unix::ffi::OsStringExt;
                Step::Symlink(readlinkat(&parent.fd, base)?.into_vec())
            }
            _ => Step::Other,
        })
    }

    /// Down real directories, by their own names.
    fn descend(&self, at: &[Vec<u8>]) -> Result<Rc<Directory>, Errno> {
        let mut fd = openat(self.root, c".", HANDLE, 0)?;
        for name in at {
            let name = CString::new(name.as_slice()).map_err(|_nul| Errno::EINVAL)?;
            fd = openat(fd.as_fd(), &name, HANDLE | libc::O_NOFOLLOW, 0)?;
        }
        let ino = fstat(&fd)?.st_ino;
        let made = self.records.get(&ino).is_some_and(|record| record.made);
        self.directory(fd, made).map(Rc::new)
    }

    /// Opens the directory of a record to do to it what it says; `None` when the name stands for another by now.
    pub(super) fn reopen(&self, ino: u64, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let handle = match self.open(path) {
            Err(Errno::ENAMETOOLONG) => self
                .descend(&components(path))
                .map(|directory| directory.fd.as_fd().try_clone_to_owned()),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            other => Ok(Ok(other?)),
        };
        let handle = match handle {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            other => other?.map_err(|_full| Errno::EMFILE)?,
        };
        // CVE-2026-33056: what was deferred is done to that inode or not at all.
        let stat = fstat(&handle)?;
        if stat.st_ino != ino || stat.st_dev != self.device {
            return Ok(None);
        }
        openat(handle.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).map(Some)
    }
}

enum Step {
    Directory(Directory, FileStat),
    Symlink(Vec<u8>),
    Other,
    Nothing,
}

impl Record {
    /// A directory that no entry names.
    pub(super) fn implied(path: Vec<u8>, owner: Option<(u32, u32)>) -> Self {
        let set = Some(Set { mode: 0o755, owner, xattrs: Vec::new() });
        Self { path, atime: Time::default(), mtime: Time::default(), set, made: true }
    }
}

/// The base of a path as the kernel takes it.
pub(super) fn base(path: &Path) -> Result<CString> {
    CString::new(path.base.as_slice()).map_err(|_nul| Error::verification("a NUL in a name"))
}

/// For error messages.
pub(super) fn shown(path: &Path) -> String {
    let mut all = path.parent.clone();
    all.push(path.base.clone());
    super::name::shown(&all.join(&b'/'))
}

/// All components of a path.
pub(super) fn whole(path: &Path) -> Vec<Vec<u8>> {
    let mut all = path.parent.clone();
    all.push(path.base.clone());
    all
}
