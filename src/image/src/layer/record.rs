//! What waits for the end of a layer: the attributes of its directories.
//!
//! A hostile layer has as many as its limits let it, so each takes as little as it can: its own name and not the way to it, and no map of its own.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat};
use nix::unistd::geteuid;

use super::archive::Time;

/// What a directory is to become at the end.
#[derive(Debug)]
pub(super) struct Record {
    /// Of last access and of modification.
    pub(super) seconds: (i64, i64),
    pub(super) nanoseconds: (u32, u32),
    /// `None` for one of a lower layer that was written to: it is what it was, its times too.
    pub(super) set: Option<Set>,
    /// The mode it had, and has again where `set` says nothing: its owner could not write to it.
    pub(super) restore: Option<u16>,
    /// This layer has made it.
    pub(super) made: bool,
    /// Nothing of the layers below is seen in it.
    pub(super) opaque: bool,
}

/// Names and values of extended attributes.
pub(super) type Attributes = Box<[(CString, Box<[u8]>)]>;

/// Everything but the times.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) mode: u16,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) xattrs: Attributes,
}

impl Set {
    pub(super) fn new(
        mode: u32,
        owner: Option<(u32, u32)>,
        xattrs: Vec<(CString, Vec<u8>)>,
    ) -> Self {
        let mode = u16::try_from(mode & 0o7777).unwrap_or_default();
        let xattrs = xattrs.into_iter().map(|(name, value)| (name, value.into())).collect();
        Self { mode, owner, xattrs }
    }
}

impl Record {
    /// One that this layer has made.
    pub(super) fn new(atime: Time, mtime: Time, set: Option<Set>) -> Self {
        let part = |time: Time| u32::try_from(time.nanoseconds).unwrap_or_default();
        Self {
            seconds: (atime.seconds, mtime.seconds),
            nanoseconds: (part(atime), part(mtime)),
            set,
            restore: None,
            made: true,
            opaque: false,
        }
    }

    /// A directory that no entry names.
    pub(super) fn implied(owner: Option<(u32, u32)>) -> Self {
        let set = Set { mode: 0o755, owner, ..Set::default() };
        Self::new(Time::default(), Time::default(), Some(set))
    }

    pub(super) fn atime(&self) -> Time {
        Time { seconds: self.seconds.0, nanoseconds: self.nanoseconds.0.into() }
    }

    pub(super) fn mtime(&self) -> Time {
        Time { seconds: self.seconds.1, nanoseconds: self.nanoseconds.1.into() }
    }
}

/// The records of a layer, by inode, so that two names of one directory are one.
#[derive(Debug, Default)]
pub(super) struct Records {
    all: Vec<Kept>,
    places: HashMap<u64, u32>,
}

#[derive(Debug)]
struct Kept {
    ino: u64,
    /// Below the parent's; below the root where there is none.
    name: Box<[u8]>,
    parent: Option<Place>,
    /// How often the inode number has been that of another directory: what was made in that one was not made in this.
    reused: u32,
    record: Record,
}

/// A place in a list, counted from 1.
type Place = std::num::NonZeroU32;

/// Bytes that a record takes, but for its name and attributes: it, its part of the map, and what the heap adds to a name.
pub(super) const SIZE: usize = size_of::<Kept>() + 40 + 16;

/// Directories on the way to one: more than any name has, so that nothing here goes in circles.
const MAX_WAY: usize = 1 << 16;

impl Records {
    fn kept(&self, ino: u64) -> Option<&Kept> {
        self.all.get(usize::try_from(*self.places.get(&ino)?).ok()?)
    }

    pub(super) fn get(&self, ino: u64) -> Option<&Record> {
        self.kept(ino).map(|kept| &kept.record)
    }

    pub(super) fn get_mut(&mut self, ino: u64) -> Option<&mut Record> {
        let place = usize::try_from(*self.places.get(&ino)?).ok()?;
        self.all.get_mut(place).map(|kept| &mut kept.record)
    }

    /// How often the inode number has been that of another directory.
    pub(super) fn reused(&self, ino: u64) -> u32 {
        self.kept(ino).map_or(0, |kept| kept.reused)
    }

    /// Keeps the record of a directory that is called `name` in the directory `parent`, or below the root. Whatever had the number is gone.
    pub(super) fn put(&mut self, ino: u64, parent: Option<u64>, name: &[u8], record: Record) {
        let parent = parent.and_then(|parent| self.places.get(&parent)).copied();
        let parent = parent.and_then(|place| Place::new(place.saturating_add(1)));
        let mut kept = Kept { ino, name: name.into(), parent, reused: 0, record };
        let place = self.places.get(&ino).and_then(|place| usize::try_from(*place).ok());
        match place.and_then(|place| self.all.get_mut(place)) {
            Some(known) => {
                kept.reused = known.reused.saturating_add(1);
                *known = kept;
            }
            None => {
                self.places.insert(ino, u32::try_from(self.all.len()).unwrap_or(u32::MAX));
                self.all.push(kept);
            }
        }
    }

