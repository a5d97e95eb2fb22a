//! Changing the limits of a cgroup that is in use.

use nix::errno::Errno;

use super::device::Rules;
use super::plan::{check_holes, missing_controller};
use super::writes::{LIMIT, Purpose, SWAP, Write, Writes};
use super::{Cgroup, Driver, Host, Member, create, devices, file, processes, systemd, v1, v2};
use crate::error::Context;
use crate::spec::{DeviceRule, Memory, Resources};
use crate::{Error, Result};

impl Cgroup {
    /// Changes what `resources` names and leaves the rest alone; 0 is unset where `config.json` has it so. Device
    /// rules, if there are any, take the place of all present ones; if they are `first`, those the container was made
    /// with, what a hook has made of them stays. Returns warnings.
    ///
    /// On version 1 the container may join another hierarchy: see [`Cgroup::extend`].
    ///
    /// # Errors
    /// The limit that cannot be set, naming its property. The others are what they were, as far as the kernel allows.
    pub fn update(
        &mut self,
        resources: &Resources<'_>,
        first: &[DeviceRule<'_>],
    ) -> Result<Vec<String>> {
        if self.record.driver == Driver::Disabled {
            return Err(Error::unsupported("the container has no cgroup: cgroups are disabled"));
        }
        let rules = (!resources.devices.is_empty())
            .then(|| Rules::new(&resources.devices, true))
            .transpose()?;
        let Writes { mut list, warnings } = if self.is_v2() {
            self.writes_v2(resources)?
        } else {
            v1::writes(resources, Purpose::Update)?
        };
        if let Some(rules) = rules.as_ref().filter(|_| !self.is_v2()) {
            check_holes(rules, resources)?;
        }
        if let Some(memory) = &resources.memory
            && memory.check_before_update == Some(true)
        {
            self.check_memory(memory)?;
        }
        if self.unit().is_some() {
            systemd::round_quota(&mut list);
        }
        self.extend(resources)?;
        self.enter(&list)?;
        let before = self.before(&list);
        // The kernel first, whose word counts; systemd's last, which puts everything it knows of the unit in force.
        let first = Rules::new(first, true)?;
        let changed = self
            .apply(&list, rules.as_ref(), &first)
            .and_then(|()| self.tell(&list, rules.as_ref()));
        if changed.is_err() {
            self.put_back(&list, &before);
        }
        changed.map(|()| warnings)
    }

    /// Makes the controllers of `list` the container's.
    fn enter(&self, list: &[Write]) -> Result<()> {
        if self.is_v2() {
            let (directory, mount) = self.unified()?;
            // The controllers in force already are the usual case, and then this is one read.
            return create::enable(&directory, &mount, Host::probe()?.v2_controllers(), list);
        }
        for member in self.record.hierarchies.iter().filter(|member| member.is_optional()) {
            if let Some(write) = list.iter().find(|write| member.has(&write.controller)) {
                let field = || write.field.clone().into_owned();
                self.move_into(member).map_err(|error| error.field(field()))?;
            }
        }
        Ok(())
    }

    fn apply(&self, list: &[Write], rules: Option<&Rules>, first: &Rules) -> Result<()> {
        if self.is_v2() {
            let (directory, mount) = self.unified()?;
            create::apply(list, &directory, &mount)?;
        } else {
            for member in &self.record.hierarchies {
                let mine: Vec<Write> =
                    list.iter().filter(|write| member.has(&write.controller)).cloned().collect();
                create::apply(&mine, &self.directory(member), &member.mount)?;
            }
        }
        rules.map_or(Ok(()), |rules| devices::replace(self, rules, first))
    }

    fn tell(&self, list: &[Write], rules: Option<&Rules>) -> Result<()> {
        if self.unit().is_none() {
            return Ok(());
        }
        let mut properties = systemd::of_writes(list, self.is_v2());
        properties
            .extend(rules.into_iter().flat_map(|rules| systemd::of_devices(rules, self.is_v2())));
        self.tell_systemd(&properties)
    }

    /// Directory and mount of the version 2 hierarchy.
    fn unified(&self) -> Result<(String, String)> {
        let member = self.record.hierarchies.iter().find(|member| member.is_v2());
        let member = member.ok_or_else(|| Error::internal("the container has no cgroup"))?;
        Ok((self.directory(member), member.mount.clone()))
    }

    fn writes_v2(&self, resources: &Resources<'_>) -> Result<Writes> {
        let (directory, _) = self.unified()?;
        let host = Host::probe()?;
        let present = |name: &str| file::read(&format!("{directory}/{name}")).ok();
        v2::writes(resources, Purpose::Update, host.v2_controllers(), &present)
    }

    /// Notes the version 1 hierarchies that `resources` needs and the container is not in, and tells whether there are
    /// any. Save [`Cgroup::record`] then, before [`Cgroup::update`] makes a directory that nobody else would remove.
    ///
    /// # Errors
    /// The limit whose controller this host does not have.
    pub fn extend(&mut self, resources: &Resources<'_>) -> Result<bool> {
        if self.record.driver == Driver::Disabled || self.is_v2() {
            return Ok(false);
        }
        let before = self.record.hierarchies.len();
        for write in &v1::writes(resources, Purpose::Update)?.list {
            if self.v1(&write.controller).is_some() {
                continue;
            }
            let host = Host::probe()?;
            let Some(hierarchy) = host.hierarchy(&write.controller) else {
                let error = missing_controller(&write.controller);
                return Err(error.field(write.field.clone().into_owned()));
            };
            let directory = format!("{}{}", hierarchy.mount, self.path());
            self.check_not_taken(&directory)
                .map_err(|error| error.field(write.field.clone().into_owned()))?;
            let controllers = hierarchy.controllers.join(",");
            self.record.hierarchies.push(Member { controllers, mount: hierarchy.mount.clone() });
        }
        Ok(self.record.hierarchies.len() > before)
    }

    /// A cgroup of the same name that holds others' processes is theirs.
    fn check_not_taken(&self, directory: &str) -> Result<()> {
        let path = format!("{directory}/cgroup.procs");
        let inside = match file::read(&path) {
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            other => other.on("read", &path)?,
        };
        let own = self.pids()?;
        let theirs = |line: &&str| !line.parse().is_ok_and(|pid: i32| own.contains(&pid));
        match inside.lines().filter(theirs).count() {
            0 => Ok(()),
            count => Err(Error::lifecycle(format!(
                "the cgroup to move the container to is not empty: {count} process(es) found"
            ))
            .path(directory)),
        }
    }

    /// Sees to it that the container is in a hierarchy it did not need at first. Its processes have to be moved; here,
    /// and only here, by writing their pids into `cgroup.procs`.
    fn move_into(&self, member: &Member) -> Result<()> {
        let directory = self.directory(member);
        let procs = format!("{directory}/cgroup.procs");
        let mut inside = processes::all(&directory)?;
        let mut made = false;
        // Until nobody is left who forked meanwhile.
        loop {
            let outside: Vec<i32> =
                self.pids()?.into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() && (made || file::exists(&directory)) {
                return Ok(());
            }
            if !made {
                create::make_one(&directory, &member.mount, member.has("cpuset"))?;
                made = true;
            }
            for pid in outside {
                match file::write(&procs, &pid.to_string()) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(Error::os("write", errno).path(&procs)),
                }
                inside.push(pid);
            }
        }
    }

