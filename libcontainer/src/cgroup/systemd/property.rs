//! Limits as properties of a unit (systemd.resource-control(5)), so that systemd never puts back what it thinks right.

use super::super::device::{Kind, MKNOD, READ, Rule, Rules, WRITE};
use super::super::writes::{Missing, Write};
use super::Property;
use crate::dbus::Value;

/// systemd stores a quota as whole percents: one that is none would change at a daemon-reload.
const PERCENT: u64 = 10_000;
const SECOND: u64 = 1_000_000;

/// More CPUs or nodes than any kernel has.
const MAX_BITS: usize = 16_384;

/// What `writes` are to systemd; those that are nothing to it, such as huge pages, it leaves alone.
pub(in super::super) fn of_writes(writes: &[Write], v2: bool) -> Vec<Property> {
    let mut list: Vec<Property> = Vec::new();
    let mut set = |name: &str, value: Value| {
        list.retain(|(other, _)| other != name);
        list.push((name.to_owned(), value));
    };
    let mut v1_quota = (None, None);
    for write in writes {
        let value = write.value.trim();
        if v2 {
            for (name, value) in unified(write, value) {
                set(name, value);
            }
            continue;
        }
        match &*write.file {
            "cpu.cfs_quota_us" => v1_quota.0 = Some(value),
            "cpu.cfs_period_us" => v1_quota.1 = value.parse::<u64>().ok(),
            "memory.limit_in_bytes" => set_number(&mut set, "MemoryLimit", value),
            "cpu.shares" => set_number(&mut set, "CPUShares", value),
            "blkio.weight" => set_number(&mut set, "BlockIOWeight", value),
            "pids.max" => set_number(&mut set, "TasksMax", value),
            _ => {}
        }
    }
    if let Some(quota) = v1_quota.0 {
        let period = v1_quota.1.unwrap_or(100_000);
        let per_second = quota.parse().map_or(u64::MAX, |quota| per_second(quota, period));
        set("CPUQuotaPerSecUSec", Value::Uint64(per_second));
    }
    if let Some(period) = v1_quota.1 {
        set("CPUQuotaPeriodUSec", Value::Uint64(period));
    }
    list
}

/// A number; `max` and -1 are the highest there is.
fn number(value: &str) -> Option<u64> {
    match value {
        "max" | "-1" => Some(u64::MAX),
        value => value.parse().ok(),
    }
}

fn set_number(set: &mut impl FnMut(&str, Value), name: &str, value: &str) {
    if let Some(number) = number(value) {
        set(name, Value::Uint64(number));
    }
}

fn unified(write: &Write, value: &str) -> Vec<(&'static str, Value)> {
    let simple = |name| number(value).map(|number| (name, Value::Uint64(number)));
    let one = match &*write.file {
        "memory.max" => simple("MemoryMax"),
        "memory.swap.max" => simple("MemorySwapMax"),
        "memory.zswap.max" => simple("MemoryZSwapMax"),
        "memory.high" => simple("MemoryHigh"),
        "memory.low" => simple("MemoryLow"),
        "memory.min" => simple("MemoryMin"),
        "pids.max" => simple("TasksMax"),
        "cpu.weight" => simple("CPUWeight"),
        "cpu.idle" if value == "1" => Some(("CPUWeight", Value::Uint64(0))),
        "cpuset.cpus" => bits(value).map(|bits| ("AllowedCPUs", bits)),
        "cpuset.mems" => bits(value).map(|bits| ("AllowedMemoryNodes", bits)),
        "io.weight" => {
            let value = value.strip_prefix("default ").unwrap_or(value);
            number(value).map(|number| ("IOWeight", Value::Uint64(number)))
        }
        "io.bfq.weight" => match &write.missing {
            Missing::Instead("io.weight", value) => {
                number(value).map(|number| ("IOWeight", Value::Uint64(number)))
            }
            _ => None,
        },
        "cpu.max" => return quota(value),
        _ => None,
    };
    one.into_iter().collect()
}

/// `cpu.max`: quota and period, or the quota alone.
fn quota(value: &str) -> Vec<(&'static str, Value)> {
    let mut words = value.split_whitespace();
    let Some(quota) = words.next() else { return Vec::new() };
    let period = words.next().and_then(|period| period.parse::<u64>().ok());
    let per_second = match number(quota) {
        Some(u64::MAX) => u64::MAX,
        Some(quota) => per_second(quota, period.unwrap_or(100_000)),
        None => return Vec::new(),
    };
    let mut list = vec![("CPUQuotaPerSecUSec", Value::Uint64(per_second))];
    list.extend(period.map(|period| ("CPUQuotaPeriodUSec", Value::Uint64(period))));
    list
}

/// Rounded up to whole percents.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * u128::from(SECOND);
    let exact = exact.div_ceil(u128::from(period.max(1)));
    let rounded = exact.div_ceil(u128::from(PERCENT)) * u128::from(PERCENT);
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

