//! `User` of an image, with its own `/etc/passwd` and `/etc/group`.
//!
//! The rules are those of conversion.md and, where it is silent, of moby/user. Both files are the image's, so they are
//! hostile: opened below the root's descriptor, regular files only, of bounded size.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libcontainer::path;
use libcontainer::sys::fd;
use nix::errno::Errno;

use crate::error::{Error, Kind, Result};

/// Bytes of a passwd or group file. Real ones with ten thousand users have less.
const MAX_FILE: u64 = 1 << 20;
/// Groups of a process: the kernel's NGROUPS_MAX.
const MAX_GROUPS: usize = 65536;
/// The largest id: what programs that keep ids in an int can hold (CVE-2024-40635 was a larger one that became 0).
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Whom the process runs as.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// `process.user.uid`.
    pub uid: u32,
    /// `process.user.gid`.
    pub gid: u32,
    /// `process.user.additionalGids`: the groups of the user, the primary one first, because whoever lacks it there can
    /// come round permissions that shut it out (CVE-2022-2989).
    pub groups: Vec<u32>,
    /// The home directory, where the user has an entry that names one.
    pub home: Option<String>,
    /// What should be known of how it was found.
    pub warnings: Vec<String>,
}

/// Finds the user `text` (`user`, `uid`, `user:group`, and the mixes of these) in the image below `root`.
///
/// A number is an id, never a name, whatever the files say: conversion.md has it so, and an image could otherwise call
/// root "1000".
///
/// # Errors
/// [`Kind::NotFound`] for a name the image does not have; [`Kind::Usage`] for an id out of range and for text that is
/// neither; [`Kind::Verification`] for files that are no regular files or too large.
pub fn find(root: BorrowedFd<'_>, text: &str) -> Result<User> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    if group.contains(':') {
        return Err(Error::usage(format!("the user {text:?} has more than one colon")));
    }
    let mut warnings = Vec::new();
    let wanted = Wanted::read("user", if user.is_empty() { "0" } else { user })?;
    let group = (!group.is_empty()).then(|| Wanted::read("group", group)).transpose()?;

    let numbers = matches!((&wanted, &group), (Wanted::Id(_), Some(Wanted::Id(_))));
    let passwd = match read(root, c"etc/passwd") {
        // Of what it says only the home directory is asked for.
        Err(error) if numbers => {
            warnings.push(format!("the user's home directory is not known: {error}"));
            None
        }
        read => read?,
    };
    let entry = passwd.as_deref().and_then(|passwd| Entry::find(passwd, &wanted));
    let uid = match (&wanted, &entry) {
        (_, Some(entry)) => entry.uid,
        (Wanted::Id(uid), None) => *uid,
        (Wanted::Name(name), None) => {
            return Err(missing("user", name, "/etc/passwd", passwd.is_some()));
        }
    };
    if let (Wanted::Id(uid), Some(passwd)) = (&wanted, &passwd)
        && let Some(other) = Entry::find(passwd, &Wanted::Name(user))
        && other.uid != *uid
    {
        warnings.push(format!(
            "the user {user} is taken for the id {uid}; the image's /etc/passwd gives that as a name to the id {}",
            other.uid
        ));
    }

    let home = entry.as_ref().and_then(|entry| entry.home.clone());
    let (gid, mut groups) = match group {
        Some(Wanted::Id(gid)) => (gid, Vec::new()),
        Some(Wanted::Name(name)) => {
            let groups = read(root, c"etc/group")?;
            let gid = groups.as_deref().and_then(|groups| gid_of(groups, name));
            (gid.ok_or_else(|| missing("group", name, "/etc/group", groups.is_some()))?, Vec::new())
        }
        None => match &entry {
            Some(entry) => {
                let groups = read(root, c"etc/group")?;
                (entry.gid, groups.map(|groups| groups_of(&groups, entry.name)).unwrap_or_default())
            }
            None => (0, Vec::new()),
        },
    };
    groups.retain(|group| *group != gid);
    groups.insert(0, gid);
    if groups.len() > MAX_GROUPS {
        return Err(Error::verification(format!(
            "the image's /etc/group puts the user {text:?} into {} groups; Linux allows {MAX_GROUPS}",
            groups.len()
        )));
    }
    Ok(User { uid, gid, groups, home, warnings })
}

