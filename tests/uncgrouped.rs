//! A container without a cgroup of its own (`--cgroup-manager=disabled`): all that is known of it is its init.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, wait};

cases![
    kill_reaches_the_init,
    kill_of_all_reaches_the_init,
    delete_force_ends_the_init,
    ps_knows_the_init,
    a_limit_without_a_cgroup,
    the_cgroup_of_another_container_is_left_alone,
    a_damaged_record_still_leads_to_the_init,
];

/// Without a pid namespace either, where nothing but a signal ends anything.
fn uncgrouped(t: &Test) -> Container<'_> {
    t.need(t.kind() == Kind::Skep, "runc has no such flag, and crun kills nobody then");
    let c = t.container().without_namespace("pid").unset("/linux/resources").lasting();
    run(&c);
    c
}

fn run(c: &Container<'_>) {
    let pid = c.dir.join("pid").display().to_string();
    c.bundle_call("run", &["--detach", "--pid-file", &pid])
        .global(&["--cgroup-manager", "disabled"])
        .run()
        .ok();
}

fn kill_reaches_the_init(t: &Test) {
    for signal in ["KILL", "TERM"] {
        let c = uncgrouped(t);
        c.kill(signal).ok();
        wait::for_exit(c.pid());
        c.wait_exit();
        c.delete().ok();
        t.assert_nothing_left();
    }
}

fn kill_of_all_reaches_the_init(t: &Test) {
    for signal in ["KILL", "TERM"] {
        let c = uncgrouped(t);
        t.call(&["kill", "--all", &c.id, signal]).run().ok();
        c.wait_exit();
        c.delete().ok();
        t.assert_nothing_left();
    }
}

fn delete_force_ends_the_init(t: &Test) {
    let c = uncgrouped(t);
    c.delete_force().ok();
    assert!(!wait::is_alive(c.pid()));
    t.assert_nothing_left();
}

fn ps_knows_the_init(t: &Test) {
    let c = uncgrouped(t);
    let pids = t.call(&["ps", "--format", "json", &c.id]).run().ok().json();
    assert_eq!(pids, json!([c.pid()]));
}

fn a_limit_without_a_cgroup(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun ignores it");
    let c = t.container().set("/linux/resources", json!({"memory": {"limit": 67_108_864}}));
    let output = c.bundle_call("run", &[]).global(&["--cgroup-manager", "disabled"]).run();
    // Whoever asks for both gets no cgroup; it must not be another's that gets the limit.
    assert!(output.code.is_some(), "{output}");
    t.assert_nothing_left();
}

/// The record names the path the configuration asks for; whose cgroup that is, only a mark says.
fn the_cgroup_of_another_container_is_left_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the state file is skep's");
    let first = t.container().lasting();
    first.run_detached();
    let second = t
        .container()
        .unset("/linux/resources")
        .set("/linux/cgroupsPath", json!(format!("/{}", first.id)))
        .lasting();
    run(&second);
    second.delete_force().ok();
    assert_eq!(first.status(), "running");
    run(&second);
    let state = t.root.join(&second.id).join("state.json");
    let text = fs::read(&state).unwrap();
    fs::write(&state, &text[..text.len() / 2]).unwrap();
    second.delete_force();
    assert_eq!(first.status(), "running");
    assert!(wait::is_alive(first.pid()), "another container was killed");
    first.exec(&["true"]).ok();
    // What is left of the record says who its init was.
    assert!(!wait::is_alive(second.pid()));
}

fn a_damaged_record_still_leads_to_the_init(t: &Test) {
    let c = uncgrouped(t);
    let state = t.root.join(&c.id).join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    let end = text.find("\"bundle\"").unwrap();
    fs::write(&state, &text[..end]).unwrap();
    c.delete_force().ok();
    assert!(!wait::is_alive(c.pid()));
    t.assert_nothing_left();
    // Of another process with that pid nothing is known.
    let c = uncgrouped(t);
    let state = t.root.join(&c.id).join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    let (head, _) = text.split_once("\"init_process_start\":").unwrap();
    fs::write(&state, format!("{head}\"init_process_start\":1,")).unwrap();
    c.delete_force();
    assert!(wait::is_alive(c.pid()), "a process was killed that is not known to be the init");
    let pid = nix::unistd::Pid::from_raw(c.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait::for_exit(c.pid());
}
