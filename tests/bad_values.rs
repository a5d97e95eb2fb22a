//! Every property of a document that has them all, with every bad value of its type, put before the binary.
//!
//! The values are those of `libcontainer/src/bad_values_tests`, where each is refused by name or accepted for a reason, by
//! the plan alone. Here is what comes after the plan: whatever the kernel makes of a value, the runtime ends in time, with
//! one sentence if it fails, and leaves nothing.

#[path = "../libcontainer/src/bad_values_tests/values.rs"]
#[allow(dead_code, reason = "the walk of the plan uses the rest")]
mod values;

use std::fs;

use self::values::{Case, Node, cases as each_case, choices, json as value_of, walk};
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, Value, json};

cases![
    every_property_is_in_a_section,
    of_the_document,
    of_the_process,
    of_apparmor,
    of_selinux,
    of_the_scheduling,
    of_mounts,
    of_hooks,
    of_namespaces,
    of_network_devices,
    of_paths_and_devices,
    of_resctrl,
    of_seccomp,
    of_a_filter_that_refuses_all,
    of_resources,
    of_huge_pages,
    of_the_network_controllers,
    of_rdma,
    of_unified,
];

/// Some properties that stand beside each other in one document, by their pointers.
struct Section {
    pointers: &'static [&'static str],
    /// Makes what `maximal.json` says there something that can run.
    prepare: for<'t> fn(Container<'t>) -> Container<'t>,
}

const fn section(
    pointers: &'static [&'static str],
    prepare: for<'t> fn(Container<'t>) -> Container<'t>,
) -> Section {
    Section { pointers, prepare }
}

const DOCUMENT: &[Section] =
    &[section(&["/ociVersion", "/hostname", "/domainname", "/root", "/annotations"], |c| c)];

const PROCESS: &[Section] = &[
    section(
        &[
            "/process/user",
            "/process/args",
            "/process/env",
            "/process/cwd",
            "/process/capabilities",
            "/process/rlimits",
            "/process/noNewPrivileges",
            "/process/oomScoreAdj",
        ],
        |c| c.args(&["true", "b"]),
    ),
    section(&["/process/terminal", "/process/consoleSize"], |c| c),
];

const APPARMOR: &[Section] = &[section(&["/process/apparmorProfile"], |c| c)];
const SELINUX: &[Section] = &[section(&["/process/selinuxLabel"], |c| c)];

const SCHEDULING: &[Section] = &[
    section(
        &[
            "/process/ioPriority",
            "/process/execCPUAffinity",
            "/linux/memoryPolicy",
            "/linux/personality",
        ],
        |c| c,
    ),
    section(&["/process/scheduler"], |c| {
        let times = [("runtime", 1_000_000), ("deadline", 2_000_000), ("period", 3_000_000)];
        times
            .iter()
            .fold(c, |c, (name, value)| c.set(&format!("/process/scheduler/{name}"), json!(value)))
    }),
];

const MOUNTS: &[Section] = &[
    section(&["/mounts"], |c| {
        let source = crate::mounts::host_dir(c.test, "source");
        c.set("/mounts/2/source", json!(source))
            .set("/mounts/2/options", json!(["rbind", "ro", "rslave"]))
            .unset("/mounts/2/uidMappings")
            .unset("/mounts/2/gidMappings")
            .mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755"])
    }),
    section(&["/mounts/2"], |c| {
        let source = crate::mounts::host_dir(c.test, "mapped");
        c.set("/mounts/2/source", json!(source)).set("/mounts/2/options", json!(["bind", "idmap"]))
    }),
];

/// A hook that the host and the container both have.
fn a_hook(c: Container<'_>) -> Container<'_> {
    let phases = c.config["hooks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    phases.iter().fold(c, |c, phase| {
        c.set(&format!("/hooks/{phase}/0/path"), json!("/bin/true"))
            .set(&format!("/hooks/{phase}/0/args"), json!(["true", "b"]))
    })
}

