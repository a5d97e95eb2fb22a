//! The sentences that engines look for, whole: moby and Podman make exit statuses of them, containerd and CRI-O decide
//! by them whether a container is gone.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Output, Test, json};

cases![
    words_for_a_program_that_cannot_be_run,
    words_for_a_working_directory,
    words_for_a_mount_that_does_not_fit,
    words_for_a_failing_hook,
    words_for_an_unset_label,
    words_for_a_state_that_does_not_allow_it,
    words_for_an_exec_that_fails,
    words_for_a_memory_limit_that_is_too_small,
    words_for_a_busy_cgroup,
    one_record_also_with_warnings,
    a_runtime_by_another_name_says_that_name,
];

const INIT: &str = "unable to start container process: error during container init: ";
const EXEC: &str = "exec failed: unable to start container process: ";

#[track_caller]
fn says(output: Output, words: &str) {
    let plain = output.stderr.replace("\\\"", "\"");
    assert!(plain.contains(words), "expected {words:?}, got {output}");
    output.one_line().no_stdout();
}

#[track_caller]
fn create_says(c: &Container<'_>, words: &str) {
    says(c.try_create().fails(), words);
    c.test.assert_nothing_left();
}

fn need_skep(t: &Test) {
    t.need(t.kind() == Kind::Skep, "words of runc 1.5, which skep has");
}

/// What exec of a missing program and the like comes to, for create and for exec.
const PROGRAMS: [(&str, &str); 4] = [
    ("no-such", "exec: \"no-such\": executable file not found in $PATH"),
    ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
    ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ("/etc", "exec: \"/etc\": is a directory: permission denied"),
];

fn words_for_a_program_that_cannot_be_run(t: &Test) {
    need_skep(t);
    for (program, words) in PROGRAMS {
        create_says(&t.container().args(&[program]), &format!("{INIT}{words}"));
    }
    let c = t.container().file("/bin/text", "no interpreter", 0o755).args(&["/bin/text"]);
    says(c.run().fails(), &format!("{INIT}exec /bin/text: exec format error"));
}

fn words_for_a_working_directory(t: &Test) {
    need_skep(t);
    let c = t.container().set("/process/cwd", json!("/etc/passwd"));
    let words = "chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory";
    create_says(&c, &format!("{INIT}{words}"));
}

fn words_for_a_mount_that_does_not_fit(t: &Test) {
    need_skep(t);
    let (dir, file) = (t.path("dir"), t.path("file"));
    fs::create_dir(&dir).unwrap();
    fs::write(&file, "").unwrap();
    for (source, target) in [(&dir, "/etc/passwd"), (&file, "/etc")] {
        let c = t.container().mount(target, "bind", source.to_str().unwrap(), &["bind"]);
        let words =
            "not a directory; Are you trying to mount a directory onto a file (or vice-versa)?";
        create_says(&c, words);
    }
}

fn words_for_a_failing_hook(t: &Test) {
    need_skep(t);
    for phase in ["prestart", "createRuntime", "createContainer"] {
        let c = t.container().hook(phase, "echo out; echo bad >&2; exit 3");
        let words =
            format!("error running {phase} hook #0: exit status 3, stdout: out, stderr: bad");
        create_says(&c, &words);
    }
}

fn words_for_an_unset_label(t: &Test) {
    need_skep(t);
    let c = t.container().set("/process/selinuxLabel", json!("a:b:c:s0"));
    if fs::metadata("/sys/fs/selinux/enforce").is_ok() {
        // Podman: `/proc/[a-z0-9-].+/attr.*`, in these quotes.
        create_says(&c, "`/proc/self/attr/exec`");
    } else {
        let words =
            "selinux label is specified in config, but selinux is disabled or not supported";
        create_says(&c, words);
    }
}

fn words_for_a_state_that_does_not_allow_it(t: &Test) {
    need_skep(t);
    let c = t.container().lasting();
    says(c.call("state", &[]).run().fails(), "container does not exist");
    c.create();
    says(c.try_create().fails(), "container with given ID already exists");
    says(c.call("resume", &[]).run().fails(), "container not paused");
    c.start().ok();
    says(c.start().fails(), "cannot start an already running container");
    let words = format!("cannot delete container {} that is not stopped: running", c.id);
    says(c.delete().fails(), &words);
    c.call("pause", &[]).run().ok();
    let words = "cannot exec in a paused container (use --ignore-paused to override)";
    says(c.exec(&["true"]).exec_fails(), words);
    c.call("resume", &[]).run().ok();
    c.kill("KILL").ok();
    c.wait_exit();
    says(c.kill("TERM").fails(), "container not running");
    says(c.call("pause", &[]).run().fails(), "container not running");
    says(c.start().fails(), "cannot start a container that has stopped");
    says(c.exec(&["true"]).exec_fails(), "cannot exec in a stopped container");
    let words = format!("container with id {} is not running", c.id);
    says(c.call("events", &["--stats"]).run().fails(), &words);
}

