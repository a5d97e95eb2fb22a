//! The runtime itself dies, or two of its commands meet: afterwards `delete --force` finds all there is.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, probe, wait};

cases![
    create_killed_at_every_system_call,
    run_killed_at_every_system_call,
    start_killed_at_every_system_call,
    delete_killed_at_every_system_call,
    exec_killed_at_every_system_call,
    a_process_of_exec_killed_at_every_system_call,
    commands_on_a_running_container_killed_at_every_system_call,
    update_killed_while_it_joins_a_hierarchy,
    create_killed_while_its_hook_runs,
    create_killed_while_its_hook_runs_among_the_hosts_processes,
    delete_force_waits_for_a_create,
    delete_force_at_any_moment_of_a_create,
    an_init_killed_by_a_hook_is_explained,
];

/// A container in whose state directory nothing is shared with others.
fn container(t: &Test) -> Container<'_> {
    let c = t.container().lasting();
    c.write();
    c
}

/// The call by the probe, which kills it before its `count`th system call after the first with this number.
/// Returns whether it was killed, and had not ended before.
#[track_caller]
fn killed_at(t: &Test, args: &[&str], count: u32, number: i64) -> bool {
    let probe = probe::path(t);
    let (count, number) = (count.to_string(), number.to_string());
    let words = [probe.to_str().unwrap(), "kill-at", &count, &number];
    let output = t.call(args).by(&words).run();
    match output.code {
        Some(0) => false,
        Some(1) => true,
        _ => panic!("{output}"),
    }
}

#[track_caller]
fn nothing_left(c: &Container<'_>, command: &str, count: u32) {
    let output = c.delete_force();
    assert!(output.code == Some(0), "{command} killed at its call {count}: {output}");
    let left = c.test.leftovers();
    assert!(
        left.is_empty(),
        "{command} killed at its call {count} left behind: {}",
        left.join("; ")
    );
}

/// Every step from the first trace on, the making of the state directory.
fn every_step_of(t: &Test, command: &[&str]) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    let c = container(t);
    let mut args = command.to_vec();
    args.extend(["--bundle", c.dir.to_str().unwrap(), &c.id]);
    let steps = (0..).find(|count| {
        let killed = killed_at(t, &args, *count, libc::SYS_mkdirat);
        nothing_left(&c, command[0], *count);
        !killed
    });
    assert!(steps > Some(20), "{command:?} makes only {steps:?} calls");
    t.call(&args).run().ok();
    c.delete_force().ok();
}

fn create_killed_at_every_system_call(t: &Test) {
    every_step_of(t, &["create"]);
}

fn run_killed_at_every_system_call(t: &Test) {
    every_step_of(t, &["run", "--detach"]);
}

fn start_killed_at_every_system_call(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    let c = container(t);
    for count in 0.. {
        c.create();
        let killed = killed_at(t, &["start", &c.id], count, libc::SYS_flock);
        // Started or not, it is one of the two, and the state says which.
        let status = c.status();
        assert!(status == "created" || status == "running", "{count}: {status}");
        if status == "created" {
            // It may have got its byte before the kill, and become the program since.
            let started = c.start();
            if started.code != Some(0) {
                assert!(started.stderr.contains("already running"), "{count}: {started}");
                assert_eq!(c.status(), "running", "{count}");
            }
        }
        nothing_left(&c, "start", count);
        if !killed {
            assert!(count > 5, "start makes only {count} calls");
            break;
        }
    }
}

fn delete_killed_at_every_system_call(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    let c = container(t);
    for count in 0.. {
        c.run_detached();
        let killed = killed_at(t, &["delete", "--force", &c.id], count, libc::SYS_flock);
        nothing_left(&c, "delete", count);
        if !killed {
            assert!(count > 5, "delete makes only {count} calls");
            break;
        }
    }
}

fn exec_killed_at_every_system_call(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    exec_killed(t, &container(t));
    // The runtime sets its limits, for which it waits.
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]);
    let c = t.container().lasting().user_namespace(100_000).set("/process/rlimits", limit);
    c.write();
    exec_killed(t, &c);
}

#[track_caller]
fn exec_killed(t: &Test, c: &Container<'_>) {
    c.run_detached();
    for count in 0.. {
        let killed = killed_at(t, &["exec", &c.id, "true"], count, libc::SYS_pidfd_open);
        wait::until(&format!("nothing is left of the exec killed at its call {count}"), || {
            let pids = t.call(&["ps", "--format", "json", &c.id]).run().ok().json();
            (pids == json!([c.pid()])).then_some(())
        });
        if !killed {
            assert!(count > 20, "exec makes only {count} calls");
            break;
        }
    }
    c.exec(&["true"]).ok();
}

/// One that never becomes the program is a failure of `exec`, at whatever moment it ends.
fn a_process_of_exec_killed_at_every_system_call(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime's child does");
    let c = container(t);
    c.run_detached();
    dies_early(t, &["exec", &c.id, "true"], &[]);
    // A caller that wants to hear of no child hears of this one.
    let ignoring = ["/bin/sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"];
    dies_early(t, &["exec", "--detach", &c.id, "true"], &ignoring);
    let pid_file = t.path("exec.pid");
    fs::write(&pid_file, "old").unwrap();
    let name = pid_file.to_str().unwrap();
    t.call(&["exec", "--detach", "--pid-file", name, &c.id, "/missing"]).run().exec_fails();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), "old");
    dies_early(t, &["exec", "--detach", "--pid-file", name, &c.id, "true"], &[]);
}

