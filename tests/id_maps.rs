//! More ids than one's own, through newuidmap and newgidmap: what they need, each missing in turn, named in one line. The
//! tests run them in a mount namespace where passwd, subuid and subgid are the tests' own, and so are broken helpers.

use std::time::Duration;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json};
use crate::rootless::{self, USER};

cases![
    granted_ids_are_mapped,
    a_helper_with_file_capabilities_is_as_good,
    a_user_without_a_namespace_gets_the_ids_he_has,
    a_user_without_a_namespace_is_alone_where_no_helper_can_work,
    a_user_without_maps_gets_the_ids_he_has,
    root_without_maps_is_root_alone,
    root_without_maps_gets_the_ids_he_has,
    root_without_maps_gets_none_that_are_not_there,
    root_without_maps_may_mount_with_his_own,
    a_helper_that_is_missing_is_named,
    a_helper_that_may_not_be_executed_is_named,
    a_helper_without_the_setuid_bit_is_named,
    a_helper_on_a_nosuid_mount_is_named,
    a_runtime_that_may_gain_nothing_is_told,
    a_runtime_without_the_capability_is_told,
    a_user_without_an_entry_is_named,
    an_id_that_is_not_granted_is_named,
    a_user_without_a_name_is_told,
    another_group_than_the_users_is_told,
    a_helper_that_crashes_is_named,
    a_helper_that_maps_nothing_is_named,
    a_helper_that_hangs_is_ended,
    a_map_without_root_is_told,
    a_forbidden_kind_of_namespace_is_named,
    a_chroot_is_named,
    an_unmapped_user_is_told,
    a_setting_that_forbids_user_namespaces_is_named,
];

/// Ids of the user's beyond his own.
const FIRST: u32 = 300_000;

fn bundle(t: &Test) -> Container<'_> {
    let map = json!([
        {"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": FIRST, "size": 100}
    ]);
    let c = rootless::bundle(t)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .sh(SHOW);
    t.need_program("newuidmap");
    t.need_program("unshare");
    c
}

const SHOW: &str = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
const BOTH: &str = " 0 1000 1\n 1 300000 100\n 0 1000 1\n 1 300000 100\n";
const ALONE: &str = " 0 1000 1\n 0 1000 1\n";

/// Who the user is and what is his, unless `setup` changes the files: $D is a directory of the test's.
const FILES: &str = "set -e; mkdir -p $D; mount -t tmpfs -o mode=755 none $D; cd $D; \
    printf 'root:x:0:0::/:/bin/sh\\nbox:x:1000:1000::/:/bin/sh\\n' > passwd; \
    echo box:300000:100 > subuid; cp subuid subgid; \
    for f in passwd subuid subgid; do mount --bind $f /etc/$f; done; cp $(command -v setpriv) setpriv; ";

/// `run` as the user, after `setup` in a mount namespace, with these flags of setpriv.
fn run(c: &Container<'_>, setup: &str, flags: &[&str]) -> Output {
    c.write();
    let t = c.test;
    rootless::own(t, c);
    let files = t.path("files");
    let user = format!("--reuid={USER} --regid=${{G:-{USER}}} --clear-groups");
    let files = files.display();
    let script = format!("D={files}; {FILES}{setup}\ncd /; exec $D/setpriv {user} \"$@\"");
    let mut words = vec!["unshare", "--mount", "--propagation", "private", "sh", "-c"];
    words.extend([&script, "sh"]);
    words.extend(flags);
    let bundle = c.dir.display().to_string();
    let call = t.call(&["run", "--bundle", &bundle, &c.id]).by(&words);
    call.limit(Duration::from_secs(40)).run()
}

/// Each of `words` is in the one line of the failure, and nothing is left.
fn is_told(c: &Container<'_>, setup: &str, flags: &[&str], words: &[&str]) {
    let t = c.test;
    t.need(t.kind() == Kind::Skep, "their words differ");
    let output = run(c, setup, flags).fails().one_line();
    words.iter().fold(output, |output, word| output.names(word));
    t.assert_nothing_left();
}

/// Puts `$D/fake`, which `make` makes, where newuidmap is.
fn fake(make: &str) -> String {
    format!("{make}; mount --bind fake $(command -v newuidmap)")
}

