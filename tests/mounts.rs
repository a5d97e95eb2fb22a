//! mounts: each kind and option, read back from mountinfo inside the container, and root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, say};

cases![
    proc_is_mounted_for_the_pid_namespace,
    tmpfs_takes_its_options,
    tmpfs_keeps_the_mode_of_the_directory,
    tmpfs_mode_of_the_config_wins,
    tmpfs_copies_up,
    a_read_only_tmpfs_copies_up,
    devpts_is_a_new_instance,
    mqueue_is_mounted,
    sysfs_is_read_only,
    cgroup_shows_the_controllers_of_v1,
    cgroup_is_read_only_when_asked,
    cgroup_shows_only_its_own_in_a_cgroup_namespace,
    a_bind_mount_of_a_directory,
    a_bind_mount_of_a_file,
    a_bind_mount_is_writable_by_default,
    a_read_only_bind_mount_is_read_only,
    a_recursive_bind_mount_shows_submounts,
    a_plain_bind_mount_hides_submounts,
    a_relative_bind_source_is_in_the_bundle,
    a_bind_mount_needs_no_type,
    a_bind_mount_of_type_none,
    a_bind_mount_without_the_option_is_refused,
    a_missing_target_directory_is_made,
    a_missing_target_file_is_made,
    a_relative_target_is_taken_from_the_root,
    mounts_are_made_in_order,
    a_later_mount_covers_an_earlier_one,
    a_missing_source_is_reported,
    a_file_on_a_directory_is_reported,
    a_directory_on_a_file_is_reported,
    an_unknown_file_system_is_reported,
    an_unknown_option_goes_to_the_file_system,
    an_unknown_option_on_a_bind_mount_is_refused,
    what_only_tmpfs_takes_is_no_matter_to_a_bind_mount,
    the_target_symlink_stays_in_the_root,
    null_options_are_accepted,
    a_hundred_mounts,
    ten_thousand_mounts,
    a_mount_over_the_root_is_refused,
    an_overlay_may_be_the_root,
    a_mount_on_proc_other_than_proc_is_refused,
];

/// The mount at a point, from mountinfo inside: (options, optional fields, type, source, super options).
pub struct Seen {
    pub options: Vec<String>,
    pub optional: String,
    pub kind: String,
    pub superblock: String,
}

#[track_caller]
pub fn seen(mountinfo: &str, point: &str) -> Seen {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(point))
        .unwrap_or_else(|| panic!("nothing is mounted on {point}: {mountinfo}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    Seen {
        options: left[5].split(',').map(str::to_owned).collect(),
        optional: left[6..].join(" "),
        kind: right[0].to_owned(),
        superblock: right[2].to_owned(),
    }
}

impl Seen {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }
}

#[track_caller]
pub fn mountinfo(c: &Container<'_>) -> String {
    c.run().ok().stdout
}

/// A container that prints its mounts.
pub fn showing(t: &Test) -> Container<'_> {
    t.container().args(&["cat", "/proc/self/mountinfo"])
}

/// A directory of the host's with a file in it.
pub fn host_dir(t: &Test, name: &str) -> String {
    let dir = t.path(name);
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("file"), "from the host\n").unwrap();
    dir.display().to_string()
}

/// A mount of the test's own on the host, undone at the end.
pub struct HostMount(pub String);

impl HostMount {
    pub fn tmpfs(t: &Test, path: &str) -> Self {
        t.need_capability("CAP_SYS_ADMIN");
        fs::create_dir_all(path).unwrap();
        Self::run(&["-t", "tmpfs", "tmpfs", path]);
        Self(path.to_owned())
    }

    pub fn proc(t: &Test, path: &str) -> Self {
        t.need_capability("CAP_SYS_ADMIN");
        fs::create_dir_all(path).unwrap();
        Self::run(&["-t", "proc", "proc", path]);
        Self(path.to_owned())
    }

    /// A tmpfs with options.
    pub fn sized(t: &Test, path: &str, options: &str) -> Self {
        t.need_capability("CAP_SYS_ADMIN");
        fs::create_dir_all(path).unwrap();
        Self::run(&["-t", "tmpfs", "-o", options, "tmpfs", path]);
        Self(path.to_owned())
    }

    pub fn bind(t: &Test, path: &str) -> Self {
        t.need_capability("CAP_SYS_ADMIN");
        Self::run(&["--bind", path, path]);
        Self(path.to_owned())
    }

    /// Sets attributes of the mount, not of the file system; access times begin anew.
    pub fn attributes(&self, options: &str) {
        Self::run(&["--bind", "-o", "remount,rw,suid,dev,exec,diratime,strictatime", &self.0]);
        Self::run(&["--bind", "-o", &format!("remount,{options}"), &self.0]);
    }

