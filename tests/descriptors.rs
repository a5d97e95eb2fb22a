//! What crosses into the container by descriptor: preserved ones, sockets of systemd, pidfds, and nothing else.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, pty, wait};

cases![
    only_the_standard_streams_are_open,
    descriptors_of_the_caller_do_not_leak,
    descriptors_are_preserved_in_order,
    a_preserved_descriptor_that_is_not_open_is_refused,
    listen_fds_are_passed,
    listen_fds_of_another_pid_are_ignored,
    listen_fds_come_before_preserved_descriptors,
    the_notify_socket_is_forwarded,
    who_calls_us_crun_has_the_notify_socket_where_crun_has_it,
    start_waits_until_the_container_is_ready,
    ready_on_a_later_line_counts,
    ready_at_once_is_heard_by_run,
    a_notify_socket_for_start_alone_is_left_alone,
    a_missing_notify_socket_is_for_start_an_error,
    a_container_that_dies_before_it_is_ready_does_not_hang,
    without_a_notify_socket_there_is_none_inside,
    the_pidfd_of_init_is_sent,
    the_pidfd_of_an_exec_is_sent,
    a_missing_pidfd_socket_makes_create_fail,
    a_created_container_holds_nothing_of_the_caller,
    create_passes_standard_streams_on,
];

fn open(t: &Test, name: &str) -> OwnedFd {
    fs::write(t.path(name), name).unwrap();
    fs::File::open(t.path(name)).unwrap().into()
}

fn numbers(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split(' ').next().unwrap()).collect()
}

fn only_the_standard_streams_are_open(t: &Test) {
    // CVE-2024-21626 began with one descriptor too many.
    let c = t.container().with_probe().args(&["probe", "fds"]);
    let output = c.run().ok();
    assert_eq!(numbers(&output.stdout), ["0", "1", "2"], "{output}");
    let c = t.container().with_probe().args(&["probe", "fds"]);
    let output = c.run_detached();
    c.wait_exit();
    assert_eq!(numbers(&output.stdout_now()), ["0", "1", "2"]);
}

fn descriptors_of_the_caller_do_not_leak(t: &Test) {
    let c = t.container().with_probe().args(&["probe", "fds"]);
    let fds =
        || vec![(open(t, "a"), 3), (open(t, "b"), 5), (open(t, "c"), 99), (open(t, "d"), 150)];
    let output = c.bundle_call("run", &[]).fds(fds()).run().ok();
    assert_eq!(numbers(&output.stdout), ["0", "1", "2"], "{output}");
    let pid = c.dir.join("pid").display().to_string();
    let output = c.bundle_call("create", &["--pid-file", &pid]).fds(fds()).run().ok();
    c.call("start", &[]).fds(fds()).run().ok();
    c.wait_exit();
    assert_eq!(numbers(&output.stdout_now()), ["0", "1", "2"]);
}

fn descriptors_are_preserved_in_order(t: &Test) {
    let c = t.container().with_probe().sh("cat <&3; cat <&4; cat <&5; probe fds");
    let fds = vec![
        (open(t, "three"), 3),
        (open(t, "four"), 4),
        (open(t, "five"), 5),
        (open(t, "six"), 6),
    ];
    let output = c.bundle_call("run", &["--preserve-fds", "3"]).fds(fds).run().ok();
    let listing = output.stdout.strip_prefix("threefourfive").unwrap_or_else(|| panic!("{output}"));
    assert_eq!(numbers(listing), ["0", "1", "2", "3", "4", "5"], "{output}");
}

fn a_preserved_descriptor_that_is_not_open_is_refused(t: &Test) {
    let c = t.container();
    c.bundle_call("run", &["--preserve-fds", "2"]).fds(vec![(open(t, "three"), 3)]).run().fails();
    t.assert_nothing_left();
}

/// Runs the runtime by a shell, so that LISTEN_PID can be its pid.
fn with_listen(
    t: &Test,
    pid: &str,
    count: u32,
    names: &str,
    command: &str,
) -> std::process::Output {
    let script = format!(
        "exec 3<{0}/one 4<{0}/two; export LISTEN_FDS={count} LISTEN_PID={pid} LISTEN_FDNAMES={names}; \
         exec \"$0\" --root {0}/root {command}",
        t.dir.display()
    );
    fs::write(t.path("one"), "one\n").unwrap();
    fs::write(t.path("two"), "two\n").unwrap();
    crate::harness::reaper::output(
        std::process::Command::new("sh").args(["-c", &script]).arg(&t.runtime.path),
    )
    .unwrap()
}

