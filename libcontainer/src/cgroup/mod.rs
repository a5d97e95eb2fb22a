//! Cgroups: limits, freezing, killing, statistics (config-linux.md "Control groups").
//!
//! [`Host::probe`] looks at what is mounted, [`CgroupPlan::build`] decides (pure), [`Cgroup::create`] makes the
//! directories and writes every limit and device rule before any process is inside. The process then joins by
//! itself ([`Join`]): on version 2 it is born there, on version 1 it writes `0` into each `tasks` file. Nobody writes
//! a pid into `cgroup.procs` on that path, because that takes a lock of the whole system, 10 ms and more on an idle
//! host. What is needed later lies in the container's state file as a [`Record`].

mod convert;
mod create;
mod delegate;
mod device;
mod device_program;
mod devices;
mod file;
mod freeze;
mod host;
mod join;
mod oom;
mod path;
mod plan;
mod processes;
mod remove;
mod restore;
mod stats;
mod stats_v1;
mod stats_v2;
mod systemd;
mod update;
mod v1;
mod v2;
mod writes;

#[cfg(test)]
mod kernel_tests;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub use freeze::Frozen;
pub use host::{Host, Layout, is_host_root, own_path};
pub use join::Join;
pub use oom::{OomEvent, OomWatch};
pub use plan::{CgroupPlan, Request, V1View};
pub use stats::{
    BlockEntry, BlockIoStats, CpuStats, CpuUsage, CpusetStats, HugetlbStats, MemoryEntry,
    MemoryStats, PidsStats, Pressure, PressureLine, Stats, Throttling,
};
pub use systemd::{Buses, Held};

/// Who makes the cgroup and takes it away again (`--cgroup-manager`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// This runtime, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, as a unit.
    Systemd,
    /// Nobody: the container stays where its caller is.
    Disabled,
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            "disabled" => Ok(Self::Disabled),
            _ => Err(Error::config(format!(
                "the cgroup manager {name:?} is not cgroupfs, systemd or disabled"
            ))),
        }
    }
}

/// What the state file keeps of a cgroup. Fields are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Record {
    driver: Driver,
    layout: Layout,
    /// Relative to each hierarchy's mount.
    path: String,
    hierarchies: Vec<Member>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systemd: Option<systemd::Unit>,
    /// The cgroup below it that its processes are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    delegate: Option<String>,
}

impl Record {
    /// Whether it is known from this where the cgroup is, or that there is none.
    pub(crate) fn says_where(&self) -> bool {
        !self.hierarchies.is_empty() || self.driver == Driver::Disabled
    }
}

/// One hierarchy the container has a directory in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Member {
    /// Controllers joined by commas, `name=systemd`, or nothing for version 2.
    controllers: String,
    mount: String,
}

impl Member {
    fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }

    /// Whether it is a version 1 hierarchy that a container may have come to be in by an `update` only.
    fn is_optional(&self) -> bool {
        !self.is_v2() && !plan::ALWAYS.iter().any(|name| self.has(name))
    }

    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// A container's cgroup: one directory on version 2, one per hierarchy on version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    record: Record,
    /// Whether this process has made all its directories.
    fresh: bool,
    /// Those that were there when it came to make them.
    found: Vec<String>,
    /// Whether nobody knows which of its directories were made.
    planned: bool,
}

impl Cgroup {
    /// Makes the cgroup and applies every limit and device rule, before there is a process in it. What it made is
    /// gone again when it fails.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if the cgroup exists with processes in it or frozen; else the write or directory
    /// that failed, with its path and the property of `config.json`.
    pub fn create(plan: &CgroupPlan, host: &Host) -> Result<Self> {
        create::create(plan, host)
    }

    /// The same where `plan` has systemd make the cgroup: release what comes beside it once a process has been born there.
    ///
    /// # Errors
    /// Those of [`Cgroup::create`]; [`crate::Kind::Unsupported`] with what systemd has to say, or that it says nothing.
    pub fn create_unit(plan: &CgroupPlan, host: &Host) -> Result<(Self, Held)> {
        systemd::create(plan, host)
    }

