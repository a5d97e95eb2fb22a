//! Sentences of the specification that nobody else's test touches: what may be left out, what is let go, what is not.

use std::fs;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json, wait};
use crate::mounts::{HostMount, host_dir, mountinfo, seen, showing};

cases![
    an_annotation_without_a_key_is_refused,
    a_container_without_a_linux_section,
    a_console_size_without_a_terminal_is_ignored,
    numbers_that_are_absent_are_zero,
    the_last_names_of_mount_options_are_known,
    another_device_in_the_place_of_a_listed_one_is_refused,
    a_read_only_root_in_a_user_namespace_keeps_its_locked_flags,
    realtime_is_handed_down_to_a_nested_cgroup,
    features_has_the_version_and_the_commit,
    an_unbindable_mount_without_a_mount_namespace_is_refused,
    the_arguments_of_the_runtime_are_not_seen_inside,
];

fn an_annotation_without_a_key_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun let it go");
    t.container()
        .set("/annotations", json!({"a": "b", "": "c"}))
        .run()
        .fails()
        .names("annotations");
    t.assert_nothing_left();
}

fn a_container_without_a_linux_section(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun and runc want it, or what is in it");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let c = t.container().unset("/linux").unset("/hostname").unset("/mounts");
    let c = c.sh("cat /etc/passwd | head -n 1 | cut -c 1-4; readlink /proc/self/ns/mnt; ls /");
    let output = c.run().ok();
    assert!(output.stdout.starts_with("root\n"), "{output}");
    assert!(!output.stdout.contains("mnt:["), "{output}");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    // The whole life of one, with mounts.
    let c = t.container().unset("/linux").unset("/hostname").lasting();
    c.create();
    c.start().ok();
    c.exec(&["true"]).ok();
    c.delete_force().ok();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    t.assert_nothing_left();
}

fn a_console_size_without_a_terminal_is_ignored(t: &Test) {
    let c = t.container().set("/process/consoleSize", json!({"height": 31, "width": 77}));
    c.sh("test -t 0 || echo none").run().ok().prints("none\n");
}

fn numbers_that_are_absent_are_zero(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun wants them");
    let c = t.container();
    let c = c.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_CORE"}, {"type": "RLIMIT_DATA", "hard": 3_000_000_000_u64}]),
    );
    let c = c.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE"}));
    let c = c.set(
        "/linux/resources/devices",
        json!([{"allow": true, "access": "rwm"}, {"access": "rwm"}]),
    );
    let c = c.push("/process/capabilities/bounding", json!("CAP_MKNOD"));
    c.sh("grep -E 'core|data' /proc/self/limits | grep -oE '[0-9]+ +[0-9]+' | tr -s ' '; ionice -p $$")
        .run()
        .ok()
        .prints("0 3000000000\n0 0\nbest-effort: prio 0\n");
}

fn the_last_names_of_mount_options_are_known(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun 1.8 and runc 1.1 lack some");
    let dir = host_dir(t, "dir");
    let c = showing(t)
        .mount("/a", "tmpfs", "tmpfs", &["strictatime", "nostrictatime"])
        .mount("/b", "tmpfs", "tmpfs", &["lazytime", "nolazytime", "mand"])
        .mount("/c", "bind", &dir, &["bind", "mand", "nomand"]);
    let text = mountinfo(&c);
    assert!(seen(&text, "/a").has("relatime"), "{text}");
    let superblock = format!(",{},", seen(&text, "/b").superblock);
    assert!(!superblock.contains(",lazytime,") && !superblock.contains(",mand,"), "{text}");
    assert!(!seen(&text, "/c").has("mand"), "{text}");
}

