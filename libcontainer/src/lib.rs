//! Creates, enters and removes Linux containers as the OCI runtime specification describes them.

pub mod cgroup;
pub mod error;
pub mod foreground;
pub mod hooks;
pub mod notify;
pub mod seccomp;
pub mod spec;
#[allow(unsafe_code, reason = "the one place where system calls are made by hand")]
pub mod sys;
pub mod terminal;

pub use error::{Error, Kind, Result};
