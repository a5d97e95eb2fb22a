//! pause and resume.

use std::fs;
use std::time::Duration;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, say, wait};

cases![
    pause_freezes_the_container_and_resume_thaws_it,
    pause_of_a_stopped_container_is_refused,
    pause_of_a_created_container,
    resume_of_a_running_container_is_refused,
    kill_of_a_paused_container_works_after_resume,
    delete_force_of_a_paused_container_succeeds,
    delete_force_of_a_container_that_somebody_else_has_frozen,
    delete_force_of_a_container_that_somebody_else_thaws,
];

fn counter(c: &crate::harness::Container<'_>) -> String {
    fs::read_to_string(c.path("/count")).unwrap_or_default()
}

fn pause_freezes_the_container_and_resume_thaws_it(t: &Test) {
    let c =
        t.container().sh("i=0; while :; do i=$((i+1)); echo $i > /tmp/n; mv /tmp/n /count; done");
    c.run_detached();
    c.wait_file("/count");
    c.call("pause", &[]).run().ok().no_stdout();
    assert_eq!(c.status(), "paused");
    let before = counter(&c);
    assert!(
        wait::until_within(Duration::from_millis(100), || (counter(&c) != before).then_some(()))
            .is_none(),
        "a paused container goes on"
    );
    c.call("resume", &[]).run().ok().no_stdout();
    assert_eq!(c.status(), "running");
    wait::until("the container goes on", || (counter(&c) != before).then_some(()));
}

fn pause_of_a_stopped_container_is_refused(t: &Test) {
    let c = t.container().args(&["true"]);
    c.run_detached();
    c.wait_exit();
    c.wait_status("stopped");
    c.call("pause", &[]).run().fails().says(&say::NOT_RUNNING);
}

fn pause_of_a_created_container(t: &Test) {
    // runc allows it, and resume goes back to created.
    let c = t.container().lasting();
    c.create();
    c.call("pause", &[]).run().ok();
    assert_eq!(c.status(), "paused");
    c.call("resume", &[]).run().ok();
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.status(), "running");
}

fn resume_of_a_running_container_is_refused(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.call("resume", &[]).run().fails().says(&say::NOT_PAUSED);
    assert_eq!(c.status(), "running");
}

fn kill_of_a_paused_container_works_after_resume(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.call("pause", &[]).run().ok();
    c.kill("KILL").ok();
    // v1: the signal may wait for the thaw; resume may find the container gone already.
    c.call("resume", &[]).run();
    assert_eq!(c.wait_exit(), 128 + libc::SIGKILL);
}

fn delete_force_of_a_paused_container_succeeds(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.call("pause", &[]).run().ok();
    let pid = c.pid();
    c.delete_force().ok();
    assert!(!wait::is_alive(pid));
    t.assert_nothing_left();
}

/// In a version 1 cgroup that is not the container's.
fn delete_force_of_a_container_that_somebody_else_has_frozen(t: &Test) {
    t.need(t.kind() == Kind::Skep, "theirs stay frozen");
    t.need_layout(Layout::V1);
    t.need_controller("freezer");
    let name = format!("/{}-frozen", t.container().id);
    let file = |file: &str| t.host.v1("freezer", &name, file);
    let directory = file("");
    fs::create_dir(&directory).unwrap();
    let c = t.container().sh("sleep 1000 & echo > /up; exec sleep 1000");
    c.run_detached();
    c.wait_file("/up");
    let others = t.container().lasting();
    others.run_detached();
    let all = fs::read_to_string(t.host.v1("freezer", &c.id, "cgroup.procs")).unwrap();
    assert_eq!(all.lines().count(), 2, "{all}");
    for pid in all.lines().chain([others.pid().to_string().as_str()]) {
        fs::write(file("cgroup.procs"), pid).unwrap();
    }
    fs::write(file("freezer.state"), "FROZEN").unwrap();
    let deleted = c.delete_force();
    let left = fs::read_to_string(file("cgroup.procs")).unwrap();
    fs::write(file("freezer.state"), "THAWED").unwrap();
    deleted.ok().no_stdout();
    // The other one is not this container's.
    assert_eq!(left, format!("{}\n", others.pid()));
    others.delete_force().ok();
    fs::remove_dir(directory).unwrap();
    t.assert_nothing_left();
}

/// And that cannot be taken back, for its own freezer is gone.
fn delete_force_of_a_container_that_somebody_else_thaws(t: &Test) {
    t.need_layout(Layout::V1);
    t.need_controller("freezer");
    let c = t.container().lasting();
    c.run_detached();
    let name = format!("/{}-frozen", c.id);
    let file = |file: &str| t.host.v1("freezer", &name, file);
    let directory = file("");
    fs::create_dir(&directory).unwrap();
    fs::write(file("cgroup.procs"), c.pid().to_string()).unwrap();
    fs::remove_dir(t.host.v1("freezer", &c.id, "")).unwrap();
    fs::write(file("freezer.state"), "FROZEN").unwrap();
    let delete = c.call("delete", &["--force"]).spawn();
    // For longer than it takes where nothing keeps the process.
    let ended = || (!delete.is_running()).then_some(());
    let gave_up = wait::until_within(Duration::from_millis(600), ended).is_some();
    fs::write(file("freezer.state"), "THAWED").unwrap();
    let output = delete.wait();
    assert!(!gave_up, "{output}");
    output.ok();
    wait::until("the cgroup is empty", || fs::remove_dir(&directory).ok());
    t.assert_nothing_left();
}
