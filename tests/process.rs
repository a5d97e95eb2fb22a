//! process: ids, environment, working directory, limits, capabilities.

use std::fs;

use crate::exec::mask;
use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json, say, sys};

cases![
    user_and_group_are_set,
    additional_groups_are_set,
    groups_of_the_caller_are_dropped,
    the_default_umask_is_022,
    the_umask_is_set,
    the_umask_of_the_caller_is_not_inherited,
    the_working_directory_is_set,
    a_missing_working_directory_is_made,
    a_relative_working_directory_is_refused,
    a_working_directory_only_the_user_may_enter_works,
    a_working_directory_the_user_may_not_enter_is_refused,
    the_environment_is_exactly_that_of_the_config,
    of_a_variable_given_twice_the_last_wins,
    home_is_set_from_passwd,
    home_of_the_config_is_kept,
    an_empty_home_is_replaced,
    home_without_passwd_is_slash,
    the_path_of_the_container_is_searched,
    the_path_of_the_caller_is_not_searched,
    a_relative_program_is_found_from_the_working_directory,
    the_program_gets_its_arguments_unchanged,
    resource_limits_are_set,
    every_kind_of_resource_limit_is_known,
    an_unlimited_resource_limit_is_accepted,
    a_duplicate_resource_limit_is_refused,
    an_unknown_resource_limit_is_refused,
    the_oom_score_is_set,
    the_oom_score_of_the_caller_is_inherited_when_none_is_given,
    no_new_privileges_is_set_and_unset,
    the_five_capability_sets_are_set,
    without_capabilities_there_are_none,
    a_user_that_is_not_root_keeps_ambient_capabilities,
    a_user_that_is_not_root_has_no_effective_capabilities_without_ambient,
    an_unknown_capability_is_ignored,
    nothing_is_inheritable_by_default,
    null_arrays_are_accepted,
    unknown_properties_are_ignored,
    a_session_of_its_own_is_started,
    signals_ignored_by_the_caller_are_not_ignored_inside,
    the_program_is_dumpable_and_has_no_leftover_prctls,
    standard_streams_belong_to_the_user,
    pid_one_is_the_program,
    the_hostname_of_the_host_is_not_changed,
    the_io_priority_and_scheduler_of_a_plain_config_are_untouched,
    the_parents_cpu_affinity_is_not_inherited,
    a_shebang_script_runs,
    a_missing_interpreter_is_explained,
];

fn user_and_group_are_set(t: &Test) {
    let c = t.container().set("/process/user", json!({"uid": 1000, "gid": 1001}));
    let c = c.sh("id -u; id -g; grep -E '^[UG]id' /proc/self/status");
    c.run().ok().prints("1000\n1001\nUid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\n");
}

fn additional_groups_are_set(t: &Test) {
    let c = t
        .container()
        .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 1001, 70000]}))
        .sh("grep Groups /proc/self/status");
    assert_eq!(c.run().ok().text().trim_end(), "Groups:\t5 1001 70000");
}

fn groups_of_the_caller_are_dropped(t: &Test) {
    // The tests themselves may run with supplementary groups; the container must not.
    t.need_program("setpriv");
    let c = t.container().sh("grep Groups /proc/self/status");
    c.write();
    let output = crate::harness::reaper::output(
        std::process::Command::new("setpriv")
            .args(["--groups", "1,2,3"])
            .arg(&t.runtime.path)
            .args([
                "--root",
                t.root.to_str().unwrap(),
                "run",
                "--bundle",
                c.dir.to_str().unwrap(),
                &c.id,
            ]),
    )
    .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "Groups:", "{output:?}");
}

fn the_default_umask_is_022(t: &Test) {
    t.container().sh("umask").run().ok().prints("0022\n");
}

fn the_umask_is_set(t: &Test) {
    t.container().set("/process/user/umask", json!(63)).sh("umask").run().ok().prints("0077\n");
    t.container().set("/process/user/umask", json!(0)).sh("umask").run().ok().prints("0000\n");
}

fn the_umask_of_the_caller_is_not_inherited(t: &Test) {
    let c = t.container().sh("umask; ls -ld /dev/shm | cut -c1-10");
    c.bundle_call("run", &[])
        .with(|command| sys::with_umask(command, 0o077))
        .run()
        .ok()
        .prints("0022\ndrwxrwxrwt\n");
}

