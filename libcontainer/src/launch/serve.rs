//! The parent's side of the socket: answers the child's requests until it is ready.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::net_devices::Moved;
use super::{Launch, Mode, idmap, refusal, sources};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::foreground::Tty;
use crate::hooks::{self, Phase};
use crate::init;
use crate::plan::ProcessPlan;
use crate::process::Stat;
use crate::spec::{self, Hook};
use crate::store::StateDir;
use crate::sync::{self, DETAIL, FRAME, Fault, Frame, Step, Tag};
use crate::sys::spawn::{self, ExitStatus};
use crate::sys::{fd, pidfd, process, socket};

/// Reads one message; an empty one is the end.
pub(super) fn receive(socket: &OwnedFd) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut buffer = vec![0; FRAME + DETAIL];
    let (length, fd) = loop {
        match socket::recv_fd(socket.as_fd(), &mut buffer) {
            // It has ended before it had read what we sent (unix(7)). The error is told once, ahead of what it may have said.
            Err(Errno::ECONNRESET) => {}
            other => break other.doing("read from the container's init")?,
        }
    };
    buffer.truncate(length);
    Ok((buffer, fd))
}

/// Sends go, with a value.
pub(super) fn go(socket: &OwnedFd, value: i32) -> Result<()> {
    match nix::unistd::write(socket, &Frame::of(Tag::Go, value).encode()) {
        // It has died since it asked: the next read finds the end, and the reason is looked for.
        Err(Errno::EPIPE) => Ok(()),
        other => other.map(drop).doing("answer the container's init"),
    }
}

/// What is known of a child whose socket has closed without a word.
pub(super) fn why_died(child: Option<&OwnedFd>, cgroup: &Cgroup, plan: &ProcessPlan) -> Error {
    let status = child.and_then(|child| spawn::wait(child.as_fd()).ok());
    if is_of_filter(status, plan) { not_the_program() } else { died_of(status, cgroup) }
}

/// Whether the filter may have ended a child that ended so: it kills with SIGSYS, and who may neither execve(2) nor exit(2)
/// falls over its own feet.
pub(super) fn is_of_filter(status: Option<ExitStatus>, plan: &ProcessPlan) -> bool {
    let Some(ExitStatus::Signaled { signal, .. }) = status else { return false };
    signal != libc::SIGKILL && plan.filter_denies_execve()
}

/// What is said of a child that ended so before it was ready.
pub(super) fn died_of(status: Option<ExitStatus>, cgroup: &Cgroup) -> Error {
    let killed = matches!(status, Some(ExitStatus::Signaled { signal: libc::SIGKILL, .. }));
    let oom = killed && cgroup.oom_kills().is_some_and(|kills| kills > 0);
    if oom {
        return Error::lifecycle("container init was OOM-killed (memory limit too low?)")
            .field("linux.resources.memory.limit");
    }
    let how = status.map_or_else(String::new, |status| format!(": {status}"));
    let error = Error::lifecycle(format!("container init died before it was ready{how}"));
    if killed { error.hint("killed by somebody, or by the kernel for memory") } else { error }
}

/// Sets what a process in a user namespace may not set itself.
pub(super) fn set_limits(pid: Pid, plan: &ProcessPlan) -> Result<()> {
    let explain = |index, errno| plan.explain(&Fault::new(Step::Rlimit, index, errno));
    for (i, (resource, soft, hard)) in plan.rlimits.iter().enumerate() {
        process::prlimit(pid, *resource, *soft, *hard).map_err(|errno| explain(i, errno))?;
    }
    Ok(())
}

/// Sets what needs CAP_SYS_NICE outside of the child's user namespace.
pub(super) fn set_scheduling(pid: Pid, plan: &ProcessPlan) -> Result<()> {
    init::set_scheduling(pid, &plan.scheduling).map_err(|fault| plan.explain(&fault))
}

/// A child's end of the socket is closed by execve(2), and by death. Where the filter may stand between the two, asks which
/// of them it was.
pub(super) fn check_program(plan: &ProcessPlan, pid: Pid) -> Result<()> {
    if !plan.filter_denies_execve() || !Stat::read(pid).is_ok_and(|stat| stat.has_not_executed()) {
        return Ok(());
    }
    Err(not_the_program())
}

