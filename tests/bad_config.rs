//! config.json: unreadable, missing, cut, huge, wrongly typed. One clear error that names the field or path, and no trace.

use std::fs;
use std::os::unix::fs::symlink;

use crate::bad_input::{clear, refused};
use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, Value, json, say};

cases![
    a_missing_bundle,
    a_bundle_that_is_a_file,
    a_missing_config,
    an_unreadable_config,
    a_config_that_is_a_directory,
    an_empty_config,
    a_truncated_config,
    a_config_cut_at_any_place,
    a_huge_config,
    a_config_that_is_not_utf_8,
    a_config_that_is_not_an_object,
    a_config_with_something_after_it,
    a_deeply_nested_config,
    wrongly_typed_fields,
    numbers_out_of_range,
    unknown_versions,
    later_minor_versions_are_accepted,
    a_missing_root,
    a_missing_rootfs,
    a_rootfs_that_is_a_file,
    an_environment_without_an_equals_sign,
    a_nul_in_a_string,
    limits_the_host_cannot_apply,
    limits_out_of_range,
    an_unknown_propagation,
    an_empty_mount_destination,
];

fn a_missing_bundle(t: &Test) {
    t.call(&["create", "--bundle", "/no/such/bundle", &t.id])
        .run()
        .fails()
        .names("/no/such/bundle")
        .says(&say::NO_SUCH_FILE);
    t.assert_nothing_left();
}

fn a_bundle_that_is_a_file(t: &Test) {
    fs::write(t.path("file"), "").unwrap();
    t.call(&["create", "--bundle", t.path("file").to_str().unwrap(), &t.id]).run().fails();
    t.assert_nothing_left();
}

fn a_missing_config(t: &Test) {
    let c = t.container();
    c.write();
    fs::remove_file(c.dir.join("config.json")).unwrap();
    refused(&c).names("config.json");
}

