//! A seccomp agent: receives the listener as runtime-spec's config-linux.md says it is sent.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{sys, wait};

/// The socket an agent listens on.
pub struct Agent(UnixListener);

impl Agent {
    pub fn listen(path: &Path) -> Self {
        Self(UnixListener::bind(path).unwrap())
    }

    /// Accepts one connection and its one message with one descriptor.
    #[track_caller]
    pub fn receive(&self) -> (Value, OwnedFd) {
        let (state, listener, _) = self.accept();
        (state, listener)
    }

    /// The same, and the runtime closes the connection then, as the specification demands.
    #[track_caller]
    pub fn receive_whole(&self) -> (Value, OwnedFd) {
        let (state, listener, stream) = self.accept();
        assert!(
            wait::readable(&stream, Duration::from_secs(5)),
            "the runtime keeps the connection open"
        );
        assert_eq!(sys::receive(&stream).unwrap().data, b"", "a second message");
        (state, listener)
    }

    #[track_caller]
    fn accept(&self) -> (Value, OwnedFd, UnixStream) {
        assert!(wait::readable(&self.0, wait::patience()), "nobody connected to the seccomp agent");
        let (stream, _) = self.0.accept().unwrap();
        assert!(wait::readable(&stream, wait::patience()), "nothing was sent to the seccomp agent");
        let mut message = sys::receive(&stream).unwrap();
        assert_eq!((message.fds.len(), message.controls, message.truncated), (1, 1, false));
        let state =
            serde_json::from_slice(&message.data).expect("the container process state is JSON");
        (state, message.fds.remove(0), stream)
    }
}
