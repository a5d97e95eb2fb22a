//! The systemd driver with a systemd: a container is in a unit which knows its limits, and nothing of it stays.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json, probe, reaper, wait};

cases![
    a_scope_has_the_container_and_its_limits,
    the_program_is_born_under_its_limits,
    update_tells_systemd_and_the_kernel,
    devices_survive_daemon_reloads,
    a_device_of_a_hook_survives_a_daemon_reload,
    limits_survive_a_daemon_reload,
    properties_come_from_annotations,
    a_property_systemd_refuses_is_explained,
    a_cgroup_below_the_scope,
    a_delegated_cgroup_below_the_scope,
    a_slice_is_a_unit_as_well,
    the_default_is_a_scope_of_its_own,
    a_create_that_fails_leaves_no_unit,
    two_containers_cannot_have_one_unit,
    exec_pause_ps_and_events,
    a_failed_unit_is_no_obstacle,
];

pub fn skep(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what skep says and does");
}

/// A container in a scope of its own.
pub fn container(t: &Test) -> Container<'_> {
    t.container().set("/linux/cgroupsPath", json!(format!("system.slice:bb:{}", t.id)))
}

pub fn need_systemd(t: &Test) {
    t.need(fs::metadata("/run/systemd/system").is_ok(), "systemd does not run here");
    t.need_layout(Layout::V2);
}

fn unit(t: &Test) -> String {
    format!("bb-{}.scope", t.id)
}

pub fn call(c: &Container<'_>, command: &str, flags: &[&str]) -> Output {
    c.bundle_call(command, flags)
        .global(&["--systemd-cgroup"])
        .limit(wait::stretched(Duration::from_secs(120)))
        .run()
}

fn pid(c: &Container<'_>) -> i64 {
    c.state()["pid"].as_i64().unwrap()
}

fn create(c: &Container<'_>) {
    c.write();
    call(c, "create", &[]).ok();
}

#[track_caller]
fn systemctl(args: &[&str]) -> String {
    let output = reaper::output(Command::new("systemctl").args(args)).unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[track_caller]
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "-p", name, unit])
}

