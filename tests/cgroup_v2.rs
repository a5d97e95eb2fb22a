//! What a host with cgroup version 2 alone has, and version 1 has not or does otherwise (cgroup-v2.rst).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::test::remove_cgroup;
use crate::harness::{Container, Kind, Test, json, reaper, wait};

cases![
    nobody_is_moved_into_the_cgroup,
    controllers_are_on_down_the_tree,
    the_program_finds_its_limits,
    a_signal_to_all_leaves_the_freezer_as_it_was,
    what_cannot_be_frozen_is_thawed_again,
    all_are_killed_at_one_blow,
    a_process_where_the_cgroup_has_no_room,
    a_systemd_in_the_container,
    every_statistic_is_in_events,
    devices_are_replaced_without_a_gap,
    a_full_hierarchy_is_reported,
    a_hierarchy_that_is_too_deep_is_reported,
    a_missing_controller_is_reported,
    a_threaded_parent_is_reported,
    a_parent_with_processes_is_reported,
];

const USUAL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

fn need_v2(t: &Test) {
    t.need_layout(Layout::V2);
}

/// A cgroup of the test's own, removed with all below it, when the containers are.
struct Parent<'t> {
    test: &'t Test,
    dir: PathBuf,
    /// For `linux.cgroupsPath`.
    path: String,
}

impl<'t> Parent<'t> {
    fn new(t: &'t Test) -> Self {
        let path = format!("/{}-pod", t.id);
        let dir = t.host.v2(&path, "");
        fs::create_dir(&dir).unwrap();
        Self { test: t, dir, path }
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.dir.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// A container whose cgroup is `box` below this one.
    fn container(&self) -> Container<'t> {
        self.test
            .container()
            .lasting()
            .set("/linux/cgroupsPath", json!(format!("{}/box", self.path)))
    }

    /// Asserts that a container that failed took its cgroup along, and nobody else's.
    fn assert_clean(&self) {
        assert!(self.dir.exists() && !self.dir.join("box").exists());
    }
}

impl Drop for Parent<'_> {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.test.root).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            self.test.call(&["delete", "--force", &id]).run();
        }
        remove_cgroup(&self.dir);
    }
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.split_whitespace().map(str::to_owned).collect()
}

fn write_own(dir: &Path, file: &str) -> Vec<String> {
    words(&dir.join(file))
}

/// Gives the container its cgroup at /sys/fs/cgroup, as the root of a cgroup namespace.
fn with_own_cgroup<'t>(c: Container<'t>, option: &str) -> Container<'t> {
    c.push("/linux/namespaces", json!({"type": "cgroup"})).mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", option],
    )
}

// --- how a process gets in ---

/// Born there: a write to cgroup.procs takes a lock that all forks of the host wait for.
fn nobody_is_moved_into_the_cgroup(t: &Test) {
    need_v2(t);
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun write cgroup.procs");
    let c = t.container().lasting();
    let dir = t.host.v2(&c.id, "");
    fs::create_dir(&dir).unwrap();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    for file in ["cgroup.procs", "cgroup.threads"] {
        watch.add_watch(&dir.join(file), AddWatchFlags::IN_MODIFY).unwrap();
    }
    c.run_detached();
    c.exec(&["true"]).ok();
    c.exec_with(&["--detach"], &["sleep", "1000"]).run().ok();
    assert_eq!(words(&dir.join("cgroup.procs")).len(), 2);
    assert_eq!(watch.read_events().unwrap_err(), nix::errno::Errno::EAGAIN);
    // The watch would have seen it.
    let child = reaper::spawn(Command::new("sleep").arg("1000")).unwrap();
    fs::write(dir.join("cgroup.procs"), child.pid.to_string()).unwrap();
    let seen = watch.read_events().unwrap();
    kill(Pid::from_raw(child.pid), Signal::SIGKILL).unwrap();
    child.wait(wait::patience());
    assert!(!seen.is_empty());
}

