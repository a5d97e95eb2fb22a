//! exec: another process in a running container.

use std::fs;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, Value, json, say, wait};

cases![
    exec_runs_a_program_in_the_container,
    exec_returns_the_exit_status,
    exec_returns_128_plus_the_signal,
    exec_passes_standard_streams,
    exec_sees_the_namespaces_of_the_container,
    exec_is_in_the_cgroup_of_the_container,
    exec_of_a_missing_program_fails,
    exec_of_a_missing_path_fails,
    exec_of_a_directory_fails,
    exec_of_a_file_that_is_not_executable_fails,
    exec_without_a_program_fails,
    exec_in_an_unknown_container_fails,
    exec_in_a_stopped_container_fails,
    exec_in_a_paused_container_fails,
    exec_ignore_paused_waits_for_resume,
    exec_in_a_created_container_works,
    exec_sets_the_working_directory,
    exec_in_a_missing_working_directory_fails,
    exec_adds_to_the_environment,
    exec_environment_overrides_that_of_the_container,
    exec_uses_the_path_of_the_container,
    exec_sets_home_from_passwd,
    exec_takes_capabilities,
    exec_does_not_make_capabilities_inheritable,
    exec_sets_no_new_privileges,
    exec_keeps_no_new_privileges_of_the_container,
    exec_takes_a_process_file,
    exec_takes_a_process_from_a_pipe,
    exec_waits_for_the_writer_of_a_fifo,
    a_process_file_replaces_everything,
    a_process_file_inherits_the_resource_limits,
    a_process_file_that_is_missing_fails,
    a_process_file_that_is_no_json_fails,
    exec_detached_returns_at_once,
    exec_detached_writes_the_pid_of_its_process,
    a_detached_exec_is_a_child_of_the_caller,
    exec_foreground_writes_a_pid_file,
    exec_preserves_descriptors,
    exec_passes_no_other_descriptors,
    exec_takes_additional_groups,
    exec_forwards_signals,
    exec_goes_into_a_sub_cgroup,
    exec_refuses_a_cgroup_outside_the_container,
    exec_applies_the_seccomp_filter_of_the_container,
    exec_applies_the_resource_limits_of_the_container,
    exec_applies_the_oom_score_of_the_container,
    exec_leaves_nothing_behind,
    both_forms_of_a_flag_may_be_mixed,
    many_execs_at_once,
    an_exec_ends_when_the_container_is_killed,
    exec_joins_the_user_namespace,
];

fn running(t: &Test) -> Container<'_> {
    let c = t.container().lasting();
    c.run_detached();
    c
}

fn exec_runs_a_program_in_the_container(t: &Test) {
    let c = running(t);
    c.exec(&["hostname"]).ok().prints("blackbox\n").no_stderr();
}

fn exec_returns_the_exit_status(t: &Test) {
    let c = running(t);
    for code in [0, 1, 7, 127, 255] {
        c.exec(&["sh", "-c", &format!("exit {code}")]).code(code).no_stdout().no_stderr();
    }
}

fn exec_returns_128_plus_the_signal(t: &Test) {
    let c = running(t);
    for (name, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
        c.exec(&["sh", "-c", &format!("kill -{name} $$")]).code(128 + number);
    }
}

fn exec_passes_standard_streams(t: &Test) {
    let c = running(t);
    let output = c.exec_with(&[], &["sh", "-c", "cat; echo error >&2"]).stdin("input\n").run().ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("input\n", "error\n"));
}

fn exec_sees_the_namespaces_of_the_container(t: &Test) {
    let c = running(t);
    for name in ["pid", "net", "ipc", "uts", "mnt", "user", "cgroup"] {
        let inside = c.exec(&["readlink", &format!("/proc/self/ns/{name}")]).ok();
        let of_init = fs::read_link(format!("/proc/{}/ns/{name}", c.pid())).unwrap();
        assert_eq!(inside.text(), of_init.to_str().unwrap());
    }
}

