//! The directories of the tree: found below the root's descriptor, made where they are missing, and remembered, for what
//! they are to become is done to them last.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use libcontainer::sys::fd::{openat, openat2};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlink, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{getegid, geteuid};

use super::archive::Time;
use super::below::{Found, Lowers, is_whiteout};
use super::name::components;
use super::prune::{self, Keep};
use super::record::{Record, open_up};
use super::{attributes, failed, unfit};
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

/// The tree and what is known of it.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The root as procfs has it, for names without symlinks.
    place: Option<Vec<u8>>,
    device: u64,
    /// Of directories that no entry names: root, as the layer's owners are mapped.
    owner: Option<(u32, u32)>,
    /// Of new files, before they are given away.
    own: (u32, u32),
    /// Modes hold for the caller, who is not root: directories are his to write to while a layer is applied.
    bound: bool,
    /// The mode of the root, if it was changed for that.
    root_was: Option<u32>,
    /// In overlay form: the layers below, for what of them is seen must be as if they were in this tree.
    lowers: Option<Lowers<'a>>,
    /// The layers below have been asked for something.
    pub(super) depends: bool,
    cache: HashMap<Vec<u8>, Rc<Directory>>,
    last: Option<(Vec<u8>, Rc<Directory>)>,
    /// Names that only a layer below has, and there as symlinks, which have been followed: what is cached may be behind one.
    followed: HashSet<(u64, Vec<u8>)>,
    /// By inode, so that two names of one directory are one.
    pub(super) records: HashMap<u64, Record>,
    /// Hashes of inode and name: what this layer has made. The key is random, so nobody can aim at a collision.
    made: HashSet<u64>,
    hasher: RandomState,
    /// How often an inode number has been that of another directory: what was made in that one was not made in this.
    reused: HashMap<u64, u32>,
    /// What waits for the end, in bytes, against [`MEMORY`].
    waiting: usize,
}

/// What a name stands for that this layer has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// With everything below it.
    Whole,
    /// A directory, in which there is something of the layers below too.
    Itself,
}

impl Keep for Tree<'_> {
    fn whole(&self, directory: u64, name: &[u8]) -> bool {
        self.made.contains(&self.key(directory, name, Mark::Whole))
    }

    fn itself(&self, directory: u64, name: &[u8]) -> bool {
        self.made.contains(&self.key(directory, name, Mark::Itself))
    }

    fn content(&self, directory: u64) -> bool {
        self.records.get(&directory).is_some_and(|record| record.opaque)
    }
}

impl<'a> Tree<'a> {
    /// `owner`: of directories that no entry names. `lowers`: in overlay form, the layers below, topmost first.
    pub(super) fn new(
        root: BorrowedFd<'a>,
        owner: Option<(u32, u32)>,
        lowers: Option<&'a [OwnedFd]>,
    ) -> Result<Self> {
        let stat =
            fstat(root).map_err(|errno| failed("cannot look at the root directory", errno))?;
        let bound = !geteuid().is_root();
        let root_was = if bound { open_up(root, &stat) } else { Ok(None) };
        let root_was = root_was.map_err(|errno| failed("cannot write to the root", errno))?;
        Ok(Self {
            root,
            bound,
            root_was,
            place: real_path(root),
            device: stat.st_dev,
            owner,
            own: (geteuid().as_raw(), getegid().as_raw()),
            lowers: lowers.map(Lowers::new),
            depends: false,
            cache: HashMap::new(),
            last: None,
            followed: HashSet::new(),
            records: HashMap::new(),
            made: HashSet::new(),
            hasher: RandomState::new(),
            reused: HashMap::new(),
            waiting: 0,
        })
    }

    fn key(&self, directory: u64, name: &[u8], mark: Mark) -> u64 {
        let reused = self.reused.get(&directory).copied().unwrap_or_default();
        self.hasher.hash_one((directory, reused, name, mark == Mark::Whole))
    }

    pub(super) fn root(&self) -> Result<Rc<Directory>> {
        let fd = openat(self.root, c".", HANDLE, 0);
        fd.and_then(|fd| self.directory(fd, false))
            .map(Rc::new)
            .map_err(|errno| failed("cannot open the root directory", errno))
    }

    /// `name` in `directory` is of this layer.
    pub(super) fn mark(&mut self, directory: &Directory, name: &[u8], mark: Mark) {
        self.made.insert(self.key(directory.ino, name, mark));
        self.cover(directory, name);
    }

    /// This layer has something under a name: if a symlink of a layer below was followed there, it is hidden now.
    fn cover(&mut self, directory: &Directory, name: &[u8]) {
        if !self.followed.is_empty() && self.followed.remove(&(directory.ino, name.to_vec())) {
            self.forget();
        }
    }