    /// The names on the way to a record, its own first.
    fn way<'a>(&'a self, kept: &'a Kept) -> impl Iterator<Item = &'a [u8]> {
        let above = |kept: &&'a Kept| {
            let place = usize::try_from(kept.parent?.get()).ok()?;
            self.all.get(place.checked_sub(1)?)
        };
        std::iter::successors(Some(kept), above)
            .take(MAX_WAY)
            .map(|kept| &*kept.name)
            .filter(|name| !name.is_empty())
    }

    /// The length of the name that a directory has below the root.
    pub(super) fn length(&self, ino: u64) -> usize {
        self.kept(ino).map_or(0, |kept| self.way(kept).map(|name| name.len() + 1).sum())
    }

    /// The name that a directory has below the root, whose own is empty.
    pub(super) fn path(&self, ino: u64) -> Vec<u8> {
        self.kept(ino).map_or_else(Vec::new, |kept| self.joined(kept))
    }

    fn joined(&self, kept: &Kept) -> Vec<u8> {
        let mut way: Vec<&[u8]> = self.way(kept).collect();
        way.reverse();
        way.join(&b'/')
    }

    /// All of them, the deepest first: inode, name below the root and what is to be done.
    pub(super) fn deepest_first(&self) -> impl Iterator<Item = (u64, Vec<u8>, &Record)> {
        let slashes = |name: &[u8]| name.iter().filter(|&&byte| byte == b'/').count();
        let depth = |kept: &Kept| self.way(kept).map(|name| slashes(name) + 1).sum::<usize>();
        let depths = self.all.iter().map(|kept| u32::try_from(depth(kept)).unwrap_or(u32::MAX));
        let mut order: Vec<(u32, u32)> = depths.zip(0..).collect();
        order.sort_unstable_by_key(|&(depth, place)| (std::cmp::Reverse(depth), place));
        order.into_iter().filter_map(|(_, place)| {
            let kept = self.all.get(usize::try_from(place).ok()?)?;
            Some((kept.ino, self.joined(kept), &kept.record))
        })
    }
}

/// Lets the caller read, write and search a directory of his. Returns the mode it had, if that was another.
pub(super) fn open_up(directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<u16>, Errno> {
    let mode = stat.st_mode & 0o7777;
    if mode & 0o700 == 0o700 || stat.st_uid != geteuid().as_raw() {
        return Ok(None);
    }
    // It may be open as a place alone, which fchmod(2) does not take.
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let open = Mode::from_bits_truncate(mode | 0o700);
    fchmodat(nix::fcntl::AT_FDCWD, &*link, open, FchmodatFlags::FollowSymlink)?;
    Ok(u16::try_from(mode).ok())
}

/// What procfs has for the name of a directory.
pub(super) fn real_path(directory: BorrowedFd<'_>) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    readlink(&*link).ok().map(OsStringExt::into_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small_and_knows_its_way() {
        assert!(size_of::<Kept>() <= 104, "{}", size_of::<Kept>());
        let mut records = Records::default();
        let put = |records: &mut Records, ino, parent, name: &str| {
            records.put(ino, parent, name.as_bytes(), Record::implied(None));
        };
        put(&mut records, 1, None, "");
        put(&mut records, 2, Some(1), "a");
        put(&mut records, 3, Some(2), "b");
        // Met below directories that nobody has asked for.
        put(&mut records, 4, None, "x/y/z");
        put(&mut records, 5, Some(4), "w");
        for (ino, path) in [(1, ""), (2, "a"), (3, "a/b"), (4, "x/y/z"), (5, "x/y/z/w"), (9, "")] {
            assert_eq!(String::from_utf8(records.path(ino)).unwrap(), path);
        }
        assert!(records.length(5) >= 7);
        let order: Vec<u64> = records.deepest_first().map(|(ino, _, _)| ino).collect();
        assert_eq!(order, [5, 4, 3, 2, 1]);
        // Another directory of the same number.
        put(&mut records, 3, Some(1), "c");
        assert_eq!((records.path(3), records.reused(3)), (b"c".to_vec(), 1));
        assert_eq!(records.deepest_first().count(), 5);
    }
}
