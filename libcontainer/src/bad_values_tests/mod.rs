//! The whole of `config.json` with bad values: every property of a document that has them all, one at a time.
//!
//! The document is `tests/data/maximal.json`; what is put in place of each value follows from the value's JSON type.
//! A refusal has to name the property, a panic is never an answer, and what is accepted is listed here with its reason.

mod accepted;
#[allow(unreachable_pub, reason = "the black-box tests have the file too")]
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::bundle;
use crate::cgroup::{CgroupPlan, Driver, Host, Request as CgroupRequest};
use crate::plan::{HostFacts, Plan, Request};
use crate::resctrl::ResctrlPlan;

use self::accepted::{ACCEPTED, ACCEPTED_V2, NAMED_OTHERWISE, REQUIRED, Table};
use self::values::{Case, cases, choices, mutate, walk};

fn maximal() -> Value {
    serde_json::from_str(include_str!("../../tests/data/maximal.json")).unwrap()
}

/// All that is decided of a configuration before anything is made.
fn plan(config: &[u8], host: &Host) -> crate::Result<()> {
    let spec = bundle::parse(config)?;
    let facts = HostFacts { bundle: "/bundle", cgroup_v2: host.is_v2(), euid: 0 };
    Plan::build(&spec, &facts, Request::default(), "box")?;
    let linux = spec.linux.as_ref();
    let request = CgroupRequest {
        id: "box",
        cgroups_path: linux.and_then(|linux| linux.cgroups_path.as_deref()),
        resources: linux.and_then(|linux| linux.resources.as_deref()),
        driver: Driver::Cgroupfs,
        default_devices: true,
        buses: None,
        annotations: None,
    };
    CgroupPlan::build(&request, host)?;
    if let Some(rdt) = linux.and_then(|linux| linux.intel_rdt.as_ref()) {
        ResctrlPlan::build(rdt, "box")?;
    }
    Ok(())
}

fn hosts() -> [Host; 2] {
    let controllers = [
        "blkio",
        "cpu,cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls,net_prio",
        "pids",
        "rdma",
        "systemd",
    ];
    [
        Host::legacy_for_tests(&controllers),
        Host::unified_for_tests("cpuset cpu io memory hugetlb pids rdma"),
    ]
}

/// An error's sentence with every name of a map's entry spelled as a property's: `["a"]` is `.a`.
fn plain(message: &str) -> String {
    message.replace("[\"", ".").replace("\"]", "")
}

/// Whether `path` is as `pattern` says, in which `*` is any text and `[]` any index.
fn is_like(path: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => path == pattern,
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| is_like(rest, after)))
        }),
    }
}

fn any_like(path: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| is_like(path, pattern))
}

/// Whether an error that says `message` names `path`: the property, or the entry or list it is an element of.
fn names(message: &str, path: &str) -> bool {
    let owner = path.rsplit_once('.').map_or("", |(owner, _)| owner);
    let place = |path: &str| message.contains(path);
    // The elements of a list of strings, and a property against its siblings: the mapping, the limit, the mount.
    place(path)
        || path.ends_with(']') && path.rsplit_once('[').is_some_and(|(list, _)| place(list))
        || [".containerID", ".hostID", ".size", ".soft", ".hard", ".weight"]
            .iter()
            .any(|end| path.ends_with(end))
            && owner.ends_with(']')
            && place(owner)
}

/// Whether the specification offers `case`'s value as a choice.
fn is_choice(case: &Case) -> bool {
    let quoted = |value: &&str| case.with == format!("{value:?}");
    choices(&case.path).is_some_and(|values| values.iter().any(quoted))
}

/// What became of each value of each property, on one host.
type Seen = BTreeMap<String, BTreeMap<String, bool>>;

