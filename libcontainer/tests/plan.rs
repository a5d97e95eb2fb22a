//! From real `config.json` files to plans, and to what the oci-spec crate reads of the same files.
//!
//! `tests/data/configs` holds what engines wrote, `tests/data/plans` what is made of it: the plan on a host with the
//! unified cgroup hierarchy, then what differs with the older ones; or the error, where this version refuses.
//! `UPDATE_SNAPSHOTS=1 cargo test --test plan` writes them anew; their diff is what a change means for engines.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::tests_outside_test_module,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; these read and write files of this repository"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use libcontainer::plan::{
    DeviceOp, HostFacts, Plan, ProcessPlan, Request, RootPlan, caps, namespaces,
    scheduling::Scheduling,
};
use libcontainer::seccomp::Filter;
use libcontainer::{bundle, spec};
use serde_json::Value;

fn data(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(directory)
}

/// Names of the files of a directory, without `extension`, sorted.
fn names(directory: &str, extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(data(directory)).unwrap();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files.filter_map(|file| Some(file.strip_suffix(extension)?.to_owned())).collect()
}

/// The configurations, by name.
fn configs() -> Vec<(String, Vec<u8>)> {
    let names = names("configs", ".json").into_iter().filter(|name| !name.ends_with("-features"));
    let configs: Vec<_> = names
        .map(|name| {
            let text = fs::read(data("configs").join(format!("{name}.json"))).unwrap();
            (name, text)
        })
        .collect();
    assert!(configs.len() >= 15, "only {} configurations", configs.len());
    configs
}

/// The names of the capabilities of a set.
fn capabilities(set: u64) -> String {
    let names = caps::NAMES.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
    let names: Vec<_> = names.map(|(_, name)| name.trim_start_matches("CAP_")).collect();
    if names.len() == caps::NAMES.len() { "all".to_owned() } else { names.join(" ") }
}

/// A filter by its properties: what the program answers is compared with libseccomp, whatever it looks like.
fn filter(filter: Option<&Filter>) -> String {
    filter.map_or("none".to_owned(), |Filter { program, flags, notify, warnings }| {
        let empty = if program.is_empty() { "empty" } else { "a program" };
        format!("{empty}, flags {flags:#x}, notify {notify}, warnings {warnings:?}")
    })
}

fn process(out: &mut String, plan: &ProcessPlan) {
    // Named one by one, so that a new field is not forgotten here.
    let ProcessPlan {
        argv,
        env,
        search_path,
        find_home,
        cwd,
        uid,
        gid,
        groups,
        umask,
        caps,
        no_new_privileges,
        rlimits,
        oom_score_adj,
        seccomp,
        terminal,
        apparmor,
        selinux,
        scheduling,
        memory_policy,
        personality,
    } = plan;
    writeln!(out, "process:").unwrap();
    writeln!(out, "  argv: {argv:?}").unwrap();
    for variable in env.strings() {
        writeln!(out, "  env: {variable:?}").unwrap();
    }
    writeln!(out, "  search path: {search_path:?}, find home: {find_home}, cwd: {cwd:?}").unwrap();
    writeln!(out, "  uid: {uid}, gid: {gid}, groups: {groups:?}, umask: {umask:04o}").unwrap();
    for (name, set) in [
        ("bounding", caps.bounding),
        ("effective", caps.effective),
        ("inheritable", caps.inheritable),
        ("permitted", caps.permitted),
        ("ambient", caps.ambient),
    ] {
        writeln!(out, "  {}", format!("{name}: {}", capabilities(set)).trim_end()).unwrap();
    }
    writeln!(out, "  no new privileges: {no_new_privileges}").unwrap();
    for (resource, soft, hard) in rlimits {
        writeln!(out, "  rlimit {resource}: {soft} {hard}").unwrap();
    }
    writeln!(out, "  oom_score_adj: {oom_score_adj:?}, terminal: {terminal:?}").unwrap();
    writeln!(out, "  seccomp: {}", filter(seccomp.as_ref())).unwrap();
    writeln!(out, "  apparmor: {apparmor:?}, selinux: {selinux:?}").unwrap();
    if *scheduling != Scheduling::default() {
        writeln!(out, "  {scheduling:?}").unwrap();
    }
    if memory_policy.is_some() || personality.is_some() {
        writeln!(out, "  {memory_policy:?}, personality: {personality:?}").unwrap();
    }
}

