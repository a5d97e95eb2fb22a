//! Names: `linux.cgroupsPath` as `slice:prefix:name`, and where systemd puts that (systemd.unit(5), systemd.slice(5)).

use crate::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";

/// Longer names are refused by systemd, and by the kernel.
const NAME_MAX: usize = 255;

/// A unit and its slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Names {
    pub(super) slice: String,
    pub(in super::super) unit: String,
}

impl Names {
    /// Reads a `cgroupsPath`. Absent it is `:skep:ID`; an empty slice is the one all services, or all of a user's, are in.
    pub(in super::super) fn parse(
        id: &str,
        cgroups_path: Option<&str>,
        user: bool,
    ) -> Result<Self> {
        let default = format!(":skep:{}", escape(id));
        let given = cgroups_path.filter(|path| !path.is_empty());
        let text = given.unwrap_or(&default);
        let mut parts = text.split(':');
        let (Some(slice), Some(prefix), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::config(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {text:?} instead"
            ))
            .field(FIELD));
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            "-" => "-.slice",
            slice => slice,
        };
        check_slice(slice)?;
        if name.is_empty() {
            return Err(
                Error::config(format!("there is no name in the cgroupsPath {text:?}")).field(FIELD)
            );
        }
        let unit = if name.ends_with(".slice") {
            check_slice(name)?;
            name.to_owned()
        } else if prefix.is_empty() {
            format!("{name}.scope")
        } else {
            format!("{prefix}-{name}.scope")
        };
        check(&unit)?;
        Ok(Self { slice: slice.to_owned(), unit })
    }

    /// The cgroup of the unit, below that of the systemd that has it.
    pub(in super::super) fn path(&self) -> String {
        if self.unit.ends_with(".slice") {
            return path_of(&self.unit);
        }
        let below = if needs_escape(&self.unit) { "_" } else { "" };
        format!("{}/{below}{}", path_of(&self.slice), self.unit)
    }
}

/// `a-b.slice` lies in `a.slice`.
fn path_of(slice: &str) -> String {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name == "-" {
        return String::new();
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.filter_map(|end| name.get(..end)).map(|part| format!("/{part}.slice")).collect()
}

fn bad(name: &str, why: &str) -> Error {
    Error::config(format!("invalid systemd unit name {name:?}: {why}")).field(FIELD)
}

fn check_slice(slice: &str) -> Result<()> {
    let Some(name) = slice.strip_suffix(".slice") else {
        return Err(bad(slice, "a slice ends in .slice"));
    };
    if name != "-" && name.split('-').any(str::is_empty) {
        return Err(bad(slice, "each - in a slice stands between the names of two slices"));
    }
    check(slice)
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || ":-_.\\@".contains(character)
}

fn check(name: &str) -> Result<()> {
    if let Some(character) = name.chars().find(|character| !is_plain(*character)) {
        return Err(bad(name, &format!("{character:?} may not be in one")));
    }
    if name.len() > NAME_MAX {
        return Err(bad(name, &format!("it is longer than {NAME_MAX} characters")));
    }
    if name.starts_with(['.', '@']) {
        return Err(bad(name, "it begins with a character that has another meaning"));
    }
    Ok(())
}

/// What systemd-escape(1) does to characters that ids may have and units may not.
fn escape(id: &str) -> String {
    let plain = |character: char| match character {
        character if is_plain(character) => character.to_string(),
        other => other.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
    };
    id.chars().map(plain).collect()
}

/// Whether systemd puts an underscore before a name, because it could be that of a file of a cgroup.
fn needs_escape(name: &str) -> bool {
    const CONTROLLERS: &[&str] = &[
        "blkio",
        "cgroup",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "io",
        "irq",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ];
    name.starts_with(['_', '.'])
        || CONTROLLERS.iter().any(|controller| {
            name.strip_prefix(controller).is_some_and(|rest| rest.starts_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_slice_prefix_name() {
        for (given, user, slice, unit, path) in [
            (None, false, "system.slice", "skep-box.scope", "/system.slice/skep-box.scope"),
            (Some(""), true, "user.slice", "skep-box.scope", "/user.slice/skep-box.scope"),
            (
                Some("system.slice:docker:x"),
                false,
                "system.slice",
                "docker-x.scope",
                "/system.slice/docker-x.scope",
            ),
            (Some("::x"), false, "system.slice", "x.scope", "/system.slice/x.scope"),
            (Some("-:a:x"), false, "-.slice", "a-x.scope", "/a-x.scope"),
            (Some("-.slice:a:x"), false, "-.slice", "a-x.scope", "/a-x.scope"),
            (
                Some("kubepods-besteffort-podab_c.slice:cri-containerd:0f"),
                false,
                "kubepods-besteffort-podab_c.slice",
                "cri-containerd-0f.scope",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podab_c.slice/cri-containerd-0f.scope",
            ),
            (
                Some("a.slice:ignored:a-b.slice"),
                false,
                "a.slice",
                "a-b.slice",
                "/a.slice/a-b.slice",
            ),
            (Some("::cpu"), false, "system.slice", "cpu.scope", "/system.slice/_cpu.scope"),
            (Some("::_x"), false, "system.slice", "_x.scope", "/system.slice/__x.scope"),
        ] {
            let names = Names::parse("box", given, user).unwrap();
            assert_eq!((names.slice.as_str(), names.unit.as_str()), (slice, unit), "{given:?}");
            assert_eq!(names.path(), path, "{given:?}");
        }
        let plus = Names::parse("a+b", None, false).unwrap();
        assert_eq!(plus.unit, "skep-a\\x2bb.scope");
    }

    #[test]
    fn what_is_none_is_refused_by_its_field() {
        let long = format!("::{}", "x".repeat(250));
        for (given, words) in [
            ("/docker/x", "expected cgroupsPath to be of format \"slice:prefix:name\""),
            ("a:b", "expected cgroupsPath"),
            ("a:b:c:d", "expected cgroupsPath"),
            ("system:b:c", "a slice ends in .slice"),
            ("a--b.slice:b:c", "each -"),
            ("-a.slice:b:c", "each -"),
            (".slice:b:c", "each -"),
            ("a/b.slice:b:c", "'/'"),
            ("../a.slice:b:c", "'/'"),
            ("system.slice:b:", "no name"),
            ("system.slice:b:c/../d", "'/'"),
            ("system.slice:b:c d", "' '"),
            ("system.slice:b:c\n", "'\\n'"),
            ("system.slice:b:é", "'é'"),
            ("system.slice::.x", "begins with"),
            ("system.slice::a--b.slice", "each -"),
            (long.as_str(), "longer than 255"),
        ] {
            let error = Names::parse("box", Some(given), false).unwrap_err().to_string();
            assert!(error.contains(words), "{given}: {error}");
            assert!(error.contains("(config.json: linux.cgroupsPath)"), "{error}");
        }
    }
}