/// A half of `User`.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn read(what: &str, text: &'a str) -> Result<Self> {
        if text.bytes().any(|byte| !byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        match text.parse() {
            Ok(id) if id <= MAX_ID => Ok(Self::Id(id)),
            _ => Err(Error::usage(format!(
                "the {what} {text} is out of range: the largest id is {MAX_ID}"
            ))),
        }
    }
}

fn missing(what: &str, name: &str, file: &str, there: bool) -> Error {
    let why = if there { "does not have it" } else { "is not there" };
    Error::not_found(format!("the image has no {what} {name:?}: its {file} {why}"))
        .hint("give a number, or one that it has, with --user")
}

/// Reads a file of the image; `None` if there is none.
fn read(root: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Option<Vec<u8>>> {
    let shown = format!("/{} of the image", name.to_string_lossy());
    // O_PATH first: to open a device or a FIFO for reading can do something, and for ever.
    let place = match path::open(root, name) {
        Ok(place) => place,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(Error::sys(format!("cannot open {shown}"), errno)),
    };
    let stat = fd::stat(place.as_fd(), c"")
        .map_err(|e| Error::sys(format!("cannot look at {shown}"), e))?;
    if !stat.is(libc::S_IFREG) {
        return Err(Error::verification(format!("{shown} is no regular file")));
    }
    let reopened = format!("/proc/self/fd/{}", place.as_raw_fd());
    let content = nix::fcntl::open(
        reopened.as_str(),
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK,
        nix::sys::stat::Mode::empty(),
    )
    .and_then(|file| fd::read_all(&file, MAX_FILE));
    match content {
        Ok(content) => Ok(Some(content)),
        Err(Errno::EFBIG) => {
            Err(Error::verification(format!("{shown} is larger than {MAX_FILE} bytes")))
        }
        Err(errno) => {
            Err(Error::sys(format!("cannot read {shown}"), errno).with_kind(Kind::Generic))
        }
    }
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

fn id(field: Option<&[u8]>) -> Option<u32> {
    let text = std::str::from_utf8(field?).ok()?;
    // str::parse takes a plus sign, passwd(5) does not.
    let id = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()?;
    (id <= MAX_ID).then_some(id)
}

/// A line of `/etc/passwd`.
struct Entry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: Option<String>,
}

impl<'a> Entry<'a> {
    /// The first line with the wanted name or id. One whose ids are no numbers is none.
    fn find(passwd: &'a [u8], wanted: &Wanted<'_>) -> Option<Self> {
        lines(passwd).find_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let name = fields.next()?;
            let uid = id(fields.nth(1))?;
            let gid = id(fields.next())?;
            let is = match wanted {
                Wanted::Id(wanted) => uid == *wanted,
                Wanted::Name(wanted) => name == wanted.as_bytes(),
            };
            if !is {
                return None;
            }
            let home = fields.nth(1).and_then(|home| std::str::from_utf8(home).ok());
            // It becomes a variable: what has a NUL or is relative is no home.
            let home = home.filter(|home| home.starts_with('/') && !home.contains('\0'));
            Some(Self { name, uid, gid, home: home.map(str::to_owned) })
        })
    }
}

/// The id of the first group called `name`.
fn gid_of(groups: &[u8], name: &str) -> Option<u32> {
    lines(groups).find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next()? != name.as_bytes() {
            return None;
        }
        id(fields.nth(1))
    })
}

/// The ids of the groups that have `user` as a member, each once, sorted.
fn groups_of(groups: &[u8], user: &[u8]) -> Vec<u32> {
    let mut found: Vec<u32> = lines(groups)
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let gid = id(fields.nth(2))?;
            fields.next()?.split(|byte| *byte == b',').any(|member| member == user).then_some(gid)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
#[path = "user_tests.rs"]
pub(in crate::convert) mod tests;
