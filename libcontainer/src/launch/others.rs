//! The other containers of a store: who else may be in a cgroup.

use nix::unistd::Pid;

use crate::bundle;
use crate::cgroup::{self, Cgroup, CgroupPlan, Driver};
use crate::error::Result;
use crate::id::ContainerId;
use crate::process::Init;
use crate::spec::Spec;
use crate::store::{self, StateDir, Store};

/// The cgroup that `create` makes for this configuration.
pub(crate) fn cgroup_of(spec: &Spec<'_>, id: &ContainerId) -> Result<Cgroup> {
    let linux = spec.linux.as_ref();
    let request = cgroup::Request {
        id: id.as_str(),
        cgroups_path: linux.and_then(|linux| linux.cgroups_path.as_deref()),
        resources: linux.and_then(|linux| linux.resources.as_deref()),
        driver: Driver::Cgroupfs,
        default_devices: false,
        buses: None,
        annotations: None,
    };
    let plan = CgroupPlan::build(&request, &cgroup::Host::probe()?)?;
    Cgroup::from_record(plan.record()).map(Cgroup::planned)
}

/// The other containers of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Others<'a> {
    store: &'a Store,
    id: &'a ContainerId,
}

impl<'a> Others<'a> {
    /// Those beside `id`.
    pub(crate) fn new(store: &'a Store, id: &'a ContainerId) -> Self {
        Self { store, id }
    }

    /// The container that they are beside.
    pub(crate) fn id(&self) -> &ContainerId {
        self.id
    }

    /// Removes `cgroup`, and with `kill` ends who is in it; but for one that another container has taken since, which
    /// `create` lets it do once nobody is inside.
    pub(crate) fn clear(&self, cgroup: &Cgroup, kill: bool) -> Result<()> {
        if cgroup.remove_empty() || self.have(cgroup)? {
            return Ok(());
        }
        // By now the last process may have ended and another container be inside.
        if kill && !cgroup.kill_unless(&|| self.have(cgroup))? {
            return Ok(());
        }
        cgroup.remove()
    }

    /// Ends who has come into `cgroup` with this container, and removes what was made for it: of a cgroup that was there
    /// before it, that stays which was there.
    pub(crate) fn leave(&self, cgroup: &Cgroup) -> Result<()> {
        if self.have(cgroup)? || !cgroup.kill_unless(&|| self.have(cgroup))? {
            return Ok(());
        }
        cgroup.remove_made()
    }

    /// Whether one of them is in `cgroup`, or may be: one that is still being created has written its configuration
    /// before it joins, and its record only once it is complete.
    fn have(&self, cgroup: &Cgroup) -> Result<bool> {
        for other in self.store.ids()?.into_iter().filter(|other| other != self.id) {
            let Ok(state) = self.store.open(&other) else { continue };
            let in_it = match place(&state, &other) {
                Ok(Some(theirs)) => {
                    theirs.driver() != Driver::Disabled && theirs.path() == cgroup.path()
                }
                Ok(None) => false,
                // Nothing can be told of it, but whether somebody is creating it.
                Err(_unreadable) => state.is_locked(),
            };
            if in_it {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The cgroup that processes of the container may be in; `None` if it has no processes, or is not even a container.
///
/// # Errors
/// It cannot be told.
fn place(state: &StateDir, id: &ContainerId) -> Result<Option<Cgroup>> {
    let bytes = state.load().unwrap_or_default();
    if let Ok(record) = store::parse(&bytes, state.path())
        && let Ok(theirs) = Cgroup::from_record(record.cgroup.clone())
    {
        let init = Init { pid: Pid::from_raw(record.pid), start_time: record.start_time };
        // With the init of their pid namespace all its processes have ended.
        let ended = !record.creating && record.has_own_pids() && init.has_ended();
        return Ok((!ended).then_some(theirs));
    }
    if let Some(Ok(theirs)) = store::find_cgroup(&bytes).map(Cgroup::from_record) {
        return Ok(Some(theirs));
    }
    let config = state.read(store::CONFIG)?.unwrap_or_default();
    let Ok(spec) = bundle::parse(&config) else { return Ok(None) };
    Ok(cgroup_of(&spec, id).ok())
}
