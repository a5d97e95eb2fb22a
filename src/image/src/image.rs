//! One image of a source: its manifest, found through indexes and platforms, and its configuration.

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::limits::Limits;
use crate::manifest::{Document, ImageConfig, Manifest};
use crate::platform::{self, Platform};
use crate::source::{self, Source};

/// One image. Everything in it has been verified.
#[derive(Debug)]
pub struct Image {
    /// The root that the name stands for: an index, or the manifest itself.
    pub root: Descriptor,
    /// The indexes on the way to the manifest, the root first, with their bytes.
    pub indexes: Vec<(Descriptor, Vec<u8>)>,
    /// What points at the manifest.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    pub bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
}

impl Image {
    /// Finds the image for `platform` (for this machine, when absent) in what the source stands for.
    ///
    /// # Errors
    /// Those of the source, of the documents, and [`Kind::NotFound`](crate::Kind::NotFound) when there is none for the platform.
    pub fn find(source: &dyn Source, platform: Option<&Platform>, limits: &Limits) -> Result<Self> {
        let (root, bytes) = source.resolve()?;
        Self::from_root(source, root, bytes, platform, limits)
    }

    /// As [`find`](Self::find), from a root that is there already.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn from_root(
        source: &dyn Source,
        root: Descriptor,
        bytes: Vec<u8>,
        platform: Option<&Platform>,
        limits: &Limits,
    ) -> Result<Self> {
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        let mut indexes: Vec<(Descriptor, Vec<u8>)> = Vec::new();
        let (mut descriptor, mut bytes) = (root.clone(), bytes);
        let mut descriptors = 0;
        loop {
            let document = Document::parse(&bytes, &descriptor.media_type, limits)
                .context(|| descriptor.digest.to_string())?;
            let index = match document {
                Document::Manifest(manifest) => {
                    return Ok(Self { root, indexes, descriptor, bytes, manifest: *manifest });
                }
                Document::Index(index) => index,
            };
            descriptors += index.manifests.len();
            if descriptors > limits.descriptors {
                let limit = limits.descriptors;
                return Err(Error::no_space(format!("the indexes have more than {limit} entries")));
            }
            if indexes.iter().any(|(seen, _)| seen.digest == descriptor.digest) {
                return Err(Error::verification(format!(
                    "the index {} is in itself",
                    descriptor.digest
                )));
            }
            indexes.push((descriptor, bytes));
            if indexes.len() > limits.index_depth {
                let limit = limits.index_depth;
                return Err(Error::no_space(format!(
                    "indexes stand in indexes deeper than {limit}"
                )));
            }
            let usable: Vec<&Descriptor> =
                index.manifests.iter().filter(|entry| is_readable(entry)).collect();
            let next = platform::choose(&usable, wanted)?.clone();
            bytes = source::manifest(source, &next, limits)?;
            descriptor = next;
        }
    }

    /// The configuration: its bytes, and what of them an unpacker needs.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::Kind::Unsupported) for an artifact and for another operating system than Linux; those of reading.
    pub fn config(&self, source: &dyn Source, limits: &Limits) -> Result<(Vec<u8>, ImageConfig)> {
        self.manifest.must_be_image()?;
        let bytes = source::document(source, &self.manifest.config, limits)?;
        let config = ImageConfig::parse(&bytes, &self.manifest)?;
        let os = &config.platform.os;
        if !os.is_empty() && !os.eq_ignore_ascii_case("linux") {
            return Err(Error::unsupported(format!(
                "the image is for {os:.40}, and only those for linux are unpacked"
            )));
        }
        Ok((bytes, config))
    }

    /// The digest of the root: what the name stands for, whatever the platform.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.root.digest
    }

    /// All blobs of the image, each once: the configuration, then the layers.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = std::collections::HashSet::new();
        std::iter::once(&self.manifest.config)
            .chain(&self.manifest.layers)
            .filter(|descriptor| seen.insert(&descriptor.digest))
            .collect()
    }
}

/// Whether an entry of an index is something that may hold an image. What is of another kind, or of the future, is passed over.
fn is_readable(entry: &Descriptor) -> bool {
    use crate::media::Media;
    entry.media_type.is_empty()
        || matches!(entry.media(), Media::Index | Media::Manifest | Media::Schema1)
}
