//! `state`.

use libcontainer::Result;
use libcontainer::container::{Container, Status};

use super::open;
use crate::cli::{Args, Globals};
use crate::output::{self, State};

/// Prints the state of a container (runtime.md "State").
///
/// # Errors
/// There is none, or standard output cannot be written to.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>) -> Result<()> {
    let saved = open(args, globals)?;
    let container = saved.container()?;
    output::print(&output::state(&document(&container, "")?)?)
}

/// The document of `container`.
pub(super) fn document<'c>(container: &'c Container<'_>, owner: &'c str) -> Result<State<'c>> {
    let status = container.status()?;
    let record = container.record();
    Ok(State {
        oci_version: &record.oci_version,
        id: &record.id,
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status: status.name(),
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        annotations: Some(&record.annotations),
        owner,
        systemd_scope: None,
    })
}
