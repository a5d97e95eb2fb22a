//! Values to write into files of a cgroup, and the rules both versions read `linux.resources` by.

use std::borrow::Cow;

use crate::spec::{BlockIo, Cpu, Memory};
use crate::{Error, Result};

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// The controller the file belongs to.
    pub controller: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub value: String,
    /// The property of `config.json` that asks for it.
    pub field: Cow<'static, str>,
    pub missing: Missing,
}

/// What to do where the kernel has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    Fail,
    Ignore,
    /// Write another file instead.
    Instead(&'static str, String),
}

/// The writes for one `linux.resources`, in order, and what could not be honoured.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    pub list: Vec<Write>,
    pub warnings: Vec<String>,
}

impl Writes {
    pub(super) fn add(
        &mut self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        field: impl Into<Cow<'static, str>>,
    ) {
        self.add_or(controller, file, value, field, Missing::Fail);
    }

    pub(super) fn add_or(
        &mut self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        field: impl Into<Cow<'static, str>>,
        missing: Missing,
    ) {
        self.list.push(Write {
            controller: controller.into(),
            file: file.into(),
            value: value.into(),
            field: field.into(),
            missing,
        });
    }

    pub(super) fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }
}

/// Whether a cgroup is being made or changed; the difference shows only where absence meets a present value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Create,
    Update,
}

/// 0 is unset, -1 unlimited.
pub(super) fn limit(value: Option<i64>, field: &'static str) -> Result<Option<i64>> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) if value < -1 => {
            Err(Error::config(format!("{value} is neither a number of bytes nor -1")).field(field))
        }
        Some(value) => Ok(Some(value)),
    }
}

pub(super) const LIMIT: &str = "linux.resources.memory.limit";
pub(super) const RESERVATION: &str = "linux.resources.memory.reservation";
pub(super) const SWAPPINESS: &str = "linux.resources.memory.swappiness";
pub(super) const SWAP: &str = "linux.resources.memory.swap";

/// The pair memory, memory + swap, after the rules that hold for both versions; -1 is unlimited.
pub(super) struct MemoryPair {
    pub limit: Option<i64>,
    pub swap: Option<i64>,
}

/// `present` is the memory limit in force, for an update that brings swap alone.
pub(super) fn memory_pair(memory: &Memory, present: Option<i64>) -> Result<MemoryPair> {
    let limit = limit(memory.limit, LIMIT)?;
    let mut swap = self::limit(memory.swap, SWAP)?;
    if limit == Some(-1) && swap.is_none() {
        // Unlimited memory under a limit of both together would not be unlimited.
        swap = Some(-1);
    }
    if let Some(total) = swap.filter(|&total| total >= 0) {
        match limit.or(present) {
            None | Some(-1) => {
                return Err(
                    Error::config("unable to set swap limit without memory limit").field(SWAP)
                );
            }
            Some(limit) if total < limit => {
                return Err(Error::config("memory+swap limit should be >= memory limit")
                    .field(SWAP)
                    .hint(format!("memory is {limit}, memory and swap together {total}")));
            }
            Some(_) => {}
        }
    }
    Ok(MemoryPair { limit, swap })
}

/// `linux.resources.pids.limit`: any negative number is unlimited. 0 would keep even the container's own process
/// from being born in the cgroup; 1 is the nearest that does not.
pub(super) fn pids(limit: i64) -> String {
    match limit {
        ..0 => "max".to_owned(),
        0 => "1".to_owned(),
        limit => limit.to_string(),
    }
}

/// A weight of blockIO: 0 is unset, else 10 to 1000.
pub(super) fn block_weight(weight: Option<u16>, field: &str) -> Result<Option<u16>> {
    match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(weight)),
        Some(weight) => {
            Err(Error::config(format!("the weight {weight} is not between 10 and 1000"))
                .field(field.to_owned()))
        }
    }
}

/// The device of an entry of blockIO, as its files spell it (makedev(3): 12 and 20 bits).
pub(super) fn block_device(major: i64, minor: i64, field: &str) -> Result<String> {
    for (number, max, name) in [(major, 0xfff, "major"), (minor, 0xf_ffff, "minor")] {
        if !(0..=max).contains(&number) {
            return Err(Error::config(format!("{number} is no {name} number of a device"))
                .field(format!("{field}.{name}")));
        }
    }
    Ok(format!("{major}:{minor}"))
}

/// An entry of `weightDevice`.
pub(super) struct BlockWeight {
    pub device: String,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    pub field: String,
}

/// The entries of `weightDevice`.
pub(super) fn block_weights(block: &BlockIo) -> Result<Vec<BlockWeight>> {
    let mut list = Vec::with_capacity(block.weight_device.len());
    for (i, entry) in block.weight_device.iter().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{i}]");
        let device = block_device(entry.major, entry.minor, &field)?;
        if entry.weight.is_none() && entry.leaf_weight.is_none() {
            return Err(Error::config("neither weight nor leafWeight is given").field(field));
        }
        let weight = block_weight(entry.weight, &format!("{field}.weight"))?;
        let leaf_weight = block_weight(entry.leaf_weight, &format!("{field}.leafWeight"))?;
        list.push(BlockWeight { device, weight, leaf_weight, field });
    }
    Ok(list)
}

