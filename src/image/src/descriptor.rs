//! Descriptors: what points at content.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::media::{self, Media};
use crate::platform::Platform;

/// The annotation that an entry of a layout's index has its tag in.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's, with the whole name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What points at content: its type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is; empty where an old layout or archive did not say.
    #[serde(default)]
    pub media_type: String,
    /// The content's name.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Other places to get it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// What else is said about it.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// For an entry of an index: the machine it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// For an artifact: its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// Names of a descriptor's properties.
pub(crate) const KEYS: &[&str] =
    &["mediaType", "digest", "size", "urls", "annotations", "platform", "data", "artifactType"];

/// Go writes an absent slice or map as `null`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Descriptor {
    /// One that says only the necessary.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            data: None,
            artifact_type: None,
        }
    }

    /// One for content that is in memory.
    #[must_use]
    pub fn of(media_type: impl Into<String>, content: &[u8]) -> Self {
        Self::new(media_type, Digest::of(content), content.len() as u64)
    }

    /// What the content is said to be.
    #[must_use]
    pub fn media(&self) -> Media {
        Media::of(&self.media_type)
    }

    /// Whether it is BuildKit's statement about an image rather than an image.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self
                .platform
                .as_ref()
                .is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }

    /// The content, where it needs no source: it stands in the descriptor (and is what the digest says), or it is `{}`.
    #[must_use]
    pub fn embedded(&self) -> Option<Cow<'static, [u8]>> {
        let content = match &self.data {
            Some(data) => Cow::Owned(base64(data)?),
            None if self.media_type == media::OCI_EMPTY => Cow::Borrowed(b"{}".as_slice()),
            None => return None,
        };
        let whole = content.len() as u64 == self.size && self.digest.verify(&content).is_ok();
        whole.then_some(content)
    }

    /// Holds content that is in memory against size and digest.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification), saying which of the two is wrong.
    pub fn verify(&self, content: &[u8]) -> Result<()> {
        if content.len() as u64 != self.size {
            return Err(Error::verification(format!(
                "{} has {} bytes, and its descriptor says {}",
                self.digest,
                content.len(),
                self.size
            )));
        }
        self.digest.verify(content)
    }
}

/// RFC 4648 base64 with padding, as Go's encoding/json reads it. `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let digits = text.get(..text.len() - padding)?;
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_content_is_verified() {
        let mut descriptor = Descriptor::of("text/plain", b"hello");
        assert!(descriptor.embedded().is_none());
        descriptor.data = Some("aGVsbG8=".to_owned());
        assert_eq!(descriptor.embedded().unwrap(), b"hello".as_slice());
        for wrong in ["aGVsbG9", "aGVs bG8=", "====", "", "aGVsbG8====="] {
            descriptor.data = Some(wrong.to_owned());
            assert!(descriptor.embedded().is_none(), "{wrong}");
        }
        assert_eq!(Descriptor::of(media::OCI_EMPTY, b"{}").embedded().unwrap(), b"{}".as_slice());
    }

    #[test]
    fn sizes_that_are_none() {
        let digest = Digest::of(b"");
        for size in ["-1", "1.5", "18446744073709551616", "\"1\"", "null", "1e3"] {
            let text = format!(r#"{{"mediaType":"x","digest":"{digest}","size":{size}}}"#);
            assert!(serde_json::from_str::<Descriptor>(&text).is_err(), "{size}");
        }
        assert!(serde_json::from_str::<Descriptor>(r#"{"mediaType":"x","size":1}"#).is_err());
    }
}
