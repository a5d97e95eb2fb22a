//! process.user, capabilities and limits at their edges, for create and for exec.

use std::fs;
use std::path::Path;

use crate::exec::mask;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, Value, json};
use crate::rootless;

cases![
    the_id_that_means_no_change_is_refused,
    the_id_that_means_no_change_is_refused_for_exec,
    the_largest_ids_are_set,
    groups_may_be_given_twice,
    null_groups_are_none,
    more_groups_than_the_kernel_takes_are_refused,
    groups_without_a_mapping_are_reported,
    a_process_file_has_groups_of_its_own,
    a_process_file_inherits_the_umask,
    a_umask_that_is_none_is_refused,
    every_unknown_capability_is_a_warning,
    a_warning_does_not_spoil_the_log_of_a_failure,
    an_unknown_capability_of_a_process_file_is_a_warning,
    a_warning_is_not_written_where_an_engine_reads,
    a_warning_is_in_the_json_log_of_a_success,
    a_capability_only_in_effective_is_not_permitted,
    raising_a_hard_limit_without_root_is_reported,
    a_soft_limit_above_the_hard_one_is_refused,
    limits_apply_in_a_user_namespace,
    no_new_privileges_of_a_process_file,
];

fn user(c: Container<'_>, user: Value) -> Container<'_> {
    c.set("/process/user", user)
}

fn process_file(t: &Test, process: &Value) -> String {
    let mut process = process.clone();
    process["env"] = json!(["PATH=/bin"]);
    process["cwd"] = json!("/");
    let path = t.path("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.display().to_string()
}

fn the_id_that_means_no_change_is_refused(t: &Test) {
    // setresuid(2) takes -1 for "leave it as it is", which is root.
    for (value, field) in [
        (json!({"uid": u32::MAX, "gid": 0}), "process.user.uid"),
        (json!({"uid": 0, "gid": u32::MAX}), "process.user.gid"),
        (json!({"uid": 0, "gid": 0, "additionalGids": [1, u32::MAX]}), "additionalGids[1]"),
    ] {
        let c = user(t.container().sh("id -u; id -g"), value);
        let output = c.run();
        assert!(output.code != Some(0) || output.stdout != "0\n0\n", "{output}");
        if t.kind() == Kind::Skep {
            output.fails().names(field);
        }
        t.assert_nothing_left();
    }
}

fn the_id_that_means_no_change_is_refused_for_exec(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let own = json!({"args": ["id", "-u"], "user": {"uid": u32::MAX, "gid": 0}});
    let output = c.call("exec", &["--process", &process_file(t, &own)]).run();
    assert!(output.code != Some(0) || output.stdout != "0\n", "{output}");
}

fn the_largest_ids_are_set(t: &Test) {
    let largest = u32::MAX - 1;
    let c = t.container().sh("grep -E '^([UG]id|Groups)' /proc/self/status");
    let c = user(c, json!({"uid": largest, "gid": largest, "additionalGids": [largest]}));
    let row = [largest.to_string(), largest.to_string(), largest.to_string(), largest.to_string()];
    let row = row.join("\t");
    let output = c.run();
    t.need(t.kind() == Kind::Skep || output.code == Some(0), "runc wants ids below 2147483648");
    let text = output.ok().stdout;
    assert!(text.starts_with(&format!("Uid:\t{row}\nGid:\t{row}\nGroups:\t{largest}")), "{text}");
}

const GROUPS: [&str; 3] = ["sed", "-n", "s/^Groups:\t//p"];

fn show_groups() -> Vec<&'static str> {
    let mut words = GROUPS.to_vec();
    words.push("/proc/self/status");
    words
}

fn groups_may_be_given_twice(t: &Test) {
    let c = user(t.container(), json!({"uid": 1, "gid": 2, "additionalGids": [7, 5, 7, 2, 5]}));
    let output = c.args(&show_groups()).run().ok();
    let mut groups: Vec<&str> = output.text().split_whitespace().collect();
    groups.dedup();
    assert_eq!(groups, ["2", "5", "7"]);
}

fn null_groups_are_none(t: &Test) {
    for groups in [json!(null), json!([])] {
        let c = user(t.container(), json!({"uid": 1, "gid": 2, "additionalGids": groups}));
        assert_eq!(c.args(&show_groups()).run().ok().text().trim(), "");
    }
}

fn more_groups_than_the_kernel_takes_are_refused(t: &Test) {
    let of = |count: u32| (0..count).collect::<Vec<u32>>();
    let c = user(t.container(), json!({"uid": 0, "gid": 0, "additionalGids": of(65_537)}));
    let output = c.run().fails();
    if t.kind() == Kind::Skep {
        output.names("process.user.additionalGids");
    }
    t.assert_nothing_left();
    let c = user(t.container(), json!({"uid": 0, "gid": 0, "additionalGids": of(65_536)}));
    let output = c.args(&["sh", "-c", "grep Groups /proc/self/status | wc -w"]).run().ok();
    assert_eq!(output.text().trim(), "65537");
}

fn groups_without_a_mapping_are_reported(t: &Test) {
    t.need_user_namespaces();
    let c = t.container().user_namespace(100_000);
    let c = user(c, json!({"uid": 0, "gid": 0, "additionalGids": [70_000]}));
    let output = c.run().fails();
    if t.kind() == Kind::Skep {
        output.names("process.user.additionalGids");
    }
    t.assert_nothing_left();
}

fn a_process_file_has_groups_of_its_own(t: &Test) {
    let c = user(t.container().lasting(), json!({"uid": 0, "gid": 0, "additionalGids": [5]}));
    c.run_detached();
    let own = json!({"args": show_groups(), "user": {"uid": 3, "gid": 4, "additionalGids": [6]}});
    let output = c.call("exec", &["--process", &process_file(t, &own)]).run().ok();
    assert_eq!(output.text().trim_end(), "6");
    let output = c.exec(&show_groups()).ok();
    assert_eq!(output.text().trim_end(), "5");
    let output = c.exec_with(&["--additional-gids", "9"], &show_groups()).run();
    t.need(t.kind() != Kind::Crun, "crun has no such flag");
    assert_eq!(output.ok().text().trim_end(), "5 9");
}

fn a_process_file_inherits_the_umask(t: &Test) {
    let c = t.container().set("/process/user/umask", json!(63)).lasting();
    c.run_detached();
    let run = |own: Value| {
        c.call("exec", &["--process", &process_file(t, &own)]).run().ok().text().to_owned()
    };
    let args = json!(["sh", "-c", "umask"]);
    assert_eq!(run(json!({"args": args})).trim_end(), "0077");
    assert_eq!(run(json!({"args": args, "user": {"uid": 0, "gid": 0}})).trim_end(), "0077");
    t.need(t.kind() == Kind::Skep, "runc takes that of the container in any case");
    let own = json!({"args": args, "user": {"uid": 0, "gid": 0, "umask": 0}});
    assert_eq!(run(own).trim_end(), "0000");
}

fn a_umask_that_is_none_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others leave it to umask(2), which cuts it");
    for value in [json!(512), json!(-1), json!(4_294_967_296_u64), json!("022"), json!(1.5)] {
        let c = t.container().set("/process/user/umask", value);
        c.run().fails().names("process.user.umask");
        t.assert_nothing_left();
    }
}

const SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

fn every_unknown_capability_is_a_warning(t: &Test) {
    let mut c = t.container().sh("echo ran");
    for set in SETS {
        let name = format!("CAP_{}", set.to_uppercase());
        c = c.push(&format!("/process/capabilities/{set}"), json!(name));
    }
    let output = c.run();
    t.need(t.kind() != Kind::Crun || output.code == Some(0), "this crun refuses them");
    let output = output.ok();
    assert_eq!(output.stdout, "ran\n");
    if t.kind() == Kind::Skep {
        let output = c.bundle_call("run", &[]).global(&["--log-level", "warning"]).run().ok();
        assert!(output.stderr.contains("level=warning"), "{output}");
        for set in SETS {
            let name = format!("CAP_{}", set.to_uppercase());
            assert!(output.stderr.contains(&name), "{name}: {output}");
        }
    }
}

fn a_warning_does_not_spoil_the_log_of_a_failure(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others warn before they fail");
    // Podman decodes the whole log as one record.
    let log = t.path("log.json");
    let c = t.container().push("/process/capabilities/bounding", json!("CAP_NONSENSE"));
    let c = c.args(&["/no/such/program"]);
    let global = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    c.bundle_call("run", &[]).global(&global).run().fails();
    let text = fs::read_to_string(log).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(record["level"], json!("error"));
}

