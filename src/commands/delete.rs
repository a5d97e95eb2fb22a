//! `delete`.

use libcontainer::{Result, container};

use super::{id, refuse_regex, store};
use crate::cli::{Args, Globals, flag};
use crate::logging::Logger;

/// Removes a container.
///
/// # Errors
/// It runs and --force was not given; or something of it could not be removed.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    refuse_regex(args)?;
    container::delete(&store(globals)?, &id(args)?, args.flag(&flag::FORCE), log)
}
