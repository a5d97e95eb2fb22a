//! `linux.seccomp` (config-linux.md "Seccomp").

use serde::{Deserialize, Serialize};

use super::{List, Str};

/// `linux.seccomp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp<'a> {
    /// What happens to a system call no rule names.
    #[serde(borrow)]
    pub default_action: Str<'a>,
    /// errno of a default action that takes one.
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_*`; the native one is implied.
    #[serde(borrow)]
    pub architectures: List<Str<'a>>,
    /// `SECCOMP_FILTER_FLAG_*`; absent is not the same as empty.
    #[serde(borrow)]
    pub flags: Option<List<Str<'a>>>,
    /// Socket of the agent of SCMP_ACT_NOTIFY.
    #[serde(borrow)]
    pub listener_path: Option<Str<'a>>,
    /// Passed to that agent.
    #[serde(borrow)]
    pub listener_metadata: Option<Str<'a>>,
    /// The rules.
    #[serde(borrow)]
    pub syscalls: List<SeccompRule<'a>>,
}

/// One of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompRule<'a> {
    /// System calls; at least one.
    #[serde(borrow)]
    pub names: List<Str<'a>>,
    /// `SCMP_ACT_*`.
    #[serde(borrow)]
    pub action: Str<'a>,
    /// errno of an action that takes one.
    pub errno_ret: Option<u32>,
    /// Conditions on arguments.
    #[serde(borrow)]
    pub args: List<SeccompArg<'a>>,
}

/// One of `args` of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg<'a> {
    /// Which argument, from 0.
    pub index: u32,
    /// What it is compared with.
    pub value: u64,
    /// The second operand of SCMP_CMP_MASKED_EQ.
    #[serde(default)]
    pub value_two: Option<u64>,
    /// `SCMP_CMP_*`.
    #[serde(borrow, default)]
    pub op: Str<'a>,
}
