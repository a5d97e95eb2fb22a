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

use libcontainer::container::Saved;
use libcontainer::id::ContainerId;
use libcontainer::store::Store;
use libcontainer::{Error, Result};

use crate::cli::{Args, Globals, Name, Request};
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

/// Refuses crun's --regex, which this version does not have.
fn refuse_regex(args: &Args<'_>) -> Result<()> {
    if args.flag(&crate::cli::flag::REGEX) {
        return Err(Error::unsupported("--regex is not available in this version of skep")
            .hint("name the containers one by one; `skep list -q` lists them"));
    }
    Ok(())
}

/// The record of the container that the first operand names.
fn open(args: &Args<'_>, globals: &Globals<'_>) -> Result<Saved> {
    Saved::open(&store(globals)?, &id(args)?)
}
