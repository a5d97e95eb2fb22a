//! Handing the cgroup to the container's own root (config-linux.md "Cgroup ownership"), and crun's
//! `run.oci.delegate-cgroup`: one below it that has all controllers and no limit, and that the container divides as it likes.

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, chown, mkdir};

use super::systemd::subgroup;
use super::{Cgroup, Host, file};
use crate::error::Context;
use crate::spec::annotations::DELEGATE_CGROUP;
use crate::spec::{Map, Str};
use crate::{Error, Result};

/// What the kernel lists in `/sys/kernel/cgroup/delegate` since 4.15, for where that cannot be read.
const FILES: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/// The cgroup that [`DELEGATE_CGROUP`] names, below the container's and without a slash at either end.
///
/// # Errors
/// [`crate::Kind::Config`] for what is no path of cgroups; [`crate::Kind::Unsupported`] on version 1, where delegation is
/// not safe.
pub(super) fn wanted(
    annotations: Option<&Map<'_, Str<'_>>>,
    host: &Host,
) -> Result<Option<String>> {
    let Some(path) = annotations.and_then(|all| all.get(DELEGATE_CGROUP)) else { return Ok(None) };
    let field = |error: Error| error.field(format!("annotations[{DELEGATE_CGROUP:?}]"));
    if path.is_empty() {
        return Ok(None);
    }
    // A dot alone, and two of them, are no names either.
    let parts = path.split('/').filter(|part| !part.is_empty());
    let parts = parts.map(subgroup).collect::<Result<Vec<_>>>().map_err(field)?;
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() || path.len() > 1024 {
        return Err(field(Error::config(format!("{:?} names no cgroup", path.as_str()))));
    }
    if !host.is_v2() {
        let error = Error::unsupported("a cgroup can be delegated on version 2 alone");
        return Err(field(error).hint("on version 1 delegation is not safe: leave it out"));
    }
    Ok(Some(parts.join("/")))
}

impl Cgroup {
    /// Makes `uid` of the host the owner of the directory and of the files that manage what is below it, so that an
    /// init such as systemd can. The limits stay the host's. Version 1 is never delegated.
    ///
    /// # Errors
    /// The file whose owner could not be changed.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        match (self.is_v2(), self.place()) {
            (true, Some(directory)) => give(&directory, uid),
            _ => Ok(()),
        }
    }

    /// Makes the cgroup of [`DELEGATE_CGROUP`], moves all there who are in the container's, turns on for it all controllers
    /// that the container's has, and hands it to `owner`, a user of the host.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] where the container has no cgroup of its own; else what could not be made or written.
    pub fn enter_delegated(&self, owner: Option<u32>) -> Result<()> {
        let field = |error: Error| error.field(format!("annotations[{DELEGATE_CGROUP:?}]"));
        let (Some(name), Some(top)) = (&self.record.delegate, self.place()) else {
            let none = Error::unsupported("the container has no cgroup to delegate another from");
            return Err(field(none));
        };
        let mut levels = vec![top];
        for part in name.split('/') {
            let above = levels.last().map_or("", String::as_str);
            let directory = format!("{above}/{part}");
            match mkdir(directory.as_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => levels.push(directory),
                Err(errno) => return Err(field(Error::os("mkdir", errno).path(directory))),
            }
        }
        let Some(directory) = levels.pop() else { return Ok(()) };
        let top = levels.first().map_or("", String::as_str);
        move_all(&format!("{top}/cgroup.procs"), &format!("{directory}/cgroup.procs"))
            .map_err(field)?;
        // Only now: no cgroup with processes can have children with controllers.
        for above in &levels {
            turn_on(above).map_err(field)?;
        }
        owner.map_or(Ok(()), |uid| give(&directory, uid)).map_err(field)
    }

    /// The directory of version 2 that the first process is born in.
    pub(super) fn place(&self) -> Option<String> {
        let directory = self.v2()?;
        Some(match self.below() {
            Some(below) => format!("{directory}/{below}"),
            None => directory,
        })
    }
}

fn give(directory: &str, uid: u32) -> Result<()> {
    let owner = Some(Uid::from_raw(uid));
    let give = |path: &str| match chown(path, owner, None) {
        // The list names files of controllers that are off.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::os("chown", errno).path(path)),
    };
    give(directory)?;
    let list = file::read("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| FILES.to_owned());
    for name in list.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
        give(&format!("{directory}/{name}"))?;
    }
    Ok(())
}

/// Moves the processes listed in the one file to the other's cgroup; those that come meanwhile as well, up to a point.
fn move_all(from: &str, to: &str) -> Result<()> {
    for _ in 0..10 {
        let list = file::read(from).on("read", from)?;
        if list.is_empty() {
            break;
        }
        for pid in list.lines() {
            match file::write(to, pid) {
                // It has ended.
                Err(Errno::ESRCH) => {}
                other => other.on("move a process to", to)?,
            }
        }
    }
    Ok(())
}

/// Turns on below `directory` every controller it has, but for those the kernel does not hand down here.
fn turn_on(directory: &str) -> Result<()> {
    let list = format!("{directory}/cgroup.controllers");
    let list = file::read(&list).on("read", &list)?;
    let path = format!("{directory}/cgroup.subtree_control");
    let all: Vec<String> = list.split_whitespace().map(|name| format!("+{name}")).collect();
    if all.is_empty() || file::write(&path, &all.join(" ")).is_ok() {
        return Ok(());
    }
    for name in all {
        // Somebody is in it still: then there can be none. Else it is this one that cannot.
        if file::write(&path, &name) == Err(Errno::EBUSY) {
            return Err(Error::os("turn controllers on", Errno::EBUSY).path(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_for_old_kernels_is_in_that_of_this_one() {
        // Where it does not say, there is nothing to compare with.
        let kernels =
            file::read("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| FILES.to_owned());
        let kernels: Vec<&str> = kernels.lines().collect();
        assert!(FILES.lines().all(|name| kernels.contains(&name)), "{kernels:?}");
        // The limits are not among them.
        assert!(!FILES.contains("max") && !FILES.contains("weight"));
    }
}
