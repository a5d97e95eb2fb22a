//! What this host mounts, read as cheaply as it can be.

use std::ffi::CString;
use std::os::fd::AsFd;

use nix::NixPath;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use super::{Driver, file};
use crate::error::Context;
use crate::sys::{fd, process};
use crate::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The controllers of cgroup v1 this runtime knows. Other directories below `/sys/fs/cgroup` are left alone.
const V1_CONTROLLERS: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The hierarchy systemd keeps its units in on v1 hosts; it has no controller.
pub(super) const SYSTEMD: &str = "name=systemd";

/// How the host has arranged cgroups (systemd's words).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Version 2 alone, with all controllers.
    #[default]
    Unified,
    /// Version 1 alone.
    Legacy,
    /// All controllers on version 1, and a version 2 hierarchy without any beside them.
    Hybrid,
}

/// One mounted hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Controllers, or `name=systemd`.
    pub controllers: Vec<String>,
    /// Mount point.
    pub mount: String,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The cgroup file systems of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    layout: Layout,
    v1: Vec<Hierarchy>,
    v2_mount: Option<String>,
    v2_controllers: Vec<String>,
}

impl Host {
    /// Looks at `/sys/fs/cgroup`; only where that is unusual, at `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] if no cgroup file system is mounted.
    pub fn probe() -> Result<Self> {
        let kind = statfs(ROOT).map(|stat| stat.filesystem_type());
        if kind == Ok(CGROUP2_SUPER_MAGIC) {
            return Self::unified(ROOT.to_owned());
        }
        if kind.is_ok()
            && let Ok(found) = Self::from_directories(ROOT)
            && !found.v1.is_empty()
        {
            return Ok(found);
        }
        let mountinfo =
            std::fs::read_to_string("/proc/self/mountinfo").on("read", "/proc/self/mountinfo")?;
        let found = Self::from_mountinfo(&mountinfo);
        match (found.v1.is_empty(), &found.v2_mount) {
            (true, Some(mount)) => Self::unified(mount.clone()),
            (true, None) => Err(Error::unsupported("no cgroup file system is mounted")
                .hint("mount cgroup2 on /sys/fs/cgroup, or use --cgroup-manager disabled")),
            (false, _) => Ok(found),
        }
    }