/// conmon and Podman take all of standard error for the error, or for what the program has to say.
fn a_warning_is_not_written_where_an_engine_reads(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others warn there");
    let c = t.container().push("/process/capabilities/bounding", json!("CAP_NONSENSE"));
    let c = c.sh("echo said >&2");
    let pid = c.dir.join("pid").display().to_string();
    let output = c.bundle_call("create", &["--pid-file", &pid]).run().ok();
    c.start().ok().no_stderr();
    c.wait_exit();
    assert_eq!(fs::read_to_string(&output.stderr_path).unwrap(), "said\n");
    c.delete().ok().no_stderr();
    let output = c.run_detached();
    c.wait_exit();
    assert_eq!(fs::read_to_string(&output.stderr_path).unwrap(), "said\n");
    c.delete_force().ok();
    let log = t.path("log");
    let global = ["--log", log.to_str().unwrap()];
    for output in [c.run(), c.bundle_call("run", &[]).global(&global).run()] {
        assert_eq!(output.ok().stderr, "said\n");
    }
    assert!(fs::read_to_string(log).unwrap().contains("CAP_NONSENSE"));
}

/// What the engines' log is: warnings of what has worked, and of a failure the error alone.
fn a_warning_is_in_the_json_log_of_a_success(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others warn before they fail");
    let c = t
        .container()
        .push("/process/capabilities/bounding", json!("CAP_NONSENSE"))
        .hook("poststop", "exit 7")
        .lasting();
    c.write();
    let log = |name: &str| t.path(name).display().to_string();
    let flags = |log: &str| ["--log", log, "--log-format", "json"].map(str::to_owned);
    let call = |call: crate::harness::runtime::Call<'_>, name: &str| {
        let flags = flags(&log(name));
        call.global(&flags.each_ref().map(String::as_str)).run()
    };
    let records = |name: &str, word: &str| {
        let text = fs::read_to_string(log(name)).unwrap();
        let levels: Vec<String> = text
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{text}"));
                assert!(record["msg"].as_str().unwrap().contains(word), "{text}");
                assert!(record["time"].is_string(), "{text}");
                record["level"].as_str().unwrap().to_owned()
            })
            .collect();
        levels.join(" ")
    };
    let pid = c.dir.join("pid").display().to_string();
    call(c.bundle_call("create", &["--pid-file", &pid]), "create").ok().no_stderr();
    assert_eq!(records("create", "CAP_NONSENSE"), "warning");
    call(c.bundle_call("create", &[]), "again").fails();
    assert_eq!(records("again", "already exists"), "error");
    c.start().ok();
    let own = json!({"args": ["true"], "cwd": "/", "capabilities": {"bounding": ["CAP_ODD"]}});
    let own = process_file(t, &own);
    call(c.call("exec", &["--process", &own]), "exec").ok().no_stderr();
    assert_eq!(records("exec", "CAP_ODD"), "warning");
    call(c.call("delete", &["--force"]), "delete").ok().no_stderr();
    assert_eq!(records("delete", "poststop hook #0"), "warning");
    // Known as soon as it runs, not only when it has ended.
    let flags = flags(&log("run"));
    let run = c.bundle_call("run", &[]).global(&flags.each_ref().map(String::as_str)).spawn();
    crate::harness::wait::for_text(Path::new(&log("run")), "CAP_NONSENSE");
    c.kill("KILL").ok();
    run.wait().code(137).no_stderr();
    let text = fs::read_to_string(log("run")).unwrap();
    assert_eq!(text.matches("\"warning\"").count(), 2, "{text}");
}

