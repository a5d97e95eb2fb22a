//! The mount options of config.md "Linux mount options", one table: the parser reads it and `features` prints it.

use crate::error::{Error, Result};
use crate::sys::mount::{Attr, Recursive};

/// What one option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing; the default, or long gone from the kernel.
    None,
    /// Sets mount attributes.
    Set(u64),
    /// Clears mount attributes.
    Clear(u64),
    /// Chooses how access times are kept.
    Atime(u64),
    /// Takes back such a choice: what the kernel or the source has is kept.
    AtimeAsIs,
    /// The same three, on every mount below.
    SetBelow(u64),
    ClearBelow(u64),
    AtimeBelow(u64),
    /// A flag of the superblock, by the name fsconfig(2) knows.
    Super(&'static str),
    Bind(Recursive),
    Remount,
    Propagation(u64, Recursive),
    CopyUp,
    Idmap(Recursive),
    CopySymlink,
    SourceNofollow,
    DestinationNofollow,
}

use Effect::{
    Atime, AtimeAsIs, AtimeBelow, Bind, Clear, ClearBelow, CopySymlink, CopyUp,
    DestinationNofollow, Idmap, Propagation, Remount, Set, SetBelow, SourceNofollow, Super,
};

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
/// The attributes that are on or off.
const PLAIN: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;
const PRIVATE: u64 = libc::MS_PRIVATE;
const SHARED: u64 = libc::MS_SHARED;
const SLAVE: u64 = libc::MS_SLAVE;
const UNBINDABLE: u64 = libc::MS_UNBINDABLE;

/// Sorted by name. The second field says whether `features` lists it: crun's private words are not the
/// specification's.
const OPTIONS: &[(&str, bool, Effect)] = &[
    ("async", true, Super("async")),
    ("atime", true, AtimeAsIs),
    ("bind", true, Bind(Recursive::No)),
    ("copy-symlink", false, CopySymlink),
    ("defaults", true, Effect::None),
    ("dest-nofollow", false, DestinationNofollow),
    ("dev", true, Clear(NODEV)),
    ("diratime", true, Clear(NODIRATIME)),
    ("dirsync", true, Super("dirsync")),
    ("exec", true, Clear(NOEXEC)),
    ("idmap", true, Idmap(Recursive::No)),
    ("iversion", true, Super("iversion")),
    ("lazytime", true, Super("lazytime")),
    ("loud", true, Effect::None),
    ("mand", true, Effect::None),
    ("noatime", true, Atime(NOATIME)),
    ("nodev", true, Set(NODEV)),
    ("nodiratime", true, Set(NODIRATIME)),
    ("noexec", true, Set(NOEXEC)),
    ("noiversion", true, Super("noiversion")),
    ("nolazytime", true, Super("nolazytime")),
    ("nomand", true, Effect::None),
    ("norelatime", true, AtimeAsIs),
    ("nostrictatime", true, AtimeAsIs),
    ("nosuid", true, Set(NOSUID)),
    ("nosymfollow", true, Set(NOSYMFOLLOW)),
    ("private", true, Propagation(PRIVATE, Recursive::No)),
    ("rasync", false, Effect::None),
    ("ratime", true, AtimeBelow(RELATIME)),
    ("rbind", true, Bind(Recursive::Yes)),
    ("rdev", true, ClearBelow(NODEV)),
    ("rdiratime", true, ClearBelow(NODIRATIME)),
    // crun knows these five and does nothing either: they belong to file systems, not to mounts.
    ("rdirsync", false, Effect::None),
    ("relatime", true, Atime(RELATIME)),
    ("remount", true, Remount),
    ("rexec", true, ClearBelow(NOEXEC)),
    ("ridmap", true, Idmap(Recursive::Yes)),
    ("rmand", false, Effect::None),
    ("rnoatime", true, AtimeBelow(NOATIME)),
    ("rnodev", true, SetBelow(NODEV)),
    ("rnodiratime", true, SetBelow(NODIRATIME)),
    ("rnoexec", true, SetBelow(NOEXEC)),
    ("rnomand", false, Effect::None),
    ("rnorelatime", true, AtimeBelow(RELATIME)),
    ("rnostrictatime", true, AtimeBelow(RELATIME)),
    ("rnosuid", true, SetBelow(NOSUID)),
    ("rnosymfollow", true, SetBelow(NOSYMFOLLOW)),
    ("ro", true, Set(RDONLY)),
    ("rprivate", true, Propagation(PRIVATE, Recursive::Yes)),
    ("rrelatime", true, AtimeBelow(RELATIME)),
    ("rro", true, SetBelow(RDONLY)),
    ("rrw", true, ClearBelow(RDONLY)),
    ("rshared", true, Propagation(SHARED, Recursive::Yes)),
    ("rslave", true, Propagation(SLAVE, Recursive::Yes)),
    ("rstrictatime", true, AtimeBelow(STRICTATIME)),
    ("rsuid", true, ClearBelow(NOSUID)),
    ("rsymfollow", true, ClearBelow(NOSYMFOLLOW)),
    ("rsync", false, Effect::None),
    ("runbindable", true, Propagation(UNBINDABLE, Recursive::Yes)),
    ("rw", true, Clear(RDONLY)),
    ("shared", true, Propagation(SHARED, Recursive::No)),
    ("silent", true, Effect::None),
    ("slave", true, Propagation(SLAVE, Recursive::No)),
    ("src-nofollow", false, SourceNofollow),
    ("strictatime", true, Atime(STRICTATIME)),
    ("suid", true, Clear(NOSUID)),
    ("symfollow", true, Clear(NOSYMFOLLOW)),
    ("sync", true, Super("sync")),
    ("tmpcopyup", true, CopyUp),
    ("unbindable", true, Propagation(UNBINDABLE, Recursive::No)),
];

