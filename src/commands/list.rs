//! `list`.

use libcontainer::container::{Container, Saved};
use libcontainer::error::Kind;
use libcontainer::log::Log;
use libcontainer::{Error, Result};

use super::state::document;
use super::store;
use crate::cli::{Args, Globals, flag};
use crate::logging::Logger;
use crate::output::{self, Format};

/// Lists the containers of the store.
///
/// # Errors
/// A root that was asked for and is not there; a format nobody knows.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let format = Format::parse(args.value(&flag::FORMAT))?;
    let root = globals.root()?;
    if root.explicit && !root.path.is_dir() {
        return Err(
            Error::os("open the state directory", nix::errno::Errno::ENOENT).path(root.path)
        );
    }
    let store = store(globals)?;
    let mut saved = Vec::new();
    for id in store.ids()? {
        match Saved::open(&store, &id) {
            Ok(found) => saved.push(found),
            // Deleted, or being created, while this looked.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => log.warn(&format!("load container {id}: {error}")),
        }
    }
    let containers: Vec<(Container<'_>, String)> = saved
        .iter()
        .filter_map(|saved| match saved.container() {
            Ok(container) => {
                let owner = owner(container.record().owner);
                Some((container, owner))
            }
            Err(error) => {
                log.warn(&format!("load container: {error}"));
                None
            }
        })
        .collect();
    let states = containers
        .iter()
        .map(|(container, owner)| document(container, owner))
        .collect::<Result<Vec<_>>>()?;
    if args.flag(&flag::QUIET) {
        return output::print(output::list_ids(&states).as_bytes());
    }
    match format {
        Format::Json => output::print(&output::list_json(&states)?),
        Format::Table => output::print(output::list_table(&states).as_bytes()),
    }
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
