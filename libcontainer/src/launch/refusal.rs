//! Why the kernel makes no namespace for this process: its settings, by name.

use std::fs;

use nix::errno::Errno;

use crate::error::Error;
use crate::plan::namespaces;
use crate::sys::clone::bits;
use crate::sys::fd;

const APPARMOR: &str = "kernel.apparmor_restrict_unprivileged_userns";

/// `STATX_ATTR_MOUNT_ROOT`.
const MOUNT_ROOT: u64 = 0x2000;

/// ENOSPC of clone(2): which limit on namespaces (namespaces(7)) is at its end.
pub(super) fn full(flags: u64) -> String {
    let kinds = namespaces::KINDS.iter().filter(|(_, flag)| flags & bits(*flag) != 0);
    let settings =
        kinds.map(|(_, flag)| format!("user.max_{}_namespaces", namespaces::proc_name(*flag)));
    let mut limits = Vec::new();
    for setting in settings {
        let Some(limit) = number(&setting) else { continue };
        if limit == 0 {
            return format!("{setting} is 0, which forbids such namespaces: raise it with sysctl");
        }
        limits.push(format!("{setting} = {limit}"));
    }
    format!(
        "a limit is reached, here or in an outer user namespace ({}), or namespaces are nested 33 deep",
        limits.join(", ")
    )
}

/// EPERM and EACCES of clone(2) for a new user namespace.
pub(super) fn user_namespace() -> String {
    if number("kernel.unprivileged_userns_clone") == Some(0) {
        return "kernel.unprivileged_userns_clone is 0, so only root may make user namespaces: set it to 1 with sysctl"
            .to_owned();
    }
    if let Some(why) = apparmor() {
        return why;
    }
    for (map, id, what) in [
        ("uid_map", nix::unistd::geteuid().as_raw(), "user"),
        ("gid_map", nix::unistd::getegid().as_raw(), "group"),
    ] {
        let text = fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
        if !is_mapped(&text, id) {
            return format!(
                "the runtime's own {what} id is not mapped in the user namespace it runs in: see /proc/self/{map}"
            );
        }
    }
    if fd::stat(fd::CWD, c"/").is_ok_and(|root| root.attributes & MOUNT_ROOT == 0) {
        return "the runtime runs in a chroot, where nobody may make user namespaces: enter its root with pivot_root instead"
            .to_owned();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status
        .lines()
        .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    if filtered {
        return "the runtime runs under a seccomp filter, as in a container, that may refuse it: run it with seccomp=unconfined"
            .to_owned();
    }
    "is the runtime in a chroot, or does a security module refuse it? See the kernel's log"
        .to_owned()
}

/// Adds to what failed inside of an ordinary user's namespace that AppArmor lets him have one, and nothing in it.
pub(super) fn explain(error: Error, errno: Errno) -> Error {
    match (errno, apparmor()) {
        (Errno::EPERM | Errno::EACCES, Some(why)) => error.hint(why),
        _ => error,
    }
}

/// Ubuntu's restriction, if it is on and nobody has exempted this program.
fn apparmor() -> Option<String> {
    if number(APPARMOR) != Some(1) {
        return None;
    }
    // A profile that is not this one's exempts it, or has its own rules and its own log.
    let own = fs::read_to_string("/proc/self/attr/apparmor/current");
    let own = own.or_else(|_old| fs::read_to_string("/proc/self/attr/current")).unwrap_or_default();
    let own = own.trim_end_matches(['\0', '\n']);
    (own.is_empty() || own == "unconfined").then(|| {
        format!(
            "AppArmor denies it: {APPARMOR} is 1, and this program has no profile that allows userns. \
             Load one with \"userns,\", or set the sysctl to 0"
        )
    })
}

/// The value of a sysctl.
fn number(setting: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", setting.replacen('.', "/", 1));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether an id map has `id` on its inner side.
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (Some(first), Some(_), Some(size)) = (next(), next(), next()) else { return false };
        (first..first + size).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_mapped_on_the_inner_side() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert!(is_mapped(map, 0) && is_mapped(map, 65536));
        assert!(!is_mapped(map, 65537) && !is_mapped(map, 100_000) && !is_mapped("", 0));
        assert!(is_mapped("0 0 4294967295\n", u32::MAX - 1));
    }

    #[test]
    fn every_limit_has_the_name_that_the_kernel_gives_it() {
        for (_, flag) in namespaces::KINDS {
            let setting = format!("user.max_{}_namespaces", namespaces::proc_name(*flag));
            assert!(number(&setting).is_some(), "{setting}");
        }
        assert!(full(bits(libc::CLONE_NEWUSER)).contains("user.max_user_namespaces = "));
    }
}
