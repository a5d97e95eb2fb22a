//! `events`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use libcontainer::cgroup::Stats;
use libcontainer::container::Container;
use libcontainer::error::Context;
use libcontainer::log::Log;
use libcontainer::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::open;
use crate::cli::{Args, Globals, flag};
use crate::logging::Logger;
use crate::output;

/// One line of the output.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

fn print(event: &Event<'_>) -> Result<()> {
    let mut line = serde_json::to_vec(event).map_err(|e| Error::internal(e.to_string()))?;
    line.push(b'\n');
    output::print(&line)
}

/// Prints statistics every interval and OOM kills as they happen, until the container ends; or one report.
///
/// # Errors
/// The container does not run.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let interval = args.duration(&flag::INTERVAL)?.unwrap_or(Duration::from_secs(5));
    if interval.is_zero() {
        return Err(Error::config("duration interval must be greater than 0"));
    }
    let saved = open(args, globals)?;
    let container = saved.container()?;
    let report =
        |data| print(&Event { kind: "stats", id: &container.record().id, data: Some(data) });
    let first = container.stats()?;
    if args.flag(&flag::STATS) {
        return report(first);
    }
    watch(&container, interval, log, &report)
}

fn watch(
    container: &Container<'_>,
    interval: Duration,
    log: &Logger,
    report: &dyn Fn(Stats) -> Result<()>,
) -> Result<()> {
    let Some(init) = container.init().pidfd().doing("pidfd_open")? else { return Ok(()) };
    let mut oom = match container.watch_oom() {
        Ok(oom) => Some(oom),
        Err(error) => {
            log.warn(&format!("OOM kills will not be seen: {error}"));
            None
        }
    };
    let mut next = Instant::now() + interval;
    loop {
        let mut watched = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        watched.extend(oom.as_ref().map(|oom| PollFd::new(oom.as_fd(), PollFlags::POLLIN)));
        let left = next.saturating_duration_since(Instant::now());
        // poll(2) counts milliseconds; one more, so as not to come back too early and turn in circles.
        let left = left + Duration::from_millis(1);
        match poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => continue,
            other => other.doing("poll")?,
        };
        let has = |i: usize| watched.get(i).and_then(PollFd::any).unwrap_or(false);
        let (ended, killed) = (has(0), has(1));
        if killed && let Some(watch) = &mut oom {
            let event = watch.read()?;
            for _ in 0..event.kills {
                print(&Event { kind: "oom", id: &container.record().id, data: None })?;
            }
            if event.gone {
                oom = None;
            }
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next += interval;
            match container.stats() {
                Ok(stats) => report(stats)?,
                // It ended between the poll and the look.
                Err(_) if !container.init().is_alive() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
