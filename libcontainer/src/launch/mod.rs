//! The parent's side of `create` and `run`: prepare everything, clone once, answer the child until it is ready.

mod cgroups;
mod clone;
mod exec;
mod idmap;
mod live_mounts;
mod lsm;
mod map_helper;
mod net_devices;
mod oom_score;
mod others;
mod pid_file;
mod prepared;
mod record;
mod refusal;
mod restore;
mod rootless;
mod serve;
mod sources;
mod undo;

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::bundle::{self, Bundle};
use crate::cgroup::{self, Cgroup, CgroupPlan, Held};
use crate::error::{Context, Error, Result};
use crate::foreground::Tty;
use crate::hooks::{Phase, StateTemplate};
use crate::id::ContainerId;
use crate::init::{Cgroups, Channel, ChildHooks, InitChild, NotifyMount};
use crate::log::Log;
use crate::notify::{self, Proxy};
use crate::plan::{self, HostFacts, Plan};
use crate::process::Init;
use crate::resctrl::{self, ResctrlPlan};
use crate::spec::{self, Spec};
use crate::store::{self, StateDir, Store};
use crate::sys::{creds, fd, socket};
use crate::terminal;
use crate::timeline::{Clock, Inside};

pub use exec::{ExecOptions, Started};
pub(crate) use exec::{Target, exec_in};
pub(crate) use live_mounts::{add as add_mounts, remove as remove_mounts};
pub(crate) use others::{Others, cgroup_of};
use prepared::Prepared;
use prepared::open_proc;
pub use restore::Restore;
use serve::Server;
pub(crate) use serve::not_the_program;
use undo::Undo;

/// What becomes of the container once it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It waits for `start`.
    Create,
    /// It runs, and the runtime goes away.
    RunDetached,
    /// It runs, and the runtime stays with it.
    RunForeground,
}

/// What `create` and `run` are asked.
#[derive(Debug)]
pub struct Options<'a> {
    /// The container's id.
    pub id: ContainerId,
    /// The state directory.
    pub store: &'a Store,
    /// The bundle.
    pub bundle: PathBuf,
    /// Another file than the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// What becomes of it.
    pub mode: Mode,
    /// Gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Gets a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets the pid of init; absolute.
    pub pid_file: Option<PathBuf>,
    /// Descriptors from 3 on to pass, beyond those of LISTEN_FDS.
    pub preserve_fds: u32,
    /// LISTEN_FDS of the runtime, where LISTEN_PID is its pid.
    pub listen_fds: u32,
    /// LISTEN_FDNAMES of the runtime.
    pub listen_names: Option<String>,
    /// NOTIFY_SOCKET of the runtime.
    pub notify_socket: Option<OsString>,
    /// Where the container has the directory of its own such socket, if not in [`notify::PLACE`].
    pub notify_place: Option<String>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Who makes cgroups.
    pub cgroup_driver: cgroup::Driver,
    /// Where systemd may be.
    pub buses: cgroup::Buses,
    /// Whether a container without limits goes on where its cgroup may not be made (`--rootless`).
    pub ignore_cgroup_permission: bool,
}

impl Options<'_> {
    fn notify_place(&self) -> &str {
        self.notify_place.as_deref().unwrap_or(notify::PLACE)
    }
}

/// A container that waits at its gate (`create`) or runs (`run`).
#[derive(Debug)]
pub struct Launched {
    /// Its init.
    pub init: Init,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// Its directory.
    pub state: StateDir,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The terminal, when the caller relays it.
    pub terminal: Option<Tty>,
    /// The notification socket of a container that runs.
    pub proxy: Option<Proxy>,
}

/// Makes a container.
///
/// # Errors
/// Whatever failed; nothing of the container is left then.
pub fn launch(options: &Options<'_>, log: &dyn Log) -> Result<Launched> {
    begin(options, None, log)
}

/// Makes a container whose processes come from a checkpoint.
///
/// # Errors
/// Whatever failed, CRIU among it; nothing of the container is left then.
pub fn restore(options: &Options<'_>, how: &Restore<'_>, log: &dyn Log) -> Result<Launched> {
    begin(options, Some(how), log)
}

