//! Several commands on one container at the same moment: each has its answer, and the container is one thing or another.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, Value, json, say, wait};

cases![
    of_several_starts_at_once_one_wins,
    several_forced_deletes_at_once_all_succeed,
    of_several_deletes_at_once_one_finds_the_container,
    several_updates_at_once_leave_a_whole_state,
    an_exec_that_meets_a_delete_ends,
    pause_and_resume_at_once_leave_one_of_the_two,
    a_foreground_run_reaps_what_it_adopts,
    a_create_that_fails_leaves_another_in_its_cgroup_alone,
    delete_leaves_another_in_its_cgroup_alone,
    delete_leaves_another_that_is_being_created_alone,
    delete_does_not_take_a_stopped_container_for_an_owner,
    delete_is_not_stopped_by_a_broken_entry,
    a_create_that_fails_in_a_cgroup_it_found_ends_its_own,
    kill_all_of_a_stopped_container_leaves_another_in_its_cgroup_alone,
    kill_from_inside_of_the_cgroup_does_not_stop_itself,
];

const ROUNDS: usize = 5;

/// The same call several times at once.
fn all(c: &Container<'_>, count: usize, command: &str, flags: &[&str]) -> Vec<Output> {
    let calls: Vec<_> = (0..count).map(|_| c.call(command, flags).spawn()).collect();
    calls.into_iter().map(super::harness::Running::wait).collect()
}

fn of_several_starts_at_once_one_wins(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun start it twice, or say nothing");
    let c = t.container().lasting();
    for _ in 0..ROUNDS {
        c.create();
        let (won, lost): (Vec<_>, Vec<_>) =
            all(&c, 4, "start", &[]).into_iter().partition(|output| output.code == Some(0));
        assert_eq!(won.len(), 1);
        for output in lost {
            output.fails().says(&say::START_TWICE).one_line();
        }
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
    }
    t.assert_nothing_left();
}

fn several_forced_deletes_at_once_all_succeed(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun stumble over each other");
    let c = t.container().lasting();
    for _ in 0..ROUNDS {
        c.run_detached();
        for output in all(&c, 4, "delete", &["--force"]) {
            output.ok();
        }
        t.assert_nothing_left();
    }
}

fn of_several_deletes_at_once_one_finds_the_container(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun stumble over each other");
    let c = t.container();
    for _ in 0..ROUNDS {
        c.run_detached();
        c.wait_exit();
        let (won, lost): (Vec<_>, Vec<_>) =
            all(&c, 4, "delete", &[]).into_iter().partition(|output| output.code == Some(0));
        assert_eq!(won.len(), 1);
        for output in lost {
            output.fails().says(&say::NO_SUCH_CONTAINER).one_line();
        }
        t.assert_nothing_left();
    }
}

/// On version 1 the first of them joins one more hierarchy, which the state has to know.
fn several_updates_at_once_leave_a_whole_state(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the state file is skep's");
    t.need_controller("cpuset");
    let c = t.container().lasting();
    for _ in 0..ROUNDS {
        c.run_detached();
        let state = t.root.join(&c.id).join("state.json");
        let calls: Vec<_> =
            (0..8).map(|_| c.call("update", &["--cpuset-cpus", "0"]).spawn()).collect();
        for call in calls {
            let _whole: Value = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
            call.wait().ok();
        }
        c.expect_limit(("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0"));
        c.exec(&["grep", "-c", &c.id, "/proc/self/cgroup"]).ok();
        c.delete_force().ok();
        t.assert_nothing_left();
    }
}

fn an_exec_that_meets_a_delete_ends(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun stumble over each other");
    let c = t.container().lasting();
    for _ in 0..ROUNDS * 4 {
        c.run_detached();
        let exec = c.exec_with(&[], &["sleep", "1000"]).spawn();
        let delete = c.call("delete", &["--force"]).spawn();
        delete.wait().ok();
        let output = exec.wait();
        // Killed with the others, or come too late.
        assert!(matches!(output.code, Some(137 | 255)), "{output}");
        if output.code == Some(255) {
            output.one_line();
        }
        t.assert_nothing_left();
    }
}

