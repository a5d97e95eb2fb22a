//! Freezing and thawing.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Cgroup, file, processes};
use crate::error::Context;
use crate::{Error, Result};

/// How long the kernel may take to stop every process: as long as in runc, for a machine with too much to do.
const DEADLINE: Duration = Duration::from_secs(10);

/// A cgroup frozen for a while: it thaws when this is dropped, unless it was frozen before.
#[derive(Debug)]
pub struct Frozen<'c> {
    cgroup: &'c Cgroup,
    thaw: bool,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.thaw {
            let _nobody_to_tell = self.cgroup.thaw();
        }
    }
}

impl Cgroup {
    /// Stops every process in the cgroup and those below it, and waits until all have stopped.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] without a freezer; a process that does not stop in ten seconds, in which case the
    /// cgroup is thawed again.
    pub fn freeze(&self) -> Result<()> {
        let result = if self.is_v2() { self.freeze_v2() } else { self.freeze_v1() };
        if result.is_err() {
            // Never leave it halfway: nobody could kill it.
            let _the_first_error_counts = self.thaw();
        }
        result
    }

    /// Lets the processes run again.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] without a freezer; the failed write.
    pub fn thaw(&self) -> Result<()> {
        let (path, value) = if self.is_v2() {
            (self.freezer("cgroup.freeze")?, "0")
        } else {
            (self.freezer("freezer.state")?, "THAWED")
        };
        file::write(&path, value).on("write", &path)
    }

    /// Takes processes of the container back that somebody has moved to another freezer of version 1: frozen there, even a
    /// killed one would stay for ever. The others that are frozen there are that somebody's business.
    ///
    /// # Errors
    /// The failed read, or the first failed write, once all have been tried; a process that has gone is no error, nor is the
    /// container's own freezer, to which nobody can come back.
    pub fn recall(&self) -> Result<()> {
        let Some(directory) = self.v1("freezer") else { return Ok(()) };
        let here = processes::all(&directory)?;
        let path = format!("{directory}/cgroup.procs");
        let own = i32::try_from(std::process::id()).ok();
        let mut result = Ok(());
        for pid in self.pids()?.into_iter().filter(|pid| !here.contains(pid) && Some(*pid) != own) {
            match file::write(&path, &pid.to_string()) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(Errno::ENOENT | Errno::ENODEV) => break,
                Err(errno) if result.is_ok() => {
                    result = Err(Error::os("write", errno).path(&path));
                }
                Err(_the_first_error_counts) => {}
            }
        }
        result
    }

    /// Whether the cgroup is frozen or about to be; one that is gone is not.
    ///
    /// # Errors
    /// The failed read.
    pub fn is_frozen(&self) -> Result<bool> {
        let name = if self.is_v2() { "cgroup.freeze" } else { "freezer.state" };
        let Ok(path) = self.freezer(name) else { return Ok(false) };
        match file::read(&path) {
            Ok(state) => Ok(!matches!(state.trim(), "0" | "THAWED")),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(Error::os("read", errno).path(path)),
        }
    }

    /// Freezes until the guard is dropped.
    ///
    /// # Errors
    /// Those of [`Cgroup::freeze`].
    pub fn freeze_for(&self) -> Result<Frozen<'_>> {
        let was_frozen = self.is_frozen()?;
        if !was_frozen {
            self.freeze()?;
        }
        Ok(Frozen { cgroup: self, thaw: !was_frozen })
    }

    /// The same on version 2, without waiting until all have stopped.
    ///
    /// # Errors
    /// The failed write.
    pub(super) fn begin_to_freeze(&self) -> Result<Frozen<'_>> {
        let was_frozen = self.is_frozen()?;
        let path = self.freezer("cgroup.freeze")?;
        file::write(&path, "1").on("write", &path)?;
        Ok(Frozen { cgroup: self, thaw: !was_frozen })
    }

    /// The directory whose freezer stops every process; `None` without one.
    pub fn freezer_directory(&self) -> Option<String> {
        if self.is_v2() { self.v2() } else { self.v1("freezer") }
    }

    fn freezer(&self, file: &str) -> Result<String> {
        match self.freezer_directory() {
            Some(directory) => Ok(format!("{directory}/{file}")),
            None => Err(Error::unsupported("the container has no freezer cgroup")),
        }
    }

    /// `cgroup.events` says when the last process has stopped, and wakes who polls it.
    fn freeze_v2(&self) -> Result<()> {
        let path = self.freezer("cgroup.freeze")?;
        file::write(&path, "1").on("write", &path)?;
        let path = self.freezer("cgroup.events")?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let events = file::open_with(&path, OFlag::O_RDONLY).on("open", &path)?;
            let text = file::read_all(&events).on("read", &path)?;
            if file::keyed(&text, "frozen") == Some(1) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.stuck());
            }
            wait(Some(&events), left)?;
        }
    }

    /// Version 1 may stay at FREEZING when a process forks at the wrong moment, until it is told again.
    fn freeze_v1(&self) -> Result<()> {
        let path = self.freezer("freezer.state")?;
        let deadline = Instant::now() + DEADLINE;
        for round in 0_u32.. {
            if round % 20 == 0 {
                if round > 0 {
                    file::write(&path, "THAWED").on("write", &path)?;
                }
                file::write(&path, "FROZEN").on("write", &path)?;
            }
            match file::read(&path).on("read", &path)?.trim() {
                "FROZEN" => return Ok(()),
                "FREEZING" => {}
                state => {
                    return Err(Error::internal(format!("the freezer is {state:?}")).path(&path));
                }
            }
            if Instant::now() > deadline {
                break;
            }
            wait(None, Duration::from_millis(1))?;
        }
        Err(self.stuck())
    }

    fn stuck(&self) -> Error {
        Error::os("unable to freeze", Errno::ETIMEDOUT)
            .path(self.main().unwrap_or_default())
            .hint("a process in it does not stop: is it in an uninterruptible wait?")
    }
}

/// Waits for a change of an events file of cgroup v2, at most `time`. `None` only waits: version 1 tells nobody.
pub(super) fn wait(events: Option<&std::os::fd::OwnedFd>, time: Duration) -> Result<()> {
    let mut fds: Vec<PollFd<'_>> =
        events.into_iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLPRI)).collect();
    let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, time) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::os("poll", errno)),
    }
}
