//! A seccomp agent: receives the listener as runtime-spec's config-linux.md says it is sent.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;

use super::{sys, wait};

/// The socket an agent listens on.
pub struct Agent(UnixListener);

impl Agent {
    pub fn listen(path: &Path) -> Self {
        Self(UnixListener::bind(path).unwrap())
    }

    /// Accepts one connection: exactly one message with one descriptor, then the end.
    #[track_caller]
    pub fn receive(&self) -> (Value, OwnedFd) {
        assert!(wait::readable(&self.0, wait::PATIENCE), "nobody connected to the seccomp agent");
        let (stream, _) = self.0.accept().unwrap();
        assert!(wait::readable(&stream, wait::PATIENCE), "nothing was sent to the seccomp agent");
        let mut message = sys::receive(&stream).unwrap();
        assert_eq!((message.fds.len(), message.controls, message.truncated), (1, 1, false));
        let state =
            serde_json::from_slice(&message.data).expect("the container process state is JSON");
        assert!(wait::readable(&stream, wait::PATIENCE), "the runtime keeps the connection open");
        assert_eq!(sys::receive(&stream).unwrap().data, b"", "a second message");
        (state, message.fds.remove(0))
    }
}
