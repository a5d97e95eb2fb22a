//! Making the directories and writing the limits.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::plan::{ALWAYS, CgroupPlan, Group};
use super::writes::{Missing, Write};
use super::{Cgroup, Host, Layout, Member, Record, devices, file, path, processes, v1};
use crate::error::Context;
use crate::{Error, Result};

/// The version 2 controllers enabled for every container: those engines read statistics from or change later.
/// Others cost every cgroup below the parent and are enabled when a limit needs them.
const V2_USUAL: &[&str] = &["cpu", "cpuset", "io", "memory", "pids"];

/// Directories made so far; removed again unless the cgroup is complete.
struct Undo(Vec<String>);

impl Drop for Undo {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            let _best_effort = std::fs::remove_dir(directory);
        }
    }
}

/// The record of the cgroup before it exists.
pub(super) fn planned(plan: &CgroupPlan) -> Record {
    let member = |group: &Group| Member {
        controllers: group.controllers.join(","),
        mount: group.mount.clone(),
    };
    Record {
        driver: plan.driver,
        layout: plan.layout,
        path: plan.path.clone(),
        hierarchies: plan.groups.iter().map(member).collect(),
        systemd: plan.unit.as_ref().map(|plan| plan.unit.clone()),
        delegate: plan.delegate.clone(),
    }
}

pub(super) fn create(plan: &CgroupPlan, host: &Host) -> Result<Cgroup> {
    let mut undo = Undo(Vec::new());
    let mut cgroup = born_in(plan, host, &mut undo)?;
    join_later(&mut cgroup, plan, host, &mut undo)?;
    restrict(&cgroup, plan)?;
    undo.0.clear();
    Ok(cgroup)
}

/// The part a process has to be born in: version 2.
pub(super) fn begin(plan: &CgroupPlan, host: &Host) -> Result<Cgroup> {
    let mut undo = Undo(Vec::new());
    let cgroup = born_in(plan, host, &mut undo)?;
    undo.0.clear();
    Ok(cgroup)
}

/// The hierarchies of version 1, which a process joins by itself.
pub(super) fn complete(cgroup: &mut Cgroup, plan: &CgroupPlan, host: &Host) -> Result<()> {
    let mut undo = Undo(Vec::new());
    join_later(cgroup, plan, host, &mut undo)?;
    undo.0.clear();
    Ok(())
}

fn born_in(plan: &CgroupPlan, host: &Host, undo: &mut Undo) -> Result<Cgroup> {
    let groups = plan.groups.iter().filter(|group| group.controllers.is_empty());
    let mut found = Vec::new();
    let hierarchies = make_groups(groups, plan, host, undo, &mut found)?;
    let (driver, layout, path) = (plan.driver, plan.layout, plan.path.clone());
    let systemd = plan.unit.as_ref().map(|plan| plan.unit.clone());
    let delegate = plan.delegate.clone();
    let record = Record { driver, layout, path, hierarchies, systemd, delegate };
    Ok(Cgroup { record, fresh: found.is_empty(), found, planned: false })
}

fn join_later(cgroup: &mut Cgroup, plan: &CgroupPlan, host: &Host, undo: &mut Undo) -> Result<()> {
    let groups = plan.groups.iter().filter(|group| !group.controllers.is_empty());
    let members = make_groups(groups, plan, host, undo, &mut cgroup.found)?;
    cgroup.fresh &= cgroup.found.is_empty();
    cgroup.record.hierarchies.splice(0..0, members);
    Ok(())
}

/// The rest: the device rules.
pub(super) fn restrict(cgroup: &Cgroup, plan: &CgroupPlan) -> Result<()> {
    match &plan.devices {
        Some(rules) => devices::apply(cgroup, rules),
        None => Ok(()),
    }
}

fn make_groups<'g>(
    groups: impl Iterator<Item = &'g Group>,
    plan: &CgroupPlan,
    host: &Host,
    undo: &mut Undo,
    found: &mut Vec<String>,
) -> Result<Vec<Member>> {
    let mut members = Vec::with_capacity(plan.groups.len());
    for group in groups {
        let directory = format!("{}{}", group.mount, plan.path);
        match make(&directory, &group.mount, &mut undo.0) {
            Ok(Made::New) => {}
            Ok(Made::Found) => {
                if group.optional && is_closed(&directory, group) {
                    continue;
                }
                // Who is in a unit that systemd has just made is its holder.
                if plan.unit.is_none() {
                    check_unused(&directory)?;
                }
                found.push(directory.clone());
            }
            // A read-only or foreign mount, as inside another container.
            Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) if group.optional => continue,
            Err(errno) => return Err(not_made(errno, &directory, &group.mount)),
        }
        fill(group, &directory, plan, host)?;
        members
            .push(Member { controllers: group.controllers.join(","), mount: group.mount.clone() });
    }
    Ok(members)
}