/// The options of the specification, sorted, for `features`.
pub fn known() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().filter(|(_, listed, _)| *listed).map(|(name, _, _)| *name)
}

/// Whether `word` names a propagation, and which (`linux.rootfsPropagation`, and mount options).
pub fn propagation(word: &str) -> Option<(u64, Recursive)> {
    match lookup(word) {
        Some(Propagation(flag, recursive)) => Some((flag, recursive)),
        _ => None,
    }
}

fn lookup(name: &str) -> Option<Effect> {
    let i = OPTIONS.binary_search_by(|(known, _, _)| (*known).cmp(name)).ok()?;
    OPTIONS.get(i).map(|(_, _, effect)| *effect)
}

/// `idmap` or `ridmap`, with crun's ranges after it or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdmapOption<'a> {
    /// Whether the mounts below are mapped as well.
    pub recursive: Recursive,
    /// `uids=0-1000-10;gids=0-1000-10`.
    pub ranges: Option<&'a str>,
}

impl<'a> IdmapOption<'a> {
    /// How ranges are written.
    pub const HINT: &'static str =
        "give uidMappings and gidMappings, or idmap=uids=FROM-TO-SIZE;gids=FROM-TO-SIZE";

    fn parse(option: &'a str) -> Option<Self> {
        let (word, ranges) = option.split_once('=')?;
        match lookup(word) {
            // crun takes an empty list for none.
            Some(Idmap(recursive)) => {
                Some(Self { recursive, ranges: Some(ranges).filter(|ranges| !ranges.is_empty()) })
            }
            _ => None,
        }
    }
}

