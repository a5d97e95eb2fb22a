//! linux.intelRdt, where the CPU has it; and what is said where it has not.

use std::fs;
use std::path::PathBuf;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};

cases![
    intel_rdt_without_resctrl_is_refused,
    a_bad_class_is_refused,
    an_update_of_schemata_without_resctrl_is_refused,
    a_container_has_a_class_of_its_own,
    a_missing_class_is_refused,
    a_container_is_monitored,
];

fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

fn need_resctrl(t: &Test) -> PathBuf {
    match mount_point() {
        Some(path) => path,
        None => t.skip("no resctrl file system is mounted"),
    }
}

fn intel_rdt_without_resctrl_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 go on without");
    t.need(mount_point().is_none(), "a resctrl file system is mounted");
    for rdt in [json!({}), json!({"closID": "gold"}), json!({"enableMonitoring": true})] {
        let output = t.container().set("/linux/intelRdt", rdt).try_create().fails();
        output.names("linux.intelRdt").names("Intel RDT is not enabled");
        t.assert_nothing_left();
    }
    // Absent is absent.
    t.container().set("/linux/intelRdt", json!(null)).run().ok();
}

fn a_bad_class_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 do not look");
    for (rdt, field) in [
        (json!({"closID": "../x"}), "linux.intelRdt.closID"),
        (json!({"closID": "a/b"}), "linux.intelRdt.closID"),
        (json!({"closID": "info"}), "linux.intelRdt.closID"),
        (json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
        (json!({"schemata": ["L3:0=f\nMB:0=1"]}), "linux.intelRdt.schemata[0]"),
        (json!({"schemata": "L3:0=f"}), "linux.intelRdt.schemata"),
    ] {
        let output = t.container().set("/linux/intelRdt", rdt).try_create().fails();
        output.names(field);
        t.assert_nothing_left();
    }
}

fn an_update_of_schemata_without_resctrl_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun 1.8 does not look");
    t.need(mount_point().is_none(), "a resctrl file system is mounted");
    let c = t.container().lasting();
    c.run_detached();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=10"] {
        c.call("update", &[flag]).run().fails().names("Intel RDT");
    }
    c.call("update", &["--mem-bw-schema", "10"]).run().fails();
}

fn a_container_has_a_class_of_its_own(t: &Test) {
    let root = need_resctrl(t);
    let c = t.container().lasting().set("/linux/intelRdt", json!({}));
    c.run_detached();
    let class = root.join(&c.id);
    let has = |pid: i32| {
        let tasks = fs::read_to_string(class.join("tasks")).unwrap();
        tasks.lines().any(|line| line == pid.to_string())
    };
    assert!(has(c.pid()));
    let output = c.exec(&["cat", "/proc/self/cpu_resctrl_groups"]).ok();
    assert!(output.stdout.contains(&format!("res:{}", c.id)), "{output}");
    c.delete_force().ok();
    assert!(fs::metadata(&class).is_err());
}

fn a_missing_class_is_refused(t: &Test) {
    need_resctrl(t);
    let c = t.container();
    let name = format!("{}-none", c.id);
    let c = c.set("/linux/intelRdt", json!({"closID": name}));
    c.try_create().fails().names("linux.intelRdt.closID");
    t.assert_nothing_left();
}

fn a_container_is_monitored(t: &Test) {
    let root = need_resctrl(t);
    t.need(fs::metadata(root.join("info/L3_MON")).is_ok(), "this CPU does not monitor");
    let c = t
        .container()
        .lasting()
        .set("/linux/intelRdt", json!({"closID": "/", "enableMonitoring": true}));
    c.run_detached();
    let group = root.join("mon_groups").join(&c.id);
    let tasks = fs::read_to_string(group.join("tasks")).unwrap();
    assert!(tasks.lines().any(|line| line == c.pid().to_string()), "{tasks}");
    c.delete_force().ok();
    assert!(fs::metadata(&group).is_err());
}
