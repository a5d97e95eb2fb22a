//! `start`.

use libcontainer::Result;
use libcontainer::container::Saved;

use super::{create, id, store};
use crate::cli::{Args, Globals};
use crate::logging::Logger;

/// Starts a created container.
///
/// # Errors
/// It is not created, or a hook or its program failed.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let saved = Saved::open_locked(&store(globals)?, &id(args)?)?;
    saved.container()?.start(create::notify_socket().as_deref(), log)
}
