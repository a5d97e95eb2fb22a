//! `start`.

use libcontainer::Result;

use super::{create, open};
use crate::cli::{Args, Globals};
use crate::logging::Logger;

/// Starts a created container.
///
/// # Errors
/// It is not created, or a hook or its program failed.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let saved = open(args, globals)?;
    saved.container()?.start(create::notify_socket().as_deref(), log)
}
