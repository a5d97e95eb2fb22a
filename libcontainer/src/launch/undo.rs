//! What to take back when making a container fails half-way.

use std::os::fd::{AsFd, OwnedFd};

use super::Others;
use crate::cgroup::{Cgroup, Held};
use crate::error::Kind;
use crate::log::Log;
use crate::resctrl;
use crate::store::StateDir;
use crate::sys::{pidfd, spawn};

/// Everything a launch has left behind so far. Dropped before [`commit`](Undo::commit), it takes all of it back, newest
/// first; what cannot be taken back is a warning beside the first error, never instead of it.
pub(super) struct Undo<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) state: Option<StateDir>,
    pub(super) cgroup: Option<Cgroup>,
    /// What keeps the cgroup until the child is in it.
    pub(super) held: Option<Held>,
    pub(super) resctrl: Option<resctrl::Group>,
    pub(super) child: Option<OwnedFd>,
    others: Others<'a>,
    /// Whether other commands may change the container already.
    shared: bool,
    committed: bool,
}

impl<'a> Undo<'a> {
    pub(super) fn new(log: &'a dyn Log, others: Others<'a>) -> Self {
        Self {
            log,
            state: None,
            cgroup: None,
            held: None,
            resctrl: None,
            child: None,
            others,
            shared: false,
            committed: false,
        }
    }

    /// Keeps everything.
    pub(super) fn commit(mut self) -> (Option<StateDir>, Option<Cgroup>) {
        self.committed = true;
        (self.state.take(), self.cgroup.take())
    }

    /// Ends the child and waits for it: nothing of the container runs any more.
    pub(super) fn end_child(&mut self) {
        if let Some(child) = self.child.take() {
            let _gone = pidfd::send_signal(child.as_fd(), libc::SIGKILL);
            let _reaped = spawn::wait(child.as_fd());
        }
    }

    /// Lets other commands change the container, which is complete but for hooks that may be such commands.
    pub(super) fn share(&mut self) {
        if let Some(state) = &self.state {
            self.shared = true;
            state.unlock();
        }
    }

    /// Whether the container is still this launch's to take back. Else `delete` has been faster, or can do it later.
    fn is_own(&mut self) -> bool {
        let (true, Some(state)) = (std::mem::take(&mut self.shared), &self.state) else {
            return true;
        };
        match state.lock() {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != Kind::NotFound {
                    self.log.warn(&format!("clean up: {error}"));
                }
                false
            }
        }
    }

    /// Takes everything back now; false if all but the child is left to another command.
    pub(super) fn take_back(&mut self) -> bool {
        self.end_child();
        drop(self.held.take());
        if !self.is_own() {
            self.committed = true;
            return false;
        }
        // Descriptors may be what there is too little of.
        crate::exeseal::let_go();
        if let Some(cgroup) = self.cgroup.take() {
            let removed = match cgroup.is_fresh() {
                // A hook or a child of init may still be in there; or the init of another container, which has found it
                // free before this one's was inside.
                true => self.others.clear(&cgroup, true),
                // Who was in a unit before is none of ours.
                false if cgroup.unit().is_some() => Ok(()),
                false => self.others.leave(&cgroup),
            };
            if let Err(error) = removed {
                self.log.warn(&format!("clean up: {error}"));
            }
        }
        if let Some(mut group) = self.resctrl.take() {
            group.undo();
        }
        if let Some(state) = self.state.take()
            && let Err(error) = state.remove()
        {
            self.log.warn(&format!("clean up: {error}"));
        }
        true
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.take_back();
        }
    }
}
