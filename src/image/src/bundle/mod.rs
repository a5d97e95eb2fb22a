//! The bundle: a directory with `config.json` and `rootfs`, and what is needed to mount it again or to remove it.
//!
//! ```text
//! DIR/config.json        what the runtime reads
//! DIR/rootfs/            the root filesystem: an overlay mount, or a copy
//! DIR/overlay/upper/     what the container writes (overlay only)
//! DIR/overlay/work       the kernel's own (overlay only)
//! DIR/overlay/lN         links to the layers (overlay that the container mounts itself: [`inside`])
//! DIR/skep-bundle.json   what the bundle was made of
//! ```
//!
//! It is made in a directory beside its place, whose name says so and which is locked while somebody is at it, and gets
//! its name when it is whole. What a killed process leaves is unlocked, and the next one removes it.

pub mod compare;
pub mod inside;
pub mod overlay;
pub mod record;
pub mod remove;
pub mod userns;

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libcontainer::sys::{fd, mount};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::convert::{self, Conversion, Mapping, Request};
use crate::draft::{self, Draft, lock, names, open_below, open_directory, split};
use crate::error::{Error, Kind, Result};
use crate::layer::remove_tree;
pub use record::Record;

/// How the directories begin that are not finished bundles, or no longer.
pub const UNFINISHED: &str = ".skep-bundle-";

/// How the root filesystem is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rootfs {
    /// An overlay where the kernel mounts it, a copy elsewhere.
    #[default]
    Auto,
    /// An overlay of the store's unpacked layers, or an error.
    Overlay,
    /// Files of its own.
    Copy,
}

/// A bundle that is wanted.
pub struct Plan<'a> {
    /// Where it is to be. Nothing may be there yet.
    pub place: &'a Path,
    /// How the root filesystem is made.
    pub rootfs: Rootfs,
    /// The unpacked layers in overlay form, the lowest first.
    pub layers: &'a [PathBuf],
    /// Makes an overlay that the container mounts itself, in the bundle's directory; for users who mount nothing.
    pub own: Option<&'a Own<'a>>,
    /// The image's configuration, as it is.
    pub config: &'a [u8],
    /// What `config.json` is to say.
    pub request: &'a Request,
    /// What the image was called, for the record.
    pub source: &'a str,
    /// The digest of its manifest, for the same.
    pub manifest: String,
    /// The container that it is made for, which it does not outlive; `None` for one that stays until it is removed.
    pub owner: Option<record::Owner>,
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({}, {:?})", self.place.display(), self.rootfs)
    }
}

/// A bundle that was made.
#[derive(Debug)]
pub struct Made {
    /// `config.json` and how it came about.
    pub conversion: Conversion,
    /// [`Rootfs::Overlay`] or [`Rootfs::Copy`].
    pub rootfs: Rootfs,
    /// The directory, locked until this is closed. Who is to keep the lock inherits it.
    pub lock: OwnedFd,
}

/// Fills an empty directory with the image's files.
pub type Unpack<'a> = dyn Fn(BorrowedFd<'_>) -> Result<()> + 'a;

/// Makes an overlay in a bundle's directory: see [`inside`].
pub type Own<'a> = dyn Fn(BorrowedFd<'_>) -> Result<inside::Overlay> + 'a;

/// Makes a bundle, or nothing. `unpack` is asked for the files where they have to be copied.
///
/// # Errors
/// [`Kind::Usage`] for a place where something is; those of mounting, copying and [`convert::convert`].
pub fn make(plan: &Plan<'_>, unpack: &Unpack<'_>) -> Result<Made> {
    let (parent, name) = split(plan.place)?;
    let parent = open_directory(&parent)?;
    sweep(parent.as_fd());
    if fd::stat(parent.as_fd(), &name).is_ok() {
        return Err(taken(plan.place));
    }
    let draft = Draft::new(parent, UNFINISHED, remove::bundle)?;
    let made = fill(&draft, plan, unpack);
    let renamed = made.and_then(|made| match draft.publish(&name) {
        Ok(()) => Ok(made),
        Err(Errno::EEXIST) => Err(taken(plan.place)),
        Err(errno) => {
            Err(Error::sys(format!("cannot name the bundle {}", plan.place.display()), errno))
        }
    });
    match renamed {
        Ok((conversion, rootfs)) => Ok(Made { conversion, rootfs, lock: draft.directory }),
        Err(error) => {
            // The first error is what counts.
            draft.discard();
            Err(error)
        }
    }
}

