//! A user namespace for who has none of his own to run containers in, as crun gives it.

use super::map_helper::{self, Kind, User};
use crate::spec::{IdMapping, List, Namespace, Spec};

/// Adds a user namespace to `spec`, which has none, for the ordinary user `uid`: he is root in it, and the ids that
/// subuid(5) and subgid(5) give him follow from 1 on. Without those, or without the programs that may map them, he is
/// alone; what keeps him from ids that are his is returned, to be told.
pub(super) fn add_user_namespace(spec: &mut Spec<'_>, uid: u32, gid: u32) -> Vec<String> {
    let mut warnings = Vec::new();
    let linux = spec.linux.get_or_insert_default();
    if linux.namespaces.iter().any(|namespace| namespace.kind == "user") {
        return warnings;
    }
    let user = User::read(uid, gid);
    let mut map = |own: u32, kind: Kind| {
        let mut granted = user.granted(kind);
        if !granted.is_empty()
            && let Err(why) = map_helper::check(kind, &user)
        {
            granted.clear();
            warnings.push(format!("the container has one id only ({}): {why}", kind.field()));
        }
        List(mappings(own, &granted))
    };
    let (uids, gids) = (map(uid, Kind::Users), map(gid, Kind::Groups));
    linux.namespaces.0.push(Namespace { kind: "user".into(), path: None });
    linux.uid_mappings = uids;
    linux.gid_mappings = gids;
    let known = linux.gid_mappings.iter().map(|map| u64::from(map.size)).sum();
    forget_groups(spec, known);
    warnings
}

/// Lets go the group of terminals that nobody has here: `gid=5`, which every engine writes, is an error to devpts where
/// only ids below `known` are mapped.
fn forget_groups(spec: &mut Spec<'_>, known: u64) {
    for mount in spec.mounts.0.iter_mut().filter(|mount| mount.kind.as_deref() == Some("devpts")) {
        mount.options.0.retain(|option| {
            let group = option.strip_prefix("gid=").and_then(|group| group.parse::<u64>().ok());
            group.is_none_or(|group| group < known)
        });
    }
}

/// As many lines a map can have (user_namespaces(7)).
const MAX_LINES: usize = 340;

/// `own` as 0, then the `granted` ranges; one that shares ids with what stands before it, as where a user has the same range
/// by his name and by his number, would make the kernel refuse the whole map.
fn mappings(own: u32, granted: &[(u32, u32)]) -> Vec<IdMapping> {
    let mut list = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1_u32;
    for (host_id, size) in granted.iter().copied() {
        let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
        let overlaps = |map: &IdMapping| {
            u64::from(host_id) < end(map.host_id, map.size)
                && u64::from(map.host_id) < end(host_id, size)
        };
        if list.iter().any(overlaps) {
            continue;
        }
        list.push(IdMapping { container_id: next, host_id, size });
        let Some(end) = next.checked_add(size) else { break };
        next = end;
        if list.len() == MAX_LINES {
            break;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(granted: &[(u32, u32)]) -> Vec<(u32, u32, u32)> {
        let list = mappings(1000, granted);
        list.iter().map(|map| (map.container_id, map.host_id, map.size)).collect()
    }

    #[test]
    fn the_ranges_of_a_user_follow_his_own_id() {
        assert_eq!(text(&[]), [(0, 1000, 1)]);
        assert_eq!(
            text(&[(100_000, 65536), (300_000, 10)]),
            [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]
        );
        assert_eq!(text(&[(5000, u32::MAX), (6, 1)]).len(), 2);
        // The same by name and by number; a part of another; one with the user's own id.
        let twice = [(100_000, 65536), (100_000, 65536), (165_535, 9), (900, 101), (999, 1)];
        assert_eq!(text(&twice), [(0, 1000, 1), (1, 100_000, 65536), (65537, 999, 1)]);
        let many: Vec<_> = (0..1000).map(|i| (10_000 + 2 * i, 1)).collect();
        assert_eq!(text(&many).len(), 340);
    }

    #[test]
    fn a_terminals_group_that_is_not_mapped_is_let_go() {
        let text = r#"{"mounts":[{"destination":"/dev/pts","type":"devpts","options":["mode=0620","gid=5"]},
            {"destination":"/x","type":"tmpfs","options":["gid=5"]}]}"#;
        for (known, left) in [(1, 1), (5, 1), (6, 2), (65537, 2)] {
            let mut spec: Spec<'_> = serde_json::from_str(text).unwrap();
            forget_groups(&mut spec, known);
            let counts: Vec<_> = spec.mounts.iter().map(|mount| mount.options.len()).collect();
            assert_eq!(counts, [left, 1], "{known}");
        }
    }

    #[test]
    fn one_that_is_configured_is_left_alone() {
        let parse = |text: &'static str| {
            let mut spec: Spec<'_> = serde_json::from_str(text).unwrap();
            add_user_namespace(&mut spec, 4_000_000_000, 4_000_000_000);
            spec.linux.map(|linux| (linux.namespaces.len(), linux.uid_mappings.0))
        };
        let own = IdMapping { container_id: 0, host_id: 4_000_000_000, size: 1 };
        assert_eq!(parse(r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#), Some((2, vec![own])));
        let user = r#"{"linux":{"namespaces":[{"type":"user","path":"/x"}]}}"#;
        assert_eq!(parse(user), Some((1, Vec::new())));
        assert_eq!(parse("{}"), Some((1, vec![own])));
    }
}
