//! What the command line asks of a conversion. Every field that is empty leaves it to the image.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What is wanted instead of what the image or the defaults say.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Arguments, in place of `Cmd`.
    pub args: Option<Vec<String>>,
    /// `--entrypoint`, in place of `Entrypoint` and `Cmd`; an empty one is none.
    pub entrypoint: Option<Vec<String>>,
    /// `--user`, in place of `User`, in the same words.
    pub user: Option<String>,
    /// `--env`, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// `--workdir`, in place of `WorkingDir`.
    pub workdir: Option<String>,
    /// `--mount`, as [`mounts::parse`](super::mounts::parse) reads it.
    pub mounts: Vec<Value>,
    /// `--net`.
    pub network: Network,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--tty`.
    pub terminal: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `--caps`.
    pub capabilities: Capabilities,
    /// `--no-new-privileges`; `None` goes with the capabilities.
    pub no_new_privileges: Option<bool>,
    /// `--seccomp`.
    pub seccomp: Seccomp,
    /// `--volumes`.
    pub volumes: Volumes,
    /// `--allow-annotations`: labels that a runtime acts upon become annotations as the others do.
    pub allow_annotations: bool,
    /// `--annotation`, each a key and a value.
    pub annotations: Vec<(String, String)>,
    /// `--config-from`: the document to start from in place of the defaults.
    pub base: Option<Map<String, Value>>,
    /// The user namespace of the container; `None` for no new one.
    pub mapping: Option<Mapping>,
    /// Whether the host's cgroups are one hierarchy, where a cgroup namespace does what it says.
    pub unified: bool,
}

/// `--net`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// A network namespace with a loopback device and nothing else.
    #[default]
    None,
    /// The host's.
    Host,
}

/// `--caps`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Capabilities {
    /// The fourteen that Docker gives, with which nearly every image works.
    #[default]
    Docker,
    /// The three that `spec` gives.
    Minimal,
    /// None at all.
    None,
}

impl Capabilities {
    /// The names, sorted.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &[
                "CAP_AUDIT_WRITE",
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_MKNOD",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_SETFCAP",
                "CAP_SETGID",
                "CAP_SETPCAP",
                "CAP_SETUID",
                "CAP_SYS_CHROOT",
            ],
            Self::Minimal => &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            Self::None => &[],
        }
    }
}

/// `--seccomp`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Seccomp {
    /// [`seccomp::profile`](super::seccomp::profile).
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// What a file says: the object `linux.seccomp` of config.json.
    Profile(Value),
}

/// `--volumes`: what becomes of the image's `Volumes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volumes {
    /// A tmpfs each, which starts with what the image has there.
    #[default]
    Tmpfs,
    /// Nothing: they are directories of the root filesystem.
    Ignore,
}

/// One range of ids (config-linux.md "User namespace mappings").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id in the container.
    pub container: u32,
    /// First id on the host.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl IdMap {
    /// Reads `CONTAINER:HOST[:SIZE]`, as umoci's `--uid-map` takes it.
    ///
    /// # Errors
    /// What is no such range, or one that leaves the 32 bits of an id.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::usage(format!("{text:?} is no mapping CONTAINER:HOST[:SIZE]"));
        let mut fields = text.split(':').map(|field| {
            let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| field.parse::<u32>().ok()).flatten().ok_or_else(bad)
        });
        let container = fields.next().ok_or_else(bad)??;
        let host = fields.next().ok_or_else(bad)??;
        let size = fields.next().transpose()?.unwrap_or(1);
        let end = |first: u32| first.checked_add(size).is_some();
        if fields.next().is_some() || size == 0 || !end(container) || !end(host) {
            return Err(bad());
        }
        Ok(Self { container, host, size })
    }
}

/// The ids of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// `linux.uidMappings`.
    pub uids: Vec<IdMap>,
    /// `linux.gidMappings`.
    pub gids: Vec<IdMap>,
    /// Whether a user without privilege made it: no setgroups(2), no limits.
    pub rootless: bool,
}

impl Mapping {
    /// One id, the caller's own, as root: all that user_namespaces(7) lets a user map without help.
    #[must_use]
    pub fn single(uid: u32, gid: u32) -> Self {
        let one = |host| vec![IdMap { container: 0, host, size: 1 }];
        Self { uids: one(uid), gids: one(gid), rootless: true }
    }

    /// The container's id for the host's `id`.
    #[must_use]
    pub fn inside(map: &[IdMap], id: u32) -> Option<u32> {
        map.iter().find_map(|range| {
            let offset = id.checked_sub(range.host)?;
            (offset < range.size).then(|| range.container.checked_add(offset)).flatten()
        })
    }

    /// Whether the container has the id `id`.
    #[must_use]
    pub fn has(map: &[IdMap], id: u32) -> bool {
        map.iter()
            .any(|range| id.checked_sub(range.container).is_some_and(|offset| offset < range.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_stays_in_the_ids_there_are() {
        assert_eq!(
            IdMap::parse("0:100000:65536").unwrap(),
            IdMap { container: 0, host: 100_000, size: 65536 }
        );
        assert_eq!(IdMap::parse("5:6").unwrap().size, 1);
        for bad in [
            "",
            "0",
            "0:0:0",
            "0:4294967295:2",
            "-1:0:1",
            "+1:0:1",
            "0:0:1:2",
            "a:b",
            "0::1",
            "4294967296:0:1",
        ] {
            assert!(IdMap::parse(bad).is_err(), "{bad}");
        }
        let map = [
            IdMap { container: 0, host: 1000, size: 1 },
            IdMap { container: 1, host: 100_000, size: 10 },
        ];
        assert_eq!(Mapping::inside(&map, 1000), Some(0));
        assert_eq!(Mapping::inside(&map, 100_009), Some(10));
        assert_eq!(Mapping::inside(&map, 100_010), None);
        assert!(Mapping::has(&map, 10) && !Mapping::has(&map, 11));
    }
}
