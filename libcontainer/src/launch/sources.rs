//! The sources of mounts that are opened with the runtime's own privileges, in its own place: the child may not have them.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknodat};
use nix::unistd::fchownat;

use super::idmap;
use super::serve::{in_init, receive};
use crate::error::{Context, Error, Result};
use crate::init::{self, Channel};
use crate::path;
use crate::plan::idmapped::{Idmap, Ids};
use crate::plan::mounts::{Action, Bind, Found, MountOp, is_within};
use crate::plan::{DeviceOp, IdMaps, Plan};
use crate::sync::{Fault, Step};
use crate::sys::clone::{Side, bits, clone_single_threaded};
use crate::sys::mount::{FsContext, Recursive, mount_idmap};
use crate::sys::{fd, socket, spawn};

/// Clones the sources of bind mounts that the child would not find, or not as they are meant, and makes the user namespaces
/// of id-mapped mounts. The child clones the others, each at its turn: the kernel lists mounts as they were made.
pub(super) fn open(plan: &mut Plan) -> Result<()> {
    let all = plan.namespaces.has(libc::CLONE_NEWUSER)
        || plan.namespaces.joins(libc::CLONE_NEWNS).is_some();
    if all {
        return open_all(plan);
    }
    let mut root = None;
    let binds = plan.mounts.iter().enumerate().filter_map(|(i, op)| match &op.action {
        Action::Bind(bind) if bind.inside.is_none() => Some((i, op, bind)),
        _ => None,
    });
    let wanted = binds.filter(|(_, op, bind)| is_for_the_parent(plan, op, bind, &mut root));
    let wanted = wanted.map(|(i, _, _)| i).collect();
    open_those(plan, wanted)
}

/// The same for all bind mounts: for a child that is in a user namespace, where it may not walk to them nor map their ids,
/// or joins a mount namespace of others, where it would find their files at these paths, or is made by somebody else.
pub(super) fn open_all(plan: &mut Plan) -> Result<()> {
    let is_bind = |op: &MountOp| matches!(&op.action, Action::Bind(bind) if bind.inside.is_none());
    let all = plan.mounts.iter().enumerate().filter(|(_, op)| is_bind(op));
    let all = all.map(|(i, _)| i).collect();
    open_those(plan, all)
}

/// The same for `mounts add`, whose child may not even try.
pub(super) fn open_all_or_fail(plan: &mut Plan) -> Result<()> {
    open_all(plan)?;
    let left = plan.mounts.iter().find(|op| match &op.action {
        Action::Bind(bind) => bind.found.is_none() && bind.inside.is_none(),
        _ => false,
    });
    match left {
        Some(op) => Err(Error::os("clone the mount's source", Errno::EPERM)
            .field(format!("mounts[{}].source", op.index))
            .hint("only root may mount what is the host's in a running container")),
        None => Ok(()),
    }
}

/// Whether the clone would be another one if it were made by a child that may do all that the runtime may. `root` keeps
/// where the container's root is.
fn is_for_the_parent(
    plan: &Plan,
    op: &MountOp,
    bind: &Bind,
    root: &mut Option<Option<String>>,
) -> bool {
    // The child's mounts receive from the host's and send nothing there; what is to be shared with the host has to be a
    // clone of the host's own.
    let shared = |&(flag, _): &(u64, Recursive)| flag == libc::MS_SHARED;
    if plan.root.propagation.0 == libc::MS_SHARED && op.propagation.iter().any(shared) {
        return true;
    }
    let text = path::clean(&bind.source.to_string_lossy());
    if is_own(&text) {
        return true;
    }
    if bind.recursive == Recursive::No {
        return false;
    }
    let Some(source) = resolved(&bind.source, bind.nofollow) else { return true };
    let Some(root) = root.get_or_insert_with(|| resolved(&plan.root.path, false)) else {
        return true;
    };
    // The child would find the container's root below it, with all mounts made so far.
    is_own(&source) || is_within(root.as_bytes(), source.as_bytes())
}

