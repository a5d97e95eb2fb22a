//! Owners and extended attributes: what of them a tree may have, and how files get and lose it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libcontainer::sys::fd::{openat, openat2};
use libcontainer::sys::xattr;
use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, fchown};

use super::archive::Time;
use super::{Format, Options, Owners};
use crate::error::{Error, Result};

const CAPABILITY: &[u8] = b"security.capability";

/// Owner and group that are given to an entry; `None` leaves them to be the caller's.
pub(super) fn owner(options: &Options<'_>, uid: i64, gid: i64) -> Result<Option<(u32, u32)>> {
    let (uid, gid) = (id(uid, "uid")?, id(gid, "gid")?);
    match &options.owners {
        Owners::Raw => Ok(Some((uid, gid))),
        Owners::Single => Ok(None),
        Owners::Mapped { uids, gids, squash } => Ok(Some((
            uids.map(uid).or(squash.map(|both| both.0)).ok_or_else(|| unmapped("uid", uid))?,
            gids.map(gid).or(squash.map(|both| both.1)).ok_or_else(|| unmapped("gid", gid))?,
        ))),
    }
}

/// An id as the kernel takes it.
pub(super) fn id(id: i64, name: &str) -> Result<u32> {
    // -1 is "leave it" to chown(2).
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or_else(|| {
        Error::verification(format!("its {name} {id} is none: they are from 0 to 4294967294"))
    })
}

fn unmapped(name: &str, id: u32) -> Error {
    Error::unsupported(format!("its {name} {id} is in no range of the id mapping"))
        .hint("map more ids, or give what is not mapped to nobody: unpack --squash-unmapped")
}

/// The attributes to set, in this order; `dropped` is told the reason for each that is not.
pub(super) fn of(
    entry: &[(Vec<u8>, Vec<u8>)],
    options: &Options<'_>,
    dropped: &mut dyn FnMut(&[u8], &str),
) -> Result<Vec<(CString, Vec<u8>)>> {
    let mut kept = Vec::new();
    for (name, value) in entry {
        if value.len() > options.limits.xattr_value {
            return Err(Error::no_space(format!(
                "its extended attribute {} of {} bytes is larger than the limit of {}",
                name.escape_ascii(),
                value.len(),
                options.limits.xattr_value
            )));
        }
        match one(name, value, options)? {
            Ok((name, value)) => {
                let name = CString::new(name)
                    .map_err(|_nul| Error::verification("a NUL in an attribute's name"))?;
                kept.push((name, value));
            }
            Err(reason) => dropped(name, reason),
        }
    }
    // Other attributes and chown clear it.
    kept.sort_by_key(|(name, _)| name.to_bytes() == CAPABILITY);
    Ok(kept)
}

/// Takes the access control lists from a new file that it has inherited from its directory.
pub(super) fn disinherit(file: BorrowedFd<'_>) -> Result<(), Errno> {
    LISTS.iter().try_for_each(|name| without(xattr::remove(file, name)))
}

/// The same, of what cannot be opened: `base` in `parent`.
pub(super) fn disinherit_at(parent: BorrowedFd<'_>, base: &CStr) -> Result<(), Errno> {
    LISTS.iter().try_for_each(|name| without(xattr::remove_at(parent, base, name)))
}

/// From a new directory too; with it the setgid bit of the one it is in, and its group for the caller's, `gid`.
pub(super) fn disinherit_directory(directory: BorrowedFd<'_>, gid: u32) -> Result<(), Errno> {
    let directory = openat(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    disinherit(directory.as_fd())?;
    let stat = fstat(&directory)?;
    if stat.st_gid != gid {
        fchown(&directory, None, Some(Gid::from_raw(gid)))?;
    }
    if stat.st_mode & 0o7777 != 0o700 {
        fchmod(&directory, Mode::S_IRWXU)?;
    }
    Ok(())
}

const LISTS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

fn without(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// By a descriptor of the node itself: fchmodat(2) follows symlinks, and cannot be told not to before Linux 6.6.
pub(super) fn chmod_at(parent: BorrowedFd<'_>, base: &CStr, mode: u32) -> Result<(), Errno> {
    let handle: OwnedFd =
        openat2(parent, base, libc::O_PATH | libc::O_NOFOLLOW, 0, libc::RESOLVE_BENEATH)?;
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(nix::fcntl::AT_FDCWD, &*link, mode, FchmodatFlags::FollowSymlink)
}

pub(super) fn spec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, time.nanoseconds)
}

