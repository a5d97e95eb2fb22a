//! New file systems: fsopen(2) and its kin, mount(2) for what they cannot say, and remounts.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::super::{InitChild, copy_up};
use super::{MountAttributes, map_ids, target};
use crate::path::{self, Make};
use crate::plan::mounts::{MountOp, New};
use crate::sync::{At, Fault, Step};
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{
    self, Attr, FSCONFIG_MAX, FsContext, Recursive, mount_setattr, move_mount,
};

/// A failure, with the kernel's own words where it left some.
fn fault(i: usize, step: Step, errno: Errno, context: &FsContext) -> Fault {
    let mut words = [0; 256];
    let length = context.message(&mut words);
    let words = words.get(..length).unwrap_or_default();
    // Its first letter is the class of the message: error, warning, information.
    let words = match words {
        [b'e' | b'w' | b'i', b' ', words @ ..] => words,
        words => words,
    };
    Fault::new(step, i, errno).detail(words)
}

pub(super) fn mount_new(
    i: usize,
    op: &MountOp,
    new: &New,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let (target, existed) = target(i, op, Make::Directory, root)?;
    if needs_old_call(new) {
        return mount_old(i, op, new, (target, existed), child.proc.as_fd(), root);
    }
    let context = FsContext::open(&new.kind).at(Step::Mount, i)?;
    let option = |errno| fault(i, Step::MountOption, errno, &context);
    context.set_string(c"source", &new.source).map_err(option)?;
    if new.inherit_mode && existed {
        let mode = fd::stat(target.as_fd(), c"").at(Step::MountTarget, i)?.mode & 0o7777;
        let mode = CString::new(format!("{mode:o}")).unwrap_or_default();
        context.set_string(c"mode", &mode).map_err(option)?;
    }
    for (key, value) in new.parameters.iter().filter(|(key, _)| !is_iversion(key)) {
        match value {
            Some(value) => context.set_string(key, value),
            None => context.set_flag(key),
        }
        .map_err(option)?;
    }
    let copies = new.copy_up && existed;
    // What is copied into it has to be written.
    let first = if copies { op.attr.set & !libc::MOUNT_ATTR_RDONLY } else { op.attr.set };
    let mount = context.mount(first).map_err(|errno| fault(i, Step::Mount, errno, &context))?;
    if copies {
        copy_up::tree(target.as_fd(), mount.as_fd()).at(Step::CopyUp, i)?;
        let attr = Attr { set: op.attr.set & libc::MOUNT_ATTR_RDONLY, ..Attr::default() };
        if !attr.is_empty() {
            mount_setattr(mount.as_fd(), Recursive::No, attr).at(Step::CopyUp, i)?;
        }
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    map_ids(i, op, child, mount.as_fd())?;
    rest.apply(mount.as_fd()).at(Step::Mount, i)?;
    move_mount(mount.as_fd(), target.as_fd()).at(Step::Mount, i)
}

/// Whether mount(2) can say what fsconfig(2) cannot: a long overlay, and the flag it has no word for.
fn needs_old_call(new: &New) -> bool {
    let long = |text: &CStr| text.count_bytes() > FSCONFIG_MAX;
    long(&new.source)
        || new.parameters.iter().any(|(key, value)| {
            long(key) || value.as_deref().is_some_and(long) || key.as_c_str() == c"iversion"
        })
}

/// fsconfig(2) has no such words; both are hints to the file system.
fn is_iversion(key: &CStr) -> bool {
    key == c"iversion" || key == c"noiversion"
}

/// The flag of mount(2) for an option that is not data; 0 for the default that it undoes.
fn old_flag(key: &CStr) -> Option<libc::c_ulong> {
    match key.to_bytes() {
        b"sync" => Some(libc::MS_SYNCHRONOUS),
        b"dirsync" => Some(libc::MS_DIRSYNC),
        b"lazytime" => Some(libc::MS_LAZYTIME),
        b"iversion" => Some(libc::MS_I_VERSION),
        b"async" | b"nolazytime" | b"noiversion" => Some(0),
        _ => None,
    }
}

/// Mounts with mount(2), on the directory of this process's descriptors in the trusted procfs.
fn mount_old(
    i: usize,
    op: &MountOp,
    new: &New,
    (covered, existed): (OwnedFd, bool),
    proc: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let mut flags = 0;
    let mut data: Vec<Vec<u8>> = Vec::new();
    if new.inherit_mode && existed {
        let mode = fd::stat(covered.as_fd(), c"").at(Step::MountTarget, i)?.mode & 0o7777;
        data.push(format!("mode={mode:o}").into_bytes());
    }
    for (key, value) in &new.parameters {
        match (value, old_flag(key)) {
            (None, Some(flag)) => flags |= flag,
            (None, None) => data.push(key.to_bytes().to_vec()),
            (Some(value), _) => data.push([key.to_bytes(), b"=", value.to_bytes()].concat()),
        }
    }
    let data = CString::new(data.join(&b","[..])).unwrap_or_default();
    mount_on(&covered, new, flags, &data, proc).at(Step::Mount, i)?;
    // Found as before, only that the new mount is on top of it now.
    let (mount, _) = target(i, op, Make::Directory, root)?;
    if fd::stat(mount.as_fd(), c"").at(Step::Mount, i)?.attributes & MOUNT_ROOT == 0 {
        return Err(Fault::new(Step::Mount, i, Errno::ESTALE));
    }
    if new.copy_up && existed {
        copy_up::tree(covered.as_fd(), mount.as_fd()).at(Step::CopyUp, i)?;
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    rest.apply(mount.as_fd()).at(Step::Mount, i)?;
    let attr = Attr { set: op.attr.set, clear: op.attr.clear, propagation: 0 };
    if attr.is_empty() {
        return Ok(());
    }
    mount_setattr(mount.as_fd(), Recursive::No, attr).at(Step::Mount, i)
}

/// `STATX_ATTR_MOUNT_ROOT`.
const MOUNT_ROOT: u64 = 0x2000;

fn mount_on(
    target: &OwnedFd,
    new: &New,
    flags: libc::c_ulong,
    data: &CStr,
    proc: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let name = CString::new(target.as_raw_fd().to_string()).map_err(|_nul| Errno::EINVAL)?;
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    let own = fd::openat2(proc, c"self/fd", libc::O_PATH | libc::O_DIRECTORY, 0, resolve)?;
    let before = fd::openat(CWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    nix::unistd::fchdir(&own)?;
    let mounted = mount::mount(&new.source, &name, &new.kind, flags, data);
    nix::unistd::fchdir(&before)?;
    mounted
}
pub(super) fn remount(
    i: usize,
    op: &MountOp,
    parameters: &[(CString, Option<CString>)],
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let target = path::open(root, &op.target).at(Step::MountTarget, i)?;
    if !parameters.is_empty() {
        let context = FsContext::pick(target.as_fd()).at(Step::Mount, i)?;
        for (key, value) in parameters.iter().filter(|(key, _)| !is_iversion(key)) {
            match value {
                Some(value) => context.set_string(key, value),
                None => context.set_flag(key),
            }
            .map_err(|errno| fault(i, Step::MountOption, errno, &context))?;
        }
        context.reconfigure().map_err(|errno| fault(i, Step::Mount, errno, &context))?;
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    rest.apply(target.as_fd()).at(Step::Mount, i)?;
    if op.attr.is_empty() {
        return Ok(());
    }
    mount_setattr(target.as_fd(), Recursive::No, op.attr).at(Step::Mount, i)
}
