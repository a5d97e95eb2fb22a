//! The child's end of the socket to the parent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sync::{At, FRAME, Fault, Frame, Step, Tag};
use crate::sys;

/// What the parent says of the container's cgroup of version 1.
#[derive(Debug)]
pub(crate) struct MadeCgroups {
    /// The `tasks` files to join it by.
    pub(crate) tasks: Vec<OwnedFd>,
    /// A bit for each of the planned hierarchies that it is not in.
    pub(crate) left_out: i32,
    /// The container's view of it, mounted nowhere yet, where the parent could make it.
    pub(crate) view: Option<OwnedFd>,
}

/// The child's end.
#[derive(Debug)]
pub(crate) struct Channel(pub(crate) OwnedFd);

impl Channel {
    /// Sends `frame`.
    pub(crate) fn send(&self, frame: Frame) -> Result<(), Errno> {
        loop {
            match nix::unistd::write(&self.0, &frame.encode()) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Sends `frame` with a descriptor.
    pub(crate) fn send_fd(&self, frame: Frame, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        sys::socket::send_fd(self.0.as_fd(), &frame.encode(), fd)
    }

    /// Waits until the parent says go; its value. A parent that is gone is a fault.
    pub(crate) fn wait(&self) -> Result<i32, Fault> {
        let mut bytes = [0; FRAME];
        loop {
            match nix::unistd::read(&self.0, &mut bytes) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Fault::new(Step::Parent, 0, errno)),
                Ok(n) => {
                    let frame = bytes.get(..n).and_then(Frame::decode);
                    return match frame {
                        Some(frame) if frame.tag == Tag::Go => Ok(frame.value),
                        _ => Err(Fault::new(Step::Parent, 0, Errno::EPIPE)),
                    };
                }
            }
        }
    }

    /// Waits for the container's cgroup, which the parent makes meanwhile.
    pub(crate) fn wait_for_tasks(&self) -> Result<MadeCgroups, Fault> {
        let mut bytes = [0; FRAME];
        let (length, mut tasks) =
            sys::socket::recv_fds(self.0.as_fd(), &mut bytes).at(Step::Parent, 0)?;
        match bytes.get(..length).and_then(Frame::decode) {
            Some(Frame { tag: Tag::Cgroups, value, .. }) => {
                Ok(MadeCgroups { tasks, left_out: value, view: None })
            }
            Some(Frame { tag: Tag::CgroupsAndView, value, .. }) => {
                let view = tasks.pop();
                Ok(MadeCgroups { tasks, left_out: value, view })
            }
            _ => Err(Fault::new(Step::Parent, 0, Errno::EPIPE)),
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&self, tag: Tag, value: i32) -> Result<i32, Fault> {
        self.send(Frame::of(tag, value)).map_err(|errno| Fault::new(Step::Parent, 0, errno))?;
        self.wait()
    }

    /// Sends the fault and ends this process.
    pub(crate) fn fail(&self, fault: &Fault) -> ! {
        report(self.0.as_fd(), fault)
    }
}

/// Writes `fault` to `to` and ends this process.
pub(crate) fn report(to: BorrowedFd<'_>, fault: &Fault) -> ! {
    // One write: a message on the socket; the gate of a created container has room for it. There is nobody else to tell if it fails.
    let _told = nix::unistd::write(to, &fault.encode());
    sys::process::exit_now(1)
}
