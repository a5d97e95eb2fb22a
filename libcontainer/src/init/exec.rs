//! The child of `exec`: joins the running container and becomes the program.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::enter::{self, Privileges, Program};
use super::label::{Labels, with_key_label};
use super::{Channel, console, prepare};
use crate::plan::ProcessPlan;
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::sys::clone::setns;
use crate::sys::spawn::signal::{SignalMask, reset_dispositions};
use crate::sys::{self, fd, process};
use crate::terminal;
use crate::timeline::{Inside, Stage, mark};

/// What the parent has opened for the child of an `exec`.
#[derive(Debug)]
pub(crate) struct ExecChild<'a> {
    pub(crate) process: &'a ProcessPlan,
    pub(crate) channel: Channel,
    /// v1 `tasks` files to write `0` to.
    pub(crate) tasks: Vec<OwnedFd>,
    /// The container's init.
    pub(crate) init: OwnedFd,
    /// `CLONE_NEW*` of the container's own namespaces, less the pid namespace, which the parent has chosen before the clone.
    pub(crate) namespaces: libc::c_int,
    /// Whether the pid namespace is left to the child, which takes a second clone.
    pub(crate) two_stages: bool,
    /// The host's procfs, where the plan [writes to it](ProcessPlan::writes_to_proc).
    pub(crate) proc: Option<OwnedFd>,
    /// Descriptors from 3 on that the process keeps.
    pub(crate) keep_fds: u32,
    /// Name of the session keyring to join.
    pub(crate) keyring: Option<CString>,
    /// The root of a container that has no mount namespace of its own to join.
    pub(crate) root: Option<OwnedFd>,
    /// Whether it may ask the parent for something, and so is ready only at the end. Otherwise it is ready from the
    /// beginning, and the parent does beside it what has to be done before the program runs.
    pub(crate) asks: bool,
    /// Whether its pid is told to somebody before the program runs, which is done only once it can: ready is said again.
    pub(crate) published: bool,
    /// Whether it is to wait until it has been moved into the cgroup, as long as it has ids that may be.
    pub(crate) outside: bool,
    /// Where it notes when it was how far, with `--debug`.
    pub(crate) timeline: Option<&'a Inside>,
}

impl ExecChild<'_> {
    /// The host's procfs; without one, what nothing can be opened below.
    fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_ref().unwrap_or(&self.init).as_fd()
    }
}

/// Joins the container and becomes the program.
pub(crate) fn exec(mut child: ExecChild<'_>) -> ! {
    mark(child.timeline, Stage::Began);
    crate::exeseal::let_go();
    // The processes of the container see this one from the moment it is in their pid namespace.
    sys::entry::forget_arguments(prepare::INIT_NAME);
    if child.outside
        && let Err(fault) = child.channel.wait_for_tasks()
    {
        child.channel.fail(&fault);
    }
    if !child.asks {
        say_ready(&child);
    }
    let program = enter_container(&mut child).unwrap_or_else(|fault| child.channel.fail(&fault));
    if child.asks || child.published {
        say_ready(&child);
    }
    // The parent writes pid files and sends pidfds before the program can run.
    if let Err(fault) = child.channel.wait() {
        child.channel.fail(&fault);
    }
    let fault = enter::become_program(child.process, &program);
    child.channel.fail(&fault)
}

fn say_ready(child: &ExecChild<'_>) {
    if let Err(errno) = child.channel.send(Frame::of(Tag::Ready, 0)) {
        child.channel.fail(&Fault::new(Step::Parent, 0, errno));
    }
}

