//! The child's side: carries out the plan, in the order of runtime-spec's lifecycle, from clone to execve(2).
//!
//! This runs in a copy of the parent's memory, as the container's first process. It decides nothing the plan could
//! decide, prints nothing, and ends only by execve or `_exit`. A failure leaves as coordinates
//! ([`Fault`](crate::sync::Fault)).

mod channel;
mod console;
mod copy_up;
mod device;
mod diagnose;
mod enter;
mod exec;
mod label;
mod live;
mod mount;
mod namespace;
mod old_root;
mod prepare;
mod rootfs;
mod scheduling;

use std::os::fd::{AsFd, OwnedFd};

use crate::cgroup::V1View;
use crate::hooks::{self, StateTemplate};
use crate::plan::Plan;
use crate::spec;
use crate::sys::fd;
use crate::timeline::{Inside, Stage, mark};

pub(crate) use channel::Channel;
pub(crate) use exec::{ExecChild, exec};
pub(crate) use live::{Change, Live, change_mounts};
pub(crate) use mount::{attach_attributes, clone_bind, clone_root, view_of_v1};
pub(crate) use namespace::{hold_user_namespace, stage1};
pub(crate) use prepare::run;
pub(crate) use scheduling::set as set_scheduling;

/// What the parent has opened and rendered for the child before the clone.
#[derive(Debug)]
pub(crate) struct InitChild<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) channel: Channel,
    /// The FIFO that `start` writes to, open for reading and writing: a reader until execve closes it, and the place for why
    /// that was not reached. Only read(2), write(2) and execve(2) happen at it, which no profile forbids: the filter may be
    /// loaded already. Without it the channel itself says go (`run`).
    pub(crate) gate: Option<OwnedFd>,
    /// How it gets into its v1 cgroups.
    pub(crate) cgroups: Cgroups,
    /// The namespaces to join, as `plan.namespaces.join` lists them, less those the parent has joined itself.
    pub(crate) namespaces: Vec<Namespace>,
    /// The clone of the root filesystem's tree; `None` if only the child may make it (rootless).
    pub(crate) rootfs: Option<OwnedFd>,
    /// The host's procfs.
    pub(crate) proc: OwnedFd,
    /// The mount namespace to come back to once the mounts are made in a copy of it ([`Plan::detaches_root`]).
    pub(crate) mount_namespace: Option<OwnedFd>,
    /// The container's v1 cgroups; where those are awaited, the planned ones.
    pub(crate) v1_views: Vec<V1View>,
    /// What shows them, if the parent has made it; mounted nowhere yet.
    pub(crate) v1_view: Option<OwnedFd>,
    /// The container's v2 cgroup on the host, where cgroup2 cannot be mounted.
    pub(crate) v2_directory: Option<V2Directory>,
    /// Hooks that run in here, and what they read.
    pub(crate) hooks: Option<ChildHooks<'a>>,
    /// Descriptors from 3 on that the process keeps.
    pub(crate) keep_fds: u32,
    /// Whether the user namespace is new or joined: the parent sets what needs the host's privileges.
    pub(crate) user_namespace: bool,
    /// Whether the runtime is root, who may write the id maps of an undumpable process.
    pub(crate) privileged: bool,
    /// The directory with the notify socket.
    pub(crate) notify_mount: Option<NotifyMount>,
    /// Where it notes when it was how far, with `--debug`.
    pub(crate) timeline: Option<&'a Inside>,
}

/// A clone of the directory with the notify socket, and where to mount it below the root.
#[derive(Debug)]
pub(crate) struct NotifyMount {
    pub(crate) tree: OwnedFd,
    pub(crate) target: std::ffi::CString,
}

/// A directory of the host's v2 hierarchy.
#[derive(Debug)]
pub(crate) struct V2Directory {
    pub(crate) path: std::ffi::CString,
    /// Whether it is not the container's own: then it may look, and no more (CVE-2023-25809).
    pub(crate) shared: bool,
}

/// The `tasks` files of v1 cgroups, into each of which the child writes `0`.
#[derive(Debug)]
pub(crate) enum Cgroups {
    /// They are there.
    Given(Vec<OwnedFd>),
    /// The parent makes the cgroups while the child mounts, and sends them.
    Awaited,
}

impl InitChild<'_> {
    /// Whether the cgroups are still to be joined.
    fn awaits_cgroups(&self) -> bool {
        matches!(self.cgroups, Cgroups::Awaited)
    }

    /// Notes, with `--debug`, when it was how far.
    fn mark(&self, stage: Stage) {
        mark(self.timeline, stage);
    }

    /// Closes the parent's copies of the descriptors.
    pub(crate) fn close(self) {
        let mut fds = match self.cgroups {
            Cgroups::Given(tasks) => tasks,
            Cgroups::Awaited => Vec::new(),
        };
        fds.push(self.channel.0);
        fds.push(self.proc);
        fds.extend(self.namespaces.into_iter().map(|namespace| namespace.fd));
        let notify = self.notify_mount.map(|notify| notify.tree);
        fds.extend(self.gate.into_iter().chain(self.rootfs).chain(notify));
        fd::close_all(fds);
    }
}

/// The hooks that run inside.
#[derive(Debug)]
pub(crate) struct ChildHooks<'a> {
    pub(crate) spec: &'a spec::Hooks<'a>,
    pub(crate) state: StateTemplate,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl ChildHooks<'_> {
    /// What all of them have in common.
    fn options(&self) -> hooks::Options<'_> {
        hooks::Options {
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
            ..hooks::Options::default()
        }
    }
}

/// A namespace to join.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) index: usize,
    pub(crate) kind: libc::c_int,
    pub(crate) fd: OwnedFd,
}
