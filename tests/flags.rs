//! Every flag of runc 1.5 and of crun that callers use is known, in its place and with its value.

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, say};

cases![
    every_global_flag_is_known,
    every_flag_of_create_is_known,
    every_flag_of_run_is_known,
    every_flag_of_exec_is_known,
    every_flag_of_update_is_known,
    every_flag_of_the_other_commands_is_known,
    every_flag_of_checkpoint_and_restore_is_known,
    flags_of_other_commands_are_unknown,
    the_calls_of_the_engines_are_accepted,
];

fn need_all_flags(t: &Test) {
    t.need(t.kind() == Kind::Skep, "these are the flags of runc 1.5 and crun together");
}

/// Calls with each flag alone and expects the complaint about the id or the bundle, not about the flag.
#[track_caller]
fn known(t: &Test, command: &[&str], flags: &[&[&str]], operands: &[&str], complaint: &str) {
    for flag in flags {
        let call = [command, flag, operands].concat();
        let output = t.call(&call).run().not_ok();
        assert!(output.stderr.contains(complaint), "{flag:?}: {output}");
    }
}

fn every_global_flag_is_known(t: &Test) {
    need_all_flags(t);
    let log = t.path("log").display().to_string();
    let flags: [&[&str]; 14] = [
        &["--debug"],
        &["--debug=true"],
        &["--log", &log],
        &["--log-format", "text"],
        &["--log-format=json"],
        &["--log-level", "debug"],
        &["--log-level=error"],
        &["--systemd-cgroup=false"],
        &["--cgroup-manager", "cgroupfs"],
        &["--cgroup-manager=disabled"],
        &["--rootless", "auto"],
        &["--rootless=true"],
        &["--criu", "criu"],
        &["--systemd-cgroup"],
    ];
    for flag in flags {
        let call = [flag, &["state", "no-such-id"][..]].concat();
        t.call(&call).run().fails().says(&say::NO_SUCH_CONTAINER);
    }
}

const CREATE: [&[&str]; 10] = [
    &["--config", "/no/such/config"],
    &["-f", "/no/such/config"],
    &["--console-socket", "/s"],
    &["--pidfd-socket", "/s"],
    &["--pid-file", "/p"],
    &["--no-pivot"],
    &["--no-new-keyring"],
    &["--preserve-fds", "0"],
    &["--no-subreaper"],
    &["-no-subreaper=true"],
];

fn every_flag_of_create_is_known(t: &Test) {
    need_all_flags(t);
    known(t, &["create", "--bundle", "/no/such"], &CREATE, &["id"], "/no/such");
}

fn every_flag_of_run_is_known(t: &Test) {
    need_all_flags(t);
    known(t, &["run", "--bundle", "/no/such"], &CREATE, &["id"], "/no/such");
    let own: [&[&str]; 3] = [&["--detach"], &["-d"], &["--keep"]];
    known(t, &["run", "-b", "/no/such"], &own, &["id"], "/no/such");
}

fn every_flag_of_exec_is_known(t: &Test) {
    need_all_flags(t);
    let flags: [&[&str]; 29] = [
        &["--console-socket", "/s"],
        &["--pidfd-socket", "/s"],
        &["--cwd", "/"],
        &["--env", "A=b"],
        &["-e", "A=b"],
        &["--tty"],
        &["-t"],
        &["--user", "1:1"],
        &["-u", "1"],
        &["--additional-gids", "1"],
        &["-g", "1"],
        &["--process", "/p"],
        &["-p", "/p"],
        &["--detach"],
        &["-d"],
        &["--pid-file", "/p"],
        &["--process-label", "l"],
        &["--apparmor", "p"],
        &["--no-new-privs"],
        &["--cap", "CAP_KILL"],
        &["-c", "CAP_KILL"],
        &["--preserve-fds", "0"],
        &["--cgroup", "sub"],
        &["--cgroup", "memory,cpu:sub"],
        &["--ignore-paused"],
        &["--env", "A=b", "--env", "C=d"],
        &["--cap", "CAP_KILL", "--cap", "CAP_CHOWN"],
        &["-dt"],
        &["-td"],
    ];
    known(t, &["exec"], &flags, &["no-such-id", "true"], "does not exist");
}

fn every_flag_of_update_is_known(t: &Test) {
    need_all_flags(t);
    let flags: [&[&str]; 20] = [
        &["--resources", "-"],
        &["-r", "-"],
        &["--blkio-weight", "100"],
        &["--cpu-period", "100000"],
        &["--cpu-quota", "100000"],
        &["--cpu-burst", "1000"],
        &["--cpu-share", "100"],
        &["--cpu-rt-period", "1000000"],
        &["--cpu-rt-runtime", "950000"],
        &["--cpuset-cpus", "0"],
        &["--cpuset-mems", "0"],
        &["--kernel-memory", "64m"],
        &["--kernel-memory-tcp", "64m"],
        &["--memory", "64m"],
        &["--memory-reservation", "64m"],
        &["--memory-swap", "-1"],
        &["--pids-limit", "10"],
        &["--l3-cache-schema", "L3:0=f"],
        &["--mem-bw-schema", "MB:0=10"],
        &["--cpu-idle", "1"],
    ];
    known(t, &["update"], &flags, &["no-such-id"], "does not exist");
}