fn exec_is_in_the_cgroup_of_the_container(t: &Test) {
    let c = running(t);
    c.exec_with(&["--detach", "--pid-file", "pid"], &["sleep", "1000"]).run().ok();
    let pid = fs::read_to_string(t.path("pid")).unwrap();
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(of(&pid), of(&c.pid().to_string()));
    assert!(of(&pid).contains(&c.id));
}

fn exec_of_a_missing_program_fails(t: &Test) {
    let c = running(t);
    c.exec(&["no-such-program"]).exec_fails().says(&say::NOT_IN_PATH).says(&say::EXEC_FAILED);
}

fn exec_of_a_missing_path_fails(t: &Test) {
    let c = running(t);
    c.exec(&["/no/such/program"]).exec_fails().says(&say::NO_SUCH_FILE).names("/no/such/program");
}

fn exec_of_a_directory_fails(t: &Test) {
    let c = running(t);
    let output = c.exec(&["/etc"]).exec_fails().names("/etc");
    let stderr = output.stderr.to_lowercase();
    assert!(stderr.contains("permission denied") || stderr.contains("is a directory"), "{output}");
}

fn exec_of_a_file_that_is_not_executable_fails(t: &Test) {
    let c = running(t);
    c.exec(&["/etc/passwd"]).exec_fails().says(&say::PERMISSION_DENIED).names("/etc/passwd");
}

fn exec_without_a_program_fails(t: &Test) {
    let c = running(t);
    c.exec(&[]).not_ok();
}

fn exec_in_an_unknown_container_fails(t: &Test) {
    t.call(&["exec", &t.id, "true"]).run().exec_fails().says(&say::NO_SUCH_CONTAINER);
}

fn exec_in_a_stopped_container_fails(t: &Test) {
    let c = t.container();
    c.run_detached();
    c.wait_exit();
    c.exec(&["true"]).exec_fails().says(&say::EXEC_STOPPED);
}

fn exec_in_a_paused_container_fails(t: &Test) {
    let c = running(t);
    c.call("pause", &[]).run().ok();
    c.exec(&["true"]).exec_fails().says(&say::EXEC_PAUSED);
    assert_eq!(c.status(), "paused");
}

fn exec_ignore_paused_waits_for_resume(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun has no --ignore-paused");
    let c = running(t);
    c.call("pause", &[]).run().ok();
    let exec = c.exec_with(&["--ignore-paused"], &["echo", "thawed"]).spawn();
    wait::until("the exec is in the container's cgroup", || {
        t.cgroups()
            .iter()
            .any(|dir| {
                fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines().count() > 1
            })
            .then_some(())
    });
    assert!(exec.is_running());
    c.call("resume", &[]).run().ok();
    exec.wait().ok().prints("thawed\n");
}

fn exec_in_a_created_container_works(t: &Test) {
    let c = t.container().lasting();
    c.create();
    c.exec(&["echo", "early"]).ok().prints("early\n");
    assert_eq!(c.status(), "created");
}

fn exec_sets_the_working_directory(t: &Test) {
    let c = running(t);
    c.exec_with(&["--cwd", "/home/user"], &["pwd"]).run().ok().prints("/home/user\n");
    c.exec(&["pwd"]).ok().prints("/\n");
}

fn exec_in_a_missing_working_directory_fails(t: &Test) {
    let c = running(t);
    let output = c.exec_with(&["--cwd", "/no/such/dir"], &["pwd"]).run();
    // runc makes the directory for init only; for exec it is an error in runc, crun makes it.
    if output.code != Some(0) {
        output.exec_fails().names("/no/such/dir");
    }
}

fn exec_adds_to_the_environment(t: &Test) {
    let c = t.container().lasting().push("/process/env", json!("FROM=config"));
    c.run_detached();
    c.exec_with(&["--env", "A=1", "--env", "B=two words"], &["sh", "-c", "echo $A $B $FROM $TERM"])
        .run()
        .ok()
        .prints("1 two words config xterm\n");
}

