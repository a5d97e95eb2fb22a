//! Every kind of bad input the issue lists: one clear error that names the field or path, the exit code of the
//! contract, and nothing left behind.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, Value, json, say, wait};

cases![
    bad_ids_for_create,
    bad_ids_for_every_command,
    an_id_of_the_greatest_length_works,
    unusual_but_legal_ids_work,
    no_arguments,
    a_program_not_found_in_the_path,
    a_program_path_not_found,
    a_program_that_is_a_directory,
    a_program_that_is_not_executable,
    a_program_in_no_known_format,
    a_program_of_another_architecture,
    an_empty_program_name,
    a_missing_working_directory_that_cannot_be_made,
    no_working_directory,
    unknown_signals,
    a_second_create_at_the_same_moment,
    exec_in_a_stopped_container,
    exec_in_a_paused_container,
    delete_of_a_running_container,
    kill_of_a_stopped_container,
    a_state_file_cut_in_half,
    an_empty_state_directory,
    a_state_file_that_is_no_json,
    a_state_file_of_another_process,
    no_space_in_the_state_directory,
    a_state_directory_that_is_read_only,
    a_root_that_is_a_file,
    a_console_socket_whose_peer_hangs_up,
    a_console_socket_of_another_kind,
    a_run_that_fails_is_not_kept,
    a_runtime_killed_at_any_moment_leaves_what_delete_force_removes,
    a_full_file_descriptor_table,
];

/// `create` and `run` of a broken bundle both fail with one line, status 1 and no trace; returns the error of create.
#[track_caller]
pub fn refused(c: &Container<'_>) -> Output {
    let run = c.run().fails().no_stdout();
    clear(&run);
    c.test.assert_nothing_left();
    let create = c.try_create().fails().no_stdout();
    clear(&create);
    c.test.assert_nothing_left();
    let names = |dir: &std::path::Path| -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let written = names(&c.dir);
    assert!(!written.iter().any(|name| name.contains("pid")), "a pid file of nobody: {written:?}");
    if c.test.kind() == Kind::Skep {
        assert_eq!(names(&c.test.root), Vec::<String>::new());
        // The field, the file, or the program in the words callers look for.
        let places = ["config.json", "exec: ", "set in config.json"];
        assert!(places.iter().any(|place| create.stderr.contains(place)), "where? {create}");
    }
    create
}

/// One line, no panic, no Rust debug text.
#[track_caller]
pub fn clear(output: &Output) {
    let text = output.stderr.trim_end();
    assert!(
        !text.contains("panicked") && !text.contains("Os {") && !text.contains("Error("),
        "{output}"
    );
    if output.kind == Kind::Skep {
        assert_eq!(text.lines().count(), 1, "{output}");
    }
}

/// Ids that would leave the root directory, or cannot be a name in it.
fn bad_ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "..",
        ".",
        "/",
        "a/b",
        "../up",
        "a/../../b",
        "a b",
        "a\nb",
        "\u{e4}",
        "a:b",
        "*",
        "$x",
        "a\\b",
        "a@b",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push("x".repeat(300));
    ids
}

fn bad_ids_for_create(t: &Test) {
    let c = t.container();
    c.write();
    for id in bad_ids() {
        for command in ["create", "run"] {
            let output = t.call(&[command, "--bundle", c.dir.to_str().unwrap(), &id]).run().fails();
            clear(&output);
            if id.len() < 256 || t.kind() == Kind::Skep {
                output.says(&say::ID_INVALID);
            }
        }
    }
    let output = t.call(&["create", "--bundle", c.dir.to_str().unwrap(), ""]).run().fails();
    output.says(&say::ID_EMPTY);
    if t.kind() != Kind::Runc {
        let output = t.call(&["create", "--bundle", c.dir.to_str().unwrap(), ".hidden"]).run();
        output.fails().says(&say::ID_INVALID);
    }
    t.assert_nothing_left();
    let names: Vec<_> =
        fs::read_dir(&t.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.is_empty() || t.kind() != Kind::Skep, "{names:?}");
}