fn an_unreadable_config(t: &Test) {
    let c = t.container();
    // Root reads any file: what cannot be read is a loop of symlinks, or a socket.
    c.write();
    fs::remove_file(c.dir.join("config.json")).unwrap();
    symlink("config.json", c.dir.join("config.json")).unwrap();
    refused(&c).names("config.json");
    fs::remove_file(c.dir.join("config.json")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(c.dir.join("config.json")).unwrap();
    refused(&c).names("config.json");
}

fn a_config_that_is_a_directory(t: &Test) {
    let c = t.container();
    c.write();
    fs::remove_file(c.dir.join("config.json")).unwrap();
    fs::create_dir(c.dir.join("config.json")).unwrap();
    refused(&c);
}

fn an_empty_config(t: &Test) {
    let c = t.container();
    for text in ["", " ", "\n", "{}"] {
        c.write_raw(text);
        refused(&c);
    }
}

fn a_truncated_config(t: &Test) {
    let c = t.container();
    let text = c.config.to_string();
    c.write_raw(&text[..text.len() - 1]);
    refused(&c);
}

fn a_config_cut_at_any_place(t: &Test) {
    let c = t.container();
    let text = c.config.to_string();
    for part in 1..20 {
        c.write_raw(&text[..text.len() * part / 20]);
        let output = c.try_create().fails();
        clear(&output);
    }
    t.assert_nothing_left();
}

fn a_huge_config(t: &Test) {
    let c = t.container();
    let mut text = c.config.to_string();
    text.push_str(&" ".repeat(17 << 20));
    c.write_raw(&text);
    if t.kind() == Kind::Skep {
        refused(&c).names("config.json");
    }
    // Just below 16 MB is read.
    text.truncate((16 << 20) - 1);
    c.write_raw(&text);
    c.run().ok();
}

fn a_config_that_is_not_utf_8(t: &Test) {
    let c = t.container();
    let mut bytes = c.config.to_string().into_bytes();
    let at = bytes.windows(8).position(|window| window == b"blackbox").unwrap();
    bytes[at] = 0xff;
    c.write_raw(&bytes);
    refused(&c);
}

fn a_config_that_is_not_an_object(t: &Test) {
    let c = t.container();
    for text in ["[]", "null", "\"text\"", "17", "true"] {
        c.write_raw(text);
        refused(&c);
    }
}

fn a_config_with_something_after_it(t: &Test) {
    let c = t.container();
    c.write_raw(format!("{}}}", c.config));
    let output = c.run();
    if t.kind() == Kind::Skep {
        output.fails();
    }
    t.assert_nothing_left();
}

fn a_deeply_nested_config(t: &Test) {
    let c = t.container();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    c.write_raw(c.config.to_string().replacen('{', &format!("{{\"unknown\":{deep},"), 1));
    let output = c.run();
    assert!(output.code.is_some(), "a crash: {output}");
    t.assert_nothing_left();
}

fn wrongly_typed_fields(t: &Test) {
    let table: [(&str, Value, &str); 22] = [
        ("/ociVersion", json!(1), "ociVersion"),
        ("/process", json!([]), "process"),
        ("/process/args", json!("sh"), "args"),
        ("/process/args", json!([1]), "args"),
        ("/process/cwd", json!(7), "cwd"),
        ("/process/env", json!({"A": "b"}), "env"),
        ("/process/user", json!("root"), "user"),
        ("/process/user/uid", json!("0"), "uid"),
        ("/process/terminal", json!("yes"), "terminal"),
        ("/process/noNewPrivileges", json!(1), "noNewPrivileges"),
        ("/process/rlimits", json!({}), "rlimits"),
        ("/process/capabilities/bounding", json!("CAP_KILL"), "bounding"),
        ("/root", json!("rootfs"), "root"),
        ("/root/path", json!(1), "path"),
        ("/hostname", json!(["a"]), "hostname"),
        ("/mounts", json!({}), "mounts"),
        ("/mounts/0/options", json!("ro"), "options"),
        ("/linux/namespaces", json!("pid"), "namespaces"),
        ("/linux/resources/memory", json!({"limit": "64m"}), "limit"),
        ("/linux/maskedPaths", json!("/proc"), "maskedPaths"),
        ("/linux/seccomp", json!([]), "seccomp"),
        ("/hooks", json!([1]), "hooks"),
    ];
    let c = t.container();
    for (pointer, value, word) in table {
        let mut config = c.config.clone();
        *slot(&mut config, pointer) = value.clone();
        c.write_raw(config.to_string());
        let output = c.try_create();
        assert!(output.code == Some(1), "{pointer} = {value}: {output}");
        clear(&output);
        if t.kind() == Kind::Skep {
            assert!(output.stderr.contains(word), "{pointer} = {value} is not named: {output}");
        }
    }
    t.assert_nothing_left();
}

/// The value at a pointer, made when it is missing.
fn slot<'v>(config: &'v mut Value, pointer: &str) -> &'v mut Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
        other => &mut other[key],
    }
}

fn numbers_out_of_range(t: &Test) {
    let table: [(&str, Value); 9] = [
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4_294_967_296_u64)),
        ("/process/user/uid", json!(1.5)),
        ("/process/user/gid", json!(4_294_967_296_u64)),
        ("/process/user/additionalGids", json!([4_294_967_296_u64])),
        ("/process/oomScoreAdj", json!(1001)),
        ("/process/rlimits/0/soft", json!(-1)),
        ("/linux/resources/memory", json!({"limit": 1e300})),
        ("/linux/resources/pids", json!({"limit": 9_223_372_036_854_775_808_u64})),
    ];
    let c = t.container();
    for (pointer, value) in table {
        let mut config = c.config.clone();
        *slot(&mut config, pointer) = value.clone();
        c.write_raw(config.to_string());
        let output = c.try_create();
        assert!(output.code == Some(1), "{pointer} = {value}: {output}");
        clear(&output);
    }
    t.assert_nothing_left();
}