fn controllers_are_on_down_the_tree(t: &Test) {
    need_v2(t);
    let parent = Parent::new(t);
    let usual: Vec<&str> =
        USUAL.into_iter().filter(|name| t.host.controllers.iter().any(|on| on == name)).collect();
    let c = parent
        .container()
        .set("/linux/cgroupsPath", json!(format!("{}/inner/box", parent.path)))
        .set("/linux/resources/memory", json!({"limit": 67_108_864}));
    c.create();
    let inner = parent.dir.join("inner");
    for dir in [&parent.dir, &inner] {
        let on = write_own(dir, "cgroup.subtree_control");
        for name in &usual {
            assert!(on.iter().any(|on| on == name), "{name}: {} has {on:?}", dir.display());
        }
        assert!(!on.iter().any(|on| on == "hugetlb"), "{on:?}: nobody has asked for hugetlb");
    }
    assert_eq!(write_own(&inner.join("box"), "cgroup.subtree_control"), [""; 0]);
    assert_eq!(write_own(&inner.join("box"), "memory.max"), ["67108864"]);
    c.delete_force().ok();
    assert!(!inner.join("box").exists());
    if t.host.controllers.iter().any(|name| name == "hugetlb")
        && t.host.has_cgroup_file(("", ""), "hugetlb.2MB.max")
    {
        let limits = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
        let c = parent.container().set("/linux/resources/hugepageLimits", limits);
        c.create();
        assert_eq!(write_own(&parent.dir.join("box"), "hugetlb.2MB.max"), ["4194304"]);
    }
}

/// Before its first instruction, in the cgroup it cannot leave.
fn the_program_finds_its_limits(t: &Test) {
    need_v2(t);
    let files = [
        "memory.max",
        "memory.low",
        "memory.high",
        "pids.max",
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
    ];
    let paths: Vec<String> = files.iter().map(|name| format!("/sys/fs/cgroup/{name}")).collect();
    let mut args = vec!["cat", "/proc/self/cgroup"];
    args.extend(paths.iter().map(String::as_str));
    let c = with_own_cgroup(t.container(), "ro").args(&args).set(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432},
            "pids": {"limit": 7},
            "cpu": {"quota": 50_000, "period": 100_000, "shares": 1024, "cpus": "0"},
            "unified": {"memory.high": "50331648"},
        }),
    );
    c.run().ok().prints("0::/\n67108864\n33554432\n50331648\n7\n50000 100000\n100\n0\n");
}

// --- the freezer ---

fn frozen(c: &Container<'_>) -> bool {
    fs::read_to_string(c.test.host.v2(&c.id, "cgroup.freeze")).unwrap().trim() == "1"
}

