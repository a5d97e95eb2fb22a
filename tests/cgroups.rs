//! linux.resources and linux.cgroupsPath, read back from the cgroup file systems and felt inside.

use std::fs;

use crate::bad_input::refused;
use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json, say, wait};

cases![
    the_container_is_in_its_cgroup_in_every_hierarchy,
    an_omitted_cgroups_path_is_named_after_the_container,
    a_relative_cgroups_path_is_accepted,
    a_nested_cgroups_path_is_made_and_removed,
    a_cgroups_path_cannot_climb_out,
    a_cgroups_path_of_the_root_is_refused,
    a_parent_cgroup_of_others_is_left_alone,
    memory_limit_is_set,
    memory_reservation_is_set,
    memory_and_swap_limit_is_set,
    an_unlimited_memory_is_accepted,
    a_swap_limit_below_memory_is_refused,
    swappiness_is_set,
    the_oom_killer_is_switched_off,
    a_memory_limit_is_enforced,
    a_tiny_memory_limit_still_starts,
    a_limit_too_small_to_start_is_reported,
    cpu_shares_are_set,
    cpu_quota_and_period_are_set,
    cpu_burst_is_set,
    cpu_idle_is_set,
    an_invalid_cpu_period_is_reported,
    cpuset_is_set,
    an_impossible_cpuset_is_reported,
    pids_limit_is_set,
    an_unlimited_pids_limit_is_accepted,
    a_pids_limit_of_zero_is_accepted,
    pids_limit_is_enforced,
    blkio_weight_is_set_where_there_is_one,
    blkio_throttling_is_set,
    hugetlb_limits_are_set,
    an_unknown_huge_page_size_is_reported,
    unified_is_refused_on_v1,
    unified_is_written_on_v2,
    an_unknown_unified_file_is_reported_on_v2,
    null_resources_are_ignored,
    network_class_is_refused_or_set,
    a_busy_cgroup_is_refused,
    a_frozen_cgroup_is_refused,
    nested_cgroups_made_by_the_container_are_removed,
    the_cgroup_is_gone_after_a_failed_create,
    the_limits_hold_before_the_hooks_run,
];

fn the_container_is_in_its_cgroup_in_every_hierarchy(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
        let mounted = names
            .split(',')
            .any(|name| t.host.hierarchies.contains_key(name.trim_start_matches("name=")));
        // crun and older runcs leave the v2 hierarchy of a hybrid host alone.
        // skep joins cpuset only when cpus or mems are set: two more hierarchies' work for nothing.
        let unset = t.kind() == Kind::Skep && names == "cpuset";
        if mounted && !names.is_empty() && !unset {
            assert!(path.ends_with(&format!("/{}", c.id)), "{line}");
        }
    }
}

fn an_omitted_cgroups_path_is_named_after_the_container(t: &Test) {
    let c = t.container().lasting().unset("/linux/cgroupsPath");
    c.create();
    let cgroups = t.cgroups();
    assert!(cgroups.iter().any(|dir| dir.file_name().unwrap() == c.id.as_str()), "{cgroups:?}");
    c.delete().ok();
    t.assert_nothing_left();
}

fn a_relative_cgroups_path_is_accepted(t: &Test) {
    let c = t.container().lasting();
    let id = format!("{}-relative", c.id);
    let c = c.set("/linux/cgroupsPath", json!(id));
    c.create();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(text.contains(&format!("/{id}\n")), "{text}");
    c.delete().ok();
    t.assert_nothing_left();
}

fn a_nested_cgroups_path_is_made_and_removed(t: &Test) {
    let c = t.container().lasting();
    let path = format!("/{0}/middle/{0}", c.id);
    let c = c.set("/linux/cgroupsPath", json!(path));
    c.create();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(text.contains(&format!("{path}\n")), "{text}");
    c.delete().ok();
    // The parents may stay, as runc leaves them: nobody can know whose they are. They are empty.
    for dir in t.cgroups() {
        assert!(fs::metadata(dir.join("middle").join(&c.id)).is_err(), "{} is left", dir.display());
        let _removed_if_left = fs::remove_dir(dir.join("middle"));
        fs::remove_dir(&dir).unwrap();
    }
}

