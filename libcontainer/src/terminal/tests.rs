use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use nix::fcntl::open;
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, tcgetattr};
use nix::unistd::{getpid, getuid, write};

use super::*;
use crate::sys::spawn::in_fork;

/// The devpts of the test's own mount namespace.
fn devpts() -> OwnedFd {
    open("/dev/pts", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn runcs_two_refusals_and_nothing_else() {
    let refused = |t, d, s| check_terminal(t, d, s).err().map(|e| e.to_string());
    let without = "cannot allocate tty if runc will detach without setting console socket";
    let unused = "cannot use console socket if runc will not detach or allocate tty";
    let refusal = refused(true, true, false).unwrap();
    assert!(refusal.starts_with(without) && refusal.ends_with("use --console-socket"), "{refusal}");
    assert_eq!(refused(true, false, true).as_deref(), Some(unused));
    assert_eq!(refused(false, true, true).as_deref(), Some(unused));
    assert_eq!(refused(false, false, true).as_deref(), Some(unused));
    for (t, d, s) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        assert_eq!(refused(t, d, s), None);
    }
}

#[test]
fn a_pty_is_made_in_the_devpts_given() {
    let pty = Pty::open(devpts().as_fd()).unwrap();
    let stat = fstat(&pty.slave).unwrap();
    assert_eq!(
        fs::metadata(pty.name()).map(|m| std::os::unix::fs::MetadataExt::rdev(&m)).unwrap(),
        stat.st_rdev
    );
    write(&pty.slave, b"one\n").unwrap();
    let mut text = [0_u8; 16];
    let len = nix::unistd::read(&pty.master, &mut text).unwrap();
    // ONLCR is left to whoever receives the master, as with runc.
    assert_eq!(&text[..len], b"one\r\n");
    assert!(tcgetattr(&pty.master).unwrap().output_flags.contains(OutputFlags::ONLCR));
}

#[test]
fn a_size_is_set_and_one_too_large_is_the_largest() {
    let pty = Pty::open(devpts().as_fd()).unwrap();
    pty.set_size(ConsoleSize { height: 25, width: 80 }).unwrap();
    assert_eq!(pty::window_size(pty.master.as_fd()), Ok(WindowSize { rows: 25, columns: 80 }));
    pty.set_size(ConsoleSize { height: 70_000, width: 1 }).unwrap();
    assert_eq!(pty::window_size(pty.master.as_fd()), Ok(WindowSize { rows: 65535, columns: 1 }));
}

#[test]
fn what_is_no_devpts_is_refused() {
    let tmp = File::open("/tmp").unwrap();
    let error = Pty::open(tmp.as_fd()).unwrap_err();
    assert_eq!(error.raw_errno(), Some(Errno::ENODEV));
    assert_eq!(
        error.to_string(),
        "make a terminal \"/dev/pts\": no such device; process.terminal needs a devpts mount there"
    );
}

#[test]
fn the_slave_becomes_the_controlling_terminal() {
    let pty = Pty::open(devpts().as_fd()).unwrap();
    let name = pty.name();
    let child = in_fork(|| {
        make_controlling(pty.slave).unwrap();
        let tty = File::open("/dev/tty").unwrap();
        let expected = fs::metadata(&name).unwrap();
        let session = nix::sys::termios::tcgetsid(&tty).unwrap() == getpid();
        let streams = (0..3).all(|fd| {
            fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().as_os_str().as_bytes()
                == name.as_bytes()
        });
        i32::from(!(session && streams && expected.len() == 0))
    });
    assert_eq!(child.wait().unwrap().code(), 0);
}

#[test]
fn a_strict_receiver_gets_one_message_with_one_master() {
    let path = std::env::temp_dir().join(format!("console-{}", getpid()));
    let listener = UnixListener::bind(&path).unwrap();
    let client = connect_console_socket(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    let pty = Pty::open(devpts().as_fd()).unwrap();
    socket::send_fd(client.as_fd(), pty.name().as_bytes(), pty.master.as_fd()).unwrap();
    let mut name = [0_u8; 4096];
    let (len, master) = socket::recv_fd(server.as_fd(), &mut name).unwrap();
    assert_eq!(&name[..len], pty.name().as_bytes());
    assert_eq!(pty::number(master.unwrap().as_fd()), Ok(pty.number));
    send_pidfd(client.as_fd(), PidfdKind::Setns, pty.slave.as_fd()).unwrap();
    drop(client);
    let (len, fd) = socket::recv_fd(server.as_fd(), &mut name).unwrap();
    assert_eq!((&name[..len], fd.is_some()), (&b"setns"[..], true));
    assert!(matches!(socket::recv_fd(server.as_fd(), &mut name), Ok((0, None))));
    fs::remove_file(&path).unwrap();
    let error = connect_console_socket(&path).unwrap_err().to_string();
    assert_eq!(error, format!("connect to the console socket {path:?}: no such file or directory"));
}

#[test]
fn streams_are_given_to_the_user_and_the_null_device_to_nobody() {
    if !getuid().is_root() {
        writeln!(std::io::stderr(), "SKIP: changing an owner needs root").unwrap();
        return;
    }
    let (mut reader, writer) = pipe().unwrap();
    let child = in_fork(|| {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        dup2_stdin(&null).unwrap();
        dup2_stdout(&writer).unwrap();
        dup2_stderr(&writer).unwrap();
        chown_stdio(Uid::from_raw(1234)).unwrap();
        let pipe_owner = fstat(&writer).unwrap().st_uid;
        let null_owner = fstat(&null).unwrap().st_uid;
        i32::from(pipe_owner != 1234) + 2 * i32::from(null_owner == 1234)
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), child.wait().unwrap().code()), ("", 0));
}
