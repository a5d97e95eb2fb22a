//! From the clone to `created`: the container is built around this process.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::enter::{self, Label, Privileges};
use super::{ChildHooks, InitChild, console, device, mount, namespace, rootfs};
use crate::hooks::{self, Phase};
use crate::path::{self, Make};
use crate::plan::Plan;
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::sys::spawn::signal::{SignalMask, reset_dispositions};
use crate::sys::{self, creds, fd, process};
use crate::terminal;

/// Builds the container, waits for `start`, becomes the program.
pub(crate) fn run(mut child: InitChild<'_>) -> ! {
    let built = match build(&mut child) {
        Ok(built) => built,
        Err(fault) => child.channel.fail(&fault),
    };
    start(&child, &built)
}

/// What is left to know once the container is built.
struct Built {
    label: Option<Label>,
    /// The program, unless startContainer hooks come first.
    program: Option<CString>,
}

fn build(child: &mut InitChild<'_>) -> Result<Built, Fault> {
    let plan = child.plan;
    process::umask(0);
    join_cgroups(child)?;
    namespace::join(&child.namespaces)?;
    child.namespaces.clear();
    if child.user_namespace {
        if plan.idmaps.is_some() {
            child.channel.ask(Tag::MapIds, 0)?;
        }
        namespace::become_root()?;
    }
    if plan.namespaces.makes(libc::CLONE_NEWCGROUP) {
        namespace::new_cgroup_namespace()?;
    }
    let _leader_already = nix::unistd::setsid();
    // The caller's own mask is not the container's: Kubernetes' static CPU manager starts from all the cpuset allows.
    let _denied = process::reset_affinity();
    join_keyring(plan)?;
    write_names(plan)?;
    if plan.namespaces.makes(libc::CLONE_NEWNET) {
        sys::net::loopback_up().at(Step::Loopback, 0)?;
    }
    let root = rootfs::attach(child)?;
    mount::all(child, root.as_fd())?;
    device::all(plan, root.as_fd())?;
    if plan.create_runtime_hooks {
        child.channel.ask(Tag::RunHooks, 0)?;
    }
    if let Some(own) = &child.hooks {
        run_hooks(own, Phase::CreateContainer, Some(root.as_fd()))?;
    }
    let slave = make_console(child, root.as_fd())?;
    write_sysctls(plan, child.proc.as_fd())?;
    rootfs::readonly_paths(plan, root.as_fd())?;
    rootfs::masked_paths(plan, root.as_fd())?;
    make_cwd(plan, root.as_fd())?;
    apply_limits(child)?;
    rootfs::enter(plan, root.as_fd())?;
    rootfs::seal(plan, root.as_fd())?;
    drop(root);
    standard_streams(plan, slave)?;
    SignalMask::EMPTY.set().at(Step::Stdio, 0)?;
    reset_dispositions();
    let label = Label::open(&plan.process, child.proc.as_fd())?;
    enter::close_descriptors(child, label.as_ref()).at(Step::Descriptors, 0)?;
    let program = if plan.start_container_hooks {
        None
    } else {
        Some(drop_privileges(child, label.as_ref())?)
    };
    Ok(Built { label, program })
}

fn join_cgroups(child: &mut InitChild<'_>) -> Result<(), Fault> {
    for (i, tasks) in child.tasks.iter().enumerate() {
        nix::unistd::write(tasks, b"0").at(Step::CgroupJoin, i)?;
    }
    child.tasks.clear();
    Ok(())
}

fn join_keyring(plan: &Plan) -> Result<(), Fault> {
    let Some(name) = &plan.keyring else { return Ok(()) };
    match process::join_session_keyring(name) {
        // Right of search for the container's other processes; not to have it is no reason to fail.
        Ok(keyring) => drop(process::allow_keyring_search(keyring)),
        // A kernel without keyrings, or a seccomp profile around the runtime itself.
        Err(Errno::ENOSYS) => {}
        Err(errno) => return Err(Fault::new(Step::Keyring, 0, errno)),
    }
    Ok(())
}