fn the_working_directory_is_set(t: &Test) {
    t.container()
        .set("/process/cwd", json!("/home/user"))
        .sh("pwd")
        .run()
        .ok()
        .prints("/home/user\n");
}

fn a_missing_working_directory_is_made(t: &Test) {
    let c = t.container().set("/process/cwd", json!("/not/there/yet")).sh("pwd");
    c.run().ok().prints("/not/there/yet\n");
}

fn a_relative_working_directory_is_refused(t: &Test) {
    let c = t.container().set("/process/cwd", json!("home"));
    let output = c.run().fails();
    assert!(output.stderr.to_lowercase().contains("cwd"), "{output}");
    t.assert_nothing_left();
}

fn a_working_directory_only_the_user_may_enter_works(t: &Test) {
    let c = t
        .container()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[])
        .set("/process/cwd", json!("/home/user"))
        .sh("pwd");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(c.path("/home/user"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(c.path("/home/user"), Some(1000), Some(1000)).unwrap();
    c.run().ok().prints("/home/user\n");
}

fn a_working_directory_the_user_may_not_enter_is_refused(t: &Test) {
    use std::os::unix::fs::PermissionsExt;
    let c = t
        .container()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[])
        .set("/process/cwd", json!("/root"));
    fs::set_permissions(c.path("/root"), fs::Permissions::from_mode(0o700)).unwrap();
    let output = c.run();
    // runc tries as root first and lets it pass; if it is refused the words are these.
    if output.code != Some(0) {
        output.fails().says(&say::PERMISSION_DENIED).names("/root");
        t.assert_nothing_left();
    }
}

fn the_environment_is_exactly_that_of_the_config(t: &Test) {
    let c = t
        .container()
        .set(
            "/process/env",
            json!(["PATH=/bin", "A=b", "EMPTY=", "SPACE=a b", "EQUALS=a=b", "HOME=/h"]),
        )
        .args(&["/bin/busybox", "env"]);
    let output =
        c.bundle_call("run", &[]).env("LEAKED", "yes").env("RUST_BACKTRACE", "1").run().ok();
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=b", "EMPTY=", "EQUALS=a=b", "HOME=/h", "PATH=/bin", "SPACE=a b"]);
}

fn of_a_variable_given_twice_the_last_wins(t: &Test) {
    let c = t
        .container()
        .set("/process/env", json!(["PATH=/bin", "A=first", "B=b", "A=last"]))
        .args(&["env"]);
    let output = c.run().ok();
    let values: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("A=")).collect();
    assert_eq!(values, ["A=last"]);
}

fn home_is_set_from_passwd(t: &Test) {
    let c = t.container().sh("echo $HOME");
    c.run().ok().prints("/root\n");
    let c = t.container().set("/process/user", json!({"uid": 1000, "gid": 1000})).sh("echo $HOME");
    c.run().ok().prints("/home/user\n");
}

fn home_of_the_config_is_kept(t: &Test) {
    t.container()
        .push("/process/env", json!("HOME=/mine"))
        .sh("echo $HOME")
        .run()
        .ok()
        .prints("/mine\n");
}

fn an_empty_home_is_replaced(t: &Test) {
    t.container()
        .push("/process/env", json!("HOME="))
        .sh("echo $HOME")
        .run()
        .ok()
        .prints("/root\n");
}

fn home_without_passwd_is_slash(t: &Test) {
    let c = t.container().set("/process/user", json!({"uid": 4242, "gid": 0})).sh("echo $HOME");
    c.run().ok().prints("/\n");
    let c = t.container().sh("echo $HOME");
    fs::remove_file(c.path("/etc/passwd")).unwrap();
    let home = c.run().ok().stdout;
    assert!(home == "/\n" || home == "/root\n", "{home}");
}

fn the_path_of_the_container_is_searched(t: &Test) {
    let c = t
        .container()
        .file("/opt/a/tool", "#!/bin/sh\necho a\n", 0o755)
        .file("/opt/b/tool", "#!/bin/sh\necho b\n", 0o755)
        .file("/opt/none/tool", "not executable", 0o644)
        .set("/process/env", json!(["PATH=/no/such:/opt/none:/opt/b:/opt/a:/bin"]))
        .args(&["tool"]);
    c.run().ok().prints("b\n");
}

