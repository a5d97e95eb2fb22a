//! `mounts`: crun's command to change the mounts of a running container.

use libcontainer::bundle;
use libcontainer::container::Saved;
use libcontainer::id::ContainerId;
use libcontainer::spec::Mount;
use libcontainer::{Error, Result};

use super::{store, update};
use crate::cli::{Args, Globals};

/// Adds the mounts that a document lists, or removes what is mounted at their destinations.
///
/// # Errors
/// Another word than add and remove; a container that does not run; the mount that failed.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>) -> Result<()> {
    let text = |index: usize| args.operand(index).and_then(|word| word.to_str());
    let adds = match text(0) {
        Some("add") => true,
        Some("remove") => false,
        other => {
            let word = other.unwrap_or_default();
            return Err(Error::config(format!("unknown command {word:?} of mounts"))
                .hint("use mounts add or mounts remove"));
        }
    };
    let id = ContainerId::new(text(1).unwrap_or_default())?;
    let file = std::path::Path::new(args.operand(2).unwrap_or_default());
    // Before the lock, which whoever writes the document would hold otherwise.
    let bytes = update::read(file)?;
    let saved = Saved::open_locked(&store(globals)?, &id)?;
    let mounts = bundle::parse_as::<Vec<Mount<'_>>>(&bytes, "the list of mounts")?;
    let container = saved.container()?;
    if adds { container.add_mounts(mounts) } else { container.remove_mounts(&mounts) }
}
