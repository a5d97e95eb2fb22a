//! `linux.netDevices`: which network devices move in, and what they are called there.

use super::NamespacePlan;
use crate::error::{Error, Result};
use crate::spec::{Map, NetDevice};

/// `IFNAMSIZ`, which counts a NUL.
const NAME_MAX: usize = 15;

/// A device to move into the container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDeviceOp {
    /// Its name in the runtime's network namespace.
    pub host_name: String,
    /// Its name in the container's; with `%d` in it the first number that is free.
    pub name: String,
}

impl NetDeviceOp {
    /// The property that asks for it.
    pub fn field(&self) -> String {
        format!("linux.netDevices[{:?}]", self.host_name)
    }
}

pub(super) fn plan(
    devices: &Map<'_, NetDevice<'_>>,
    namespaces: &NamespacePlan,
    euid: u32,
) -> Result<Vec<NetDeviceOp>> {
    let mut list: Vec<NetDeviceOp> = Vec::with_capacity(devices.len());
    if devices.is_empty() {
        return Ok(list);
    }
    if !namespaces.has(libc::CLONE_NEWNET) {
        return Err(Error::config(
            "unable to move network devices without a private NET namespace",
        )
        .field("linux.netDevices")
        .hint("add {\"type\": \"network\"} to linux.namespaces"));
    }
    if euid != 0 {
        return Err(Error::unsupported(
            "network devices are not supported for rootless containers",
        )
        .field("linux.netDevices"));
    }
    for (host_name, device) in devices {
        let given = device.name.as_deref().filter(|name| !name.is_empty());
        let op = NetDeviceOp {
            host_name: host_name.to_string(),
            name: given.unwrap_or(host_name).to_owned(),
        };
        if !is_name(host_name) || host_name.contains('%') {
            return Err(Error::config(format!(
                "invalid network device name {:?}",
                host_name.as_str()
            ))
            .field(op.field()));
        }
        if !is_name(&op.name) || op.name.replacen("%d", "", 1).contains('%') {
            return Err(Error::config(format!("invalid network device name {:?}", op.name))
                .field(format!("{}.name", op.field()))
                .hint(
                    "at most 15 bytes, no slash, colon or blank; one %d stands for a free number",
                ));
        }
        let taken = |other: &&NetDeviceOp| other.name == op.name && !op.name.contains('%');
        if let Some(other) = list.iter().find(taken) {
            return Err(Error::config(format!(
                "network devices {:?} and {:?} would have the same name {:?}",
                other.host_name, op.host_name, op.name
            ))
            .field(op.field()));
        }
        list.push(op);
    }
    Ok(list)
}

/// What the kernel takes (dev_valid_name in net/core/dev.c).
fn is_name(name: &str) -> bool {
    let bad = |byte: u8| matches!(byte, 0 | b'/' | b':') || byte.is_ascii_whitespace();
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && !name.bytes().any(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str, namespaces: libc::c_int) -> Result<Vec<NetDeviceOp>> {
        let namespaces = NamespacePlan { new: namespaces, ..NamespacePlan::default() };
        plan(&serde_json::from_str(json).unwrap(), &namespaces, 0)
    }

    #[test]
    fn a_device_keeps_its_name_unless_it_gets_another() {
        let list = build(
            r#"{"eth1": {}, "eth2": {"name": ""}, "a": {"name": "net%d"}, "b": {"name": "net%d"}}"#,
            libc::CLONE_NEWNET,
        )
        .unwrap();
        let names: Vec<_> = list.iter().map(|op| op.name.as_str()).collect();
        assert_eq!(names, ["eth1", "eth2", "net%d", "net%d"]);
        assert!(build("{}", 0).unwrap().is_empty());
    }

    #[test]
    fn names_the_kernel_would_refuse_are_refused_before() {
        for bad in [
            r#"{"": {}}"#,
            r#"{"a/b": {}}"#,
            r#"{"..": {}}"#,
            r#"{"0123456789abcdef": {}}"#,
            r#"{"a b": {}}"#,
            r#"{"e%d": {}}"#,
            r#"{"a": {"name": "x:1"}}"#,
            r#"{"a": {"name": "x\u0000"}}"#,
            r#"{"a": {"name": "%d%d"}}"#,
            r#"{"a": {"name": "%s"}}"#,
            r#"{"a": {"name": "x"}, "b": {"name": "x"}}"#,
            r#"{"a": {"name": "b"}, "b": {}}"#,
        ] {
            let error = build(bad, libc::CLONE_NEWNET).unwrap_err().to_string();
            assert!(error.contains("(config.json: linux.netDevices["), "{bad}: {error}");
        }
    }

    #[test]
    fn there_has_to_be_a_namespace_and_root() {
        let error = build(r#"{"a": {}}"#, libc::CLONE_NEWNS).unwrap_err().to_string();
        assert!(error.contains("without a private NET namespace"), "{error}");
        let namespaces = NamespacePlan { new: libc::CLONE_NEWNET, ..NamespacePlan::default() };
        let one: Map<'_, NetDevice<'_>> = serde_json::from_str(r#"{"a": {}}"#).unwrap();
        let error = plan(&one, &namespaces, 1000).unwrap_err().to_string();
        assert!(error.contains("rootless"), "{error}");
    }
}
