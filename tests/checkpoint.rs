//! checkpoint and restore, by the CRIU of this host; `SKEP_TEST_CRIU=PATH` names another.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::harness::host::Layout;
use crate::harness::pty::ConsoleSocket;
use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Test, Value, json, reaper, wait};

cases![
    a_restored_container_goes_on_where_it_was,
    a_container_that_is_left_running_runs_on,
    a_restored_container_can_be_checkpointed_again,
    a_restored_container_has_the_commands_of_any_other,
    restore_under_the_same_id,
    restore_in_the_foreground_has_the_status_and_the_streams,
    a_terminal_is_restored,
    a_tcp_connection_is_restored,
    a_tcp_connection_needs_its_flag,
    a_terminal_and_a_connection_are_restored_together,
    bind_mounts_lead_to_where_the_new_configuration_says,
    bound_devices_and_masks_are_those_of_the_configuration,
    a_joined_network_namespace_is_joined_again,
    limits_are_those_of_the_new_configuration,
    every_mode_of_cgroups_is_restored,
    cgroups_of_others_are_not_restored,
    a_paused_container_is_checkpointed,
    prestart_hooks_run_again,
    a_failing_hook_leaves_nothing,
    a_pre_dump_is_the_parent_of_a_dump,
    a_created_container_is_refused,
    a_stopped_container_is_refused,
    restore_under_a_taken_id_is_refused,
    an_absolute_parent_is_refused,
    a_checkpoint_that_is_not_there_is_refused,
    a_damaged_checkpoint_leaves_nothing,
    bad_values_of_flags_are_refused,
];

/// Says the number of every round and a word of its own, which only its memory knows.
///
/// A shell that waits in vfork(2), as busybox's does since 1.38, cannot be stopped before its child is another program,
/// and CRIU has stopped the child. A subshell is forked.
pub(crate) const COUNTING: &str = "w=$(cat /proc/sys/kernel/random/uuid); i=0; \
    while :; do i=$((i+1)); echo $i $w > /n; (exec mv /n /count); done";

/// The CRIU to test with.
fn criu(t: &Test) -> String {
    t.need(t.kind() != Kind::Crun, "crun links libcriu");
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let path = std::env::var("SKEP_TEST_CRIU").unwrap_or_else(|_| "criu".to_owned());
        // Where the host's configuration says so, it leaves a log.
        let output = reaper::output(Command::new(&path).arg("check").current_dir(t.path("io")));
        let output = output.map_err(|error| format!("no CRIU here ({path}: {error})"))?;
        if output.status.success() {
            return Ok(path);
        }
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("CRIU does not work here: {}", words.lines().next().unwrap_or_default()))
    });
    match found {
        Ok(path) => path.clone(),
        Err(reason) => t.skip(reason),
    }
}

fn images(t: &Test) -> PathBuf {
    t.path("images")
}

/// `checkpoint FLAGS… ID` with the images in the test's directory.
pub(crate) fn checkpoint<'t>(c: &Container<'t>, flags: &[&str]) -> Call<'t> {
    let (criu, images) = (criu(c.test), images(c.test));
    let mut all = vec!["--image-path", images.to_str().unwrap()];
    all.extend(flags);
    c.call("checkpoint", &all).global(&["--criu", &criu]).limit(Duration::from_secs(120))
}

/// `restore --detach FLAGS… ID` from there.
pub(crate) fn restore<'t>(c: &Container<'t>, flags: &[&str]) -> Call<'t> {
    let pid_file = c.dir.join("pid").display().to_string();
    let mut all = vec!["--detach", "--pid-file", &pid_file];
    all.extend(flags);
    restore_in_foreground(c, &all)
}

fn restore_in_foreground<'t>(c: &Container<'t>, flags: &[&str]) -> Call<'t> {
    let (criu, images) = (criu(c.test), images(c.test));
    let mut all = vec!["--image-path", images.to_str().unwrap()];
    all.extend(flags);
    c.bundle_call("restore", &all).global(&["--criu", &criu]).limit(Duration::from_secs(120))
}

/// How far a container has counted, and its word.
type Count = (u64, String);

