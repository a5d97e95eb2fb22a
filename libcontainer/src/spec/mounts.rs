//! `root` and `mounts` (config.md).

use serde::{Deserialize, Serialize};

use super::{IdMapping, List, Str};

/// `root`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Root<'a> {
    /// Absolute, or relative to the bundle.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// Whether `/` is read-only inside.
    pub readonly: Option<bool>,
}

/// One of `mounts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount<'a> {
    /// Where, inside the container.
    #[serde(borrow)]
    pub destination: Str<'a>,
    /// Filesystem type; `bind` is conventional, the `bind` option decides.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    /// Device, or the path of a bind mount on the host.
    #[serde(borrow)]
    pub source: Option<Str<'a>>,
    /// Mount options, in order.
    #[serde(borrow)]
    pub options: List<Str<'a>>,
    /// Mapping of user ids of an id-mapped mount.
    pub uid_mappings: List<IdMapping>,
    /// Mapping of group ids of an id-mapped mount.
    pub gid_mappings: List<IdMapping>,
}