fn fill(group: &Group, directory: &str, plan: &CgroupPlan, host: &Host) -> Result<()> {
    if plan.layout == Layout::Unified {
        enable(directory, &group.mount, host.v2_controllers(), &group.writes)?;
    }
    if group.controllers.iter().any(|name| name == "cpuset") {
        let given = |file: &str| group.writes.iter().any(|write| write.file == file);
        fill_cpuset(directory, &group.mount, &given)?;
    }
    apply(&group.writes, directory, &group.mount)
}

enum Made {
    New,
    Found,
}

/// mkdir, with the parents where they are missing; what was made is added to `made`.
fn make(directory: &str, mount: &str, made: &mut Vec<String>) -> nix::Result<Made> {
    let mode = Mode::from_bits_truncate(0o755);
    // A container that fails takes its new, empty parents along, perhaps just before we want to use them.
    for _ in 0..10 {
        match mkdir(directory, mode) {
            Err(Errno::ENOENT) => {}
            Err(Errno::EEXIST) => return Ok(Made::Found),
            Err(errno) => return Err(errno),
            Ok(()) => {
                made.push(directory.to_owned());
                return Ok(Made::New);
            }
        }
        for ancestor in path::ancestors(directory, mount) {
            match mkdir(ancestor, mode) {
                // There already, or gone again: the next round sees to it.
                Err(Errno::EEXIST | Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
                Ok(()) => {
                    made.push(ancestor.to_owned());
                    inherit_cpuset(ancestor);
                }
            }
        }
    }
    Err(Errno::ENOENT)
}

fn not_made(errno: Errno, directory: &str, mount: &str) -> Error {
    let error = Error::os("mkdir", errno).path(directory);
    match errno {
        Errno::EAGAIN => match full(directory, mount) {
            Some(hint) => error.hint(hint),
            None => error,
        },
        Errno::EACCES | Errno::EPERM => {
            error.hint("this user may make cgroups only in what has been delegated to him")
        }
        _ => error.field("linux.cgroupsPath"),
    }
}

/// Which cgroup above has no room for `directory` (cgroup-v2.rst "cgroup.max.descendants", "cgroup.max.depth").
fn full(directory: &str, mount: &str) -> Option<String> {
    let mut depth = 1_u64;
    let mut at = directory;
    while let Some(above) = path::parent(at, mount) {
        let read = |name: &str| file::read(&format!("{above}/{name}")).unwrap_or_default();
        let limit = |name: &str| read(name).trim().parse::<u64>().ok();
        if let Some(most) = limit("cgroup.max.depth").filter(|most| *most < depth) {
            return Some(format!(
                "{above}/cgroup.max.depth allows {most} levels below it: raise it"
            ));
        }
        let there = file::keyed(&read("cgroup.stat"), "nr_descendants").unwrap_or(0);
        if let Some(most) = limit("cgroup.max.descendants").filter(|most| *most <= there) {
            return Some(format!(
                "{above}/cgroup.max.descendants allows {most} cgroups below it, and {there} are there: raise it, or \
                 delete containers"
            ));
        }
        depth += 1;
        at = above;
    }
    None
}

/// Makes the directory in one more hierarchy, for an update that needs it.
pub(super) fn make_one(directory: &str, mount: &str, cpuset: bool) -> Result<()> {
    let mut undo = Undo(Vec::new());
    make(directory, mount, &mut undo.0).on("mkdir", directory)?;
    if cpuset {
        fill_cpuset(directory, mount, &|_| false)?;
    }
    undo.0.clear();
    Ok(())
}

/// Looks, before anything is made, whether the cgroup is another's: it is free if it is not there.
pub(super) fn check_free(plan: &CgroupPlan) -> Result<()> {
    let Some(main) = plan.groups.iter().find(|group| plan.is_main(group)) else { return Ok(()) };
    for group in
        plan.groups.iter().filter(|group| group.mount == main.mount || group.controllers.is_empty())
    {
        let directory = format!("{}{}", group.mount, plan.path);
        if file::exists(&directory) {
            check_unused(&directory)?;
        }
    }
    Ok(())
}

/// runc refuses these too: a second container in the cgroup of a live one would be killed with it.
fn check_unused(directory: &str) -> Result<()> {
    let pids = processes::all(directory)?;
    if !pids.is_empty() {
        return Err(Error::lifecycle(format!(
            "container's cgroup is not empty: {} process(es) found",
            pids.len()
        ))
        .path(directory));
    }
    let frozen = |name: &str, value: &str| {
        file::read(&format!("{directory}/{name}")).is_ok_and(|text| text.trim() == value)
    };
    if frozen("freezer.state", "FROZEN") || frozen("cgroup.freeze", "1") {
        return Err(Error::lifecycle("container's cgroup unexpectedly frozen").path(directory));
    }
    Ok(())
}

/// Whether the container has no place in a cgroup that was there before it: it may not be entered, or it is somebody else's
/// and nobody looks for the container in it. systemd's does not count: engines do, and its busy ones are refused.
fn is_closed(directory: &str, group: &Group) -> bool {
    if group.controllers.is_empty() {
        return false;
    }
    let needed = group.controllers.iter().any(|name| ALWAYS.contains(&name.as_str()));
    let opened = file::open_with(&format!("{directory}/tasks"), OFlag::O_WRONLY);
    opened.is_err() || (!needed && check_unused(directory).is_err())
}

/// A new parent in the cpuset hierarchy gets its own parent's CPUs and hands them on to its children by itself
/// (cpusets.rst "clone_children"), which saves each container four files. Elsewhere there are no such files.
fn inherit_cpuset(directory: &str) {
    let Some((parent, _)) = directory.rsplit_once('/') else { return };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(value) = file::read(&format!("{parent}/{name}")) else { return };
        let _fill_cpuset_tries_again = file::write(&format!("{directory}/{name}"), value.trim());
    }
    let _only_saves_time = file::write(&format!("{directory}/cgroup.clone_children"), "1");
}