const HOOKS: &[Section] = &[
    section(&["/hooks/prestart"], a_hook),
    section(&["/hooks/createRuntime"], a_hook),
    section(&["/hooks/createContainer"], a_hook),
    section(&["/hooks/startContainer"], a_hook),
    section(&["/hooks/poststart"], a_hook),
    section(&["/hooks/poststop"], a_hook),
];

const NAMESPACES: &[Section] = &[
    section(&["/linux/namespaces"], |c| {
        let namespaces = c.config["linux"]["namespaces"].as_array().unwrap();
        let (kinds, others): (Vec<_>, Vec<_>) =
            namespaces.iter().cloned().partition(|namespace| namespace["type"] != "user");
        assert_eq!(others.len(), 1);
        c.set("/linux/namespaces", json!(kinds))
            .set("/linux/namespaces/1/path", json!("/proc/self/ns/net"))
    }),
    section(&["/linux/uidMappings", "/linux/gidMappings"], |c| {
        c.without_mount("/sys")
            .without_mount("/dev/mqueue")
            .push("/linux/namespaces", json!({"type": "user"}))
    }),
    section(&["/linux/timeOffsets"], |c| c.push("/linux/namespaces", json!({"type": "time"}))),
];

/// A device nobody has.
const NET_DEVICES: &[Section] = &[section(&["/linux/netDevices"], |c| c)];

const PATHS: &[Section] = &[
    section(
        &[
            "/linux/sysctl",
            "/linux/rootfsPropagation",
            "/linux/maskedPaths",
            "/linux/readonlyPaths",
            "/linux/mountLabel",
            "/linux/devices",
        ],
        |c| c,
    ),
    section(&["/linux/cgroupsPath"], |c| {
        let path = format!("/{}", c.id);
        c.set("/linux/cgroupsPath", json!(path))
    }),
];

const RESCTRL: &[Section] = &[section(&["/linux/intelRdt"], |c| c)];

const SECCOMP: &[Section] = &[section(&["/linux/seccomp"], |c| {
    // Rules that `true` does not meet, whatever becomes of them.
    c.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_ALLOW"))
        .unset("/linux/seccomp/defaultErrnoRet")
        .set("/linux/seccomp/syscalls/0/names", json!(["personality", "getpriority"]))
        .set("/linux/seccomp/syscalls/1/action", json!("SCMP_ACT_TRAP"))
})];

/// Every call is refused, execve(2) and exit(2) too.
const REFUSE_ALL: &[Section] =
    &[section(&["/linux/seccomp/defaultAction", "/linux/seccomp/defaultErrnoRet"], |c| c)];

const RESOURCES: &[Section] = &[
    section(&["/linux/resources/devices"], |c| c),
    section(&["/linux/resources/memory"], |c| c),
    section(&["/linux/resources/cpu"], |c| c),
    section(&["/linux/resources/pids"], |c| c),
    section(&["/linux/resources/blockIO"], |c| c),
];

const HUGE_PAGES: &[Section] = &[section(&["/linux/resources/hugepageLimits"], |c| c)];
const NETWORK: &[Section] = &[section(&["/linux/resources/network"], |c| {
    c.set("/linux/resources/network/priorities/0/name", json!("lo"))
})];
const RDMA: &[Section] = &[section(&["/linux/resources/rdma"], |c| c)];
const UNIFIED: &[Section] = &[section(&["/linux/resources/unified"], |c| c)];

const SECTIONS: &[&[Section]] = &[
    DOCUMENT,
    PROCESS,
    APPARMOR,
    SELINUX,
    SCHEDULING,
    MOUNTS,
    HOOKS,
    NAMESPACES,
    NET_DEVICES,
    PATHS,
    RESCTRL,
    SECCOMP,
    REFUSE_ALL,
    RESOURCES,
    HUGE_PAGES,
    NETWORK,
    RDMA,
    UNIFIED,
];

fn maximal() -> Value {
    serde_json::from_str(include_str!("../libcontainer/tests/data/maximal.json")).unwrap()
}

