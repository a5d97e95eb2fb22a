//! Capability names and sets (capabilities(7)).

use std::collections::BTreeSet;

use crate::spec;
use crate::sys::creds::CapSet;

/// Every capability this runtime knows, in the order of their numbers.
pub const NAMES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// `CAP_SETPCAP`'s number.
pub const SETPCAP: u32 = 8;
/// `CAP_SYS_ADMIN`'s number.
pub const SYS_ADMIN: u32 = 21;

/// The set that holds only capability number `cap`.
pub const fn bit(cap: u32) -> CapSet {
    1 << cap
}

/// The number of a capability, by name, with or without `CAP_`, in any case.
pub fn number(name: &str) -> Option<u32> {
    let bare = |name: &str| name.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("CAP_"));
    let short = if bare(name) { name.get(4..).unwrap_or_default() } else { name };
    NAMES
        .iter()
        .position(|known| known.get(4..).is_some_and(|known| known.eq_ignore_ascii_case(short)))
        .and_then(|position| u32::try_from(position).ok())
}

/// The five sets a process starts with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// Limit of what any process inside can gain.
    pub bounding: CapSet,
    /// What the kernel checks.
    pub effective: CapSet,
    /// Kept over an execve of a file with inheritable capabilities.
    pub inheritable: CapSet,
    /// What may become effective.
    pub permitted: CapSet,
    /// Kept over an execve of an ordinary file.
    pub ambient: CapSet,
}

impl CapSets {
    /// Reads the sets. A name nobody knows is left out and warned of, once (config.md "capabilities": SHOULD NOT fail).
    pub fn parse(caps: &spec::Capabilities<'_>, warnings: &mut Vec<String>) -> Self {
        let lists =
            [&caps.bounding, &caps.effective, &caps.inheritable, &caps.permitted, &caps.ambient];
        let mut unknown: BTreeSet<&str> = BTreeSet::new();
        for name in lists.into_iter().flat_map(|names| names.iter()) {
            if number(name).is_none() && unknown.insert(name) {
                warnings.push(format!("ignoring unknown or unavailable capabilities: [{name}]"));
            }
        }
        let set = |names: &spec::List<spec::Str<'_>>| {
            names.iter().filter_map(|name| number(name)).fold(0, |set, cap| set | bit(cap))
        };
        let mut sets = Self {
            bounding: set(&caps.bounding),
            effective: set(&caps.effective),
            inheritable: set(&caps.inheritable),
            permitted: set(&caps.permitted),
            ambient: set(&caps.ambient),
        };
        let possible = sets.permitted & sets.inheritable;
        for (cap, name) in NAMES.iter().enumerate() {
            if sets.ambient & !possible & 1 << cap != 0 {
                // runc's words, up to the colon.
                warnings.push(format!(
                    "can't raise ambient capability {name}: it has to be permitted and inheritable as well"
                ));
            }
        }
        sets.ambient &= possible;
        sets
    }

    /// Leaves only what is in `available`, each set for itself.
    #[must_use]
    pub fn within(self, available: CapSet) -> Self {
        Self {
            bounding: self.bounding & available,
            effective: self.effective & available,
            inheritable: self.inheritable & available,
            permitted: self.permitted & available,
            ambient: self.ambient & available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_the_kernel() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("CAP_SETPCAP"), Some(SETPCAP));
        assert_eq!(number("cap_sys_admin"), Some(SYS_ADMIN));
        assert_eq!(number("CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("CAP_NOPE"), None);
        assert_eq!(number(""), None);
    }

    #[test]
    fn an_unknown_name_warns_and_the_rest_stays() {
        let caps = spec::Capabilities {
            bounding: spec::List(vec!["CAP_KILL".into(), "CAP_FROM_THE_FUTURE".into()]),
            permitted: spec::List(vec!["CAP_FROM_THE_FUTURE".into()]),
            ..Default::default()
        };
        let mut warnings = Vec::new();
        let sets = CapSets::parse(&caps, &mut warnings);
        assert_eq!(sets.bounding, bit(5));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
