//! `linux.memoryPolicy` → the arguments of set_mempolicy(2).

use super::list::Mask;
use super::scheduling::number;
use crate::error::{Error, Result};
use crate::spec;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// Mode and mode flags.
    pub mode: libc::c_int,
    /// The nodes; `None` for a mode that has none.
    pub nodes: Option<Mask>,
}

/// Modes and their numbers, by name; `features` lists them.
pub const MODES: &[(&str, libc::c_int)] = &[
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Mode flags, by name.
pub const FLAGS: &[(&str, libc::c_int)] = &[
    ("MPOL_F_NUMA_BALANCING", BALANCING),
    ("MPOL_F_RELATIVE_NODES", RELATIVE),
    ("MPOL_F_STATIC_NODES", STATIC),
];

const STATIC: libc::c_int = 1 << 15;
const RELATIVE: libc::c_int = 1 << 14;
const BALANCING: libc::c_int = 1 << 13;

/// Plans `linux.memoryPolicy`.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) naming the field: the kernel says EINVAL to everything.
pub fn plan(policy: Option<&spec::MemoryPolicy<'_>>) -> Result<Option<MemoryPolicy>> {
    let Some(policy) = policy else { return Ok(None) };
    let refuse = |sentence: String, name: &str| {
        Err(Error::config(sentence).field(format!("linux.memoryPolicy.{name}")))
    };
    let mode = policy.mode.as_str();
    let Some(number_of_mode) = number(MODES, mode) else {
        return refuse(format!("invalid memory policy mode {mode:?}"), "mode");
    };
    let mut flags = 0;
    for (i, flag) in policy.flags.iter().enumerate() {
        match number(FLAGS, flag) {
            Some(bit) => flags |= bit,
            None => {
                return refuse(
                    format!("invalid memory policy flag {flag:?}"),
                    &format!("flags[{i}]"),
                );
            }
        }
    }
    let list = policy.nodes.as_deref().filter(|list| !list.is_empty());
    let nodes = match list.map(Mask::parse).transpose() {
        Ok(nodes) => nodes,
        Err(why) => {
            let list = list.unwrap_or_default();
            return refuse(format!("invalid memory policy nodes {list:?}: {why}"), "nodes");
        }
    };
    let count = nodes.as_ref().map_or(0, Mask::count);
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if count > 0 => {
            return refuse(format!("memory policy mode requires 0 nodes but got {count}"), "nodes");
        }
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => {}
        _ if count == 0 => {
            return refuse(
                "memory policy mode requires at least one node but got 0".to_owned(),
                "nodes",
            );
        }
        _ => {}
    }
    if flags & STATIC != 0 && flags & RELATIVE != 0 {
        return refuse(
            "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other".to_owned(),
            "flags",
        );
    }
    if flags & (STATIC | RELATIVE) != 0 && count == 0 && mode != "MPOL_DEFAULT" {
        return refuse(format!("{mode} without nodes takes no flags about them"), "flags");
    }
    if flags & BALANCING != 0 && !matches!(mode, "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
        return refuse(
            "MPOL_F_NUMA_BALANCING needs MPOL_BIND or MPOL_PREFERRED_MANY".to_owned(),
            "flags",
        );
    }
    Ok(Some(MemoryPolicy { mode: number_of_mode | flags, nodes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str) -> Result<MemoryPolicy> {
        let policy: spec::MemoryPolicy<'_> = serde_json::from_str(json).unwrap();
        plan(Some(&policy)).map(Option::unwrap)
    }

    #[test]
    fn modes_flags_and_nodes_become_arguments() {
        for (json, mode, words) in [
            (r#"{"mode":"MPOL_DEFAULT"}"#, 0, None),
            (r#"{"mode":"MPOL_LOCAL","nodes":""}"#, 4, None),
            (r#"{"mode":"MPOL_PREFERRED"}"#, 1, None),
            (
                r#"{"mode":"MPOL_PREFERRED","nodes":"1","flags":["MPOL_F_RELATIVE_NODES"]}"#,
                0x4001,
                Some(2),
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0,2","flags":["MPOL_F_STATIC_NODES"]}"#,
                0x8002,
                Some(5),
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}"#,
                0x2002,
                Some(1),
            ),
            (r#"{"mode":"MPOL_INTERLEAVE","nodes":"0-1","flags":null}"#, 3, Some(3)),
            (r#"{"mode":"MPOL_PREFERRED_MANY","nodes":"0"}"#, 5, Some(1)),
            (r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"0"}"#, 6, Some(1)),
        ] {
            let plan = build(json).unwrap();
            assert_eq!(plan.mode, mode, "{json}");
            assert_eq!(plan.nodes.map(|nodes| nodes.words()[0]), words, "{json}");
        }
        assert_eq!(plan(None).unwrap(), None);
    }

    #[test]
    fn bad_values_name_their_field() {
        for (json, field) in [
            (r#"{}"#, "linux.memoryPolicy.mode"),
            (r#"{"mode":"BIND","nodes":"0"}"#, "linux.memoryPolicy.mode"),
            (r#"{"mode":"MPOL_BIND"}"#, "linux.memoryPolicy.nodes"),
            (r#"{"mode":"MPOL_BIND","nodes":"x"}"#, "linux.memoryPolicy.nodes"),
            (r#"{"mode":"MPOL_DEFAULT","nodes":"0-7"}"#, "linux.memoryPolicy.nodes"),
            (
                r#"{"mode":"MPOL_LOCAL","flags":["MPOL_F_STATIC_NODES"]}"#,
                "linux.memoryPolicy.flags",
            ),
            (
                r#"{"mode":"MPOL_PREFERRED","flags":["MPOL_F_STATIC_NODES"]}"#,
                "linux.memoryPolicy.flags",
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#,
                "linux.memoryPolicy.flags",
            ),
            (
                r#"{"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}"#,
                "linux.memoryPolicy.flags",
            ),
            (r#"{"mode":"MPOL_BIND","nodes":"0","flags":["x"]}"#, "linux.memoryPolicy.flags[0]"),
        ] {
            let message = build(json).unwrap_err().to_string();
            assert!(message.contains(field), "{json}: {message}");
        }
    }

    #[test]
    fn lists_are_sorted() {
        assert!(MODES.is_sorted_by_key(|(name, _)| name));
        assert!(FLAGS.is_sorted_by_key(|(name, _)| name));
    }
}
