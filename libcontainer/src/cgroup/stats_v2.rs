//! Statistics of version 2.

use std::collections::BTreeMap;

use super::file;
use super::stats::{BlockEntry, HugetlbStats, MemoryEntry, Pressure, PressureLine, Stats};
use crate::Result;
use crate::error::Context;

pub(super) fn read(directory: &str) -> Result<Stats> {
    let path = format!("{directory}/cpu.stat");
    // This one is in every cgroup, with or without the controller.
    let text = file::read(&path).on("read", &path)?;
    let get = |name: &str| file::read(&format!("{directory}/{name}")).ok();
    let mut stats = Stats::default();
    cpu(&text, &mut stats);
    stats.cpu.psi = get("cpu.pressure").as_deref().and_then(pressure);
    memory(&get, &mut stats);
    stats.memory.psi = get("memory.pressure").as_deref().and_then(pressure);
    stats.pids.current = number(get("pids.current")).unwrap_or(0);
    stats.pids.limit = get("pids.max").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if let Some(text) = get("io.stat") {
        block_io(&text, &mut stats);
    }
    stats.blkio.psi = get("io.pressure").as_deref().and_then(pressure);
    hugetlb(directory, &get, &mut stats);
    Ok(stats)
}

type Get<'g> = &'g dyn Fn(&str) -> Option<String>;

fn number(text: Option<String>) -> Option<u64> {
    match text?.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn cpu(text: &str, stats: &mut Stats) {
    let microseconds = |key: &str| file::keyed(text, key).unwrap_or(0).saturating_mul(1000);
    stats.cpu.usage.total = microseconds("usage_usec");
    stats.cpu.usage.user = microseconds("user_usec");
    stats.cpu.usage.kernel = microseconds("system_usec");
    stats.cpu.throttling.periods = file::keyed(text, "nr_periods").unwrap_or(0);
    stats.cpu.throttling.throttled_periods = file::keyed(text, "nr_throttled").unwrap_or(0);
    stats.cpu.throttling.throttled_time = microseconds("throttled_usec");
}

fn memory(get: Get<'_>, stats: &mut Stats) {
    let entry = |name: &str| MemoryEntry {
        limit: number(get(&format!("{name}.max"))).unwrap_or(0),
        usage: number(get(&format!("{name}.current"))).unwrap_or(0),
        max: number(get(&format!("{name}.peak"))).unwrap_or(0),
        failcnt: 0,
    };
    let usage = entry("memory");
    let mut swap = entry("memory.swap");
    // As on version 1, where swap is counted together with memory.
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(usage.limit);
    swap.max = swap.max.saturating_add(usage.max);
    stats.memory.usage = usage;
    stats.memory.swap = swap;
    if let Some(text) = get("memory.stat") {
        stats.memory.raw = file::pairs(&text).map(|(k, v)| (k.to_owned(), v)).collect();
        stats.memory.cache = stats.memory.raw.get("file").copied().unwrap_or(0);
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let values: BTreeMap<&str, &str> =
            line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let percent = |key: &str| values.get(key).and_then(|value| value.parse().ok());
        Some(PressureLine {
            avg10: percent("avg10")?,
            avg60: percent("avg60")?,
            avg300: percent("avg300")?,
            total: values.get("total")?.parse().ok()?,
        })
    };
    Some(Pressure { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn block_io(text: &str, stats: &mut Stats) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let blkio = &mut stats.blkio;
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut blkio.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                "dios" => (&mut blkio.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlockEntry { major, minor, op: op.to_owned(), value });
            }
        }
    }
}

fn hugetlb(directory: &str, get: Get<'_>, stats: &mut Stats) {
    for size in sizes(directory, ".current") {
        let reserved = number(get(&format!("hugetlb.{size}.rsvd.current")));
        let usage = reserved.or_else(|| number(get(&format!("hugetlb.{size}.current"))));
        let failcnt =
            get(&format!("hugetlb.{size}.events")).and_then(|text| file::keyed(&text, "max"));
        let entry =
            HugetlbStats { usage: usage.unwrap_or(0), max: 0, failcnt: failcnt.unwrap_or(0) };
        stats.hugetlb.insert(size, entry);
    }
}

/// The huge page sizes the cgroup has files for.
pub(super) fn sizes(directory: &str, suffix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let size = name.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_version_2_become_runcs_counters() {
        let mut stats = Stats::default();
        cpu(
            "usage_usec 15\nuser_usec 10\nsystem_usec 5\nnr_periods 7\nnr_throttled 3\nthrottled_usec 2\n",
            &mut stats,
        );
        let get = |name: &str| {
            let text = match name {
                "memory.current" => "4096\n",
                "memory.max" => "8192\n",
                "memory.peak" => "6000\n",
                "memory.swap.current" => "100\n",
                "memory.swap.max" => "max\n",
                "memory.stat" => "anon 1\nfile 2\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        memory(&get, &mut stats);
        block_io("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:1 \n", &mut stats);
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(
            json["cpu"],
            serde_json::json!({
                "usage": {"total": 15000, "kernel": 5000, "user": 10000},
                "throttling": {"periods": 7, "throttledPeriods": 3, "throttledTime": 2000},
            })
        );
        assert_eq!(
            json["memory"],
            serde_json::json!({
                "cache": 2,
                "usage": {"limit": 8192, "usage": 4096, "max": 6000, "failcnt": 0},
                "swap": {"limit": u64::MAX, "usage": 4196, "max": 6000, "failcnt": 0},
                "kernel": {"limit": 0, "failcnt": 0},
                "kernelTCP": {"limit": 0, "failcnt": 0},
                "raw": {"anon": 1, "file": 2},
            })
        );
        assert_eq!(
            json["blkio"],
            serde_json::json!({
                "ioServiceBytesRecursive": [
                    {"major": 8, "op": "Read", "value": 1},
                    {"major": 8, "op": "Write", "value": 2},
                    {"major": 8, "op": "Discard", "value": 5},
                ],
                "ioServicedRecursive": [
                    {"major": 8, "op": "Read", "value": 3},
                    {"major": 8, "op": "Write", "value": 4},
                    {"major": 8, "op": "Discard", "value": 6},
                ],
            })
        );
        assert_eq!(json["intel_rdt"], serde_json::json!({}));
        assert!(json["network_interfaces"].is_null());
    }

    #[test]
    fn pressure_lines_are_read_and_full_may_be_missing() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\n";
        let read = pressure(text).unwrap();
        assert_eq!(read.some, PressureLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 42 });
        assert_eq!(read.full, PressureLine::default());
        assert_eq!(pressure("nonsense"), None);
    }
}
