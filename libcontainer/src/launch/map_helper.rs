//! newuidmap(1) and newgidmap(1), which map more than one's own id: where they are, what would keep them from working, and
//! why they did not.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsFd;

use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::hooks::{self, Ended};
use crate::spec::{Hook, IdMapping, List};
use crate::sys::{creds, fd, process, xattr};

/// Where they may be. Not `$PATH`: what is setuid root lies where root put it, and the error can say where that is.
const DIRECTORIES: [&str; 7] = [
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/run/wrappers/bin",
    "/run/privileged/bin",
    "/run/setuid-programs",
];

/// How long one may take, in seconds: names may come from the network.
const TIMEOUT: i64 = 10;

/// CAP_SETGID and CAP_SETUID of capabilities(7).
const SETGID: u32 = 6;
const SETUID: u32 = 7;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// newuidmap(1).
    Users,
    /// newgidmap(1).
    Groups,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Users => "newuidmap",
            Self::Groups => "newgidmap",
        }
    }

    /// The file that says whom it serves with which ids.
    fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/subuid",
            Self::Groups => "/etc/subgid",
        }
    }

    /// The field of config.json.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Users => "linux.uidMappings",
            Self::Groups => "linux.gidMappings",
        }
    }

    /// The file below /proc/PID.
    pub(super) fn map(self) -> &'static str {
        match self {
            Self::Users => "uid_map",
            Self::Groups => "gid_map",
        }
    }

    fn capability(self) -> (u32, &'static str) {
        match self {
            Self::Users => (SETUID, "CAP_SETUID"),
            Self::Groups => (SETGID, "CAP_SETGID"),
        }
    }
}

/// An ordinary user, as passwd(5) has him.
#[derive(Debug, Clone, Default)]
pub(super) struct User {
    uid: u32,
    gid: u32,
    name: Option<String>,
    /// The group the helpers ask for.
    primary: Option<u32>,
}

impl User {
    /// The user with these ids, who is whoever runs the runtime.
    pub(super) fn read(uid: u32, gid: u32) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let number = |text: Option<&&str>| text.and_then(|text| text.parse::<u32>().ok());
        let his = lines.into_iter().find(|fields| number(fields.get(2)) == Some(uid));
        let his = his.unwrap_or_default();
        Self {
            uid,
            gid,
            name: his.first().map(|name| (*name).to_owned()),
            primary: number(his.get(3)),
        }
    }

    fn own(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Users => self.uid,
            Kind::Groups => self.gid,
        }
    }

    /// `box (1000)`, or the number alone.
    fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.uid),
            None => self.uid.to_string(),
        }
    }

    /// The ranges `text`, a subuid(5), has for him, by name or number: first id and how many.
    pub(super) fn ranges(&self, text: &str) -> Vec<(u32, u32)> {
        let uid = self.uid.to_string();
        let mut list = Vec::new();
        for line in text.lines() {
            let mut fields = line.trim().split(':');
            let who = fields.next().unwrap_or_default();
            let mut number = || fields.next()?.parse::<u32>().ok();
            let (Some(first), Some(size)) = (number(), number()) else { continue };
            if (Some(who) == self.name.as_deref() || who == uid) && size > 0 {
                list.push((first, size));
            }
        }
        list
    }

    /// The ranges that are his.
    pub(super) fn granted(&self, kind: Kind) -> Vec<(u32, u32)> {
        self.ranges(&fs::read_to_string(kind.file()).unwrap_or_default())
    }
}

/// The program, wherever it is.
fn find(kind: Kind) -> Option<CString> {
    DIRECTORIES
        .iter()
        .filter_map(|directory| CString::new(format!("{directory}/{}", kind.name())).ok())
        .find(|path| process::access(path, libc::F_OK).is_ok())
}

