//! What a running container may use (`update`), and what it does use (`events`).

use super::{Container, Status, not_running};
use crate::cgroup::{OomWatch, Stats};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::resctrl::{self, ResctrlPlan, Schemata};
use crate::spec::{Resources, Spec};
use crate::{bundle, store};

impl Container<'_> {
    /// Changes limits of a container that was [opened locked](super::Saved::open_locked); what `resources` does not mention
    /// stays.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it does not run; the limit that could not be set.
    pub fn update(&mut self, resources: &Resources<'_>, log: &dyn Log) -> Result<()> {
        self.check_updatable()?;
        if self.cgroup.extend(resources)? {
            // First, for nobody would find what an update that fails or is killed has made.
            self.record.cgroup = self.cgroup.record().clone();
            self.state.save(&self.record)?;
        }
        let config = match resources.devices.is_empty() {
            true => Vec::new(),
            false => self.state.read(store::CONFIG)?.unwrap_or_default(),
        };
        let spec = if config.is_empty() { Spec::default() } else { bundle::parse(&config)? };
        let linux = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let first = linux.map_or(&[][..], |resources| &resources.devices);
        let warnings = self.cgroup.update(resources, first)?;
        warnings.iter().for_each(|warning| log.warn(warning));
        Ok(())
    }

    fn check_updatable(&self) -> Result<()> {
        match self.status()? {
            Status::Stopped | Status::Creating => Err(not_running()),
            _ => Ok(()),
        }
    }

    /// Changes what its class of service gets; a container without one gets one of its own.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it does not run; [`crate::Kind::Unsupported`] where there is no resctrl; what the kernel refuses.
    pub fn update_schemata(&mut self, schemata: &Schemata) -> Result<()> {
        self.check_updatable()?;
        if let Some(group) = self.resctrl()? {
            return group.update(schemata);
        }
        let plan = ResctrlPlan::own(&self.record.id);
        let mut group = resctrl::Group::create(&plan, &resctrl::mount_point()?)?;
        let record = Some(group.record().clone());
        let moved =
            group.update(schemata).and_then(|()| group.adopt(&self.pids()?)).and_then(|()| {
                self.record.resctrl = record;
                self.state.save(&self.record)
            });
        if moved.is_err() {
            group.undo();
        }
        moved
    }

    /// Its class of service and monitoring group.
    pub(super) fn resctrl(&self) -> Result<Option<resctrl::Group>> {
        self.record.resctrl.clone().map(resctrl::Group::from_record).transpose()
    }

    /// Its statistics.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it does not run.
    pub fn stats(&self) -> Result<Stats> {
        if self.status()? == Status::Stopped {
            return Err(Error::lifecycle(format!(
                "container with id {} is not running",
                self.record.id
            )));
        }
        let mut stats = self.cgroup.stats()?;
        if let Some(group) = self.resctrl()? {
            stats.intel_rdt = group.stats();
        }
        Ok(stats)
    }

    /// Watches for OOM kills.
    ///
    /// # Errors
    /// Those of [`crate::cgroup::Cgroup::watch_oom`].
    pub fn watch_oom(&self) -> Result<OomWatch> {
        self.cgroup.watch_oom()
    }
}
