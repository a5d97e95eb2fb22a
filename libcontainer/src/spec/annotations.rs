//! The annotations of crun's that change what is done, and where they are not read in place.

use super::{Spec, Str};
use crate::error::{Error, Result};

/// With `1`, the process keeps the caller's supplementary groups.
pub const KEEP_ORIGINAL_GROUPS: &str = "run.oci.keep_original_groups";
/// Which SELinux option of a mount gets `linux.mountLabel`.
pub const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// File that gets what hooks print.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// File that gets what hooks complain.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// Socket that gets a pidfd of init.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// What `linux.seccomp.listenerPath` was before there was one.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// The cgroup below the systemd unit's that the container is in.
pub const SYSTEMD_SUBGROUP: &str = "run.oci.systemd.subgroup";
/// The cgroup below the container's that its processes are moved to, and that is theirs to divide.
pub const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
/// Beginning of those that set a property of the systemd unit.
pub const SYSTEMD_PROPERTY: &str = "org.systemd.property.";
/// With `1`, a system call nobody knows is an error.
pub const SECCOMP_FAIL_UNKNOWN_SYSCALL: &str = "run.oci.seccomp_fail_unknown_syscall";
/// A program of `struct sock_filter` in base64, in place of `linux.seccomp`.
pub const SECCOMP_BPF_DATA: &str = "run.oci.seccomp_bpf_data";

/// A file of options for CRIU; none, if it is empty. runc's.
pub const CRIU_CONFIG: &str = "org.criu.config";

/// Beginnings of annotations that no caller may take from those it does not trust (features.md
/// "potentiallyUnsafeConfigAnnotations"; the dot at the end says that it is a beginning).
pub const UNSAFE: &[&str] = &["run.oci.", SYSTEMD_PROPERTY, CRIU_CONFIG];

/// All of the above.
pub const ALL: &[&str] = &[
    KEEP_ORIGINAL_GROUPS,
    MOUNT_CONTEXT_TYPE,
    HOOKS_STDOUT,
    HOOKS_STDERR,
    PIDFD_RECEIVER,
    SYSTEMD_SUBGROUP,
    DELEGATE_CGROUP,
    SECCOMP_RECEIVER,
    SECCOMP_FAIL_UNKNOWN_SYSCALL,
    SECCOMP_BPF_DATA,
];

impl<'a> Spec<'a> {
    /// Whether a cgroup below the container's is asked for; an empty name asks for none.
    pub fn asks_for_delegate(&self) -> bool {
        self.annotations.get(DELEGATE_CGROUP).is_some_and(|name| !name.is_empty())
    }

    /// Puts annotations that only say what a property says as well into that property, which counts more.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for a receiver that is no absolute path.
    pub fn apply_annotations(&mut self) -> Result<()> {
        let Some(receiver) = self.annotations.get(SECCOMP_RECEIVER) else { return Ok(()) };
        let raw = self.annotations.get(SECCOMP_BPF_DATA).is_some();
        let Some(linux) = &mut self.linux else { return Ok(()) };
        if raw && linux.seccomp.is_none() {
            linux.seccomp = Some(Box::default());
        }
        let Some(seccomp) = &mut linux.seccomp else { return Ok(()) };
        if seccomp.listener_path.as_ref().is_some_and(|path| !path.is_empty()) {
            return Ok(());
        }
        if !receiver.starts_with('/') {
            return Err(Error::config(format!(
                "the seccomp receiver {:?} is not an absolute path",
                receiver.as_str()
            ))
            .field(format!("annotations[{SECCOMP_RECEIVER:?}]")));
        }
        let path: Str<'a> = receiver.clone();
        seccomp.listener_path = Some(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_told_of_every_annotation() {
        for name in ALL {
            assert!(UNSAFE.iter().any(|unsafe_one| name.starts_with(unsafe_one)), "{name}");
        }
    }

    #[test]
    fn a_receiver_is_a_listener_path() {
        let parse = |text: &'static str| {
            let mut spec: Spec<'_> = serde_json::from_str(text).unwrap();
            spec.apply_annotations().map(|()| {
                let seccomp = spec.linux.unwrap().seccomp;
                seccomp.and_then(|seccomp| seccomp.listener_path).map(|path| path.to_string())
            })
        };
        for (text, path) in [
            (
                r#"{"annotations":{"run.oci.seccomp.receiver":"/s"},"linux":{"seccomp":{}}}"#,
                Some("/s"),
            ),
            (
                r#"{"annotations":{"run.oci.seccomp.receiver":"/s"},"linux":{"seccomp":{"listenerPath":"/p"}}}"#,
                Some("/p"),
            ),
            (r#"{"annotations":{"run.oci.seccomp.receiver":"/s"},"linux":{}}"#, None),
            (
                r#"{"annotations":{"run.oci.seccomp.receiver":"/s","run.oci.seccomp_bpf_data":"x"},"linux":{}}"#,
                Some("/s"),
            ),
            (r#"{"linux":{"seccomp":{}}}"#, None),
        ] {
            assert_eq!(parse(text).unwrap().as_deref(), path, "{text}");
        }
        let relative = r#"{"annotations":{"run.oci.seccomp.receiver":"s"},"linux":{"seccomp":{}}}"#;
        let error = parse(relative).unwrap_err().to_string();
        assert!(error.contains("is not an absolute path"), "{error}");
    }
}