fn bad_ids_for_every_command(t: &Test) {
    // A decoy: what the ids of a traversal would reach.
    let decoy = t.path("decoy");
    fs::create_dir(&decoy).unwrap();
    fs::write(decoy.join("state.json"), "{}").unwrap();
    for command in ["start", "state", "kill", "delete", "pause", "resume", "ps", "update", "events"]
    {
        for id in ["..", "../decoy", "/", "a/b"] {
            let output = t.call(&[command, id]).run().fails();
            clear(&output);
        }
    }
    t.call(&["exec", "../decoy", "true"]).run().exec_fails();
    for id in ["..", "../decoy", "/", "."] {
        t.call(&["delete", "--force", id]).run();
    }
    assert_eq!(fs::read_to_string(decoy.join("state.json")).unwrap(), "{}");
}

fn an_id_of_the_greatest_length_works(t: &Test) {
    let c = t.container().lasting();
    c.write();
    // The cgroup path is the config's, so only the state directory bears the name.
    let id = format!("{}{}", t.id, "x".repeat(200 - t.id.len()));
    t.call(&["create", "--bundle", c.dir.to_str().unwrap(), &id]).run().ok();
    t.call(&["start", &id]).run().ok();
    t.call(&["exec", &id, "true"]).run().ok();
    t.call(&["delete", "--force", &id]).run().ok();
    t.assert_nothing_left();
}

fn unusual_but_legal_ids_work(t: &Test) {
    let c = t.container();
    c.write();
    for id in ["a", "A-b_c.d+e", "-dash", "_", "+", "0", "..."] {
        if id.starts_with('.') {
            continue; // a leading dot is for the runtime's own files
        }
        t.call(&["run", "--bundle", c.dir.to_str().unwrap(), "--", id]).run().ok();
    }
    t.assert_nothing_left();
}

fn no_arguments(t: &Test) {
    refused(&t.container().args(&[])).names("args");
    refused(&t.container().unset("/process/args")).names("args");
    refused(&t.container().set("/process/args", json!(null))).names("args");
}

fn a_program_not_found_in_the_path(t: &Test) {
    refused(&t.container().args(&["no-such-program"]))
        .says(&say::NOT_IN_PATH)
        .names("no-such-program")
        .says(&say::CREATE_FAILED);
}

fn a_program_path_not_found(t: &Test) {
    refused(&t.container().args(&["/no/such/program"]))
        .says(&say::NO_SUCH_FILE)
        .names("/no/such/program");
}

fn a_program_that_is_a_directory(t: &Test) {
    let output = refused(&t.container().args(&["/etc"])).names("/etc");
    // moby: either is exit status 126.
    let text = output.stderr.to_lowercase();
    let known = ["is a directory", "permission denied", "not a regular file"]
        .iter()
        .any(|words| text.contains(words));
    assert!(known || t.kind() == Kind::Crun, "{output}");
}

fn a_program_that_is_not_executable(t: &Test) {
    refused(&t.container().args(&["/etc/passwd"]))
        .says(&say::PERMISSION_DENIED)
        .names("/etc/passwd");
}

/// Fails at start or already at create, with these words.
#[track_caller]
fn does_not_execute(c: &Container<'_>, phrase: &say::Phrase) {
    let output = c.run().not_ok();
    clear(&output);
    output.says(phrase);
    c.test.assert_nothing_left();
}

fn a_program_in_no_known_format(t: &Test) {
    let c = t
        .container()
        .file("/bin/garbage", [0x7f, b'E', b'L', b'F', 9, 9, 9, 9], 0o755)
        .args(&["/bin/garbage"]);
    does_not_execute(&c, &say::EXEC_FORMAT);
    let c = t.container().file("/bin/text", "echo no shebang\n", 0o755).args(&["/bin/text"]);
    does_not_execute(&c, &say::EXEC_FORMAT);
}