/// The call fails if its child is killed before any of its own calls up to execve.
#[track_caller]
fn dies_early(t: &Test, args: &[&str], by: &[&str]) {
    let probe = probe::path(t);
    for count in 0.. {
        let count_text = count.to_string();
        let mut words = vec![probe.to_str().unwrap(), "kill-child-at", &count_text];
        words.extend(by);
        let output = t.call(args).by(&words).run();
        if !output.stdout.contains("killed") {
            output.ok();
            assert!(count > 80, "the child makes only {count} calls");
            break;
        }
        assert!(output.code == Some(255), "killed at call {count}: {output}");
        assert!(output.stderr.contains("died before"), "killed at call {count}: {output}");
    }
}

/// Whatever they had done, the next command finds a container it can work with.
fn commands_on_a_running_container_killed_at_every_system_call(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    t.need_controller("pids");
    let c = t.container().lasting();
    c.run_detached();
    let id = c.id.as_str();
    for command in [
        &["pause", id][..],
        &["resume", id],
        &["kill", "--all", id, "CONT"],
        &["update", "--pids-limit", "100", id],
    ] {
        for count in 0.. {
            let killed = match command[0] {
                "resume" => {
                    c.call("pause", &[]).run().ok();
                    killed_at(t, command, count, libc::SYS_execve)
                }
                _ => killed_at(t, command, count, libc::SYS_execve),
            };
            let status = c.status();
            assert!(status == "running" || status == "paused", "{command:?} {count}: {status}");
            if status == "paused" {
                c.call("resume", &[]).run().ok();
            }
            if !killed {
                assert!(count > 20, "{command:?} makes only {count} calls");
                break;
            }
        }
        c.exec(&["true"]).ok();
    }
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// On version 1 the container has no cpuset cgroup until it needs one.
fn update_killed_while_it_joins_a_hierarchy(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    t.need_controller("cpuset");
    let c = container(t);
    for count in 0.. {
        c.run_detached();
        let update = ["update", "--cpuset-cpus", "0", &c.id];
        let killed = killed_at(t, &update, count, libc::SYS_mkdir);
        if killed {
            c.exec(&["true"]).ok();
            t.call(&update).run().ok();
            c.expect_limit(("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0"));
            c.exec(&["true"]).ok();
            c.delete_force().ok();
            t.assert_nothing_left();
            c.run_detached();
            assert!(killed_at(t, &update, count, libc::SYS_mkdir));
        }
        nothing_left(&c, "update", count);
        if !killed {
            break;
        }
    }
}

/// A createContainer hook lasts as `create` is killed.
fn killed_in_a_hook(t: &Test, c: &Container<'_>) {
    let up = t.path("up");
    c.write();
    let call = c.bundle_call("create", &[]).spawn();
    wait::for_file(&up);
    call.signal(Signal::SIGKILL);
    call.wait();
    c.delete_force().ok();
    t.assert_nothing_left();
    c.test.call(&["state", &c.id]).run().fails();
}

fn lasting_hook<'t>(t: &Test, c: Container<'t>) -> Container<'t> {
    let up = t.path("up");
    c.hook("createContainer", &format!("echo up > {}; exec sleep 1000", up.display())).lasting()
}

fn create_killed_while_its_hook_runs(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun leave the hook or the cgroup");
    killed_in_a_hook(t, &lasting_hook(t, t.container()));
}

fn create_killed_while_its_hook_runs_among_the_hosts_processes(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun leave the hook or the cgroup");
    // Init's end is not that of the hook here.
    killed_in_a_hook(t, &lasting_hook(t, t.container().without_namespace("pid")));
}

fn delete_force_waits_for_a_create(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun take the directory away");
    let (up, gate) = (t.path("up"), t.path("gate"));
    nix::unistd::mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let c = t
        .container()
        .hook("createRuntime", &format!("echo up > {}; cat {}", up.display(), gate.display()))
        .lasting();
    let create = c.bundle_call("create", &[]).spawn();
    wait::for_file(&up);
    let delete = c.call("delete", &["--force"]).spawn();
    assert_eq!(c.status(), "creating");
    assert!(delete.is_running(), "delete did not wait");
    fs::write(&gate, "go").unwrap();
    create.wait().ok();
    delete.wait().ok();
    c.call("state", &[]).run().fails();
    t.assert_nothing_left();
}

fn delete_force_at_any_moment_of_a_create(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun leave the init");
    let c = container(t);
    for step in 0..40_u64 {
        let create = c.bundle_call("create", &[]).spawn();
        let until = Instant::now() + Duration::from_micros(step * 300);
        while Instant::now() < until && create.is_running() {
            std::hint::spin_loop();
        }
        // Whichever comes first, both succeed.
        c.delete_force().ok();
        create.wait().ok();
        if c.call("state", &[]).run().code == Some(0) {
            assert_eq!(c.status(), "created");
        }
        c.delete_force().ok();
        t.assert_nothing_left();
    }
}

fn an_init_killed_by_a_hook_is_explained(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun say what their pipes said");
    let kill = "kill -9 $(grep -o '\"pid\":[0-9]*' | cut -d: -f2)";
    let c = t.container().hook("createRuntime", kill).lasting();
    let output = c.try_create().fails().names("container init died before it was ready");
    output.one_line().names("signal");
    t.assert_nothing_left();
}
