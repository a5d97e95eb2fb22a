//! Without a mount namespace of its own whatever a container mounts would be the host's, and stay there.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, pty};
use crate::mounts::HostMount;

cases![
    a_notify_socket_is_not_mounted_on_the_host,
    a_console_is_not_mounted_on_the_host,
    devices_are_not_bound_on_the_host,
    a_file_in_the_place_of_a_device_is_not_covered_on_the_host,
    a_mount_without_a_mount_namespace,
    masked_paths_without_a_mount_namespace,
    exec_where_the_root_was_moved,
];

fn bare(t: &Test) -> Container<'_> {
    t.need(t.kind() == Kind::Skep, "runc and crun leave mounts behind");
    t.container()
        .without_namespace("mount")
        .unset("/linux/maskedPaths")
        .unset("/linux/readonlyPaths")
        .set("/mounts", json!([]))
        .lasting()
}

/// The mounts of the host now: as many as before, whatever their place.
fn mounts() -> String {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Others may mount meanwhile; never in a rootfs of these tests.
    text.lines().filter(|line| line.contains("/rootfs")).collect()
}

fn a_notify_socket_is_not_mounted_on_the_host(t: &Test) {
    let path = t.path("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    // Nobody inside can say READY=1, so nobody waits for it.
    let c = bare(t);
    c.bundle_call("run", &["--detach"]).env("NOTIFY_SOCKET", path).run().ok();
    assert!(!mounts().contains(&c.id), "{}", mounts());
    c.exec(&["sh", "-c", "echo [$NOTIFY_SOCKET]"]).ok().prints("[]\n");
    c.delete_force().ok();
    let c = bare(t);
    c.bundle_call("create", &[]).env("NOTIFY_SOCKET", path).run().ok();
    assert!(!mounts().contains(&c.id), "{}", mounts());
    c.call("start", &[]).env("NOTIFY_SOCKET", path).run().ok();
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn a_console_is_not_mounted_on_the_host(t: &Test) {
    let path = t.path("tty.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let c = bare(t).set("/process/terminal", json!(true));
    fs::create_dir(c.path("/dev/pts")).unwrap();
    let target = c.path("/dev/pts").display().to_string();
    let (from, flags) = (Some("/dev/pts"), nix::mount::MsFlags::MS_BIND);
    nix::mount::mount(from, target.as_str(), None::<&str>, flags, None::<&str>).unwrap();
    let devpts = HostMount(target);
    let create = c.bundle_call("create", &["--console-socket", path.to_str().unwrap()]).spawn();
    let _terminal = pty::receive_one(&listener);
    create.wait().ok();
    drop(devpts);
    assert!(!mounts().contains(&c.id), "{}", mounts());
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn devices_are_not_bound_on_the_host(t: &Test) {
    t.need_user_namespaces();
    let c = bare(t)
        .user_namespace(200_000)
        .set("/linux/devices", json!([{"path": "/dev/full", "type": "c", "major": 1, "minor": 7}]));
    std::os::unix::fs::chown(c.path("/dev"), Some(200_000), Some(200_000)).unwrap();
    c.run_detached();
    assert!(!mounts().contains(&c.id), "{}", mounts());
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// `docker export` leaves an empty file where a device was; elsewhere it is covered by a bind mount.
fn a_file_in_the_place_of_a_device_is_not_covered_on_the_host(t: &Test) {
    let c = bare(t).file("/dev/null", "", 0o666);
    c.run().fails().names("/dev/null");
    assert!(!mounts().contains(&c.id), "{}", mounts());
    t.assert_nothing_left();
}

/// The container is where its config.json has it, with its mounts, and the host has none of them.
fn a_mount_without_a_mount_namespace(t: &Test) {
    let c = bare(t).mount("/proc", "proc", "proc", &[]).mount("/tmp", "tmpfs", "tmpfs", &[]).mount(
        "/tmp/below",
        "tmpfs",
        "tmpfs",
        &["ro"],
    );
    c.run_detached();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(fs::read_link(format!("/proc/{}/ns/mnt", c.pid())).unwrap(), own);
    let script =
        "readlink /proc/self/ns/mnt; echo x > /tmp/x; cat /tmp/x; touch /tmp/below/x || echo ro";
    let output = c.exec(&["sh", "-c", script]).ok();
    assert_eq!(output.stdout, format!("{}\nx\nro\n", own.display()));
    assert!(!mounts().contains(&c.id), "{}", mounts());
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn masked_paths_without_a_mount_namespace(t: &Test) {
    for key in ["/linux/maskedPaths", "/linux/readonlyPaths"] {
        let c = bare(t).set(key, json!(["/etc"]));
        c.run().fails();
        assert!(!mounts().contains(&c.id), "{}", mounts());
        t.assert_nothing_left();
    }
}

/// The root is init's own, and not what lies at the path it once had.
fn exec_where_the_root_was_moved(t: &Test) {
    let c = bare(t);
    c.run_detached();
    fs::rename(c.rootfs(), c.dir.join("elsewhere")).unwrap();
    fs::create_dir(c.rootfs()).unwrap();
    c.exec(&["true"]).ok();
}
