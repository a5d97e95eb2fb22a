//! `mounts add` and `mounts remove`: the mounts of a running container.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use serde_json::Value;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json, say};
use crate::mounts::{HostMount, host_dir, seen};

cases![
    mounts_come_and_go,
    a_created_container_gets_mounts,
    a_paused_container_gets_mounts,
    the_list_may_be_on_standard_input,
    attributes_and_options_are_set,
    relative_sources_are_in_the_bundle,
    mounts_in_a_user_namespace,
    an_id_mapped_mount_is_added,
    an_id_mapped_mount_of_the_containers_own_ids,
    the_host_sees_nothing,
    one_mount_on_another,
    all_or_none_are_added,
    all_or_none_are_removed,
    a_symlink_does_not_lead_out,
    what_protects_the_host_is_not_removed,
    a_target_below_proc_is_refused,
    what_cannot_be_added_is_refused,
    the_root_cannot_be_removed,
    a_container_that_does_not_run,
    a_container_in_the_hosts_mount_namespace,
    a_list_that_is_none,
    the_command_line,
    a_program_that_uses_the_mount_goes_on,
];

fn change(c: &Container<'_>, word: &str, mounts: &Value) -> Output {
    c.test.need(c.test.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let file = c.test.path("mounts.json");
    fs::write(&file, mounts.to_string()).unwrap();
    c.test.call(&["mounts", word, &c.id, file.to_str().unwrap()]).run()
}

fn running(t: &Test) -> Container<'_> {
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let c = t.container().lasting();
    c.run_detached();
    c
}

fn inside(c: &Container<'_>) -> String {
    c.exec(&["cat", "/proc/self/mountinfo"]).ok().stdout
}

