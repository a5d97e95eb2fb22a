//! What the commands that only print say: version, features, spec, list, state, ps and the log.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, Value, json, say, wait};

cases![
    the_version_has_the_lines_parsers_need,
    the_short_version_flag_works,
    features_is_json_and_nothing_else,
    features_names_what_engines_look_for,
    spec_writes_a_template,
    the_template_runs,
    spec_refuses_to_overwrite,
    spec_takes_a_bundle,
    spec_rootless_has_a_user_namespace,
    list_of_nothing_is_empty,
    list_as_json_of_nothing_is_null,
    list_as_json_has_the_fields_of_state,
    list_as_a_table_has_a_header_and_rows,
    list_quiet_prints_ids,
    list_survives_a_broken_entry,
    list_survives_a_damaged_entry,
    list_survives_a_status_it_cannot_read,
    list_shows_more_containers_than_it_may_open_files,
    list_refuses_an_unknown_format,
    list_shows_the_status_of_each_container,
    state_is_indented_json,
    ps_as_json_is_a_list_of_host_pids,
    ps_as_a_table_is_that_of_the_host,
    ps_passes_arguments_to_the_ps_of_the_host,
    ps_of_an_unknown_id_fails,
    ps_refuses_an_unknown_format,
    a_failure_leaves_one_json_record_in_the_log,
    a_failure_leaves_one_text_record_in_the_log,
    a_failure_is_also_on_standard_error,
    the_log_is_appended_to,
    a_success_writes_nothing_to_the_log,
    a_failing_create_leaves_one_json_record,
    a_failing_exec_leaves_one_json_record,
    a_log_that_cannot_be_opened_is_an_error,
    an_unknown_log_format_is_refused,
    a_relative_log_is_relative_to_the_caller,
    debug_writes_records_below_error,
    quotes_and_newlines_in_a_message_stay_in_one_record,
];

/// Whether a text is a time as RFC 3339 writes it.
pub fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let date = [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit)
        && is(4, b'-')
        && is(7, b'-')
        && is(10, b'T');
    let time = [11, 12, 14, 15, 17, 18].into_iter().all(digit) && is(13, b':') && is(16, b':');
    let mut rest = &text[text.len().min(19)..];
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone =
        rest == "Z" || (rest.len() == 6 && rest.starts_with(['+', '-']) && &rest[3..4] == ":");
    date && time && zone
}

fn the_version_has_the_lines_parsers_need(t: &Test) {
    let output = t.bare_call(&["--version"]).run().ok().no_stderr();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let first: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!((first.len(), first[0], first[1]), (3, t.kind().name(), "version"), "{output}");
    assert!(first[2].starts_with(|c: char| c.is_ascii_digit()), "{output}");
    // moby takes every line with this word for the version.
    assert_eq!(lines.iter().filter(|line| line.contains("version")).count(), 1, "{output}");
    assert!(lines.iter().any(|line| line.starts_with("commit: ")), "{output}");
    let spec =
        lines.iter().find_map(|line| line.strip_prefix("spec: ")).expect("a line with the spec");
    assert!(spec.starts_with("1."), "{output}");
}

fn the_short_version_flag_works(t: &Test) {
    let long = t.bare_call(&["--version"]).run().ok().stdout;
    t.bare_call(&["-v"]).run().ok().no_stderr().prints(&long);
    t.bare_call(&["-version"]).run().ok().prints(&long);
}

fn features_is_json_and_nothing_else(t: &Test) {
    let features = t.bare_call(&["features"]).run().ok().no_stderr().json();
    assert_eq!(features["ociVersionMin"], json!("1.0.0"));
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."));
}

