//! Attacks by a process: on the runtime's image, its descriptors, its memory, its sockets. The index is in cve.rs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json, reaper, wait};

cases![
    the_runtime_cannot_be_overwritten_by_a_program_that_is_it,
    the_runtime_cannot_be_overwritten_by_a_script_that_runs_it,
    the_runtime_cannot_be_overwritten_by_an_exec,
    nothing_a_waiting_init_runs_on_can_be_written,
    a_runtime_without_standard_streams_is_sealed,
    exec_shows_the_container_nothing,
    a_created_init_in_a_user_namespace_is_not_its_owners,
    run_of_a_leaked_directory,
    exec_of_a_leaked_directory,
    a_symlink_to_a_leaked_directory,
    a_program_of_a_leaked_directory,
    the_environment_of_the_image_does_not_reach_hooks,
    no_abstract_socket_is_used,
    nobody_else_can_read_the_state,
    very_long_paths_and_maps,
    the_release_agent_cannot_be_set,
    a_sysctl_value_smuggles_nothing,
    the_host_proc_is_out_of_reach,
    no_runtime_environment_reaches_the_program,
];

/// Runs the attacker in a container while `attack` makes the runtime enter it; returns what the attacker found.
fn while_hunting(t: &Test, verb: &str, attack: impl Fn(&Container<'_>)) -> String {
    let c = t.container().with_probe().args(&["probe", verb, "/stop"]);
    let before = fs::read(&t.runtime.path).unwrap();
    let output = c.run_detached();
    wait::for_text(&output.stdout_path, "hunting");
    attack(&c);
    fs::write(c.path("/stop"), "").unwrap();
    c.wait_exit();
    assert!(before == fs::read(&t.runtime.path).unwrap(), "the runtime was changed");
    output.stdout_now()
}

/// `exec` of things that are the runtime itself, so that its image runs inside, where the attacker sees it.
fn exec_the_runtime(c: &Container<'_>, program: &str) {
    let calls: Vec<Output> = (0..15).map(|_| c.exec(&[program, "--version"])).collect();
    for output in calls {
        assert!(output.code.is_some(), "{output}");
    }
}

fn the_runtime_cannot_be_overwritten_by_an_exec(t: &Test) {
    let found = while_hunting(t, "overwrite", |c| exec_the_runtime(c, "/proc/self/exe"));
    eprintln!("{found}");
    assert!(found.contains("writable 0\n"), "{found}");
}

/// Checks that the file of `pid` and whatever of it is mapped are reached through read-only mounts.
fn assert_sealed(t: &Test, pid: i32) {
    let runtime = fs::metadata(&t.runtime.path).unwrap();
    let maps = fs::read_dir(format!("/proc/{pid}/map_files")).unwrap();
    let mapped = maps.map(|map| map.unwrap().path());
    let own = std::iter::once(format!("/proc/{pid}/exe").into());
    let files: Vec<_> = own
        .chain(mapped)
        .filter(|path: &std::path::PathBuf| {
            let file = fs::metadata(path).unwrap();
            (file.dev(), file.ino()) == (runtime.dev(), runtime.ino())
        })
        .collect();
    // The file itself, its text and its constants.
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        let flags = nix::sys::statvfs::statvfs(file).unwrap().flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{}", file.display());
    }
}

fn nothing_a_waiting_init_runs_on_can_be_written(t: &Test) {
    t.need(t.kind() == Kind::Skep, "another runtime may run from a copy");
    let c = t.container().lasting();
    c.create();
    assert_sealed(t, c.pid());
}

fn a_runtime_without_standard_streams_is_sealed(t: &Test) {
    t.need(t.kind() == Kind::Skep, "another runtime may run from a copy");
    // The descriptors that sealing takes have the numbers of the streams then.
    let c = t.container().lasting();
    c.write();
    let call = format!(
        "exec <&- >&- 2>&-; exec '{}' --root '{}' create --bundle '{}' '{}'",
        t.runtime.path.display(),
        t.root.display(),
        c.dir.display(),
        c.id,
    );
    let mut command = std::process::Command::new("sh");
    let output = reaper::output(command.args(["-c", &call])).unwrap();
    assert!(output.status.success());
    let pid = i32::try_from(c.state()["pid"].as_i64().unwrap()).unwrap();
    assert_sealed(t, pid);
    for number in 0..3 {
        let stream = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        assert_eq!(stream.to_str(), Some("/dev/null"));
    }
}

