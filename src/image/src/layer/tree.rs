//! The directories of the tree: found below the root's descriptor, made where they are missing, and remembered, for what
//! they are to become is done to them last.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libcontainer::sys::fd::{openat, openat2};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{getegid, geteuid};

use super::archive::Time;
use super::below::{Found, Lowers, is_whiteout};
use super::name::components;
use super::prune::{self, Keep};
use super::record::{self, Record, Records, open_up, real_path};
use super::{Options, attributes, failed, too_much, unfit};
use crate::error::{Error, Result};

/// Directories whose descriptors are kept.
const OPEN: usize = 256;
/// Bytes of a name under which a descriptor is kept. There may be [`OPEN`] of them.
const LONGEST: usize = 4096;
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
    root_was: Option<u16>,
    /// In overlay form: the layers below, for what of them is seen must be as if they were in this tree.
    lowers: Option<Lowers<'a>>,
    /// The layers below have been asked for something.
    pub(super) depends: bool,
    cache: HashMap<Vec<u8>, Rc<Directory>>,
    last: Option<(Vec<u8>, Rc<Directory>)>,
    /// Names that only a layer below has, and there as symlinks, which have been followed: what is cached may be behind one.
    followed: HashSet<(u64, Vec<u8>)>,
    pub(super) records: Records,
    /// Hashes of inode and name: what this layer has made. The key is random, so nobody can aim at a collision.
    made: HashSet<u64>,
    /// There is nothing that this layer has not made, and nobody needs to know what it has.
    alone: bool,
    hasher: RandomState,
    /// What waits for the end, in bytes, and how many it may be with those that the layer's decompression holds.
    waiting: usize,
    memory: usize,
    held: Option<&'a AtomicUsize>,
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
        self.alone || self.made.contains(&self.key(directory, name, Mark::Whole))
    }

    fn itself(&self, directory: u64, name: &[u8]) -> bool {
        self.made.contains(&self.key(directory, name, Mark::Itself))
    }

    fn content(&self, directory: u64) -> bool {
        self.records.get(directory).is_some_and(|record| record.opaque)
    }
}

