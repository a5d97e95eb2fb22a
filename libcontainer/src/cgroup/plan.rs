//! What is to be made, decided before anything is: directories, values and device rules. Pure.

use std::path::PathBuf;

use super::device::Rules;
use super::host::{Host, SYSTEMD};
use super::systemd::{self, Buses, Names, UnitPlan};
use super::writes::{Purpose, Write, Writes};
use super::{Cgroup, Driver, Layout, Record, delegate, path, v1, v2};
use crate::spec::{Map, Resources, Str};
use crate::{Error, Result};

/// The version 1 controllers no container can do without: those engines read statistics from, limit later without a
/// restart, or freeze and kill through.
pub(super) const ALWAYS: &[&str] =
    &["blkio", "cpu", "cpuacct", "devices", "freezer", "memory", "pids", SYSTEMD];

/// What a container asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a Resources<'a>>,
    /// Who makes the cgroup.
    pub driver: Driver,
    /// Whether the devices every container may use are allowed after the given rules.
    pub default_devices: bool,
    /// Where systemd may be.
    pub buses: Option<&'a Buses>,
    /// `annotations`, for those about the systemd unit.
    pub annotations: Option<&'a Map<'a, Str<'a>>>,
}

/// One directory to make in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Controllers; empty for a version 2 hierarchy.
    pub controllers: Vec<String>,
    /// Mount point of the hierarchy.
    pub mount: String,
    pub writes: Vec<Write>,
    /// A hierarchy of which nothing is asked, kept for the book-keeping of others: not being allowed in is no error. The
    /// container neither joins it nor sees anything of it then.
    pub optional: bool,
}

/// A container's cgroup, planned.
#[derive(Debug, Clone)]
pub struct CgroupPlan {
    pub(super) driver: Driver,
    pub(super) layout: Layout,
    pub(super) path: String,
    pub(super) groups: Vec<Group>,
    pub(super) devices: Option<Rules>,
    /// The unit, if systemd makes the cgroup.
    pub(super) unit: Option<UnitPlan>,
    /// The cgroup below it that the container divides as it likes.
    pub(super) delegate: Option<String>,
    beside_caller: bool,
    warnings: Vec<String>,
}

/// One version 1 hierarchy the container is a member of, as its own `/sys/fs/cgroup` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1View {
    /// Name below `/sys/fs/cgroup`, such as `memory`, `cpu,cpuacct` or `systemd`.
    pub directory: String,
    /// Names of the symlinks to `directory` beside it, where several controllers share it.
    pub links: Vec<String>,
    /// Data of `mount -t cgroup`, for a container in a new cgroup namespace.
    pub options: String,
    /// The container's own directory on the host, for one that is not.
    pub source: PathBuf,
}

impl CgroupPlan {
    /// Decides where the cgroup lies and what is written into it.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] and [`crate::Kind::Unsupported`], naming the property of `config.json` that cannot be
    /// honoured: by anybody, or by this host.
    pub fn build(request: &Request<'_>, host: &Host) -> Result<Self> {
        if request.driver == Driver::Systemd {
            return Self::of_unit(request, host);
        }
        let base = match path::is_relative(request.cgroups_path) {
            true if request.driver == Driver::Cgroupfs => host.relative_base()?,
            _ => String::new(),
        };
        let path = path::resolve(request.id, request.cgroups_path, &base)?;
        let mut plan = Self::at(path, request, host)?;
        plan.beside_caller = !base.is_empty();
        Ok(plan)
    }

    /// The same for a unit of systemd's.
    fn of_unit(request: &Request<'_>, host: &Host) -> Result<Self> {
        let user = systemd::is_users(request.buses)?;
        let names = Names::parse(request.id, request.cgroups_path, user)?;
        let (mut unit, own) =
            UnitPlan::build(&names, request.annotations, request.buses, user, request.id)?;
        let base = if user { systemd::users_base()? } else { String::new() };
        let mut plan = Self::at(format!("{base}{}", names.path()), request, host)?;
        let v2 = host.is_v2();
        for group in &mut plan.groups {
            systemd::round_quota(&mut group.writes);
        }
        let writes: Vec<Write> =
            plan.groups.iter().flat_map(|group| group.writes.clone()).collect();
        unit.properties.extend(systemd::of_writes(&writes, v2));
        if let Some(rules) = &plan.devices {
            unit.properties.extend(systemd::of_devices(rules, v2));
        }
        // What the caller says himself comes last and counts.
        unit.properties.extend(own);
        plan.unit = Some(unit);
        Ok(plan)
    }

    fn at(path: String, request: &Request<'_>, host: &Host) -> Result<Self> {
        let mut plan = Self {
            driver: request.driver,
            layout: host.layout(),
            path,
            groups: Vec::new(),
            devices: None,
            unit: None,
            delegate: delegate::wanted(request.annotations, host)?,
            beside_caller: false,
            warnings: Vec::new(),
        };
        if request.driver == Driver::Disabled {
            return Ok(plan);
        }
        let none = Resources::default();
        let resources = request.resources.unwrap_or(&none);
        let rules = Rules::new(&resources.devices, request.default_devices)?;
        if host.is_v2() {
            plan.unified(host, resources)?;
        } else {
            check_holes(&rules, resources)?;
            plan.legacy(host, resources)?;
        }
        plan.devices = Some(rules);
        Ok(plan)
    }

    /// Who makes it.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The cgroup's path relative to the mount of each hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether another caller, from another cgroup, would find another place.
    pub fn is_beside_caller(&self) -> bool {
        self.beside_caller
    }