/// Makes quotas what systemd will make of them. `unified` is taken at its word.
pub(in super::super) fn round_quota(writes: &mut [Write]) {
    let round = |quota: &str, period: u64| {
        let quota = quota.parse::<u64>().ok()?;
        let rounded =
            u128::from(per_second(quota, period)) * u128::from(period) / u128::from(SECOND);
        Some(rounded.to_string())
    };
    let given = writes.iter().find(|write| write.file == "cpu.cfs_period_us");
    let v1_period = given.and_then(|write| write.value.parse().ok()).unwrap_or(100_000);
    for write in writes.iter_mut().filter(|write| write.field.starts_with("linux.resources.cpu.")) {
        let rounded = match &*write.file {
            "cpu.max" => write.value.split_once(' ').and_then(|(quota, period)| {
                Some(format!("{} {period}", round(quota, period.parse().ok()?)?))
            }),
            "cpu.cfs_quota_us" => round(&write.value, v1_period),
            _ => None,
        };
        if let Some(rounded) = rounded {
            write.value = rounded;
        }
    }
}

/// A list such as `0-3,7` as bits, the lowest first.
fn bits(list: &str) -> Option<Value> {
    let mut bytes: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MAX_BITS {
            return None;
        }
        if bytes.len() <= last / 8 {
            bytes.resize(last / 8 + 1, 0);
        }
        for bit in first..=last {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    // An empty list is every one.
    Some(Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}

/// What `rules` are to systemd.
///
/// On version 2 nothing: the rules are a program of our own, and a second one of systemd's would only deny, at its next
/// daemon-reload, what a hook has added to ours. On version 1 there is one list, which systemd writes anew with each
/// daemon-reload: it gets all of it, and where it has no word for a rule, one that allows more.
pub(in super::super) fn of_devices(rules: &Rules, v2: bool) -> Vec<Property> {
    if v2 {
        return Vec::new();
    }
    let policy = if rules.default_allow { "auto" } else { "strict" };
    let mut entries: Vec<(String, u8)> = Vec::new();
    for rule in rules.list.iter().filter(|rule| rule.allow && !rules.default_allow) {
        let name = name(rule);
        match entries.iter_mut().find(|(other, _)| *other == name) {
            Some((_, access)) => *access |= rule.access,
            None => entries.push((name, rule.access)),
        }
    }
    let text = |text: String| Value::Text(text);
    let entry = |(name, access): (String, u8)| {
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let letters = letters.iter().filter(|(bit, _)| access & bit != 0);
        Value::Struct(vec![text(name), text(letters.map(|(_, letter)| letter).collect())])
    };
    vec![
        ("DevicePolicy".to_owned(), text(policy.to_owned())),
        (
            "DeviceAllow".to_owned(),
            Value::Array("(ss)".into(), entries.into_iter().map(entry).collect()),
        ),
    ]
}

fn name(rule: &Rule) -> String {
    let kind = match rule.kind {
        Kind::Block => "block",
        Kind::Char => "char",
    };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, _) => format!("{kind}-*"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::writes::Purpose;
    use super::super::super::{v1, v2};
    use super::*;
    use crate::spec::Resources;

    fn parse(json: &str) -> Resources<'_> {
        serde_json::from_str(json).unwrap()
    }

    fn show(list: &[Property]) -> Vec<String> {
        let value = |value: &Value| match value {
            Value::Uint64(u64::MAX) => "infinity".to_owned(),
            Value::Uint64(number) => number.to_string(),
            Value::Array(_, items) => {
                let bytes = items.iter().map(|item| match item {
                    Value::Byte(byte) => format!("{byte:02x}"),
                    other => format!("{other:?}"),
                });
                bytes.collect()
            }
            other => format!("{other:?}"),
        };
        list.iter().map(|(name, given)| format!("{name}={}", value(given))).collect()
    }

    #[test]
    fn each_limit_of_version_2_has_its_property() {
        let controllers =
            ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"].map(str::to_owned);
        for (json, properties) in [
            ("{}", &[][..]),
            (
                r#"{"memory":{"limit":4096,"swap":8192,"reservation":2048}}"#,
                &["MemoryMax=4096", "MemorySwapMax=4096", "MemoryLow=2048"],
            ),
            (r#"{"memory":{"limit":-1}}"#, &["MemoryMax=infinity", "MemorySwapMax=infinity"]),
            (r#"{"cpu":{"shares":1024}}"#, &["CPUWeight=100"]),
            (r#"{"cpu":{"idle":1,"shares":5}}"#, &["CPUWeight=0"]),
            (
                r#"{"cpu":{"quota":50000,"period":100000}}"#,
                &["CPUQuotaPerSecUSec=500000", "CPUQuotaPeriodUSec=100000"],
            ),
            (
                r#"{"cpu":{"quota":-1,"period":50000}}"#,
                &["CPUQuotaPerSecUSec=infinity", "CPUQuotaPeriodUSec=50000"],
            ),
            (
                r#"{"cpu":{"quota":10001,"period":30000}}"#,
                &["CPUQuotaPerSecUSec=340000", "CPUQuotaPeriodUSec=30000"],
            ),
            (
                r#"{"cpu":{"cpus":"0-1,9","mems":"0"}}"#,
                &["AllowedCPUs=0302", "AllowedMemoryNodes=01"],
            ),
            (r#"{"pids":{"limit":-1}}"#, &["TasksMax=infinity"]),
            (r#"{"pids":{"limit":0}}"#, &["TasksMax=1"]),
            (r#"{"blockIO":{"weight":10}}"#, &["IOWeight=1"]),
            (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#, &[]),
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#, &[]),
            (
                r#"{"memory":{"limit":4096},"unified":{"memory.max":"8192","memory.high":"max","memory.min":"1","memory.zswap.max":"3",
                    "cpu.max":"5000","cpu.weight":"7","cpuset.cpus":"3","pids.max":"12","io.weight":"default 40"}}"#,
                &[
                    "MemoryMax=8192",
                    "MemoryHigh=infinity",
                    "MemoryMin=1",
                    "MemoryZSwapMax=3",
                    "CPUQuotaPerSecUSec=50000",
                    "CPUWeight=7",
                    "AllowedCPUs=08",
                    "TasksMax=12",
                    "IOWeight=40",
                ],
            ),
            (r#"{"unified":{"memory.max":"junk","cpuset.cpus":"9999999","cpu.max":"x y"}}"#, &[]),
        ] {
            let resources = parse(json);
            let writes = v2::writes(&resources, Purpose::Create, &controllers, &|_| None).unwrap();
            let mut got = show(&of_writes(&writes.list, true));
            let mut properties: Vec<String> = properties.iter().map(|p| (*p).to_owned()).collect();
            got.sort();
            properties.sort();
            assert_eq!(got, properties, "{json}");
        }
    }

    #[test]
    fn each_limit_of_version_1_has_its_property() {
        let json = r#"{"memory":{"limit":4096},"cpu":{"shares":7,"quota":25001,"period":50000},
            "pids":{"limit":5},"blockIO":{"weight":300}}"#;
        let mut writes = v1::writes(&parse(json), Purpose::Create).unwrap().list;
        round_quota(&mut writes);
        let quota = writes.iter().find(|write| write.file == "cpu.cfs_quota_us").unwrap();
        assert_eq!(quota.value, "25500");
        let mut got = show(&of_writes(&writes, false));
        got.sort();
        assert_eq!(
            got,
            [
                "BlockIOWeight=300",
                "CPUQuotaPerSecUSec=510000",
                "CPUQuotaPeriodUSec=50000",
                "CPUShares=7",
                "MemoryLimit=4096",
                "TasksMax=5"
            ]
        );
    }

    #[test]
    fn the_kernel_gets_the_quota_systemd_will_make_of_it() {
        let controllers = ["cpu".to_owned()];
        for (json, value) in [
            (r#"{"cpu":{"quota":1999,"period":100000}}"#, "2000 100000"),
            (r#"{"cpu":{"quota":50000,"period":100000}}"#, "50000 100000"),
            (r#"{"cpu":{"quota":10000,"period":30000}}"#, "10200 30000"),
            (r#"{"cpu":{"quota":-1,"period":30000}}"#, "max 30000"),
            (r#"{"cpu":{"quota":9223372036854775807,"period":1}}"#, "18446744073709 1"),
            (r#"{"unified":{"cpu.max":"1999 100000"}}"#, "1999 100000"),
        ] {
            let resources = parse(json);
            let mut writes =
                v2::writes(&resources, Purpose::Create, &controllers, &|_| None).unwrap().list;
            round_quota(&mut writes);
            assert_eq!(writes[0].value, value, "{json}");
        }
    }

    #[test]
    fn systemd_of_version_1_is_told_every_device() {
        let rules = parse(
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
                {"allow":true,"type":"b","major":8,"access":"r"},{"allow":true,"type":"c","minor":3,"access":"r"}]}"#,
        );
        let rules = Rules::new(&rules.devices, true).unwrap();
        assert!(of_devices(&rules, true).is_empty());
        let list = of_devices(&rules, false);
        let text = format!("{list:?}");
        for part in [
            "\"strict\"",
            "/dev/char/10:229\"), Text(\"rw\")",
            "block-8\"), Text(\"r\")",
            "char-*\"), Text(\"rm\")",
            "char-136",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let all = Rules::new(&parse(r#"{"devices":[{"allow":true}]}"#).devices, true).unwrap();
        let text = format!("{:?}", of_devices(&all, false));
        assert!(text.contains("auto") && !text.contains("/dev/"), "{text}");
    }
}