fn features_names_what_engines_look_for(t: &Test) {
    let features = t.bare_call(&["features"]).run().ok().json();
    let has = |pointer: &str, what: &str| {
        let list = features.pointer(pointer).and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("no {pointer} in {features}"));
        assert!(list.contains(&json!(what)), "{pointer} lacks {what}");
    };
    for hook in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        has("/hooks", hook);
    }
    for option in
        ["rro", "bind", "rbind", "ro", "nosuid", "rprivate", "relatime", "strictatime", "remount"]
    {
        has("/mountOptions", option);
    }
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        has("/linux/namespaces", namespace);
    }
    for capability in ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"] {
        has("/linux/capabilities", capability);
    }
    assert_eq!(features["linux"]["seccomp"]["enabled"], json!(true));
    for action in [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_LOG",
        "SCMP_ACT_KILL_PROCESS",
    ] {
        has("/linux/seccomp/actions", action);
    }
    has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ");
    has("/linux/seccomp/archs", "SCMP_ARCH_X86_64");
    assert_eq!(features["linux"]["cgroup"]["v1"], json!(true));
    assert_eq!(features["linux"]["cgroup"]["v2"], json!(true));
}

fn spec_writes_a_template(t: &Test) {
    t.bare_call(&["spec"]).run().ok().no_stdout().no_stderr();
    let spec: Value =
        serde_json::from_str(&fs::read_to_string(t.path("config.json")).unwrap()).unwrap();
    assert!(spec["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert_eq!(spec["process"]["terminal"], json!(true));
    assert_eq!(spec["process"]["noNewPrivileges"], json!(true));
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    assert_eq!(spec["process"]["capabilities"]["bounding"], capabilities);
    // CVE-2022-29162 and its kin: nothing is inheritable.
    assert!(spec["process"]["capabilities"].get("inheritable").is_none_or(|set| *set == json!([])));
    let destinations: Vec<&str> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    assert_eq!(
        destinations,
        ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"]
    );
    let kinds: Vec<&str> = spec["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["type"].as_str().unwrap())
        .collect();
    for kind in ["pid", "network", "ipc", "uts", "mount"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let masked = spec["linux"]["maskedPaths"].as_array().unwrap();
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"] {
        assert!(masked.contains(&json!(path)), "{path} is not masked");
    }
    let readonly = spec["linux"]["readonlyPaths"].as_array().unwrap();
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        assert!(readonly.contains(&json!(path)), "{path} is writable");
    }
}

fn the_template_runs(t: &Test) {
    let c = t.container();
    t.call(&["spec", "--bundle", c.dir.to_str().unwrap()]).run().ok();
    let mut spec: Value =
        serde_json::from_str(&fs::read_to_string(c.dir.join("config.json")).unwrap()).unwrap();
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] =
        json!(["sh", "-c", "id -u; hostname; cat /proc/1/comm; touch /x 2>&1; ls /sys/fs/cgroup"]);
    spec["linux"]["cgroupsPath"] = json!(format!("/{}", c.id));
    c.write_raw(spec.to_string());
    let output = c.run();
    assert!(
        output.stdout.starts_with(&format!("0\n{}\nsh\n", spec["hostname"].as_str().unwrap())),
        "{output}"
    );
    assert!(output.stdout.contains("Read-only file system"), "{output}");
    t.assert_nothing_left();
}

fn spec_refuses_to_overwrite(t: &Test) {
    fs::write(t.path("config.json"), "mine").unwrap();
    t.bare_call(&["spec"]).run().fails().says(&say::SPEC_EXISTS);
    assert_eq!(fs::read_to_string(t.path("config.json")).unwrap(), "mine");
}

fn spec_takes_a_bundle(t: &Test) {
    let dir = t.path("bundle");
    fs::create_dir(&dir).unwrap();
    t.bare_call(&["spec", "-b", dir.to_str().unwrap()]).run().ok();
    assert!(fs::metadata(dir.join("config.json")).is_ok());
    t.bare_call(&["spec", "--bundle", "/no/such/dir"]).run().fails().names("/no/such/dir");
}

fn spec_rootless_has_a_user_namespace(t: &Test) {
    t.bare_call(&["spec", "--rootless"]).run().ok();
    let spec: Value =
        serde_json::from_str(&fs::read_to_string(t.path("config.json")).unwrap()).unwrap();
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!({"type": "user"})));
    assert!(!namespaces.contains(&json!({"type": "network"})));
    assert_eq!(spec["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    assert_eq!(spec["linux"]["gidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    assert!(spec["linux"].get("resources").is_none_or(Value::is_null));
    let text = spec["mounts"].to_string();
    assert!(!text.contains("gid="), "{text}");
    let sys = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|mount| mount["destination"] == "/sys")
        .unwrap();
    assert!(sys["options"].as_array().unwrap().contains(&json!("rbind")), "{sys}");
}