fn unknown_versions(t: &Test) {
    let c = t.container();
    for version in ["2.0.0", "0.5.0", "1", "1.0", "one", "", "1.0.0.0", "01.0.0", "1.0.x", "-1.0.0"]
    {
        let mut config = c.config.clone();
        config["ociVersion"] = json!(version);
        c.write_raw(config.to_string());
        refused(&c).names("ociVersion");
    }
    let mut config = c.config.clone();
    config.as_object_mut().unwrap().remove("ociVersion");
    c.write_raw(config.to_string());
    refused(&c).names("ociVersion");
}

fn later_minor_versions_are_accepted(t: &Test) {
    for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.3.0", "1.99.0-rc.1+build.5"] {
        t.container().set("/ociVersion", json!(version)).run().ok();
    }
}

fn a_missing_root(t: &Test) {
    refused(&t.container().unset("/root")).names("root");
}

fn a_missing_rootfs(t: &Test) {
    refused(&t.container().set("/root/path", json!("no-such-rootfs"))).names("no-such-rootfs");
    refused(&t.container().set("/root/path", json!("/no/such/rootfs"))).names("/no/such/rootfs");
}

fn a_rootfs_that_is_a_file(t: &Test) {
    let c = t.container().set("/root/path", json!("file"));
    fs::write(c.dir.join("file"), "").unwrap();
    refused(&c);
}

fn an_environment_without_an_equals_sign(t: &Test) {
    refused(&t.container().push("/process/env", json!("NOVALUE"))).names("env");
}

fn a_nul_in_a_string(t: &Test) {
    let table = [
        ("/process/args", json!(["sh", "a\0b"])),
        ("/process/env", json!(["PATH=/bin", "A=b\0c"])),
        ("/process/cwd", json!("/\0")),
        ("/hostname", json!("a\0b")),
        ("/root/path", json!("root\0fs")),
    ];
    for (pointer, value) in table {
        refused(&t.container().set(pointer, value));
    }
    refused(&t.container().mount("/a\0b", "tmpfs", "tmpfs", &[]));
}

fn limits_the_host_cannot_apply(t: &Test) {
    let table = [
        ("/linux/resources/cpu", json!({"cpus": "9999"}), "cpus"),
        ("/linux/resources/cpu", json!({"mems": "9999"}), "mems"),
        ("/linux/resources/cpu", json!({"cpus": "zero"}), "cpus"),
        ("/linux/resources/cpu", json!({"quota": 1, "period": 1}), "cpu"),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1}]),
            "hugepageLimits",
        ),
        (
            "/linux/resources/blockIO",
            json!({"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1}]}),
            "throttle",
        ),
    ];
    for (pointer, value, word) in table {
        let output = refused(&t.container().set(pointer, value.clone()));
        if t.kind() == Kind::Skep {
            assert!(output.stderr.contains(word), "{value} is not named: {output}");
        }
    }
}

fn limits_out_of_range(t: &Test) {
    let table = [
        ("/linux/resources/memory", json!({"limit": 1_048_576, "swap": 1024})),
        ("/linux/resources/memory", json!({"swappiness": 1000})),
        ("/linux/resources/devices", json!([{"allow": true, "type": "z", "access": "rwm"}])),
        (
            "/linux/resources/devices",
            json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "xyz"}]),
        ),
    ];
    for (pointer, value) in table {
        // Version 2 has no swappiness; there it is ignored, whatever it says.
        if t.host.layout == Layout::V1 || value.get("swappiness").is_none() {
            refused(&t.container().set(pointer, value));
        }
    }
}

fn an_unknown_propagation(t: &Test) {
    refused(&t.container().set("/linux/rootfsPropagation", json!("sideways"))).names("sideways");
}

fn an_empty_mount_destination(t: &Test) {
    refused(&t.container().mount("", "tmpfs", "tmpfs", &[])).names("destination");
}
