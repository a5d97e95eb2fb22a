//! create, start, state, kill, delete and run: runtime-spec's runtime.md and the exit codes of the contract.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json, reaper, say, wait};

cases![
    a_created_container_has_not_started_its_program,
    a_created_container_does_not_show_the_command_line_of_the_runtime,
    start_runs_the_program,
    the_whole_life_of_a_container,
    state_follows_the_life_of_a_container,
    state_has_the_fields_of_the_specification,
    state_of_a_stopped_container_has_pid_zero,
    state_of_an_unknown_id_fails,
    start_of_an_unknown_id_fails,
    kill_of_an_unknown_id_fails,
    delete_of_an_unknown_id_fails,
    delete_force_of_an_unknown_id_succeeds,
    start_twice_is_refused,
    start_of_a_stopped_container_is_refused,
    delete_of_a_running_container_is_refused,
    delete_of_a_created_container_succeeds,
    delete_force_of_a_running_container_kills_it,
    delete_force_of_a_created_container_succeeds,
    delete_force_kills_every_process_of_the_container,
    an_id_can_be_used_again_after_delete,
    a_second_create_of_an_id_is_refused,
    of_two_creates_at_once_one_wins,
    kill_takes_a_number,
    kill_takes_a_bare_name,
    kill_takes_a_full_name,
    kill_takes_a_lower_case_name,
    kill_without_a_signal_sends_term,
    kill_of_a_created_container_stops_it,
    kill_of_a_stopped_container_is_refused,
    kill_delivers_the_signal_to_the_program,
    kill_takes_a_real_time_signal,
    kill_all_reaches_every_process,
    a_container_whose_init_dies_is_stopped,
    config_json_may_change_after_create,
    start_without_a_process_is_reported,
    annotations_appear_in_state,
    created_is_a_time_in_utc,
    containers_with_different_roots_are_separate,
    an_orphan_in_the_container_dies_with_it;
    serial: a_stopped_container_can_be_deleted_while_its_zombie_waits,
];

fn a_created_container_has_not_started_its_program(t: &Test) {
    let c = t.container().sh("echo started > /out");
    c.create();
    assert_eq!(c.status(), "created");
    assert!(fs::metadata(c.path("/out")).is_err(), "the program ran before start");
    c.start().ok().no_stdout();
    assert_eq!(c.wait_file("/out"), "started\n");
}

fn a_created_container_does_not_show_the_command_line_of_the_runtime(t: &Test) {
    t.need(t.kind() == Kind::Skep, "that of the others is what it is");
    let c = t.container().lasting();
    c.create();
    let shown = c.exec(&["cat", "/proc/1/cmdline"]).ok().stdout;
    assert_eq!(shown.trim_end_matches('\0'), "skep:init");
    c.start().ok();
    assert_eq!(c.exec(&["cat", "/proc/1/cmdline"]).ok().stdout, "sleep\x001000\0");
}

fn start_runs_the_program(t: &Test) {
    let c = t.container().sh("echo hello from the container");
    let created = c.create();
    c.start().ok();
    assert_eq!(c.wait_exit(), 0);
    assert_eq!(created.stdout_now(), "hello from the container\n");
    c.delete().ok();
}

fn the_whole_life_of_a_container(t: &Test) {
    let c = t.container().lasting();
    c.create().no_stdout();
    c.start().ok().no_stdout();
    c.kill("KILL").ok().no_stdout();
    assert_eq!(c.wait_exit(), 128 + libc::SIGKILL);
    c.delete().ok().no_stdout();
    t.assert_nothing_left();
}