fn mount_points(c: &Container<'_>) -> Vec<String> {
    inside(c).lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

fn mounts_come_and_go(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    let before = mount_points(&c);
    let list = json!([
        {"destination": "/new/dir", "type": "bind", "source": dir, "options": ["bind", "ro"]},
        {"destination": "/new/file", "type": "bind", "source": format!("{dir}/file"), "options": ["bind"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]);
    change(&c, "add", &list).ok().no_stdout();
    c.exec(&["cat", "/new/dir/file", "/new/file"]).ok().prints("from the host\nfrom the host\n");
    assert_eq!(seen(&inside(&c), "/tmp").kind, "tmpfs");
    change(&c, "remove", &list).ok().no_stdout();
    assert_eq!(mount_points(&c), before);
    c.exec(&["cat", "/new/dir/file"]).not_ok();
}

fn a_created_container_gets_mounts(t: &Test) {
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    let c = t.container().sh("cat /new/file > /out");
    c.create();
    change(&c, "add", &json!([{"destination": "/new", "source": dir, "options": ["rbind"]}])).ok();
    c.start().ok();
    c.wait_exit();
    assert_eq!(c.read("/out"), "from the host\n");
}

fn a_paused_container_gets_mounts(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    c.call("pause", &[]).run().ok();
    change(&c, "add", &json!([{"destination": "/new", "source": dir, "options": ["rbind"]}])).ok();
    c.call("resume", &[]).run().ok();
    c.exec(&["cat", "/new/file"]).ok().prints("from the host\n");
}

fn the_list_may_be_on_standard_input(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    let list = json!([{"destination": "/new", "source": dir, "options": ["rbind"]}]).to_string();
    t.call(&["mounts", "add", &c.id, "-"]).stdin(list).run().ok();
    c.exec(&["cat", "/new/file"]).ok().prints("from the host\n");
}

fn attributes_and_options_are_set(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let c = running(t);
    let list = json!([
        {"destination": "/one", "source": dir, "options": ["rbind", "rro", "nosuid", "noexec", "noatime", "shared"]},
        {"destination": "/two", "type": "tmpfs", "source": "two", "options": ["size=64k", "mode=750", "nodev"]},
        {"destination": "/etc", "type": "tmpfs", "source": "etc", "options": ["tmpcopyup"]},
    ]);
    change(&c, "add", &list).ok();
    let text = inside(&c);
    let one = seen(&text, "/one");
    for option in ["ro", "nosuid", "noexec", "noatime"] {
        assert!(one.has(option), "{option}: {text}");
    }
    assert!(one.optional.contains("shared:") && seen(&text, "/one/sub").has("ro"), "{text}");
    let two = seen(&text, "/two");
    assert!(two.has("nodev") && two.superblock.contains("size=64k"), "{text}");
    c.exec(&["stat", "-c", "%a", "/two"]).ok().prints("750\n");
    assert!(c.exec(&["cat", "/etc/passwd"]).ok().stdout.starts_with("root:"));
}

fn relative_sources_are_in_the_bundle(t: &Test) {
    let c = running(t);
    fs::create_dir(c.dir.join("volume")).unwrap();
    fs::write(c.dir.join("volume/file"), "in the bundle\n").unwrap();
    let list = json!([{"destination": "/new", "source": "volume", "options": ["bind"]}]);
    change(&c, "add", &list).ok();
    c.exec(&["cat", "/new/file"]).ok().prints("in the bundle\n");
}

/// A running container with a user namespace and a directory of its own at /data.
fn in_a_user_namespace(t: &Test) -> Container<'_> {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let c = t.container().user_namespace(231_072).lasting();
    fs::create_dir(c.path("/data")).unwrap();
    chown(c.path("/data"), Some(231_072), Some(231_072)).unwrap();
    c.run_detached();
    c
}

fn mounts_in_a_user_namespace(t: &Test) {
    let dir = host_dir(t, "private/dir");
    let c = in_a_user_namespace(t);
    let list = json!([
        {"destination": "/data/dir", "source": dir, "options": ["rbind", "ro"]},
        {"destination": "/data/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]);
    change(&c, "add", &list).ok();
    c.exec(&["cat", "/data/dir/file"]).ok().prints("from the host\n");
    c.exec(&["stat", "-c", "%u:%g", "/data/tmp"]).ok().prints("0:0\n");
    assert_eq!(fs::metadata(c.path("/data/dir")).unwrap().uid(), 231_072);
    change(&c, "remove", &list).ok();
    assert!(!mount_points(&c).iter().any(|point| point.starts_with("/data")));
}

fn an_id_mapped_mount_is_added(t: &Test) {
    let dir = host_dir(t, "dir");
    let maps = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let c = running(t);
    let list = json!([{"destination": "/new", "source": dir, "options": ["bind"],
        "uidMappings": maps, "gidMappings": maps}]);
    change(&c, "add", &list).ok();
    c.exec(&["stat", "-c", "%u:%g", "/new/file"]).ok().prints("5000:5000\n");
}

fn an_id_mapped_mount_of_the_containers_own_ids(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = in_a_user_namespace(t);
    let source = c.path("/data/first").display().to_string();
    let list = json!([
        {"destination": "/data/first", "source": dir, "options": ["bind"]},
        {"destination": "/data/second", "source": dir, "options": ["bind", "idmap"]},
        {"destination": "/data/third", "source": source, "options": ["bind", "idmap"]},
    ]);
    change(&c, "add", &list).ok();
    c.exec(&["stat", "-c", "%u", "/data/first/file", "/data/second/file", "/data/third/file"])
        .ok()
        .prints("65534\n0\n0\n");
}

fn the_host_sees_nothing(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    let before = crate::harness::test::host_mounts(t);
    let list = json!([
        {"destination": "/new", "source": dir, "options": ["rbind", "rslave"]},
        {"destination": "/new/sub", "type": "tmpfs", "source": "tmpfs"},
    ]);
    change(&c, "add", &list).ok();
    assert_eq!(crate::harness::test::host_mounts(t), before);
    assert_eq!(fs::read_dir(format!("{dir}/sub")).unwrap().count(), 0);
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn one_mount_on_another(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    let before = mount_points(&c);
    let list = json!([
        {"destination": "/new", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/new/dir", "source": dir, "options": ["bind"]},
        {"destination": "/new/dir/sub", "type": "tmpfs", "source": "tmpfs"},
    ]);
    change(&c, "add", &list).ok();
    assert_eq!(mount_points(&c).len(), before.len() + 3);
    change(&c, "remove", &list).ok();
    assert_eq!(mount_points(&c), before);
}

fn all_or_none_are_added(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    let before = inside(&c);
    let good = json!({"destination": "/one", "source": dir, "options": ["bind"]});
    let tmpfs = json!({"destination": "/one/sub", "type": "tmpfs", "source": "tmpfs"});
    for bad in [
        json!({"destination": "/etc", "source": format!("{dir}/file"), "options": ["bind"]}),
        json!({"destination": "/three", "source": "/not/there", "options": ["bind"]}),
        json!({"destination": "/three", "type": "tmpfs", "options": ["nonsense=1"]}),
        json!({"destination": "/three", "type": "nonsensefs"}),
    ] {
        change(&c, "add", &json!([good, tmpfs, bad])).fails().names("mounts[2]");
        assert_eq!(inside(&c).lines().count(), before.lines().count(), "{bad}");
    }
}

fn all_or_none_are_removed(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    let list = json!([{"destination": "/new", "source": dir, "options": ["bind"]}]);
    change(&c, "add", &list).ok();
    for bad in ["/etc", "/not/there", "/new/file"] {
        let both = json!([{"destination": "/new"}, {"destination": bad}]);
        change(&c, "remove", &both).fails().names("mounts[1].destination").names(bad);
        c.exec(&["cat", "/new/file"]).ok();
    }
    change(&c, "remove", &json!([{"destination": "/new"}])).ok();
    change(&c, "remove", &list).fails();
}

fn a_symlink_does_not_lead_out(t: &Test) {
    let outside = host_dir(t, "outside");
    let source = host_dir(t, "source");
    let c = running(t);
    symlink(&outside, c.path("/link")).unwrap();
    let list = json!([{"destination": "/link/new", "source": source, "options": ["bind"]}]);
    change(&c, "add", &list);
    assert!(fs::metadata(format!("{outside}/new")).is_err());
    // Inside it is where the link leads there.
    let within = format!("{outside}/new");
    assert!(mount_points(&c).contains(&within), "{}", inside(&c));
    // What is detached has to be named itself: the container makes the links.
    change(&c, "remove", &list).fails().names("/link/new").names("symlink");
    change(&c, "remove", &json!([{"destination": within}])).ok();
    assert!(!mount_points(&c).contains(&within));
}

/// The container replaces the place of a mount that is to be removed by the way to what protects the host from it.
fn what_protects_the_host_is_not_removed(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .lasting()
        .set("/linux/maskedPaths", json!(["/proc/keys", "/secret/dir", "/secret/file"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/kept"]))
        .file("/secret/dir/a", "a", 0o644)
        .file("/secret/file", "b", 0o644)
        .file("/kept/c", "c", 0o644);
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    c.run_detached();
    let before = mount_points(&c).len();
    for (way, there) in [
        ("ln -s /proc/sys /srv/data", "/srv/data"),
        ("ln -s /proc/keys /srv/data", "/srv/data"),
        ("ln -s /kept /srv/data", "/srv/data"),
        ("rmdir /srv; mv /secret /srv", "/srv/dir"),
        ("rmdir /srv; mv /secret /srv", "/srv/file"),
        ("true", "/proc/sys"),
        ("true", "/proc/keys"),
        ("true", "/kept"),
    ] {
        let list = json!([{"destination": "/srv/data", "source": dir, "options": ["bind"]}]);
        change(&c, "add", &list).ok();
        let script = format!("mv /srv /old && mkdir /srv && {{ {way}; }}");
        c.exec(&["sh", "-c", &script]).ok();
        change(&c, "remove", &json!([{"destination": there}])).fails().names(there);
        // And all is as it was.
        let script = "[ -d /srv/dir ] && mv /srv /secret; rm -rf /srv; mv /old /srv";
        c.exec(&["sh", "-c", script]).ok();
        change(&c, "remove", &list).ok();
        assert_eq!(mount_points(&c).len(), before, "{way} {there}: {}", inside(&c));
    }
}

fn a_target_below_proc_is_refused(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = running(t);
    symlink("proc", c.path("/way")).unwrap();
    for target in ["/proc", "/proc/self", "/proc/sys", "/way/self", "/way/sys/kernel"] {
        let list = json!([{"destination": target, "source": dir, "options": ["bind"]}]);
        change(&c, "add", &list).fails().names("mounts[0]");
    }
    c.exec(&["cat", "/proc/self/comm"]).ok().prints("cat\n");
}

fn what_cannot_be_added_is_refused(t: &Test) {
    let c = running(t);
    for mount in [
        json!({"destination": "/new", "type": "proc", "source": "proc"}),
        json!({"destination": "/new", "type": "cgroup", "source": "cgroup"}),
        json!({"destination": "/new", "type": "cgroup2", "source": "cgroup"}),
        json!({"destination": "/dev", "type": "tmpfs", "options": ["remount", "ro"]}),
        json!({"destination": "/", "type": "tmpfs"}),
        json!({"destination": "/", "type": "overlay", "options": ["lowerdir=/bin:/etc"]}),
        json!({"destination": "", "type": "tmpfs"}),
        json!({"type": "tmpfs"}),
        json!({"destination": "/new"}),
        json!({"destination": "/new", "source": "/", "options": ["bind", "lowerdir=/"]}),
    ] {
        // cgroup2 is a file system like any other on a host of version 1.
        let output = change(&c, "add", &json!([mount]));
        if mount["type"] != "cgroup2" {
            output.fails().names("mounts[0]");
        }
    }
}

fn the_root_cannot_be_removed(t: &Test) {
    let c = running(t);
    for target in ["/", "", "//", "/etc/.."] {
        let list = json!([{"destination": target}]);
        change(&c, "remove", &list).fails().names("mounts[0].destination");
    }
    c.exec(&["true"]).ok();
}

fn a_container_that_does_not_run(t: &Test) {
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    let list = json!([{"destination": "/new", "source": dir, "options": ["bind"]}]);
    let c = t.container();
    change(&c, "add", &list).fails().says(&say::NO_SUCH_CONTAINER);
    c.run_detached();
    c.wait_exit();
    for word in ["add", "remove"] {
        change(&c, word, &list).fails().says(&say::NOT_RUNNING);
    }
}

fn a_container_in_the_hosts_mount_namespace(t: &Test) {
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .without_namespace("mount")
        .set("/mounts", json!([]))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .lasting();
    c.run_detached();
    let list = json!([{"destination": "/new", "source": dir, "options": ["bind"]}]);
    for word in ["add", "remove"] {
        change(&c, word, &list).fails().names("mount namespace");
    }
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn a_list_that_is_none(t: &Test) {
    let c = running(t);
    for list in [json!({}), json!("x"), json!([1]), json!([{"destination": 1}]), json!(null)] {
        change(&c, "add", &list).fails();
        change(&c, "remove", &list).fails();
    }
    change(&c, "add", &json!([])).ok();
    change(&c, "remove", &json!([])).ok();
    t.call(&["mounts", "add", &c.id, "/not/there"]).run().fails().names("/not/there");
    t.call(&["mounts", "add", &c.id, "/"]).run().fails();
}

fn the_command_line(t: &Test) {
    let c = running(t);
    t.call(&["mounts"]).run().fails();
    t.call(&["mounts", "add", &c.id]).run().fails();
    t.call(&["mounts", "list", &c.id, "/dev/null"]).run().fails().names("list");
    t.call(&["mounts", "add", "../x", "/dev/null"]).run().fails().says(&say::ID_INVALID);
    let help = t.bare_call(&["mounts", "--help"]).run().ok();
    assert!(help.stdout.contains("add|remove <container-id> <file>"), "{help}");
}

fn a_program_that_uses_the_mount_goes_on(t: &Test) {
    let dir = host_dir(t, "dir");
    t.need(t.kind() == Kind::Skep, "a command of crun's, newer than 1.8");
    let c = t.container().sh(
        "until [ -e /new/file ]; do sleep 0.02; done; exec 3< /new/file; echo ready > /ready; \
         while [ -e /new/file ]; do sleep 0.02; done; cat <&3 > /out",
    );
    c.run_detached();
    let list = json!([{"destination": "/new", "source": dir, "options": ["bind"]}]);
    change(&c, "add", &list).ok();
    c.wait_file("/ready");
    change(&c, "remove", &list).ok();
    c.wait_exit();
    assert_eq!(c.read("/out"), "from the host\n");
}