fn a_program_of_another_architecture(t: &Test) {
    // A header of an ELF executable for SPARC.
    let mut header =
        vec![0x7f, b'E', b'L', b'F', 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 1];
    header.resize(4096, 0);
    let c = t.container().file("/bin/foreign", header, 0o755).args(&["/bin/foreign"]);
    does_not_execute(&c, &say::EXEC_FORMAT);
}

fn an_empty_program_name(t: &Test) {
    refused(&t.container().args(&[""]));
}

fn a_missing_working_directory_that_cannot_be_made(t: &Test) {
    let output =
        refused(&t.container().set("/process/cwd", json!("/etc/passwd/dir"))).names("/etc/passwd");
    assert!(output.stderr.contains("cwd") || output.stderr.contains("/etc/passwd/dir"), "{output}");
}

fn no_working_directory(t: &Test) {
    let output = refused(&t.container().unset("/process/cwd"));
    assert!(output.stderr.to_lowercase().contains("cwd"), "{output}");
}

fn unknown_signals(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    for signal in ["NONSENSE", "SIGNONSENSE", "999", "-5", "SIG", "9x", " 9", "KILL ", "65"] {
        let output = t.call(&["kill", "--", &c.id, signal]).run().fails();
        clear(&output);
        if t.kind() == Kind::Skep {
            assert!(output.stderr.contains(signal.trim()), "{output}");
        }
    }
    assert_eq!(c.status(), "running");
    assert!(wait::is_alive(c.pid()));
}

fn a_second_create_at_the_same_moment(t: &Test) {
    let c = t.container().lasting();
    c.write();
    for _ in 0..5 {
        let calls: Vec<_> = (0..4).map(|_| c.bundle_call("create", &[]).spawn()).collect();
        let mut winners = 0;
        for call in calls {
            let output = call.wait();
            if output.code == Some(0) {
                winners += 1;
            } else {
                output.fails().says(&say::ID_IN_USE);
            }
        }
        assert_eq!(winners, 1);
        assert_eq!(c.status(), "created");
        c.delete_force().ok();
        t.assert_nothing_left();
    }
}

fn exec_in_a_stopped_container(t: &Test) {
    let c = t.container();
    c.run_detached();
    c.wait_exit();
    let output = c.exec(&["true"]).exec_fails().says(&say::EXEC_STOPPED);
    clear(&output);
    c.delete().ok();
    t.assert_nothing_left();
}

fn exec_in_a_paused_container(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.call("pause", &[]).run().ok();
    let output = c.exec(&["true"]).exec_fails().says(&say::EXEC_PAUSED);
    clear(&output);
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn delete_of_a_running_container(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let output = c.delete().fails().says(&say::DELETE_RUNNING);
    clear(&output);
    assert!(wait::is_alive(c.pid()));
}

fn kill_of_a_stopped_container(t: &Test) {
    let c = t.container();
    c.run_detached();
    c.wait_exit();
    for signal in ["KILL", "TERM", "0"] {
        let output = c.kill(signal).fails().says(&say::NOT_RUNNING);
        clear(&output);
    }
    c.delete().ok();
    t.assert_nothing_left();
}

/// The regular files in a container's state directory.
fn state_files(c: &Container<'_>) -> Vec<std::path::PathBuf> {
    fs::read_dir(c.test.root.join(&c.id))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_some_and(|ext| ext == "json") || path.ends_with("status")
        })
        .collect()
}

