use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags, tcgetattr};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, read, write};

use super::*;
use crate::spec::ConsoleSize;
use crate::sys::pty;
use crate::sys::spawn::signal::reset_dispositions;
use crate::sys::spawn::{Child, exec, in_fork};
use crate::terminal::{Pty, make_controlling};

/// The end of a script that waits for signals.
const WAIT: &str = "while :; do wait; done";

/// How long a test may wait for what must come.
const LIMIT: Duration = Duration::from_secs(60);

fn new_pty() -> Pty {
    let devpts = open("/dev/pts", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    Pty::open(devpts.as_fd()).unwrap()
}

/// Reads until `wanted` shows or, without it, to the end; panics when that takes too long.
fn read_until(fd: &OwnedFd, wanted: Option<&str>) -> String {
    let begun = Instant::now();
    let mut text = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if wanted.is_some_and(|wanted| so_far.contains(wanted)) {
            return so_far;
        }
        assert!(begun.elapsed() < LIMIT, "waiting for {wanted:?}, got {so_far:?}");
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, 1000_u16) == Ok(0) {
            continue;
        }
        let mut chunk = [0; 65536];
        match read(fd, &mut chunk) {
            Ok(0) | Err(Errno::EIO) if wanted.is_none() => return so_far,
            Ok(len @ 1..) => text.extend_from_slice(&chunk[..len]),
            end => panic!("{end:?} waiting for {wanted:?}, got {so_far:?}"),
        }
    }
}

/// What raw mode changes of a terminal.
fn modes(terminal: &OwnedFd) -> (InputFlags, OutputFlags, LocalFlags) {
    let modes = tcgetattr(terminal).unwrap();
    (modes.input_flags, modes.output_flags, modes.local_flags)
}

/// The end of `child`, which must come.
fn end(child: &Child) -> i32 {
    let mut polled = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    let woken = poll(&mut polled, PollTimeout::try_from(LIMIT).unwrap()).unwrap();
    if woken == 0 {
        child.kill_group();
    }
    let status = child.wait().unwrap();
    assert_eq!(woken, 1, "still running");
    status.code()
}

/// What a container's process becomes, once something is in `gate`.
fn container(slave: Option<OwnedFd>, mut gate: PipeReader, script: &CStr) -> Child {
    in_fork(|| {
        match slave {
            Some(slave) => make_controlling(slave).unwrap(),
            None => drop(nix::unistd::setsid().unwrap()),
        }
        assert_eq!(gate.read(&mut [0]).unwrap(), 1);
        reset_dispositions();
        SignalMask::EMPTY.set().unwrap();
        exec(&[c"/bin/sh", c"-c", script]);
        127
    })
}

/// What `run` does: a process with or without terminal, in the foreground.
fn foreground(script: &str, terminal: bool, reap: Reap, notify: Option<&Proxy>) -> i32 {
    let script = CString::new(script).unwrap();
    let foreground = Foreground::prepare().unwrap();
    foreground.become_subreaper().unwrap();
    let (master, slave) = if terminal {
        let Pty { master, slave, .. } = new_pty();
        (Some(master), Some(slave))
    } else {
        (None, None)
    };
    let (gate, mut start) = pipe().unwrap();
    let process = container(slave, gate, &script);
    let tty = master.map(|master| Tty::new(master).unwrap());
    start.write_all(b"!").unwrap();
    let Child { pid, pidfd } = process;
    let attached = Attached { pidfd: pidfd.as_fd(), pid, tty, notify, reap };
    foreground.wait(attached).unwrap().code()
}

/// `run` at a terminal of its own.
fn at_terminal(host: Pty, script: &str) -> (OwnedFd, Child) {
    let Pty { master, slave, .. } = host;
    let child = in_fork(|| {
        make_controlling(slave).unwrap();
        foreground(script, true, Reap::All, None)
    });
    (master, child)
}

/// `run` with these standard streams; `None` is /dev/null.
fn with_streams(stdin: Option<OwnedFd>, stdout: OwnedFd, run: impl FnOnce() -> i32) -> Child {
    in_fork(|| {
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
        nix::unistd::setsid().unwrap();
        dup2_stdin(stdin.unwrap_or_else(null)).unwrap();
        dup2_stdout(&stdout).unwrap();
        dup2_stderr(null()).unwrap();
        drop(stdout);
        run()
    })
}

