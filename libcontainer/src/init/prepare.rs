//! From the clone to `created`: the container is built around this process.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::enter::{self, Privileges, Program};
use super::label::{Labels, with_key_label};
use super::{Cgroups, ChildHooks, InitChild, console, device, mount, namespace, rootfs};
use crate::hooks::{self, Phase};
use crate::path::{self, Make};
use crate::plan::{Plan, ProcessPlan};
use crate::sync::{At, Fault, Frame, PASSED, Step, Tag};
use crate::sys::spawn::signal::{SignalMask, reset_dispositions};
use crate::sys::{self, creds, fd, process};
use crate::terminal;
use crate::timeline::Stage;

/// Name of a process (proc_pid_comm(5)) that has not become the program yet.
pub(super) const INIT_NAME: &CStr = c"skep:init";

/// Builds the container, waits for `start`, becomes the program.
pub(crate) fn run(mut child: InitChild<'_>) -> ! {
    let built = match build(&mut child) {
        Ok(built) => built,
        Err(fault) => child.channel.fail(&fault),
    };
    start(&child, &built)
}

/// What is left to do once the container is built.
struct Built {
    program: Program,
}

fn build(child: &mut InitChild<'_>) -> Result<Built, Fault> {
    let plan = child.plan;
    child.mark(Stage::Began);
    die_with_the_runtime()?;
    if plan.namespaces.joins(libc::CLONE_NEWPID).is_some() {
        // Others see this process already.
        sys::entry::forget_arguments(INIT_NAME);
    }
    let callers_umask = process::umask(0);
    join_given_cgroups(child)?;
    child.mark(Stage::Cgroups);
    enter_namespaces(child)?;
    child.mark(Stage::Namespaces);
    let _leader_already = nix::unistd::setsid();
    join_keyring(plan, child.proc.as_fd())?;
    write_names(plan)?;
    if plan.namespaces.makes(libc::CLONE_NEWNET) {
        sys::net::loopback_up().at(Step::Loopback, 0)?;
    }
    child.mark(Stage::Names);
    let mut root = rootfs::attach(child)?;
    child.mark(Stage::Root);
    let unsealed = mount::all(child, &mut root)?;
    child.mark(Stage::Mounts);
    if !plan.joins_late {
        join_awaited_cgroups(child)?;
    }
    device::all(plan, root.as_fd(), child.proc.as_fd())?;
    child.mark(Stage::Devices);
    if plan.create_runtime_hooks {
        child.channel.ask(Tag::RunHooks, 0)?;
    }
    if let Some(own) = &child.hooks {
        // Files that a hook makes are not to be everybody's.
        process::umask(callers_umask);
        let options = hooks::Options { cwd: Some(root.as_fd()), ..own.options() };
        run_hooks(own, Phase::CreateContainer, &options)?;
        process::umask(0);
    }
    let slave = make_console(child, root.as_fd())?;
    child.mark(Stage::Hooks);
    write_sysctls(plan, child.proc.as_fd())?;
    let whole = rootfs::readonly_paths(plan, root.as_fd())?;
    rootfs::masked_paths(plan, root.as_fd())?;
    child.mark(Stage::Hidden);
    make_cwd(plan, root.as_fd())?;
    apply_limits(child)?;
    mount::last(child, root.as_fd())?;
    mount::seal(unsealed)?;
    rootfs::seal(plan, root.as_fd(), whole)?;
    rootfs::enter(child, root.as_fd())?;
    drop(root);
    child.mark(Stage::Pivoted);
    if says_ready_early(child) {
        say_ready(child);
    }
    standard_streams(plan, slave)?;
    SignalMask::EMPTY.set().at(Step::Stdio, 0)?;
    reset_dispositions();
    child.mark(Stage::Signals);
    let labels = Labels::open(&plan.process, child.proc.as_fd())?;
    enter::close_descriptors(child, &labels).at(Step::Descriptors, 0)?;
    // Everything that is not read, write or execve comes before the filter.
    process::set_name(INIT_NAME);
    if child.gate.is_some() {
        sys::entry::forget_arguments(INIT_NAME);
        process::end_on_termination_signals();
    }
    child.mark(Stage::Closed);
    let program = privileges(child, &labels).apply()?;
    Ok(Built { program })
}

