//! One layer: decompression, tar, and its application to a directory.
//!
//! | module | what |
//! |---|---|
//! | `decompress` | gzip, zstd or nothing, told apart by the first bytes |
//! | `archive` | the tar stream: ustar, GNU, pax, sparse files |
//! | `name` | clean names; what a whiteout's stands for |
//! | `record` | what directories are to become at the end |
//! | `tree` | directories below the root's descriptor: resolved, made, remembered |
//! | `below` | the layers below one in overlay form: what is seen of them, and what it takes |
//! | `prune` | removal, of all or of what the layer did not make |
//! | `attributes` | owners and extended attributes |
//! | `apply`, `finish`, `late` | an entry; what can only be done after the last one; hard links among that |
//! | `listing` | what the layers amount to, without a tree |
//!
//! Nothing is ever opened by a path of the host: a name is resolved by openat2(2) inside the root's descriptor, and
//! everything is done to one name below a directory's descriptor, without following it.

mod apply;
mod archive;
mod attributes;
mod below;
mod decompress;
mod finish;
mod late;
mod listing;
mod name;
mod prune;
mod record;
mod tree;

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod forms_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod testing;

use std::ffi::{CString, OsStr};
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicUsize;

use nix::errno::Errno;

pub use decompress::{Decompressor, decompress};
pub use listing::{File, Listing};

use crate::error::{Error, Result};
use crate::limits::Limits;

/// What a tree is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A root file system: layers are applied one after the other to one directory, and whiteouts remove.
    Plain,
    /// A lower directory of overlayfs, for this layer alone: whiteouts become those of overlayfs.
    Overlay {
        /// `user.overlay.*` and not `trusted.overlay.*`: for mounts with `userxattr`, which users can make.
        userxattr: bool,
    },
}

/// Whom files belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// Whom the layer says. For root, and inside a user namespace.
    Raw,
    /// Whom the layer says, mapped.
    Mapped {
        /// Of users.
        uids: IdMap,
        /// Of groups.
        gids: IdMap,
        /// User and group that take the place of those that are not mapped, which are an error otherwise.
        squash: Option<(u32, u32)>,
    },
    /// The caller, all of them: for users without subordinate ids.
    Single,
}

/// Ranges of ids: first in the image, first on the host, how many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap(pub Vec<(u32, u32, u32)>);

impl IdMap {
    /// The id on the host.
    #[must_use]
    pub fn map(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|&(image, host, count)| {
            let offset = id.checked_sub(image).filter(|&offset| offset < count)?;
            host.checked_add(offset).filter(|&id| id != u32::MAX)
        })
    }
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// They are made, which needs CAP_MKNOD in the first user namespace.
    Create,
    /// They are left out.
    Skip,
    /// An empty file that nobody may open takes their place.
    Placeholder,
}

/// What the layers before this one have used of the limits that are for all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Entries.
    pub entries: u64,
    /// Uncompressed bytes.
    pub bytes: u64,
}

/// How a layer is applied.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// The layer, as messages name it: its number and digest.
    pub name: String,
    /// What the tree is made for.
    pub format: Format,
    /// Whom files belong to.
    pub owners: Owners,
    /// What becomes of device nodes.
    pub devices: Devices,
    /// How much is too much.
    pub limits: Limits,
    /// What the layers before have used.
    pub used: Used,
    /// Bytes that the decompression of this layer holds, as far as that is known: they count against the same limit.
    pub held: Option<&'a AtomicUsize>,
    /// The unpacked layers below, in overlay form, topmost first. For [`Format::Overlay`] alone.
    pub lowers: &'a [OwnedFd],
    /// The root is new: without an entry of its own it becomes 0755, root's, of 1970.
    pub first: bool,
    /// A directory entry does not replace a symlink to a directory.
    pub keep_dirlinks: bool,
    /// `trusted.*` attributes are set.
    pub trusted_xattrs: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            name: "layer".into(),
            format: Format::Plain,
            owners: Owners::Raw,
            devices: Devices::Create,
            limits: Limits::default(),
            used: Used::default(),
            held: None,
            lowers: &[],
            first: true,
            keep_dirlinks: false,
            trusted_xattrs: false,
        }
    }
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What this and the layers before have used of the limits.
    pub used: Used,
    /// What was done differently than the layer says, once for each cause.
    pub warnings: Vec<String>,
    /// The tree took something from the layers below (owners of directories that have no entry, the content of a hard
    /// link), or would have if they had it: it is right above these and no others.
    pub depends_on_lower: bool,
    /// In overlay form: nothing of the layers below is seen, and they must not be mounted. Overlayfs does not know opaque roots.
    pub opaque_root: bool,
}

