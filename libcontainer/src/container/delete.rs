//! Taking a container away: what `create` made for it, whatever became of it since.

use super::{Container, Saved, Status, end};
use crate::bundle;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::Phase;
use crate::id::ContainerId;
use crate::launch::{Launched, Others, cgroup_of};
use crate::log::Log;
use crate::resctrl;
use crate::store::{self, StateDir, Store};

/// Deletes the container `id`; with `force`, whatever its state, and nothing there is a success.
///
/// # Errors
/// [`Kind::Lifecycle`] if it still runs and `force` was not asked; what could not be removed.
pub fn delete(store: &Store, id: &ContainerId, force: bool, log: &dyn Log) -> Result<()> {
    let state = match store.open(id) {
        Err(error) if error.kind() == Kind::NotFound && force => return Ok(()),
        other => other?,
    };
    delete_locked(state, store, id, force, None, log)
}

/// Deletes the container of a foreground `run` whose init this process has reaped. Nothing there any more is a success.
///
/// # Errors
/// Those of [`delete`].
pub fn delete_ended(
    launched: Launched,
    store: &Store,
    id: &ContainerId,
    log: &dyn Log,
) -> Result<()> {
    delete_locked(launched.state, store, id, true, Some(Status::Stopped), log)
}

/// Deletes a container that was opened locked, and whose processes a checkpoint has ended. That is made already: what
/// stays of the container is only a warning.
pub fn delete_checkpointed(saved: &Saved, store: &Store, id: &ContainerId, log: &dyn Log) {
    let others = Others::new(store, id);
    let container = saved.container();
    let deleted = container.and_then(|it| it.delete_in(Status::Stopped, false, &others, log));
    if let Err(error) = deleted {
        log.warn(&format!("the checkpoint is made, but the container not deleted: {error}"));
    }
}

fn delete_locked(
    state: StateDir,
    store: &Store,
    id: &ContainerId,
    force: bool,
    known: Option<Status>,
    log: &dyn Log,
) -> Result<()> {
    match state.lock() {
        Err(error) if error.kind() == Kind::NotFound && force => return Ok(()),
        other => other?,
    }
    let others = Others::new(store, id);
    let saved = match state.load() {
        Ok(bytes) => Saved { state, bytes },
        // A create that was killed half-way.
        Err(error) if error.kind() == Kind::NotFound && force => {
            return remove_damaged(&state, &others, None);
        }
        Err(error) => return Err(error),
    };
    let container = match saved.container() {
        Err(error) if force => {
            log.warn(&error.to_string());
            return remove_damaged(&saved.state, &others, Some(&saved.bytes));
        }
        other => other?,
    };
    let status = known.map_or_else(|| container.status(), Ok)?;
    container.delete_in(status, force, &others, log)
}

impl Container<'_> {
    /// Removes what is left of the container: cgroup, directory; and runs the poststop hooks, whose failure is only
    /// a warning.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`] if it still runs and `force` was not asked; what could not be removed.
    fn delete_in(
        &self,
        status: Status,
        force: bool,
        others: &Others<'_>,
        log: &dyn Log,
    ) -> Result<()> {
        match status {
            Status::Stopped => {}
            // A create that was killed, for a living one has the lock.
            Status::Creating if force && self.record.pid == 0 => {
                others.clear(&self.cgroup.clone().planned(), true)?;
                if let Some(group) = self.resctrl()? {
                    group.remove_unused();
                }
                return self.state.remove();
            }
            // Nothing of the user's has run yet.
            Status::Created => self.kill_all()?,
            _ if force => self.kill_all()?,
            _ => {
                return Err(Error::lifecycle(format!(
                    "cannot delete container {} that is not stopped: {}",
                    self.record.id,
                    status.name()
                ))
                .hint("kill it first, or use --force"));
            }
        }
        let config = if self.record.hooks { Some(self.config()) } else { None };
        // The directory goes only when the cgroup has: else nobody could find it again. Without a pid namespace others may
        // have outlived init.
        others.clear(&self.cgroup, force || !self.record.has_own_pids())?;
        if let Some(group) = self.resctrl()? {
            group.remove()?;
        }
        self.state.remove()?;
        let Some(config) = config else { return Ok(()) };
        let stopped = config.and_then(|config| {
            let spec = bundle::parse(&config)?;
            self.run_hooks(&spec, Phase::Poststop, "stopped", 0)
        });
        if let Err(error) = stopped {
            log.warn(&error.to_string());
        }
        Ok(())
    }
}

/// Removes a container whose record cannot be read: where its cgroup is, what is left of that says; else its
/// configuration; where that is damaged too, it is looked for below its id.
///
/// `create` has looked whether that cgroup is free before it wrote the configuration, and what that does not say, such as
/// another cgroup driver, it has recorded by then. So without either there is no cgroup, and else it is this one's, unless
/// another container has taken it since.
fn remove_damaged(state: &StateDir, others: &Others<'_>, record: Option<&[u8]>) -> Result<()> {
    let recorded = record.and_then(store::find_cgroup).map(Cgroup::from_record);
    let cgroup = match recorded {
        Some(Ok(cgroup)) => cgroup,
        _ => {
            let config = state.read(store::CONFIG)?.unwrap_or_default();
            let spec = match bundle::parse(&config) {
                Err(_incomplete) if record.is_none() => return state.remove(),
                other => other.unwrap_or_default(),
            };
            cgroup_of(&spec, others.id())?
        }
    };
    others.clear(&cgroup, true)?;
    // One without a cgroup has nothing else that could be found; its processes end with it if it has its own pids.
    let init = record.and_then(store::find_init);
    if let Some(init) = init.map(|init| init.pidfd().doing("pidfd_open")).transpose()?.flatten() {
        end(&init, &cgroup)?;
    }
    if let Some(Ok(group)) = record.and_then(store::find_resctrl).map(resctrl::Group::from_record) {
        group.remove_unused();
    }
    state.remove()
}
