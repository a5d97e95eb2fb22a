//! Handing the cgroup to the container's own root (config-linux.md "Cgroup ownership").

use nix::errno::Errno;
use nix::unistd::{Uid, chown};

use super::{Cgroup, file};
use crate::{Error, Result};

/// What the kernel lists in `/sys/kernel/cgroup/delegate` since 4.15, for where that cannot be read.
const FILES: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Makes `uid` of the host the owner of the directory and of the files that manage what is below it, so that an
    /// init such as systemd can. The limits stay the host's. Version 1 is never delegated.
    ///
    /// # Errors
    /// The file whose owner could not be changed.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let (true, Some(mut directory)) = (self.is_v2(), self.v2()) else { return Ok(()) };
        if let Some(below) = self.below() {
            directory = format!("{directory}/{below}");
        }
        let owner = Some(Uid::from_raw(uid));
        let give = |path: &str| match chown(path, owner, None) {
            // The list names files of controllers that are off.
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::os("chown", errno).path(path)),
        };
        give(&directory)?;
        let list = file::read("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| FILES.to_owned());
        for name in list.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
            give(&format!("{directory}/{name}"))?;
        }
        Ok(())
    }
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