fn file(t: &Test, name: &str) -> String {
    let path = format!("/sys/fs/cgroup/system.slice/{}/{name}", unit(t));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[track_caller]
fn gone(t: &Test) {
    let unit = unit(t);
    wait::until("the unit is gone", || (property(&unit, "LoadState") == "not-found").then_some(()));
    assert!(fs::metadata(format!("/sys/fs/cgroup/system.slice/{unit}")).is_err());
    t.assert_nothing_left();
}

fn a_scope_has_the_container_and_its_limits(t: &Test) {
    need_systemd(t);
    let c = container(t)
        .lasting()
        .set("/linux/resources/memory", json!({"limit": 64 << 20, "reservation": 32 << 20}))
        .set("/linux/resources/pids", json!({"limit": 20}))
        .set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "cpus": "0"}))
        .set("/linux/resources/unified", json!({"memory.high": "50331648"}));
    create(&c);
    let unit = unit(t);
    for (name, value) in [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemoryHigh", "50331648"),
        ("TasksMax", "20"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
    ] {
        assert_eq!(property(&unit, name), value, "{name}");
    }
    if t.kind() == Kind::Skep {
        assert_eq!(property(&unit, "Delegate"), "yes");
        for (name, value) in [
            ("memory.max", "67108864"),
            ("memory.high", "50331648"),
            ("pids.max", "20"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0"),
        ] {
            assert_eq!(file(t, name), value, "{name}");
        }
        // And no process but its own.
        assert_eq!(file(t, "cgroup.procs"), pid(&c).to_string());
        assert_eq!(c.state()["systemd-scope"], unit);
    }
    c.start().ok();
    c.kill("KILL").ok();
    c.wait_status("stopped");
    c.delete().ok();
    gone(t);
}

fn the_program_is_born_under_its_limits(t: &Test) {
    need_systemd(t);
    skep(t);
    // One process is all there may be: no room for anybody beside it, and it starts all the same.
    let c = container(t)
        .sh("cat /proc/self/cgroup; true & echo forked")
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .set("/linux/resources/pids", json!({"limit": 1}));
    let output = call(&c, "run", &[]).not_ok();
    assert!(!output.stdout.contains("forked"), "{output}");
    let c = container(t)
        .args(&["cat", "/proc/self/cgroup"])
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .set("/linux/resources/pids", json!({"limit": 1}));
    call(&c, "run", &[]).ok().prints("0::/\n");
    gone(t);
}

fn update_tells_systemd_and_the_kernel(t: &Test) {
    need_systemd(t);
    let c = container(t)
        .lasting()
        .set("/linux/resources/memory", json!({"limit": 64 << 20}))
        .set("/linux/resources/pids", json!({"limit": 20}));
    create(&c);
    c.start().ok();
    c.call(
        "update",
        &[
            "--pids-limit",
            "30",
            "--memory",
            "134217728",
            "--cpu-quota",
            "1999",
            "--cpu-period",
            "100000",
        ],
    )
    .run()
    .ok();
    let unit = unit(t);
    for (name, value) in
        [("TasksMax", "30"), ("MemoryMax", "134217728"), ("CPUQuotaPerSecUSec", "20ms")]
    {
        assert_eq!(property(&unit, name), value, "{name}");
    }
    if t.kind() == Kind::Skep {
        for (name, value) in
            [("pids.max", "30"), ("memory.max", "134217728"), ("cpu.max", "2000 100000")]
        {
            assert_eq!(file(t, name), value, "{name}");
        }
        // What the kernel refuses systemd is not told.
        c.call("update", &["--cpuset-cpus", "4000", "--pids-limit", "40"]).run().fails();
        assert_eq!(
            (property(&unit, "TasksMax").as_str(), file(t, "pids.max").as_str()),
            ("30", "30")
        );
    }
    c.delete_force().ok();
    gone(t);
}

/// Opens the devices, which have no driver, until the kernel forbids one, or it is killed.
const LOOP: &str = "for n in 240 241 242; do mknod /dev/$n c $n 7; done; \
    open() { case $( (: < /dev/$1) 2>&1 ) in *permitted*|*denied*) echo $1 >> /denied;; esac; }; \
    while :; do open null; open 240; open 242; [ ! -e /updated ] || open 241; echo >> /rounds; done";

/// Rules that allow these character devices, all of minor number 7.
fn rules(majors: &[u32]) -> serde_json::Value {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend(majors.iter().map(
        |major| json!({"allow": true, "type": "c", "major": major, "minor": 7, "access": "rwm"}),
    ));
    rules.into()
}

/// Of the configuration, of a hook, of an update that says the configuration again, and of one that adds a device.
fn devices_survive_daemon_reloads(t: &Test) {
    need_systemd(t);
    t.need_capability("CAP_MKNOD");
    let hook = format!("exec {} hook-device 242 7", probe::path(t).display());
    let c = container(t)
        .sh(LOOP)
        .with_capabilities(&["CAP_MKNOD"])
        .set("/linux/resources/devices", rules(&[240]))
        .hook("createRuntime", &hook);
    create(&c);
    c.start().ok();
    c.wait_file("/rounds");
    let rounds = || fs::metadata(c.path("/rounds")).map_or(0, |file| file.len());
    let go_on = || {
        let before = rounds();
        wait::until("the loop goes on", || (rounds() > before + 1).then_some(()));
        fs::read_to_string(c.path("/denied")).unwrap_or_default().replace('\n', " ")
    };
    let update = |resources: serde_json::Value| {
        c.call("update", &["--resources", "-"]).stdin(resources.to_string()).run().ok();
    };
    let mut denied = vec![("the hook".to_owned(), go_on())];
    update(json!({"devices": rules(&[240]), "pids": {"limit": 50}}));
    denied.push(("an update with the rules there are".to_owned(), go_on()));
    update(json!({"devices": rules(&[240, 241, 242])}));
    fs::write(c.path("/updated"), "").unwrap();
    denied.push(("an update with one more".to_owned(), go_on()));
    for n in 1..=10 {
        systemctl(&["daemon-reload"]);
        denied.push((format!("daemon-reload {n}"), go_on()));
    }
    c.delete_force().ok();
    denied.retain(|(_, devices)| !devices.is_empty());
    let first = denied.first().map(|(when, devices)| format!("denied after {when}: {devices}"));
    assert_eq!(first.as_deref(), None);
    gone(t);
}

/// As far as the hook's device goes; what another runtime's update does with it is another matter.
fn a_device_of_a_hook_survives_a_daemon_reload(t: &Test) {
    need_systemd(t);
    t.need_capability("CAP_MKNOD");
    let hook = format!("exec {} hook-device 242 7", probe::path(t).display());
    let c = container(t)
        .lasting()
        .with_capabilities(&["CAP_MKNOD"])
        .set("/linux/resources/devices", rules(&[240]))
        .hook("createRuntime", &hook);
    create(&c);
    c.start().ok();
    c.exec(&["mknod", "/dev/242", "c", "242", "7"]).ok();
    let open = || c.exec(&["sh", "-c", ": < /dev/242"]).stderr;
    assert!(open().contains("No such device or address"), "{}", open());
    systemctl(&["daemon-reload"]);
    assert!(open().contains("No such device or address"), "{}", open());
    c.delete_force().ok();
    gone(t);
}

fn limits_survive_a_daemon_reload(t: &Test) {
    need_systemd(t);
    skep(t);
    let c = container(t)
        .lasting()
        .set("/linux/resources/memory", json!({"limit": 64 << 20, "swap": 128 << 20}))
        .set(
            "/linux/resources/cpu",
            json!({"quota": 33_000, "period": 50_000, "shares": 2048, "cpus": "0"}),
        )
        .set("/linux/resources/blockIO", json!({"weight": 500}))
        .set("/linux/resources/unified", json!({"memory.min": "4096", "pids.max": "77"}));
    create(&c);
    let names = [
        "memory.max",
        "memory.swap.max",
        "memory.min",
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
        "pids.max",
    ];
    let before: Vec<String> = names.iter().map(|name| file(t, name)).collect();
    systemctl(&["daemon-reload"]);
    // Has systemd write everything it knows of the unit.
    systemctl(&[
        "set-property",
        "--runtime",
        &unit(t),
        "MemoryLow=8192",
        "CPUAccounting=yes",
        "TasksAccounting=yes",
    ]);
    let after: Vec<String> = names.iter().map(|name| file(t, name)).collect();
    c.delete_force().ok();
    assert_eq!(before, after);
    gone(t);
}

fn properties_come_from_annotations(t: &Test) {
    need_systemd(t);
    let c = container(t).lasting().set(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 120000000",
            "org.systemd.property.CollectMode": "'inactive'",
        }),
    );
    create(&c);
    assert_eq!(property(&unit(t), "TimeoutStopUSec"), "2min");
    assert_eq!(property(&unit(t), "CollectMode"), "inactive");
    c.delete_force().ok();
    gone(t);
}

