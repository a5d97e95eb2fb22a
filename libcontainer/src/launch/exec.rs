//! The parent's side of `exec`: one more process in a running container.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::lsm;
use super::oom_score::OomScore;
use super::serve::{
    self, died_of, go, is_of_filter, not_the_program, receive, set_limits, set_scheduling,
};
use super::{open_proc, pid_file};
use crate::bundle;
use crate::cgroup::{Cgroup, Join};
use crate::error::{Context, Error, Result};
use crate::foreground::Tty;
use crate::hooks::StateTemplate;
use crate::init::{self, Channel, ExecChild};
use crate::log::Log;
use crate::plan::list::Mask;
use crate::plan::process::Context as ProcessContext;
use crate::plan::{self, ProcessPlan};
use crate::process::{Init, Stat};
use crate::resctrl;
use crate::seccomp::Filter;
use crate::spec::{self, Process};
use crate::store::{self, Record, StateDir};
use crate::sync::{self, Frame, Tag};
use crate::sys::clone::{Side, clone_single_threaded, setns};
use crate::sys::fd;
use crate::sys::spawn::signal;
use crate::sys::{pidfd, scheduling, socket, spawn};
use crate::terminal;
use crate::timeline::{Clock, Inside};

/// What `exec` is asked, beside the process itself.
#[derive(Debug, Default)]
pub struct ExecOptions<'a> {
    /// Gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets its pid; absolute.
    pub pid_file: Option<PathBuf>,
    /// Whether the runtime goes away.
    pub detach: bool,
    /// Descriptors from 3 on to pass.
    pub preserve_fds: u32,
    /// `--cgroup`, as given.
    pub cgroup: Vec<&'a str>,
}

/// A process that runs in the container.
#[derive(Debug)]
pub struct Started {
    /// Its pid, as the runtime sees it.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// The terminal, when the caller relays it.
    pub terminal: Option<Tty>,
}

/// The container a process is started in.
pub(crate) struct Target<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) record: &'a Record<'a>,
    pub(crate) init: Init,
    pub(crate) cgroup: &'a Cgroup,
}

/// Starts `process` in the container, whose init is `init`.
///
/// # Errors
/// Whatever failed; the process does not run then.
pub(crate) fn exec_in(
    target: &Target<'_>,
    init: OwnedFd,
    process: &Process<'_>,
    options: &ExecOptions<'_>,
    log: &dyn Log,
) -> Result<Started> {
    let clock = Clock::start(log);
    clock.step("found the container");
    let terminal = process.terminal.unwrap_or(false);
    terminal::check_terminal(terminal, options.detach, options.console_socket.is_some())?;
    let mut warnings = Vec::new();
    let context = ProcessContext {
        seccomp: match target.record.filtered {
            Some(false) => None,
            _ => saved_filter(target.state)?,
        },
        memory_policy: target.record.memory_policy.as_ref(),
        personality: target.record.personality.as_ref(),
        ..Default::default()
    };
    let plan = ProcessPlan::build(process, context, &mut warnings)?;
    lsm::check_process(&plan)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    let console = options.console_socket.as_deref().map(terminal::connect_console_socket);
    let console = console.transpose()?;
    let socket = options.pidfd_socket.as_deref().map(terminal::connect_pidfd_socket).transpose()?;
    if let Some(cpus) = &plan.scheduling.initial {
        // In the words of runc, whose own tests look for them.
        log.debug(&format!("nsexec: affinity: {cpus:#x}"));
    }
    super::tell_flags(&plan, log);
    clock.step("made the plan");
    let inside = clock.inside();
    let child = clone_child(target, init, &plan, options, inside.as_ref())?;
    // The words in brackets are what scripts look for in the log of runc.
    clock.step("cloned the process (runc: nsexec container setup, child process in init())");
    let mut server = Server { target, plan: &plan, console, child, master: None };
    match server.finish(options, socket) {
        Ok(()) => {
            clock.print(inside.as_ref());
            clock.step("the program runs (runc: setns_init: about to exec)");
            Ok(Started {
                pid: server.child.pid,
                pidfd: server.child.pidfd,
                terminal: server.master,
            })
        }
        Err(error) => {
            server.child.end();
            if let Some(path) = options.pid_file.as_deref()
                && server.child.pid_written
            {
                let _gone = std::fs::remove_file(path);
            }
            Err(error)
        }
    }
}

