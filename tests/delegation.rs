//! Cgroup version 2 in the hands of the container's root (config-linux.md "Cgroup ownership"); on a version 1 host in a
//! mount namespace where `/sys/fs/cgroup` is the version 2 hierarchy, which has no controllers then.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Output, Test, json, test};
use crate::rootless;

cases![
    roots_own_cgroup_can_be_divided,
    a_read_only_view_is_not_handed_over,
    without_a_cgroup_namespace_nothing_is_handed_over,
    a_killed_create_of_a_user_is_found_from_another_cgroup,
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

/// A version 2 cgroup that has been delegated to the user, with one below it for his shell.
fn delegated(t: &Test, name: &str) -> PathBuf {
    let root = t.host.hierarchies.get("");
    let Some(root) = root else { t.skip("this host has no cgroup version 2 at all") };
    let directory = root.join(format!("{}-{name}", t.id));
    let shell = directory.join("shell");
    fs::create_dir_all(&shell).unwrap();
    for path in [&directory, &shell, &directory.join("cgroup.procs"), &shell.join("cgroup.procs")] {
        chown(path, Some(rootless::USER), Some(rootless::USER)).unwrap();
    }
    directory
}

/// The call as that user, from the shell's cgroup, by `words`.
fn from(t: &Test, directory: &Path, words: &[&str], args: &[&str]) -> Output {
    let mount = match t.host.layout {
        Layout::V2 => "",
        Layout::V1 => "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup &&",
    };
    let user = rootless::USER;
    let script = format!(
        "echo $$ > {}/shell/cgroup.procs && {mount} exec setpriv --reuid={user} --regid={user} --clear-groups \
         --inh-caps=-all --bounding-set=-all {} \"$0\" \"$@\"",
        directory.display(),
        words.join(" "),
    );
    t.call(args).by(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &script]).run()
}

/// His cgroups lie beside that of whoever creates them, which is another one's business by the time of `delete`.
fn a_killed_create_of_a_user_is_found_from_another_cgroup(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    t.need_program("unshare");
    let c = rootless::bundle(t).lasting();
    c.write();
    rootless::own(t, &c);
    let (first, second) = (delegated(t, "first"), delegated(t, "second"));
    let made = first.join(&c.id);
    let probe = crate::harness::probe::path(t);
    let create = ["create", "--bundle", c.dir.to_str().unwrap(), &c.id];
    for count in ["1", "10", "20"] {
        let call = libc::SYS_clone3.to_string();
        let words = [probe.to_str().unwrap(), "kill-at", count, &call];
        let killed = from(t, &first, &words, &create);
        assert_eq!(killed.code, Some(1), "{killed}");
        assert!(made.exists(), "{killed}");
        from(t, &second, &[], &["delete", "--force", &c.id]).ok();
        assert!(!made.exists(), "{count}");
    }
    for directory in [first, second] {
        test::remove_cgroup(&directory);
    }
    t.assert_nothing_left();
}
