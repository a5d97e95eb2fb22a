//! proc, sysfs, mqueue and cgroup: what the kernel shows of its namespaces.

use std::fs;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json};
use crate::mounts::{mountinfo, seen};

cases![
    every_cgroup_mount_is_read_only,
    a_writable_cgroup_takes_children,
    a_cgroup_mount_on_a_bound_sys,
    what_comes_after_the_cgroup_mount_lies_on_it,
    cgroup_mounts_have_their_attributes,
    a_cgroup_mount_is_the_same_whoever_makes_it,
    cgroup2_on_a_host_of_version_1,
    a_cgroup_mount_in_a_user_namespace,
    sysfs_of_the_host_in_a_user_namespace,
    a_writable_sysfs_of_the_host_is_refused,
    proc_of_the_host_in_a_user_namespace,
    mqueue_of_the_host_in_a_user_namespace,
    mqueue_belongs_to_root_of_its_user_namespace,
    sysfs_shows_the_containers_network,
    proc_takes_its_options,
    proc_keeps_its_mode,
    a_container_without_proc_and_sys,
    a_read_only_block_device_is_mounted,
];

const CGROUP: &[&str] = &["rprivate", "nosuid", "noexec", "nodev", "relatime"];

fn with_cgroup<'t>(t: &'t Test, own_namespace: bool, options: &[&str]) -> Container<'t> {
    let c = t.container();
    let c = if own_namespace { c.push("/linux/namespaces", json!({"type": "cgroup"})) } else { c };
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &[CGROUP, options].concat())
}

fn cgroup_lines(text: &str) -> Vec<&str> {
    let below = |line: &&str| line.split(' ').nth(4).unwrap().starts_with("/sys/fs/cgroup");
    text.lines().filter(below).collect()
}

/// CVE-2023-25809, and runc's test of every line.
fn every_cgroup_mount_is_read_only(t: &Test) {
    for own_namespace in [false, true] {
        let c = with_cgroup(t, own_namespace, &["ro"]).args(&["cat", "/proc/self/mountinfo"]);
        let text = mountinfo(&c);
        let lines = cgroup_lines(&text);
        assert!(!lines.is_empty(), "{text}");
        for line in lines {
            let options = line.split(' ').nth(5).unwrap();
            assert!(options.split(',').any(|option| option == "ro"), "{own_namespace}: {line}");
        }
    }
}

/// The view of version 1 waits for the cgroups, other mounts do not wait for it; but those that touch it come after.
fn what_comes_after_the_cgroup_mount_lies_on_it(t: &Test) {
    t.need_layout(Layout::V1);
    let mine = t.path("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("is-mine"), "").unwrap();
    // A part of it, all of it, and what it lies on.
    for at in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup", "/sys/fs"] {
        let c = with_cgroup(t, false, &["ro"]);
        let c = c.mount(at, "bind", mine.to_str().unwrap(), &["bind", "ro"]);
        c.sh(&format!("ls {at}")).run().ok().prints("is-mine\n");
    }
    let masked = with_cgroup(t, false, &["ro"]);
    let masked =
        masked.set("/linux/maskedPaths", json!(["/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"]));
    masked
        .sh("ls /sys/fs/cgroup/pids /sys/fs/cgroup/cpu | grep -c tasks")
        .run()
        .code(1)
        .prints("0\n");
    let masked =
        with_cgroup(t, false, &["ro"]).set("/linux/maskedPaths", json!(["/sys/fs/cgroup"]));
    masked.sh("ls /sys/fs/cgroup").run().ok().prints("");
    let cwd = with_cgroup(t, false, &["ro"]).set("/process/cwd", json!("/sys/fs/cgroup/pids"));
    cwd.sh("ls tasks").run().ok().prints("tasks\n");
}

fn a_writable_cgroup_takes_children(t: &Test) {
    // On version 2 without a cgroup namespace it is the root of the host's hierarchy, which is no place for children.
    let namespaces: &[bool] = if t.host.layout == Layout::V1 { &[false, true] } else { &[true] };
    for &own_namespace in namespaces {
        let pids = if t.host.layout == Layout::V1 { "/pids" } else { "" };
        let c = with_cgroup(t, own_namespace, &["rw"])
            .sh(&format!("mkdir /sys/fs/cgroup{pids}/child && ls -d /sys/fs/cgroup{pids}/child"));
        c.run().ok().prints(&format!("/sys/fs/cgroup{pids}/child\n"));
        t.assert_nothing_left();
    }
}

