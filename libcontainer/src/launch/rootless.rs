//! A user namespace for who has none of his own to run containers in, as crun gives it.

use std::fs;

use super::idmap;
use crate::spec::{IdMapping, List, Namespace, Spec};

/// Adds a user namespace to `spec`, which has none, for the ordinary user `uid`: he is root in it, and the ids that
/// subuid(5) and subgid(5) give him follow from 1 on. Without those, or without the programs that may map them, he is alone.
pub(super) fn add_user_namespace(spec: &mut Spec<'_>, uid: u32, gid: u32) {
    let linux = spec.linux.get_or_insert_default();
    if linux.namespaces.iter().any(|namespace| namespace.kind == "user") {
        return;
    }
    let name = user_name(uid);
    let map = |own: u32, file: &str, helper: &str| {
        let ranges = match idmap::find(helper) {
            Some(_) => fs::read_to_string(file).unwrap_or_default(),
            None => String::new(),
        };
        mappings(own, &ranges, uid, name.as_deref())
    };
    linux.namespaces.0.push(Namespace { kind: "user".into(), path: None });
    linux.uid_mappings = List(map(uid, "/etc/subuid", "newuidmap"));
    linux.gid_mappings = List(map(gid, "/etc/subgid", "newgidmap"));
    let known = linux.gid_mappings.iter().map(|map| u64::from(map.size)).sum();
    forget_groups(spec, known);
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

/// passwd(5).
fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let is_his = |line: &&str| line.split(':').nth(2).is_some_and(|field| field == uid.to_string());
    passwd.lines().find(is_his)?.split(':').next().map(str::to_owned)
}

/// `own` as 0, then the ranges `ranges` has for the user, by name or number.
fn mappings(own: u32, ranges: &str, uid: u32, name: Option<&str>) -> Vec<IdMapping> {
    let mut list = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1_u32;
    for line in ranges.lines() {
        let mut fields = line.trim().split(':');
        let who = fields.next().unwrap_or_default();
        let mut number = || fields.next()?.parse::<u32>().ok();
        let (Some(host_id), Some(size)) = (number(), number()) else { continue };
        let is_his = Some(who) == name || who == uid.to_string();
        if !is_his || size == 0 {
            continue;
        }
        list.push(IdMapping { container_id: next, host_id, size });
        let Some(end) = next.checked_add(size) else { break };
        next = end;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ranges: &str) -> Vec<(u32, u32, u32)> {
        let list = mappings(1000, ranges, 1000, Some("me"));
        list.iter().map(|map| (map.container_id, map.host_id, map.size)).collect()
    }

    #[test]
    fn the_ranges_of_a_user_follow_his_own_id() {
        assert_eq!(text(""), [(0, 1000, 1)]);
        assert_eq!(
            text("you:1:5\nme:100000:65536\nbroken\nme:x:1\n1000:300000:10\nme:7:0\n"),
            [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]
        );
        assert_eq!(text("me:5:4294967295\nme:6:1\n").len(), 2);
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