/// Says SIGKILL for the runtime's death: until it has recorded this process, nobody else could find it.
fn die_with_the_runtime() -> Result<(), Fault> {
    creds::set_parent_death_signal(libc::SIGKILL).at(Step::Parent, 1)
}

/// In `run`, an error in what is left is told all the same.
fn says_ready_early(child: &InitChild<'_>) -> bool {
    child.gate.is_none() && child.plan.finishes_alone()
}

fn say_ready(child: &InitChild<'_>) {
    if child.channel.send(Frame::of(Tag::Ready, 0)).is_err() {
        process::exit_now(1);
    }
}

fn enter_namespaces(child: &mut InitChild<'_>) -> Result<(), Fault> {
    let plan = child.plan;
    namespace::join(&child.namespaces)?;
    child.namespaces.clear();
    if child.user_namespace {
        if plan.idmaps.is_some() {
            // The files of an undumpable process are root's: an ordinary user could not write its maps.
            creds::set_dumpable(!child.privileged).at(Step::UserNamespaceRoot, 1)?;
            child.channel.ask(Tag::MapIds, 0)?;
            creds::set_dumpable(false).at(Step::UserNamespaceRoot, 1)?;
        }
        namespace::become_root()?;
        // A change of ids takes the signal back.
        die_with_the_runtime()?;
    }
    if plan.makes_ipc_late() {
        namespace::new_ipc_namespace()?;
    }
    if let Some(offsets) = &plan.namespaces.time_offsets {
        namespace::new_time_namespace(child, offsets)?;
    }
    if plan.detaches_root() {
        let own = fd::openat(child.proc.as_fd(), c"self/ns/mnt", libc::O_RDONLY, 0);
        child.mount_namespace = Some(own.at(Step::NamespaceNew, 1)?);
    }
    if child.mount_namespace.is_some() || plan.namespaces.joins(libc::CLONE_NEWNS).is_some() {
        // The container's root is mounted in a copy: the namespace itself is somebody else's, and keeps what it has.
        namespace::new_mount_namespace()?;
    }
    match child.cgroups {
        Cgroups::Given(_) => enter_cgroup(plan),
        Cgroups::Awaited => Ok(()),
    }
}

/// Joins cgroups that were there before this process.
fn join_given_cgroups(child: &mut InitChild<'_>) -> Result<(), Fault> {
    match &mut child.cgroups {
        Cgroups::Given(tasks) => join_cgroups(std::mem::take(tasks)),
        Cgroups::Awaited => Ok(()),
    }
}

/// Joins the cgroups that the parent has made meanwhile: before anything of them is mounted, and before anything of the
/// container runs.
pub(super) fn join_awaited_cgroups(child: &mut InitChild<'_>) -> Result<(), Fault> {
    if !child.awaits_cgroups() {
        return Ok(());
    }
    let made = child.channel.wait_for_tasks()?;
    join_cgroups(made.tasks)?;
    child.v1_view = made.view;
    if made.left_out != 0 {
        // Nothing there is this container's: it would see the host's.
        let mut bits = 0_u32..;
        let left_out = |bit: u32| made.left_out.checked_shr(bit).unwrap_or(0) & 1 == 1;
        child.v1_views.retain(|_| bits.next().is_some_and(|bit| !left_out(bit)));
    }
    child.cgroups = Cgroups::Given(Vec::new());
    enter_cgroup(child.plan)
}

fn join_cgroups(all: Vec<OwnedFd>) -> Result<(), Fault> {
    for (i, tasks) in all.iter().enumerate() {
        nix::unistd::write(tasks, b"0").at(Step::CgroupJoin, i)?;
    }
    fd::close_all(all);
    Ok(())
}

/// What has to wait for the cgroup: the process's own view of it, and of its CPUs.
fn enter_cgroup(plan: &Plan) -> Result<(), Fault> {
    if plan.namespaces.makes(libc::CLONE_NEWCGROUP) {
        namespace::new_cgroup_namespace()?;
    }
    // The caller's own mask is not the container's: Kubernetes' static CPU manager starts from all the cpuset allows.
    let _denied = process::reset_affinity();
    Ok(())
}

