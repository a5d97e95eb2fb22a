//! linux.devices, /dev, masked and read-only paths.

use std::fs;
use std::os::unix::fs::symlink;

use crate::bad_input::refused;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};

cases![
    the_default_devices_are_there,
    the_links_in_dev_are_there,
    the_devices_of_a_bound_dev_are_left_alone,
    devices_are_made,
    a_fifo_device_is_made,
    a_device_has_its_mode_and_owner,
    a_device_below_a_new_directory_is_made,
    a_device_that_exists_already,
    the_same_device_twice,
    an_unknown_device_type_is_refused,
    a_relative_device_path_is_refused,
    a_listed_device_still_needs_its_rule,
    devices_work_in_a_user_namespace,
    devices_of_a_user_namespace_have_their_mode_and_owner,
    devices_of_a_user_namespace_leave_no_mount,
    no_console_without_a_terminal,
    masked_files_are_empty_devices,
    masked_directories_are_empty_and_read_only,
    missing_masked_paths_are_ignored,
    a_masked_path_outside_proc_works,
    read_only_paths_are_read_only,
    missing_read_only_paths_are_ignored,
    the_root_may_be_among_the_read_only_paths,
    the_root_cannot_be_masked,
    the_host_is_not_masked,
    relative_masked_paths,
];

fn the_default_devices_are_there(t: &Test) {
    let c = t.container().sh(
        "for d in null zero full random urandom tty; do stat -c '%n %a %u %t:%T' /dev/$d; done",
    );
    c.run().ok().prints(
        "/dev/null 666 0 1:3\n/dev/zero 666 0 1:5\n/dev/full 666 0 1:7\n/dev/random 666 0 1:8\n\
         /dev/urandom 666 0 1:9\n/dev/tty 666 0 5:0\n",
    );
}

fn the_links_in_dev_are_there(t: &Test) {
    let c = t
        .container()
        .sh("cd /dev; for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done");
    c.run().ok().prints(
        "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n",
    );
}

fn the_devices_of_a_bound_dev_are_left_alone(t: &Test) {
    // Privileged containers may get the host's /dev: nothing may be made or removed in it.
    let dev = t.path("dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("null"), "a decoy\n").unwrap();
    let c = t
        .container()
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .mount("/dev", "bind", dev.to_str().unwrap(), &["rbind", "rprivate"])
        .sh("ls /dev");
    let output = c.run();
    if output.code == Some(0) {
        output.prints("null\n");
    }
    let names: Vec<_> =
        fs::read_dir(&dev).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["null"]);
    assert_eq!(fs::read_to_string(dev.join("null")).unwrap(), "a decoy\n");
}

fn devices_are_made(t: &Test) {
    t.need_capability("CAP_MKNOD");
    let c = t
        .container()
        .set(
            "/linux/devices",
            json!([{"type": "c", "path": "/dev/mychar", "major": 1, "minor": 5},
                   {"type": "u", "path": "/dev/mychar2", "major": 1, "minor": 3},
                   {"type": "b", "path": "/dev/myblock", "major": 7, "minor": 0}]),
        )
        .sh("cd /dev; stat -c '%n %F %t:%T %a' mychar mychar2 myblock; head -c 3 mychar | wc -c");
    c.run().ok().prints(
        "mychar character special file 1:5 666\nmychar2 character special file 1:3 666\n\
         myblock block special file 7:0 666\n3\n",
    );
}

fn a_fifo_device_is_made(t: &Test) {
    let c = t
        .container()
        .set("/linux/devices", json!([{"type": "p", "path": "/dev/myfifo", "fileMode": 0o600}]))
        .sh("stat -c '%F %a' /dev/myfifo");
    c.run().ok().prints("fifo 600\n");
}

fn a_device_has_its_mode_and_owner(t: &Test) {
    t.need_capability("CAP_MKNOD");
    let c = t
        .container()
        .set(
            "/linux/devices",
            json!([{"type": "c", "path": "/dev/it", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8}]),
        )
        .sh("stat -c '%a %u %g' /dev/it");
    c.bundle_call("run", &[])
        .with(|command| crate::harness::sys::with_umask(command, 0o077))
        .run()
        .ok()
        .prints("640 7 8\n");
}

fn a_device_below_a_new_directory_is_made(t: &Test) {
    t.need_capability("CAP_MKNOD");
    let c = t
        .container()
        .set(
            "/linux/devices",
            json!([{"type": "c", "path": "/dev/deep/er/it", "major": 1, "minor": 5}]),
        )
        .sh("stat -c '%t:%T' /dev/deep/er/it");
    c.run().ok().prints("1:5\n");
}