    /// `checkBeforeUpdate`: the kernel of version 2 would otherwise kill processes to get below the limit.
    fn check_memory(&self, memory: &Memory) -> Result<()> {
        let (directory, current, peak) = if self.is_v2() {
            (self.v2(), "memory.current", "memory.peak")
        } else {
            (self.v1("memory"), "memory.usage_in_bytes", "memory.max_usage_in_bytes")
        };
        let Some(directory) = directory else { return Ok(()) };
        for (limit, field, what) in
            [(memory.swap, SWAP, "memory+swap"), (memory.limit, LIMIT, "memory")]
        {
            // 0 is unset and -1 unlimited.
            let Some(limit) = limit.filter(|&limit| limit > 0) else { continue };
            let path = format!("{directory}/{current}");
            let usage = file::read(&path).on("read", &path)?;
            let usage: i64 = usage.trim().parse().unwrap_or(0);
            if usage > limit {
                let peak = file::read(&format!("{directory}/{peak}"));
                let peak = peak.unwrap_or_else(|_no_such_file| "unknown".into());
                return Err(Error::config(format!(
                    "unable to set {what} limit to {limit} (current usage: {usage}, peak usage: {})",
                    peak.trim()
                ))
                .field(field));
            }
        }
        Ok(())
    }
}