fn join_keyring(plan: &Plan, proc: BorrowedFd<'_>) -> Result<(), Fault> {
    let Some(name) = &plan.keyring else { return Ok(()) };
    match with_key_label(&plan.process, proc, || process::join_session_keyring(name))? {
        // Right of search for the container's other processes; not to have it is no reason to fail.
        Ok(keyring) => drop(process::allow_keyring_search(keyring)),
        // A kernel without keyrings, or a seccomp profile around the runtime itself.
        Err(Errno::ENOSYS) => {}
        Err(errno) => return Err(Fault::new(Step::Keyring, 0, errno)),
    }
    Ok(())
}

fn run_hooks(
    own: &ChildHooks<'_>,
    phase: Phase,
    options: &hooks::Options<'_>,
) -> Result<(), Fault> {
    let (list, status) = match phase {
        Phase::StartContainer => (&own.spec.start_container, "created"),
        _ => (&own.spec.create_container, "creating"),
    };
    if list.is_empty() {
        return Ok(());
    }
    // runtime.md "State": for hooks in the container's namespaces, the pid as seen from there.
    let state = own.state.render(status, nix::unistd::getpid().as_raw());
    hooks::run_hooks(phase, list, &state, options)
        .map_err(|error| Fault::new(Step::Hook, 0, Errno::EIO).detail(error.to_string()))
}

/// Makes the terminal, also as `/dev/console`.
fn make_console(child: &InitChild<'_>, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Fault> {
    let Some(pty) = console::make(&child.plan.process, root, &child.channel)? else {
        return Ok(None);
    };
    if child.plan.has_own_mounts() {
        device::console(root, pty.slave.as_fd()).at(Step::Console, 1)?;
    }
    Ok(Some(pty.slave))
}

fn write_names(plan: &Plan) -> Result<(), Fault> {
    if let Some(name) = &plan.hostname {
        process::sethostname(name.as_bytes()).at(Step::Hostname, 0)?;
    }
    if let Some(name) = &plan.domainname {
        process::setdomainname(name.as_bytes()).at(Step::Domainname, 0)?;
    }
    Ok(())
}

/// Through the host's procfs, which the container cannot have replaced (CVE-2025-52881).
fn write_sysctls(plan: &Plan, proc: BorrowedFd<'_>) -> Result<(), Fault> {
    for (i, sysctl) in plan.sysctl.iter().enumerate() {
        write_proc(proc, &sysctl.file, sysctl.value.as_bytes()).at(Step::Sysctl, i)?;
    }
    Ok(())
}

/// Writes a file of the trusted procfs: below it, through no mount and no magic link.
pub(super) fn write_proc(proc: BorrowedFd<'_>, file: &CStr, value: &[u8]) -> Result<(), Errno> {
    nix::unistd::write(open_proc_file(proc, file)?, value).map(drop)
}

/// Opens a file of the trusted procfs for writing.
pub(super) fn open_proc_file(proc: BorrowedFd<'_>, file: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    fd::openat2(proc, file, libc::O_WRONLY | libc::O_NOFOLLOW, 0, resolve)
}

/// A missing cwd is made, as runc does; one that exists is left to chdir(2).
fn make_cwd(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), Fault> {
    let cwd = plan.process.cwd.to_bytes();
    let relative = path::clean(&String::from_utf8_lossy(cwd));
    let relative = CString::new(relative).unwrap_or_default();
    match path::open_or_make(root, &relative, Make::Directory) {
        Ok(_) => Ok(()),
        // A read-only root, a magic link, a loop: the chdir as the user says what is wrong with it.
        Err(Errno::EROFS | Errno::ELOOP | Errno::ENOTDIR | Errno::EACCES) => Ok(()),
        Err(errno) => Err(Fault::new(Step::CwdCreate, 0, errno)),
    }
}

/// Limits and the OOM score; in a user namespace both need the host's privileges, so the parent sets the limits, and the
/// score before the clone.
fn apply_limits(child: &InitChild<'_>) -> Result<(), Fault> {
    let process = &child.plan.process;
    if child.user_namespace {
        if !process.rlimits.is_empty() {
            child.channel.ask(Tag::Limits, 0)?;
        }
        return Ok(());
    }
    write_oom_score(process, child.proc.as_fd())
}