fn a_device_that_exists_already(t: &Test) {
    t.need_capability("CAP_MKNOD");
    // Podman and Docker list what is made anyway.
    let c = t
        .container()
        .set(
            "/linux/devices",
            json!([{"type": "c", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 0o666}]),
        )
        .sh("stat -c '%t:%T %a' /dev/null");
    c.run().ok().prints("1:3 666\n");
}

fn the_same_device_twice(t: &Test) {
    t.need_capability("CAP_MKNOD");
    let same = json!({"type": "c", "path": "/dev/it", "major": 1, "minor": 5});
    t.container().set("/linux/devices", json!([same, same])).run().ok();
    let other = json!({"type": "c", "path": "/dev/it", "major": 1, "minor": 3});
    let output = t.container().set("/linux/devices", json!([same, other])).run();
    if t.kind() == Kind::Skep {
        output.fails().names("/dev/it");
    }
    t.assert_nothing_left();
}

fn an_unknown_device_type_is_refused(t: &Test) {
    t.container()
        .set("/linux/devices", json!([{"type": "z", "path": "/dev/it", "major": 1, "minor": 5}]))
        .run()
        .fails();
    t.assert_nothing_left();
}

fn a_relative_device_path_is_refused(t: &Test) {
    let c = t
        .container()
        .set("/linux/devices", json!([{"type": "c", "path": "../../it", "major": 1, "minor": 5}]));
    let output = c.run();
    if output.code != Some(0) {
        output.fails();
    }
    assert!(fs::metadata(c.dir.join("it")).is_err() && fs::metadata(t.path("it")).is_err());
    t.assert_nothing_left();
}

fn a_listed_device_still_needs_its_rule(t: &Test) {
    let (major, minor) = crate::device_rules::device(t);
    let device = json!([{"type": "c", "path": "/dev/it", "major": major, "minor": minor}]);
    let rule = json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rw"});
    let c = t.container().set("/linux/devices", device).sh(": </dev/it");
    let output = c.run().code(1);
    assert!(output.stderr.contains("not permitted"), "{output}");
    let c = c.push("/linux/resources/devices", rule);
    c.write();
    c.run().ok();
}

fn devices_work_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    t.need_capability("CAP_MKNOD");
    let c = t
        .container()
        .user_namespace(200_000)
        .set("/linux/devices", json!([{"type": "c", "path": "/dev/zero", "major": 1, "minor": 5}]))
        .sh("head -c 3 /dev/zero | wc -c");
    c.run().ok().prints("3\n");
}

fn no_console_without_a_terminal(t: &Test) {
    t.container().sh("ls /dev/console").run().code(1);
}

const DEFAULT_MASKS: [&str; 4] =
    ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"];

fn masked_files_are_empty_devices(t: &Test) {
    for path in DEFAULT_MASKS {
        if fs::metadata(path).is_ok() {
            let c = t
                .container()
                .sh(&format!("stat -c '%t:%T' {path}; cat {path} | wc -c; echo x > {path}"));
            let output = c.run();
            assert!(output.stdout.starts_with("1:3\n0\n"), "{path}: {output}");
        }
    }
}

fn masked_directories_are_empty_and_read_only(t: &Test) {
    let c = t
        .container()
        .file("/secret/file", "secret\n", 0o644)
        .push("/linux/maskedPaths", json!("/secret"))
        .sh("ls -A /secret; touch /secret/x 2>&1; ls -A /sys/firmware");
    let output = c.run().ok();
    assert!(
        output.stdout.contains("Read-only file system") && output.stdout.lines().count() == 1,
        "{output}"
    );
    assert_eq!(c.read("/secret/file"), "secret\n");
}

fn missing_masked_paths_are_ignored(t: &Test) {
    let c = t.container().set("/linux/maskedPaths", json!(["/no/such/path", "/proc/no-such"]));
    c.run().ok().no_stderr();
}

fn a_masked_path_outside_proc_works(t: &Test) {
    let c = t
        .container()
        .set("/linux/maskedPaths", json!(["/etc/passwd"]))
        .sh("cat /etc/passwd; stat -c '%t:%T' /etc/passwd");
    c.run().ok().prints("1:3\n");
}

fn read_only_paths_are_read_only(t: &Test) {
    let c = t
        .container()
        .file("/data/file", "x\n", 0o644)
        .set("/linux/readonlyPaths", json!(["/data", "/proc/sys", "/etc/group"]))
        .sh("echo y > /data/file; echo 1 > /proc/sys/net/ipv4/ip_forward; echo y > /etc/group; echo y > /etc/passwd && cat /data/file");
    let output = c.run().ok();
    assert_eq!(output.stderr.matches("Read-only file system").count(), 3, "{output}");
    assert_eq!(output.stdout, "x\n");
}