fn a_property_systemd_refuses_is_explained(t: &Test) {
    need_systemd(t);
    skep(t);
    for (name, value) in [("NoSuchThing", "true"), ("TimeoutStopUSec", "'long'")] {
        let name = format!("org.systemd.property.{name}");
        let c = container(t).set("/annotations", json!({name: value}));
        call(&c, "run", &[]).fails().names("systemd says").names("org.systemd.property.");
        gone(t);
    }
}

fn a_cgroup_below_the_scope(t: &Test) {
    need_systemd(t);
    t.need(t.kind() != Kind::Runc, "runc has none");
    let c = container(t)
        .lasting()
        .set("/annotations", json!({"run.oci.systemd.subgroup": "inner"}))
        .set("/linux/resources/pids", json!({"limit": 5}));
    create(&c);
    c.start().ok();
    assert_eq!(file(t, "inner/cgroup.procs"), pid(&c).to_string());
    assert_eq!(file(t, "cgroup.procs"), "");
    assert_eq!(file(t, "pids.max"), "5");
    let output = c.exec(&["cat", "/proc/self/cgroup"]);
    assert!(output.stdout.contains("/inner"), "{output}");
    c.call("pause", &[]).run().ok();
    assert_eq!(c.status(), "paused");
    c.call("resume", &[]).run().ok();
    c.delete_force().ok();
    gone(t);
}

fn a_delegated_cgroup_below_the_scope(t: &Test) {
    need_systemd(t);
    t.need(t.host.layout == Layout::V2, "version 1 is not delegated");
    t.need(t.kind() != Kind::Runc, "runc has none");
    for (subgroup, place) in [("", "payload"), ("inner", "inner/payload")] {
        let c = container(t)
            .lasting()
            .push("/linux/namespaces", json!({"type": "cgroup"}))
            .set(
                "/annotations",
                json!({"run.oci.systemd.subgroup": subgroup, "run.oci.delegate-cgroup": "payload"}),
            )
            .set("/linux/resources/pids", json!({"limit": 7}));
        create(&c);
        c.start().ok();
        assert_eq!(file(t, &format!("{place}/cgroup.procs")), pid(&c).to_string());
        assert_eq!(file(t, "cgroup.procs"), "");
        assert_eq!(file(t, "pids.max"), "7");
        assert_eq!(file(t, &format!("{place}/pids.max")), "max");
        let output = c.exec(&["cat", "/proc/self/cgroup"]).ok();
        assert!(output.stdout.ends_with(":/payload\n"), "{output}");
        c.call("pause", &[]).run().ok();
        assert_eq!(c.status(), "paused");
        c.call("resume", &[]).run().ok();
        c.delete_force().ok();
        gone(t);
    }
}

