//! Applying device rules: lists on version 1, a program on version 2.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::device::{Rule, Rules, parse_list};
use super::host::is_host_root;
use super::{Cgroup, device_program, file};
use crate::error::Context;
use crate::sys::bpf;
use crate::{Error, Result};

const FIELD: &str = "linux.resources.devices";

/// Sets the rules of a cgroup that has just been made.
pub(super) fn apply(cgroup: &Cgroup, rules: &Rules) -> Result<()> {
    if cgroup.is_v2() {
        if rules.allow_all() {
            return Ok(());
        }
        let Some(directory) = cgroup.v2() else { return Ok(()) };
        let directory = open_directory(&directory)?;
        let Some(program) = load(rules)? else { return Ok(()) };
        return bpf::attach_device_program(directory.as_fd(), program.as_fd(), None)
            .map_err(|errno| Error::os("attach the device program", errno).field(FIELD));
    }
    let Some(directory) = cgroup.v1("devices") else { return Ok(()) };
    // A new cgroup has its parent's list, whatever that is.
    start_over(&directory, rules)
}

/// Puts `rules` in the place of those in force, without a moment in which more is allowed than before or after.
/// `first` are those the container was made with.
pub(super) fn replace(cgroup: &Cgroup, rules: &Rules, first: &Rules) -> Result<()> {
    if cgroup.is_v2() {
        let Some(directory) = cgroup.v2() else { return Ok(()) };
        return replace_program(&directory, rules, first);
    }
    let Some(directory) = cgroup.v1("devices") else { return Ok(()) };
    let path = format!("{directory}/devices.list");
    let present = parse_list(&file::read(&path).on("read", &path)?);
    if present.default_allow || rules.default_allow {
        // The list must be emptied for a moment; nobody should notice.
        let _thawed_when_done = cgroup.freeze_for()?;
        return start_over(&directory, rules);
    }
    let wanted = exceptions(rules)?;
    let missing = |rule: &Rule, list: &[Rule]| {
        let same = |other: &&Rule| {
            other.kind == rule.kind && other.major == rule.major && other.minor == rule.minor
        };
        let covered = list.iter().find(same).map_or(0, |other| other.access);
        Rule { access: rule.access & !covered, ..*rule }
    };
    let gone: Vec<Rule> = present.list.iter().map(|rule| missing(rule, &wanted)).collect();
    let new: Vec<Rule> = wanted.iter().map(|rule| missing(rule, &present.list)).collect();
    write_lines(&directory, "devices.deny", &gone)?;
    write_lines(&directory, "devices.allow", &new)
}

fn exceptions(rules: &Rules) -> Result<Vec<Rule>> {
    rules.exceptions().map_err(|hole| {
        Error::unsupported(format!(
            "cgroup v1 cannot punch the hole {:?} in a wildcard rule",
            hole.line()
        ))
        .field(FIELD)
    })
}

fn start_over(directory: &str, rules: &Rules) -> Result<()> {
    let (all, one) = if rules.default_allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    let path = format!("{directory}/{all}");
    file::write(&path, "a").map_err(|errno| denied(errno, "a", &path))?;
    write_lines(directory, one, &exceptions(rules)?)
}

/// One rule per write, all through one descriptor.
fn write_lines(directory: &str, name: &str, rules: &[Rule]) -> Result<()> {
    if rules.iter().all(|rule| rule.access == 0) {
        return Ok(());
    }
    let path = format!("{directory}/{name}");
    let list = file::open_with(&path, OFlag::O_WRONLY).on("open", &path)?;
    for rule in rules.iter().filter(|rule| rule.access != 0) {
        let line = rule.line();
        file::write_to(&list, &line).map_err(|errno| denied(errno, &line, &path))?;
    }
    Ok(())
}

fn denied(errno: Errno, line: &str, path: &str) -> Error {
    let error = Error::os(format!("write {line:?} to"), errno).path(path).field(FIELD);
    match errno {
        Errno::EPERM if path.ends_with("allow") => {
            error.hint("a cgroup cannot allow what the one above it denies")
        }
        Errno::EINVAL if line == "a" => error.hint("the cgroup has cgroups below it"),
        _ => error,
    }
}

/// The first part of the name of programs of systemd's.
const SYSTEMD: &[u8] = b"sd_";

/// A program of ours is replaced in one step; beside others (systemd's) ours alone.
///
/// A hook may have put a program in the place of ours that allows more (libnvidia-container does). Engines that send the
/// whole configuration again with each update, as containerd does, are not to take that away; who sends another list has
/// that in force, and nothing but that.
fn replace_program(path: &str, rules: &Rules, first: &Rules) -> Result<()> {
    let directory = open_directory(path)?;
    // Before the question what is attached, which takes the same privileges.
    let Some(program) = load(rules)? else { return Ok(()) };
    let (mut old, others) = programs(directory.as_fd())?;
    if old.is_empty() && !first.allow_all() {
        old = others;
        if !old.is_empty() && rules == first {
            return Ok(());
        }
    }
    if old.is_empty() && rules.allow_all() {
        return Ok(());
    }
    let (old, more) = match old.split_first() {
        Some((old, more)) => (Some(old.as_fd()), more),
        None => (None, &[][..]),
    };
    bpf::attach_device_program(directory.as_fd(), program.as_fd(), old)
        .map_err(|errno| Error::os("replace the device program", errno).field(FIELD))?;
    for program in more {
        bpf::detach_device_program(directory.as_fd(), program.as_fd())
            .map_err(|errno| Error::os("detach the old device program", errno).field(FIELD))?;
    }
    Ok(())
}

/// The programs attached: ours, and those of neither us nor systemd.
fn programs(directory: BorrowedFd<'_>) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>)> {
    let ids = bpf::device_programs(directory).doing("list the device programs")?;
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for id in ids {
        let program = bpf::program_by_id(id).doing("open a device program")?;
        let name = bpf::program_name(program.as_fd()).doing("name a device program")?;
        if name.starts_with(device_program::NAME) {
            ours.push(program);
        } else if !name.starts_with(SYSTEMD) {
            others.push(program);
        }
    }
    Ok((ours, others))
}

/// Nothing where this is not root of the host. Such a process may load no program, but neither can it, or anybody in
/// a container of its making, make a device node that opens, or open one that the user could not open outside.
fn load(rules: &Rules) -> Result<Option<OwnedFd>> {
    let program = device_program::program(rules);
    let errno = match bpf::load_device_program(&program, device_program::NAME, &mut []) {
        Ok(fd) => return Ok(Some(fd)),
        Err(Errno::EPERM) if !is_host_root()? => return Ok(None),
        Err(errno) => errno,
    };
    let error = Error::os("load the device program", errno).field(FIELD);
    Err(match errno {
        Errno::EPERM => error.hint("CAP_BPF and CAP_NET_ADMIN are needed, or CAP_SYS_ADMIN"),
        Errno::EINVAL | Errno::EACCES => error.hint(complaint(&program)),
        Errno::ENOSYS => error.hint("the kernel is built without bpf(2)"),
        _ => error,
    })
}

/// The last line the verifier has to say.
fn complaint(program: &[bpf::Instruction]) -> String {
    let mut log = vec![0_u8; 64 * 1024];
    let _same_error = bpf::load_device_program(program, device_program::NAME, &mut log);
    let text = String::from_utf8_lossy(&log);
    let last = text.trim_end_matches('\0').lines().rfind(|line| !line.starts_with("processed"));
    format!("the kernel's verifier says: {}", last.unwrap_or("nothing"))
}

pub(super) fn open_directory(path: &str) -> Result<OwnedFd> {
    file::open_with(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).on("open", path)
}