fn an_unknown_capability_of_a_process_file_is_a_warning(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the others have their own ways");
    let c = t.container().lasting();
    c.run_detached();
    let caps = json!({"bounding": ["CAP_NONSENSE", "CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
                      "effective": ["CAP_CHOWN"]});
    let own = json!({"args": ["cat", "/proc/self/status"], "capabilities": caps});
    let call = c.call("exec", &["--process", &process_file(t, &own)]);
    let output = call.global(&["--log-level", "warning"]).run().ok();
    assert_eq!(mask(&output.stdout, "CapEff"), 1);
    assert!(output.stderr.contains("CAP_NONSENSE"), "{output}");
}

fn a_capability_only_in_effective_is_not_permitted(t: &Test) {
    let caps = json!({"bounding": ["CAP_CHOWN"], "permitted": [], "effective": ["CAP_CHOWN"]});
    let c = t.container().set("/process/capabilities", caps).args(&["cat", "/proc/self/status"]);
    let output = c.run();
    // The kernel refuses it; a warning and nothing effective is as good.
    if output.code == Some(0) {
        // Root gets back what the bounding set has when it executes.
        assert_eq!(mask(&output.stdout, "CapEff") & !1, 0, "{output}");
    }
}

fn raising_a_hard_limit_without_root_is_reported(t: &Test) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let hard: Option<u64> = line.split_whitespace().nth(4).unwrap().parse().ok();
    t.need(hard.is_some(), "no limit of open files here");
    let value = hard.unwrap_or(0) + 1;
    let c = rootless::bundle(t)
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": value}]));
    c.write();
    let output = rootless::as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    t.need(t.kind() == Kind::Skep || output.code != Some(0), "crun leaves it as it is");
    let output = output.fails();
    assert!(output.stderr.to_lowercase().contains("operation not permitted"), "{output}");
    t.assert_nothing_left();
}

fn a_soft_limit_above_the_hard_one_is_refused(t: &Test) {
    let limit = json!({"type": "RLIMIT_CORE", "soft": 2, "hard": 1});
    let output = t.container().set("/process/rlimits", json!([limit])).run().fails();
    if t.kind() == Kind::Skep {
        output.names("process.rlimits[0]");
    }
    t.assert_nothing_left();
}

fn limits_apply_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = t
        .container()
        .user_namespace(100_000)
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]))
        .set("/process/oomScoreAdj", json!(321))
        .lasting();
    c.run_detached();
    for pid in ["1", "self"] {
        let script = format!(
            "cat /proc/{pid}/oom_score_adj; grep 'open files' /proc/{pid}/limits | tr -s ' '"
        );
        let seen = c.exec(&["sh", "-c", &script]).ok().stdout;
        assert_eq!(seen.trim_end(), "321\nMax open files 50 60 files", "{pid}");
    }
}

fn no_new_privileges_of_a_process_file(t: &Test) {
    let c = t.container().set("/process/noNewPrivileges", json!(false)).lasting();
    c.run_detached();
    for (value, seen) in [(json!(true), "1"), (json!(false), "0"), (json!(null), "0")] {
        let own = json!({"args": ["sed", "-n", "s/NoNewPrivs:\t//p", "/proc/self/status"],
                         "noNewPrivileges": value});
        let output = c.call("exec", &["--process", &process_file(t, &own)]).run().ok();
        assert_eq!(output.text().trim_end(), seen);
    }
}
