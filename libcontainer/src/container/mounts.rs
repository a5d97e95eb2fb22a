//! The mounts of a container that exists.

use super::{Container, Status, not_running};
use crate::error::Result;
use crate::launch;
use crate::spec::Mount;

impl Container<'_> {
    /// Makes mounts in it, all or none.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`](crate::Kind::Lifecycle) if it does not run; the mount that could not be made.
    pub fn add_mounts(&self, mounts: Vec<Mount<'_>>) -> Result<()> {
        match self.status()? {
            Status::Stopped | Status::Creating => Err(not_running()),
            _ => launch::add_mounts(&self.target(), mounts),
        }
    }

    /// Detaches what is mounted at the destinations of `mounts`, all or none.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`](crate::Kind::Lifecycle) if it does not run; the destination on which nothing is mounted.
    pub fn remove_mounts(&self, mounts: &[Mount<'_>]) -> Result<()> {
        match self.status()? {
            Status::Stopped | Status::Creating => Err(not_running()),
            _ => launch::remove_mounts(&self.target(), mounts),
        }
    }
}
