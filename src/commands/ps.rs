//! `ps`.

use std::process::{Command, Stdio};

use libcontainer::error::Context;
use libcontainer::{Error, Result};

use super::open;
use crate::cli::{Args, Globals, flag};
use crate::output::{self, Format};

/// Lists the processes of a container: their pids, or what ps(1) says of them.
///
/// # Errors
/// No such container; ps(1) failed.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>) -> Result<()> {
    let format = Format::parse(args.value(&flag::FORMAT))?;
    let saved = open(args, globals)?;
    let pids = saved.container()?.pids()?;
    if format == Format::Json {
        return output::print(output::ps_json(&pids).as_bytes());
    }
    let mut words: Vec<_> = args.operands().iter().skip(1).copied().collect();
    if words.is_empty() {
        words.push("-ef".as_ref());
    }
    let done = Command::new("ps")
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .doing("run ps")
        .map_err(|error| error.hint("--format json needs no ps"))?;
    if !done.status.success() {
        return Err(Error::unsupported(format!("ps failed: {}", done.status)));
    }
    output::print(&output::ps_table(&done.stdout, &pids)?)
}
