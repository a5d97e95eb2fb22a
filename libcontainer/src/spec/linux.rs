//! `linux` (config-linux.md), all but resources and seccomp.

use serde::{Deserialize, Serialize};

use super::{List, Map, Resources, Seccomp, Str};

/// `linux`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux<'a> {
    /// Device nodes to make.
    #[serde(borrow)]
    pub devices: List<Device<'a>>,
    /// Network devices to move in, by host name.
    #[serde(borrow)]
    pub net_devices: Map<'a, NetDevice<'a>>,
    /// User id mappings of the user namespace.
    pub uid_mappings: List<IdMapping>,
    /// Group id mappings of the user namespace.
    pub gid_mappings: List<IdMapping>,
    /// Kernel parameters.
    #[serde(borrow)]
    pub sysctl: Map<'a, Str<'a>>,
    /// Path in the cgroup hierarchy, or `slice:prefix:name` for systemd.
    #[serde(borrow)]
    pub cgroups_path: Option<Str<'a>>,
    /// Cgroup limits.
    #[serde(borrow)]
    pub resources: Option<Box<Resources<'a>>>,
    /// Propagation of `/`.
    #[serde(borrow)]
    pub rootfs_propagation: Option<Str<'a>>,
    /// The seccomp profile.
    #[serde(borrow)]
    pub seccomp: Option<Box<Seccomp<'a>>>,
    /// Namespaces to make or join.
    #[serde(borrow)]
    pub namespaces: List<Namespace<'a>>,
    /// Paths nobody inside may read.
    #[serde(borrow)]
    pub masked_paths: List<Str<'a>>,
    /// Paths nobody inside may write.
    #[serde(borrow)]
    pub readonly_paths: List<Str<'a>>,
    /// SELinux label of the mounts.
    #[serde(borrow)]
    pub mount_label: Option<Str<'a>>,
    /// Resource director technology.
    #[serde(borrow)]
    pub intel_rdt: Option<Box<IntelRdt<'a>>>,
    /// NUMA memory policy.
    #[serde(borrow)]
    pub memory_policy: Option<MemoryPolicy<'a>>,
    /// personality(2).
    #[serde(borrow)]
    pub personality: Option<Personality<'a>>,
    /// Offsets of the clocks of the time namespace, by clock name.
    #[serde(borrow)]
    pub time_offsets: Map<'a, TimeOffset>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Namespace<'a> {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// The namespace to join; absent for a new one.
    #[serde(borrow)]
    pub path: Option<Str<'a>>,
}

impl Namespace<'_> {
    /// Whether it is one that is there already.
    pub fn is_joined(&self) -> bool {
        self.path.as_deref().is_some_and(|path| !path.is_empty())
    }
}

/// One line of a user namespace's map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many ids.
    pub size: u32,
}

/// One of `linux.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device<'a> {
    /// `c`, `b`, `u` or `p`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// Absolute path inside.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// Major number.
    pub major: Option<i64>,
    /// Minor number.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A value of `linux.netDevices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct NetDevice<'a> {
    /// Name inside the container.
    #[serde(borrow)]
    pub name: Option<Str<'a>>,
}

/// A value of `linux.timeOffsets`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
}

/// `linux.intelRdt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IntelRdt<'a> {
    /// Name of the class of service.
    #[serde(borrow, rename = "closID")]
    pub clos_id: Option<Str<'a>>,
    /// Lines of the schemata file.
    #[serde(borrow)]
    pub schemata: List<Str<'a>>,
    /// The L3 line of the schemata file.
    #[serde(borrow, rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<Str<'a>>,
    /// The MB line of the schemata file.
    #[serde(borrow)]
    pub mem_bw_schema: Option<Str<'a>>,
    /// Whether to make a monitoring group.
    pub enable_monitoring: Option<bool>,
}

/// `linux.memoryPolicy` (set_mempolicy(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicy<'a> {
    /// `MPOL_*`.
    #[serde(borrow)]
    pub mode: Str<'a>,
    /// A list of nodes such as `0-1,3`.
    #[serde(borrow)]
    pub nodes: Option<Str<'a>>,
    /// `MPOL_F_*`.
    #[serde(borrow)]
    pub flags: List<Str<'a>>,
}

/// `linux.personality` (personality(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Personality<'a> {
    /// `LINUX` or `LINUX32`.
    #[serde(borrow)]
    pub domain: Str<'a>,
    /// None are defined.
    #[serde(borrow)]
    pub flags: List<Str<'a>>,
}
