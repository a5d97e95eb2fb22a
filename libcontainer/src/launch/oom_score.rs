//! oom_score_adj of a process in a user namespace.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::error::Result;
use crate::plan::ProcessPlan;
use crate::sync::{Fault, Step};
use crate::sys::{creds, fd};

/// Children of this process are born with a score of their own, until the guard goes.
///
/// The file of an undumpable process is the host's root's. Inside its user namespace the child has no right to it, and
/// must not be dumpable even for a moment where others may trace it; this process, an ordinary user's perhaps, is out of
/// their reach.
pub(super) struct OomScore {
    file: OwnedFd,
    before: Vec<u8>,
}

impl OomScore {
    /// Takes the score that `plan` asks for.
    pub(super) fn take(plan: &ProcessPlan) -> Result<Option<Self>> {
        let Some(score) = plan.oom_score_adj else { return Ok(None) };
        let take = || -> nix::Result<Option<Self>> {
            let file = open()?;
            let mut before = [0; 16];
            let length = nix::unistd::read(&file, &mut before)?;
            let before = before.get(..length).unwrap_or_default();
            let text = score.to_string();
            if before.trim_ascii_end() == text.as_bytes() {
                return Ok(None);
            }
            nix::unistd::write(&file, text.as_bytes())?;
            Ok(Some(Self { file, before: before.to_vec() }))
        };
        take().map_err(|errno| plan.explain(&Fault::new(Step::OomScoreAdj, 0, errno)))
    }
}

impl Drop for OomScore {
    fn drop(&mut self) {
        // Never below what it was, which needs no right.
        let _back = nix::unistd::write(&self.file, &self.before);
    }
}

fn open() -> nix::Result<OwnedFd> {
    let open = || fd::openat(fd::CWD, c"/proc/self/oom_score_adj", libc::O_RDWR, 0);
    match open() {
        Err(Errno::EACCES) => {
            creds::set_dumpable(true)?;
            let file = open();
            creds::set_dumpable(false)?;
            file
        }
        other => other,
    }
}