/// Breaks the state files of a running container; the commands say so and `delete --force` still removes all.
fn with_broken_state(t: &Test, damage: impl Fn(&std::path::Path)) {
    let c = t.container().lasting();
    c.run_detached();
    let pid = c.pid();
    let files = state_files(&c);
    assert!(!files.is_empty());
    for file in &files {
        damage(file);
    }
    for command in ["state", "kill", "pause"] {
        let output = c.call(command, &[]).run().fails();
        clear(&output);
        if t.kind() == Kind::Skep {
            assert!(output.stderr.contains(&c.id), "the container is not named: {output}");
        }
    }
    t.call(&["list"]).run().ok();
    let output = c.delete_force();
    if t.kind() == Kind::Skep {
        output.ok();
        t.assert_nothing_left();
    }
    if fs::metadata(t.root.join(&c.id)).is_ok() {
        assert!(t.kind() != Kind::Skep, "delete --force leaves the state directory");
        fs::remove_dir_all(t.root.join(&c.id)).unwrap();
    }
    // Without a state nobody knows the process: the test ends it.
    if wait::is_alive(pid) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        wait::for_exit(pid);
    }
    for cgroup in t.cgroups() {
        wait::until("the cgroup can be removed", || fs::remove_dir(&cgroup).ok());
    }
}

fn a_state_file_cut_in_half(t: &Test) {
    with_broken_state(t, |file| {
        let text = fs::read(file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    });
}

fn an_empty_state_directory(t: &Test) {
    // What a create killed at the wrong moment leaves.
    let dir = t.root.join(&t.id);
    fs::create_dir(&dir).unwrap();
    let output = t.call(&["state", &t.id]).run().fails();
    clear(&output);
    t.call(&["delete", "--force", &t.id]).run().ok();
    assert!(fs::metadata(&dir).is_err(), "the half-made directory is still there");
}

fn a_state_file_that_is_no_json(t: &Test) {
    with_broken_state(t, |file| fs::write(file, "\0\0\0garbage").unwrap());
}

fn a_state_file_of_another_process(t: &Test) {
    // After a reboot or a wrap-around the pid is somebody else's, who must not be killed.
    let mut bystander = std::process::Command::new("sleep");
    bystander.arg("1000");
    let bystander = crate::harness::reaper::spawn(&mut bystander).unwrap();
    // A process is known by its pid and the hundredth of a second it began in: not the same for both.
    let begun = std::time::Instant::now();
    wait::until("the next hundredth", || (begun.elapsed().as_millis() > 10).then_some(()));
    let c = t.container();
    c.run_detached();
    let pid = c.pid();
    c.wait_exit();
    for file in state_files(&c) {
        let text = fs::read_to_string(&file).unwrap();
        let mut state: Value = serde_json::from_str(&text).unwrap();
        replace_number(&mut state, i64::from(pid), i64::from(bystander.pid));
        fs::write(&file, state.to_string()).unwrap();
    }
    let status = c.status();
    c.kill("KILL");
    c.delete_force();
    let alive = wait::is_alive(bystander.pid);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(bystander.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    bystander.wait(wait::patience());
    assert!(alive, "a stranger was killed");
    assert_eq!(status, "stopped");
}

fn replace_number(value: &mut Value, from: i64, to: i64) {
    match value {
        Value::Number(number) if number.as_i64() == Some(from) => *value = json!(to),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_number(item, from, to)),
        Value::Object(map) => map.values_mut().for_each(|item| replace_number(item, from, to)),
        _ => {}
    }
}

fn no_space_in_the_state_directory(t: &Test) {
    let small = t.path("small");
    let mount = crate::mounts::HostMount::sized(t, small.to_str().unwrap(), "size=16k,nr_inodes=3");
    fs::write(small.join("filler"), vec![0; 16384]).unwrap();
    let c = t.container().lasting();
    c.write();
    for command in ["create", "run"] {
        let output = t
            .bare_call(&[
                "--root",
                small.to_str().unwrap(),
                command,
                "--bundle",
                c.dir.to_str().unwrap(),
                &c.id,
            ])
            .run()
            .fails();
        clear(&output);
        let text = output.stderr.to_lowercase();
        assert!(text.contains("no space left") || t.kind() != Kind::Skep, "{output}");
        let names: Vec<_> =
            fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["filler"], "{output}");
        t.need(t.cgroups().is_empty() || t.kind() == Kind::Skep, "this runtime leaves cgroups");
    }
    drop(mount);
    t.assert_nothing_left();
}

