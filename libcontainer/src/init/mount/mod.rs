//! Carrying out one [`MountOp`] after the other, descriptor to descriptor.

mod cgroup;
mod new;
mod old;

pub(crate) use cgroup::view_of_v1;
pub(super) use old::unmount;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;

use super::{InitChild, prepare};
use crate::path::{self, Make};
use crate::plan::Plan;
use crate::plan::mounts::{Action, Bind, Found, MountOp, allowed_below_proc};
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{Attr, Recursive, mount_idmap, mount_setattr, move_mount, open_tree_clone};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// `STATX_ATTR_MOUNT_ROOT`.
pub(super) const MOUNT_ROOT: u64 = 0x2000;

/// Clones the tree of a bind mount's source: the parent before the clone where the child could not, else the child.
pub(crate) fn clone_bind(bind: &Bind, over_proc: bool) -> Result<Found, Errno> {
    let tree = open_tree_clone(CWD, &bind.source, bind.recursive, bind.nofollow)?;
    found(bind, tree, over_proc)
}

/// The same for a source in the container's root, with the mounts made there so far.
fn clone_inside(
    bind: &Bind,
    inside: &CStr,
    over_proc: bool,
    root: BorrowedFd<'_>,
) -> Result<Found, Errno> {
    let nofollow = if bind.nofollow { libc::O_NOFOLLOW } else { 0 };
    let source = path::open_with(root, inside, libc::O_PATH | nofollow)?;
    let tree = open_tree_clone(source.as_fd(), c"", bind.recursive, false)?;
    found(bind, tree, over_proc)
}

fn found(bind: &Bind, tree: OwnedFd, over_proc: bool) -> Result<Found, Errno> {
    // CVE-2019-16884: a directory that only looks like procfs would answer for the kernel.
    if over_proc && fd::fs_magic(tree.as_fd())? != PROC_SUPER_MAGIC {
        return Err(Errno::EMEDIUMTYPE);
    }
    let stat = fd::stat(tree.as_fd(), c"")?;
    if bind.copy_symlink && stat.is(libc::S_IFLNK) {
        let text = nix::fcntl::readlinkat(&tree, c"")?.into_vec();
        return CString::new(text).map(Found::Link).map_err(|_nul| Errno::EINVAL);
    }
    Ok(Found::Tree { tree, directory: stat.is(libc::S_IFDIR) })
}
/// Clones the tree of the root filesystem, with its propagation.
pub(crate) fn clone_root(plan: &Plan) -> Result<OwnedFd, Errno> {
    let tree = open_tree_clone(CWD, &plan.root.path, Recursive::Yes, false)?;
    if !fd::stat(tree.as_fd(), c"")?.is(libc::S_IFDIR) {
        return Err(Errno::ENOTDIR);
    }
    let (flag, recursive) = match plan.root.propagation {
        // Stays what it is on the host but cannot be pivoted into: see rootfs::enter.
        (libc::MS_SHARED, _) => (libc::MS_SLAVE, Recursive::Yes),
        other => other,
    };
    mount_setattr(tree.as_fd(), recursive, Attr { propagation: flag, ..Attr::default() })?;
    Ok(tree)
}

/// Gives the clone of a bind mount's source its attributes and its propagation; in a user namespace, as far as that
/// could itself.
pub(crate) fn attach_attributes(
    op: &MountOp,
    mount: BorrowedFd<'_>,
    user_namespace: bool,
) -> Result<(), Errno> {
    let Action::Bind(bind) = &op.action else { return Err(Errno::EINVAL) };
    let mut attr = op.attr;
    if user_namespace && !attr.is_empty() {
        attr = unlocked(op, mount)?;
    }
    // A clone is a peer of the host's mount until it is told otherwise: nothing mounted inside may reach the host unless
    // config.json says so.
    let (&(flag, recursive), others) =
        op.propagation.split_first().unwrap_or((&(libc::MS_SLAVE, Recursive::Yes), &[]));
    // One call for both, where both mean the same mounts.
    if (recursive == Recursive::No || bind.recursive == Recursive::No) && !attr.is_empty() {
        attr.propagation = flag;
    } else {
        mount_setattr(mount, recursive, Attr { propagation: flag, ..Attr::default() })?;
    }
    if !attr.is_empty() {
        mount_setattr(mount, Recursive::No, attr)?;
    }
    for (flag, recursive) in others {
        mount_setattr(mount, *recursive, Attr { propagation: *flag, ..Attr::default() })?;
    }
    if !op.below.is_empty() {
        mount_setattr(mount, Recursive::Yes, op.below)?;
    }
    Ok(())
}