/// The options of one mount, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// Attributes of the mount itself.
    pub attr: Attr,
    /// Attributes of it and every mount below.
    pub below: Attr,
    /// Whether an option was given that is about the mount itself, even one that only takes another back.
    pub about_itself: bool,
    /// Changes of propagation, in order.
    pub propagation: Vec<(u64, Recursive)>,
    /// Whether and how deep it is a bind mount.
    pub bind: Option<Recursive>,
    /// Whether it changes a mount that is there.
    pub remount: bool,
    /// Whether the content of the target is copied into the tmpfs.
    pub copy_up: bool,
    /// Whether and how ids are mapped.
    pub idmap: Option<IdmapOption<'a>>,
    /// Whether a symlink as source is made anew instead of mounted.
    pub copy_symlink: bool,
    /// Whether a symlink as source is mounted itself.
    pub source_nofollow: bool,
    /// Whether a symlink as target is mounted over itself.
    pub destination_nofollow: bool,
    /// Flags of the superblock.
    pub superblock: Vec<&'static str>,
    /// What only the file system knows: `key`, or `key=value`.
    pub data: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Reads `options` in order; a later one overrides an earlier one.
    pub fn parse(options: impl Iterator<Item = &'a str>) -> Self {
        let mut parsed = Self::default();
        for option in options {
            match lookup(option) {
                Some(effect) => parsed.apply(effect),
                // One string may hold several, as mount(8) takes them.
                None if option.contains(',') && !option.contains('"') => {
                    for part in option.split(',').filter(|part| !part.is_empty()) {
                        match lookup(part) {
                            Some(effect) => parsed.apply(effect),
                            None => parsed.data.push(part),
                        }
                    }
                }
                None if option.is_empty() => {}
                None => match IdmapOption::parse(option) {
                    Some(idmap) => parsed.idmap = Some(idmap),
                    None => parsed.data.push(option),
                },
            }
        }
        parsed
    }

    fn apply(&mut self, effect: Effect) {
        self.about_itself |= matches!(effect, Set(_) | Clear(_) | Atime(_) | AtimeAsIs | Super(_));
        match effect {
            Effect::None => {}
            Set(bits) => set(&mut self.attr, bits),
            Clear(bits) => clear(&mut self.attr, bits),
            Atime(bits) => atime(&mut self.attr, bits),
            AtimeAsIs => {
                self.attr.set &= !ATIME_MASK;
                self.attr.clear &= !ATIME_MASK;
            }
            SetBelow(bits) => set(&mut self.below, bits),
            ClearBelow(bits) => clear(&mut self.below, bits),
            AtimeBelow(bits) => atime(&mut self.below, bits),
            Super(name) => self.superblock.push(name),
            // `bind` says what it is, not that rbind before it was meant less deep.
            Bind(recursive) if self.bind != Some(Recursive::Yes) => self.bind = Some(recursive),
            Bind(_) => {}
            Remount => self.remount = true,
            Propagation(flag, recursive) => self.propagation.push((flag, recursive)),
            CopyUp => self.copy_up = true,
            Idmap(recursive) => self.idmap = Some(IdmapOption { recursive, ranges: None }),
            CopySymlink => self.copy_symlink = true,
            SourceNofollow => self.source_nofollow = true,
            DestinationNofollow => self.destination_nofollow = true,
        }
    }

    /// What a bind mount's own attributes become: once an option is about them, all that are not named are cleared, as
    /// mount(8) would for a new mount; access times stay unless one is chosen (runc's rule).
    pub fn bind_attributes(&self) -> Attr {
        if !self.about_itself {
            return Attr::default();
        }
        let mut attr = Attr { propagation: 0, ..self.attr };
        attr.clear |= PLAIN & !attr.set;
        if attr.set & NODIRATIME != 0 || attr.clear & ATIME_MASK != 0 {
            attr.clear |= ATIME_MASK | NODIRATIME & !attr.set;
        } else {
            attr.clear &= !NODIRATIME;
        }
        attr
    }

    /// Refuses data on a bind mount, which has no file system of its own to give it to.
    ///
    /// What tmpfs would take is let go, as mount(2) does with all data of a bind mount: callers give one list of options to
    /// mounts of every kind (runtime-tools' `mounts` program).
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) with runc's words.
    pub fn check_bind(&self, field: &str) -> Result<()> {
        let tmpfs =
            |option: &str| option.split_once('=').is_some_and(|(key, _)| TMPFS_DATA.contains(&key));
        match self.data.iter().find(|option| !tmpfs(option)) {
            Some(option) if self.bind.is_some() => Err(Error::config(
                "bind mounts cannot have any filesystem-specific options applied",
            )
            .field(format!("{field}.options: {option:?}"))
            .hint("remove the option, or the bind option")),
            _ => Ok(()),
        }
    }
}