fn a_cgroups_path_cannot_climb_out(t: &Test) {
    let c = t.container().lasting();
    let id = c.id.clone();
    let c = c.set("/linux/cgroupsPath", json!(format!("/../../../{id}")));
    let output = c.try_create();
    if output.code == Some(0) {
        // Cleaned, it stays below the hierarchies.
        let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        assert!(text.contains(&format!(":/{id}\n")) && !text.contains(".."), "{text}");
    }
    for dir in ["/sys/fs/", "/sys/", "/"] {
        assert!(fs::metadata(format!("{dir}{id}")).is_err());
    }
}

fn a_cgroups_path_of_the_root_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others take everybody's cgroup for the container's");
    for path in ["/", "//", "/..", "/a/..", "/../.", "."] {
        refused(&t.container().set("/linux/cgroupsPath", json!(path))).names("linux.cgroupsPath");
    }
}

fn a_parent_cgroup_of_others_is_left_alone(t: &Test) {
    let (first, second) = (t.container().lasting(), t.container().lasting());
    let parent = format!("/{}-pod", t.id);
    let first = first.set("/linux/cgroupsPath", json!(format!("{parent}/first")));
    let second = second.set("/linux/cgroupsPath", json!(format!("{parent}/second")));
    first.create();
    second.create();
    first.delete_force().ok();
    assert!(wait::is_alive(second.pid()));
    assert!(
        fs::read_to_string(format!("/proc/{}/cgroup", second.pid())).unwrap().contains("/second\n")
    );
    second.delete_force().ok();
    for dir in t.cgroups() {
        fs::remove_dir(&dir).unwrap();
    }
}

const MEMORY: (&str, &str) = ("memory", "memory.limit_in_bytes");

fn memory_limit_is_set(t: &Test) {
    t.need_controller("memory");
    let c = t.container().lasting().set("/linux/resources/memory", json!({"limit": 67_108_864}));
    c.create();
    c.expect_limit((MEMORY.0, MEMORY.1, "67108864"), ("memory.max", "67108864"));
}

fn memory_reservation_is_set(t: &Test) {
    t.need_controller("memory");
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/memory", json!({"limit": 67_108_864, "reservation": 33_554_432}));
    c.create();
    c.expect_limit(
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory.low", "33554432"),
    );
}