fn count(c: &Container<'_>) -> Option<Count> {
    let text = fs::read_to_string(c.path("/count")).ok()?;
    let (number, word) = text.trim().split_once(' ')?;
    Some((number.parse().unwrap(), word.to_owned()))
}

/// How far a container has come that counts no more. It says nothing of it any longer.
fn stopped(c: &Container<'_>) -> Count {
    let at = count(c).unwrap();
    fs::remove_file(c.path("/count")).unwrap();
    at
}

/// Waits until the container has counted further than `from`, and nobody else has.
#[track_caller]
fn wait_count(c: &Container<'_>, from: &Count) {
    wait::until("the container counts on", || {
        let (number, word) = count(c)?;
        assert_eq!(word, from.1, "it began anew");
        (number > from.0).then_some(())
    });
}

fn counting<'t>(t: &'t Test) -> Container<'t> {
    criu(t);
    let c = t.container().sh(COUNTING);
    c.run_detached();
    c.wait_file("/count");
    wait_count(&c, &count(&c).unwrap());
    c
}

/// Another container with the same root file system, for the images to be restored in.
fn twin<'t>(c: &Container<'t>) -> Container<'t> {
    let mut twin = c.test.container();
    let own = twin.config["linux"]["cgroupsPath"].clone();
    twin.config = c.config.clone();
    twin.config["linux"]["cgroupsPath"] = own;
    twin.config["root"]["path"] = json!(c.rootfs());
    twin
}

fn a_restored_container_goes_on_where_it_was(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &[]).run().ok().no_stdout();
    let at = stopped(&c);
    c.call("state", &[]).run().fails();
    t.assert_nothing_left();
    let twin = twin(&c);
    restore(&twin, &[]).run().ok().no_stdout();
    assert_eq!(twin.status(), "running");
    assert_eq!(twin.state()["pid"], json!(twin.pid()));
    wait_count(&c, &at);
}

fn a_container_that_is_left_running_runs_on(t: &Test) {
    let c = counting(t);
    // Podman gives it twice.
    checkpoint(&c, &["--leave-running", "--leave-running"]).run().ok();
    assert_eq!(c.status(), "running");
    wait_count(&c, &stopped(&c));
    assert!(images(t).join("inventory.img").metadata().is_ok());
}

fn a_restored_container_can_be_checkpointed_again(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &[]).run().ok();
    let twin = twin(&c);
    for _ in 0..2 {
        let at = stopped(&c);
        restore(&twin, &[]).run().ok();
        wait_count(&c, &at);
        checkpoint(&twin, &[]).run().ok();
    }
}

fn a_restored_container_has_the_commands_of_any_other(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &[]).run().ok();
    let twin = twin(&c);
    restore(&twin, &[]).run().ok();
    assert_eq!(twin.exec(&["hostname"]).ok().text(), "blackbox");
    twin.call("pause", &[]).run().ok();
    assert_eq!(twin.status(), "paused");
    twin.call("resume", &[]).run().ok();
    let listed = twin.call("ps", &["--format", "json"]).run().ok().json();
    assert!(listed.as_array().unwrap().contains(&json!(twin.pid())), "{listed}");
    twin.delete().fails();
    twin.kill("KILL").ok();
    assert_eq!(twin.wait_exit(), 128 + libc::SIGKILL);
    twin.delete().ok();
    t.assert_nothing_left();
}

fn restore_under_the_same_id(t: &Test) {
    let c = counting(t);
    let work = t.path("work");
    let work = work.to_str().unwrap();
    checkpoint(&c, &["--work-path", work]).run().ok();
    assert!(t.path("work/dump.log").metadata().is_ok());
    let at = stopped(&c);
    restore(&c, &["--work-path", work, "-no-subreaper"]).run().ok();
    assert!(t.path("work/restore.log").metadata().is_ok());
    wait_count(&c, &at);
}