fn taken(place: &Path) -> Error {
    Error::usage(format!("{} is there already", place.display()))
        .hint("remove it, or name another place")
}

fn fill(draft: &Draft, plan: &Plan<'_>, unpack: &Unpack<'_>) -> Result<(Conversion, Rootfs)> {
    let directory = draft.directory.as_fd();
    let rootfs = make_directory(directory, c"rootfs", 0o755)?;
    let own = match plan.own {
        Some(own) => own_overlay(directory, plan, own)?,
        None => None,
    };
    let kind = match plan.rootfs {
        _ if own.is_some() => Rootfs::Overlay,
        Rootfs::Overlay => {
            mount_overlay(directory, plan)?;
            Rootfs::Overlay
        }
        Rootfs::Auto if !plan.layers.is_empty() && mount_overlay(directory, plan).is_ok() => {
            Rootfs::Overlay
        }
        Rootfs::Auto | Rootfs::Copy => {
            unpack(rootfs.as_fd())?;
            Rootfs::Copy
        }
    };
    let inside = own.is_some();
    let (root, mount, layers) = match own {
        Some((overlay, mount)) => {
            let layers = overlay.layers.into_iter().map(|(_, path)| path).collect();
            (overlay.root, Some(mount), layers)
        }
        // Opened anew: it may be a mount now.
        None => (open_below(directory, c"rootfs")?, None, plan.layers.to_vec()),
    };
    let mut conversion = convert::convert(plan.config, root.as_fd(), plan.request)?;
    // Who uses it next is the runtime.
    drop(root);
    if let Some(mount) = mount {
        inside::add_mount(&mut conversion.spec, mount)?;
    }
    if let Some(owner) = &plan.owner {
        owner.add_hook(&mut conversion.spec, plan.place);
    }
    let mut text = serde_json::to_vec_pretty(&conversion.spec).map_err(|error| {
        Error::new(Kind::Generic, "cannot write config.json").with_source(error)
    })?;
    text.push(b'\n');
    write(directory, c"config.json", &text)?;
    let record = Record {
        version: record::VERSION,
        source: plan.source.to_owned(),
        manifest: plan.manifest.clone(),
        overlay: kind == Rootfs::Overlay,
        inside,
        layers: if kind == Rootfs::Overlay { layers } else { Vec::new() },
        owner: plan.owner.clone(),
    };
    write(directory, record::NAME, &record.to_json()?)?;
    if plan.request.mapping.as_ref().is_some_and(|mapping| !mapping.rootless) {
        // The container's root is somebody else here, and has to come through.
        fchmod(directory, Mode::from_bits_truncate(0o711))
            .map_err(|e| Error::sys("cannot open the bundle", e))?;
    }
    Ok((conversion, kind))
}

/// The overlay that the container mounts itself, and that mount; `None` where there can be none and it need not be one.
fn own_overlay(
    directory: BorrowedFd<'_>,
    plan: &Plan<'_>,
    own: &Own<'_>,
) -> Result<Option<(inside::Overlay, serde_json::Value)>> {
    let made = own(directory).and_then(|overlay| {
        let mount = inside::describe(&overlay, directory, plan.place)?;
        Ok((overlay, mount))
    });
    match made {
        Err(error) => {
            // What a copy has no use for.
            let _leftover = userns::remove_any(directory, OsStr::new("overlay"));
            if plan.rootfs == Rootfs::Auto && error.kind() == Kind::Unsupported {
                return Ok(None);
            }
            Err(error)
        }
        made => made.map(Some),
    }
}

fn mount_overlay(directory: BorrowedFd<'_>, plan: &Plan<'_>) -> Result<()> {
    let made = make_overlay(directory, plan);
    if made.is_err() {
        // What a copy has no use for.
        let _leftover = remove_tree(directory, "overlay");
    }
    made
}

/// Makes the directories `upper` and `work`.
fn writable(directory: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let place = make_directory(directory, c"overlay", 0o700)?;
    let upper = make_directory(place.as_fd(), c"upper", 0o755)?;
    Ok((upper, make_directory(place.as_fd(), c"work", 0o700)?))
}