fn memory_and_swap_limit_is_set(t: &Test) {
    t.need_controller("memory");
    t.need_limit(("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 100_663_296}));
    c.create();
    c.expect_limit((MEMORY.0, MEMORY.1, "67108864"), ("memory.max", "67108864"));
    c.expect_limit(
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory.swap.max", "33554432"),
    );
}

fn an_unlimited_memory_is_accepted(t: &Test) {
    t.need_controller("memory");
    let c =
        t.container().lasting().set("/linux/resources/memory", json!({"limit": -1, "swap": -1}));
    c.create();
    c.expect_limit((MEMORY.0, MEMORY.1, "9223372036854771712"), ("memory.max", "max"));
}

fn a_swap_limit_below_memory_is_refused(t: &Test) {
    t.need_controller("memory");
    t.need_limit(("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
    let c = t
        .container()
        .set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 33_554_432}));
    c.try_create().fails();
    t.assert_nothing_left();
}

fn swappiness_is_set(t: &Test) {
    t.need_layout(Layout::V1);
    let c = t.container().lasting().set("/linux/resources/memory", json!({"swappiness": 17}));
    c.create();
    c.expect_limit(("memory", "memory.swappiness", "17"), ("", ""));
}

fn the_oom_killer_is_switched_off(t: &Test) {
    t.need_layout(Layout::V1);
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/memory", json!({"limit": 67_108_864, "disableOOMKiller": true}));
    let output = c.try_create();
    t.need(output.code == Some(0), "this kernel cannot switch the OOM killer off");
    let text = fs::read_to_string(c.cgroup_file(("memory", "memory.oom_control"), "")).unwrap();
    assert!(text.contains("oom_kill_disable 1"), "{text}");
}

fn a_memory_limit_is_enforced(t: &Test) {
    t.need_controller("memory");
    let c = t
        .container()
        .with_probe()
        .args(&["sh", "-c", "probe allocate 64; echo $?"])
        .set("/linux/resources/memory", json!({"limit": 16_777_216, "swap": 16_777_216}));
    let output = c.run();
    assert!(!output.stdout.contains("allocated"), "{output}");
    assert!(output.stdout.contains("137") || output.code == Some(137), "{output}");
}

fn a_tiny_memory_limit_still_starts(t: &Test) {
    t.need_controller("memory");
    t.need(t.kind() != Kind::Runc, "runc 1.1 needs more for its own init");
    for limit in [6, 4] {
        let c = t.container().set("/linux/resources/memory", json!({"limit": limit * 1_048_576}));
        c.run().ok();
    }
}

fn a_limit_too_small_to_start_is_reported(t: &Test) {
    t.need_controller("memory");
    let c = t.container().set("/linux/resources/memory", json!({"limit": 4096, "swap": 4096}));
    let output = c.run().not_ok();
    assert!(output.stderr.contains("memory"), "{output}");
    t.assert_nothing_left();
}

fn cpu_shares_are_set(t: &Test) {
    t.need_controller("cpu");
    for (shares, weight) in [(512, "59"), (1024, "100"), (2, "1"), (262_144, "10000")] {
        let c = t.container().lasting().set("/linux/resources/cpu", json!({"shares": shares}));
        c.create();
        c.expect_limit(("cpu", "cpu.shares", &shares.to_string()), ("cpu.weight", weight));
        // Its end would take its time on a machine that has work to do.
        c.call("update", &["--cpu-share", "1024"]).run().ok();
    }
}

fn cpu_quota_and_period_are_set(t: &Test) {
    t.need_controller("cpu");
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/cpu", json!({"quota": 20_000, "period": 50_000}));
    c.create();
    c.expect_limit(("cpu", "cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000"));
    c.expect_limit(("cpu", "cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000"));
    let c = t.container().lasting().set("/linux/resources/cpu", json!({"quota": -1}));
    c.create();
    c.expect_limit(("cpu", "cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000"));
}

fn cpu_burst_is_set(t: &Test) {
    t.need_controller("cpu");
    t.need_limit(("cpu", "cpu.cfs_burst_us"), "cpu.max.burst");
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/cpu", json!({"quota": 20_000, "period": 50_000, "burst": 10_000}));
    c.create();
    c.expect_limit(("cpu", "cpu.cfs_burst_us", "10000"), ("cpu.max.burst", "10000"));
}

fn cpu_idle_is_set(t: &Test) {
    t.need_controller("cpu");
    t.need_limit(("cpu", "cpu.idle"), "cpu.idle");
    let c = t.container().lasting().set("/linux/resources/cpu", json!({"idle": 1}));
    c.create();
    c.expect_limit(("cpu", "cpu.idle", "1"), ("cpu.idle", "1"));
}

fn an_invalid_cpu_period_is_reported(t: &Test) {
    t.need_controller("cpu");
    let c = t.container().set("/linux/resources/cpu", json!({"quota": 1000, "period": 10}));
    let output = c.try_create().fails();
    assert!(output.stderr.contains("cpu"), "{output}");
    t.assert_nothing_left();
}

fn cpuset_is_set(t: &Test) {
    t.need_controller("cpuset");
    let c = t
        .container()
        .sh("grep -E 'Cpus_allowed_list|Mems_allowed_list' /proc/self/status")
        .set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"}));
    c.run().ok().prints("Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n");
    let c = c.lasting();
    c.write();
    c.create();
    c.expect_limit(("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0"));
}

fn an_impossible_cpuset_is_reported(t: &Test) {
    t.need_controller("cpuset");
    let c = t.container().set("/linux/resources/cpu", json!({"cpus": "5000"}));
    let output = c.try_create().fails();
    assert!(output.stderr.contains("cpuset.cpus"), "{output}");
    t.assert_nothing_left();
}

fn pids_limit_is_set(t: &Test) {
    t.need_controller("pids");
    let c = t.container().lasting().set("/linux/resources/pids", json!({"limit": 33}));
    c.create();
    c.expect_limit(("pids", "pids.max", "33"), ("pids.max", "33"));
}

fn an_unlimited_pids_limit_is_accepted(t: &Test) {
    t.need_controller("pids");
    let c = t.container().lasting().set("/linux/resources/pids", json!({"limit": -1}));
    c.create();
    c.expect_limit(("pids", "pids.max", "max"), ("pids.max", "max"));
}

fn a_pids_limit_of_zero_is_accepted(t: &Test) {
    t.need_controller("pids");
    t.container().set("/linux/resources/pids", json!({"limit": 0})).run().ok();
}

fn pids_limit_is_enforced(t: &Test) {
    t.need_controller("pids");
    let c = t
        .container()
        .sh("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo done")
        .set("/linux/resources/pids", json!({"limit": 5}));
    let output = c.run();
    assert!(output.stderr.contains("fork"), "{output}");
}

fn blkio_weight_is_set_where_there_is_one(t: &Test) {
    t.need_controller(if t.host.layout == Layout::V1 { "blkio" } else { "io" });
    let bfq = t.host.has_cgroup_file(("blkio", "blkio.bfq.weight"), "io.bfq.weight");
    let plain = t.host.has_cgroup_file(("blkio", "blkio.weight"), "io.weight");
    t.need(bfq || plain, "no block I/O weight on this host");
    let c = t.container().lasting().set("/linux/resources/blockIO", json!({"weight": 200}));
    c.create();
    let file =
        if bfq { ("blkio.bfq.weight", "io.bfq.weight") } else { ("blkio.weight", "io.weight") };
    let text = fs::read_to_string(c.cgroup_file(("blkio", file.0), file.1)).unwrap();
    let expected = if bfq || t.host.layout == Layout::V1 { "200" } else { "1920" };
    assert!(text.contains(expected), "{text}");
}

/// A whole block device of the host, as (major, minor).
fn block_device() -> Option<(u64, u64)> {
    let mut names: Vec<_> =
        fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let name = names.into_iter().find(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        !name.starts_with("loop") && !name.starts_with("zram") && !name.starts_with("ram")
    })?;
    let text = fs::read_to_string(name.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn blkio_throttling_is_set(t: &Test) {
    t.need_controller(if t.host.layout == Layout::V1 { "blkio" } else { "io" });
    let Some((major, minor)) = block_device() else { t.skip("no block device to throttle") };
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let c = t.container().lasting().set(
        "/linux/resources/blockIO",
        json!({"throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
               "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200)}),
    );
    c.create();
    if t.host.layout == Layout::V2 {
        let text = fs::read_to_string(t.host.v2(&c.id, "io.max")).unwrap();
        assert_eq!(
            text.trim(),
            format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200")
        );
        return;
    }
    for (file, value) in
        [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 100), ("write_iops", 200)]
    {
        let file = format!("blkio.throttle.{file}_device");
        c.expect_limit(("blkio", &file, &format!("{major}:{minor} {value}")), ("", ""));
    }
}

fn hugetlb_limits_are_set(t: &Test) {
    t.need_controller("hugetlb");
    t.need_limit(("hugetlb", "hugetlb.2MB.limit_in_bytes"), "hugetlb.2MB.max");
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}]));
    c.create();
    c.expect_limit(
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
        ("hugetlb.2MB.max", "4194304"),
    );
}

