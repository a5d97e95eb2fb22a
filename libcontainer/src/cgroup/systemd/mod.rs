//! The systemd driver: systemd makes the cgroup, as a scope, and knows its limits (design note 0015).
//!
//! A scope has to be started with a process. That one is a [`Holder`], which does nothing and goes as soon as the
//! container's first process has been born in the cgroup, like in any other.

mod annotation;
mod holder;
mod manager;
mod property;
mod unit;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::plan::{CgroupPlan, Group};
use super::writes::Write;
use super::{Cgroup, Host, create, file, path};
use crate::dbus::Value;
use crate::error::Context;
use crate::spec::{Map, Str};
use crate::{Error, Result};

pub(super) use annotation::subgroup;
use holder::Holder;
use manager::Manager;
pub(super) use manager::is_users;
pub(super) use property::{of_devices, of_writes, round_quota};
pub(super) use unit::Names;

/// A property of a unit.
pub(super) type Property = (String, Value);

/// Where systemd may be, as the environment says (sd_bus_default(3)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buses {
    /// DBUS_SYSTEM_BUS_ADDRESS.
    pub system: Option<String>,
    /// DBUS_SESSION_BUS_ADDRESS.
    pub session: Option<String>,
    /// XDG_RUNTIME_DIR.
    pub runtime_dir: Option<PathBuf>,
}

/// What the state file keeps of the unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Unit {
    /// Name, such as `skep-box.scope`.
    pub(super) name: String,
    /// Whether it is the user's own systemd that has it.
    pub(super) user: bool,
    /// Where that is; empty where the system's always is.
    pub(super) bus: Vec<String>,
    /// The cgroup below the unit's that the processes are in.
    pub(super) below: Option<String>,
}