fn the_runtime_cannot_be_overwritten_by_a_script_that_runs_it(t: &Test) {
    let found = while_hunting(t, "overwrite", |c| {
        fs::write(c.path("/bin/evil"), "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(c.path("/bin/evil"), fs::Permissions::from_mode(0o755)).unwrap();
        exec_the_runtime(c, "/bin/evil");
    });
    eprintln!("{found}");
    assert!(found.contains("writable 0\n"), "{found}");
}

fn the_runtime_cannot_be_overwritten_by_a_program_that_is_it(t: &Test) {
    // Here the runtime itself is the program, and it opens its own image.
    let before = fs::read(&t.runtime.path).unwrap();
    let hunter = t.container().with_probe().args(&["probe", "overwrite", "/stop"]);
    let hunting = hunter.run_detached();
    wait::for_text(&hunting.stdout_path, "hunting");
    let path = format!("/proc/{}/ns/pid", hunter.pid());
    for program in ["/proc/self/exe", "/bin/evil"] {
        let c = t
            .container()
            .file("/bin/evil", "#!/proc/self/exe\n", 0o755)
            .set("/linux/namespaces/0/path", json!(path))
            .args(&[program, "--version"]);
        let output = c.run();
        assert!(output.code.is_some(), "{output}");
    }
    fs::write(hunter.path("/stop"), "").unwrap();
    hunter.wait_exit();
    let found = hunting.stdout_now();
    eprintln!("{found}");
    assert!(found.contains("writable 0\n"), "{found}");
    assert!(before == fs::read(&t.runtime.path).unwrap(), "the runtime was changed");
}

fn exec_shows_the_container_nothing(t: &Test) {
    let found = while_hunting(t, "hunt", |c| {
        for _ in 0..30 {
            c.exec(&["true"]).ok();
        }
    });
    eprintln!("{found}");
    assert!(found.contains("opened 0\n"), "{found}");
}

fn a_created_init_in_a_user_namespace_is_not_its_owners(t: &Test) {
    // Not dumpable until it executes the program: /proc shows it as root's, though its user is not.
    t.need_user_namespaces();
    let c = t.container().user_namespace(200_000).lasting();
    c.create();
    let owner = fs::metadata(format!("/proc/{}/environ", c.pid())).unwrap().uid();
    assert_eq!(owner, 0, "others in the user namespace may trace init before it has started");
}

/// Whether the output of `ls` shows the root of the host rather than that of the container.
fn shows_the_host(t: &Test, text: &str) -> bool {
    // The container's root has bin and home; the test's own directory has names nobody else has.
    text.contains(&t.id)
        || text.contains("cgroup.procs")
        || text.contains("boot\n")
        || text.contains("usr\nvar") && text.contains("srv")
}

fn run_of_a_leaked_directory(t: &Test) {
    for number in 3..=20 {
        let c = t
            .container()
            .set("/process/cwd", json!(format!("/proc/self/fd/{number}")))
            .sh("pwd; ls; ls ../../..");
        let output = c.run();
        assert!(output.code != Some(0) || !shows_the_host(t, &output.stdout), "{number}: {output}");
    }
    t.assert_nothing_left();
}

fn exec_of_a_leaked_directory(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    for number in 3..=20 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = c.exec_with(&["--cwd", &cwd], &["sh", "-c", "pwd; ls; ls ../../.."]).run();
        assert!(output.code != Some(0) || !shows_the_host(t, &output.stdout), "{number}: {output}");
    }
}

fn a_symlink_to_a_leaked_directory(t: &Test) {
    // The second form: the image has a symlink to where the descriptor would be.
    for number in 3..=12 {
        let c = t.container().set("/process/cwd", json!("/link")).sh("pwd; ls; ls ../../..");
        symlink(format!("/proc/self/fd/{number}"), c.path("/link")).unwrap();
        let output = c.run();
        assert!(output.code != Some(0) || !shows_the_host(t, &output.stdout), "{number}: {output}");
    }
}

fn a_program_of_a_leaked_directory(t: &Test) {
    for number in 3..=12 {
        let path = format!("/proc/self/fd/{number}/../../../../bin/sh");
        let c = t.container().args(&[&path, "-c", "echo ran; ls /"]);
        let output = c.run();
        assert!(output.code != Some(0) || !shows_the_host(t, &output.stdout), "{number}: {output}");
    }
}

fn the_environment_of_the_image_does_not_reach_hooks(t: &Test) {
    let out = t.path("out");
    let c = t
        .container()
        .push("/process/env", json!("LD_PRELOAD=./evil.so"))
        .push("/process/env", json!("BASH_ENV=/evil"))
        .hook("prestart", &format!("env >> {}", out.display()))
        .hook("createRuntime", &format!("env >> {}", out.display()))
        .hook("createContainer", &format!("env >> {}", out.display()))
        .hook("poststart", &format!("env >> {}", out.display()))
        .hook("poststop", &format!("env >> {}", out.display()));
    c.run().ok();
    let text = fs::read_to_string(out).unwrap();
    assert!(!text.contains("LD_PRELOAD") && !text.contains("BASH_ENV"), "{text}");
}