fn an_unknown_huge_page_size_is_reported(t: &Test) {
    // The second is how runc's tests write it.
    for name in ["pageSize", "pagesize"] {
        let limits = json!([{name: "3MB", "limit": 3_145_728}]);
        let c = t.container().set("/linux/resources/hugepageLimits", limits);
        let output = c.try_create().fails();
        if t.kind() == Kind::Skep {
            // On a host without the controller it says that.
            assert!(!output.stderr.contains("missing field"), "{output}");
            output.names("linux.resources.hugepageLimits[0]");
        }
    }
    t.assert_nothing_left();
}

fn unified_is_refused_on_v1(t: &Test) {
    t.need_layout(Layout::V1);
    let c = t.container().set("/linux/resources/unified", json!({"memory.high": "200000000"}));
    c.try_create().fails().names("nified");
    t.assert_nothing_left();
}

fn unified_is_written_on_v2(t: &Test) {
    t.need_layout(Layout::V2);
    t.need_controller("memory");
    let c = t
        .container()
        .lasting()
        .set("/linux/resources/unified", json!({"memory.high": "204800000"}));
    c.create();
    c.expect_limit(("", "", ""), ("memory.high", "204800000"));
}

fn an_unknown_unified_file_is_reported_on_v2(t: &Test) {
    t.need_layout(Layout::V2);
    let c = t.container().set("/linux/resources/unified", json!({"nonsense.high": "1"}));
    c.try_create().fails().names("nonsense.high");
    t.assert_nothing_left();
    let c = t.container().set("/linux/resources/unified", json!({"../memory.high": "1"}));
    c.try_create().fails();
    t.assert_nothing_left();
}

