//! What a process needs to enter the cgroup by itself.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Cgroup, Driver, Member, file, path};
use crate::error::Context;
use crate::{Error, Result};

/// Descriptors for a process that is about to be cloned. Both are empty with [`Driver::Disabled`]; on a hybrid host
/// both are used.
#[derive(Debug, Default)]
pub struct Join {
    /// The directory to be born in: clone3(2) with `CLONE_INTO_CGROUP` (version 2).
    pub into: Option<OwnedFd>,
    /// Files into each of which the new process writes `0` before it unshares its cgroup namespace (version 1).
    pub tasks: Vec<OwnedFd>,
}

impl Cgroup {
    /// Opens the cgroup for the container's first process.
    ///
    /// # Errors
    /// The directory or `tasks` file that could not be opened.
    pub fn join(&self) -> Result<Join> {
        self.open_all(&|_| None)
    }

    /// Opens the cgroup for another process, or the sub-cgroups that `arguments`, the values of `exec --cgroup`,
    /// name: one `PATH`, or on version 1 any number of `CONTROLLER[,CONTROLLER]:PATH`. They must exist.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for a malformed argument or a path that leaves the cgroup; what could not be opened.
    pub fn join_exec(&self, arguments: &[&str]) -> Result<Join> {
        if arguments.is_empty() || self.record.driver == Driver::Disabled {
            return self.join_delegated();
        }
        let paths = parse(arguments)?;
        for name in paths.keys().filter(|name| !name.is_empty()) {
            if self.is_v2() || !self.record.hierarchies.iter().any(|member| member.has(name)) {
                return Err(Error::config(format!("unknown controller {name} in --cgroup")));
            }
        }
        self.open_all(&|member| {
            let own = member.controllers.split(',').find_map(|name| paths.get(name));
            own.or_else(|| paths.get("")).cloned()
        })
    }

    /// The container's own, or the one below it that its processes have been moved to, if they have left that there.
    fn join_delegated(&self) -> Result<Join> {
        if let (Some(directory), Some(name)) = (self.place(), &self.record.delegate)
            && let Ok(directory) = open_path(&format!("{directory}/{name}"))
        {
            return Ok(Join { into: Some(directory), tasks: Vec::new() });
        }
        self.join()
    }

    /// Opens the version 2 cgroup `pid` is in now. An init such as systemd moves itself into a cgroup below and turns
    /// on controllers above it, after which nobody can be born in the container's own (EBUSY, "no internal
    /// processes"). On version 1 there is no such rule: the same as [`Cgroup::join`].
    ///
    /// # Errors
    /// What could not be read or opened.
    pub fn join_of(&self, pid: i32) -> Result<Join> {
        let Some(member) = self.record.hierarchies.iter().find(|member| member.is_v2()) else {
            return self.join();
        };
        if !self.is_v2() {
            return self.join();
        }
        let source = format!("/proc/{pid}/cgroup");
        let text = file::read(&source).on("read", &source)?;
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or_else(|| Error::internal("there is no cgroup v2 in").path(&source))?;
        let directory = format!("{}{}", member.mount, path::clean(path));
        Ok(Join { into: Some(open_path(&directory)?), tasks: Vec::new() })
    }

    /// Moves `pid` into the cgroup: a process of somebody else's program, which does not join by itself.
    ///
    /// # Errors
    /// The failed write.
    pub fn adopt(&self, pid: nix::unistd::Pid) -> Result<()> {
        for member in &self.record.hierarchies {
            let path = format!("{}/cgroup.procs", self.directory(member));
            file::write(&path, &pid.to_string()).on("write", &path)?;
        }
        Ok(())
    }