fn exec_environment_overrides_that_of_the_container(t: &Test) {
    let c = t.container().lasting().push("/process/env", json!("WHO=config"));
    c.run_detached();
    let output = c.exec_with(&["--env", "WHO=exec", "--env", "WHO=last"], &["env"]).run().ok();
    let values: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("WHO=")).collect();
    assert_eq!(values, ["WHO=last"]);
}

fn exec_uses_the_path_of_the_container(t: &Test) {
    let c = t.container().lasting().file("/opt/tool", "#!/bin/sh\necho found\n", 0o755);
    c.run_detached();
    c.exec(&["tool"]).exec_fails();
    c.exec_with(&["--env", "PATH=/opt:/bin"], &["tool"]).run().ok().prints("found\n");
}

fn exec_sets_home_from_passwd(t: &Test) {
    let c = running(t);
    c.exec(&["sh", "-c", "echo $HOME"]).ok().prints("/root\n");
    c.exec_with(&["--user", "1000"], &["sh", "-c", "echo $HOME"]).run().ok().prints("/home/user\n");
    c.exec_with(&["--user", "4242"], &["sh", "-c", "echo $HOME"]).run().ok().prints("/\n");
    c.exec_with(&["--env", "HOME=/mine"], &["sh", "-c", "echo $HOME"]).run().ok().prints("/mine\n");
}

/// A capability mask of a process, by the name of the line in its status.
pub fn mask(status: &str, line: &str) -> u64 {
    let text = status
        .lines()
        .find_map(|found| found.strip_prefix(line))
        .unwrap_or_else(|| panic!("{status}"));
    u64::from_str_radix(text.trim_start_matches(':').trim(), 16).unwrap()
}

fn exec_takes_capabilities(t: &Test) {
    let c = running(t);
    let plain = c.exec(&["cat", "/proc/self/status"]).ok().stdout;
    let more = c
        .exec_with(&["--cap", "CAP_CHOWN", "--cap", "CAP_FOWNER"], &["cat", "/proc/self/status"])
        .run()
        .ok()
        .stdout;
    let added = 1 << 0 | 1 << 3;
    for line in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(mask(&more, line), mask(&plain, line) | added, "{line}");
    }
}

fn exec_does_not_make_capabilities_inheritable(t: &Test) {
    // CVE-2022-29162.
    let c = running(t);
    for flags in [&["--cap", "CAP_CHOWN"][..], &["--cap", "CAP_CHOWN", "--user", "1000"]] {
        let status = c.exec_with(flags, &["cat", "/proc/self/status"]).run().ok().stdout;
        assert_eq!(mask(&status, "CapInh"), 0, "{status}");
        assert_eq!(mask(&status, "CapAmb"), 0, "{status}");
    }
}

fn exec_sets_no_new_privileges(t: &Test) {
    let c = t.container().lasting().set("/process/noNewPrivileges", json!(false));
    c.run_detached();
    c.exec(&["grep", "NoNewPrivs", "/proc/self/status"]).ok().prints("NoNewPrivs:\t0\n");
    c.exec_with(&["--no-new-privs"], &["grep", "NoNewPrivs", "/proc/self/status"])
        .run()
        .ok()
        .prints("NoNewPrivs:\t1\n");
}

fn exec_keeps_no_new_privileges_of_the_container(t: &Test) {
    let c = running(t);
    c.exec(&["grep", "NoNewPrivs", "/proc/self/status"]).ok().prints("NoNewPrivs:\t1\n");
}

