//! The overlay of unpacked layers.
//!
//! Layers are named by descriptors, so that no name of the store or of a bundle can be taken for an option: not one with
//! a comma, a colon or a backslash, which the kernel's option strings are cut at.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use libcontainer::sys::mount::{FsContext, Recursive, mount_idmap, open_tree_clone};
use libcontainer::sys::{fd, mount as sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::attach;
use crate::convert::Mapping;
use crate::error::{Error, Result};

/// Layers that overlayfs takes (its OVL_MAX_STACK).
const MAX_LAYERS: usize = 500;

/// Options that every overlay has. An image's layers are no overlay of this host: what would make the kernel look
/// elsewhere for a file, an inode or its content is not followed.
const OPTIONS: [(&CStr, &CStr); 3] =
    [(c"index", c"off"), (c"metacopy", c"off"), (c"redirect_dir", c"nofollow")];

/// Opens unpacked layers, the lowest first in `layers` and the highest first in what is returned, as overlayfs wants
/// them; with `mapping`, as id-mapped mounts, where the namespace is not the caller's own. What is below one whose root is opaque is left out.
///
/// # Errors
/// No layer or too many; those of opening and mapping.
pub fn open_layers(layers: &[PathBuf], mapping: Option<&Mapping>) -> Result<Vec<OwnedFd>> {
    let mut opened: Vec<OwnedFd> = Vec::with_capacity(layers.len());
    let mut seen = std::collections::HashSet::new();
    let mapped = mapping.filter(|mapping| !mapping.rootless);
    let namespace = mapped.map(super::userns::make).transpose()?;
    for layer in layers.iter().rev() {
        let failed =
            |errno| Error::sys(format!("cannot open the layer {}", layer.display()), errno);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(layer.as_path(), flags, Mode::empty()).map_err(failed)?;
        let stat = fd::stat(directory.as_fd(), c"").map_err(failed)?;
        // An image may have one layer twice, overlayfs refuses it; the upper one hides all of the lower.
        if !seen.insert((stat.dev, stat.ino)) {
            continue;
        }
        let alone = crate::layer::is_opaque_root(directory.as_fd()).map_err(failed)?;
        opened.push(match &namespace {
            Some(namespace) => {
                let clone = open_tree_clone(directory.as_fd(), c"", Recursive::No, false).map_err(failed)?;
                mount_idmap(clone.as_fd(), Recursive::No, namespace.as_fd()).map_err(|errno| {
                    Error::sys(format!("cannot map the ids of the layer {}", layer.display()), errno)
                        .hint("the file system of the store may not be able to; --rootfs=copy needs no mapping")
                })?;
                clone
            }
            None => directory,
        });
        if alone {
            break;
        }
    }
    match opened.len() {
        0 => Err(Error::unsupported("an overlay needs a layer, and the image has none")),
        1..=MAX_LAYERS => Ok(opened),
        many => Err(Error::unsupported(format!(
            "the image has {many} layers, overlayfs takes {MAX_LAYERS}"
        ))
        .hint("--rootfs=copy takes any number")),
    }
}

/// Mounts an overlay of `lowers`, the highest first, with the directories `writable` (upper and work) if it is to be
/// written to, on `name` in `directory`.
///
/// # Errors
/// What the kernel says, with its own words where it has any.
pub fn mount(
    lowers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<()> {
    match by_descriptors(lowers, writable) {
        Ok(mounted) => attach(mounted.as_fd(), directory, name),
        Err(Failure::Old) => old(lowers, writable, directory, name),
        Err(Failure::Told(error)) => Err(error),
    }
}

/// An overlay as [`mount`] mounts it, mounted nowhere.
///
/// # Errors
/// [`Kind::Unsupported`](crate::Kind::Unsupported): the kernel's words, or that it is too old for one.
pub fn detached(
    lowers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<OwnedFd> {
    by_descriptors(lowers, writable).map_err(|failure| match failure {
        Failure::Old => Error::unsupported(
            "the kernel is too old: Linux 6.8 mounts an overlay for an ordinary user",
        ),
        Failure::Told(error) if error.kind() == crate::Kind::NoSpace => error,
        Failure::Told(error) => error.with_kind(crate::Kind::Unsupported),
    })
}

enum Failure {
    /// The kernel has no `lowerdir+` (before Linux 6.8).
    Old,
    Told(Error),
}

fn by_descriptors(
    lowers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<OwnedFd, Failure> {
    let context = FsContext::open(c"overlay").map_err(|errno| {
        Failure::Told(Error::sys("cannot mount an overlay", errno).hint("--rootfs=copy needs none"))
    })?;
    let told = |errno| Failure::Told(explain(&context, errno));
    context.set_string(c"source", c"skep").map_err(told)?;
    for (option, value) in OPTIONS {
        // An overlayfs without the feature has no such option either.
        match context.set_string(option, value) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(told(errno)),
        }
    }
    if nix::unistd::geteuid().as_raw() != 0 || in_user_namespace() {
        context.set_flag(c"userxattr").map_err(told)?;
    }
    for lower in lowers {
        set_directory(&context, c"lowerdir+", lower.as_fd()).map_err(|errno| match errno {
            Errno::EINVAL => Failure::Old,
            errno => told(errno),
        })?;
    }
    if let Some((upper, work)) = writable {
        set_directory(&context, c"upperdir", upper).map_err(told)?;
        set_directory(&context, c"workdir", work).map_err(told)?;
    }
    context.mount(0).map_err(told)
}

/// Linux 6.13 takes descriptors (and of an `O_PATH` one says `EBADF` for some versions more, as all before do), 6.8 their names in procfs.
fn set_directory(
    context: &FsContext,
    option: &CStr,
    directory: BorrowedFd<'_>,
) -> Result<(), Errno> {
    match context.set_fd(option, directory) {
        Err(Errno::EINVAL | Errno::EBADF) => context.set_string(option, &name_of(directory)),
        set => set,
    }
}

fn name_of(directory: BorrowedFd<'_>) -> CString {
    // Digits and slashes have no NUL.
    CString::new(format!("/proc/self/fd/{}", directory.as_raw_fd())).unwrap_or_default()
}

/// The kernel's own words for a failure.
fn explain(context: &FsContext, errno: Errno) -> Error {
    let mut words = String::new();
    let mut line = [0; 256];
    loop {
        let length = context.message(&mut line);
        if length == 0 || words.len() > 1024 {
            break;
        }
        let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
        // Each begins with its level: "e overlay: ...".
        let text = text.get(2..).unwrap_or_default().trim();
        if !words.is_empty() {
            words.push_str("; ");
        }
        words.push_str(text);
    }
    let what = if words.is_empty() {
        "cannot mount an overlay".to_owned()
    } else {
        format!("cannot mount an overlay ({words})")
    };
    Error::sys(what, errno).hint("--rootfs=copy needs none")
}

/// mount(2), for kernels before 6.8: descriptors by their names in procfs, which have nothing to be escaped and are short
/// enough for two hundred in its one page.
fn old(
    lowers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<()> {
    let failed =
        |errno| Error::sys("cannot mount an overlay", errno).hint("--rootfs=copy needs none");
    let shown = |directory: BorrowedFd<'_>| name_of(directory).to_string_lossy().into_owned();
    let names: Vec<String> = lowers.iter().map(|lower| shown(lower.as_fd())).collect();
    let mut data = format!("index=off,redirect_dir=nofollow,lowerdir={}", names.join(":"));
    if let Some((upper, work)) = writable {
        data.push_str(&format!(",upperdir={},workdir={}", shown(upper), shown(work)));
    }
    if in_user_namespace() {
        data.push_str(",userxattr");
    }
    let target =
        fd::openat(directory, name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY, 0)
            .map_err(failed)?;
    let data = CString::new(data).map_err(|_nul| failed(Errno::EINVAL))?;
    sys::mount(c"skep", &name_of(target.as_fd()), c"overlay", 0, &data).map_err(failed)
}

/// Whether this process is in a user namespace that is not the first. user_namespaces(7): the first namespace maps every id to itself.
pub(crate) fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let fields: Vec<&str> = map.split_ascii_whitespace().collect();
        fields != ["0", "0", "4294967295"]
    })
}

#[cfg(test)]
pub(super) fn mount_as_before_6_8(
    lowers: &[OwnedFd],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<()> {
    old(lowers, writable, directory, name)
}
