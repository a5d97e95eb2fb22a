//! The systemd driver of an ordinary user whose systemd is the test's own: it makes scopes and moves processes like his, on any
//! host that has cgroup version 2, be it beside version 1. The caller is in no cgroup of his, as in a login session.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Output, Test, json, reaper, sys, wait};
use crate::rootless::{self, USER};
use crate::systemd::skep;

cases![
    a_container_from_beside_is_moved_into_its_scope,
    one_that_joins_a_user_namespace_is_moved_before_it_does,
];

/// Listens where the user's systemd does, for connections one after the other.
struct Systemd<'t> {
    t: &'t Test,
    directory: PathBuf,
    scope: PathBuf,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl<'t> Systemd<'t> {
    fn new(t: &'t Test) -> Self {
        skep(t);
        t.need(cfg!(target_endian = "little"), "the messages here are little-endian");
        t.need(t.host.hierarchies.contains_key(""), "this host has no cgroup version 2 at all");
        t.need_program("unshare");
        t.need_program("setpriv");
        let directory = t.path("session");
        fs::create_dir_all(directory.join("systemd")).unwrap();
        for path in [directory.clone(), directory.join("systemd")] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
        let unit = format!("bb-{}.scope", t.id);
        let scope = t.host.hierarchies[""].join(&unit);
        let path = directory.join("systemd/private");
        let (stop, stopped) = UnixStream::pair().unwrap();
        stopped.set_nonblocking(true).unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let at = scope.clone();
        let thread = thread::spawn(move || {
            // Whose socket it is, who binds it decides.
            let listener = sys::as_user(USER, || UnixListener::bind(path)).unwrap();
            ready.send(()).unwrap();
            loop {
                let mut connection = listener.accept().unwrap().0;
                if (&stopped).read(&mut [0]).is_ok() {
                    return;
                }
                serve(&mut connection, &unit, &at);
            }
        });
        is_ready.recv().unwrap();
        Self { t, directory, scope, stop, thread: Some(thread) }
    }

    fn container(&self) -> Container<'t> {
        let c = rootless::bundle(self.t).lasting();
        c.set("/linux/cgroupsPath", json!(format!("user.slice:bb:{}", self.t.id)))
    }

    /// A call by the user.
    fn call(&self, args: &[&str]) -> Output {
        let mount = match self.t.host.layout {
            Layout::V2 => "",
            Layout::V1 => "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; ",
        };
        let script = format!(
            "set -e; {mount}exec setpriv --reuid={USER} --regid={USER} --clear-groups --bounding-set=-all \"$@\""
        );
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let call = self.t.call(args).global(&["--systemd-cgroup"]);
        call.env("XDG_RUNTIME_DIR", self.directory.to_str().unwrap()).by(&words).run()
    }

    /// Creates, starts, enters and deletes `c`, whose processes are all in the scope.
    fn lives_in_the_scope(&self, c: &Container<'_>, exec: &[&str]) {
        c.write();
        rootless::own(self.t, c);
        let (bundle, pid) = (c.dir.display().to_string(), c.dir.join("pid").display().to_string());
        self.call(&["create", "--bundle", &bundle, "--pid-file", &pid, &c.id]).ok();
        let procs = || fs::read_to_string(self.scope.join("cgroup.procs")).unwrap();
        assert_eq!(procs().trim(), c.pid().to_string());
        self.call(&["start", &c.id]).ok();
        self.call(&[&["exec", "--detach"], exec, &[&c.id, "sleep", "1000"]].concat()).ok();
        assert_eq!(procs().lines().count(), 2, "{}", procs());
        self.call(&["delete", "--force", &c.id]).ok();
        assert!(!self.scope.exists());
        fs::remove_dir_all(&self.directory).unwrap();
        self.t.assert_nothing_left();
    }
}

impl Drop for Systemd<'_> {
    fn drop(&mut self) {
        self.stop.write_all(b"x").unwrap();
        let _wakes_it = UnixStream::connect(self.directory.join("systemd/private"));
        if self.directory.exists() {
            drop(self.thread.take().unwrap().join());
        }
        end(&self.scope);
    }
}

/// Ends who is in a scope, and removes it.
fn end(scope: &Path) {
    for pid in fs::read_to_string(scope.join("cgroup.procs")).unwrap_or_default().lines() {
        let _gone = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
    }
    let gone = || (fs::remove_dir(scope).is_ok() || !scope.exists()).then_some(());
    let _in_time = wait::until_within(wait::patience(), gone);
}