impl Unit {
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

/// The unit, planned.
#[derive(Debug, Clone)]
pub(super) struct UnitPlan {
    pub(super) unit: Unit,
    pub(super) properties: Vec<Property>,
}

impl UnitPlan {
    /// Decides what unit it is to be; without the limits, which follow from the writes.
    pub(super) fn build(
        names: &Names,
        annotations: Option<&Map<'_, Str<'_>>>,
        buses: Option<&Buses>,
        user: bool,
        id: &str,
    ) -> Result<(Self, Vec<Property>)> {
        let (below, own) = annotation::read(annotations)?;
        let no_buses = Buses::default();
        let unit = Unit {
            name: names.unit.clone(),
            user,
            bus: manager::addresses(user, buses.unwrap_or(&no_buses))?,
            below,
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let mut properties = vec![("Description".to_owned(), text(&format!("container {id}")))];
        if unit.is_slice() {
            properties
                .push(("Wants".to_owned(), Value::Array("s".into(), vec![text(&names.slice)])));
        } else {
            properties.push(("Slice".to_owned(), text(&names.slice)));
            // The cgroups below are the container's, and every controller is on.
            properties.push(("Delegate".to_owned(), Value::Bool(true)));
            // Nothing of it stays, however it ends.
            properties.push(("CollectMode".to_owned(), text("inactive-or-failed")));
        }
        for name in [
            "DefaultDependencies",
            "CPUAccounting",
            "MemoryAccounting",
            "IOAccounting",
            "TasksAccounting",
        ] {
            properties.push((name.to_owned(), Value::Bool(name != "DefaultDependencies")));
        }
        Ok((Self { unit, properties }, own))
    }
}

/// Where the cgroups of the systemd of this user begin, as far as that can be told before there is one.
///
/// # Errors
/// The failed read.
pub(super) fn users_base() -> Result<String> {
    let own = super::own_path()?;
    let service = own.match_indices('/').map(|(at, _)| at).chain([own.len()]).find_map(|end| {
        let head = own.get(..end)?;
        let last = head.rsplit('/').next()?;
        (last.starts_with("user@") && last.ends_with(".service")).then(|| head.to_owned())
    });
    let uid = nix::unistd::geteuid();
    Ok(service.unwrap_or_else(|| format!("/user.slice/user-{uid}.slice/user@{uid}.service")))
}

/// A scope that is kept until the container's first process is in it.
#[derive(Debug)]
pub struct Held {
    /// Goes when this does.
    holder: Option<Holder>,
    /// Limits in which the holder had no room.
    later: Vec<Write>,
}

impl Held {
    /// Lets go, if there is anything to: the container's first process is there.
    ///
    /// # Errors
    /// The limit that could not be set now.
    pub fn release(held: Option<Self>, cgroup: &Cgroup) -> Result<()> {
        let Some(Self { holder, later }) = held else { return Ok(()) };
        drop(holder);
        let Some(directory) = cgroup.v2() else { return Ok(()) };
        if cgroup.below().is_some() {
            // Only now: no cgroup with processes can have children with controllers.
            let controllers =
                file::read(&format!("{directory}/cgroup.controllers")).unwrap_or_default();
            for name in controllers.split_whitespace() {
                let _best_effort = file::write(
                    &format!("{directory}/cgroup.subtree_control"),
                    &format!("+{name}"),
                );
            }
        }
        create::apply(&later, &directory, "")
    }
}

/// Has systemd make the unit, then applies every limit like in a cgroup of our own.
pub(super) fn create(plan: &CgroupPlan, host: &Host) -> Result<(Cgroup, Held)> {
    let Some(wanted) = &plan.unit else { return Err(Error::internal("the plan has no unit")) };
    let mut manager = Manager::connect(&wanted.unit)?;
    let holder = match wanted.unit.is_slice() {
        true => None,
        false => {
            manager.check_pids()?;
            Some(Holder::start()?)
        }
    };
    let mut properties = wanted.properties.clone();
    if let Some(holder) = &holder {
        let pid = u32::try_from(holder.pid().as_raw()).unwrap_or_default();
        properties.push(("PIDs".to_owned(), Value::Array("u".into(), vec![Value::Uint32(pid)])));
    }
    let fresh = manager.start(&properties)?;
    let made = fill(plan, host, holder.as_ref());
    match made {
        Ok((mut cgroup, later)) => {
            cgroup.fresh = fresh;
            Ok((cgroup, Held { holder, later }))
        }
        Err(error) if !fresh => Err(error),
        Err(error) => {
            drop(holder);
            let _the_first_error_counts = manager.stop();
            Err(error)
        }
    }
}

fn fill(plan: &CgroupPlan, host: &Host, holder: Option<&Holder>) -> Result<(Cgroup, Vec<Write>)> {
    let mut plan = plan.clone();
    if let Some(holder) = holder {
        plan.path = where_is(holder, host, &plan)?;
    }
    let mut later = Vec::new();
    if let (Some(_), true) = (holder, host.is_v2()) {
        plan.groups.iter_mut().for_each(|group| make_room(group, &mut later));
    }
    let cgroup = create::create(&plan, host)?;
    if let (Some(below), Some(directory)) = (cgroup.below(), cgroup.v2()) {
        let directory = format!("{directory}/{below}");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
        match nix::unistd::mkdir(directory.as_str(), mode) {
            Err(nix::errno::Errno::EEXIST) => {}
            other => other.on("mkdir", &directory)?,
        }
    }
    Ok((cgroup, later))
}

/// The holder is a process as well, until it goes.
fn make_room(group: &mut Group, later: &mut Vec<Write>) {
    for write in group.writes.iter_mut().filter(|write| write.file == "pids.max") {
        if let Ok(limit) = write.value.parse::<u64>() {
            later.push(write.clone());
            write.value = limit.saturating_add(1).to_string();
        }
    }
    // The last one counts.
    if later.len() > 1 {
        later.drain(..later.len() - 1);
    }
}

/// The truth about where systemd has put the unit: where its one process is.
fn where_is(holder: &Holder, host: &Host, plan: &CgroupPlan) -> Result<String> {
    let source = format!("/proc/{}/cgroup", holder.pid());
    let text = file::read(&source).on("read", &source)?;
    let prefix = if host.is_v2() { "0::" } else { ":name=systemd:" };
    let found = text.lines().find_map(|line| line.split_once(prefix).map(|(_, path)| path));
    let found = path::clean(found.unwrap_or_default());
    let unit = plan.unit.as_ref().map_or("", |plan| plan.unit.name.as_str());
    let last = found.rsplit('/').next().unwrap_or_default();
    // systemd puts an underscore before names that would be those of a cgroup's own files.
    if last != unit && last.strip_prefix('_') != Some(unit) {
        return Err(Error::unsupported(format!(
            "systemd says that it has made the unit {unit}, but its process is in {found:?}"
        ))
        .hint("does the process that answers as systemd manage this host's cgroups?"));
    }
    Ok(found)
}

impl Cgroup {
    /// The name of its unit, if systemd has made it.
    pub fn unit(&self) -> Option<&str> {
        self.record.systemd.as_ref().map(|unit| unit.name.as_str())
    }

    /// The cgroup below its own that the container's processes are in.
    pub(super) fn below(&self) -> Option<&str> {
        self.record.systemd.as_ref().and_then(|unit| unit.below.as_deref())
    }

    /// Has systemd forget the unit; one that is not there any more is forgotten.
    pub(super) fn stop_unit(&self) -> Result<()> {
        match &self.record.systemd {
            Some(unit) => Manager::connect(unit)?.stop(),
            None => Ok(()),
        }
    }

    /// Tells systemd the limits it would else put back one day.
    pub(super) fn tell_systemd(&self, properties: &[Property]) -> Result<()> {
        match &self.record.systemd {
            Some(unit) if !properties.is_empty() => Manager::connect(unit)?.set(properties),
            _ => Ok(()),
        }
    }

    /// Has systemd move `pid` into the cgroup, which it may do where its user may not.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] with what systemd has to say.
    pub fn attach(&self, pid: i32) -> Result<()> {
        match &self.record.systemd {
            Some(unit) => Manager::connect(unit)?.attach(pid),
            None => Err(Error::internal("the container has no unit")),
        }
    }

    /// The same for a process beside the first.
    ///
    /// # Errors
    /// As for [`Cgroup::attach`].
    pub fn attach_exec(&self, pid: i32) -> Result<()> {
        let (Some(unit), Some(name)) = (&self.record.systemd, &self.record.delegate) else {
            return self.attach(pid);
        };
        let below = unit.below.iter().chain([name]).cloned().collect::<Vec<_>>().join("/");
        Manager::connect(&Unit { below: Some(below), ..unit.clone() })?.attach(pid)
    }
}
