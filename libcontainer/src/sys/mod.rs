//! Every system call that needs `unsafe`, one thin function each; nothing above this module has any.
//!
//! A function here is its man page: typed arguments, an `Errno` back, `O_CLOEXEC` always, EINTR where the page
//! says it is safe to repeat. Decisions live above.

pub mod bpf;
pub mod pty;
pub mod seccomp;
pub mod socket;
pub mod spawn;
