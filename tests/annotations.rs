//! crun's annotations, and its other places to log to.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use crate::harness::runner::cases;
use crate::harness::seccomp::Agent;
use crate::harness::{Kind, Test, json, pty, sys, wait};

cases![
    supplementary_groups_can_be_kept,
    what_hooks_print_goes_to_files,
    the_pidfd_goes_to_a_receiver,
    the_seccomp_listener_goes_to_a_receiver,
    a_receiver_that_is_no_absolute_path_is_refused,
    an_unknown_system_call_can_be_an_error,
    a_filter_can_be_given_as_a_program,
    a_program_that_is_none_is_refused,
    the_program_holds_for_an_exec_too,
    unknown_annotations_are_ignored,
    the_journal_gets_the_error,
    syslog_gets_the_error,
    a_log_that_is_not_there_is_an_error,
];

const HARMLESS: i64 = libc::SYS_getpriority;

fn supplementary_groups_can_be_kept(t: &Test) {
    t.need(t.kind() != Kind::Runc, "an annotation of crun's");
    t.need_program("setpriv");
    let groups = |value: &str| {
        let c = t
            .container()
            .set("/annotations", json!({"run.oci.keep_original_groups": value}))
            .sh("grep Groups: /proc/self/status | tr '\\t' ' '");
        let call = c.bundle_call("run", &[]).by(&["setpriv", "--groups", "1234,5678"]);
        call.run().ok().stdout.trim().to_owned()
    };
    assert_eq!(groups("1"), "Groups: 1234 5678");
    if t.kind() == Kind::Skep {
        assert_eq!(groups("0"), "Groups:");
    }
}