/// Writes a process file of the test and returns its path.
fn process_file(t: &Test, process: &Value) -> String {
    let path = t.path("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.display().to_string()
}

/// As a shell gives it: `exec --process <(…)`. The pipe is there, and empty, before the other end has written.
fn exec_takes_a_process_from_a_pipe(t: &Test) {
    use std::io::Write as _;
    let c = running(t);
    let path = t.path("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut pipe = fs::File::options().read(true).write(true).open(&path).unwrap();
    let call = t.call(&["exec", "--process", path.to_str().unwrap(), &c.id]).spawn();
    let process =
        json!({"args": ["echo", "from a pipe"], "env": ["PATH=/bin"], "cwd": "/"}).to_string();
    let (first, second) = process.split_at(10);
    pipe.write_all(first.as_bytes()).unwrap();
    wait::until("the runtime to read the first part", || {
        (!wait::readable(&pipe, std::time::Duration::ZERO)).then_some(())
    });
    pipe.write_all(second.as_bytes()).unwrap();
    drop(pipe);
    call.wait().ok().prints("from a pipe\n");
}

/// And as a script gives it: `mkfifo p; skep exec --process p … & jq … > p`.
fn exec_waits_for_the_writer_of_a_fifo(t: &Test) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let c = running(t);
    let path = t.path("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let call = t.call(&["exec", "--process", path.to_str().unwrap(), &c.id]).spawn();
    let mut pipe = wait::until("the runtime to open the FIFO", || {
        fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()
    });
    let process = json!({"args": ["echo", "from a FIFO"], "env": ["PATH=/bin"], "cwd": "/"});
    std::io::Write::write_all(&mut pipe, process.to_string().as_bytes()).unwrap();
    drop(pipe);
    call.wait().ok().prints("from a FIFO\n");
}

fn exec_takes_a_process_file(t: &Test) {
    let c = running(t);
    let file = process_file(
        t,
        &json!({"terminal": false, "user": {"uid": 1000, "gid": 1000, "additionalGids": [5, 1001]},
                "args": ["sh", "-c", "id -u; id -g; id -G; pwd; echo $A"], "env": ["PATH=/bin", "A=b"], "cwd": "/tmp"}),
    );
    let output = t.call(&["exec", "--process", &file, &c.id]).run().ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["1000", "1000"]);
    let mut groups: Vec<&str> = lines[2].split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["1000", "1001", "5"]);
    assert_eq!(lines[3..], ["/tmp", "b"]);
}

fn a_process_file_replaces_everything(t: &Test) {
    let c = t.container().lasting().push("/process/env", json!("FROM=config"));
    c.run_detached();
    let file = process_file(
        t,
        &json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "echo [$FROM]; grep -E 'CapEff|CapBnd|NoNew' /proc/self/status"],
        "env": ["PATH=/bin"], "cwd": "/"}),
    );
    let output = t.call(&["exec", "-p", &file, &c.id]).run().ok();
    assert!(output.stdout.starts_with("[]\n"), "{output}");
    if t.kind() == Kind::Skep {
        // Absent capabilities are the container's own, as in runc.
        let own = t.call(&["exec", &c.id, "grep", "CapEff", "/proc/self/status"]).run().ok();
        assert_eq!(mask(&output.stdout, "CapEff"), mask(&own.stdout, "CapEff"), "{output}");
    }
}

fn a_process_file_inherits_the_resource_limits(t: &Test) {
    let limits = |soft: u64| json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": 88}]);
    let c = t.container().lasting().set("/process/rlimits", limits(77));
    c.run_detached();
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "ulimit -Sn; ulimit -Hn"],
        "env": ["PATH=/bin"], "cwd": "/"});
    let file = process_file(t, &process);
    t.call(&["exec", "--process", &file, &c.id]).run().ok().prints("77\n88\n");
    process["rlimits"] = limits(66);
    let file = process_file(t, &process);
    t.call(&["exec", "--process", &file, &c.id]).run().ok().prints("66\n88\n");
}

fn a_process_file_that_is_missing_fails(t: &Test) {
    let c = running(t);
    t.call(&["exec", "--process", "/no/such/file", &c.id])
        .run()
        .exec_fails()
        .names("/no/such/file");
}

fn a_process_file_that_is_no_json_fails(t: &Test) {
    let c = running(t);
    fs::write(t.path("bad"), "{\"args\": [").unwrap();
    t.call(&["exec", "--process", t.path("bad").to_str().unwrap(), &c.id]).run().exec_fails();
    fs::write(t.path("bad"), "{\"args\": [], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0}}")
        .unwrap();
    t.call(&["exec", "--process", t.path("bad").to_str().unwrap(), &c.id]).run().exec_fails();
}

