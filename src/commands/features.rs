//! `features`: what this binary supports (runtime-spec features.md), read from the tables it works with.
//!
//! Engines decide by it: containerd wants `mountExtensions.idmap` for pods with a user namespace and volumes,
//! and everyone looks for `rro`. CRI-O reads standard error too, so nothing may be written there.

use libcontainer::plan::{caps, memory_policy, mount_options, namespaces};
use libcontainer::{Error, Result, seccomp, spec};
use serde::Serialize;

use super::version;
use crate::output;

/// What the planner refuses as not available in this version. `null` or an absent field would mean "unknown".
mod available {
    pub(super) const SYSTEMD: bool = true;
}

/// Prints the document.
///
/// # Errors
/// Standard output that cannot be written to.
pub(crate) fn run() -> Result<()> {
    output::print(&document()?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; 6],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: Annotations,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: &'static [&'static str],
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<&'static str>,
    operators: Vec<&'static str>,
    archs: Vec<&'static str>,
    known_flags: Vec<&'static str>,
    supported_flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "io.github.skep-project.skep.commit")]
    commit: &'static str,
    #[serde(rename = "io.github.skep-project.skep.version")]
    version: &'static str,
    /// Who looks for it looks for runc's.
    #[serde(rename = "org.opencontainers.runc.checkpoint.enabled")]
    checkpoint: &'static str,
}

fn document() -> Result<Vec<u8>> {
    let features = Features {
        oci_version_min: "1.0.0",
        oci_version_max: spec::OCI_VERSION,
        hooks: [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        mount_options: mount_options::known().collect(),
        linux: linux(),
        annotations: Annotations {
            commit: version::COMMIT,
            version: env!("CARGO_PKG_VERSION"),
            checkpoint: "true",
        },
        // run.oci.hooks.stdout opens any file as the runtime, run.oci.pidfd_receiver hands out a pidfd.
        potentially_unsafe_config_annotations: spec::annotations::UNSAFE,
    };
    let text =
        serde_json::to_string_pretty(&features).map_err(|e| Error::internal(e.to_string()))?;
    // runc indents by 4 and ends the line. No string of JSON has a line break in it, so each line can be indented again.
    let mut indented = String::with_capacity(2 * text.len());
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        indented.extend(std::iter::repeat_n(' ', indent));
        indented.push_str(line);
        indented.push('\n');
    }
    Ok(indented.into_bytes())
}

fn linux() -> Linux {
    Linux {
        namespaces: namespaces::KINDS.iter().map(|(name, _)| *name).collect(),
        capabilities: caps::NAMES,
        cgroup: Cgroup {
            v1: true,
            v2: true,
            systemd: available::SYSTEMD,
            systemd_user: available::SYSTEMD,
            rdma: true,
        },
        seccomp: Seccomp {
            enabled: true,
            actions: seccomp::ACTIONS.iter().map(|action| action.name).collect(),
            operators: seccomp::OPERATORS.iter().map(|(name, _)| *name).collect(),
            archs: seccomp::ARCHES.iter().map(|arch| arch.name).collect(),
            known_flags: seccomp::FLAGS.iter().map(|(name, _)| *name).collect(),
            supported_flags: seccomp::supported_flags().collect(),
        },
        apparmor: Enabled { enabled: true },
        selinux: Enabled { enabled: true },
        intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
        memory_policy: MemoryPolicy {
            modes: memory_policy::MODES.iter().map(|(name, _)| *name).collect(),
            flags: memory_policy::FLAGS.iter().map(|(name, _)| *name).collect(),
        },
        mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
        net_devices: Enabled { enabled: true },
    }
}

#[cfg(test)]
mod tests {
    use libcontainer::plan::{HostFacts, Plan, Request};
    use serde_json::Value;

    use super::*;

    const RUNC: &str = include_str!("../../libcontainer/tests/data/configs/runc-features.json");
    const SPEC: &str = include_str!("../../libcontainer/tests/data/configs/runc-spec.json");

    /// Everything `theirs` has is in `ours`, unless it is one of `less`.
    fn compare(path: &str, ours: &Value, theirs: &Value, less: &[&str]) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for (key, theirs) in theirs.iter().filter(|(key, _)| *key != "annotations") {
                    let path = format!("{path}/{key}");
                    compare(&path, ours.get(key).expect(&path), theirs, less);
                }
            }
            (Value::Array(ours), Value::Array(theirs)) => {
                for theirs in theirs {
                    let path = format!("{path}/{}", theirs.as_str().expect("a list of names"));
                    assert!(ours.contains(theirs) != less.contains(&path.as_str()), "{path}");
                }
            }
            _ => assert!((ours == theirs) != less.contains(&path), "{path}: {ours} and {theirs}"),
        }
    }

    #[test]
    fn what_runc_has_and_we_do_not_is_known() {
        let ours = document().expect("a document");
        assert!(ours.ends_with(b"\n}\n") && ours.starts_with(b"{\n    \"ociVersionMin\""));
        let ours: Value = serde_json::from_slice(&ours).expect("JSON");
        let theirs: Value = serde_json::from_str(RUNC).expect("JSON");
        let less = ["/ociVersionMax", "/potentiallyUnsafeConfigAnnotations/bundle"];
        compare("", &ours, &theirs, &less);
        assert_eq!(ours["linux"]["capabilities"], theirs["linux"]["capabilities"]);
    }

    #[test]
    fn what_is_said_to_be_available_is_what_can_be_planned() {
        use serde_json::json;

        let bind = json!({"destination": "/m", "source": "/", "options": ["bind", "idmap"],
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]});
        let policy = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
        for (pointer, value) in [
            (
                "/linux/namespaces",
                json!([{"type": "time"}, {"type": "mount"}, {"type": "uts"}, {"type": "network"}]),
            ),
            ("/mounts", json!([bind])),
            ("/linux/netDevices", json!({"eth1": {}})),
            ("/linux/intelRdt", json!({"closID": "x", "enableMonitoring": true})),
            ("/linux/memoryPolicy", policy),
            ("/linux/mountLabel", json!("u:r:t:s0")),
            ("/hostname", json!("plain")),
        ] {
            let mut config: Value = serde_json::from_str(SPEC).expect("JSON");
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            let parent = config.pointer_mut(parent).expect("a section");
            parent[field] = value;
            let config = config.to_string();
            let spec: spec::Spec<'_> = serde_json::from_str(&config).expect("a configuration");
            let host = HostFacts { bundle: "/b", cgroup_v2: true, euid: 0 };
            let plan = Plan::build(&spec, &host, Request::default(), "id");
            assert!(plan.is_ok(), "{pointer}: {:?}", plan.err());
        }
    }

    #[test]
    fn lists_of_names_are_sorted() {
        let document = document().expect("a document");
        let document: Value = serde_json::from_slice(&document).expect("JSON");
        for pointer in
            ["/mountOptions", "/linux/namespaces", "/linux/seccomp/actions", "/linux/seccomp/archs"]
        {
            let list = document.pointer(pointer).and_then(Value::as_array).expect(pointer);
            assert!(list.is_sorted_by_key(|name| name.as_str().unwrap_or_default()), "{pointer}");
        }
    }
}