fn granted_ids_are_mapped(t: &Test) {
    run(&bundle(t), "", &[]).ok().prints(BOTH);
    t.assert_nothing_left();
}

fn a_helper_with_file_capabilities_is_as_good(t: &Test) {
    t.need_program("setcap");
    let c = bundle(t);
    let copy = "cp $(command -v newuidmap) fake; chmod 755 fake; setcap cap_setuid+ep fake";
    run(&c, &fake(copy), &[]).ok().prints(BOTH);
}

fn unspecified(t: &Test) -> Container<'_> {
    t.need(t.kind() == Kind::Skep, "runc makes no namespace, crun's maps differ");
    let c = bundle(t).without_namespace("user");
    c.unset("/linux/uidMappings").unset("/linux/gidMappings")
}

fn a_user_without_a_namespace_gets_the_ids_he_has(t: &Test) {
    run(&unspecified(t), "", &[]).ok().prints(BOTH);
    let alone = "echo > subuid; echo > subgid";
    run(&unspecified(t), alone, &[]).ok().prints(ALONE);
    let half = "echo > subgid";
    let uids = " 0 1000 1\n 1 300000 100\n 0 1000 1\n";
    run(&unspecified(t), half, &[]).ok().prints(uids);
    t.assert_nothing_left();
}

fn a_user_without_a_namespace_is_alone_where_no_helper_can_work(t: &Test) {
    for (setup, flags) in [
        (HIDDEN, &[][..]),
        ("", &["--no-new-privs"]),
        ("", &["--bounding-set=-all"]),
        ("mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin", &[]),
        ("G=1001", &[]),
    ] {
        let c = unspecified(t).sh("cat /proc/self/uid_map | tr -s ' '");
        run(&c, setup, flags).ok().prints(" 0 1000 1\n");
    }
    t.assert_nothing_left();
}

fn without_maps(c: Container<'_>) -> Container<'_> {
    c.test.need(c.test.kind() == Kind::Skep, "runc refuses it, crun's maps differ");
    c.unset("/linux/uidMappings").unset("/linux/gidMappings")
}

fn a_user_without_maps_gets_the_ids_he_has(t: &Test) {
    run(&without_maps(bundle(t)), "", &[]).ok().prints(BOTH);
    let alone = "echo > subuid; echo > subgid";
    run(&without_maps(bundle(t)), alone, &[]).ok().prints(ALONE);
    t.assert_nothing_left();
}

/// A bundle of root's that asks for a user namespace and says nothing of ids.
fn of_root(t: &Test) -> Container<'_> {
    t.need_user_namespaces();
    t.need_program("unshare");
    t.need_program("setpriv");
    without_maps(t.container().user_namespace(200_000)).sh(SHOW)
}

/// `run` as root, after `setup`.
fn run_as_root(c: &Container<'_>, setup: &str, before: &str) -> Output {
    c.write();
    let t = c.test;
    let files = t.path("files");
    let script = format!("D={}; {FILES}{setup}\ncd /; exec {before} \"$@\"", files.display());
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    t.call(&["run", "--bundle", c.dir.to_str().unwrap(), &c.id]).by(&words).run()
}

const ROOT_ALONE: &str = " 0 0 1\n 0 0 1\n";

