//! `mounts add` and `mounts remove`: the mounts of a running container.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use super::exec::Target;
use super::map_helper::Kind;
use super::serve::{go, receive};
use super::{idmap, lsm, open_proc, rootless, sources};
use crate::bundle;
use crate::error::{Context, Error, Result};
use crate::init::{self, Cgroups, Change, Channel, InitChild, Live};
use crate::path;
use crate::plan::mounts::Action;
use crate::plan::{self, HostFacts, Plan};
use crate::spec::{List, Mount};
use crate::store;
use crate::sync::{self, Frame, Step, Tag};
use crate::sys::clone::{Side, clone_single_threaded};
use crate::sys::{fd, socket, spawn};

/// What the child joins, if the container has it.
const JOINED: libc::c_int =
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;

/// Mounts `mounts` in the container, all or none.
///
/// # Errors
/// The entry that is none, or could not be made.
pub(crate) fn add(target: &Target<'_>, mounts: Vec<Mount<'_>>) -> Result<()> {
    with_plan(target, mounts, |plan| {
        for op in &plan.mounts {
            check(op)?;
        }
        lsm::check_mounts(plan);
        sources::open_all_or_fail(plan)?;
        change(target, plan, &Change::Add)
    })
}

/// Detaches what is mounted at the destinations of `mounts`.
///
/// # Errors
/// The entry that is not a mount point, before anything is detached.
pub(crate) fn remove(target: &Target<'_>, mounts: &[Mount<'_>]) -> Result<()> {
    let mut paths = Vec::with_capacity(mounts.len());
    for (i, mount) in mounts.iter().enumerate() {
        let field = || format!("mounts[{i}].destination");
        let clean = path::clean(&mount.destination);
        if clean.is_empty() {
            let why = if mount.destination.is_empty() {
                "a mount needs a destination"
            } else {
                "the root of the container cannot be detached"
            };
            return Err(Error::config(why).field(field()));
        }
        paths.push(plan::cstring(&clean, field)?);
    }
    with_plan(target, Vec::new(), |plan| change(target, plan, &Change::Remove(&paths)))
}

/// Plans a container that is like `target` but for its mounts.
fn with_plan(
    target: &Target<'_>,
    mounts: Vec<Mount<'_>>,
    then: impl FnOnce(&mut Plan) -> Result<()>,
) -> Result<()> {
    if target.record.namespaces & libc::CLONE_NEWNS == 0 {
        return Err(Error::unsupported("the container has no mount namespace of its own")
            .hint("its mounts are the host's: use mount(8)"));
    }
    let config = target.state.read(store::CONFIG)?;
    let config = config.ok_or_else(|| {
        Error::internal("the saved config.json is gone").path(target.state.path())
    })?;
    let mut spec = bundle::parse(&config)?;
    spec.mounts = List(mounts);
    if target.record.made_namespaces() & libc::CLONE_NEWUSER != 0 && !rootless::has_maps(&spec) {
        // The configuration left them to `create`.
        let linux = rootless::add_namespace(&mut spec);
        linux.uid_mappings = List(idmap::read(Kind::Users, target.init.pid));
        linux.gid_mappings = List(idmap::read(Kind::Groups, target.init.pid));
    }
    let facts = HostFacts {
        bundle: &target.record.bundle,
        cgroup_v2: false,
        euid: nix::unistd::geteuid().as_raw(),
    };
    let request = plan::Request::default();
    let mut plan = Plan::build(&spec, &facts, request, &target.record.id)?;
    then(&mut plan)
}

fn check(op: &plan::MountOp) -> Result<()> {
    if op.target.is_empty() {
        return Err(Error::config("a mount may not cover the root of a running container")
            .field(format!("mounts[{}].destination", op.index)));
    }
    let kind = match &op.action {
        Action::Bind(_) => return Ok(()),
        Action::New(new) if new.kind.as_c_str() != c"proc" => return Ok(()),
        Action::New(_) => "procfs",
        Action::Remount { .. } => "a remount",
        Action::CgroupV1 | Action::CgroupV2 => "cgroup",
    };
    Err(Error::unsupported(format!("{kind} cannot be added to a running container"))
        .field(format!("mounts[{}]", op.index))
        .hint("bind mounts and other file systems can"))
}

