//! What a cgroup said before an update, so that one that fails changes nothing.

use std::collections::BTreeMap;

use super::writes::{Missing, Write};
use super::{Cgroup, Member, create, file};

/// The files an update is about to write, by path, as they are.
#[derive(Debug, Default)]
pub(super) struct Before(BTreeMap<String, String>);

impl Cgroup {
    /// Reads what the writes of `list` are to replace. Files that cannot be read are not put back.
    pub(super) fn before(&self, list: &[Write]) -> Before {
        let mut before = Before::default();
        for member in &self.record.hierarchies {
            let directory = self.directory(member);
            for write in list.iter().filter(|write| is_of(write, member)) {
                let other = match &write.missing {
                    Missing::Instead(other, _) => Some(*other),
                    Missing::Fail | Missing::Ignore => None,
                };
                for name in [Some(&*write.file), other].into_iter().flatten() {
                    let path = format!("{directory}/{name}");
                    if let Ok(text) = file::read(&path) {
                        before.0.entry(path).or_insert(text);
                    }
                }
            }
        }
        before
    }

    /// Puts it back as far as that is possible.
    pub(super) fn put_back(&self, list: &[Write], before: &Before) {
        for member in &self.record.hierarchies {
            let directory = self.directory(member);
            let old = |write: &Write| {
                let other = match &write.missing {
                    Missing::Instead(other, value) => Some((*other, value)),
                    Missing::Fail | Missing::Ignore => None,
                };
                let names = [Some((&*write.file, &write.value)), other];
                let (name, value, text) =
                    names.into_iter().flatten().find_map(|(name, value)| {
                        let text = before.0.get(&format!("{directory}/{name}"))?;
                        Some((name, value, text))
                    })?;
                let value = old_value(name, value, text)?;
                let file = name.to_owned().into();
                Some(Write { file, value, missing: Missing::Ignore, ..write.clone() })
            };
            let writes: Vec<Write> =
                list.iter().rev().filter(|write| is_of(write, member)).filter_map(old).collect();
            // One by one: what cannot be put back keeps nothing else from it. Twice, as pairs have an order.
            for write in writes.iter().chain(&writes) {
                let one = std::slice::from_ref(write);
                let _best_effort = create::apply(one, &directory, &member.mount);
            }
        }
    }
}

fn is_of(write: &Write, member: &Member) -> bool {
    member.has(&write.controller) || member.is_v2()
}

/// What to write into the file `name`, which said `text`, to undo the write of `new`.
fn old_value(name: &str, new: &str, text: &str) -> Option<String> {
    if name == "memory.oom_control" {
        return file::keyed(text, "oom_kill_disable").map(|value| value.to_string());
    }
    let unset = match name {
        "io.max" => "rbps=max wbps=max riops=max wiops=max",
        "rdma.max" => "hca_handle=max hca_object=max",
        "io.weight" | "io.bfq.weight" => "default",
        _ => "0",
    };
    // A line for one device, among others.
    if let Some((device, _)) = new.split_once(' ')
        && (device.contains(':') || name == "rdma.max")
    {
        let line = text.lines().find(|line| line.split(' ').next() == Some(device));
        return Some(line.map_or_else(|| format!("{device} {unset}"), str::to_owned));
    }
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default();
    // The others are those of devices: io.weight begins with `default 100`.
    let is_list = lines.next().is_some() && !line.starts_with("default ");
    (!is_list).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_put_back() {
        for (name, new, text, old) in [
            ("pids.max", "17", "40\n", Some("40")),
            ("cpu.max", "max 5000", "50000 100000\n", Some("50000 100000")),
            ("cpuset.cpus", "0", "\n", Some("")),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", Some("0")),
            ("io.max", "8:0 rbps=5", "", Some("8:0 rbps=max wbps=max riops=max wiops=max")),
            (
                "io.max",
                "8:0 rbps=5",
                "8:16 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=9 wbps=max riops=max wiops=max\n",
                Some("8:0 rbps=9 wbps=max riops=max wiops=max"),
            ),
            ("io.weight", "50", "default 100\n8:0 7\n", Some("default 100")),
            ("io.weight", "8:16 5", "default 100\n8:0 7\n", Some("8:16 default")),
            ("blkio.throttle.read_bps_device", "8:0 5", "8:16 2\n", Some("8:0 0")),
            ("rdma.max", "m0 hca_handle=3", "", Some("m0 hca_handle=max hca_object=max")),
            ("memory.stat", "x", "a 1\nb 2\n", None),
        ] {
            assert_eq!(old_value(name, new, text).as_deref(), old, "{name} {new}");
        }
    }
}
