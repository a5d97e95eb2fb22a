//! linux.resources: what is out of range, what is ignored, the rarer controllers, and whose the cgroup is.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, Value, json};

cases![
    each_value_out_of_range_is_named,
    what_no_kernel_has_is_ignored,
    an_rdma_limit_is_set_or_refused,
    a_network_priority_is_set_or_refused,
    reservations_of_huge_pages_are_limited_too,
    a_burst_above_the_quota_is_refused,
    a_weight_by_device_is_set_or_refused,
    a_cgroup_belongs_to_its_user_where_he_may_write_it,
    a_cgroup_is_roots_otherwise,
    an_update_names_the_value_out_of_range,
    an_update_of_memory_and_swap_below_the_usage_is_refused_when_asked_to_check,
];

fn bad_values() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("memory", json!({"limit": -2}), "linux.resources.memory.limit"),
        ("memory", json!({"reservation": -5}), "linux.resources.memory.reservation"),
        ("memory", json!({"limit": 1_048_576, "swap": 4096}), "linux.resources.memory.swap"),
        ("memory", json!({"swappiness": 101}), "linux.resources.memory.swappiness"),
        ("cpu", json!({"cpus": "0-"}), "linux.resources.cpu.cpus"),
        ("cpu", json!({"cpus": "zero"}), "linux.resources.cpu.cpus"),
        ("cpu", json!({"mems": "999"}), "linux.resources.cpu.mems"),
        ("cpu", json!({"quota": 5}), "linux.resources.cpu.quota"),
        ("cpu", json!({"period": 5}), "linux.resources.cpu.period"),
        ("cpu", json!({"idle": 2}), "linux.resources.cpu.idle"),
        ("cpu", json!({"idle": -1}), "linux.resources.cpu.idle"),
        ("pids", json!({"limit": i64::MAX}), "linux.resources.pids.limit"),
        ("blockIO", json!({"weight": 9}), "linux.resources.blockIO.weight"),
        ("blockIO", json!({"weight": 1001}), "linux.resources.blockIO.weight"),
        ("blockIO", json!({"leafWeight": 5}), "linux.resources.blockIO.leafWeight"),
        (
            "blockIO",
            json!({"weightDevice": [{"major": 8, "minor": 0}]}),
            "linux.resources.blockIO.weightDevice[0]",
        ),
        (
            "blockIO",
            json!({"weightDevice": [{"major": 8, "minor": -1, "weight": 100}]}),
            "linux.resources.blockIO.weightDevice[0].minor",
        ),
        (
            "blockIO",
            json!({"throttleWriteIOPSDevice": [{"major": 5000, "minor": 0, "rate": 1}]}),
            "linux.resources.blockIO.throttleWriteIOPSDevice[0].major",
        ),
        (
            "hugepageLimits",
            json!([{"pageSize": "2XB", "limit": 1}]),
            "linux.resources.hugepageLimits[0]",
        ),
        ("rdma", json!({"mlx5_0": {}}), "linux.resources.rdma[\"mlx5_0\"]"),
        ("rdma", json!({"a b": {"hcaHandles": 1}}), "linux.resources.rdma[\"a b\"]"),
        ("rdma", json!({"../x": {"hcaHandles": 1}}), "linux.resources.rdma[\"../x\"]"),
        (
            "network",
            json!({"priorities": [{"name": "../x", "priority": 1}]}),
            "linux.resources.network.priorities[0].name",
        ),
        // The number by which version 1 means every device.
        (
            "devices",
            json!([{"allow": true, "type": "c", "major": u32::MAX, "minor": 1, "access": "rw"}]),
            "linux.resources.devices[0].major",
        ),
        (
            "devices",
            json!([{"allow": true, "type": "b", "major": 8, "minor": u32::MAX, "access": "rw"}]),
            "linux.resources.devices[0].minor",
        ),
    ]
}

fn each_value_out_of_range_is_named(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun check a part of this, and name nothing");
    for (name, value, field) in bad_values() {
        let c = t.container().set(&format!("/linux/resources/{name}"), value);
        c.try_create().fails().names(field).one_line();
        t.assert_nothing_left();
    }
}

fn what_no_kernel_has_is_ignored(t: &Test) {
    let memory = match t.host.layout {
        Layout::V1 => json!({"kernel": 16_777_216, "kernelTCP": 16_777_216, "useHierarchy": true}),
        Layout::V2 => json!({"kernel": 16_777_216, "kernelTCP": 16_777_216, "swappiness": 60}),
    };
    let c = t.container().set("/linux/resources/memory", memory);
    let output = c.bundle_call("run", &[]).global(&["--log-level", "warning"]);
    if t.kind() == Kind::Skep {
        let output = output.run().ok();
        assert!(output.stderr.contains("linux.resources.memory.kernel"), "{output}");
    } else {
        c.run().ok();
    }
}

/// Whether `controller` is there; where it is not, asking for it has failed and left nothing.
fn is_set(t: &Test, controller: &str, resources: &str, value: Value) -> Option<String> {
    let c = t.container().lasting().set(&format!("/linux/resources/{resources}"), value);
    let output = c.try_create();
    if t.host.controllers.iter().any(|name| name == controller) {
        output.ok();
        return Some(c.id.clone());
    }
    output.fails().names(controller);
    t.assert_nothing_left();
    None
}

