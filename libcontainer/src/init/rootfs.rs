//! The root filesystem: attaching it, changing into it, sealing it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{InitChild, old_root};
use crate::path;
use crate::plan::{MountLabel, Plan};
use crate::sync::{At, Fault, Step};
use crate::sys::clone::setns;
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{
    self, Attr, FsContext, Recursive, mount_setattr, move_mount, open_tree_clone, pivot_root_here,
};

/// Attaches the container's root in this mount namespace and returns it.
pub(super) fn attach(child: &mut InitChild<'_>) -> Result<OwnedFd, Fault> {
    let plan = child.plan;
    if !plan.has_own_mounts() {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        return fd::openat(CWD, &plan.root.path, flags, 0).at(Step::Rootfs, 0);
    }
    // What is mounted from here on stays here; what the host unmounts still goes away.
    mount::set_propagation(c"/", libc::MS_REC | libc::MS_SLAVE)
        .at(Step::Propagation, usize::MAX)?;
    let tree = match child.rootfs.take() {
        Some(tree) => tree,
        None => super::clone_root(plan).at(Step::Rootfs, 0)?,
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let target = match fd::openat(CWD, &plan.root.path, flags, 0) {
        // Hooks look for the root at its path, so it is attached there; where the user namespace's root may not walk that
        // path, `/` does as well.
        Err(Errno::EACCES) => fd::openat(CWD, c"/", flags, 0),
        other => other,
    }
    .at(Step::Rootfs, 0)?;
    move_mount(tree.as_fd(), target.as_fd()).at(Step::Rootfs, 0)?;
    Ok(tree)
}

/// Makes `root` this process's root and leaves the host's behind.
pub(super) fn enter(child: &mut InitChild<'_>, root: BorrowedFd<'_>) -> Result<(), Fault> {
    let plan = child.plan;
    if let Some(namespace) = child.mount_namespace.take() {
        return enter_detached(namespace.as_fd(), root);
    }
    nix::unistd::fchdir(root).at(Step::Pivot, 0)?;
    if !plan.namespaces.has(libc::CLONE_NEWNS) {
        nix::unistd::chroot(c".").at(Step::Chroot, 0)?;
    } else if plan.root.no_pivot {
        mount::move_here_to_root().at(Step::Chroot, 0)?;
        old_root::clear(child.proc.as_fd())?;
        nix::unistd::chroot(c".").at(Step::Chroot, 0)?;
    } else {
        if plan.leaves_host_mounts() {
            crate::exeseal::leave_behind();
        }
        pivot_root_here().at(Step::Pivot, 0)?;
        // The old root now lies on top of the new one at ".".
        nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH).at(Step::OldRoot, 0)?;
    }
    nix::unistd::chdir(c"/").at(Step::Pivot, 0)?;
    // A shared mount cannot be pivoted into: that propagation waits until now.
    if plan.root.propagation.0 == libc::MS_SHARED && plan.namespaces.has(libc::CLONE_NEWNS) {
        let attr = Attr { propagation: libc::MS_SHARED, ..Attr::default() };
        mount_setattr(root, plan.root.propagation.1, attr).at(Step::Propagation, usize::MAX)?;
    }
    Ok(())
}

