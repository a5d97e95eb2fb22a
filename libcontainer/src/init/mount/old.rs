//! mount(2), for what fsconfig(2) cannot say: strings of more than 255 bytes, and the flag it has no word for.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::super::{InitChild, copy_up};
use super::{MOUNT_ROOT, MountAttributes, present_attributes, target};
use crate::path::{self, Make};
use crate::plan::mounts::{MountOp, New, Parameter};
use crate::sync::{At, Fault, Step};
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{self, Attr, FSCONFIG_MAX, Recursive, mount_setattr};

/// Whether a mount with these cannot be made the new way.
pub(super) fn is_needed(source: &CStr, parameters: &[Parameter]) -> bool {
    let long = |text: &CStr| text.count_bytes() > FSCONFIG_MAX;
    long(source)
        || parameters.iter().any(|(key, value)| {
            long(key) || value.as_deref().is_some_and(long) || key.as_c_str() == c"iversion"
        })
}

/// The flag of mount(2) for an option that is not data; 0 for the default that it undoes.
fn old_flag(key: &CStr) -> Option<libc::c_ulong> {
    match key.to_bytes() {
        b"ro" => Some(libc::MS_RDONLY),
        b"sync" => Some(libc::MS_SYNCHRONOUS),
        b"dirsync" => Some(libc::MS_DIRSYNC),
        b"lazytime" => Some(libc::MS_LAZYTIME),
        b"iversion" => Some(libc::MS_I_VERSION),
        b"async" | b"nolazytime" | b"noiversion" => Some(0),
        _ => None,
    }
}

