//! The real thing: cgroups made, filled, limited, frozen, killed and removed on this host, whatever its layout.
//!
//! Each test has a cgroup of its own name and leaves nothing. Where cgroups cannot be made, every test says so and
//! passes over.

#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]
#![allow(clippy::cast_possible_truncation, reason = "small random numbers")]

mod devices;
mod processes;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::Kind;
use crate::spec::Resources;

const PATIENCE: Duration = Duration::from_secs(20);

fn host() -> Option<Host> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making cgroups needs root");
        return None;
    }
    match Host::probe() {
        Ok(host) => Some(host),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn unique_path() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("/skep-test-{}/box{next}", std::process::id())
}

fn plan(host: &Host, path: &str, json: &str) -> Result<CgroupPlan> {
    let resources: Resources<'_> = serde_json::from_str(json).unwrap();
    CgroupPlan::build(
        &Request {
            id: "box",
            cgroups_path: Some(path),
            resources: Some(&resources),
            driver: Driver::Cgroupfs,
            default_devices: true,
            buses: None,
            annotations: None,
        },
        host,
    )
}

/// A cgroup with its processes, all gone at the end of the test.
struct Unit {
    cgroup: Cgroup,
    children: Vec<Child>,
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ends_what_there_is = self.cgroup.signal_all(libc::SIGKILL);
        for child in &mut self.children {
            let _reap = child.wait();
        }
        self.cgroup.remove().unwrap();
        // The parent is shared by the tests of this process; the last one takes it along.
        for member in &self.cgroup.record.hierarchies {
            let path = self.cgroup.directory(member);
            let _others_may_be_in_it = std::fs::remove_dir(path.rsplit_once('/').unwrap().0);
        }
    }
}

impl Unit {
    fn new(host: &Host, json: &str) -> Self {
        Self::at(host, &unique_path(), json)
    }

    fn at(host: &Host, path: &str, json: &str) -> Self {
        let cgroup = Cgroup::create(&plan(host, path, json).unwrap(), host).unwrap();
        // What a later command would work with.
        let json = serde_json::to_string(cgroup.record()).unwrap();
        let cgroup = Cgroup::from_record(serde_json::from_str(&json).unwrap()).unwrap();
        Self { cgroup, children: Vec::new() }
    }

    /// Starts a shell that has joined by itself, through the descriptors of `join`.
    fn shell(&mut self, join: &Join, script: &str) -> &mut Child {
        let mut enter = String::from("set -e; ");
        let me = std::process::id();
        for tasks in &join.tasks {
            enter.push_str(&format!("echo 0 > /proc/{me}/fd/{}; ", tasks.as_raw_fd()));
        }
        if let Some(directory) = &join.into {
            let fd = directory.as_raw_fd();
            enter.push_str(&format!("echo 0 > /proc/{me}/fd/{fd}/cgroup.procs; "));
        }
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{enter} set +e; echo joined; {script}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.children.push(child);
        let child = self.children.last_mut().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line != "joined\n" {
            let mut complaint = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut complaint).unwrap();
            panic!("the shell did not join: {complaint}");
        }
        child
    }

    fn sleeper(&mut self) -> i32 {
        let join = self.cgroup.join().unwrap();
        i32::try_from(self.shell(&join, "exec sleep 1000").id()).unwrap()
    }

    /// Runs a script inside to its end and returns its output and whether it succeeded.
    fn run(&mut self, script: &str) -> (String, bool) {
        let join = self.cgroup.join().unwrap();
        self.shell(&join, script);
        let child = self.children.pop().unwrap();
        let output = child.wait_with_output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (text, output.status.success())
    }

    /// A file by its version 1 controller and name, or its version 2 name.
    fn read(&self, controller: &str, v1: &str, v2: &str) -> String {
        let path = if self.cgroup.is_v2() {
            format!("{}/{v2}", self.cgroup.v2().unwrap())
        } else {
            format!("{}/{v1}", self.cgroup.v1(controller).unwrap())
        };
        file::read(&path).unwrap_or_else(|errno| panic!("{path}: {errno}")).trim().to_owned()
    }

    fn update(&mut self, json: &str) -> Result<Vec<String>> {
        self.cgroup.update(&serde_json::from_str(json).unwrap(), &[])
    }

    fn directories(&self) -> Vec<String> {
        let members = &self.cgroup.record.hierarchies;
        members.iter().map(|member| self.cgroup.directory(member)).collect()
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        freeze::wait(None, Duration::from_millis(2)).unwrap();
    }
}