    pub fn make(&self, propagation: &str) {
        Self::run(&[&format!("--make-{propagation}"), &self.0]);
    }

    fn run(args: &[&str]) {
        let output =
            crate::harness::reaper::output(std::process::Command::new("mount").args(args)).unwrap();
        assert!(output.status.success(), "mount {args:?}: {output:?}");
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _best_effort = nix::mount::umount2(self.0.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
}

fn proc_is_mounted_for_the_pid_namespace(t: &Test) {
    let c = t.container().sh("cat /proc/self/mountinfo; cat /proc/1/comm; true");
    let text = mountinfo(&c);
    assert_eq!(seen(&text, "/proc").kind, "proc");
    assert!(text.ends_with("\nsh\n"), "{text}");
}

fn tmpfs_takes_its_options(t: &Test) {
    let c = t
        .container()
        .mount(
            "/mnt",
            "tmpfs",
            "tmpfs",
            &["nosuid", "nodev", "noexec", "size=1m", "mode=1750", "uid=7", "gid=8"],
        )
        .sh("stat -c '%a %u %g' /mnt; cat /proc/self/mountinfo");
    let text = mountinfo(&c);
    assert!(text.starts_with("1750 7 8\n"), "{text}");
    let mount = seen(&text, "/mnt");
    assert_eq!(mount.kind, "tmpfs");
    assert!(
        mount.has("nosuid") && mount.has("nodev") && mount.has("noexec"),
        "{:?}",
        mount.options
    );
    assert!(mount.superblock.contains("size=1024k"), "{}", mount.superblock);
}

fn tmpfs_keeps_the_mode_of_the_directory(t: &Test) {
    let c = t.container().mount("/tmp", "tmpfs", "tmpfs", &["size=1m"]).sh("stat -c %a /tmp");
    c.run().ok().prints("1777\n");
    let c = t.container().mount("/mnt", "tmpfs", "tmpfs", &[]).sh("stat -c %a /mnt");
    fs::create_dir(c.path("/mnt")).unwrap();
    fs::set_permissions(c.path("/mnt"), fs::Permissions::from_mode(0o710)).unwrap();
    c.run().ok().prints("710\n");
}

fn tmpfs_mode_of_the_config_wins(t: &Test) {
    let c = t.container().mount("/tmp", "tmpfs", "tmpfs", &["mode=0700"]).sh("stat -c %a /tmp");
    c.run().ok().prints("700\n");
}

fn tmpfs_copies_up(t: &Test) {
    let c = t
        .container()
        .file("/data/file", "content\n", 0o640)
        .file("/data/deep/er", "deep\n", 0o600)
        .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
        .sh("cat /data/file /data/deep/er; stat -c %a /data/file; readlink /data/link; echo new > /data/file; cat /data/file");
    symlink("/etc/passwd", c.path("/data/link")).unwrap();
    c.run().ok().prints("content\ndeep\n640\n/etc/passwd\nnew\n");
    assert_eq!(c.read("/data/file"), "content\n");
}

fn a_read_only_tmpfs_copies_up(t: &Test) {
    let c = t
        .container()
        .file("/data/file", "content\n", 0o640)
        .mount("/data", "tmpfs", "tmpfs", &["ro", "tmpcopyup"])
        .sh("cat /data/file; echo new > /data/file");
    assert_eq!(c.run().stdout, "content\n");
    assert_eq!(c.read("/data/file"), "content\n");
}

fn devpts_is_a_new_instance(t: &Test) {
    let c = t.container().sh(
        "ls /dev/pts; stat -c '%a' /dev/pts/ptmx; readlink /dev/ptmx; cat /proc/self/mountinfo",
    );
    let text = mountinfo(&c);
    assert!(text.starts_with("ptmx\n666\n"), "{text}");
    let mount = seen(&text, "/dev/pts");
    assert_eq!(mount.kind, "devpts");
    assert!(
        mount.superblock.contains("gid=5") && mount.superblock.contains("mode=620"),
        "{}",
        mount.superblock
    );
}

fn mqueue_is_mounted(t: &Test) {
    let text = mountinfo(&showing(t));
    let mount = seen(&text, "/dev/mqueue");
    assert_eq!(mount.kind, "mqueue");
    assert!(mount.has("nosuid") && mount.has("noexec") && mount.has("nodev"));
}

fn sysfs_is_read_only(t: &Test) {
    let text = mountinfo(&showing(t));
    let mount = seen(&text, "/sys");
    assert_eq!(mount.kind, "sysfs");
    assert!(mount.has("ro"));
}

const CGROUP: &[&str] = &["nosuid", "noexec", "nodev", "relatime"];

fn cgroup_shows_the_controllers_of_v1(t: &Test) {
    t.need_layout(crate::harness::host::Layout::V1);
    let c = t
        .container()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", CGROUP)
        .sh("cat /sys/fs/cgroup/pids/pids.max; cat /proc/self/mountinfo; ls /sys/fs/cgroup")
        .set("/linux/resources/pids", json!({"limit": 77}));
    let text = mountinfo(&c);
    // Without a cgroup namespace the container's own cgroup is what is seen.
    assert!(text.starts_with("77\n"), "{text}");
    for controller in ["memory", "pids", "devices", "freezer"] {
        t.need_controller(controller);
        assert_eq!(seen(&text, &format!("/sys/fs/cgroup/{controller}")).kind, "cgroup");
    }
}

fn cgroup_is_read_only_when_asked(t: &Test) {
    let options = [CGROUP, &["ro"]].concat();
    let c = t
        .container()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)
        .sh("mkdir /sys/fs/cgroup/pids/x || mkdir /sys/fs/cgroup/x || echo neither");
    c.run().ok().prints("neither\n");
}

fn cgroup_shows_only_its_own_in_a_cgroup_namespace(t: &Test) {
    t.need_layout(crate::harness::host::Layout::V1);
    let c = t
        .container()
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", CGROUP)
        .set("/linux/resources/pids", json!({"limit": 78}))
        .sh("cat /sys/fs/cgroup/pids/pids.max; cat /proc/self/cgroup | grep pids");
    let output = c.run().ok();
    assert!(
        output.stdout.starts_with("78\n") && output.stdout.trim_end().ends_with(":/"),
        "{output}"
    );
}

fn a_bind_mount_of_a_directory(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t.container().mount("/mnt", "bind", &dir, &["bind"]).sh("cat /mnt/file");
    c.run().ok().prints("from the host\n");
}

fn a_bind_mount_of_a_file(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/etc/hosts", "bind", &format!("{dir}/file"), &["bind", "ro"])
        .sh("cat /etc/hosts");
    c.run().ok().prints("from the host\n");
}

fn a_bind_mount_is_writable_by_default(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t.container().mount("/mnt", "bind", &dir, &["rbind"]).sh("echo changed > /mnt/file");
    c.run().ok();
    assert_eq!(fs::read_to_string(format!("{dir}/file")).unwrap(), "changed\n");
}

fn a_read_only_bind_mount_is_read_only(t: &Test) {
    let dir = host_dir(t, "dir");
    for options in [&["bind", "ro"][..], &["rbind", "ro"], &["ro", "rbind", "rprivate"]] {
        let c = t.container().mount("/mnt", "bind", &dir, options).sh("echo changed > /mnt/file");
        let output = c.run().code(1);
        assert!(output.stderr.contains("Read-only file system"), "{output}");
    }
    assert_eq!(fs::read_to_string(format!("{dir}/file")).unwrap(), "from the host\n");
}

fn a_recursive_bind_mount_shows_submounts(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    fs::write(format!("{dir}/sub/inner"), "inner\n").unwrap();
    t.container()
        .mount("/mnt", "bind", &dir, &["rbind"])
        .sh("cat /mnt/sub/inner")
        .run()
        .ok()
        .prints("inner\n");
}

fn a_plain_bind_mount_hides_submounts(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    fs::write(format!("{dir}/sub/inner"), "inner\n").unwrap();
    t.container().mount("/mnt", "bind", &dir, &["bind"]).sh("ls /mnt/sub").run().ok().prints("");
}

fn a_relative_bind_source_is_in_the_bundle(t: &Test) {
    let c = t.container().mount("/mnt", "bind", "volume", &["bind"]).sh("cat /mnt/file");
    fs::create_dir(c.dir.join("volume")).unwrap();
    fs::write(c.dir.join("volume/file"), "in the bundle\n").unwrap();
    c.run().ok().prints("in the bundle\n");
    // Also when the caller stands elsewhere.
    c.bundle_call("run", &[]).cwd(std::path::Path::new("/")).run().ok().prints("in the bundle\n");
}

fn a_bind_mount_needs_no_type(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .push("/mounts", json!({"destination": "/mnt", "source": dir, "options": ["rbind"]}))
        .sh("cat /mnt/file");
    c.run().ok().prints("from the host\n");
}

fn a_bind_mount_of_type_none(t: &Test) {
    let dir = host_dir(t, "dir");
    t.container().mount("/mnt", "none", &dir, &["rbind", "nosuid"]).sh("cat /mnt/file").run().ok();
}

fn a_bind_mount_without_the_option_is_refused(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t.container().mount("/mnt", "bind", &dir, &["ro"]).sh("cat /mnt/file");
    let output = c.run();
    // Only the option decides in runc; "bind" is no file system of the kernel's.
    if output.code != Some(0) {
        output.fails().names("/mnt");
    }
    t.assert_nothing_left();
}

fn a_missing_target_directory_is_made(t: &Test) {
    let c = t
        .container()
        .mount("/new/deep/dir", "tmpfs", "tmpfs", &[])
        .sh("stat -c '%F' /new/deep/dir; stat -c %a /new");
    c.run().ok().prints("directory\n755\n");
}

fn a_missing_target_file_is_made(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/new/deep/file", "bind", &format!("{dir}/file"), &["bind"])
        .sh("cat /new/deep/file");
    c.run().ok().prints("from the host\n");
    assert!(fs::symlink_metadata(c.path("/new/deep/file")).unwrap().is_file());
}

fn a_relative_target_is_taken_from_the_root(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("mnt/here", "bind", &dir, &["bind"])
        .set("/process/cwd", json!("/tmp"))
        .sh("cat /mnt/here/file");
    c.run().ok().prints("from the host\n");
}

fn mounts_are_made_in_order(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/mnt", "tmpfs", "tmpfs", &[])
        .mount("/mnt/inner", "bind", &dir, &["bind"])
        .mount("/mnt/inner/sub", "tmpfs", "tmpfs", &[])
        .sh("cat /mnt/inner/file; touch /mnt/inner/sub/x && ls /mnt/inner/sub");
    c.run().ok().prints("from the host\nx\n");
}

fn a_later_mount_covers_an_earlier_one(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/mnt", "bind", &dir, &["bind"])
        .mount("/mnt", "tmpfs", "tmpfs", &[])
        .sh("ls /mnt");
    c.run().ok().prints("");
}

fn a_missing_source_is_reported(t: &Test) {
    t.container()
        .mount("/mnt", "bind", "/no/such/source", &["bind"])
        .run()
        .fails()
        .names("/no/such/source")
        .says(&say::NO_SUCH_FILE);
    t.assert_nothing_left();
}

fn a_file_on_a_directory_is_reported(t: &Test) {
    let dir = host_dir(t, "dir");
    t.container()
        .mount("/etc", "bind", &format!("{dir}/file"), &["bind"])
        .run()
        .fails()
        .names("/etc")
        .says(&say::NOT_A_DIRECTORY);
    t.assert_nothing_left();
}

fn a_directory_on_a_file_is_reported(t: &Test) {
    let dir = host_dir(t, "dir");
    t.container()
        .mount("/etc/passwd", "bind", &dir, &["bind"])
        .run()
        .fails()
        .names("/etc/passwd")
        .says(&say::NOT_A_DIRECTORY);
    t.assert_nothing_left();
}

fn an_unknown_file_system_is_reported(t: &Test) {
    t.container().mount("/mnt", "nonsensefs", "none", &[]).run().fails().names("/mnt");
    t.assert_nothing_left();
}

fn an_unknown_option_goes_to_the_file_system(t: &Test) {
    let c = showing(t).mount("/mnt", "tmpfs", "tmpfs", &["nr_inodes=77"]);
    assert!(seen(&mountinfo(&c), "/mnt").superblock.contains("nr_inodes=77"));
    t.container().mount("/mnt", "tmpfs", "tmpfs", &["nonsense=1"]).run().fails().names("/mnt");
    t.assert_nothing_left();
}

fn an_unknown_option_on_a_bind_mount_is_refused(t: &Test) {
    let dir = host_dir(t, "dir");
    t.container().mount("/mnt", "bind", &dir, &["bind", "nonsense=1"]).run().fails();
    t.assert_nothing_left();
}

fn what_only_tmpfs_takes_is_no_matter_to_a_bind_mount(t: &Test) {
    let dir = host_dir(t, "dir");
    let options = ["bind", "nosuid", "mode=755", "size=1k"];
    let c = t.container().mount("/mnt", "bind", &dir, &options).sh("cat /mnt/file");
    c.run().prints("from the host\n");
}

fn the_target_symlink_stays_in_the_root(t: &Test) {
    let dir = host_dir(t, "dir");
    let outside = t.path("outside");
    fs::create_dir(&outside).unwrap();
    let c = t.container().mount("/link", "bind", &dir, &["bind"]).sh("cat /link/file");
    symlink(&outside, c.path("/link")).unwrap();
    let output = c.run();
    if output.code == Some(0) {
        output.prints("from the host\n");
    } else {
        output.fails();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    t.assert_nothing_left();
}

fn null_options_are_accepted(t: &Test) {
    let c = t.container().push(
        "/mounts",
        json!({"destination": "/mnt", "type": "tmpfs", "source": null, "options": null}),
    );
    c.run().ok();
}

fn a_hundred_mounts(t: &Test) {
    let mut c = showing(t);
    for n in 0..100 {
        c = c.mount(&format!("/mnt/{n}"), "tmpfs", "tmpfs", &["size=4k"]);
    }
    let text = mountinfo(&c);
    assert_eq!(text.lines().filter(|line| line.contains(" /mnt/")).count(), 100);
}

/// More than there may be open files; the kernel itself allows 100 000.
fn ten_thousand_mounts(t: &Test) {
    let dir = host_dir(t, "dir");
    let mut c = t.container();
    for n in 0..10_000 {
        let target = format!("/m/{}/{n}", n / 100);
        c = match n % 4 {
            0 => c.mount(&target, "tmpfs", "tmpfs", &["size=4k"]),
            1 => c.mount(&target, "bind", &dir, &["rbind", "ro"]),
            2 => c.mount(&target, "bind", &format!("{dir}/file"), &["bind", "nosuid"]),
            _ => c.mount(&target, "bind", &dir, &["bind"]),
        };
    }
    let c = c.sh("grep -c ' /m/' /proc/self/mountinfo; cat /m/99/9999/file");
    let few = ["sh", "-c", "ulimit -S -n 512; exec \"$@\"", "sh"];
    let output = c.bundle_call("run", &[]).by(&few).run().ok();
    output.prints("10000\nfrom the host\n");
}

fn a_mount_over_the_root_is_refused(t: &Test) {
    t.container().mount("/", "tmpfs", "tmpfs", &[]).run().not_ok();
    t.assert_nothing_left();
}

fn an_overlay_may_be_the_root(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun 1.8 mounts nothing on the root");
    let c = t.container();
    let lower = c.rootfs().display().to_string();
    let [upper, work, empty] = ["upper", "work", "empty"].map(|name| {
        let path = t.path(name);
        fs::create_dir(&path).unwrap();
        path.display().to_string()
    });
    let overlay = json!({"destination": "/", "type": "overlay", "source": "overlay",
        "options": [format!("lowerdir={lower}:{empty}"), format!("upperdir={upper}"), format!("workdir={work}")]});
    let before = c.config.pointer("/mounts").unwrap().as_array().unwrap().clone();
    let with = |first: bool| {
        let mut mounts = before.clone();
        mounts.insert(if first { 0 } else { mounts.len() }, overlay.clone());
        t.container().set("/mounts", json!(mounts))
    };
    // What is mounted and made later is in it, what the process writes too, and it is sealed like any root.
    let script = "echo new >/new; cat /proc/self/mountinfo; test -c /dev/null";
    let shown = with(true).sh(script).run().ok().stdout;
    assert_eq!(seen(&shown, "/").kind, "overlay");
    assert_eq!(seen(&shown, "/proc").kind, "proc");
    assert_eq!(fs::read_to_string(format!("{upper}/new")).unwrap(), "new\n");
    let sealed = with(true).set("/root/readonly", json!(true));
    sealed.sh("! echo x >/sealed && cat /new").run().ok().prints("new\n");
    let lasting = with(true).lasting();
    lasting.create();
    lasting.start();
    lasting.exec(&["cat", "/new"]).ok().prints("new\n");
    lasting.delete_force();
    // Later it would hide what was mounted before it.
    if t.kind() == Kind::Skep {
        with(false).run().fails().names("destination");
    }
    t.assert_nothing_left();
}

fn a_mount_on_proc_other_than_proc_is_refused(t: &Test) {
    // CVE-2019-16884: a volume over /proc or in it lets the image answer for the kernel.
    let dir = host_dir(t, "dir");
    for target in ["/proc", "/proc/self", "/proc/sys", "/proc/self/attr"] {
        t.container().mount(target, "bind", &dir, &["bind"]).run().fails();
    }
    t.container().mount("/proc", "tmpfs", "tmpfs", &[]).run().fails();
    // lxcfs is allowed.
    t.container()
        .mount("/proc/uptime", "bind", &format!("{dir}/file"), &["bind"])
        .sh("cat /proc/uptime")
        .run()
        .ok();
    t.assert_nothing_left();
}
