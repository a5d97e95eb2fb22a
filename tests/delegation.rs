//! Cgroup version 2 in the hands of the container's root (config-linux.md "Cgroup ownership"); on a version 1 host in a
//! mount namespace where `/sys/fs/cgroup` is the version 2 hierarchy, which has no controllers then.

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Test, json};

cases![
    roots_own_cgroup_can_be_divided,
    a_read_only_view_is_not_handed_over,
    without_a_cgroup_namespace_nothing_is_handed_over,
];

/// The call where the host has version 2.
fn on_v2(t: &Test, call: Call<'_>) -> crate::harness::Output {
    let call = match t.host.layout {
        Layout::V2 => call,
        Layout::V1 => call.by(&[
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"",
        ]),
    };
    call.run()
}

fn container<'t>(t: &'t Test, option: &str) -> Container<'t> {
    t.need(t.kind() == Kind::Skep, "runc and crun want controllers");
    t.need_user_namespaces();
    t.need_program("unshare");
    t.need(t.host.hierarchies.contains_key(""), "this host has no cgroup version 2 at all");
    let c = t
        .container()
        .user_namespace(200_000)
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .unset("/linux/resources")
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", option]);
    for dir in ["", "/sys"] {
        std::os::unix::fs::chown(c.path(dir), Some(200_000), Some(200_000)).unwrap();
    }
    c
}

/// What the program says of who owns the cgroup, and whether it can make one below.
const DIVIDE: &str = "cd /sys/fs/cgroup; stat -c %u . cgroup.procs cgroup.subtree_control; \
    mkdir inner && echo 0 > inner/cgroup.procs && echo moved; stat -c %u cgroup.freeze";

fn roots_own_cgroup_can_be_divided(t: &Test) {
    let c = container(t, "rw").sh(DIVIDE);
    let output = on_v2(t, c.bundle_call("run", &[])).ok();
    // The limits and the freezer stay the host's.
    output.prints("0\n0\n0\nmoved\n65534\n");
    t.assert_nothing_left();
}

fn a_read_only_view_is_not_handed_over(t: &Test) {
    let c = container(t, "ro").sh("stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs");
    on_v2(t, c.bundle_call("run", &[])).ok().prints("65534\n65534\n");
    t.assert_nothing_left();
}

fn without_a_cgroup_namespace_nothing_is_handed_over(t: &Test) {
    let c = container(t, "rw").without_namespace("cgroup").sh("stat -c %u /sys/fs/cgroup");
    on_v2(t, c.bundle_call("run", &[])).ok().prints("65534\n");
    t.assert_nothing_left();
}
