//! What of a container is not CRIU's to save: mounts of the host's, namespaces of others, the standard streams.
//!
//! At a checkpoint each gets a name that CRIU puts into the images; at a restore each name leads to what is in its place
//! then. The names are made from `config.json`, whose paths inside the container stay the same, so that a restore on
//! another host or under another id finds its own.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cgroup::V1View;
use crate::path;
use crate::plan::mounts::{Action, MountOp};
use crate::spec::{self, Spec};
use crate::sys::mount::Recursive;

/// The name of a joined network namespace.
pub const NETWORK: &str = "extRootNetNS";
/// The name of a joined pid namespace.
pub const PIDS: &str = "extRootPidNS";
/// The name of the notification socket's directory, wherever it is mounted.
const NOTIFY: &str = crate::notify::PLACE;
/// Devices that every container has; bound from the host in a user namespace, the first under every masked file.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/net/tun",
    "/dev/fuse",
];

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    id: u32,
    parent: u32,
    root: String,
    point: String,
    kind: String,
}

impl Mounted {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ');
        let id = fields.next()?.parse().ok()?;
        let parent = fields.next()?.parse().ok()?;
        let root = unescape(fields.nth(1)?);
        let point = unescape(fields.next()?);
        let kind = right.split(' ').next()?.to_owned();
        Some(Self { id, parent, root, point, kind })
    }
}

/// Space, tab, newline and backslash are octal there.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A mount of `config.json` and where it is, symlinks followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The clean destination.
    pub destination: String,
    /// The mount point.
    pub point: String,
    /// Whether it is a bind mount.
    pub bind: bool,
}

/// What is known of a container's mounts from its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its mounts.
    pub places: Vec<Place>,
    /// Directories and files that are masked.
    pub masked: Vec<String>,
    /// Whether it sees cgroups from a namespace of its own.
    pub cgroup_namespace: bool,
    /// How the path of the notification socket's directory ends on the host.
    pub notify: String,
}

impl Known {
    /// What `spec` says of the container `id`; `resolve` follows the symlinks of a path inside the container.
    pub fn of(id: &str, spec: &Spec<'_>, resolve: &dyn Fn(&str) -> Option<String>) -> Self {
        let place = |mount: &spec::Mount<'_>| {
            let destination = absolute(&mount.destination);
            let point = resolve(&destination).unwrap_or_else(|| destination.clone());
            Place { destination, point, bind: is_bind(mount) }
        };
        let linux = spec.linux.as_ref();
        Self {
            places: spec.mounts.iter().map(place).collect(),
            masked: linux
                .map(|linux| linux.masked_paths.iter().map(|path| absolute(path)).collect())
                .unwrap_or_default(),
            cgroup_namespace: linux.is_some_and(|linux| {
                linux.namespaces.iter().any(|namespace| namespace.kind == "cgroup")
            }),
            notify: format!("/{id}/{}", crate::notify::DIRECTORY),
        }
    }
}

fn absolute(path: &str) -> String {
    format!("/{}", path::clean(path).trim_start_matches('/'))
}

pub(super) fn is_bind(mount: &spec::Mount<'_>) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"))
}

