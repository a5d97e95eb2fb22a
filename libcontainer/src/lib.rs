//! Creates, enters and removes Linux containers as the OCI runtime specification describes them.

#[cfg(test)]
mod bad_values_tests;
pub mod bundle;
pub mod cgroup;
pub mod container;
pub mod criu;
mod dbus;
pub mod error;
pub mod exeseal;
pub mod foreground;
pub mod hooks;
pub mod id;
mod init;
pub mod launch;
pub mod log;
pub mod notify;
pub mod path;
pub mod plan;
pub mod process;
pub mod resctrl;
pub mod seccomp;
pub mod spec;
pub mod store;
pub mod sync;
#[allow(unsafe_code, reason = "the one place where system calls are made by hand")]
pub mod sys;
pub mod terminal;
pub mod time;
mod timeline;

pub use error::{Error, Kind, Result};
