//! `exec`.

use std::os::fd::AsFd;
use std::path::Path;

use libcontainer::bundle;
use libcontainer::container::Container;
use libcontainer::foreground::{Attached, Foreground, Reap};
use libcontainer::launch::ExecOptions;
use libcontainer::spec::{Capabilities, List, Process, Str};
use libcontainer::{Error, Result};

use super::create::{absolute, preserve_fds};
use super::open;
use crate::cli::{Args, Globals, flag, value};
use crate::logging::Logger;

/// Runs one more process in a container; the status is its own, unless it is detached.
///
/// # Errors
/// The container does not run, or the process could not be started.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<i32> {
    let saved = open(args, globals)?;
    let container = saved.container()?;
    let config = container.saved_config()?;
    let own = bundle::parse_process(&config)?;
    match args.path(&flag::PROCESS) {
        Some(path) => {
            let text = read_process(path)?;
            let mut process: Process<'_> = bundle::parse_as(&text, "the process")?;
            inherit(&mut process, own);
            apply_switches(&mut process, args)?;
            start(&container, &process, args, log)
        }
        None => {
            let process = from_flags(own, args)?;
            start(&container, &process, args, log)
        }
    }
}

/// What the document leaves out, the container has said: nothing may be less confined for not being mentioned.
fn inherit<'a>(process: &mut Process<'a>, own: Process<'a>) {
    let is_empty = |word: &Option<Str<'_>>| word.as_ref().is_none_or(|word| word.is_empty());
    if process.capabilities.is_none() {
        process.capabilities = own.capabilities;
    }
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
    }
    if is_empty(&process.apparmor_profile) {
        process.apparmor_profile = own.apparmor_profile;
    }
    if is_empty(&process.selinux_label) {
        process.selinux_label = own.selinux_label;
    }
    process.scheduler = process.scheduler.take().or(own.scheduler);
    process.io_priority = process.io_priority.take().or(own.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.take().or(own.exec_cpu_affinity);
    let umask = own.user.and_then(|user| user.umask);
    if umask.is_some() && process.user.as_ref().is_none_or(|user| user.umask.is_none()) {
        process.user.get_or_insert_default().umask = umask;
    }
}

fn read_process(path: &Path) -> Result<Vec<u8>> {
    bundle::read_document(path)
}

fn start(
    container: &Container<'_>,
    process: &Process<'_>,
    args: &Args<'_>,
    log: &Logger,
) -> Result<i32> {
    let options = ExecOptions {
        console_socket: args.path(&flag::CONSOLE_SOCKET).map(absolute).transpose()?,
        pidfd_socket: args.path(&flag::PIDFD_SOCKET).map(absolute).transpose()?,
        pid_file: args.path(&flag::PID_FILE).map(absolute).transpose()?,
        detach: args.flag(&flag::DETACH),
        preserve_fds: preserve_fds(args)?,
        cgroup: cgroups(args)?,
    };
    let ignore_paused = args.flag(&flag::IGNORE_PAUSED);
    let run = || container.exec(process, &options, ignore_paused, log);
    let failed = |error: Error| match error.kind() {
        libcontainer::Kind::Lifecycle => error,
        _ => error.context("exec failed: unable to start container process"),
    };
    if options.detach {
        return run().map(|_| 0).map_err(failed);
    }
    let foreground = Foreground::prepare()?;
    let mut started = run().map_err(failed)?;
    log.succeeded();
    let tty = started.terminal.take();
    let status = foreground.wait(Attached {
        pidfd: started.pidfd.as_fd(),
        pid: started.pid,
        tty,
        notify: None,
        reap: Reap::Process,
    })?;
    Ok(status.code())
}

fn cgroups<'a>(args: &Args<'a>) -> Result<Vec<&'a str>> {
    args.values(&flag::CGROUP)
        .map(|value| {
            value.to_str().ok_or_else(|| Error::config("the value of flag -cgroup is not UTF-8"))
        })
        .collect()
}

/// The container's own process, changed as the flags say.
fn from_flags<'a>(mut process: Process<'a>, args: &Args<'a>) -> Result<Process<'a>> {
    process.args = List(
        args.operands()
            .iter()
            .skip(1)
            .map(|word| {
                let word = word.to_str();
                word.map(Into::into).ok_or_else(|| Error::config("an argument is not UTF-8"))
            })
            .collect::<Result<_>>()?,
    );
    if process.args.is_empty() {
        return Err(Error::config("process args cannot be empty")
            .hint("name a program after the container's id, or use --process"));
    }
    if let Some(cwd) = args.text(&flag::CWD)? {
        process.cwd = Some(cwd.into());
    }
    // Of a container without a process of its own.
    process.cwd.get_or_insert_with(|| "/".into());
    for variable in args.values(&flag::ENV) {
        let variable = variable.to_str();
        let variable = variable.ok_or_else(|| Error::config("a variable is not UTF-8"))?;
        process.env.0.push(variable.into());
    }
    process.terminal = Some(args.flag(&flag::TTY));
    if let Some(text) = args.value(&flag::USER) {
        let given = value::user(text)?;
        let mut user = process.user.take().unwrap_or_default();
        user.uid = Some(given.uid);
        user.gid = given.gid.or(user.gid);
        process.user = Some(user);
    }
    apply_switches(&mut process, args)?;
    Ok(process)
}