/// tmpfs(5), "Mount options".
const TMPFS_DATA: &[&str] =
    &["gid", "huge", "mode", "mpol", "nr_blocks", "nr_inodes", "size", "uid"];

fn set(attr: &mut Attr, bits: u64) {
    attr.set |= bits;
    attr.clear &= !bits;
}

fn clear(attr: &mut Attr, bits: u64) {
    attr.clear |= bits;
    attr.set &= !bits;
}

/// mount_setattr(2): the access time is one field of several bits, all of which must be cleared to set any.
fn atime(attr: &mut Attr, bits: u64) {
    attr.set = attr.set & !ATIME_MASK | bits;
    attr.clear |= ATIME_MASK;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_its_search() {
        assert!(OPTIONS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_later_option_wins() {
        let parsed = Options::parse(["ro", "rw", "nosuid", "suid", "nodev"].into_iter());
        assert_eq!(parsed.attr, Attr { set: NODEV, clear: RDONLY | NOSUID, propagation: 0 });
        let parsed = Options::parse(["noatime", "strictatime"].into_iter());
        assert_eq!(parsed.attr, Attr { set: STRICTATIME, clear: ATIME_MASK, propagation: 0 });
    }

    #[test]
    fn a_bind_mount_with_options_is_like_a_new_one() {
        let attributes =
            |list: &[&'static str]| Options::parse(list.iter().copied()).bind_attributes();
        assert_eq!(attributes(&["rbind", "rprivate", "rro"]), Attr::default());
        let ro = attributes(&["bind", "ro"]);
        assert_eq!((ro.set, ro.clear), (RDONLY, PLAIN & !RDONLY));
        for list in [["bind", "dev"], ["bind", "atime"], ["bind", "diratime"]] {
            assert_eq!((attributes(&list).set, attributes(&list).clear), (0, PLAIN), "{list:?}");
        }
        let nodiratime = attributes(&["bind", "nodiratime", "norelatime"]);
        assert_eq!((nodiratime.set, nodiratime.clear), (NODIRATIME, PLAIN | ATIME_MASK));
        let relatime = attributes(&["bind", "relatime"]);
        assert_eq!((relatime.set, relatime.clear), (0, PLAIN | ATIME_MASK | NODIRATIME));
    }

    #[test]
    fn recursive_flags_are_kept_apart() {
        let parsed = Options::parse(["rbind", "rro", "rprivate", "nosuid"].into_iter());
        assert_eq!(parsed.bind, Some(Recursive::Yes));
        assert_eq!(parsed.below.set, RDONLY);
        assert_eq!(parsed.attr.set, NOSUID);
        assert_eq!(parsed.propagation, [(PRIVATE, Recursive::Yes)]);
    }

    #[test]
    fn what_the_table_does_not_know_is_the_file_systems() {
        let parsed = Options::parse(["mode=755", "size=64k,noexec", "newinstance"].into_iter());
        assert_eq!(parsed.data, ["mode=755", "size=64k", "newinstance"]);
        assert_eq!(parsed.attr.set, NOEXEC);
        let both = Options::parse(["rbind", "rprivate", "bind"].into_iter());
        assert_eq!(both.bind, Some(Recursive::Yes));
        let bind = Options::parse(["bind", "mode=755", "lowerdir=/x"].into_iter());
        assert!(bind.check_bind("mounts[0]").unwrap_err().to_string().contains("lowerdir=/x"));
    }
}
