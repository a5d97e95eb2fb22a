//! The container's view of its own cgroups.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::super::rootfs::empty_directory;
use super::super::{InitChild, V2Directory};
use super::{MountAttributes, target};
use crate::cgroup::V1View;
use crate::path::Make;
use crate::plan::MountLabel;
use crate::plan::mounts::MountOp;
use crate::sync::{At, Fault, Step};
use crate::sys::fd::CWD;
use crate::sys::mount::{
    Attr, FsContext, Recursive, mount_setattr, move_mount, move_mount_to, open_tree_clone,
};

/// cgroup-v1: a tmpfs with a directory per hierarchy, each the container's own part of it.
pub(super) fn mount_v1(
    i: usize,
    op: &MountOp,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let (target, _) = target(i, op, Make::Directory, root)?;
    if let Some(made) = &child.v1_view {
        move_mount(made.as_fd(), target.as_fd()).at(Step::Mount, i)?;
        return finish_v1(op, made.as_fd()).at(Step::Mount, i);
    }
    let tmpfs = tmpfs_for_v1(i, op, child.plan.mount_label.as_ref())?;
    move_mount(tmpfs.as_fd(), target.as_fd()).at(Step::Mount, i)?;
    let own_namespace = child.plan.namespaces.has(libc::CLONE_NEWCGROUP);
    for view in &child.v1_views {
        mount_view(op, view, tmpfs.as_fd(), own_namespace).at(Step::Mount, i)?;
    }
    finish_v1(op, tmpfs.as_fd()).at(Step::Mount, i)
}

/// The same by the parent, mounted nowhere; `None` where that cannot be. The container's own part of a hierarchy is the same
/// seen from outside of its cgroup namespace.
pub(crate) fn view_of_v1(
    op: &MountOp,
    label: Option<&MountLabel>,
    views: &[V1View],
) -> Option<OwnedFd> {
    let tmpfs = tmpfs_for_v1(0, op, label).ok()?;
    for view in views {
        mount_view(op, view, tmpfs.as_fd(), false).ok()?;
    }
    Some(tmpfs)
}

fn tmpfs_for_v1(i: usize, op: &MountOp, label: Option<&MountLabel>) -> Result<OwnedFd, Fault> {
    let context = FsContext::open(c"tmpfs").at(Step::Mount, i)?;
    context.set_string(c"source", c"cgroup").at(Step::MountOption, i)?;
    context.set_string(c"mode", c"755").at(Step::MountOption, i)?;
    if let Some(label) = label {
        context.set_string(label.option, &label.text).at(Step::MountLabel, i)?;
    }
    context.mount(op.attr.set & !libc::MOUNT_ATTR_RDONLY).at(Step::Mount, i)
}

/// Once it is mounted: the views and what they lie in alike, in one call.
fn finish_v1(op: &MountOp, tmpfs: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = Attr { propagation: libc::MS_PRIVATE, ..op.attr };
    mount_setattr(tmpfs, Recursive::Yes, attr)?;
    MountAttributes { below: op.below, propagation: &op.propagation }.apply(tmpfs)
}

fn mount_view(
    op: &MountOp,
    view: &V1View,
    tmpfs: BorrowedFd<'_>,
    own_namespace: bool,
) -> Result<(), Errno> {
    let name = CString::new(view.directory.as_str()).map_err(|_nul| Errno::EINVAL)?;
    nix::sys::stat::mkdirat(
        tmpfs,
        name.as_c_str(),
        nix::sys::stat::Mode::from_bits_truncate(0o755),
    )?;
    let mount = if own_namespace {
        let context = FsContext::open(c"cgroup")?;
        context.set_string(c"source", c"cgroup")?;
        for option in view.options.split(',') {
            set_option(&context, option)?;
        }
        context.mount(op.attr.set)?
    } else {
        let source = view.source.as_os_str().as_encoded_bytes();
        let source = CString::new(source).map_err(|_nul| Errno::EINVAL)?;
        open_tree_clone(CWD, &source, Recursive::No, false)?
    };
    move_mount_to(mount.as_fd(), tmpfs, &name)?;
    for link in &view.links {
        nix::unistd::symlinkat(view.directory.as_str(), tmpfs, link.as_str())?;
    }
    Ok(())
}

fn set_option(context: &FsContext, option: &str) -> Result<(), Errno> {
    let text = |text: &str| CString::new(text).map_err(|_nul| Errno::EINVAL);
    match option.split_once('=') {
        Some((key, value)) => context.set_string(&text(key)?, &text(value)?),
        None => context.set_flag(&text(option)?),
    }
}

/// cgroup2; where the namespace may not mount it, a bind of the container's own cgroup.
pub(super) fn mount_v2(
    i: usize,
    op: &MountOp,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let (target, _) = target(i, op, Make::Directory, root)?;
    let mount = match new_cgroup2(op) {
        Err(Errno::EPERM | Errno::EBUSY) => match &child.v2_directory {
            // Without a cgroup of its own there is nothing to show, and not to show the host's is what matters
            // (CVE-2023-25809).
            Some(directory) => match bind_cgroup2(op, directory) {
                Err(Errno::ENOENT) => empty_directory(child.plan.mount_label.as_ref()),
                other => other,
            },
            None => Err(Errno::EPERM),
        },
        other => other,
    }
    .at(Step::Mount, i)?;
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    rest.apply(mount.as_fd()).at(Step::Mount, i)?;
    move_mount(mount.as_fd(), target.as_fd()).at(Step::Mount, i)
}

fn new_cgroup2(op: &MountOp) -> Result<OwnedFd, Errno> {
    let context = FsContext::open(c"cgroup2")?;
    context.set_string(c"source", c"cgroup")?;
    // As systemd mounts it on the host: a new mount resets the hierarchy's options to what it asks for.
    let _unknown_before_5_2 = context.set_flag(c"nsdelegate");
    let _unknown_before_5_7 = context.set_flag(c"memory_recursiveprot");
    context.mount(op.attr.set)
}

fn bind_cgroup2(op: &MountOp, directory: &V2Directory) -> Result<OwnedFd, Errno> {
    let tree = open_tree_clone(CWD, &directory.path, Recursive::No, false)?;
    let mut attr = Attr { propagation: libc::MS_PRIVATE, ..op.attr };
    if directory.shared {
        attr.set |= libc::MOUNT_ATTR_RDONLY;
        attr.clear &= !libc::MOUNT_ATTR_RDONLY;
    }
    mount_setattr(tree.as_fd(), Recursive::No, attr)?;
    Ok(tree)
}