/// Whether each process finds another thing at `path`: in `/proc`, where self, net and sys/net are its own, or by the usual
/// links to there.
fn is_own(path: &str) -> bool {
    ["proc", "dev/fd", "dev/stdin", "dev/stdout", "dev/stderr"]
        .iter()
        .any(|own| is_within(path.as_bytes(), own.as_bytes()))
}

/// Where `path` leads, clean; `None` where a link of procfs leads, or one that cannot be followed. What is not there is
/// where the path says: who clones it finds that out.
fn resolved(path: &CStr, nofollow: bool) -> Option<String> {
    let flags = libc::O_PATH | if nofollow { libc::O_NOFOLLOW } else { 0 };
    match fd::openat2(fd::CWD, path, flags, 0, libc::RESOLVE_NO_SYMLINKS) {
        Err(Errno::ELOOP) => {}
        _ => return Some(path::clean(&path.to_string_lossy())),
    }
    let found = fd::openat2(fd::CWD, path, flags, 0, libc::RESOLVE_NO_MAGICLINKS).ok()?;
    let name = format!("/proc/self/fd/{}", found.as_raw_fd());
    let name = nix::fcntl::readlink(name.as_str()).ok()?;
    // What is outside of this process's root has no path that begins so.
    Some(path::clean(name.to_string_lossy().strip_prefix('/')?))
}

/// So many descriptors are left for all but the clones.
const OTHERS: u64 = 64;

/// Room is made above this number at the latest: the kernel's table is as long as the highest one in use.
const HIGHEST: u64 = 65_536;

/// While it lives descriptors may have numbers from the soft limit of open files on, up to the hard one. Where those are
/// given away, the limit that the container inherits leaves all lower numbers for what comes later.
struct Room {
    soft: u64,
    hard: u64,
}

impl Room {
    /// `None` if there is enough for so many, or no more to have.
    fn make(clones: usize) -> Option<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        if clones as u64 + OTHERS <= soft || soft == hard {
            return None;
        }
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
        Some(Self { soft, hard })
    }

    /// What has no room stays where it is.
    fn place(&self, tree: OwnedFd) -> OwnedFd {
        let least = libc::c_int::try_from(self.soft.min(HIGHEST)).unwrap_or(libc::c_int::MAX);
        fd::dup_from(tree.as_fd(), least).unwrap_or(tree)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _as_it_was = setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard);
    }
}

fn open_those(plan: &mut Plan, wanted: Vec<usize>) -> Result<()> {
    let mut known = Vec::new();
    for op in &mut plan.mounts {
        if let Some(idmap) = &mut op.idmap {
            idmap.userns = Some(user_namespace(&idmap.ids, op.index, &mut known)?);
        }
    }
    let room = if wanted.is_empty() { None } else { Room::make(wanted.len()) };
    for i in wanted {
        let Some(op) = plan.mounts.get(i) else { break };
        let Action::Bind(bind) = &op.action else { continue };
        let found = match (&room, clone_source(plan, i, op, bind)?) {
            (Some(room), Some(Found::Tree { tree, directory })) => {
                Some(Found::Tree { tree: room.place(tree), directory })
            }
            (_, found) => found,
        };
        if let Some(Action::Bind(bind)) = plan.mounts.get_mut(i).map(|op| &mut op.action) {
            bind.found = found;
        }
    }
    Ok(())
}

/// Makes the devices of `linux.devices` for a new user namespace, which may make none itself: with the mode and the owner
/// that config.json gives, mapped. Without the right to, the child binds the host's nodes.
pub(super) fn make_devices(plan: &mut Plan) -> Result<()> {
    let Some(maps) = plan.idmaps.as_ref().filter(|_| nix::unistd::geteuid().is_root()) else {
        return Ok(());
    };
    let mut made = None;
    for (i, device) in plan.devices.iter().enumerate() {
        let Some(index) = device.index else { continue };
        let (Some(uid), Some(gid)) = (maps.host_uid(device.uid), maps.host_gid(device.gid)) else {
            continue;
        };
        let mut make = || -> nix::Result<()> {
            if made.is_none() {
                let context = FsContext::open(c"tmpfs")?;
                context.set_string(c"mode", c"755")?;
                made = Some(context.mount(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)?);
            }
            let directory = made.as_ref().ok_or(Errno::EBADF)?;
            make_device(device, &i.to_string(), uid, gid, directory)
        };
        match make() {
            Err(Errno::EPERM) => return Ok(()),
            other => other.map_err(|errno| {
                Error::os("create the device", errno).field(format!("linux.devices[{index}]"))
            })?,
        }
    }
    plan.made_devices = made;
    Ok(())
}

