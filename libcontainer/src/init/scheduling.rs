//! Scheduler, I/O priority, memory policy and execution domain of the process, while it still has every privilege.

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Channel;
use crate::plan::ProcessPlan;
use crate::plan::scheduling::Scheduling;
use crate::sync::{At, Fault, Step, Tag};
use crate::sys::scheduling;

/// Applies what `process` asks for. Realtime needs CAP_SYS_NICE on the host: in a user namespace the parent may have it.
pub(super) fn apply(
    process: &ProcessPlan,
    channel: &Channel,
    user_namespace: bool,
) -> Result<(), Fault> {
    match set(Pid::from_raw(0), &process.scheduling) {
        Err(fault) if fault.errno == Errno::EPERM && user_namespace => {
            channel.ask(Tag::Scheduling, 0)?;
        }
        other => other?,
    }
    if let Some(policy) = &process.memory_policy {
        let nodes = policy.nodes.as_ref().map_or([].as_slice(), |nodes| nodes.words());
        scheduling::set_memory_policy(policy.mode, nodes).at(Step::MemoryPolicy, 0)?;
    }
    match process.personality {
        Some(domain) => scheduling::set_personality(domain).at(Step::Personality, 0),
        None => Ok(()),
    }
}

/// Sets scheduler and I/O priority of `pid` (0 is this process).
pub(crate) fn set(pid: Pid, plan: &Scheduling) -> Result<(), Fault> {
    if let Some(attributes) = &plan.attributes {
        scheduling::set_attributes(pid, attributes).at(Step::Scheduler, 1)?;
    }
    match plan.io_priority {
        Some(priority) => scheduling::set_io_priority(pid, priority).at(Step::Scheduler, 2),
        None => Ok(()),
    }
}
