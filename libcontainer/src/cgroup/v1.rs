//! `linux.resources` as files of version 1 (Documentation/admin-guide/cgroup-v1/).

use super::writes::{
    self, BlockWeight, LIMIT, Missing, Purpose, RESERVATION, SWAP, SWAPPINESS, Writes,
    block_weight, interface, memory_pair, page_size,
};
use crate::spec::{BlockIo, Cpu, Memory, Resources};
use crate::{Error, Result};

/// The writes for `resources`, devices aside.
pub(super) fn writes(resources: &Resources<'_>, purpose: Purpose) -> Result<Writes> {
    let mut out = Writes::default();
    if let Some((key, _)) = resources.unified.iter().next() {
        return Err(Error::config("invalid configuration: cannot use unified on cgroup v1")
            .field(format!("linux.resources.unified[{:?}]", key.as_str())));
    }
    writes::common(resources, &mut out)?;
    if let Some(memory) = &resources.memory {
        self::memory(memory, purpose, &mut out)?;
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(cpu, &mut out)?;
    }
    if let Some(block) = &resources.block_io {
        block_io(block, &mut out)?;
    }
    for (i, page) in resources.hugepage_limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{i}]");
        let size = page_size(&page.page_size, &format!("{field}.pageSize"))?;
        let limit = page.limit.to_string();
        out.add("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), &*limit, field.clone());
        // Reservations are what the specification asks for; kernels before 5.7 have no such file.
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        out.add_or("hugetlb", file, limit, field, Missing::Ignore);
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id.filter(|&class| class != 0) {
            let field = "linux.resources.network.classID";
            out.add("net_cls", "net_cls.classid", class.to_string(), field);
        }
        for (i, priority) in network.priorities.iter().enumerate() {
            let field = format!("linux.resources.network.priorities[{i}]");
            let name = interface(&priority.name, i)?;
            let line = format!("{name} {}", priority.priority);
            out.add("net_prio", "net_prio.ifpriomap", line, field);
        }
    }
    Ok(out)
}

fn memory(memory: &Memory, purpose: Purpose, out: &mut Writes) -> Result<()> {
    // An update that brings swap alone is left to the kernel, which compares it with the limit in force.
    let present = (purpose == Purpose::Update).then_some(0);
    let pair = memory_pair(memory, present)?;
    // memsw must never be below the limit. Whoever comes first and breaks that gets EINVAL and is tried again after
    // the other, which is right for growing and for shrinking.
    if let Some(limit) = pair.limit {
        out.add("memory", "memory.limit_in_bytes", limit.to_string(), LIMIT);
    }
    if let Some(swap) = pair.swap {
        // Without swap accounting it is unlimited already.
        let missing = if swap == -1 { Missing::Ignore } else { Missing::Fail };
        out.add_or("memory", "memory.memsw.limit_in_bytes", swap.to_string(), SWAP, missing);
    }
    if let Some(soft) = writes::limit(memory.reservation, RESERVATION)? {
        out.add("memory", "memory.soft_limit_in_bytes", soft.to_string(), RESERVATION);
    }
    match memory.disable_oom_killer {
        Some(true) => {
            let field = "linux.resources.memory.disableOOMKiller";
            out.add("memory", "memory.oom_control", "1", field);
        }
        Some(false) if purpose == Purpose::Update => {
            let field = "linux.resources.memory.disableOOMKiller";
            out.add("memory", "memory.oom_control", "0", field);
        }
        _ => {}
    }
    if let Some(swappiness) = writes::swappiness(memory)? {
        out.add("memory", "memory.swappiness", swappiness.to_string(), SWAPPINESS);
    }
    if memory.use_hierarchy == Some(false) {
        out.warn("linux.resources.memory.useHierarchy is ignored: this kernel always accounts hierarchically");
    }
    writes::ignored_kernel_memory(memory, out);
    Ok(())
}

