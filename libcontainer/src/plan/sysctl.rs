//! `linux.sysctl`: only what belongs to a namespace of the container's own.

use std::ffi::CString;

use super::cstring;
use super::namespaces::NamespacePlan;
use crate::error::{Error, Result};
use crate::spec::{Map, Str};

/// A kernel parameter to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlOp {
    /// Its name, as `config.json` has it.
    pub name: String,
    /// Its file, relative to /proc.
    pub file: CString,
    /// Its value.
    pub value: String,
}

const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Plans the kernel parameters.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) for one that is not in a namespace of its own, or is malformed.
pub(super) fn plan(
    sysctl: &Map<'_, Str<'_>>,
    namespaces: &NamespacePlan,
    domainname: Option<&str>,
) -> Result<Vec<SysctlOp>> {
    let mut list = Vec::with_capacity(sysctl.len());
    for (key, value) in sysctl {
        let field = || format!("linux.sysctl[{:?}]", key.as_str());
        let name = dotted(key);
        check_form(&name, key, value).map_err(|reason| Error::config(reason).field(field()))?;
        check_namespace(&name, value, namespaces, domainname)
            .map_err(|reason| Error::config(reason).field(field()))?;
        list.push(SysctlOp {
            file: cstring(&file(key), field)?,
            name: key.to_string(),
            value: value.to_string(),
        });
    }
    Ok(list)
}

/// sysctl(8): whichever of `.` and `/` comes first separates; the other one is part of the names.
fn separator(key: &str) -> char {
    key.chars().find(|c| *c == '.' || *c == '/').unwrap_or('.')
}

fn dotted(key: &str) -> String {
    if separator(key) == '/' { swap(key) } else { key.to_owned() }
}

fn file(key: &str) -> String {
    let path = if separator(key) == '.' { swap(key) } else { key.to_owned() };
    format!("sys/{path}")
}

fn swap(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// A key is a path below /proc/sys: nothing in it may lead elsewhere or start another assignment (CVE-2022-0811).
fn check_form(name: &str, key: &str, value: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_./*-:@".contains(c);
    if name.is_empty() || !key.chars().all(good) {
        return Err(format!("sysctl {key:?} has a character that no kernel parameter has"));
    }
    if file(key).split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(format!("sysctl {key:?} is not the name of a kernel parameter"));
    }
    if value.len() > 4096 || value.contains(['\0', '\n']) {
        return Err(format!("the value of sysctl {key:?} is too long or has more than one line"));
    }
    Ok(())
}

fn check_namespace(
    name: &str,
    value: &str,
    namespaces: &NamespacePlan,
    domainname: Option<&str>,
) -> Result<(), String> {
    let needs = |kind, what: &str| {
        if namespaces.has(kind) {
            Ok(())
        } else {
            Err(format!("sysctl {name:?} is not allowed as no separate {what} namespace is used"))
        }
    };
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return needs(libc::CLONE_NEWIPC, "ipc");
    }
    if name.starts_with("net.") {
        return needs(libc::CLONE_NEWNET, "network");
    }
    if name.starts_with("user.") {
        return needs(libc::CLONE_NEWUSER, "user");
    }
    if name == "kernel.domainname" {
        needs(libc::CLONE_NEWUTS, "uts")?;
        return match domainname {
            Some(own) if own != value => {
                Err(format!("sysctl {name:?} says {value:?} but domainname says {own:?}"))
            }
            _ => Ok(()),
        };
    }
    if name == "kernel.hostname" {
        return Err(format!(
            "sysctl {name:?} is not allowed as it conflicts with the OCI hostname field"
        ));
    }
    Err(format!("sysctl {name:?} is not in a separate kernel namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &'static str, new: libc::c_int) -> Result<Vec<SysctlOp>> {
        let namespaces = NamespacePlan { new, ..NamespacePlan::default() };
        plan(&Map(vec![(key.into(), "1".into())]), &namespaces, None)
    }

    #[test]
    fn both_separators_name_the_same_file() {
        for (key, want) in [
            ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eno2.100/rp_filter", "sys/net/ipv4/conf/eno2.100/rp_filter"),
            ("net.ipv4.conf.eno2/100.rp_filter", "sys/net/ipv4/conf/eno2.100/rp_filter"),
        ] {
            let list = one(key, libc::CLONE_NEWNET).unwrap();
            assert_eq!(list.first().unwrap().file.to_str().unwrap(), want);
        }
    }

    #[test]
    fn only_what_a_namespace_of_its_own_holds_is_written() {
        let all =
            libc::CLONE_NEWIPC | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWUSER;
        for key in [
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "net.core.somaxconn",
            "kernel.domainname",
            "user.max_pid_namespaces",
        ] {
            assert!(one(key, all).is_ok(), "{key}");
            assert!(one(key, 0).is_err(), "{key}");
        }
        for key in [
            "kernel.hostname",
            "vm.swappiness",
            "kernel.core_pattern",
            "kernel/sem/../core_pattern",
            "net.ipv4+vm",
            "kernel..sem",
            "",
            "net/../../self/x",
        ] {
            assert!(one(key, all).is_err(), "{key}");
        }
    }
}
