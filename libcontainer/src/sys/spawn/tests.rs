use std::fs::File;
use std::io::{Read, Write, pipe};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use super::signal::PipeIgnored;
use super::*;

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// Runs `sh -c script` and returns its standard output and its end.
fn shell(script: &CStr, envp: &[&CStr], cwd: Option<BorrowedFd<'_>>) -> (String, ExitStatus) {
    let (mut reader, writer) = pipe().unwrap();
    let null = null();
    let child = spawn(&Program {
        path: c"/bin/sh",
        argv: &[c"sh", c"-c", script],
        envp,
        stdin: null.as_fd(),
        stdout: writer.as_fd(),
        stderr: null.as_fd(),
        cwd,
    })
    .unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap())
}

#[test]
fn a_program_gets_exactly_the_environment_and_directory_it_is_given() {
    let dir = open("/usr", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let (text, status) =
        shell(c"/usr/bin/env; pwd -P; exit 7", &[c"A=1", c"B=x y"], Some(dir.as_fd()));
    let mut lines: Vec<_> = text
        .lines()
        .filter(|l| !["PWD=", "_=", "SHLVL=", "OLDPWD="].iter().any(|p| l.starts_with(p)))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["/usr", "A=1", "B=x y"]);
    assert_eq!(status, ExitStatus::Exited(7));
    assert_eq!(status.to_string(), "exit status 7");
}

#[test]
fn no_descriptor_above_two_is_inherited() {
    let leaked = null();
    fcntl(&leaked, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let (text, _) = shell(c"echo /proc/self/fd/*", &[], None);
    // The shell's own glob opens one directory, at the lowest free number.
    assert_eq!(text.trim(), "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3");
}

#[test]
fn a_program_starts_with_no_signal_blocked_or_ignored_in_its_own_group() {
    let ignored = PipeIgnored::begin();
    let before = SignalMask::ALL.set().unwrap();
    let (text, _) = shell(
        c"while read k v; do case $k in SigBlk:|SigIgn:) echo $k $v;; esac; done < /proc/self/status; \
          read pid comm state ppid pgrp rest < /proc/self/stat; [ $pid = $pgrp ] && echo leader",
        &[],
        None,
    );
    assert_eq!(SignalMask::current().unwrap(), {
        let all = SignalMask::ALL.set().unwrap();
        before.set().unwrap();
        all
    });
    drop(ignored);
    assert_eq!(text, "SigBlk: 0000000000000000\nSigIgn: 0000000000000000\nleader\n");
}

#[test]
fn a_failure_says_where_and_why_and_leaves_no_process() {
    let null = null();
    let program = |path, cwd| Program {
        path,
        argv: &[c"x"],
        envp: &[],
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        cwd,
    };
    let failure = |stage, errno| Some(SpawnError { stage, errno });
    assert_eq!(spawn(&program(c"/nonexistent", None)).err(), failure(Stage::Exec, Errno::ENOENT));
    assert_eq!(spawn(&program(c"/", None)).err(), failure(Stage::Exec, Errno::EACCES));
    assert_eq!(
        spawn(&program(c"/bin/true", Some(null.as_fd()))).err(),
        failure(Stage::Cwd, Errno::ENOTDIR)
    );
    let children =
        std::fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid()))
            .unwrap();
    assert_eq!(children, "");
}

#[test]
fn standard_streams_may_be_given_in_any_order() {
    let (mut reader, writer) = pipe().unwrap();
    let child = in_fork(|| {
        let null = null();
        // 0 becomes the pipe, 1 /dev/null, and the program gets them crosswise.
        nix::unistd::dup2_stdin(&writer).unwrap();
        nix::unistd::dup2_stdout(&null).unwrap();
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        spawn(&Program {
            path: c"/bin/sh",
            argv: &[c"sh", c"-c", c"echo out; echo err >&2"],
            envp: &[],
            stdin: stdout.as_fd(),
            stdout: stdin.as_fd(),
            stderr: stdin.as_fd(),
            cwd: None,
        })
        .unwrap()
        .wait()
        .unwrap()
        .code()
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), child.wait().unwrap()), ("out\nerr\n", ExitStatus::Exited(0)));
}

#[test]
fn ends_are_told_in_gos_words() {
    let (_, status) = shell(c"kill -KILL $$", &[], None);
    assert_eq!((status.to_string().as_str(), status.code()), ("signal: killed", 137));
    let (_, status) = shell(c"kill -40 $$", &[], None);
    assert_eq!((status.to_string().as_str(), status.code()), ("signal: signal 40", 168));
    let aborted = ExitStatus::Signaled { signal: libc::SIGABRT, core_dumped: true };
    assert_eq!(aborted.to_string(), "signal: aborted (core dumped)");
}

#[test]
fn kill_group_takes_the_children_along() {
    let (mut reader, writer) = pipe().unwrap();
    let null = null();
    let child = spawn(&Program {
        path: c"/bin/sh",
        argv: &[c"sh", c"-c", c"/bin/sleep 1000 & echo up; wait"],
        envp: &[],
        stdin: null.as_fd(),
        stdout: writer.as_fd(),
        stderr: null.as_fd(),
        cwd: None,
    })
    .unwrap();
    drop(writer);
    let mut up = [0_u8; 3];
    reader.read_exact(&mut up).unwrap();
    assert_eq!(child.try_wait(), Ok(None));
    child.kill_group();
    assert_eq!(child.wait().unwrap().code(), 137);
    // End of file: the sleep, which holds the pipe too, is gone.
    assert_eq!(reader.read(&mut up).unwrap(), 0);
}

#[test]
fn ignoring_sigpipe_makes_a_lost_reader_an_error() {
    let child = in_fork(|| {
        set_default(libc::SIGPIPE).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        drop(reader);
        let ignored = PipeIgnored::begin();
        let lost = writer.write(b"x").unwrap_err().raw_os_error() == Some(libc::EPIPE);
        drop(ignored);
        if lost { writer.write(b"x").map_or(1, |_| 2) } else { 3 }
    });
    assert_eq!(
        child.wait().unwrap(),
        ExitStatus::Signaled { signal: libc::SIGPIPE, core_dumped: false }
    );
}