fn root_without_maps_is_root_alone(t: &Test) {
    run_as_root(&of_root(t), "", "").ok().prints(ROOT_ALONE);
    // It is the user of the process that crun would have for root of the host.
    let c = of_root(t).set("/process/user", json!({"uid": 1000, "gid": 0}));
    run_as_root(&c, "", "").fails().one_line().names("process.user.uid");
    // Nothing of the host's is root's business there.
    let c = of_root(t)
        .with_capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_NICE"])
        .sh("hostname other && hostname; renice -n -5 -p 1 2>&1 | grep -c -i denied");
    run_as_root(&c, "", "").ok().prints("other\n1\n");
    let c = of_root(t).lasting();
    c.run_detached();
    c.exec(&["id", "-u"]).ok().prints("0\n");
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn root_without_maps_gets_the_ids_he_has(t: &Test) {
    let entries = "echo root:300000:100 > subuid; echo 0:300000:50 > subgid";
    let c = of_root(t).set("/process/user", json!({"uid": 7, "gid": 8}));
    run_as_root(&c, entries, "").ok().prints(" 0 0 1\n 1 300000 100\n 0 0 1\n 1 300000 50\n");
    t.assert_nothing_left();
}

fn root_without_maps_gets_none_that_are_not_there(t: &Test) {
    // As in another container.
    let entries = "echo root:300000:100 > subuid; cp subuid subgid";
    let inside = "unshare --user --map-root-user --mount --fork";
    let c = of_root(t).without_namespace("network");
    c.write();
    let call = |c: &Container<'_>| run_as_root(c, entries, inside);
    call(&c).ok().prints(ROOT_ALONE);
    t.assert_nothing_left();
}

fn root_without_maps_may_mount_with_his_own(t: &Test) {
    let c = of_root(t).lasting();
    c.run_detached();
    let source = crate::idmap::source(t);
    let mounts = t.path("mounts.json");
    let mount = json!([{"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"]}]);
    std::fs::write(&mounts, mount.to_string()).unwrap();
    t.call(&["mounts", "add", &c.id, mounts.to_str().unwrap()]).run().ok();
    c.exec(&["stat", "-c", "%u", "/mnt/zero"]).ok().prints("0\n");
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// Where Debian and Fedora have them.
const HIDDEN: &str = "mkdir -p empty; mount --bind empty /usr/bin";

fn a_helper_that_is_missing_is_named(t: &Test) {
    let words = ["newgidmap is not installed", "linux.gidMappings", "package uidmap"];
    is_told(&bundle(t), HIDDEN, &[], &words);
}

fn a_helper_that_may_not_be_executed_is_named(t: &Test) {
    let words = ["/newuidmap", "user box (1000) may not execute"];
    is_told(&bundle(t), &fake("cp /bin/true fake; chmod 4750 fake"), &[], &words);
}

fn a_helper_without_the_setuid_bit_is_named(t: &Test) {
    let words =
        ["newuidmap failed", "neither the setuid bit of root nor file capabilities", "chmod u+s"];
    is_told(&bundle(t), &fake("cp $(command -v newuidmap) fake; chmod 755 fake"), &[], &words);
    let owned = fake("cp $(command -v newuidmap) fake; chown 1000 fake; chmod 4755 fake");
    is_told(&bundle(t), &owned, &[], &words);
}

fn a_helper_on_a_nosuid_mount_is_named(t: &Test) {
    let setup = "mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin";
    is_told(&bundle(t), setup, &[], &["newgidmap failed", "mounted nosuid"]);
}

fn a_runtime_that_may_gain_nothing_is_told(t: &Test) {
    is_told(&bundle(t), "", &["--no-new-privs"], &["newgidmap failed", "no_new_privs is set"]);
}

fn a_runtime_without_the_capability_is_told(t: &Test) {
    let words = ["newgidmap failed", "CAP_SETGID is not in the bounding set"];
    is_told(&bundle(t), "", &["--bounding-set=-all"], &words);
    let words = ["newuidmap failed", "CAP_SETUID is not in the bounding set"];
    is_told(&bundle(t), "", &["--bounding-set=-setuid"], &words);
}

fn a_user_without_an_entry_is_named(t: &Test) {
    let words =
        ["newuidmap failed", "linux.uidMappings", "user box (1000) has no entry in /etc/subuid"];
    is_told(&bundle(t), "echo > subuid", &[], &words);
    let words =
        ["newgidmap failed", "linux.gidMappings", "user box (1000) has no entry in /etc/subgid"];
    is_told(&bundle(t), "echo boxer:300000:100 > subgid", &[], &words);
}

fn an_id_that_is_not_granted_is_named(t: &Test) {
    let words = ["/etc/subuid gives user box (1000) the ids 300000:60", "300060 is none of them"];
    is_told(&bundle(t), "echo 1000:300000:60 > subuid", &[], &words);
}

fn a_user_without_a_name_is_told(t: &Test) {
    let words = ["newgidmap failed", "user 1000 has no name in /etc/passwd"];
    is_told(&bundle(t), "echo root:x:0:0::/: > passwd", &[], &words);
}

fn another_group_than_the_users_is_told(t: &Test) {
    let c = bundle(t);
    let words = [
        "newgidmap failed",
        "only with his primary group 1000, and the runtime runs with group 1001",
    ];
    is_told(&c, "G=1001", &[], &words);
}

fn a_helper_that_crashes_is_named(t: &Test) {
    let script = "#!/bin/sh\\necho out of luck >&2\\nkill -SEGV $$\\n";
    let script = format!("printf '{script}' > fake; chmod 4755 fake");
    let words = ["newuidmap failed: signal: segmentation fault", "(out of luck)", "reinstall"];
    is_told(&bundle(t), &fake(&script), &[], &words);
}

fn a_helper_that_maps_nothing_is_named(t: &Test) {
    let words = ["newuidmap ended well and mapped nothing", "linux.uidMappings"];
    is_told(&bundle(t), &fake("cp /bin/true fake; chmod 4755 fake"), &[], &words);
}

fn a_helper_that_hangs_is_ended(t: &Test) {
    let script = "printf '#!/bin/sh\\nexec sleep 1000\\n' > fake; chmod 4755 fake";
    let words = ["newuidmap did not end within 10 seconds", "linux.uidMappings"];
    is_told(&bundle(t), &fake(script), &[], &words);
}

fn a_map_without_root_is_told(t: &Test) {
    let map = json!([{"containerID": 5, "hostID": USER, "size": 1}]);
    let c = bundle(t).set("/linux/uidMappings", map);
    is_told(&c, "", &[], &["id 0 of the container is not mapped", "linux.uidMappings"]);
}

fn a_forbidden_kind_of_namespace_is_named(t: &Test) {
    for kind in ["user", "pid", "mnt"] {
        let c = rootless::bundle(t);
        let setting = format!("max_{kind}_namespaces");
        c.write();
        t.need(t.kind() == Kind::Skep, "their words differ");
        let set = format!("echo 0 > /proc/sys/user/{setting} && exec \"$@\"");
        let id = USER.to_string();
        let (uid, gid) = (format!("--reuid={id}"), format!("--regid={id}"));
        let words = ["setpriv", &uid, &gid, "--clear-groups", "unshare", "--user", "-r"];
        let words = [&words[..], &["sh", "-c", &set, "sh"]].concat();
        // Root of that namespace, which is mapped as the configuration says.
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let c = c.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        c.write();
        let bundle = c.dir.display().to_string();
        let output = t.call(&["run", "--bundle", &bundle, &c.id]).by(&words).run();
        output.fails().one_line().names(&format!("user.{setting} is 0"));
    }
    t.assert_nothing_left();
}

fn a_chroot_is_named(t: &Test) {
    // A directory that is no mount, with what the runtime needs.
    let jail = t.path("jail").display().to_string();
    let store = t.store.display();
    let setup = format!(
        "J={jail}; mkdir -p $J; for d in usr lib lib64 bin proc sys etc dev {store}; do \
         if [ -d /$d ]; then mkdir -p $J/$d; mount --rbind /$d $J/$d; fi; done; \
         mkdir -p $J$(dirname {runtime}); mount --rbind $(dirname {runtime}) $J$(dirname {runtime}); \
         exec chroot $J $D/setpriv --reuid={USER} --regid={USER} --clear-groups \"$@\"",
        runtime = t.runtime.path.display(),
    );
    is_told(&bundle(t), &setup, &[], &["clone3", "the runtime runs in a chroot"]);
}

fn an_unmapped_user_is_told(t: &Test) {
    let words = ["clone3", "the runtime's own user id is not mapped", "/proc/self/uid_map"];
    is_told(&bundle(t), "", &["unshare", "--user"], &words);
}

/// The settings of Debian's and Ubuntu's kernels are files of the test's; the refusal is the kernel's, for another reason.
fn a_setting_that_forbids_user_namespaces_is_named(t: &Test) {
    for (setting, value) in
        [("unprivileged_userns_clone", 0), ("apparmor_restrict_unprivileged_userns", 1)]
    {
        let setup = format!(
            "cp /proc/sys/kernel/cap_last_cap .; mount -t tmpfs none /proc/sys/kernel; \
             cp cap_last_cap /proc/sys/kernel; echo {value} > /proc/sys/kernel/{setting}"
        );
        let named = format!("kernel.{setting} is {value}");
        is_told(&bundle(t), &setup, &["unshare", "--user"], &["clone3", &named]);
    }
}
