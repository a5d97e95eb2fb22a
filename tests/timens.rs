//! Time namespaces: new ones with and without offsets, joined ones, and what of `linux.timeOffsets` is refused.

use std::fs;
use std::path::Path;

use crate::counts::step;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, Value, json};
use crate::rootless;

cases![
    a_time_namespace_without_offsets_is_new,
    the_offsets_are_those_of_the_config,
    one_clock_alone_may_have_an_offset,
    null_offsets_need_no_time_namespace,
    uptime_begins_where_the_offset_says,
    exec_sees_the_clocks_of_the_container,
    a_time_namespace_is_joined_by_path,
    a_time_namespace_is_joined_with_a_new_user_namespace,
    a_time_namespace_in_a_user_namespace,
    a_time_namespace_in_a_joined_user_namespace,
    a_time_namespace_without_root,
    a_created_container_is_in_it_already,
    hooks_inside_see_its_clocks,
    the_timeline_has_the_clock_of_the_host,
    offsets_without_a_time_namespace_are_refused,
    offsets_of_a_joined_namespace_are_refused,
    an_unknown_clock_is_refused,
    too_many_nanoseconds_are_refused,
    a_clock_before_zero_is_refused,
    a_number_that_is_no_offset_is_refused,
];

const TABLE: &str = "monotonic        7881   2718281\nboottime         1337   3141519\n";

fn need_time_namespaces(t: &Test) {
    t.need(Path::new("/proc/self/ns/time").exists(), "this kernel has no time namespaces");
}

fn offsets() -> Value {
    json!({"monotonic": {"secs": 7881, "nanosecs": 2_718_281},
           "boottime": {"secs": 1337, "nanosecs": 3_141_519}})
}

/// A container with a time namespace of its own.
fn container(t: &Test) -> Container<'_> {
    need_time_namespaces(t);
    t.container().push("/linux/namespaces", json!({"type": "time"}))
}

fn with_offsets(t: &Test) -> Container<'_> {
    container(t).set("/linux/timeOffsets", offsets())
}

/// What /proc/PID/timens_offsets says, a blank between the columns.
fn words(table: &str) -> Vec<String> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[track_caller]
fn assert_offsets(table: &str) {
    assert_eq!(words(table), words(TABLE));
}

fn of(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

fn own() -> String {
    fs::read_link("/proc/self/ns/time").unwrap().display().to_string()
}

fn a_time_namespace_without_offsets_is_new(t: &Test) {
    for offsets in [json!(null), json!({})] {
        let c = container(t).set("/linux/timeOffsets", offsets).lasting();
        c.run_detached();
        assert_ne!(of(c.pid(), "time"), own());
        assert_eq!(of(c.pid(), "time"), of(c.pid(), "time_for_children"));
        let table = c.exec(&["cat", "/proc/self/timens_offsets"]).ok().stdout;
        assert_eq!(words(&table), ["monotonic 0 0", "boottime 0 0"]);
        c.delete_force().ok();
    }
}

fn the_offsets_are_those_of_the_config(t: &Test) {
    let c = with_offsets(t).args(&["cat", "/proc/self/timens_offsets"]);
    assert_offsets(&c.run().ok().no_stderr().stdout);
    t.assert_nothing_left();
}

fn one_clock_alone_may_have_an_offset(t: &Test) {
    for (clock, table) in [
        ("monotonic", ["monotonic 86400 0", "boottime 0 0"]),
        ("boottime", ["monotonic 0 0", "boottime 86400 0"]),
    ] {
        let c = container(t)
            .set("/linux/timeOffsets", json!({clock: {"secs": 86_400}}))
            .args(&["cat", "/proc/self/timens_offsets"]);
        assert_eq!(words(&c.run().ok().stdout), table);
    }
}

fn null_offsets_need_no_time_namespace(t: &Test) {
    t.container().set("/linux/timeOffsets", json!(null)).run().ok();
    t.container().set("/linux/timeOffsets", json!({})).run().ok();
}

fn uptime_begins_where_the_offset_says(t: &Test) {
    let c = container(t)
        .set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}))
        .args(&["cut", "-d.", "-f1", "/proc/uptime"]);
    let host = fs::read_to_string("/proc/uptime").unwrap();
    let host: u64 = host.split('.').next().unwrap().parse().unwrap();
    let inside: u64 = c.run().ok().text().trim().parse().unwrap();
    assert!((host + 1_000_000..host + 1_000_100).contains(&inside), "{host} {inside}");
}