fn list_of_nothing_is_empty(t: &Test) {
    t.call(&["list", "-q"]).run().ok().no_stdout().no_stderr();
    let table = t.call(&["list"]).run().ok();
    assert_eq!(table.stdout.lines().count(), 1, "{table}");
}

fn list_as_json_of_nothing_is_null(t: &Test) {
    t.call(&["list", "--format", "json"]).run().ok().prints("null\n");
}

fn list_as_json_has_the_fields_of_state(t: &Test) {
    let c = t.container().lasting().set("/annotations", json!({"a": "b"}));
    c.run_detached();
    let output = t.call(&["list", "--format=json"]).run().ok();
    assert_eq!(output.stdout.lines().count(), 1, "more than one line: {output}");
    let list = output.json();
    let entry = &list[0];
    assert_eq!(entry["id"], json!(c.id));
    assert_eq!(entry["pid"], json!(c.pid()));
    assert_eq!(entry["status"], json!("running"));
    assert_eq!(entry["bundle"], json!(c.dir.to_str()));
    assert_eq!(entry["rootfs"], json!(c.rootfs().to_str()));
    assert_eq!(entry["owner"], json!("root"));
    assert_eq!(entry["annotations"]["a"], json!("b"));
    assert!(is_rfc3339(entry["created"].as_str().unwrap()));
    assert!(entry["ociVersion"].as_str().unwrap().starts_with("1."));
}

fn list_as_a_table_has_a_header_and_rows(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let table = t.call(&["list"]).run().ok().stdout;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let pid = c.pid().to_string();
    assert_eq!(rows[1][..4], [&c.id, pid.as_str(), "running", c.dir.to_str().unwrap()]);
    assert_eq!(rows[1][5], "root");
}

fn list_quiet_prints_ids(t: &Test) {
    let containers = [t.container().lasting(), t.container().lasting()];
    for c in &containers {
        c.create();
    }
    t.call(&["list", "--quiet"])
        .run()
        .ok()
        .prints(&format!("{}\n{}\n", containers[0].id, containers[1].id));
}

fn list_survives_a_broken_entry(t: &Test) {
    let c = t.container().lasting();
    c.create();
    fs::create_dir(t.root.join("broken")).unwrap();
    let output = t.call(&["list", "--format", "json"]).run().ok();
    assert_eq!(
        output.json().as_array().unwrap().iter().filter(|entry| entry["id"] == json!(c.id)).count(),
        1
    );
    fs::remove_dir(t.root.join("broken")).unwrap();
}

fn list_survives_a_damaged_entry(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the state file is skep's");
    let (whole, damaged) = (t.container().lasting(), t.container().lasting());
    whole.create();
    damaged.create();
    let path = t.root.join(&damaged.id).join("state.json");
    let state = fs::read_to_string(&path).unwrap();
    for bad in [&state[..state.len() / 2], "", "[]", "\0"] {
        fs::write(&path, bad).unwrap();
        t.call(&["list", "--quiet"]).run().ok().prints(&format!("{}\n", whole.id));
        let output = t.call(&["list"]).global(&["--log-level", "warning"]).run().ok();
        output.names(&damaged.id);
    }
    fs::write(&path, state).unwrap();
}

