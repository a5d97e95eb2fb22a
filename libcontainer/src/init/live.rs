//! Mounts of a container that runs already: a child joins it, attaches or detaches them, and ends.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::InitChild;
use super::mount::{MOUNT_ROOT, one, seal, unmount};
use super::namespace::become_root;
use crate::path;
use crate::plan::mounts::MountOp;
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
    let mut unsealed = Vec::new();
    for (i, op) in child.plan.mounts.iter().enumerate() {
        match one(i, op, child, root.as_fd()) {
            Ok(made) => unsealed.extend(made),
            Err(fault) => {
                for made in child.plan.mounts.iter().take(i).rev() {
                    take_back(made, child, root);
                }
                return Err(fault);
            }
        }
    }
    seal(unsealed)
}

fn take_back(op: &MountOp, child: &InitChild<'_>, root: &OwnedFd) {
    let nofollow = if op.target_nofollow { libc::O_NOFOLLOW } else { 0 };
    let target = path::open_with(root.as_fd(), &op.target, libc::O_PATH | nofollow);
    // A symlink that was copied is no mount, and stays.
    let _best_effort = target.and_then(|target| unmount(&target, child.proc.as_fd()));
}

/// First all are looked at, then all are detached, the last one first: one may lie on another.
fn remove(child: &InitChild<'_>, paths: &[CString], root: &OwnedFd) -> Result<(), Fault> {
    let mut targets = Vec::with_capacity(paths.len());
    for (i, path) in paths.iter().enumerate() {
        let target = path::open_with(root.as_fd(), path, libc::O_PATH).at(Step::Unmount, i)?;
        if fd::stat(target.as_fd(), c"").at(Step::Unmount, i)?.attributes & MOUNT_ROOT == 0 {
            return Err(Fault::new(Step::Unmount, i, Errno::EINVAL));
        }
        targets.push(target);
    }
    for (i, target) in targets.iter().enumerate().rev() {
        unmount(target, child.proc.as_fd()).at(Step::Unmount, i)?;
    }
    Ok(())
}