fn a_cgroup_mount_on_a_bound_sys(t: &Test) {
    for own_namespace in [false, true] {
        let c = t
            .container()
            .without_mount("/sys")
            .without_namespace("network")
            .mount(
                "/sys",
                "bind",
                "/sys",
                &["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
            )
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &[CGROUP, &["ro"]].concat())
            .args(&["cat", "/proc/self/mountinfo"]);
        let c =
            if own_namespace { c.push("/linux/namespaces", json!({"type": "cgroup"})) } else { c };
        let text = mountinfo(&c);
        assert!(cgroup_lines(&text).len() >= 2, "{text}");
    }
}

fn cgroup_mounts_have_their_attributes(t: &Test) {
    t.need_layout(Layout::V1);
    for own_namespace in [false, true] {
        let c = with_cgroup(t, own_namespace, &["ro"]).args(&["cat", "/proc/self/mountinfo"]);
        let text = mountinfo(&c);
        for point in ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"] {
            let mount = seen(&text, point);
            for option in ["ro", "nosuid", "nodev", "noexec"] {
                assert!(mount.has(option), "{option} on {point}: {text}");
            }
            assert_eq!(mount.optional, "", "{text}");
        }
        assert_eq!(seen(&text, "/sys/fs/cgroup").kind, "tmpfs");
        assert_eq!(seen(&text, "/sys/fs/cgroup/memory").kind, "cgroup");
    }
}

/// The runtime makes it beside the container's process; where hooks come first, that process does.
fn a_cgroup_mount_is_the_same_whoever_makes_it(t: &Test) {
    t.need_layout(Layout::V1);
    t.need(t.kind() == Kind::Skep, "runc and crun have one way");
    let shown = |own_namespace, hook: bool, options: &[&str]| {
        let c = with_cgroup(t, own_namespace, options).args(&["cat", "/proc/self/mountinfo"]);
        let c = if hook { c.hook("createContainer", "true") } else { c };
        let text = mountinfo(&c);
        // But for what is new each time: the mount's id, its parent's, its device number, the container's id.
        let lines = cgroup_lines(&text).into_iter().map(|line| {
            let fields: Vec<&str> = line.split(' ').skip(3).collect();
            fields.join(" ").replace(&c.id, "ID")
        });
        let mut lines: Vec<String> = lines.collect();
        lines.sort_unstable();
        lines
    };
    for own_namespace in [false, true] {
        for options in [&["ro"][..], &["rw"], &["rw", "rshared"], &["ro", "rslave", "rnosymfollow"]]
        {
            let (beside, inside) =
                (shown(own_namespace, false, options), shown(own_namespace, true, options));
            assert!(beside.len() > 3, "{beside:?}");
            assert_eq!(beside, inside, "{own_namespace} {options:?}");
        }
    }
}

fn cgroup2_on_a_host_of_version_1(t: &Test) {
    t.need_layout(Layout::V1);
    t.need(t.kind() == Kind::Skep, "runc and crun take it for a cgroup of the host's kind or fail");
    let c = t
        .container()
        .mount("/sys/fs/cgroup", "cgroup2", "cgroup", &["ro", "nosuid", "noexec", "nodev"])
        .args(&["cat", "/proc/self/mountinfo"]);
    let mount = seen(&mountinfo(&c), "/sys/fs/cgroup");
    assert!(mount.kind == "cgroup2" && mount.has("ro"), "{}", mount.kind);
}

fn a_cgroup_mount_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    for own_namespace in [false, true] {
        let c = t
            .container()
            .user_namespace(231_072)
            .mount("/sys", "sysfs", "sysfs", &["ro"])
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &[CGROUP, &["ro"]].concat())
            .sh("mkdir /sys/fs/cgroup/x; mkdir /sys/fs/cgroup/*/x; cat /proc/self/mountinfo");
        let c =
            if own_namespace { c.push("/linux/namespaces", json!({"type": "cgroup"})) } else { c };
        let text = mountinfo(&c);
        assert!(seen(&text, "/sys/fs/cgroup").has("ro"), "{text}");
        t.assert_nothing_left();
    }
}

/// A container with a user namespace that shares the host's namespace of `kind`.
fn sharing<'t>(t: &'t Test, kind: &str) -> Container<'t> {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "runc fails, crun does so for sysfs alone");
    t.container().user_namespace(231_072).without_namespace(kind)
}