fn begin(options: &Options<'_>, how: Option<&Restore<'_>>, log: &dyn Log) -> Result<Launched> {
    let clock = Clock::start(log);
    let bundle = Bundle::open(&options.bundle, options.config.as_deref())?;
    let mut spec = bundle::parse(&bundle.config)?;
    clock.step("read config.json");
    let host = cgroup::Host::probe_for(options.cgroup_driver)?;
    let facts = HostFacts {
        bundle: bundle.path_text(),
        cgroup_v2: host.is_v2(),
        euid: nix::unistd::geteuid().as_raw(),
    };
    let warnings = rootless::complete(&mut spec, facts.euid);
    warnings.iter().for_each(|warning| log.warn(warning));
    let request = plan::Request {
        extra_env: extra_environment(options, has_mount_namespace(&spec)),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        without_process: options.mode == Mode::Create,
    };
    let mut plan = Plan::build(&spec, &facts, request, options.id.as_str())?;
    lsm::check_process(&plan.process)?;
    lsm::check_mounts(&mut plan);
    let linux = spec.linux.as_ref();
    let cgroup_plan = CgroupPlan::build(
        &cgroup::Request {
            id: options.id.as_str(),
            cgroups_path: linux.and_then(|linux| linux.cgroups_path.as_deref()),
            resources: linux.and_then(|linux| linux.resources.as_deref()),
            driver: options.cgroup_driver,
            default_devices: true,
            buses: Some(&options.buses),
            annotations: Some(&spec.annotations),
        },
        &host,
    )?;
    let rdt = linux.and_then(|linux| linux.intel_rdt.as_ref());
    let rdt = rdt.map(|rdt| ResctrlPlan::build(rdt, options.id.as_str())).transpose()?;
    let resctrl = rdt.map(|plan| Ok((plan, resctrl::mount_point()?))).transpose()?;
    plan.warnings.iter().chain(cgroup_plan.warnings()).for_each(|warning| log.warn(warning));
    warn_of_missing_capabilities(&plan, log);
    tell_flags(&plan.process, log);
    clock.step("made the plan");
    let fds = Prepared::open(options, &mut plan, &spec, how.is_some())?;
    clock.step("opened the root, the sources of mounts and the namespaces");
    let inside = clock.inside();
    let launch = Launch {
        options,
        bundle: &bundle,
        spec: &spec,
        plan: &plan,
        facts: &facts,
        resctrl,
        log,
        clock,
        inside,
    };
    match how {
        None => launch.run(fds, &cgroup_plan, &host),
        Some(how) => launch.restore(fds, how, &cgroup_plan, &host),
    }
}

/// The flags that the filter is loaded with, where anybody reads it: in the words of runc, whose own tests look for them.
fn tell_flags(plan: &plan::ProcessPlan, log: &dyn Log) {
    if let Some(filter) = plan.seccomp.as_ref().filter(|_| log.is_debug()) {
        log.debug(&format!("seccomp filter flags: {}", filter.flags));
    }
}

/// config.md "capabilities": what cannot be granted is told, and left out.
fn warn_of_missing_capabilities(plan: &Plan, log: &dyn Log) {
    let caps = &plan.process.caps;
    let wanted = caps.permitted | caps.effective | caps.inheritable;
    if plan.namespaces.has(libc::CLONE_NEWUSER) || wanted == 0 {
        return;
    }
    let Ok(own) = creds::capget() else { return };
    let missing = wanted & !own.permitted;
    let names = plan::caps::NAMES.iter().enumerate();
    let names = names.filter(|(number, _)| missing >> number & 1 == 1).map(|(_, name)| *name);
    let names: Vec<&str> = names.collect();
    if !names.is_empty() {
        log.warn(&format!("ignoring capabilities the runtime itself lacks: {}", names.join(" ")));
    }
}

/// LISTEN_FDS and its kin (sd_listen_fds(3)), and NOTIFY_SOCKET.
fn extra_environment(options: &Options<'_>, own_mounts: bool) -> Vec<String> {
    let mut list = Vec::new();
    if options.listen_fds > 0 {
        list.push(format!("LISTEN_FDS={}", options.listen_fds));
        list.push("LISTEN_PID=1".to_owned());
        if let Some(names) = &options.listen_names {
            list.push(format!("LISTEN_FDNAMES={names}"));
        }
    }
    if options.notify_socket.is_some() && own_mounts {
        list.push(notify::variable(options.notify_place()));
    }
    list
}

