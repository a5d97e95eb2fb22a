//! The processes in a cgroup.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Cgroup, Frozen, file};
use crate::sys::pidfd;
use crate::{Error, Result};

impl Cgroup {
    /// The processes in the cgroup and all below it, sorted. Processes outside of our pid namespace are left out; a
    /// cgroup that is gone has none.
    ///
    /// # Errors
    /// The failed read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.main().map_or_else(|| Ok(Vec::new()), |directory| all(&directory))
    }

    /// Sends `signal` to every process. SIGKILL reaches also those that fork meanwhile, and those that are frozen.
    ///
    /// # Errors
    /// The failed write or signal; a process that has gone is no error.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.kill_v2()? {
            if self.is_v2() {
                return Ok(());
            }
            // On a hybrid host somebody may have joined the version 1 hierarchies alone.
            let result = self.signal_each(signal);
            return result.and(self.thaw_for_death());
        }
        // Nobody forks while frozen. Where that is not to be had, the signal still reaches those there are.
        let frozen = self.freeze_others(Self::freeze_for);
        let result = self.signal_each(signal);
        drop(frozen);
        if signal == libc::SIGKILL { result.and(self.thaw_for_death()) } else { result }
    }

    /// Has the kernel kill everything in the version 2 hierarchy at one blow (Linux 5.14), if it can.
    fn kill_v2(&self) -> Result<bool> {
        let Some(directory) = self.v2() else { return Ok(false) };
        let path = format!("{directory}/cgroup.kill");
        match file::write(&path, "1") {
            Ok(()) => Ok(true),
            // Gone, too old, or threaded.
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(false),
            Err(errno) => Err(Error::os("write", errno).path(path)),
        }
    }

    /// Kills every process, unless `taken` says that the cgroup is another container's; false if it does.
    ///
    /// It is asked while nobody can take an empty cgroup: a frozen one is refused. So whoever is in it when it is not taken
    /// was in it before.
    ///
    /// # Errors
    /// Those of `taken` and of [`Cgroup::signal_all`].
    pub fn kill_unless(&self, taken: &dyn Fn() -> Result<bool>) -> Result<bool> {
        if !self.is_populated()? {
            return Ok(true);
        }
        // Where that is not to be had, it is at least asked as late as can be.
        // On version 2 who is about to stop cannot fork any more, and can be killed.
        let frozen = match self.is_v2() {
            true => self.freeze_others(Self::begin_to_freeze),
            false => self.freeze_others(Self::freeze_for),
        };
        if !self.is_populated()? {
            return Ok(true);
        }
        if taken()? {
            return Ok(false);
        }
        let killed = match self.kill_v2() {
            Ok(true) if self.is_v2() => Ok(()),
            other => other.and_then(|_| self.signal_each(libc::SIGKILL)),
        };
        drop(frozen);
        killed.and(self.thaw_for_death())?;
        Ok(true)
    }

    /// Freezes until the guard is dropped, if that can be done, and does not stop this process, for good, in its own cgroup.
    fn freeze_others<'c>(
        &'c self,
        freeze: impl FnOnce(&'c Self) -> Result<Frozen<'c>>,
    ) -> Option<Frozen<'c>> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        if self.pids().ok()?.contains(&own) { None } else { freeze(self).ok() }
    }

    /// Whether there is a process in the cgroup or below it, be it one of another pid namespace.
    fn is_populated(&self) -> Result<bool> {
        let events = self.v2().and_then(|dir| file::read(&format!("{dir}/cgroup.events")).ok());
        let populated = events.is_some_and(|text| file::keyed(&text, "populated") == Some(1));
        Ok(populated || !self.pids()?.is_empty())
    }

    fn signal_each(&self, signal: i32) -> Result<()> {
        for pid in self.pids()? {
            send(pid, signal)?;
        }
        Ok(())
    }

    /// The freezer of version 1 holds the dying back.
    fn thaw_for_death(&self) -> Result<()> {
        if self.is_frozen()? { self.thaw() } else { Ok(()) }
    }
}

fn send(pid: i32, signal: i32) -> Result<()> {
    if u32::try_from(pid) == Ok(std::process::id()) {
        return Ok(());
    }
    let sent =
        pidfd::open(Pid::from_raw(pid)).and_then(|fd| pidfd::send_signal(fd.as_fd(), signal));
    match sent {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::os(format!("send signal {signal} to process {pid}"), errno)),
    }
}

/// The processes in `directory` and below.
pub(super) fn all(directory: &str) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    collect(directory, &mut pids)?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn collect(directory: &str, pids: &mut Vec<i32>) -> Result<()> {
    let path = format!("{directory}/cgroup.procs");
    match file::read(&path) {
        // A process of another pid namespace shows as 0.
        Ok(text) => {
            pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|&pid| pid > 0));
        }
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
        // A threaded cgroup's processes show in the domain above.
        Err(Errno::EOPNOTSUPP) => {}
        Err(errno) => return Err(Error::os("read", errno).path(path)),
    }
    for name in subdirectories(directory)? {
        collect(&format!("{directory}/{name}"), pids)?;
    }
    Ok(())
}

/// The cgroups directly below; none if it is gone.
pub(super) fn subdirectories(directory: &str) -> Result<Vec<String>> {
    match file::subdirectories(directory) {
        Ok(names) => Ok(names),
        Err(error) => match crate::error::io_errno(&error) {
            Errno::ENOENT | Errno::ENODEV => Ok(Vec::new()),
            errno => Err(Error::os("list", errno).path(directory)),
        },
    }
}