fn the_path_of_the_caller_is_not_searched(t: &Test) {
    let c = t
        .container()
        .file("/opt/tool", "#!/bin/sh\necho found\n", 0o755)
        .set("/process/env", json!(["PATH=/bin"]))
        .args(&["tool"]);
    c.bundle_call("run", &[])
        .env("PATH", "/opt:/usr/bin:/bin:/usr/sbin:/sbin")
        .run()
        .fails()
        .says(&say::NOT_IN_PATH);
    t.assert_nothing_left();
}

fn a_relative_program_is_found_from_the_working_directory(t: &Test) {
    let c = t
        .container()
        .file("/opt/tool", "#!/bin/sh\necho found\n", 0o755)
        .set("/process/cwd", json!("/opt"))
        .args(&["./tool"]);
    c.run().ok().prints("found\n");
}

fn the_program_gets_its_arguments_unchanged(t: &Test) {
    let words = [
        "sh",
        "-c",
        "for a in \"$@\"; do echo \"[$a]\"; done",
        "--",
        "",
        " ",
        "a b",
        "$HOME",
        "\u{e4}\u{20ac}",
        "\n",
    ];
    t.container()
        .args(&words)
        .run()
        .ok()
        .prints("[]\n[ ]\n[a b]\n[$HOME]\n[\u{e4}\u{20ac}]\n[\n]\n");
}

fn resource_limits_are_set(t: &Test) {
    let c = t
        .container()
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                   {"type": "RLIMIT_FSIZE", "soft": 1_048_576, "hard": 2_097_152}]),
        )
        .sh("grep -E 'open files|core file|Max file size' /proc/self/limits");
    let text = c.run().ok().stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][3..5], ["1048576", "2097152"]);
    assert_eq!(rows[1][4..6], ["0", "0"]);
    assert_eq!(rows[2][3..5], ["100", "200"]);
}

fn every_kind_of_resource_limit_is_known(t: &Test) {
    let kinds = [
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    ];
    // The present values of this process can be set again without any capability.
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let titles = [
        "Max address space",
        "Max core file size",
        "Max cpu time",
        "Max data size",
        "Max file size",
        "Max file locks",
        "Max locked memory",
        "Max msgqueue size",
        "Max nice priority",
        "Max open files",
        "Max processes",
        "Max resident set",
        "Max realtime priority",
        "Max realtime timeout",
        "Max pending signals",
        "Max stack size",
    ];
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let rlimits: Vec<_> = kinds
        .iter()
        .zip(titles)
        .map(|(kind, title)| {
            let line = limits.lines().find_map(|line| line.strip_prefix(title)).unwrap();
            let mut values = line.split_whitespace();
            let (soft, hard) = (number(values.next().unwrap()), number(values.next().unwrap()));
            json!({"type": format!("RLIMIT_{kind}"), "soft": soft, "hard": hard})
        })
        .collect();
    t.container().set("/process/rlimits", json!(rlimits)).run().ok();
}

fn an_unlimited_resource_limit_is_accepted(t: &Test) {
    let c = t
        .container()
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": u64::MAX, "hard": u64::MAX}]),
        )
        .sh("grep 'cpu time' /proc/self/limits");
    assert!(c.run().ok().stdout.contains("unlimited"));
}

fn a_duplicate_resource_limit_is_refused(t: &Test) {
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200});
    t.container()
        .set("/process/rlimits", json!([limit, limit]))
        .run()
        .fails()
        .names("RLIMIT_NOFILE");
    t.assert_nothing_left();
}

fn an_unknown_resource_limit_is_refused(t: &Test) {
    let c = t
        .container()
        .set("/process/rlimits", json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]));
    c.run().fails().names("NONSENSE");
    t.assert_nothing_left();
}

fn the_oom_score_is_set(t: &Test) {
    let c =
        t.container().set("/process/oomScoreAdj", json!(500)).sh("cat /proc/self/oom_score_adj");
    c.run().ok().prints("500\n");
    let c =
        t.container().set("/process/oomScoreAdj", json!(-500)).sh("cat /proc/self/oom_score_adj");
    let output = c.run();
    t.need(
        t.host.has_capability("CAP_SYS_RESOURCE") || output.code == Some(0),
        "lowering it needs CAP_SYS_RESOURCE",
    );
    output.ok().prints("-500\n");
}

fn the_oom_score_of_the_caller_is_inherited_when_none_is_given(t: &Test) {
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    t.container().sh("cat /proc/self/oom_score_adj").run().ok().prints(&own);
}

