//! The timeline that `--debug` prints: what was done, and how many microseconds after the command began.
//!
//! A process that is being made cannot write to the log. It notes the time of each [`Stage`] in memory that it has in
//! common with its parent, who prints it, with one beginning for both. It reads `CLOCK_REALTIME`, the one clock that a time
//! namespace leaves alone. Without `--debug` there is no such memory and no clock is read: design/0019-timeline.md.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant, SystemTime};

use crate::log::Log;
use crate::sys::shared::Shared;

macro_rules! stages {
    ($($name:ident = $text:literal,)*) => {
        /// What a process that is being made has done.
        #[derive(Debug, Clone, Copy)]
        #[repr(usize)]
        pub(crate) enum Stage { $($name,)* }

        /// How it is told, by number.
        const TEXTS: &[&str] = &[$($text,)*];
    };
}

stages! {
    Began = "runs for the first time",
    Cgroups = "is in its cgroups",
    Namespaces = "is in its namespaces",
    Names = "has its session, keyring, names and loopback",
    Root = "has attached the root filesystem",
    Mounts = "has made the mounts",
    Devices = "has made the devices",
    Hooks = "has run the hooks and made the terminal",
    Hidden = "has written the sysctls, hidden and protected paths",
    Pivoted = "has the root filesystem as its root",
    Signals = "has its streams and signals",
    Closed = "has closed the descriptors; what is left are its privileges and the filter",
}

const STAGES: usize = TEXTS.len();

/// Prints the steps of this process, where there is anybody to read them.
#[derive(Clone, Copy)]
pub(crate) struct Clock<'a> {
    log: &'a dyn Log,
    began: Option<Instant>,
}

impl<'a> Clock<'a> {
    pub(crate) fn start(log: &'a dyn Log) -> Self {
        Self { log, began: log.began() }
    }

    pub(crate) fn step(&self, what: &str) {
        if let Some(began) = self.began {
            self.log.debug(&format!("{what} ({} us)", began.elapsed().as_micros()));
        }
    }

    /// What a process to be cloned notes its own steps in. Nobody misses a timeline for which there is no memory.
    pub(crate) fn inside(&self) -> Option<Inside> {
        let before = self.began?.elapsed();
        Some(Inside { before, since: SystemTime::now(), nanoseconds: Shared::new().ok()? })
    }

    /// Prints what `inside` has noted and this has not printed.
    pub(crate) fn print(&self, inside: Option<&Inside>) {
        let Some(inside) = inside else { return };
        for (number, text) in inside.nanoseconds.numbers().iter().zip(TEXTS) {
            let noted = number.swap(0, Acquire);
            if noted > 0 {
                self.log.debug(&format!("inside: {text} ({} us)", noted / 1000));
            }
        }
    }
}

/// The times of another process, from the beginning of this one's command.
#[derive(Debug)]
pub(crate) struct Inside {
    /// How long the command was at it when this was made.
    before: Duration,
    /// When that was.
    since: SystemTime,
    nanoseconds: Shared<STAGES>,
}

/// Notes the time of `stage`. Not once a seccomp filter is loaded: reading the clock may be a system call.
pub(crate) fn mark(inside: Option<&Inside>, stage: Stage) {
    let Some(inside) = inside else { return };
    // Whoever sets the clock back meanwhile has a timeline that stands still.
    let elapsed = inside.before + inside.since.elapsed().unwrap_or_default();
    let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
    if let Some(number) = inside.nanoseconds.numbers().get(stage as usize) {
        number.store(nanoseconds.max(1), Release);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Lines(RefCell<Vec<String>>, Option<Instant>);

    impl Log for Lines {
        fn warn(&self, _: &str) {}
        fn debug(&self, message: &str) {
            self.0.borrow_mut().push(message.to_owned());
        }
        fn began(&self) -> Option<Instant> {
            self.1
        }
    }

    #[test]
    fn stages_are_printed_once_and_in_order() {
        let log = Lines(RefCell::default(), Some(Instant::now()));
        let clock = Clock::start(&log);
        let inside = clock.inside();
        mark(inside.as_ref(), Stage::Mounts);
        mark(inside.as_ref(), Stage::Began);
        clock.print(inside.as_ref());
        clock.print(inside.as_ref());
        let lines = log.0.borrow();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("inside: runs for the first time ("), "{lines:?}");
        assert!(lines[1].starts_with("inside: has made the mounts ("), "{lines:?}");
    }

    #[test]
    fn without_debug_there_is_nothing() {
        let log = Lines::default();
        let clock = Clock::start(&log);
        assert!(clock.inside().is_none());
        mark(None, Stage::Root);
        clock.step("made the plan");
        assert!(log.0.borrow().is_empty());
    }
}
