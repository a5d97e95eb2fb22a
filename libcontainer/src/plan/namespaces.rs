//! `linux.namespaces` → what clone3(2) makes, what setns(2) joins, and who does it.

use std::ffi::CString;

use super::cstring;
use crate::error::{Error, Result};
use crate::spec::{self, Map, TimeOffset};

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
    /// What goes to /proc/PID/timens_offsets of a new time namespace before anybody enters it (time_namespaces(7)).
    pub time_offsets: Option<String>,
}

/// The clocks a time namespace has of its own.
const CLOCKS: [&str; 2] = ["monotonic", "boottime"];

impl NamespacePlan {
    /// Plans `linux.namespaces` and `linux.timeOffsets`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) for an unknown or repeated type, a relative path, or offsets that are not
    /// those of a new time namespace.
    pub fn build(
        namespaces: &[spec::Namespace<'_>],
        offsets: &Map<'_, TimeOffset>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        for (index, namespace) in namespaces.iter().enumerate() {
            let field = || format!("linux.namespaces[{index}]");
            let kind = namespace.kind.as_str();
            let Some((_, flag)) = KINDS.iter().find(|(name, _)| *name == kind) else {
                return Err(Error::config(format!("namespace {kind:?} does not exist"))
                    .field(format!("{}.type", field()))
                    .hint("use pid, network, mount, ipc, uts, user, cgroup or time"));
            };
            if plan.has(*flag) {
                return Err(Error::config(format!("duplicate namespace {kind:?}")).field(field()));
            }
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                None => plan.new |= flag,
                Some(path) if path.starts_with('/') => {
                    plan.join.push(Join {
                        index,
                        kind: *flag,
                        path: cstring(path, || format!("{}.path", field()))?,
                    });
                }
                Some(path) => {
                    return Err(Error::config(format!("namespace path {path:?} is not absolute"))
                        .field(format!("{}.path", field())));
                }
            }
        }
        plan.time_offsets = time_offsets(&plan, offsets)?;
        Ok(plan)
    }

    /// Those of the new namespaces that clone3(2) makes. A cgroup namespace is rooted where the process is, so it is made
    /// once the process is there; a time namespace takes offsets only while nobody is in it.
    pub fn cloned(&self) -> libc::c_int {
        let later = if self.time_offsets.is_some() { libc::CLONE_NEWTIME } else { 0 };
        self.new & !(libc::CLONE_NEWCGROUP | later)
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

/// The lines of /proc/PID/timens_offsets.
fn time_offsets(plan: &NamespacePlan, offsets: &Map<'_, TimeOffset>) -> Result<Option<String>> {
    if offsets.is_empty() {
        return Ok(None);
    }
    if plan.joins(libc::CLONE_NEWTIME).is_some() {
        return Err(Error::config(
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
        )
        .field("linux.timeOffsets"));
    }
    if !plan.makes(libc::CLONE_NEWTIME) {
        return Err(Error::config(
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        )
        .field("linux.timeOffsets")
        .hint("add {\"type\": \"time\"} to linux.namespaces"));
    }
    let mut text = String::new();
    for (clock, _) in offsets {
        let field = format!("linux.timeOffsets[{clock:?}]");
        if !CLOCKS.contains(&clock.as_str()) {
            return Err(Error::config(format!("a time namespace has no clock {clock:?}"))
                .field(field)
                .hint("use monotonic or boottime"));
        }
        // Of a name given twice the last value counts, and the kernel takes a line for each clock.
        if text.lines().any(|line| line.starts_with(clock.as_str())) {
            continue;
        }
        let offset = offsets.get(clock).copied().unwrap_or_default();
        if offset.nanosecs > 999_999_999 {
            return Err(Error::config(format!(
                "{} nanoseconds are a second or more",
                offset.nanosecs
            ))
            .field(format!("{field}.nanosecs")));
        }
        text.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(list: &[(&'static str, Option<&'static str>)]) -> Result<NamespacePlan> {
        build_with(list, &[])
    }

    fn build_with(
        list: &[(&'static str, Option<&'static str>)],
        offsets: &[(&'static str, i64, u32)],
    ) -> Result<NamespacePlan> {
        let list: Vec<_> = list
            .iter()
            .map(|(kind, path)| spec::Namespace {
                kind: (*kind).into(),
                path: path.map(Into::into),
            })
            .collect();
        let offsets = offsets.iter().map(|(clock, secs, nanosecs)| {
            ((*clock).into(), TimeOffset { secs: *secs, nanosecs: *nanosecs })
        });
        NamespacePlan::build(&list, &Map(offsets.collect()))
    }

    #[test]
    fn offsets_belong_to_a_new_time_namespace() {
        let offsets = [("monotonic", 7, 2), ("boottime", -3, 999_999_999), ("monotonic", 8, 1)];
        let plan =
            build_with(&[("time", None), ("cgroup", None), ("uts", None)], &offsets).unwrap();
        assert_eq!(plan.time_offsets.as_deref(), Some("monotonic 8 1\nboottime -3 999999999\n"));
        assert_eq!(plan.cloned(), libc::CLONE_NEWUTS);
        let plain = build(&[("time", None)]).unwrap();
        assert_eq!((plain.cloned(), plain.time_offsets), (libc::CLONE_NEWTIME, None));
        for (namespaces, offsets) in [
            (vec![("uts", None)], offsets),
            (vec![("time", Some("/t"))], offsets),
            (vec![("time", None)], [("realtime", 1, 0); 3]),
            (vec![("time", None)], [("boottime", 1, 1_000_000_000); 3]),
        ] {
            let error = build_with(&namespaces, &offsets).unwrap_err().to_string();
            assert!(error.contains("linux.timeOffsets"), "{error}");
        }
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