fn null_resources_are_ignored(t: &Test) {
    let c = t.container().set(
        "/linux/resources",
        json!({"devices": null, "memory": {"limit": null, "swap": null, "kernel": null, "swappiness": null,
               "disableOOMKiller": null}, "cpu": {"shares": null, "cpus": "", "mems": ""}, "pids": null,
               "blockIO": {"weight": null, "weightDevice": null}, "hugepageLimits": null, "network": null}),
    );
    c.run().ok().no_stderr();
}

fn network_class_is_refused_or_set(t: &Test) {
    let c = t.container().lasting().set("/linux/resources/network", json!({"classID": 1_048_577}));
    let output = c.try_create();
    if t.host.controllers.iter().any(|name| name == "net_cls") {
        output.ok();
        c.expect_limit(("net_cls", "net_cls.classid", "1048577"), ("", ""));
    } else if t.host.layout == Layout::V1 {
        output.fails();
        t.assert_nothing_left();
    }
}

// --- what is in the way, and what is left ---

fn a_busy_cgroup_is_refused(t: &Test) {
    let first = t.container().lasting();
    let id = first.id.clone();
    first.create();
    let second = t.container().lasting().set("/linux/cgroupsPath", json!(format!("/{id}")));
    second.try_create().fails().says(&say::CGROUP_NOT_EMPTY);
    assert!(wait::is_alive(first.pid()));
    first.start().ok();
    assert_eq!(first.status(), "running");
}

fn a_frozen_cgroup_is_refused(t: &Test) {
    t.need_layout(Layout::V1);
    let c = t.container().lasting();
    let dir = t.host.v1("freezer", &c.id, "");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("freezer.state"), "FROZEN").unwrap();
    c.try_create().fails().says(&say::CGROUP_FROZEN);
    fs::write(dir.join("freezer.state"), "THAWED").unwrap();
    let _removed_already = fs::remove_dir(&dir);
    t.assert_nothing_left();
}

fn nested_cgroups_made_by_the_container_are_removed(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    for dir in t.cgroups() {
        fs::create_dir_all(dir.join("child/grandchild")).unwrap();
    }
    c.kill("KILL").ok();
    c.wait_exit();
    c.delete().ok();
    t.assert_nothing_left();
}

fn the_cgroup_is_gone_after_a_failed_create(t: &Test) {
    let c = t.container().args(&["/no/such/program"]);
    c.try_create().fails();
    t.assert_nothing_left();
}

fn the_limits_hold_before_the_hooks_run(t: &Test) {
    t.need_controller("pids");
    let c = t.container().lasting().set("/linux/resources/pids", json!({"limit": 33}));
    let file = c.cgroup_file(("pids", "pids.max"), "pids.max");
    let out = t.path("seen");
    let c = c.hook("createRuntime", &format!("cat {} > {}", file.display(), out.display()));
    c.create();
    assert_eq!(fs::read_to_string(out).unwrap(), "33\n");
}
