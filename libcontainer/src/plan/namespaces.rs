//! `linux.namespaces` → what clone3(2) makes, what setns(2) joins, and who does it.

use std::ffi::CString;

use super::cstring;
use crate::error::{Error, Result};
use crate::spec;

/// The kinds of namespaces: the specification's name and clone(2)'s flag.
pub const KINDS: &[(&str, libc::c_int)] = &[
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mount", libc::CLONE_NEWNS),
    ("network", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", libc::CLONE_NEWTIME),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

/// Name of the file below /proc/PID/ns that shows namespace `flag`.
pub fn proc_name(flag: libc::c_int) -> &'static str {
    match flag {
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWNS => "mnt",
        libc::CLONE_NEWNET => "net",
        libc::CLONE_NEWPID => "pid",
        libc::CLONE_NEWTIME => "time",
        libc::CLONE_NEWUSER => "user",
        _ => "uts",
    }
}

/// The specification's name of namespace `flag`.
pub fn name(flag: libc::c_int) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == flag).map_or("?", |(name, _)| name)
}

/// A namespace to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Index in `linux.namespaces`.
    pub index: usize,
    /// `CLONE_NEW*`.
    pub kind: libc::c_int,
    /// Of the namespace's file.
    pub path: CString,
}

/// Which namespaces are new, which are joined; the rest is the runtime's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    /// `CLONE_NEW*` of those to make.
    pub new: libc::c_int,
    /// Those to join.
    pub join: Vec<Join>,
}

impl NamespacePlan {
    /// Plans `linux.namespaces`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) for an unknown or repeated type or a relative path.
    pub fn build(namespaces: &[spec::Namespace<'_>]) -> Result<Self> {
        let mut plan = Self::default();
        for (index, namespace) in namespaces.iter().enumerate() {
            let field = || format!("linux.namespaces[{index}]");
            let kind = namespace.kind.as_str();
            let Some((_, flag)) = KINDS.iter().find(|(name, _)| *name == kind) else {
                return Err(Error::config(format!("namespace {kind:?} does not exist"))
                    .field(field())
                    .hint("use pid, network, mount, ipc, uts, user, cgroup or time"));
            };
            if plan.has(*flag) {
                return Err(Error::config(format!("duplicate namespace {kind:?}")).field(field()));
            }
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                None => plan.new |= flag,
                Some(path) if path.starts_with('/') => {
                    plan.join.push(Join { index, kind: *flag, path: cstring(path, field)? });
                }
                Some(path) => {
                    return Err(Error::config(format!("namespace path {path:?} is not absolute"))
                        .field(format!("{}.path", field())));
                }
            }
        }
        Ok(plan)
    }

    /// Whether `kind` is made.
    pub fn makes(&self, kind: libc::c_int) -> bool {
        self.new & kind != 0
    }

    /// The namespace of `kind` to join, if there is one.
    pub fn joins(&self, kind: libc::c_int) -> Option<&Join> {
        self.join.iter().find(|join| join.kind == kind)
    }

    /// Whether `kind` is not the runtime's own.
    pub fn has(&self, kind: libc::c_int) -> bool {
        self.makes(kind) || self.joins(kind).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(list: &[(&'static str, Option<&'static str>)]) -> Result<NamespacePlan> {
        let list: Vec<_> = list
            .iter()
            .map(|(kind, path)| spec::Namespace {
                kind: (*kind).into(),
                path: path.map(Into::into),
            })
            .collect();
        NamespacePlan::build(&list)
    }

    #[test]
    fn new_and_joined_namespaces_are_told_apart() {
        let plan =
            build(&[("pid", None), ("network", Some("/run/netns/a")), ("uts", Some(""))]).unwrap();
        assert_eq!(plan.new, libc::CLONE_NEWPID | libc::CLONE_NEWUTS);
        assert_eq!(plan.joins(libc::CLONE_NEWNET).unwrap().index, 1);
        assert!(!plan.has(libc::CLONE_NEWIPC));
    }

    #[test]
    fn unknown_repeated_and_relative_ones_are_refused() {
        assert!(build(&[("pids", None)]).unwrap_err().to_string().contains("linux.namespaces[0]"));
        assert!(build(&[("pid", None), ("pid", Some("/x"))]).is_err());
        assert!(build(&[("pid", Some("x"))]).unwrap_err().to_string().contains("not absolute"));
    }
}
