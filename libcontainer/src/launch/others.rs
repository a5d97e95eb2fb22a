//! The other containers of a store: who else may be in a cgroup.

use crate::bundle;
use crate::cgroup::{self, Cgroup, CgroupPlan, Driver};
use crate::error::Result;
use crate::id::ContainerId;
use crate::spec::Spec;
use crate::store::{self, Store};

/// The cgroup that `create` makes for this configuration.
pub(crate) fn cgroup_of(spec: &Spec<'_>, id: &ContainerId) -> Result<Cgroup> {
    let linux = spec.linux.as_ref();
    let request = cgroup::Request {
        id: id.as_str(),
        cgroups_path: linux.and_then(|linux| linux.cgroups_path.as_deref()),
        resources: linux.and_then(|linux| linux.resources.as_ref()),
        driver: Driver::Cgroupfs,
        default_devices: false,
        buses: None,
        annotations: None,
    };
    let plan = CgroupPlan::build(&request, &cgroup::Host::probe()?)?;
    Cgroup::from_record(plan.record())
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
        if kill {
            cgroup.signal_all(libc::SIGKILL)?;
        }
        cgroup.remove()
    }

    /// Whether one of them is in `cgroup`, or may be: one that is still being created has written its configuration
    /// before it joins, and its record only once it is complete.
    fn have(&self, cgroup: &Cgroup) -> Result<bool> {
        for other in self.store.ids()?.into_iter().filter(|other| other != self.id) {
            let Ok(state) = self.store.open(&other) else { continue };
            let bytes = state.load().unwrap_or_default();
            let record = store::parse(&bytes, state.path());
            let theirs = match record.and_then(|record| Cgroup::from_record(record.cgroup)) {
                Ok(theirs) => theirs,
                Err(_unreadable) => {
                    let config = state.read(store::CONFIG)?.unwrap_or_default();
                    let Ok(spec) = bundle::parse(&config) else { continue };
                    let Ok(theirs) = cgroup_of(&spec, &other) else { continue };
                    theirs
                }
            };
            if theirs.driver() != Driver::Disabled && theirs.path() == cgroup.path() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