/// No process may enter a cpuset without CPUs and nodes: what is empty is taken from the nearest ancestor.
fn fill_cpuset(directory: &str, mount: &str, given: &dyn Fn(&str) -> bool) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if !given(name) {
            let Some(parent) = path::parent(directory, mount) else { continue };
            // Its own is empty, or, where the parent hands it on by itself, the same.
            let value = inherit(parent, mount, name)?;
            let path = format!("{directory}/{name}");
            file::write(&path, &value).on("write", &path)?;
        } else if let Some(parent) = path::parent(directory, mount) {
            // The value to come must be a subset of the parent's.
            inherit(parent, mount, name)?;
        }
    }
    Ok(())
}

fn inherit(directory: &str, mount: &str, name: &str) -> Result<String> {
    let path = format!("{directory}/{name}");
    let own = file::read(&path).on("read", &path)?;
    let own = own.trim();
    if !own.is_empty() {
        return Ok(own.to_owned());
    }
    let Some(parent) = path::parent(directory, mount) else { return Ok(String::new()) };
    let value = inherit(parent, mount, name)?;
    file::write(&path, &value).on("write", &path)?;
    Ok(value)
}

/// Enables controllers from the root of the hierarchy down to the parent, unless they are on already. Those a write
/// needs must be; the usual others may fail, as where a parent has processes of its own.
pub(super) fn enable(
    directory: &str,
    mount: &str,
    available: &[String],
    writes: &[Write],
) -> Result<()> {
    let path = format!("{directory}/cgroup.controllers");
    let present = file::read(&path).on("read", &path)?;
    let needed = |name: &str| writes.iter().any(|write| write.controller == name);
    let wanted: Vec<&str> = available
        .iter()
        .map(String::as_str)
        .filter(|name| V2_USUAL.contains(name) || needed(name))
        .filter(|name| !present.split_whitespace().any(|on| on == *name))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut chain = vec![mount];
    chain.extend(path::ancestors(directory, mount));
    for ancestor in chain {
        let path = format!("{ancestor}/cgroup.subtree_control");
        let all = wanted.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        match file::write(&path, &all) {
            Ok(()) => continue,
            // Processes in the way, or threads. Those of the controllers that a threaded cgroup can have would be
            // accepted one by one, and after that nobody could be born below.
            Err(errno @ (Errno::EBUSY | Errno::EOPNOTSUPP)) => {
                let asked = writes.iter().find(|write| wanted.contains(&&*write.controller));
                return asked.map_or(Ok(()), |write| {
                    let error = refused(&write.controller, errno, &path);
                    Err(error.field(write.field.clone().into_owned()))
                });
            }
            Err(_) => {}
        }
        // One that is refused takes the others with it: find out which.
        for name in &wanted {
            let Err(errno) = file::write(&path, &format!("+{name}")) else { continue };
            let Some(write) = writes.iter().find(|write| write.controller == *name) else {
                continue;
            };
            // Above what an ordinary user was given, others decide; all that counts is that it is on.
            let on = file::read(&path).unwrap_or_default();
            if on.split_whitespace().any(|on| on == *name) {
                continue;
            }
            return Err(refused(name, errno, &path).field(write.field.clone().into_owned()));
        }
    }
    Ok(())
}

