//! The whole of `config.json` with bad values: every property of a document that has them all, one at a time.
//!
//! The document is `tests/data/maximal.json`; what is put in place of each value follows from the value's JSON type.
//! A refusal has to name the property, a panic is never an answer, and what is accepted is listed here with its reason.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::bundle;
use crate::cgroup::{CgroupPlan, Driver, Host, Request as CgroupRequest};
use crate::plan::{HostFacts, Plan, Request};
use crate::resctrl::ResctrlPlan;

/// Stands for the mutated value until the text is made: a number may be one that no parser here could hold.
const PLACE: &str = "@the mutated value@";

fn maximal() -> Value {
    serde_json::from_str(include_str!("../tests/data/maximal.json")).unwrap()
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

/// One property of the document: its name as errors have it, its JSON pointer and its value.
struct Node {
    path: String,
    pointer: String,
    value: Value,
}

fn walk(path: &str, pointer: &str, value: &Value, nodes: &mut Vec<Node>) {
    let (path, pointer) = (path.to_owned(), pointer.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{dot}{name}"), &format!("{pointer}/{name}"), value, nodes);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), &format!("{pointer}/{index}"), value, nodes);
            }
        }
        _ => {}
    }
    if !path.is_empty() {
        nodes.push(Node { path, pointer, value: value.clone() });
    }
}

/// What is put in place of a value, as JSON; the empty text is its absence.
fn mutations(value: &Value) -> Vec<&'static str> {
    let mut list = vec!["", "null"];
    list.extend(match value {
        Value::String(_) => &[
            "\"\"",
            "\"no such value\"",
            "\"a\\u0000b\"",
            "\"/a\\u0000b\"",
            "\"..\"",
            "\"/../..\"",
            "\"/a/\"",
            "5",
            "-1",
            "1.5",
            "true",
            "[]",
            "{}",
            "[\"a\"]",
            "{\"a\":\"b\"}",
        ][..],
        Value::Number(_) => &[
            "-1",
            "-2147483649",
            "-9223372036854775808",
            "2147483648",
            "4294967295",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e3",
            "1.5",
            "1e400",
            "\"5\"",
            "\"\"",
            "true",
            "[]",
            "{}",
            "[1]",
        ],
        Value::Bool(_) => &["0", "1", "-1", "1.5", "\"true\"", "\"\"", "[]", "{}", "[true]"],
        Value::Array(_) => &[
            "[]",
            "[null]",
            "[[]]",
            "[{}]",
            "[1]",
            "[\"\"]",
            "[true]",
            "[\"a\\u0000b\"]",
            "{}",
            "{\"0\":1}",
            "\"\"",
            "\"a\"",
            "0",
            "true",
        ],
        Value::Object(_) => &[
            "{}",
            "{\"\":null}",
            "{\"unknown\":1}",
            "{\"unknown\":null}",
            "[]",
            "[{}]",
            "\"\"",
            "\"a\"",
            "0",
            "true",
        ],
        Value::Null => &[],
    });
    list
}

fn mutate(document: &Value, pointer: &str, with: &str) -> String {
    let mut document = document.clone();
    if with.is_empty() {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => unreachable!("a leaf has no members"),
        }
        return document.to_string();
    }
    *document.pointer_mut(pointer).unwrap() = PLACE.into();
    document.to_string().replace(&format!("\"{PLACE}\""), with)
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

/// `a[3].b` as the patterns have it: `a[].b`.
fn without_indices(path: &str) -> String {
    path.split('[')
        .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join("[")
}