/// The attributes of `op` on a mount whose own are locked, as they are for a user namespace: what is set stays set
/// unless an option clears it by name, and access times stay as they are; either is an error then.
///
/// The runtime has the right to clear them, but the container's root has not, and does not get it by asking the runtime.
fn unlocked(op: &MountOp, mount: BorrowedFd<'_>) -> Result<Attr, Errno> {
    const ATIME: u64 = libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
    const LOCKED: u64 = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let present = present_attributes(mount)?;
    let chooses_atime = op.attr.clear & libc::MOUNT_ATTR__ATIME != 0;
    if present & LOCKED & op.cleared != 0
        || (chooses_atime && present & ATIME != op.attr.set & ATIME)
    {
        return Err(Errno::EPERM);
    }
    Ok(Attr { clear: op.attr.clear & !(present & LOCKED), ..op.attr })
}

/// The attributes a mount has (statfs(2)).
fn present_attributes(mount: BorrowedFd<'_>) -> Result<u64, Errno> {
    const ST_NOSYMFOLLOW: libc::c_ulong = 0x2000;
    let shown = fd::mount_flags(mount)?;
    let pairs = [
        (libc::ST_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::ST_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::ST_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::ST_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (libc::ST_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (ST_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let found = pairs.iter().filter(|(seen, _)| shown & seen != 0);
    let found = found.fold(0, |all, (_, attribute)| all | attribute);
    Ok(found
        | if shown & libc::ST_NOATIME != 0 {
            libc::MOUNT_ATTR_NOATIME
        } else if shown & ST_RELATIME != 0 {
            libc::MOUNT_ATTR_RELATIME
        } else {
            libc::MOUNT_ATTR_STRICTATIME
        })
}

/// `ST_RELATIME`; libc has it for some targets only.
const ST_RELATIME: libc::c_ulong = 4096;

/// A mount that is to be read-only once all is in place.
#[derive(Debug)]
pub(super) struct Unsealed {
    index: usize,
    mount: OwnedFd,
}

/// Makes all mounts, but for one that [`last`] is to make; returns those to seal. `root` is another one where a mount
/// covers it.
pub(super) fn all(child: &mut InitChild<'_>, root: &mut OwnedFd) -> Result<Vec<Unsealed>, Fault> {
    let plan = child.plan;
    let mut unsealed = Vec::new();
    for (i, op) in plan.mounts.iter().enumerate() {
        if matches!(op.action, Action::CgroupV1 | Action::CgroupV2) {
            if child.awaits_cgroups() && plan.is_made_last(op) {
                continue;
            }
            prepare::join_awaited_cgroups(child)?;
        }
        match one(i, op, child, root.as_fd())? {
            Some(mount) if op.sealed_later => unsealed.push(Unsealed { index: i, mount }),
            Some(mount) if op.target.is_empty() => *root = mount,
            _ => {}
        }
    }
    if let Some(notify) = &child.notify_mount {
        let (target, _) = path::open_or_make(root.as_fd(), &notify.target, Make::Directory)
            .at(Step::MountTarget, usize::MAX)?;
        move_mount(notify.tree.as_fd(), target.as_fd()).at(Step::Mount, usize::MAX)?;
    }
    Ok(unsealed)
}

/// Joins the cgroups, unless that has been done, and makes the mount that had to wait for them.
pub(super) fn last(child: &mut InitChild<'_>, root: BorrowedFd<'_>) -> Result<(), Fault> {
    if !child.awaits_cgroups() {
        return Ok(());
    }
    prepare::join_awaited_cgroups(child)?;
    let plan = child.plan;
    for (i, op) in plan.mounts.iter().enumerate().filter(|(_, op)| plan.is_made_last(op)) {
        one(i, op, child, root)?;
    }
    Ok(())
}

/// Makes mounts read-only, when nothing is to be made in them any more.
pub(super) fn seal(unsealed: Vec<Unsealed>) -> Result<(), Fault> {
    for Unsealed { index, mount } in unsealed {
        seal_one(mount.as_fd()).at(Step::Mount, index)?;
    }
    Ok(())
}

/// Makes a mount read-only.
pub(super) fn seal_one(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = Attr { set: libc::MOUNT_ATTR_RDONLY, ..Attr::default() };
    mount_setattr(mount, Recursive::No, attr)
}

/// Makes one mount; returns it if it is one that the plan has not.
pub(super) fn one(
    i: usize,
    op: &MountOp,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, Fault> {
    match &op.action {
        Action::Bind(bind) => return mount_bind(i, op, bind, child, root),
        Action::New(new) => return new::mount_new(i, op, new, child, root).map(Some),
        Action::Remount { parameters } => new::remount(i, op, parameters, child, root)?,
        Action::CgroupV1 => cgroup::mount_v1(i, op, child, root)?,
        Action::CgroupV2 => cgroup::mount_v2(i, op, child, root)?,
    }
    Ok(None)
}

/// The mount's target, and whether it was there.
fn target(
    i: usize,
    op: &MountOp,
    make: Make,
    root: BorrowedFd<'_>,
) -> Result<(OwnedFd, bool), Fault> {
    let step = Step::MountTarget;
    if op.no_symlinks {
        match path::open_no_symlinks(root, &op.target) {
            Err(Errno::ENOENT) => {}
            other => return other.at(step, i).map(|found| (found, true)),
        }
        path::open_or_make(root, &op.target, make).at(step, i)?;
        return path::open_no_symlinks(root, &op.target).at(step, i).map(|made| (made, false));
    }
    let nofollow = if op.target_nofollow { libc::O_NOFOLLOW } else { 0 };
    let found = match path::open_with(root, &op.target, libc::O_PATH | nofollow) {
        Ok(found) => (found, true),
        Err(Errno::ENOENT) => (path::make_missing(root, &op.target, make).at(step, i)?, false),
        Err(errno) => return Err(Fault::new(step, i, errno)),
    };
    // A symlink in the image may have led below /proc, where config.json may not go by name either (CVE-2019-16884).
    if found.1 && fd::fs_magic(found.0.as_fd()) == Ok(PROC_SUPER_MAGIC) {
        let by_name = path::open_no_symlinks(root, &op.target);
        let name = op.target.to_bytes();
        if by_name.is_err() || !(allowed_below_proc(name) || name == b"proc") {
            return Err(Fault::new(step, i, Errno::ELOOP));
        }
    }
    Ok(found)
}

fn mount_bind(
    i: usize,
    op: &MountOp,
    bind: &Bind,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, Fault> {
    let mut cloned = None;
    let found = match &bind.found {
        Some(found) => found,
        None => {
            let own = match &bind.inside {
                Some(inside) => clone_inside(bind, inside, op.is_over_proc(), root),
                None => clone_bind(bind, op.is_over_proc()),
            }
            .at(Step::MountSource, i)?;
            if let Found::Tree { tree, .. } = &own {
                map_ids(i, op, child, tree.as_fd())?;
                attach_attributes(op, tree.as_fd(), child.user_namespace).at(Step::Mount, i)?;
            }
            &*cloned.insert(own)
        }
    };
    let (tree, directory) = match found {
        Found::Tree { tree, directory } => (tree, *directory),
        Found::Link(text) => {
            return copy_symlink(op, text, root).at(Step::MountTarget, i).map(|()| None);
        }
    };
    let make = if directory { Make::Directory } else { Make::File };
    let (target, _) = target(i, op, make, root)?;
    match move_mount(tree.as_fd(), target.as_fd()) {
        // The kernel's word for a directory on a file, and the other way round, is EINVAL.
        Err(Errno::EINVAL)
            if fd::stat(target.as_fd(), c"")
                .is_ok_and(|stat| stat.is(libc::S_IFDIR) != directory) =>
        {
            return Err(Fault::new(Step::Mount, i, Errno::ENOTDIR));
        }
        other => other.at(Step::Mount, i)?,
    }
    Ok(match cloned {
        Some(Found::Tree { tree, .. }) => Some(tree),
        _ => None,
    })
}

/// Makes the symlink that a bind mount with `copy-symlink` stands for; one that says the same is as good.
fn copy_symlink(op: &MountOp, text: &CStr, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let (above, name) = path::parent(&op.target)?;
    let (above, _) = path::open_or_make(root, &above, Make::Directory)?;
    match nix::unistd::symlinkat(text, &above, name.as_c_str()) {
        Err(Errno::EEXIST) => {
            let own = nix::fcntl::readlinkat(&above, name.as_c_str());
            if own.is_ok_and(|own| own.as_encoded_bytes() == text.to_bytes()) {
                Ok(())
            } else {
                Err(Errno::EEXIST)
            }
        }
        other => other,
    }
}

/// Maps the ids of a mount that is not attached yet. In a user namespace that is for the parent to do: the file system
/// belongs to the host's.
fn map_ids(
    i: usize,
    op: &MountOp,
    child: &InitChild<'_>,
    mount: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let Some(idmap) = &op.idmap else { return Ok(()) };
    let Some(userns) = &idmap.userns else {
        return Err(Fault::new(Step::MountIds, i, Errno::EINVAL));
    };
    match mount_idmap(mount, idmap.recursive, userns.as_fd()) {
        Err(Errno::EPERM) if child.user_namespace => {
            let index = i32::try_from(i).unwrap_or(i32::MAX);
            child.channel.send_fd(Frame::of(Tag::MapMount, index), mount).at(Step::Parent, 0)?;
            child.channel.wait().map(drop)
        }
        other => other.at(Step::MountIds, i),
    }
}

/// What fsmount(2) itself cannot set.
struct MountAttributes<'a> {
    below: Attr,
    propagation: &'a [(u64, Recursive)],
}

impl MountAttributes<'_> {
    fn apply(&self, mount: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.below.is_empty() {
            mount_setattr(mount, Recursive::Yes, self.below)?;
        }
        // A new mount is private already.
        let words = self.propagation.iter().skip_while(|(flag, _)| *flag == libc::MS_PRIVATE);
        for (flag, recursive) in words {
            mount_setattr(mount, *recursive, Attr { propagation: *flag, ..Attr::default() })?;
        }
        Ok(())
    }
}
