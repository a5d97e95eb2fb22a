//! What `events` tells of resctrl, in runc's words.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value};

use super::Group;

impl Group {
    /// The statistics, by runc's names. What cannot be read is left out: monitoring is of the hardware's choosing.
    pub fn stats(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let record = &self.record;
        let present = |directory: &str| read(&format!("{directory}/schemata")).unwrap_or_default();
        let (root, own) = (present(&record.root), present(&record.class));
        for (resource, info, schema) in
            [("L3", "l3_cache_info", "l3_cache_schema"), ("MB", "mem_bw_info", "mem_bw_schema")]
        {
            let directory = format!("{}/info/{resource}", record.root);
            let Some(limits) = limits(&directory) else { continue };
            all.insert(info.to_owned(), Value::Object(limits));
            for (name, text) in [(format!("{schema}_root"), &root), (schema.to_owned(), &own)] {
                let prefix = format!("{resource}:");
                let line = text.lines().map(str::trim).find(|line| line.starts_with(&prefix));
                all.extend(line.map(|line| (name, line.into())));
            }
        }
        let lines: Vec<Value> = own.lines().map(|line| line.trim().into()).collect();
        if !lines.is_empty() {
            all.insert("schemata".to_owned(), lines.into());
        }
        let monitored = record.monitor.as_ref().unwrap_or(&record.class);
        for (name, files) in [
            ("mbm_stats", &["mbm_total_bytes", "mbm_local_bytes"][..]),
            ("cmt_stats", &["llc_occupancy"]),
        ] {
            let list = per_domain(&format!("{monitored}/mon_data"), files);
            if !list.is_empty() {
                all.insert(name.to_owned(), list.into());
            }
        }
        all
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// The files below `info/L3` or `info/MB`; numbers as such, the mask as text.
fn limits(directory: &str) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    for name in ["cbm_mask", "min_cbm_bits", "bandwidth_gran", "delay_linear", "min_bandwidth"] {
        let Some(text) = read(&format!("{directory}/{name}")) else { continue };
        let number = text.parse::<u64>().ok().filter(|_| name != "cbm_mask");
        map.insert(name.to_owned(), number.map_or_else(|| text.into(), Value::from));
    }
    let closids = read(&format!("{directory}/num_closids"))?.parse::<u64>().ok()?;
    map.insert("num_closids".to_owned(), closids.into());
    Some(map)
}

/// One object for each directory `mon_L3_NN`.
fn per_domain(directory: &str, files: &[&str]) -> Vec<Value> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("mon_L3_"))
        .collect();
    names.sort();
    let domain = |name: &String| {
        let mut map = Map::new();
        for file in files {
            // "Unavailable" and "Error" are answers too.
            let number = read(&format!("{directory}/{name}/{file}"))?.parse::<u64>().ok()?;
            map.insert((*file).to_owned(), number.into());
        }
        Some(Value::Object(map))
    };
    names.iter().filter_map(domain).collect()
}
