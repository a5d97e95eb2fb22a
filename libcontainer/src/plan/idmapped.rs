//! Id-mapped mounts (config.md "mounts": `uidMappings`, `gidMappings`, `idmap`, `ridmap`), and crun's mappings inside the
//! option (`idmap=uids=0-1000-10#10-2000-5;gids=@0-0-10`).

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::IdMaps;
use super::idmap;
use super::mount_options::{IdmapOption, Options};
use crate::error::{Error, Result};
use crate::spec::{self, IdMapping};
use crate::sys::mount::Recursive;

/// How the ids of one mount are mapped.
#[derive(Debug)]
pub struct Idmap {
    /// Whether the mounts below are mapped as well.
    pub recursive: Recursive,
    /// Which ids become which.
    pub ids: Ids,
    /// The user namespace that holds the map, once the parent has it.
    pub userns: Option<Rc<OwnedFd>>,
}

/// The map of an id-mapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Of its own, or that of the container's new user namespace: ids on the file system → ids in the mount.
    Maps(IdMaps),
    /// That of the user namespace the container joins, by the path of its file.
    Joined(CString),
}

/// What the container's own user namespace maps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own<'a> {
    /// The path of the namespace, where it is joined.
    pub(super) joined: Option<&'a CString>,
    /// Whether there is one at all.
    pub(super) present: bool,
    /// `linux.uidMappings`.
    pub(super) uids: &'a [IdMapping],
    /// `linux.gidMappings`.
    pub(super) gids: &'a [IdMapping],
}

/// Plans the id map of `mount`, whose field is `field` (`mounts[3]`).
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) for half a mapping, two at once, none where there is no user namespace to take it
/// from, ranges that are no ranges; [`Kind::Unsupported`](crate::Kind::Unsupported) for an ordinary user.
pub(super) fn plan(
    mount: &spec::Mount<'_>,
    options: &Options<'_>,
    own: Own<'_>,
    euid: u32,
    field: &str,
) -> Result<Option<Idmap>> {
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    let mapped = !uids.is_empty() || !gids.is_empty();
    let option = options.idmap.as_ref();
    if !mapped && option.is_none() {
        return Ok(None);
    }
    if euid != 0 {
        return Err(Error::unsupported(
            "id-mapped mounts are not supported for rootless containers",
        )
        .field(field)
        .hint("the kernel asks for CAP_SYS_ADMIN where the file system was mounted"));
    }
    let recursive = option.map_or(Recursive::No, |option| option.recursive);
    let ranges = option.and_then(|option| option.ranges);
    let ids = match (mapped, ranges) {
        (true, Some(_)) => {
            return Err(Error::config("the mount has two id maps")
                .field(format!("{field}.uidMappings"))
                .hint("give them in the option idmap= or in uidMappings and gidMappings"));
        }
        (true, None) => {
            if uids.is_empty() || gids.is_empty() {
                let missing = if uids.is_empty() { "uidMappings" } else { "gidMappings" };
                return Err(Error::config(
                    "id-mapped mounts must have both uid and gid mappings specified",
                )
                .field(format!("{field}.{missing}")));
            }
            idmap::check(uids, &format!("{field}.uidMappings"))?;
            idmap::check(gids, &format!("{field}.gidMappings"))?;
            Ids::Maps(IdMaps { uids: uids.0.clone(), gids: gids.0.clone() })
        }
        (false, Some(ranges)) => Ids::Maps(parse(ranges, own, &format!("{field}.options"))?),
        (false, None) => of_the_container(own, field)?,
    };
    Ok(Some(Idmap { recursive, ids, userns: None }))
}

fn of_the_container(own: Own<'_>, field: &str) -> Result<Ids> {
    match own.joined {
        Some(path) => Ok(Ids::Joined(path.clone())),
        None if own.present => {
            Ok(Ids::Maps(IdMaps { uids: own.uids.to_vec(), gids: own.gids.to_vec() }))
        }
        None => Err(Error::config(
            "id-mapped mounts need uidMappings and gidMappings where the container has no user namespace",
        )
        .field(format!("{field}.uidMappings"))
        .hint(IdmapOption::HINT)),
    }
}