/// What must be there: REQUIRED in the specification, or by what else the document asks.
const REQUIRED: &[&str] = &[
    "ociVersion",
    "root",
    "root.path",
    "process",
    "process.args",
    "process.cwd",
    "process.rlimits[].type",
    "process.scheduler.policy",
    "process.ioPriority.class",
    "mounts[].destination",
    "hooks.*[].path",
    "linux.namespaces[].type",
    "*Mappings[].containerID",
    "*Mappings[].hostID",
    "*Mappings[].size",
    "linux.devices[].type",
    "linux.devices[].path",
    "linux.devices[].major",
    "linux.devices[].minor",
    "linux.resources.blockIO.*Device[].major",
    "linux.resources.blockIO.*Device[].minor",
    "linux.resources.blockIO.throttle*[].rate",
    "linux.resources.hugepageLimits[].*",
    "linux.resources.network.priorities[].*",
    "linux.seccomp.defaultAction",
    "linux.seccomp.syscalls[].names",
    "linux.seccomp.syscalls[].action",
    "linux.seccomp.syscalls[].args[].index",
    "linux.seccomp.syscalls[].args[].value",
    "linux.seccomp.syscalls[].args[].op",
    "linux.memoryPolicy.mode",
    "linux.personality.domain",
];

/// Strings no part of which is looked at here.
const ANY: &[&str] = &["\"\"", "\"no such value\"", "\"..\"", "\"/../..\"", "\"/a/\""];
/// The same, where the kernel never sees them and a NUL does no harm.
const OPAQUE: &[&str] = &[
    "\"\"",
    "\"no such value\"",
    "\"..\"",
    "\"/../..\"",
    "\"/a/\"",
    "\"a\\u0000b\"",
    "\"/a\\u0000b\"",
    "[\"\"]",
    "[\"a\\u0000b\"]",
];
/// Absolute paths, clean or not: what is there is found out when it is opened, inside the root where it is the container's.
const ABSOLUTE: &[&str] = &["\"/../..\"", "\"/a/\""];
const POSITIVE: &[&str] = &[
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
];
/// Limits below 0 are none.
const SIGNED: &[&str] = &[
    "-1",
    "-2147483649",
    "-9223372036854775808",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
];
const EMPTY_OBJECT: &[&str] = &["{}", "{\"\":null}", "{\"unknown\":1}", "{\"unknown\":null}"];