impl<'a> Tree<'a> {
    /// `owner`: of directories that no entry names. `lowers`: in overlay form, the layers below, topmost first.
    pub(super) fn new(
        root: BorrowedFd<'a>,
        owner: Option<(u32, u32)>,
        lowers: Option<&'a [OwnedFd]>,
        options: &Options<'a>,
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
            records: Records::default(),
            made: HashSet::new(),
            alone: lowers.map_or(options.first, <[_]>::is_empty),
            hasher: RandomState::new(),
            waiting: 0,
            memory: options.limits.memory,
            held: options.held,
        })
    }

    fn key(&self, directory: u64, name: &[u8], mark: Mark) -> u64 {
        let reused = self.records.reused(directory);
        self.hasher.hash_one((directory, reused, name, mark == Mark::Whole))
    }

    /// A number for a name in a directory that no other has, with a probability that nobody can change.
    pub(super) fn number(&self, directory: u64, name: &[u8]) -> u64 {
        self.hasher.hash_one((directory, name))
    }

    pub(super) fn root(&self) -> Result<Rc<Directory>> {
        let fd = openat(self.root, c".", HANDLE, 0);
        fd.and_then(|fd| self.directory(fd, false))
            .map(Rc::new)
            .map_err(|errno| failed("cannot open the root directory", errno))
    }

    /// `name` in `directory` is of this layer.
    pub(super) fn mark(&mut self, directory: &Directory, name: &[u8], mark: Mark) -> Result<()> {
        if !self.alone {
            if self.made.len() == self.made.capacity() {
                self.charge_marks()?;
            }
            self.made.insert(self.key(directory.ino, name, mark));
        }
        self.cover(directory, name);
        Ok(())
    }

    /// Counts the table of marks that the next one makes twice as large. Until it is filled there are both.
    fn charge_marks(&mut self) -> Result<()> {
        let next = (self.made.len().saturating_add(1).saturating_mul(8) / 7).next_power_of_two();
        self.charge(next.saturating_mul(9))?;
        self.waiting = self.waiting.saturating_sub(next / 2 * 9);
        Ok(())
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
        let known = self.records.get(stat.st_ino);
        let made = known.is_some_and(|record| record.made);
        if known.is_none() {
            // The symlinks in a name that was asked for may be others by the end.
            let path = self.real_path(fd.as_fd()).unwrap_or_else(|| key.clone());
            self.charge(record::SIZE + path.len())?;
            let atime = Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec };
            let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec };
            let record = Record { restore, made: false, ..Record::new(atime, mtime, None) };
            self.records.put(stat.st_ino, None, &path, record);
        }
        let directory = Rc::new(self.directory(fd, made).map_err(wrong)?);
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
    fn path_of(&self, parent: &Directory, base: &[u8]) -> Vec<u8> {
        let mut path = self.records.path(parent.ino);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(base);
        path
    }

    fn insert(&mut self, key: Vec<u8>, directory: &Rc<Directory>) {
        if self.cache.len() >= OPEN {
            self.cache.clear();
        }
        if key.len() <= LONGEST {
            self.cache.insert(key.clone(), Rc::clone(directory));
        }
        self.last = Some((key, Rc::clone(directory)));
    }

    /// Counts bytes that are kept until the end of the layer.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<()> {
        self.waiting = self.waiting.saturating_add(bytes);
        let held = self.held.map_or(0, |held| held.load(Ordering::Relaxed));
        if self.waiting.saturating_add(held) <= self.memory {
            return Ok(());
        }
        Err(too_much(self.memory, held))
    }

    /// Counts what is kept of the directory `base` in `parent`. Who makes the way to it long pays for that, for it is gone again at the end.
    pub(super) fn charge_directory(&mut self, parent: &Directory, base: &[u8]) -> Result<()> {
        let way = self.records.length(parent.ino).saturating_add(base.len());
        self.charge(way.max(record::SIZE + base.len()))
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
        self.records.put(directory.ino, Some(parent.ino), base.to_bytes(), record);
        let key = self.path_of(parent, base.to_bytes());
        self.cover(parent, base.to_bytes());
        self.insert(key, &directory);
        Ok(directory)
    }

    /// Gives the directory `ino`, which is `base` in `parent`, other attributes and times. Says whether nothing of the layers below is seen in it.
    pub(super) fn update(
        &mut self,
        ino: u64,
        parent: &Directory,
        base: &[u8],
        record: Record,
    ) -> Result<bool> {
        if let Some(known) = self.records.get_mut(ino) {
            let (made, opaque) = (known.made, known.opaque);
            *known = Record { made, opaque, ..record };
            return Ok(opaque);
        }
        self.charge_directory(parent, base)?;
        self.records.put(ino, Some(parent.ino), base, Record { made: false, ..record });
        Ok(false)
    }

    /// What is seen of the layers below as `base` in `parent`, of which this layer has no name.
    pub(super) fn below(&mut self, parent: &Directory, base: &[u8]) -> Result<Option<Found>> {
        let Some(lowers) = &mut self.lowers else { return Ok(None) };
        self.depends = true;
        let path = components(&self.records.path(parent.ino));
        let (root, records) = (self.root, &self.records);
        // Every directory on the way is of this layer, and may hide what is in it.
        let is_hidden = || {
            let hides = |fd: BorrowedFd<'_>| {
                fstat(fd).map(|stat| records.get(stat.st_ino).is_some_and(|record| record.opaque))
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
            // Above other layers it would have hidden something.
            self.depends |= self.alone && self.lowers.is_some();
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
        self.mark(parent, name, Mark::Whole)?;
        if let Some(record) = self.records.get_mut(stat.st_ino) {
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
        if let Some(record) = self.records.get_mut(directory.ino) {
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
                    directory = match self.records.get(stat.st_ino).is_some() {
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
                        self.charge(name.len() + 100)?;
                        self.followed.insert((directory.ino, name));
                        found.target().map_err(wrong)?
                    }
                    Some(found) if found.kind() == libc::S_IFDIR => {
                        let record = found.record().map_err(wrong)?;
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
        self.charge_directory(parent, base.to_bytes())?;
        let made = self.make_directory(parent, base, record).map_err(|errno| {
            failed(format_args!("cannot make {:?}", base.to_bytes().escape_ascii()), errno)
        })?;
        if let Some(mark) = mark {
            self.mark(parent, base.to_bytes(), mark)?;
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
                let made = self.records.get(stat.st_ino).is_some_and(|record| record.made);
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
        let made = self.records.get(ino).is_some_and(|record| record.made);
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