fn make_device(
    device: &DeviceOp,
    name: &str,
    uid: u32,
    gid: u32,
    directory: &OwnedFd,
) -> nix::Result<()> {
    let kind = SFlag::from_bits_truncate(device.mode & libc::S_IFMT);
    let mode = Mode::from_bits_truncate(device.mode & 0o7777);
    mknodat(directory, name, kind, Mode::empty(), device.number)?;
    fchownat(directory, name, Some(uid.into()), Some(gid.into()), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    // Neither the caller's umask nor the change of owner may take a bit away.
    fchmodat(directory, name, mode, FchmodatFlags::FollowSymlink)
}

/// `None` where only the child may.
fn clone_source(plan: &Plan, i: usize, op: &MountOp, bind: &Bind) -> Result<Option<Found>> {
    let fail = |step, errno| Err(in_init(plan.explain(&Fault::new(step, i, errno))));
    let found = match init::clone_bind(bind, op.is_over_proc()) {
        // A user namespace may allow what its owner may not.
        Err(Errno::EPERM) => return Ok(None),
        Err(errno) => return fail(Step::MountSource, errno),
        Ok(found) => found,
    };
    if let Found::Tree { tree, .. } = &found {
        map_ids(plan, i, tree.as_fd())?;
        let user_namespace = plan.namespaces.has(libc::CLONE_NEWUSER);
        if let Err(errno) = init::attach_attributes(op, tree.as_fd(), user_namespace) {
            return fail(Step::Mount, errno);
        }
    }
    Ok(Some(found))
}

/// Maps the ids of `mount`, which is not attached yet, as entry `i` of the plan's mounts says.
pub(super) fn map_ids(plan: &Plan, i: usize, mount: BorrowedFd<'_>) -> Result<()> {
    let idmap = plan.mounts.get(i).and_then(|op| op.idmap.as_ref());
    let Some(Idmap { recursive, userns: Some(userns), .. }) = idmap else { return Ok(()) };
    mount_idmap(mount, *recursive, userns.as_fd())
        .map_err(|errno| plan.explain(&Fault::new(Step::MountIds, i, errno)))
}

/// A user namespace with these maps; each is made once.
fn user_namespace(
    ids: &Ids,
    index: usize,
    known: &mut Vec<(Ids, Rc<OwnedFd>)>,
) -> Result<Rc<OwnedFd>> {
    if let Some((_, userns)) = known.iter().find(|(other, _)| other == ids) {
        return Ok(Rc::clone(userns));
    }
    let userns = match ids {
        Ids::Maps(maps) => make_user_namespace(maps).map_err(|error| {
            error.context(&format!("make the id map of mounts[{index}].uidMappings"))
        })?,
        Ids::Joined(path) => fd::openat(fd::CWD, path, libc::O_RDONLY, 0)
            .on("open the user namespace", path.to_string_lossy().as_ref())?,
    };
    let userns = Rc::new(userns);
    known.push((ids.clone(), Rc::clone(&userns)));
    Ok(userns)
}

/// A user namespace lives as long as a descriptor for it; a process has to make it.
fn make_user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let (socket, child_end) = socket::seqpacket_pair().doing("socketpair")?;
    match clone_single_threaded(bits(libc::CLONE_NEWUSER), None).doing("clone3")? {
        Side::Child => {
            drop(socket);
            init::hold_user_namespace(&Channel(child_end))
        }
        Side::Parent(pid, pidfd) => {
            drop(child_end);
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            let mapped = idmap::write(maps, pid, uid.as_raw(), gid.as_raw());
            let received = mapped.and_then(|()| receive(&socket));
            drop(socket);
            spawn::wait(pidfd.as_fd()).map(drop).doing("wait for the user namespace")?;
            let (_, userns) = received?;
            userns.ok_or_else(|| Error::internal("the user namespace was not sent"))
        }
    }
}