fn restore_in_the_foreground_has_the_status_and_the_streams(t: &Test) {
    criu(t);
    let c = t.container().sh("echo before; : > /up; read line; echo got $line; exit 7");
    // A pipe that the shell reads: its other end is ours, and at the restore another one's.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (_output, stdout) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let stderr = stdout.try_clone().unwrap();
    c.bundle_call("run", &["--detach"]).stdin_fd(reader).streams(stdout, stderr).run().ok();
    wait::until("it waits", || c.path("/up").metadata().ok());
    checkpoint(&c, &[]).run().ok();
    drop(writer);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (output, stdout) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let stderr = stdout.try_clone().unwrap();
    fs::File::from(writer).write_all(b"line\n").unwrap();
    let twin = twin(&c);
    restore_in_foreground(&twin, &[]).stdin_fd(reader).streams(stdout, stderr).run().code(7);
    let mut text = String::new();
    fs::File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!(text, "got line\n");
    t.assert_nothing_left();
}

fn a_terminal_is_restored(t: &Test) {
    criu(t);
    let c = t
        .container()
        .set("/process/terminal", json!(true))
        .sh("stty -echo; echo ready; while read line; do echo got $line on $(tty); done");
    let socket = ConsoleSocket::listen(t.path("first.sock"));
    c.bundle_call("run", &["--detach", "--console-socket", socket.arg()]).run().ok();
    let mut terminal = socket.receive();
    terminal.expect("ready\n");
    terminal.send("one\n");
    terminal.expect("got one on /dev/pts/0\n");
    checkpoint(&c, &[]).run().ok();
    drop(terminal);
    let twin = twin(&c);
    let socket = ConsoleSocket::listen(t.path("second.sock"));
    restore(&twin, &["--console-socket", socket.arg()]).run().ok();
    let mut terminal = socket.receive();
    terminal.send("two\n");
    terminal.expect("got two on /dev/pts/0\n");
}

/// A container that talks to us over TCP in the host's network, and the connection.
fn talking(t: &Test) -> (Container<'_>, std::net::TcpStream) {
    criu(t);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let c = t.container().without_namespace("network").args(&[
        "nc",
        "127.0.0.1",
        &port,
        "-e",
        "sh",
        "-c",
        "while read line; do echo got $line; done",
    ]);
    c.run_detached();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (c, stream)
}

#[track_caller]
fn talk(stream: &mut std::net::TcpStream, word: &str) {
    writeln!(stream, "{word}").unwrap();
    let mut answer = vec![0; word.len() + 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), format!("got {word}\n"));
}

fn a_tcp_connection_is_restored(t: &Test) {
    t.need_program("iptables-restore");
    let (c, mut stream) = talking(t);
    talk(&mut stream, "one");
    checkpoint(&c, &["--tcp-established"]).run().ok();
    // Nobody is there now: it waits in the network.
    writeln!(stream, "two").unwrap();
    let twin = twin(&c);
    restore(&twin, &["--tcp-established"]).run().ok();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"got two\n");
    talk(&mut stream, "three");
}

fn a_tcp_connection_needs_its_flag(t: &Test) {
    let (c, mut stream) = talking(t);
    checkpoint(&c, &[]).run().fails().names("criu failed: type").names("tcp").one_line();
    assert_eq!(c.status(), "running");
    talk(&mut stream, "still here");
    let left: Vec<_> = fs::read_dir(images(t)).into_iter().flatten().flatten().collect();
    let names: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
    t.need(t.kind() == Kind::Skep, "for skep, which removes the images");
    assert_eq!(names, ["dump.log"]);
}

fn a_terminal_and_a_connection_are_restored_together(t: &Test) {
    criu(t);
    t.need_program("iptables-restore");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let c = t.container().without_namespace("network").set("/process/terminal", json!(true)).sh(
        &format!(
            "stty -echo; nc 127.0.0.1 {port} -e sh -c 'while read line; do echo got $line; done' & \
             echo ready; while read line; do echo got $line on $(tty); done"
        ),
    );
    let socket = ConsoleSocket::listen(t.path("first.sock"));
    c.bundle_call("run", &["--detach", "--console-socket", socket.arg()]).run().ok();
    let mut terminal = socket.receive();
    terminal.expect("ready\n");
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    talk(&mut stream, "one");
    terminal.send("two\n");
    terminal.expect("got two on /dev/pts/0\n");
    checkpoint(&c, &["--tcp-established"]).run().ok();
    drop(terminal);
    let twin = twin(&c);
    let socket = ConsoleSocket::listen(t.path("second.sock"));
    restore(&twin, &["--tcp-established", "--console-socket", socket.arg()]).run().ok();
    let mut terminal = socket.receive();
    talk(&mut stream, "three");
    terminal.send("four\n");
    terminal.expect("got four on /dev/pts/0\n");
}