fn refused(controller: &str, errno: Errno, path: &str) -> Error {
    let error = Error::os(format!("enable the {controller} controller in"), errno).path(path);
    match errno {
        Errno::EBUSY => {
            error.hint("a cgroup with processes of its own cannot have limited children")
        }
        Errno::EOPNOTSUPP => error.hint("the cgroup is threaded"),
        Errno::ENOENT => error.hint("the controller is not enabled in the cgroup above"),
        _ => error,
    }
}

/// Writes the values in order. Those the kernel calls invalid are tried again after the rest of the same controller:
/// pairs such as memory and swap, or quota and period, are valid only in one of the two orders, and which one
/// depends on the values in force.
pub(super) fn apply(writes: &[Write], directory: &str, mount: &str) -> Result<()> {
    for run in writes.chunk_by(|a, b| a.controller == b.controller) {
        let mut left: Vec<&Write> = run.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            let mut again = Vec::new();
            let mut first = None;
            for write in left {
                match put(write, directory) {
                    Ok(()) => {}
                    Err(Errno::EINVAL) => {
                        first = first.or(Some(write));
                        again.push(write);
                    }
                    Err(errno) => return Err(failed(write, errno, directory)),
                }
            }
            if let Some(write) = first.filter(|_| again.len() == before) {
                if write.file == v1::REALTIME_RUNTIME {
                    raise_realtime(run, directory, mount)?;
                    put(write, directory).map_err(|errno| failed(write, errno, directory))?;
                    again.retain(|other| *other != write);
                } else {
                    return Err(failed(write, Errno::EINVAL, directory));
                }
            }
            left = again;
        }
    }
    Ok(())
}

fn put(write: &Write, directory: &str) -> nix::Result<()> {
    let result = file::write(&format!("{directory}/{}", write.file), &write.value);
    match (result, &write.missing) {
        (Err(Errno::ENOENT), Missing::Ignore) => Ok(()),
        (Err(Errno::ENOENT), Missing::Instead(file, value)) => {
            file::write(&format!("{directory}/{file}"), value)
        }
        (result, _) => result,
    }
}

fn failed(write: &Write, errno: Errno, directory: &str) -> Error {
    let path = format!("{directory}/{}", write.file);
    let field = write.field.clone().into_owned();
    match errno {
        // Not in the errno's words, which engines take for a missing program.
        Errno::ENOENT => {
            let error = Error::unsupported("this kernel cannot set the limit: it lacks the file")
                .path(path)
                .field(field);
            if write.controller == "hugetlb" {
                error.hint("the sizes it has are those in /sys/kernel/mm/hugepages")
            } else {
                error
            }
        }
        Errno::EBUSY if write.file == "memory.limit_in_bytes" => busy(write, directory),
        _ => Error::os(format!("write {:?} to", write.value), errno).path(path).field(field),
    }
}

/// Version 1 refuses a limit below what cannot be reclaimed.
fn busy(write: &Write, directory: &str) -> Error {
    let number = |name: &str| {
        file::read(&format!("{directory}/{name}"))
            .map_or_else(|_| "?".into(), |s| s.trim().to_owned())
    };
    Error::os(
        format!(
            "unable to set memory limit to {} (current usage: {}, peak usage: {})",
            write.value,
            number("memory.usage_in_bytes"),
            number("memory.max_usage_in_bytes")
        ),
        Errno::EBUSY,
    )
    .field(write.field.clone().into_owned())
}

/// Realtime time is handed down: each ancestor needs its share before the cgroup can have one (sched-rt-group.rst).
fn raise_realtime(writes: &[Write], directory: &str, mount: &str) -> Result<()> {
    for ancestor in path::ancestors(directory, mount) {
        let runtime = format!("{ancestor}/{}", v1::REALTIME_RUNTIME);
        if file::read(&runtime).on("read", &runtime)?.trim() != "0" {
            continue;
        }
        for write in writes
            .iter()
            .filter(|write| write.file == v1::REALTIME_PERIOD || write.file == v1::REALTIME_RUNTIME)
        {
            put(write, ancestor).map_err(|errno| failed(write, errno, ancestor))?;
        }
    }
    Ok(())
}