fn listen_fds_are_passed(t: &Test) {
    let c = t.container().sh("cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID");
    c.write();
    let output =
        with_listen(t, "$$", 2, "a:b", &format!("run --bundle {} {}", c.dir.display(), c.id));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n2 1\n", "{output:?}");
}

fn listen_fds_of_another_pid_are_ignored(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun do not look at LISTEN_PID");
    let c = t.container().with_probe().sh("probe fds; echo [$LISTEN_FDS]");
    c.write();
    let output =
        with_listen(t, "1", 2, "a:b", &format!("run --bundle {} {}", c.dir.display(), c.id));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.ends_with("[]\n"), "{output:?}");
    assert_eq!(numbers(&text)[..3], ["0", "1", "2"], "{output:?}");
    assert!(!text.contains("\n3 "), "{output:?}");
}

fn listen_fds_come_before_preserved_descriptors(t: &Test) {
    let c = t.container().sh("cat <&3; cat <&4; echo $LISTEN_FDS");
    c.write();
    let output = with_listen(
        t,
        "$$",
        1,
        "a",
        &format!("run --preserve-fds 1 --bundle {} {}", c.dir.display(), c.id),
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n1\n", "{output:?}");
}

/// A service manager: reads all that comes, until it is dropped. A barrier's descriptor is closed by not taking it.
struct Manager {
    path: std::path::PathBuf,
    heard: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Manager {
    fn listen(t: &Test) -> Self {
        let path = t.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (heard, stop) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
        let (into, until) = (heard.clone(), stop.clone());
        let reader = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if wait::readable(&socket, Duration::from_millis(20)) {
                    let mut buffer = [0; 4096];
                    let len = socket.recv(&mut buffer).unwrap();
                    into.lock()
                        .unwrap()
                        .push_str(&format!("{}\n", String::from_utf8_lossy(&buffer[..len])));
                }
            }
        });
        Self { path, heard, stop, reader: Some(reader) }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    #[track_caller]
    fn hears(&self, words: &str) {
        let heard = || self.heard.lock().unwrap().clone();
        let came = wait::until_within(wait::patience(), || heard().contains(words).then_some(()));
        assert!(came.is_some(), "expected {words:?} at the notify socket, heard {:?}", heard());
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _panicked = reader.join();
        }
    }
}

/// A container that tells its notify socket something.
fn notifying<'t>(t: &'t Test, text: &str) -> crate::harness::Container<'t> {
    t.container().with_probe().args(&[
        "sh",
        "-c",
        "probe notify \"$NOTIFY_SOCKET\" \"$0\"; sleep 1000",
        text,
    ])
}

fn the_notify_socket_is_forwarded(t: &Test) {
    let manager = Manager::listen(t);
    let c = notifying(t, "READY=1");
    let pid = c.dir.join("pid").display().to_string();
    c.bundle_call("create", &["--pid-file", &pid]).env("NOTIFY_SOCKET", manager.path()).run().ok();
    c.call("start", &[]).env("NOTIFY_SOCKET", manager.path()).run().ok();
    manager.hears("READY=1");
    manager.hears(&format!("MAINPID={}", c.pid()));
    assert_eq!(c.status(), "running");
}

