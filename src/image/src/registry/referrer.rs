//! What refers to a manifest: the index that a client keeps where the registry keeps none.

use serde_json::{Map, Value, json};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::document;
use crate::error::{Error, Result};
use crate::media;

/// More entries are hostile.
const ENTRIES: usize = 10_000;

/// Whom a manifest is about.
pub(super) fn subject(bytes: &[u8]) -> Option<Digest> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    Digest::parse(value.get("subject")?.get("digest")?.as_str()?).ok()
}

/// The index `known` (empty when there is none) with `pushed`, whose bytes are `bytes`, in it; `None` when it is there already.
///
/// # Errors
/// [`Kind::Verification`](crate::Kind::Verification) for what is no index.
pub(super) fn added(known: &[u8], pushed: &Descriptor, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut index = if known.is_empty() {
        json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [] })
    } else {
        document::parse("the index of referrers", known)?
    };
    let wrong = || Error::verification("the index of referrers is none");
    let own = index.get("mediaType").and_then(Value::as_str).unwrap_or(media::OCI_INDEX);
    if own != media::OCI_INDEX {
        return Err(wrong());
    }
    let manifests = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(wrong)?;
    let digest = pushed.digest.to_string();
    let is_it = |entry: &Value| entry.get("digest").and_then(Value::as_str) == Some(&digest);
    if manifests.iter().any(is_it) {
        return Ok(None);
    }
    if manifests.len() >= ENTRIES {
        return Err(Error::no_space(format!("it has {ENTRIES} entries")));
    }
    manifests.push(entry(pushed, bytes));
    Ok(Some(index.to_string().into_bytes()))
}

/// The descriptor with the type of the artifact and the annotations of the manifest, as the referrers API gives it.
fn entry(pushed: &Descriptor, bytes: &[u8]) -> Value {
    let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut entry = Map::new();
    entry.insert("mediaType".into(), json!(pushed.media_type));
    entry.insert("digest".into(), json!(pushed.digest.to_string()));
    entry.insert("size".into(), json!(pushed.size));
    let of_config = manifest.get("config").and_then(|config| config.get("mediaType"));
    let kind =
        manifest.get("artifactType").filter(|kind| kind.as_str().is_some_and(|k| !k.is_empty()));
    if let Some(kind) = kind.or(of_config) {
        entry.insert("artifactType".into(), kind.clone());
    }
    if let Some(annotations) = manifest.get("annotations").filter(|a| a.is_object()) {
        entry.insert("annotations".into(), annotations.clone());
    }
    entry.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_added_once() {
        let bytes = br#"{"artifactType":"x/sbom","subject":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"annotations":{"a":"b"}}"#;
        assert_eq!(subject(bytes).unwrap(), Digest::of(b"{}"));
        assert!(subject(b"{}").is_none() && subject(br#"{"subject":{"digest":"../x"}}"#).is_none());
        let pushed = Descriptor::of(media::OCI_MANIFEST, bytes);
        let index = added(b"", &pushed, bytes).unwrap().unwrap();
        let value: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(value["manifests"][0]["artifactType"], "x/sbom");
        assert_eq!(value["manifests"][0]["annotations"]["a"], "b");
        assert!(added(&index, &pushed, bytes).unwrap().is_none());
        let other = Descriptor::of(media::OCI_MANIFEST, b"{}");
        let both =
            added(&index, &other, br#"{"config":{"mediaType":"x/config"}}"#).unwrap().unwrap();
        let value: Value = serde_json::from_slice(&both).unwrap();
        assert_eq!(value["manifests"][1]["artifactType"], "x/config");
        for bad in ["[]", "{}", r#"{"mediaType":"x","manifests":[]}"#, "<html>"] {
            assert!(added(bad.as_bytes(), &pushed, bytes).is_err(), "{bad}");
        }
    }
}