fn exec_sees_the_clocks_of_the_container(t: &Test) {
    let c = with_offsets(t).lasting();
    c.run_detached();
    assert_offsets(&c.exec(&["cat", "/proc/self/timens_offsets"]).ok().stdout);
    let inside = c.exec(&["readlink", "/proc/self/ns/time"]).ok();
    assert_eq!(inside.text().trim_end(), of(c.pid(), "time"));
}

fn a_time_namespace_is_joined_by_path(t: &Test) {
    let first = with_offsets(t).lasting();
    first.run_detached();
    let path = format!("/proc/{}/ns/time", first.pid());
    let second =
        t.container().lasting().push("/linux/namespaces", json!({"type": "time", "path": path}));
    second.run_detached();
    assert_eq!(of(second.pid(), "time"), of(first.pid(), "time"));
    assert_offsets(&second.exec(&["cat", "/proc/self/timens_offsets"]).ok().stdout);
    assert_eq!((second.status(), first.status()), ("running".into(), "running".into()));
}

fn a_time_namespace_is_joined_with_a_new_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let first = with_offsets(t).lasting();
    first.run_detached();
    let path = format!("/proc/{}/ns/time", first.pid());
    let second = t
        .container()
        .lasting()
        .user_namespace(100_000)
        .push("/linux/namespaces", json!({"type": "time", "path": path}));
    second.run_detached();
    assert_eq!(of(second.pid(), "time"), of(first.pid(), "time"));
    assert_eq!(second.status(), "running");
}

fn a_time_namespace_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = with_offsets(t).user_namespace(100_000).lasting();
    c.run_detached();
    assert_ne!(of(c.pid(), "time"), own());
    assert_offsets(&c.exec(&["cat", "/proc/self/timens_offsets"]).ok().stdout);
    assert_eq!(c.status(), "running");
}

fn a_time_namespace_in_a_joined_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let first = t.container().lasting().user_namespace(100_000);
    first.run_detached();
    let path = format!("/proc/{}/ns/user", first.pid());
    let second = with_offsets(t)
        .without_mount("/sys")
        .without_mount("/dev/mqueue")
        .push("/linux/namespaces", json!({"type": "user", "path": path}))
        .args(&["cat", "/proc/self/timens_offsets"]);
    assert_offsets(&second.run().ok().stdout);
}

fn a_time_namespace_without_root(t: &Test) {
    need_time_namespaces(t);
    let c = rootless::bundle(t)
        .push("/linux/namespaces", json!({"type": "time"}))
        .set("/linux/timeOffsets", offsets())
        .args(&["cat", "/proc/self/timens_offsets"]);
    c.write();
    let output = rootless::as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    assert_offsets(&output.ok().stdout);
    let c = c.lasting();
    c.write();
    rootless::as_user(t, &["run", "--detach", "--bundle", c.dir.to_str().unwrap(), &c.id]).ok();
    let show = ["exec", &c.id, "cat", "/proc/self/timens_offsets"];
    assert_offsets(&rootless::as_user(t, &show).ok().stdout);
    rootless::as_user(t, &["delete", "--force", &c.id]).ok();
    t.assert_nothing_left();
}

fn a_created_container_is_in_it_already(t: &Test) {
    let c = with_offsets(t).lasting();
    c.create();
    assert_ne!(of(c.pid(), "time"), own());
    assert_eq!(c.status(), "created");
    assert_offsets(&fs::read_to_string(format!("/proc/{}/timens_offsets", c.pid())).unwrap());
    c.start().ok();
    assert_eq!(c.status(), "running");
}