/// Reads `uids=A-B-LENGTH[#...];gids=...`; an `@` before the ranges counts B in the container's user namespace.
fn parse(text: &str, own: Own<'_>, field: &str) -> Result<IdMaps> {
    let mut maps = IdMaps { uids: Vec::new(), gids: Vec::new() };
    for part in text.split(';') {
        let (list, theirs, ranges) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut maps.uids, own.uids, ranges),
            Some(("gids", ranges)) => (&mut maps.gids, own.gids, ranges),
            _ => return Err(malformed(part, field)),
        };
        if !list.is_empty() {
            return Err(malformed(part, field));
        }
        let (relative, ranges) = match ranges.strip_prefix('@') {
            Some(ranges) => (own.present, ranges),
            None => (false, ranges),
        };
        for range in ranges.split('#') {
            let mapping = one(range).ok_or_else(|| malformed(range, field))?;
            if relative {
                resolve(mapping, theirs, list, field)?;
            } else {
                list.push(mapping);
            }
        }
        idmap::check(list, field)?;
    }
    if maps.uids.is_empty() || maps.gids.is_empty() {
        return Err(Error::config(
            "id-mapped mounts must have both uid and gid mappings specified",
        )
        .field(field)
        .hint(IdmapOption::HINT));
    }
    Ok(maps)
}

fn malformed(text: &str, field: &str) -> Error {
    Error::config(format!("{text:?} is no id map")).field(field).hint(IdmapOption::HINT)
}

fn one(range: &str) -> Option<IdMapping> {
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    let mut parts = range.split('-');
    let mapping = IdMapping {
        container_id: number(parts.next()?)?,
        host_id: number(parts.next()?)?,
        size: number(parts.next()?)?,
    };
    parts.next().is_none().then_some(mapping)
}

/// Replaces ids of the container by those of the host, in as many pieces as its own map has.
fn resolve(
    mapping: IdMapping,
    own: &[IdMapping],
    list: &mut Vec<IdMapping>,
    field: &str,
) -> Result<()> {
    let IdMapping { mut container_id, host_id: mut id, mut size } = mapping;
    while size > 0 {
        let piece = own.iter().find_map(|line| {
            let offset = id.checked_sub(line.container_id).filter(|offset| *offset < line.size)?;
            Some((line.host_id.checked_add(offset)?, line.size - offset))
        });
        let (host_id, length) = piece.ok_or_else(|| {
            Error::config(format!("the id {id} is not mapped in the container's user namespace"))
                .field(field)
        })?;
        let length = length.min(size);
        list.push(IdMapping { container_id, host_id, size: length });
        size -= length;
        container_id = container_id.saturating_add(length);
        id = id.saturating_add(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn the_ranges_of_the_option_are_read() {
        let maps = parse("uids=0-1-10#10-11-10;gids=0-100-10", Own::default(), "f").unwrap();
        assert_eq!(maps.uids, [map(0, 1, 10), map(10, 11, 10)]);
        assert_eq!(maps.gids, [map(0, 100, 10)]);
    }

    #[test]
    fn ranges_may_be_relative_to_the_container() {
        let ids = [map(0, 0, 1), map(1, 2, 1000), map(1001, 5000, 10)];
        let own = Own { joined: None, present: true, uids: &ids, gids: &ids };
        // As crun's manual has it.
        assert_eq!(parse("uids=@1-3-10;gids=0-0-1", own, "f").unwrap().uids, [map(1, 4, 10)]);
        let split = parse("uids=@0-999-4;gids=@0-0-1", own, "f").unwrap();
        assert_eq!(split.uids, [map(0, 1000, 2), map(2, 5000, 2)]);
        let error = parse("uids=@0-2000-1;gids=@0-0-1", own, "mounts[1].options").unwrap_err();
        assert!(error.to_string().contains("mounts[1].options"), "{error}");
        // Without a user namespace its ids are the host's.
        let none = parse("uids=@0-7-1;gids=@0-0-1", Own::default(), "f").unwrap();
        assert_eq!(none.uids, [map(0, 7, 1)]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "uids=",
            "uids=0-1-10",
            "gids=0-1-10",
            "uids=0-1;gids=0-1-1",
            "uids=0-1-1-1;gids=0-1-1",
            "uids=0-1-0;gids=0-1-1",
            "uids=+0-1-1;gids=0-1-1",
            "uids=a-1-1;gids=0-1-1",
            "uids=0-4294967295-2;gids=0-1-1",
            "uids=0-4294967296-2;gids=0-1-1",
            "uids=0-1-1;uids=5-1-1;gids=0-1-1",
            "uids=0-1-10#5-20-1;gids=0-1-1",
            "uids=0-1-1;gids=0-1-1;pids=0-1-1",
            "uids=0-1-1,gids=0-1-1",
        ] {
            let error = parse(text, Own::default(), "mounts[2].options").unwrap_err().to_string();
            assert!(error.contains("mounts[2].options"), "{text}: {error}");
        }
    }
}