/// Whether it is there and nothing is known to keep it from working for `user`: else why not.
pub(super) fn check(kind: Kind, user: &User) -> Result<(), String> {
    match find(kind) {
        None => Err(format!("{} is not installed", kind.name())),
        Some(path) => obstacle(kind, &path, user).map_or(Ok(()), Err),
    }
}

/// What keeps the program from the right to write the map.
fn obstacle(kind: Kind, path: &CStr, user: &User) -> Option<String> {
    let shown = path.to_string_lossy();
    let (number, capability) = kind.capability();
    if process::access(path, libc::X_OK).is_err() {
        return Some(format!("user {} may not execute {shown}", user.text()));
    }
    if creds::has_no_new_privs() {
        return Some(format!(
            "no_new_privs is set for the runtime, so {shown} gets no privileges: start the runtime without it \
             (NoNewPrivileges= of systemd, allowPrivilegeEscalation of Kubernetes)"
        ));
    }
    if creds::bounding_has(number) == Some(false) {
        return Some(format!(
            "{capability} is not in the bounding set of the runtime, so {shown} cannot get it: start the runtime with it"
        ));
    }
    let file = fd::openat(fd::CWD, path, libc::O_PATH, 0).ok()?;
    if fd::mount_flags(file.as_fd()).is_ok_and(|flags| flags & libc::ST_NOSUID != 0) {
        return Some(format!(
            "{shown} lies on a file system mounted nosuid, which takes its privileges"
        ));
    }
    let stat = fd::stat(file.as_fd(), c"").ok()?;
    let is_setuid = stat.uid == 0 && stat.mode & libc::S_ISUID != 0;
    if !is_setuid && !has_file_capabilities(path) {
        return Some(format!(
            "{shown} has neither the setuid bit of root nor file capabilities: chown root {shown} and chmod u+s {shown}, \
             or reinstall its package"
        ));
    }
    match (kind, user.primary) {
        (_, Some(primary)) if primary != user.gid => Some(format!(
            "{} serves user {} only with his primary group {primary}, and the runtime runs with group {}",
            kind.name(),
            user.text(),
            user.gid
        )),
        _ => None,
    }
}

/// Where the file may not be read, nobody can tell: then they are taken to be there.
fn has_file_capabilities(path: &CStr) -> bool {
    let Ok(file) = fd::openat(fd::CWD, path, libc::O_RDONLY, 0) else { return true };
    xattr::get(file.as_fd(), c"security.capability").is_ok_and(|value| value.is_some())
}

/// Has the map of `pid` written.
pub(super) fn write(kind: Kind, pid: Pid, maps: &[IdMapping], user: &User) -> Result<()> {
    let name = kind.name();
    let path = find(kind).ok_or_else(|| {
        Error::unsupported(format!("{name} is not installed")).field(kind.field()).hint(
            "mapping more than one's own id needs it: install the package uidmap or shadow-utils",
        )
    })?;
    let path = path.to_string_lossy();
    let mut args = vec![name.to_owned(), pid.to_string()];
    for map in maps {
        args.extend([map.container_id, map.host_id, map.size].map(|number| number.to_string()));
    }
    let program = Hook {
        path: path.as_ref().into(),
        args: List(args.into_iter().map(Into::into).collect()),
        env: List(vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()]),
        timeout: Some(TIMEOUT),
    };
    let failed = |what: String| Error::unsupported(what).path(path.as_ref()).field(kind.field());
    let explained = |error: Error, otherwise: &str| {
        error.hint(reason(kind, maps, user).unwrap_or_else(|| otherwise.to_owned()))
    };
    let broken = "reinstall its package, uidmap or shadow-utils";
    let Ended { status, stderr, .. } =
        hooks::attended(&program, b"", &hooks::Options::default())
            .map_err(|why| explained(failed(format!("{name} could not be run: {why}")), broken))?;
    let words = match stderr.lines().last() {
        Some(line) => format!(" ({line})"),
        None => String::new(),
    };
    let Some(status) = status else {
        let error = failed(format!("{name} did not end within {TIMEOUT} seconds{words}"));
        let slow = "does whatever /etc/nsswitch.conf names for passwd and subid answer?";
        return Err(explained(error, slow));
    };
    let what = if !status.success() {
        format!("{name} failed: {status}{words}")
    } else if is_empty(kind, pid) {
        format!("{name} ended well and mapped nothing")
    } else {
        return Ok(());
    };
    Err(explained(failed(what), broken))
}