fn a_signal_to_all_leaves_the_freezer_as_it_was(t: &Test) {
    need_v2(t);
    let c = t.container().sh("trap 'echo caught >> /log' USR1; while :; do sleep 0.05; done");
    c.run_detached();
    c.exec_with(&["--detach"], &["sleep", "1000"]).run().ok();
    for paused in [false, true] {
        if paused {
            c.call("pause", &[]).run().ok();
        }
        t.call(&["kill", "--all", &c.id, "WINCH"]).run().ok();
        assert_eq!(frozen(&c), paused);
    }
    assert_eq!(c.status(), "paused");
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// A process in the kernel's hands, as one that waits for a dead network file system is.
fn what_cannot_be_frozen_is_thawed_again(t: &Test) {
    need_v2(t);
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun leave it half frozen");
    let c = t.container().with_probe().with_capabilities(&["CAP_SYS_PTRACE"]).args(&[
        "probe",
        "unfreezable",
        "/stuck",
    ]);
    c.run_detached();
    let said = c.wait_file("/stuck");
    t.need(said == "stuck\n", &format!("userfaultfd(2) says {said}"));
    let output = c.call("pause", &[]).run().fails();
    output.one_line().names("unable to freeze").names("uninterruptible");
    assert!(!frozen(&c));
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn all_are_killed_at_one_blow(t: &Test) {
    need_v2(t);
    t.need(t.kind() == Kind::Skep, "older ones kill one by one");
    for paused in [false, true] {
        // Whoever kills them one by one never finds the last.
        let c = t
            .container()
            .sh("f() { while :; do (f) & sleep 0.01; done; }; f")
            .set("/linux/resources/pids", json!({"limit": 60}));
        c.run_detached();
        let procs = t.host.v2(&c.id, "cgroup.procs");
        wait::until("many processes", || (words(&procs).len() > 40).then_some(()));
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&t.host.v2(&c.id, "cgroup.kill"), AddWatchFlags::IN_MODIFY).unwrap();
        if paused {
            c.call("pause", &[]).run().ok();
        }
        c.delete_force().ok();
        assert!(!watch.read_events().unwrap().is_empty(), "nobody wrote cgroup.kill");
        t.assert_nothing_left();
    }
}

// --- a cgroup with children ---

/// Init moves itself below its own cgroup and turns controllers on, as a systemd does.
fn a_process_where_the_cgroup_has_no_room(t: &Test) {
    need_v2(t);
    let c = with_own_cgroup(t.container(), "rw")
        .sh("cd /sys/fs/cgroup && mkdir init other && echo 1 > init/cgroup.procs && \
         echo '+memory +pids' > cgroup.subtree_control && echo ready > /ready; exec sleep 1000");
    c.run_detached();
    c.wait_file("/ready");
    c.exec(&["cat", "/proc/self/cgroup"]).ok().prints("0::/init\n");
    if t.kind() == Kind::Skep {
        c.exec_with(&["--cgroup", "other"], &["cat", "/proc/self/cgroup"])
            .run()
            .ok()
            .prints("0::/other\n");
        c.exec_with(&["--cgroup", "/"], &["true"]).run().exec_fails().names("hold no processes");
    }
    c.call("update", &["--pids-limit", "19"]).run().ok();
    assert_eq!(words(&t.host.v2(&c.id, "pids.max")), ["19"]);
    c.call("pause", &[]).run().ok();
    assert_eq!(c.status(), "paused");
    c.call("resume", &[]).run().ok();
    c.exec_with(&["--detach"], &["sleep", "1000"]).run().ok();
    assert_eq!(c.call("ps", &["--format", "json"]).run().ok().json().as_array().unwrap().len(), 2);
    // And further down: init is where no room is, either.
    c.exec(&["sh", "-c", "cd /sys/fs/cgroup/init && mkdir low && echo 1 > low/cgroup.procs"]).ok();
    c.exec(&["cat", "/proc/self/cgroup"]).ok();
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// A container whose init is the systemd of the host, with one unit of its own and nothing else.
fn run_systemd(t: &Test, c: Container<'_>) {
    t.need(Path::new(SYSTEMD).exists(), "no systemd on this host");
    let c = with_own_cgroup(c, "rw")
        .mount("/usr", "bind", "/usr", &["rbind", "ro"])
        .mount("/run", "tmpfs", "tmpfs", &["mode=755"])
        .push("/process/env", json!("container=oci"))
        .args(&[SYSTEMD, "--unit=inner.service", "--log-target=console", "--show-status=no"])
        .file("/etc/machine-id", "", 0o644)
        .file("/etc/os-release", "ID=test\n", 0o644)
        .file("/etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
        .file("/etc/group", "root:x:0:\n", 0o644)
        .file("/etc/systemd/system/inner.service", UNIT, 0o644);
    for (link, target) in [("/lib", "usr/lib"), ("/lib64", "usr/lib64")] {
        symlink(target, c.path(link)).unwrap();
    }
    c.run_detached();
    let seen = c.wait_file("/told");
    assert_eq!(seen, "0::/system.slice/inner.service\n33554432\n10\n", "{seen}");
    // No EBUSY: there is no room where the container's first process was born.
    c.exec(&["cat", "/proc/self/cgroup"]).ok().prints("0::/init.scope\n");
    let systemctl = ["/usr/bin/systemctl", "show", "-P", "ActiveState", "inner.service"];
    c.exec(&systemctl).ok().prints("active\n");
    c.call("update", &["--memory", "134217728"]).run().ok();
    let events = c.call("events", &["--stats"]).run().ok().json();
    assert_eq!(events["data"]["memory"]["usage"]["limit"], json!(134_217_728));
    // SIGRTMIN+3 is how a systemd is told to halt.
    t.call(&["kill", &c.id, "37"]).run().ok();
    c.wait_exit();
    c.delete().ok();
    t.assert_nothing_left();
}

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

const UNIT: &str = "\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
RemainAfterExit=yes
MemoryMax=32M
TasksMax=10
ExecStart=/bin/sh -c 'own=$(sed -n s/^0:://p /proc/self/cgroup); cd /sys/fs/cgroup$$own && cat /proc/self/cgroup memory.max pids.max > /tell && mv /tell /told'
";

fn a_systemd_in_the_container(t: &Test) {
    need_v2(t);
    run_systemd(t, t.container());
}

// --- statistics and devices ---

fn every_statistic_is_in_events(t: &Test) {
    need_v2(t);
    t.need(t.kind() == Kind::Skep, "as runc 1.2 and later have it; crun has no events");
    let c = t
        .container()
        .sh("dd if=/dev/zero of=/file bs=64k count=32 conv=fsync 2> /dev/null; echo up > /up; sleep 1000")
        .set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 100_663_296}))
        .set("/linux/resources/pids", json!({"limit": 44}))
        .set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000}))
        .set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}]));
    c.run_detached();
    c.wait_file("/up");
    // Then nothing changes but what the kernel itself does.
    c.call("pause", &[]).run().ok();
    let file = |name: &str| fs::read_to_string(t.host.v2(&c.id, name)).ok();
    let number = |name: &str| file(name).map_or(0, |text| text.trim().parse::<u64>().unwrap());
    let keyed = |name: &str, key: &str| {
        let text = file(name).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{key} ")));
        found.unwrap_or_else(|| panic!("no {key} in {name}")).parse::<u64>().unwrap()
    };
    // The timer of the periods runs out on its own.
    let periods = || (keyed("cpu.stat", "nr_periods"), keyed("cpu.stat", "nr_throttled"));
    let before = periods();
    let data = &c.call("events", &["--stats"]).run().ok().json()["data"];
    let after = periods();
    let at = |pointer: &str| data.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
    for (pointer, key) in [
        ("/cpu/usage/total", "usage_usec"),
        ("/cpu/usage/user", "user_usec"),
        ("/cpu/usage/kernel", "system_usec"),
        ("/cpu/throttling/throttledTime", "throttled_usec"),
    ] {
        assert_eq!(at(pointer), keyed("cpu.stat", key) * 1000, "{pointer}: {data}");
    }
    assert!((before.0..=after.0).contains(&at("/cpu/throttling/periods")), "{data}");
    assert!((before.1..=after.1).contains(&at("/cpu/throttling/throttledPeriods")), "{data}");
    assert!(at("/cpu/usage/total") > 0 && at("/cpu/throttling/periods") > 0, "{data}");
    let memory = number("memory.current");
    let near = |seen: u64, real: u64| seen.abs_diff(real) <= 1_048_576;
    assert!(memory > 0 && near(at("/memory/usage/usage"), memory), "{memory}: {data}");
    assert_eq!(at("/memory/usage/limit"), 67_108_864);
    assert_eq!(at("/memory/usage/max"), number("memory.peak"));
    assert!(near(at("/memory/swap/usage"), memory + number("memory.swap.current")), "{data}");
    assert_eq!(at("/memory/swap/limit"), 100_663_296);
    assert!(near(at("/memory/cache"), keyed("memory.stat", "file")), "{data}");
    for line in file("memory.stat").unwrap().lines() {
        let key = line.split(' ').next().unwrap();
        assert!(data["memory"]["raw"][key].is_u64(), "no {key} in {data}");
    }
    assert_eq!(at("/pids/limit"), 44);
    assert_eq!(at("/pids/current"), number("pids.current"));
    for (object, name) in
        [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("blkio", "io.pressure")]
    {
        let Some(text) = file(name) else { continue };
        let psi = &data[object]["psi"];
        for line in text.lines() {
            let kind = line.split(' ').next().unwrap();
            for key in ["avg10", "avg60", "avg300", "total"] {
                assert!(psi[kind][key].is_number(), "no {kind} {key} of {name} in {data}");
            }
            let total = line.rsplit('=').next().unwrap().parse::<u64>().unwrap();
            assert!(psi[kind]["total"].as_u64().unwrap() <= total, "{name}: {text}: {psi}");
        }
    }
    for line in file("io.stat").unwrap_or_default().lines() {
        let Some((device, values)) = line.split_once(" rbytes=") else { continue };
        let written = values.split("wbytes=").nth(1).unwrap().split(' ').next().unwrap();
        let entries = data["blkio"]["ioServiceBytesRecursive"].as_array().unwrap();
        let found = entries.iter().any(|entry| {
            format!("{}:{}", entry["major"], entry["minor"]) == device
                && entry["op"] == "Write"
                && entry["value"].as_u64().unwrap() <= written.parse().unwrap()
        });
        assert!(found, "{line}: {entries:?}");
    }
    if file("hugetlb.2MB.current").is_some() {
        assert!(data["hugetlb"]["2MB"].is_object(), "{data}");
    }
}

