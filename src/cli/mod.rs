//! The command line: one table of commands and flags, from which parsing, `--help`, the manual pages and the
//! shell completions are all made.
//!
//! The rules are those of Go's flag package as runc's callers rely on them, and the short bundles of getopt that
//! crun's users type; `libcontainer/design/0003-command-line.md` says why there is no parser crate here.
//! Nothing is allocated but two short vectors, and only the table of the command that was called is read.

mod command;
mod completion;
pub(crate) mod flag;
mod globals;
mod help;
mod man;
mod parse;
#[cfg(test)]
mod tests;
pub(crate) mod value;
#[cfg(test)]
mod value_tests;

pub(crate) use command::{Command, Name, find};
pub(crate) use completion::{Shell, completion};
pub(crate) use globals::{Globals, Rootless};
pub(crate) use help::{command_help, program_help};
pub(crate) use man::{command_page, program_page};
pub(crate) use parse::{Args, Request, is_image_command, is_image_flag, of_images, parse};