/// What is accepted beside the absence of what is not required, and why.
const ACCEPTED: &[(&str, &[&str], &str)] = &[
    ("annotations.*", OPAQUE, "metadata, which nobody here reads"),
    ("hostname", ANY, "the kernel takes any name"),
    ("domainname", ANY, "the kernel takes any name"),
    ("hooks", EMPTY_OBJECT, "nothing in it is required"),
    ("hooks.*[].args", &["[\"\"]"], "the hook's own"),
    ("hooks.*[].env", &["[\"\"]"], "the hook's own"),
    ("hooks.*[].args[]", ANY, "the hook's own"),
    ("hooks.*[].env[]", ANY, "the hook's own"),
    ("hooks.*[].path", ABSOLUTE, "looked for when it runs"),
    ("hooks.*[].timeout", POSITIVE, "any number of seconds"),
    (
        "linux.cgroupsPath",
        &["\"no such value\"", "\"/a/\""],
        "relative ones are below the caller's, and cleaned",
    ),
    (
        "linux.devices[].fileMode",
        &["2147483648", "4294967295"],
        "engines add the bits of the type, in Go's form too",
    ),
    ("linux.devices[].path", ABSOLUTE, "cleaned"),
    ("linux.devices[].*id", &["2147483648"], "32 bits"),
    ("*Mappings[].*", &["2147483648"], "32 bits"),
    ("linux.intelRdt", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.intelRdt.closID", &["\"no such value\""], "the name of a directory"),
    ("linux.intelRdt.l3CacheSchema", ANY, "the kernel's syntax"),
    (
        "linux.intelRdt.schemata*",
        &["[\"\"]", "\"no such value\"", "\"..\"", "\"/../..\"", "\"/a/\""],
        "the kernel's syntax",
    ),
    ("linux.maskedPaths[]", ABSOLUTE, "cleaned"),
    ("linux.readonlyPaths[]", ABSOLUTE, "cleaned"),
    ("linux.mountLabel", ANY, "the security module's syntax"),
    ("linux.namespaces[].path", ABSOLUTE, "opened and looked at later"),
    ("linux.netDevices.*", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources.blockIO", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources.blockIO.throttle*.rate", POSITIVE, "64 bits"),
    ("linux.resources.cpu", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources.cpu.burst", POSITIVE, "the kernel knows its bounds"),
    ("linux.resources.cpu.*eriod", POSITIVE, "the kernel knows its bounds"),
    ("linux.resources.cpu.quota", SIGNED, "below 0 is no limit"),
    ("linux.resources.cpu.realtimeRuntime", SIGNED, "below 0 is no limit"),
    ("linux.resources.devices", &["[{}]"], "as runc reads it: deny all"),
    ("linux.resources.devices[]", EMPTY_OBJECT, "as runc reads it: deny all"),
    (
        "linux.resources.devices[].m*or",
        &["-1", "2147483648", "4294967295"],
        "-1 is all; a number no device has matches none",
    ),
    ("linux.resources.hugepageLimits[].limit", POSITIVE, "64 bits"),
    ("linux.resources.memory", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources.memory.kernel*", SIGNED, "ignored, with a warning: no kernel has it"),
    (
        "linux.resources.memory.*",
        &["-1", "2147483648", "4294967295", "4294967296", "9223372036854775807"],
        "-1 is no limit",
    ),
    ("linux.resources.network", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources.network.classID", POSITIVE, "32 bits"),
    (
        "linux.resources.network.priorities[].name",
        &["\"..\"", "\"/../..\"", "\"/a/\""],
        "the kernel knows its interfaces",
    ),
    ("linux.resources.network.priorities[].priority", POSITIVE, "32 bits"),
    ("linux.resources.pids", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.resources.pids.limit", SIGNED, "below 0 is no limit"),
    ("linux.resources.rdma.*.hca*", POSITIVE, "32 bits"),
    ("linux.resources.unified.*", ANY, "the kernel's syntax"),
    ("linux.seccomp", EMPTY_OBJECT, "no seccomp, as in runc"),
    ("linux.seccomp.listenerMetadata", OPAQUE, "handed to the listener as it is"),
    ("linux.seccomp.listenerPath", ANY, "connected to later"),
    ("linux.seccomp.syscalls[].args[].value*", POSITIVE, "64 bits"),
    (
        "linux.seccomp.syscalls[].names*",
        OPAQUE,
        "an unknown system call is a warning: profiles name those of other kernels",
    ),
    ("linux.sysctl.*", ANY, "the kernel knows its values"),
    ("linux.timeOffsets.*", EMPTY_OBJECT, "nothing in it is required"),
    ("linux.timeOffsets.*.secs", SIGNED, "64 bits, signed"),
    ("mounts[].destination", &["\"no such value\"", "\"/a/\""], "a relative one is relative to /"),
    ("mounts[].options", &["[\"\"]"], "an option that says nothing"),
    ("mounts[].options[]", ANY, "the file system knows its own; bind mounts have none"),
    ("mounts[].source", ANY, "a device or a name, or found when it is opened"),
    ("mounts[].type", OPAQUE, "no meaning for a bind mount"),
    ("process.apparmorProfile", ANY, "asked of the security module later"),
    ("process.selinuxLabel", ANY, "asked of the security module later"),
    ("process.args[]", ANY, "the process's own"),
    ("process.capabilities", EMPTY_OBJECT, "none"),
    ("process.capabilities.*", OPAQUE, "an unknown one is a warning"),
    ("process.consoleSize", EMPTY_OBJECT, "the terminal's own"),
    ("process.cwd", ABSOLUTE, "entered inside the root"),
    ("process.execCPUAffinity", EMPTY_OBJECT, "nothing in it is required"),
    ("process.oomScoreAdj", &["-1"], "-1000 to 1000"),
    ("process.rlimits[].hard", POSITIVE, "64 bits"),
    ("process.scheduler.nice", &["-1"], "-20 to 19"),
    ("process.scheduler.period", POSITIVE, "64 bits"),
    ("process.user", EMPTY_OBJECT, "root, as in runc"),
    ("process.user.additionalGids", &["[1]"], "a group"),
    ("process.user.additionalGids[]", &["2147483648"], "32 bits"),
    ("process.user.*id", &["2147483648"], "32 bits"),
    ("root.path", ANY, "relative to the bundle, opened later"),
];

/// What version 2 of cgroups accepts beside that.
const ACCEPTED_V2: &[(&str, &[&str], &str)] = &[
    ("linux.resources.cpu.shares", POSITIVE, "more than the most is the most, as in runc"),
    ("linux.resources.network.priorities[].name", OPAQUE, "ignored, with a warning"),
];

/// Where the error names another property than the one that was changed, and why.
const NAMED_OTHERWISE: &[(&str, &[&str], &str)] = &[
    ("linux.gidMappings*", &["linux.uidMappings"], "runc's sentence speaks of both"),
    (
        "linux.namespaces[]",
        &["linux.", "mounts", "hostname"],
        "what is asked without the namespace is named",
    ),
    ("linux.resources.memory.limit", &["linux.resources.memory.swap"], "swap is what does not fit"),
    (
        "mounts[].type",
        &["mounts[0].destination", "mounts[1].options"],
        "what does not go with the type is named",
    ),
    ("mounts[].options*", &["mounts[2].type"], "without the option bind the type is what is wrong"),
    (
        "mounts[].*Mappings[]",
        &["mounts[2].uidMappings", "mounts[2].gidMappings"],
        "the other list lacks its counterpart",
    ),
];

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
    for (host, document) in hosts.iter().zip(&documents) {
        plan(document.to_string().as_bytes(), host).unwrap();
        let mut nodes = Vec::new();
        walk("", "", document, &mut nodes);
        for node in &nodes {
            let path = without_indices(&node.path);
            let member = !path.ends_with(']');
            let mut without = false;
            for with in mutations(&node.value) {
                tried += 1;
                let text = mutate(document, &node.pointer, with);
                let outcome = catch_unwind(AssertUnwindSafe(|| plan(text.as_bytes(), host)));
                let Ok(outcome) = outcome else {
                    writeln!(wrong, "{} = {with}: a panic", node.path).unwrap();
                    continue;
                };
                if with.is_empty() {
                    without = outcome.is_ok();
                }
                let required = member && any_like(&path, REQUIRED);
                match outcome {
                    Ok(()) => {
                        let nothing = ["", "null", "[]", "{}", "\"\""].contains(&with);
                        let listed = |table: &[(&str, &[&str], &str)]| {
                            let mut entries = table.iter();
                            entries.any(|(pattern, values, _)| {
                                is_like(&path, pattern) && values.contains(&with)
                            })
                        };
                        let fine = listed(ACCEPTED) && !(required && nothing)
                            || nothing && without && !required
                            || host.is_v2() && listed(ACCEPTED_V2);
                        if !fine {
                            writeln!(wrong, "{} = {with}: accepted", node.path).unwrap();
                        }
                    }
                    Err(error) => {
                        let message = plain(&error.to_string());
                        let otherwise = NAMED_OTHERWISE.iter().any(|(pattern, others, _)| {
                            is_like(&path, pattern)
                                && others
                                    .iter()
                                    .any(|other| message.contains(&format!("config.json: {other}")))
                        });
                        if !names(&message, &node.path) && !otherwise {
                            writeln!(wrong, "{} = {with} is not named: {error}", node.path)
                                .unwrap();
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}of {tried} values");
    assert!(tried > 10_000, "only {tried} values");
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
