//! linux.namespaces, hostname, domainname, sysctl and id mappings.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};

cases![
    every_listed_namespace_is_new,
    an_empty_path_is_a_new_namespace,
    a_namespace_not_listed_is_that_of_the_caller,
    a_container_without_any_new_namespace_but_mount,
    a_namespace_is_joined_by_path,
    a_pid_namespace_is_joined_by_path,
    a_user_namespace_is_joined_by_path,
    mappings_beside_a_path_are_those_of_the_namespace,
    a_mount_namespace_is_joined_by_path,
    a_namespace_path_of_another_kind_is_refused,
    a_namespace_path_that_does_not_exist_is_refused,
    a_duplicate_namespace_is_refused,
    an_unknown_namespace_is_refused,
    a_network_namespace_has_loopback_up,
    a_cgroup_namespace_hides_the_path,
    hostname_is_set,
    hostname_is_set_in_a_joined_namespace,
    hostname_without_a_namespace_is_refused,
    domainname_is_set,
    domainname_without_a_namespace_is_refused,
    sysctl_is_set,
    a_sysctl_with_slashes_is_accepted,
    an_ipc_sysctl_is_set,
    a_sysctl_outside_the_namespaces_is_refused,
    a_sysctl_of_a_shared_namespace_is_refused,
    the_hostname_sysctl_is_refused,
    an_unknown_sysctl_is_refused,
    a_sysctl_key_that_climbs_is_refused,
    id_mappings_are_written,
    several_id_mappings_are_written,
    root_in_a_user_namespace_owns_its_devices,
    half_of_the_mappings_is_refused,
    mappings_without_a_user_namespace_are_refused,
    overlapping_mappings_are_refused,
    setgroups_works_in_a_user_namespace,
    a_host_pid_container_is_killed_whole,
    without_a_mount_namespace,
    exec_without_a_mount_namespace_stays_inside,
];

fn namespace(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

const OWN: &str = "self";

fn own(name: &str) -> String {
    fs::read_link(format!("/proc/{OWN}/ns/{name}")).unwrap().display().to_string()
}

fn every_listed_namespace_is_new(t: &Test) {
    let c = t.container().lasting().push("/linux/namespaces", json!({"type": "cgroup"}));
    c.run_detached();
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(namespace(c.pid(), name), own(name), "{name}");
    }
}

fn an_empty_path_is_a_new_namespace(t: &Test) {
    let kinds = ["pid", "network", "ipc", "uts", "mount"];
    let list: Vec<_> = kinds.iter().map(|kind| json!({"type": kind, "path": ""})).collect();
    let c = t.container().set("/linux/namespaces", json!(list)).lasting();
    c.create();
    for name in ["pid", "net", "ipc", "uts", "mnt"] {
        assert_ne!(namespace(c.pid(), name), namespace(std::process::id() as i32, name), "{name}");
    }
}

fn a_namespace_not_listed_is_that_of_the_caller(t: &Test) {
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("pid", "pid")] {
        let c = t.container().lasting().without_namespace(kind);
        let c = if kind == "network" { c.without_mount("/sys") } else { c };
        c.run_detached();
        assert_eq!(namespace(c.pid(), name), own(name), "{name}");
        assert_ne!(namespace(c.pid(), "mnt"), own("mnt"));
        c.delete_force().ok();
    }
    let c = t.container().lasting().without_namespace("uts").unset("/hostname");
    c.run_detached();
    for name in ["uts", "user", "cgroup"] {
        assert_eq!(namespace(c.pid(), name), own(name), "{name}");
    }
}

fn a_container_without_any_new_namespace_but_mount(t: &Test) {
    let c = t
        .container()
        .set("/linux/namespaces", json!([{"type": "mount"}]))
        .unset("/hostname")
        .without_mount("/sys")
        .without_mount("/proc")
        .mount("/proc", "bind", "/proc", &["rbind", "ro"])
        .unset("/linux/maskedPaths")
        .unset("/linux/readonlyPaths")
        .sh("echo hello");
    c.run().ok().prints("hello\n");
    t.assert_nothing_left();
}

