//! Which security modules the host runs: a label that nobody enforces is refused, not dropped in silence.

use crate::error::{Error, Result};
use crate::plan::{Plan, ProcessPlan};

/// Refuses a process label where its module is not there.
///
/// # Errors
/// [`Kind::Unsupported`](crate::Kind::Unsupported) naming the field.
pub(super) fn check_process(process: &ProcessPlan) -> Result<()> {
    if process.apparmor.is_some() && !apparmor_is_enabled() {
        return Err(Error::unsupported(
            "apparmor failed to apply profile: apparmor is disabled or not supported on this host",
        )
        .field("process.apparmorProfile")
        .hint("remove the profile, or start the host with AppArmor"));
    }
    if process.selinux.is_some() && !selinux_is_enabled() {
        return Err(Error::unsupported(
            "selinux label is specified in config, but selinux is disabled or not supported",
        )
        .field("process.selinuxLabel")
        .hint("remove the label, or start the host with SELinux"));
    }
    Ok(())
}

/// Drops the label of the mounts where there is no SELinux: it would forbid nobody anything, and no file system takes it.
pub(super) fn check_mounts(plan: &mut Plan) {
    if plan.mount_label.is_none() || selinux_is_enabled() {
        return;
    }
    plan.mount_label = None;
    plan.warnings.push(
        "linux.mountLabel is ignored: selinux is disabled or not supported on this host".to_owned(),
    );
}

/// The kernel has selinuxfs exactly if it was started with SELinux.
fn selinux_is_enabled() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some("selinuxfs"))
}

/// The module says so itself; where there is no sysfs to read it from, /proc has its files exactly if it is built in.
fn apparmor_is_enabled() -> bool {
    match std::fs::read("/sys/module/apparmor/parameters/enabled") {
        Ok(answer) => answer.starts_with(b"Y"),
        Err(_) => std::fs::metadata("/proc/self/attr/apparmor").is_ok(),
    }
}