fn exec_detached_returns_at_once(t: &Test) {
    let c = running(t);
    c.exec_with(&["--detach"], &["sh", "-c", "echo here > /there; sleep 1000"])
        .run()
        .ok()
        .no_stdout()
        .no_stderr();
    assert_eq!(c.wait_file("/there"), "here\n");
}

fn exec_detached_writes_the_pid_of_its_process(t: &Test) {
    let c = running(t);
    c.exec_with(&["--detach", "--pid-file", "exec.pid"], &["sleep", "999"]).cwd(&t.dir).run().ok();
    let text = fs::read_to_string(t.path("exec.pid")).unwrap();
    let pid: i32 = text.parse().expect("a number and nothing else");
    assert_ne!(pid, c.pid());
    wait::until("the program is sleep 999", || {
        (fs::read(format!("/proc/{pid}/cmdline")).unwrap() == b"sleep\x00999\0").then_some(())
    });
}

fn a_detached_exec_is_a_child_of_the_caller(t: &Test) {
    let c = running(t);
    c.exec_with(&["-d", "--pid-file", "exec.pid"], &["sleep", "999"]).run().ok();
    let pid = fs::read_to_string(t.path("exec.pid")).unwrap().parse().unwrap();
    assert_eq!(crate::run::parent(pid), std::process::id() as i32);
}

fn exec_foreground_writes_a_pid_file(t: &Test) {
    let c = running(t);
    let exec = c.exec_with(&["--pid-file", "exec.pid"], &["sh", "-c", "cat /fifo; exit 3"]);
    nix::unistd::mkfifo(&c.path("/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let exec = exec.spawn();
    let pid: i32 = wait::for_file(&t.path("exec.pid")).parse().unwrap();
    assert!(wait::is_alive(pid));
    wait::write_to_reader(&c.path("/fifo"), "go\n");
    exec.wait().code(3).prints("go\n");
}

fn exec_preserves_descriptors(t: &Test) {
    let c = running(t);
    fs::write(t.path("three"), "third").unwrap();
    fs::write(t.path("four"), "fourth").unwrap();
    let open = |name: &str| fs::File::open(t.path(name)).unwrap().into();
    c.exec_with(&["--preserve-fds", "2"], &["sh", "-c", "cat <&3; cat <&4"])
        .fds(vec![(open("three"), 3), (open("four"), 4)])
        .run()
        .ok()
        .prints("thirdfourth");
}

fn exec_passes_no_other_descriptors(t: &Test) {
    let c = t.container().with_probe().lasting();
    c.run_detached();
    fs::write(t.path("file"), "").unwrap();
    let open = || fs::File::open(t.path("file")).unwrap().into();
    let output = c
        .exec_with(&["--preserve-fds", "1"], &["probe", "fds"])
        .fds(vec![(open(), 3), (open(), 4), (open(), 7), (open(), 100)])
        .run()
        .ok();
    let numbers: Vec<&str> =
        output.stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3"], "{output}");
}

fn exec_takes_additional_groups(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun has no --additional-gids");
    let c = running(t);
    let output = c
        .exec_with(&["--additional-gids", "1001", "--additional-gids", "5"], &["id", "-G"])
        .run()
        .ok();
    let mut groups: Vec<&str> = output.text().split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["0", "1001", "5"]);
}

fn exec_forwards_signals(t: &Test) {
    let c = running(t);
    let exec = c
        .exec_with(
            &[],
            &["sh", "-c", "trap 'exit 33' USR1; echo up > /up; while :; do sleep 0.05; done"],
        )
        .spawn();
    c.wait_file("/up");
    exec.signal(nix::sys::signal::Signal::SIGUSR1);
    exec.wait().code(33);
}

fn exec_goes_into_a_sub_cgroup(t: &Test) {
    t.need_controller("pids");
    let c = running(t);
    let dirs: Vec<_> = t.cgroups().iter().map(|dir| dir.join("sub")).collect();
    for dir in &dirs {
        // A cpuset without cpus takes no process.
        if fs::create_dir(dir).is_ok() {
            for file in ["cpuset.cpus", "cpuset.mems"].map(|name| dir.join(name)) {
                // Version 2 has them only where the controller is on, and takes what is above.
                if fs::exists(&file).unwrap() && t.host.layout == Layout::V1 {
                    let above = dir.parent().unwrap().join(file.file_name().unwrap());
                    fs::write(file, fs::read_to_string(above).unwrap().trim()).unwrap();
                }
            }
        }
    }
    let output = c.exec_with(&["--cgroup", "sub"], &["cat", "/proc/self/cgroup"]).run().ok();
    assert!(output.stdout.contains(&format!("/{}/sub\n", c.id)), "{output}");
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn exec_refuses_a_cgroup_outside_the_container(t: &Test) {
    let c = running(t);
    for path in ["../..", "/../../", "sub/../../..", "no-such-cgroup"] {
        let output = c.exec_with(&["--cgroup", path], &["cat", "/proc/self/cgroup"]).run();
        if output.code == Some(0) {
            assert!(
                output.stdout.lines().all(|line| line.contains(&c.id) || line.starts_with("0::")),
                "{path} escapes: {output}"
            );
        } else {
            output.exec_fails();
        }
    }
}

fn exec_applies_the_seccomp_filter_of_the_container(t: &Test) {
    let c = t.container().lasting().set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}),
    );
    c.run_detached();
    let output = c.exec(&["mkdir", "/new"]).code(1);
    assert!(output.stderr.to_lowercase().contains("not supported"), "{output}");
    c.exec(&["grep", "Seccomp:", "/proc/self/status"]).ok().prints("Seccomp:\t2\n");
}