fn a_state_directory_that_is_read_only(t: &Test) {
    let dir = t.path("ro");
    let mount = crate::mounts::HostMount::sized(t, dir.to_str().unwrap(), "ro");
    let c = t.container().lasting();
    c.write();
    let output = t
        .bare_call(&[
            "--root",
            dir.to_str().unwrap(),
            "create",
            "--bundle",
            c.dir.to_str().unwrap(),
            &c.id,
        ])
        .run()
        .fails();
    clear(&output);
    drop(mount);
    t.assert_nothing_left();
}

fn a_root_that_is_a_file(t: &Test) {
    let c = t.container();
    c.write();
    fs::write(t.path("file"), "").unwrap();
    let root = t.path("file");
    let output = t
        .bare_call(&[
            "--root",
            root.to_str().unwrap(),
            "create",
            "--bundle",
            c.dir.to_str().unwrap(),
            &c.id,
        ])
        .run()
        .fails();
    clear(&output);
    t.assert_nothing_left();
}

fn a_console_socket_whose_peer_hangs_up(t: &Test) {
    let path = t.path("tty.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let c = t.container().set("/process/terminal", json!(true)).lasting();
    let peer = std::thread::spawn(move || {
        if wait::readable(&listener, wait::patience()) {
            drop(listener.accept());
        }
    });
    // The message may be sent before the peer is gone; the descriptor is lost either way, the runtime lives.
    let output = c.bundle_call("create", &["--console-socket", path.to_str().unwrap()]).run();
    peer.join().unwrap();
    if output.code == Some(0) {
        c.delete_force().ok();
    } else {
        clear(&output.fails());
    }
    t.assert_nothing_left();
}

fn a_console_socket_of_another_kind(t: &Test) {
    let path = t.path("tty.sock");
    let _datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let c = t.container().set("/process/terminal", json!(true)).lasting();
    let output = c.bundle_call("create", &["--console-socket", path.to_str().unwrap()]).run();
    let output = output.fails();
    clear(&output);
    if t.kind() == Kind::Skep {
        output.names(path.to_str().unwrap());
    }
    t.assert_nothing_left();
}

fn a_run_that_fails_is_not_kept(t: &Test) {
    let c = t.container().args(&["no-such-program"]);
    c.bundle_call("run", &["--keep"]).run().fails();
    t.assert_nothing_left();
}

// --- the runtime itself dies ---

fn a_runtime_killed_at_any_moment_leaves_what_delete_force_removes(t: &Test) {
    use nix::sys::signal::Signal;
    let c = t.container().lasting();
    c.write();
    for step in 0..40_u64 {
        let call = c.bundle_call("create", &[]).spawn();
        // A fixed ladder of moments, in steps of 0.3 ms.
        let until = std::time::Instant::now() + std::time::Duration::from_micros(step * 300);
        while std::time::Instant::now() < until && call.is_running() {
            std::hint::spin_loop();
        }
        if call.is_running() {
            call.signal(Signal::SIGKILL);
        }
        call.wait();
        c.delete_force().ok();
        let left = t.leftovers();
        assert!(
            left.is_empty(),
            "killed after {} us, left behind: {}",
            step * 300,
            left.join("; ")
        );
    }
    let c = c.args(&["true"]);
    c.write();
    c.run().ok();
}

fn a_full_file_descriptor_table(t: &Test) {
    t.need_program("prlimit");
    let c = t.container();
    c.write();
    for limit in [4, 6, 8, 10, 14] {
        let output = crate::harness::reaper::output(
            std::process::Command::new("prlimit")
                .arg(format!("--nofile={limit}:{limit}"))
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
        if !output.status.success() {
            assert!(!output.stderr.is_empty(), "no word at a limit of {limit}: {output:?}");
            assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
        }
        t.assert_nothing_left();
    }
}