fn seen(c: &Container<'_>) -> String {
    fs::read_to_string(c.path("/seen")).unwrap_or_default()
}

fn bind_mounts_lead_to_where_the_new_configuration_says(t: &Test) {
    criu(t);
    for dir in ["old", "new"] {
        fs::create_dir_all(t.path(dir)).unwrap();
        fs::write(t.path(dir).join("name"), dir).unwrap();
    }
    let bind = |source: &str, destination: &str| json!({"destination": destination, "type": "bind", "source": t.path(source), "options": ["rbind"]});
    // /var/run is a link to be followed.
    let c = t
        .container()
        .push("/mounts", bind("old", "/data"))
        .push("/mounts", bind("old/name", "/var/file"))
        .sh("while :; do (exec cat /data/name /var/file > /n); (exec mv /n /seen); done");
    c.run_detached();
    wait::until("it sees the old", || (seen(&c) == "oldold").then_some(()));
    checkpoint(&c, &[]).run().ok();
    let mut twin = twin(&c);
    let mounts = twin.config["mounts"].as_array_mut().unwrap();
    let last = mounts.len() - 2;
    mounts[last] = bind("new", "/data");
    mounts[last + 1] = bind("new/name", "/var/file");
    restore(&twin, &[]).run().ok();
    wait::until("it sees the new", || (seen(&c) == "newnew").then_some(()));
}

/// A device of the host's bound elsewhere, and one bind mount under a mask.
fn bound_devices_and_masks_are_those_of_the_configuration(t: &Test) {
    criu(t);
    fs::write(t.path("secret"), "secret").unwrap();
    let bind = |source: &str, destination: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
    let secret = t.path("secret").display().to_string();
    let c = t
        .container()
        .push("/mounts", bind("/dev/full", "/data/device"))
        .push("/mounts", bind(&secret, "/data/secret"))
        .push("/linux/maskedPaths", json!("/data/secret"))
        // Not sleep(1): CRIU interrupts the call, after which busybox's does not sleep on.
        .sh(COUNTING);
    c.run_detached();
    let device = |c: &Container<'_>| {
        let said = c.exec(&["sh", "-c", "stat -c %t,%T /data/device; cat /data/secret"]);
        said.ok().text().to_owned()
    };
    assert_eq!(device(&c), "1,7\n".trim());
    checkpoint(&c, &[]).run().ok();
    let mut twin = twin(&c);
    let mounts = twin.config["mounts"].as_array_mut().unwrap();
    let last = mounts.len() - 2;
    mounts[last] = bind("/dev/zero", "/data/device");
    restore(&twin, &[]).run().ok();
    assert_eq!(device(&twin), "1,5");
}

fn a_joined_network_namespace_is_joined_again(t: &Test) {
    criu(t);
    let holder = |t: &Test| {
        let c = t.container().lasting();
        c.run_detached();
        format!("/proc/{}/ns/net", c.pid())
    };
    let first = holder(t);
    let namespaces = |path: &str| json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": path}]);
    let c = t.container().set("/linux/namespaces", namespaces(&first)).sh(COUNTING);
    c.run_detached();
    c.wait_file("/count");
    checkpoint(&c, &[]).run().ok();
    let second = holder(t);
    let mut twin = twin(&c);
    twin.config["linux"]["namespaces"] = namespaces(&second);
    restore(&twin, &[]).run().ok();
    let own = fs::read_link(format!("/proc/{}/ns/net", twin.pid())).unwrap();
    assert_eq!(own, fs::read_link(&second).unwrap());
    assert_ne!(own, fs::read_link(&first).unwrap());
}

