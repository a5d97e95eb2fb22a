//! Where in the hierarchies a container's cgroup lies (config-linux.md "Cgroups Path").

use crate::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";

/// The path relative to a hierarchy's mount: absolute, clean, without `..`.
///
/// An absolute `cgroupsPath` is relative to the mount, a relative one to `base`. Absent, it is the id, below `base`.
/// Neither climbs out of it.
pub(super) fn resolve(id: &str, cgroups_path: Option<&str>, base: &str) -> Result<String> {
    let path = match cgroups_path {
        None | Some("") => id,
        Some(path) if path.contains(['\0', '\n']) => {
            return Err(Error::config(format!(
                "the cgroup path {path:?} holds a NUL or a newline"
            ))
            .field(FIELD));
        }
        Some(path) => path,
    };
    let below = clean(path);
    if below == "/" {
        return Err(Error::config("the cgroup path is the root of the hierarchy").field(FIELD));
    }
    Ok(if is_relative(Some(path)) { clean(&format!("{base}{below}")) } else { below })
}

/// Whether a `cgroupsPath` leaves it to the runtime where it begins.
pub(super) fn is_relative(cgroups_path: Option<&str>) -> bool {
    !cgroups_path.is_some_and(|path| path.starts_with('/'))
}

/// `path` made absolute and lexically clean; `..` ends at the root.
pub(super) fn clean(path: &str) -> String {
    format!("/{}", crate::path::clean(path))
}

/// The directory that holds `path`, unless `path` is `top` itself.
pub(super) fn parent<'p>(path: &'p str, top: &str) -> Option<&'p str> {
    let below = path.strip_prefix(top)?;
    let (head, _) = below.rsplit_once('/')?;
    path.get(..top.len() + head.len())
}

/// Every directory from below `top` down to the one that holds `path`.
pub(super) fn ancestors<'p>(path: &'p str, top: &str) -> Vec<&'p str> {
    let mut list = Vec::new();
    let mut at = path;
    while let Some(up) = parent(at, top) {
        if up.len() <= top.len() {
            break;
        }
        list.push(up);
        at = up;
    }
    list.reverse();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroups_path_never_leaves_the_hierarchy() {
        for (given, path) in [
            (None, "/box"),
            (Some(""), "/box"),
            (Some("/docker/box"), "/docker/box"),
            (Some("docker/box"), "/docker/box"),
            (Some("/../../etc"), "/etc"),
            (Some("../a/./b//c/../d/"), "/a/b/d"),
            (Some("system.slice:docker:box"), "/system.slice:docker:box"),
        ] {
            assert_eq!(resolve("box", given, "").unwrap(), path, "{given:?}");
            assert_eq!(resolve("box", given, "/").unwrap(), path, "{given:?}");
        }
        for bad in ["/", "..", "/a/..", ".", "a\0b", "a\nb"] {
            let error = resolve("box", Some(bad), "/user").unwrap_err().to_string();
            assert!(error.contains("(config.json: linux.cgroupsPath)"), "{error}");
        }
    }

    #[test]
    fn a_relative_path_begins_at_the_base_and_stays_below() {
        for (given, path) in [
            (None, "/user/app/box"),
            (Some(""), "/user/app/box"),
            (Some("pod/box"), "/user/app/pod/box"),
            (Some("../../box"), "/user/app/box"),
            (Some("/pod/box"), "/pod/box"),
        ] {
            assert_eq!(resolve("box", given, "/user/app").unwrap(), path, "{given:?}");
        }
    }

    #[test]
    fn ancestors_lie_between_the_mount_and_the_cgroup() {
        assert_eq!(
            ancestors("/sys/fs/cgroup/a/b/c", "/sys/fs/cgroup"),
            ["/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"]
        );
        assert!(ancestors("/sys/fs/cgroup/a", "/sys/fs/cgroup").is_empty());
        assert_eq!(parent("/m/a/b", "/m"), Some("/m/a"));
        assert_eq!(parent("/m/a", "/m"), Some("/m"));
        assert_eq!(parent("/m", "/m"), None);
    }
}