fn another_device_in_the_place_of_a_listed_one_is_refused(t: &Test) {
    t.need_capability("CAP_MKNOD");
    let listed = json!([{"type": "c", "path": "/it", "major": 1, "minor": 5}]);
    for (kind, minor) in [(SFlag::S_IFCHR, 3), (SFlag::S_IFBLK, 5), (SFlag::S_IFIFO, 5)] {
        let c = t.container().set("/linux/devices", listed.clone());
        let number = if kind == SFlag::S_IFIFO { 0 } else { makedev(1, minor) };
        mknod(&c.path("/it"), kind, Mode::S_IRUSR, number).unwrap();
        let output = c.run();
        if t.kind() == Kind::Skep {
            output.fails().names("/it");
        }
    }
    let c = t.container().set("/linux/devices", listed).sh("stat -c %t:%T /it");
    mknod(&c.path("/it"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 5)).unwrap();
    c.run().ok().prints("1:5\n");
    t.assert_nothing_left();
}

fn a_read_only_root_in_a_user_namespace_keeps_its_locked_flags(t: &Test) {
    t.need_user_namespaces();
    let c = showing(t).user_namespace(231_072).set("/root/readonly", json!(true));
    let root = HostMount::bind(t, c.rootfs().to_str().unwrap());
    root.attributes("nosuid,nodev,noatime");
    let text = mountinfo(&c);
    for option in ["ro", "nosuid", "nodev", "noatime"] {
        assert!(seen(&text, "/").has(option), "{option}: {text}");
    }
}

/// sched-rt-group: each ancestor needs its share first.
fn realtime_is_handed_down_to_a_nested_cgroup(t: &Test) {
    t.need(t.host.layout == Layout::V1, "version 2 has no realtime CPU time");
    t.need(
        t.host.has_cgroup_file(("cpu", "cpu.rt_runtime_us"), ""),
        "this kernel does not limit realtime CPU time",
    );
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 leave the parents alone");
    let c = t.container().lasting();
    let path = format!("/{}/inner", c.id);
    let c = c.set("/linux/cgroupsPath", json!(path)).set(
        "/linux/resources/cpu",
        json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 5_000}),
    );
    c.run_detached();
    for cgroup in [&path, &format!("/{}", c.id)] {
        let file = t.host.v1("cpu", cgroup, "cpu.rt_runtime_us");
        assert_eq!(fs::read_to_string(file).unwrap().trim(), "5000", "{cgroup}");
    }
    c.delete_force().ok();
    for dir in t.cgroups() {
        fs::remove_dir(&dir).unwrap();
    }
}

fn features_has_the_version_and_the_commit(t: &Test) {
    t.need(t.kind() == Kind::Skep, "names of its own");
    let features = t.bare_call(&["features"]).run().ok().json();
    let version = t.bare_call(&["--version"]).run().ok().stdout;
    let annotations = features["annotations"].as_object().unwrap();
    for (end, line) in [(".version", "skep version "), (".commit", "commit: ")] {
        let found = annotations.iter().find(|(key, _)| key.ends_with(end));
        let (_, value) = found.unwrap_or_else(|| panic!("no {end} in {features}"));
        assert!(version.contains(&format!("{line}{}\n", value.as_str().unwrap())), "{version}");
    }
}

fn an_unbindable_mount_without_a_mount_namespace_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun mount on the host");
    let c = t.container().without_namespace("mount");
    let c = c.unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
    let c = c.mount("/mnt", "tmpfs", "tmpfs", &["unbindable"]);
    c.run().fails().names("mounts[6].options");
    t.assert_nothing_left();
}

/// The processes of the container see that of an exec before it is the program: nothing of the host's paths.
fn the_arguments_of_the_runtime_are_not_seen_inside(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun show theirs");
    t.need(t.host.layout == Layout::V1, "on version 2 it is born frozen");
    let c = t.container().lasting();
    c.run_detached();
    c.call("pause", &[]).run().ok();
    let exec = c.exec_with(&["--ignore-paused"], &["echo", "a-word-of-the-call"]).spawn();
    let tasks = t.host.v1("freezer", &c.id, "tasks");
    let pid = wait::until("the exec is in the container", || {
        let pids = fs::read_to_string(&tasks).unwrap();
        pids.lines().find(|pid| **pid != c.pid().to_string()).map(str::to_owned)
    });
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    c.call("resume", &[]).run().ok();
    exec.wait().ok().prints("a-word-of-the-call\n");
    assert!(!words.contains("a-word-of-the-call") && !words.contains(&c.id), "{words:?}");
}