fn sysfs_of_the_host_in_a_user_namespace(t: &Test) {
    let c = sharing(t, "network")
        .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        .sh("ls -d /sys/class/net /sys/fs/cgroup; cat /proc/self/mountinfo");
    let text = mountinfo(&c);
    assert!(text.starts_with("/sys/class/net\n/sys/fs/cgroup\n"), "{text}");
    let sys = seen(&text, "/sys");
    for option in ["ro", "nosuid", "noexec", "nodev"] {
        assert!(sys.has(option), "{option}: {text}");
    }
    // Nothing below may be written either: there could be a cgroup that belongs to the user.
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let below = fields.get(4).is_some_and(|point| point.starts_with("/sys/"));
        assert!(!below || fields[5].starts_with("ro"), "{line}");
    }
}

fn a_writable_sysfs_of_the_host_is_refused(t: &Test) {
    let c = sharing(t, "network").mount("/sys", "sysfs", "sysfs", &["nosuid"]);
    c.run().fails().names("mounts[4]").names("network namespace");
    t.assert_nothing_left();
}

fn proc_of_the_host_in_a_user_namespace(t: &Test) {
    let c = sharing(t, "pid")
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .sh("grep -c . /proc/self/status > /dev/null && cat /proc/1/comm");
    let host = fs::read_to_string("/proc/1/comm").unwrap();
    c.run().ok().prints(&host);
}

fn mqueue_belongs_to_root_of_its_user_namespace(t: &Test) {
    let c = t.container().user_namespace(200_000).mount("/dev/mqueue", "mqueue", "mqueue", &[]);
    c.sh("stat -c %u /dev/mqueue").run().ok().prints("0\n");
}

fn mqueue_of_the_host_in_a_user_namespace(t: &Test) {
    t.need(fs::metadata("/dev/mqueue").is_ok(), "no /dev/mqueue on this host");
    let c = sharing(t, "ipc")
        .mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])
        .args(&["cat", "/proc/self/mountinfo"]);
    let mount = seen(&mountinfo(&c), "/dev/mqueue");
    assert!(
        mount.has("nosuid") && mount.has("noexec") && mount.has("nodev"),
        "{:?}",
        mount.options
    );
}

fn sysfs_shows_the_containers_network(t: &Test) {
    let c = t.container().sh("ls /sys/class/net");
    c.run().ok().prints("lo\n");
}

fn proc_takes_its_options(t: &Test) {
    let c = t
        .container()
        .without_mount("/proc")
        .mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev", "hidepid=2"])
        .args(&["cat", "/proc/self/mountinfo"]);
    let mount = seen(&mountinfo(&c), "/proc");
    assert!(
        mount.has("nosuid") && mount.has("noexec") && mount.has("nodev"),
        "{:?}",
        mount.options
    );
    assert!(mount.superblock.contains("hidepid="), "{}", mount.superblock);
}

/// The mode of the image's directory is for a tmpfs to take, not for these.
fn proc_keeps_its_mode(t: &Test) {
    use std::os::unix::fs::PermissionsExt;

    let c = t.container().sh("stat -c %a /proc /sys /dev/mqueue; ls /proc/self/fd > /dev/null");
    for dir in ["/proc", "/sys"] {
        fs::set_permissions(c.path(dir), fs::Permissions::from_mode(0o700)).unwrap();
    }
    c.run().ok().prints("555\n555\n1777\n");
}

fn a_container_without_proc_and_sys(t: &Test) {
    let c = t
        .container()
        .without_mount("/proc")
        .without_mount("/sys")
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .sh("ls /proc /sys");
    c.run().ok().prints("/proc:\n\n/sys:\n");
}

/// A device that cannot be written to is mounted only if the file system is told so.
fn a_read_only_block_device_is_mounted(t: &Test) {
    for program in ["mkfs.ext4", "losetup"] {
        t.need_program(program);
    }
    let image = t.path("image").display().to_string();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(args[0]);
        crate::harness::reaper::output(command.args(&args[1..])).unwrap()
    };
    fs::write(&image, vec![0; 4 << 20]).unwrap();
    assert!(run(&["mkfs.ext4", "-q", "-O", "^has_journal", &image]).status.success());
    let made = run(&["losetup", "--find", "--show", "--read-only", &image]);
    t.need(made.status.success(), "no loop devices here");
    let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let c = t
        .container()
        .set("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]))
        .mount("/mnt", "ext4", &device, &["ro", "noexec"])
        .sh("ls -d /mnt/lost+found; touch /mnt/x");
    let output = c.run();
    run(&["losetup", "--detach", &device]);
    let output = output.code(1);
    assert_eq!(output.stdout, "/mnt/lost+found\n", "{output}");
    assert!(output.stderr.contains("Read-only file system"), "{output}");
}