fn a_slice_is_a_unit_as_well(t: &Test) {
    need_systemd(t);
    skep(t);
    let slice = format!("bb{}.slice", t.id.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
    let c = t
        .container()
        .lasting()
        .set("/linux/cgroupsPath", json!(format!("-:x:{slice}")))
        .set("/linux/resources/pids", json!({"limit": 9}));
    create(&c);
    assert_eq!(property(&slice, "TasksMax"), "9");
    let path = format!("/sys/fs/cgroup{}/cgroup.procs", property(&slice, "ControlGroup"));
    let procs = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(procs.trim(), pid(&c).to_string());
    c.delete_force().ok();
    assert!(fs::metadata(format!("/sys/fs/cgroup/{slice}")).is_err());
    t.assert_nothing_left();
}

fn the_default_is_a_scope_of_its_own(t: &Test) {
    need_systemd(t);
    skep(t);
    let c = t.container().lasting().unset("/linux/cgroupsPath");
    create(&c);
    let unit = c.state()["systemd-scope"].as_str().unwrap().to_owned();
    assert_eq!(unit, format!("skep-{}.scope", c.id));
    assert_eq!(property(&unit, "Slice"), "system.slice");
    c.delete_force().ok();
    wait::until("the unit is gone", || (property(&unit, "LoadState") == "not-found").then_some(()));
    t.assert_nothing_left();
}

fn a_create_that_fails_leaves_no_unit(t: &Test) {
    need_systemd(t);
    let c = container(t).args(&["/no/such/program"]);
    call(&c, "run", &[]).not_ok();
    gone(t);
    let c = container(t).hook("createRuntime", "exit 3");
    call(&c, "run", &[]).not_ok();
    gone(t);
    if t.kind() == Kind::Skep {
        let c = container(t).set("/linux/resources/unified", json!({"memory.max": "junk"}));
        call(&c, "run", &[]).fails().names("memory.max");
        gone(t);
    }
}

fn two_containers_cannot_have_one_unit(t: &Test) {
    need_systemd(t);
    skep(t);
    let first = container(t).lasting();
    create(&first);
    let second =
        t.container().set("/linux/cgroupsPath", json!(format!("system.slice:bb:{}", t.id)));
    call(&second, "run", &[]).fails();
    assert_eq!(first.status(), "created");
    assert_eq!(file(t, "cgroup.procs"), pid(&first).to_string());
    first.delete_force().ok();
    gone(t);
}

fn exec_pause_ps_and_events(t: &Test) {
    need_systemd(t);
    skep(t);
    let c = container(t).lasting().push("/linux/namespaces", json!({"type": "cgroup"}));
    create(&c);
    c.start().ok();
    // The driver is the state file's business: no engine says it again.
    c.exec(&["cat", "/proc/self/cgroup"]).ok().prints("0::/\n");
    c.call("pause", &[]).run().ok();
    assert_eq!(file(t, "cgroup.freeze"), "1");
    c.call("update", &["--pids-limit", "99"]).run().ok();
    assert_eq!((c.status().as_str(), file(t, "pids.max").as_str()), ("paused", "99"));
    c.call("resume", &[]).run().ok();
    let listed = c.call("ps", &["--format", "json"]).run().ok();
    assert_eq!(listed.json(), json!([pid(&c)]));
    c.call("events", &["--stats"]).run().ok();
    c.delete_force().ok();
    gone(t);
}

fn a_failed_unit_is_no_obstacle(t: &Test) {
    need_systemd(t);
    let unit = unit(t);
    // A scope that was killed for its time, and which nobody has looked at.
    let mut lasting = Command::new("systemd-run");
    lasting.args(["--scope", "--quiet", "-p", "RuntimeMaxSec=1", "-p", "CollectMode=inactive"]);
    lasting.args(["--unit", &unit, "sleep", "1000"]);
    let ended = reaper::output(&mut lasting).unwrap();
    assert!(!ended.status.success());
    wait::until("the unit has failed", || {
        (property(&unit, "ActiveState") == "failed").then_some(())
    });
    let c = container(t).args(&["true"]);
    call(&c, "run", &[]).ok();
    gone(t);
}
