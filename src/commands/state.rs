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
fn document<'c>(container: &'c Container<'_>, owner: &'c str) -> Result<State<'c>> {
    container.status().map(|status| described(container, owner, Some(status)))
}

/// The document of `container`, whose status may be one that could not be told.
pub(super) fn described<'c>(
    container: &'c Container<'_>,
    owner: &'c str,
    status: Option<Status>,
) -> State<'c> {
    let record = container.record();
    State {
        oci_version: &record.oci_version,
        id: &record.id,
        pid: if status == Some(Status::Stopped) { 0 } else { record.pid },
        status: status.map_or("unknown", Status::name),
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        annotations: Some(&record.annotations),
        owner,
        systemd_scope: container.cgroup().unit(),
    }
}
