//! The runtime run by somebody who is not root, in a user namespace of one id.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json};

cases![
    a_container_runs_without_root,
    the_life_of_a_container_without_root,
    a_limit_that_cannot_be_set_is_reported,
    additional_groups_are_refused,
    the_rootless_template_runs,
    the_oom_score_is_set_without_root,
    the_oom_score_is_set_by_root_of_a_user_namespace,
    an_id_mapped_mount_is_refused,
    a_user_namespace_is_made_where_none_is_asked_for,
];

pub const USER: u32 = 1000;

/// A bundle of that user's; the program is root inside and nobody outside.
pub fn bundle(t: &Test) -> Container<'_> {
    t.need_user_namespaces();
    t.need_program("setpriv");
    for setting in [
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    ] {
        let text = fs::read_to_string(setting).unwrap_or_default();
        let free = if setting.contains("apparmor") { "0" } else { "1" };
        t.need(text.is_empty() || text.trim() == free, "only root may make user namespaces here");
    }
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let c = t
        .container()
        .without_namespace("network")
        .without_mount("/sys")
        .without_mount("/dev/pts")
        .mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        )
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .unset("/linux/resources")
        .unset("/linux/cgroupsPath");
    own(t, &c);
    c
}

/// Gives the bundle and the runtime's root to the user; the busybox that all tests share stays root's.
pub fn own(t: &Test, c: &Container<'_>) {
    for path in [t.dir.clone(), t.root.clone(), c.dir.clone(), c.rootfs()] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    for entry in fs::read_dir(c.rootfs()).unwrap().flatten() {
        chown(entry.path(), Some(USER), Some(USER)).unwrap();
    }
    for dir in [t.store, &t.dir] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs the runtime as that user.
pub fn as_user(t: &Test, args: &[&str]) -> Output {
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    let words =
        ["setpriv", &user, &group, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    t.call(args).by(&words).run()
}

fn a_container_runs_without_root(t: &Test) {
    let c =
        bundle(t).sh("id -u; hostname; cat /proc/self/uid_map | tr -s ' '; cat /proc/1/comm; true");
    c.write();
    let output = as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    output.ok().prints("0\nblackbox\n 0 1000 1\nsh\n");
}

fn the_life_of_a_container_without_root(t: &Test) {
    let c = bundle(t).sh("echo up > /tmp/up; sleep 1000");
    c.write();
    let pid_file = c.dir.join("pid").display().to_string();
    let run = |args: &[&str]| as_user(t, args).ok();
    run(&["create", "--bundle", c.dir.to_str().unwrap(), "--pid-file", &pid_file, &c.id]);
    run(&["start", &c.id]);
    c.wait_file("/tmp/up");
    let state = run(&["state", &c.id]).json();
    assert_eq!(state["status"], json!("running"));
    run(&["exec", &c.id, "id", "-u"]).prints("0\n");
    run(&["list", "-q"]).prints(&format!("{}\n", c.id));
    run(&["kill", &c.id, "KILL"]);
    c.wait_exit();
    run(&["delete", &c.id]);
    t.assert_nothing_left();
}

fn a_limit_that_cannot_be_set_is_reported(t: &Test) {
    let c = bundle(t).set("/linux/resources", json!({"memory": {"limit": 67_108_864}}));
    c.write();
    let output = as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    assert!(output.code != Some(0), "a limit was silently dropped: {output}");
    output.fails();
    t.assert_nothing_left();
}

fn additional_groups_are_refused(t: &Test) {
    // Without privilege setgroups(2) is denied in the namespace.
    let c = bundle(t).set("/process/user/additionalGids", json!([5]));
    c.write();
    let output = as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    let output = output.fails();
    if t.kind() == Kind::Skep {
        output.names("additionalGids");
    }
    t.assert_nothing_left();
}

fn the_rootless_template_runs(t: &Test) {
    let c = bundle(t);
    fs::remove_file(c.dir.join("config.json")).ok();
    as_user(t, &["spec", "--rootless", "--bundle", c.dir.to_str().unwrap()]).ok();
    let path = c.dir.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        config["linux"]["uidMappings"],
        json!([{"containerID": 0, "hostID": USER, "size": 1}])
    );
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "id -u; ls /sys | grep -c kernel"]);
    fs::write(&path, config.to_string()).unwrap();
    let output = as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    output.ok().prints("0\n1\n");
    t.assert_nothing_left();
}

fn an_id_mapped_mount_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "their words differ");
    let c = bundle(t);
    let source = c.dir.display().to_string();
    let c = c.mount("/mnt", "bind", &source, &["bind", "idmap"]);
    c.write();
    own(t, &c);
    as_user(t, &["--root", t.root.to_str().unwrap(), "run", "--bundle", &source, &c.id])
        .fails()
        .names("mounts[5]")
        .names("not supported for rootless containers");
}

const SCORE: [&str; 2] = ["cat", "/proc/self/oom_score_adj"];

fn the_oom_score_is_set_without_root(t: &Test) {
    let c = bundle(t).set("/process/oomScoreAdj", json!(700)).lasting();
    c.write();
    let pid_file = c.dir.join("pid").display().to_string();
    let bundle = c.dir.display().to_string();
    as_user(t, &["run", "--detach", "--bundle", &bundle, "--pid-file", &pid_file, &c.id]).ok();
    let of_init = fs::read_to_string(format!("/proc/{}/oom_score_adj", c.pid())).unwrap();
    assert_eq!(of_init, "700\n");
    as_user(t, &["exec", &c.id, SCORE[0], SCORE[1]]).ok().prints("700\n");
    as_user(t, &["delete", "--force", &c.id]).ok();
    t.assert_nothing_left();
}

fn the_oom_score_is_set_by_root_of_a_user_namespace(t: &Test) {
    // As under rootless Podman: the runtime is root, but not the host's.
    t.need_user_namespaces();
    t.need_program("unshare");
    let c = bundle(t).set("/process/oomScoreAdj", json!(650)).args(&SCORE);
    let c = c.without_namespace("user").unset("/linux/uidMappings").unset("/linux/gidMappings");
    c.write();
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    let words = ["setpriv", &user, &group, "--clear-groups", "unshare", "--user"];
    let words = [&words[..], &["--map-root-user", "--mount"]].concat();
    let call = t.call(&["--rootless=true", "run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    call.by(&words).run().ok().prints("650\n");
    t.assert_nothing_left();
}

fn a_user_namespace_is_made_where_none_is_asked_for(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc does not make one");
    let c = bundle(t)
        .without_namespace("user")
        .unset("/linux/uidMappings")
        .unset("/linux/gidMappings")
        .sh("echo mine > /tmp/mine; sleep 1000");
    c.write();
    let pid_file = c.dir.join("pid").display().to_string();
    let flags = ["run", "--detach", "--pid-file", &pid_file, "--bundle"];
    let mut words = flags.to_vec();
    words.extend([c.dir.to_str().unwrap(), &c.id]);
    as_user(t, &words).ok();
    c.wait_file("/tmp/mine");
    // exec finds it, too.
    as_user(t, &["exec", &c.id, "stat", "-c", "%u", "/tmp/mine"]).ok().prints("0\n");
    as_user(t, &["delete", "--force", &c.id]).ok();
    t.assert_nothing_left();
}