/// The flags that also change a process read from a document.
fn apply_switches<'a>(process: &mut Process<'a>, args: &Args<'a>) -> Result<()> {
    for gid in args.values(&flag::ADDITIONAL_GIDS) {
        let mut user = process.user.take().unwrap_or_default();
        user.additional_gids.0.push(value::gid(gid)?);
        process.user = Some(user);
    }
    if let Some(label) = args.text(&flag::PROCESS_LABEL)? {
        process.selinux_label = Some(label.into());
    }
    if let Some(profile) = args.text(&flag::APPARMOR)? {
        process.apparmor_profile = Some(profile.into());
    }
    if args.flag(&flag::NO_NEW_PRIVS) {
        process.no_new_privileges = Some(true);
    }
    if args.flag(&flag::TTY) {
        process.terminal = Some(true);
    }
    for name in args.values(&flag::CAP) {
        let name = name.to_str().ok_or_else(|| Error::config("a capability is not UTF-8"))?;
        add_capability(process.capabilities.get_or_insert_default(), name);
    }
    Ok(())
}

/// CVE-2022-29162: never inheritable; ambient only where it is inheritable already.
fn add_capability<'a>(caps: &mut Capabilities<'a>, name: &'a str) {
    let inheritable = caps.inheritable.iter().any(|known| *known == name);
    let mut sets = vec![&mut caps.bounding, &mut caps.effective, &mut caps.permitted];
    if inheritable {
        sets.push(&mut caps.ambient);
    }
    for set in sets {
        if !set.iter().any(|known: &Str<'_>| *known == name) {
            set.0.push(name.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcontainer::spec::{ExecCpuAffinity, IoPriority, Rlimit, Scheduler, User};

    fn limits(soft: u64) -> List<Rlimit<'static>> {
        List(vec![Rlimit { kind: "RLIMIT_CORE".into(), soft, hard: 9 }])
    }

    #[test]
    fn a_document_inherits_what_it_leaves_out() {
        let own = Process {
            args: List(vec!["sleep".into()]),
            capabilities: Some(Capabilities::default()),
            rlimits: limits(7),
            apparmor_profile: Some("container".into()),
            selinux_label: Some("label".into()),
            no_new_privileges: Some(true),
            scheduler: Some(Scheduler { policy: "SCHED_BATCH".into(), ..Scheduler::default() }),
            io_priority: Some(IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 3 }),
            exec_cpu_affinity: Some(ExecCpuAffinity { initial: Some("0".into()), last: None }),
            user: Some(User { uid: Some(7), umask: Some(0o77), ..User::default() }),
            ..Process::default()
        };
        let mut silent =
            Process { selinux_label: Some("".into()), cwd: Some("/".into()), ..Process::default() };
        inherit(&mut silent, own.clone());
        assert_eq!(silent.capabilities, own.capabilities);
        assert_eq!(silent.rlimits, own.rlimits);
        assert_eq!(silent.apparmor_profile, own.apparmor_profile);
        assert_eq!(silent.selinux_label, own.selinux_label);
        assert_eq!(silent.scheduler, own.scheduler);
        assert_eq!(silent.io_priority, own.io_priority);
        assert_eq!(silent.exec_cpu_affinity, own.exec_cpu_affinity);
        assert_eq!(silent.user, Some(User { umask: Some(0o77), ..User::default() }));
        assert!(silent.args.is_empty() && silent.no_new_privileges.is_none());
        let said = Process {
            rlimits: limits(1),
            apparmor_profile: Some("unconfined".into()),
            selinux_label: Some("other".into()),
            scheduler: Some(Scheduler::default()),
            io_priority: Some(IoPriority::default()),
            exec_cpu_affinity: Some(ExecCpuAffinity::default()),
            user: Some(User { umask: Some(0), ..User::default() }),
            ..Process::default()
        };
        let mut heard = said.clone();
        inherit(&mut heard, own);
        assert_eq!(heard, Process { capabilities: Some(Capabilities::default()), ..said });
    }
}