fn an_rdma_limit_is_set_or_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 do not say which controller is missing");
    // There is no such device: the kernel answers with ENODEV where there is the controller.
    let c = t.container().set("/linux/resources/rdma", json!({"no_such_hca": {"hcaHandles": 3}}));
    c.try_create().fails().names("linux.resources.rdma[\"no_such_hca\"]");
    t.assert_nothing_left();
}

fn a_network_priority_is_set_or_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 do not say which controller is missing");
    t.need_layout(Layout::V1);
    let value = json!({"priorities": [{"name": "lo", "priority": 5}]});
    if let Some(id) = is_set(t, "net_prio", "network", value) {
        let map = fs::read_to_string(t.host.v1("net_prio", &id, "net_prio.ifpriomap")).unwrap();
        assert!(map.lines().any(|line| line == "lo 5"), "{map}");
    }
}

fn reservations_of_huge_pages_are_limited_too(t: &Test) {
    t.need_controller("hugetlb");
    t.need_limit(("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes"), "hugetlb.2MB.rsvd.max");
    let limits = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    let c = t.container().lasting().set("/linux/resources/hugepageLimits", limits);
    c.create();
    c.expect_limit(
        ("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    );
}

fn a_burst_above_the_quota_is_refused(t: &Test) {
    t.need_limit(("cpu", "cpu.cfs_burst_us"), "cpu.max.burst");
    t.need(t.kind() == Kind::Skep, "cpu.burst is newer than runc 1.1 and crun 1.8");
    let cpu = json!({"quota": 10_000, "period": 100_000, "burst": 20_000});
    t.container()
        .set("/linux/resources/cpu", cpu)
        .try_create()
        .fails()
        .names("linux.resources.cpu.burst");
    t.assert_nothing_left();
}

fn a_weight_by_device_is_set_or_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 name no field");
    // Without BFQ no kernel since 5.0 has weights by device on version 1, and no such device on either.
    let weights = json!({"weightDevice": [{"major": 4000, "minor": 1, "weight": 100}]});
    t.container()
        .set("/linux/resources/blockIO", weights)
        .try_create()
        .fails()
        .names("linux.resources.blockIO.weightDevice[0]");
    t.assert_nothing_left();
}

fn a_cgroup_belongs_to_its_user_where_he_may_write_it(t: &Test) {
    t.need_layout(Layout::V2);
    t.need_user_namespaces();
    for (user, rw, owner) in [(0, true, 100_000), (7, true, 100_007), (7, false, 0)] {
        let options: &[&str] = if rw { &["nosuid"] } else { &["nosuid", "ro"] };
        let c = t
            .container()
            .user_namespace(100_000)
            .push("/linux/namespaces", json!({"type": "cgroup"}))
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", options)
            .set("/process/user/uid", json!(user))
            .lasting();
        fs::create_dir_all(c.path("/sys/fs/cgroup")).unwrap();
        c.create();
        let uid = |file: &str| fs::metadata(t.host.v2(&c.id, file)).unwrap().uid();
        assert_eq!(uid("."), owner);
        for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            assert_eq!(uid(file), owner, "{file}");
        }
        for file in ["cgroup.max.depth", "pids.max", "memory.max"] {
            assert_eq!(uid(file), 0, "{file}");
        }
        c.delete_force().ok();
    }
}

/// Delegation is not secure on version 1.
fn a_cgroup_is_roots_otherwise(t: &Test) {
    t.need_layout(Layout::V1);
    let c = t
        .container()
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid"])
        .set("/process/user/uid", json!(1000))
        .lasting();
    c.create();
    for dir in t.cgroups() {
        assert_eq!(fs::metadata(&dir).unwrap().uid(), 0, "{}", dir.display());
    }
}

fn an_update_names_the_value_out_of_range(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun check a part of this, and name nothing");
    let c = t.container().lasting();
    c.run_detached();
    for (name, value, field) in bad_values() {
        let resources = json!({ name: value }).to_string();
        c.call("update", &["--resources", "-"]).stdin(resources).run().fails().names(field);
    }
}

fn an_update_of_memory_and_swap_below_the_usage_is_refused_when_asked_to_check(t: &Test) {
    t.need(t.kind() == Kind::Skep, "checkBeforeUpdate is newer than runc 1.1 and crun 1.8");
    t.need_limit(("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
    let c = t.container().sh(
        "dd if=/dev/zero of=/dev/shm/fill bs=1M count=20 2>/dev/null; echo > /full; sleep 1000",
    );
    c.run_detached();
    c.wait_file("/full");
    let resources =
        json!({"memory": {"limit": 4096, "swap": 4096, "checkBeforeUpdate": true}}).to_string();
    let output = c.call("update", &["-r", "-"]).stdin(resources).run().fails();
    output.names("unable to set memory+swap limit to 4096");
    c.expect_limit(
        ("memory", "memory.limit_in_bytes", "9223372036854771712"),
        ("memory.max", "max"),
    );
}