/// The program that `create` compiled.
///
/// Without it, or with one that another version of skep has written, the profile is compiled anew: a container that has
/// a filter never gets a process without one.
fn saved_filter(state: &StateDir) -> Result<Option<Filter>> {
    let saved = state.read(store::SECCOMP)?;
    if let Some(Ok(filter)) = saved.as_deref().map(Filter::from_bytes) {
        return Ok(Some(filter));
    }
    let config = state
        .read(store::CONFIG)?
        .ok_or_else(|| Error::internal("the saved config.json is gone").path(state.path()))?;
    let spec = bundle::parse(&config)?;
    plan::compile_seccomp(&spec, &mut Vec::new())
}

struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
    /// Whether it may ask for something, and is ready only when it has.
    asks: bool,
    /// Whether its pid is told to somebody, once it can run.
    published: bool,
    pid_written: bool,
}

impl Child {
    fn end(&self) {
        let _gone = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _reaped = spawn::wait(self.pidfd.as_fd());
    }
}

fn clone_child(
    target: &Target<'_>,
    init: OwnedFd,
    plan: &ProcessPlan,
    options: &ExecOptions<'_>,
    timeline: Option<&Inside>,
) -> Result<Child> {
    let own = target.record.namespaces;
    let mut join = target.cgroup.join_exec(&options.cgroup)?;
    let proc = plan.writes_to_proc().then(open_proc).transpose()?;
    let root = match target.record.made_namespaces() & libc::CLONE_NEWNS {
        0 => open_root(target)?,
        _ => None,
    };
    let (back, two_stages) = enter_pid_namespace(&init, own)?;
    let pinned = plan.scheduling.initial.as_ref().map(Pinned::to).transpose()?;
    let in_user_namespace = own & libc::CLONE_NEWUSER != 0;
    let score = if in_user_namespace { OomScore::take(plan)? } else { None };
    let notifies = plan.seccomp.as_ref().is_some_and(|filter| filter.notify);
    let asks = plan.terminal.is_some() || in_user_namespace || notifies;
    let published = options.pid_file.is_some() || options.pidfd_socket.is_some();
    if options.detach {
        // Where the caller ignores it, nothing would be left of a child that dies too early to be asked.
        signal::set_default(libc::SIGCHLD).doing("sigaction")?;
    }
    let (mut rounds, mut outside) = (0, false);
    loop {
        let (socket, child_end) = socket::seqpacket_pair().doing("socketpair")?;
        let Join { into, mut tasks } = join;
        if let Some(record) = &target.record.resctrl {
            tasks.append(&mut resctrl::Group::from_record(record.clone())?.tasks()?);
        }
        match clone_single_threaded(0, into.as_ref().map(AsFd::as_fd)) {
            Ok(Side::Child) => {
                // Else it would never see that the parent is gone.
                drop(socket);
                init::exec(ExecChild {
                    process: plan,
                    channel: Channel(child_end),
                    tasks,
                    init,
                    namespaces: own & !libc::CLONE_NEWPID,
                    two_stages,
                    proc,
                    keep_fds: options.preserve_fds,
                    keyring: keyring(target.record),
                    root,
                    asks,
                    published,
                    outside,
                    timeline,
                })
            }
            Ok(Side::Parent(pid, pidfd)) => {
                drop(back);
                drop((pinned, score));
                tasks.extend([child_end, init]);
                tasks.extend(proc);
                fd::close_all(tasks);
                let child = Child { pid, pidfd, socket, asks, published, pid_written: false };
                if outside {
                    // Only systemd may (see [`super::Launch::clone_init`]).
                    let moved = target.cgroup.attach_exec(pid.as_raw());
                    let told = || serve::send_tasks(child.socket.as_fd(), Vec::new(), 0, None);
                    moved.and_then(|()| told()).inspect_err(|_not_moved| child.end())?;
                }
                return Ok(child);
            }
            // The cgroup has children now (a systemd inside, say), and so no room for processes: go where init went.
            // It may go on from there at this moment.
            Err(Errno::EBUSY) if options.cgroup.is_empty() && rounds < 10 => {
                rounds += 1;
                join = target.cgroup.join_of(target.init.pid.as_raw())?;
            }
            Err(Errno::EACCES)
                if into.is_some()
                    && options.cgroup.is_empty()
                    && target.cgroup.unit().is_some() =>
            {
                outside = true;
                join = Join { into: None, tasks };
            }
            Err(errno) if into.is_some() => return Err(target.cgroup.join_error(errno)),
            Err(errno) => return Err(Error::os("clone3", errno)),
        }
    }
}

