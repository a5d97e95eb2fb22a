//! What `run` and `exec` do once the container's process runs and they stay: pass on signals and the terminal, wait.

mod tty;

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::unistd::{Pid, getpid};

pub use self::tty::Tty;
use crate::error::{Context, Result};
use crate::notify::Proxy;
use crate::sys::pidfd;
use crate::sys::spawn::signal::{Received, SignalFd, SignalMask, set_default};
use crate::sys::spawn::{ExitStatus, try_wait, try_wait_any};

/// Whose ends are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reap {
    /// Those of all children: `run` is the subreaper of what the container leaves behind.
    All,
    /// Only that of the process: `exec`.
    Process,
}

/// What stays attached to the foreground while the process runs.
#[derive(Debug)]
pub struct Attached<'a> {
    /// The process, a child of ours.
    pub pidfd: BorrowedFd<'a>,
    /// Its id, in our namespace.
    pub pid: Pid,
    /// Its terminal, if `process.terminal` is set.
    pub tty: Option<Tty>,
    /// Its notification socket, if we have a service manager.
    pub notify: Option<&'a Proxy>,
    /// Whose ends are waited for.
    pub reap: Reap,
}

/// All signals, held back from before the clone until they can be passed on.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Blocks every signal, so that none is lost between here and [`Foreground::wait`]; call it before the clone.
    ///
    /// They stay blocked for good: nothing interrupts the clean-up after the process has ended.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub fn prepare() -> Result<Self> {
        // Ignored, as our caller may have left it, it would reap the process before we do.
        set_default(libc::SIGCHLD).doing("sigaction")?;
        SignalMask::ALL.set().doing("sigprocmask")?;
        let signals = SignalFd::all().doing("signalfd")?;
        Ok(Self { signals })
    }
    /// Makes orphans among the container's processes our children (PR_SET_CHILD_SUBREAPER); `run` only.
    ///
    /// # Errors
    /// Those of prctl(2).
    pub fn become_subreaper(&self) -> Result<()> {
        set_child_subreaper(true).doing("prctl(PR_SET_CHILD_SUBREAPER)")
    }

    /// Serves the process until it ends and returns how. The host's terminal has its settings back by then, in case
    /// of an error too.
    ///
    /// # Errors
    /// Those of poll(2), read(2) and waitid(2).
    pub fn wait(&self, attached: Attached<'_>) -> Result<ExitStatus> {
        let Attached { pidfd, pid, mut tty, mut notify, reap } = attached;
        loop {
            let notified = self.sleep(pidfd, tty.as_mut(), notify).doing("poll")?;
            while let Some(received) = self.signals.take().doing("read the signal")? {
                pass_on(received, pidfd, tty.as_ref());
            }
            if let Some(tty) = &mut tty {
                tty.copy().doing("copy the terminal")?;
            }
            if notified && notify.is_some_and(|proxy| proxy.relay().is_err()) {
                // The service manager is gone; the container is not to suffer from it.
                notify = None;
            }
            let ended = match reap {
                Reap::All => reap_all(pid),
                Reap::Process => try_wait(pidfd),
            };
            if let Some(status) = ended.doing("wait for the container's process")? {
                if let Some(mut tty) = tty {
                    tty.drain(&self.signals).doing("copy the terminal")?;
                }
                return Ok(status);
            }
        }
    }

    /// Waits until there is something to do; tells whether the container has notified.
    fn sleep(
        &self,
        pidfd: BorrowedFd<'_>,
        tty: Option<&mut Tty>,
        notify: Option<&Proxy>,
    ) -> nix::Result<bool> {
        let mut polled = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(pidfd, PollFlags::POLLIN),
        ];
        polled.extend(notify.map(|proxy| PollFd::new(proxy.as_fd(), PollFlags::POLLIN)));
        let others = polled.len();
        let mut timeout = PollTimeout::NONE;
        if let Some(tty) = &tty {
            polled.extend(tty.interests());
            if tty.has_work() {
                timeout = PollTimeout::ZERO;
            }
        }
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let woken: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(polled);
        if let Some(tty) = tty {
            tty.wake(woken.get(others..).unwrap_or_default());
        }
        Ok(notify.is_some() && woken.get(2).copied().unwrap_or(false))
    }
}

/// Sends a signal that was sent to us to the process instead, unless it was meant for us.
fn pass_on(received: Received, process: BorrowedFd<'_>, tty: Option<&Tty>) {
    match received.signal {
        libc::SIGCHLD => {}
        libc::SIGWINCH => {
            if let Some(tty) = tty {
                tty.resize();
            }
        }
        // runc keeps it for itself; callers may rely on it being harmless.
        libc::SIGURG => {}
        // Our own write to a pipe that nobody reads.
        libc::SIGPIPE if received.sender == getpid().as_raw() => {}
        signal => {
            // The process may have ended by now, and its end is about to be seen.
            let _may_be_dead = pidfd::send_signal(process, signal);
        }
    }
}

/// Reaps every child that has ended; returns how `pid` did, if it is among them.
fn reap_all(pid: Pid) -> nix::Result<Option<ExitStatus>> {
    let mut ended = None;
    while let Some((child, status)) = try_wait_any()? {
        if child == pid {
            ended = Some(status);
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests;