    /// The same for what `driver` needs of it: without cgroups none has to be mounted.
    ///
    /// # Errors
    /// Those of [`Host::probe`].
    pub fn probe_for(driver: Driver) -> Result<Self> {
        match Self::probe() {
            Err(_) if driver == Driver::Disabled => Ok(Self::empty()),
            other => other,
        }
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the controllers are those of version 2.
    pub fn is_v2(&self) -> bool {
        self.layout == Layout::Unified
    }

    /// Whether the controllers are those of version 1, and this process may make cgroups there.
    pub fn may_make_v1(&self) -> bool {
        let root =
            self.hierarchy("devices").and_then(|found| CString::new(found.mount.as_str()).ok());
        root.is_some_and(|root| process::access(&root, libc::W_OK).is_ok())
    }

    /// Mount point of the version 2 hierarchy.
    pub(super) fn v2_mount(&self) -> Option<&str> {
        self.v2_mount.as_deref()
    }

    /// The controllers version 2 offers at its root; none on a hybrid host.
    pub(super) fn v2_controllers(&self) -> &[String] {
        &self.v2_controllers
    }

    pub(super) fn v1(&self) -> &[Hierarchy] {
        &self.v1
    }

    /// The version 1 hierarchy of a controller.
    pub(super) fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// Where a relative `cgroupsPath` begins: at the root of the hierarchy, so that it means the same whoever calls.
    ///
    /// Whoever is not root of the host may make cgroups of version 2 only in what has been delegated to him, around
    /// his own cgroup. It begins one above that one, as in runc: a cgroup with processes of its own cannot limit its
    /// children.
    ///
    /// # Errors
    /// The failed read.
    pub(super) fn relative_base(&self) -> Result<String> {
        if !self.is_v2() || is_host_root()? {
            return Ok(String::new());
        }
        let own = own_path()?;
        Ok(own.rsplit_once('/').map_or("", |(above, _)| above).to_owned())
    }

    fn unified(mount: String) -> Result<Self> {
        let path = format!("{mount}/cgroup.controllers");
        let controllers = file::read(&path).on("read", &path)?;
        Ok(Self {
            layout: Layout::Unified,
            v1: Vec::new(),
            v2_mount: Some(mount),
            v2_controllers: words(&controllers),
        })
    }

    /// Takes the names of the directories for the names of the controllers, as every distribution mounts them.
    /// A directory on another device than `root` is mounted.
    fn from_directories(root: &str) -> nix::Result<Self> {
        let mut host = Self::empty();
        let mut links = Vec::new();
        let mut entries = Vec::new();
        let directory = file::open_with(root, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        fd::list(directory.as_fd(), |name, kind, _| {
            let name = name.to_string_lossy().into_owned();
            match kind {
                libc::DT_LNK => links.push(name),
                libc::DT_DIR | libc::DT_UNKNOWN => entries.push(name),
                _ => {}
            }
        })?;
        let device = |name: &str| {
            let stat = name.with_nix_path(|name| fd::stat(directory.as_fd(), name))?;
            stat.map(|stat| stat.dev)
        };
        let own = device("")?;
        for name in entries {
            let mount = format!("{root}/{name}");
            let controllers = match name.as_str() {
                "unified" => {
                    let magic = statfs(mount.as_str()).map(|stat| stat.filesystem_type());
                    if magic == Ok(CGROUP2_SUPER_MAGIC) {
                        host.v2_mount = Some(mount);
                    }
                    continue;
                }
                "systemd" => vec![SYSTEMD.to_owned()],
                _ => known(name.split(',')),
            };
            if !controllers.is_empty() && device(&name).is_ok_and(|device| device != own) {
                host.v1.push(Hierarchy { controllers, mount });
            }
        }
        for name in links {
            // cpu -> cpu,cpuacct says nothing new; cpuacct -> cpu does.
            if !V1_CONTROLLERS.contains(&name.as_str()) || host.hierarchy(&name).is_some() {
                continue;
            }
            let target = readlinkat(&directory, name.as_str())?;
            let mount = format!("{root}/{}", target.display());
            if let Some(hierarchy) = host.v1.iter_mut().find(|h| h.mount == mount) {
                hierarchy.controllers.push(name);
            }
        }
        host.settle();
        Ok(host)
    }

    /// proc_pid_mountinfo(5): `… root mount-point options … - type source super-options`.
    fn from_mountinfo(text: &str) -> Self {
        let mut host = Self::empty();
        for line in text.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else { continue };
            let Some(mount) = mount.split(' ').nth(4).map(unescape) else { continue };
            let mut words = file_system.split(' ');
            match words.next() {
                Some("cgroup2") if host.v2_mount.is_none() => host.v2_mount = Some(mount),
                Some("cgroup") => {
                    let options = words.nth(1).unwrap_or_default();
                    let mut controllers = known(options.split(','));
                    if options.split(',').any(|option| option == SYSTEMD) {
                        controllers.push(SYSTEMD.to_owned());
                    }
                    let seen = controllers.iter().any(|c| host.hierarchy(c).is_some());
                    if !controllers.is_empty() && !seen {
                        host.v1.push(Hierarchy { controllers, mount });
                    }
                }
                _ => {}
            }
        }
        host.settle();
        host
    }

    fn empty() -> Self {
        Self { layout: Layout::Legacy, v1: Vec::new(), v2_mount: None, v2_controllers: Vec::new() }
    }

    fn settle(&mut self) {
        // The order of a directory listing is arbitrary; plans and state files should not be.
        self.v1.sort_by(|a, b| a.mount.cmp(&b.mount));
        self.layout = if self.v2_mount.is_some() { Layout::Hybrid } else { Layout::Legacy };
    }

    #[cfg(test)]
    pub(crate) fn legacy_for_tests(directories: &[&str]) -> Self {
        let mut host = Self::empty();
        for name in directories {
            let controllers =
                if *name == "systemd" { vec![SYSTEMD.to_owned()] } else { known(name.split(',')) };
            host.v1.push(Hierarchy { controllers, mount: format!("{ROOT}/{name}") });
        }
        host
    }

    #[cfg(test)]
    pub(crate) fn unified_for_tests(controllers: &str) -> Self {
        Self {
            layout: Layout::Unified,
            v1: Vec::new(),
            v2_mount: Some(ROOT.to_owned()),
            v2_controllers: words(controllers),
        }
    }
}

/// Whether this process is root, and not only of a user namespace.
///
/// # Errors
/// The failed read.
pub fn is_host_root() -> Result<bool> {
    const MAP: &str = "/proc/self/uid_map";
    if !nix::unistd::geteuid().is_root() {
        return Ok(false);
    }
    let map = file::read(MAP).on("read", MAP)?;
    // user_namespaces(7): the initial one maps every id but the last to itself.
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Path of the version 2 cgroup this process is in, relative to the mount; empty for the root.
///
/// # Errors
/// The failed read.
pub fn own_path() -> Result<String> {
    const OWN: &str = "/proc/self/cgroup";
    let text = file::read(OWN).on("read", OWN)?;
    Ok(v2_path(&text).to_owned())
}

/// The version 2 path in proc_pid_cgroup(5).
fn v2_path(text: &str) -> &str {
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    own.trim_end_matches('/')
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn known<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.filter(|name| V1_CONTROLLERS.contains(name)).map(str::to_owned).collect()
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_gives_controllers_from_the_super_options() {
        let host = Host::from_mountinfo(
            "25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
             35 34 0:30 / /cg/cpu rw,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct\n\
             36 34 0:31 / /cg/odd\\040one rw - cgroup cgroup rw,memory\n\
             37 34 0:31 / /elsewhere rw - cgroup cgroup rw,memory\n\
             38 34 0:32 / /cg/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
             39 34 0:33 / /cg/openrc rw - cgroup openrc rw,name=openrc\n\
             40 34 0:34 / /cg/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(host.layout(), Layout::Hybrid);
        assert_eq!(host.hierarchy("cpuacct").unwrap().mount, "/cg/cpu");
        assert_eq!(host.hierarchy("memory").unwrap().mount, "/cg/odd one");
        assert_eq!(host.hierarchy(SYSTEMD).unwrap().mount, "/cg/systemd");
        assert_eq!(host.v1().len(), 3);
        assert_eq!(host.v2_mount(), Some("/cg/unified"));
    }

    #[test]
    fn an_ordinary_users_containers_lie_beside_his_own_cgroup() {
        assert_eq!(v2_path("0::/user.slice/x.scope\n"), "/user.slice/x.scope");
        assert_eq!(v2_path("1:name=systemd:/a/b\n0::/x\n"), "/x");
        for root in ["0::/\n", ""] {
            assert_eq!(v2_path(root), "");
        }
        // Where the kernel lets root do everything, it is the host's.
        let host = Host::unified_for_tests("memory");
        if is_host_root().unwrap() {
            assert_eq!(host.relative_base().unwrap(), "");
        }
        assert_eq!(Host::legacy_for_tests(&["memory"]).relative_base().unwrap(), "");
    }

    #[test]
    fn the_probe_agrees_with_the_kernel() {
        let Ok(host) = Host::probe() else {
            eprintln!("skipped: no cgroup file system here");
            return;
        };
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let slow = Host::from_mountinfo(&mountinfo);
        assert_eq!(host.v2_mount(), slow.v2_mount());
        if host.is_v2() {
            assert!(slow.v1().is_empty());
        } else {
            assert_eq!(host.v1(), slow.v1());
        }
    }
}
