//! What a container uses, in the form of `events --stats` (runc's types/events.go).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Cgroup, Driver, stats_v1, stats_v2};
use crate::{Error, Result};

fn zero(n: &u64) -> bool {
    *n == 0
}

/// The `data` of an event of type `stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// CPU placement (version 1).
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Number of tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub blkio: BlockIoStats,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// Resource control of the CPU; an object.
    pub intel_rdt: BTreeMap<String, Value>,
    /// Always null: the runtime makes no interfaces.
    pub network_interfaces: Option<Vec<Value>>,
}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// Time used.
    pub usage: CpuUsage,
    /// Time withheld.
    pub throttling: Throttling,
    /// Pressure (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time used, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// Outside of the kernel, by CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of the kernel.
    pub user: u64,
}

/// What a CPU quota did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Nanoseconds withheld.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// One line of it: percent over 10, 60 and 300 seconds, and microseconds in all.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PressureLine {
    /// Percent over 10 seconds.
    pub avg10: f64,
    /// Percent over 60 seconds.
    pub avg60: f64,
    /// Percent over 300 seconds.
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// CPU placement (version 1; all zero elsewhere).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names of the kernel's files, cgroup-v1/cpusets.rst")]
pub struct CpusetStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Page cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap.
    pub swap: MemoryEntry,
    /// Of the kernel (version 1).
    pub kernel: MemoryEntry,
    /// Of TCP buffers (version 1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One counter with a limit, in bytes. Unlimited is 18446744073709551615 on version 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// Limit.
    pub limit: u64,
    /// Present use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Highest use.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// At most; 0 is unlimited.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block devices, by kind of counter.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "runc's names of the kernel's counters")]
pub struct BlockIoStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_queue_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One counter of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockEntry {
    /// Major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write` and others of the kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The count.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStats {
    /// Present use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Highest use (version 1).
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

impl Cgroup {
    /// Reads what the container uses. What a controller the container is not in would say stays zero.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] without a cgroup; the cgroup is gone.
    pub fn stats(&self) -> Result<Stats> {
        if self.record.driver == Driver::Disabled {
            return Err(Error::unsupported("the container has no cgroup: cgroups are disabled"));
        }
        match (self.is_v2(), self.v2()) {
            (true, Some(directory)) => stats_v2::read(&directory),
            _ => stats_v1::read(&|controller| self.v1(controller)),
        }
    }
}
