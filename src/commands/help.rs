//! `--help`, `help`, `man` and `completion`: the table of commands in four dresses.

use std::ffi::OsStr;
use std::path::Path;

use libcontainer::{Error, Result};

use crate::cli::{self, Args, Command, Shell};
use crate::output;

/// Prints the help of the program, which was called by the path `called`, or of a command.
///
/// # Errors
/// Standard output that cannot be written to.
pub(crate) fn show(called: Option<&OsStr>, command: Option<&Command>) -> Result<()> {
    let name = called.and_then(|called| Path::new(called).file_name());
    let program = name.unwrap_or(OsStr::new("skep")).to_string_lossy();
    let text = match command {
        None => cli::program_help(&program),
        Some(command) => cli::command_help(&program, command),
    };
    output::print(text.as_bytes())
}

/// `help [COMMAND]`.
///
/// # Errors
/// No such command, or standard output that cannot be written to.
pub(crate) fn run(args: &Args<'_>) -> Result<()> {
    show(None, operand(args)?)
}

/// `man [COMMAND]`.
///
/// # Errors
/// No such command, or standard output that cannot be written to.
pub(crate) fn man(args: &Args<'_>) -> Result<()> {
    let page = operand(args)?.map_or_else(cli::program_page, cli::command_page);
    output::print(page.as_bytes())
}

/// `completion SHELL`.
///
/// # Errors
/// No such shell, or standard output that cannot be written to.
pub(crate) fn completion(args: &Args<'_>) -> Result<()> {
    output::print(cli::completion(Shell::named(args.operand(0))?).as_bytes())
}

fn operand(args: &Args<'_>) -> Result<Option<&'static Command>> {
    let find = |word: &OsStr| {
        cli::find(word.as_encoded_bytes())
            .ok_or_else(|| Error::config(format!("No help topic for '{}'", word.display())))
    };
    args.operand(0).map(find).transpose()
}