    /// The directory that `path` leads to, symlinks followed inside the root; `None` when there is none. One of the layers
    /// below is made in this one.
    pub(super) fn find(&mut self, path: &[Vec<u8>]) -> Result<Option<Rc<Directory>>> {
        let key = path.join(&b'/');
        if let Some(known) = self.known(&key) {
            return Ok(Some(known));
        }
        match self.open(&key) {
            Ok(found) => Ok(Some(self.remember(key, found)?)),
            Err(Errno::ENAMETOOLONG) => self.walk(path, false),
            // Something on the way may not be searched yet.
            Err(Errno::EACCES) if self.bound => self.walk(path, false),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) if self.lowers.is_some() => {
                self.walk(path, false)
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(failed("cannot open its directory", errno)),
        }
    }

    /// The same, made where it is missing. What is no directory and in the way is removed.
    pub(super) fn make(&mut self, path: &[Vec<u8>]) -> Result<Rc<Directory>> {
        match self.find(path)? {
            Some(found) => Ok(found),
            None => match self.walk(path, true)? {
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
        let mut restore =
            if self.bound { open_up(fd.as_fd(), &stat).map_err(wrong)? } else { None };
        if key.is_empty() {
            restore = restore.or(self.root_was);
        }
        let known = self.records.get(&stat.st_ino);
        let made = known.is_some_and(|record| record.made);
        if known.is_none() {
            // The symlinks in a name that was asked for may be others by the end.
            let path = self.real_path(fd.as_fd()).unwrap_or_else(|| key.clone());
            self.records.insert(
                stat.st_ino,
                Record {
                    path,
                    atime: Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec },
                    mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec },
                    set: None,
                    restore,
                    made: false,
                    opaque: false,
                },
            );
        }
        let directory = Rc::new(self.directory(fd, made).map_err(wrong)?);
        self.charge(key.len())?;
        self.insert(key, &directory);
        Ok(directory)
    }

    /// The name of a directory below the root, without symlinks.
    fn real_path(&self, directory: BorrowedFd<'_>) -> Option<Vec<u8>> {
        let rest = real_path(directory)?.strip_prefix(self.place.as_deref()?)?.to_vec();
        match rest.split_first() {
            None => Some(rest),
            Some((b'/', rest)) => Some(rest.to_vec()),
            Some(_) => None,
        }
    }

    /// The name that `base` in `parent` has below the root.
    pub(super) fn path_of(&self, parent: &Directory, base: &[u8]) -> Vec<u8> {
        match self.records.get(&parent.ino).map(|record| record.path.as_slice()) {
            None | Some(b"") => base.to_vec(),
            Some(path) => [path, b"/", base].concat(),
        }
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
        mut record: Record,
    ) -> Result<Rc<Directory>, Errno> {
        mkdirat(&parent.fd, base, Mode::S_IRWXU)?;
        let fd = openat(parent.fd.as_fd(), base, HANDLE | libc::O_NOFOLLOW, 0)?;
        let directory = Rc::new(self.directory(fd, true)?);
        if !parent.made {
            attributes::disinherit_directory(directory.fd.as_fd(), self.own.1)?;
        }
        // Without layers below, what is new has nothing of them.
        record.opaque |= self.lowers.is_none();
        record.path = self.path_of(parent, base.to_bytes());
        let key = record.path.clone();
        if self.records.insert(directory.ino, record).is_some() {
            *self.reused.entry(directory.ino).or_default() += 1;
        }
        self.cover(parent, base.to_bytes());
        self.insert(key, &directory);
        Ok(directory)
    }

    /// Gives the directory `ino`, which has the name of the record, other attributes and times. Says whether nothing of the
    /// layers below is seen in it.
    pub(super) fn update(&mut self, ino: u64, record: Record) -> bool {
        let (path, made, opaque) = match self.records.remove(&ino) {
            Some(known) => (known.path, known.made, known.opaque),
            None => (record.path, false, false),
        };
        self.records.insert(ino, Record { path, made, opaque, ..record });
        opaque
    }

