//! events: statistics once or at intervals, and the end of memory.

use std::fs;
use std::time::Duration;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, Value, json, say, wait};

cases![
    stats_is_one_line_of_json,
    stats_counts_what_the_container_uses,
    stats_of_a_created_container_works,
    events_come_at_an_interval,
    events_end_with_the_container,
    events_of_a_stopped_container_fail,
    events_of_an_unknown_id_fail,
    an_invalid_interval_is_refused,
    an_oom_kill_is_an_event,
];

fn need_events(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun has no events");
}

fn stats(c: &crate::harness::Container<'_>) -> Value {
    need_events(c.test);
    let output = c.call("events", &["--stats"]).run().ok().no_stderr();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    let event = output.json();
    assert_eq!(event["type"], json!("stats"));
    assert_eq!(event["id"], json!(c.id));
    event["data"].clone()
}

fn stats_is_one_line_of_json(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let data = stats(&c);
    for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"] {
        assert!(data[key].is_object(), "no {key} in {data}");
    }
}

fn stats_counts_what_the_container_uses(t: &Test) {
    t.need_controller("memory");
    t.need_controller("pids");
    let c = t
        .container()
        .sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo up > /up; sleep 1000")
        .set("/linux/resources/memory", json!({"limit": 67_108_864}))
        .set("/linux/resources/pids", json!({"limit": 44}));
    c.run_detached();
    c.wait_file("/up");
    let data = stats(&c);
    assert_eq!(data["memory"]["usage"]["limit"], json!(67_108_864));
    let usage = data["memory"]["usage"]["usage"].as_u64().unwrap();
    assert!(usage > 0 && usage < 67_108_864, "{usage}");
    assert!(data["memory"]["raw"].as_object().is_some_and(|raw| !raw.is_empty()), "{data}");
    assert_eq!(data["pids"]["limit"], json!(44));
    let current = data["pids"]["current"].as_u64().unwrap();
    assert!((1..=3).contains(&current), "{current}");
    let cpu = &data["cpu"]["usage"];
    let total = cpu["total"].as_u64().unwrap();
    assert!(total > 1_000_000, "nanoseconds: {cpu}");
    for key in ["kernel", "user"] {
        assert!(cpu[key].is_u64(), "{cpu}");
    }
    if t.host.layout == Layout::V1 {
        let percpu: u64 =
            cpu["percpu"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        assert!(percpu > 0, "{cpu}");
    }
    assert!(data["cpu"]["throttling"].is_object());
}

fn stats_of_a_created_container_works(t: &Test) {
    let c = t.container().lasting();
    c.create();
    stats(&c);
}

fn events_come_at_an_interval(t: &Test) {
    need_events(t);
    let c = t.container().lasting();
    c.run_detached();
    let events = c.call("events", &["--interval", "50ms"]).spawn();
    let text = wait::until("three events", || {
        let text = fs::read_to_string(&events.stdout_path).unwrap();
        (text.matches('\n').count() >= 3).then_some(text)
    });
    for line in text.lines().take(3) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], json!("stats"));
    }
}

fn events_end_with_the_container(t: &Test) {
    need_events(t);
    let c = t.container().lasting();
    c.run_detached();
    let events = c.call("events", &["--interval=100ms"]).limit(Duration::from_secs(10)).spawn();
    wait::for_text(&events.stdout_path, "stats");
    c.kill("KILL").ok();
    c.wait_exit();
    // It may say why it ends, but it ends.
    let output = events.wait();
    assert!(output.code.is_some(), "{output}");
}

fn events_of_a_stopped_container_fail(t: &Test) {
    need_events(t);
    let c = t.container();
    c.run_detached();
    c.wait_exit();
    c.wait_status("stopped");
    c.call("events", &["--stats"]).run().fails().names("is not running");
}

fn events_of_an_unknown_id_fail(t: &Test) {
    need_events(t);
    t.call(&["events", "--stats", &t.id]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn an_invalid_interval_is_refused(t: &Test) {
    need_events(t);
    let c = t.container().lasting();
    c.run_detached();
    for interval in ["soon", "0s", "-5s", "5"] {
        let flag = format!("--interval={interval}");
        c.call("events", &[&flag]).limit(Duration::from_secs(5)).run().fails();
    }
}

fn an_oom_kill_is_an_event(t: &Test) {
    need_events(t);
    t.need_controller("memory");
    let c = t
        .container()
        .with_probe()
        .sh("cat /fifo; probe allocate 64; echo done > /done; sleep 1000")
        .set("/linux/resources/memory", json!({"limit": 16_777_216, "swap": 16_777_216}));
    nix::unistd::mkfifo(&c.path("/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    c.run_detached();
    let events = c.call("events", &["--interval=50ms"]).spawn();
    wait::for_text(&events.stdout_path, "stats");
    wait::write_to_reader(&c.path("/fifo"), "go");
    c.wait_file("/done");
    let text = wait::for_text(&events.stdout_path, "\"oom\"");
    let line = text.lines().find(|line| line.contains("\"oom\"")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("oom"), &json!(c.id)));
}
