//! OCI layouts, as directories and in archives.

use std::collections::HashSet;
use std::io::Read;

use serde_json::{Value, json};

use super::Source;
use super::files::Files;
use crate::descriptor::{CONTAINERD_NAME, Descriptor, REF_NAME};
use crate::digest::Digest;
use crate::document;
use crate::error::{Context, Error, Result};
use crate::limits::Limits;
use crate::manifest::{Document, Index};
use crate::media::OCI_INDEX;
use crate::reference::Reference;

/// Which of the images of a place is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// The only one.
    Only,
    /// The one of this tag or name.
    Name(String),
    /// The one of this digest.
    Digest(Digest),
}

impl std::fmt::Display for Select {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Name(name) => write!(f, ":{name}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// An OCI layout.
#[derive(Debug)]
pub struct Layout<F> {
    files: F,
    select: Select,
    limits: Limits,
}

impl<F: Files> Layout<F> {
    /// An image of the layout in `files`.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification) when it is no layout, [`Kind::Unsupported`](crate::Kind::Unsupported) when it is one of another version.
    pub fn new(files: F, select: Select, limits: Limits) -> Result<Self> {
        let place = files.place();
        let bytes = files.small("oci-layout", 64 << 10)?.ok_or_else(|| {
            Error::not_found(format!("{place} is not an OCI layout: it has no file oci-layout"))
        })?;
        let value = document::parse(&format!("oci-layout in {place}"), &bytes)?;
        match value.get("imageLayoutVersion").and_then(Value::as_str) {
            Some(version) if version.starts_with("1.") => Ok(Self { files, select, limits }),
            Some(version) => Err(Error::unsupported(format!(
                "{place} is an OCI layout of version {version:.20}, and 1 is what is supported"
            ))),
            None => Err(Error::verification(format!("oci-layout in {place} names no version"))),
        }
    }

    /// The layout's index.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn index(&self) -> Result<Index> {
        let place = self.files.place();
        let bytes = self
            .files
            .small("index.json", self.limits.document)?
            .ok_or_else(|| Error::not_found(format!("{place} has no index.json")))?;
        match Document::parse(&bytes, OCI_INDEX, &self.limits)
            .context(|| format!("index.json in {place}"))?
        {
            Document::Index(index) => Ok(*index),
            Document::Manifest(_) => {
                Err(Error::verification(format!("index.json in {place} is no index")))
            }
        }
    }

    /// The manifests in the layout's index that refer to `digest`, with their types and annotations, as a registry gives them; of `artifact_type`
    /// alone if it is given. What cannot be read refers to nothing.
    ///
    /// # Errors
    /// Those of reading the index.
    pub fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for entry in self.index()?.manifests {
            if !seen.insert(entry.digest.clone()) {
                continue;
            }
            let Ok(bytes) = self.read(&entry) else { continue };
            let document = entry
                .verify(&bytes)
                .and_then(|()| Document::parse(&bytes, &entry.media_type, &self.limits));
            let (subject, kind, annotations) = match document {
                Ok(Document::Manifest(it)) => {
                    let kind = it.artifact_type.filter(|kind| !kind.is_empty());
                    (it.subject, kind.or(Some(it.config.media_type)), it.annotations)
                }
                Ok(Document::Index(it)) => (it.subject, it.artifact_type, it.annotations),
                Err(_) => continue,
            };
            if subject.is_some_and(|subject| subject.digest == *digest)
                && artifact_type.is_none_or(|wanted| kind.as_deref() == Some(wanted))
            {
                found.push(Descriptor {
                    artifact_type: kind,
                    annotations,
                    platform: None,
                    ..entry
                });
            }
        }
        Ok(found)
    }

    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = blob_name(&descriptor.digest);
        self.files.small(&name, self.limits.document)?.ok_or_else(|| {
            Error::not_found(format!(
                "the blob {} is not in {}",
                descriptor.digest,
                self.files.place()
            ))
        })
    }
}

/// Where a layout has a blob.
#[must_use]
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm_name(), digest.hex())
}

/// Entries of an index that `select` means. Several that differ in nothing but their platform are one image.
///
/// # Errors
/// [`Kind::NotFound`](crate::Kind::NotFound) and, if it could be several, [`Kind::Usage`](crate::Kind::Usage), both with the names there are.
pub fn select<'a>(index: &'a Index, select: &Select, place: &str) -> Result<Vec<&'a Descriptor>> {
    let named = |entry: &&Descriptor| match select {
        Select::Only => true,
        Select::Digest(digest) => entry.digest == *digest,
        Select::Name(name) => is_named(entry, name),
    };
    let mut found: Vec<&Descriptor> = index.manifests.iter().filter(named).collect();
    let mut seen = HashSet::new();
    found.retain(|entry| seen.insert(&entry.digest));
    let mut platforms = HashSet::new();
    let one_each = found
        .iter()
        .all(|entry| entry.platform.as_ref().is_some_and(|p| platforms.insert(p.clone().normal())));
    let mut names: Vec<String> = index.manifests.iter().map(name_of).collect();
    names.dedup();
    names.truncate(20);
    let names = names.join(", ");
    match found.len() {
        0 if index.manifests.is_empty() => Err(Error::not_found(format!("{place} has no images"))),
        0 => Err(Error::not_found(format!(
            "{place}{select}: there is no such image; there are {names}"
        ))),
        1 => Ok(found),
        _ if one_each => Ok(found),
        _ => Err(Error::usage(format!("{place}{select} may be several images: {names}"))
            .hint("put :TAG or @DIGEST after the path")),
    }
}

/// Whether `entry` of a layout's index is called `name`.
#[must_use]
pub fn is_named(entry: &Descriptor, name: &str) -> bool {
    let annotation = |key: &str| entry.annotations.get(key).map(String::as_str);
    let (reference, containerd) = (annotation(REF_NAME), annotation(CONTAINERD_NAME));
    if reference == Some(name) || containerd == Some(name) {
        return true;
    }
    // Of a complete name the tag alone may be there, or another spelling of all of it.
    let Ok(wanted) = Reference::parse(name) else { return false };
    let same = |text: &str| Reference::parse(text).is_ok_and(|found| found == wanted);
    containerd.is_some_and(same)
        || reference.is_some_and(|text| text.contains(['/', ':']) && same(text))
}

/// What an entry of a layout's index is called.
#[must_use]
pub fn name_of(entry: &Descriptor) -> String {
    let annotation = |key: &str| entry.annotations.get(key).cloned();
    annotation(REF_NAME)
        .or_else(|| annotation(CONTAINERD_NAME))
        .unwrap_or_else(|| format!("@{}", entry.digest))
}

/// One index of several entries, which stood in a layout's own.
pub(super) fn virtual_index(entries: &[&Descriptor]) -> (Descriptor, Vec<u8>) {
    let value = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let bytes = value.to_string().into_bytes();
    (Descriptor::of(OCI_INDEX, &bytes), bytes)
}

impl<F: Files> Source for Layout<F> {
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
        let index = self.index()?;
        match select(&index, &self.select, &self.files.place())?.as_slice() {
            [one] => {
                let bytes = self.read(one)?;
                one.verify(&bytes)?;
                Ok(((*one).clone(), bytes))
            }
            several => Ok(virtual_index(several)),
        }
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.read(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let name = blob_name(&descriptor.digest);
        // The layout's own words for a missing file would name a path; the image's are more use.
        if self.files.size(&name)?.is_none() {
            let (digest, place) = (&descriptor.digest, self.files.place());
            return Err(Error::not_found(format!("the blob {digest} is not in {place}")));
        }
        self.files.open(&name, offset)
    }
}
