//! A container that exists: its status, and what can be done to it.

mod checkpoint;
mod delete;
mod limits;
mod mounts;
mod streams;

pub use checkpoint::Checkpoint;
pub use delete::{delete, delete_checkpointed, delete_ended};

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::bundle;
use crate::cgroup::{Cgroup, Driver};
use crate::error::{Context, Error, Result};
use crate::hooks::{self, Phase, StateTemplate};
use crate::id::ContainerId;
use crate::launch::{ExecOptions, Started, Target, exec_in, not_the_program};
use crate::log::Log;
use crate::notify::Proxy;
use crate::plan::process::Context as ProcessContext;
use crate::plan::{self, ProcessPlan};
use crate::process::{Init, Stat};
use crate::spec::{self, Process, Spec, annotations};
use crate::store::{self, Record, StateDir, Store};
use crate::sync::{self, PASSED};
use crate::sys::{fd, pidfd};
use crate::timeline::Clock;

/// The most that is read of what init has left in the gate: a fault, behind a byte of each `start` that was killed.
const MOST_LEFT: usize = 2 * (sync::FRAME + sync::DETAIL);

/// runtime.md "State", and `paused`, which every runtime has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` is at it.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl Status {
    /// The word in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The bytes of a record, which a [`Container`] borrows.
#[derive(Debug)]
pub struct Saved {
    state: StateDir,
    bytes: Vec<u8>,
}

impl Saved {
    /// Reads the record of `id`.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] if there is no such container.
    pub fn open(store: &Store, id: &ContainerId) -> Result<Self> {
        let state = store.open(id)?;
        let bytes = state.load()?;
        Ok(Self { state, bytes })
    }

    /// The same, once no other command changes the container; until this one ends.
    ///
    /// # Errors
    /// Those of [`Saved::open`] and [`StateDir::lock`].
    pub fn open_locked(store: &Store, id: &ContainerId) -> Result<Self> {
        let state = store.open(id)?;
        state.lock()?;
        let bytes = state.load()?;
        Ok(Self { state, bytes })
    }

    /// The container.
    ///
    /// # Errors
    /// [`crate::Kind::Internal`] for a damaged record.
    pub fn container(&self) -> Result<Container<'_>> {
        let record = store::parse(&self.bytes, self.state.path())?;
        let cgroup = Cgroup::from_record(record.cgroup.clone())?;
        let init = Init { pid: Pid::from_raw(record.pid), start_time: record.start_time };
        Ok(Container { state: &self.state, record, cgroup, init })
    }
}

/// A container that exists.
#[derive(Debug)]
pub struct Container<'a> {
    state: &'a StateDir,
    record: Record<'a>,
    cgroup: Cgroup,
    init: Init,
}

/// How long a killed init may take to end before `delete --force` gives up.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// How long it takes at most where nothing keeps it.
const SOON: Duration = Duration::from_millis(200);

impl<'a> Container<'a> {
    /// What is recorded of it.
    pub fn record(&self) -> &Record<'a> {
        &self.record
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Its directory.
    pub fn state(&self) -> &StateDir {
        self.state
    }

    /// Its init.
    pub fn init(&self) -> Init {
        self.init
    }