/// What is said of an init that was killed on its last step.
pub(crate) fn not_the_program() -> Error {
    Error::lifecycle("container init died before it became the program")
        .field("linux.seccomp")
        .hint("killed, perhaps by a seccomp profile that forbids execve")
}

/// Writes a file of `pid`'s in the host's procfs.
fn write_proc_of(pid: Pid, file: &str, text: &str) -> Result<(), Errno> {
    let path = std::ffi::CString::new(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let file = fd::openat(fd::CWD, &path, libc::O_WRONLY, 0)?;
    nix::unistd::write(&file, text.as_bytes()).map(drop)
}

/// Takes the seccomp listener that the child is about to have as descriptor `number`, and returns it.
///
/// The child cannot be asked to send it: whatever it would send it with may be what the filter holds up. Until its
/// seccomp(2) has returned there is no such descriptor, so this tries again, as long as the child lives; `None` if it
/// says something instead, which is a fault.
pub(super) fn take_listener(
    child: BorrowedFd<'_>,
    socket: &OwnedFd,
    number: i32,
) -> Result<Option<OwnedFd>> {
    loop {
        match pidfd::getfd(child, number) {
            Ok(listener) => return Ok(Some(listener)),
            Err(Errno::EBADF) => {}
            // It has ended since it asked: the caller's next read says why.
            Err(Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(Error::os("take the seccomp listener", errno)),
        }
        let mut watched = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let millisecond = PollTimeout::from(1_u8);
        if poll(&mut watched, millisecond).doing("poll")? > 0 {
            return Ok(None);
        }
    }
}

/// Sends the listener to the agent at `linux.seccomp.listenerPath` (runtime.md "Seccomp state").
pub(super) fn send_listener(
    profile: &spec::Seccomp<'_>,
    listener: &OwnedFd,
    pid: Pid,
    state: &[u8],
) -> Result<()> {
    let path =
        profile.listener_path.as_deref().filter(|path| !path.is_empty()).ok_or_else(|| {
            Error::config("a profile with SCMP_ACT_NOTIFY needs a listenerPath")
                .field("linux.seccomp.listenerPath")
        })?;
    let failed = |error: Error| error.field("linux.seccomp.listenerPath");
    let agent = socket::connect(Path::new(path), nix::sys::socket::SockType::Stream)
        .on("failed to connect with seccomp agent", path)
        .map_err(failed)?;
    let metadata = profile.listener_metadata.as_deref().unwrap_or_default();
    let metadata = serde_json::to_string(metadata)
        .map_err(|error| Error::internal(format!("encode the seccomp state: {error}")))?;
    let mut message = format!(
        "{{\"ociVersion\":\"{}\",\"fds\":[\"seccompFd\"],\"pid\":{pid},\"metadata\":{metadata},\"state\":",
        spec::OCI_VERSION
    )
    .into_bytes();
    message.extend_from_slice(state);
    message.push(b'}');
    socket::send_fd(agent.as_fd(), &message, listener.as_fd())
        .on("send to the seccomp agent", path)
        .map_err(failed)
}

/// What serves one child.
pub(super) struct Server<'l, 'a> {
    pub(super) launch: &'l Launch<'a>,
    pub(super) socket: OwnedFd,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// Where the terminal's master goes; else it stays here.
    pub(super) console: Option<OwnedFd>,
    pub(super) master: Option<Tty>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// To be moved back if the launch fails.
    pub(super) net_devices: Option<Moved>,
}

impl Server<'_, '_> {
    /// Answers requests until the child is ready.
    pub(super) fn serve(
        &mut self,
        state: &StateDir,
        cgroup: &Cgroup,
        child: &mut Option<OwnedFd>,
    ) -> Result<()> {
        loop {
            let (message, fd) = receive(&self.socket)?;
            if message.is_empty() {
                let plan = &self.launch.plan.process;
                return Err(in_init(why_died(child.take().as_ref(), cgroup, plan)));
            }
            let Some(frame) = Frame::decode(&message) else {
                return Err(Error::internal("init sent a message nobody knows"));
            };
            match frame.tag {
                Tag::Ready => return Ok(()),
                Tag::Fault => return Err(self.explain(&message)),
                Tag::MapIds => self.map_ids()?,
                Tag::MapMount => self.map_mount(frame.value, fd)?,
                Tag::InitForked => self.adopt(fd, child)?,
                Tag::RunHooks => self.runtime_hooks(state, cgroup)?,
                Tag::Console => self.take_console(frame.value, fd)?,
                Tag::Listener => self.pass_listener(frame.value, "creating")?,
                Tag::Limits => {
                    set_limits(self.pid, &self.launch.plan.process)?;
                    self.go()?;
                }
                Tag::Scheduling => {
                    set_scheduling(self.pid, &self.launch.plan.process)?;
                    self.go()?;
                }
                Tag::TimeOffsets => self.time_offsets()?,
                Tag::Cgroups | Tag::CgroupsAndView | Tag::Go => {
                    return Err(Error::internal("init sent what only the runtime sends"));
                }
            }
        }
    }

    /// Sends the child the way into its cgroups.
    pub(super) fn send_tasks(
        &self,
        tasks: Vec<OwnedFd>,
        left_out: i32,
        view: Option<OwnedFd>,
    ) -> Result<()> {
        send_tasks(self.socket.as_fd(), tasks, left_out, view)
    }

    fn explain(&self, message: &[u8]) -> Error {
        match sync::decode_fault(message) {
            Some(fault) => {
                let error = self.launch.plan.explain(&fault);
                let rootless = self.launch.facts.euid != 0
                    && self.launch.plan.namespaces.makes(libc::CLONE_NEWUSER);
                in_init(if rootless { refusal::explain(error, fault.errno) } else { error })
            }
            None => Error::internal("init sent a fault nobody knows"),
        }
    }

    /// Says go, with the child's pid.
    pub(super) fn go(&self) -> Result<()> {
        go(&self.socket, self.pid.as_raw())
    }

    fn map_ids(&self) -> Result<()> {
        if let Some(maps) = &self.launch.plan.idmaps {
            let gid = nix::unistd::getegid().as_raw();
            idmap::write(maps, self.pid, self.launch.facts.euid, gid)?;
        }
        self.go()
    }

    fn time_offsets(&self) -> Result<()> {
        let plan = self.launch.plan;
        let offsets = plan.namespaces.time_offsets.as_deref().unwrap_or_default();
        write_proc_of(self.pid, "timens_offsets", offsets)
            .map_err(|errno| plan.explain(&Fault::new(Step::TimeOffsets, 0, errno)))?;
        self.go()
    }

    fn map_mount(&self, index: i32, mount: Option<OwnedFd>) -> Result<()> {
        let mount = mount.ok_or_else(|| Error::internal("init sent no mount"))?;
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        sources::map_ids(self.launch.plan, index, mount.as_fd())?;
        self.go()
    }

    /// Stage 1 has cloned the init and ends: the init is our child as well.
    fn adopt(&mut self, init: Option<OwnedFd>, child: &mut Option<OwnedFd>) -> Result<()> {
        let init = init.ok_or_else(|| Error::internal("stage 1 sent no pidfd"))?;
        let pid = pidfd::pid_of(init.as_fd()).doing("read the pid of the container's init")?;
        *child = Some(init.try_clone().doing("dup")?);
        let stage1 = std::mem::replace(&mut self.pidfd, init);
        self.pid = pid;
        spawn::wait(stage1.as_fd()).map(drop).doing("wait for stage 1")?;
        self.go()
    }

    fn runtime_hooks(&mut self, state: &StateDir, cgroup: &Cgroup) -> Result<()> {
        if self.launch.spec.asks_for_delegate() {
            cgroup.enter_delegated(self.launch.plan.delegate_owner())?;
        }
        let devices = &self.launch.plan.net_devices;
        if !devices.is_empty() {
            Moved::move_in(devices, self.pid, &mut self.net_devices, self.launch.log)?;
        }
        let Some(hooks) = self.launch.spec.hooks.as_ref() else { return self.go() };
        if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
            // A hook may ask for the state.
            self.launch.record(state, cgroup, self.pid, true)?;
            // The word of the specification that prestart is from, as crun says it; those after it have runc's.
            self.run_hooks(Phase::Prestart, &hooks.prestart, "created")?;
            self.run_hooks(Phase::CreateRuntime, &hooks.create_runtime, "creating")?;
        }
        self.go()
    }

    /// Runs hooks in the runtime's namespaces.
    pub(super) fn run_hooks(&self, phase: Phase, hooks: &[Hook<'_>], status: &str) -> Result<()> {
        let options = hooks::Options {
            cwd: None,
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
            env: None,
            all: phase == Phase::Poststart && self.poststart_only_warns(),
        };
        let pid = if phase == Phase::Poststop { 0 } else { self.pid.as_raw() };
        hooks::run_hooks(phase, hooks, &self.launch.template()?.render(status, pid), &options)
    }

    /// Runs the `poststart` hooks, if there are any.
    pub(super) fn run_poststart_hooks(&self) -> Result<()> {
        let hooks = self.launch.spec.hooks.as_ref().map(|hooks| &hooks.poststart);
        let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else { return Ok(()) };
        match self.run_hooks(Phase::Poststart, hooks, "running") {
            Err(error) if self.poststart_only_warns() => {
                self.launch.log.warn(&error.to_string());
                Ok(())
            }
            other => other,
        }
    }

    fn poststart_only_warns(&self) -> bool {
        hooks::poststart_only_warns(self.launch.spec.oci_version.as_deref())
    }

    fn take_console(&mut self, number: i32, master: Option<OwnedFd>) -> Result<()> {
        let master = master.ok_or_else(|| Error::internal("init sent no terminal"))?;
        match self.console.take() {
            // Before the program runs: its first output is to be translated, its first size right.
            None if self.launch.options.mode == Mode::RunForeground => {
                self.master = Some(Tty::new(master)?);
            }
            None => drop(master),
            Some(socket) => {
                let name = format!("/dev/pts/{number}");
                socket::send_fd(socket.as_fd(), name.as_bytes(), master.as_fd())
                    .doing("send the terminal to the console socket")?;
            }
        }
        Ok(())
    }

    fn pass_listener(&self, number: i32, status: &str) -> Result<()> {
        let listener = take_listener(self.pidfd.as_fd(), &self.socket, number)?;
        let Some(listener) = listener else { return Ok(()) };
        let profile = self.launch.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let profile = profile.ok_or_else(|| Error::internal("a listener without a profile"))?;
        let state = self.launch.template()?.render(status, self.pid.as_raw());
        send_listener(profile, &listener, self.pid, &state)?;
        self.go()
    }

    /// Waits until execve closes the child's end, or the child says why it cannot.
    pub(super) fn wait_for_exec(&self, cgroup: &Cgroup, child: &mut Option<OwnedFd>) -> Result<()> {
        let plan = self.launch.plan;
        loop {
            let (message, _) = receive(&self.socket)?;
            if message.is_empty() {
                check_program(&plan.process, self.pid).map_err(in_init)?;
                // It said ready before its last steps, in which it may have been killed too.
                let early = plan.finishes_alone();
                if early && Stat::read(self.pid).is_ok_and(|stat| stat.has_not_executed()) {
                    let plan = &plan.process;
                    return Err(in_init(why_died(child.take().as_ref(), cgroup, plan)));
                }
                return Ok(());
            }
            match Frame::decode(&message) {
                // The filter is loaded late when there are startContainer hooks.
                Some(frame) if frame.tag == Tag::Listener => {
                    self.pass_listener(frame.value, "created")?;
                }
                _ => return Err(self.explain(&message)),
            }
        }
    }

    /// Whether the pid file at `path` is the one this launch wrote.
    pub(super) fn ready_was_written(&self, path: &Path) -> bool {
        std::fs::read_to_string(path).is_ok_and(|text| text == self.pid.to_string())
    }
}

/// The words engines look for before the cause of a failing init.
pub(super) fn in_init(error: Error) -> Error {
    error.context("error during container init").context("unable to start container process")
}

/// Tells init that its cgroups are there: to join these, and to show them by `view`.
pub(super) fn send_tasks(
    socket: BorrowedFd<'_>,
    mut tasks: Vec<OwnedFd>,
    left_out: i32,
    view: Option<OwnedFd>,
) -> Result<()> {
    let tag = if view.is_some() { Tag::CgroupsAndView } else { Tag::Cgroups };
    tasks.extend(view);
    let borrowed: Vec<BorrowedFd<'_>> = tasks.iter().map(AsFd::as_fd).collect();
    let frame = Frame::of(tag, left_out).encode();
    let sent = socket::send_fds(socket, &frame, &borrowed);
    fd::close_all(tasks);
    match sent {
        // It has ended, and said why: that is read next.
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        other => other.doing("send the cgroup to the container's init"),
    }
}
