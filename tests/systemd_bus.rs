//! The systemd driver where systemd is not there, refuses, lies or hangs: it is said so in time, and nothing is left.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::runner::cases;
use crate::harness::{Container, Output, Test, json, wait};
use crate::systemd::{call, container, skep};

cases![
    a_path_that_names_no_unit_is_refused,
    an_annotation_that_is_no_property_is_refused,
    a_bus_that_refuses_is_explained,
    a_bus_that_hangs_is_given_up,
    a_systemd_that_has_other_pids_is_told_none,
    a_runtime_killed_while_it_waits_leaves_nothing,
];

fn a_path_that_names_no_unit_is_refused(t: &Test) {
    skep(t);
    for (path, words) in [
        ("/docker/x", "slice:prefix:name"),
        ("system.slice:x", "slice:prefix:name"),
        ("nonsense:a:b", "nonsense"),
        ("a/b.slice:c:d", "a/b.slice"),
        ("system.slice:a:../../b", "../../b"),
        ("system.slice:a:b c", "b c"),
    ] {
        let c = t.container().set("/linux/cgroupsPath", json!(path));
        call(&c, "run", &[]).fails().names("linux.cgroupsPath").names(words);
    }
    t.assert_nothing_left();
}

fn an_annotation_that_is_no_property_is_refused(t: &Test) {
    skep(t);
    for (name, value) in [
        ("org.systemd.property.TimeoutStopUSec", "uint64 -1"),
        ("org.systemd.property.CollectMode", "inactive"),
        ("org.systemd.property.a b", "true"),
        ("org.systemd.property.PIDs", "[uint32 1]"),
        ("run.oci.systemd.subgroup", "../x"),
    ] {
        let c = container(t).set("/annotations", json!({name: value}));
        call(&c, "run", &[]).fails().names(name);
    }
    t.assert_nothing_left();
}

/// A bus of the test's own, for connections one after the other.
struct Fake {
    path: PathBuf,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(t: &Test, serve: impl Fn(&mut UnixStream) + Send + 'static) -> Self {
        let path = t.path("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        stopped.set_nonblocking(true).unwrap();
        let thread = thread::spawn(move || {
            loop {
                let mut connection = listener.accept().unwrap().0;
                if (&stopped).read(&mut [0]).is_ok() {
                    return;
                }
                serve(&mut connection);
            }
        });
        Self { path, stop, thread: Some(thread) }
    }

    fn run(&self, c: &Container<'_>) -> Output {
        self.call(c).run()
    }

    fn call<'t>(&self, c: &Container<'t>) -> crate::harness::runtime::Call<'t> {
        c.bundle_call("run", &[])
            .global(&["--systemd-cgroup"])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &format!("unix:path={}", self.path.display()))
            .limit(wait::stretched(Duration::from_secs(90)))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.write_all(b"x").unwrap();
        let _wakes_it = UnixStream::connect(&self.path);
        self.thread.take().unwrap().join().unwrap();
        fs::remove_file(&self.path).unwrap();
    }
}

/// Reads until the client hangs up, or these words came.
fn read_to(connection: &mut UnixStream, words: &[u8]) {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(words) && connection.read(&mut byte).is_ok_and(|length| length == 1) {
        all.push(byte[0]);
    }
}

fn let_in(connection: &mut UnixStream) {
    read_to(connection, b"BEGIN\r\n");
    connection.write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n").unwrap();
}

/// The error `a.b.C: full up`, as the answer to the first call.
fn error() -> Vec<u8> {
    let mut message = b"l\x03\0\x01\x0c\0\0\0\x01\0\0\0\x20\0\0\0".to_vec();
    message[12] = 31;
    message.extend_from_slice(
        b"\x05\x01u\0\x01\0\0\0\x04\x01s\0\x05\0\0\0a.b.C\0\0\0\x08\x01g\0\x01s\0\0",
    );
    message.extend_from_slice(b"\x07\0\0\0full up\0");
    message
}

