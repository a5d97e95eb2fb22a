//! What a launch writes down about the container.

use nix::unistd::Pid;

use super::Launch;
use crate::cgroup::{self, Cgroup, CgroupPlan};
use crate::error::{Error, Result};
use crate::process::{Init, Stat};
use crate::resctrl;
use crate::spec;
use crate::store::{Record, StateDir};
use crate::time;

impl Launch<'_> {
    /// Writes down where the cgroup will be, before there is one: should this process be killed, `delete --force` finds it.
    pub(super) fn reserve_record(&self, state: &StateDir, plan: &CgroupPlan) -> Result<()> {
        let mut record = self.draft(plan.record());
        record.creating = true;
        state.save_first(&record)
    }

    /// Writes the record.
    pub(super) fn record(
        &self,
        state: &StateDir,
        cgroup: &Cgroup,
        pid: Pid,
        creating: bool,
    ) -> Result<Init> {
        let init = self.stage_record(state, cgroup, pid, creating)?;
        state.publish()?;
        Ok(init)
    }

    /// Writes the record to where nobody reads it yet.
    pub(super) fn stage_record(
        &self,
        state: &StateDir,
        cgroup: &Cgroup,
        pid: Pid,
        creating: bool,
    ) -> Result<Init> {
        let start_time = Stat::read(pid).map_err(|errno| {
            Error::os("read the start time of init", errno).path(format!("/proc/{pid}/stat"))
        })?;
        let start_time = start_time.start_time;
        let mut record = self.draft(cgroup.record().clone());
        record.pid = pid.as_raw();
        record.start_time = start_time;
        record.creating = creating;
        state.stage(&record)?;
        Ok(Init { pid, start_time })
    }

    /// All of the record that is known before there is a process.
    fn draft(&self, cgroup: cgroup::Record) -> Record<'_> {
        let hooks = self.spec.hooks.as_ref();
        let linux = self.spec.linux.as_ref();
        let namespaces = &self.plan.namespaces;
        let joined = namespaces.join.iter().fold(0, |all, join| all | join.kind);
        Record {
            version: Record::VERSION,
            oci_version: spec::OCI_VERSION.into(),
            id: self.options.id.as_str().into(),
            pid: 0,
            start_time: 0,
            bundle: self.bundle.path_text().into(),
            rootfs: self.plan.root.path.to_string_lossy().into_owned().into(),
            created: time::rfc3339_nano(time::now()).into(),
            owner: self.facts.euid,
            annotations: self.spec.annotations.clone(),
            cgroup,
            namespaces: namespaces.new | joined,
            made: Some(namespaces.new),
            filtered: Some(
                self.plan.process.seccomp.is_some()
                    || linux.is_some_and(|linux| linux.seccomp.is_some()),
            ),
            keyring: self.plan.keyring.is_some(),
            memory_policy: linux.and_then(|linux| linux.memory_policy.clone()),
            personality: linux.and_then(|linux| linux.personality.clone()),
            execve_denied: self.plan.process.filter_denies_execve(),
            no_process: self.spec.process.is_none(),
            creating: false,
            resctrl: self.resctrl.as_ref().map(|(plan, root)| resctrl::Record::planned(plan, root)),
            hooks: hooks
                .is_some_and(|hooks| !hooks.poststart.is_empty() || !hooks.poststop.is_empty()),
        }
    }
}
