//! skep, a low-level OCI container runtime: the program that engines call to create, start and delete containers.
//!
//! There is no Rust start-up code here: it costs a third of what `start` takes in all. [`run`] gets the arguments as
//! the kernel gave them.

#![cfg_attr(not(test), no_main)]

mod cli;
mod commands;
mod logging;
mod output;

use std::ffi::OsStr;

use libcontainer::log::Log as _;
use libcontainer::sys::entry::{self, Arguments};
use libcontainer::{Error, launch};

use cli::{Name, Request};
use logging::Logger;

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: libcontainer::sys::alloc::Bump = libcontainer::sys::alloc::Bump::new();

#[cfg(not(test))]
libcontainer::main!(run);

/// Exit status of a command that failed.
const FAILURE: i32 = 1;
/// Exit status of an `exec` that failed before its process ran, as runc's.
const EXEC_FAILURE: i32 = 255;

#[cfg_attr(test, allow(dead_code, reason = "the test harness has its own main"))]
fn run(arguments: Arguments) -> i32 {
    let mut sealed = libcontainer::exeseal::arrive();
    let of_image = arguments.iter().any(cli::is_image_flag);
    if !sealed && !of_image && may_be_sealed(arguments) {
        // Before anything else is done, which would be done twice. What goes wrong is told when the log is open.
        sealed = libcontainer::exeseal::seal(arguments).is_ok();
    }
    libcontainer::sys::process::ignore_pipe_signals();
    // Nowhere to say it, and nothing to be done about it.
    if libcontainer::sys::fd::fill_standard_streams().is_err() {
        return FAILURE;
    }
    let argv: Vec<_> = arguments.iter().collect();
    let mut line = cli::parse(&argv);
    if (of_image || line.request.is_err())
        && let Some(at) = cli::of_images(&argv)
    {
        line.request = Err(commands::image::hand_over(&argv, at));
    }
    // Before the log or anything else takes the number of a descriptor that is to be passed on.
    let kept = commands::check_kept(&line.request);
    let (mut log, opened) = Logger::open(&line.globals);
    if stays_in_foreground(&line.request) && entry::called() == Some("runc") {
        log.stand_in_for_runc();
    }
    let request = match opened.and(kept).and(line.request) {
        Ok(request) => request,
        Err(error) => {
            log.fail(&error);
            return FAILURE;
        }
    };
    let failure = match &request {
        Request::Run(Name::Exec, _) => EXEC_FAILURE,
        _ => FAILURE,
    };
    match perform(&request, &line.globals, &log, arguments, sealed) {
        Ok(status) => {
            log.succeeded();
            status
        }
        Err(error) => {
            log.fail(&error);
            failure
        }
    }
}

/// Whether the command is a `run` whose standard streams are those of the program.
fn stays_in_foreground(request: &Result<Request<'_>, Error>) -> bool {
    matches!(request, Ok(Request::Run(Name::Run, args)) if !args.flag(&cli::flag::DETACH))
}

/// Whether the command may be one that puts a process into a container. If the word is something else, the id of a container
/// say, that only costs the second start. Before it there is no command of `skep-image`, which is looked for beside the file
/// this program runs from.
fn may_be_sealed(arguments: Arguments) -> bool {
    let is_sealed = |word: &OsStr| word == "create" || word == "run" || word == "exec";
    let found = arguments.iter().find(|word| is_sealed(word) || cli::is_image_command(word));
    found.is_some_and(is_sealed)
}

fn perform(
    request: &Request<'_>,
    globals: &cli::Globals<'_>,
    log: &Logger,
    arguments: Arguments,
    sealed: bool,
) -> Result<i32, Error> {
    let (name, args) = match request {
        Request::Help(command) => {
            return commands::help::show(arguments.iter().next(), *command).map(|()| 0);
        }
        Request::Version => return commands::version::run().map(|()| 0),
        Request::Run(name, args) => (*name, args),
    };
    if matches!(name, Name::Create | Name::Run | Name::Exec) {
        launch::harden()?;
        if !sealed {
            libcontainer::exeseal::seal(arguments)?;
        }
        if log.is_debug() {
            log.debug(libcontainer::exeseal::describe());
        }
    }
    commands::run(name, args, globals, log)
}