/// Reads one message.
fn read(connection: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 16];
    connection.read_exact(&mut message).ok()?;
    let fields = number(&message, 12).next_multiple_of(8);
    let body = number(&message, 4);
    message.resize((16 + fields + body) as usize, 0);
    connection.read_exact(&mut message[16..]).ok()?;
    Some(message)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn find(bytes: &[u8], words: &[u8]) -> Option<usize> {
    bytes.windows(words.len()).position(|window| window == words)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A message with these texts as arguments.
fn message(kind: u8, reply: u32, names: &[(u8, &str)], arguments: &[&str]) -> Vec<u8> {
    let mut fields = Vec::new();
    if reply != 0 {
        fields.extend_from_slice(&[5, 1, b'u', 0]);
        fields.extend_from_slice(&reply.to_le_bytes());
    }
    for (code, name) in names {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend_from_slice(&[*code, 1, b's', 0]);
        text(&mut fields, name);
    }
    fields.resize(fields.len().next_multiple_of(8), 0);
    fields.extend_from_slice(&[8, 1, b'g', 0, arguments.len() as u8]);
    fields.extend(arguments.iter().map(|_| b's'));
    fields.push(0);
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| text(&mut body, argument));
    let mut out = vec![b'l', kind, 0, 1];
    for number in [body.len(), 1, fields.len()] {
        out.extend_from_slice(&(number as u32).to_le_bytes());
    }
    out.extend(fields);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(body);
    out
}

fn serve(connection: &mut UnixStream, unit: &str, scope: &Path) {
    let mut byte = [0];
    let mut line = Vec::new();
    while !line.ends_with(b"BEGIN\r\n") && connection.read(&mut byte).is_ok_and(|read| read == 1) {
        line.push(byte[0]);
    }
    let _hung_up = connection.write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n");
    while let Some(call) = read(connection) {
        let (serial, is) = (number(&call, 8), |name: &str| find(&call, name.as_bytes()).is_some());
        let done = if is("StartTransientUnit") {
            fs::create_dir(scope).unwrap();
            let files = fs::read_dir(scope).unwrap().map(|entry| entry.unwrap().path());
            for path in files.chain([scope.to_owned()]) {
                chown(path, Some(USER), Some(USER)).unwrap();
            }
            // A variant: the length of its type, that, and the array's length.
            let value = find(&call, b"PIDs\0").unwrap() + 9;
            take(scope, number(&call, value.next_multiple_of(4) + 4))
        } else if is("AttachProcessesToUnit") {
            take(scope, number(&call, call.len() - 4))
        } else {
            if is("StopUnit") {
                end(scope);
            }
            Ok(())
        };
        let answer = match done {
            Ok(()) => message(2, serial, &[], &["/job/1"]),
            Err(words) => {
                message(3, serial, &[(4, "org.freedesktop.DBus.Error.AccessDenied")], &[&words])
            }
        };
        let names = [(1, "/"), (2, "org.freedesktop.systemd1.Manager"), (3, "JobRemoved")];
        let removed = message(4, 0, &names, &["1", "/job/1", unit, "done"]);
        let _hung_up = connection.write_all(&[answer, removed].concat());
    }
}

/// As the system's systemd does it for a user's, whose processes have to be his.
fn take(scope: &Path, pid: u32) -> Result<(), String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| e.to_string())?;
    let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    if uids.split_whitespace().nth(1) != Some(&USER.to_string()) {
        return Err(format!("Process {pid} not owned by client's UID"));
    }
    fs::write(scope.join("cgroup.procs"), pid.to_string()).map_err(|error| error.to_string())
}

fn a_container_from_beside_is_moved_into_its_scope(t: &Test) {
    let systemd = Systemd::new(t);
    systemd.lives_in_the_scope(&systemd.container(), &[]);
}

/// Its ids are not the user's any more then, and its children are cloned in there.
fn one_that_joins_a_user_namespace_is_moved_before_it_does(t: &Test) {
    let systemd = Systemd::new(t);
    let mut words = Command::new("setpriv");
    words.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    let held = reaper::spawn(words.args(["unshare", "--user", "sleep", "1000"])).unwrap();
    let _ends = Ends(held.pid);
    let namespace = format!("/proc/{}/ns/user", held.pid);
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    wait::until("there is a namespace", || {
        fs::read_link(&namespace).is_ok_and(|other| other != own).then_some(())
    });
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", held.pid), format!("0 {USER} 1\n1 600000 9\n"))
            .unwrap();
    }
    let c = systemd.container().without_namespace("user");
    let c = c.unset("/linux/uidMappings").unset("/linux/gidMappings");
    let c = c.push("/linux/namespaces", json!({"type": "user", "path": namespace}));
    systemd.lives_in_the_scope(&c, &["--user", "7"]);
}

struct Ends(i32);

impl Drop for Ends {
    fn drop(&mut self) {
        let _gone = kill(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}
