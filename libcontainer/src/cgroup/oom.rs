//! Watching for the out-of-memory killer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsRawFd;

use super::{Cgroup, file};
use crate::error::Context;
use crate::{Error, Result};

/// What [`OomWatch::read`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomEvent {
    /// How often the limit was hit to the point of killing since the last look.
    pub kills: u64,
    /// Whether the cgroup has no processes any more or is gone: no event will follow.
    pub gone: bool,
}

/// A pollable watch on a cgroup; readable (`POLLIN`) when there is something to [`OomWatch::read`].
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    directory: String,
    seen: u64,
}

#[derive(Debug)]
enum Source {
    /// Version 1 counts in an eventfd that is bound to `memory.oom_control`, which must stay open.
    Counter(EventFd, #[expect(dead_code, reason = "kept open")] OwnedFd),
    /// Version 2 reports the change of `memory.events` and `cgroup.events`.
    Files(Inotify),
}

impl Cgroup {
    /// Starts to watch.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] without a memory controller; what could not be opened.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let directory = if self.is_v2() { self.v2() } else { self.v1("memory") };
        let directory =
            directory.ok_or_else(|| Error::unsupported("the container has no memory cgroup"))?;
        if self.is_v2() { watch_files(directory) } else { count(directory) }
    }
}

impl Cgroup {
    /// How many processes of the cgroup the kernel has killed for memory; `None` where it does not say.
    pub fn oom_kills(&self) -> Option<u64> {
        let path = if self.is_v2() {
            format!("{}/memory.events", self.v2()?)
        } else {
            format!("{}/memory.oom_control", self.v1("memory")?)
        };
        file::keyed(&file::read(&path).ok()?, "oom_kill")
    }
}

/// cgroup-v1/memory.rst "OOM Control".
fn count(directory: String) -> Result<OomWatch> {
    let path = format!("{directory}/memory.oom_control");
    let control = file::open_with(&path, OFlag::O_RDONLY).on("open", &path)?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = EventFd::from_value_and_flags(0, flags).doing("eventfd")?;
    let path = format!("{directory}/cgroup.event_control");
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    file::write(&path, &line).on("write", &path)?;
    Ok(OomWatch { source: Source::Counter(event, control), directory, seen: 0 })
}

fn watch_files(directory: String) -> Result<OomWatch> {
    let inotify =
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).doing("inotify_init1")?;
    for name in ["memory.events", "cgroup.events"] {
        let path = format!("{directory}/{name}");
        inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).on("watch", &path)?;
    }
    let mut watch = OomWatch { source: Source::Files(inotify), directory, seen: 0 };
    watch.seen = watch.kills().unwrap_or(0);
    Ok(watch)
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Counter(event, _) => event.as_fd(),
            Source::Files(inotify) => inotify.as_fd(),
        }
    }
}

impl OomWatch {
    /// Takes what has happened; does not wait.
    ///
    /// # Errors
    /// The failed read.
    pub fn read(&mut self) -> Result<OomEvent> {
        match &self.source {
            Source::Counter(event, _) => {
                let mut count = [0; 8];
                let counted = match nix::unistd::read(event, &mut count) {
                    Ok(_) => u64::from_ne_bytes(count),
                    Err(Errno::EAGAIN | Errno::EINTR) => 0,
                    Err(errno) => return Err(Error::os("read the eventfd", errno)),
                };
                // The removal of the cgroup counts as an event too.
                let path = format!("{}/memory.oom_control", self.directory);
                match file::read(&path) {
                    Ok(_) => Ok(OomEvent { kills: counted, gone: false }),
                    Err(_) => Ok(OomEvent { kills: 0, gone: true }),
                }
            }
            Source::Files(inotify) => {
                match inotify.read_events() {
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(Error::os("read the inotify events", errno)),
                }
                let now = self.kills();
                let populated = file::read(&format!("{}/cgroup.events", self.directory))
                    .ok()
                    .and_then(|text| file::keyed(&text, "populated"));
                let kills = now.map_or(0, |now| now.saturating_sub(self.seen));
                self.seen = now.unwrap_or(self.seen);
                Ok(OomEvent { kills, gone: populated != Some(1) })
            }
        }
    }

    /// Those of the cgroup and below, whichever level's limit was hit.
    fn kills(&self) -> Option<u64> {
        let text = file::read(&format!("{}/memory.events", self.directory)).ok()?;
        file::keyed(&text, "oom_kill")
    }
}