fn what_hooks_print_goes_to_files(t: &Test) {
    t.need(t.kind() != Kind::Runc, "annotations of crun's");
    let (out, err) = (t.path("out"), t.path("err"));
    fs::write(&out, "before\n").unwrap();
    let c = t
        .container()
        .set(
            "/annotations",
            json!({"run.oci.hooks.stdout": out.to_str(), "run.oci.hooks.stderr": err.to_str()}),
        )
        .hook("createRuntime", "echo one; echo two >&2")
        .hook("poststop", "echo three");
    c.run().ok();
    c.delete_force();
    assert_eq!(fs::read_to_string(out).unwrap(), "before\none\nthree\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "two\n");
}

fn the_pidfd_goes_to_a_receiver(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than crun 1.8");
    let path = t.path("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    let c = t
        .container()
        .lasting()
        .set("/annotations", json!({"run.oci.pidfd_receiver": path.to_str()}));
    let create = c.bundle_call("create", &[]).spawn();
    let (fd, _) = pty::receive_one(&listener);
    create.wait().ok();
    assert!(!wait::readable(&fd, Duration::ZERO));
    c.kill("KILL").ok();
    assert!(wait::readable(&fd, wait::patience()), "the pidfd does not tell the end");
}

fn asking() -> serde_json::Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
           "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]})
}

fn the_seccomp_listener_goes_to_a_receiver(t: &Test) {
    t.need(t.kind() != Kind::Runc, "an annotation of crun's");
    t.need(cfg!(target_arch = "x86_64"), "the profile is for x86_64");
    let socket = t.path("agent");
    let agent = Agent::listen(&socket);
    let c = t
        .container()
        .with_probe()
        .args(&["probe", "syscall", &HARMLESS.to_string(), "99", "0"])
        .set("/linux/seccomp", asking())
        .set("/annotations", json!({"run.oci.seccomp.receiver": socket.to_str()}));
    let running = c.spawn();
    let (state, listener) = agent.receive();
    assert_eq!(state["state"]["id"], json!(c.id));
    let (id, _, number) = sys::notification(&listener).unwrap();
    assert_eq!(i64::from(number), HARMLESS);
    sys::answer(&listener, id, 0, 77).unwrap();
    running.wait().ok().prints("errno 77\n");
}

fn a_receiver_that_is_no_absolute_path_is_refused(t: &Test) {
    t.need(t.kind() != Kind::Runc, "an annotation of crun's");
    let c = t
        .container()
        .set("/linux/seccomp", asking())
        .set("/annotations", json!({"run.oci.seccomp.receiver": "agent"}));
    c.run().fails().names("is not an absolute path");
    t.assert_nothing_left();
}

fn an_unknown_system_call_can_be_an_error(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than crun 1.8");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]});
    let c = t
        .container()
        .set("/linux/seccomp", profile.clone())
        .set("/annotations", json!({"run.oci.seccomp_fail_unknown_syscall": "1"}));
    c.run().fails().names("no_such_call");
    t.assert_nothing_left();
    t.container().set("/linux/seccomp", profile).run().ok();
}

/// getpriority fails with errno 77, everything else is allowed: four instructions, in base64.
fn program() -> String {
    let mut bytes = Vec::new();
    for (code, jt, jf, k) in [
        (0x20_u16, 0_u8, 0_u8, 0_u32),
        (0x15, 0, 1, HARMLESS as u32),
        (0x06, 0, 0, libc::SECCOMP_RET_ERRNO | 77),
        (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ] {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
    }
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn a_filter_can_be_given_as_a_program(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than crun 1.8");
    // In place of a profile that would kill everything.
    let c = t
        .container()
        .with_probe()
        .args(&["probe", "syscall", &HARMLESS.to_string(), "99", "0"])
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_KILL"}))
        .set("/annotations", json!({"run.oci.seccomp_bpf_data": program()}));
    c.run().ok().prints("errno 77\n");
    let c = t
        .container()
        .sh("grep Seccomp: /proc/self/status")
        .set("/annotations", json!({"run.oci.seccomp_bpf_data": program()}));
    c.run().ok().prints("Seccomp:\t2\n");
}

fn a_program_that_is_none_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than crun 1.8");
    // No base64, no instruction, half of one, one that the kernel does not take.
    for data in ["%", "", "BgAAAA==", "AAAAAAAAAAA="] {
        let c = t.container().set("/annotations", json!({"run.oci.seccomp_bpf_data": data}));
        c.try_create().fails();
        t.assert_nothing_left();
    }
}

fn the_program_holds_for_an_exec_too(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than crun 1.8");
    let c = t
        .container()
        .with_probe()
        .lasting()
        .set("/annotations", json!({"run.oci.seccomp_bpf_data": program()}));
    c.run_detached();
    c.exec(&["probe", "syscall", &HARMLESS.to_string(), "99", "0"]).ok().prints("errno 77\n");
}

fn unknown_annotations_are_ignored(t: &Test) {
    let c = t.container().set("/annotations", json!({"com.example.key": "a", "x": ""}));
    c.run().ok();
}

/// A failing command in a mount namespace where `socket` is found at `path`, and what is sent there.
fn logged(t: &Test, log: &str, path: &str) -> String {
    t.need_capability("CAP_SYS_ADMIN");
    t.need_program("unshare");
    let socket = t.path("socket");
    let receiver = UnixDatagram::bind(&socket).unwrap();
    let (dir, top) = (path.rsplit_once('/').unwrap().0, path.split('/').nth(1).unwrap());
    let script = format!(
        "mount -t tmpfs tmpfs /{top} && mkdir -p {dir} && ln -s {} {path} && exec \"$@\"",
        socket.display()
    );
    let call = t.call(&["--log", log, "state", "no-such-id"]);
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let output = call.by(&words).run().fails();
    assert!(output.stderr.contains("container does not exist"), "{output}");
    assert!(wait::readable(&receiver, wait::patience()), "nothing was logged");
    let mut buffer = [0; 4096];
    let length = receiver.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn the_journal_gets_the_error(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun is not always built with it");
    let text = logged(t, "journald:box", "/run/systemd/journal/socket");
    for line in ["PRIORITY=3", "SYSLOG_IDENTIFIER=skep", "ID=box", "CONTAINER_ID=box"] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    assert!(text.contains("MESSAGE=") && text.contains("container does not exist"), "{text}");
}

fn syslog_gets_the_error(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun's records are libc's");
    let text = logged(t, "syslog:box", "/dev/log");
    assert!(text.starts_with("<11>box[") && text.contains("container does not exist"), "{text}");
}

fn a_log_that_is_not_there_is_an_error(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun logs nowhere then, and says nothing");
    for (log, socket) in [("journald:x", "/run/systemd/journal/socket"), ("syslog:x", "/dev/log")] {
        t.need(fs::metadata(socket).is_err(), "this host has a journal or a syslog");
        t.call(&["--log", log, "list"]).run().fails().names(socket);
    }
}
