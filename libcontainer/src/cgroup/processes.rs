//! The processes in a cgroup.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Cgroup, file};
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
        if signal == libc::SIGKILL
            && let Some(directory) = self.v2()
        {
            let path = format!("{directory}/cgroup.kill");
            match file::write(&path, "1") {
                Ok(()) if self.is_v2() => return Ok(()),
                // On a hybrid host the freezer of version 1 would hold the dying back.
                Ok(()) => return self.thaw_for_death(),
                // Gone, or not a member: the ordinary way decides.
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                // Threaded.
                Err(Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(Error::os("write", errno).path(path)),
            }
        }
        // Nobody forks while frozen. Where that is not to be had, the signal still reaches those there are.
        let frozen = self.freeze_for();
        let result = self.pids().and_then(|pids| {
            for pid in pids {
                send(pid, signal)?;
            }
            Ok(())
        });
        drop(frozen);
        if signal == libc::SIGKILL {
            self.thaw_for_death()?;
        }
        result
    }

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