fn change(target: &Target<'_>, plan: &Plan, change: &Change<'_>) -> Result<()> {
    let gone = || Error::lifecycle("container not running");
    let live = Live {
        init: target.init.pidfd().doing("pidfd_open of the container's init")?.ok_or_else(gone)?,
        namespaces: target.record.namespaces & JOINED,
        root: open_root(target),
    };
    let user_namespace = live.namespaces & libc::CLONE_NEWUSER != 0;
    let (socket, child_end) = socket::seqpacket_pair().doing("socketpair")?;
    let child = InitChild {
        plan,
        channel: Channel(child_end),
        gate: None,
        cgroups: Cgroups::Given(Vec::new()),
        namespaces: Vec::new(),
        rootfs: None,
        proc: open_proc()?,
        mount_namespace: None,
        v1_views: Vec::new(),
        v1_view: None,
        v2_directory: None,
        hooks: None,
        keep_fds: 0,
        user_namespace,
        privileged: nix::unistd::geteuid().is_root(),
        notify_mount: None,
        timeline: None,
    };
    match clone_single_threaded(0, None).doing("clone3")? {
        Side::Child => init::change_mounts(&child, live, change),
        Side::Parent(_, pidfd) => {
            drop(child);
            let served = serve(plan, change, &socket);
            drop(socket);
            spawn::wait(pidfd.as_fd()).map(drop).doing("wait for the child")?;
            served
        }
    }
}

/// The root of the container, whatever its mount namespace has besides; not to be had by an ordinary user before `start`.
fn open_root(target: &Target<'_>) -> Option<OwnedFd> {
    let path = CString::new(format!("/proc/{}/root", target.init.pid)).ok()?;
    let root = fd::openat(fd::CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0).ok()?;
    // The number is still init's.
    target.init.is_alive().then_some(root)
}

fn serve(plan: &Plan, change: &Change<'_>, socket: &OwnedFd) -> Result<()> {
    loop {
        let (message, mount) = receive(socket)?;
        let frame = Frame::decode(&message)
            .ok_or_else(|| Error::internal("the child that changes the mounts has died"))?;
        match (frame.tag, mount) {
            (Tag::Ready, _) => return Ok(()),
            (Tag::MapMount, Some(mount)) => {
                let index = usize::try_from(frame.value).unwrap_or(usize::MAX);
                sources::map_ids(plan, index, mount.as_fd())?;
                go(socket, 0)?;
            }
            (Tag::Fault, _) => return Err(explain(plan, change, &message)),
            _ => return Err(Error::internal("the child sent a message nobody knows")),
        }
    }
}

fn explain(plan: &Plan, change: &Change<'_>, message: &[u8]) -> Error {
    let Some(fault) = sync::decode_fault(message) else {
        return Error::internal("the child sent a fault nobody knows");
    };
    let index = usize::from(fault.index);
    match change {
        Change::Remove(paths) if fault.step == Step::Unmount => {
            let path = paths.get(index).map(|path| path.to_string_lossy().into_owned());
            let error = Error::os("unmount", fault.errno)
                .path(format!("/{}", path.unwrap_or_default()))
                .field(format!("mounts[{index}].destination"));
            use nix::errno::Errno;
            match fault.errno {
                Errno::EINVAL => error.hint(
                    "nothing is mounted there, or it came with the container's user namespace",
                ),
                Errno::ELOOP => error.hint("a symlink leads there: name the place itself"),
                Errno::EPERM => error.hint(
                    "it may protect the host from the container (maskedPaths, readonlyPaths)",
                ),
                _ => error,
            }
        }
        _ => plan.explain(&fault),
    }
}