/// What both the old and the new rules allow is never refused, and what neither allows never let through.
fn devices_are_replaced_without_a_gap(t: &Test) {
    need_v2(t);
    t.need(t.kind() == Kind::Skep, "update of runc and crun knows no devices");
    let (major, minor) = crate::device_rules::device(t);
    let rule = |access: &str| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": access});
    let c = t
        .container()
        .with_capabilities(&["CAP_MKNOD"])
        .push("/linux/resources/devices", rule("rm"))
        .sh(&format!(
            "mknod /dev/it c {major} {minor} || exit 9; echo up > /up; \
             while [ ! -e /stop ]; do (: < /dev/it) 2> /dev/null && echo read || echo denied; \
             (: >> /dev/it) 2> /dev/null && echo written; done > /log"
        ));
    c.run_detached();
    c.wait_file("/up");
    for round in 0..30 {
        let access = if round % 2 == 0 { "r" } else { "rm" };
        let new = json!({"devices": [rule(access)]}).to_string();
        c.call("update", &["-r", "-"]).stdin(new).run().ok();
    }
    fs::write(c.path("/stop"), "").unwrap();
    c.wait_exit();
    let log = c.read("/log");
    assert!(log.lines().count() > 30, "{log}");
    assert!(log.lines().all(|line| line == "read"), "{log}");
}

