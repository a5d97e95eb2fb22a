//! SELinux labels where the host has the module and a policy: of the process, of its session keyring, of file systems.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};
use crate::labels::has_selinux;
use crate::mounts::{mountinfo, seen, showing};

cases![
    a_process_has_its_label,
    exec_has_the_label_of_the_container_or_its_own,
    the_session_keyring_has_the_label_of_the_process,
    file_systems_have_the_label_of_mounts,
    mqueue_has_the_label_of_mounts,
    mqueue_of_a_user_namespace_has_it_too,
    a_label_the_policy_does_not_know_is_reported,
    a_failed_label_of_a_mount_leaves_nothing,
];

/// Every label of the kernel's, without the NUL it may end with.
fn label_of(text: &str) -> &str {
    text.trim_end_matches(['\0', '\n'])
}

/// Whether the policy that is loaded knows `label`.
fn is_known(label: &str) -> bool {
    fs::write("/sys/fs/selinux/context", label).is_ok()
}

fn need_policy(t: &Test) {
    t.need(has_selinux(), "this host has no SELinux");
    t.need(fs::exists("/sys/fs/selinux/context").unwrap(), "SELinux has no policy here");
}

/// One for a process: that of containers, where it needs nobody's leave, else the runtime's own.
fn process_label(t: &Test) -> String {
    need_policy(t);
    let permissive = fs::read_to_string("/sys/fs/selinux/enforce").unwrap() == "0";
    let candidates = ["system_u:system_r:container_t:s0:c1,c2", "system_u:system_r:init_t:s0"];
    let own = fs::read_to_string("/proc/self/attr/current").unwrap();
    let mut known = candidates.into_iter().filter(|label| permissive && is_known(label));
    known.next().unwrap_or(label_of(&own)).to_owned()
}

fn mount_label(t: &Test) -> String {
    need_policy(t);
    let candidates = ["system_u:object_r:container_file_t:s0:c1,c2", "system_u:object_r:tmp_t:s0"];
    let label = candidates.into_iter().find(|label| is_known(label));
    label.unwrap_or_else(|| t.skip("the policy has no label for these files")).to_owned()
}

const SHOW: [&str; 2] = ["cat", "/proc/self/attr/current"];

fn a_process_has_its_label(t: &Test) {
    let label = process_label(t);
    for no_new_privileges in [false, true] {
        let c = t.container().set("/process/selinuxLabel", json!(label));
        let c = c.set("/process/noNewPrivileges", json!(no_new_privileges)).args(&SHOW);
        assert_eq!(label_of(&c.run().ok().stdout), label);
    }
}

fn exec_has_the_label_of_the_container_or_its_own(t: &Test) {
    let label = process_label(t);
    let own = fs::read_to_string("/proc/self/attr/current").unwrap();
    let c = t.container().set("/process/selinuxLabel", json!(label)).lasting();
    c.run_detached();
    assert_eq!(label_of(&c.exec(&SHOW).ok().stdout), label);
    let other = c.exec_with(&["--process-label", label_of(&own)], &SHOW).run().ok();
    assert_eq!(label_of(&other.stdout), label_of(&own));
    let unknown = c.exec_with(&["--process-label", "no:such:label"], &["true"]).run();
    let output = unknown.exec_fails();
    if t.kind() == Kind::Skep {
        output.names("process.selinuxLabel");
    }
    assert_eq!(c.status(), "running");
}

fn the_session_keyring_has_the_label_of_the_process(t: &Test) {
    let label = process_label(t);
    t.need(fs::exists("/proc/keys").unwrap(), "this kernel has no keyrings");
    let c = t.container().set("/process/selinuxLabel", json!(label));
    let seen = c.with_probe().args(&["probe", "key-label"]).run().ok();
    assert_eq!(label_of(&seen.stdout), label);
}

fn file_systems_have_the_label_of_mounts(t: &Test) {
    let label = mount_label(t);
    let c = showing(t).set("/linux/mountLabel", json!(label));
    let text = mountinfo(&c.mount("/new", "tmpfs", "tmpfs", &["size=64k"]));
    // The kernel quotes what has a comma in it.
    let options = seen(&text, "/new").superblock.replace(['"', '\\'], "");
    assert!(options.contains(&format!("context={label}")), "{text}");
    // procfs has labels of its own.
    assert!(!seen(&text, "/proc").superblock.contains("context="), "{text}");
}

fn mqueue_has_the_label_of_mounts(t: &Test) {
    let label = mount_label(t);
    let c = t.container().set("/linux/mountLabel", json!(label));
    let c = c.mount("/queues", "mqueue", "mqueue", &[]).with_probe();
    let seen = c.args(&["probe", "file-label", "/queues"]).run().ok();
    assert_eq!(label_of(&seen.stdout), label);
}

fn mqueue_of_a_user_namespace_has_it_too(t: &Test) {
    let label = mount_label(t);
    let c = t.container().user_namespace(200_000).set("/linux/mountLabel", json!(label));
    let c = c.mount("/dev/mqueue", "mqueue", "mqueue", &[]).with_probe();
    let seen = c.args(&["probe", "file-label", "/dev/mqueue"]).run().ok();
    assert_eq!(label_of(&seen.stdout), label);
}

fn a_label_the_policy_does_not_know_is_reported(t: &Test) {
    need_policy(t);
    let c = t.container().set("/process/selinuxLabel", json!("no:such:label"));
    let output = c.run().fails();
    if t.kind() == Kind::Skep {
        output.one_line().names("process.selinuxLabel");
    }
    t.assert_nothing_left();
}

fn a_failed_label_of_a_mount_leaves_nothing(t: &Test) {
    need_policy(t);
    let c = t.container().set("/linux/mountLabel", json!("no:such:label"));
    let output = c.mount("/new", "tmpfs", "tmpfs", &[]).run().fails();
    if t.kind() == Kind::Skep {
        output.one_line().names("linux.mountLabel").names("policy");
    }
    t.assert_nothing_left();
}