fn keyring(record: &Record<'_>) -> Option<CString> {
    record.keyring.then(|| CString::new(format!("_ses.{}", record.id.as_str())).ok()).flatten()
}

/// The root of a container that lives in the host's mount namespace or in somebody else's: to join that does not lead to it.
fn open_root(target: &Target<'_>) -> Result<Option<OwnedFd>> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let path = CString::new(format!("/proc/{}/root", target.init.pid)).unwrap_or_default();
    if let Ok(root) = fd::openat(fd::CWD, &path, flags, 0)
        && target.init.is_alive()
    {
        return Ok(Some(root));
    }
    if target.record.namespaces & libc::CLONE_NEWNS != 0 {
        // It is in a copy of the namespace, which the root of its user namespace has made its own.
        return Ok(None);
    }
    let rootfs = target.record.rootfs.as_str();
    let path = CString::new(rootfs).unwrap_or_default();
    fd::openat(fd::CWD, &path, flags, 0).on("open the root of the container", rootfs).map(Some)
}

/// Children of this process are born in the container's pid namespace until the guard goes.
///
/// An ordinary user may not, before it is in the container's user namespace: then the child has to do it, in two stages.
fn enter_pid_namespace(init: &OwnedFd, own: libc::c_int) -> Result<(Option<Back>, bool)> {
    if own & libc::CLONE_NEWPID == 0 {
        return Ok((None, false));
    }
    // It stands for the namespace as well (setns(2)), and costs less to open than /proc/self/ns/pid.
    let back = pidfd::open(nix::unistd::getpid()).doing("pidfd_open")?;
    match setns(init.as_fd(), libc::CLONE_NEWPID) {
        Err(Errno::EPERM) if own & libc::CLONE_NEWUSER != 0 => Ok((None, true)),
        other => {
            other.doing("join the pid namespace of the container")?;
            Ok((Some(Back(back)), false))
        }
    }
}

struct Back(OwnedFd);

impl Drop for Back {
    fn drop(&mut self) {
        // It was this process's a moment ago.
        let _back = setns(self.0.as_fd(), libc::CLONE_NEWPID);
    }
}

/// Children of this process are born on some CPUs only, until the guard goes (`process.execCPUAffinity.initial`).
struct Pinned([u64; 128]);

impl Pinned {
    fn to(mask: &Mask) -> Result<Self> {
        let set = || -> nix::Result<Self> {
            let before = scheduling::affinity()?;
            scheduling::set_affinity(mask.words())?;
            Ok(Self(before))
        };
        set().map_err(|errno| {
            Error::os("set the CPU affinity", errno)
                .field("process.execCPUAffinity.initial")
                .hint("none of these CPUs is online and in the runtime's own cpuset")
        })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was this process's a moment ago.
        let _back = scheduling::set_affinity(&self.0);
    }
}

struct Server<'a> {
    target: &'a Target<'a>,
    plan: &'a ProcessPlan,
    console: Option<OwnedFd>,
    child: Child,
    master: Option<Tty>,
}