fn every_flag_of_the_other_commands_is_known(t: &Test) {
    need_all_flags(t);
    let one = ["no-such-id"];
    known(t, &["kill"], &[&["--all"], &["-a"]], &["no-such-id", "TERM"], "does not exist");
    known(t, &["ps"], &[&["--format", "json"], &["-f", "table"]], &one, "does not exist");
    let events: [&[&str]; 3] = [&["--interval", "5s"], &["--interval=1m30s"], &["--stats"]];
    known(t, &["events"], &events, &one, "does not exist");
    known(t, &["state"], &[&[]], &one, "does not exist");
    known(t, &["delete"], &[&[]], &one, "does not exist");
    for flags in [&["--force"][..], &["-f"]] {
        t.call(&[&["delete"], flags, &["no-such-id"]].concat()).run().ok();
    }
    for flags in [&["--format", "table"][..], &["-f=json"], &["--quiet"], &["-q"]] {
        t.call(&[&["list"], flags].concat()).run().ok();
    }
}

fn every_flag_of_checkpoint_and_restore_is_known(t: &Test) {
    need_all_flags(t);
    let both = [
        "--image-path=i --work-path=w --tcp-established --ext-unix-sk --shell-job --file-locks --lazy-pages",
        "--manage-cgroups-mode=soft --empty-ns=network --auto-dedup --network-lock=nftables",
    ];
    let checkpoint = [
        "--parent-path=p --leave-running --leave-running --tcp-skip-in-flight --link-remap",
        "--status-fd=3 --page-server=host:1 --pre-dump",
    ];
    let restore = [
        "--console-socket=s --bundle=b -b=b --detach -d --pid-file=p --tcp-close --no-pivot",
        "-no-subreaper --no-subreaper --lsm-profile=apparmor:p --lsm-mount-context=c",
    ];
    for (command, own) in [("checkpoint", checkpoint), ("restore", restore)] {
        for flag in both.iter().chain(&own).flat_map(|line| line.split(' ')) {
            let output = t.call(&[command, flag, "no-such-id"]).run().fails().one_line();
            assert!(!output.stderr.contains("flag"), "{command} {flag}: {output}");
        }
    }
}

fn flags_of_other_commands_are_unknown(t: &Test) {
    for call in [
        ["start", "--bundle", "/b", "id"],
        ["state", "--force", "x", "id"],
        ["create", "--detach", "x", "id"],
        ["pause", "--format", "json", "id"],
    ] {
        t.call(&call).run().fails();
    }
    t.assert_nothing_left();
}

fn the_calls_of_the_engines_are_accepted(t: &Test) {
    // As containerd's shim, conmon and CRI-O write them.
    let c = t.container().lasting();
    c.write();
    let path = |name: &str| t.path(name).display().to_string();
    let (root, bundle, log) =
        (t.root.display().to_string(), c.dir.display().to_string(), path("log.json"));
    let globals = ["--root", &root, "--log", &log, "--log-format", "json"];
    let run = |args: &[&str]| t.bare_call(&[&globals, args].concat()).run();
    run(&[
        "create",
        "--bundle",
        &bundle,
        "--pid-file",
        &path("init.pid"),
        "--no-new-keyring",
        &c.id,
    ])
    .ok();
    run(&["start", &c.id]).ok();
    std::fs::write(
        path("process"),
        r#"{"user":{"uid":0,"gid":0},"args":["sleep","100"],"env":["PATH=/bin"],"cwd":"/"}"#,
    )
    .unwrap();
    run(&[
        "exec",
        "--process",
        &path("process"),
        "--detach",
        "--pid-file",
        &path("exec.pid"),
        &c.id,
    ])
    .ok();
    run(&[
        "exec",
        "--pid-file",
        &path("exec2.pid"),
        "--process",
        &path("process"),
        "--detach",
        &c.id,
    ])
    .ok();
    run(&["ps", "--format", "json", &c.id]).ok();
    run(&["pause", &c.id]).ok();
    run(&["resume", &c.id]).ok();
    t.bare_call(&["--root", &root, "update", "--resources", "-", &c.id]).stdin("{}").run().ok();
    run(&["kill", "--all", &c.id, "15"]).ok();
    run(&["kill", &c.id, "9"]).ok();
    c.call("delete", &["--force"]).run().ok();
    assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "");
}