fn no_abstract_socket_is_used(t: &Test) {
    // A container in the host's network namespace could connect to it.
    let c = t.container().lasting().without_namespace("network").without_mount("/sys");
    c.create();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    for line in sockets.lines().filter(|line| line.contains(" @")) {
        assert!(!line.contains(&c.id) && !line.contains("skep"), "{line}");
    }
    c.start().ok();
    let inside = c.exec(&["cat", "/proc/net/unix"]).ok().stdout;
    for line in inside.lines().filter(|line| line.contains(" @")) {
        assert!(!line.contains(&c.id) && !line.contains("skep"), "{line}");
    }
}

fn nobody_else_can_read_the_state(t: &Test) {
    let c = t.container().lasting();
    let root = t.path("fresh-root");
    c.write();
    t.bare_call(&[
        "--root",
        root.to_str().unwrap(),
        "create",
        "--bundle",
        c.dir.to_str().unwrap(),
        &c.id,
    ])
    .with(|command| crate::harness::sys::with_umask(command, 0))
    .run()
    .ok();
    let mode =
        |path: &std::path::Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&root) & 0o066, 0, "the root is {:o}", mode(&root));
    let dir = root.join(&c.id);
    assert_eq!(mode(&dir) & 0o066, 0, "the state directory is {:o}", mode(&dir));
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        let writable = mode(&entry.path()) & 0o022;
        assert!(
            writable == 0 || entry.path().is_symlink(),
            "{} is {:o}",
            entry.path().display(),
            mode(&entry.path())
        );
    }
    t.bare_call(&["--root", root.to_str().unwrap(), "delete", &c.id]).run().ok();
}

fn very_long_paths_and_maps(t: &Test) {
    t.need_user_namespaces();
    let long = format!("/{}", "x/".repeat(40_000));
    let c = t.container().set("/linux/namespaces/1/path", json!(long));
    c.run().fails();
    t.assert_nothing_left();
    let maps: Vec<_> =
        (0..5000).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
    let c = t.container().user_namespace(200_000).set("/linux/uidMappings", json!(maps));
    c.run().fails();
    t.assert_nothing_left();
    // 340 lines are what the kernel takes.
    let maps: Vec<_> =
        (0..300).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
    let c = t
        .container()
        .user_namespace(200_000)
        .set("/linux/uidMappings", json!(maps))
        .sh("wc -l < /proc/self/uid_map");
    c.run().ok().prints("300\n");
}

fn the_release_agent_cannot_be_set(t: &Test) {
    t.need_layout(crate::harness::host::Layout::V1);
    let c = t
        .container()
        .mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        )
        .sh("for d in /sys/fs/cgroup/*; do echo /evil > $d/release_agent && echo written; done; \
             mkdir /tmp/c; mount -t cgroup -o pids none /tmp/c && echo mounted; true");
    let output = c.run();
    assert!(!output.stdout.contains("written") && !output.stdout.contains("mounted"), "{output}");
}

fn a_sysctl_value_smuggles_nothing(t: &Test) {
    let core_pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = core_pattern();
    let table = [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "|/evil"),
        ("net.ipv4.ip_forward=1+kernel.core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("kernel.core_pattern", "|/evil"),
    ];
    for (key, value) in table {
        t.container().set("/linux/sysctl", json!({key: value})).run().fails();
        assert_eq!(core_pattern(), before);
    }
    t.assert_nothing_left();
}

fn the_host_proc_is_out_of_reach(t: &Test) {
    let c = t.container().sh(
        "echo h > /proc/sysrq-trigger; echo x > /proc/sys/kernel/core_pattern; echo x > /proc/irq/default_smp_affinity; \
         cat /proc/kcore | wc -c; cat /proc/keys | wc -c; ls /sys/firmware | wc -l",
    );
    let output = c.run();
    assert_eq!(output.stdout, "0\n0\n0\n", "{output}");
}

fn no_runtime_environment_reaches_the_program(t: &Test) {
    let c = t.container().set("/process/env", json!(["PATH=/bin"])).args(&["env"]);
    let output = c.run().ok();
    for line in output.stdout.lines() {
        let known = ["PATH=", "HOME="].iter().any(|name| line.starts_with(name));
        assert!(known || t.kind() != Kind::Skep, "{line}");
        assert!(!line.starts_with('_') && !line.starts_with("RUST"), "{line}");
    }
}
