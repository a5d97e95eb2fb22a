//! `delete`.

use libcontainer::{Result, container};

use super::each;
use crate::cli::{Args, Globals, flag};
use crate::logging::Logger;

/// Removes a container, or all that are meant.
///
/// # Errors
/// It runs and --force was not given; or something of it could not be removed.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let force = args.flag(&flag::FORCE);
    each(args, globals, log, |store, id| container::delete(store, id, force, log))
}
