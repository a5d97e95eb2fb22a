//! Device rules as lists.

use super::*;

fn rules(json: &str, defaults: bool) -> Rules {
    let parsed: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
    Rules::new(&parsed, defaults).unwrap()
}

fn lines(rules: &Rules) -> Vec<String> {
    rules.exceptions().unwrap().iter().map(Rule::line).collect()
}

const DOCKER: &str = r#"[
    {"allow":false,"access":"rwm"},
    {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
    {"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"},
    {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}
]"#;

#[test]
fn defaults_are_appended_and_doubles_written_once() {
    assert_eq!(
        lines(&rules(DOCKER, true)),
        [
            "c 1:5 rwm",
            "c 5:1 rwm",
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 136:* rwm",
            "c 5:2 rwm",
            "c 10:200 rwm",
        ]
    );
    assert_eq!(lines(&rules(DOCKER, false)), ["c 1:5 rwm", "c 5:1 rwm"]);
}

#[test]
fn a_rule_for_everything_forgets_those_before() {
    let all = rules(
        r#"[{"allow":true,"type":"c","major":1,"minor":3},{"allow":true,"access":"rwm"}]"#,
        true,
    );
    assert!(all.default_allow && all.allow_all());
    assert!(all.exceptions().unwrap().is_empty());
    let none = rules(r#"[{"allow":true},{"allow":false,"type":"a","major":-1,"minor":-1}]"#, false);
    assert_eq!(none, Rules { default_allow: false, list: Vec::new() });
    // Partial access, or one number, is not everything.
    let partial = rules(r#"[{"allow":true,"access":"r"},{"allow":true,"major":7}]"#, false);
    assert_eq!(lines(&partial), ["b *:* r", "c *:* r", "b 7:* rwm", "c 7:* rwm"]);
}

#[test]
fn the_last_rule_for_a_device_wins() {
    let reopened = rules(
        r#"[{"allow":true,"type":"c","major":1,"minor":3},
            {"allow":false,"type":"c","major":1,"minor":3,"access":"wm"},
            {"allow":true,"type":"c","major":1,"minor":3,"access":"m"}]"#,
        false,
    );
    assert_eq!(lines(&reopened), ["c 1:3 rm"]);
    let swept = rules(
        r#"[{"allow":true,"type":"c","major":1,"minor":3},{"allow":true,"type":"c","major":1,"minor":5},
            {"allow":false,"type":"c","major":1}]"#,
        false,
    );
    assert!(lines(&swept).is_empty());
    let denying = rules(
        r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"w"},{"allow":true,"type":"b","major":8,"access":"w"}]"#,
        false,
    );
    assert!(denying.default_allow && lines(&denying).is_empty());
}

#[test]
fn a_hole_in_a_wildcard_cannot_be_listed() {
    for json in [
        r#"[{"allow":true,"type":"c","access":"m"},{"allow":false,"type":"c","major":10,"minor":229}]"#,
        r#"[{"allow":true,"type":"c","major":1},{"allow":false,"type":"c","minor":3}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c"},{"allow":true,"type":"c","major":1,"minor":3}]"#,
    ] {
        assert!(rules(json, false).exceptions().is_err(), "{json}");
    }
    // No access in common: no hole.
    let apart = r#"[{"allow":true,"type":"c","access":"m"},{"allow":false,"type":"c","major":1,"access":"rw"}]"#;
    assert_eq!(lines(&rules(apart, false)), ["c *:* m"]);
}

#[test]
fn bad_rules_are_errors_that_name_them() {
    for (json, words) in [
        (
            r#"[{"allow":true},{"type":"x"}]"#,
            "the device type \"x\" is not a, b or c (config.json: linux.resources.devices[1].type)",
        ),
        (
            r#"[{"access":"rx"}]"#,
            "the device access 'x' is not one of r, w and m (config.json: linux.resources.devices[0].access)",
        ),
        (
            r#"[{"type":"c","major":-2}]"#,
            "-2 is not a major device number (config.json: linux.resources.devices[0].major)",
        ),
        (
            r#"[{"type":"c","minor":4294967296}]"#,
            "4294967296 is not a minor device number (config.json: linux.resources.devices[0].minor)",
        ),
        // To version 1 that is every device.
        (
            r#"[{"allow":true,"type":"c","major":4294967295}]"#,
            "4294967295 is not a major device number (config.json: linux.resources.devices[0].major)",
        ),
        (
            r#"[{"allow":true,"type":"c","major":4096,"minor":1048575}]"#,
            "4096 is not a major device number (config.json: linux.resources.devices[0].major)",
        ),
        (
            r#"[{"allow":true,"type":"b","major":4095,"minor":1048576}]"#,
            "1048576 is not a minor device number (config.json: linux.resources.devices[0].minor)",
        ),
    ] {
        let parsed: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
        assert_eq!(Rules::new(&parsed, true).unwrap_err().to_string(), words);
    }
}

#[test]
fn the_kernels_list_reads_back() {
    let read = parse_list("c *:* m\nb 8:0 rw\nc 136:* rwm\n");
    assert_eq!(lines(&read), ["c *:* m", "b 8:0 rw", "c 136:* rwm"]);
    assert!(parse_list("a *:* rwm\n").default_allow);
    assert!(!parse_list("").default_allow);
}