/// Goes back into `namespace` with the tree at `root`, attached nowhere; it lives as long as it is somebody's root.
fn enter_detached(namespace: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<(), Fault> {
    let tree = open_tree_clone(root, c"", Recursive::Yes, false).at(Step::Rootfs, 0)?;
    setns(namespace, libc::CLONE_NEWNS).at(Step::NamespaceNew, 1)?;
    nix::unistd::fchdir(&tree).at(Step::Chroot, 0)?;
    nix::unistd::chroot(c".").at(Step::Chroot, 0)?;
    nix::unistd::chdir(c"/").at(Step::Chroot, 0)
}

/// Makes `/` read-only, last of all that is written there, if the plan or one of the read-only paths (`listed`) is for it.
pub(super) fn seal(plan: &Plan, root: BorrowedFd<'_>, listed: bool) -> Result<(), Fault> {
    if (plan.root.readonly || listed) && plan.has_own_mounts() {
        read_only(root).at(Step::ReadonlyRoot, 0)?;
    }
    Ok(())
}

fn read_only(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = Attr { set: libc::MOUNT_ATTR_RDONLY, ..Attr::default() };
    mount_setattr(mount, Recursive::No, attr)
}

/// Makes the listed paths read-only by mounting each on itself. Says whether `/` is among them: nobody would see what is
/// mounted there, so [`seal`] does it.
pub(super) fn readonly_paths(plan: &Plan, root: BorrowedFd<'_>) -> Result<bool, Fault> {
    let mut whole = false;
    for (i, path) in plan.readonly.iter().enumerate() {
        let target = match existing(root, path).at(Step::ReadonlyPath, i)? {
            Existing::Nothing => continue,
            Existing::Root => {
                whole = true;
                continue;
            }
            Existing::Below(target) => target,
        };
        let tree = open_tree_clone(target.as_fd(), c"", Recursive::Yes, false)
            .at(Step::ReadonlyPath, i)?;
        read_only(tree.as_fd()).at(Step::ReadonlyPath, i)?;
        move_mount(tree.as_fd(), target.as_fd()).at(Step::ReadonlyPath, i)?;
    }
    Ok(whole)
}

/// Hides the listed paths: a directory under an empty read-only one, a file under the null device.
///
/// All directories share one superblock. The null device is the host's, opened in a namespace where the container could not
/// have replaced it, and looked at before use (CVE-2025-31133).
pub(super) fn masked_paths(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), Fault> {
    let mut empty: Option<OwnedFd> = None;
    for (i, path) in plan.masked.iter().enumerate() {
        // Engines add paths to the defaults that are among them; a mask needs no mask.
        if plan.masked.iter().take(i).any(|earlier| earlier == path) {
            continue;
        }
        let target = match existing(root, path).at(Step::MaskedPath, i)? {
            Existing::Nothing => continue,
            // The plan has refused it by its name; a symlink of the image leads here.
            Existing::Root => return Err(Fault::new(Step::MaskedPath, i, Errno::EINVAL)),
            Existing::Below(target) => target,
        };
        let is_directory = fd::stat(target.as_fd(), c"").at(Step::MaskedPath, i)?.is(libc::S_IFDIR);
        let mask = match (&empty, is_directory) {
            (_, false) => null_device(),
            (Some(mounted), true) => open_tree_clone(mounted.as_fd(), c"", Recursive::No, false),
            (None, true) => empty_directory(plan.mount_label.as_ref()),
        }
        .at(Step::MaskedPath, i)?;
        move_mount(mask.as_fd(), target.as_fd()).at(Step::MaskedPath, i)?;
        if is_directory && empty.is_none() {
            empty = Some(mask);
        }
    }
    Ok(())
}

/// What lies at a masked or read-only path.
enum Existing {
    /// Nothing to protect (config-linux.md "Masked Paths").
    Nothing,
    /// The container's root itself.
    Root,
    /// Something else.
    Below(OwnedFd),
}

/// Looks a path up. One without symlinks leads to the root only if it is empty, so that the rest cost nothing more.
fn existing(root: BorrowedFd<'_>, path: &CStr) -> Result<Existing, Errno> {
    if path.is_empty() {
        return Ok(Existing::Root);
    }
    let found = match path::open_no_symlinks(root, path) {
        Err(Errno::ELOOP) => path::open(root, path).map(|found| (found, true)),
        other => other.map(|found| (found, false)),
    };
    match found {
        Ok((found, true)) if is_root(root, found.as_fd())? => Ok(Existing::Root),
        Ok((found, _)) => Ok(Existing::Below(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(Existing::Nothing),
        Err(errno) => Err(errno),
    }
}

fn is_root(root: BorrowedFd<'_>, found: BorrowedFd<'_>) -> Result<bool, Errno> {
    let (root, found) = (fd::stat(root, c"")?, fd::stat(found, c"")?);
    Ok((root.mount, root.dev, root.ino) == (found.mount, found.dev, found.ino))
}

fn null_device() -> Result<OwnedFd, Errno> {
    let null = open_tree_clone(CWD, c"/dev/null", Recursive::No, true)?;
    let stat = fd::stat(null.as_fd(), c"")?;
    if stat.is(libc::S_IFCHR) && stat.rdev == (1, 3) { Ok(null) } else { Err(Errno::ENODEV) }
}

/// An empty directory that stays so, as a detached mount.
pub(super) fn empty_directory(label: Option<&MountLabel>) -> Result<OwnedFd, Errno> {
    let context = FsContext::open(c"tmpfs")?;
    context.set_string(c"source", c"tmpfs")?;
    context.set_string(c"mode", c"755")?;
    context.set_string(c"nr_inodes", c"1")?;
    context.set_flag(c"ro")?;
    if let Some(label) = label {
        context.set_string(label.option, &label.text)?;
    }
    context.mount(
        libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC,
    )
}
