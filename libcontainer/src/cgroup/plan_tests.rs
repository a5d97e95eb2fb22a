//! Which directories a container gets, and what is refused before any is made.

use super::*;

/// A host as systemd leaves it.
fn v1_host() -> Host {
    Host::legacy_for_tests(&[
        "blkio",
        "cpu,cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls,net_prio",
        "perf_event",
        "pids",
        "systemd",
    ])
}

fn build(path: Option<&str>, json: &str, host: &Host) -> Result<CgroupPlan> {
    let resources: Resources<'_> = serde_json::from_str(json).unwrap();
    CgroupPlan::build(
        &Request {
            id: "box",
            cgroups_path: path,
            resources: Some(&resources),
            driver: Driver::Cgroupfs,
            default_devices: true,
            buses: None,
            annotations: None,
        },
        host,
    )
}

fn directories(plan: &CgroupPlan) -> Vec<&str> {
    plan.groups.iter().map(|group| group.mount.rsplit('/').next().unwrap()).collect()
}

#[test]
fn a_container_is_in_all_hierarchies_but_a_cpuset_without_need() {
    let usual = [
        "blkio",
        "cpu,cpuacct",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls,net_prio",
        "perf_event",
        "pids",
        "systemd",
    ];
    let plan = build(None, "{}", &v1_host()).unwrap();
    assert_eq!(directories(&plan), usual);
    assert_eq!(plan.path(), "/box");
    // Below an engine's cgroup it also stays within the CPUs of that.
    let plan = build(Some("/docker/box"), "{}", &v1_host()).unwrap();
    assert!(directories(&plan).contains(&"cpuset"));
    let plan = build(None, r#"{"cpu":{"cpus":"0"}}"#, &v1_host()).unwrap();
    assert_eq!(directories(&plan).len(), usual.len() + 1);
    assert!(directories(&plan).contains(&"cpuset"));
}

#[test]
fn a_hierarchy_of_which_something_is_asked_must_let_the_container_in() {
    let optional = |json: &str| -> Vec<String> {
        let plan = build(Some("/docker/box"), json, &v1_host()).unwrap();
        let optional = plan.groups.into_iter().filter(|group| group.optional);
        optional.map(|group| group.controllers.join(",")).collect()
    };
    let others = ["hugetlb", "net_cls,net_prio", "perf_event", "name=systemd"];
    assert_eq!(optional("{}"), others);
    for (json, asked) in [
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#, "hugetlb"),
        (r#"{"network":{"classID":1}}"#, "net_cls,net_prio"),
        (r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "net_cls,net_prio"),
    ] {
        let left: Vec<&str> = others.into_iter().filter(|name| *name != asked).collect();
        assert_eq!(optional(json), left, "{json}");
    }
}

#[test]
fn each_write_goes_to_the_directory_of_its_controller() {
    let json = r#"{"memory":{"limit":4096},"cpu":{"shares":7},"pids":{"limit":3}}"#;
    let plan = build(None, json, &v1_host()).unwrap();
    for group in &plan.groups {
        for write in &group.writes {
            assert!(group.controllers.iter().any(|name| *name == *write.controller));
        }
    }
    assert_eq!(plan.groups.iter().map(|group| group.writes.len()).sum::<usize>(), 3);
}

#[test]
fn a_limit_without_its_controller_is_an_error_that_names_it() {
    let small = Host::legacy_for_tests(&["devices", "freezer"]);
    for (json, field) in [
        (
            r#"{"memory":{"limit":4096}}"#,
            "memory controller is not mounted on this host (config.json: linux.resources.memory.limit)",
        ),
        (
            r#"{"pids":{"limit":1}}"#,
            "pids controller is not mounted on this host (config.json: linux.resources.pids.limit)",
        ),
        (
            r#"{"rdma":{"x":{"hcaHandles":1}}}"#,
            "rdma controller is not mounted on this host (config.json: linux.resources.rdma[\"x\"])",
        ),
    ] {
        let error = build(None, json, &small).unwrap_err().to_string();
        assert!(error.ends_with(field), "{error}");
    }
    assert_eq!(directories(&build(None, "{}", &small).unwrap()), ["devices", "freezer"]);
    // Without the devices controller nothing would keep a container from the disks.
    let unsafe_host = Host::legacy_for_tests(&["memory", "freezer"]);
    let error = build(None, "{}", &unsafe_host).unwrap_err().to_string();
    assert!(error.contains("devices controller"), "{error}");
    let v2 = Host::unified_for_tests("cpu memory");
    let error = build(None, r#"{"pids":{"limit":1}}"#, &v2).unwrap_err().to_string();
    assert!(error.contains("linux.resources.pids.limit"), "{error}");
}

#[test]
fn a_hole_is_refused_on_version_1_only() {
    let json = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","access":"rwm"},
        {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]}"#;
    let error = build(None, json, &v1_host()).unwrap_err().to_string();
    assert!(error.contains("cannot punch the hole \"c 10:229 rwm\""), "{error}");
    assert!(error.contains("linux.resources.devices[2]"), "{error}");
    build(None, json, &Host::unified_for_tests("cpu")).unwrap();
}

#[test]
fn views_show_shared_directories_with_links() {
    let plan = build(Some("/a/box"), "{}", &v1_host()).unwrap();
    let views = plan.v1_views();
    let view = |name: &str| views.iter().find(|view| view.directory == name).unwrap().clone();
    let cpu = view("cpu,cpuacct");
    assert_eq!(cpu.links, ["cpu", "cpuacct"]);
    assert_eq!(cpu.options, "cpu,cpuacct");
    assert_eq!(cpu.source, PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/box"));
    assert_eq!(view("memory").links, [] as [&str; 0]);
    assert_eq!(view("systemd").options, "none,name=systemd");
    let v2 = build(None, "{}", &Host::unified_for_tests("cpu")).unwrap();
    assert!(v2.v1_views().is_empty());
}

#[test]
fn nothing_is_shown_of_a_hierarchy_the_container_is_not_in() {
    let plan = build(Some("/a/box"), "{}", &v1_host()).unwrap();
    let mut record = plan.record();
    let complete = Cgroup::from_record(record.clone()).unwrap();
    assert_eq!(complete.v1_views(), plan.v1_views());
    assert_eq!(plan.left_out(&complete), 0);
    let third = record.hierarchies.remove(2);
    let cgroup = Cgroup::from_record(record).unwrap();
    assert_eq!(plan.left_out(&cgroup), 1 << 2, "{third:?}");
    let mut views = plan.v1_views();
    views.remove(2);
    assert_eq!(cgroup.v1_views(), views);
}

#[test]
fn version_2_is_one_directory() {
    let v2 = Host::unified_for_tests("cpuset cpu io memory pids");
    let plan = build(Some("/a/b"), r#"{"cpu":{"shares":1024}}"#, &v2).unwrap();
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.groups[0].mount, "/sys/fs/cgroup");
    assert_eq!(plan.groups[0].writes.len(), 1);
}

#[test]
fn the_other_drivers_make_nothing() {
    let request = Request { id: "box", driver: Driver::Disabled, ..Request::default() };
    let plan = CgroupPlan::build(&request, &v1_host()).unwrap();
    assert!(plan.groups.is_empty() && plan.devices.is_none() && plan.v1_views().is_empty());
    assert_eq!("disabled".parse::<Driver>().unwrap(), Driver::Disabled);
    assert!("cgroups".parse::<Driver>().is_err());
}

#[test]
fn a_unit_knows_its_limits() {
    let resources: Resources<'_> =
        serde_json::from_str(r#"{"pids":{"limit":7},"cpu":{"quota":1999,"period":100000}}"#)
            .unwrap();
    let annotations =
        r#"{"org.systemd.property.TasksMax":"uint64 9","run.oci.systemd.subgroup":"inner"}"#;
    let annotations = serde_json::from_str(annotations).unwrap();
    let buses = Buses { session: Some("unix:path=/x/bus".into()), ..Buses::default() };
    let request = Request {
        id: "box",
        cgroups_path: Some("a-b.slice:p:n"),
        resources: Some(&resources),
        driver: Driver::Systemd,
        buses: Some(&buses),
        annotations: Some(&annotations),
        ..Request::default()
    };
    let host = Host::unified_for_tests("cpuset cpu io memory pids");
    let plan = CgroupPlan::build(&request, &host).unwrap();
    assert!(plan.path().ends_with("/a.slice/a-b.slice/p-n.scope"), "{}", plan.path());
    let unit = plan.unit.as_ref().unwrap();
    assert_eq!((unit.unit.name.as_str(), unit.unit.below.as_deref()), ("p-n.scope", Some("inner")));
    let names: Vec<&str> = unit.properties.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"Delegate") && names.contains(&"CPUQuotaPerSecUSec"), "{names:?}");
    // The kernel and systemd are told the same.
    let quota = plan.groups[0].writes.iter().find(|write| write.file == "cpu.max").unwrap();
    assert_eq!(quota.value, "2000 100000");
    // Twice: the caller's own comes last.
    assert_eq!(names.iter().filter(|name| **name == "TasksMax").count(), 2);
    assert_eq!(names.last(), Some(&"TasksMax"));
    let text = serde_json::to_string(&plan.record()).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(record, plan.record());
    for path in ["/a/b", "a:b", "a.slice:b:c/d"] {
        let request = Request { cgroups_path: Some(path), ..request };
        assert!(CgroupPlan::build(&request, &host).is_err(), "{path}");
    }
}

#[test]
fn the_configurations_of_the_engines_can_be_planned() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/configs");
    let mut planned = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let Ok(spec) = serde_json::from_str::<crate::spec::Spec<'_>>(&text) else { continue };
        let Some(linux) = spec.linux.as_ref() else { continue };
        for host in [v1_host(), Host::unified_for_tests("cpuset cpu io memory hugetlb pids rdma")] {
            let request = Request {
                id: "box",
                cgroups_path: linux.cgroups_path.as_deref(),
                resources: linux.resources.as_deref(),
                driver: Driver::Cgroupfs,
                default_devices: true,
                buses: None,
                annotations: None,
            };
            let plan = CgroupPlan::build(&request, &host).unwrap();
            assert!(plan.warnings().is_empty(), "{}: {:?}", path.display(), plan.warnings());
            planned += 1;
        }
    }
    assert!(planned >= 20, "{planned}");
}