fn exec_applies_the_resource_limits_of_the_container(t: &Test) {
    let c = t
        .container()
        .lasting()
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]));
    c.run_detached();
    c.exec(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]).ok().prints("77\n88\n");
}

fn exec_applies_the_oom_score_of_the_container(t: &Test) {
    let c = t.container().lasting().set("/process/oomScoreAdj", json!(321));
    c.run_detached();
    c.exec(&["cat", "/proc/self/oom_score_adj"]).ok().prints("321\n");
}

fn exec_leaves_nothing_behind(t: &Test) {
    let c = running(t);
    let before: Vec<_> =
        fs::read_dir(t.root.join(&c.id)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    c.exec(&["true"]).ok();
    c.exec(&["false"]).code(1);
    c.exec(&["no-such-program"]).exec_fails();
    let after: Vec<_> =
        fs::read_dir(t.root.join(&c.id)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after, "files in the state directory");
    let pids = t.call(&["ps", "--format", "json", &c.id]).run().ok();
    if t.kind() != Kind::Crun {
        assert_eq!(pids.json(), json!([c.pid()]));
    }
}

fn both_forms_of_a_flag_may_be_mixed(t: &Test) {
    let c = running(t);
    c.exec_with(&["--env", "A=1", "-e", "B=2", "-env=A=3"], &["sh", "-c", "echo $A$B"])
        .run()
        .ok()
        .prints("32\n");
}

fn many_execs_at_once(t: &Test) {
    let c = running(t);
    let calls: Vec<_> = (0..20)
        .map(|n| c.exec_with(&[], &["sh", "-c", &format!("echo {n}; exit {n}")]).spawn())
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        call.wait().code(n as i32).prints(&format!("{n}\n"));
    }
}

fn an_exec_ends_when_the_container_is_killed(t: &Test) {
    let c = running(t);
    let exec = c.exec_with(&[], &["sh", "-c", "echo up > /up; sleep 1000"]).spawn();
    c.wait_file("/up");
    c.kill("KILL").ok();
    exec.wait().code(128 + libc::SIGKILL);
}

fn exec_joins_the_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = t.container().lasting().user_namespace(100_000);
    c.run_detached();
    c.exec(&["cat", "/proc/self/uid_map"]).ok();
    c.exec_with(&["--detach", "--user", "7", "--pid-file", "pid"], &["sleep", "1000"]).run().ok();
    let pid = fs::read_to_string(t.path("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100007\t100007\t100007\t100007\n"), "{status}");
}