/// The mounts that CRIU is not to save, as (mount point, name).
pub fn of_checkpoint(mountinfo: &str, known: &Known) -> Vec<(String, String)> {
    let mounts: Vec<Mounted> = mountinfo.lines().filter_map(Mounted::parse).collect();
    let mut found: Vec<(String, String)> = Vec::new();
    let masked = |point: &String| known.masked.contains(point);
    // The ids of mounts that belong to a bind mount, with its place.
    let mut bound: Vec<(u32, &Place)> = Vec::new();
    for mount in &mounts {
        let place = known.places.iter().rev().find(|place| place.point == mount.point);
        let above = bound.iter().find(|(id, _)| *id == mount.parent).map(|(_, place)| *place);
        let belongs = match place {
            Some(place) => place.bind.then_some(place),
            None => above,
        };
        // A device that the configuration binds there is what it will say then; on top of one may be a mask.
        let configured = place.is_some_and(|place| place.bind) && !masked(&mount.point);
        let name = match mount.kind.as_str() {
            "devtmpfs" if mount.root != "/" && !configured => Some(format!("/dev{}", mount.root)),
            "cgroup" | "cgroup2" if belongs.is_none() => {
                (!known.cgroup_namespace && mount.root != "/").then(|| mount.point.clone())
            }
            _ if mount.point == NOTIFY
                || belongs.is_none() && mount.root.ends_with(&known.notify) =>
            {
                Some(NOTIFY.to_owned())
            }
            "tmpfs" if masked(&mount.point) => None,
            _ => belongs.map(|place| {
                let below = mount.point.strip_prefix(&place.point).unwrap_or_default();
                format!("{}{below}", place.destination)
            }),
        };
        if let (Some(place), Some(_)) = (belongs, &name) {
            bound.push((mount.id, place));
        }
        // Of several in one place the last is what the container sees: by the name of another its mask would be lifted.
        found.retain(|(point, _)| *point != mount.point);
        if let Some(name) = name {
            found.push((mount.point.clone(), name));
        }
    }
    found
}