fn pause_and_resume_at_once_leave_one_of_the_two(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun stumble over each other");
    let c = t.container().lasting();
    c.run_detached();
    for _ in 0..ROUNDS * 2 {
        let calls =
            ["pause", "resume", "pause", "resume"].map(|command| c.call(command, &[]).spawn());
        for call in calls {
            let output = call.wait();
            if output.code != Some(0) {
                output.fails().one_line();
            }
        }
        if c.status() == "paused" {
            c.call("resume", &[]).run().ok();
        }
        c.exec(&["true"]).ok();
    }
}

/// With the host's pids an orphan of the container comes to the runtime, which is its subreaper.
fn a_foreground_run_reaps_what_it_adopts(t: &Test) {
    let c = t.container().without_namespace("pid").sh("(sh -c 'echo $$ > /orphan' &); cat /fifo");
    nix::unistd::mkfifo(&c.path("/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = c.spawn();
    let orphan: i32 = c.wait_file("/orphan").trim().parse().unwrap();
    wait::until("the orphan is reaped", || wait::process_state(orphan).is_none().then_some(()));
    wait::write_to_reader(&c.path("/fifo"), "go");
    run.wait().ok();
}

/// Whoever made the cgroup: what was started in it by another create is not the failing one's to kill.
fn a_create_that_fails_leaves_another_in_its_cgroup_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun clear the cgroup");
    let path = format!("/{}-shared", t.id);
    let good = t.container().lasting().set("/linux/cgroupsPath", json!(path));
    let bad = t.container().lasting().set("/linux/cgroupsPath", json!(path));
    let bad = bad.mount("/x", "tmpfs", "tmpfs", &["no-such-option"]);
    for _ in 0..ROUNDS * 2 {
        let creates = [good.bundle_call("create", &[]), bad.bundle_call("create", &[])];
        let [first, second] = creates.map(|call| call.spawn());
        let created = first.wait().code == Some(0);
        second.wait().fails();
        if created {
            assert_eq!(good.status(), "created");
            good.delete_force().ok();
        }
    }
    t.assert_nothing_left();
}

/// Once the first has stopped its cgroup is free, and a second may be created there.
fn delete_leaves_another_in_its_cgroup_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun clear the cgroup");
    let path = format!("/{}-shared", t.id);
    for flags in [&["--force"][..], &[]] {
        let first = t.container().set("/linux/cgroupsPath", json!(path));
        first.run_detached();
        first.wait_exit();
        let second = t.container().lasting().set("/linux/cgroupsPath", json!(path));
        second.create();
        first.call("delete", flags).run().ok();
        second.start().ok();
        second.exec(&["true"]).ok();
        second.delete_force().ok();
        t.assert_nothing_left();
    }
}

/// Neither has a record then: the one because its create was killed, the other not yet.
fn delete_leaves_another_that_is_being_created_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the state directory is skep's");
    let path = format!("/{}-shared", t.id);
    let killed = t.container().set("/linux/cgroupsPath", json!(path));
    let creating = t.container().lasting().set("/linux/cgroupsPath", json!(path));
    creating.create();
    let record = t.root.join(&creating.id).join("state.json");
    let aside = t.path("aside");
    fs::rename(&record, &aside).unwrap();
    let state = t.root.join(&killed.id);
    fs::create_dir(&state).unwrap();
    fs::write(state.join("config.json"), killed.config.to_string()).unwrap();
    killed.delete_force().ok();
    assert!(!state.exists());
    fs::rename(&aside, &record).unwrap();
    creating.start().ok();
    creating.exec(&["true"]).ok();
    // And the last one clears the cgroup.
    fs::remove_file(&record).unwrap();
    creating.delete_force().ok();
    t.assert_nothing_left();
}

/// A container of the host's pids that has ended and left a process in its cgroup; with the pid of that.
fn ended_with_an_orphan<'t>(t: &'t Test, path: &str) -> (Container<'t>, i32) {
    let c = t.container().without_namespace("pid").set("/linux/cgroupsPath", json!(path));
    let c = c.sh("sleep 1000 & echo $! > /orphan");
    c.run_detached();
    c.wait_exit();
    let orphan = c.wait_file("/orphan").trim().parse().unwrap();
    assert!(wait::is_alive(orphan));
    (c, orphan)
}