fn no_new_privileges_is_set_and_unset(t: &Test) {
    for (value, seen) in [(json!(true), "1"), (json!(false), "0"), (json!(null), "0")] {
        let c = t
            .container()
            .set("/process/noNewPrivileges", value)
            .sh("grep NoNewPrivs /proc/self/status");
        c.run().ok().prints(&format!("NoNewPrivs:\t{seen}\n"));
    }
}

fn the_five_capability_sets_are_set(t: &Test) {
    let c = t
        .container()
        .set(
            "/process/capabilities",
            json!({"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_MKNOD"],
                   "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
                   "effective": ["CAP_CHOWN", "CAP_KILL"],
                   "inheritable": ["CAP_KILL", "CAP_CHOWN"],
                   "ambient": ["CAP_KILL"]}),
        )
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .args(&["cat", "/proc/self/status"]);
    let status = c.run().ok().stdout;
    let (chown, kill, setuid, mknod) = (1 << 0, 1 << 5, 1 << 7, 1 << 27);
    assert_eq!(mask(&status, "CapBnd"), chown | kill | setuid | mknod);
    assert_eq!(mask(&status, "CapInh"), kill | chown);
    assert_eq!(mask(&status, "CapAmb"), kill);
    // execve leaves a user that is not root what is ambient.
    assert_eq!(mask(&status, "CapPrm"), kill);
    assert_eq!(mask(&status, "CapEff"), kill);
}

fn without_capabilities_there_are_none(t: &Test) {
    let c = t.container().unset("/process/capabilities").args(&["cat", "/proc/self/status"]);
    let status = c.run().ok().stdout;
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(mask(&status, line), 0, "{line}");
    }
}

fn a_user_that_is_not_root_keeps_ambient_capabilities(t: &Test) {
    let c = t
        .container()
        .capabilities(&["CAP_NET_BIND_SERVICE", "CAP_KILL"])
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .args(&["cat", "/proc/self/status"]);
    let status = c.run().ok().stdout;
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(mask(&status, line), 1 << 10 | 1 << 5, "{line}");
    }
}

fn a_user_that_is_not_root_has_no_effective_capabilities_without_ambient(t: &Test) {
    let c = t
        .container()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .args(&["cat", "/proc/self/status"]);
    let status = c.run().ok().stdout;
    for (line, expected) in
        [("CapPrm", 0), ("CapEff", 0), ("CapAmb", 0), ("CapBnd", 1 << 5 | 1 << 10 | 1 << 29)]
    {
        assert_eq!(mask(&status, line), expected, "{line}");
    }
}

fn an_unknown_capability_is_ignored(t: &Test) {
    let c = t
        .container()
        .with_capabilities(&["CAP_NONSENSE", "CAP_CHOWN"])
        .args(&["cat", "/proc/self/status"]);
    let output = c.run().ok();
    assert_eq!(mask(&output.stdout, "CapEff") & 1, 1, "{output}");
}

fn nothing_is_inheritable_by_default(t: &Test) {
    // CVE-2022-27650.
    let status = t.container().args(&["cat", "/proc/self/status"]).run().ok().stdout;
    assert_eq!(mask(&status, "CapInh"), 0);
    assert_eq!(mask(&status, "CapAmb"), 0);
}

fn null_arrays_are_accepted(t: &Test) {
    let c = t
        .container()
        .set("/process/rlimits", json!(null))
        .set("/process/user/additionalGids", json!(null))
        .set("/hooks", json!({"prestart": null, "poststop": null}))
        .set("/linux/sysctl", json!(null))
        .set("/linux/devices", json!(null))
        .set("/linux/maskedPaths", json!(null))
        .set("/linux/seccomp", json!(null))
        .set("/annotations", json!(null))
        .sh("echo fine");
    c.run().ok().prints("fine\n");
}

fn unknown_properties_are_ignored(t: &Test) {
    let c = t
        .container()
        .set("/futureProperty", json!({"a": [1, 2, {"b": null}]}))
        .set("/process/newThing", json!("x"))
        .set("/linux/somethingElse", json!(4))
        .set("/mounts/0/extra", json!(true))
        .sh("echo fine");
    c.run().ok().prints("fine\n").no_stderr();
}