fn a_namespace_is_joined_by_path(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    let mut second = t.container().lasting();
    for (index, name) in [(1, "net"), (2, "ipc"), (3, "uts")] {
        let path = format!("/proc/{}/ns/{name}", first.pid());
        second = second.set(&format!("/linux/namespaces/{index}/path"), json!(path));
    }
    let second = second.unset("/hostname");
    second.run_detached();
    for name in ["net", "ipc", "uts"] {
        assert_eq!(namespace(second.pid(), name), namespace(first.pid(), name), "{name}");
    }
    for name in ["pid", "mnt"] {
        assert_ne!(namespace(second.pid(), name), namespace(first.pid(), name), "{name}");
    }
    second.exec(&["hostname"]).ok().prints("blackbox\n");
}

fn a_pid_namespace_is_joined_by_path(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    let path = format!("/proc/{}/ns/pid", first.pid());
    let second = t.container().set("/linux/namespaces/0/path", json!(path)).lasting();
    second.run_detached();
    assert_eq!(namespace(second.pid(), "pid"), namespace(first.pid(), "pid"));
    let inside = second.exec(&["cat", "/proc/1/cmdline"]).ok();
    assert_eq!(inside.stdout, "sleep\x001000\0");
    // One container's end is not the other's.
    second.delete_force().ok();
    assert_eq!(first.status(), "running");
}

fn a_user_namespace_is_joined_by_path(t: &Test) {
    t.need_user_namespaces();
    let first = t.container().lasting().user_namespace(100_000);
    first.run_detached();
    let path = format!("/proc/{}/ns/user", first.pid());
    let second = t
        .container()
        .lasting()
        .without_mount("/sys")
        .without_mount("/dev/mqueue")
        .push("/linux/namespaces", json!({"type": "user", "path": path}));
    second.run_detached();
    assert_eq!(namespace(second.pid(), "user"), namespace(first.pid(), "user"));
    let status = fs::read_to_string(format!("/proc/{}/status", second.pid())).unwrap();
    assert!(status.contains("Uid:\t100000\t"), "{status}");
}

fn mappings_beside_a_path_are_those_of_the_namespace(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let first = t.container().lasting().user_namespace(100_000);
    first.run_detached();
    let path = format!("/proc/{}/ns/user", first.pid());
    let second = || {
        let c = t.container().user_namespace(100_000).without_namespace("user");
        c.push("/linux/namespaces", json!({"type": "user", "path": path}))
    };
    second().run().ok();
    for (field, host) in [("uidMappings", 0), ("gidMappings", 100_001)] {
        let map = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        let output = second().set(&format!("/linux/{field}"), map).run().fails();
        output.names("non-matching mapping").names(&format!("linux.{field}"));
    }
    first.delete_force().ok();
    t.assert_nothing_left();
}

fn a_mount_namespace_is_joined_by_path(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    let path = format!("/proc/{}/ns/mnt", first.pid());
    // The root directory of a process that joins is the root of that namespace: there must be a rootfs in it.
    let second = t
        .container()
        .set("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount", "path": path}]))
        .unset("/hostname");
    let output = second.run();
    // Nobody relies on it; what counts is that it is either done or refused without a trace.
    if output.code != Some(0) {
        output.not_ok();
    }
    assert_eq!(first.status(), "running");
}

fn a_namespace_path_of_another_kind_is_refused(t: &Test) {
    let c = t.container().set("/linux/namespaces/1/path", json!("/proc/self/ns/ipc"));
    c.run().fails();
    t.assert_nothing_left();
}

fn a_namespace_path_that_does_not_exist_is_refused(t: &Test) {
    let c = t.container().set("/linux/namespaces/1/path", json!("/no/such/namespace"));
    c.run().fails().names("/no/such/namespace");
    t.assert_nothing_left();
    let c = t.container().set("/linux/namespaces/1/path", json!("/dev/null"));
    c.run().fails();
    t.assert_nothing_left();
}

fn a_duplicate_namespace_is_refused(t: &Test) {
    let c = t.container().push("/linux/namespaces", json!({"type": "ipc"}));
    c.run().fails().names("ipc");
    t.assert_nothing_left();
}

fn an_unknown_namespace_is_refused(t: &Test) {
    let c = t.container().push("/linux/namespaces", json!({"type": "nonsense"}));
    c.run().fails().names("nonsense");
    t.assert_nothing_left();
}

fn a_network_namespace_has_loopback_up(t: &Test) {
    let output =
        t.container().sh("ip -o link show lo; ip -o addr show lo; ip -o link | wc -l").run().ok();
    assert!(
        output.stdout.contains("LOOPBACK,UP") && output.stdout.contains("127.0.0.1/8"),
        "{output}"
    );
}

