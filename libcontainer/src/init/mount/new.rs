//! New file systems with fsopen(2) and its kin, and remounts.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::super::{InitChild, copy_up};
use super::{MOUNT_ROOT, MountAttributes, map_ids, old, target};
use crate::path::{self, Make};
use crate::plan::mounts::{MountOp, New, Parameter};
use crate::sync::{At, Fault, Step};
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{Attr, FsContext, Recursive, mount_setattr, move_mount, open_tree_clone};

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
) -> Result<OwnedFd, Fault> {
    let (target, existed) = target(i, op, Make::Directory, root)?;
    if old::is_needed(&new.source, &new.parameters) {
        return old::mount_new(i, op, new, (target, existed), child, root);
    }
    let context = match FsContext::open(&new.kind) {
        Err(Errno::EPERM) => return bind_instead(i, op, new, child, &target),
        other => other.at(Step::Mount, i)?,
    };
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
    if let Some(label) = child.plan.mount_label.as_ref()
        && label.is_for(&new.kind, &new.parameters)
    {
        context
            .set_string(label.option, &label.text)
            .map_err(|errno| fault(i, Step::MountLabel, errno, &context))?;
    }
    let mount = match context.mount(op.attr.set) {
        Err(Errno::EPERM) => return bind_instead(i, op, new, child, &target),
        other => other.map_err(|errno| fault(i, Step::Mount, errno, &context))?,
    };
    if new.copy_up && existed {
        copy_up::tree(target.as_fd(), mount.as_fd()).at(Step::CopyUp, i)?;
    }
    if let Some(label) = child.plan.mount_label.as_ref()
        && new.kind.as_c_str() == c"mqueue"
    {
        relabel(mount.as_fd(), &label.text).at(Step::MountLabel, i)?;
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    map_ids(i, op, child, mount.as_fd())?;
    rest.apply(mount.as_fd()).at(Step::Mount, i)?;
    move_mount(mount.as_fd(), target.as_fd()).at(Step::Mount, i)?;
    Ok(mount)
}

/// What a user namespace may not mount, because it would show a namespace of the host's, is bound from the host, whose
/// view is the same one: a /sys that is read-only as a whole, /proc, the message queues. Inside another container whose
/// own /sys is masked the kernel refuses a new one to everybody: there a read-only /sys shows that container's devices.
fn bind_instead(
    i: usize,
    op: &MountOp,
    new: &New,
    child: &InitChild<'_>,
    target: &OwnedFd,
) -> Result<OwnedFd, Fault> {
    let plan = child.plan;
    let read_only = op.attr.set & libc::MOUNT_ATTR_RDONLY;
    let (source, shown, below) = match new.kind.to_bytes() {
        b"sysfs" if read_only != 0 => (c"/sys", 0, read_only),
        b"proc" => (c"/proc", libc::CLONE_NEWPID, 0),
        b"mqueue" => (c"/dev/mqueue", libc::CLONE_NEWIPC, 0),
        _ => return Err(Fault::new(Step::Mount, i, Errno::EPERM)),
    };
    let denied = Fault::new(Step::Mount, i, Errno::EPERM);
    let nested = child.user_namespace || is_in_user_namespace(child.proc.as_fd());
    if !nested || plan.namespaces.has(shown) {
        return Err(denied);
    }
    let Ok(tree) = open_tree_clone(CWD, source, Recursive::Yes, true) else { return Err(denied) };
    let whole = Attr { set: below, clear: 0, propagation: libc::MS_SLAVE };
    mount_setattr(tree.as_fd(), Recursive::Yes, whole).at(Step::Mount, i)?;
    if op.attr.set != 0 {
        let own = Attr { set: op.attr.set, ..Attr::default() };
        mount_setattr(tree.as_fd(), Recursive::No, own).at(Step::Mount, i)?;
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    rest.apply(tree.as_fd()).at(Step::Mount, i)?;
    move_mount(tree.as_fd(), target.as_fd()).at(Step::Mount, i)?;
    Ok(tree)
}

/// Whether this process, and then the runtime, is in a user namespace that is not the first.
fn is_in_user_namespace(proc: BorrowedFd<'_>) -> bool {
    let map = fd::openat(proc, c"self/uid_map", libc::O_RDONLY, 0);
    let map = map.and_then(|map| fd::read_all(&map, 1 << 16)).unwrap_or_default();
    let words = map.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    !words.eq([b"0".as_slice(), b"0", b"4294967295"])
}

/// Labels the root of a file system that takes no label when it is mounted.
fn relabel(mount: BorrowedFd<'_>, label: &CStr) -> Result<(), Errno> {
    let root = fd::openat(mount, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    fd::set_attribute(root.as_fd(), c"security.selinux", label.to_bytes())
}

/// fsconfig(2) has no such words; both are hints to the file system.
pub(super) fn is_iversion(key: &CStr) -> bool {
    key == c"iversion" || key == c"noiversion"
}

pub(super) fn remount(
    i: usize,
    op: &MountOp,
    parameters: &[Parameter],
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let target = path::open(root, &op.target).at(Step::MountTarget, i)?;
    if fd::stat(target.as_fd(), c"").at(Step::MountTarget, i)?.attributes & MOUNT_ROOT == 0 {
        return Err(Fault::new(Step::Mount, i, Errno::EINVAL));
    }
    if old::is_needed(c"", parameters) {
        old::remount(&target, parameters, child.proc.as_fd()).at(Step::Mount, i)?;
    } else if !parameters.is_empty() {
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
