//! `linux.resources` (config-linux.md "Control groups"); also the document of `update --resources`.

use serde::{Deserialize, Serialize};

use super::{List, Map, Str};

/// `linux.resources`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources<'a> {
    /// Rules of the device controller, in order.
    #[serde(borrow, skip_serializing_if = "no_items")]
    pub devices: List<DeviceRule<'a>>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// CPU time and placement.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu<'a>>,
    /// Number of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    #[serde(borrow, skip_serializing_if = "no_items")]
    pub hugepage_limits: List<HugepageLimit<'a>>,
    /// Network class and priorities (v1).
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network<'a>>,
    /// RDMA, by device.
    #[serde(borrow, skip_serializing_if = "no_pairs")]
    pub rdma: Map<'a, Rdma>,
    /// Files of the v2 hierarchy and their values, written last.
    #[serde(borrow, skip_serializing_if = "no_pairs")]
    pub unified: Map<'a, Str<'a>>,
}

fn no_items<T>(list: &List<T>) -> bool {
    list.is_empty()
}

fn no_pairs<T>(map: &Map<'_, T>) -> bool {
    map.is_empty()
}

/// One of `linux.resources.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct DeviceRule<'a> {
    /// Whether the rule allows or denies.
    pub allow: bool,
    /// `a`, `c` or `b`; absent is `a`.
    #[serde(borrow, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Str<'a>>,
    /// Major number; absent is every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number; absent is every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Of `r`, `w` and `m`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub access: Option<Str<'a>>,
}

/// `linux.resources.memory`, in bytes; -1 is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Limit of memory and swap together.
    pub swap: Option<i64>,
    /// Kernel memory; removed from the kernel.
    pub kernel: Option<i64>,
    /// Kernel TCP memory (v1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100 (v1).
    pub swappiness: Option<u64>,
    /// Whether the OOM killer is off (v1).
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting (v1).
    pub use_hierarchy: Option<bool>,
    /// Whether a limit below the present use is refused.
    pub check_before_update: Option<bool>,
}

/// `linux.resources.cpu`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu<'a> {
    /// Relative share of CPU time, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds per period; -1 is unlimited.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds of realtime scheduling per period (v1).
    pub realtime_runtime: Option<i64>,
    /// Microseconds (v1).
    pub realtime_period: Option<u64>,
    /// List of CPUs such as `0-3,7`.
    #[serde(borrow)]
    pub cpus: Option<Str<'a>>,
    /// List of memory nodes.
    #[serde(borrow)]
    pub mems: Option<Str<'a>>,
    /// SCHED_IDLE for the whole group.
    pub idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Pids {
    /// Number of tasks; negative is unlimited.
    pub limit: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000 (v1).
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: List<WeightDevice>,
    /// Bytes per second.
    pub throttle_read_bps_device: List<ThrottleDevice>,
    /// Bytes per second.
    pub throttle_write_bps_device: List<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: List<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: List<ThrottleDevice>,
}

/// One of `weightDevice`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000 (v1).
    pub leaf_weight: Option<u16>,
}

/// One of the throttle lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations per second; 0 removes the limit.
    pub rate: u64,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit<'a> {
    /// Such as `2MB`. runc takes names in any case, and its own tests write this one so.
    #[serde(borrow, alias = "pagesize")]
    pub page_size: Str<'a>,
    /// Bytes.
    pub limit: u64,
}

/// `linux.resources.network` (v1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Network<'a> {
    /// Class of net_cls.
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priorities of net_prio.
    #[serde(borrow)]
    pub priorities: List<InterfacePriority<'a>>,
}

/// One of `linux.resources.network.priorities`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct InterfacePriority<'a> {
    /// Interface.
    #[serde(borrow)]
    pub name: Str<'a>,
    /// Its priority.
    pub priority: u32,
}

/// A value of `linux.resources.rdma`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    /// Number of handles.
    pub hca_handles: Option<u32>,
    /// Number of objects.
    pub hca_objects: Option<u32>,
}
