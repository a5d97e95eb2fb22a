//! AppArmor profiles and SELinux labels of processes: applied where the host has the module, refused where it has not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, reaper};

cases![
    an_apparmor_profile_without_apparmor_is_refused,
    an_apparmor_profile_of_exec_without_apparmor_is_refused,
    an_apparmor_profile_that_is_not_loaded_is_reported,
    an_apparmor_profile_is_applied,
    apparmor_denies_what_the_profile_denies,
    apparmor_denies_it_to_exec_too,
    an_apparmor_profile_of_exec_alone,
    an_selinux_label_without_selinux_is_refused,
    an_selinux_label_of_exec_without_selinux_is_refused,
    empty_labels_are_none,
    a_nul_in_a_label_is_refused,
];

fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

pub fn has_selinux() -> bool {
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

/// A profile in the kernel, removed again, that allows all but the file `/secret` and to make a directory in `/closed`.
struct Profile {
    name: String,
    file: PathBuf,
}

impl Profile {
    fn load(t: &Test) -> Self {
        t.need(has_apparmor(), "this host has no AppArmor");
        t.need_program("apparmor_parser");
        let (name, file) = (format!("{}-profile", t.id), t.path("profile"));
        let text = format!(
            "abi <abi/3.0>,\nprofile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  \
             signal,\n  ptrace,\n  unix,\n  mount,\n  umount,\n  deny /secret rwklx,\n  deny /closed/** w,\n}}\n"
        );
        fs::write(&file, text).unwrap();
        let profile = Self { name, file };
        let output = profile.parser("--replace");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        profile
    }

    fn parser(&self, action: &str) -> std::process::Output {
        let mut command = Command::new("apparmor_parser");
        reaper::output(command.args([action, "--skip-cache"]).arg(&self.file)).unwrap()
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

/// Tries what the profile denies and what it does not.
const TRY: &str =
    "cat /proc/self/attr/current; cat /secret; mkdir /closed/it; cat /known; mkdir /open-it; true";

fn with_files(t: &Test) -> Container<'_> {
    t.container().file("/secret", "secret\n", 0o644).file("/known", "known\n", 0o644).file(
        "/closed/file",
        "",
        0o644,
    )
}

fn apparmor_denies_what_the_profile_denies(t: &Test) {
    let profile = Profile::load(t);
    for no_new_privileges in [false, true] {
        let c = with_files(t)
            .set("/process/apparmorProfile", json!(profile.name))
            .set("/process/noNewPrivileges", json!(no_new_privileges))
            .sh(TRY);
        let output = c.run().ok();
        let output = output.prints(&format!("{} (enforce)\nknown\n", profile.name));
        assert_eq!(output.stderr.matches("Permission denied").count(), 2, "{output}");
        assert!(c.path("/open-it").exists() && !c.path("/closed/it").exists());
    }
}

fn apparmor_denies_it_to_exec_too(t: &Test) {
    let profile = Profile::load(t);
    let c = with_files(t).set("/process/apparmorProfile", json!(profile.name)).lasting();
    c.run_detached();
    let output = c.exec(&["sh", "-c", TRY]).ok();
    let output = output.prints(&format!("{} (enforce)\nknown\n", profile.name));
    assert_eq!(output.stderr.matches("Permission denied").count(), 2, "{output}");
    // Not to be got rid of from inside.
    let leave = "echo changeprofile unconfined > /proc/self/attr/current; cat /secret";
    assert!(!c.exec(&["sh", "-c", leave]).not_ok().stdout.contains("secret"));
}

fn an_apparmor_profile_of_exec_alone(t: &Test) {
    let profile = Profile::load(t);
    let c = with_files(t).lasting();
    c.run_detached();
    c.exec(&["cat", "/secret"]).ok().prints("secret\n");
    let output = c.exec_with(&["--apparmor", &profile.name], &["sh", "-c", TRY]).run().ok();
    output.prints(&format!("{} (enforce)\nknown\n", profile.name));
    let unknown = c.exec_with(&["--apparmor", "no-such-profile"], &["true"]).run();
    unknown.exec_fails().names("process.apparmorProfile");
    assert_eq!(c.status(), "running");
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
