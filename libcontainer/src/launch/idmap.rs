//! Writing the id maps of a new user namespace.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::plan::IdMaps;
use crate::plan::map_text;
use crate::spec::{IdMapping, Linux};
use crate::sys::fd;
use crate::sys::spawn::{Program, spawn};

/// Writes uid_map and gid_map of `pid`: directly as root, else through newuidmap(1) and newgidmap(1).
pub(super) fn write(maps: &IdMaps, pid: Pid, euid: u32, egid: u32) -> Result<()> {
    if euid == 0 {
        write_map(pid, "gid_map", &maps.gids, "linux.gidMappings")?;
        return write_map(pid, "uid_map", &maps.uids, "linux.uidMappings");
    }
    if is_own(&maps.gids, egid) {
        // user_namespaces(7): without privileges setgroups has to be given up before gid_map is written.
        write_file(pid, "setgroups", "deny").doing("write /proc/PID/setgroups")?;
        write_map(pid, "gid_map", &maps.gids, "linux.gidMappings")?;
    } else {
        through(c"newgidmap", pid, &maps.gids, "linux.gidMappings")?;
    }
    if is_own(&maps.uids, euid) {
        write_map(pid, "uid_map", &maps.uids, "linux.uidMappings")
    } else {
        through(c"newuidmap", pid, &maps.uids, "linux.uidMappings")
    }
}

/// Compares the maps of the user namespace that `pid` has joined with those `linux` gives beside its path
/// (config-linux.md "User namespace mappings"): two answers to one question have to be the same.
pub(super) fn check_joined(linux: &Linux<'_>, pid: Pid) -> Result<()> {
    for (file, given, field) in [
        ("uid_map", &linux.uid_mappings, "linux.uidMappings"),
        ("gid_map", &linux.gid_mappings, "linux.gidMappings"),
    ] {
        if given.is_empty() {
            continue;
        }
        let path = format!("/proc/{pid}/{file}");
        let text = std::fs::read_to_string(&path).on("read", &path)?;
        let mut found: Vec<_> = text.lines().filter_map(line).collect();
        let mut given = given.0.clone();
        found.sort_unstable_by_key(|map| map.container_id);
        given.sort_unstable_by_key(|map| map.container_id);
        if found != given {
            return Err(Error::config(
                "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one",
            )
            .field(field));
        }
    }
    Ok(())
}

fn line(text: &str) -> Option<IdMapping> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
}

/// The one map an unprivileged process may write itself: its own id, alone.
fn is_own(maps: &[IdMapping], id: u32) -> bool {
    matches!(maps, [only] if only.size == 1 && only.host_id == id)
}

fn write_map(pid: Pid, file: &str, maps: &[IdMapping], field: &str) -> Result<()> {
    write_file(pid, file, &map_text(maps)).map_err(|errno| {
        let error = Error::os("write the id map", errno).path(format!("/proc/{pid}/{file}")).field(field);
        if errno == Errno::EPERM {
            error.hint("the runtime's own user namespace lacks some of these ids, or the right to map them")
        } else {
            error
        }
    })
}

fn write_file(pid: Pid, file: &str, text: &str) -> Result<(), Errno> {
    let path = CString::new(format!("/proc/{pid}/{file}")).map_err(|_nul| Errno::EINVAL)?;
    let file = fd::openat(fd::CWD, &path, libc::O_WRONLY, 0)?;
    nix::unistd::write(&file, text.as_bytes()).map(drop)
}

fn through(helper: &std::ffi::CStr, pid: Pid, maps: &[IdMapping], field: &str) -> Result<()> {
    let name = helper.to_string_lossy();
    let path = find(&name).ok_or_else(|| {
        Error::unsupported(format!("{name} is not installed"))
            .field(field)
            .hint("mapping more than one's own id needs it (package uidmap or shadow-utils)")
    })?;
    let mut words = vec![helper.to_owned(), text(&pid.to_string())];
    for map in maps {
        words.push(text(&map.container_id.to_string()));
        words.push(text(&map.host_id.to_string()));
        words.push(text(&map.size.to_string()));
    }
    let argv: Vec<_> = words.iter().map(CString::as_c_str).collect();
    let input = std::io::stdin();
    let (output, error) = (std::io::stdout(), std::io::stderr());
    let program = Program {
        path: &path,
        argv: &argv,
        envp: &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        stdin: input.as_fd(),
        stdout: as_fd(&output),
        stderr: as_fd(&error),
        cwd: None,
    };
    let child = spawn(&program)
        .map_err(|error| Error::os(format!("run {name}"), error.errno).field(field))?;
    let status = child.wait().doing("wait for the id map helper")?;
    if status.success() {
        return Ok(());
    }
    Err(Error::unsupported(format!("{name} failed: {status}"))
        .field(field)
        .hint("does /etc/subuid (and /etc/subgid) grant these ids, and is the helper setuid root?"))
}

fn as_fd(stream: &impl AsFd) -> BorrowedFd<'_> {
    stream.as_fd()
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

pub(super) fn find(name: &str) -> Option<CString> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"]
        .iter()
        .map(|directory| text(&format!("{directory}/{name}")))
        .find(|path| crate::sys::process::access(path, libc::X_OK).is_ok())
}