fn limits_are_those_of_the_new_configuration(t: &Test) {
    t.need_controller("pids");
    criu(t);
    let c = t.container().set("/linux/resources/pids", json!({"limit": 100})).sh(COUNTING);
    c.run_detached();
    c.wait_file("/count");
    c.expect_limit(("pids", "pids.max", "100"), ("pids.max", "100"));
    checkpoint(&c, &[]).run().ok();
    let mut twin = twin(&c);
    twin.config["linux"]["resources"]["pids"]["limit"] = json!(77);
    restore(&twin, &[]).run().ok();
    twin.expect_limit(("pids", "pids.max", "77"), ("pids.max", "77"));
    let procs = fs::read_to_string(twin.cgroup_file(("pids", "cgroup.procs"), "cgroup.procs"));
    assert!(procs.unwrap().lines().any(|pid| pid == twin.pid().to_string()));
}

fn every_mode_of_cgroups_is_restored(t: &Test) {
    let c = counting(t);
    for mode in ["soft", "full", "strict", "ignore"] {
        // runc's own strict finds the cgroup it has made.
        if t.kind() == Kind::Runc && mode == "strict" {
            continue;
        }
        let flags = ["--manage-cgroups-mode", mode];
        checkpoint(&c, &flags).run().ok();
        let at = stopped(&c);
        restore(&c, &flags).run().ok();
        wait_count(&c, &at);
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        let inside = cgroup.lines().filter(|line| line.contains(&c.id)).count();
        assert!(
            inside > 0
                && cgroup.lines().any(|line| line.contains(&format!(":pids:/{}", c.id))
                    || line == format!("0::/{}", c.id)),
            "{mode}: {cgroup}"
        );
    }
}

/// In hierarchies of version 1 that the container has no cgroup in, CRIU saves all there are.
fn cgroups_of_others_are_not_restored(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc restores them");
    t.need_controller("cpuset");
    let c = counting(t);
    let other = match t.host.layout {
        Layout::V1 => t.host.v1("cpuset", &format!("{}-other", t.id), ""),
        Layout::V2 => t.host.v2(&format!("{}-other", t.id), ""),
    };
    for mode in ["soft", "full"] {
        let flags = ["--manage-cgroups-mode", mode];
        fs::create_dir(&other).unwrap();
        fs::create_dir(other.join("below")).unwrap();
        checkpoint(&c, &flags).run().ok();
        fs::remove_dir(other.join("below")).unwrap();
        fs::remove_dir(&other).unwrap();
        let at = stopped(&c);
        restore(&c, &flags).run().ok();
        wait_count(&c, &at);
        assert!(!other.exists(), "{mode}");
    }
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn a_paused_container_is_checkpointed(t: &Test) {
    let c = counting(t);
    c.call("pause", &[]).run().ok();
    checkpoint(&c, &[]).run().ok();
    t.assert_nothing_left();
    let at = stopped(&c);
    restore(&c, &[]).run().ok();
    assert_eq!(c.status(), "running");
    wait_count(&c, &at);
}

fn prestart_hooks_run_again(t: &Test) {
    criu(t);
    let log = t.path("hooks");
    let c = t
        .container()
        .hook("prestart", &format!("cat >> {}; echo >> {}", log.display(), log.display()))
        .hook("poststop", &format!("echo poststop >> {}", log.display()))
        .sh(COUNTING);
    c.run_detached();
    c.wait_file("/count");
    checkpoint(&c, &[]).run().ok();
    fs::remove_file(&log).unwrap();
    restore(&c, &[]).run().ok();
    let text = fs::read_to_string(&log).unwrap();
    let state: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((&state["id"], &state["pid"]), (&json!(c.id), &json!(c.pid())));
}

fn a_failing_hook_leaves_nothing(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &[]).run().ok();
    let twin = twin(&c).hook("createRuntime", "exit 3");
    restore(&twin, &[]).run().fails().names("createRuntime hook").one_line();
    assert!(twin.dir.join("pid").metadata().is_err());
    t.assert_nothing_left();
}

