//! update: each flag and each way to give resources, read back from the cgroup.

use std::fs;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json, say, wait};

cases![
    update_memory,
    update_memory_with_a_unit,
    update_memory_and_swap_grow_and_shrink_in_any_order,
    update_memory_reservation,
    update_memory_to_unlimited,
    update_pids_limit,
    update_cpu_share,
    update_cpu_quota_and_period,
    update_cpu_burst,
    update_cpu_idle,
    update_cpuset,
    update_blkio_weight,
    update_reads_json_from_standard_input,
    update_reads_json_from_a_file,
    update_leaves_what_is_not_named,
    update_of_null_fields_changes_nothing,
    an_empty_update_changes_nothing,
    an_update_takes_effect_on_the_running_container,
    update_below_the_usage_is_refused_when_asked_to_check,
    update_devices,
    update_of_a_created_container_works,
    update_of_a_paused_container_leaves_it_paused,
    update_of_a_stopped_container_is_refused,
    update_of_a_container_being_created_is_refused,
    update_of_an_unknown_id_fails,
    update_of_broken_json_fails_and_changes_nothing,
    an_update_that_fails_half_way_changes_nothing,
    update_of_a_missing_file_fails,
    update_of_an_invalid_size_fails,
    the_kernel_memory_flags_are_accepted,
];

const MEMORY: (&str, &str) = ("memory", "memory.limit_in_bytes");

/// A container with every kind of limit, running.
fn limited(t: &Test) -> Container<'_> {
    let c = t.container().lasting().set(
        "/linux/resources",
        json!({"devices": [{"allow": false, "access": "rwm"}],
               "memory": {"limit": 67_108_864, "reservation": 33_554_432},
               "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
               "pids": {"limit": 40}}),
    );
    for controller in ["memory", "cpu", "pids"] {
        t.need_controller(controller);
    }
    c.run_detached();
    c
}

fn update(c: &Container<'_>, flags: &[&str]) -> Output {
    c.call("update", flags).run()
}

fn update_memory(t: &Test) {
    let c = limited(t);
    update(&c, &["--memory", "50331648"]).ok().no_stdout().no_stderr();
    c.expect_limit((MEMORY.0, MEMORY.1, "50331648"), ("memory.max", "50331648"));
}

fn update_memory_with_a_unit(t: &Test) {
    let c = limited(t);
    for (text, bytes) in
        [("48m", "50331648"), ("65536k", "67108864"), ("1g", "1073741824"), ("50M", "52428800")]
    {
        update(&c, &["--memory", text]).ok();
        c.expect_limit((MEMORY.0, MEMORY.1, bytes), ("memory.max", bytes));
    }
}