type Verdict = Result<(Vec<u8>, Vec<u8>), &'static str>;

fn one(name: &[u8], value: &[u8], options: &Options<'_>) -> Result<Verdict> {
    if name.len() > 255 {
        return Err(Error::no_space("the name of an extended attribute is longer than 255 bytes"));
    }
    for namespace in [b"trusted.overlay.".as_slice(), b"user.overlay."] {
        if let Some(rest) = name.strip_prefix(namespace) {
            // It would speak to the overlay the tree becomes a part of. Since Linux 6.7 overlayfs shows the escaped
            // name as the plain one.
            return Ok(match options.format {
                Format::Plain => Err("is the overlay file system's own"),
                Format::Overlay { .. }
                    if namespace.starts_with(b"trusted.") && !privileged(options) =>
                {
                    Err("is for root alone")
                }
                Format::Overlay { .. } => {
                    Ok(([namespace, b"overlay.", rest].concat(), value.to_vec()))
                }
            });
        }
    }
    if name == CAPABILITY {
        return Ok(match &options.owners {
            Owners::Single => Err("needs root or subordinate ids"),
            Owners::Raw => Ok((name.to_vec(), value.to_vec())),
            Owners::Mapped { uids, .. } => match uids.map(0) {
                Some(root) => Ok((name.to_vec(), capability(value, root)?)),
                None => Err("needs root to be mapped"),
            },
        });
    }
    if name.starts_with(b"user.") {
        return Ok(Ok((name.to_vec(), value.to_vec())));
    }
    if matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default") {
        return match &options.owners {
            Owners::Single => Ok(Err("names users that are not mapped")),
            Owners::Raw | Owners::Mapped { .. } => Ok(Ok((name.to_vec(), acl(value, options)?))),
        };
    }
    if name.starts_with(b"trusted.") && options.trusted_xattrs && privileged(options) {
        return Ok(Ok((name.to_vec(), value.to_vec())));
    }
    // selinux, apparmor, SMACK64, ima, evm, nfs4_acl: what they mean is for this host to say.
    Ok(Err("belongs to the host"))
}

fn privileged(options: &Options<'_>) -> bool {
    !matches!(options.owners, Owners::Single)
}

/// File capabilities of version 2, as version 3: those of the user namespace whose root is `root` (capabilities(7)).
fn capability(value: &[u8], root: u32) -> Result<Vec<u8>> {
    const FLAG_EFFECTIVE: u32 = 1;
    let broken = || Error::verification("its security.capability is no file capability");
    let magic = value.first_chunk().map(|magic| u32::from_le_bytes(*magic)).ok_or_else(broken)?;
    let sets = value.get(4..20).ok_or_else(broken)?;
    if !matches!((magic >> 24, value.len()), (2, 20) | (3, 24)) {
        return Err(broken());
    }
    let magic = 3 << 24 | (magic & FLAG_EFFECTIVE);
    Ok([&magic.to_le_bytes(), sets, &root.to_le_bytes()].concat())
}

/// An access control list, its ids mapped (include/uapi/linux/posix_acl_xattr.h).
fn acl(value: &[u8], options: &Options<'_>) -> Result<Vec<u8>> {
    const USER: [u8; 2] = [2, 0];
    const GROUP: [u8; 2] = [8, 0];
    let Owners::Mapped { .. } = &options.owners else { return Ok(value.to_vec()) };
    let broken = || Error::verification("its POSIX access control list is none");
    let (version, entries) = value.split_first_chunk::<4>().ok_or_else(broken)?;
    let (entries, rest) = entries.as_chunks::<8>();
    if *version != [2, 0, 0, 0] || !rest.is_empty() {
        return Err(broken());
    }
    let mut out = version.to_vec();
    for &[t0, t1, p0, p1, id @ ..] in entries {
        let mut id = u32::from_le_bytes(id);
        if [t0, t1] == USER {
            id = owner(options, id.into(), 0)?.map_or(id, |both| both.0);
        } else if [t0, t1] == GROUP {
            id = owner(options, 0, id.into())?.map_or(id, |both| both.1);
        }
        out.extend_from_slice(&[t0, t1, p0, p1]);
        out.extend_from_slice(&id.to_le_bytes());
    }
    Ok(out)
}