    /// What `linux.resources` asks for and this kind of cgroup ignores.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the cgroup may be made: there is none yet, or nobody is in it.
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if there are processes in it, or it is frozen.
    pub fn check_unused(&self) -> Result<()> {
        super::create::check_free(self)
    }

    /// The directories whose processes are the container's: `devices` on version 1, the only one on version 2.
    pub(super) fn is_main(&self, group: &Group) -> bool {
        self.layout == Layout::Unified || group.controllers.iter().any(|name| name == "devices")
    }

    /// The record the cgroup will have.
    pub fn record(&self) -> Record {
        super::create::planned(self)
    }

    /// The version 1 hierarchies for the container's own `/sys/fs/cgroup`, if it is let into all of them; none on
    /// version 2.
    pub fn v1_views(&self) -> Vec<V1View> {
        self.v1_groups()
            .map(|group| {
                view(group.controllers.iter().map(String::as_str), &group.mount, &self.path)
            })
            .collect()
    }

    /// Which of [`CgroupPlan::v1_views`] are not to be shown, as `cgroup` has no directory there: bit 0 is the first. There
    /// are fewer hierarchies than bits, as each has a controller of its own.
    pub fn left_out(&self, cgroup: &Cgroup) -> i32 {
        let missing = |group: &Group| !group.controllers.iter().all(|name| cgroup.has(name));
        let bits = self.v1_groups().zip(0_u32..).filter(|(group, _)| missing(group));
        bits.fold(0, |all, (_, bit)| all | 1_i32.checked_shl(bit).unwrap_or(0))
    }

    fn v1_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.controllers.is_empty())
    }

    fn unified(&mut self, host: &Host, resources: &Resources<'_>) -> Result<()> {
        let Writes { list, warnings } =
            v2::writes(resources, Purpose::Create, host.v2_controllers(), &|_| None)?;
        self.warnings = warnings;
        let mount = host.v2_mount().unwrap_or_default().to_owned();
        self.groups.push(Group { controllers: Vec::new(), mount, writes: list, optional: false });
        Ok(())
    }

    fn legacy(&mut self, host: &Host, resources: &Resources<'_>) -> Result<()> {
        let Writes { list, warnings } = v1::writes(resources, Purpose::Create)?;
        self.warnings = warnings;
        if host.hierarchy("devices").is_none() {
            return Err(missing_controller("devices").field("linux.resources.devices"));
        }
        for write in &list {
            if host.hierarchy(&write.controller).is_none() {
                return Err(
                    missing_controller(&write.controller).field(write.field.clone().into_owned())
                );
            }
        }
        for hierarchy in host.v1() {
            let has = |name: &str| hierarchy.has(name);
            let asked = list.iter().any(|write| has(&write.controller));
            let needed = asked || ALWAYS.iter().any(|name| has(name));
            if !needed && has("cpuset") && !self.inherits_cpuset() {
                continue;
            }
            let writes = list.iter().filter(|write| has(&write.controller)).cloned().collect();
            self.groups.push(Group {
                controllers: hierarchy.controllers.clone(),
                mount: hierarchy.mount.clone(),
                writes,
                optional: has(SYSTEMD) || !needed && !has("cpuset"),
            });
        }
        if let Some(mount) = host.v2_mount() {
            let mount = mount.to_owned();
            let writes = Vec::new();
            self.groups.push(Group { controllers: Vec::new(), mount, writes, optional: true });
        }
        Ok(())
    }

    /// A container below a parent (an engine's, a pod's) must not escape the CPUs of that parent; one directly below
    /// the root has nothing to inherit, and a cpuset is the dearest of the directories.
    fn inherits_cpuset(&self) -> bool {
        self.path.matches('/').count() > 1
    }
}

pub(super) fn missing_controller(name: &str) -> Error {
    Error::unsupported(format!("the {name} controller is not mounted on this host"))
}

/// Version 1 cannot deny a device inside a wider allowance.
pub(super) fn check_holes(rules: &Rules, resources: &Resources<'_>) -> Result<()> {
    let Err(hole) = rules.exceptions() else { return Ok(()) };
    // The rule came from the configuration: the defaults only allow, and allowances under an allowing default that
    // overlap a denial are the configuration's conflict all the same.
    let at = resources.devices.iter().position(|rule| {
        let alone = Rules::new(std::slice::from_ref(rule), false);
        alone.is_ok_and(|alone| alone.list.contains(&hole))
    });
    let field = at.map_or_else(
        || "linux.resources.devices".to_owned(),
        |i| format!("linux.resources.devices[{i}]"),
    );
    Err(Error::unsupported(format!(
        "cgroup v1 cannot punch the hole {:?} in a wildcard rule",
        hole.line()
    ))
    .field(field)
    .hint("put the narrower rule first, or use cgroup v2"))
}

pub(super) fn view<'n>(
    controllers: impl Iterator<Item = &'n str>,
    mount: &str,
    path: &str,
) -> V1View {
    let directory = mount.rsplit('/').next().unwrap_or(mount).to_owned();
    let controllers: Vec<&str> = controllers.collect();
    let links = if controllers.len() > 1 {
        let links = controllers.iter().filter(|name| **name != directory);
        links.map(|name| (*name).to_owned()).collect()
    } else {
        Vec::new()
    };
    let options = controllers
        .iter()
        .map(|name| if *name == SYSTEMD { "none,name=systemd" } else { name })
        .collect::<Vec<_>>()
        .join(",");
    V1View { directory, links, options, source: PathBuf::from(format!("{mount}{path}")) }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
