//! One file per command; each reads its flags and calls the library.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
pub(crate) mod help;
pub(crate) mod image;
mod kill;
mod list;
mod mounts;
mod pause;
mod ps;
mod spec;
mod start;
mod state;
mod update;
pub(crate) mod version;

use std::ffi::CString;

use libcontainer::container::Saved;
use libcontainer::error::Kind;
use libcontainer::id::ContainerId;
use libcontainer::log::Log;
use libcontainer::store::Store;
use libcontainer::sys::regex::Regex;
use libcontainer::{Error, Result};

use crate::cli::{Args, Globals, Name, Request, flag};
use crate::logging::Logger;

/// Runs the command `name`; its exit status.
///
/// # Errors
/// Whatever the command could not do.
pub(crate) fn run(name: Name, args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<i32> {
    match name {
        Name::Create => return create::create(args, globals, log),
        Name::Run => return create::run(args, globals, log),
        Name::Exec => return exec::run(args, globals, log),
        Name::Restore => return checkpoint::restore(args, globals, log),
        Name::Checkpoint => checkpoint::checkpoint(args, globals, log)?,
        Name::Start => start::run(args, globals, log)?,
        Name::State => state::run(args, globals)?,
        Name::Kill => kill::run(args, globals, log)?,
        Name::Delete => delete::run(args, globals, log)?,
        Name::List => list::run(args, globals, log)?,
        Name::Ps => ps::run(args, globals)?,
        Name::Pause => pause::pause(args, globals)?,
        Name::Resume => pause::resume(args, globals)?,
        Name::Update => update::run(args, globals, log)?,
        Name::Events => events::run(args, globals, log)?,
        Name::Mounts => mounts::run(args, globals)?,
        Name::Spec => spec::run(args)?,
        Name::Features => features::run()?,
        Name::Help => help::run(args)?,
        Name::Man => help::man(args)?,
        Name::Completion => help::completion(args)?,
    }
    Ok(0)
}

/// Checks that the descriptors to be passed on to the container are open.
///
/// # Errors
/// The one that is not, or a number that is none.
pub(crate) fn check_kept(request: &Result<Request<'_>>) -> Result<()> {
    match request {
        Ok(Request::Run(Name::Create | Name::Run, args)) => {
            let kept = create::preserve_fds(args)?.saturating_add(create::listen_fds());
            libcontainer::launch::check_kept(kept)
        }
        Ok(Request::Run(Name::Exec, args)) => {
            libcontainer::launch::check_kept(create::preserve_fds(args)?)
        }
        _ => Ok(()),
    }
}

/// The store `--root` names.
fn store(globals: &Globals<'_>) -> Result<Store> {
    Ok(Store::new(&globals.root()?.path))
}

/// The id that is the first operand.
fn id(args: &Args<'_>) -> Result<ContainerId> {
    ContainerId::new(args.id()?)
}

/// Calls `act` with the container that the first operand names; with crun's --regex, with each whose id it matches, those
/// that fail no reason to leave the others alone.
///
/// # Errors
/// The first failure; the others are warnings.
fn each(
    args: &Args<'_>,
    globals: &Globals<'_>,
    log: &Logger,
    act: impl Fn(&Store, &ContainerId) -> Result<()>,
) -> Result<()> {
    let store = store(globals)?;
    if !args.flag(&flag::REGEX) {
        return act(&store, &id(args)?);
    }
    let text = args.id()?;
    let invalid = |why: &str| {
        Error::config(format!("{text:?} is not an extended regular expression: {why}"))
            .hint("regex(7) says what one is")
    };
    let pattern = CString::new(text).map_err(|_nul| invalid("a NUL byte"))?;
    let regex = Regex::new(&pattern).map_err(|why| invalid(&why))?;
    let is_meant = |id: &ContainerId| {
        let matches = CString::new(id.as_str()).map_or(Ok(false), |id| regex.matches(&id));
        matches.map_err(|why| Error::internal(format!("look whether {id} matches {text:?}: {why}")))
    };
    let mut result = Ok(());
    for id in &store.ids()? {
        match is_meant(id).and_then(|meant| if meant { act(&store, id) } else { Ok(()) }) {
            // Somebody else has deleted it since; or else `create` was killed, and what is left of it is told.
            Err(error) if error.kind() == Kind::NotFound && !is_there(&store, id) => {}
            Err(error) if result.is_err() => log.warn(&format!("container {id}: {error}")),
            Err(error) => result = Err(error.context(&format!("container {id}"))),
            Ok(()) => {}
        }
    }
    result
}

/// Whether there is a container `id`, though perhaps no more of it than its directory.
fn is_there(store: &Store, id: &ContainerId) -> bool {
    store.open(id).is_ok()
}

/// The record of the container that the first operand names.
fn open(args: &Args<'_>, globals: &Globals<'_>) -> Result<Saved> {
    Saved::open(&store(globals)?, &id(args)?)
}
