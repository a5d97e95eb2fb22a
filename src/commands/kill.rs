//! `kill`.

use std::ffi::OsStr;

use libcontainer::Result;
use libcontainer::container::Saved;

use super::each;
use crate::cli::{Args, Globals, flag, value};
use crate::logging::Logger;

/// Sends a signal, SIGTERM unless another is named.
///
/// # Errors
/// The container does not run, or there is no such signal.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let signal = value::signal(args.operand(1).unwrap_or(OsStr::new("SIGTERM")))?;
    let all = args.flag(&flag::ALL);
    each(args, globals, log, |store, id| Saved::open(store, id)?.container()?.kill(signal, all))
}
