//! What goes to standard output, byte for byte as the callers' decoders have it.

use std::os::unix::fs::PermissionsExt;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};

cases![
    state_ends_without_a_newline,
    ps_as_json_is_one_line,
    ps_asks_for_the_processes_of_the_container_alone,
    a_ps_that_cannot_choose_is_asked_for_all,
    list_as_json_is_one_line,
    features_is_indented_by_four_spaces,
    an_event_is_one_line,
    the_mount_of_the_notify_socket_is_closed_off,
];

fn state_ends_without_a_newline(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun ends it with one");
    let c = t.container().lasting();
    c.create();
    let output = c.call("state", &[]).run().ok();
    assert!(output.stdout.ends_with('}'), "{output}");
    assert_eq!(output.json()["owner"], json!(""));
}

fn ps_as_json_is_one_line(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let expected = format!("[{}]\n", c.pid());
    let output = t.call(&["ps", "--format", "json", &c.id]).run().ok();
    if t.kind() == Kind::Crun {
        assert_eq!(output.json(), json!([c.pid()]));
    } else {
        output.prints(&expected);
    }
}

/// Runs `ps` of a container with a ps(1) that notes how it is called, and does `script` then.
fn noted_ps(t: &Test, script: &str) -> (Vec<String>, String) {
    let c = t.container().lasting();
    c.run_detached();
    let (directory, notes) = (t.path("bin"), t.path("notes"));
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("ps");
    let text = format!("#!/bin/sh\necho \"$*\" >>{}\n{script}\n", notes.display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let output = c.call("ps", &[]).env("PATH", &path).run().ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("UID ") && lines[0].ends_with(" CMD"), "{output}");
    assert!(lines.len() == 2 && lines[1].contains(&format!(" {} ", c.pid())), "{output}");
    assert_eq!(output.stderr, "");
    let calls = std::fs::read_to_string(notes).unwrap();
    (calls.lines().map(str::to_owned).collect(), c.pid().to_string())
}

fn ps_asks_for_the_processes_of_the_container_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc reads those of the whole host");
    let (calls, pid) = noted_ps(t, "exec /bin/ps \"$@\"");
    assert_eq!(calls, [format!("-f -q {pid}")]);
}

fn a_ps_that_cannot_choose_is_asked_for_all(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc reads those of the whole host");
    let script =
        "case $* in *-q*) echo 'ps: invalid option -- q' >&2; exit 1;; esac; exec /bin/ps \"$@\"";
    let (calls, pid) = noted_ps(t, script);
    assert_eq!(calls, [format!("-f -q {pid}"), "-ef".to_owned()]);
}

fn list_as_json_is_one_line(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun indents it");
    let c = t.container().lasting();
    c.create();
    let output = t.call(&["list", "--format", "json"]).run().ok();
    assert!(output.stdout.starts_with("[{\"ociVersion\":\""), "{output}");
    assert!(output.stdout.ends_with("}]\n") && output.stdout.lines().count() == 1, "{output}");
    assert_eq!(output.json()[0]["owner"], json!("root"));
}

fn features_is_indented_by_four_spaces(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let output = t.bare_call(&["features"]).run().ok();
    assert!(output.stdout.starts_with("{\n    \"ociVersionMin\": "), "{output}");
    // Annotations of an image must not reach these.
    let unsafe_ones = &output.json()["potentiallyUnsafeConfigAnnotations"];
    assert_eq!(*unsafe_ones, json!(["run.oci.", "org.systemd.property.", "org.criu.config"]));
}

fn an_event_is_one_line(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun has no events");
    let c = t.container().lasting();
    c.run_detached();
    let output = c.call("events", &["--stats"]).run().ok();
    assert!(output.stdout.starts_with("{\"type\":\"stats\",\"id\":\""), "{output}");
    assert!(output.stdout.ends_with("}\n") && output.stdout.lines().count() == 1, "{output}");
}

fn the_mount_of_the_notify_socket_is_closed_off(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun wait until the program is ready");
    let path = t.path("notify");
    let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let c = t.container().sh(
        "grep /run/notify /proc/self/mountinfo | cut -d' ' -f6; stat -c %A /run/notify/notify.sock",
    );
    let output = c.bundle_call("run", &[]).env("NOTIFY_SOCKET", path.to_str().unwrap()).run().ok();
    let words = output.stdout.lines().next().unwrap_or_default();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(words.split(',').any(|word| word == option), "{option}: {output}");
    }
    // Any user of the container may write to it.
    assert!(output.stdout.ends_with("\nsrwxrwxrwx\n"), "{output}");
}
