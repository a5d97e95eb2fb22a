//! Manifests, indexes and what of a configuration an unpacker must know.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::descriptor::{self, Descriptor, null_is_default};
use crate::digest::Digest;
use crate::document;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::media::Media;
use crate::platform::Platform;
use crate::source::{self, Source};

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What the document says it is; layouts may leave it out.
    #[serde(default)]
    pub media_type: Option<String>,
    /// For an artifact: its type.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// What this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// What else is said about it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, or of lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// What the document says it is; layouts may leave it out.
    #[serde(default)]
    pub media_type: Option<String>,
    /// For an artifact: its type.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// What there is.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// What this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// What else is said about it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A list.
    Index(Box<Index>),
}

const MANIFEST_KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "subject",
    "annotations",
    "manifests",
    "fsLayers",
];

impl Document {
    /// Reads a manifest or an index. `expected` is what its descriptor or its `Content-Type` says; empty when neither does.
    ///
    /// The document is refused if it could be taken for either (CVE-2021-41190), if it says of itself that it is the other,
    /// and if it is Docker's schema 1.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification), [`Kind::Unsupported`](crate::Kind::Unsupported) for schema 1, [`Kind::NoSpace`](crate::Kind::NoSpace) beyond `limits`.
    pub fn parse(bytes: &[u8], expected: &str, limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.document {
            return Err(Error::no_space(format!(
                "the manifest is larger than {} bytes",
                limits.document
            )));
        }
        if Media::of(expected) == Media::Schema1 {
            return Err(schema1());
        }
        let value = document::parse("the manifest", bytes)?;
        document::exact_keys("the manifest", &value, MANIFEST_KEYS)?;
        let has = |key: &str| value.get(key).is_some_and(|v| !v.is_null());
        let media_type = match value.get("mediaType") {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text.as_str(),
            Some(_) => {
                return Err(Error::verification(
                    "the manifest is not valid: mediaType is not a string",
                ));
            }
        };
        let version = value.get("schemaVersion").and_then(Value::as_u64);
        if Media::of(media_type) == Media::Schema1 || version == Some(1) || has("fsLayers") {
            return Err(schema1());
        }
        if has("manifests") && (has("layers") || has("config")) {
            return Err(Error::verification(
                "the manifest is ambiguous: it has both manifests and layers or config, and could be taken for either (CVE-2021-41190)",
            ));
        }
        let is_index = match (Media::of(expected), Media::of(media_type)) {
            (Media::Index, Media::Manifest) | (Media::Manifest, Media::Index) => {
                return Err(Error::verification(format!(
                    "the manifest is ambiguous: it is delivered as {expected:?}, and says of itself that it is {media_type:?}"
                )));
            }
            (Media::Index, _) | (_, Media::Index) => true,
            (Media::Manifest, _) | (_, Media::Manifest) => false,
            _ => has("manifests"),
        };
        if version != Some(2) {
            return Err(Error::verification("the manifest is not valid: schemaVersion is not 2"));
        }
        if is_index { Self::index(value, limits) } else { Self::manifest(value, limits) }
    }

    fn index(value: Value, limits: &Limits) -> Result<Self> {
        for (n, entry) in
            value.get("manifests").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            document::exact_keys(&format!("manifests[{n}] of the index"), entry, descriptor::KEYS)?;
        }
        let index: Index = typed("the index", value)?;
        if index.manifests.len() > limits.descriptors {
            return Err(Error::no_space(format!(
                "the index has {} manifests, and {} are the limit",
                index.manifests.len(),
                limits.descriptors
            )));
        }
        Ok(Self::Index(Box::new(index)))
    }

    fn manifest(value: Value, limits: &Limits) -> Result<Self> {
        if let Some(config) = value.get("config") {
            document::exact_keys("config of the manifest", config, descriptor::KEYS)?;
        }
        for (n, layer) in
            value.get("layers").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            document::exact_keys(&format!("layers[{n}] of the manifest"), layer, descriptor::KEYS)?;
        }
        let manifest: Manifest = typed("the manifest", value)?;
        if manifest.layers.len() > limits.layers {
            return Err(Error::no_space(format!(
                "the image has {} layers, and {} are the limit",
                manifest.layers.len(),
                limits.layers
            ))
            .hint("--max-layers allows more"));
        }
        Ok(Self::Manifest(Box::new(manifest)))
    }
}

