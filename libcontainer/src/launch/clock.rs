//! The timeline of a launch.

use std::time::Instant;

use crate::log::Log;

/// Says, with `--debug`, what was done and how many microseconds in.
#[derive(Clone, Copy)]
pub(super) struct Clock<'a> {
    log: &'a dyn Log,
    start: Option<Instant>,
}

impl<'a> Clock<'a> {
    pub(super) fn start(log: &'a dyn Log) -> Self {
        Self { log, start: log.is_debug().then(Instant::now) }
    }

    pub(super) fn step(&self, what: &str) {
        if let Some(start) = self.start {
            self.log.debug(&format!("{what} ({} us)", start.elapsed().as_micros()));
        }
    }
}
