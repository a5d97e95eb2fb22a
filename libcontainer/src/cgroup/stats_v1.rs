//! Statistics of version 1.

use super::file;
use super::stats::{BlockEntry, HugetlbStats, MemoryEntry, Stats};
use super::stats_v2::sizes;
use crate::{Error, Result};

/// Nanoseconds of one tick in `cpuacct.stat`: `USER_HZ` is 100 on every architecture we run on.
const TICK: u64 = 10_000_000;

/// `directory` finds the container's directory of a controller.
pub(super) fn read(directory: &dyn Fn(&str) -> Option<String>) -> Result<Stats> {
    let mut stats = Stats::default();
    let getter = |controller: &str| {
        let directory = directory(controller);
        move |name: &str| file::read(&format!("{}/{name}", directory.as_deref()?)).ok()
    };
    let pids = getter("pids");
    let memory_files = getter("memory");
    if pids("pids.current").is_none() && memory_files("memory.usage_in_bytes").is_none() {
        return Err(Error::lifecycle("the container's cgroup is gone"));
    }
    stats.pids.current = number(&pids, "pids.current");
    stats.pids.limit = number(&pids, "pids.max");
    memory(&memory_files, &mut stats);
    cpuacct(&getter("cpuacct"), &mut stats);
    if let Some(text) = getter("cpu")("cpu.stat") {
        let get = |key: &str| file::keyed(&text, key).unwrap_or(0);
        stats.cpu.throttling.periods = get("nr_periods");
        stats.cpu.throttling.throttled_periods = get("nr_throttled");
        stats.cpu.throttling.throttled_time = get("throttled_time");
    }
    cpuset(&getter("cpuset"), &mut stats);
    block_io(&getter("blkio"), &mut stats);
    if let Some(directory) = directory("hugetlb") {
        hugetlb(&directory, &getter("hugetlb"), &mut stats);
    }
    Ok(stats)
}

type Get<'g> = &'g dyn Fn(&str) -> Option<String>;

