//! linux.resources.devices: which devices the cgroup lets the container open and make.

use std::fs;

use crate::bad_input::refused;
use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Test, Value, json};

cases![
    devices_are_denied_by_default,
    default_devices_are_always_allowed,
    a_device_can_be_allowed,
    a_device_rule_limits_the_access,
    all_devices_can_be_allowed,
    a_later_device_rule_wins,
    a_negative_device_number_is_a_wildcard,
    a_rule_for_an_unknown_type_is_refused,
    the_rules_come_before_who_needs_a_device,
];

// --- devices ---

/// The device rules of Docker and containerd: nothing, and then what is listed.
fn with_rules<'t>(t: &'t Test, rules: &[Value]) -> Container<'t> {
    let mut c = t.container().with_capabilities(&["CAP_MKNOD"]);
    for rule in rules {
        c = c.push("/linux/resources/devices", rule.clone());
    }
    c
}

/// A harmless device of this host's that no runtime allows by itself.
pub fn device(t: &Test) -> (u64, u64) {
    t.need_capability("CAP_MKNOD");
    let found = ["/dev/fuse", "/dev/loop-control", "/dev/hwrng"]
        .iter()
        .find_map(|path| fs::metadata(path).ok());
    let Some(found) = found else { t.skip("no /dev/fuse, /dev/loop-control or /dev/hwrng to try") };
    let number = std::os::unix::fs::MetadataExt::rdev(&found);
    (nix::sys::stat::major(number), nix::sys::stat::minor(number))
}

/// A rule about that device.
fn rule(t: &Test, allow: bool, access: &str) -> Value {
    let (major, minor) = device(t);
    json!({"allow": allow, "type": "c", "major": major, "minor": minor, "access": access})
}

/// A script that makes a node of that device and then runs `rest`.
fn with_node(t: &Test, rest: &str) -> String {
    let (major, minor) = device(t);
    format!("mknod /dev/it c {major} {minor} || exit 9; {rest}")
}

fn devices_are_denied_by_default(t: &Test) {
    let c = with_rules(t, &[]).sh(&with_node(t, "cat </dev/it"));
    let output = c.run();
    assert!(output.code != Some(0) && output.code != Some(9), "{output}");
    assert!(output.stderr.contains("not permitted"), "{output}");
}

fn default_devices_are_always_allowed(t: &Test) {
    let c = t.container().sh(
        "head -c 4 /dev/zero | od -An -tx1; head -c 1 /dev/urandom | wc -c; head -c 1 /dev/random | wc -c; \
         echo x > /dev/null && echo null; (echo x > /dev/full) 2>/dev/null || echo full; [ -c /dev/tty ] && echo tty",
    );
    let output = c.run();
    let words: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!(words, ["00", "00", "00", "00", "1", "1", "null", "full", "tty"], "{output}");
}

fn a_device_can_be_allowed(t: &Test) {
    let c = with_rules(t, &[rule(t, true, "rwm")]).sh(&with_node(t, ": </dev/it && echo opened"));
    c.run().ok().prints("opened\n");
}

fn a_device_rule_limits_the_access(t: &Test) {
    let c = with_rules(t, &[rule(t, true, "r")])
        .sh(&with_node(t, "(: </dev/it) && echo read; (: <>/dev/it) 2>/dev/null || echo no write"));
    let output = c.run();
    assert_eq!(output.stdout, "read\nno write\n", "{output}");
}

fn all_devices_can_be_allowed(t: &Test) {
    let c = t
        .container()
        .with_capabilities(&["CAP_MKNOD"])
        .set("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]))
        .sh(&with_node(t, ": </dev/it && echo opened"));
    c.run().ok().prints("opened\n");
}

fn a_later_device_rule_wins(t: &Test) {
    let c = with_rules(t, &[rule(t, true, "rwm"), rule(t, false, "rwm")])
        .sh(&with_node(t, "(: </dev/it) || echo denied"));
    assert_eq!(c.run().stdout, "denied\n");
    let c = with_rules(t, &[rule(t, false, "rwm"), rule(t, true, "rwm")])
        .sh(&with_node(t, "(: </dev/it) && echo allowed"));
    assert_eq!(c.run().stdout, "allowed\n");
}

fn a_negative_device_number_is_a_wildcard(t: &Test) {
    let mut rule = rule(t, true, "rwm");
    rule["minor"] = json!(-1);
    let c = with_rules(t, &[rule]).sh(&with_node(t, ": </dev/it && echo opened"));
    c.run().ok().prints("opened\n");
}

fn a_rule_for_an_unknown_type_is_refused(t: &Test) {
    // `u` and `p` are types of linux.devices, not of a rule.
    for kind in ["u", "p", "B", "cb", "all", " "] {
        let c = with_rules(t, &[json!({"allow": true, "type": kind, "access": "r"})]);
        refused(&c).names("linux.resources.devices[1].type");
    }
    let c = t.container().lasting();
    c.run_detached();
    let unbuffered = json!({"devices": [{"allow": true, "type": "u", "access": "r"}]}).to_string();
    c.call("update", &["-r", "-"]).stdin(unbuffered).run().fails().names("devices[0].type");
}

/// The rules begin with none allowed. A terminal, hooks and what depends on the cgroups being mounted have the container's
/// process join them early, while it still makes devices.
fn the_rules_come_before_who_needs_a_device(t: &Test) {
    t.need_layout(Layout::V1);
    let rules: Vec<Value> = (0..1500)
        .map(|minor| json!({"allow": true, "type": "c", "major": 240, "minor": minor, "access": "r"}))
        .collect();
    let many = || t.container().set("/linux/resources/devices", json!(rules));
    let seen = "grep -c ' /dev/null ' /proc/self/mountinfo; echo made > /dev/null && echo written";
    many().hook("createContainer", "true").sh(seen).run().prints("0\nwritten\n");
    many()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"])
        .set("/linux/readonlyPaths", json!(["/sys/fs/cgroup/pids"]))
        .sh(seen)
        .run()
        .prints("0\nwritten\n");
    many()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"])
        .sh(seen)
        .run()
        .prints("0\nwritten\n");
}