    /// What is seen of the layers below as `base` in `parent`, of which this layer has no name.
    pub(super) fn below(&mut self, parent: &Directory, base: &[u8]) -> Result<Option<Found>> {
        let Some(lowers) = &mut self.lowers else { return Ok(None) };
        self.depends = true;
        let path = self.records.get(&parent.ino).map(|record| record.path.as_slice());
        let path = components(path.unwrap_or_default());
        let (root, records) = (self.root, &self.records);
        // Every directory on the way is of this layer, and may hide what is in it.
        let is_hidden = || {
            let hides = |fd: BorrowedFd<'_>| {
                fstat(fd).map(|stat| records.get(&stat.st_ino).is_some_and(|record| record.opaque))
            };
            let mut fd = openat(root, c".", HANDLE, 0)?;
            let mut hidden = hides(fd.as_fd())?;
            for name in &path {
                let name = CString::new(name.as_slice()).map_err(|_nul| Errno::EINVAL)?;
                fd = openat(fd.as_fd(), &name, HANDLE | libc::O_NOFOLLOW, 0)?;
                hidden |= hides(fd.as_fd())?;
            }
            Ok(hidden)
        };
        lowers
            .look(&path, base, is_hidden)
            .map_err(|errno| failed("cannot look at the layers below", errno))
    }

    /// Removes what stands in the way of an entry.
    pub(super) fn clear(&mut self, parent: &Directory, base: &CStr) -> Result<(), Errno> {
        // The name may have been a directory or a symlink on the way to one.
        self.forget();
        prune::remove(parent.fd.as_fd(), base, &prune::Nothing).map(drop)
    }

    /// Removes what lower layers have under a name.
    pub(super) fn hide(&mut self, parent: &Directory, base: &CStr) -> Result<()> {
        let wrong = |errno| failed("cannot remove what it hides", errno);
        let name = base.to_bytes();
        if self.whole(parent.ino, name) {
            return Ok(());
        }
        let stat = match fstatat(&parent.fd, base, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return self.whiteout(parent, base),
            other => other.map_err(wrong)?,
        };
        if self.lowers.is_some() && is_whiteout(&stat) {
            return Ok(());
        }
        self.forget();
        if !prune::remove(parent.fd.as_fd(), base, self).map_err(wrong)? {
            return self.whiteout(parent, base);
        }
        // What is left of it is this layer's: it need not be looked at again.
        self.mark(parent, name, Mark::Whole);
        if let Some(record) = self.records.get_mut(&stat.st_ino) {
            record.opaque = true;
        }
        Ok(())
    }

    /// Hides what the layers below have under a name that this one has not, if they have anything: a whiteout of nothing is
    /// seen by readdir(3) where the directory is this layer's alone.
    pub(super) fn whiteout(&mut self, parent: &Directory, base: &CStr) -> Result<()> {
        if self.below(parent, base.to_bytes())?.is_none() {
            return Ok(());
        }
        self.cover(parent, base.to_bytes());
        mknodat(&parent.fd, base, SFlag::S_IFCHR, Mode::empty(), 0)
            .map_err(|errno| unfit("cannot make the whiteout", errno))
    }

    /// Removes what lower layers have in a directory.
    pub(super) fn hide_content(&mut self, directory: &Directory) -> Result<(), Errno> {
        if self.content(directory.ino) {
            return Ok(());
        }
        self.forget();
        prune::empty(directory.fd.as_fd(), self)?;
        if let Some(record) = self.records.get_mut(&directory.ino) {
            record.opaque = true;
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.cache.clear();
        self.last = None;
        self.followed.clear();
        if let Some(lowers) = &mut self.lowers {
            lowers.forget();
        }
    }

    /// One component after the other, which openat2(2) cannot do: names beyond PATH_MAX, directories that the layers below
    /// have, and with `make` those that are missing, behind symlinks too.
    fn walk(&mut self, path: &[Vec<u8>], make: bool) -> Result<Option<Rc<Directory>>> {
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
                        true => {
                            if self.bound {
                                open_up(next.fd.as_fd(), &stat).map_err(wrong)?;
                            }
                            Rc::new(next)
                        }
                        false => self.remember(key, next.fd)?,
                    };
                    continue;
                }
                Step::Symlink(target) => target,
                Step::Other if !make => return Ok(None),
                Step::Other => {
                    self.clear(&directory, &base).map_err(wrong)?;
                    // What was there has hidden what is below it.
                    let record = Record { opaque: true, ..Record::implied(self.owner) };
                    directory = self.imply(&directory, &base, record, Some(Mark::Whole))?;
                    at.push(name);
                    continue;
                }
                Step::Nothing => match self.below(&directory, &name)? {
                    Some(found) if found.kind() == libc::S_IFLNK => {
                        self.charge(name.len())?;
                        self.followed.insert((directory.ino, name));
                        found.target().map_err(wrong)?
                    }
                    Some(found) if found.kind() == libc::S_IFDIR => {
                        let record = found.record(Vec::new()).map_err(wrong)?;
                        directory = self.imply(&directory, &base, record, None)?;
                        at.push(name);
                        continue;
                    }
                    _ if !make => return Ok(None),
                    _ => {
                        let record = Record::implied(self.owner);
                        directory = self.imply(&directory, &base, record, Some(Mark::Whole))?;
                        at.push(name);
                        continue;
                    }
                },
            };
            links += 1;
            if links > MAX_LINKS {
                if !make {
                    return Ok(None);
                }
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

    /// Makes a directory that no entry names.
    fn imply(
        &mut self,
        parent: &Directory,
        base: &CStr,
        record: Record,
        mark: Option<Mark>,
    ) -> Result<Rc<Directory>> {
        self.charge(self.path_of(parent, base.to_bytes()).len())?;
        let made = self.make_directory(parent, base, record).map_err(|errno| {
            failed(format_args!("cannot make {:?}", base.to_bytes().escape_ascii()), errno)
        })?;
        if let Some(mark) = mark {
            self.mark(parent, base.to_bytes(), mark);
        }
        Ok(made)
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

/// What procfs has for the name of a directory.
fn real_path(directory: BorrowedFd<'_>) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    readlink(&*link).ok().map(OsStringExt::into_vec)
}