impl Manifest {
    /// Refuses what is no image: an artifact can be copied, and not unpacked.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::Kind::Unsupported) with the artifact's type.
    pub fn must_be_image(&self) -> Result<()> {
        if self.config.media() == Media::Config {
            return Ok(());
        }
        let kind = self.artifact_type.as_deref().unwrap_or(&self.config.media_type);
        Err(Error::unsupported(format!(
            "this is an artifact of type {kind:?}, not an image that can be unpacked"
        )))
    }
}

impl Manifest {
    /// Holds what the configuration of an image says of its layers against this manifest, before they are brought: the type, and diff IDs that are
    /// such and as many. What is not all layers is an artifact, whatever it calls its configuration.
    ///
    /// # Errors
    /// As [`ImageConfig::parse`]; those of reading it.
    pub fn check_config(&self, source: &dyn Source, limits: &Limits) -> Result<()> {
        let is_layer = |layer: &Descriptor| matches!(layer.media(), Media::Layer(_));
        if self.must_be_image().is_err() || !self.layers.iter().all(is_layer) {
            return Ok(());
        }
        let bytes = source::document(source, &self.config, limits)?;
        ImageConfig::parse(&bytes, self).map(drop)
    }
}

/// What of an image's configuration decides how it is unpacked. The rest is read by [`convert`](crate::convert).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// What it runs on.
    pub platform: Platform,
    /// The digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    r#type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads the configuration of `manifest`.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification): also when `rootfs.type` is not `layers`, or the diff IDs are not as many as the layers.
    pub fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Self> {
        let mut value = document::parse_config(bytes)?;
        // Some builders write the names of Go's fields. Any letters are accepted, but not both.
        if let Some(object) = value.as_object_mut() {
            for name in ["os", "architecture", "variant", "rootfs"] {
                let keys: Vec<String> =
                    object.keys().filter(|key| key.eq_ignore_ascii_case(name)).cloned().collect();
                match keys.as_slice() {
                    [] => {}
                    [key] => {
                        if let Some(inner) = object.remove(key) {
                            let _absent = object.insert(name.to_owned(), inner);
                        }
                    }
                    _ => {
                        return Err(Error::verification(format!(
                            "the image's configuration is ambiguous: it has the properties {}",
                            keys.join(" and ")
                        )));
                    }
                }
            }
        }
        let raw: RawConfig = typed("the image's configuration", value)?;
        if raw.rootfs.r#type != "layers" {
            return Err(Error::verification(format!(
                "the image's configuration is not valid: rootfs.type is {:?}, and must be \"layers\"",
                raw.rootfs.r#type
            )));
        }
        if raw.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::verification(format!(
                "the manifest has {} layers, and the image's configuration rootfs.diff_ids for {}",
                manifest.layers.len(),
                raw.rootfs.diff_ids.len()
            )));
        }
        let platform = Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant,
            ..Platform::default()
        };
        Ok(Self { platform, diff_ids: raw.rootfs.diff_ids })
    }
}

/// `value` as `T`, with an error that says where it is not one.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|error| Error::verification(format!("{what} is not valid: {error}")))
}