#[test]
fn nothing_of_a_quick_process_is_lost() {
    for _ in 0..20 {
        let (host, child) = at_terminal(
            new_pty(),
            "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; exit 7",
        );
        let text = read_until(&host, None);
        let expected: String = (0..3000).map(|i| format!("{i}\r\n")).collect();
        assert!(text == expected, "{} bytes of {}", text.len(), expected.len());
        assert_eq!(end(&child), 7);
    }
}

#[test]
fn keys_go_in_raw_and_the_hosts_terminal_is_restored() {
    let host = new_pty();
    let slave = pty::peer(host.master.as_fd()).unwrap();
    let before = modes(&slave);
    let (host, child) = at_terminal(host, "echo ready; read line; echo got:$line; read never");
    assert_eq!(read_until(&host, Some("ready")), "ready\r\n");
    assert_ne!(modes(&slave), before);
    write(&host, b"a b\r").unwrap();
    // Once: the container's terminal echoes it, the host's does not.
    assert_eq!(read_until(&host, Some("got")), "a b\r\ngot:a b\r\n");
    // The container's terminal makes a signal of it, for the host's lets it through.
    write(&host, b"\x03").unwrap();
    assert_eq!(end(&child), 128 + libc::SIGINT);
    assert_eq!(modes(&slave), before);
}

#[test]
fn the_size_follows_the_hosts() {
    let host = new_pty();
    host.set_size(ConsoleSize { height: 11, width: 22 }).unwrap();
    let (host, child) =
        at_terminal(host, "trap 'stty size; exit 0' WINCH; stty size; while :; do read x; done");
    assert_eq!(read_until(&host, Some("\n")), "11 22\r\n");
    let size = pty::WindowSize { rows: 33, columns: 44 };
    pty::set_window_size(host.as_fd(), size).unwrap();
    assert_eq!(read_until(&host, Some("\n")), "33 44\r\n");
    assert_eq!(end(&child), 0);
}

#[test]
fn a_terminal_works_without_one_on_the_host() {
    let (stdin, mut typed) = pipe().unwrap();
    let (stdout, writer) = pipe().unwrap();
    let (stdout, writer): (OwnedFd, OwnedFd) = (stdout.into(), writer.into());
    typed.write_all(b"hello\n").unwrap();
    drop(typed);
    let child = with_streams(Some(stdin.into()), writer.try_clone().unwrap(), || {
        // The end of its input is none of the container's.
        foreground("read x; echo $x; tty -s && echo tty; exit 5", true, Reap::Process, None)
    });
    drop(writer);
    assert_eq!(read_until(&stdout, None), "hello\nhello\ntty\n");
    assert_eq!(end(&child), 5);
}