/// The name of the property at a pointer, as errors have it.
fn name_of(pointer: &str) -> String {
    let mut name = String::new();
    for part in pointer.trim_start_matches('/').split('/') {
        match part.parse::<usize>() {
            Ok(index) => name.push_str(&format!("[{index}]")),
            Err(_) if name.is_empty() => name.push_str(part),
            Err(_) => name.push_str(&format!(".{part}")),
        }
    }
    name
}

fn every_property_is_in_a_section(_: &Test) {
    let pointers: Vec<&str> =
        SECTIONS.iter().copied().flatten().flat_map(|section| section.pointers).copied().collect();
    let mut nodes = Vec::new();
    walk("", "", &maximal(), &mut nodes);
    for node in nodes.iter().filter(|node| !node.value.is_object() && !node.value.is_array()) {
        let inside = |pointer: &&str| node.pointer.starts_with(*pointer);
        assert!(pointers.iter().any(inside), "{} is in no section", node.path);
    }
}

/// Whether a value says more than that it has another type, which the parser alone decides.
fn is_of_interest(case: &Case, nodes: &[Node]) -> bool {
    if case.with.is_empty() || case.path.ends_with("{}") {
        return true;
    }
    let Some(node) = nodes.iter().find(|node| node.path == case.at) else { return true };
    if let Some(choices) = choices(&case.path)
        && case.with.starts_with('"')
    {
        return choices.iter().any(|choice| format!("{choice:?}") == case.with);
    }
    match serde_json::from_str(&value_of(&case.with)) {
        Ok(Value::Number(number)) => node.value.is_number() && (number.is_i64() || number.is_u64()),
        Ok(Value::String(_)) => node.value.is_string(),
        Ok(Value::Bool(_)) => node.value.is_boolean(),
        Ok(Value::Object(_)) => node.value.is_object(),
        Ok(Value::Array(_)) => node.value.is_array(),
        _ => false,
    }
}

/// What is wrong with the end of a run.
fn verdict(output: &Output) -> Option<&'static str> {
    let Some(code) = output.code else {
        return Some(if output.signal.is_some() { "died of a signal" } else { "did not end" });
    };
    let text = output.stderr.trim_end();
    if text.contains("panicked") || text.contains("Os {") || text.contains("Error(") {
        return Some("panicked");
    }
    // The program was killed, by its filter or for want of memory.
    if code == 0 || code > 128 {
        return None;
    }
    if text.is_empty() {
        return Some("failed without a word");
    }
    let places = ["config.json", "exec: "];
    if !places.iter().any(|place| text.contains(place)) {
        return Some("does not say where");
    }
    None
}

/// The pointer of the property an error names.
fn named(output: &Output) -> Option<String> {
    let text = output.stderr.replace("\\\"", "\"");
    let (_, field) = text.split_once("(config.json: ")?;
    let (field, _) = field.split_once(')')?;
    let field = field.replace("[\"", "/").replace("\"]", "").replace(['.', '['], "/");
    Some(format!("/{}", field.replace(']', "")))
}

/// Leaves out of a section what this host cannot do, so that the rest is tried; the error is what remains of it.
fn runnable<'t>(mut c: Container<'t>, section: &Section) -> Result<Container<'t>, String> {
    loop {
        c.write();
        let output = c.run();
        if output.code == Some(0) {
            return Ok(c);
        }
        let below = |name: &String| {
            let rest = section.pointers.iter().find_map(|pointer| name.strip_prefix(pointer));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let Some(name) = named(&output).filter(below) else { return Err(output.stderr) };
        let (parent, last) = name.rsplit_once('/').unwrap();
        let empty = match c.config.pointer_mut(parent) {
            Some(Value::Array(items)) => {
                items.remove(last.parse().unwrap());
                items.is_empty()
            }
            Some(Value::Object(members)) => {
                members.remove(last).unwrap();
                members.is_empty()
            }
            _ => return Err(output.stderr),
        };
        if empty && section.pointers.contains(&parent) {
            return Err(output.stderr);
        }
    }
}