fn missing_read_only_paths_are_ignored(t: &Test) {
    t.container().set("/linux/readonlyPaths", json!(["/no/such/path"])).run().ok().no_stderr();
}

fn the_root_may_be_among_the_read_only_paths(t: &Test) {
    // By its name, by a detour, through links of the image; last, so that the runtime can still write there.
    for path in ["/", "//", "/../", "/etc/..", "/whole", "/etc/whole/etc/.."] {
        for user_namespace in [false, true] {
            let mut c = t
                .container()
                .set("/linux/readonlyPaths", json!([path, "/proc/sys"]))
                .set("/process/cwd", json!("/made/here"))
                .push(
                    "/mounts",
                    json!({"destination": "/new/place", "type": "tmpfs", "source": "tmpfs"}),
                )
                .sh("pwd; touch /x; touch /etc/x; touch /new/place/x && echo there");
            if user_namespace && t.host.user_namespaces {
                c = c.user_namespace(100_000);
            }
            if user_namespace {
                // Root of the new one may not write in a root that is the host's root's.
                fs::create_dir_all(c.path("/made/here")).unwrap();
                fs::create_dir_all(c.path("/new/place")).unwrap();
            }
            symlink("/", c.path("/whole")).unwrap();
            symlink("..", c.path("/etc/whole")).unwrap();
            let output = c.run().ok();
            let refusals = output.stderr.matches("Read-only file system").count();
            assert_eq!(refusals, 2, "{path}: {output}");
            output.prints("/made/here\nthere\n");
            assert!(fs::write(c.path("/of-the-host"), "").is_ok(), "the host's own");
        }
    }
}

fn the_root_cannot_be_masked(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others mount what nobody sees");
    for path in ["/", "/../", "/etc/..", "/whole"] {
        let c = t.container().set("/linux/maskedPaths", json!(["/proc/keys", path]));
        symlink("/", c.path("/whole")).unwrap();
        refused(&c).names("linux.maskedPaths[1]");
    }
}

fn the_host_is_not_masked(t: &Test) {
    let c = t.container().push("/linux/maskedPaths", json!("/etc")).lasting();
    c.run_detached();
    c.exec(&["ls", "/etc"]).ok().prints("");
    assert!(fs::metadata(c.path("/etc/passwd")).unwrap().is_file());
}

fn relative_masked_paths(t: &Test) {
    // The specification wants absolute paths; what is relative is refused or taken from the root.
    let c =
        t.container().set("/linux/maskedPaths", json!(["etc/passwd"])).sh("wc -c < /etc/passwd");
    let output = c.run();
    if output.code != Some(0) {
        output.fails();
    }
    t.assert_nothing_left();
}

fn in_a_user_namespace(t: &Test) -> crate::harness::Container<'_> {
    t.need_user_namespaces();
    t.need_capability("CAP_MKNOD");
    t.need(t.kind() == Kind::Skep, "runc and crun 1.8 bind the host's nodes");
    t.container().user_namespace(200_000).set(
        "/linux/devices",
        json!([
            {"type": "c", "path": "/dev/foo", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 5, "gid": 7},
            {"type": "p", "path": "/dev/fifo", "fileMode": 0o600, "uid": 1},
            {"type": "c", "path": "/dev/null", "major": 1, "minor": 3},
            {"type": "c", "path": "/dev/deep/mine", "major": 1, "minor": 7, "fileMode": 0o222},
        ]),
    )
}

/// The host has no /dev/foo to bind, and no owner that would be mapped.
fn devices_of_a_user_namespace_have_their_mode_and_owner(t: &Test) {
    let c = in_a_user_namespace(t).sh(
        "cd /dev; stat -c '%n %F %a %u:%g' foo fifo null deep/mine; head -c 2 foo | wc -c; echo > null",
    );
    c.run().ok().prints(
        "foo character special file 644 5:7\nfifo fifo 600 1:0\n\
         null character special file 666 0:0\ndeep/mine character special file 222 0:0\n2\n",
    );
    assert!(fs::metadata("/dev/foo").is_err());
    t.assert_nothing_left();
}

fn devices_of_a_user_namespace_leave_no_mount(t: &Test) {
    for flags in [&[][..], &["--no-pivot"]] {
        let c = in_a_user_namespace(t).sh("cat /proc/self/mountinfo");
        let output = c.bundle_call("run", flags).run().ok();
        let roots = output.stdout.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
        assert_eq!(roots.count(), 1, "{flags:?}: {output}");
    }
}