/// One that has stopped has no process, if its pid namespace was its own: those in the cgroup are the other's.
fn delete_does_not_take_a_stopped_container_for_an_owner(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun clear the cgroup");
    let path = format!("/{}-shared", t.id);
    let stopped = t.container().set("/linux/cgroupsPath", json!(path));
    stopped.run_detached();
    stopped.wait_exit();
    let (c, orphan) = ended_with_an_orphan(t, &path);
    c.delete_force().ok();
    assert!(wait::was_ended(orphan), "nobody will find it any more");
    stopped.delete().ok();
    t.assert_nothing_left();
}

/// Whatever somebody has put into the state directory.
fn delete_is_not_stopped_by_a_broken_entry(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the state directory is skep's");
    let path = format!("/{}-shared", t.id);
    let junk = t.root.join("junk");
    fs::create_dir(&junk).unwrap();
    let (config, state) = (junk.join("config.json"), junk.join("state.json"));
    let mode = nix::sys::stat::Mode::S_IRWXU;
    for broken in ["directory", "fifo", "link", "device"] {
        match broken {
            "directory" => [&config, &state].map(|file| fs::create_dir(file).unwrap()),
            "fifo" => [&config, &state].map(|file| nix::unistd::mkfifo(file, mode).unwrap()),
            "link" => {
                [&config, &state].map(|file| std::os::unix::fs::symlink("/dev/zero", file).unwrap())
            }
            _ => [&config, &state].map(|file| {
                let (kind, zero) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::makedev(1, 5));
                nix::sys::stat::mknod(file, kind, mode, zero).unwrap();
            }),
        };
        let (c, orphan) = ended_with_an_orphan(t, &path);
        let output = c.delete_force();
        for file in [&config, &state] {
            fs::remove_file(file).or_else(|_| fs::remove_dir(file)).unwrap();
        }
        output.ok();
        assert!(wait::was_ended(orphan), "{broken}");
    }
    fs::remove_dir(&junk).unwrap();
    t.assert_nothing_left();
}

/// What was there stays, and what the failed container has begun in there does not.
fn a_create_that_fails_in_a_cgroup_it_found_ends_its_own(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun clear the cgroup");
    let name = format!("{}-found", t.id);
    let roots = t.host.cgroup_roots();
    // In some of the hierarchies, then in all.
    for count in [1, roots.len()] {
        let found: Vec<_> = roots.iter().rev().take(count).map(|root| root.join(&name)).collect();
        for directory in &found {
            fs::create_dir(directory).unwrap();
        }
        let pid = t.path("daemon");
        let daemon = "exec > /dev/null 2>&1 < /dev/null; setsid sleep 1000 & echo $!";
        let c = t
            .container()
            .without_namespace("pid")
            .set("/linux/cgroupsPath", json!(format!("/{name}")))
            .hook("createContainer", &format!("({daemon} >&3) 3> {}", pid.display()))
            .hook("createContainer", "exit 1");
        c.try_create().fails().names("createContainer");
        let daemon: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        assert!(wait::was_ended(daemon), "{daemon} is left");
        let mut left = t.cgroups();
        left.sort();
        let mut expected = found.clone();
        expected.sort();
        assert_eq!(left, expected);
        for directory in &found {
            fs::remove_dir(directory).unwrap();
        }
    }
    t.assert_nothing_left();
}

/// It has no processes of its own any more.
fn kill_all_of_a_stopped_container_leaves_another_in_its_cgroup_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun clear the cgroup");
    let path = format!("/{}-shared", t.id);
    let stopped = t.container().set("/linux/cgroupsPath", json!(path));
    stopped.run_detached();
    stopped.wait_exit();
    let c = t.container().lasting().set("/linux/cgroupsPath", json!(path));
    c.run_detached();
    stopped.call("kill", &["--all"]).run();
    t.call(&["kill", "--all", &stopped.id, "KILL"]).run().ok();
    c.exec(&["true"]).ok();
    c.delete_force().ok();
    stopped.delete().ok();
    t.assert_nothing_left();
}

/// As a curious administrator's shell may be.
fn kill_from_inside_of_the_cgroup_does_not_stop_itself(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc stops itself");
    let c = t.container().lasting();
    c.run_detached();
    let mut join = "set -e; ".to_owned();
    for directory in t.cgroups() {
        join.push_str(&format!("echo $$ > {}/cgroup.procs; ", directory.display()));
    }
    join.push_str("exec \"$0\" \"$@\"");
    t.call(&["kill", "--all", &c.id, "CONT"]).by(&["sh", "-c", &join]).run().ok();
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    t.assert_nothing_left();
}
