//! Values of `linux.resources` and the version 1 files they become.

use super::*;

fn parse(json: &str) -> Resources<'_> {
    serde_json::from_str(json).unwrap()
}

fn written(json: &str, purpose: Purpose) -> Vec<String> {
    let writes = writes(&parse(json), purpose).unwrap();
    writes.list.iter().map(|w| format!("{} {}={}", w.controller, w.file, w.value)).collect()
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_property_is_written_to_its_file() {
    let table: &[(&str, &[&str])] = &[
        ("{}", &[]),
        (r#"{"memory":{},"cpu":{},"pids":{},"blockIO":{},"network":{}}"#, &[]),
        // What Docker sends for "no limit".
        (
            r#"{"memory":{"limit":0,"reservation":0,"swap":0,"kernel":0,"disableOOMKiller":false},
                "cpu":{"shares":0,"quota":0,"period":0},"blockIO":{"weight":0}}"#,
            &[],
        ),
        (
            r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":1048576}}"#,
            &[
                "memory memory.limit_in_bytes=67108864",
                "memory memory.memsw.limit_in_bytes=134217728",
                "memory memory.soft_limit_in_bytes=1048576",
            ],
        ),
        (
            r#"{"memory":{"limit":-1}}"#,
            &["memory memory.limit_in_bytes=-1", "memory memory.memsw.limit_in_bytes=-1"],
        ),
        (
            r#"{"memory":{"limit":4096,"swap":-1}}"#,
            &["memory memory.limit_in_bytes=4096", "memory memory.memsw.limit_in_bytes=-1"],
        ),
        (
            r#"{"memory":{"swappiness":0,"disableOOMKiller":true}}"#,
            &["memory memory.oom_control=1", "memory memory.swappiness=0"],
        ),
        (
            r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"burst":1000}}"#,
            &[
                "cpu cpu.shares=512",
                "cpu cpu.cfs_period_us=100000",
                "cpu cpu.cfs_quota_us=50000",
                "cpu cpu.cfs_burst_us=1000",
            ],
        ),
        (
            r#"{"cpu":{"quota":-1,"burst":0}}"#,
            &["cpu cpu.cfs_quota_us=-1", "cpu cpu.cfs_burst_us=0"],
        ),
        (
            r#"{"cpu":{"realtimePeriod":1000000,"realtimeRuntime":950000}}"#,
            &["cpu cpu.rt_period_us=1000000", "cpu cpu.rt_runtime_us=950000"],
        ),
        (r#"{"cpu":{"idle":1,"shares":100}}"#, &["cpu cpu.idle=1"]),
        (r#"{"cpu":{"idle":0,"shares":100}}"#, &["cpu cpu.idle=0", "cpu cpu.shares=100"]),
        (
            r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
            &["cpuset cpuset.cpus=0-1", "cpuset cpuset.mems=0"],
        ),
        (r#"{"cpu":{"cpus":"","mems":""}}"#, &[]),
        (r#"{"pids":{"limit":100}}"#, &["pids pids.max=100"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids pids.max=max"]),
        (r#"{"pids":{"limit":-7}}"#, &["pids pids.max=max"]),
        (r#"{"pids":{"limit":0}}"#, &["pids pids.max=1"]),
        (r#"{"pids":{"limit":null}}"#, &[]),
        (
            r#"{"blockIO":{"weight":500,"leafWeight":10,
                "weightDevice":[{"major":8,"minor":0,"weight":1000,"leafWeight":20}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#,
            &[
                "blkio blkio.weight=500",
                "blkio blkio.leaf_weight=10",
                "blkio blkio.weight_device=8:0 1000",
                "blkio blkio.leaf_weight_device=8:0 20",
                "blkio blkio.throttle.read_bps_device=8:0 600",
                "blkio blkio.throttle.write_iops_device=8:16 0",
            ],
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9223372036854772000},{"pageSize":"1GB","limit":0}]}"#,
            &[
                "hugetlb hugetlb.2MB.limit_in_bytes=9223372036854772000",
                "hugetlb hugetlb.2MB.rsvd.limit_in_bytes=9223372036854772000",
                "hugetlb hugetlb.1GB.limit_in_bytes=0",
                "hugetlb hugetlb.1GB.rsvd.limit_in_bytes=0",
            ],
        ),
        (
            r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":500},{"name":"lo","priority":1}]}}"#,
            &[
                "net_cls net_cls.classid=1048577",
                "net_prio net_prio.ifpriomap=eth0 500",
                "net_prio net_prio.ifpriomap=lo 1",
            ],
        ),
        (
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"rxe3":{"hcaObjects":0}}}"#,
            &[
                "rdma rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
                "rdma rdma.max=rxe3 hca_object=0",
            ],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(written(json, Purpose::Create), *expected, "{json}");
    }
}

#[test]
fn an_update_can_turn_the_oom_killer_on_again_and_bring_swap_alone() {
    assert_eq!(
        written(r#"{"memory":{"disableOOMKiller":false}}"#, Purpose::Update),
        ["memory memory.oom_control=0"]
    );
    assert_eq!(
        written(r#"{"memory":{"swap":4096}}"#, Purpose::Update),
        ["memory memory.memsw.limit_in_bytes=4096"]
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_is_an_error_that_names_the_property() {
    for (json, words, field) in [
        (
            r#"{"unified":{"memory.high":"1"}}"#,
            "cannot use unified on cgroup v1",
            r#"linux.resources.unified["memory.high"]"#,
        ),
        (
            r#"{"memory":{"limit":-2}}"#,
            "-2 is neither a number of bytes nor -1",
            "linux.resources.memory.limit",
        ),
        (
            r#"{"memory":{"swap":1}}"#,
            "unable to set swap limit without memory limit",
            "linux.resources.memory.swap",
        ),
        (
            r#"{"memory":{"limit":-1,"swap":1}}"#,
            "unable to set swap limit without memory limit",
            "linux.resources.memory.swap",
        ),
        (
            r#"{"memory":{"limit":10,"swap":9}}"#,
            "memory+swap limit should be >= memory limit",
            "linux.resources.memory.swap",
        ),
        (
            r#"{"memory":{"swappiness":101}}"#,
            "valid range is 0-100",
            "linux.resources.memory.swappiness",
        ),
        (
            r#"{"cpu":{"shares":1}}"#,
            "minimum allowed cpu-shares is 2",
            "linux.resources.cpu.shares",
        ),
        (
            r#"{"cpu":{"shares":262145}}"#,
            "maximum allowed cpu-shares is 262144",
            "linux.resources.cpu.shares",
        ),
        (r#"{"cpu":{"cpus":"all"}}"#, "is not a list", "linux.resources.cpu.cpus"),
        (
            r#"{"blockIO":{"weight":9}}"#,
            "not between 10 and 1000",
            "linux.resources.blockIO.weight",
        ),
        (
            r#"{"blockIO":{"weightDevice":[{"major":1,"minor":1,"weight":1001}]}}"#,
            "not between 10 and 1000",
            "linux.resources.blockIO.weightDevice[0].weight",
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
            "is not a huge page size",
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"MB","limit":1}]}"#,
            "is not a huge page size",
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        (
            r#"{"rdma":{"mlx5_0":{}}}"#,
            "neither hcaHandles nor hcaObjects",
            r#"linux.resources.rdma["mlx5_0"]"#,
        ),
        (r#"{"cpu":{"idle":2}}"#, "neither 0 nor 1", "linux.resources.cpu.idle"),
        (
            r#"{"memory":{"swappiness":101}}"#,
            "invalid memory swappiness value: 101",
            "linux.resources.memory.swappiness",
        ),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}"#,
            "neither weight nor leafWeight",
            "linux.resources.blockIO.weightDevice[0]",
        ),
        (
            r#"{"blockIO":{"weightDevice":[{"major":-1,"minor":0,"weight":10}]}}"#,
            "-1 is no major number",
            "linux.resources.blockIO.weightDevice[0].major",
        ),
        (
            r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":1048576,"rate":1}]}}"#,
            "1048576 is no minor number",
            "linux.resources.blockIO.throttleReadIOPSDevice[0].minor",
        ),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "is not a name", r#"linux.resources.rdma["a b"]"#),
        (
            r#"{"rdma":{"../x":{"hcaHandles":1}}}"#,
            "is not a name",
            r#"linux.resources.rdma["../x"]"#,
        ),
        (
            r#"{"network":{"priorities":[{"name":"eth0","priority":1},{"name":"0123456789abcdef","priority":1}]}}"#,
            "is not a name",
            "linux.resources.network.priorities[1].name",
        ),
    ] {
        let error = writes(&parse(json), Purpose::Create).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
        assert!(error.contains(&format!("(config.json: {field})")), "{json}: {error}");
    }
}

#[test]
fn what_is_ignored_is_said() {
    for (json, words) in [
        (r#"{"memory":{"kernel":1}}"#, "memory.kernel"),
        (r#"{"memory":{"kernelTCP":1}}"#, "kernelTCP"),
        (r#"{"memory":{"useHierarchy":false}}"#, "useHierarchy"),
        (r#"{"cpu":{"idle":1,"shares":2}}"#, "cpu.shares"),
    ] {
        let warnings = writes(&parse(json), Purpose::Create).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{json}");
        assert!(warnings[0].contains(words), "{warnings:?}");
    }
}
