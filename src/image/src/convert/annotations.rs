//! Annotations: the image's labels, and what conversion.md makes of properties that `config.json` has no field for.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ImageConfig, Notes, Request, object};
use crate::error::{Error, Result};

/// Beginnings of annotations that a runtime or an engine acts upon: units with commands of their own, hooks whose output
/// goes to a file, other handlers. Whoever made the image must not reach them (CVE-2026-53488 was a label that ran a
/// command as root); whoever starts it may, with `--allow-annotations` or `--annotation`.
const POWERFUL: &[&str] = &[
    "com.github.containers.",
    "dev.gvisor.",
    "io.containerd.",
    "io.container.",
    "io.crun.",
    "io.katacontainers.",
    "io.kubernetes.",
    "io.podman.",
    "krun.",
    "module.wasm.image/",
    "org.criu.",
    "org.opencontainers.runc.",
    "org.opencontainers.runtime.",
    "org.skep.",
    "org.systemd.property.",
    "run.oci.",
    "skep.",
];

/// Endings of such annotations: CRI-O's, as `cpu-quota.crio.io`, some with the container's name behind a slash.
const POWERFUL_HOSTS: &[&str] = &[".crio.io", ".cri-o.io", ".kata.io"];

/// Labels that are named when they are left out: a hostile image has as many as it likes.
const NAMED: usize = 100;

/// Whether a runtime could do something because of this annotation.
#[must_use]
pub fn is_powerful(key: &str) -> bool {
    // Nobody reads keys without regard to case, and nobody should have to rely on it.
    let key = key.trim().to_ascii_lowercase();
    let host = key.split('/').next().unwrap_or_default();
    POWERFUL.iter().any(|prefix| key.starts_with(prefix))
        || POWERFUL_HOSTS.iter().any(|suffix| host.ends_with(suffix))
}

/// Fills `annotations` of `spec`. `labels` are those of the image.
///
/// # Errors
/// An `--annotation` without a key.
pub(super) fn fill(
    spec: &mut Map<String, Value>,
    image: &ImageConfig,
    labels: BTreeMap<String, String>,
    request: &Request,
    notes: &mut Notes,
) -> Result<()> {
    let annotations = object(spec, "annotations")?;
    let ports = image.exposed_ports.join(",");
    let features = image.os_features.join(",");
    for (name, value) in [
        ("os", &image.os),
        ("os.version", &image.os_version),
        ("os.features", &features),
        ("architecture", &image.architecture),
        ("variant", &image.variant),
        ("author", &image.author),
        ("created", &image.created),
        ("stopSignal", &image.stop_signal),
        ("exposedPorts", &ports),
    ] {
        if !value.is_empty() {
            let key = format!("org.opencontainers.image.{name}");
            let field = match name {
                "stopSignal" => "config.StopSignal",
                "exposedPorts" => "config.ExposedPorts",
                same => same,
            };
            notes.origin(format!("annotations {key}"), format!("image: {field}"));
            annotations.insert(key, value.as_str().into());
        }
    }
    // After them: conversion.md gives a label of the same name precedence.
    let mut left_out = 0;
    for (key, value) in labels {
        if key.is_empty() {
            notes.warn("a label without a name is left out");
        } else if is_powerful(&key) && !request.allow_annotations {
            left_out += 1;
            if left_out > NAMED {
                continue;
            }
            notes.warn(format!(
                "the image's label {key:?} is left out: runtimes act upon such annotations (--allow-annotations keeps it)"
            ));
        } else {
            notes.replace(format!("annotations {key}"), "image: config.Labels");
            annotations.insert(key, value.into());
        }
    }
    if left_out > NAMED {
        notes.warn(format!("and {} more labels like these are left out", left_out - NAMED));
    }
    for (key, value) in &request.annotations {
        if key.is_empty() {
            return Err(Error::usage("--annotation wants KEY=VALUE"));
        }
        notes.replace(format!("annotations {key}"), "--annotation");
        annotations.insert(key.clone(), value.as_str().into());
    }
    if annotations.is_empty() {
        spec.remove("annotations");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_known_by_its_name() {
        for key in [
            "run.oci.hooks.stdout",
            "run.oci.handler",
            "org.systemd.property.ExecStartPre",
            "ORG.systemd.property.X",
            " run.oci.handler",
            "org.criu.config",
            "io.kubernetes.cri-o.Devices",
            "io.podman.annotations.privileged",
            "io.containerd.runc.v2.group",
            "io.katacontainers.config.hypervisor.path",
            "cpu-quota.crio.io",
            "irq-load-balancing.crio.io/name",
            "seccomp-profile.kubernetes.cri-o.io/c",
            "module.wasm.image/variant",
            "krun.cpus",
        ] {
            assert!(is_powerful(key), "{key}");
        }
        for key in [
            "maintainer",
            "org.opencontainers.image.title",
            "org.label-schema.name",
            "com.example.run.oci.handler",
            "io.buildah.version",
            "runx.oci.y",
        ] {
            assert!(!is_powerful(key), "{key}");
        }
    }
}
