//! `spec`: the configuration to start from, byte for byte what runc writes but for the version.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use libcontainer::error::Context;
use libcontainer::{Error, Result, spec};
use nix::unistd::{getegid, geteuid};

use crate::cli::{Args, flag};

/// Writes `config.json`.
///
/// # Errors
/// A file that is already there, or a directory that cannot be written to.
pub(crate) fn run(args: &Args<'_>) -> Result<()> {
    let name = args.path(&flag::CONFIG).unwrap_or(Path::new("config.json"));
    let path = args.path(&flag::BUNDLE).unwrap_or(Path::new("")).join(name);
    let owner = args
        .flag(&flag::ROOTLESS_SPEC)
        .then(|| Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() });
    let text = template(owner, is_unified());

    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let name = name.display();
            return Err(Error::config(format!("File {name} exists. Remove it first")));
        }
        opened => opened.on("create", &path)?,
    };
    file.write_all(text.as_bytes()).on("write", &path).inspect_err(|_| {
        // Half a configuration would be in the way of the next try.
        let _best_effort = fs::remove_file(&path);
    })
}

/// Whom a container without root runs as.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// cgroup-v2.rst: only the root of the unified hierarchy has this file.
fn is_unified() -> bool {
    fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok()
}

fn template(rootless: Option<Owner>, unified: bool) -> String {
    let mut text = String::with_capacity(4096);
    let (version, gid) = (spec::OCI_VERSION, if rootless.is_some() { "" } else { GID });
    let _infallible = write!(text, "{{\n\t\"ociVersion\": \"{version}\",\n{PROCESS}{gid}{SHM}");
    text.push_str(if rootless.is_some() { SYS_BIND } else { SYS });
    text.push_str(CGROUP);
    match rootless {
        Some(owner) => ids(&mut text, owner),
        None => text.push_str(RESOURCES),
    }
    let namespaces: &[&str] = match rootless {
        Some(_) => &["pid", "ipc", "uts", "mount", "cgroup", "user"],
        None => &["pid", "network", "ipc", "uts", "mount", "cgroup"],
    };
    let namespaces = namespaces.iter().filter(|kind| unified || **kind != "cgroup");
    for (number, kind) in namespaces.enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let _infallible = write!(text, "{comma}\n\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}");
    }
    text.push_str(PATHS);
    text
}

/// One id, the caller's own, is all that user_namespaces(7) lets a user map without help.
fn ids(text: &mut String, owner: Owner) {
    for (name, id) in [("uidMappings", owner.uid), ("gidMappings", owner.gid)] {
        let _infallible = write!(
            text,
            "\t\t\"{name}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n"
        );
    }
    text.push_str("\t\t\"namespaces\": [");
}

const PROCESS: &str = r#"	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "runc",
	"mounts": [
		{
			"destination": "/proc",
			"type": "proc",
			"source": "proc"
		},
		{
			"destination": "/dev",
			"type": "tmpfs",
			"source": "tmpfs",
			"options": [
				"nosuid",
				"strictatime",
				"mode=755",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/pts",
			"type": "devpts",
			"source": "devpts",
			"options": [
				"nosuid",
				"noexec",
				"newinstance",
				"ptmxmode=0666",
				"mode=0620""#;

const GID: &str = r#",
				"gid=5""#;

const SHM: &str = r#"
			]
		},
		{
			"destination": "/dev/shm",
			"type": "tmpfs",
			"source": "shm",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"mode=1777",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/mqueue",
			"type": "mqueue",
			"source": "mqueue",
			"options": [
				"nosuid",
				"noexec",
				"nodev"
			]
		},
"#;

const SYS: &str = r#"		{
			"destination": "/sys",
			"type": "sysfs",
			"source": "sysfs",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
"#;

const SYS_BIND: &str = r#"		{
			"destination": "/sys",
			"type": "none",
			"source": "/sys",
			"options": [
				"rbind",
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
"#;

const CGROUP: &str = r#"		{
			"destination": "/sys/fs/cgroup",
			"type": "cgroup",
			"source": "cgroup",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"relatime",
				"ro"
			]
		}
	],
	"linux": {
"#;

const RESOURCES: &str = r#"		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
		"namespaces": ["#;

const PATHS: &str = r#"
		],
		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/sys/firmware",
			"/proc/scsi"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
}"#;

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
