//! Namespaces that are somebody else's: what is in them is not the container's to see, to kill or to leave behind.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, reaper, wait};

cases![
    init_in_a_joined_user_and_pid_namespace_is_known_by_the_hosts_pid,
    kill_ends_all_of_a_container_in_a_joined_pid_namespace,
    a_container_in_a_joined_pid_namespace_is_deleted_with_what_its_init_has_left,
    a_joined_mount_namespace_keeps_what_it_has,
    exec_in_a_joined_mount_namespace_is_in_the_root_of_the_container,
    the_owner_of_a_joined_mount_namespace_does_not_get_the_runtime,
];

/// Some program of this container has that command line.
fn runs(c: &Container<'_>, words: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        read("cmdline").replace('\0', " ").trim() == words && read("cgroup").contains(&c.id)
    })
}

/// A container whose pid namespace is that of `first`; others of its processes are not init's children for long.
fn sharing_pids<'t>(t: &'t Test, first: &Container<'_>) -> Container<'t> {
    let path = format!("/proc/{}/ns/pid", first.pid());
    t.container()
        .set("/linux/namespaces/0/path", json!(path))
        .sh("sleep 1001 & (sleep 1002 &) ; echo up > /up; wait")
}

fn init_in_a_joined_user_and_pid_namespace_is_known_by_the_hosts_pid(t: &Test) {
    t.need_user_namespaces();
    let first = t.container().lasting().user_namespace(100_000);
    first.run_detached();
    let path = |name: &str| format!("/proc/{}/ns/{name}", first.pid());
    let second = t
        .container()
        .lasting()
        .without_mount("/sys")
        .without_mount("/dev/mqueue")
        .without_mount("/dev/pts")
        .set("/linux/namespaces/0/path", json!(path("pid")))
        .push("/linux/namespaces", json!({"type": "user", "path": path("user")}));
    second.run_detached();
    for name in ["pid", "user"] {
        let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(link(second.pid()), link(first.pid()), "{name}");
    }
    let words = fs::read_to_string(format!("/proc/{}/cgroup", second.pid())).unwrap();
    assert!(words.contains(&second.id), "a stranger was taken for init: {words}");
    assert_eq!(second.state()["pid"], json!(second.pid()));
    second.exec(&["cat", "/proc/1/cmdline"]).ok();
    second.delete_force().ok();
    assert!(!wait::is_alive(second.pid()));
    assert_eq!(first.status(), "running");
}

fn kill_ends_all_of_a_container_in_a_joined_pid_namespace(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    let second = sharing_pids(t, &first);
    second.run_detached();
    second.wait_file("/up");
    second.kill("KILL").ok();
    second.wait_exit();
    wait::until("all of the container ends", || {
        (!runs(&second, "sleep 1001") && !runs(&second, "sleep 1002")).then_some(())
    });
    second.delete().ok();
    assert!(t.cgroups().iter().all(|path| !path.ends_with(&second.id)), "{:?}", t.cgroups());
    assert_eq!(first.status(), "running");
}

fn a_container_in_a_joined_pid_namespace_is_deleted_with_what_its_init_has_left(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    for force in [false, true] {
        t.need(t.kind() != Kind::Crun, "crun 1.8 leaves the others");
        let second = sharing_pids(t, &first);
        second.run_detached();
        second.wait_file("/up");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(second.pid()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        second.wait_exit();
        assert_eq!(second.status(), "stopped");
        assert!(runs(&second, "sleep 1002"));
        let output = if force { second.delete_force() } else { second.delete() };
        output.ok();
        assert!(!runs(&second, "sleep 1002"));
        assert!(t.cgroups().iter().all(|path| !path.ends_with(&second.id)), "{:?}", t.cgroups());
    }
    assert_eq!(first.status(), "running");
}

/// A process with a mount namespace of its own, a private copy of the host's.
struct Holder(reaper::Child);

impl Holder {
    fn start(t: &Test) -> Self {
        Self::with(t, &[], "")
    }

    /// With more namespaces, after `words` in it.
    fn with(t: &Test, namespaces: &[&str], words: &str) -> Self {
        t.need_program("unshare");
        let mut command = std::process::Command::new("unshare");
        let ready = t.path("holder");
        command.args(namespaces).args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg(format!("{words}\necho up > {}; exec sleep 1000", ready.display()));
        let child = reaper::spawn(&mut command).unwrap();
        wait::for_file(&ready);
        Self(child)
    }

    fn mounts(&self, t: &Test) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.0.pid)).unwrap();
        let points = text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
        points.filter(|point| t.is_no_others(point)).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.pid);
        let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        self.0.wait(wait::patience());
    }
}

/// A container that joins the mount namespace of `holder`.
fn joining<'t>(t: &'t Test, holder: &Holder) -> Container<'t> {
    let path = format!("/proc/{}/ns/mnt", holder.0.pid);
    t.container().lasting().file("/only-inside", "yes\n", 0o644).set(
        "/linux/namespaces",
        json!([{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
               {"type": "mount", "path": path}]),
    )
}

fn a_joined_mount_namespace_keeps_what_it_has(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun leave the root mounted there");
    let holder = Holder::start(t);
    let before = holder.mounts(t);
    let c = joining(t, &holder);
    c.run_detached();
    let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(link(c.pid()), link(holder.0.pid));
    assert_eq!(holder.mounts(t), before);
    c.delete_force().ok();
    assert_eq!(holder.mounts(t), before);
    t.assert_nothing_left();
}

fn exec_in_a_joined_mount_namespace_is_in_the_root_of_the_container(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun have their own ways here");
    let holder = Holder::start(t);
    let c = joining(t, &holder);
    c.run_detached();
    c.exec(&["cat", "/only-inside"]).ok().prints("yes\n");
    c.exec(&["sh", "-c", "ls -d /proc/1/root/only-inside"]).ok();
}

/// CVE-2019-5736 by way of the paths of a namespace that somebody hostile has made.
fn the_owner_of_a_joined_mount_namespace_does_not_get_the_runtime(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime leaves where");
    t.need_user_namespaces();
    let c = t.container().file("/etc/version", "", 0o644);
    // Its root is everything of the host's, but for a /proc that leads into the container.
    let words = format!(
        "mkdir {new}; mount -t tmpfs none {new}
         for entry in /*; do
             if [ -L $entry ]; then cp -P $entry {new}/
             elif [ $entry != /proc ] && [ -d $entry ]; then mkdir {new}$entry; mount --rbind $entry {new}$entry; fi
         done
         ln -s {rootfs}/etc {new}/proc; mkdir {new}/put_old; cd {new}; pivot_root . put_old",
        new = t.path("new").display(),
        rootfs = c.rootfs().display(),
    );
    let holder = Holder::with(t, &["--user", "--map-root-user"], &words);
    let path = |name: &str| format!("/proc/{}/ns/{name}", holder.0.pid);
    let c = c
        .without_mount("/sys")
        .without_mount("/dev/mqueue")
        .without_mount("/dev/pts")
        .without_mount("/sys/fs/cgroup")
        .set(
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "mount", "path": path("mnt")}, {"type": "user", "path": path("user")}]),
        )
        .unset("/hostname")
        .sh("cat /proc/self/mountinfo");
    let mounts = c.run().ok().stdout;
    assert!(mounts.contains(" /proc ") && !mounts.contains(" /etc/version "), "{mounts}");
}