/// A status that cannot be read is not that of the others.
fn list_survives_a_status_it_cannot_read(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun give up");
    t.need_program("unshare");
    let (one, other) = (t.container().lasting(), t.container().lasting());
    one.run_detached();
    other.run_detached();
    let file = one.cgroup_file(("freezer", "freezer.state"), "cgroup.freeze");
    let script = format!("mount --bind /proc/self/mem {} && exec \"$0\" \"$@\"", file.display());
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script];
    let output = t.call(&["list"]).global(&["--log-level", "warning"]).by(&words).run().ok();
    let output = output.names(&one.id);
    let row = |id: &str| output.stdout.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(row(&other.id).contains("running"), "{output}");
    assert!(row(&one.id).contains("unknown"), "{output}");
}

fn list_shows_more_containers_than_it_may_open_files(t: &Test) {
    t.need_program("prlimit");
    t.need(t.kind() == Kind::Skep, "the test writes state directories of skep");
    let c = t.container().lasting();
    c.create();
    let state = fs::read_to_string(t.root.join(&c.id).join("state.json")).unwrap();
    let of =
        |name: &str| state.replace(&format!("\"id\":\"{}\"", c.id), &format!("\"id\":\"{name}\""));
    let names: Vec<String> = (0..2000).map(|number| format!("copy-{number:04}")).collect();
    for name in &names {
        fs::create_dir(t.root.join(name)).unwrap();
        fs::write(t.root.join(name).join("state.json"), of(name)).unwrap();
    }
    // Damaged, and one whose status cannot be told.
    fs::write(t.root.join("copy-0007/state.json"), "{").unwrap();
    std::os::unix::fs::symlink("exec.fifo", t.root.join("copy-1000/exec.fifo")).unwrap();
    let mut list = std::process::Command::new("prlimit");
    list.arg("--nofile=256:256").arg(&t.runtime.path).arg("--root").arg(&t.root);
    let output = crate::harness::reaper::output(list.args(["list", "--format", "json"])).unwrap();
    for name in &names {
        fs::remove_dir_all(t.root.join(name)).unwrap();
    }
    assert!(output.status.success(), "{output:?}");
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed.len(), 2000, "one is damaged, one is the original");
    let status =
        |id: &str| listed.iter().find(|entry| entry["id"] == id).unwrap()["status"].clone();
    assert_eq!(status(&c.id), "created");
    assert_eq!(status("copy-0999"), "running");
    assert_eq!(status("copy-1000"), "unknown");
    assert_eq!(status("copy-1999"), "running");
}

fn list_refuses_an_unknown_format(t: &Test) {
    t.container().lasting().create();
    t.call(&["list", "--format", "xml"]).run().fails();
}

fn list_shows_the_status_of_each_container(t: &Test) {
    let created = t.container().lasting();
    created.create();
    let running = t.container().lasting();
    running.run_detached();
    let paused = t.container().lasting();
    paused.run_detached();
    paused.call("pause", &[]).run().ok();
    let stopped = t.container();
    stopped.run_detached();
    stopped.wait_exit();
    stopped.wait_status("stopped");
    let list = t.call(&["list", "--format", "json"]).run().ok().json();
    let status = |c: &crate::harness::Container<'_>| {
        list.as_array().unwrap().iter().find(|entry| entry["id"] == json!(c.id)).unwrap()["status"]
            .clone()
    };
    assert_eq!(status(&created), json!("created"));
    assert_eq!(status(&running), json!("running"));
    assert_eq!(status(&paused), json!("paused"));
    assert_eq!(status(&stopped), json!("stopped"));
}

fn state_is_indented_json(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let output = c.call("state", &[]).run().ok().no_stderr();
    assert!(output.stdout.starts_with("{\n  \"ociVersion\": "), "{output}");
    assert!(output.text().ends_with("\n}"), "{output}");
}