fn run_hooks(own: &ChildHooks<'_>, phase: Phase, cwd: Option<BorrowedFd<'_>>) -> Result<(), Fault> {
    let (list, status) = match phase {
        Phase::StartContainer => (&own.spec.start_container, "created"),
        _ => (&own.spec.create_container, "creating"),
    };
    if list.is_empty() {
        return Ok(());
    }
    let options = hooks::Options {
        cwd,
        stdout: own.stdout.as_ref().map(AsFd::as_fd),
        stderr: own.stderr.as_ref().map(AsFd::as_fd),
    };
    // runtime.md "State": for hooks in the container's namespaces, the pid as seen from there.
    let state = own.state.render(status, nix::unistd::getpid().as_raw());
    hooks::run_hooks(phase, list, &state, &options)
        .map_err(|error| Fault::new(Step::Hook, 0, Errno::EIO).detail(error.to_string()))
}

/// Makes the terminal, also as `/dev/console`.
fn make_console(child: &InitChild<'_>, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Fault> {
    let Some(pty) = console::make(&child.plan.process, root, &child.channel)? else {
        return Ok(None);
    };
    device::console(root, pty.slave.as_fd()).at(Step::Console, 1)?;
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

/// Limits and the OOM score; in a user namespace both need the host's privileges, so the parent sets them.
fn apply_limits(child: &InitChild<'_>) -> Result<(), Fault> {
    let process = &child.plan.process;
    if child.user_namespace {
        if !process.rlimits.is_empty() || process.oom_score_adj.is_some() {
            child.channel.ask(Tag::Limits, 0)?;
        }
        return Ok(());
    }
    if let Some(score) = process.oom_score_adj {
        write_proc(child.proc.as_fd(), c"self/oom_score_adj", score.to_string().as_bytes())
            .at(Step::OomScoreAdj, 0)?;
    }
    Ok(())
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

fn drop_privileges(child: &InitChild<'_>, label: Option<&Label>) -> Result<CString, Fault> {
    let plan = child.plan;
    let own = Privileges {
        process: &plan.process,
        channel: &child.channel,
        set_limits: !child.user_namespace,
        label,
    };
    own.apply()
}

/// Says ready, waits, runs the startContainer hooks, becomes the program.
fn start(child: &InitChild<'_>, built: &Built) -> ! {
    if child.gate.is_some() {
        process::end_on_termination_signals();
        sys::image::release_text_pages();
    }
    let ready = child.channel.send(Frame::of(Tag::Ready, 0));
    if ready.is_err() {
        process::exit_now(1);
    }
    // Said once the container is recorded; a runtime that was killed before has left nobody who could find this one.
    if child.channel.wait().is_err() {
        process::exit_now(1);
    }
    let fail_to = match &child.gate {
        Some(gate) => {
            wait_at(gate.fifo.as_fd());
            gate.fault.as_fd()
        }
        None => child.channel.0.as_fd(),
    };
    let enter = || -> Result<CString, Fault> {
        if let Some(program) = &built.program {
            return Ok(program.clone());
        }
        if let Some(own) = &child.hooks {
            run_hooks(own, Phase::StartContainer, None)?;
        }
        drop_privileges(child, built.label.as_ref())
    };
    let fault = match enter() {
        Ok(program) => enter::become_program(&child.plan.process, &program),
        Err(fault) => fault,
    };
    super::channel::report(fail_to, &fault)
}

/// Blocks until `start` writes its byte.
fn wait_at(fifo: BorrowedFd<'_>) {
    let mut byte = [0; 1];
    loop {
        match nix::unistd::read(fifo, &mut byte) {
            Ok(1) => return,
            // Open for writing here as well, so there is no end of file; a signal without a handler only interrupts.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => process::exit_now(1),
        }
    }
}

/// The descriptors a waiting init still needs.
pub(super) fn needed(child: &InitChild<'_>) -> Vec<libc::c_int> {
    let mut list = vec![child.channel.0.as_raw_fd()];
    if let Some(gate) = &child.gate {
        list.push(gate.fifo.as_raw_fd());
        list.push(gate.fault.as_raw_fd());
    }
    if let Some(own) = &child.hooks {
        list.extend(own.stdout.iter().chain(&own.stderr).map(AsRawFd::as_raw_fd));
    }
    list
}

/// Non-dumpable is inherited from the runtime; said again wherever a change of ids may have reset it.
pub(super) fn stay_undumpable() -> Result<(), Fault> {
    creds::set_dumpable(false).at(Step::Uid, 0)
}
