//! Where an image is.

pub mod archive;
mod dir;
mod docker;
mod files;
pub mod layout;
mod location;
#[cfg(test)]
mod tests;
mod verified;

use std::io::Read;

pub use dir::Dir;
pub use docker::DockerArchive;
pub use files::{Directory, Files};
pub use layout::{Layout, Select};
pub use location::Location;
pub use verified::{Brought, Verified};

use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// A place that one image can be read from: a layout, an archive, the store, a repository of a registry.
///
/// What it gives is not verified. [`document`] and [`blob`] do that, and are what everybody uses.
pub trait Source: Sync {
    /// The root of the image: the manifest or index that the name stands for, with its bytes. The digest of the descriptor is that of
    /// the bytes; where the name holds a digest, the caller of `resolve` may trust that it was checked.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when there is no such image, and those of reading.
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)>;

    /// The bytes of a manifest or index that `descriptor`, from an index of this image, points at.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// The bytes of a blob, from `offset` on.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// Whether this process has verified the blob itself, on its way to where it is read from now. See [`layer`].
    fn has_verified(&self, _descriptor: &Descriptor) -> bool {
        false
    }
}

/// A blob, verified while it is read: see [`Verified`].
///
/// # Errors
/// Those of the source; and [`Kind::Unsupported`](crate::Kind::Unsupported) for a digest that cannot be computed.
pub fn blob<'a>(
    source: &'a dyn Source,
    descriptor: &Descriptor,
) -> Result<Verified<Box<dyn Read + Send + 'a>>> {
    let inner: Box<dyn Read + Send + 'a> = match descriptor.embedded() {
        Some(content) => Box::new(std::io::Cursor::new(content)),
        None => source.blob(descriptor, 0)?,
    };
    Verified::new(inner, descriptor)
}

/// The blob of a layer whose uncompressed content is held against its diff ID: as [`blob`], but one that this process has verified a moment ago, when
/// it brought it, is not hashed a second time. Its size is looked at again, and the diff ID says what is in it.
///
/// # Errors
/// As [`blob`].
pub fn layer<'a>(
    source: &'a dyn Source,
    descriptor: &Descriptor,
) -> Result<Verified<Box<dyn Read + Send + 'a>>> {
    if descriptor.embedded().is_none() && source.has_verified(descriptor) {
        return Ok(Verified::again(source.blob(descriptor, 0)?, descriptor));
    }
    blob(source, descriptor)
}

/// A blob that is a document, in memory, verified.
///
/// # Errors
/// As [`blob`]; [`Kind::NoSpace`](crate::Kind::NoSpace) when it is larger than `limits.document`.
pub fn document(source: &dyn Source, descriptor: &Descriptor, limits: &Limits) -> Result<Vec<u8>> {
    check_document_size(descriptor, limits)?;
    let mut bytes = Vec::new();
    let mut reader = blob(source, descriptor)?;
    let read = reader.read_to_end(&mut bytes);
    read.map_err(|error| Error::io(format_args!("cannot read {}", descriptor.digest), error))?;
    Ok(bytes)
}

/// A manifest or index below the root, in memory, verified.
///
/// # Errors
/// As [`document`].
pub fn manifest(source: &dyn Source, descriptor: &Descriptor, limits: &Limits) -> Result<Vec<u8>> {
    check_document_size(descriptor, limits)?;
    if let Some(content) = descriptor.embedded() {
        return Ok(content.into_owned());
    }
    let bytes = source.manifest(descriptor)?;
    descriptor.verify(&bytes)?;
    Ok(bytes)
}

fn check_document_size(descriptor: &Descriptor, limits: &Limits) -> Result<()> {
    if descriptor.size <= limits.document {
        return Ok(());
    }
    Err(Error::no_space(format!(
        "{} ({}) says that it has {} bytes, and {} are the limit of a document",
        descriptor.digest, descriptor.media_type, descriptor.size, limits.document
    )))
}