/// What the host has in place of each name, as (name, path on the host).
pub(crate) fn of_restore(
    spec: &Spec<'_>,
    mounts: &[MountOp],
    views: &[V1View],
    v2: Option<&str>,
    notify: &Path,
    host_mountinfo: &str,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |name: &[u8], path: &[u8]| {
        // Of two mounts in one place the later one is seen.
        found.retain(|(known, _)| known != name);
        found.push((name.to_vec(), path.to_vec()));
    };
    for device in DEVICES {
        add(device.as_bytes(), device.as_bytes());
    }
    for device in spec.linux.iter().flat_map(|linux| linux.devices.iter()) {
        add(device.path.as_bytes(), device.path.as_bytes());
    }
    add(NOTIFY.as_bytes(), notify.as_os_str().as_bytes());
    let host: Vec<Mounted> = host_mountinfo.lines().filter_map(Mounted::parse).collect();
    for op in mounts {
        let target = [b"/", op.target.to_bytes()].concat();
        match &op.action {
            Action::Bind(bind) => {
                add(&target, bind.source.to_bytes());
                if bind.recursive == Recursive::Yes {
                    for (below, path) in below(&host, bind.source.to_bytes()) {
                        add(&[&target, below.as_bytes()].concat(), path.as_bytes());
                    }
                }
            }
            Action::CgroupV1 => {
                for view in views {
                    let name = [&target, &b"/"[..], view.directory.as_bytes()].concat();
                    add(&name, view.source.as_os_str().as_bytes());
                }
            }
            Action::CgroupV2 => {
                if let Some(directory) = v2 {
                    add(&target, directory.as_bytes());
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether the configuration masks the very place of a bind mount.
///
/// CRIU knows an external mount by its place, so that the mount under the mask goes by the mask's name. It is of another
/// file system then than the master that the images say it has, and where the host shares its mounts (systemd does)
/// CRIU's newer engine for mounts fails to join that ("Failed to copy sharing"). The older one asks for no master.
pub(crate) fn masks_a_bind(spec: &Spec<'_>, mounts: &[MountOp]) -> bool {
    let masked: Vec<String> = spec
        .linux
        .iter()
        .flat_map(|linux| linux.masked_paths.iter())
        .map(|path| absolute(path))
        .collect();
    mounts.iter().any(|op| {
        matches!(op.action, Action::Bind(_))
            && masked.iter().any(|path| path.as_bytes().get(1..) == Some(op.target.to_bytes()))
    })
}

/// The mounts of the host below `source`: the rest of their path, and the whole.
fn below(host: &[Mounted], source: &[u8]) -> Vec<(String, String)> {
    let source = Path::new(std::ffi::OsStr::from_bytes(source));
    // As mountinfo has it. Should it be another by the time CRIU looks, a mount is missing, which CRIU says.
    #[allow(clippy::disallowed_methods, reason = "a path is what CRIU takes")]
    let Ok(source) = std::fs::canonicalize(source) else {
        return Vec::new();
    };
    let source = source.to_string_lossy();
    let prefix = source.trim_end_matches('/');
    host.iter()
        .filter_map(|mount| {
            let rest = mount.point.strip_prefix(prefix)?;
            (rest.len() > 1 && rest.starts_with('/'))
                .then(|| (rest.to_owned(), mount.point.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
43 45 254:0 /b/rootfs / rw,relatime - ext4 /dev/vda rw
44 43 254:0 /hostdata /data rw,relatime master:1 - ext4 /dev/vda rw
45 44 0:99 / /data/below rw - tmpfs tmpfs rw
46 44 0:98 / /data/own rw - tmpfs tmpfs rw
77 43 0:40 / /proc rw,relatime - proc proc rw
78 43 0:42 / /run/with\\040space rw - ext4 /dev/vdb rw
84 43 0:35 /c1 /sys/fs/cgroup/blkio ro - cgroup cgroup rw,blkio
96 77 0:47 / /proc/acpi ro - tmpfs tmpfs ro
97 77 0:6 /null /proc/keys rw - devtmpfs devtmpfs rw
98 44 0:6 /null /data/secret rw - devtmpfs devtmpfs rw
99 44 0:47 / /data/masked ro - tmpfs tmpfs ro
100 43 0:25 /skep/c1/notify /run/systemd/notify ro - tmpfs tmpfs rw
not a line
";

    fn known(cgroup_namespace: bool) -> Known {
        let place = |destination: &str, point: &str, bind| Place {
            destination: destination.into(),
            point: point.into(),
            bind,
        };
        Known {
            places: vec![
                place("/data", "/data", true),
                place("/data/own", "/data/own", false),
                place("/var/run/with space", "/run/with space", true),
            ],
            masked: vec!["/proc/acpi".into(), "/data/masked".into()],
            cgroup_namespace,
            notify: "/c1/notify".into(),
        }
    }

    #[test]
    fn what_is_the_hosts_gets_a_name_and_what_is_the_containers_none() {
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let expected = [
            ("/data", "/data"),
            ("/data/below", "/data/below"),
            ("/run/with space", "/var/run/with space"),
            ("/sys/fs/cgroup/blkio", "/sys/fs/cgroup/blkio"),
            ("/proc/keys", "/dev/null"),
            ("/data/secret", "/dev/null"),
            ("/run/systemd/notify", "/run/notify"),
        ];
        assert_eq!(of_checkpoint(MOUNTINFO, &known(false)), pairs(&expected));
        let own: Vec<_> =
            expected.into_iter().filter(|(point, _)| !point.contains("cgroup")).collect();
        assert_eq!(of_checkpoint(MOUNTINFO, &known(true)), pairs(&own));
    }

    #[test]
    fn a_device_that_is_bound_is_what_the_configuration_says_unless_it_is_masked() {
        let mountinfo = "\
43 45 254:0 /b/rootfs / rw,relatime - ext4 /dev/vda rw
44 43 0:6 /zero /data/device rw - devtmpfs devtmpfs rw
45 43 254:0 /secret /data/file rw - ext4 /dev/vda rw
46 45 0:6 /null /data/file rw - devtmpfs devtmpfs rw
47 43 254:0 /secrets /data/directory rw - ext4 /dev/vda rw
48 47 0:47 / /data/directory ro - tmpfs tmpfs ro
";
        let points = ["/data/device", "/data/file", "/data/directory"];
        let place = |point: &str| Place {
            destination: point.to_owned(),
            point: point.to_owned(),
            bind: true,
        };
        let known = Known {
            places: points.map(place).to_vec(),
            masked: vec!["/data/file".to_owned(), "/data/directory".to_owned()],
            cgroup_namespace: true,
            notify: "/c1/notify".into(),
        };
        let named = |point: &str, name: &str| (point.to_owned(), name.to_owned());
        assert_eq!(
            of_checkpoint(mountinfo, &known),
            [named("/data/device", "/data/device"), named("/data/file", "/dev/null")]
        );
    }

    #[test]
    fn escapes_of_mountinfo() {
        assert_eq!(unescape("a\\040b\\134c\\"), "a b\\c\\");
        assert_eq!(unescape("\\999"), "\\999");
    }
}