fn words_for_an_exec_that_fails(t: &Test) {
    need_skep(t);
    let c = t.container().lasting();
    c.run_detached();
    for (program, words) in PROGRAMS {
        says(c.exec(&[program]).exec_fails(), &format!("{EXEC}{words}"));
    }
    let words = "chdir to cwd (\"/no/such\") set in config.json failed: no such file or directory";
    let output = c.exec_with(&["--cwd", "/no/such"], &["true"]).run();
    says(output.exec_fails(), &format!("{EXEC}{words}"));
}

fn words_for_a_memory_limit_that_is_too_small(t: &Test) {
    need_skep(t);
    t.need_controller("memory");
    let c = t.container().set("/linux/resources", json!({"memory": {"limit": 4096}}));
    create_says(&c, "container init was OOM-killed (memory limit too low?)");
}

fn words_for_a_busy_cgroup(t: &Test) {
    need_skep(t);
    let first = t.container().lasting();
    first.create();
    let second = t.container().set("/linux/cgroupsPath", json!(format!("/{}", first.id)));
    says(second.try_create().fails(), "container's cgroup is not empty: 1 process(es) found");
}

/// Podman decodes the whole log as one object.
fn one_record_also_with_warnings(t: &Test) {
    need_skep(t);
    let log = t.path("log");
    let c = t
        .container()
        .push("/process/capabilities/bounding", json!("CAP_OF_TOMORROW"))
        .args(&["no-such"]);
    let log_flags = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    c.bundle_call("create", &[]).global(&log_flags).run().fails();
    let record: crate::harness::Value =
        serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(record["level"], json!("error"));
    // crun's form of the same file.
    let named = format!("file:{}", log.display());
    c.bundle_call("create", &[]).global(&["--log", &named, "--log-format", "json"]).run().fails();
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
}

/// Where skep stands in for runc, callers look for runc's words.
fn a_runtime_by_another_name_says_that_name(t: &Test) {
    need_skep(t);
    let link = t.path("runc");
    std::os::unix::fs::symlink(&t.runtime.path, &link).unwrap();
    let c = t.container().args(&["/no/such"]);
    for (command, words) in [("create", "runc create failed: "), ("run", "runc run failed: ")] {
        let script = format!("shift; exec {} \"$@\"", link.display());
        let call = c.bundle_call(command, &[]).by(&["sh", "-c", &script, "sh"]);
        says(call.run().fails(), &format!("{words}{INIT}exec: "));
    }
    let by = |call: Call<'_>| {
        let script = format!("shift; exec {} \"$@\"", link.display());
        call.by(&["sh", "-c", &script, "sh"]).run()
    };
    let version = by(t.bare_call(&["--version"])).ok();
    assert!(version.stdout.starts_with("runc version ") && version.stdout.contains(" (skep)\n"));
    let c = t.container().file("/script", "#!/interpreter x\n", 0o755).args(&["/script"]);
    let bare = "exec /script: no such file or directory\n";
    let run = by(c.bundle_call("run", &[])).fails();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", bare));
    let ambient = t
        .container()
        .set("/process/capabilities/inheritable", json!(["CAP_KILL"]))
        .set("/process/capabilities/ambient", json!(["CAP_KILL", "CAP_CHOWN"]))
        .sh("grep CapAmb /proc/self/status");
    let run = by(ambient.bundle_call("run", &[])).ok();
    assert_eq!(run.stdout, "CapAmb:\t0000000000000020\n", "{run}");
    assert!(run.stderr.contains("level=warning msg=\"can't raise ambient capability CAP_CHOWN: "));
    ambient.run().ok().no_stderr();
    // Whoever has a log, and whoever calls us skep, learns what is missing.
    let log = t.path("runc.log");
    let run = by(c.bundle_call("run", &[]).global(&["--log", log.to_str().unwrap()])).fails();
    for text in [run.stderr, fs::read_to_string(log).unwrap(), c.run().fails().stderr] {
        assert!(text.contains(bare.trim_end()) && text.contains("/interpreter"), "{text}");
    }
    t.assert_nothing_left();
}
