//! Signals that are noted: their handler only says that they came, and the program ends when it has cleaned up.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::process::exit_now;

/// The first that came.
static NOTED: AtomicI32 = AtomicI32::new(0);
/// What each is written to, one byte.
static TOLD: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(signal: libc::c_int) {
    let _only_the_first = NOTED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    let byte = [0_u8];
    let kept = Errno::last_raw();
    // SAFETY: write(2) is async-signal-safe, and byte outlives the call.
    let _full_is_told =
        unsafe { libc::write(TOLD.load(Ordering::SeqCst), byte.as_ptr().cast(), 1) };
    Errno::set_raw(kept);
}

/// Has `signals` noted, and a byte written to `told` for each that comes. One that is ignored (nohup(1), a background job of a script) stays so.
/// execve(2) takes the handler away.
pub fn note_signals(signals: &[Signal], told: OwnedFd) {
    TOLD.store(told.into_raw_fd(), Ordering::SeqCst);
    for &signal in signals {
        let handler = note as *const () as libc::sighandler_t;
        // SAFETY: the handler calls nothing but write(2), which is async-signal-safe.
        let was = unsafe { libc::signal(signal as libc::c_int, handler) };
        if was == libc::SIG_IGN {
            // SAFETY: SIG_IGN is a valid disposition.
            let _as_it_was = unsafe { libc::signal(signal as libc::c_int, libc::SIG_IGN) };
        }
    }
}

/// The first of the signals that has come.
#[must_use]
pub fn noted() -> Option<Signal> {
    Signal::try_from(NOTED.load(Ordering::SeqCst)).ok()
}

/// Ends this process by `signal`, so that whoever waits for it learns that.
pub fn end_by(signal: Signal) -> ! {
    // SAFETY: SIG_DFL is a valid disposition.
    let _cannot_fail = unsafe { libc::signal(signal as libc::c_int, libc::SIG_DFL) };
    let _unblocked = SigSet::from(signal).thread_unblock();
    let _ends_us = nix::sys::signal::kill(Pid::this(), signal);
    // A process 1 has no default actions.
    exit_now(128 + signal as i32)
}