fn update_memory_and_swap_grow_and_shrink_in_any_order(t: &Test) {
    t.need_limit(("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
    let c = limited(t);
    for (memory, swap, rest) in [
        ("67108864", "67108864", "0"),
        ("134217728", "201326592", "67108864"),
        ("33554432", "50331648", "16777216"),
    ] {
        update(&c, &["--memory", memory, "--memory-swap", swap]).ok();
        c.expect_limit((MEMORY.0, MEMORY.1, memory), ("memory.max", memory));
        c.expect_limit(("memory", "memory.memsw.limit_in_bytes", swap), ("memory.swap.max", rest));
    }
}

fn update_memory_reservation(t: &Test) {
    let c = limited(t);
    update(&c, &["--memory-reservation", "16777216"]).ok();
    c.expect_limit(
        ("memory", "memory.soft_limit_in_bytes", "16777216"),
        ("memory.low", "16777216"),
    );
}

fn update_memory_to_unlimited(t: &Test) {
    let c = limited(t);
    update(&c, &["--memory", "-1"]).ok();
    c.expect_limit((MEMORY.0, MEMORY.1, "9223372036854771712"), ("memory.max", "max"));
}

fn update_pids_limit(t: &Test) {
    let c = limited(t);
    update(&c, &["--pids-limit", "17"]).ok();
    c.expect_limit(("pids", "pids.max", "17"), ("pids.max", "17"));
    update(&c, &["--pids-limit", "-1"]).ok();
    c.expect_limit(("pids", "pids.max", "max"), ("pids.max", "max"));
}

fn update_cpu_share(t: &Test) {
    let c = limited(t);
    update(&c, &["--cpu-share", "1024"]).ok();
    c.expect_limit(("cpu", "cpu.shares", "1024"), ("cpu.weight", "100"));
}

fn update_cpu_quota_and_period(t: &Test) {
    let c = limited(t);
    update(&c, &["--cpu-quota", "30000"]).ok();
    c.expect_limit(("cpu", "cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 100000"));
    update(&c, &["--cpu-quota", "10000", "--cpu-period", "20000"]).ok();
    c.expect_limit(("cpu", "cpu.cfs_quota_us", "10000"), ("cpu.max", "10000 20000"));
    c.expect_limit(("cpu", "cpu.cfs_period_us", "20000"), ("cpu.max", "10000 20000"));
    update(&c, &["--cpu-period", "40000"]).ok();
    c.expect_limit(("cpu", "cpu.cfs_period_us", "40000"), ("cpu.max", "10000 40000"));
}

fn update_cpu_burst(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun have no --cpu-burst");
    t.need_limit(("cpu", "cpu.cfs_burst_us"), "cpu.max.burst");
    let c = limited(t);
    update(&c, &["--cpu-burst", "5000"]).ok();
    c.expect_limit(("cpu", "cpu.cfs_burst_us", "5000"), ("cpu.max.burst", "5000"));
}

fn update_cpu_idle(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun have no --cpu-idle");
    t.need_limit(("cpu", "cpu.idle"), "cpu.idle");
    let c = limited(t);
    update(&c, &["--cpu-idle", "1"]).ok();
    c.expect_limit(("cpu", "cpu.idle", "1"), ("cpu.idle", "1"));
}

fn update_cpuset(t: &Test) {
    t.need_controller("cpuset");
    let c = limited(t);
    update(&c, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
    c.expect_limit(("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    c.expect_limit(("cpuset", "cpuset.mems", "0"), ("cpuset.mems", "0"));
    let output = update(&c, &["--cpuset-cpus", "5000"]).fails();
    assert!(output.stderr.contains("cpuset.cpus"), "{output}");
    c.expect_limit(("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0"));
}

fn update_blkio_weight(t: &Test) {
    t.need_limit(("blkio", "blkio.bfq.weight"), "io.bfq.weight");
    let c = limited(t);
    update(&c, &["--blkio-weight", "300"]).ok();
    let text =
        fs::read_to_string(c.cgroup_file(("blkio", "blkio.bfq.weight"), "io.bfq.weight")).unwrap();
    assert!(text.contains("300"), "{text}");
}

/// Resources as containerd and CRI-O send them.
fn resources() -> String {
    json!({"memory": {"limit": 50_331_648}, "cpu": {"shares": 256, "quota": 25_000, "period": 50_000},
           "pids": {"limit": 21}})
    .to_string()
}

#[track_caller]
fn expect_resources(c: &Container<'_>) {
    c.expect_limit((MEMORY.0, MEMORY.1, "50331648"), ("memory.max", "50331648"));
    c.expect_limit(("cpu", "cpu.shares", "256"), ("cpu.weight", "35"));
    c.expect_limit(("cpu", "cpu.cfs_quota_us", "25000"), ("cpu.max", "25000 50000"));
    c.expect_limit(("pids", "pids.max", "21"), ("pids.max", "21"));
}

fn update_reads_json_from_standard_input(t: &Test) {
    for flags in [&["--resources=-"][..], &["--resources", "-"], &["-r", "-"]] {
        let c = limited(t);
        c.call("update", flags).stdin(resources()).run().ok().no_stdout();
        expect_resources(&c);
        c.delete_force().ok();
    }
}

fn update_reads_json_from_a_file(t: &Test) {
    let c = limited(t);
    fs::write(t.path("resources"), resources()).unwrap();
    update(&c, &[&format!("--resources={}", t.path("resources").display())]).ok();
    expect_resources(&c);
}

/// The limits `limited` has set, but for those given.
#[track_caller]
fn unchanged(c: &Container<'_>) {
    c.expect_limit((MEMORY.0, MEMORY.1, "67108864"), ("memory.max", "67108864"));
    c.expect_limit(
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory.low", "33554432"),
    );
    c.expect_limit(("cpu", "cpu.shares", "512"), ("cpu.weight", "59"));
    c.expect_limit(("cpu", "cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
}

fn update_leaves_what_is_not_named(t: &Test) {
    let c = limited(t);
    update(&c, &["--pids-limit", "17"]).ok();
    unchanged(&c);
    c.call("update", &["-r", "-"]).stdin("{\"pids\": {\"limit\": 18}}").run().ok();
    unchanged(&c);
    c.expect_limit(("pids", "pids.max", "18"), ("pids.max", "18"));
    // An update remembers the one before it.
    update(&c, &["--memory", "50331648"]).ok();
    c.expect_limit(("pids", "pids.max", "18"), ("pids.max", "18"));
}

fn update_of_null_fields_changes_nothing(t: &Test) {
    let c = limited(t);
    let nulls = json!({"memory": {"limit": null, "swap": null}, "cpu": {"shares": null, "quota": null},
                       "pids": null, "blockIO": null, "devices": null});
    c.call("update", &["-r", "-"]).stdin(nulls.to_string()).run().ok();
    unchanged(&c);
    c.expect_limit(("pids", "pids.max", "40"), ("pids.max", "40"));
}

fn an_empty_update_changes_nothing(t: &Test) {
    let c = limited(t);
    c.call("update", &["-r", "-"]).stdin("{}").run().ok();
    unchanged(&c);
    update(&c, &[]).ok();
    unchanged(&c);
    c.expect_limit(("pids", "pids.max", "40"), ("pids.max", "40"));
}

fn an_update_takes_effect_on_the_running_container(t: &Test) {
    let c = limited(t);
    update(&c, &["--pids-limit", "2"]).ok();
    let output = c.exec(&["sh", "-c", "sleep 1000 & sleep 1000 & echo done"]);
    assert!(output.stderr.contains("fork"), "{output}");
}

fn update_below_the_usage_is_refused_when_asked_to_check(t: &Test) {
    t.need(t.kind() == Kind::Skep, "checkBeforeUpdate is newer than runc 1.1 and crun 1.8");
    let c = t.container().with_probe().sh("cp /bin/probe /dev/shm/1; head -c 20000000 /dev/zero > /dev/shm/big; echo up > /up; sleep 1000");
    c.run_detached();
    c.wait_file("/up");
    let resources = json!({"memory": {"limit": 4_194_304, "checkBeforeUpdate": true}}).to_string();
    c.call("update", &["-r", "-"]).stdin(resources).run().fails().names("memory");
    assert_eq!(c.status(), "running");
}

fn update_devices(t: &Test) {
    let (major, minor) = crate::device_rules::device(t);
    let c = t.container().lasting().with_capabilities(&["CAP_MKNOD"]);
    c.run_detached();
    let script = format!("rm -f /dev/it; mknod /dev/it c {major} {minor} && : </dev/it");
    c.exec(&["sh", "-c", &script]).code(1);
    let allow = json!({"devices": [{"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}]});
    c.call("update", &["-r", "-"]).stdin(allow.to_string()).run().ok();
    c.exec(&["sh", "-c", &script]).ok();
}

fn update_of_a_created_container_works(t: &Test) {
    t.need_controller("pids");
    let c = t.container().lasting();
    c.create();
    update(&c, &["--pids-limit", "19"]).ok();
    c.expect_limit(("pids", "pids.max", "19"), ("pids.max", "19"));
    c.start().ok();
    c.expect_limit(("pids", "pids.max", "19"), ("pids.max", "19"));
}

fn update_of_a_paused_container_leaves_it_paused(t: &Test) {
    let c = limited(t);
    c.call("pause", &[]).run().ok();
    update(&c, &["--pids-limit", "19"]).ok();
    assert_eq!(c.status(), "paused");
    c.expect_limit(("pids", "pids.max", "19"), ("pids.max", "19"));
    c.call("resume", &[]).run().ok();
    assert!(wait::is_alive(c.pid()));
}

fn update_of_a_stopped_container_is_refused(t: &Test) {
    let c = t.container();
    c.run_detached();
    c.wait_exit();
    c.wait_status("stopped");
    update(&c, &["--pids-limit", "19"]).fails();
}

fn update_of_an_unknown_id_fails(t: &Test) {
    t.call(&["update", "--pids-limit", "19", &t.id]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn update_of_broken_json_fails_and_changes_nothing(t: &Test) {
    let c = limited(t);
    for text in ["{\"pids\": {\"limit\": 18}", "", "[]", "{\"pids\": {\"limit\": \"many\"}}"] {
        c.call("update", &["-r", "-"]).stdin(text).run().fails();
    }
    unchanged(&c);
    c.expect_limit(("pids", "pids.max", "40"), ("pids.max", "40"));
}

fn update_of_a_missing_file_fails(t: &Test) {
    let c = limited(t);
    update(&c, &["--resources", "/no/such/file"]).fails().names("/no/such/file");
}

fn update_of_an_invalid_size_fails(t: &Test) {
    let c = limited(t);
    for text in ["lots", "12x"] {
        update(&c, &["--memory", text]).fails();
    }
    update(&c, &["--pids-limit", "x"]).fails();
    update(&c, &["--cpu-quota", "1.5"]).fails();
    unchanged(&c);
}

fn the_kernel_memory_flags_are_accepted(t: &Test) {
    t.need(
        t.kind() != Kind::Crun || t.host.layout == Layout::V2,
        "crun writes the removed file on v1",
    );
    let c = limited(t);
    update(&c, &["--kernel-memory", "50331648"]).ok();
    update(&c, &["--kernel-memory-tcp", "50331648"]).ok();
    unchanged(&c);
}

fn an_update_that_fails_half_way_changes_nothing(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 leave the half that worked");
    let c = limited(t);
    // The kernel takes no quota below a millisecond, and has no such device.
    for bad in [
        json!({"cpu": {"shares": 1024, "quota": 5}}),
        json!({"cpu": {"shares": 1024}, "blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1}]}}),
    ] {
        let mut resources = json!({"memory": {"limit": 50_331_648, "reservation": 16_777_216},
            "pids": {"limit": 17}});
        for (key, value) in bad.as_object().unwrap() {
            resources[key] = value.clone();
        }
        c.call("update", &["-r", "-"]).stdin(resources.to_string()).run().fails();
        c.expect_limit((MEMORY.0, MEMORY.1, "67108864"), ("memory.max", "67108864"));
        c.expect_limit(
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory.low", "33554432"),
        );
        c.expect_limit(("pids", "pids.max", "40"), ("pids.max", "40"));
        c.expect_limit(("cpu", "cpu.shares", "512"), ("cpu.weight", "59"));
        c.expect_limit(("cpu", "cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    }
}

/// What it read then would be written over what create has written since.
fn update_of_a_container_being_created_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "others have no record yet");
    let (here, go) = (t.path("here"), t.path("go"));
    let script = format!(
        "touch {}; while ! [ -e {} ]; do /bin/sleep 0.01; done",
        here.display(),
        go.display()
    );
    let c = t.container().lasting().hook("createRuntime", &script);
    let create = c.bundle_call("create", &[]).spawn();
    wait::until("the hook runs", || here.exists().then_some(()));
    let update = t.call(&["update", "--cpuset-cpus", "0", &c.id]).run();
    fs::write(go, "").unwrap();
    create.wait().ok();
    update.fails().names("not running");
    assert_eq!(c.status(), "created");
    c.start().ok();
}
