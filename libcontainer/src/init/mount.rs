//! Carrying out one [`MountOp`] after the other, descriptor to descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{InitChild, copy_up};
use crate::cgroup::V1View;
use crate::path::{self, Make};
use crate::plan::Plan;
use crate::plan::mounts::{Action, Bind, MountOp, New, allowed_below_proc};
use crate::sync::{At, Fault, Step};
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{
    self, Attr, FSCONFIG_MAX, FsContext, Recursive, mount_setattr, move_mount, open_tree_clone,
};

/// Clones the tree of a bind mount's source. The parent does it before the clone where it may; else the child.
pub(crate) fn clone_bind(bind: &Bind, over_proc: bool) -> Result<(OwnedFd, bool), Errno> {
    let tree = open_tree_clone(CWD, &bind.source, bind.recursive, bind.nofollow)?;
    // CVE-2019-16884: a directory that only looks like procfs would answer for the kernel.
    if over_proc && fd::fs_magic(tree.as_fd())? != PROC_SUPER_MAGIC {
        return Err(Errno::EMEDIUMTYPE);
    }
    let directory = fd::stat(tree.as_fd(), c"")?.is(libc::S_IFDIR);
    Ok((tree, directory))
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

/// Gives a detached mount its attributes and its propagation.
pub(crate) fn attach_attributes(op: &MountOp, mount: BorrowedFd<'_>) -> Result<(), Errno> {
    if !op.below.is_empty() {
        mount_setattr(mount, Recursive::Yes, op.below)?;
    }
    let bind = matches!(op.action, Action::Bind(_));
    // A clone is a peer of the host's mount until it is told otherwise: nothing mounted inside may reach the host unless
    // config.json says so.
    let first = match op.propagation.first() {
        None if bind => Some((libc::MS_SLAVE, Recursive::Yes)),
        other => other.copied(),
    };
    // The usual mount has one propagation word: it goes with the attributes in one call where both are recursive alike.
    if let Some((flag, recursive)) = first {
        mount_setattr(mount, recursive, Attr { propagation: flag, ..Attr::default() })?;
    }
    for (flag, recursive) in op.propagation.iter().skip(1) {
        mount_setattr(mount, *recursive, Attr { propagation: *flag, ..Attr::default() })?;
    }
    if !op.attr.is_empty() {
        mount_setattr(mount, Recursive::No, op.attr)?;
    }
    Ok(())
}

/// Makes all mounts.
pub(super) fn all(child: &InitChild<'_>, root: BorrowedFd<'_>) -> Result<(), Fault> {
    for (i, op) in child.plan.mounts.iter().enumerate() {
        match &op.action {
            Action::Bind(bind) => mount_bind(i, op, bind, root)?,
            Action::New(new) => mount_new(i, op, new, child.proc.as_fd(), root)?,
            Action::Remount { parameters } => remount(i, op, parameters, root)?,
            Action::CgroupV1 => mount_cgroup_v1(i, op, child, root)?,
            Action::CgroupV2 => mount_cgroup_v2(i, op, child, root)?,
        }
    }
    if let Some(notify) = &child.notify_mount {
        let (target, _) = path::open_or_make(root, c"run/notify", Make::Directory)
            .at(Step::MountTarget, usize::MAX)?;
        move_mount(notify.as_fd(), target.as_fd()).at(Step::Mount, usize::MAX)?;
    }
    Ok(())
}

/// The mount's target, and whether it was there.
fn target(
    i: usize,
    op: &MountOp,
    make: Make,
    root: BorrowedFd<'_>,
) -> Result<(OwnedFd, bool), Fault> {
    if op.no_symlinks {
        match path::open_no_symlinks(root, &op.target) {
            Err(Errno::ENOENT) => {}
            other => return other.at(Step::MountTarget, i).map(|found| (found, true)),
        }
    }
    if op.target_nofollow {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        match path::open_with(root, &op.target, flags) {
            Err(Errno::ENOENT) => {}
            other => return other.at(Step::MountTarget, i).map(|found| (found, true)),
        }
    }
    let found = path::open_or_make(root, &op.target, make).at(Step::MountTarget, i)?;
    // A symlink in the image may have led below /proc, where config.json may not go by name either (CVE-2019-16884).
    if found.1 && fd::fs_magic(found.0.as_fd()) == Ok(PROC_SUPER_MAGIC) {
        let by_name = path::open_no_symlinks(root, &op.target).at(Step::MountTarget, i);
        let name = op.target.to_bytes();
        if by_name.is_err() || !(allowed_below_proc(name) || name == b"proc") {
            return Err(Fault::new(Step::MountTarget, i, Errno::ELOOP));
        }
    }
    Ok(found)
}

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

fn mount_bind(i: usize, op: &MountOp, bind: &Bind, root: BorrowedFd<'_>) -> Result<(), Fault> {
    let cloned;
    let (tree, directory) = match &bind.tree {
        Some(tree) => (tree, bind.directory),
        None => {
            let (tree, directory) = clone_bind(bind, op.is_over_proc()).at(Step::MountSource, i)?;
            attach_attributes(op, tree.as_fd()).at(Step::Mount, i)?;
            cloned = tree;
            (&cloned, directory)
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
            Err(Fault::new(Step::Mount, i, Errno::ENOTDIR))
        }
        other => other.at(Step::Mount, i),
    }
}

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

fn mount_new(
    i: usize,
    op: &MountOp,
    new: &New,
    proc: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let (target, existed) = target(i, op, Make::Directory, root)?;
    if needs_old_call(new) {
        return mount_old(i, op, new, (target, existed), proc, root);
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
        for (flag, recursive) in self.propagation {
            // A new mount is private already.
            if *flag != libc::MS_PRIVATE {
                mount_setattr(mount, *recursive, Attr { propagation: *flag, ..Attr::default() })?;
            }
        }
        Ok(())
    }
}

fn remount(
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

/// cgroup-v1: a tmpfs with a directory per hierarchy, each the container's own part of it.
fn mount_cgroup_v1(
    i: usize,
    op: &MountOp,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let (target, _) = target(i, op, Make::Directory, root)?;
    let context = FsContext::open(c"tmpfs").at(Step::Mount, i)?;
    context.set_string(c"source", c"cgroup").at(Step::MountOption, i)?;
    context.set_string(c"mode", c"755").at(Step::MountOption, i)?;
    let writable = op.attr.set & !libc::MOUNT_ATTR_RDONLY;
    let tmpfs = context.mount(writable).at(Step::Mount, i)?;
    move_mount(tmpfs.as_fd(), target.as_fd()).at(Step::Mount, i)?;
    let own_namespace = child.plan.namespaces.has(libc::CLONE_NEWCGROUP);
    for view in &child.v1_views {
        mount_view(op, view, tmpfs.as_fd(), own_namespace).at(Step::Mount, i)?;
    }
    if op.attr.set & libc::MOUNT_ATTR_RDONLY != 0 {
        let attr = Attr { set: libc::MOUNT_ATTR_RDONLY, ..Attr::default() };
        mount_setattr(tmpfs.as_fd(), Recursive::No, attr).at(Step::Mount, i)?;
    }
    let rest = MountAttributes { below: op.below, propagation: &op.propagation };
    rest.apply(tmpfs.as_fd()).at(Step::Mount, i)
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
    let directory =
        fd::openat(tmpfs, &name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY, 0)?;
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
        let tree = open_tree_clone(CWD, &source, Recursive::No, false)?;
        let attr = Attr { propagation: libc::MS_PRIVATE, ..op.attr };
        mount_setattr(tree.as_fd(), Recursive::No, attr)?;
        tree
    };
    move_mount(mount.as_fd(), directory.as_fd())?;
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
fn mount_cgroup_v2(
    i: usize,
    op: &MountOp,
    child: &InitChild<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let (target, _) = target(i, op, Make::Directory, root)?;
    let mount = match new_cgroup2(op) {
        Err(Errno::EPERM | Errno::EBUSY) => match &child.v2_directory {
            Some(directory) => bind_cgroup2(op, directory),
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

fn bind_cgroup2(op: &MountOp, directory: &CStr) -> Result<OwnedFd, Errno> {
    let tree = open_tree_clone(CWD, directory, Recursive::No, false)?;
    let attr = Attr { propagation: libc::MS_PRIVATE, ..op.attr };
    mount_setattr(tree.as_fd(), Recursive::No, attr)?;
    Ok(tree)
}