fn make_overlay(directory: BorrowedFd<'_>, plan: &Plan<'_>) -> Result<()> {
    let (upper, work) = writable(directory)?;
    let lowers = overlay::open_layers(plan.layers, plan.request.mapping.as_ref())?;
    like(&lowers, plan.request.mapping.as_ref(), upper.as_fd())?;
    overlay::mount(&lowers, Some((upper.as_fd(), work.as_fd())), directory, c"rootfs")
}

/// Mounts the root filesystem of a finished bundle again, after a reboot say.
///
/// # Errors
/// A directory that is no bundle of ours, a copy, one that is mounted, and those of mounting.
pub fn mount_again(place: &Path, mapping: Option<&Mapping>) -> Result<()> {
    let directory = open_directory(place)?;
    let record = Record::read(directory.as_fd(), place)?;
    if !record.overlay {
        return Err(Error::usage(format!(
            "the root filesystem of {} is no overlay",
            place.display()
        )));
    }
    if record.inside {
        return Err(Error::usage(format!(
            "the root filesystem of {} is mounted by its container, for itself",
            place.display()
        ))
        .hint("one container of it at a time"));
    }
    let rootfs = open_below(directory.as_fd(), c"rootfs")?;
    if remove::is_mounted(directory.as_fd(), rootfs.as_fd())? {
        return Err(Error::usage(format!("the root filesystem of {} is mounted", place.display())));
    }
    let overlay = open_below(directory.as_fd(), c"overlay")?;
    let upper = open_below(overlay.as_fd(), c"upper")?;
    let work = open_below(overlay.as_fd(), c"work")?;
    let lowers = overlay::open_layers(&record.layers, mapping)?;
    overlay::mount(&lowers, Some((upper.as_fd(), work.as_fd())), directory.as_fd(), c"rootfs")
}

/// The root filesystem of the bundle `directory` as its containers have it: mounted, or mounted for this alone, nowhere, and not to be written to.
///
/// # Errors
/// Those of opening and mounting.
pub fn root_of(
    directory: BorrowedFd<'_>,
    record: &Record,
    mapping: Option<&Mapping>,
) -> Result<OwnedFd> {
    let rootfs = open_below(directory, c"rootfs")?;
    if !record.overlay || remove::is_mounted(directory, rootfs.as_fd())? {
        return Ok(rootfs);
    }
    let mut lowers = vec![open_below(open_below(directory, c"overlay")?.as_fd(), c"upper")?];
    lowers.extend(overlay::open_layers(&record.layers, mapping)?);
    overlay::detached(&lowers, None)
}

/// Unmounts and removes a bundle that [`make`] has made.
///
/// # Errors
/// [`Kind::NotFound`] if there is none; [`Kind::Usage`] for a directory that is no bundle of ours, or in use by a `run`.
pub fn remove(place: &Path) -> Result<()> {
    let (parent, name) = split(place)?;
    let parent = open_directory(&parent)?;
    sweep(parent.as_fd());
    let directory = open_below(parent.as_fd(), &name)
        .map_err(|error| error.context(format!("no bundle {}", place.display())))?;
    Record::read(directory.as_fd(), place)?;
    lock(directory.as_fd()).map_err(|_locked| {
        Error::usage(format!("the bundle {} is in use", place.display()))
            .hint("its container has to end first")
    })?;
    put_away(parent.as_fd(), &name, directory.as_fd())
}

/// Removes a bundle that this process has made, and has locked.
///
/// # Errors
/// Those of unmounting and removing.
pub fn retire(place: &Path, made: &Made) -> Result<()> {
    let (parent, name) = split(place)?;
    put_away(open_directory(&parent)?.as_fd(), &name, made.lock.as_fd())
}

