//! The state that hooks read: right pid and status in every arrangement of namespaces, by create and start as by run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, Value, json};

cases![
    of_create_and_start,
    of_run,
    without_a_pid_namespace,
    in_a_joined_pid_namespace,
    in_a_user_namespace,
    in_a_joined_user_namespace,
    after_a_failed_create,
    after_a_failed_start,
    after_a_forced_delete,
    the_version_and_the_bundle_are_those_of_the_runtime,
];

const PHASES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Lets a hook of every phase write its state to a file; that of startContainer inside.
fn hooked<'t>(c: Container<'t>) -> (Container<'t>, PathBuf) {
    c.test.need(c.test.kind() == Kind::Skep, "the others give hooks another state");
    let dir = c.test.path(&format!("states-{}", c.id));
    fs::create_dir(&dir).unwrap();
    let mut c = c;
    for phase in PHASES {
        let file = match phase {
            "startContainer" => format!("/{phase}"),
            _ => dir.join(phase).display().to_string(),
        };
        c = c.hook(phase, &format!("cat > {file}"));
    }
    (c, dir)
}

fn state(c: &Container<'_>, dir: &Path, phase: &str) -> Option<Value> {
    let path = if phase == "startContainer" { c.path(phase) } else { dir.join(phase) };
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{phase}: {error}: {text:?}")))
}

/// Status by phase; prestart, which is deprecated, may say what the oldest specifications said.
const STATUSES: [(&str, &[&str]); 6] = [
    ("prestart", &["creating", "created"]),
    ("createRuntime", &["creating"]),
    ("createContainer", &["creating"]),
    ("startContainer", &["created"]),
    ("poststart", &["running"]),
    ("poststop", &["stopped"]),
];

/// Asserts that every phase has read its status, and the pid that is seen where the hook runs.
#[track_caller]
fn assert_states(c: &Container<'_>, dir: &Path, outside: i32, inside: i32) {
    for (phase, statuses) in STATUSES {
        let state = state(c, dir, phase).unwrap_or_else(|| panic!("{phase} has not run"));
        let status = state["status"].as_str().unwrap();
        assert!(statuses.contains(&status), "{phase}: {state}");
        let pid = match phase {
            "createContainer" | "startContainer" => json!(inside),
            "poststop" => json!(null),
            _ => json!(outside),
        };
        assert_eq!(state["pid"], pid, "{phase}: {state}");
        assert_eq!(state["id"], json!(c.id), "{phase}");
    }
}

/// The life of a container, by create and start.
fn live(c: &Container<'_>) -> i32 {
    c.create();
    c.start().ok();
    let pid = c.pid();
    c.kill("KILL").ok();
    c.wait_exit();
    c.delete().ok();
    pid
}

fn of_create_and_start(t: &Test) {
    let (c, dir) = hooked(t.container().lasting());
    let pid = live(&c);
    assert_states(&c, &dir, pid, 1);
}

fn of_run(t: &Test) {
    let (c, dir) = hooked(t.container().lasting());
    c.run_detached();
    let pid = c.pid();
    c.delete_force().ok();
    assert_states(&c, &dir, pid, 1);
    // In the foreground nobody is told the pid but the hooks, and all of them the same.
    let (c, dir) = hooked(t.container().sh("true"));
    c.run().ok();
    let pid = state(&c, &dir, "createRuntime").unwrap()["pid"].as_i64().unwrap();
    assert_states(&c, &dir, i32::try_from(pid).unwrap(), 1);
}

fn without_a_pid_namespace(t: &Test) {
    let (c, dir) = hooked(t.container().lasting().without_namespace("pid"));
    let pid = live(&c);
    assert_states(&c, &dir, pid, pid);
}

fn in_a_joined_pid_namespace(t: &Test) {
    let first = t.container().lasting();
    first.run_detached();
    let path = format!("/proc/{}/ns/pid", first.pid());
    let second = t.container().set("/linux/namespaces/0/path", json!(path)).lasting();
    let (c, dir) = hooked(second);
    c.create();
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    let inside: i32 = inside.split_whitespace().last().unwrap().parse().unwrap();
    assert!(inside > 1, "{status}");
    c.start().ok();
    let pid = c.pid();
    c.delete_force().ok();
    assert_states(&c, &dir, pid, inside);
}

fn in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = t.container().user_namespace(100_000).lasting();
    let (c, dir) = hooked(c);
    open_to_all(&c, &dir);
    let pid = live(&c);
    assert_states(&c, &dir, pid, 1);
}

fn in_a_joined_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let first = t.container().lasting().user_namespace(100_000);
    first.run_detached();
    let path = format!("/proc/{}/ns/user", first.pid());
    let second = t
        .container()
        .lasting()
        .without_mount("/sys")
        .without_mount("/dev/mqueue")
        .push("/linux/namespaces", json!({"type": "user", "path": path}));
    let (c, dir) = hooked(second);
    open_to_all(&c, &dir);
    // Two clones: the pid is that of the second.
    let pid = live(&c);
    assert_states(&c, &dir, pid, 1);
}

/// Lets the hooks that run inside, as somebody else, write their files.
fn open_to_all(c: &Container<'_>, dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for path in [dir, &c.rootfs(), c.test.store, &c.test.dir] {
        let mode = if path == dir || path == c.rootfs() { 0o777 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn after_a_failed_create(t: &Test) {
    let (c, dir) = hooked(t.container().args(&["/no/such/program"]));
    c.try_create().fails();
    let stopped = state(&c, &dir, "poststop").unwrap();
    assert_eq!((&stopped["status"], &stopped["pid"]), (&json!("stopped"), &json!(null)));
    assert!(state(&c, &dir, "startContainer").is_none());
    assert!(state(&c, &dir, "poststart").is_none());
    t.assert_nothing_left();
}

fn after_a_failed_start(t: &Test) {
    let (c, dir) = hooked(t.container().lasting());
    let c = c.hook("startContainer", "exit 1");
    c.create();
    c.start().fails();
    assert!(state(&c, &dir, "poststart").is_none());
    assert!(state(&c, &dir, "poststop").is_none(), "poststop is for delete");
    c.delete_force().ok();
    assert_eq!(state(&c, &dir, "poststop").unwrap()["status"], json!("stopped"));
}

fn after_a_forced_delete(t: &Test) {
    let (c, dir) = hooked(t.container().lasting());
    c.create();
    c.delete_force().ok();
    assert!(state(&c, &dir, "startContainer").is_none());
    assert_eq!(state(&c, &dir, "poststop").unwrap()["status"], json!("stopped"));
}

fn the_version_and_the_bundle_are_those_of_the_runtime(t: &Test) {
    let c = t.container().lasting().set("/annotations", json!({"a.b": "\"\u{e4}\n"}));
    let (c, dir) = hooked(c);
    live(&c);
    for phase in PHASES {
        let state = state(&c, &dir, phase).unwrap();
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{phase}: {state}");
        assert_eq!(state["bundle"], json!(c.dir), "{phase}");
        assert_eq!(state["annotations"], json!({"a.b": "\"\u{e4}\n"}), "{phase}");
    }
}
