//! Ctrl-C, SIGTERM and SIGHUP: what is half made goes before the process does.
//!
//! The signal makes the work that asks [`check`] fail where it is, and who has made something removes it as after any failure. Where nothing is half
//! made the process ends at once: a download is gone on with wherever it broke off. Work that does not notice in time, as it waits for a server,
//! has what it makes removed from a thread of this module; so has any at the second signal.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libcontainer::sys::signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Kind, Result};

/// How long work has to notice.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at whether it has.
const LOOK: u16 = 20;

type Remove = Box<dyn FnOnce() + Send>;

struct State {
    next: u64,
    half_made: Vec<(u64, Remove)>,
    busy: usize,
}

static STATE: Mutex<State> = Mutex::new(State { next: 0, half_made: Vec::new(), busy: 0 });

/// Whether it has been said why the process ends.
static SAID: AtomicBool = AtomicBool::new(false);

/// Apart from the rest, which is held while what is half made is removed: that may need a helper.
static HELPERS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn helpers() -> MutexGuard<'static, Vec<Pid>> {
    HELPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to note signals.
///
/// # Errors
/// Those of making a pipe and a thread.
pub fn watch() -> Result<()> {
    let failed = |errno| Error::sys("cannot wait for signals", errno);
    let (told, tell) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
            .map_err(failed)?;
    // Threads have the mask of who starts them: signals are for the others, who may block them and read them elsewhere.
    let all = SigSet::all();
    let was = all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).map_err(failed)?;
    let started = std::thread::Builder::new().stack_size(256 << 10).spawn(move || attend(&told));
    let restored = was.thread_set_mask();
    let _it_goes_on = started.map_err(|error| Error::io("cannot wait for signals", error))?;
    restored.map_err(failed)?;
    signal::note_signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP], tell);
    Ok(())
}

/// Fails when a signal has come.
///
/// # Errors
/// That.
pub fn check() -> io::Result<()> {
    signal::noted().map_or(Ok(()), |signal| {
        Err(Error::new(Kind::Generic, format!("interrupted by {signal}")).into())
    })
}

/// Says why the work has failed. The end waits for it, or says that it was interrupted itself.
pub fn say(what: impl std::fmt::Display) {
    let _to_its_end = busy();
    SAID.store(true, Ordering::Relaxed);
    let _nowhere_else = writeln!(io::stderr(), "{what}");
}

/// Ends the process as the signal that has come would have, if one has.
pub fn end() {
    if let Some(signal) = signal::noted() {
        signal::end_by(signal);
    }
}

/// Something that must not stay as it is. Dropping it says that it is whole, or that its maker removes it.
#[derive(Debug)]
#[must_use]
pub struct HalfMade(u64);

/// From now on there is something that `remove` removes. It is called, from another thread, only if its maker does not notice a signal; what the maker
/// does meanwhile may fail, and must not succeed.
pub fn half_made(remove: impl FnOnce() + Send + 'static) -> HalfMade {
    let mut state = state();
    state.next += 1;
    let number = state.next;
    state.half_made.push((number, Box::new(remove)));
    HalfMade(number)
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        let mut state = state();
        let gone = state.half_made.iter().position(|(number, _)| *number == self.0);
        let remove = gone.map(|at| state.half_made.swap_remove(at));
        drop(state);
        // It owns descriptors.
        drop(remove);
    }
}

/// Something is being done that a signal waits for: tidying up, or a step that is short.
#[derive(Debug)]
#[must_use]
pub struct Busy(());

/// Begins with that.
pub fn busy() -> Busy {
    state().busy += 1;
    Busy(())
}

impl Drop for Busy {
    fn drop(&mut self) {
        state().busy -= 1;
    }
}

/// A process that works for this one. It is told of signals that this one alone gets.
#[derive(Debug)]
#[must_use]
pub struct Helper(Pid);

/// Begins with that. It has to be waited for only after this is dropped.
pub fn helper(process: u32) -> Helper {
    let pid = Pid::from_raw(i32::try_from(process).unwrap_or_default());
    helpers().push(pid);
    Helper(pid)
}

impl Drop for Helper {
    fn drop(&mut self) {
        helpers().retain(|pid| *pid != self.0);
    }
}

fn attend(told: &OwnedFd) {
    let heard = |patience: PollTimeout| {
        let mut ready = [PollFd::new(told.as_fd(), PollFlags::POLLIN)];
        let came = poll(&mut ready, patience).is_ok_and(|count| count > 0);
        came && nix::unistd::read(told, &mut [0]).is_ok_and(|count| count > 0)
    };
    let signal = loop {
        if heard(PollTimeout::NONE)
            && let Some(signal) = signal::noted()
        {
            break signal;
        }
    };
    for helper in helpers().iter().filter(|pid| pid.as_raw() > 0) {
        let _it_may_have_ended = kill(*helper, signal);
    }
    let begun = Instant::now();
    let mut again = false;
    // Where that was nothing the process ends without a word, as others do.
    let something = !state().half_made.is_empty();
    loop {
        {
            let mut state = state();
            let late = again || begun.elapsed() > PATIENCE;
            if again || state.busy == 0 && (late || state.half_made.is_empty()) {
                let left = std::mem::take(&mut state.half_made);
                // Held to the end: nothing is said to be whole from here on.
                left.into_iter().rev().for_each(|(_, remove)| remove());
                if something && !SAID.swap(true, Ordering::Relaxed) {
                    let _nowhere_else = writeln!(io::stderr(), "skep: interrupted by {signal}");
                }
                signal::end_by(signal);
            }
        }
        again |= heard(PollTimeout::from(LOOK));
    }
}