/// Without one the notification socket's mount would be the host's, and stay: such a container has none.
fn has_mount_namespace(spec: &Spec<'_>) -> bool {
    let linux = spec.linux.as_ref();
    linux.is_some_and(|linux| linux.namespaces.iter().any(|namespace| namespace.kind == "mount"))
}

/// Checks that the `kept` descriptors from 3 on are open; before anything of our own takes their numbers.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) naming the one that is not.
pub fn check_kept(kept: u32) -> Result<()> {
    for offset in 0..kept {
        let number = i32::try_from(3 + u64::from(offset)).unwrap_or(i32::MAX);
        if !fd::is_open(number) || crate::exeseal::holds(number) {
            return Err(Error::config(format!(
                "unable to stat preserved-fd {offset} (of {kept}): descriptor {number} is not open"
            ))
            .hint("--preserve-fds counts descriptors from 3 on"));
        }
    }
    Ok(())
}

/// One launch: everything the steps share.
struct Launch<'a> {
    options: &'a Options<'a>,
    bundle: &'a Bundle,
    spec: &'a Spec<'a>,
    plan: &'a Plan,
    facts: &'a HostFacts<'a>,
    /// And where resctrl is mounted.
    resctrl: Option<(ResctrlPlan, String)>,
    log: &'a dyn Log,
    clock: Clock<'a>,
    /// What the child says of its own steps, with `--debug`.
    inside: Option<Inside>,
}

