//! AppArmor profiles and SELinux labels of processes: applied where the host has the module, refused where it has not.

use std::fs;
use std::path::Path;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};

cases![
    an_apparmor_profile_without_apparmor_is_refused,
    an_apparmor_profile_of_exec_without_apparmor_is_refused,
    an_apparmor_profile_that_is_not_loaded_is_reported,
    an_apparmor_profile_is_applied,
    an_selinux_label_without_selinux_is_refused,
    an_selinux_label_of_exec_without_selinux_is_refused,
    empty_labels_are_none,
    a_nul_in_a_label_is_refused,
];

fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

fn has_selinux() -> bool {
    fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs")
}

fn an_apparmor_profile_without_apparmor_is_refused(t: &Test) {
    t.need(!has_apparmor(), "this host has AppArmor");
    for profile in ["some-profile", "unconfined"] {
        let c = t.container().set("/process/apparmorProfile", json!(profile));
        let output = c.run().fails().names("apparmor failed to apply profile");
        if t.kind() == Kind::Skep {
            output.one_line().names("process.apparmorProfile");
        }
        t.assert_nothing_left();
    }
}

fn an_apparmor_profile_of_exec_without_apparmor_is_refused(t: &Test) {
    t.need(!has_apparmor(), "this host has AppArmor");
    let c = t.container().lasting();
    c.run_detached();
    let output = c.exec_with(&["--apparmor", "some-profile"], &["true"]).run().exec_fails();
    output.names("apparmor");
    assert_eq!(c.status(), "running");
}

fn an_apparmor_profile_that_is_not_loaded_is_reported(t: &Test) {
    t.need(has_apparmor(), "this host has no AppArmor");
    let c = t.container().set("/process/apparmorProfile", json!("no-such-profile"));
    c.run().fails().names("apparmor failed to apply profile");
    t.assert_nothing_left();
}

fn an_apparmor_profile_is_applied(t: &Test) {
    t.need(has_apparmor(), "this host has no AppArmor");
    let attr = Path::new("/sys/kernel/security/apparmor/profiles");
    let profiles = fs::read_to_string(attr).unwrap_or_default();
    let profile = profiles.lines().find_map(|line| line.strip_suffix(" (unconfined)"));
    let profile = profile.unwrap_or("unconfined").to_owned();
    let c = t.container().set("/process/apparmorProfile", json!(profile));
    let seen = c.args(&["cat", "/proc/self/attr/current"]).run().ok().stdout;
    assert!(seen.starts_with(&profile), "{seen}");
}

fn an_selinux_label_without_selinux_is_refused(t: &Test) {
    t.need(!has_selinux(), "this host has SELinux");
    let label = json!("system_u:system_r:container_t:s0:c1,c2");
    let output = t.container().set("/process/selinuxLabel", label).run();
    t.need(t.kind() != Kind::Crun || output.code != Some(0), "crun ignores it");
    let output = output.fails();
    if t.kind() == Kind::Skep {
        output
            .one_line()
            .names("process.selinuxLabel")
            .names("selinux is disabled or not supported");
    }
    t.assert_nothing_left();
}

fn an_selinux_label_of_exec_without_selinux_is_refused(t: &Test) {
    t.need(!has_selinux(), "this host has SELinux");
    t.need(t.kind() == Kind::Skep, "the others ignore it");
    let c = t.container().lasting();
    c.run_detached();
    let flags = ["--process-label", "system_u:system_r:container_t:s0"];
    c.exec_with(&flags, &["true"]).run().exec_fails().names("selinux is disabled");
    assert_eq!(c.status(), "running");
}

fn empty_labels_are_none(t: &Test) {
    for value in [json!(""), json!(null)] {
        let c = t.container().set("/process/apparmorProfile", value.clone());
        c.set("/process/selinuxLabel", value.clone()).set("/linux/mountLabel", value).run().ok();
    }
}

fn a_nul_in_a_label_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others cut it");
    for field in ["apparmorProfile", "selinuxLabel"] {
        let c = t.container().set(&format!("/process/{field}"), json!("a\0b"));
        c.run().fails().names(&format!("process.{field}"));
        t.assert_nothing_left();
    }
}