/// A plan as text: one line for one thing, flags by name or in hexadecimal.
fn text(plan: &Plan) -> String {
    let Plan {
        namespaces: spaces,
        idmaps,
        root: RootPlan { path, readonly: root_readonly, propagation, no_pivot },
        mounts,
        mount_label,
        devices,
        bind_devices,
        made_devices: _,
        dev_links,
        ptmx_link,
        masked,
        readonly,
        hostname,
        domainname,
        sysctl,
        process: process_plan,
        keyring,
        start_container_hooks,
        cgroup_owner,
        net_devices,
        create_runtime_hooks,
        joins_late,
        warnings,
    } = plan;
    let mut out = String::new();
    let new: Vec<_> = namespaces::KINDS.iter().filter(|(_, flag)| spaces.makes(*flag)).collect();
    let new: Vec<_> = new.iter().map(|(name, _)| *name).collect();
    writeln!(out, "new namespaces: {}", new.join(" ")).unwrap();
    for join in &spaces.join {
        writeln!(out, "join {}: {:?}", namespaces::name(join.kind), join.path).unwrap();
    }
    if let Some(maps) = idmaps {
        writeln!(out, "uid map: {:?}", maps.uids).unwrap();
        writeln!(out, "gid map: {:?}", maps.gids).unwrap();
    }
    let (flags, recursive) = propagation;
    writeln!(
        out,
        "root: {path:?}, read-only: {root_readonly}, propagation: {flags:#x} {recursive:?}, no pivot: {no_pivot}"
    )
    .unwrap();
    for mount in mounts {
        let last = if plan.is_made_last(mount) { "last " } else { "" };
        writeln!(out, "{last}mount: {mount:x?}").unwrap();
    }
    writeln!(out, "joins late: {joins_late}").unwrap();
    if let Some(label) = mount_label {
        writeln!(out, "mount label: {:?}={:?}", label.option, label.text).unwrap();
    }
    for device in devices {
        let DeviceOp { index, target, host, mode, number, uid, gid } = device;
        let (major, minor) = (number >> 8 & 0xfff, number & 0xff);
        writeln!(
            out,
            "device: {index:?} {target:?}, {host:?}, {mode:o} {major}:{minor}, {uid}:{gid}"
        )
        .unwrap();
    }
    writeln!(out, "/dev: bind: {bind_devices}, links: {dev_links}, ptmx: {ptmx_link}").unwrap();
    for path in masked {
        writeln!(out, "masked: {path:?}").unwrap();
    }
    for path in readonly {
        writeln!(out, "read-only: {path:?}").unwrap();
    }
    writeln!(out, "hostname: {hostname:?}, domainname: {domainname:?}").unwrap();
    if let Some(uid) = cgroup_owner {
        writeln!(out, "owner of the cgroup: {uid}").unwrap();
    }
    for device in net_devices {
        writeln!(out, "network device: {device:?}").unwrap();
    }
    for parameter in sysctl {
        writeln!(out, "sysctl: {parameter:?}").unwrap();
    }
    process(&mut out, process_plan);
    writeln!(out, "keyring: {keyring:?}").unwrap();
    writeln!(
        out,
        "hooks: createRuntime {create_runtime_hooks}, startContainer {start_container_hooks}"
    )
    .unwrap();
    for warning in warnings {
        writeln!(out, "warning: {warning}").unwrap();
    }
    out
}

fn plan(config: &[u8], cgroup_v2: bool) -> Result<String, libcontainer::Error> {
    let spec = bundle::parse(config)?;
    let host = HostFacts { bundle: "/bundle", cgroup_v2, euid: 0 };
    Plan::build(&spec, &host, Request::default(), "snapshot").map(|plan| text(&plan))
}

fn snapshot(config: &[u8]) -> String {
    let unified = match plan(config, true) {
        Ok(text) => text,
        Err(error) => return format!("error: {error}\n"),
    };
    let legacy = plan(config, false).unwrap_or_else(|error| format!("error: {error}\n"));
    let mut text = unified.clone();
    let only = |one: &str, other: &str, sign: &str| -> String {
        let other: BTreeSet<&str> = other.lines().collect();
        let lines = one.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    if unified != legacy {
        text.push_str("with cgroup v1:\n");
        text.push_str(&only(&unified, &legacy, "-"));
        text.push_str(&only(&legacy, &unified, "+"));
    }
    text
}

/// The lines in which two texts differ.
fn difference(expected: &str, found: &str) -> String {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) =
        (expected.lines().collect(), found.lines().collect());
    let gone = expected.lines().filter(|line| !after.contains(line)).map(|line| ("-", line));
    let new = found.lines().filter(|line| !before.contains(line)).map(|line| ("+", line));
    let lines = gone.chain(new).map(|(sign, line)| format!("  {sign} {line}\n"));
    let lines: String = lines.collect();
    if lines.is_empty() { "  the same lines in another order\n".to_owned() } else { lines }
}

