//! `linux.devices` and the devices every container has (config-linux.md "Default Devices").

use std::ffi::CString;

use super::cstring;
use crate::error::{Error, Result};
use crate::path;
use crate::spec;

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOp {
    /// Index in `linux.devices`; `None` for a default one.
    pub index: Option<usize>,
    /// Where, relative to the root, cleaned.
    pub target: CString,
    /// The same, absolute: the host's node that a user namespace binds.
    pub host: CString,
    /// `S_IF*` and permission bits.
    pub mode: u32,
    /// Device number.
    pub number: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

const DEFAULTS: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Symbolic links every fresh /dev has: target, name.
pub const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
];

/// Plans the devices: the defaults, then the listed ones, of which one may replace a default.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) naming the entry.
pub(super) fn plan(devices: &[spec::Device<'_>]) -> Result<Vec<DeviceOp>> {
    let mut list: Vec<DeviceOp> = Vec::with_capacity(DEFAULTS.len() + devices.len());
    for (name, major, minor) in DEFAULTS {
        let path = format!("dev/{name}");
        list.push(DeviceOp {
            index: None,
            target: cstring(&path, String::new)?,
            host: cstring(&format!("/{path}"), String::new)?,
            mode: libc::S_IFCHR | 0o666,
            number: libc::makedev(*major, *minor),
            uid: 0,
            gid: 0,
        });
    }
    for (index, device) in devices.iter().enumerate() {
        let op = one(index, device)?;
        match list.iter_mut().find(|known| known.target == op.target) {
            None => list.push(op),
            Some(known) if known.index.is_none() => *known = op,
            Some(known) if known.mode == op.mode && known.number == op.number => {}
            Some(known) => {
                return Err(Error::config(format!(
                    "the device {:?} is listed twice with different values",
                    known.host
                ))
                .field(format!("linux.devices[{index}]")));
            }
        }
    }
    Ok(list)
}

fn one(index: usize, device: &spec::Device<'_>) -> Result<DeviceOp> {
    let field = format!("linux.devices[{index}]");
    if !device.path.starts_with('/') {
        return Err(Error::config(format!("the device path {:?} is not absolute", device.path))
            .field(format!("{field}.path")));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => {
            return Err(Error::config(format!("invalid device type {other:?}"))
                .field(format!("{field}.type"))
                .hint("use c, b, u or p"));
        }
    };
    let number = if kind == libc::S_IFIFO {
        0
    } else {
        // makedev(3): the kernel has 12 and 20 bits, and would drop the others without a word.
        let part = |value: Option<i64>, name: &str, max: u32| {
            let number = value.and_then(|value| u32::try_from(value).ok());
            number.filter(|number| *number <= max).ok_or_else(|| {
                Error::config(format!("{}: {name} is missing or out of range", device.path))
                    .field(format!("{field}.{name}"))
            })
        };
        libc::makedev(part(device.major, "major", 0xfff)?, part(device.minor, "minor", 0xf_ffff)?)
    };
    for (id, name) in [(device.uid, "uid"), (device.gid, "gid")] {
        if id == Some(u32::MAX) {
            return Err(Error::config(format!("{} is not a valid {name}", u32::MAX))
                .field(format!("{field}.{name}")));
        }
    }
    let mode = device.file_mode.unwrap_or(0o666);
    let target = path::clean(&device.path);
    if target.is_empty() {
        return Err(Error::config("a device cannot be /").field(format!("{field}.path")));
    }
    Ok(DeviceOp {
        index: Some(index),
        host: cstring(&format!("/{target}"), || format!("{field}.path"))?,
        target: cstring(&target, || format!("{field}.path"))?,
        mode: kind | mode & 0o7777,
        number,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(
        path: &'static str,
        kind: &'static str,
        major: i64,
        minor: i64,
    ) -> spec::Device<'static> {
        spec::Device {
            path: path.into(),
            kind: kind.into(),
            major: Some(major),
            minor: Some(minor),
            ..Default::default()
        }
    }

    #[test]
    fn listed_devices_replace_defaults_and_doubles_must_agree() {
        let list =
            plan(&[device("/dev/null", "c", 1, 3), device("/dev//fuse", "c", 10, 229)]).unwrap();
        assert_eq!(list.len(), DEFAULTS.len() + 1);
        assert_eq!(list.first().unwrap().index, Some(0));
        assert_eq!(list.last().unwrap().target.to_str().unwrap(), "dev/fuse");
        let twice = [device("/dev/fuse", "c", 10, 229), device("/dev/fuse", "c", 10, 230)];
        assert!(plan(&twice).unwrap_err().to_string().contains("linux.devices[1]"));
    }

    #[test]
    fn bad_devices_name_their_field() {
        for (entry, field) in [
            (device("dev/x", "c", 1, 1), "linux.devices[0].path"),
            (device("/dev/x", "q", 1, 1), "linux.devices[0].type"),
            (device("/dev/x", "c", -1, 1), "linux.devices[0].major"),
            (device("/", "c", 1, 1), "linux.devices[0].path"),
        ] {
            let message = plan(&[entry]).unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }
}