fn is_directory(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Whether the memory controller counts swap.
fn has_swap(unit: &Unit) -> bool {
    let name = if unit.cgroup.is_v2() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    let directory = if unit.cgroup.is_v2() { unit.cgroup.v2() } else { unit.cgroup.v1("memory") };
    file::read(&format!("{}/{name}", directory.unwrap())).is_ok()
}

#[test]
fn limits_are_in_force_before_anybody_is_inside() {
    let Some(host) = host() else { return };
    let unit = Unit::new(
        &host,
        r#"{"memory":{"limit":67108864,"reservation":33554432},
            "cpu":{"shares":512,"quota":50000,"period":200000,"cpus":"0"},
            "pids":{"limit":50}}"#,
    );
    assert_eq!(unit.read("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(unit.read("memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
    assert_eq!(unit.read("pids", "pids.max", "pids.max"), "50");
    assert_eq!(unit.read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    if host.is_v2() {
        assert_eq!(unit.read("", "", "cpu.max"), "50000 200000");
        assert_eq!(unit.read("", "", "cpu.weight"), "59");
    } else {
        assert_eq!(unit.read("cpu", "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(unit.read("cpu", "cpu.cfs_period_us", ""), "200000");
        assert_eq!(unit.read("cpu", "cpu.shares", ""), "512");
    }
    assert_eq!(unit.cgroup.pids().unwrap(), [] as [i32; 0]);
}

#[test]
fn a_failed_create_leaves_nothing() {
    let Some(host) = host() else { return };
    let path = format!("/skep-test-fail-{}/deep/box", std::process::id());
    for (json, field) in [
        (r#"{"cpu":{"cpus":"60000"}}"#, "linux.resources.cpu.cpus"),
        (r#"{"memory":{"limit":16777216},"cpu":{"quota":1}}"#, "linux.resources.cpu.quota"),
        (
            r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#,
            "linux.resources.hugepageLimits[0]",
        ),
    ] {
        let error = plan(&host, &path, json)
            .and_then(|plan| Cgroup::create(&plan, &host))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("(config.json: {field})")), "{error}");
        assert!(
            !error.contains("no such file"),
            "engines would read it as a missing program: {error}"
        );
        let top = format!("/skep-test-fail-{}", std::process::id());
        for mount in host.v1().iter().map(|h| h.mount.as_str()).chain(host.v2_mount()) {
            assert!(!is_directory(&format!("{mount}{top}")), "{mount}{top} is left");
        }
    }
}

#[test]
fn a_cgroup_in_use_is_refused_and_an_empty_one_taken() {
    let Some(host) = host() else { return };
    let path = unique_path();
    let mut unit = Unit::at(&host, &path, r#"{"pids":{"limit":9}}"#);
    let again = || Cgroup::create(&plan(&host, &path, "{}").unwrap(), &host);
    assert_eq!(again().unwrap().path(), unit.cgroup.path());
    unit.cgroup.freeze().unwrap();
    let error = again().unwrap_err();
    assert!(error.to_string().contains("container's cgroup unexpectedly frozen"), "{error}");
    unit.cgroup.thaw().unwrap();
    unit.sleeper();
    let error = again().unwrap_err();
    assert_eq!(error.kind(), Kind::Lifecycle);
    assert!(
        error.to_string().contains("container's cgroup is not empty: 1 process(es) found"),
        "{error}"
    );
    assert_eq!(unit.cgroup.pids().unwrap().len(), 1, "the refusal changed nothing");
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(
        &host,
        r#"{"memory":{"limit":33554432},"cpu":{"quota":20000,"period":50000},"pids":{"limit":20}}"#,
    );
    unit.sleeper();
    // Docker's zeroes mean unchanged.
    unit.update(
        r#"{"memory":{"limit":0,"reservation":0,"swap":0,"kernel":0},"cpu":{"shares":0,"quota":0},
            "blockIO":{"weight":0}}"#,
    )
    .unwrap();
    assert_eq!(unit.read("memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    let swap = has_swap(&unit);
    for (limit, total) in
        [(67_108_864, 134_217_728), (268_435_456, 536_870_912), (16_777_216, 16_777_216)]
    {
        if swap {
            unit.update(&format!(r#"{{"memory":{{"limit":{limit},"swap":{total}}}}}"#)).unwrap();
            let written = unit.read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
            let expected = if host.is_v2() { total - limit } else { total };
            assert_eq!(written, expected.to_string());
        } else {
            unit.update(&format!(r#"{{"memory":{{"limit":{limit}}}}}"#)).unwrap();
        }
        let written = unit.read("memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(written, limit.to_string());
    }
    let quota = |unit: &Unit| match host.is_v2() {
        true => unit.read("", "", "cpu.max"),
        false => format!(
            "{} {}",
            unit.read("cpu", "cpu.cfs_quota_us", ""),
            unit.read("cpu", "cpu.cfs_period_us", "")
        ),
    };
    assert_eq!(quota(&unit), "20000 50000");
    unit.update(r#"{"cpu":{"period":100000}}"#).unwrap();
    assert_eq!(quota(&unit), "20000 100000");
    unit.update(r#"{"cpu":{"quota":90000,"burst":5000}}"#).unwrap();
    assert_eq!(quota(&unit), "90000 100000");
    unit.update(r#"{"pids":{"limit":-1}}"#).unwrap();
    assert_eq!(unit.read("pids", "pids.max", "pids.max"), "max");
    let error = unit
        .update(r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("unable to set memory limit to 4096 (current usage: "), "{error}");
    assert_eq!(unit.read("memory", "memory.limit_in_bytes", "memory.max"), "16777216");
    unit.update(r#"{"memory":{"limit":-1}}"#).unwrap();
    let unlimited = unit.read("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(unlimited, if host.is_v2() { "max" } else { "9223372036854771712" });
}

#[test]
fn an_update_brings_the_processes_into_a_controller_they_were_not_in() {
    let Some(host) = host() else { return };
    // Directly below the root there is no parent whose CPUs would have to be kept to.
    let path = format!("/skep-test-{}-top", std::process::id());
    let mut unit = Unit::at(&host, &path, "{}");
    let pid = unit.sleeper();
    let affinity = || {
        let status = file::read(&format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    unit.update(r#"{"cpu":{"cpus":"0"}}"#).unwrap();
    assert_eq!(affinity(), "0");
    assert_eq!(unit.read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    if !host.is_v2() {
        let record = serde_json::to_string(unit.cgroup.record()).unwrap();
        assert!(record.contains("cpuset"), "{record}");
    }
}

#[test]
fn the_pids_limit_holds() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, r#"{"pids":{"limit":0}}"#);
    let (text, ok) = unit.run("/bin/true; echo after");
    assert!(!ok || text.contains("fork"), "{text}");
    assert!(text.to_lowercase().contains("fork"), "{text}");
}

#[test]
fn statistics_show_limits_and_use() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(
        &host,
        r#"{"memory":{"limit":67108864},"pids":{"limit":33},"cpu":{"quota":50000,"period":100000}}"#,
    );
    let join = unit.cgroup.join().unwrap();
    unit.shell(&join, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo; exec sleep 1000");
    until("CPU time", || unit.cgroup.stats().unwrap().cpu.usage.total > 1_000_000);
    let stats = unit.cgroup.stats().unwrap();
    assert_eq!(stats.memory.usage.limit, 67_108_864);
    assert!(stats.memory.usage.usage > 0);
    assert!(!stats.memory.raw.is_empty());
    assert_eq!(stats.pids, PidsStats { current: 1, limit: 33 });
    assert_eq!(stats.cpu.usage.percpu.is_empty(), host.is_v2());
    let json = serde_json::to_value(&stats).unwrap();
    for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
        assert!(json[key].is_object(), "{key}");
    }
    unit.cgroup.signal_all(libc::SIGKILL).unwrap();
    unit.children[0].wait().unwrap();
    unit.cgroup.remove().unwrap();
    assert!(unit.cgroup.stats().is_err());
}

#[test]
fn the_container_can_be_given_its_cgroup() {
    let Some(host) = host() else { return };
    let unit = Unit::new(&host, "{}");
    unit.cgroup.delegate(4242).unwrap();
    let owner = |path: &str| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    for directory in unit.directories() {
        let expected = if host.is_v2() { 4242 } else { 0 };
        assert_eq!(owner(&directory), expected);
        assert_eq!(owner(&format!("{directory}/cgroup.procs")), expected);
    }
    if host.is_v2() {
        let directory = unit.cgroup.v2().unwrap();
        assert_eq!(owner(&format!("{directory}/memory.max")), 0, "limits stay the host's");
    }
}

#[test]
fn a_disabled_cgroup_is_no_cgroup() {
    let Some(host) = host() else { return };
    let request = Request { id: "box", driver: Driver::Disabled, ..Request::default() };
    let plan = CgroupPlan::build(&request, &host).unwrap();
    let mut cgroup = Cgroup::create(&plan, &host).unwrap();
    let join = cgroup.join().unwrap();
    assert!(join.into.is_none() && join.tasks.is_empty());
    assert_eq!(cgroup.pids().unwrap(), [] as [i32; 0]);
    assert!(!cgroup.is_frozen().unwrap());
    assert!(cgroup.freeze().is_err() && cgroup.stats().is_err());
    assert!(cgroup.update(&Resources::default(), &[]).is_err());
    cgroup.remove().unwrap();
}

#[test]
fn a_record_is_read_by_the_next_version_and_damage_is_noticed() {
    let json = r#"{"driver":"cgroupfs","layout":"legacy","path":"/a/b",
        "hierarchies":[{"controllers":"memory","mount":"/sys/fs/cgroup/memory","new":1}],"later":true}"#;
    let cgroup = Cgroup::from_record(serde_json::from_str(json).unwrap()).unwrap();
    assert_eq!(cgroup.v1("memory").unwrap(), "/sys/fs/cgroup/memory/a/b");
    for damaged in [
        r#"{"path":"/a/../..","hierarchies":[{"mount":"/sys/fs/cgroup"}]}"#,
        r#"{"path":"/","hierarchies":[{"mount":"/sys/fs/cgroup"}]}"#,
        r#"{"hierarchies":[{"mount":"/sys/fs/cgroup"}]}"#,
        r#"{"path":"/a","hierarchies":[{"mount":"sys"}]}"#,
    ] {
        let record = serde_json::from_str(damaged).unwrap();
        assert!(Cgroup::from_record(record).is_err(), "{damaged}");
    }
}
