//! `linux.uidMappings` and `gidMappings` → the lines of uid_map and gid_map (user_namespaces(7)).

use std::fmt::Write as _;

use super::namespaces::NamespacePlan;
use crate::error::{Error, Result};
use crate::spec::{IdMapping, Linux};

/// The maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

/// Lines the kernel takes in one map.
const MAX_LINES: usize = 340;

impl IdMaps {
    /// Plans the maps; `None` without a new user namespace.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) for maps without a namespace, a namespace without maps, and maps that overlap
    /// or overflow.
    pub(super) fn build(linux: &Linux<'_>, namespaces: &NamespacePlan) -> Result<Option<Self>> {
        let empty = linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty();
        if !namespaces.makes(libc::CLONE_NEWUSER) {
            return if empty || namespaces.joins(libc::CLONE_NEWUSER).is_some() {
                Ok(None)
            } else {
                Err(Error::config("user namespace mappings specified, but user namespace isn't enabled in the config")
                    .field("linux.uidMappings")
                    .hint("add {\"type\": \"user\"} to linux.namespaces"))
            };
        }
        for (map, field) in
            [(&linux.uid_mappings, "linux.uidMappings"), (&linux.gid_mappings, "linux.gidMappings")]
        {
            if map.is_empty() {
                return Err(Error::config(
                    "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
                )
                .field(field));
            }
        }
        check(&linux.uid_mappings, "linux.uidMappings")?;
        check(&linux.gid_mappings, "linux.gidMappings")?;
        Ok(Some(Self { uids: linux.uid_mappings.0.clone(), gids: linux.gid_mappings.0.clone() }))
    }

    /// The host's user id of the container's `uid`.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        host(&self.uids, uid)
    }

    /// The host's group id of the container's `gid`.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        host(&self.gids, gid)
    }
}

/// The id outside of `id` inside.
pub(super) fn host(maps: &[IdMapping], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| {
        let offset = id.checked_sub(map.container_id)?;
        (offset < map.size).then(|| map.host_id.checked_add(offset)).flatten()
    })
}

/// The text of a map file.
pub fn map_text(maps: &[IdMapping]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        let _infallible = writeln!(text, "{} {} {}", map.container_id, map.host_id, map.size);
        text
    })
}

pub(super) fn check(maps: &[IdMapping], name: &str) -> Result<()> {
    if maps.len() > MAX_LINES {
        return Err(Error::config(format!("{} lines; the kernel takes {MAX_LINES}", maps.len()))
            .field(name));
    }
    let overlaps = |a: u32, a_size: u32, b: u32, b_size: u32| {
        u64::from(a) < u64::from(b) + u64::from(b_size)
            && u64::from(b) < u64::from(a) + u64::from(a_size)
    };
    for (i, map) in maps.iter().enumerate() {
        let field = || format!("{name}[{i}]");
        if map.size == 0 {
            return Err(Error::config("a mapping of no ids").field(format!("{}.size", field())));
        }
        let overflows = |id: u32| u64::from(id) + u64::from(map.size) > u64::from(u32::MAX);
        if overflows(map.container_id) || overflows(map.host_id) {
            return Err(Error::config("the mapping goes beyond the last id").field(field()));
        }
        for earlier in maps.iter().take(i) {
            if overlaps(map.container_id, map.size, earlier.container_id, earlier.size)
                || overlaps(map.host_id, map.size, earlier.host_id, earlier.size)
            {
                return Err(Error::config("the mapping overlaps an earlier one").field(field()));
            }
        }
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
    fn ids_are_looked_up_through_all_lines() {
        let maps = [map(0, 100_000, 10), map(1000, 5000, 1)];
        assert_eq!(host(&maps, 0), Some(100_000));
        assert_eq!(host(&maps, 9), Some(100_009));
        assert_eq!(host(&maps, 10), None);
        assert_eq!(host(&maps, 1000), Some(5000));
        assert_eq!(map_text(&maps), "0 100000 10\n1000 5000 1\n");
    }

    #[test]
    fn maps_the_kernel_would_refuse_are_refused_by_name() {
        for maps in [
            vec![map(0, 0, 0)],
            vec![map(u32::MAX, 0, 2)],
            vec![map(0, 0, 10), map(5, 100, 1)],
            vec![map(0, 0, 10), map(20, 9, 1)],
        ] {
            let message = check(&maps, "linux.uidMappings").unwrap_err().to_string();
            assert!(message.contains("linux.uidMappings["), "{message}");
        }
    }
}