#[test]
fn a_background_process_that_keeps_the_terminal_holds_nobody() {
    let (host, child) =
        at_terminal(new_pty(), "trap '' HUP; /bin/sleep 1000 & echo pid=$!.; exit 3");
    let text = read_until(&host, Some("."));
    let pid = text.trim_start_matches("pid=").trim_end().trim_end_matches('.').parse().unwrap();
    assert_eq!(end(&child), 3);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn a_terminal_that_was_closed_may_be_opened_again() {
    let script = "t=$(tty); for i in 1 2 3 4 5 6 7 8 9; do \
                      exec <&- >&- 2>&-; /bin/true; exec >$t; echo $i; \
                  done; exit 6";
    let (host, child) = at_terminal(new_pty(), script);
    let text = read_until(&host, Some("9\r\n"));
    assert_eq!(text, "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n");
    assert_eq!(end(&child), 6);
}

#[test]
fn every_signal_but_three_is_passed_on() {
    let (stdout, writer) = pipe().unwrap();
    let (stdout, writer): (OwnedFd, OwnedFd) = (stdout.into(), writer.into());
    let child = with_streams(None, writer.try_clone().unwrap(), || {
        let traps: String = [1, 2, 3, 10, 12, 13, 15, 18, 20, 21, 22, 23, 28, 40, 64]
            .iter()
            .map(|signal| format!("trap 'echo {signal}.' {signal}; "))
            .collect();
        let script = format!(
            "{traps} /bin/sleep 1000 & trap 'kill -KILL $!; exit 9' ALRM; echo ready.; {WAIT}"
        );
        foreground(&script, false, Reap::All, None)
    });
    drop(writer);
    assert_eq!(read_until(&stdout, Some(".\n")), "ready.\n");
    for signal in [1, 2, 3, 10, 12, 13, 15, 18, 20, 21, 22, 40, 64] {
        send(&child, signal);
        assert_eq!(read_until(&stdout, Some(".\n")), format!("{signal}.\n"));
    }
    for signal in [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, 64] {
        send(&child, signal);
    }
    // They would have come before the last one, which has the highest number.
    assert_eq!(read_until(&stdout, Some(".\n")), "64.\n");
    send(&child, libc::SIGALRM);
    assert_eq!(read_until(&stdout, None), "");
    assert_eq!(end(&child), 9);
}

fn send(child: &Child, signal: i32) {
    crate::sys::pidfd::send_signal(child.pidfd.as_fd(), signal).unwrap();
}

#[test]
fn a_death_by_signal_is_128_and_its_number() {
    let (_stdout, writer) = pipe().unwrap();
    let child = with_streams(None, writer.into(), || {
        foreground("kill -KILL $$", false, Reap::Process, None)
    });
    assert_eq!(end(&child), 137);
}

#[test]
fn orphans_are_reaped_while_the_process_runs() {
    let (stdout, writer) = pipe().unwrap();
    let (stdout, writer): (OwnedFd, OwnedFd) = (stdout.into(), writer.into());
    // The orphan is a zombie until its new parent, which is ours, reaps it.
    let script =
        "o=$(sh -c 'sh -c \"exit 0\" & echo $!'); while [ -d /proc/$o ]; do :; done; echo reaped";
    let child = with_streams(None, writer.try_clone().unwrap(), || {
        foreground(script, false, Reap::All, None)
    });
    drop(writer);
    assert_eq!(read_until(&stdout, Some("\n")), "reaped\n");
    assert_eq!(end(&child), 0);
}

#[test]
fn a_host_that_takes_no_output_does_not_stop_signals() {
    let (stdout, writer) = pipe().unwrap();
    let (stdout, writer): (OwnedFd, OwnedFd) = (stdout.into(), writer.into());
    let child = with_streams(None, writer.try_clone().unwrap(), || {
        foreground(
            "trap 'echo $i; exit 8' TERM; i=0; while :; do echo $i; i=$((i+1)); done",
            true,
            Reap::All,
            None,
        )
    });
    // The pipe is full.
    let begun = Instant::now();
    loop {
        let mut polled = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut polled, PollTimeout::ZERO) == Ok(0) {
            break;
        }
        assert!(begun.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    send(&child, libc::SIGTERM);
    drop(writer);
    let text = read_until(&stdout, None);
    assert_eq!(end(&child), 8);
    // The line at which the signal came may be there twice.
    let mut lines: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
    lines.dedup();
    assert!(
        lines.len() > 4096 && lines.iter().copied().eq(0..lines.len()),
        "{} lines",
        lines.len()
    );
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_container() {
    let (stdout, writer) = pipe().unwrap();
    drop(stdout);
    let script = "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i+1)); done; exit 4";
    let child = with_streams(None, writer.into(), || foreground(script, true, Reap::All, None));
    assert_eq!(end(&child), 4);
}

#[test]
fn notifications_are_relayed_while_the_process_runs() {
    let top = std::env::temp_dir().join(format!("foreground-{}", getpid()));
    fs::create_dir(&top).unwrap();
    let manager = UnixDatagram::bind(top.join("manager")).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let state = File::open(&top).unwrap();
    crate::notify::create_directory(state.as_fd()).unwrap();
    let proxy = Proxy::bind(state.as_fd(), top.join("manager").as_os_str()).unwrap();
    let (stdout, writer) = pipe().unwrap();
    let child = with_streams(None, writer.into(), || {
        let script =
            format!("/bin/sleep 1000 & trap 'kill -KILL $!; exit 2' TERM; echo up; {WAIT}");
        foreground(&script, false, Reap::All, Some(&proxy))
    });
    assert_eq!(read_until(&stdout.into(), Some("\n")), "up\n");
    let process = UnixDatagram::unbound().unwrap();
    process.send_to(b"READY=1\nMAINPID=1", top.join("notify/notify.sock")).unwrap();
    let mut text = [0; 64];
    let len = manager.recv(&mut text).unwrap();
    assert_eq!(&text[..len], b"READY=1");
    send(&child, libc::SIGTERM);
    assert_eq!(end(&child), 2);
    fs::remove_dir_all(&top).unwrap();
}