#[test]
fn every_configuration_gives_the_plan_of_its_snapshot() {
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let directory = data("plans");
    if update {
        fs::create_dir_all(&directory).unwrap();
    }
    let mut wrong = String::new();
    for (name, config) in configs() {
        let file = directory.join(format!("{name}.txt"));
        let found = snapshot(&config);
        if update {
            fs::write(file, found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            write!(wrong, "{name}:\n{}", difference(&expected, &found)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}If that is meant: UPDATE_SNAPSHOTS=1 cargo test --test plan");
}

#[test]
fn every_snapshot_has_its_configuration() {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        return; // They are being written.
    }
    let configs: BTreeSet<_> = configs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names("plans", ".txt"), configs);
}

/// Compares two readings of `source`, all three as JSON.
///
/// A field that the source does not have may be absent from one reading and zero or empty in the other.
fn compare(
    path: &str,
    source: Option<&Value>,
    ours: Option<&Value>,
    theirs: Option<&Value>,
    wrong: &mut String,
) {
    match (source, ours, theirs) {
        (None | Some(Value::Null), ours, theirs) => {
            for (who, value) in [("we", ours), ("oci-spec", theirs)] {
                if value.is_some_and(|value| !is_nothing(value)) {
                    writeln!(wrong, "  {path}: {who} made {} of nothing", value.unwrap()).unwrap();
                }
            }
        }
        (Some(Value::Object(source)), _, _) => {
            for (field, source) in source {
                let (ours, theirs) = (
                    ours.and_then(|ours| ours.get(field)),
                    theirs.and_then(|theirs| theirs.get(field)),
                );
                compare(&format!("{path}.{field}"), Some(source), ours, theirs, wrong);
            }
            for (who, value) in [("we", ours), ("oci-spec", theirs)] {
                let fields = value.and_then(Value::as_object).into_iter().flatten();
                for (field, value) in fields.filter(|(field, _)| !source.contains_key(*field)) {
                    if !is_nothing(value) {
                        writeln!(wrong, "  {path}.{field}: {who} made {value} of nothing").unwrap();
                    }
                }
            }
        }
        (Some(Value::Array(source)), ours, theirs) => {
            let empty = Vec::new();
            let array =
                |value: Option<&Value>| value.and_then(Value::as_array).unwrap_or(&empty).clone();
            let (mut ours, mut theirs, mut source) = (array(ours), array(theirs), source.clone());
            // Sets, for oci-spec.
            if path.starts_with(".process.capabilities.") {
                for list in [&mut ours, &mut theirs, &mut source] {
                    list.sort_by_key(ToString::to_string);
                }
            }
            if ours.len() != source.len() || theirs.len() != source.len() {
                writeln!(
                    wrong,
                    "  {path}: {} items, we {}, oci-spec {}",
                    source.len(),
                    ours.len(),
                    theirs.len()
                )
                .unwrap();
                return;
            }
            for (index, source) in source.iter().enumerate() {
                let path = format!("{path}[{index}]");
                compare(&path, Some(source), ours.get(index), theirs.get(index), wrong);
            }
        }
        (Some(source), ours, theirs) => {
            let right =
                |value: Option<&Value>| value.map_or(is_nothing(source), |value| value == source);
            if !right(ours) || !right(theirs) {
                writeln!(wrong, "  {path}: {source}, we {ours:?}, oci-spec {theirs:?}").unwrap();
            }
        }
    }
}

/// Whether a value says no more than its absence.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

#[test]
fn the_comparison_sees_what_differs() {
    let source = serde_json::json!({"root": {"path": "/r", "readonly": false}, "mounts": [{"destination": "/a"}]});
    let mut same = source.clone();
    same["root"].as_object_mut().unwrap().remove("readonly");
    same["hostname"] = "".into();
    let differing = [
        ("/root/path", Value::from("/s")),
        ("/root", Value::Null),
        ("/mounts/0/destination", Value::Null),
        ("/mounts", Value::from(Vec::<Value>::new())),
        ("/hostname", Value::from("youki")),
    ];
    let find = |ours: &Value, theirs: &Value| {
        let mut differences = String::new();
        compare("", Some(&source), Some(ours), Some(theirs), &mut differences);
        differences
    };
    assert_eq!(find(&source, &same), "");
    for (pointer, value) in differing {
        let mut other = same.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert_ne!(find(&source, &other), "", "{pointer}, oci-spec");
        assert_ne!(find(&other, &source), "", "{pointer}, ours");
    }
}

#[test]
fn what_oci_spec_accepts_we_read_the_same() {
    let (mut wrong, mut compared) = (String::new(), 0);
    for (name, config) in configs() {
        let Ok(theirs) = serde_json::from_slice::<oci_spec::runtime::Spec>(&config) else {
            continue;
        };
        let theirs = serde_json::to_value(theirs).unwrap();
        let ours: spec::Spec<'_> = bundle::parse(&config).unwrap();
        let ours = serde_json::to_value(ours).unwrap();
        let source: Value = serde_json::from_slice(&config).unwrap();
        let mut differences = String::new();
        compare("", Some(&source), Some(&ours), Some(&theirs), &mut differences);
        if !differences.is_empty() {
            write!(wrong, "{name}:\n{differences}").unwrap();
        }
        compared += 1;
    }
    assert!(compared >= 15, "oci-spec accepted only {compared}");
    assert!(wrong.is_empty(), "{wrong}");
}