/// 0 for what is missing, and for `max`.
fn number(get: Get<'_>, name: &str) -> u64 {
    get(name).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn memory(get: Get<'_>, stats: &mut Stats) {
    let entry = |kind: &str| MemoryEntry {
        limit: number(get, &format!("memory.{kind}limit_in_bytes")),
        usage: number(get, &format!("memory.{kind}usage_in_bytes")),
        max: number(get, &format!("memory.{kind}max_usage_in_bytes")),
        failcnt: number(get, &format!("memory.{kind}failcnt")),
    };
    stats.memory.usage = entry("");
    stats.memory.swap = entry("memsw.");
    stats.memory.kernel = entry("kmem.");
    stats.memory.kernel_tcp = entry("kmem.tcp.");
    if let Some(text) = get("memory.stat") {
        stats.memory.raw = file::pairs(&text).map(|(k, v)| (k.to_owned(), v)).collect();
        stats.memory.cache = stats.memory.raw.get("cache").copied().unwrap_or(0);
    }
}

fn cpuacct(get: Get<'_>, stats: &mut Stats) {
    let usage = &mut stats.cpu.usage;
    usage.total = number(get, "cpuacct.usage");
    if let Some(text) = get("cpuacct.stat") {
        usage.user = file::keyed(&text, "user").unwrap_or(0).saturating_mul(TICK);
        usage.kernel = file::keyed(&text, "system").unwrap_or(0).saturating_mul(TICK);
    }
    if let Some(text) = get("cpuacct.usage_percpu") {
        usage.percpu = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    }
    // cpu user system
    for line in get("cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
        let mut words = line.split(' ').skip(1).filter_map(|word| word.parse().ok());
        if let (Some(user), Some(kernel)) = (words.next(), words.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
}

fn cpuset(get: Get<'_>, stats: &mut Stats) {
    let set = &mut stats.cpuset;
    set.cpus = list(&get("cpuset.cpus").unwrap_or_default());
    set.mems = list(&get("cpuset.mems").unwrap_or_default());
    set.cpu_exclusive = number(get, "cpuset.cpu_exclusive");
    set.mem_hardwall = number(get, "cpuset.mem_hardwall");
    set.mem_exclusive = number(get, "cpuset.mem_exclusive");
    set.memory_migrate = number(get, "cpuset.memory_migrate");
    set.memory_spread_page = number(get, "cpuset.memory_spread_page");
    set.memory_spread_slab = number(get, "cpuset.memory_spread_slab");
    set.memory_pressure = number(get, "cpuset.memory_pressure");
    set.sched_load_balance = number(get, "cpuset.sched_load_balance");
    set.sched_relax_domain_level = get("cpuset.sched_relax_domain_level")
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
}

/// `0-3,7` as its members.
fn list(text: &str) -> Vec<u16> {
    let mut out = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            out.extend(first..=last);
        }
    }
    out
}

/// CFQ's counters where the kernel has them, else BFQ's where they count, else those of throttling, which every
/// kernel has.
fn block_io(get: Get<'_>, stats: &mut Stats) {
    let counters = |name: &str| {
        let plain = get(&format!("blkio.{name}_recursive"));
        entries(&plain.or_else(|| get(&format!("blkio.bfq.{name}_recursive"))).unwrap_or_default())
    };
    let blkio = &mut stats.blkio;
    blkio.io_serviced_recursive = counters("io_serviced");
    blkio.io_service_bytes_recursive = counters("io_service_bytes");
    if blkio.io_serviced_recursive.is_empty() {
        let throttle = |name: &str| {
            let recursive = get(&format!("blkio.throttle.{name}_recursive"));
            entries(
                &recursive.or_else(|| get(&format!("blkio.throttle.{name}"))).unwrap_or_default(),
            )
        };
        blkio.io_serviced_recursive = throttle("io_serviced");
        blkio.io_service_bytes_recursive = throttle("io_service_bytes");
    }
    blkio.io_queue_recursive = counters("io_queued");
    blkio.io_service_time_recursive = counters("io_service_time");
    blkio.io_wait_time_recursive = counters("io_wait_time");
    blkio.io_merged_recursive = counters("io_merged");
    blkio.io_time_recursive = counters("time");
    blkio.sectors_recursive = counters("sectors");
}

/// `8:0 Read 4096`, or `8:0 4096`; the last line, `Total 4096`, is of no device.
fn entries(text: &str) -> Vec<BlockEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let second = words.next()?;
            let (op, value) = words.next().map_or(("", second), |third| (second, third));
            Some(BlockEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

fn hugetlb(directory: &str, get: Get<'_>, stats: &mut Stats) {
    for size in sizes(directory, ".usage_in_bytes") {
        let reserved = format!("hugetlb.{size}.rsvd");
        let prefix = match get(&format!("{reserved}.usage_in_bytes")) {
            Some(_) => reserved,
            None => format!("hugetlb.{size}"),
        };
        let entry = HugetlbStats {
            usage: number(get, &format!("{prefix}.usage_in_bytes")),
            max: number(get, &format!("{prefix}.max_usage_in_bytes")),
            failcnt: number(get, &format!("{prefix}.failcnt")),
        };
        stats.hugetlb.insert(size, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_spelled_out() {
        assert_eq!(list("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(list("\n"), [] as [u16; 0]);
    }

    #[test]
    fn block_counters_leave_the_total_out() {
        let read = entries("8:16 Read 1\n8:16 Total 9\n7:0 512\nTotal 9\n");
        let entry =
            |major, minor, op: &str, value| BlockEntry { major, minor, op: op.to_owned(), value };
        assert_eq!(read, [entry(8, 16, "Read", 1), entry(8, 16, "Total", 9), entry(7, 0, "", 512)]);
    }

    #[test]
    fn the_files_of_version_1_become_runcs_counters() {
        let files =
            |controller: &str| (controller != "cpuset").then(|| format!("/nowhere/{controller}"));
        let error = super::read(&files).unwrap_err();
        assert_eq!(error.to_string(), "the container's cgroup is gone");
        let mut stats = Stats::default();
        let get = |name: &str| {
            let text = match name {
                "cpuacct.usage" => "15\n",
                "cpuacct.stat" => "user 2\nsystem 1\n",
                "cpuacct.usage_percpu" => "7 8 \n",
                "cpuacct.usage_all" => "cpu user system\n0 4 3\n1 5 3\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        cpuacct(&get, &mut stats);
        assert_eq!(
            serde_json::to_value(&stats.cpu.usage).unwrap(),
            serde_json::json!({
                "total": 15, "percpu": [7, 8], "percpu_kernel": [3, 3], "percpu_user": [4, 5],
                "kernel": 10_000_000, "user": 20_000_000,
            })
        );
    }
}