fn ps_as_json_is_a_list_of_host_pids(t: &Test) {
    let c = t.container().sh("sleep 1000 & echo up > /up; wait");
    c.run_detached();
    c.wait_file("/up");
    let output = t.call(&["ps", "--format", "json", &c.id]).run().ok();
    let pids: Vec<i64> =
        output.json().as_array().unwrap().iter().map(|pid| pid.as_i64().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{output}");
    assert!(pids.contains(&i64::from(c.pid())));
    assert!(pids.iter().all(|pid| wait::is_alive(*pid as i32)));
}

fn ps_as_a_table_is_that_of_the_host(t: &Test) {
    t.need_program("ps");
    let c = t.container().lasting();
    c.run_detached();
    let table = t.call(&["ps", &c.id]).run().ok().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("UID") && lines[0].contains("PID"), "{table}");
    assert!(lines[1].contains("sleep 1000") && lines[1].contains(&c.pid().to_string()), "{table}");
}

fn ps_passes_arguments_to_the_ps_of_the_host(t: &Test) {
    t.need_program("ps");
    let c = t.container().lasting();
    c.run_detached();
    let table = t.call(&["ps", &c.id, "-e", "-o", "pid,args"]).run().ok().stdout;
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    assert_eq!(lines[1..], [format!("{} sleep 1000", c.pid())], "{table}");
}

fn ps_of_an_unknown_id_fails(t: &Test) {
    t.call(&["ps", &t.id]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn ps_refuses_an_unknown_format(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    t.call(&["ps", "--format", "xml", &c.id]).run().fails();
}

// --- the log ---

/// Asserts that the log is exactly one JSON record as the shim decodes it, and returns its message.
#[track_caller]
fn one_json_record(text: &str) -> String {
    assert_eq!(text.lines().count(), 1, "not one record: {text:?}");
    assert!(text.ends_with('\n'), "an unfinished line: {text:?}");
    let record: Value = serde_json::from_str(text).expect("the record is JSON");
    assert_eq!(record["level"], json!("error"), "{record}");
    assert!(is_rfc3339(record["time"].as_str().unwrap()), "the time is not RFC 3339: {record}");
    let message = record["msg"].as_str().unwrap();
    assert!(!message.is_empty());
    message.to_owned()
}

fn a_failure_leaves_one_json_record_in_the_log(t: &Test) {
    let log = t.path("log.json");
    for (number, command) in
        ["state", "start", "kill", "delete", "pause", "resume", "ps", "update", "events"]
            .into_iter()
            .enumerate()
    {
        let log = t.path(&format!("log{number}"));
        let output = t
            .call(&["--log", log.to_str().unwrap(), "--log-format", "json", command, "no-such-id"])
            .run()
            .fails();
        let message = one_json_record(&fs::read_to_string(&log).unwrap());
        assert!(
            message.contains(say::NO_SUCH_CONTAINER.of(t.kind())),
            "{command}: {message}\n{output}"
        );
    }
    assert!(fs::metadata(log).is_err());
}

fn a_failure_leaves_one_text_record_in_the_log(t: &Test) {
    let log = t.path("log");
    t.call(&["--log", log.to_str().unwrap(), "state", "no-such-id"]).run().fails();
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let rest = text.strip_prefix("time=\"").expect("logrus' text format begins with the time");
    let (time, rest) = rest.split_once('"').unwrap();
    assert!(is_rfc3339(time), "{text}");
    assert!(rest.starts_with(" level=error msg=\""), "{text}");
    assert!(rest.contains(say::NO_SUCH_CONTAINER.of(t.kind())), "{text}");
}

fn a_failure_is_also_on_standard_error(t: &Test) {
    for format in ["text", "json"] {
        let log = t.path(format);
        t.call(&["--log", log.to_str().unwrap(), "--log-format", format, "state", "no-such-id"])
            .run()
            .fails()
            .no_stdout()
            .says(&say::NO_SUCH_CONTAINER)
            .one_line();
    }
}

fn the_log_is_appended_to(t: &Test) {
    let log = t.path("log");
    fs::write(&log, "before\n").unwrap();
    for _ in 0..2 {
        t.call(&["--log", log.to_str().unwrap(), "--log-format=json", "state", "no-such-id"])
            .run()
            .fails();
    }
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "before"), "{text}");
    one_json_record(&format!("{}\n", lines[1]));
    one_json_record(&format!("{}\n", lines[2]));
}

