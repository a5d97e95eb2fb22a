//! The runtime inside a container of its own, whose /sys is masked and whose cgroups are somebody else's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json};

cases![root_of_a_container_runs_one, a_user_of_a_container_runs_one];

const OUTER: u32 = 200_000;

/// The container around: it has the runtime, the libraries that takes, and the inner bundle, which is user `uid`'s.
fn outer<'t>(t: &'t Test, uid: u32, inner: &serde_json::Value) -> Container<'t> {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "crun needs cgroups, and runc wants a writable /sys/fs/cgroup");
    const CAPABILITIES: &[&str] = &[
        "CAP_SYS_ADMIN",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SETFCAP",
    ];
    let runtime = t.runtime.path.display().to_string();
    let mut c = t
        .container()
        .user_namespace(OUTER)
        .unset("/linux/resources")
        .set("/linux/maskedPaths", json!(["/sys/firmware", "/sys/devices/virtual/dmi"]))
        .set("/linux/readonlyPaths", json!([]))
        .with_capabilities(CAPABILITIES)
        .set("/process/user", json!({"uid": uid, "gid": uid}))
        .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        .mount("/skep", "bind", &runtime, &["bind", "ro"])
        .args(&[
            "/skep",
            "--root",
            "/state",
            "--cgroup-manager",
            "disabled",
            "run",
            "-b",
            "/inner",
            "in",
        ]);
    if uid == 0 {
        c = c.set("/process/capabilities/inheritable", json!([]));
    }
    for library in ["/usr/lib", "/lib", "/lib64"] {
        if fs::metadata(library).is_ok() {
            c = c.mount(library, "bind", library, &["bind", "ro"]);
        }
    }
    let bundle = c.path("/inner");
    crate::harness::rootfs::build(t.store, &bundle.join("rootfs"));
    fs::create_dir(c.path("/state")).unwrap();
    fs::write(bundle.join("config.json"), inner.to_string()).unwrap();
    for dir in [t.store, &t.dir] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    own(&c.rootfs(), OUTER);
    own(&bundle, OUTER + uid);
    own(&c.path("/state"), OUTER + uid);
    c
}

/// Gives a tree to a user, but for the busybox that all tests share.
fn own(path: &std::path::Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    for entry in fs::read_dir(path).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            own(&entry.path(), uid);
        }
    }
}

/// A configuration like any engine's, with a network of its own.
fn inner(t: &Test, script: &str) -> serde_json::Value {
    let c = t.container().sh(script).unset("/linux/resources").unset("/linux/cgroupsPath");
    c.without_mount("/dev/pts").config.clone()
}

const SHOW: &str = "id -u; ls /sys | grep -c kernel; touch /sys/x 2>/dev/null || echo read-only; \
    hostname; ls -d /dev/mqueue";

fn root_of_a_container_runs_one(t: &Test) {
    let c = outer(t, 0, &inner(t, SHOW));
    c.run().ok().prints("0\n1\nread-only\nblackbox\n/dev/mqueue\n");
    t.assert_nothing_left();
}

fn a_user_of_a_container_runs_one(t: &Test) {
    let c = outer(t, 1000, &inner(t, SHOW));
    c.run().ok().prints("0\n1\nread-only\nblackbox\n/dev/mqueue\n");
    t.assert_nothing_left();
}
