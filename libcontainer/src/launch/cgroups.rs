//! The container's cgroup and its place in resctrl, made before its process is.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::Launch;
use crate::cgroup::{self, Cgroup, CgroupPlan, Held};
use crate::error::Result;
use crate::init::{self, V2Directory};
use crate::sys::mount;
use crate::{resctrl, spec};

impl Launch<'_> {
    /// Makes what has to be there before the child; what is to be released once the child is there comes in `held`.
    pub(super) fn begin_cgroup(
        &self,
        overlaps: bool,
        plan: &CgroupPlan,
        host: &cgroup::Host,
        held: &mut Option<Held>,
    ) -> Result<Cgroup> {
        if overlaps {
            return Cgroup::begin(plan, host);
        }
        if plan.driver() == cgroup::Driver::Systemd {
            let (cgroup, holder) = Cgroup::create_unit(plan, host)?;
            *held = Some(holder);
            return Ok(cgroup);
        }
        self.make_cgroup(plan, host)
    }

    /// Makes the cgroup; without the right to, and without limits to enforce, none.
    fn make_cgroup(&self, plan: &CgroupPlan, host: &cgroup::Host) -> Result<Cgroup> {
        let error = match Cgroup::create(plan, host) {
            Err(error) if self.options.ignore_cgroup_permission => error,
            other => return other,
        };
        let denied = matches!(error.raw_errno(), Some(Errno::EACCES | Errno::EPERM | Errno::EROFS));
        if !denied {
            return Err(error);
        }
        // Whoever is the host's root and may not is told. Root of a user namespace around the runtime, as under rootless
        // Podman, is not, and finds what belongs to others, or a read-only mount.
        let own = self.plan.namespaces.has(libc::CLONE_NEWUSER);
        if self.facts.euid == 0 && !own && cgroup::is_host_root()? {
            return Err(error);
        }
        if self.wants_limits() {
            return Err(error.hint(
                "an ordinary user needs a delegated cgroup to set limits (systemd-run --user --scope -p Delegate=yes)",
            ));
        }
        self.log.warn(&format!("the container has no cgroup of its own: {error}"));
        let request = cgroup::Request {
            id: self.options.id.as_str(),
            cgroups_path: None,
            resources: None,
            driver: cgroup::Driver::Disabled,
            default_devices: false,
            buses: None,
            annotations: None,
        };
        Cgroup::create(&CgroupPlan::build(&request, host)?, host)
    }

    /// Whether config.json asks for limits beyond the rules for devices, which a user namespace does not need.
    fn wants_limits(&self) -> bool {
        let resources = self.spec.linux.as_ref().and_then(|linux| linux.resources.as_deref());
        resources.is_some_and(|resources| {
            let without_devices =
                spec::Resources { devices: spec::List::default(), ..resources.clone() };
            without_devices != spec::Resources::default()
        })
    }

    /// Makes the resctrl group, if one is asked for, and has the container join it as it joins cgroups of version 1.
    pub(super) fn join_resctrl(
        &self,
        made: &mut Option<resctrl::Group>,
        tasks: &mut Vec<OwnedFd>,
    ) -> Result<()> {
        let Some((plan, root)) = &self.resctrl else { return Ok(()) };
        let group = made.insert(resctrl::Group::create(plan, root)?);
        tasks.append(&mut group.tasks()?);
        Ok(())
    }

    /// What the container will have as its /sys/fs/cgroup, made while the child mounts the rest. `None` leaves it to the
    /// child, as before Linux 6.15, where nothing can be mounted on what is mounted nowhere itself.
    pub(super) fn v1_view(&self, cgroup: &Cgroup) -> Option<OwnedFd> {
        let mut last = self.plan.mounts.iter().filter(|op| self.plan.is_made_last(op));
        match (last.next(), last.next()) {
            (Some(op), None) if mount::takes_detached_targets() => {
                init::view_of_v1(op, self.plan.mount_label.as_ref(), &cgroup.v1_views())
            }
            _ => None,
        }
    }

    /// Whether the cgroup is made while the child already mounts: on version 1, nine directories take as long as all its
    /// mounts, and it joins by itself. Not with a user namespace, where the child begins with questions to the parent; not
    /// where the container may have to do without, or joins a resctrl group the same way.
    pub(super) fn overlaps(&self, host: &cgroup::Host) -> bool {
        host.may_make_v1()
            && self.resctrl.is_none()
            && !self.plan.namespaces.has(libc::CLONE_NEWUSER)
            && self.options.cgroup_driver == cgroup::Driver::Cgroupfs
    }
}

/// What a container without a cgroup namespace sees as its /sys/fs/cgroup: its own cgroup, or without one the runtime's.
pub(super) fn v2_directory(host: &cgroup::Host, cgroup: &Cgroup) -> Option<V2Directory> {
    if !host.is_v2() {
        return None;
    }
    let shared = cgroup.driver() == cgroup::Driver::Disabled;
    let path = if shared { cgroup::own_path().ok()? } else { cgroup.path().to_owned() };
    let path = CString::new(format!("/sys/fs/cgroup{path}")).unwrap_or_default();
    Some(V2Directory { path, shared })
}
