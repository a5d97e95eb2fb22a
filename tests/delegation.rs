//! Cgroup version 2 in the hands of the container's root (config-linux.md "Cgroup ownership"); on a version 1 host in a
//! mount namespace where `/sys/fs/cgroup` is the version 2 hierarchy, which has no controllers then.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Output, Test, json, test};
use crate::{checkpoint, rootless};

cases![
    roots_own_cgroup_can_be_divided,
    a_read_only_view_is_not_handed_over,
    without_a_cgroup_namespace_nothing_is_handed_over,
    a_killed_create_of_a_user_is_found_from_another_cgroup,
    a_cgroup_below_is_the_containers,
    a_cgroup_below_has_the_controllers_and_no_limit,
    commands_find_the_processes_in_the_cgroup_below,
    a_restored_container_is_in_the_cgroup_below,
    a_bad_name_of_a_cgroup_below_is_refused,
    a_cgroup_below_is_refused_on_version_1,
    a_cgroup_below_that_cannot_be_entered_leaves_nothing,
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

const BELOW: &str = "run.oci.delegate-cgroup";

fn a_cgroup_below_is_the_containers(t: &Test) {
    let script = "grep ^0: /proc/self/cgroup; cd /sys/fs/cgroup; stat -c %u payload payload/cgroup.procs payload/cgroup.freeze; \
        mkdir payload/own && echo 0 > payload/own/cgroup.procs && grep ^0: /proc/self/cgroup";
    let below =
        |name: &str| container(t, "rw").sh(script).set("/annotations", json!({BELOW: name}));
    for name in ["payload", "/payload/", "payload//"] {
        let output = on_v2(t, below(name).bundle_call("run", &[])).ok();
        output.prints("0::/payload\n0\n0\n65534\n0::/payload/own\n");
        t.assert_nothing_left();
    }
    // Where the container sees nothing of it, and with a hook that is to find it there.
    let c = container(t, "ro").without_namespace("cgroup").sh("cat /proc/self/cgroup");
    let c = c.set("/annotations", json!({BELOW: "a/b"}));
    let c = c.hook(
        "createRuntime",
        "grep '^0::' /proc/$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')/cgroup >&2; exit 3",
    );
    let output = on_v2(t, c.bundle_call("run", &[])).fails();
    output.names(&format!("/{}/a/b", c.id));
    t.assert_nothing_left();
    // The name of none.
    let none = container(t, "rw").args(&["cat", "/proc/self/cgroup"]);
    let none = none.set("/annotations", json!({BELOW: ""}));
    assert!(on_v2(t, none.bundle_call("run", &[])).ok().stdout.contains("0::/\n"));
    t.assert_nothing_left();
}

fn a_cgroup_below_has_the_controllers_and_no_limit(t: &Test) {
    t.need_layout(Layout::V2);
    let c = container(t, "rw")
        .set("/linux/resources", json!({"pids": {"limit": 20}, "memory": {"limit": 100 << 20}}))
        .set("/annotations", json!({BELOW: "payload"}))
        .lasting();
    c.create();
    let top = t.host.v2(&format!("/{}", c.id), "");
    let read = |name: &str| fs::read_to_string(top.join(name)).unwrap().trim().to_owned();
    assert_eq!((read("pids.max").as_str(), read("payload/pids.max").as_str()), ("20", "max"));
    assert_eq!(read("payload/memory.max"), "max");
    assert_eq!(read("cgroup.procs"), "");
    assert_eq!(read("payload/cgroup.procs"), c.pid().to_string());
    let controllers = read("payload/cgroup.controllers");
    for name in ["cpu", "memory", "pids"] {
        assert!(controllers.split(' ').any(|on| on == name), "{name}: {controllers}");
    }
    c.call("update", &["--pids-limit", "21"]).run().ok();
    assert_eq!((read("pids.max").as_str(), read("payload/pids.max").as_str()), ("21", "max"));
    c.start().ok();
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn commands_find_the_processes_in_the_cgroup_below(t: &Test) {
    let c = container(t, "rw").set("/annotations", json!({BELOW: "payload"})).lasting();
    let pid = c.dir.join("pid").display().to_string();
    on_v2(t, c.bundle_call("create", &["--pid-file", &pid])).ok();
    on_v2(t, c.call("start", &[])).ok();
    let exec = |args: &[&str]| on_v2(t, c.exec_with(&[], args)).ok();
    assert!(exec(&["cat", "/proc/self/cgroup"]).stdout.contains("0::/payload\n"));
    let ps = on_v2(t, c.call("ps", &["--format", "json"])).ok();
    assert_eq!(ps.stdout.trim(), format!("[{}]", c.pid()));
    on_v2(t, c.call("pause", &[])).ok();
    let state = on_v2(t, c.call("state", &[])).ok();
    assert!(state.stdout.contains("\"paused\""), "{state}");
    on_v2(t, c.call("resume", &[])).ok();
    // It makes room for itself elsewhere, and has what was made for it gone: exec follows.
    exec(&[
        "sh",
        "-c",
        "cd /sys/fs/cgroup; mkdir other; echo 1 > other/cgroup.procs; echo 0 > other/cgroup.procs; rmdir payload",
    ]);
    let followed = exec(&["cat", "/proc/self/cgroup"]).stdout;
    assert!(followed.contains("0::/\n") || followed.contains("0::/other\n"), "{followed}");
    on_v2(t, t.call(&["kill", &c.id, "KILL"])).ok();
    on_v2(t, c.call("delete", &["--force"])).ok();
    t.assert_nothing_left();
}

fn a_restored_container_is_in_the_cgroup_below(t: &Test) {
    t.need_layout(Layout::V2);
    let c = t
        .container()
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .set("/linux/resources", json!({"pids": {"limit": 20}}))
        .set("/annotations", json!({BELOW: "payload"}))
        .sh(checkpoint::COUNTING);
    c.run_detached();
    checkpoint::checkpoint(&c, &[]).run().ok();
    checkpoint::restore(&c, &[]).run().ok();
    let read = |name: &str| {
        let file = t.host.v2(&format!("/{}", c.id), name);
        fs::read_to_string(file).unwrap().trim().to_owned()
    };
    let procs = read("payload/cgroup.procs");
    assert!(procs.lines().any(|pid| pid == c.pid().to_string()), "{procs}");
    assert_eq!(read("cgroup.procs"), "");
    assert_eq!((read("pids.max").as_str(), read("payload/pids.max").as_str()), ("20", "max"));
    assert!(c.exec(&["cat", "/proc/self/cgroup"]).ok().stdout.ends_with("0::/payload\n"));
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn a_bad_name_of_a_cgroup_below_is_refused(t: &Test) {
    let long = "x".repeat(256);
    let deep = "x/".repeat(600);
    for name in [
        "..",
        "../x",
        "a/../b",
        "a/..",
        ".",
        "/",
        "//",
        "cgroup.procs",
        "a b",
        "a\nb",
        "a\0b",
        &long,
        &deep,
    ] {
        let c = container(t, "rw").set("/annotations", json!({BELOW: name}));
        let output = on_v2(t, c.bundle_call("run", &[])).fails();
        output.names("annotations[\"run.oci.delegate-cgroup\"]");
        t.assert_nothing_left();
    }
    let c = container(t, "rw").set("/annotations", json!({BELOW: "payload"}));
    let output = on_v2(t, c.bundle_call("run", &[]).global(&["--cgroup-manager", "disabled"]));
    output.fails().names("annotations[\"run.oci.delegate-cgroup\"]");
    t.assert_nothing_left();
}

fn a_cgroup_below_is_refused_on_version_1(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has none");
    t.need_layout(Layout::V1);
    let c = t.container().set("/annotations", json!({BELOW: "payload"}));
    let output = c.run();
    match t.kind() {
        Kind::Crun => drop(output.not_ok()),
        _ => drop(
            output.fails().names("annotations[\"run.oci.delegate-cgroup\"]").names("version 2"),
        ),
    }
    t.assert_nothing_left();
}

fn a_cgroup_below_that_cannot_be_entered_leaves_nothing(t: &Test) {
    // A hook's daemon could stay in the container's own; a limit on cgroups stands for all that can fail.
    t.need_layout(Layout::V2);
    let parent = format!("/{}-pod", t.id);
    let directory = t.host.v2(&parent, "");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("cgroup.max.depth"), "1").unwrap();
    let c = container(t, "rw")
        .set("/linux/cgroupsPath", json!(format!("{parent}/{}", t.id)))
        .set("/annotations", json!({BELOW: "payload"}));
    c.run().fails().names("annotations[\"run.oci.delegate-cgroup\"]");
    fs::remove_dir(&directory).unwrap();
    t.assert_nothing_left();
}
