//! What every container gets, whatever its image: namespaces, the kernel's file systems, masked paths.

use serde_json::{Map, Value, json};

use super::{IdMap, Mapping, Network, Notes, Request, Seccomp, object, seccomp};
use crate::error::Result;

/// Files of procfs and sysfs that tell of the host or change it.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Those that may be read.
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Nothing here is newer, and crun 1.8 refuses a version it does not know.
const OCI_VERSION: &str = "1.0.2";

/// The group of terminals, where the container has it.
const TTY_GROUP: u32 = 5;

/// The document to start from: the defaults, or that of `--config-from`, with the flags that go to neither process nor
/// mounts.
///
/// # Errors
/// A `--config-from` with something else where an object must be.
pub(super) fn base(request: &Request, notes: &mut Notes) -> Result<Map<String, Value>> {
    let mut spec = match &request.base {
        Some(base) => base.clone(),
        None => Map::new(),
    };
    let defaults = request.base.is_none();
    let origin = if defaults { "default" } else { "--config-from" };
    if defaults || !spec.contains_key("ociVersion") {
        spec.insert("ociVersion".into(), OCI_VERSION.into());
    }
    let root = object(&mut spec, "root")?;
    root.insert("path".into(), "rootfs".into());
    notes.origin("root.path", "bundle");
    if defaults || request.read_only {
        root.insert("readonly".into(), request.read_only.into());
    }
    notes.origin("root.readonly", if request.read_only { "--read-only" } else { origin });
    if let Some(hostname) = &request.hostname {
        spec.insert("hostname".into(), hostname.as_str().into());
        notes.origin("hostname", "--hostname");
    }
    if defaults {
        spec.insert("mounts".into(), kernel_mounts(request));
    }
    notes.origin("mounts", origin);
    linux(&mut spec, request, defaults, notes)?;
    Ok(spec)
}

fn linux(
    spec: &mut Map<String, Value>,
    request: &Request,
    defaults: bool,
    notes: &mut Notes,
) -> Result<()> {
    let linux = object(spec, "linux")?;
    let origin = if defaults { "default" } else { "--config-from" };
    if defaults {
        linux.insert("namespaces".into(), namespaces(request));
        linux.insert("maskedPaths".into(), json!(MASKED));
        linux.insert("readonlyPaths".into(), json!(READ_ONLY));
        if !request.mapping.as_ref().is_some_and(|mapping| mapping.rootless) {
            linux.insert(
                "resources".into(),
                json!({ "devices": [{ "allow": false, "access": "rwm" }] }),
            );
        }
    }
    for field in ["namespaces", "maskedPaths", "readonlyPaths"] {
        notes.origin(format!("linux.{field}"), origin);
    }
    if let (true, Some(mapping)) = (defaults, &request.mapping) {
        linux.insert("uidMappings".into(), ranges(&mapping.uids));
        linux.insert("gidMappings".into(), ranges(&mapping.gids));
        notes.origin("linux.uidMappings", "user namespace");
        notes.origin("linux.gidMappings", "user namespace");
    }
    match &request.seccomp {
        Seccomp::Default if defaults => {
            linux.insert("seccomp".into(), seccomp::profile());
            notes.origin("linux.seccomp", "default");
        }
        Seccomp::Default => {}
        Seccomp::Unconfined => {
            linux.remove("seccomp");
            notes.origin("linux.seccomp", "--seccomp unconfined: none");
        }
        Seccomp::Profile(profile) => {
            linux.insert("seccomp".into(), profile.clone());
            notes.origin("linux.seccomp", "--seccomp");
        }
    }
    Ok(())
}

fn ranges(map: &[IdMap]) -> Value {
    let range =
        |map: &IdMap| json!({ "containerID": map.container, "hostID": map.host, "size": map.size });
    map.iter().map(range).collect()
}

fn namespaces(request: &Request) -> Value {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    if request.network == Network::None {
        kinds.push("network");
    }
    if request.unified {
        kinds.push("cgroup");
    }
    if request.mapping.is_some() {
        kinds.push("user");
    }
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn kernel_mounts(request: &Request) -> Value {
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if request.mapping.as_ref().is_none_or(|map| Mapping::has(&map.gids, TTY_GROUP)) {
        terminals.push("gid=5");
    }
    // A sysfs is of a network namespace, and only root of that one may mount it.
    let sys = if request.network == Network::Host && request.mapping.is_some() {
        json!({ "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] })
    } else {
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] })
    };
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc",
            "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] },
        sys,
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
    ])
}
