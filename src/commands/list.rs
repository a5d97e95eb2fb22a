//! `list`.

use libcontainer::container::Saved;
use libcontainer::error::Kind;
use libcontainer::id::ContainerId;
use libcontainer::log::Log;
use libcontainer::store::Store;
use libcontainer::{Error, Result};
use nix::errno::Errno;

use super::state::described;
use super::store;
use crate::cli::{Args, Globals, flag};
use crate::logging::Logger;
use crate::output::{self, Format, Listing};

/// Lists the containers of the store.
///
/// # Errors
/// A root that was asked for and is not there; a format nobody knows.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let format = Format::parse(args.value(&flag::FORMAT))?;
    let root = globals.root()?;
    if root.explicit && !root.path.is_dir() {
        return Err(Error::os("open the state directory", Errno::ENOENT).path(root.path));
    }
    let store = store(globals)?;
    let mut listing = Listing::new(format, args.flag(&flag::QUIET));
    // One at a time: there may be more containers than a process may open files.
    for id in store.ids()? {
        match add(&mut listing, &store, &id, log) {
            // Deleted, or being created, while this looked.
            Err(error) if error.kind() == Kind::NotFound => {}
            // Not this container's fault, and a list that lacks others must not look whole.
            Err(error)
                if matches!(
                    error.raw_errno(),
                    Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
                ) =>
            {
                return Err(error);
            }
            Err(error) => log.warn(&format!("load container {id}: {error}")),
            Ok(()) => {}
        }
    }
    output::print(&listing.finish())
}

fn add(listing: &mut Listing, store: &Store, id: &ContainerId, log: &Logger) -> Result<()> {
    let saved = Saved::open(store, id)?;
    let container = saved.container()?;
    let status = match container.status() {
        Ok(status) => Some(status),
        Err(error) => {
            log.warn(&format!("status of container {id}: {error}"));
            None
        }
    };
    let owner = owner(container.record().owner);
    listing.add(&described(&container, &owner, status))
}

/// The name of a user, or `#` and the number.
fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("#{uid}"),
    }
}
