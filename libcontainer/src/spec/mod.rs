//! The OCI runtime configuration, borrowed from the bytes of `config.json`.
//!
//! One read, one parse, no copies: the create path pays for every page it touches. Each type is a section of
//! runtime-spec 1.3; unknown properties are ignored (config.md "Extensibility"), `null` is the same as absent.
//! Absence is kept as `None` here and decided in [`crate::plan`].

pub mod annotations;
pub mod json;
mod linux;
mod mounts;
pub(crate) mod objects;
mod process;
mod resources;
mod seccomp;

use serde::{Deserialize, Serialize};

pub use json::{List, Map, Str};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice, Personality, TimeOffset,
};
pub use mounts::{Mount, Root};
pub use process::{
    Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompArg, SeccompRule};

/// The version of runtime-spec this crate implements.
pub const OCI_VERSION: &str = "1.3.0";

/// `config.json` (config.md).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec<'a> {
    /// SemVer of the specification the bundle complies with.
    #[serde(borrow)]
    pub oci_version: Option<Str<'a>>,
    /// The container's process; required when `start` is called.
    #[serde(borrow)]
    pub process: Option<Box<Process<'a>>>,
    /// The root filesystem.
    #[serde(borrow)]
    pub root: Option<Root<'a>>,
    /// Host name inside the UTS namespace.
    #[serde(borrow)]
    pub hostname: Option<Str<'a>>,
    /// NIS domain name inside the UTS namespace.
    #[serde(borrow)]
    pub domainname: Option<Str<'a>>,
    /// Mounts, in order.
    #[serde(borrow)]
    pub mounts: List<Mount<'a>>,
    /// Lifecycle hooks.
    #[serde(borrow)]
    pub hooks: Option<Box<Hooks<'a>>>,
    /// Arbitrary metadata.
    #[serde(borrow)]
    pub annotations: Map<'a, Str<'a>>,
    /// The Linux section (config-linux.md).
    #[serde(borrow)]
    pub linux: Option<Box<Linux<'a>>>,
}

/// `hooks` (config.md "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks<'a> {
    /// Deprecated; run as createRuntime, before those.
    #[serde(borrow)]
    pub prestart: List<Hook<'a>>,
    /// Run in the runtime namespace after the container's namespaces exist, before pivot_root.
    #[serde(borrow)]
    pub create_runtime: List<Hook<'a>>,
    /// Run in the container namespaces, before pivot_root.
    #[serde(borrow)]
    pub create_container: List<Hook<'a>>,
    /// Run in the container namespaces by `start`, before the process.
    #[serde(borrow)]
    pub start_container: List<Hook<'a>>,
    /// Run in the runtime namespace by `start`, after the process runs.
    #[serde(borrow)]
    pub poststart: List<Hook<'a>>,
    /// Run in the runtime namespace by `delete`.
    #[serde(borrow)]
    pub poststop: List<Hook<'a>>,
}

/// One hook.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook<'a> {
    /// Absolute path of the executable.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// argv, `args[0]` included.
    #[serde(borrow)]
    pub args: List<Str<'a>>,
    /// `NAME=value` pairs; the hook gets nothing else.
    #[serde(borrow)]
    pub env: List<Str<'a>>,
    /// Seconds until the hook is killed.
    pub timeout: Option<i64>,
}
