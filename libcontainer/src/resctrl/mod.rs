//! `linux.intelRdt`: cache and memory bandwidth through the resctrl file system (Documentation/filesystems/resctrl.rst).
//!
//! A class of service is a directory at the root with a `schemata` file; a monitoring group is one below its
//! `mon_groups`. As with version 1 of cgroups, a process joins by writing `0` into `tasks` itself. Nothing here runs for
//! a container without `intelRdt`.

mod plan;
mod stats;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result, io_errno};

pub use plan::{ResctrlPlan, Schemata};

const FIELD: &str = "linux.intelRdt";
const CLOS_FIELD: &str = "linux.intelRdt.closID";

/// What the state file keeps of it. Fields are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Record {
    /// Mount point of the file system.
    root: String,
    /// Directory of the class of service.
    class: String,
    /// Whether the class is the container's own, and goes with it.
    own: bool,
    /// Directory of the monitoring group.
    monitor: Option<String>,
}

/// A container's class of service, and its monitoring group if there is one.
#[derive(Debug)]
pub struct Group {
    record: Record,
    /// Directories this process has made, until the container is.
    made: Vec<String>,
}

/// The mount point of the resctrl file system.
///
/// # Errors
/// [`crate::Kind::Unsupported`] if none is mounted.
pub fn mount_point() -> Result<String> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(MOUNTS).on("read", MOUNTS)?;
    find_mount(&mounts).ok_or_else(|| {
        Error::unsupported("intelRdt is specified in config, but Intel RDT is not enabled")
            .field(FIELD)
            .hint("no resctrl file system is mounted: mount -t resctrl resctrl /sys/fs/resctrl")
    })
}

/// proc_pid_mountinfo(5): `… root mount-point options … - type source super-options`.
fn find_mount(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount = mount.split(' ').nth(4)?;
        file_system.starts_with("resctrl ").then(|| mount.to_owned())
    })
}

impl Record {
    /// The record the group of `plan` will have.
    pub fn planned(plan: &ResctrlPlan, root: &str) -> Self {
        let class = match plan.class() {
            None => root.to_owned(),
            Some(name) => format!("{root}/{name}"),
        };
        let monitor = plan.monitoring.then(|| format!("{class}/mon_groups/{}", plan.id));
        Self { root: root.to_owned(), class, own: plan.own, monitor }
    }
}

impl Group {
    /// Makes what is missing and writes the schemata, before there is a process in it.
    ///
    /// # Errors
    /// A class that should exist and does not, or exists with other schemata; what the kernel refuses, in its words.
    pub fn create(plan: &ResctrlPlan, root: &str) -> Result<Self> {
        let mut group = Self { record: Record::planned(plan, root), made: Vec::new() };
        let filled = group.fill(plan);
        if filled.is_err() {
            group.undo();
        }
        filled.map(|()| group)
    }

    /// The group a state file describes.
    ///
    /// # Errors
    /// [`crate::Kind::Internal`] if the record is not one of ours.
    pub fn from_record(record: Record) -> Result<Self> {
        let below =
            |path: &str| Path::new(path).starts_with(&record.root) && !path.contains("/../");
        let clean = record.root.len() > 1
            && record.root.starts_with('/')
            && below(&record.class)
            && record.monitor.as_deref().is_none_or(below)
            && !(record.own && record.class == record.root);
        if !clean {
            return Err(Error::internal("the state file describes no resctrl group of ours")
                .path(&record.class)
                .hint("it is damaged, or of another runtime"));
        }
        Ok(Self { record, made: Vec::new() })
    }

    /// What to keep in the state file.
    pub fn record(&self) -> &Record {
        &self.record
    }

    fn fill(&mut self, plan: &ResctrlPlan) -> Result<()> {
        let class = self.record.class.clone();
        if plan.own {
            self.make(&class, FIELD)?;
        } else if !is_directory(&class)? {
            if plan.schemata.is_empty() {
                return Err(Error::config(format!(
                    "the class of service {:?} does not exist",
                    plan.class().unwrap_or("/")
                ))
                .path(&class)
                .field(CLOS_FIELD)
                .hint("make it, or give its schemata here"));
            }
            self.make(&class, CLOS_FIELD)?;
        } else if !plan.schemata.is_empty() {
            // Somebody else has set it up, and may have others in it: it is to be what is asked, not to become it.
            let path = format!("{class}/schemata");
            let present = fs::read_to_string(&path).on("read", &path)?;
            plan.schemata.compare(&present).map_err(|error| error.path(&path))?;
            return self.monitor();
        }
        self.write_schemata(&plan.schemata)?;
        self.monitor()
    }

    fn monitor(&mut self) -> Result<()> {
        match self.record.monitor.clone() {
            Some(directory) => self.make(&directory, "linux.intelRdt.enableMonitoring"),
            None => Ok(()),
        }
    }