fn schema1() -> Error {
    Error::unsupported(
        "this is an image of Docker's schema 1, which is not supported: ask who publishes it to push it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::media::{DOCKER_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST};

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":2}}"#, Digest::of(b"{}"))
    }

    fn image() -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json"),
            descriptor("application/vnd.oci.image.layer.v1.tar")
        )
    }

    fn kind_of(text: &str, expected: &str) -> Kind {
        Document::parse(text.as_bytes(), expected, &Limits::default()).unwrap_err().kind()
    }

    #[test]
    fn the_two_kinds_are_told_apart() {
        let limits = Limits::default();
        let parse = |text: &str, expected: &str| {
            Document::parse(text.as_bytes(), expected, &limits).unwrap()
        };
        assert!(matches!(parse(&image(), OCI_MANIFEST), Document::Manifest(_)));
        assert!(matches!(parse(&image(), ""), Document::Manifest(_)));
        assert!(matches!(parse(r#"{"schemaVersion":2,"manifests":[]}"#, ""), Document::Index(_)));
        assert!(matches!(
            parse(r#"{"schemaVersion":2,"manifests":null}"#, OCI_INDEX),
            Document::Index(_)
        ));
        assert!(matches!(
            parse(r#"{"schemaVersion":2,"manifests":[]}"#, "text/plain"),
            Document::Index(_)
        ));
    }

    #[test]
    fn what_could_be_either_is_refused() {
        let both = image().replacen("{", r#"{"manifests":[],"#, 1);
        assert_eq!(kind_of(&both, OCI_MANIFEST), Kind::Verification);
        assert_eq!(kind_of(&both, OCI_INDEX), Kind::Verification);
        let says_index = image().replacen("{", &format!(r#"{{"mediaType":"{OCI_INDEX}","#), 1);
        assert_eq!(kind_of(&says_index, OCI_MANIFEST), Kind::Verification);
        assert_eq!(kind_of(&image(), OCI_INDEX), Kind::Verification, "an index without manifests");
        for text in [
            image().replacen("layers", "Layers", 1),
            image().replacen("\"layers\"", "\"manifests\"", 1),
            image().replacen("{", r#"{"Manifests":[],"#, 1),
            image().replacen("{", r#"{"layers":[],"#, 1),
            image().replacen("\"digest\"", "\"Digest\"", 1),
            image().replacen("{", r#"{"mediaType":1,"#, 1),
        ] {
            assert_eq!(kind_of(&text, OCI_MANIFEST), Kind::Verification, "{text}");
        }
    }

    #[test]
    fn versions_and_limits() {
        assert_eq!(kind_of(&image().replace(":2,\"config", ":1,\"config"), ""), Kind::Unsupported);
        assert_eq!(kind_of(&image().replace(":2,\"config", ":3,\"config"), ""), Kind::Verification);
        assert_eq!(kind_of(r#"{"schemaVersion":2,"fsLayers":[]}"#, ""), Kind::Unsupported);
        assert_eq!(kind_of(&image(), DOCKER_SCHEMA1_SIGNED), Kind::Unsupported);
        let many = vec![descriptor("application/vnd.oci.image.layer.v1.tar"); 257].join(",");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{many}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json")
        );
        assert_eq!(kind_of(&text, ""), Kind::NoSpace);
        let small = Limits { document: 10, ..Limits::default() };
        assert_eq!(
            Document::parse(image().as_bytes(), "", &small).unwrap_err().kind(),
            Kind::NoSpace
        );
        let many = vec![descriptor("x"); 10_001].join(",");
        assert_eq!(
            kind_of(&format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#), ""),
            Kind::NoSpace
        );
    }

    #[test]
    fn configurations() {
        let Document::Manifest(manifest) =
            Document::parse(image().as_bytes(), "", &Limits::default()).unwrap()
        else {
            panic!("not a manifest");
        };
        let id = Digest::of(b"");
        let parse = |text: String| ImageConfig::parse(text.as_bytes(), &manifest);
        let good = parse(format!(
            r#"{{"os":"linux","Architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{id}"]}}}}"#
        ))
        .unwrap();
        assert_eq!((good.platform.architecture.as_str(), good.diff_ids.len()), ("amd64", 1));
        for text in [
            "{}".to_owned(),
            r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers"}}"#.to_owned(),
            format!(r#"{{"rootfs":{{"type":"foo","diff_ids":["{id}"]}}}}"#),
            format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{id}","{id}"]}}}}"#),
            format!(
                r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
                id.to_string().to_uppercase()
            ),
            format!(r#"{{"OS":"a","os":"b","rootfs":{{"type":"layers","diff_ids":["{id}"]}}}}"#),
        ] {
            assert_eq!(parse(text.clone()).unwrap_err().kind(), Kind::Verification, "{text}");
        }
    }

    #[test]
    fn artifacts_are_no_images() {
        let text = image().replace(
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.cncf.helm.config.v1+json",
        );
        let Document::Manifest(manifest) =
            Document::parse(text.as_bytes(), "", &Limits::default()).unwrap()
        else {
            panic!("not a manifest");
        };
        let refused = manifest.must_be_image().unwrap_err();
        assert_eq!(refused.kind(), Kind::Unsupported);
        assert!(refused.to_string().contains("helm"), "{refused}");
    }
}
