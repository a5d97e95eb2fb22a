//! A container's init as the host sees it: a pid is only half a name, the start time is the other half.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::sys::{fd, pidfd};

/// What /proc/PID/stat says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// State letter: `R`, `S`, `Z` and so on.
    pub state: u8,
    /// `PF_*`.
    pub flags: u32,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
}

/// `PF_FORKNOEXEC`: forked, and has not passed the point of an execve(2) from which there is no return.
const NOT_EXECUTED: u32 = 0x40;

impl Stat {
    /// Reads the stat of `pid`.
    ///
    /// # Errors
    /// ENOENT or ESRCH if there is no such process.
    pub fn read(pid: Pid) -> Result<Self, Errno> {
        let path = CString::new(format!("/proc/{pid}/stat")).map_err(|_nul| Errno::EINVAL)?;
        let file = fd::openat(fd::CWD, &path, libc::O_RDONLY, 0)?;
        let mut text = [0; 1024];
        let n = nix::unistd::read(&file, &mut text)?;
        Self::parse(text.get(..n).unwrap_or_default()).ok_or(Errno::EIO)
    }

    /// The command name in parentheses may hold anything, parentheses too: fields are counted from the last one.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let mut fields = text.get(end + 2..)?.split(|byte| *byte == b' ');
        let state = *fields.next()?.first()?;
        let mut number = |n: usize| -> Option<u64> {
            std::str::from_utf8(fields.nth(n)?).ok()?.trim_end().parse().ok()
        };
        let flags = u32::try_from(number(5)?).ok()?;
        let start_time = number(12)?;
        Some(Self { state, flags, start_time })
    }

    /// Whether it is still the clone it began as. One that no longer waits and has not executed a program never will.
    pub fn has_not_executed(&self) -> bool {
        self.flags & NOT_EXECUTED != 0
    }

    /// Whether it has ended, though perhaps nobody has reaped it.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// A process that was somebody's init, and may be gone, or its pid somebody else's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// Its pid.
    pub pid: Pid,
    /// Its start time.
    pub start_time: u64,
}

impl Init {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| self.is(&stat))
    }

    /// Whether it certainly no longer runs: not being able to look is no answer.
    pub fn has_ended(&self) -> bool {
        match Stat::read(self.pid) {
            Ok(stat) => !self.is(&stat),
            Err(errno) => matches!(errno, Errno::ENOENT | Errno::ESRCH),
        }
    }

    fn is(&self, stat: &Stat) -> bool {
        stat.start_time == self.start_time && !stat.is_dead()
    }

    /// A descriptor for it, checked to be it and alive; `None` if it is not.
    ///
    /// # Errors
    /// Those of pidfd_open(2) but ESRCH.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>, Errno> {
        if self.pid.as_raw() <= 0 {
            return Ok(None);
        }
        let pidfd = match pidfd::open(self.pid) {
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            other => other?,
        };
        // The descriptor pins the process, so what /proc says now is said of it.
        Ok(self.is_alive().then_some(pidfd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_move_the_fields() {
        let text = b"42 (a) R (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10\n";
        let stat = Stat { state: b'S', flags: 4_194_560, start_time: 98765 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert!(!stat.has_not_executed());
        assert_eq!(Stat::parse(b"42 (a"), None);
    }

    #[test]
    fn this_process_is_alive_under_its_own_start_time_only() {
        let pid = nix::unistd::getpid();
        let start_time = Stat::read(pid).unwrap().start_time;
        assert!(Init { pid, start_time }.is_alive());
        assert!(!Init { pid, start_time }.has_ended());
        assert!(Init { pid, start_time: start_time + 1 }.has_ended());
        assert!(!Stat::read(pid).unwrap().has_not_executed());
        assert!(!Init { pid, start_time: start_time + 1 }.is_alive());
        assert!(Init { pid, start_time }.pidfd().unwrap().is_some());
        let nobody = Init { pid: Pid::from_raw(0x3fff_fff0), start_time };
        assert!(nobody.pidfd().unwrap().is_none());
        assert!(nobody.has_ended());
    }
}