impl Server<'_> {
    fn finish(&mut self, options: &ExecOptions<'_>, pidfd_socket: Option<OwnedFd>) -> Result<()> {
        self.serve()?;
        if !self.child.asks {
            crate::exeseal::let_go();
            if self.child.published {
                self.serve()?;
            }
        }
        if let Some(socket) = pidfd_socket {
            let kind = terminal::PidfdKind::Setns;
            terminal::send_pidfd(socket.as_fd(), kind, self.child.pidfd.as_fd())?;
        }
        if let Some(path) = &options.pid_file {
            pid_file::write(path, self.child.pid)?;
            self.child.pid_written = true;
        }
        self.go()?;
        crate::exeseal::let_go();
        let (message, _) = receive(&self.child.socket)?;
        if !message.is_empty() {
            return Err(self.explain(&message));
        }
        // The end of the socket was execve or death.
        match Stat::read(self.child.pid) {
            Ok(stat) if stat.has_not_executed() => Err(self.why_died()),
            _ => Ok(()),
        }
    }

    fn go(&self) -> Result<()> {
        go(&self.child.socket, self.child.pid.as_raw())
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            let (message, fd) = receive(&self.child.socket)?;
            if message.is_empty() {
                return Err(self.why_died());
            }
            let Some(frame) = Frame::decode(&message) else {
                return Err(Error::internal("the process sent a message nobody knows"));
            };
            match frame.tag {
                Tag::Ready => return Ok(()),
                Tag::Fault => return Err(self.explain(&message)),
                Tag::Console => self.take_console(frame.value, fd)?,
                Tag::Limits => {
                    set_limits(self.child.pid, self.plan)?;
                    self.go()?;
                }
                Tag::Scheduling => {
                    set_scheduling(self.child.pid, self.plan)?;
                    self.go()?;
                }
                Tag::Listener => self.pass_listener(frame.value)?,
                Tag::InitForked => self.adopt(fd)?,
                Tag::MapIds
                | Tag::MapMount
                | Tag::RunHooks
                | Tag::TimeOffsets
                | Tag::Cgroups
                | Tag::CgroupsAndView
                | Tag::Go => {
                    return Err(Error::internal("the process asked for what only init asks for"));
                }
            }
        }
    }

    fn why_died(&self) -> Error {
        let status = spawn::wait(self.child.pidfd.as_fd()).ok();
        if is_of_filter(status, self.plan) {
            return not_the_program();
        }
        died_of(status, self.target.cgroup).hint("possibly OOM-killed")
    }

    /// Stage 1 has cloned the process and ends: it is our child as well.
    fn adopt(&mut self, process: Option<OwnedFd>) -> Result<()> {
        let process = process.ok_or_else(|| Error::internal("stage 1 sent no pidfd"))?;
        self.child.pid = pidfd::pid_of(process.as_fd()).doing("read the pid of the process")?;
        let stage1 = std::mem::replace(&mut self.child.pidfd, process);
        spawn::wait(stage1.as_fd()).map(drop).doing("wait for stage 1")?;
        self.go()
    }

    fn explain(&self, message: &[u8]) -> Error {
        match sync::decode_fault(message) {
            Some(fault) => self.plan.explain(&fault),
            None => Error::internal("the process sent a fault nobody knows"),
        }
    }

    fn take_console(&mut self, number: i32, master: Option<OwnedFd>) -> Result<()> {
        let master = master.ok_or_else(|| Error::internal("the process sent no terminal"))?;
        match self.console.take() {
            None => self.master = Some(Tty::new(master)?),
            Some(socket) => {
                let name = format!("/dev/pts/{number}");
                socket::send_fd(socket.as_fd(), name.as_bytes(), master.as_fd())
                    .doing("send the terminal to the console socket")?;
            }
        }
        Ok(())
    }

    fn pass_listener(&self, number: i32) -> Result<()> {
        let listener = serve::take_listener(self.child.pidfd.as_fd(), &self.child.socket, number)?;
        let Some(listener) = listener else { return Ok(()) };
        let config = self.target.state.read(store::CONFIG)?.unwrap_or_default();
        let saved = bundle::parse(&config)?;
        let profile = saved.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let profile = profile.ok_or_else(|| Error::internal("a listener without a profile"))?;
        let record = self.target.record;
        let template =
            StateTemplate::new(spec::OCI_VERSION, &record.id, &record.bundle, &record.annotations)?;
        let state = template.render("running", record.pid);
        serve::send_listener(profile, &listener, self.child.pid, &state)?;
        self.go()
    }
}
