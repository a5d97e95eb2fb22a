//! The terminal of a process, from the container's own devpts (CVE-2025-52565: never by path).

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Uid;

use super::Channel;
use crate::path;
use crate::plan::ProcessPlan;
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::terminal::Pty;

/// Makes the terminal `process` asks for, below `root`, and sends its master to the parent.
pub(super) fn make(
    process: &ProcessPlan,
    root: BorrowedFd<'_>,
    channel: &Channel,
) -> Result<Option<Pty>, Fault> {
    let Some(size) = process.terminal else { return Ok(None) };
    let pts = path::open(root, c"dev/pts").at(Step::Console, 0)?;
    let pty = Pty::open(pts.as_fd()).map_err(|error| fault(&error))?;
    if let Some(size) = size {
        pty.set_size(size).map_err(|error| fault(&error))?;
    }
    pty.chown(Uid::from_raw(process.uid)).map_err(|error| fault(&error))?;
    let number = pty.name().rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let frame = Frame::of(Tag::Console, number);
    channel.send_fd(frame, pty.master.as_fd()).at(Step::Console, 2)?;
    Ok(Some(pty))
}

/// What the terminal's own code says of a failure.
fn fault(error: &crate::Error) -> Fault {
    let errno = error.raw_errno().unwrap_or(Errno::EIO);
    Fault::new(Step::Console, 0, errno).detail(error.to_string())
}
