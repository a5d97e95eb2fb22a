//! skopeo's `dir:`: `manifest.json`, and blobs that are called as their digests.

use std::io::Read;

use super::Source;
use super::files::{Directory, Files};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::document;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::manifest::Document;
use crate::media::{OCI_INDEX, OCI_MANIFEST};

/// One image in a directory.
#[derive(Debug)]
pub struct Dir {
    files: Directory,
    limits: Limits,
}

impl Dir {
    /// The image in `files`.
    #[must_use]
    pub fn new(files: Directory, limits: Limits) -> Self {
        Self { files, limits }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.files.small(name, self.limits.document)?.ok_or_else(|| {
            Error::not_found(format!("there is no {name} in {}", self.files.place()))
        })
    }
}

/// What a blob is called: SHA-256 needs no algorithm in its name.
fn name(digest: &Digest) -> String {
    match digest.algorithm_name() {
        "sha256" => digest.hex().to_owned(),
        algorithm => format!("{algorithm}-{}", digest.hex()),
    }
}

impl Source for Dir {
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
        let bytes = self.read("manifest.json")?;
        let document = Document::parse(&bytes, "", &self.limits)?;
        let value = document::parse("manifest.json", &bytes)?;
        let media_type = match (value.get("mediaType").and_then(|v| v.as_str()), document) {
            (Some(own), _) => own,
            (None, Document::Index(_)) => OCI_INDEX,
            (None, Document::Manifest(_)) => OCI_MANIFEST,
        };
        Ok((Descriptor::of(media_type, &bytes), bytes))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.read(&format!("{}.manifest.json", name(&descriptor.digest)))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.files.open(&name(&descriptor.digest), offset)
    }
}
