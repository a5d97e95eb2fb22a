//! `kill`.

use std::ffi::OsStr;

use libcontainer::Result;

use super::{open, refuse_regex};
use crate::cli::{Args, Globals, flag, value};
use crate::logging::Logger;

/// Sends a signal, SIGTERM unless another is named.
///
/// # Errors
/// The container does not run, or there is no such signal.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, _: &Logger) -> Result<()> {
    refuse_regex(args)?;
    let signal = value::signal(args.operand(1).unwrap_or(OsStr::new("SIGTERM")))?;
    open(args, globals)?.container()?.kill(signal, args.flag(&flag::ALL))
}
