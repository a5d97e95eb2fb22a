//! `restore`: everything of a launch but its processes, which CRIU makes from the images of a checkpoint.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::stat::{Mode as Permissions, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, chroot, fchdir, unlinkat};

use super::prepared::Prepared;
use super::undo::Undo;
use super::{Launch, Launched, Mode, Others, cgroups, pid_file};
use crate::cgroup::{self, Cgroup, CgroupPlan, Held};
use crate::criu::message::{self, Kind, Opts, Response, Switch};
use crate::criu::session::FIRST_INHERITED;
use crate::criu::{self, CgroupMode, Places, Session, external};
use crate::error::{Context, Error, Result};
use crate::foreground::Tty;
use crate::hooks::{self, Phase};
use crate::init;
use crate::path::{self, Make};
use crate::plan::mounts::{Action, Found};
use crate::plan::namespaces::proc_name;
use crate::process::Init;
use crate::store::StateDir;
use crate::sys::clone::{setns, unshare};
use crate::sys::mount::{move_mount, set_propagation};
use crate::sys::{fd, pidfd, pty, socket};

/// Where the root filesystem is mounted for CRIU, in a mount namespace that goes with it.
const ROOT: &str = "criu-root";

/// What `restore` is asked beyond what `checkpoint` is too.
#[derive(Debug)]
pub struct Restore<'a> {
    /// What both are asked.
    pub criu: &'a criu::Options,
    /// `--lsm-profile`.
    pub lsm_profile: Option<&'a str>,
    /// `--lsm-mount-context`.
    pub lsm_mount_context: Option<&'a str>,
}

/// What CRIU has told so far.
#[derive(Default)]
struct Told {
    init: Option<(Init, OwnedFd)>,
    terminal: Option<Tty>,
}