impl Launch<'_> {
    fn run(
        &self,
        mut fds: Prepared,
        cgroup_plan: &CgroupPlan,
        host: &cgroup::Host,
    ) -> Result<Launched> {
        let mut undo = Undo::new(self.log, Others::new(self.options.store, &self.options.id));
        let state = self.options.store.reserve(&self.options.id)?;
        let state = undo.state.insert(state);
        // Whoever finds an unfinished container may kill what is in its cgroup.
        cgroup_plan.check_unused()?;
        // First, for the configuration alone would lead to another cgroup.
        if self.needs_early_record(cgroup_plan) {
            self.reserve_record(state, cgroup_plan)?;
        }
        self.write_state_files(state)?;
        let gate = match self.options.mode {
            Mode::Create => Some(state.make_fifo()?),
            Mode::RunDetached | Mode::RunForeground => None,
        };
        let notify_mount = self.prepare_notify(state)?;
        let proxy = self.bind_proxy(state, notify_mount.is_some())?;
        self.clock.step("wrote the state directory");
        let overlaps = self.overlaps(host);
        let cgroup = self.begin_cgroup(overlaps, cgroup_plan, host, &mut undo.held)?;
        let cgroup = undo.cgroup.insert(cgroup);
        if let Some(uid) = self.plan.cgroup_owner {
            cgroup.delegate(uid)?;
        }
        self.clock.step("made the cgroup");
        let mut join = cgroup.join()?;
        self.join_resctrl(&mut undo.resctrl, &mut join.tasks)?;
        let (parent_end, child_end) = socket::seqpacket_pair().doing("socketpair")?;
        let joined = self.join_in_parent(&mut fds)?;
        let child = InitChild {
            plan: self.plan,
            channel: Channel(child_end),
            gate,
            cgroups: if overlaps { Cgroups::Awaited } else { Cgroups::Given(join.tasks) },
            namespaces: std::mem::take(&mut fds.namespaces),
            rootfs: fds.rootfs.take(),
            proc: fds.proc,
            mount_namespace: None,
            // What it is not let into, it hears with the rest.
            v1_views: if overlaps { cgroup_plan.v1_views() } else { cgroup.v1_views() },
            v1_view: None,
            v2_directory: cgroups::v2_directory(host, cgroup),
            hooks: self.child_hooks(fds.hook_stdout.as_ref(), fds.hook_stderr.as_ref())?,
            keep_fds: self.options.listen_fds + self.options.preserve_fds,
            user_namespace: self.plan.namespaces.has(libc::CLONE_NEWUSER),
            privileged: self.facts.euid == 0,
            notify_mount,
            timeline: self.inside.as_ref(),
        };
        let (pid, pidfd, socket) =
            self.clone_init(child, parent_end, join.into.as_ref(), cgroup)?;
        undo.child = Some(pidfd.try_clone().doing("dup")?);
        Held::release(undo.held.take(), cgroup)?;
        self.clock.step("cloned init (runc: nsexec container setup, child process in init())");
        drop(joined);
        let mut server = Server {
            launch: self,
            socket,
            pid,
            pidfd,
            console: fds.console,
            master: None,
            stdout: fds.hook_stdout,
            stderr: fds.hook_stderr,
            net_devices: None,
        };
        let rest = overlaps.then_some((cgroup_plan, host));
        let init = match self.finish(&mut server, &mut undo, rest, fds.pidfd_socket) {
            Ok(init) => init,
            Err(error) => {
                self.fail(&mut server, &mut undo);
                return Err(error);
            }
        };
        let Server { pidfd, master, .. } = server;
        let (Some(state), Some(cgroup)) = undo.commit() else {
            return Err(Error::internal("the launch lost its state directory"));
        };
        state.unlock();
        Ok(Launched { init, pidfd, state, cgroup, terminal: master, proxy })
    }

    /// Serves the child until it is ready, records it, and for `run` lets it go.
    fn finish(
        &self,
        server: &mut Server<'_, '_>,
        undo: &mut Undo<'_>,
        rest: Option<(&CgroupPlan, &cgroup::Host)>,
        pidfd_socket: Option<OwnedFd>,
    ) -> Result<Init> {
        let (Some(state), Some(cgroup)) = (undo.state.as_ref(), undo.cgroup.as_mut()) else {
            return Err(Error::internal("the launch lost its state directory"));
        };
        let mut staged = None;
        if let Some((plan, host)) = rest {
            cgroup.complete(plan, host)?;
            let join = cgroup.join()?;
            // The rules begin with none allowed: whoever makes or opens a device meanwhile would not be let.
            if !self.plan.joins_last() {
                cgroup.restrict(plan)?;
            }
            server.send_tasks(join.tasks, plan.left_out(cgroup), self.v1_view(cgroup))?;
            if self.plan.joins_last() {
                cgroup.restrict(plan)?;
            }
            self.clock.step("made the cgroup beside init");
            if !self.needs_early_record(plan) {
                staged = Some(self.stage_record(state, cgroup, server.pid, false)?);
            }
        }
        if !self.plan.leaves_host_mounts() {
            crate::exeseal::let_go();
        }
        server.serve(state, cgroup, &mut undo.child)?;
        if let Some(linux) = self.spec.linux.as_ref()
            && self.plan.namespaces.joins(libc::CLONE_NEWUSER).is_some()
        {
            idmap::check_joined(linux, server.pid)?;
        }
        self.clock.print(self.inside.as_ref());
        self.clock.step("init is ready (runc: init: closing the pipe to signal completion)");
        let init = match staged {
            Some(init) => state.publish().map(|()| init),
            None => self.record(state, cgroup, server.pid, false),
        }?;
        if let Some(socket) = pidfd_socket {
            let kind = terminal::PidfdKind::Standard;
            terminal::send_pidfd(socket.as_fd(), kind, server.pidfd.as_fd())?;
        }
        if let Some(path) = &self.options.pid_file {
            pid_file::write(path, server.pid)?;
        }
        server.go()?;
        crate::exeseal::let_go();
        if self.options.mode != Mode::Create {
            server.wait_for_exec(cgroup, &mut undo.child)?;
            self.clock.print(self.inside.as_ref());
            self.clock.step("the program runs");
            if self.spec.hooks.as_ref().is_some_and(|hooks| !hooks.poststart.is_empty()) {
                // As at `start`: they may be commands on this container.
                undo.share();
                server.run_poststart_hooks()?;
            }
        }
        Ok(init)
    }

    /// Ends what was begun, and runs the poststop hooks, whose failure is only a warning.
    fn fail(&self, server: &mut Server<'_, '_>, undo: &mut Undo<'_>) {
        if let Some(path) = &self.options.pid_file
            && server.ready_was_written(path)
        {
            let _gone = std::fs::remove_file(path);
        }
        if let Some(moved) = server.net_devices.take() {
            // Only once nobody inside could be in the way.
            undo.end_child();
            moved.move_back(self.log);
        }
        if !undo.take_back() {
            // Then so is this.
            return;
        }
        let hooks = self.spec.hooks.as_ref().map(|hooks| &hooks.poststop);
        if let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty())
            && let Err(error) = server.run_hooks(Phase::Poststop, hooks, "stopped")
        {
            self.log.warn(&error.to_string());
        }
    }

    /// Whether a record is needed before there is a process: a hook may ask for the state, and `delete --force` of what a
    /// killed runtime leaves takes the cgroup from config.json, which does not say by whom it is made, nor beside whom, nor
    /// where resctrl is.
    fn needs_early_record(&self, plan: &CgroupPlan) -> bool {
        let hooks = self.spec.hooks.as_ref().is_some_and(|hooks| {
            !(hooks.prestart.is_empty()
                && hooks.create_runtime.is_empty()
                && hooks.create_container.is_empty())
        });
        hooks
            || self.resctrl.is_some()
            || self.options.cgroup_driver != cgroup::Driver::Cgroupfs
            || plan.is_beside_caller()
    }

    fn write_state_files(&self, state: &StateDir) -> Result<()> {
        state.write(store::CONFIG, &self.bundle.config)?;
        if let Some(filter) = &self.plan.process.seccomp {
            state.write(store::SECCOMP, &filter.to_bytes())?;
        }
        Ok(())
    }

    fn prepare_notify(&self, state: &StateDir) -> Result<Option<NotifyMount>> {
        // Without a mount namespace the mount would be the host's, and stay.
        let mounts = self.plan.has_own_mounts();
        if self.options.notify_socket.is_none() || !mounts {
            return Ok(None);
        }
        notify::create_directory(state.fd())?;
        let tree = crate::sys::mount::open_tree_clone(
            state.fd(),
            c"notify",
            crate::sys::mount::Recursive::No,
            true,
        )
        .on("open_tree", state.path().join("notify"))?;
        let attr = crate::sys::mount::Attr {
            set: libc::MOUNT_ATTR_RDONLY
                | libc::MOUNT_ATTR_NOSUID
                | libc::MOUNT_ATTR_NODEV
                | libc::MOUNT_ATTR_NOEXEC,
            clear: 0,
            propagation: libc::MS_PRIVATE,
        };
        crate::sys::mount::mount_setattr(tree.as_fd(), crate::sys::mount::Recursive::No, attr)
            .on("mount_setattr", state.path().join("notify"))?;
        let target = CString::new(self.options.notify_place().trim_start_matches('/'));
        let target = target.map_err(|_nul| Error::internal("a NUL in a variable"))?;
        Ok(Some(NotifyMount { tree, target }))
    }

    /// Before the program can say that it is ready; `start` binds it for a created container.
    fn bind_proxy(&self, state: &StateDir, mounted: bool) -> Result<Option<Proxy>> {
        match (&self.options.notify_socket, self.options.mode) {
            (Some(socket), Mode::RunDetached | Mode::RunForeground) if mounted => {
                match Proxy::bind_first(state.fd(), socket)? {
                    Ok(proxy) => Ok(Some(proxy)),
                    // A variable that somebody has left behind: runc and crun go on without a word.
                    Err(error) => {
                        self.log.warn(&format!("{error}: nobody is told what the container says"));
                        Ok(None)
                    }
                }
            }
            _ => Ok(None),
        }
    }

    fn child_hooks<'h>(
        &'h self,
        stdout: Option<&OwnedFd>,
        stderr: Option<&OwnedFd>,
    ) -> Result<Option<ChildHooks<'h>>> {
        let Some(hooks) = self.spec.hooks.as_ref() else { return Ok(None) };
        if hooks.create_container.is_empty() && hooks.start_container.is_empty() {
            return Ok(None);
        }
        let dup = |fd: Option<&OwnedFd>| fd.map(OwnedFd::try_clone).transpose().doing("dup");
        Ok(Some(ChildHooks {
            spec: hooks,
            state: self.template()?,
            stdout: dup(stdout)?,
            stderr: dup(stderr)?,
        }))
    }

    fn template(&self) -> Result<StateTemplate> {
        StateTemplate::new(
            spec::OCI_VERSION,
            self.options.id.as_str(),
            self.bundle.path_text(),
            &self.spec.annotations,
        )
    }
}

/// Keeps the runtime out of reach of what it makes: not traceable, not dumpable, its /proc files root's (CVE-2016-9962).
///
/// # Errors
/// Those of prctl(2).
pub fn harden() -> Result<()> {
    creds::set_dumpable(false).doing("prctl PR_SET_DUMPABLE")
}
