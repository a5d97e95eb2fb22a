//! Values of `linux.resources` and the version 2 files they become.

use super::*;

fn controllers() -> Vec<String> {
    ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"].map(str::to_owned).to_vec()
}

fn parse(json: &str) -> Resources<'_> {
    serde_json::from_str(json).unwrap()
}

fn create(json: &str) -> Result<Writes> {
    writes(&parse(json), Purpose::Create, &controllers(), &|_| None)
}

fn lines(writes: &Writes) -> Vec<String> {
    writes.list.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_property_is_written_to_its_file() {
    let table: &[(&str, &[&str])] = &[
        ("{}", &[]),
        (
            r#"{"memory":{"limit":0,"reservation":0,"swap":0,"kernel":0},
                "cpu":{"shares":0,"quota":0,"period":0},"blockIO":{"weight":0}}"#,
            &[],
        ),
        (
            r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":1048576}}"#,
            &["memory.max=67108864", "memory.swap.max=67108864", "memory.low=1048576"],
        ),
        (r#"{"memory":{"limit":4096,"swap":4096}}"#, &["memory.max=4096", "memory.swap.max=0"]),
        (r#"{"memory":{"limit":4096,"swap":-1}}"#, &["memory.max=4096", "memory.swap.max=max"]),
        (r#"{"memory":{"limit":4096}}"#, &["memory.max=4096"]),
        (r#"{"memory":{"limit":-1}}"#, &["memory.max=max", "memory.swap.max=max"]),
        (r#"{"memory":{"swap":-1}}"#, &["memory.swap.max=max"]),
        (r#"{"cpu":{"shares":1024}}"#, &["cpu.weight=100"]),
        (r#"{"cpu":{"shares":512,"idle":1}}"#, &["cpu.idle=1"]),
        (r#"{"cpu":{"quota":50000,"period":200000}}"#, &["cpu.max=50000 200000"]),
        (r#"{"cpu":{"quota":50000}}"#, &["cpu.max=50000 100000"]),
        (r#"{"cpu":{"quota":-1,"period":200000}}"#, &["cpu.max=max 200000"]),
        (r#"{"cpu":{"period":200000}}"#, &["cpu.max=max 200000"]),
        (r#"{"cpu":{"quota":50000,"burst":9}}"#, &["cpu.max=50000 100000", "cpu.max.burst=9"]),
        (r#"{"cpu":{"cpus":"0","mems":"0-1"}}"#, &["cpuset.cpus=0", "cpuset.mems=0-1"]),
        (r#"{"pids":{"limit":100}}"#, &["pids.max=100"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]),
        (r#"{"pids":{"limit":0}}"#, &["pids.max=1"]),
        (
            r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":1000}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
                "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":1}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":2}]}}"#,
            &[
                "io.bfq.weight=500",
                "io.bfq.weight=8:0 1000",
                "io.max=8:0 rbps=600",
                "io.max=8:0 wbps=max",
                "io.max=8:0 riops=1",
                "io.max=8:16 wiops=2",
            ],
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            &["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"],
        ),
        (r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#, &["rdma.max=mlx5_1 hca_handle=3"]),
        // unified comes last, whatever it says.
        (
            r#"{"unified":{"memory.max":"8192","io.max":"8:0 rbps=1\n8:16 rbps=2","cgroup.max.depth":"3","cpu.pressure":""},
                "memory":{"limit":4096}}"#,
            &[
                "memory.max=4096",
                "memory.max=8192",
                "io.max=8:0 rbps=1",
                "io.max=8:16 rbps=2",
                "cgroup.max.depth=3",
                "cpu.pressure=",
            ],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(lines(&create(json).unwrap()), *expected, "{json}");
    }
}

#[test]
fn an_update_completes_pairs_with_what_is_in_force() {
    let now = |name: &str| match name {
        "memory.max" => Some("4096\n".to_owned()),
        "cpu.max" => Some("20000 50000\n".to_owned()),
        _ => None,
    };
    for (json, expected) in [
        (r#"{"memory":{"swap":10000}}"#, &["memory.swap.max=5904"][..]),
        (r#"{"memory":{"limit":8192,"swap":10000}}"#, &["memory.max=8192", "memory.swap.max=1808"]),
        (r#"{"cpu":{"quota":30000}}"#, &["cpu.max=30000 50000"]),
        (r#"{"cpu":{"quota":-1}}"#, &["cpu.max=max 50000"]),
        (r#"{"cpu":{"period":60000}}"#, &["cpu.max=20000 60000"]),
    ] {
        let writes = writes(&parse(json), Purpose::Update, &controllers(), &now).unwrap();
        assert_eq!(lines(&writes), expected, "{json}");
    }
    let unlimited = |_: &str| Some("max\n".to_owned());
    let swap = parse(r#"{"memory":{"swap":10000}}"#);
    let error = writes(&swap, Purpose::Update, &controllers(), &unlimited).unwrap_err();
    assert!(error.to_string().contains("unable to set swap limit without memory limit"));
}

#[test]
fn old_files_stand_in_for_those_the_kernel_lacks() {
    let weight = &create(r#"{"blockIO":{"weight":100}}"#).unwrap().list[0];
    assert_eq!(weight.missing, Missing::Instead("io.weight", "910".to_owned()));
    for (json, missing) in [
        (r#"{"memory":{"limit":10,"swap":10}}"#, Missing::Ignore),
        (r#"{"memory":{"limit":10,"swap":-1}}"#, Missing::Ignore),
        (r#"{"memory":{"limit":10,"swap":11}}"#, Missing::Fail),
    ] {
        assert_eq!(create(json).unwrap().list[1].missing, missing, "{json}");
    }
}

#[test]
fn what_cannot_be_is_an_error_that_names_the_property() {
    for (json, words, field) in [
        (
            r#"{"memory":{"swap":1}}"#,
            "unable to set swap limit without memory limit",
            "linux.resources.memory.swap",
        ),
        (
            r#"{"memory":{"limit":10,"swap":9}}"#,
            "memory+swap limit should be >= memory limit",
            "linux.resources.memory.swap",
        ),
        (
            r#"{"blockIO":{"leafWeight":10}}"#,
            "no leaf weight",
            "linux.resources.blockIO.leafWeight",
        ),
        (
            r#"{"unified":{"misc.max":"x 1"}}"#,
            r#"controller "misc" not available"#,
            r#"linux.resources.unified["misc.max"]"#,
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
        (
            r#"{"unified":{"../x.y":"1"}}"#,
            "must be the name of a cgroup file",
            r#"linux.resources.unified["../x.y"]"#,
        ),
        (
            r#"{"unified":{"memory":"1"}}"#,
            "must be the name of a cgroup file",
            r#"linux.resources.unified["memory"]"#,
        ),
        (
            r#"{"unified":{".max":"1"}}"#,
            "must be the name of a cgroup file",
            r#"linux.resources.unified[".max"]"#,
        ),
    ] {
        let error = create(json).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
        assert!(error.contains(&format!("(config.json: {field})")), "{json}: {error}");
    }
    let pids = parse(r#"{"pids":{"limit":5}}"#);
    let error = writes(&pids, Purpose::Create, &["cpu".to_owned()], &|_| None).unwrap_err();
    let (words, hint) = (error.to_string(), "cgroup.subtree_control");
    assert!(
        words.starts_with(
            "the pids controller is not available on this host (config.json: linux.resources.pids.limit);"
        ) && words.contains(hint),
        "{words}"
    );
}

#[test]
fn what_is_ignored_is_said() {
    for (json, words) in [
        (r#"{"memory":{"swappiness":0}}"#, "swappiness"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, "disableOOMKiller"),
        (r#"{"memory":{"kernelTCP":1}}"#, "kernelTCP"),
        (r#"{"cpu":{"realtimeRuntime":1}}"#, "realtime"),
        (r#"{"network":{"classID":1}}"#, "network"),
    ] {
        let writes = create(json).unwrap();
        assert_eq!(writes.list, []);
        assert_eq!(writes.warnings.len(), 1, "{json}");
        assert!(writes.warnings[0].contains(words), "{:?}", writes.warnings);
    }
    assert_eq!(create(r#"{"memory":{"disableOOMKiller":false}}"#).unwrap(), Writes::default());
}