fn start_waits_until_the_container_is_ready(t: &Test) {
    let manager = Manager::listen(t);
    let c =
        t.container().with_probe().sh("cat /fifo; probe notify $NOTIFY_SOCKET READY=1; sleep 1000");
    nix::unistd::mkfifo(&c.path("/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let run = c.bundle_call("run", &["--detach"]).env("NOTIFY_SOCKET", manager.path()).spawn();
    // The fifo opens for writing when the program reads it.
    wait::write_to_reader(&c.path("/fifo"), "go");
    run.wait().ok();
    manager.hears("READY=1");
}

/// crun's containers, and they alone, have a directory in the place of the service manager's own socket.
fn who_calls_us_crun_has_the_notify_socket_where_crun_has_it(t: &Test) {
    t.need(t.kind() == Kind::Skep, "a name for skep");
    let link = t.path("crun");
    std::os::unix::fs::symlink(&t.runtime.path, &link).unwrap();
    let script = format!("shift; exec {} \"$@\"", link.display());
    let by = ["sh", "-c", script.as_str(), "sh"];
    let manager = Manager::listen(t);
    let c = notifying(t, "READY=1");
    c.bundle_call("run", &["--detach"]).env("NOTIFY_SOCKET", manager.path()).by(&by).run().ok();
    manager.hears("READY=1");
    let place = manager.path();
    let output = c.exec(&[
        "sh",
        "-c",
        "ls -d $0/*; ls /run; grep -c \" $0 ro,\" /proc/self/mountinfo",
        place,
    ]);
    output.ok().prints(&format!("{place}/notify.sock\n1\n"));
    c.delete_force().ok();
    // A symlink of the image leads nowhere else than in the image, a file in the way is named.
    let c = t.container().sh("ls -d /there/socket/*");
    std::os::unix::fs::symlink("../../../../there", c.path("/link")).unwrap();
    fs::create_dir(c.path("/there")).unwrap();
    let run = c.bundle_call("run", &[]).env("NOTIFY_SOCKET", "/link/socket").by(&by).run().ok();
    assert_eq!(run.stdout, "/there/socket/notify.sock\n", "{run}");
    let c = t.container().file("/file", "", 0o644);
    let run = c.bundle_call("run", &[]).env("NOTIFY_SOCKET", "/file").by(&by).run();
    run.fails().names("NOTIFY_SOCKET");
    // What cannot be a place for a directory, or would be too long with what is in it, is none.
    let long = format!("/{}", "x".repeat(96));
    for host in ["@abstract", "relative", "/", "//../", &long] {
        let c = t.container().sh("echo $NOTIFY_SOCKET > /told && mv /told /out");
        c.bundle_call("create", &[]).env("NOTIFY_SOCKET", host).by(&by).run().ok();
        c.start().ok();
        let told =
            wait::until("the program's variable", || fs::read_to_string(c.path("/out")).ok());
        assert_eq!(told, "/run/notify/notify.sock\n", "{host}");
        c.delete_force().ok();
    }
}

fn ready_on_a_later_line_counts(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun look at the first line only");
    let manager = Manager::listen(t);
    let c = notifying(t, "STATUS=starting\nREADY=1\n");
    c.bundle_call("run", &["--detach"]).env("NOTIFY_SOCKET", manager.path()).run().ok();
    manager.hears("READY=1");
}

fn ready_at_once_is_heard_by_run(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun may bind too late");
    let manager = Manager::listen(t);
    for status in ["STATUS=one", "STATUS=two", "STATUS=three"] {
        let text = format!("READY=1\n{status}");
        let c =
            t.container().with_probe().args(&["probe", "notify", "/run/notify/notify.sock", &text]);
        c.bundle_call("run", &[]).env("NOTIFY_SOCKET", manager.path()).run().ok();
        manager.hears(status);
    }
}

fn a_notify_socket_for_start_alone_is_left_alone(t: &Test) {
    t.need(
        t.kind() == Kind::Skep,
        "runc and crun look for a directory that create would have made",
    );
    let manager = Manager::listen(t);
    let c = t.container().lasting();
    c.create();
    c.call("start", &[]).env("NOTIFY_SOCKET", manager.path()).run().ok();
    assert_eq!(c.status(), "running");
}

fn a_missing_notify_socket_is_for_start_an_error(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun have their own ways here");
    let missing = "/no/such/socket";
    let log = t.path("log");
    let flags = ["--log", log.to_str().unwrap()];
    // Nobody reads there, so who writes is told instead of being blocked once the queue is full.
    let c = t
        .container()
        .with_probe()
        .sh("probe notify $NOTIFY_SOCKET READY=1; echo $?; ls /run/notify");
    let run = c.bundle_call("run", &[]).global(&flags).env("NOTIFY_SOCKET", missing).run().ok();
    assert!(!run.stdout.starts_with('0') && run.stdout.ends_with("\nnotify.sock\n"), "{run}");
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("level=warning") && told.contains(missing), "{told}");
    let c = t.container().lasting();
    c.bundle_call("run", &["--detach"]).env("NOTIFY_SOCKET", missing).run().ok();
    c.delete_force().ok();
    let c = t.container().lasting();
    c.bundle_call("create", &[]).env("NOTIFY_SOCKET", missing).run().ok();
    let start = c.call("start", &[]).env("NOTIFY_SOCKET", missing).run().fails();
    start.names(missing).names("NOTIFY_SOCKET");
    c.start().ok();
}

fn a_container_that_dies_before_it_is_ready_does_not_hang(t: &Test) {
    let manager = Manager::listen(t);
    let c = t.container();
    let output = c
        .bundle_call("run", &["--detach"])
        .env("NOTIFY_SOCKET", manager.path())
        .limit(Duration::from_secs(5))
        .run();
    assert!(output.code.is_some(), "{output}");
}

fn without_a_notify_socket_there_is_none_inside(t: &Test) {
    t.container().sh("echo [$NOTIFY_SOCKET]; ls /run").run().ok().prints("[]\n");
}

fn the_pidfd_of_init_is_sent(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let path = t.path("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    let c = t.container().lasting();
    let pid = c.dir.join("pid").display().to_string();
    let create = c
        .bundle_call("create", &["--pid-file", &pid, "--pidfd-socket", path.to_str().unwrap()])
        .spawn();
    let (fd, name) = pty::receive_one(&listener);
    assert_eq!(name, "standard");
    create.wait().ok();
    assert_eq!(pid_of(&fd), c.pid());
    c.start().ok();
    c.kill("KILL").ok();
    assert!(wait::readable(&fd, wait::patience()), "the pidfd does not tell the end");
}

/// The process a pidfd refers to.
fn pid_of(fd: &OwnedFd) -> i32 {
    let number = std::os::fd::AsRawFd::as_raw_fd(fd);
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .expect("a pidfd")
        .trim()
        .parse()
        .unwrap()
}

fn the_pidfd_of_an_exec_is_sent(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let path = t.path("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    let c = t.container().lasting();
    c.run_detached();
    let flags = ["--detach", "--pid-file", "exec.pid", "--pidfd-socket", path.to_str().unwrap()];
    let exec = c.exec_with(&flags, &["sleep", "1000"]).spawn();
    let (fd, name) = pty::receive_one(&listener);
    exec.wait().ok();
    assert_eq!(name, "setns");
    assert_eq!(pid_of(&fd).to_string(), fs::read_to_string(t.path("exec.pid")).unwrap());
}

fn a_missing_pidfd_socket_makes_create_fail(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let c = t.container().lasting();
    c.bundle_call("create", &["--pidfd-socket", "/no/such/socket"])
        .run()
        .fails()
        .names("/no/such/socket");
    t.assert_nothing_left();
}

fn a_created_container_holds_nothing_of_the_caller(t: &Test) {
    let c = t.container().lasting();
    let pid = c.dir.join("pid").display().to_string();
    c.bundle_call("create", &["--pid-file", &pid]).fds(vec![(open(t, "held"), 9)]).run().ok();
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten() {
        held.push(fs::read_link(entry.path()).unwrap_or_default().display().to_string());
    }
    assert!(!held.iter().any(|path| path.ends_with("/held")), "{held:?}");
    // No directory of the host's either.
    for path in &held {
        assert!(!path.starts_with("/sys/fs/cgroup") && path != "/", "{held:?}");
    }
    // Of the runtime's own files it needs the one that start opens.
    let root = t.root.display().to_string();
    let own: Vec<_> = held.iter().filter(|path| path.starts_with(&root)).collect();
    assert!(matches!(own[..], [path] if path.ends_with("/exec.fifo")), "{held:?}");
}

fn create_passes_standard_streams_on(t: &Test) {
    let c = t.container().sh("cat; echo error >&2");
    let pid = c.dir.join("pid").display().to_string();
    let output = c.bundle_call("create", &["--pid-file", &pid]).stdin("typed\n").run().ok();
    c.start().ok();
    assert_eq!(c.wait_exit(), 0);
    assert_eq!(output.stdout_now(), "typed\n");
    assert_eq!(fs::read_to_string(&output.stderr_path).unwrap(), "error\n");
}