/// Mounts with mount(2).
pub(super) fn mount_new(
    i: usize,
    op: &MountOp,
    new: &New,
    (covered, existed): (OwnedFd, bool),
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<OwnedFd, Fault> {
    if op.idmap.is_some() {
        // Ids are mapped before a mount is attached, and this call attaches at once.
        return Err(Fault::new(Step::MountIds, i, Errno::EOPNOTSUPP));
    }
    let (flags, mut data) = flags_and_data(&new.parameters);
    if let Some(label) = child.plan.mount_label.as_ref()
        && label.is_for(&new.kind, &new.parameters)
    {
        data.push([label.option.to_bytes(), b"=\"", label.text.to_bytes(), b"\""].concat());
    }
    if new.inherit_mode && existed {
        let mode = fd::stat(covered.as_fd(), c"").at(Step::MountTarget, i)?.mode & 0o7777;
        data.push(format!("mode={mode:o}").into_bytes());
    }
    let data = CString::new(data.join(&b","[..])).unwrap_or_default();
    let call = Call { source: &new.source, kind: &new.kind, flags, data: &data };
    call.on(&covered, child.proc.as_fd()).at(Step::Mount, i)?;
    // Found as before, only that the new mount is on top of it now.
    let mount = if op.target.is_empty() {
        on_top_of(root).at(Step::MountTarget, i)?
    } else {
        target(i, op, Make::Directory, root)?.0
    };
    let stat = fd::stat(mount.as_fd(), c"").at(Step::Mount, i)?;
    let before = fd::stat(covered.as_fd(), c"").at(Step::Mount, i)?.mount;
    if stat.attributes & MOUNT_ROOT == 0 || stat.mount == before {
        return Err(Fault::new(Step::Mount, i, Errno::ESTALE));
    }
    if new.copy_up && existed {
        copy_up::tree(covered.as_fd(), mount.as_fd()).at(Step::CopyUp, i)?;
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    rest.apply(mount.as_fd()).at(Step::Mount, i)?;
    let attr = Attr { set: op.attr.set, clear: op.attr.clear, propagation: 0 };
    if !attr.is_empty() {
        mount_setattr(mount.as_fd(), Recursive::No, attr).at(Step::Mount, i)?;
    }
    Ok(mount)
}

/// What is mounted on `root`: `.` is what the descriptor is on, whatever covers it, but `..`, which leads no higher than
/// the root of the walk, goes on to what is mounted there.
fn on_top_of(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    fd::openat2(root, c"..", libc::O_PATH | libc::O_DIRECTORY, 0, path::IN_ROOT)
}

/// Options that are flags of the call, and those that the file system reads.
fn flags_and_data(parameters: &[Parameter]) -> (libc::c_ulong, Vec<Vec<u8>>) {
    let mut flags = 0;
    let mut data = Vec::with_capacity(parameters.len());
    for (key, value) in parameters {
        match (value, old_flag(key)) {
            (None, Some(flag)) => flags |= flag,
            (None, None) => data.push(key.to_bytes().to_vec()),
            // The comma ends an option, and SELinux's contexts have commas.
            (Some(value), _) if value.to_bytes().contains(&b',') => {
                data.push([key.to_bytes(), b"=\"", value.to_bytes(), b"\""].concat());
            }
            (Some(value), _) => data.push([key.to_bytes(), b"=", value.to_bytes()].concat()),
        }
    }
    (flags, data)
}

/// Changes the options of the file system mounted at `target`; the mount keeps its attributes.
pub(super) fn remount(
    target: &OwnedFd,
    parameters: &[Parameter],
    proc: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let (flags, data) = flags_and_data(parameters);
    let data = CString::new(data.join(&b","[..])).unwrap_or_default();
    let flags = flags | libc::MS_REMOUNT | present_flags(target)?;
    Call { source: c"none", kind: c"none", flags, data: &data }.on(target, proc)
}

/// The attributes of a mount as mount(2) has them. Access times stay as they are where none is given.
fn present_flags(mount: &OwnedFd) -> Result<libc::c_ulong, Errno> {
    let present = present_attributes(mount.as_fd())?;
    let pairs = [
        (libc::MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
        (libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (libc::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, libc::MS_NOSYMFOLLOW),
    ];
    Ok(pairs
        .iter()
        .filter(|(seen, _)| present & seen != 0)
        .fold(0, |flags, (_, flag)| flags | flag))
}

/// The arguments of one mount(2).
struct Call<'a> {
    source: &'a CStr,
    kind: &'a CStr,
    flags: libc::c_ulong,
    data: &'a CStr,
}

impl Call<'_> {
    fn on(&self, target: &OwnedFd, proc: BorrowedFd<'_>) -> Result<(), Errno> {
        by_name(target, proc, |name| {
            mount::mount(self.source, name, self.kind, self.flags, self.data)
        })
    }
}

/// Detaches the mount that `mount` is the root of, with all below it.
pub(in super::super) fn unmount(mount: &OwnedFd, proc: BorrowedFd<'_>) -> Result<(), Errno> {
    by_name(mount, proc, |name| nix::mount::umount2(name, nix::mount::MntFlags::MNT_DETACH))
}

/// Makes a call that takes a path only on a descriptor, by its name in the trusted procfs.
fn by_name(
    target: &OwnedFd,
    proc: BorrowedFd<'_>,
    call: impl FnOnce(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let text = |name: String| CString::new(name).map_err(|_nul| Errno::EINVAL);
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    let own = fd::openat2(proc, c"self/fd", libc::O_PATH | libc::O_DIRECTORY, 0, resolve)?;
    let number = target.as_raw_fd();
    if is_at(c"/proc/self/fd", own.as_fd()) {
        // The current directory stays what it is: a lowerdir may be relative to it.
        return call(&text(format!("/proc/self/fd/{number}"))?);
    }
    let before = fd::openat(CWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    nix::unistd::fchdir(&own)?;
    let called = call(&text(number.to_string())?);
    nix::unistd::fchdir(&before)?;
    called
}

/// Whether `path` leads to the directory `expected`.
fn is_at(path: &CStr, expected: BorrowedFd<'_>) -> bool {
    let found = fd::stat_follow(CWD, path);
    let expected = fd::stat(expected, c"");
    matches!((found, expected), (Ok(a), Ok(b)) if (a.dev, a.ino) == (b.dev, b.ino))
}