fn a_bus_that_refuses_is_explained(t: &Test) {
    skep(t);
    t.need(cfg!(target_endian = "little"), "the messages here are little-endian");
    type Stage = fn(&mut UnixStream);
    let stages: [(Stage, &str); 5] = [
        (
            |connection| {
                read_to(connection, b"BEGIN\r\n");
                connection.write_all(b"REJECTED\r\n").unwrap();
            },
            "REJECTED",
        ),
        (
            |connection| {
                read_to(connection, b"BEGIN\r\n");
                connection.write_all(b"\xff\xff\xff\r\n").unwrap();
            },
            "D-Bus",
        ),
        (let_in, "lost the connection"),
        (
            |connection| {
                let_in(connection);
                connection.write_all(&error()).unwrap();
                read_to(connection, b"never");
            },
            "full up",
        ),
        (
            |connection| {
                let_in(connection);
                drop(connection.write_all(&[b'l'; 4096]));
                read_to(connection, b"never");
            },
            "D-Bus",
        ),
    ];
    for (stage, words) in stages {
        let fake = Fake::new(t, stage);
        let c = container(t);
        fake.run(&c).fails().names(words).names("bus");
        drop(fake);
        t.assert_nothing_left();
    }
    // And nobody at all.
    let c = container(t);
    let address = format!("unix:path={}", t.path("nobody").display());
    let call = c.bundle_call("run", &[]).global(&["--cgroup-manager=systemd"]);
    let output = call.env("DBUS_SYSTEM_BUS_ADDRESS", &address).run().fails();
    output.names("systemd not running on this host, cannot use systemd cgroups manager");
    t.assert_nothing_left();
}

fn a_bus_that_hangs_is_given_up(t: &Test) {
    skep(t);
    let fake = Fake::new(t, |connection| {
        let_in(connection);
        read_to(connection, b"never");
    });
    let c = container(t);
    let begun = Instant::now();
    fake.run(&c).fails().names("did not answer within 30 seconds");
    assert!(begun.elapsed() < wait::stretched(Duration::from_secs(60)));
    drop(fake);
    t.assert_nothing_left();
}

/// The answer to Hello, the first call, as far as anybody reads it.
const WELCOME: &[u8] = b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0\x05\x01u\0\x01\0\0\0";

/// As where a container has the socket of the host's: pid 7 in there is somebody else out here, who would be moved into the
/// scope, and killed with it.
fn a_systemd_that_has_other_pids_is_told_none(t: &Test) {
    skep(t);
    t.need(cfg!(target_endian = "little"), "the messages here are little-endian");
    t.need_program("unshare");
    let (heard, said) = std::sync::mpsc::channel();
    let fake = Fake::new(t, move |connection| {
        let_in(connection);
        connection.write_all(WELCOME).unwrap();
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).unwrap();
        heard.send(rest).unwrap();
    });
    let c = container(t);
    let inside = ["unshare", "--pid", "--fork", "--mount-proc", "--"];
    let output = fake.call(&c).by(&inside).run().fails();
    output.names("outside of this pid namespace").names("--systemd-cgroup");
    let rest = said.recv_timeout(wait::patience()).unwrap();
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("Hello") && !text.contains("StartTransientUnit"), "{text:?}");
    drop(fake);
    t.assert_nothing_left();
}

fn a_runtime_killed_while_it_waits_leaves_nothing(t: &Test) {
    skep(t);
    let (asked, told) = std::sync::mpsc::channel();
    let fake = Fake::new(t, move |connection| {
        let_in(connection);
        let _nobody_waits = asked.send(());
        read_to(connection, b"never");
    });
    let c = container(t);
    let running = fake.call(&c).spawn();
    told.recv_timeout(wait::patience()).unwrap();
    running.signal(Signal::SIGKILL);
    drop(running.wait());
    drop(fake);
    c.delete_force().ok();
    t.assert_nothing_left();
}