fn a_success_writes_nothing_to_the_log(t: &Test) {
    let log = t.path("log");
    let flags = ["--log", log.to_str().unwrap(), "--log-format=json"];
    let c = t.container().lasting();
    c.bundle_call("create", &[]).global(&flags).run().ok().no_stderr();
    c.call("start", &[]).global(&flags).run().ok().no_stderr();
    c.call("state", &[]).global(&flags).run().ok().no_stderr();
    c.call("delete", &["--force"]).global(&flags).run().ok().no_stderr();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "");
}

fn a_failing_create_leaves_one_json_record(t: &Test) {
    let log = t.path("log");
    let c = t.container().args(&["/no/such/program"]);
    c.bundle_call("create", &[])
        .global(&["--log", log.to_str().unwrap(), "--log-format", "json"])
        .run()
        .fails()
        .says(&say::NO_SUCH_FILE);
    let message = one_json_record(&fs::read_to_string(&log).unwrap());
    assert!(message.contains("/no/such/program"), "{message}");
    assert!(message.contains(say::NO_SUCH_FILE.of(t.kind())), "{message}");
    t.assert_nothing_left();
}

fn a_failing_exec_leaves_one_json_record(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let log = t.path("log");
    c.exec_with(&[], &["no-such-program"])
        .global(&["--log", log.to_str().unwrap(), "--log-format", "json"])
        .run()
        .exec_fails();
    let message = one_json_record(&fs::read_to_string(&log).unwrap());
    assert!(message.contains(say::NOT_IN_PATH.of(t.kind())), "{message}");
}

fn a_log_that_cannot_be_opened_is_an_error(t: &Test) {
    t.call(&["--log", "/no/such/dir/log", "list"])
        .run()
        .fails()
        .names("/no/such/dir/log")
        .no_stdout();
}

fn an_unknown_log_format_is_refused(t: &Test) {
    t.call(&["--log-format", "xml", "list"]).run().fails().names("xml");
}

fn a_relative_log_is_relative_to_the_caller(t: &Test) {
    let c = t.container().args(&["/no/such/program"]);
    c.bundle_call("create", &[]).global(&["--log", "here.log"]).cwd(&t.dir).run().fails();
    assert!(fs::metadata(t.path("here.log")).unwrap().len() > 0);
}

fn debug_writes_records_below_error(t: &Test) {
    let c = t.container();
    let log = t.path("log");
    c.bundle_call("run", &[])
        .global(&["--debug", "--log", log.to_str().unwrap(), "--log-format", "json"])
        .run()
        .ok()
        .no_stdout();
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.is_empty(), "no debug records");
    for line in text.lines() {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            ["debug", "info", "warning"].contains(&record["level"].as_str().unwrap()),
            "{record}"
        );
        assert!(is_rfc3339(record["time"].as_str().unwrap()), "{record}");
        assert!(record["msg"].is_string(), "{record}");
    }
}

fn quotes_and_newlines_in_a_message_stay_in_one_record(t: &Test) {
    let log = t.path("log");
    let c = t.container().args(&["/no/such \"program\"\nwith\ttwo lines\\"]);
    c.bundle_call("run", &[])
        .global(&["--log", log.to_str().unwrap(), "--log-format", "json"])
        .run()
        .not_ok();
    one_json_record(&fs::read_to_string(&log).unwrap());
    assert!(t.kind() != Kind::Skep || fs::metadata(&log).is_ok());
}
