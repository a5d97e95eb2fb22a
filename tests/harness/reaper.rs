//! Who reaps. The tests are a subreaper, as shims are: besides the commands they start, every container's init and
//! every detached exec becomes their child, and a pid namespace cannot end before its zombies are reaped.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{sys, wait};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
    /// Somebody else has reaped it.
    Unknown,
}

#[derive(Default)]
struct Reaper {
    ended: HashMap<i32, (Instant, End)>,
    held: bool,
}

static REAPER: LazyLock<Mutex<Reaper>> = LazyLock::new(Mutex::default);

fn end(status: WaitStatus) -> Option<(i32, End)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid.as_raw(), End::Code(code))),
        WaitStatus::Signaled(pid, signal, _) => Some((pid.as_raw(), End::Signal(signal as i32))),
        _ => None,
    }
}

/// Starts the thread that reaps orphans.
pub fn start() {
    thread::spawn(|| {
        loop {
            {
                let mut reaper = REAPER.lock().unwrap();
                while !reaper.held {
                    let Some((pid, how)) =
                        waitpid(None, Some(WaitPidFlag::WNOHANG)).ok().and_then(end)
                    else {
                        break;
                    };
                    reaper.ended.insert(pid, (Instant::now(), how));
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
}

/// While it lives, zombies stay. For tests that run alone.
pub struct Hold(());

pub fn hold() -> Hold {
    REAPER.lock().unwrap().held = true;
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        REAPER.lock().unwrap().held = false;
    }
}

/// A child process: its pid, a pidfd taken before anybody can reap it, and when it was started.
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    since: Instant,
}

/// Starts a command.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let _nobody_reaps = REAPER.lock().unwrap();
    let since = Instant::now();
    let pid = command.spawn()?.id() as i32;
    Ok(Child { pid, pidfd: sys::pidfd_open(pid)?, since })
}

impl Child {
    /// Waits for the end; `None` past the limit.
    pub fn wait(&self, limit: Duration) -> Option<End> {
        wait::readable(&self.pidfd, limit).then(|| status_of(self.pid, self.since))
    }
}

/// How a process that has ended did so; `since` guards against a pid used twice.
pub fn status_of(pid: i32, since: Instant) -> End {
    let mut reaper = REAPER.lock().unwrap();
    match reaper.ended.remove(&pid) {
        Some((when, how)) if when >= since => return how,
        _ => {}
    }
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(status) => return end(status).map_or(End::Unknown, |(_, how)| how),
            Err(Errno::EINTR) => {}
            Err(_) => return End::Unknown,
        }
    }
}

/// Runs a command of the host's to its end (std's own `output` would race with the reaper).
pub fn output(command: &mut Command) -> io::Result<Output> {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    let (mut stdout, out) = io::pipe()?;
    let (mut stderr, err) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let child = spawn(command)?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let errors = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes)?;
    let status = match child.wait(Duration::from_secs(60)) {
        Some(End::Code(code)) => code << 8,
        Some(End::Signal(signal)) => signal,
        Some(End::Unknown) | None => return Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let stderr = errors.join().unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(Output { status: std::process::ExitStatus::from_raw(status), stdout: bytes, stderr })
}
