//! Mounts of a container that runs already: a child joins it, attaches or detaches them, and ends.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC, fstatfs};

use super::InitChild;
use super::mount::{MOUNT_ROOT, one, seal_one, unmount};
use super::namespace::become_root;
use crate::path;
use crate::plan::mounts::{Action, Bind, Found, MountOp};
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::sys::clone::setns;
use crate::sys::fd;
use crate::sys::process;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// The mounts of the plan are made.
    Add,
    /// What is mounted at these paths of the container is detached.
    Remove(&'a [CString]),
}

/// The container, as the parent has opened it.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its init.
    pub(crate) init: OwnedFd,
    /// `CLONE_NEW*` to join. Not the pid namespace: there the container could see this process.
    pub(crate) namespaces: libc::c_int,
    /// Its root; `None` where that is the root of its mount namespace.
    pub(crate) root: Option<OwnedFd>,
}

/// Joins the container, changes its mounts, ends.
pub(crate) fn change_mounts(child: &InitChild<'_>, live: Live, change: &Change<'_>) -> ! {
    let result = join(child, live).and_then(|root| match change {
        Change::Add => add(child, &root),
        Change::Remove(paths) => remove(child, paths, &root),
    });
    if let Err(fault) = result {
        child.channel.fail(&fault);
    }
    // The parent may be gone; what was asked is done.
    let _told = child.channel.send(Frame::of(Tag::Ready, 0));
    process::exit_now(0)
}

fn join(child: &InitChild<'_>, live: Live) -> Result<OwnedFd, Fault> {
    let at = |result: nix::Result<()>| result.at(Step::NamespaceJoin, usize::MAX);
    match setns(live.init.as_fd(), live.namespaces) {
        Err(Errno::EPERM) if child.user_namespace => {
            at(setns(live.init.as_fd(), live.namespaces & !libc::CLONE_NEWUSER))?;
            at(setns(live.init.as_fd(), libc::CLONE_NEWUSER))?;
        }
        other => at(other)?,
    }
    if child.user_namespace {
        become_root()?;
    }
    match live.root {
        Some(root) => Ok(root),
        None => fd::openat(fd::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0).at(Step::Rootfs, 0),
    }
}

/// All or none: the first that fails takes those before it along.
fn add(child: &InitChild<'_>, root: &OwnedFd) -> Result<(), Fault> {
    process::umask(0);
    let mut made = Vec::with_capacity(child.plan.mounts.len());
    let added = add_all(child, root, &mut made);
    if added.is_err() {
        for (op, mount) in child.plan.mounts.iter().zip(&made).rev() {
            take_back(op, mount.as_ref(), child);
        }
    }
    added
}

fn add_all(
    child: &InitChild<'_>,
    root: &OwnedFd,
    made: &mut Vec<Option<OwnedFd>>,
) -> Result<(), Fault> {
    for (i, op) in child.plan.mounts.iter().enumerate() {
        made.push(one(i, op, child, root.as_fd())?);
    }
    for (i, (op, mount)) in child.plan.mounts.iter().zip(made.iter()).enumerate() {
        if let Some(mount) = mount.as_ref().filter(|_| op.sealed_later) {
            seal_one(mount.as_fd()).at(Step::Mount, i)?;
        }
    }
    Ok(())
}

/// By its descriptor: by its path the container could have put another in its place since.
fn take_back(op: &MountOp, mount: Option<&OwnedFd>, child: &InitChild<'_>) {
    let planned = match &op.action {
        Action::Bind(Bind { found: Some(Found::Tree { tree, .. }), .. }) => Some(tree),
        // A symlink that was copied is no mount, and stays.
        _ => None,
    };
    if let Some(mount) = mount.or(planned) {
        let _best_effort = unmount(mount, child.proc.as_fd());
    }
}

/// The mount at `path`. The container may have put a symlink on the way since, to something else that is mounted: none is
/// followed, and what keeps the host from the container is refused wherever it lies by now.
fn find(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let target = path::open_no_symlinks(root.as_fd(), path)?;
    if fd::stat(target.as_fd(), c"")?.attributes & MOUNT_ROOT == 0 {
        return Err(Errno::EINVAL);
    }
    if protects(&target, root, path)? { Err(Errno::EPERM) } else { Ok(target) }
}

/// Whether the mount may be one of maskedPaths or readonlyPaths: part of a kernel's file system, the null device, an
/// empty read-only tmpfs, or something read-only that covers itself.
fn protects(mount: &OwnedFd, root: &OwnedFd, path: &CStr) -> Result<bool, Errno> {
    let stat = fd::stat(mount.as_fd(), c"")?;
    let system = fstatfs(mount)?;
    let kernels = [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&system.filesystem_type());
    let null = stat.is(libc::S_IFCHR) && stat.rdev == (1, 3);
    if kernels || null || !fd::is_read_only(mount.as_fd())? {
        return Ok(kernels || null);
    }
    if system.filesystem_type() == TMPFS_MAGIC && system.files() == 1 {
        return Ok(true);
    }
    let (above, name) = path::parent(path)?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let above = path::open_with(root.as_fd(), &above, flags | libc::O_NOFOLLOW)?;
    let mut itself = false;
    let same = fd::stat(above.as_fd(), c"")?.dev == stat.dev;
    fd::list(above.as_fd(), |entry, _, ino| itself |= entry == name.as_c_str() && ino == stat.ino)?;
    Ok(itself && same)
}

/// First all are looked at, then all are detached, the last one first: one may lie on another.
fn remove(child: &InitChild<'_>, paths: &[CString], root: &OwnedFd) -> Result<(), Fault> {
    let mut targets = Vec::with_capacity(paths.len());
    for (i, path) in paths.iter().enumerate() {
        targets.push(find(root, path).at(Step::Unmount, i)?);
    }
    for (i, target) in targets.iter().enumerate().rev() {
        unmount(target, child.proc.as_fd()).at(Step::Unmount, i)?;
    }
    Ok(())
}
