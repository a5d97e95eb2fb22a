//! Waiting for events, each with a deadline: no test sleeps for a guessed time.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::sys;

/// How long anything may take before the test fails. Generous: the machine may be loaded.
pub fn patience() -> Duration {
    stretched(Duration::from_secs(20))
}

/// A limit, times `SKEP_TEST_PATIENCE` for a machine that is slow, as an emulated one is.
pub fn stretched(limit: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        std::env::var("SKEP_TEST_PATIENCE").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
    });
    limit * *FACTOR
}

/// Waits until the descriptor is readable (or hung up); false when time is up.
pub fn readable(fd: &impl AsFd, limit: Duration) -> bool {
    let mut deadline = Instant::now() + limit;
    loop {
        let began = Instant::now();
        let left = deadline.saturating_duration_since(began).min(SLICE);
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap();
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(nix::errno::Errno::EINTR) => deadline += stood_still(began),
            Ok(_) => return true,
            Err(error) => panic!("poll: {error}"),
        }
    }
}

const SLICE: Duration = Duration::from_millis(100);

/// How long nothing has run since `began`, which was no more than [`SLICE`] ago by this process's own plan: somebody has
/// stopped it, and what it waits for, or the whole machine.
fn stood_still(began: Instant) -> Duration {
    let late = began.elapsed().saturating_sub(SLICE);
    if late > Duration::from_secs(1) { late } else { Duration::ZERO }
}

/// Polls a condition for which the kernel sends no event, with a deadline.
#[track_caller]
pub fn until<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    match until_within(patience(), check) {
        Some(value) => value,
        None => panic!("waited {:?} in vain: {what}", patience()),
    }
}

/// The same with another deadline, and no complaint.
pub fn until_within<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let mut deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        let began = Instant::now();
        if began >= deadline {
            return None;
        }
        thread::sleep(pause);
        deadline += stood_still(began);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Waits until the file is there and says something, and returns what it says.
#[track_caller]
pub fn for_file(path: &Path) -> String {
    until(&format!("{} is written", path.display()), || {
        fs::read_to_string(path).ok().filter(|text| !text.is_empty())
    })
}

/// Waits until the file holds these words, and returns all of it.
#[track_caller]
pub fn for_text(path: &Path, words: &str) -> String {
    let mut last = String::new();
    until_within(patience(), || {
        last = fs::read_to_string(path).unwrap_or_default();
        last.contains(words).then(|| last.clone())
    })
    .unwrap_or_else(|| panic!("{} never said {words:?}, but: {last:?}", path.display()))
}

/// Writes `text` to a FIFO once somebody reads it. open(2) would wait for ever for one who has failed.
pub fn write_to_reader(fifo: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::File::options();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let mut open = until("a reader of the FIFO", || options.open(fifo).ok());
    std::io::Write::write_all(&mut open, text.as_bytes()).unwrap();
}

/// Waits until the process has exited (a zombie has), through a pidfd.
#[track_caller]
pub fn for_exit(pid: i32) {
    let fd: OwnedFd = match sys::pidfd_open(pid) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return,
        Err(error) => panic!("pidfd_open({pid}): {error}"),
    };
    assert!(readable(&fd, patience()), "process {pid} still runs after {:?}", patience());
}

/// One letter of `/proc/PID/stat`; `None` when there is no such process.
pub fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// Whether the process exists and has not ended (a zombie has).
pub fn is_alive(pid: i32) -> bool {
    !matches!(process_state(pid), None | Some('Z' | 'X'))
}

/// Whether the process has been made to end: one that is exiting is waited for. It has left its cgroup, which is all that a
/// runtime can wait for that is not its parent, a while before it is a zombie.
#[track_caller]
pub fn was_ended(pid: i32) -> bool {
    /// On its way out, which nothing can stop any more (linux/sched.h).
    const PF_EXITING: u64 = 0x4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else { return true };
    let flags: Option<u64> = rest.split(' ').nth(6).and_then(|flags| flags.parse().ok());
    if is_alive(pid) && flags.is_some_and(|flags| flags & PF_EXITING == 0) {
        return false;
    }
    until("it has ended", || (!is_alive(pid)).then_some(()));
    true
}
