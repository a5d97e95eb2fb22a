//! `ps`.

use std::process::{Command, Stdio};

use libcontainer::error::Context;
use libcontainer::{Error, Result};

use super::open;
use crate::cli::{Args, Globals, flag};
use crate::output::{self, Format};

/// So many fit into an argument, of which the kernel allows 128 KiB.
const MOST_BY_NUMBER: usize = 8192;

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
        if let Some(table) = of_these(&pids) {
            return output::print(&output::ps_table(&table, &pids)?);
        }
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

/// What `ps -ef` says of these processes, in its quick mode, which does not read those of the whole host, of which there may
/// be thousands.
/// `None` where all of them are to be read: for a ps(1) that has no such mode, or when all have ended meanwhile.
fn of_these(pids: &[i32]) -> Option<Vec<u8>> {
    if pids.is_empty() || pids.len() > MOST_BY_NUMBER {
        return None;
    }
    // The quick mode keeps the order; all of them would come by number.
    let mut sorted = pids.to_vec();
    sorted.sort_unstable();
    let list: Vec<String> = sorted.iter().map(i32::to_string).collect();
    let done = Command::new("ps")
        .args(["-f", "-q", &list.join(",")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    done.status.success().then_some(done.stdout)
}