// --- what is in the way ---

fn a_full_hierarchy_is_reported(t: &Test) {
    need_v2(t);
    let parent = Parent::new(t);
    parent.write("cgroup.max.descendants", "0");
    let output = parent.container().try_create().fails();
    if t.kind() == Kind::Skep {
        output.one_line().names(&parent.path).names("cgroup.max.descendants");
    }
    parent.assert_clean();
    assert!(t.leftovers().iter().all(|left| left.ends_with("-pod")), "{:?}", t.leftovers());
    parent.write("cgroup.max.descendants", "1");
    parent.container().create();
}

fn a_hierarchy_that_is_too_deep_is_reported(t: &Test) {
    need_v2(t);
    let parent = Parent::new(t);
    parent.write("cgroup.max.depth", "1");
    let c = parent.container();
    let c = c.set("/linux/cgroupsPath", json!(format!("{}/inner/box", parent.path)));
    let output = c.try_create().fails();
    if t.kind() == Kind::Skep {
        output.one_line().names(&parent.path).names("cgroup.max.depth");
        assert!(!parent.dir.join("inner").exists(), "what was made on the way is left");
    }
    parent.container().create();
}

/// As in a container that was given some controllers only: the root of the cgroup namespace is all there is.
fn a_missing_controller_is_reported(t: &Test) {
    need_v2(t);
    t.need(t.kind() == Kind::Skep, "its own words");
    t.need_program("unshare");
    for name in ["memory", "pids", "cpu"] {
        t.need_controller(name);
    }
    let parent = Parent::new(t);
    parent.write("cgroup.subtree_control", "+pids");
    let inner = parent.dir.join("inner");
    fs::create_dir(&inner).unwrap();
    let inside = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && mkdir /sys/fs/cgroup/own && \
         echo 0 > /sys/fs/cgroup/own/cgroup.procs && \"$0\" \"$@\"";
    let outside = format!(
        "echo 0 > {}/cgroup.procs && exec unshare --cgroup --mount --propagation private sh -c \"$1\" \"${{@:2}}\"",
        inner.display()
    );
    for (field, resources) in [
        ("linux.resources.memory.limit", json!({"memory": {"limit": 67_108_864}})),
        ("linux.resources.cpu", json!({"cpu": {"quota": 50_000, "period": 100_000}})),
    ] {
        let c = t.container().lasting().set("/linux/resources", resources);
        let call = c.bundle_call("run", &[]).by(&["bash", "-c", &outside, "bash", inside]);
        let output = call.run().fails();
        let controller = field.split('.').nth(2).unwrap();
        output.one_line().names(field).names(controller).names("cgroup.subtree_control");
        remove_cgroup(&inner.join("own"));
        assert_eq!(
            fs::read_dir(&inner).unwrap().flatten().filter(|e| e.path().is_dir()).count(),
            0
        );
    }
    // What is there works.
    let limits = json!({"pids": {"limit": 9}});
    let c = with_own_cgroup(t.container(), "ro").set("/linux/resources", limits);
    let c = c.args(&["cat", "/sys/fs/cgroup/pids.max"]);
    let call = c.bundle_call("run", &[]).by(&["bash", "-c", &outside, "bash", inside]);
    call.run().ok().prints("9\n");
    remove_cgroup(&inner);
}

