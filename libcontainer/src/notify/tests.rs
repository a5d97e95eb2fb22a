use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, UnixAddr, socket as new_socket};
use nix::unistd::getpid;

use super::*;
use crate::sys::spawn::{ExitStatus, in_fork};

/// A state directory with a service manager's socket beside it; removed with the value.
struct Fixture {
    top: PathBuf,
    manager: UnixDatagram,
    state: File,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("notify-{name}-{}", getpid()));
        fs::create_dir(&top).unwrap();
        let manager = UnixDatagram::bind(top.join("manager")).unwrap();
        let state = File::open(&top).unwrap();
        create_directory(state.as_fd()).unwrap();
        Self { top, manager, state }
    }

    fn proxy(&self) -> Proxy {
        Proxy::bind(self.state.as_fd(), self.top.join("manager").as_os_str()).unwrap()
    }

    /// What the container's process does.
    fn say(&self, datagram: &[u8]) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(datagram, self.top.join("notify/notify.sock")).unwrap();
    }

    /// The next datagram the manager gets, and whether a descriptor came with it, which is closed.
    fn heard(&self) -> (String, bool) {
        let mut text = [0_u8; 4096];
        let (len, fd) = socket::recv_fd(self.manager.as_fd(), &mut text).unwrap();
        (String::from_utf8_lossy(&text[..len]).into_owned(), fd.is_some())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.top).unwrap();
    }
}

#[test]
fn only_what_holds_outside_is_passed_on() {
    let (message, ready) = outside(
        b"MAINPID=7\nSTATUS=up = yes\nNOTIFYACCESS=all\nREADY=1\nFDSTORE=1\nREADYX=1\nSTATUS\n",
    );
    assert_eq!(message, b"STATUS=up = yes\nREADY=1");
    assert!(ready);
    assert_eq!(outside(b"BARRIER=1"), (Vec::new(), false));
    assert_eq!(outside(b"READY=0"), (b"READY=0".to_vec(), false));
    assert_eq!(outside(b""), (Vec::new(), false));
    assert!(outside(b"READY=1").1);
}

#[test]
fn readiness_is_told_with_the_pid_and_waited_for() {
    let fixture = Fixture::new("ready");
    let proxy = fixture.proxy();
    fixture.say(b"STATUS=starting");
    // READY=1 is not the first line: runc would miss it.
    fixture.say(b"STATUS=up\nREADY=1\nMAINPID=1\n");
    let init = crate::sys::pidfd::open(getpid()).unwrap();
    let child =
        in_fork(|| i32::from(proxy.wait_ready(init.as_fd(), Pid::from_raw(4242)).unwrap_or(false)));
    assert_eq!(fixture.heard(), ("STATUS=starting".into(), false));
    assert_eq!(fixture.heard(), ("STATUS=up\nREADY=1".into(), false));
    assert_eq!(fixture.heard(), ("MAINPID=4242\n".into(), false));
    // It returns no sooner than the manager has closed the descriptor.
    assert_eq!(child.try_wait(), Ok(None));
    assert_eq!(fixture.heard(), ("BARRIER=1".into(), true));
    assert_eq!(child.wait(), Ok(ExitStatus::Exited(1)));
}

#[test]
fn a_dead_init_ends_the_wait_but_its_last_word_counts() {
    let fixture = Fixture::new("dead");
    let proxy = fixture.proxy();
    let init = in_fork(|| 0);
    assert!(!proxy.wait_ready(init.pidfd.as_fd(), init.pid).unwrap());
    fixture.say(b"STATUS=failed");
    assert!(!proxy.wait_ready(init.pidfd.as_fd(), init.pid).unwrap());
    assert_eq!(fixture.heard().0, "STATUS=failed");
    init.wait().unwrap();
}

#[test]
fn the_container_talks_on_while_the_runtime_stays() {
    let fixture = Fixture::new("relay");
    let proxy = fixture.proxy();
    proxy.relay().unwrap();
    fixture.say(&[b'x'; 5000]);
    fixture.say(b"READY=1\nMAINPID=1");
    proxy.relay().unwrap();
    fixture.say(b"STOPPING=1");
    proxy.relay().unwrap();
    assert_eq!(fixture.heard().0, "READY=1");
    assert_eq!(fixture.heard().0, "STOPPING=1");
}

#[test]
fn any_user_may_notify_and_a_left_over_socket_is_replaced() {
    let fixture = Fixture::new("mode");
    drop(fixture.proxy());
    let proxy = fixture.proxy();
    let mode = fs::metadata(fixture.top.join("notify/notify.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
    fixture.say(b"STATUS=x");
    proxy.relay().unwrap();
    assert_eq!(fixture.heard().0, "STATUS=x");
}

#[test]
fn a_manager_in_the_abstract_namespace_is_found() {
    let fixture = Fixture::new("abstract");
    let name = format!("notify-test-{}", getpid());
    let manager =
        new_socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
    nix::sys::socket::bind(manager.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap())
        .unwrap();
    let proxy = Proxy::bind(fixture.state.as_fd(), OsStr::new(&format!("@{name}"))).unwrap();
    fixture.say(b"READY=1");
    proxy.relay().unwrap();
    let mut text = [0_u8; 16];
    let (len, _) = socket::recv_fd(manager.as_fd(), &mut text).unwrap();
    assert_eq!(&text[..len], b"READY=1");
}

#[test]
fn a_missing_manager_is_named() {
    let fixture = Fixture::new("missing");
    let host = fixture.top.join("nobody");
    let error = Proxy::bind(fixture.state.as_fd(), host.as_os_str()).unwrap_err().to_string();
    assert_eq!(error, format!("connect to NOTIFY_SOCKET {host:?}: no such file or directory"));
}

#[test]
fn a_place_on_the_path_of_the_manager_is_one_for_a_directory() {
    let place = |host: &str| place_of(OsStr::new(host));
    assert_eq!(place("/run/systemd/notify").as_deref(), Some("/run/systemd/notify"));
    // It is looked for below the container's root, and cannot lead out of it.
    assert_eq!(place("//a/../../etc/./x/").as_deref(), Some("/etc/x"));
    for host in ["", "@name", "relative/x", "/", "/..", "//"] {
        assert_eq!(place(host), None, "{host:?}");
    }
    let long = |len: usize| format!("/{}", "x".repeat(len - 1));
    assert_eq!(variable(&place(&long(95)).unwrap()).len(), "NOTIFY_SOCKET=".len() + PATH_MAX);
    assert_eq!(place(&long(96)), None);
    assert_eq!(place_of(OsStr::from_bytes(b"/\xff")), None);
}