fn hooks_inside_see_its_clocks(t: &Test) {
    let seen = t.path("seen");
    let script = format!("readlink /proc/self/ns/time > {}", seen.display());
    let c = with_offsets(t).hook("createContainer", &script).lasting();
    c.run_detached();
    assert_eq!(fs::read_to_string(seen).unwrap().trim_end(), of(c.pid(), "time"));
}

fn the_timeline_has_the_clock_of_the_host(t: &Test) {
    t.need(t.kind() == Kind::Skep, "skep's own");
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: i64 = uptime.split('.').next().unwrap().parse().unwrap();
    for secs in [86_400, -(uptime / 2)] {
        let offsets = json!({"monotonic": {"secs": secs}, "boottime": {"secs": secs}});
        let c = container(t).set("/linux/timeOffsets", offsets).lasting();
        let create = c.bundle_call("create", &[]).global(&["--debug"]).run().ok();
        told_in_order(&create, 12);
        c.start().ok();
        told_in_order(&c.exec_with(&[], &["true"]).global(&["--debug"]).run().ok(), 6);
        c.delete_force().ok();
    }
}

/// So many steps inside, none before or after another's time, and none after the last of the parent's.
#[track_caller]
fn told_in_order(output: &Output, inside: usize) {
    let steps: Vec<_> = output.stderr.lines().filter_map(step).collect();
    let times: Vec<u64> = steps.iter().filter(|step| step.0).map(|step| step.2).collect();
    let last = steps.iter().filter(|step| !step.0).map(|step| step.2).max().unwrap();
    assert_eq!(times.len(), inside, "{output}");
    assert!(times.is_sorted() && times.iter().all(|time| (1..=last).contains(time)), "{output}");
    // Namespaces come first, and none of the steps takes none of the time.
    assert!(times.first() < times.last(), "{output}");
}

#[track_caller]
fn refused(c: &Container<'_>, named: &str) {
    let output = c.run().fails();
    if c.test.kind() == Kind::Skep {
        output.names(named);
    }
    c.test.assert_nothing_left();
}

fn offsets_without_a_time_namespace_are_refused(t: &Test) {
    refused(&t.container().set("/linux/timeOffsets", offsets()), "linux.timeOffsets");
}

fn offsets_of_a_joined_namespace_are_refused(t: &Test) {
    need_time_namespaces(t);
    let c = t
        .container()
        .push("/linux/namespaces", json!({"type": "time", "path": "/proc/self/ns/time"}))
        .set("/linux/timeOffsets", offsets());
    refused(&c, "linux.timeOffsets");
}

fn an_unknown_clock_is_refused(t: &Test) {
    for clock in ["realtime", "MONOTONIC", "", "1"] {
        let c = container(t).set("/linux/timeOffsets", json!({clock: {"secs": 1}}));
        refused(&c, &format!("linux.timeOffsets[{clock:?}]"));
    }
}

fn too_many_nanoseconds_are_refused(t: &Test) {
    let c =
        container(t).set("/linux/timeOffsets", json!({"boottime": {"nanosecs": 1_000_000_000}}));
    refused(&c, "nanosecs");
}

fn a_clock_before_zero_is_refused(t: &Test) {
    for secs in [-4_000_000_000_i64, i64::MIN, i64::MAX] {
        let c = container(t).set("/linux/timeOffsets", json!({"boottime": {"secs": secs}}));
        refused(&c, "linux.timeOffsets");
    }
}

fn a_number_that_is_no_offset_is_refused(t: &Test) {
    for (field, value) in [
        ("secs", json!(1.5)),
        ("secs", json!("1")),
        ("secs", json!(9_223_372_036_854_775_808_u64)),
        ("nanosecs", json!(-1)),
        ("nanosecs", json!(4_294_967_296_u64)),
    ] {
        let c = container(t).set("/linux/timeOffsets", json!({"boottime": {field: value}}));
        refused(&c, &format!("linux.timeOffsets.boottime.{field}"));
    }
}
