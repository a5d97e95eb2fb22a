//! The maps of a user namespace for which none are given, and a namespace for who has to have one: as crun gives them.

use super::idmap;
use super::map_helper::{self, Kind, User};
use crate::spec::{IdMapping, Linux, List, Namespace, Spec};

/// Gives `spec` what it needs of a user namespace for the user `uid`: maps where it makes one without any, and an ordinary
/// user the namespace itself where it has none. What he has to be told is returned.
pub(super) fn complete(spec: &mut Spec<'_>, uid: u32) -> Vec<String> {
    let asked = user_namespace(spec);
    let is_joined = asked.is_some_and(Namespace::is_joined);
    // Maps without a namespace, and one map without the other, are mistakes that the plan names.
    if (asked.is_none() && uid == 0) || is_joined || has_maps(spec) {
        return Vec::new();
    }
    add_namespace(spec);
    let mut warnings = add_maps(spec, uid);
    if uid == 0 {
        warnings.push(
            "linux.uidMappings and linux.gidMappings are missing: root of the container's user namespace is root of the \
             runtime's"
                .to_owned(),
        );
    }
    warnings
}

fn user_namespace<'a, 'b>(spec: &'a Spec<'b>) -> Option<&'a Namespace<'b>> {
    let linux = spec.linux.as_ref()?;
    linux.namespaces.iter().find(|namespace| namespace.kind == "user")
}

/// Whether a map is given.
pub(super) fn has_maps(spec: &Spec<'_>) -> bool {
    let given =
        |linux: &Linux<'_>| !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    spec.linux.as_deref().is_some_and(given)
}

/// Adds a user namespace unless there is one.
pub(super) fn add_namespace<'a, 'b>(spec: &'a mut Spec<'b>) -> &'a mut Linux<'b> {
    let missing = user_namespace(spec).is_none();
    let linux = spec.linux.get_or_insert_default();
    if missing {
        linux.namespaces.0.push(Namespace { kind: "user".into(), path: None });
    }
    linux
}

/// Whoever asks is root in it, and the ids that subuid(5) and subgid(5) give him follow from 1 on. Without those, or
/// without the programs that may map them, he is alone; what keeps him from ids that are his is returned.
fn add_maps(spec: &mut Spec<'_>, uid: u32) -> Vec<String> {
    let gid = nix::unistd::getegid().as_raw();
    let user = User::read(uid, gid);
    let mut warnings = Vec::new();
    let mut map = |own: u32, kind: Kind| {
        let mut granted = user.granted(kind);
        if uid == 0 {
            // In a user namespace subuid(5) may give what is not there.
            let known = idmap::read(kind, "self");
            granted.retain(|range| known.iter().any(|map| holds(map, *range)));
        } else if !granted.is_empty()
            && let Err(why) = map_helper::check(kind, &user)
        {
            granted.clear();
            warnings.push(format!("the container has one id only ({}): {why}", kind.field()));
        }
        List(mappings(own, &granted))
    };
    let (uids, gids) = (map(uid, Kind::Users), map(gid, Kind::Groups));
    let known = gids.iter().map(|map| u64::from(map.size)).sum();
    let linux = spec.linux.get_or_insert_default();
    (linux.uid_mappings, linux.gid_mappings) = (uids, gids);
    forget_groups(spec, known);
    warnings
}

/// Whether a process with this map can give the whole `range` away.
fn holds(map: &IdMapping, (first, size): (u32, u32)) -> bool {
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    first >= map.container_id && end(first, size) <= end(map.container_id, map.size)
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
            complete(&mut spec, 4_000_000_000);
            spec.linux.map(|linux| (linux.namespaces.len(), linux.uid_mappings.0))
        };
        let own = IdMapping { container_id: 0, host_id: 4_000_000_000, size: 1 };
        assert_eq!(parse(r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#), Some((2, vec![own])));
        let user = r#"{"linux":{"namespaces":[{"type":"user","path":"/x"}]}}"#;
        assert_eq!(parse(user), Some((1, Vec::new())));
        assert_eq!(parse("{}"), Some((1, vec![own])));
        let bare = r#"{"linux":{"namespaces":[{"type":"user","path":""}]}}"#;
        assert_eq!(parse(bare), Some((1, vec![own])));
        let half = r#"{"linux":{"namespaces":[{"type":"user"}],"gidMappings":[{"containerID":0,"hostID":0,"size":1}]}}"#;
        assert_eq!(parse(half), Some((1, Vec::new())));
    }

    #[test]
    fn root_gets_no_namespace_of_its_own() {
        for text in ["{}", r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#] {
            let mut spec: Spec<'_> = serde_json::from_str(text).unwrap();
            assert!(complete(&mut spec, 0).is_empty());
            assert!(!has_maps(&spec), "{text}");
        }
    }

    #[test]
    fn a_range_is_to_give_away_as_a_whole() {
        let map = IdMapping { container_id: 100, host_id: 5, size: 10 };
        for (range, whole) in
            [((100, 10), true), ((99, 2), false), ((105, 6), false), ((109, 1), true)]
        {
            assert_eq!(holds(&map, range), whole, "{range:?}");
        }
    }
}