fn a_cgroup_namespace_hides_the_path(t: &Test) {
    let c = t
        .container()
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .sh("cat /proc/self/cgroup");
    let output = c.run().ok();
    for line in output.stdout.lines() {
        assert!(line.ends_with(":/") || line.starts_with("0::"), "{line}");
    }
    assert!(!output.stdout.contains(&c.id), "{output}");
}

fn hostname_is_set(t: &Test) {
    let c = t
        .container()
        .set("/hostname", json!("a-name.example"))
        .sh("hostname; cat /proc/sys/kernel/hostname");
    c.run().ok().prints("a-name.example\na-name.example\n");
}

fn hostname_is_set_in_a_joined_namespace(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    let path = format!("/proc/{}/ns/uts", first.pid());
    let second = t
        .container()
        .set("/linux/namespaces/3/path", json!(path))
        .set("/hostname", json!("joined"));
    second.run().ok();
    first.exec(&["hostname"]).ok().prints("joined\n");
}

fn hostname_without_a_namespace_is_refused(t: &Test) {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    t.container().without_namespace("uts").run().fails().names("hostname");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    t.assert_nothing_left();
}

fn domainname_is_set(t: &Test) {
    let c = t
        .container()
        .set("/domainname", json!("nis.example"))
        .sh("cat /proc/sys/kernel/domainname");
    c.run().ok().prints("nis.example\n");
}

fn domainname_without_a_namespace_is_refused(t: &Test) {
    let before = fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let c = t
        .container()
        .without_namespace("uts")
        .unset("/hostname")
        .set("/domainname", json!("nis.example"));
    c.run().fails().names("domainname");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), before);
}

fn sysctl_is_set(t: &Test) {
    let c = t
        .container()
        .set(
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 5"}),
        )
        .sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ping_group_range");
    c.run().ok().prints("1\n0\t5\n");
}

fn a_sysctl_with_slashes_is_accepted(t: &Test) {
    let c = t
        .container()
        .set("/linux/sysctl", json!({"net/ipv4/conf/lo/forwarding": "1"}))
        .sh("cat /proc/sys/net/ipv4/conf/lo/forwarding");
    c.run().ok().prints("1\n");
}

fn an_ipc_sysctl_is_set(t: &Test) {
    let c = t
        .container()
        .set("/linux/sysctl", json!({"kernel.msgmax": "4096", "fs.mqueue.msg_max": "5"}))
        .sh("cat /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max");
    c.run().ok().prints("4096\n5\n");
}

#[track_caller]
fn sysctl_refused(t: &Test, key: &str) {
    let c = t.container().set("/linux/sysctl", json!({key: "1"}));
    let output = c.run().fails();
    let named = output.stderr.contains(key) || output.stderr.contains(&key.replace('.', "/"));
    assert!(named, "{output}");
    t.assert_nothing_left();
}

fn a_sysctl_outside_the_namespaces_is_refused(t: &Test) {
    let before = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    sysctl_refused(t, "vm.overcommit_memory");
    sysctl_refused(t, "kernel.panic");
    sysctl_refused(t, "fs.file-max");
    assert_eq!(fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap(), before);
}

fn a_sysctl_of_a_shared_namespace_is_refused(t: &Test) {
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let value = if before.trim() == "1" { "0" } else { "1" };
    let c = t
        .container()
        .without_namespace("network")
        .without_mount("/sys")
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": value}));
    c.run().fails();
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), before);
    let before = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let c = t
        .container()
        .without_namespace("ipc")
        .set("/linux/sysctl", json!({"kernel.msgmax": "4096"}));
    c.run().fails();
    assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
    t.assert_nothing_left();
}

fn the_hostname_sysctl_is_refused(t: &Test) {
    sysctl_refused(t, "kernel.hostname");
}

fn an_unknown_sysctl_is_refused(t: &Test) {
    sysctl_refused(t, "net.no.such.key");
}

