//! `process` (config.md "Process").

use serde::{Deserialize, Serialize};

use super::{List, Str};

/// `process`; also the document of `exec --process`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process<'a> {
    /// Whether a terminal is attached.
    pub terminal: Option<bool>,
    /// Initial size of that terminal.
    pub console_size: Option<ConsoleSize>,
    /// Ids of the process, in the container's user namespace.
    pub user: Option<User>,
    /// argv.
    #[serde(borrow)]
    pub args: List<Str<'a>>,
    /// Environment, `NAME=value`.
    #[serde(borrow)]
    pub env: List<Str<'a>>,
    /// Absolute working directory.
    #[serde(borrow)]
    pub cwd: Option<Str<'a>>,
    /// The five capability sets.
    #[serde(borrow)]
    pub capabilities: Option<Capabilities<'a>>,
    /// Resource limits.
    #[serde(borrow)]
    pub rlimits: List<Rlimit<'a>>,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: Option<bool>,
    /// AppArmor profile of the process.
    #[serde(borrow)]
    pub apparmor_profile: Option<Str<'a>>,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// sched_setattr(2).
    #[serde(borrow)]
    pub scheduler: Option<Scheduler<'a>>,
    /// SELinux label of the process.
    #[serde(borrow)]
    pub selinux_label: Option<Str<'a>>,
    /// ioprio_set(2).
    #[serde(borrow, rename = "ioPriority")]
    pub io_priority: Option<IoPriority<'a>>,
    /// CPUs of processes started by `exec`.
    #[serde(borrow, rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
}

/// `process.consoleSize`, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// `process.user`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: List<u32>,
}

/// `process.capabilities`: names such as `CAP_KILL`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities<'a> {
    /// Limit of what any process inside can gain.
    #[serde(borrow)]
    pub bounding: List<Str<'a>>,
    /// What the kernel checks.
    #[serde(borrow)]
    pub effective: List<Str<'a>>,
    /// Kept over an execve of a file with inheritable capabilities.
    #[serde(borrow)]
    pub inheritable: List<Str<'a>>,
    /// What may become effective.
    #[serde(borrow)]
    pub permitted: List<Str<'a>>,
    /// Kept over an execve of an ordinary file.
    #[serde(borrow)]
    pub ambient: List<Str<'a>>,
}

/// One of `process.rlimits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rlimit<'a> {
    /// `RLIMIT_*`.
    #[serde(rename = "type", borrow)]
    pub kind: Str<'a>,
    /// The enforced value.
    #[serde(default)]
    pub soft: u64,
    /// The ceiling of the soft value.
    #[serde(default)]
    pub hard: u64,
}

/// `process.scheduler` (sched_setattr(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Scheduler<'a> {
    /// `SCHED_*`.
    #[serde(borrow)]
    pub policy: Str<'a>,
    /// Nice value of SCHED_OTHER and SCHED_BATCH.
    pub nice: Option<i32>,
    /// Static priority of SCHED_FIFO and SCHED_RR.
    pub priority: Option<i32>,
    /// `SCHED_FLAG_*`.
    #[serde(borrow)]
    pub flags: List<Str<'a>>,
    /// SCHED_DEADLINE runtime, nanoseconds.
    pub runtime: Option<u64>,
    /// SCHED_DEADLINE deadline, nanoseconds.
    pub deadline: Option<u64>,
    /// SCHED_DEADLINE period, nanoseconds.
    pub period: Option<u64>,
}

/// `process.ioPriority` (ioprio_set(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct IoPriority<'a> {
    /// `IOPRIO_CLASS_*`.
    #[serde(borrow)]
    pub class: Str<'a>,
    /// 0 (highest) to 7.
    pub priority: i32,
}

/// `process.execCPUAffinity`: CPU lists such as `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ExecCpuAffinity<'a> {
    /// Before the process is in the container's cgroup.
    #[serde(borrow)]
    pub initial: Option<Str<'a>>,
    /// After.
    #[serde(borrow, rename = "final")]
    pub last: Option<Str<'a>>,
}
