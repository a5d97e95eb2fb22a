//! Writing the id maps of a new user namespace.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::map_helper::{self, Kind, User};
use crate::error::{Context, Error, Result};
use crate::plan::IdMaps;
use crate::plan::map_text;
use crate::spec::{IdMapping, Linux};
use crate::sys::fd;

/// Writes uid_map and gid_map of `pid`: directly as root, else through newuidmap(1) and newgidmap(1).
pub(super) fn write(maps: &IdMaps, pid: Pid, euid: u32, egid: u32) -> Result<()> {
    if euid == 0 {
        write_map(pid, Kind::Groups, &maps.gids)?;
        return write_map(pid, Kind::Users, &maps.uids);
    }
    let user = || User::read(euid, egid);
    if is_own(&maps.gids, egid) {
        // user_namespaces(7): without privileges setgroups has to be given up before gid_map is written.
        write_file(pid, "setgroups", "deny").doing("write /proc/PID/setgroups")?;
        write_map(pid, Kind::Groups, &maps.gids)?;
    } else {
        map_helper::write(Kind::Groups, pid, &maps.gids, &user())?;
    }
    if is_own(&maps.uids, euid) {
        write_map(pid, Kind::Users, &maps.uids)
    } else {
        map_helper::write(Kind::Users, pid, &maps.uids, &user())
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

/// The map of process `pid`, as this one sees it; empty where there is no such process.
pub(super) fn read(kind: Kind, pid: impl std::fmt::Display) -> Vec<IdMapping> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{}", kind.map()));
    text.unwrap_or_default().lines().filter_map(line).collect()
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

fn write_map(pid: Pid, kind: Kind, maps: &[IdMapping]) -> Result<()> {
    let file = kind.map();
    write_file(pid, file, &map_text(maps)).map_err(|errno| {
        let path = format!("/proc/{pid}/{file}");
        let error = Error::os("write the id map", errno).path(path).field(kind.field());
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