fn a_pre_dump_is_the_parent_of_a_dump(t: &Test) {
    let criu = criu(t);
    let c = counting(t);
    let [first, second] = ["first", "second"].map(|name| t.path(name).display().to_string());
    let call = |flags: &[&str]| {
        c.call("checkpoint", flags).global(&["--criu", &criu]).limit(Duration::from_secs(120))
    };
    let mut check = Command::new(&criu);
    check.args(["check", "--feature", "mem_dirty_track"]).current_dir(t.path("io"));
    let tracks = reaper::output(&mut check);
    let output = call(&["--pre-dump", "--image-path", &first]).run();
    if !tracks.is_ok_and(|output| output.status.success()) {
        output.fails().names("--pre-dump").one_line();
        assert_eq!(c.status(), "running");
        assert!(fs::metadata(&first).is_err());
        t.skip("this kernel does not track memory");
    }
    output.ok();
    assert_eq!(c.status(), "running");
    call(&["--image-path", &second, "--parent-path", "../first"]).run().ok();
    assert!(fs::symlink_metadata(t.path("second/parent")).is_ok());
    let at = stopped(&c);
    fs::rename(t.path("second"), images(t)).unwrap();
    restore(&c, &[]).run().ok();
    wait_count(&c, &at);
}

fn a_created_container_is_refused(t: &Test) {
    criu(t);
    let c = t.container().lasting();
    c.create();
    checkpoint(&c, &[]).run().fails().names("Container cannot be checkpointed in created state");
    assert_eq!(c.status(), "created");
    assert!(images(t).metadata().is_err());
}

fn a_stopped_container_is_refused(t: &Test) {
    criu(t);
    let c = t.container().args(&["true"]);
    c.run_detached();
    c.wait_exit();
    c.wait_status("stopped");
    checkpoint(&c, &[]).run().fails().names("Container cannot be checkpointed in stopped state");
}

fn restore_under_a_taken_id_is_refused(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &["--leave-running"]).run().ok();
    restore(&c, &[]).run().fails().names("already exists");
    assert_eq!(c.status(), "running");
}

fn an_absolute_parent_is_refused(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &["--parent-path", "/tmp"]).run().fails().names("--parent-path");
    checkpoint(&c, &["--parent-path", "../no-such"]).run().fails().names("no-such");
    assert_eq!(c.status(), "running");
}

fn a_checkpoint_that_is_not_there_is_refused(t: &Test) {
    criu(t);
    let c = t.container().lasting();
    restore(&c, &[]).run().fails().names("images");
    fs::create_dir(images(t)).unwrap();
    restore(&c, &[]).run().fails().names("criu failed");
    t.assert_nothing_left();
}

fn a_damaged_checkpoint_leaves_nothing(t: &Test) {
    let c = counting(t);
    checkpoint(&c, &[]).run().ok();
    for name in ["core-1.img", "pstree.img", "inventory.img"] {
        let path = images(t).join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        restore(&c, &[]).run().fails().names("criu failed: type RESTORE");
        t.assert_nothing_left();
        fs::write(&path, whole).unwrap();
    }
    if t.kind() == Kind::Skep {
        fs::write(images(t).join("descriptors.json"), "{").unwrap();
        restore(&c, &[]).run().fails().names("descriptors.json");
        t.assert_nothing_left();
    }
}

fn bad_values_of_flags_are_refused(t: &Test) {
    criu(t);
    t.need(t.kind() == Kind::Skep, "for skep's words");
    let c = t.container().lasting();
    c.run_detached();
    for (flags, words) in [
        (["--page-server", "nowhere"], "ADDRESS:PORT"),
        (["--page-server", "::1:0"], "ADDRESS:PORT"),
        (["--empty-ns", "pid"], "empty-ns"),
        (["--status-fd", "99"], "--status-fd 99"),
        (["--manage-cgroups-mode", "hard"], "hard"),
        (["--network-lock", "pf"], "pf"),
    ] {
        checkpoint(&c, &flags).run().fails().names(words).one_line();
    }
    assert_eq!(c.status(), "running");
    restore(&t.container(), &["--lsm-profile", "tomoyo:a"]).run().fails().names("tomoyo:a");
}