fn state_follows_the_life_of_a_container(t: &Test) {
    let c = t.container().lasting();
    c.create();
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    c.wait_exit();
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
    c.call("state", &[]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn state_has_the_fields_of_the_specification(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let state = c.state();
    assert_eq!(state["id"], json!(c.id));
    assert_eq!(state["pid"], json!(c.pid()));
    assert_eq!(state["status"], json!("running"));
    assert_eq!(state["bundle"], json!(c.dir.to_str()));
    assert_eq!(state["rootfs"], json!(c.rootfs().to_str()));
    let version = state["ociVersion"].as_str().unwrap();
    assert!(version.starts_with("1."), "ociVersion is {version}");
}

fn state_of_a_stopped_container_has_pid_zero(t: &Test) {
    let c = t.container().args(&["true"]);
    c.run_detached();
    c.wait_exit();
    c.wait_status("stopped");
    assert_eq!(c.state()["pid"], json!(0));
}

fn state_of_an_unknown_id_fails(t: &Test) {
    t.call(&["state", &t.id]).run().fails().says(&say::NO_SUCH_CONTAINER).no_stdout();
}

fn start_of_an_unknown_id_fails(t: &Test) {
    t.call(&["start", &t.id]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn kill_of_an_unknown_id_fails(t: &Test) {
    t.call(&["kill", &t.id, "KILL"]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn delete_of_an_unknown_id_fails(t: &Test) {
    t.call(&["delete", &t.id]).run().fails().says(&say::NO_SUCH_CONTAINER);
}

fn delete_force_of_an_unknown_id_succeeds(t: &Test) {
    t.call(&["delete", "--force", &t.id]).run().ok().no_stdout();
}

fn start_twice_is_refused(t: &Test) {
    let c = t.container().lasting();
    c.create();
    c.start().ok();
    let pid = c.pid();
    c.start().fails().says(&say::START_TWICE);
    assert!(wait::is_alive(pid), "the second start has killed the container");
    assert_eq!(c.status(), "running");
}

fn start_of_a_stopped_container_is_refused(t: &Test) {
    let c = t.container().args(&["true"]);
    c.run_detached();
    c.wait_exit();
    c.start().fails().says(&say::START_STOPPED);
}

fn delete_of_a_running_container_is_refused(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.delete().fails().says(&say::DELETE_RUNNING).names(&c.id);
    assert_eq!(c.status(), "running");
}

fn delete_of_a_created_container_succeeds(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let pid = c.pid();
    c.delete().ok();
    wait::for_exit(pid);
    t.assert_nothing_left();
}

fn delete_force_of_a_running_container_kills_it(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let pid = c.pid();
    c.delete_force().ok().no_stdout();
    assert!(!wait::is_alive(pid), "init outlived delete --force");
    t.assert_nothing_left();
}

fn delete_force_of_a_created_container_succeeds(t: &Test) {
    let c = t.container().lasting();
    c.create();
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn delete_force_kills_every_process_of_the_container(t: &Test) {
    let c = t.container().sh("for i in 1 2 3 4 5; do sleep 1000 & done; echo up > /up; wait");
    c.run_detached();
    c.wait_file("/up");
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn an_id_can_be_used_again_after_delete(t: &Test) {
    let c = t.container().args(&["true"]);
    for _ in 0..3 {
        c.run_detached();
        c.wait_exit();
        c.delete().ok();
    }
}

fn a_second_create_of_an_id_is_refused(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let pid = c.pid();
    let other = t.container().set("/linux/cgroupsPath", json!(format!("/{}-other", t.id)));
    other.write();
    let bundle = other.dir.to_str().unwrap();
    t.call(&["create", "--bundle", bundle, &c.id]).run().fails().says(&say::ID_IN_USE);
    assert_eq!(c.status(), "created");
    assert!(wait::is_alive(pid), "the first container suffered");
    c.start().ok();
    assert!(!t.cgroups().iter().any(|dir| dir.ends_with(format!("{}-other", t.id))));
}

fn of_two_creates_at_once_one_wins(t: &Test) {
    for round in 0..5 {
        let c = t.container().lasting();
        c.write();
        let calls: Vec<_> = (0..3).map(|_| c.bundle_call("create", &[]).spawn()).collect();
        let outputs: Vec<_> = calls.into_iter().map(|call| call.wait()).collect();
        let winners = outputs.iter().filter(|output| output.code == Some(0)).count();
        assert_eq!(winners, 1, "round {round}: {outputs:?}");
        assert_eq!(c.status(), "created");
        c.start().ok();
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
        t.assert_nothing_left();
    }
}

fn kill_ends_with(t: &Test, signal: &str, expected: i32) {
    let c = t.container().lasting();
    c.run_detached();
    c.kill(signal).ok().no_stdout().no_stderr();
    assert_eq!(c.wait_exit(), 128 + expected);
}

fn kill_takes_a_number(t: &Test) {
    kill_ends_with(t, "9", libc::SIGKILL);
}

fn kill_takes_a_bare_name(t: &Test) {
    kill_ends_with(t, "KILL", libc::SIGKILL);
}

fn kill_takes_a_full_name(t: &Test) {
    kill_ends_with(t, "SIGKILL", libc::SIGKILL);
}

fn kill_takes_a_lower_case_name(t: &Test) {
    kill_ends_with(t, "sigkill", libc::SIGKILL);
}

fn kill_without_a_signal_sends_term(t: &Test) {
    let c = t.container().sh(crate::run::TRAPS);
    c.run_detached();
    c.wait_file("/up");
    c.call("kill", &[]).run().ok();
    assert_eq!(c.wait_exit(), 7);
    assert_eq!(c.read("/got"), "TERM\n");
}

fn kill_of_a_created_container_stops_it(t: &Test) {
    let c = t.container().sh("echo ran > /out");
    c.create();
    c.kill("KILL").ok();
    c.wait_exit();
    c.wait_status("stopped");
    assert!(fs::metadata(c.path("/out")).is_err());
    c.delete().ok();
}

fn kill_of_a_stopped_container_is_refused(t: &Test) {
    let c = t.container().args(&["true"]);
    c.run_detached();
    c.wait_exit();
    c.wait_status("stopped");
    c.kill("KILL").fails().says(&say::NOT_RUNNING);
    // --all says nothing about how many there are (runc's kill.bats).
    t.call(&["kill", "--all", &c.id, "KILL"]).run().ok();
}

fn kill_delivers_the_signal_to_the_program(t: &Test) {
    let c = t.container().sh(crate::run::TRAPS);
    c.run_detached();
    c.wait_file("/up");
    c.kill("USR1").ok();
    assert_eq!(c.wait_exit(), 8);
    assert_eq!(c.read("/got"), "USR1\n");
}

fn kill_takes_a_real_time_signal(t: &Test) {
    let c = t.container().sh("trap 'exit 21' 40; echo up > /up; while :; do sleep 0.05; done");
    c.run_detached();
    c.wait_file("/up");
    c.kill("40").ok();
    assert_eq!(c.wait_exit(), 21);
}

fn kill_all_reaches_every_process(t: &Test) {
    let c = t.container().sh("sleep 1000 & sleep 1000 & echo up > /up; wait");
    c.run_detached();
    c.wait_file("/up");
    t.call(&["kill", "--all", &c.id, "KILL"]).run().ok();
    c.wait_exit();
    c.delete().ok();
    t.assert_nothing_left();
}

fn a_stopped_container_can_be_deleted_while_its_zombie_waits(t: &Test) {
    let c = t.container().args(&["true"]);
    let _hold = reaper::hold();
    c.run_detached();
    wait::for_exit(c.pid());
    assert_eq!(wait::process_state(c.pid()), Some('Z'));
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}

fn a_container_whose_init_dies_is_stopped(t: &Test) {
    let c = t.container().lasting();
    c.create();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    c.wait_exit();
    assert_eq!(c.status(), "stopped");
    c.start().fails();
    c.delete().ok();
    t.assert_nothing_left();
}

fn config_json_may_change_after_create(t: &Test) {
    let c = t
        .container()
        .sh("echo $WHICH > /out; sleep 1000")
        .push("/process/env", json!("WHICH=first"));
    c.create();
    let changed = c.config.to_string().replace("WHICH=first", "WHICH=second");
    fs::write(c.dir.join("config.json"), changed).unwrap();
    c.start().ok();
    assert_eq!(c.wait_file("/out"), "first\n");
    assert_eq!(c.exec(&["sh", "-c", "echo $WHICH"]).ok().stdout, "first\n");
    fs::remove_file(c.dir.join("config.json")).unwrap();
    assert_eq!(c.exec(&["sh", "-c", "echo $WHICH"]).ok().stdout, "first\n");
    c.delete_force().ok();
}

fn start_without_a_process_is_reported(t: &Test) {
    // runtime.md lets create succeed and makes start fail, without effect; runc fails at create.
    let c = t.container().unset("/process");
    let created = c.try_create();
    if t.kind() == Kind::Runc {
        created.fails().names("process");
        t.assert_nothing_left();
        return;
    }
    created.ok();
    c.start().fails().names("process");
    assert_eq!(c.status(), "created");
    c.exec(&["id", "-u"]).ok().prints("0\n");
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    c.delete().ok();
    t.assert_nothing_left();
    t.container().unset("/process").run().fails().names("process");
    t.assert_nothing_left();
}

fn annotations_appear_in_state(t: &Test) {
    let c = t
        .container()
        .lasting()
        .set("/annotations", json!({"org.example.key": "value", "empty": ""}));
    c.create();
    assert_eq!(c.state()["annotations"]["org.example.key"], json!("value"));
    assert_eq!(c.state()["annotations"]["empty"], json!(""));
}

fn created_is_a_time_in_utc(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let state = c.state();
    let created = state["created"].as_str().unwrap();
    assert!(crate::printing::is_rfc3339(created) && created.ends_with('Z'), "created is {created}");
    assert_eq!(c.state()["created"], state["created"], "the time changes");
}

fn containers_with_different_roots_are_separate(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let other = t.path("other-root");
    fs::create_dir(&other).unwrap();
    t.bare_call(&["--root", other.to_str().unwrap(), "state", &c.id])
        .run()
        .fails()
        .says(&say::NO_SUCH_CONTAINER);
}

fn an_orphan_in_the_container_dies_with_it(t: &Test) {
    let c = t.container().sh("(setsid sleep 1000 &) ; echo up > /up");
    c.run_detached();
    c.wait_file("/up");
    c.wait_exit();
    c.delete().ok();
    t.assert_nothing_left();
}