fn a_session_of_its_own_is_started(t: &Test) {
    let c = t.container().with_probe().args(&["probe", "inherited"]);
    let output = c.run().ok();
    assert!(output.stdout.contains("sid 1 pgid 1 pid 1\n"), "{output}");
}

fn signals_ignored_by_the_caller_are_not_ignored_inside(t: &Test) {
    // SIGPIPE is the one Rust's own start-up ignores; what a shell gives its background, nohup, and one of the real-time ones.
    const IGNORED: [i32; 5] = [libc::SIGPIPE, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, 40];
    let ignore = |command: &mut std::process::Command| {
        for signal in IGNORED {
            sys::ignore_signal(command, signal);
        }
    };
    let c = t.container().with_probe().args(&["probe", "signals"]);
    c.run().ok().prints("done\n");
    let output = c.bundle_call("run", &[]).with(ignore).run().ok();
    let running = t.container().lasting();
    running.run_detached();
    let shown = ["grep", "SigIgn", "/proc/self/status"];
    let inside = running.exec_with(&[], &shown).with(ignore).run().ok();
    if t.kind() == Kind::Skep {
        assert_eq!(output.stdout, "done\n", "{output}");
        inside.prints("SigIgn:\t0000000000000000\n");
    }
}

fn the_program_is_dumpable_and_has_no_leftover_prctls(t: &Test) {
    let c = t.container().with_probe().args(&["probe", "inherited"]);
    let output = c.run().ok();
    for line in ["dumpable 1", "pdeathsig 0", "subreaper 0", "keepcaps 0", "umask 0022", "nnp 1"] {
        assert!(output.stdout.contains(&format!("{line}\n")), "no {line:?} in {output}");
    }
}

fn standard_streams_belong_to_the_user(t: &Test) {
    use std::os::unix::fs::MetadataExt;
    let user = json!({"uid": 1000, "gid": 1000});
    let c = t.container().set("/process/user", user).sh("echo hello > /proc/self/fd/1");
    let output = c.run_detached();
    assert_eq!(c.wait_exit(), 0);
    assert_eq!(output.stdout_now(), "hello\n", "a daemon that reopens /dev/stdout could not");
    assert_eq!(fs::metadata(&output.stdout_path).unwrap().uid(), 1000);
}

fn pid_one_is_the_program(t: &Test) {
    let c = t.container().sh("echo $$; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'");
    let output = c.run().ok();
    assert!(output.stdout.starts_with("1\nsh\n"), "{output}");
}

fn the_hostname_of_the_host_is_not_changed(t: &Test) {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    t.container().sh("hostname").run().ok().prints("blackbox\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

fn the_io_priority_and_scheduler_of_a_plain_config_are_untouched(t: &Test) {
    let own = fs::read_to_string("/proc/self/stat").unwrap();
    let field = |stat: &str, number: usize| {
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(number - 3).unwrap().to_owned()
    };
    let inside = t.container().sh("cat /proc/self/stat").run().ok().stdout;
    for number in [18, 19, 40, 41] {
        // priority, nice, real-time priority, policy
        assert_eq!(field(&inside, number), field(&own, number), "field {number}");
    }
}

fn the_parents_cpu_affinity_is_not_inherited(t: &Test) {
    t.need_program("taskset");
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned();
    t.need(!all.ends_with("\t0"), "there is one CPU");
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let c = t.container().sh("grep Cpus_allowed_list /proc/self/status");
    c.write();
    let output = crate::harness::reaper::output(
        std::process::Command::new("taskset").args(["-c", "0"]).arg(&t.runtime.path).args([
            "--root",
            t.root.to_str().unwrap(),
            "run",
            "--bundle",
            c.dir.to_str().unwrap(),
            &c.id,
        ]),
    )
    .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), all, "{output:?}");
}

fn a_shebang_script_runs(t: &Test) {
    let c = t
        .container()
        .file("/script", "#!/bin/sh\necho \"$0 $1\"\n", 0o755)
        .args(&["/script", "one"]);
    c.run().ok().prints("/script one\n");
}

fn a_missing_interpreter_is_explained(t: &Test) {
    let c = t.container().file("/script", "#!/no/such/interpreter\n", 0o755).args(&["/script"]);
    let output = c.run().not_ok().says(&say::NO_SUCH_FILE);
    if t.kind() == Kind::Skep {
        output.names("/no/such/interpreter");
    }
    t.assert_nothing_left();
}