/// `memory.swappiness`, 0 to 100.
pub(super) fn swappiness(memory: &Memory) -> Result<Option<u64>> {
    match memory.swappiness {
        Some(swappiness @ 101..) => Err(Error::config(format!(
            "invalid memory swappiness value: {swappiness} (valid range is 0-100)"
        ))
        .field(SWAPPINESS)),
        other => Ok(other),
    }
}

/// `cpu.idle`, 0 or 1.
pub(super) fn idle(cpu: &Cpu<'_>, out: &mut Writes) -> Result<()> {
    const IDLE: &str = "linux.resources.cpu.idle";
    match cpu.idle {
        None => {}
        Some(idle @ 0..=1) => out.add("cpu", "cpu.idle", idle.to_string(), IDLE),
        Some(idle) => {
            return Err(Error::config(format!("{idle} is neither 0 nor 1")).field(IDLE));
        }
    }
    Ok(())
}

/// The size in the name of a hugetlb file, such as `2MB`; anything else could name another file.
pub(super) fn page_size<'s>(size: &'s str, field: &str) -> Result<&'s str> {
    let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
    match number {
        Some(number) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(size)
        }
        _ => Err(Error::config(format!("{size:?} is not a huge page size such as 2MB or 1GB"))
            .field(field.to_owned())),
    }
}

/// The longest name of a network interface: `IFNAMSIZ`, which counts a NUL.
const INTERFACE_NAME_MAX: usize = 15;
/// The longest name of an RDMA device: `IB_DEVICE_NAME_MAX`, which counts a NUL.
const RDMA_NAME_MAX: usize = 63;

/// The name of a device, written into a line of its own: a blank or newline in it would make it another line, a NUL end it.
/// Each device has a directory in sysfs, so its name is one there.
fn word<'s>(name: &'s str, max: usize, field: &str) -> Result<&'s str> {
    let bad = |c: char| c.is_whitespace() || matches!(c, '\0' | '/');
    if matches!(name, "" | "." | "..") || name.len() > max || name.contains(bad) {
        return Err(Error::config(format!("{name:?} is not a name"))
            .field(field.to_owned())
            .hint(format!("it has up to {max} bytes, and no slash or blank")));
    }
    Ok(name)
}

/// A list of CPUs or memory nodes; empty is unset.
pub(super) fn list<'s>(value: Option<&'s str>, field: &'static str) -> Result<Option<&'s str>> {
    match value.map(str::trim) {
        None | Some("") => Ok(None),
        Some(list)
            if list.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b' ')) =>
        {
            Ok(Some(list))
        }
        Some(list) => {
            Err(Error::config(format!("{list:?} is not a list such as 0-3,7")).field(field))
        }
    }
}

/// The name of an interface in `network.priorities`.
pub(super) fn interface(name: &str, index: usize) -> Result<&str> {
    let field = format!("linux.resources.network.priorities[{index}].name");
    word(name, INTERFACE_NAME_MAX, &field)
}

/// The rest both versions have in the same form: cpuset lists, pids, rdma.
pub(super) fn common(resources: &crate::spec::Resources<'_>, out: &mut Writes) -> Result<()> {
    if let Some(cpu) = &resources.cpu {
        const CPUS: &str = "linux.resources.cpu.cpus";
        const MEMS: &str = "linux.resources.cpu.mems";
        if let Some(cpus) = list(cpu.cpus.as_deref(), CPUS)? {
            out.add("cpuset", "cpuset.cpus", cpus, CPUS);
        }
        if let Some(mems) = list(cpu.mems.as_deref(), MEMS)? {
            out.add("cpuset", "cpuset.mems", mems, MEMS);
        }
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
        out.add("pids", "pids.max", pids(limit), "linux.resources.pids.limit");
    }
    for (device, limits) in resources.rdma.iter() {
        let field = format!("linux.resources.rdma[{:?}]", device.as_str());
        let mut line = word(device, RDMA_NAME_MAX, &field)?.to_owned();
        if let Some(handles) = limits.hca_handles {
            line.push_str(&format!(" hca_handle={handles}"));
        }
        if let Some(objects) = limits.hca_objects {
            line.push_str(&format!(" hca_object={objects}"));
        }
        if limits.hca_handles.is_none() && limits.hca_objects.is_none() {
            return Err(Error::config("neither hcaHandles nor hcaObjects is given").field(field));
        }
        out.add("rdma", "rdma.max", line, field);
    }
    Ok(())
}

pub(super) fn ignored_kernel_memory(memory: &Memory, out: &mut Writes) {
    if memory.kernel.is_some_and(|n| n != 0) || memory.kernel_tcp.is_some_and(|n| n != 0) {
        out.warn("linux.resources.memory.kernel and kernelTCP are ignored: no kernel limits them");
    }
}