fn a_sysctl_key_that_climbs_is_refused(t: &Test) {
    let before = fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    for key in [
        "net/../kernel/panic",
        "net.../kernel.panic",
        "net/ipv4/../../kernel/panic",
        "fs.mqueue/../../kernel/panic",
    ] {
        t.container().set("/linux/sysctl", json!({key: "123"})).run().fails();
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/panic").unwrap(), before);
    t.assert_nothing_left();
}

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn id_mappings_are_written(t: &Test) {
    t.need_user_namespaces();
    let c = t
        .container()
        .user_namespace(200_000)
        .sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g");
    let output = c.run().ok();
    let map = vec!["0", "200000", "65536"];
    assert_eq!(words(&output.stdout), [map.clone(), map, vec!["0"], vec!["0"]]);
}

fn several_id_mappings_are_written(t: &Test) {
    t.need_user_namespaces();
    let c = t
        .container()
        .user_namespace(200_000)
        .set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 1},
            {"containerID": 1, "hostID": 200_000, "size": 10}, {"containerID": 100, "hostID": 300_000, "size": 65536}]))
        .set("/process/user", json!({"uid": 100, "gid": 7}))
        .sh("cat /proc/self/uid_map; id -u; id -g");
    let output = c.run().ok();
    let expected = [
        vec!["0", "1000", "1"],
        vec!["1", "200000", "10"],
        vec!["100", "300000", "65536"],
        vec!["100"],
        vec!["7"],
    ];
    assert_eq!(words(&output.stdout), expected);
}

fn root_in_a_user_namespace_owns_its_devices(t: &Test) {
    t.need_user_namespaces();
    let c = t.container().user_namespace(200_000).sh(
        "echo x > /dev/null && head -c 2 /dev/zero | wc -c; ls -ln /dev/shm /proc/self/fd > /dev/null; \
         stat -c '%u %F' /dev/shm /dev/null; [ -e /dev/ptmx ] && echo ptmx",
    );
    let output = c.run().ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("2", "0 directory", "ptmx"), "{output}");
    assert!(lines[2].ends_with("character special file"), "{output}");
}

fn half_of_the_mappings_is_refused(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "theirs may go on with a namespace nobody is in");
    for (given, missing) in [("uid", "gid"), ("gid", "uid")] {
        let c = t.container().user_namespace(200_000).unset(&format!("/linux/{missing}Mappings"));
        let output = c.run().fails().one_line();
        output.names(&format!("linux.{missing}Mappings"));
        assert!(c.config.pointer(&format!("/linux/{given}Mappings")).is_some());
    }
    t.assert_nothing_left();
}

fn mappings_without_a_user_namespace_are_refused(t: &Test) {
    let c = t
        .container()
        .set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
    c.run().fails();
    t.assert_nothing_left();
}

fn overlapping_mappings_are_refused(t: &Test) {
    t.need_user_namespaces();
    let c = t.container().user_namespace(200_000).set(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 5, "hostID": 3000, "size": 10}]),
    );
    c.run().fails();
    t.assert_nothing_left();
}

fn setgroups_works_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = t
        .container()
        .user_namespace(200_000)
        .set("/process/user/additionalGids", json!([5, 6]))
        .sh("grep Groups /proc/self/status; cat /proc/self/setgroups");
    let output = c.run().ok();
    assert_eq!(words(&output.stdout), [vec!["Groups:", "5", "6"], vec!["allow"]]);
}

fn a_host_pid_container_is_killed_whole(t: &Test) {
    // No pid namespace of its own: the kernel does not kill the others when init dies.
    let c = t
        .container()
        .without_namespace("pid")
        .sh("sleep 1000 & sleep 1000 & echo up > /up; sleep 1000");
    c.run_detached();
    c.wait_file("/up");
    c.kill("KILL").ok();
    c.wait_exit();
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// There is nothing to join that would lead to the container's root: a process must not land in the host's.
fn exec_without_a_mount_namespace_stays_inside(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun have their own ways here");
    let c = t
        .container()
        .lasting()
        .without_namespace("mount")
        .unset("/linux/maskedPaths")
        .unset("/linux/readonlyPaths")
        .set("/mounts", json!([]))
        .file("/only-inside", "yes\n", 0o644);
    c.run_detached();
    t.call(&["exec", &c.id, "cat", "/only-inside"]).run().ok().prints("yes\n");
}

fn without_a_mount_namespace(t: &Test) {
    // chroot instead of pivot_root, and every mount would be the host's: done without a trace, or refused.
    let c = t
        .container()
        .without_namespace("mount")
        .unset("/linux/maskedPaths")
        .unset("/linux/readonlyPaths")
        .set("/mounts", json!([]))
        .sh("echo hello");
    let output = c.run();
    if output.code == Some(0) {
        output.prints("hello\n");
    } else {
        output.not_ok();
    }
    t.assert_nothing_left();
}