impl Launch<'_> {
    pub(super) fn restore(
        &self,
        mut fds: Prepared,
        how: &Restore<'_>,
        plan: &CgroupPlan,
        host: &cgroup::Host,
    ) -> Result<Launched> {
        criu::check_restorable(self.spec)?;
        criu::losses(self.spec).for_each(|loss| self.log.warn(&loss));
        let mut undo = Undo::new(self.log, Others::new(self.options.store, &self.options.id));
        let state = self.options.store.reserve(&self.options.id)?;
        let state = undo.state.insert(state);
        plan.check_unused()?;
        self.reserve_record(state, plan)?;
        self.write_state_files(state)?;
        let cgroup = self.begin_cgroup(false, plan, host, &mut undo.held)?;
        let cgroup = undo.cgroup.insert(cgroup);
        if how.criu.cgroups == Some(CgroupMode::Strict) && !cgroup.is_fresh() {
            return Err(Error::lifecycle("the cgroup is there already").path(cgroup.path()));
        }
        self.make_targets();
        let stdio = standard_streams()?;
        let namespaces = self.inherited_namespaces(&fds).map(|(_, fd)| fd);
        let inherited: Vec<_> = namespaces.chain(stdio.iter().map(AsFd::as_fd)).collect();
        let root = self.clone_root(fds.rootfs.as_ref())?;
        let (places, mut session) = with_root(&root, state, || {
            // What is opened outside belongs to the host's mounts, on which CRIU cannot mount.
            let places = Places::open(how.criu)?;
            Ok((places, Session::start(how.criu, &inherited)?))
        })?;
        let streams = streams(&places)?;
        let opts = self.restore_opts(how, &places, &fds, &streams, state, cgroup, host)?;
        if how.criu.cgroups == Some(CgroupMode::Ignore) {
            cgroup.adopt(session.pid())?;
        }
        let console = fds.console.take();
        let mut told = Told::default();
        let request = message::request(Kind::Restore, Some(&opts), false);
        let child = &mut undo.child;
        let served =
            session.request(Kind::Restore, &request, Some(&places), &mut |response, fd| {
                self.hear(response, fd, state, cgroup, console.as_ref(), &mut told, child)
            });
        let served = served.and_then(|_| session.finish());
        let _gone = unlinkat(state.fd(), ROOT, UnlinkatFlags::RemoveDir);
        served?;
        Held::release(undo.held.take(), cgroup)?;
        if self.spec.asks_for_delegate() {
            // CRIU has made it anew, but for the controllers, which are the container's own to give.
            cgroup.enter_delegated(self.plan.delegate_owner())?;
        }
        let (init, pidfd) = told
            .init
            .ok_or_else(|| Error::internal("CRIU has restored something, but does not say what"))?;
        let recorded = self.record(state, cgroup, init.pid, false)?;
        if let Some(path) = &self.options.pid_file {
            pid_file::write(path, init.pid)?;
        }
        let (Some(state), Some(cgroup)) = undo.commit() else {
            return Err(Error::internal("the launch lost its state directory"));
        };
        state.unlock();
        Ok(Launched { init: recorded, pidfd, state, cgroup, terminal: told.terminal, proxy: None })
    }

    /// What CRIU is asked.
    #[allow(clippy::too_many_arguments, reason = "everything that was prepared meets here")]
    fn restore_opts(
        &self,
        how: &Restore<'_>,
        places: &Places,
        fds: &Prepared,
        streams: &[String],
        state: &StateDir,
        cgroup: &Cgroup,
        host: &cgroup::Host,
    ) -> Result<Opts> {
        let mut opts = Opts::default();
        how.criu.ask(&mut opts, places, self.spec);
        // What it means has been looked at: of the cgroups there is now, CRIU is to set the properties.
        if how.criu.cgroups == Some(CgroupMode::Strict) {
            opts.cgroups_mode(CgroupMode::Full as u32);
        }
        opts.switch(Switch::EvasiveDevices);
        opts.switch(Switch::RestoreSibling);
        if external::masks_a_bind(self.spec, &self.plan.mounts) {
            opts.switch(Switch::MntnsCompatMode);
        }
        opts.root(state.path().join(ROOT).as_os_str().as_bytes());
        if let Some(profile) = how.lsm_profile {
            opts.lsm_profile(profile);
        }
        if let Some(context) = how.lsm_mount_context {
            opts.lsm_mount_context(context);
        }
        for (controller, path) in cgroup.roots()? {
            opts.cgroup_root(&controller, &path);
        }
        let v2 = cgroups::v2_directory(host, cgroup);
        let v2 = v2.as_ref().and_then(|directory| directory.path.to_str().ok());
        let mountinfo = std::fs::read("/proc/self/mountinfo").on("read", "/proc/self/mountinfo")?;
        let views = cgroup.v1_views();
        let notify = state.path().join("notify");
        crate::notify::create_directory(state.fd())?;
        let found = external::of_restore(
            self.spec,
            &self.plan.mounts,
            &views,
            v2,
            &notify,
            &String::from_utf8_lossy(&mountinfo),
        );
        for (name, path) in found {
            opts.external_mount(&name, &path);
        }
        let mut number = FIRST_INHERITED;
        for (name, _) in self.inherited_namespaces(fds) {
            opts.inherit(name, number);
            number += 1;
        }
        for (at, stream) in streams.iter().take(3).enumerate() {
            // One that is the same file as an earlier one is so again.
            let known = streams.iter().take(at).any(|earlier| earlier == stream);
            if !known && (stream.starts_with("pipe:[") || stream.starts_with("file[")) {
                opts.inherit(stream, number);
            }
            number += 1;
        }
        for join in &self.plan.namespaces.join {
            match join.kind {
                libc::CLONE_NEWNET | libc::CLONE_NEWPID => {}
                // Refused before.
                libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME => {}
                kind => opts.join(proc_name(kind), join.path.to_bytes()),
            }
        }
        Ok(opts)
    }

    /// The joined namespaces that CRIU gets as descriptors, with their names.
    fn inherited_namespaces<'f>(
        &self,
        fds: &'f Prepared,
    ) -> impl Iterator<Item = (&'static str, BorrowedFd<'f>)> {
        fds.namespaces.iter().filter_map(|namespace| match namespace.kind {
            libc::CLONE_NEWNET => Some((external::NETWORK, namespace.fd.as_fd())),
            libc::CLONE_NEWPID => Some((external::PIDS, namespace.fd.as_fd())),
            _ => None,
        })
    }

    /// On another host the root filesystem may lack what was made for the mounts. What cannot be made, CRIU will miss.
    fn make_targets(&self) {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let Ok(root) = fd::openat(fd::CWD, &self.plan.root.path, flags, 0) else { return };
        let mut above: Vec<&[u8]> = Vec::new();
        for op in &self.plan.mounts {
            let target = op.target.to_bytes();
            let covered = |mount: &&[u8]| {
                target.strip_prefix(*mount).is_some_and(|rest| rest.starts_with(b"/"))
            };
            if !above.iter().any(covered) {
                let file = matches!(
                    &op.action,
                    Action::Bind(bind) if matches!(bind.found, Some(Found::Tree { directory: false, .. }))
                );
                let make = if file { Make::File } else { Make::Directory };
                let _told_by_criu = path::open_or_make(root.as_fd(), &op.target, make);
            }
            above.push(target);
        }
    }

    fn clone_root(&self, opened: Option<&OwnedFd>) -> Result<OwnedFd> {
        let error = |errno| {
            Error::os("open the root filesystem", errno)
                .path(self.plan.root.path.to_string_lossy().as_ref())
                .field("root.path")
        };
        match opened {
            Some(tree) => tree.try_clone().doing("dup"),
            None => init::clone_root(self.plan).map_err(error),
        }
    }

    /// Hears where CRIU has come to.
    #[allow(clippy::too_many_arguments, reason = "everything that was prepared meets here")]
    fn hear(
        &self,
        response: &Response,
        fd: Option<OwnedFd>,
        state: &StateDir,
        cgroup: &Cgroup,
        console: Option<&OwnedFd>,
        told: &mut Told,
        child: &mut Option<OwnedFd>,
    ) -> Result<()> {
        match response.script.as_str() {
            "setup-namespaces" => self.restore_hooks(response.pid, state, cgroup),
            "post-restore" => {
                let pid = Pid::from_raw(response.pid);
                let pidfd = pidfd::open(pid).doing("pidfd_open of the restored process")?;
                *child = Some(pidfd.try_clone().doing("dup")?);
                let init = self.record(state, cgroup, pid, true)?;
                told.init = Some((init, pidfd));
                Ok(())
            }
            "orphan-pts-master" => {
                let master = fd.ok_or_else(|| Error::internal("CRIU sent no terminal"))?;
                told.terminal = self.pass_terminal(master, console)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Those that prepare the container from outside, such as its network, have to do so again.
    fn restore_hooks(&self, pid: i32, state: &StateDir, cgroup: &Cgroup) -> Result<()> {
        let Some(hooks) = self.spec.hooks.as_ref() else { return Ok(()) };
        if hooks.prestart.is_empty() && hooks.create_runtime.is_empty() {
            return Ok(());
        }
        self.record(state, cgroup, Pid::from_raw(pid), true)?;
        let options =
            hooks::Options { cwd: None, stdout: None, stderr: None, env: None, all: false };
        let template = self.template()?;
        let state = |status| template.render(status, pid);
        hooks::run_hooks(Phase::Prestart, &hooks.prestart, &state("created"), &options)?;
        hooks::run_hooks(Phase::CreateRuntime, &hooks.create_runtime, &state("creating"), &options)
    }

    fn pass_terminal(&self, master: OwnedFd, console: Option<&OwnedFd>) -> Result<Option<Tty>> {
        match console {
            None if self.options.mode == Mode::RunForeground => Tty::new(master).map(Some),
            None => Ok(None),
            Some(socket) => {
                let number = pty::number(master.as_fd()).doing("number the terminal")?;
                let name = format!("/dev/pts/{number}");
                socket::send_fd(socket.as_fd(), name.as_bytes(), master.as_fd())
                    .doing("send the terminal to the console socket")?;
                Ok(None)
            }
        }
    }
}

/// Copies of ours, which CRIU's own do not replace.
fn standard_streams() -> Result<Vec<OwnedFd>> {
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    let copies = streams.iter().map(BorrowedFd::try_clone_to_owned);
    copies.collect::<std::io::Result<_>>().doing("dup")
}

/// What the standard streams were at the checkpoint.
fn streams(places: &Places) -> Result<Vec<String>> {
    let text = places.read(criu::STREAMS, 1 << 20)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let damaged = |error| Error::config(format!("{}: {error}", criu::STREAMS));
    // null for one that was closed.
    let streams: Vec<Option<String>> = serde_json::from_slice(&text).map_err(damaged)?;
    Ok(streams.into_iter().map(Option::unwrap_or_default).collect())
}

/// Calls `start` in a mount namespace of its own in which `tree` is mounted on [`ROOT`] in `state`, as CRIU wants it: a
/// mount point that nothing covers. On the host nothing is mounted, and nothing can be left.
fn with_root<T>(tree: &OwnedFd, state: &StateDir, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let open = |path: &std::ffi::CStr, flags| fd::openat(fd::CWD, path, flags, 0);
    let own = open(c"/proc/self/ns/mnt", libc::O_RDONLY).on("open", "/proc/self/ns/mnt")?;
    let root = open(c"/", libc::O_PATH | libc::O_DIRECTORY).on("open", "/")?;
    let current = open(c".", libc::O_PATH | libc::O_DIRECTORY).ok();
    mkdirat(state.fd(), ROOT, Permissions::S_IRWXU).on("mkdir", state.path().join(ROOT))?;
    unshare(libc::CLONE_NEWNS).doing("make a mount namespace for CRIU")?;
    let target = state.path().join(ROOT);
    let mounted = || -> Result<T> {
        let name = CString::new(target.as_os_str().as_bytes()).unwrap_or_default();
        set_propagation(c"/", libc::MS_REC | libc::MS_SLAVE).on("make mounts slaves below", "/")?;
        let point = open(&name, libc::O_PATH | libc::O_DIRECTORY).on("open", &target)?;
        move_mount(tree.as_fd(), point.as_fd()).on("mount the root filesystem on", &target)?;
        start()
    };
    let result = mounted();
    setns(own.as_fd(), libc::CLONE_NEWNS).doing("go back to the runtime's mount namespace")?;
    // The way back leads to the namespace's root directory, which need not be ours.
    fchdir(&root).and_then(|()| chroot(".")).doing("go back to the root directory")?;
    if let Some(current) = current {
        let _gone_meanwhile = fchdir(&current);
    }
    result
}
