//! Media types: what a descriptor says its content is.

use crate::error::{Error, Result};

/// What content is, as far as a reader of images must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    /// An OCI index or a Docker manifest list.
    Index,
    /// An OCI or Docker (version 2, schema 2) manifest.
    Manifest,
    /// Docker's schema 1: refused everywhere.
    Schema1,
    /// The configuration of an image.
    Config,
    /// A layer. What it is compressed with is seen in its bytes: builders mislabel.
    Layer(Compression),
    /// An encrypted layer.
    Encrypted,
    /// Something else: an artifact's, or one of the future.
    Other,
}

/// What a media type says of a layer's compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// OCI's index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI's manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI's layer without compression.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI's layer with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI's layer with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The content `{}`.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's manifest of old.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// The same with signatures.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What a client accepts of a registry, in the order of preference.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

impl Media {
    /// What `media_type` says, parameters (`;charset=utf-8`) apart.
    #[must_use]
    pub fn of(media_type: &str) -> Self {
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        match media_type {
            OCI_INDEX | DOCKER_LIST => Self::Index,
            OCI_MANIFEST | DOCKER_MANIFEST => Self::Manifest,
            DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED => Self::Schema1,
            OCI_CONFIG | DOCKER_CONFIG => Self::Config,
            _ => Self::layer(media_type),
        }
    }

    fn layer(media_type: &str) -> Self {
        const TAR: [&str; 4] = [
            OCI_LAYER,
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
        ];
        if media_type.ends_with("+encrypted") {
            return Self::Encrypted;
        }
        let Some(rest) = TAR.iter().find_map(|tar| media_type.strip_prefix(tar)) else {
            return Self::Other;
        };
        match rest {
            "" => Self::Layer(Compression::None),
            "+gzip" | ".gzip" => Self::Layer(Compression::Gzip),
            "+zstd" | ".zstd" => Self::Layer(Compression::Zstd),
            _ => Self::Other,
        }
    }

    /// Refuses a layer that cannot be applied, with the reason.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::Kind::Unsupported).
    pub fn must_be_layer(media_type: &str) -> Result<Compression> {
        match Self::of(media_type) {
            Self::Layer(compression) => Ok(compression),
            Self::Encrypted => Err(Error::unsupported(format!(
                "the layer is encrypted ({media_type}): decrypt the image first, with skopeo copy --decryption-key"
            ))),
            _ => Err(Error::unsupported(format!(
                "{media_type:?} is not a layer that can be applied"
            ))),
        }
    }

    /// Whether a registry should not be asked to keep it: foreign layers are licensed so.
    #[must_use]
    pub fn is_nondistributable(media_type: &str) -> bool {
        media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", Media::Layer(Compression::None)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Media::Layer(Compression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Media::Layer(Compression::Zstd)),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                Media::Layer(Compression::Gzip),
            ),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Media::Layer(Compression::Gzip)),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Media::Layer(Compression::Zstd)),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                Media::Layer(Compression::Gzip),
            ),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", Media::Encrypted),
            ("application/vnd.oci.image.layer.v1.tar+xz", Media::Other),
            ("application/vnd.wasm.content.layer.v1+wasm", Media::Other),
            ("application/vnd.oci.image.index.v1+json; charset=utf-8", Media::Index),
            ("", Media::Other),
        ] {
            assert_eq!(Media::of(media_type), expected, "{media_type}");
        }
        assert!(Media::is_nondistributable(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ));
        let refused =
            Media::must_be_layer("application/vnd.oci.image.layer.v1.tar+encrypted").unwrap_err();
        assert!(refused.to_string().contains("encrypted"), "{refused}");
    }
}
