//! An error that a property of `config.json` has caused names that property, at whatever stage it is found.

use std::os::unix::fs::symlink;

use crate::bad_input::clear;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, Value, json};

cases![
    what_create_finds_names_its_field,
    what_start_finds_names_its_field,
    a_late_hook_that_fails_is_named,
    a_duplicate_property_names_itself,
    a_long_sentence_still_names_the_field,
    exec_names_no_field_of_the_configuration,
];

/// That `output` names exactly this field, in one line.
#[track_caller]
fn names(output: &Output, field: &str) {
    clear(output);
    let plain = output.stderr.replace("\\\"", "\"");
    assert!(plain.contains(&format!("(config.json: {field})")), "{field}: {output}");
}

fn need_skep(t: &Test) {
    t.need(t.kind() == Kind::Skep, "names of fields, which runc and crun leave out");
}

fn missing_hook() -> Value {
    json!([{"path": "/bin/true"}, {"path": "/no/such"}])
}

/// A pointer, what is put there, the field that is named.
fn cases_of_create() -> Vec<(&'static str, Value, &'static str)> {
    let failing = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let late = json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
    let bind =
        json!([{"destination": "/mnt", "type": "bind", "source": "/no/such", "options": ["bind"]}]);
    let new = json!([{"destination": "/mnt", "type": "no-such-file-system", "source": "x"}]);
    let option =
        json!([{"destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["size=much"]}]);
    let above = json!([{"destination": "/etc/passwd/mnt", "type": "tmpfs", "source": "x"}]);
    let limits = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 1_u64 << 40, "hard": 1_u64 << 40}]);
    let device = json!([{"path": "/etc/passwd/dev", "type": "c", "major": 1, "minor": 3}]);
    let namespaces =
        json!([{"type": "uts"}, {"type": "network", "path": "/etc/passwd"}, {"type": "mount"}]);
    vec![
        ("/process/args", json!(["/no/such"]), "process.args[0]"),
        ("/process/args", json!(["no-such", "x"]), "process.args[0]"),
        ("/process/args", json!(["/etc"]), "process.args[0]"),
        ("/process/args", json!(["/etc/passwd"]), "process.args[0]"),
        ("/process/cwd", json!("/etc/passwd"), "process.cwd"),
        ("/process/cwd", json!("/etc/passwd/below"), "process.cwd"),
        ("/process/rlimits", limits, "process.rlimits[1]"),
        ("/hooks/prestart", missing_hook(), "hooks.prestart[1].path"),
        ("/hooks/createRuntime", missing_hook(), "hooks.createRuntime[1].path"),
        ("/hooks/createContainer", missing_hook(), "hooks.createContainer[1].path"),
        ("/hooks/createRuntime", failing("exit 3"), "hooks.createRuntime[0]"),
        ("/hooks/createContainer", failing("kill -9 $$"), "hooks.createContainer[0]"),
        ("/hooks/createContainer", late.clone(), "hooks.createContainer[0].timeout"),
        ("/hooks/prestart", late, "hooks.prestart[0].timeout"),
        ("/mounts", bind, "mounts[0].source"),
        ("/mounts", new, "mounts[0]"),
        ("/mounts", option, "mounts[0].options"),
        ("/mounts", above, "mounts[0]"),
        ("/linux/devices", device, "linux.devices[0]"),
        ("/linux/namespaces", namespaces, "linux.namespaces[1].path"),
        ("/linux/sysctl", json!({"net.no_such": "1"}), "linux.sysctl[\"net.no_such\"]"),
        ("/linux/maskedPaths", json!(["/proc/keys", "/whole"]), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", json!(["/loop"]), "linux.readonlyPaths[0]"),
        ("/root/path", json!("no-such"), "root.path"),
    ]
}

fn container<'t>(t: &'t Test, pointer: &str, value: &Value) -> Container<'t> {
    let c = t.container().set(pointer, value.clone());
    symlink("/", c.path("/whole")).unwrap();
    symlink("loop", c.path("/loop")).unwrap();
    c
}

fn what_create_finds_names_its_field(t: &Test) {
    need_skep(t);
    for (pointer, value, field) in cases_of_create() {
        let c = container(t, pointer, &value);
        names(&c.try_create().fails(), field);
        names(&c.run().fails(), field);
        t.assert_nothing_left();
    }
}

fn what_start_finds_names_its_field(t: &Test) {
    need_skep(t);
    let script = |text: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", text]}]);
    for (pointer, value, field) in [
        ("/hooks/startContainer", missing_hook(), "hooks.startContainer[1].path"),
        ("/hooks/startContainer", script("exit 4"), "hooks.startContainer[0]"),
        ("/hooks/poststart", missing_hook(), "hooks.poststart[1].path"),
    ] {
        let c = container(t, pointer, &value).set("/ociVersion", json!("1.2.0"));
        names(&c.run().fails(), field);
        c.create();
        names(&c.start().fails(), field);
        c.delete_force().ok();
    }
    // Found and executable, but no program; and gone when it is started.
    let c = t.container().file("/bin/text", "no program", 0o755).args(&["/bin/text"]);
    names(&c.run().fails(), "process.args[0]");
    c.create();
    std::fs::remove_file(c.path("/bin/text")).unwrap();
    names(&c.start().fails(), "process.args[0]");
    c.delete().ok();
}

fn a_late_hook_that_fails_is_named(t: &Test) {
    need_skep(t);
    // A warning: the log has it.
    let log = t.path("log");
    let c = t.container().set("/hooks/poststop", missing_hook());
    c.create();
    c.call("delete", &["--force"]).global(&["--log", log.to_str().unwrap()]).run().ok().no_stderr();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("level=warning") && said.contains("hooks.poststop[1].path"), "{said}");
}

fn a_duplicate_property_names_itself(t: &Test) {
    need_skep(t);
    for (text, field) in [
        (r#"{"ociVersion":"1.0.0","linux":{},"ociVersion":"1.0.0"}"#, "ociVersion"),
        (r#"{"process":{"user":{},"cwd":"/","user":{}}}"#, "process.user"),
        (r#"{"mounts":[{},{"type":"a","type":"b"}]}"#, "mounts[1].type"),
    ] {
        let c = t.container();
        c.write_raw(text);
        let output = c.try_create().fails();
        clear(&output);
        let words = format!("config.json: {field}: duplicate field");
        assert!(output.stderr.contains(&words), "{words}: {output}");
        t.assert_nothing_left();
    }
}

fn a_long_sentence_still_names_the_field(t: &Test) {
    need_skep(t);
    let script = "for i in $(seq 2000); do echo line $i; echo line $i >&2; done; exit 5";
    for phase in ["createRuntime", "createContainer"] {
        let output = t.container().hook(phase, script).try_create().fails();
        names(&output, &format!("hooks.{phase}[0]"));
        output.names(&format!("error running {phase} hook #0: exit status 5"));
    }
}

fn exec_names_no_field_of_the_configuration(t: &Test) {
    need_skep(t);
    let c = t.container().lasting();
    c.run_detached();
    for args in [["/no/such"], ["no-such"], ["/etc"], ["/etc/passwd"]] {
        let output = c.exec(&args).exec_fails();
        assert!(!output.stderr.contains("config.json: "), "{output}");
    }
}
