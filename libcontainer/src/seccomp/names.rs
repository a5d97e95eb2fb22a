//! Actions, operators and flags by the names of runtime-spec (config-linux.md "Seccomp"); `features` lists them.

use libc::{
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD,
    SECCOMP_RET_LOG, SECCOMP_RET_TRACE, SECCOMP_RET_TRAP, SECCOMP_RET_USER_NOTIF,
};

use super::conditions::Operator;
use crate::sys::seccomp::{LOG, SPEC_ALLOW, WAIT_KILLABLE_RECV};

/// What a filter can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// `SCMP_ACT_*`.
    pub name: &'static str,
    /// `SECCOMP_RET_*`, data bits clear.
    pub value: u32,
    /// Largest errno or tracer message it carries; `None` where it carries none.
    pub(super) data: Option<u32>,
}

/// The kernel cuts a larger errno down to this (seccomp(2) "SECCOMP_RET_ERRNO", `MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

/// Every action, by name.
pub static ACTIONS: [Action; 9] = [
    Action { name: "SCMP_ACT_ALLOW", value: SECCOMP_RET_ALLOW, data: None },
    Action { name: "SCMP_ACT_ERRNO", value: SECCOMP_RET_ERRNO, data: Some(MAX_ERRNO) },
    Action { name: "SCMP_ACT_KILL", value: SECCOMP_RET_KILL_THREAD, data: None },
    Action { name: "SCMP_ACT_KILL_PROCESS", value: SECCOMP_RET_KILL_PROCESS, data: None },
    Action { name: "SCMP_ACT_KILL_THREAD", value: SECCOMP_RET_KILL_THREAD, data: None },
    Action { name: "SCMP_ACT_LOG", value: SECCOMP_RET_LOG, data: None },
    Action { name: "SCMP_ACT_NOTIFY", value: SECCOMP_RET_USER_NOTIF, data: None },
    Action { name: "SCMP_ACT_TRACE", value: SECCOMP_RET_TRACE, data: Some(0xffff) },
    Action { name: "SCMP_ACT_TRAP", value: SECCOMP_RET_TRAP, data: None },
];

/// Every operator, by name.
pub static OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_EQ", Operator::Eq),
    ("SCMP_CMP_GE", Operator::Ge),
    ("SCMP_CMP_GT", Operator::Gt),
    ("SCMP_CMP_LE", Operator::Le),
    ("SCMP_CMP_LT", Operator::Lt),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEq),
    ("SCMP_CMP_NE", Operator::Ne),
];

/// Every flag and what seccomp(2) is given for it, in the order runc lists them.
///
/// TSYNC is taken and has no effect: the filter is loaded by the only thread there is, and seccomp(2) refuses it
/// together with a listener.
pub static FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", LOG),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];

impl Action {
    /// Returns the action `SCMP_ACT_*` names.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        ACTIONS.iter().find(|action| action.name == name)
    }
}

/// Returns the operator `SCMP_CMP_*` names.
pub(super) fn operator(name: &str) -> Option<Operator> {
    OPERATORS.iter().find(|(known, _)| *known == name).map(|(_, operator)| *operator)
}

/// Returns the bits of the flag `SECCOMP_FILTER_FLAG_*` names.
pub(super) fn flag(name: &str) -> Option<u32> {
    FLAGS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_runc_prints_them() {
        assert!(ACTIONS.is_sorted_by_key(|action| action.name));
        assert!(OPERATORS.is_sorted_by_key(|(name, _)| name));
        assert!(super::super::ARCHES.is_sorted_by_key(|arch| arch.name));
    }

    #[test]
    fn values_are_those_of_the_kernel_headers() {
        let value = |name| Action::from_name(name).unwrap().value;
        assert_eq!(value("SCMP_ACT_KILL"), 0);
        assert_eq!(value("SCMP_ACT_KILL_THREAD"), 0);
        assert_eq!(value("SCMP_ACT_KILL_PROCESS"), 0x8000_0000);
        assert_eq!(value("SCMP_ACT_TRAP"), 0x0003_0000);
        assert_eq!(value("SCMP_ACT_ERRNO"), 0x0005_0000);
        assert_eq!(value("SCMP_ACT_NOTIFY"), 0x7fc0_0000);
        assert_eq!(value("SCMP_ACT_TRACE"), 0x7ff0_0000);
        assert_eq!(value("SCMP_ACT_LOG"), 0x7ffc_0000);
        assert_eq!(value("SCMP_ACT_ALLOW"), 0x7fff_0000);
        assert_eq!(flag("SECCOMP_FILTER_FLAG_LOG"), Some(2));
        assert_eq!(flag("SECCOMP_FILTER_FLAG_SPEC_ALLOW"), Some(4));
        assert_eq!(flag("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"), Some(32));
        assert_eq!(flag("SECCOMP_FILTER_FLAG_NEW_LISTENER"), None);
    }
}
