//! `linux.resources` as files of version 2 (Documentation/admin-guide/cgroup-v2.rst).

use std::borrow::Cow;

use super::convert;
use super::writes::{
    self, BlockWeight, LIMIT, Missing, Purpose, RESERVATION, SWAP, Write, Writes, block_weight,
    interface, memory_pair, page_size,
};
use crate::spec::{BlockIo, Cpu, Memory, Resources};
use crate::{Error, Result};

/// Reads a file of the cgroup as it is now; `None` while it is being made.
pub(super) type Present<'p> = &'p dyn Fn(&str) -> Option<String>;

/// The writes for `resources`, devices aside. `controllers` are those the host has.
pub(super) fn writes(
    resources: &Resources<'_>,
    purpose: Purpose,
    controllers: &[String],
    present: Present<'_>,
) -> Result<Writes> {
    let mut out = Writes::default();
    writes::common(resources, &mut out)?;
    if let Some(memory) = &resources.memory {
        self::memory(memory, present, &mut out)?;
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(cpu, purpose, present, &mut out)?;
    }
    if let Some(block) = &resources.block_io {
        block_io(block, &mut out)?;
    }
    for (i, page) in resources.hugepage_limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{i}]");
        let size = page_size(&page.page_size, &format!("{field}.pageSize"))?;
        let limit = page.limit.to_string();
        out.add("hugetlb", format!("hugetlb.{size}.max"), &*limit, field.clone());
        let file = format!("hugetlb.{size}.rsvd.max");
        out.add_or("hugetlb", file, limit, field, Missing::Ignore);
    }
    let priorities = resources.network.as_ref().map(|network| &network.priorities[..]);
    for (i, priority) in priorities.unwrap_or_default().iter().enumerate() {
        interface(&priority.name, i)?;
    }
    if let Some(network) = &resources.network
        && (network.class_id.is_some_and(|class| class != 0) || !network.priorities.is_empty())
    {
        out.warn("linux.resources.network is ignored: cgroup v2 has neither net_cls nor net_prio");
    }
    unified(resources, controllers, &mut out)?;
    for write in &out.list {
        if !controllers.iter().any(|name| *name == *write.controller) && !is_core(write) {
            return Err(Error::unsupported(format!(
                "the {} controller is not available on this host",
                write.controller
            ))
            .field(write.field.clone().into_owned())
            .hint(
                "the kernel was booted without it (cgroup_disable=), or this is a container that was not given it by \
                 the cgroup.subtree_control above",
            ));
        }
    }
    Ok(out)
}

/// `cgroup.*`, `cpu.pressure` and their kin exist without a controller.
fn is_core(write: &Write) -> bool {
    write.controller == "cgroup" || write.file.ends_with(".pressure")
}

/// The number in a file such as `memory.max`; -1 is `max`.
fn number(text: &str) -> Option<i64> {
    match text.trim() {
        "max" => Some(-1),
        number => number.parse().ok(),
    }
}

