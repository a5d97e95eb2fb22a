//! What the tests are written with: a runtime to call, bundles to give it, and proof that nothing is left.

pub mod container;
pub mod host;
pub mod orphans;
pub mod output;
pub mod phrases;
pub mod probe;
pub mod pty;
pub mod reaper;
pub mod rootfs;
pub mod runner;
pub mod runtime;
pub mod seccomp;
pub mod sys;
pub mod test;
pub mod wait;

pub use container::Container;
pub use output::Output;
pub use phrases as say;
pub use runtime::{Kind, Running};
pub use serde_json::{Value, json};
pub use test::Test;
