//! Taking the cgroup away.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::stat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Cgroup, file, freeze, processes};
use crate::{Error, Result};

/// How long processes may take to die once they have been killed.
const DEADLINE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Removes the cgroup and those the container made below it, in every hierarchy. The directories above stay.
    ///
    /// An ordinary removal is one rmdir per hierarchy. A cgroup that is busy is given two seconds, waiting on
    /// `cgroup.events` where there is one.
    ///
    /// # Errors
    /// The processes that are still in it, and what they wait for; the other hierarchies are removed all the same.
    pub fn remove(&self) -> Result<()> {
        let stopped = if self.may_stop_unit() { self.stop_unit() } else { Ok(()) };
        match self.remove_directories() {
            // With the last process and the directory systemd's interest in the unit has gone as well, once it looks.
            Ok(()) => Ok(()),
            Err(error) => Err(stopped.err().unwrap_or(error)),
        }
    }

    /// Removes what was made for this cgroup, in the hierarchies that had none of its name; waits until nobody is in the
    /// others.
    ///
    /// # Errors
    /// As for [`Cgroup::remove`].
    pub fn remove_made(&self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut result = Ok(());
        for member in &self.record.hierarchies {
            let directory = self.directory(member);
            let done = match self.found.contains(&directory) {
                true => wait_until_empty(&directory, deadline),
                false => tree(&directory, deadline),
            };
            result = result.and(done);
        }
        result
    }

    /// Other containers may be in a slice, which to stop would end.
    fn may_stop_unit(&self) -> bool {
        let slice = self.unit().is_some_and(|unit| unit.ends_with(".slice"));
        !slice || self.pids().is_ok_and(|pids| pids.is_empty())
    }

    fn remove_directories(&self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let main = if self.planned { self.main() } else { None };
        // First: a process that has left it has left all hierarchies, so whoever is in the others is not the container's.
        let mut result = main.as_ref().map_or(Ok(()), |main| directory_or_tree(main, deadline));
        for member in &self.record.hierarchies {
            let directory = self.directory(member);
            // `create` looks whether these two are free before it writes anything down.
            let was_free = member.is_v2() || main.as_ref() == Some(&directory);
            let anothers = match self.planned && !was_free {
                true => is_anothers(&directory, deadline),
                false => Ok(false),
            };
            let removed = match anothers {
                Ok(true) => Ok(()),
                Ok(false) => directory_or_tree(&directory, deadline),
                Err(error) => Err(error),
            };
            result = result.and(removed);
        }
        result
    }
}

impl Cgroup {
    /// Removes the cgroup if that is one rmdir per hierarchy; false, and then most of it is still there, if there are
    /// processes or cgroups in it.
    ///
    /// The directory whose processes are the container's goes first: while it is there, they can be found.
    pub fn remove_empty(&self) -> bool {
        if self.unit().is_some() {
            return self.pids().is_ok_and(|pids| pids.is_empty()) && self.remove().is_ok();
        }
        let main = self.main();
        if main.as_deref().is_some_and(|main| rmdir(main).is_err()) {
            return false;
        }
        let members = self.record.hierarchies.iter().map(|member| self.directory(member));
        members.filter(|member| Some(member) != main.as_ref()).all(|member| rmdir(&member).is_ok())
    }
}

/// Gone already is gone.
fn rmdir(directory: &str) -> nix::Result<()> {
    match unlinkat(nix::fcntl::AT_FDCWD, directory, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

fn directory_or_tree(directory: &str, deadline: Instant) -> Result<()> {
    match rmdir(directory) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => tree(directory, deadline),
        Err(errno) => Err(Error::os("rmdir", errno).path(directory)),
    }
}

/// Whether somebody is in it who has not come with a container that was being created, when no process of that is in its
/// main directory any more: only its init may be on the way there, which is this program and is about to die. Waited for
/// until the deadline.
fn is_anothers(directory: &str, deadline: Instant) -> Result<bool> {
    loop {
        let pids = processes::all(directory)?;
        let empty = pids.is_empty();
        // Before the time is looked at: the main directory may have taken all of it.
        if pids.into_iter().any(|pid| !may_be_init(pid)) {
            return Ok(true);
        }
        if empty || Instant::now() > deadline {
            return Ok(false);
        }
        freeze::wait(None, Duration::from_millis(1))?;
    }
}

/// Whether it runs this program, or cannot be asked, as one that has ended.
fn may_be_init(pid: i32) -> bool {
    let program = |process: &str| stat(format!("/proc/{process}/exe").as_str());
    match (program(&pid.to_string()), program("self")) {
        (Ok(its), Ok(own)) => (its.st_dev, its.st_ino) == (own.st_dev, own.st_ino),
        _ => true,
    }
}

/// Deepest first, until the deadline.
fn tree(directory: &str, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        for name in processes::subdirectories(directory)? {
            tree(&format!("{directory}/{name}"), deadline)?;
        }
        // Opened before the attempt: a change between the attempt and the wait must not be missed.
        let events = file::open_with(&format!("{directory}/cgroup.events"), OFlag::O_RDONLY).ok();
        if let Some(events) = &events {
            let _arms_the_poll = file::read_all(events);
        }
        match rmdir(directory) {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(Error::os("rmdir", errno).path(directory)),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(busy(directory));
        }
        // Not only the event: a cgroup can be busy for a moment after its last process.
        freeze::wait(events.as_ref(), left.min(pause))?;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn wait_until_empty(directory: &str, deadline: Instant) -> Result<()> {
    while !processes::all(directory)?.is_empty() {
        if Instant::now() > deadline {
            return Err(busy(directory));
        }
        freeze::wait(None, Duration::from_millis(1))?;
    }
    Ok(())
}

fn busy(directory: &str) -> Error {
    let mut stuck = String::new();
    for pid in processes::all(directory).unwrap_or_default().into_iter().take(10) {
        let read = |name: &str| file::read(&format!("/proc/{pid}/{name}")).unwrap_or_default();
        let separator = if stuck.is_empty() { "" } else { ", " };
        let wait = read("wchan");
        let wait = if wait.is_empty() || wait == "0" { "nothing" } else { &wait };
        stuck.push_str(&format!("{separator}{pid} ({}, waits in {wait})", read("comm").trim()));
    }
    let error = Error::os("rmdir", Errno::EBUSY).path(directory);
    if stuck.is_empty() { error } else { error.hint(format!("still in it: {stuck}")) }
}