    /// The container's path in every hierarchy there is, as (controller, path); in those that it has no directory in, this
    /// process's.
    ///
    /// # Errors
    /// The failed read.
    pub fn roots(&self) -> Result<Vec<(String, String)>> {
        let source = "/proc/self/cgroup";
        let text = file::read(source).on("read", source)?;
        let mut roots = Vec::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else { continue };
            for controller in controllers.split(',') {
                let path = if self.has(controller) { self.path() } else { own };
                roots.push((controller.to_owned(), path.to_owned()));
            }
        }
        Ok(roots)
    }

    /// Whether the container has a directory in the hierarchy of this controller, or of version 2 if it is empty.
    pub fn has(&self, controller: &str) -> bool {
        self.record.hierarchies.iter().any(|member| match controller {
            "" => member.is_v2(),
            controller => member.has(controller),
        })
    }

    /// Says why clone3(2) with [`Join::into`], or the write to one of [`Join::tasks`], failed.
    pub fn join_error(&self, errno: Errno) -> Error {
        let error = Error::os("enter the cgroup", errno);
        let Some(directory) = self.main() else { return error };
        let has = |name: &str, value: &str| {
            file::read(&format!("{directory}/{name}")).is_ok_and(|text| text.trim() == value)
        };
        match errno {
            Errno::EOPNOTSUPP if has("cgroup.type", "domain invalid") => Error::os(
                format!(
                    "cannot enter cgroupv2 {directory:?} with domain controllers -- it is in an \
                     invalid state"
                ),
                errno,
            )
            .hint("the cgroup above it is threaded"),
            Errno::EBUSY => error
                .path(directory)
                .hint("cgroups below it have controllers, so it may hold no processes itself"),
            Errno::EAGAIN => {
                error.path(directory).hint("the limit of processes (pids.max) is reached")
            }
            Errno::ENOSPC => error.path(directory).hint("its cpuset has no CPUs or memory nodes"),
            Errno::ENODEV | Errno::ENOENT => {
                error.path(directory).hint("the cgroup was removed behind our back")
            }
            _ => error.path(directory),
        }
    }

    fn open_all(&self, below: &dyn Fn(&Member) -> Option<String>) -> Result<Join> {
        let mut join = Join::default();
        for member in &self.record.hierarchies {
            let mut directory = self.directory(member);
            if let (Some(own), true) = (self.below(), member.is_v2()) {
                directory.push('/');
                directory.push_str(own);
            }
            let sub = below(member).filter(|sub| sub != "/");
            if let Some(sub) = &sub {
                directory.push_str(sub);
            }
            if !member.is_v2() {
                // What a killed `update` has made and not filled: nobody can enter a cpuset without CPUs.
                if sub.is_none() && !self.fresh && member.has("cpuset") && is_unfilled(&directory) {
                    continue;
                }
                let tasks = format!("{directory}/tasks");
                let opened = file::open_with(&tasks, OFlag::O_WRONLY).on("open", &tasks);
                join.tasks.push(match opened {
                    // An `update` that was killed has noted the hierarchy and not entered it.
                    Err(error)
                        if sub.is_none()
                            && member.is_optional()
                            && error.raw_errno() == Some(Errno::ENOENT) =>
                    {
                        continue;
                    }
                    Err(error) if sub.is_some() && error.raw_errno() == Some(Errno::ENOENT) => {
                        return Err(no_such_cgroup(&directory));
                    }
                    other => other?,
                });
                continue;
            }
            join.into = match open_path(&directory) {
                // Whoever made sub-cgroups on a hybrid host made them where the controllers are.
                Err(error)
                    if !self.is_v2()
                        && sub.is_some()
                        && error.raw_errno() == Some(Errno::ENOENT) =>
                {
                    Some(open_path(&self.directory(member))?)
                }
                Err(error) if sub.is_some() && error.raw_errno() == Some(Errno::ENOENT) => {
                    return Err(no_such_cgroup(&directory));
                }
                result => Some(result?),
            };
        }
        Ok(join)
    }
}

/// Whether it is a cpuset that has no CPUs or nodes yet.
fn is_unfilled(directory: &str) -> bool {
    let is_empty = |name: &str| {
        file::read(&format!("{directory}/{name}")).is_ok_and(|text| text.trim().is_empty())
    };
    is_empty("cpuset.cpus") || is_empty("cpuset.mems")
}

/// In runc's words, which has cloned the process by then and moves it.
fn no_such_cgroup(directory: &str) -> Error {
    let pid = std::process::id();
    let words = format!("adding pid {pid} to cgroups: openat2 {directory}/cgroup.procs");
    Error::os(words, Errno::ENOENT)
        .hint("exec --cgroup takes a cgroup that exists below the container's")
}

fn open_path(directory: &str) -> Result<OwnedFd> {
    file::open_with(directory, OFlag::O_PATH | OFlag::O_DIRECTORY).on("open", directory)
}

/// Controller to path, the empty name for a path without controllers.
fn parse(arguments: &[&str]) -> Result<BTreeMap<String, String>> {
    let bad = |argument: &str, why: &str| {
        Error::config(format!("invalid --cgroup argument: {argument} ({why})"))
    };
    let mut paths = BTreeMap::new();
    for argument in arguments {
        let (controllers, path) = match argument.split_once(':') {
            Some((controllers, _)) if controllers.split(',').any(str::is_empty) => {
                return Err(bad(argument, "empty <controller> prefix"));
            }
            Some((controllers, path)) => (controllers, path),
            None if arguments.len() > 1 => {
                return Err(bad(argument, "missing <controller>: prefix"));
            }
            None => ("", *argument),
        };
        if path.split('/').any(|part| part == "..") {
            return Err(Error::config(format!("{path} is not a sub cgroup path")));
        }
        for name in controllers.split(',') {
            if paths.insert(name.to_owned(), path::clean(path)).is_some() {
                return Err(bad(argument, &format!("controller {name} specified multiple times")));
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_exec_cgroup_are_runcs() {
        let one = parse(&["sub/./deep"]).unwrap();
        assert_eq!(one, BTreeMap::from([(String::new(), "/sub/deep".to_owned())]));
        let many = parse(&["cpu,cpuacct:/a", "memory:b"]).unwrap();
        assert_eq!(many.len(), 3);
        assert_eq!(many["cpuacct"], "/a");
        assert_eq!(many["memory"], "/b");
        for (bad, words) in [
            (&["a", "b"][..], "missing <controller>: prefix"),
            (&[":a"], "empty <controller> prefix"),
            (&["cpu,:a"], "empty <controller> prefix"),
            (&["cpu:a", "cpu:b"], "controller cpu specified multiple times"),
            (&["../x"], "../x is not a sub cgroup path"),
            (&["cpu:a/../../b"], "is not a sub cgroup path"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