/// Applies a layer, uncompressed, to the directory `root`, and reads `tar` to its end.
///
/// After an error the tree is in no defined state: it is to be removed ([`remove_tree`]).
///
/// # Errors
/// They name layer, entry and rule. [`Kind::Verification`](crate::Kind::Verification) for an archive or entry that is
/// wrong, [`Kind::Unsupported`](crate::Kind::Unsupported) for one that cannot be had here,
/// [`Kind::NoSpace`](crate::Kind::NoSpace) for limits and full disks.
pub fn apply(tar: impl BufRead, root: BorrowedFd<'_>, options: &Options<'_>) -> Result<Report> {
    apply::Applier::new(root, options)?.run(tar).map_err(|error| error.context(&options.name))
}

/// Removes `name`, one name below `parent`, and everything below it, read-only directories too. It need not be there.
///
/// # Errors
/// Those of unlinkat(2), with the name; EXDEV when something is mounted there.
pub fn remove_tree(parent: impl AsFd, name: impl AsRef<OsStr>) -> Result<()> {
    let name = name.as_ref();
    let failed = |errno| {
        let error = Error::sys(format_args!("cannot remove {}", name.display()), errno);
        if errno == Errno::EXDEV { error.hint("something is mounted in it") } else { error }
    };
    let base = CString::new(name.as_bytes()).map_err(|_nul| failed(Errno::EINVAL))?;
    prune::remove(parent.as_fd(), &base, &prune::Nothing).map(drop).map_err(failed)
}

/// Whether the root of a layer in overlay form hides all layers below, which must not be mounted then: overlayfs does not look for it there.
///
/// # Errors
/// Those of opening it.
pub fn is_opaque_root(root: BorrowedFd<'_>) -> Result<bool, Errno> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let root = libcontainer::sys::fd::openat(root, c".", flags, 0)?;
    Ok(below::is_opaque(root.as_fd()))
}

/// More names than may be in memory.
fn too_much(limit: usize, held: usize) -> Error {
    let held = match held {
        0 => String::new(),
        held => format!(", with {held} of the window of its compression"),
    };
    Error::no_space(format!(
        "the names and attributes that are kept to the end of the layer are more than {limit} bytes{held}: that is the limit"
    ))
    .hint("--max-memory allows more")
}

/// As [`failed`], for what overlayfs has to be told by: a file system, or a kernel, that takes it from nobody or not from this user can hold a copy.
fn unfit(what: impl std::fmt::Display, errno: Errno) -> Error {
    let error = failed(what, errno);
    match errno {
        Errno::EPERM | Errno::EOPNOTSUPP => {
            error.with_kind(crate::Kind::Unsupported).hint("--rootfs=copy does without")
        }
        _ => error,
    }
}

/// A failure of the system at an entry: its kind is not that of a missing image.
fn failed(what: impl std::fmt::Display, errno: Errno) -> Error {
    let error = Error::sys(what, errno);
    match error.kind() {
        crate::Kind::NotFound => error.with_kind(crate::Kind::Generic),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn what_overlayfs_needs_and_is_refused_can_be_copied() {
        for (errno, kind) in [
            (Errno::EPERM, Kind::Unsupported),
            (Errno::EOPNOTSUPP, Kind::Unsupported),
            (Errno::ENOSPC, Kind::NoSpace),
            (Errno::EIO, Kind::Generic),
        ] {
            assert_eq!(unfit("x", errno).kind(), kind);
        }
    }
}