fn is_empty(kind: Kind, pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/{}", kind.map())).is_ok_and(|map| map.is_empty())
}

/// What is known to be wrong, once it has failed.
fn reason(kind: Kind, maps: &[IdMapping], user: &User) -> Option<String> {
    let found = find(kind).and_then(|path| obstacle(kind, &path, user));
    if found.is_some() {
        return found;
    }
    let Some(name) = &user.name else {
        return Some(format!(
            "user {} has no name in /etc/passwd, and without one {} serves nobody",
            user.uid,
            kind.name()
        ));
    };
    let granted = user.granted(kind);
    let missing = maps.iter().find_map(|map| first_missing(map, &granted, user.own(kind)))?;
    let file = kind.file();
    // nsswitch.conf(5) may name another source, which only the helper reads.
    let other = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let other = other.lines().any(|line| line.trim_start().starts_with("subid:"));
    let or = if other { ", or whatever \"subid\" of /etc/nsswitch.conf names" } else { "" };
    Some(if granted.is_empty() {
        format!(
            "user {} has no entry in {file}{or}: add one, such as {name}:100000:65536, and map ids of that range",
            user.text()
        )
    } else {
        let ranges = granted.iter().map(|(first, size)| format!("{first}:{size}"));
        format!(
            "{file} gives user {} the ids {}, and {missing} is none of them: map ids he has, or add an entry{or}",
            user.text(),
            ranges.collect::<Vec<_>>().join(", ")
        )
    })
}

/// The first id of `map` that `granted` has not; one's own, alone, needs no grant.
fn first_missing(map: &IdMapping, granted: &[(u32, u32)], own: u32) -> Option<u64> {
    if map.size == 1 && map.host_id == own {
        return None;
    }
    let mut at = u64::from(map.host_id);
    let end = at + u64::from(map.size);
    while at < end {
        let holds = |&&(first, size): &&(u32, u32)| {
            (u64::from(first)..u64::from(first) + u64::from(size)).contains(&at)
        };
        let Some((first, size)) = granted.iter().find(holds) else { return Some(at) };
        at = u64::from(*first) + u64::from(*size);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_that_nobody_granted_is_named() {
        let map = |host_id, size| IdMapping { container_id: 0, host_id, size };
        let granted = [(100_000, 10), (100_010, 5)];
        assert_eq!(first_missing(&map(1000, 1), &granted, 1000), None);
        assert_eq!(first_missing(&map(1000, 2), &granted, 1000), Some(1000));
        assert_eq!(first_missing(&map(1000, 1), &granted, 1001), Some(1000));
        assert_eq!(first_missing(&map(100_000, 15), &granted, 1000), None);
        assert_eq!(first_missing(&map(100_002, 14), &granted, 1000), Some(100_015));
        assert_eq!(first_missing(&map(99_999, 3), &granted, 1000), Some(99_999));
        assert_eq!(first_missing(&map(u32::MAX, u32::MAX), &[(u32::MAX, u32::MAX)], 0), None);
        assert_eq!(first_missing(&map(5, 0), &[], 0), None);
    }

    #[test]
    fn ranges_are_a_users_by_name_or_number() {
        let user = User { uid: 1000, name: Some("me".to_owned()), ..User::default() };
        let text = "you:1:5\nme:100000:65536\nbroken\nme:x:1\n1000:300000:10\nme:7:0\n";
        assert_eq!(user.ranges(text), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(User::default().ranges(":1:5\n0:9:1\n"), [(9, 1)]);
    }
}