/// Writes down what `table` lists and nothing accepts: in `wrong`, or in `needed`, by row, what is accepted.
fn check_listed(
    table: &Table,
    seen: &Seen,
    needed: &mut BTreeSet<(usize, &'static str)>,
    wrong: &mut String,
) {
    for (row, (pattern, values, _)) in table.iter().enumerate() {
        for (path, tried) in seen.iter().filter(|(path, _)| is_like(path, pattern)) {
            for value in *values {
                match tried.get(*value) {
                    Some(true) => drop(needed.insert((row, *value))),
                    Some(false) => {
                        writeln!(wrong, "{path} = {value}: listed, and refused").unwrap();
                    }
                    None => {}
                }
            }
        }
    }
}

/// Whether the tables say that `case`'s value is accepted; `without` is whether the property may be absent.
fn is_listed(case: &Case, host: &Host, without: bool) -> bool {
    let Case { path, with, .. } = case;
    let nothing = ["", "null", "[]", "{}", "\"\""].contains(&with.as_str());
    let required = !path.ends_with(']') && any_like(path, REQUIRED);
    let listed = |table: &Table| {
        let mut rows = table.iter();
        rows.any(|(pattern, values, _)| is_like(path, pattern) && values.contains(&with.as_str()))
    };
    listed(ACCEPTED) && !(required && nothing)
        || nothing && without && !required && !path.ends_with("{}")
        || is_choice(case)
        || host.is_v2() && listed(ACCEPTED_V2)
}

/// The row of the table that says why `error` names another property than `case`'s.
fn named_otherwise(case: &Case, message: &str) -> Option<usize> {
    let place = |other: &&str| message.contains(&format!("config.json: {other}"));
    NAMED_OTHERWISE
        .iter()
        .position(|(pattern, others, _)| is_like(&case.path, pattern) && others.iter().any(place))
}

#[test]
fn every_bad_value_is_refused_by_name_or_accepted_for_a_reason() {
    let hosts = hosts();
    let mut documents = [maximal(), maximal()];
    // What one version of cgroups has and the other refuses.
    drop(documents[0]["linux"]["resources"].as_object_mut().unwrap().remove("unified"));
    let block = &mut documents[1]["linux"]["resources"]["blockIO"];
    drop(block.as_object_mut().unwrap().remove("leafWeight"));
    drop(block["weightDevice"][0].as_object_mut().unwrap().remove("leafWeight"));

    let (mut wrong, mut tried) = (String::new(), 0);
    let (mut needed, mut needed_v2) = (BTreeSet::new(), BTreeSet::new());
    let mut otherwise = BTreeSet::new();
    for (host, document) in hosts.iter().zip(&documents) {
        plan(document.to_string().as_bytes(), host).unwrap();
        let (mut nodes, mut seen, mut without) = (Vec::new(), Seen::new(), false);
        walk("", "", document, &mut nodes);
        cases(document, &nodes, &mut |case| {
            tried += 1;
            let Case { path, at, with, text } = case;
            let outcome = catch_unwind(AssertUnwindSafe(|| plan(text.as_bytes(), host)));
            let Ok(outcome) = outcome else {
                return writeln!(wrong, "{at} = {with}: a panic").unwrap();
            };
            let values = seen.entry(path.clone()).or_default();
            *values.entry(with.clone()).or_default() |= outcome.is_ok();
            // The first of a property's.
            if with.is_empty() {
                without = outcome.is_ok();
            }
            let Err(error) = outcome else {
                if !is_listed(case, host, without) {
                    writeln!(wrong, "{at} = {with}: accepted").unwrap();
                }
                return;
            };
            let message = plain(&error.to_string());
            if !names(&message, at) {
                match named_otherwise(case, &message) {
                    Some(row) => drop(otherwise.insert(row)),
                    None => writeln!(wrong, "{at} = {with} is not named: {error:.300}").unwrap(),
                }
            }
        });
        check_listed(ACCEPTED, &seen, &mut needed, &mut wrong);
        if host.is_v2() {
            check_listed(ACCEPTED_V2, &seen, &mut needed_v2, &mut wrong);
        }
    }
    for (table, needed) in [(ACCEPTED, &needed), (ACCEPTED_V2, &needed_v2)] {
        for (row, (pattern, values, _)) in table.iter().enumerate() {
            for value in values.iter().filter(|value| !needed.contains(&(row, **value))) {
                writeln!(wrong, "{pattern} = {value}: listed for nothing").unwrap();
            }
        }
    }
    for (row, (pattern, ..)) in NAMED_OTHERWISE.iter().enumerate() {
        if !otherwise.contains(&row) {
            writeln!(wrong, "{pattern}: named otherwise by nothing").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}of {tried} values");
    assert!(tried > 20_000, "only {tried} values");
}

/// Configurations far greater than real ones are planned in a time nobody notices.
#[test]
fn great_configurations_are_planned_in_time() {
    let hosts = hosts();
    let start = std::time::Instant::now();
    let mut document = maximal();
    document["linux"]["resources"].as_object_mut().unwrap().remove("unified");
    let mount = serde_json::json!({"destination": "/m/x", "type": "tmpfs", "source": "tmpfs", "options": ["size=4k"]});
    document["mounts"] = vec![mount; 10_000].into();
    document["hooks"]["prestart"] = vec![document["hooks"]["prestart"][0].clone(); 1000].into();
    // 5 MB, of names that repeat.
    let rule = serde_json::json!({"names": vec!["read"; 1000], "action": "SCMP_ACT_ALLOW"});
    let rules = document["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
    rules.extend(vec![rule; 700]);
    let text = document.to_string();
    assert!(text.len() > 5_000_000, "only {} bytes", text.len());
    let end = plan(text.as_bytes(), &hosts[0]);
    // The bound is for a build without optimisation on a machine that does other things.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    end.unwrap();
}

#[test]
fn what_excludes_each_other_is_refused() {
    let host = Host::unified_for_tests("cpuset cpu io memory hugetlb pids rdma");
    let mut document = maximal();
    let block = &mut document["linux"]["resources"]["blockIO"];
    drop(block.as_object_mut().unwrap().remove("leafWeight"));
    drop(block["weightDevice"][0].as_object_mut().unwrap().remove("leafWeight"));
    let mut wrong = String::new();
    for (pointer, value, named) in [
        ("/linux/namespaces/3", r#"{"type":"pid"}"#, "linux.namespaces[3]"),
        ("/linux/namespaces/7/type", r#""network""#, "linux.namespaces[7]"),
        ("/linux/namespaces/7", r#"{"type":"time","path":"/proc/1/ns/time"}"#, "linux.timeOffsets"),
        (
            "/process/rlimits",
            r#"[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":1,"hard":1}]"#,
            "process.rlimits[1]",
        ),
        ("/process/scheduler/policy", r#""SCHED_RR""#, "process.scheduler.priority"),
        ("/process/scheduler/policy", r#""SCHED_OTHER""#, "process.scheduler.runtime"),
        ("/process/scheduler/priority", "1", "process.scheduler.priority"),
        ("/mounts/2/options", r#"["bind","copy-symlink","src-nofollow"]"#, "mounts[2].options"),
        ("/mounts/0/options", r#"["tmpcopyup"]"#, "mounts[0].options"),
        ("/linux/seccomp/listenerPath", r#""""#, "linux.seccomp.listenerPath"),
        (
            "/linux/memoryPolicy/flags",
            r#"["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]"#,
            "linux.memoryPolicy.flags",
        ),
        ("/linux/memoryPolicy/mode", r#""MPOL_DEFAULT""#, "linux.memoryPolicy"),
        ("/linux/sysctl", r#"{"kernel.domainname":"other"}"#, "linux.sysctl"),
        ("/linux/sysctl", r#"{"kernel.hostname":"box"}"#, "linux.sysctl"),
        (
            "/linux/devices/1",
            r#"{"type":"c","path":"/dev/fuse","major":1,"minor":3}"#,
            "linux.devices[1]",
        ),
        ("/linux/resources/memory/swap", "1000", "linux.resources.memory.swap"),
    ] {
        let text = mutate(&document, pointer, value);
        let error = plan(text.as_bytes(), &host).err().map(|error| error.to_string());
        if !error.as_deref().is_some_and(|error| error.contains(named)) {
            writeln!(wrong, "{pointer} = {value}: {error:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