fn bytes(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

fn memory(memory: &Memory, present: Present<'_>, out: &mut Writes) -> Result<()> {
    let in_force = match (memory.limit, memory.swap) {
        (None | Some(0), Some(1..)) => present("memory.max").as_deref().and_then(number),
        _ => None,
    };
    let pair = memory_pair(memory, in_force)?;
    if let Some(limit) = pair.limit {
        out.add("memory", "memory.max", bytes(limit), LIMIT);
    }
    if let Some(total) = pair.swap {
        // memory + swap becomes swap alone; memory_pair has seen to it that there is a smaller limit to take away.
        let swap = match pair.limit.or(in_force) {
            Some(limit @ 0..) if total >= 0 => total - limit,
            _ => total,
        };
        // Without swap accounting there is neither swap to forbid nor a limit to lift.
        let missing = if swap <= 0 { Missing::Ignore } else { Missing::Fail };
        out.add_or("memory", "memory.swap.max", bytes(swap), SWAP, missing);
    }
    if let Some(low) = writes::limit(memory.reservation, RESERVATION)? {
        out.add("memory", "memory.low", bytes(low), RESERVATION);
    }
    if writes::swappiness(memory)?.is_some() {
        out.warn("linux.resources.memory.swappiness is ignored: cgroup v2 has none");
    }
    if memory.disable_oom_killer == Some(true) {
        out.warn("linux.resources.memory.disableOOMKiller is ignored: cgroup v2 has none");
    }
    writes::ignored_kernel_memory(memory, out);
    Ok(())
}

fn cpu(cpu: &Cpu<'_>, purpose: Purpose, present: Present<'_>, out: &mut Writes) -> Result<()> {
    writes::idle(cpu, out)?;
    if let Some(weight) = cpu.shares.and_then(convert::shares_to_weight) {
        if cpu.idle == Some(1) {
            out.warn("linux.resources.cpu.shares is ignored: cpu.idle is set");
        } else {
            out.add("cpu", "cpu.weight", weight.to_string(), "linux.resources.cpu.shares");
        }
    }
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    if quota.is_some() || period.is_some() {
        let field = if quota.is_some() {
            "linux.resources.cpu.quota"
        } else {
            "linux.resources.cpu.period"
        };
        let now = match (quota, period) {
            (Some(_), Some(_)) => None,
            _ if purpose == Purpose::Update => present("cpu.max"),
            _ => None,
        };
        let (quota_now, period_now) = now
            .as_deref()
            .map(str::trim)
            .and_then(|now| now.split_once(' '))
            .unwrap_or(("max", "100000"));
        let quota = match quota {
            Some(quota @ 1..) => Cow::Owned(quota.to_string()),
            Some(_) => Cow::Borrowed("max"),
            None => Cow::Borrowed(quota_now),
        };
        let period = period.map_or(Cow::Borrowed(period_now), |p| Cow::Owned(p.to_string()));
        out.add("cpu", "cpu.max", format!("{quota} {period}"), field);
    }
    if let Some(burst) = cpu.burst {
        let field = "linux.resources.cpu.burst";
        out.add("cpu", "cpu.max.burst", burst.to_string(), field);
    }
    if cpu.realtime_period.is_some_and(|n| n != 0) || cpu.realtime_runtime.is_some_and(|n| n != 0) {
        out.warn("linux.resources.cpu.realtimePeriod and realtimeRuntime are ignored: cgroup v2 has neither");
    }
    Ok(())
}

fn block_io(block: &BlockIo, out: &mut Writes) -> Result<()> {
    const WEIGHT: &str = "linux.resources.blockIO.weight";
    const LEAF: &str = "linux.resources.blockIO.leafWeight";
    let leaf = |weight: Option<u16>, field: &str| match weight {
        None | Some(0) => Ok(()),
        Some(_) => Err(Error::unsupported("cgroup v2 has no leaf weight").field(field.to_owned())),
    };
    if let Some(weight) = block_weight(block.weight, WEIGHT)? {
        let converted = convert::block_weight(weight).to_string();
        let io = Missing::Instead("io.weight", converted);
        out.add_or("io", "io.bfq.weight", weight.to_string(), WEIGHT, io);
    }
    leaf(block.leaf_weight, LEAF)?;
    for BlockWeight { device, weight, leaf_weight, field } in writes::block_weights(block)? {
        leaf(leaf_weight, &format!("{field}.leafWeight"))?;
        if let Some(weight) = weight {
            let converted = format!("{device} {}", convert::block_weight(weight));
            let line = format!("{device} {weight}");
            out.add_or(
                "io",
                "io.bfq.weight",
                line,
                field,
                Missing::Instead("io.weight", converted),
            );
        }
    }
    for (key, name, list) in [
        ("rbps", "throttleReadBpsDevice", &block.throttle_read_bps_device),
        ("wbps", "throttleWriteBpsDevice", &block.throttle_write_bps_device),
        ("riops", "throttleReadIOPSDevice", &block.throttle_read_iops_device),
        ("wiops", "throttleWriteIOPSDevice", &block.throttle_write_iops_device),
    ] {
        for (i, device) in list.iter().enumerate() {
            let rate = match device.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let field = format!("linux.resources.blockIO.{name}[{i}]");
            let number = writes::block_device(device.major, device.minor, &field)?;
            out.add("io", "io.max", format!("{number} {key}={rate}"), field);
        }
    }
    Ok(())
}

/// `unified` comes last and so overrides what was converted. Files of several lines (`io.max`) take one per write.
fn unified(resources: &Resources<'_>, controllers: &[String], out: &mut Writes) -> Result<()> {
    for (key, value) in resources.unified.iter() {
        let field = format!("linux.resources.unified[{:?}]", key.as_str());
        let (controller, _) = match key.split_once('.') {
            Some(parts) if !key.contains('/') && !parts.0.is_empty() => parts,
            _ => {
                return Err(Error::config(
                    "a unified resource must be the name of a cgroup file, such as memory.high",
                )
                .field(field));
            }
        };
        let core = controller == "cgroup" || key.ends_with(".pressure");
        if !core && !controllers.iter().any(|name| name == controller) {
            return Err(Error::unsupported(format!(
                "unified resource {:?} can't be set: controller {controller:?} not available",
                key.as_str()
            ))
            .field(field));
        }
        if value.contains('\0') {
            return Err(Error::config("a NUL byte in the value of a unified resource").field(field));
        }
        let mut lines: Vec<&str> = value.lines().collect();
        if lines.is_empty() {
            lines.push("");
        }
        for line in lines {
            out.list.push(Write {
                controller: Cow::Owned(controller.to_owned()),
                file: Cow::Owned(key.as_str().to_owned()),
                value: line.to_owned(),
                field: Cow::Owned(field.clone()),
                missing: Missing::Fail,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "v2_tests.rs"]
mod tests;