    /// Derives the status: from the init, the freezer and the gate, never from what was once written.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn status(&self) -> Result<Status> {
        if self.record.creating && self.record.pid == 0 {
            return Ok(Status::Creating);
        }
        if !self.init.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.record.creating {
            return Ok(Status::Creating);
        }
        if self.cgroup.is_frozen()? {
            return Ok(Status::Paused);
        }
        // The gate has a reader until init has become the program.
        let waits = self.state.open_fifo()?.is_some();
        Ok(if waits { Status::Created } else { Status::Running })
    }

    /// Starts the process of a created container, which was [opened locked](Saved::open_locked), and says so only once it
    /// runs.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it is not created; why a startContainer hook, the exec or a poststart hook failed.
    pub fn start(&self, notify_socket: Option<&OsStr>, log: &dyn Log) -> Result<()> {
        let clock = Clock::start(log);
        match self.status()? {
            Status::Created if self.record.no_process => return Err(plan::no_process()),
            Status::Created => {}
            Status::Stopped => {
                return Err(Error::lifecycle("cannot start a container that has stopped"));
            }
            Status::Running | Status::Paused => {
                return Err(Error::lifecycle("cannot start an already running container"));
            }
            Status::Creating => {
                return Err(Error::lifecycle("cannot start a container that is being created"));
            }
        }
        clock.step("found the container created");
        // Only a container that was created with one has a place for it.
        let proxy = match notify_socket {
            Some(socket) if self.state.has_notify() => Some(Proxy::bind(self.state.fd(), socket)?),
            _ => None,
        };
        self.open_gate()?;
        clock.step("the program runs");
        self.started(log)?;
        if let Some(proxy) = proxy
            && let Some(pidfd) = self.init.pidfd().doing("pidfd_open")?
        {
            proxy.wait_ready(pidfd.as_fd(), self.init.pid)?;
        }
        Ok(())
    }

    /// Writes the byte init waits for, and waits until execve closes the reader.
    fn open_gate(&self) -> Result<()> {
        let stopped = || Error::lifecycle("cannot start a container that has stopped");
        let fifo = self.state.open_fifo()?.ok_or_else(stopped)?;
        match nix::unistd::write(&fifo, &[PASSED]) {
            Err(Errno::EPIPE) => return Err(stopped()),
            other => other.map(drop).on("write", self.state.path().join(store::FIFO))?,
        }
        // Whoever comes next finds no gate; and nobody waits for this process while it waits for hooks.
        self.state.unlink(store::FIFO);
        self.state.unlock();
        let mut watched = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
        loop {
            match poll(&mut watched, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                other => {
                    other.doing("wait for init")?;
                    break;
                }
            }
        }
        self.check_program(fifo.as_fd())
    }

    /// The gate is closed by execve(2), and by death: asks which of the two it was, and waits for the end of a death.
    ///
    /// The kernel's word counts: a process of the container may write to the gate too. Why it died init has left there, or
    /// else a byte that stays until it comes to execve(2), which tells of a process that somebody has reaped already. What its
    /// filter would have done to it there is all else that can be told.
    fn check_program(&self, gate: BorrowedFd<'_>) -> Result<()> {
        let stat = Stat::read(self.init.pid).ok();
        let stat = stat.filter(|stat| stat.start_time == self.init.start_time);
        if stat.as_ref().is_some_and(|stat| !stat.has_not_executed()) {
            return Ok(());
        }
        let left = fd::unread(gate).unwrap_or(0);
        if left > 0
            && let Some(fault) = take_fault(gate)
        {
            return Err(self.explain(&fault));
        }
        if let Some(fault) = self.state.read(store::FAULT)?.filter(|fault| !fault.is_empty()) {
            return Err(self.explain(&fault));
        }
        let is_reaped = stat.is_none();
        if is_reaped && left == 0 && !self.record.execve_denied {
            return Ok(());
        }
        if let Some(init) = self.init.pidfd().doing("pidfd_open")? {
            wait_for_end(&init, KILL_WAIT)?;
        }
        Err(not_the_program())
    }

    /// Turns the coordinates init left into a sentence, with the configuration as it was.
    fn explain(&self, fault: &[u8]) -> Error {
        let explained = || -> Result<Error> {
            let fault = sync::decode_fault(fault)
                .ok_or_else(|| Error::internal("init left a fault nobody knows"))?;
            let config = self.config()?;
            let spec = bundle::parse(&config)?;
            let process = spec.process.as_ref().ok_or_else(|| Error::internal("no process"))?;
            let seccomp = plan::compile_seccomp(&spec, &mut Vec::new())?;
            let context = ProcessContext { seccomp, ..ProcessContext::default() };
            let plan = ProcessPlan::build(process, context, &mut Vec::new())?;
            Ok(plan.explain_of_config(&fault).context("error during container init"))
        };
        explained().unwrap_or_else(|error| error)
    }

    /// What `start` does after the process runs.
    fn started(&self, log: &dyn Log) -> Result<()> {
        if !self.record.hooks {
            return Ok(());
        }
        let config = self.config()?;
        let spec = bundle::parse(&config)?;
        let ran = self.run_hooks(&spec, Phase::Poststart, "running", self.record.pid);
        let Err(failed) = ran else { return Ok(()) };
        if hooks::poststart_only_warns(spec.oci_version.as_deref()) {
            log.warn(&failed.to_string());
            return Ok(());
        }
        // runtime.md "Lifecycle" 9: a failed poststart hook stops the container.
        if let Err(error) = self.kill_all() {
            log.warn(&error.to_string());
        }
        Err(failed)
    }

    fn config(&self) -> Result<Vec<u8>> {
        self.state
            .read(store::CONFIG)?
            .ok_or_else(|| Error::internal("the saved config.json is gone").path(self.state.path()))
    }

    fn run_hooks(&self, spec: &Spec<'_>, phase: Phase, status: &str, pid: i32) -> Result<()> {
        let Some(all) = spec.hooks.as_ref() else { return Ok(()) };
        let list = if phase == Phase::Poststart { &all.poststart } else { &all.poststop };
        if list.is_empty() {
            return Ok(());
        }
        let output = |key: &str| -> Result<Option<OwnedFd>> {
            let path = spec.annotations.get(key);
            path.map(|path| hooks::open_output(Path::new(path.as_str()))).transpose()
        };
        let stdout = output(annotations::HOOKS_STDOUT)?;
        let stderr = output(annotations::HOOKS_STDERR)?;
        let options = hooks::Options {
            cwd: None,
            stdout: stdout.as_ref().map(AsFd::as_fd),
            stderr: stderr.as_ref().map(AsFd::as_fd),
            env: None,
            all: hooks::poststart_only_warns(spec.oci_version.as_deref()),
        };
        let record = &self.record;
        let template =
            StateTemplate::new(spec::OCI_VERSION, &record.id, &record.bundle, &record.annotations)?;
        hooks::run_hooks(phase, list, &template.render(status, pid), &options)
    }

    /// Sends `signal` to init; with `all`, to every process of the container, which may have none any more.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] with the words engines look for if it does not run.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        // Without a pid namespace of its own the container's processes outlive its init.
        if all || (!self.record.has_own_pids() && signal == libc::SIGKILL) {
            // With the init of their pid namespace all have ended: who is in the cgroup by now is another container's.
            let ended = self.record.has_own_pids() && !self.record.creating;
            if !self.init.is_alive() && (ended || self.cgroup.pids()?.is_empty()) {
                return if all { Ok(()) } else { Err(not_running()) };
            }
            self.cgroup.signal_all(signal)?;
            // A container without cgroups has at least an init; one that had the signal already has it once more pending.
            if self.cgroup.driver() != Driver::Disabled {
                return Ok(());
            }
        }
        let Some(init) = self.init.pidfd().doing("pidfd_open")? else { return Err(not_running()) };
        match pidfd::send_signal(init.as_fd(), signal) {
            Err(Errno::ESRCH) => return Err(not_running()),
            other => other.doing(&format!("send signal {signal} to init"))?,
        }
        // The v1 freezer holds even a killed process.
        if signal == libc::SIGKILL && self.cgroup.is_frozen().unwrap_or(false) {
            self.cgroup.thaw()?;
        }
        Ok(())
    }

    /// Kills every process of the container and waits for its init.
    fn kill_all(&self) -> Result<()> {
        let init = self.init.pidfd().doing("pidfd_open")?;
        let killed = self.cgroup.signal_all(libc::SIGKILL);
        init.map_or(Ok(()), |init| end(&init, &self.cgroup))?;
        killed
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it does not run.
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Running | Status::Created => self.cgroup.freeze(),
            Status::Paused | Status::Stopped | Status::Creating => Err(not_running()),
        }
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it is not paused.
    pub fn resume(&self) -> Result<()> {
        match self.status()? {
            Status::Paused => self.cgroup.thaw(),
            _ => Err(Error::lifecycle("container not paused")),
        }
    }

    /// Starts one more process in it.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it does not run, or is paused and `ignore_paused` was not asked; why the process failed.
    pub fn exec(
        &self,
        process: &Process<'_>,
        options: &ExecOptions<'_>,
        ignore_paused: bool,
        log: &dyn Log,
    ) -> Result<Started> {
        // What status() would say, without asking the kernel twice who init is, or at all whether it is started.
        let init =
            if self.record.creating { None } else { self.init.pidfd().doing("pidfd_open")? };
        let Some(init) = init else {
            return Err(Error::lifecycle("cannot exec in a stopped container"));
        };
        if !ignore_paused && self.cgroup.is_frozen()? {
            return Err(Error::lifecycle(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        exec_in(&self.target(), init, process, options, log)
    }

    fn target(&self) -> Target<'_> {
        Target { state: self.state, record: &self.record, init: self.init, cgroup: &self.cgroup }
    }

    /// The bytes of the configuration as `create` read it, for [`bundle::parse`].
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn saved_config(&self) -> Result<Vec<u8>> {
        self.config()
    }

    /// The pids of its processes, as the caller sees them.
    ///
    /// # Errors
    /// Those of reading the cgroup.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let pids = self.cgroup.pids()?;
        // Without cgroups the init is all that is known.
        if pids.is_empty() && self.init.is_alive() {
            return Ok(vec![self.init.pid.as_raw()]);
        }
        Ok(pids)
    }
}

/// What init has left in the gate, behind the bytes that tell how far it has come.
fn take_fault(gate: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let bytes = fd::take_unread(gate, MOST_LEFT).ok()?;
    let fault: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == PASSED).collect();
    (!fault.is_empty()).then_some(fault)
}

fn not_running() -> Error {
    Error::lifecycle("container not running")
}

/// Kills an init and waits for its end, with which it is in `cgroup`.
fn end(init: &OwnedFd, cgroup: &Cgroup) -> Result<()> {
    match pidfd::send_signal(init.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(Error::os("kill init", errno)),
    }
    if wait_for_end(init, SOON).is_ok() {
        return Ok(());
    }
    // Whoever keeps it may let go of it, even where it could not be taken back.
    let recalled = cgroup.recall();
    wait_for_end(init, KILL_WAIT).map_err(|still_there| recalled.err().unwrap_or(still_there))
}

fn wait_for_end(init: &OwnedFd, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) => {
                return Err(Error::lifecycle("container init still running")
                    .hint("it may hang in the kernel: see its stack below /proc"));
            }
            other => return other.map(drop).doing("wait for init"),
        }
    }
}