fn enter_container(child: &mut ExecChild<'_>) -> Result<Program, Fault> {
    for (i, tasks) in child.tasks.iter().enumerate() {
        nix::unistd::write(tasks, b"0").at(Step::CgroupJoin, i)?;
    }
    fd::close_all(std::mem::take(&mut child.tasks));
    mark(child.timeline, Stage::Cgroups);
    set_affinity(child.process)?;
    let user_namespace = child.namespaces & libc::CLONE_NEWUSER != 0;
    if child.two_stages {
        setns(child.init.as_fd(), libc::CLONE_NEWUSER).at(Step::NamespaceJoin, usize::MAX)?;
        setns(child.init.as_fd(), libc::CLONE_NEWPID).at(Step::NamespaceJoin, usize::MAX)?;
        super::namespace::fork_sibling(&child.channel, 0)?;
        child.namespaces &= !libc::CLONE_NEWUSER;
    }
    join(child)?;
    mark(child.timeline, Stage::Namespaces);
    if let Some(root) = child.root.take() {
        nix::unistd::fchdir(&root).at(Step::Chroot, 0)?;
        nix::unistd::chroot(c".").at(Step::Chroot, 0)?;
        nix::unistd::chdir(c"/").at(Step::Chroot, 0)?;
    }
    if user_namespace {
        super::namespace::become_root()?;
    }
    let _leader_already = nix::unistd::setsid();
    if let Some(name) = &child.keyring {
        // As at create, but a full quota is no reason to lose a probe.
        let join = || process::join_session_keyring(name);
        let _serial = with_key_label(child.process, child.proc(), join)?;
    }
    mark(child.timeline, Stage::Names);
    apply_limits(child, user_namespace)?;
    standard_streams(child)?;
    SignalMask::EMPTY.set().at(Step::Stdio, 0)?;
    reset_dispositions();
    mark(child.timeline, Stage::Signals);
    let labels = Labels::open(child.process, child.proc())?;
    let mut needed = vec![child.channel.0.as_raw_fd()];
    needed.extend(labels.numbers());
    fd::close_all_but(child.keep_fds, needed).at(Step::Descriptors, 0)?;
    mark(child.timeline, Stage::Closed);
    let own = Privileges {
        process: child.process,
        channel: &child.channel,
        set_limits: !user_namespace,
        labels: &labels,
    };
    own.apply()
}

/// The CPUs the process may run on, now that it is in the cpuset: those it is given, or all where nothing is said of it.
fn set_affinity(plan: &ProcessPlan) -> Result<(), Fault> {
    let scheduling = &plan.scheduling;
    match &scheduling.last {
        Some(mask) => sys::scheduling::set_affinity(mask.words()).at(Step::Scheduler, 0),
        None if scheduling.initial.is_some() => Ok(()),
        None => {
            let _denied = process::reset_affinity();
            Ok(())
        }
    }
}

/// All namespaces in one call (setns(2) with a pidfd); in two if some belong to the host's user namespace.
fn join(child: &ExecChild<'_>) -> Result<(), Fault> {
    let all = child.namespaces;
    if all == 0 {
        return Ok(());
    }
    match setns(child.init.as_fd(), all) {
        Err(Errno::EPERM) if all & libc::CLONE_NEWUSER != 0 => {
            let others = all & !libc::CLONE_NEWUSER;
            setns(child.init.as_fd(), others).at(Step::NamespaceJoin, usize::MAX)?;
            setns(child.init.as_fd(), libc::CLONE_NEWUSER).at(Step::NamespaceJoin, usize::MAX)
        }
        other => other.at(Step::NamespaceJoin, usize::MAX),
    }
}

fn apply_limits(child: &ExecChild<'_>, user_namespace: bool) -> Result<(), Fault> {
    if !user_namespace {
        return prepare::write_oom_score(child.process, child.proc());
    }
    if !child.process.rlimits.is_empty() {
        child.channel.ask(Tag::Limits, 0)?;
    }
    Ok(())
}

/// The terminal, or the caller's streams. Nothing opened here outlives it: the descriptors are swept up next.
fn standard_streams(child: &ExecChild<'_>) -> Result<(), Fault> {
    let pty = match child.process.terminal {
        Some(_) => {
            let root = fd::openat(fd::CWD, c"/", libc::O_PATH, 0).at(Step::Console, 0)?;
            console::make(child.process, root.as_fd(), &child.channel)?
        }
        None => None,
    };
    match pty {
        Some(pty) => terminal::make_controlling(pty.slave),
        None => terminal::chown_stdio(nix::unistd::Uid::from_raw(child.process.uid)),
    }
    .map_err(|error| Fault::new(Step::Stdio, 0, error.raw_errno().unwrap_or(Errno::EIO)))
}