/// The container of a section, and all its properties.
fn document<'t>(t: &'t Test, section: &Section, runs: bool) -> (Container<'t>, Vec<Node>) {
    t.need(t.kind() == Kind::Skep, "runc and crun take much of it");
    let mut c = t.container();
    for pointer in section.pointers {
        c = c.set(pointer, maximal().pointer(pointer).unwrap().clone());
    }
    c = (section.prepare)(c);
    if runs {
        c = match runnable(c, section) {
            Ok(c) => c,
            Err(error) => {
                t.skip(error.split("failed: ").last().unwrap().trim_end().replace('\\', ""))
            }
        };
    }
    let mut nodes = Vec::new();
    for pointer in section.pointers {
        walk(&name_of(pointer), pointer, c.config.pointer(pointer).unwrap(), &mut nodes);
    }
    (c, nodes)
}

/// Runs the container of each section with each value in the place of each property; `runs` is whether it does without.
fn try_all(t: &Test, sections: &[Section], runs: bool) {
    let (mut wrong, mut ran, mut tried) = (String::new(), 0, 0);
    for section in sections {
        let (c, nodes) = document(t, section, runs);
        each_case(&c.config, &nodes, &mut |case| {
            if !is_of_interest(case, &nodes) {
                return;
            }
            let Case { at, with, text, .. } = case;
            c.write_raw(text);
            let output = c.bundle_call("run", &[]).run();
            tried += 1;
            ran += i32::from(output.code == Some(0));
            if let Some(what) = verdict(&output) {
                wrong.push_str(&format!("{at} = {with}: {what}: {output:.600}\n"));
            }
            let state = fs::read_dir(&t.root).unwrap().flatten();
            let state = state.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
            assert_eq!(
                (state.count(), t.cgroups().len()),
                (0, 0),
                "left by {at} = {with}: {output}"
            );
        });
        t.assert_nothing_left();
    }
    // Where values of cgroupsPath lead.
    for root in t.host.cgroup_roots() {
        for name in ["a", "b", "x", "no such value"] {
            assert!(!root.join(name).exists(), "left behind: {name} in {}", root.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}of {tried} values, with {ran} of which it ran");
}

fn of_the_document(t: &Test) {
    try_all(t, DOCUMENT, true);
}

fn of_the_process(t: &Test) {
    try_all(t, PROCESS, true);
}

fn of_apparmor(t: &Test) {
    try_all(t, APPARMOR, true);
}

fn of_selinux(t: &Test) {
    try_all(t, SELINUX, true);
}

fn of_the_scheduling(t: &Test) {
    try_all(t, SCHEDULING, true);
}

fn of_mounts(t: &Test) {
    try_all(t, MOUNTS, true);
}

fn of_hooks(t: &Test) {
    try_all(t, HOOKS, true);
}

fn of_namespaces(t: &Test) {
    try_all(t, NAMESPACES, true);
}

fn of_network_devices(t: &Test) {
    try_all(t, NET_DEVICES, false);
}

fn of_paths_and_devices(t: &Test) {
    try_all(t, PATHS, true);
}

fn of_resctrl(t: &Test) {
    try_all(t, RESCTRL, true);
}

fn of_seccomp(t: &Test) {
    try_all(t, SECCOMP, true);
}

fn of_a_filter_that_refuses_all(t: &Test) {
    try_all(t, REFUSE_ALL, false);
}

fn of_resources(t: &Test) {
    try_all(t, RESOURCES, true);
}

fn of_huge_pages(t: &Test) {
    try_all(t, HUGE_PAGES, true);
}

fn of_the_network_controllers(t: &Test) {
    try_all(t, NETWORK, true);
}

fn of_rdma(t: &Test) {
    try_all(t, RDMA, true);
}

fn of_unified(t: &Test) {
    try_all(t, UNIFIED, true);
}