fn a_threaded_parent_is_reported(t: &Test) {
    need_v2(t);
    let parent = Parent::new(t);
    let threads = parent.dir.join("threads");
    fs::create_dir(&threads).unwrap();
    fs::write(threads.join("cgroup.type"), "threaded").unwrap();
    for resources in [json!({}), json!({"memory": {"limit": 67_108_864}})] {
        let c = parent.container().set("/linux/resources", resources);
        let output = c.try_create().fails();
        if t.kind() == Kind::Skep {
            output.one_line().names(&parent.path).names("threaded");
        }
        parent.assert_clean();
    }
}

/// "No internal processes": a cgroup that has some cannot limit those below it.
fn a_parent_with_processes_is_reported(t: &Test) {
    need_v2(t);
    t.need_controller("memory");
    let parent = Parent::new(t);
    let child = reaper::spawn(Command::new("sleep").arg("1000")).unwrap();
    parent.write("cgroup.procs", &child.pid.to_string());
    let limited = parent.container().set("/linux/resources/memory", json!({"limit": 67_108_864}));
    let limited = limited.try_create();
    let unlimited = parent.container().unset("/linux/resources").try_create();
    kill(Pid::from_raw(child.pid), Signal::SIGKILL).unwrap();
    child.wait(wait::patience());
    let output = limited.fails();
    if t.kind() == Kind::Skep {
        output
            .one_line()
            .names("linux.resources.memory.limit")
            .names("memory controller")
            .names("processes of its own");
        unlimited.ok();
    }
}