/// Removes the bundles below `parent` whose containers are gone, and what killed processes have left there.
///
/// # Errors
/// Those of reading the directory.
pub fn collect(parent: &Path) -> Result<u32> {
    let parent = match open_directory(parent) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(0),
        opened => opened?,
    };
    let mut removed = sweep(parent.as_fd());
    for name in names(parent.as_fd())? {
        let Ok(directory) = open_below(parent.as_fd(), &name) else { continue };
        let Ok(record) =
            Record::read(directory.as_fd(), Path::new(OsStr::from_bytes(name.to_bytes())))
        else {
            continue;
        };
        if record.owner.is_some_and(|owner| owner.is_gone())
            && lock(directory.as_fd()).is_ok()
            && put_away(parent.as_fd(), &name, directory.as_fd()).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Takes the bundle its name away, then everything else: what is left of it at any moment is known for what it is.
fn put_away(parent: BorrowedFd<'_>, name: &CString, directory: BorrowedFd<'_>) -> Result<()> {
    let retired = draft::name(UNFINISHED);
    CString::new(retired.as_bytes())
        .map_err(|_nul| Errno::EINVAL)
        .and_then(|to| fd::rename_new(parent, name, parent, &to))
        .map_err(|errno| {
            Error::sys(format!("cannot rename the bundle {}", name.to_string_lossy()), errno)
        })?;
    remove::bundle(parent, &retired, directory)
}

/// Removes what is unfinished in `parent` and nobody is at.
fn sweep(parent: BorrowedFd<'_>) -> u32 {
    draft::sweep(parent, UNFINISHED, &|name, directory| {
        remove::bundle(parent, name, directory).is_ok()
    })
}

fn make_directory(
    parent: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    mode: libc::mode_t,
) -> Result<OwnedFd> {
    let failed =
        |errno| Error::sys(format!("cannot make {} of the bundle", name.to_string_lossy()), errno);
    mkdirat(parent, name, Mode::from_bits_truncate(mode)).map_err(failed)?;
    let made = open_below(parent, name)?;
    // Whatever the umask says.
    fchmod(&made, Mode::from_bits_truncate(mode)).map_err(failed)?;
    Ok(made)
}

fn write(directory: BorrowedFd<'_>, name: &std::ffi::CStr, content: &[u8]) -> Result<()> {
    let failed =
        |errno| Error::sys(format!("cannot write {} of the bundle", name.to_string_lossy()), errno);
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_bits_truncate(0o644)).map_err(failed)?;
    fd::write_all(&file, content).map_err(failed).inspect_err(|_| {
        let _best_effort = unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
    })
}

/// Gives the directory `to` what the root directory of the image is: of a merged directory, overlayfs shows the attributes of the upper.
///
/// That is what the topmost layer says, of those that say anything: one without an entry for the root has it as [`crate::layer::apply`] makes it,
/// 0755, root's and of 1970.
fn like(lowers: &[OwnedFd], mapping: Option<&Mapping>, to: BorrowedFd<'_>) -> Result<()> {
    let failed = |errno| Error::sys("cannot make the root directory of the overlay", errno);
    let first = |map: &[convert::IdMap]| {
        map.iter().find(|range| range.container == 0).map_or(0, |range| range.host)
    };
    let mapping = mapping.filter(|mapping| !mapping.rootless);
    let root = mapping.map_or((0, 0), |mapping| (first(&mapping.uids), first(&mapping.gids)));
    let mut said = None;
    for lower in lowers {
        let stat = nix::sys::stat::fstat(lower).map_err(failed)?;
        let implied = (stat.st_mode & 0o7777, stat.st_mtime, stat.st_mtime_nsec) == (0o755, 0, 0)
            && (stat.st_uid, stat.st_gid) == root;
        said = Some(stat);
        if !implied {
            break;
        }
    }
    let Some(stat) = said else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    if (uid, gid) != (nix::unistd::geteuid(), nix::unistd::getegid()) {
        fchown(to, Some(uid), Some(gid)).map_err(failed)?;
    }
    fchmod(to, Mode::from_bits_truncate(stat.st_mode & 0o7777)).map_err(failed)?;
    let time = |seconds, nanoseconds| nix::sys::time::TimeSpec::new(seconds, nanoseconds);
    let (atime, mtime) =
        (time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec));
    nix::sys::stat::futimens(to, &atime, &mtime).map_err(failed)
}

/// The detached mount `mounted`, attached as `name` in `directory`.
pub(crate) fn attach(
    mounted: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> Result<()> {
    mount::move_mount_to(mounted, directory, name)
        .map_err(|errno| Error::sys("cannot mount the root filesystem of the bundle", errno))
}

#[cfg(test)]
mod tests;