    /// mkdir; one of that name that is left of an earlier container, and empty, will do.
    fn make(&mut self, directory: &str, field: &str) -> Result<()> {
        match fs::create_dir(directory).map_err(|error| io_errno(&error)) {
            Ok(()) => self.made.push(directory.to_owned()),
            // Not ours to take back: it was there before.
            Err(Errno::EEXIST) if has_no_tasks(directory) => {}
            Err(errno) => {
                let error = Error::os("mkdir", errno).path(directory).field(field);
                return Err(match errno {
                    Errno::EEXIST => error.hint("another container is in it"),
                    Errno::ENOSPC => error.hint(self.kernels_words().unwrap_or_else(|| {
                        "the hardware has no more of them: see info/*/num_closids and num_rmids"
                            .into()
                    })),
                    _ => error,
                });
            }
        }
        Ok(())
    }

    /// Writes schemata; nothing if there are none.
    fn write_schemata(&self, schemata: &Schemata) -> Result<()> {
        if schemata.is_empty() {
            return Ok(());
        }
        let path = format!("{}/schemata", self.record.class);
        let text = schemata.text();
        write(&path, &text).map_err(|errno| {
            let error = Error::os(format!("write {text:?} to"), errno).path(&path).field(FIELD);
            match self.kernels_words() {
                Some(words) => error.hint(words),
                None => error,
            }
        })
    }

    /// Why the last change was refused.
    fn kernels_words(&self) -> Option<String> {
        let words =
            fs::read_to_string(format!("{}/info/last_cmd_status", self.record.root)).ok()?;
        let words = words.trim();
        (!words.is_empty() && words != "ok").then(|| words.to_owned())
    }

    /// Changes the schemata of the class.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] for a resource this CPU cannot control; what the kernel refuses, in its words.
    pub fn update(&self, schemata: &Schemata) -> Result<()> {
        for (resource, words) in [
            ("L3", "Intel RDT/CAT: l3 cache schema is not enabled"),
            ("MB", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
        ] {
            let info = format!("{}/info/{resource}", self.record.root);
            if schemata.names(resource) && !is_directory(&info)? {
                return Err(Error::unsupported(words).field(FIELD));
            }
        }
        self.write_schemata(schemata)
    }

    /// The `tasks` files into each of which a new process writes `0`.
    ///
    /// # Errors
    /// The file that could not be opened.
    pub fn tasks(&self) -> Result<Vec<OwnedFd>> {
        // A monitoring group takes only tasks of its class.
        let directories = [Some(&self.record.class), self.record.monitor.as_ref()];
        let open = |directory: &String| {
            let path = format!("{directory}/tasks");
            let file = OpenOptions::new().write(true).open(&path);
            file.on("open", &path).map(OwnedFd::from)
        };
        directories.into_iter().flatten().map(open).collect()
    }

    /// Moves processes into it, for a container that was made without.
    ///
    /// # Errors
    /// Those of write(2); a process that has ended is none.
    pub fn adopt(&self, pids: &[i32]) -> Result<()> {
        let path = format!("{}/tasks", self.record.class);
        for pid in pids {
            match write(&path, &pid.to_string()) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::os("write", errno).path(&path).field(FIELD)),
            }
        }
        Ok(())
    }

    /// Takes back what this process has made; but for a class that others may join, and have by now.
    pub fn undo(&mut self) {
        for directory in std::mem::take(&mut self.made).into_iter().rev() {
            if !self.is_others(&directory) {
                let _best_effort = fs::remove_dir(directory);
            }
        }
    }

    fn is_others(&self, directory: &str) -> bool {
        !self.record.own && directory == self.record.class && has_tasks(directory)
    }

    /// Removes what a `create` that was killed may have made, unless somebody is in it.
    pub fn remove_unused(&self) {
        let class = self.record.own.then_some(&self.record.class);
        for directory in self.record.monitor.iter().chain(class) {
            if has_no_tasks(directory) {
                let _best_effort = fs::remove_dir(directory);
            }
        }
    }

    /// Removes what goes with the container: its monitoring group, and the class if it is its own. Processes still in it
    /// fall back to the class above.
    ///
    /// # Errors
    /// Those of rmdir(2); one that is gone is none.
    pub fn remove(&self) -> Result<()> {
        let class = self.record.own.then_some(&self.record.class);
        for directory in self.record.monitor.iter().chain(class) {
            match fs::remove_dir(directory) {
                Err(error) if io_errno(&error) == Errno::ENOENT => {}
                other => other.on("rmdir", directory)?,
            }
        }
        Ok(())
    }
}

fn is_directory(path: &str) -> Result<bool> {
    match fs::metadata(path) {
        Err(error) if io_errno(&error) == Errno::ENOENT => Ok(false),
        other => other.map(|found| found.is_dir()).on("stat", path),
    }
}

fn has_tasks(directory: &str) -> bool {
    fs::read(PathBuf::from(directory).join("tasks")).is_ok_and(|tasks| !tasks.is_empty())
}

fn has_no_tasks(directory: &str) -> bool {
    fs::read(PathBuf::from(directory).join("tasks")).is_ok_and(|tasks| tasks.is_empty())
}

/// One write(2): the lines of a schemata file are one command.
fn write(path: &str, text: &str) -> nix::Result<()> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| io_errno(&error))
}

#[cfg(test)]
mod tests;