    /// The first part of [`Cgroup::create`]: only what a process has to be born in, version 2.
    ///
    /// # Errors
    /// Those of [`Cgroup::create`].
    pub fn begin(plan: &CgroupPlan, host: &Host) -> Result<Self> {
        create::begin(plan, host)
    }

    /// The second part, which may as well come when there is a process already: the hierarchies of version 1, which it
    /// joins by itself, with every limit. What it made is gone again when it fails.
    ///
    /// # Errors
    /// Those of [`Cgroup::create`].
    pub fn complete(&mut self, plan: &CgroupPlan, host: &Host) -> Result<()> {
        create::complete(self, plan, host)
    }

    /// The last part, which may as well come when that process has joined, if it makes and opens no device any more and
    /// nobody else's code has run: the device rules.
    ///
    /// # Errors
    /// The rule that was refused.
    pub fn restrict(&self, plan: &CgroupPlan) -> Result<()> {
        create::restrict(self, plan)
    }

    /// The cgroup a state file describes. Whether it still exists shows when it is used.
    ///
    /// # Errors
    /// [`crate::Kind::Internal`] if the record is not one of ours.
    pub fn from_record(record: Record) -> Result<Self> {
        let clean = record.path.is_empty() || path::clean(&record.path) == record.path;
        let absolute = record.hierarchies.iter().all(|member| member.mount.starts_with('/'));
        let nowhere = !record.hierarchies.is_empty() && record.path.len() < 2;
        if !clean || !absolute || nowhere {
            return Err(Error::internal("the state file describes no cgroup of ours")
                .path(&record.path)
                .hint("it is damaged, or of another runtime"));
        }
        Ok(Self { record, fresh: false, found: Vec::new(), planned: false })
    }

    /// The same if the record is from before its making, which nobody saw the end of: beside the directories that
    /// `create` looks at first, some may be somebody else's; those that somebody is in [`Cgroup::remove`] then leaves alone.
    #[must_use]
    pub fn planned(mut self) -> Self {
        self.planned = true;
        self
    }

    /// Whether all its directories were made for it just now: then who is in it has come with this container.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// What to keep in the state file; again after [`Cgroup::update`].
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The path relative to the mount of each hierarchy.
    pub fn path(&self) -> &str {
        &self.record.path
    }

    /// Who made it.
    pub fn driver(&self) -> Driver {
        self.record.driver
    }

    /// The version 1 hierarchies it has a directory in, for the container's own `/sys/fs/cgroup`: there it is to see no
    /// others, in which its root would be the host's.
    pub fn v1_views(&self) -> Vec<V1View> {
        let members = self.record.hierarchies.iter().filter(|member| !member.is_v2());
        members
            .map(|member| plan::view(member.controllers.split(','), &member.mount, self.path()))
            .collect()
    }

    fn is_v2(&self) -> bool {
        self.record.layout == Layout::Unified
    }

    fn directory(&self, member: &Member) -> String {
        format!("{}{}", member.mount, self.record.path)
    }

    /// The directory of a version 1 controller.
    fn v1(&self, controller: &str) -> Option<String> {
        let member = self.record.hierarchies.iter().find(|member| member.has(controller))?;
        Some(self.directory(member))
    }

    /// The directory in the version 2 hierarchy, which a hybrid host has as well.
    fn v2(&self) -> Option<String> {
        let member = self.record.hierarchies.iter().find(|member| member.is_v2())?;
        Some(self.directory(member))
    }

    /// The directory that knows all processes of the container, whatever the layout.
    fn main(&self) -> Option<String> {
        if self.is_v2() {
            return self.v2();
        }
        ["devices", "pids", "memory"].iter().find_map(|name| self.v1(name))
    }
}
