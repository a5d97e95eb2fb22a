//! What goes to standard output, byte for byte as the callers' decoders have it.

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json};

cases![
    state_ends_without_a_newline,
    ps_as_json_is_one_line,
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
