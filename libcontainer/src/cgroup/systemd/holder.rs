//! The process a scope is started with.

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;

use crate::sys::clone::{Side, clone_single_threaded};
use crate::sys::{creds, fd, pidfd, process, spawn};
use crate::{Error, Result};

/// A child that waits for its end, which comes with this value's, or this process's.
#[derive(Debug)]
pub(super) struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Holder {
    /// Starts it.
    ///
    /// # Errors
    /// Those of clone3(2).
    pub(super) fn start() -> Result<Self> {
        let runtime = nix::unistd::getpid();
        match clone_single_threaded(0, None) {
            Ok(Side::Child) => wait(runtime),
            Ok(Side::Parent(pid, pidfd)) => Ok(Self { pid, pidfd }),
            Err(errno) => {
                Err(Error::os("clone3", errno).hint("for the process that holds the systemd scope"))
            }
        }
    }

    /// Its pid.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _gone = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        // A process that nobody has waited for still counts in its cgroup.
        let _reaped = spawn::wait(self.pidfd.as_fd());
    }
}

fn wait(runtime: Pid) -> ! {
    let ready = creds::set_parent_death_signal(libc::SIGKILL).is_ok()
        && nix::unistd::getppid() == runtime
        && spawn::signal::SignalMask::ALL.set().is_ok()
        // What the runtime has open and locked is not to stay so through this one.
        && fd::close_all_but(0, Vec::new()).is_ok();
    process::set_name(c"skep:scope");
    if ready {
        loop {
            nix::unistd::pause();
        }
    }
    process::exit_now(1)
}
