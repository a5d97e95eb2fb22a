//! `pause` and `resume`.

use libcontainer::Result;

use super::open;
use crate::cli::{Args, Globals};

/// Freezes a container.
///
/// # Errors
/// It does not run.
pub(crate) fn pause(args: &Args<'_>, globals: &Globals<'_>) -> Result<()> {
    open(args, globals)?.container()?.pause()
}

/// Thaws a container.
///
/// # Errors
/// It is not paused.
pub(crate) fn resume(args: &Args<'_>, globals: &Globals<'_>) -> Result<()> {
    open(args, globals)?.container()?.resume()
}