/// Writes this process's oom_score_adj.
///
/// Root of the user namespace the runtime itself is in (Podman's, say) has no right to the file of an undumpable process,
/// which is the host's root's.
pub(super) fn write_oom_score(process: &ProcessPlan, proc: BorrowedFd<'_>) -> Result<(), Fault> {
    const FILE: &CStr = c"self/oom_score_adj";
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let file = match open_proc_file(proc, FILE) {
        Err(Errno::EACCES) => {
            creds::set_dumpable(true).at(Step::OomScoreAdj, 0)?;
            let file = open_proc_file(proc, FILE);
            creds::set_dumpable(false).at(Step::OomScoreAdj, 0)?;
            file
        }
        other => other,
    };
    let file = file.at(Step::OomScoreAdj, 0)?;
    nix::unistd::write(file, score.to_string().as_bytes()).at(Step::OomScoreAdj, 0).map(drop)
}

fn standard_streams(plan: &Plan, slave: Option<OwnedFd>) -> Result<(), Fault> {
    let result = match slave {
        Some(slave) => terminal::make_controlling(slave),
        None => terminal::chown_stdio(nix::unistd::Uid::from_raw(plan.process.uid)),
    };
    result.map_err(|error| {
        Fault::new(Step::Stdio, 0, error.raw_errno().unwrap_or(Errno::EIO))
            .detail(error.to_string())
    })
}

fn privileges<'c>(child: &'c InitChild<'_>, labels: &'c Labels) -> Privileges<'c> {
    Privileges {
        process: &child.plan.process,
        channel: &child.channel,
        set_limits: !child.user_namespace,
        labels,
    }
}

/// Says ready, unless it has, waits, runs the startContainer hooks, becomes the program.
fn start(child: &InitChild<'_>, built: &Built) -> ! {
    if !says_ready_early(child) {
        say_ready(child);
    }
    // Go is said once the container is recorded; a runtime that was killed before has left nobody who could find this one.
    if child.channel.wait().is_err() {
        process::exit_now(1);
    }
    let mut told = None;
    let fail_to = match &child.gate {
        Some(gate) => {
            let filter = child.plan.process.seccomp.as_ref();
            let lean = filter.is_none_or(|filter| filter.allows(libc::SYS_madvise));
            if !sys::image::wait_for_byte(gate.as_fd(), lean) {
                process::exit_now(1);
            }
            // Who is killed from here on, and reaped before `start` has looked, leaves this in the gate.
            told = nix::unistd::write(gate, &[PASSED]).is_ok().then_some(gate);
            gate.as_fd()
        }
        None => child.channel.0.as_fd(),
    };
    let fault = match run_start_hooks(child, built) {
        Ok(()) => {
            // With that of another `start`, if one was killed before it could take the gate's name away.
            let _taken_back = told.map(|gate| nix::unistd::read(gate, &mut [0; 8]));
            enter::become_program(&child.plan.process, &built.program)
        }
        Err(fault) => fault,
    };
    super::channel::report(fail_to, &fault)
}

/// The startContainer hooks are files of the image: they have what the container has, its filter too, and no more.
fn run_start_hooks(child: &InitChild<'_>, built: &Built) -> Result<(), Fault> {
    let Some(own) = child.hooks.as_ref().filter(|_| child.plan.start_container_hooks) else {
        return Ok(());
    };
    // config.md leaves it open; runc and those who write such hooks take the process's own for granted.
    let env = built.program.env(&child.plan.process);
    run_hooks(own, Phase::StartContainer, &hooks::Options { env: Some(env), ..own.options() })
}

/// The descriptors a waiting init still needs.
pub(super) fn needed(child: &InitChild<'_>) -> Vec<libc::c_int> {
    let mut list = vec![child.channel.0.as_raw_fd()];
    list.extend(child.gate.iter().map(AsRawFd::as_raw_fd));
    if let Some(own) = &child.hooks {
        list.extend(own.stdout.iter().chain(&own.stderr).map(AsRawFd::as_raw_fd));
    }
    list
}

/// Non-dumpable is inherited from the runtime; said again wherever a change of ids may have reset it.
pub(super) fn stay_undumpable() -> Result<(), Fault> {
    creds::set_dumpable(false).at(Step::Uid, 0)
}