fn cpu(cpu: &Cpu<'_>, out: &mut Writes) -> Result<()> {
    // First: the kernel refuses shares while the group is idle.
    writes::idle(cpu, out)?;
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        let field = "linux.resources.cpu.shares";
        if cpu.idle == Some(1) {
            out.warn("linux.resources.cpu.shares is ignored: cpu.idle is set");
        } else if shares < 2 {
            return Err(Error::config("the minimum allowed cpu-shares is 2").field(field));
        } else if shares > 262_144 {
            return Err(Error::config("the maximum allowed cpu-shares is 262144").field(field));
        } else {
            out.add("cpu", "cpu.shares", shares.to_string(), field);
        }
    }
    // The same dance as with memory: a period that makes the old quota exceed the parent's is refused, and taken
    // after the new quota; so is a burst above the old quota.
    if let Some(period) = cpu.period.filter(|&period| period != 0) {
        let field = "linux.resources.cpu.period";
        out.add("cpu", "cpu.cfs_period_us", period.to_string(), field);
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        let field = "linux.resources.cpu.quota";
        out.add("cpu", "cpu.cfs_quota_us", quota.max(-1).to_string(), field);
    }
    if let Some(burst) = cpu.burst {
        let field = "linux.resources.cpu.burst";
        out.add("cpu", "cpu.cfs_burst_us", burst.to_string(), field);
    }
    if let Some(period) = cpu.realtime_period.filter(|&period| period != 0) {
        let field = "linux.resources.cpu.realtimePeriod";
        out.add("cpu", REALTIME_PERIOD, period.to_string(), field);
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|&runtime| runtime != 0) {
        let field = "linux.resources.cpu.realtimeRuntime";
        out.add("cpu", REALTIME_RUNTIME, runtime.to_string(), field);
    }
    Ok(())
}

pub(super) const REALTIME_PERIOD: &str = "cpu.rt_period_us";
pub(super) const REALTIME_RUNTIME: &str = "cpu.rt_runtime_us";

fn block_io(block: &BlockIo, out: &mut Writes) -> Result<()> {
    const WEIGHT: &str = "linux.resources.blockIO.weight";
    const LEAF: &str = "linux.resources.blockIO.leafWeight";
    if let Some(weight) = block_weight(block.weight, WEIGHT)? {
        let weight = weight.to_string();
        // CFQ has left the kernel with 5.0; BFQ takes the same numbers.
        let bfq = Missing::Instead("blkio.bfq.weight", weight.clone());
        out.add_or("blkio", "blkio.weight", weight, WEIGHT, bfq);
    }
    if let Some(weight) = block_weight(block.leaf_weight, LEAF)? {
        out.add("blkio", "blkio.leaf_weight", weight.to_string(), LEAF);
    }
    for BlockWeight { device, weight, leaf_weight, field } in writes::block_weights(block)? {
        if let Some(weight) = weight {
            let line = format!("{device} {weight}");
            let bfq = Missing::Instead("blkio.bfq.weight_device", line.clone());
            out.add_or("blkio", "blkio.weight_device", line, field.clone(), bfq);
        }
        if let Some(weight) = leaf_weight {
            out.add("blkio", "blkio.leaf_weight_device", format!("{device} {weight}"), field);
        }
    }
    for (file, name, list) in [
        (
            "blkio.throttle.read_bps_device",
            "throttleReadBpsDevice",
            &block.throttle_read_bps_device,
        ),
        (
            "blkio.throttle.write_bps_device",
            "throttleWriteBpsDevice",
            &block.throttle_write_bps_device,
        ),
        (
            "blkio.throttle.read_iops_device",
            "throttleReadIOPSDevice",
            &block.throttle_read_iops_device,
        ),
        (
            "blkio.throttle.write_iops_device",
            "throttleWriteIOPSDevice",
            &block.throttle_write_iops_device,
        ),
    ] {
        for (i, device) in list.iter().enumerate() {
            let field = format!("linux.resources.blockIO.{name}[{i}]");
            let number = writes::block_device(device.major, device.minor, &field)?;
            out.add("blkio", file, format!("{number} {}", device.rate), field);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "v1_tests.rs"]
mod tests;
