//! Checkpoint and restore: CRIU does both, asked over its RPC (`criu swrk`, criu.org/RPC).
//!
//! CRIU is a program of the host that is started for one request; nothing of it is linked. What it is asked is told by
//! [`crate::container`] for a checkpoint and by [`crate::launch`] for a restore; here is what both share.

mod cgroups;
pub mod external;
mod failure;
pub mod message;
mod places;
pub(crate) mod session;
mod trust;
mod wire;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::spec::{Spec, annotations};
pub(crate) use cgroups::forget_others;
use message::{Opts, Switch};
pub(crate) use places::Places;
pub use session::Session;

/// What CRIU reads where the configuration names no file of options.
const CONFIG_FILES: &[&str] = &["/etc/criu/skep.conf", "/etc/criu/runc.conf"];

/// The file among the images that says what the standard streams were.
pub(crate) const STREAMS: &str = "descriptors.json";

/// What CRIU does with cgroups (`--manage-cgroups-mode`): `criu_cg_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing.
    Ignore = 0,
    /// It makes those that are missing, with their properties.
    Soft = 3,
    /// The properties of those that are there as well.
    Full = 4,
    /// None may be there yet.
    Strict = 5,
}

/// How packets are kept away from connections (`--network-lock`): `criu_network_lock_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkLock {
    /// With iptables(8).
    Iptables = 1,
    /// With nft(8).
    Nftables = 2,
    /// Not at all.
    Skip = 3,
}

/// What `checkpoint` and `restore` are both asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--criu`: a path, or a name to be looked for.
    pub program: OsString,
    /// `$PATH`.
    pub search: OsString,
    /// `--image-path`; absolute.
    pub images: PathBuf,
    /// `--work-path`; absolute.
    pub work: Option<PathBuf>,
    /// What is switched on.
    pub switches: Vec<Switch>,
    /// `--manage-cgroups-mode`.
    pub cgroups: Option<CgroupMode>,
    /// `--network-lock`.
    pub network_lock: Option<NetworkLock>,
    /// `--empty-ns network`.
    pub empty_network: bool,
}

impl Options {
    /// Whether `switch` is on.
    pub fn has(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// Asks for all of it, with `spec`'s file of more options.
    pub(crate) fn ask(&self, opts: &mut Opts, places: &Places, spec: &Spec<'_>) {
        opts.images(places.images());
        if let Some(work) = places.work() {
            opts.work(work);
        }
        opts.log(places.log, 4);
        for switch in &self.switches {
            opts.switch(*switch);
        }
        for always in [Switch::NotifyScripts, Switch::OrphanPtsMaster, Switch::ManageCgroups] {
            opts.switch(always);
        }
        if let Some(mode) = self.cgroups {
            opts.cgroups_mode(mode as u32);
        }
        if let Some(method) = self.network_lock {
            opts.network_lock(method as u32);
        }
        if self.empty_network {
            opts.empty_namespaces(libc::CLONE_NEWNET.cast_unsigned());
        }
        if let Some(file) = config_file(spec) {
            opts.config_file(file.as_bytes());
        }
    }
}

/// The file of options that CRIU reads besides: what the configuration names, or else one of the host's.
fn config_file(spec: &Spec<'_>) -> Option<String> {
    if let Some(file) = spec.annotations.get(annotations::CRIU_CONFIG) {
        return Some(file.to_string()).filter(|file| !file.is_empty());
    }
    let there = |path: &&&str| std::fs::metadata(path).is_ok_and(|file| file.is_file());
    CONFIG_FILES.iter().find(there).map(|path| (*path).to_owned())
}

/// Checks that a container of `spec` could be restored, as far as that is up to its configuration.
///
/// # Errors
/// [`crate::Kind::Unsupported`] for what CRIU does not bring back.
pub(crate) fn check_restorable(spec: &Spec<'_>) -> Result<()> {
    let Some(linux) = &spec.linux else { return Ok(()) };
    if linux.intel_rdt.is_some() {
        return Err(Error::unsupported("CRIU cannot restore into a class of service")
            .field("linux.intelRdt"));
    }
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let joined = namespace.path.as_deref().filter(|path| !path.is_empty());
        if let (Some(path), "cgroup" | "time") = (joined, namespace.kind.as_str()) {
            return Err(Error::unsupported("CRIU cannot restore into such a namespace")
                .path(path)
                .field(format!("linux.namespaces[{index}]")));
        }
    }
    Ok(())
}

/// What a restore will not bring back of a container of `spec`, a sentence each.
pub(crate) fn losses(spec: &Spec<'_>) -> impl Iterator<Item = String> {
    // CRIU makes the groups of shared mounts anew, and of what is outside it only joins masters.
    let shared = |option: &str| matches!(option, "shared" | "rshared");
    let mounts = spec.mounts.iter().enumerate();
    let lost = mounts.filter(move |(_, mount)| {
        external::is_bind(mount) && mount.options.iter().any(|option| shared(option.as_str()))
    });
    lost.map(|(index, mount)| {
        let destination = mount.destination.as_str();
        format!(
            "once restored, {destination:?} (config.json: mounts[{index}]) shares no mounts with the \
             host any more; rslave lets in what the host mounts there"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_restored_is_told_before_it_is_saved() {
        let check = |linux: &str| {
            let text = format!(r#"{{"ociVersion": "1.0.0", "linux": {linux}}}"#);
            check_restorable(&serde_json::from_str(&text).unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            check(r#"{"namespaces": [{"type": "time"}, {"type": "cgroup", "path": ""}]}"#),
            Ok(())
        );
        let refused = check(r#"{"namespaces": [{"type": "pid"}, {"type": "time", "path": "/t"}]}"#);
        assert!(refused.unwrap_err().contains("\"/t\" (config.json: linux.namespaces[1])"));
        assert!(check(r#"{"intelRdt": {}}"#).unwrap_err().contains("linux.intelRdt"));
    }
}
