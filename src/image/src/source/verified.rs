//! A reader that ends well only if what it read is what the descriptor says.

use std::collections::HashSet;
use std::io::{self, Read};

use super::Source;
use crate::descriptor::Descriptor;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};

/// Reads content and holds it against size and digest: reading past the size, an early end and, at the end, another digest are
/// errors. So who reads to the end without an error has read what the descriptor names; who does not has read nothing that
/// counts.
pub struct Verified<R> {
    inner: R,
    digest: Digest,
    size: u64,
    read: u64,
    hasher: Option<Hasher>,
}

impl<R: Read> Verified<R> {
    /// Begins at the first byte of the content.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::Kind::Unsupported) for a digest that cannot be computed.
    pub fn new(inner: R, descriptor: &Descriptor) -> Result<Self> {
        let hasher = Some(descriptor.digest.hasher()?);
        Ok(Self {
            inner,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            read: 0,
            hasher,
        })
    }

    /// Begins after `read` bytes, which `hasher` has been fed: a download goes on.
    #[must_use]
    pub fn resumed(inner: R, descriptor: &Descriptor, hasher: Hasher, read: u64) -> Self {
        Self {
            inner,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            read,
            hasher: Some(hasher),
        }
    }

    /// Begins at the first byte of content whose digest was verified already: its size alone is held against the descriptor.
    #[must_use]
    pub fn again(inner: R, descriptor: &Descriptor) -> Self {
        let Descriptor { digest, size, .. } = descriptor;
        Self { inner, digest: digest.clone(), size: *size, read: 0, hasher: None }
    }

    /// How many bytes have come, those before a resumption included.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    fn finish(&mut self) -> Result<()> {
        if self.read != self.size {
            let (digest, size, read) = (&self.digest, self.size, self.read);
            return Err(Error::verification(format!("{digest} ends after {read} of {size} bytes")));
        }
        // None is left after the first end, and there is none for what was verified before.
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(Error::verification(format!("content of {} has the digest {found}", self.digest)))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.finish()?;
            return Ok(0);
        }
        self.read = self.read.saturating_add(count as u64);
        if self.read > self.size {
            let (digest, size) = (&self.digest, self.size);
            return Err(
                Error::verification(format!("{digest} goes on after its {size} bytes")).into()
            );
        }
        if let (Some(hasher), Some(bytes)) = (&mut self.hasher, buffer.get(..count)) {
            hasher.update(bytes);
        }
        Ok(count)
    }
}

impl<R> std::fmt::Debug for Verified<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({}, {} of {})", self.digest, self.read, self.size)
    }
}

/// A place that this process has brought blobs to, each verified on its way.
pub struct Brought<S> {
    inner: S,
    blobs: HashSet<Digest>,
}

impl<S: Source> Brought<S> {
    /// `blobs`: those that were brought, and not those that were there.
    pub fn new(inner: S, blobs: impl IntoIterator<Item = Digest>) -> Self {
        Self { inner, blobs: blobs.into_iter().collect() }
    }
}

impl<S> std::fmt::Debug for Brought<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Brought({} blobs)", self.blobs.len())
    }
}

impl<S: Source> Source for Brought<S> {
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
        self.inner.resolve()
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.inner.manifest(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.inner.blob(descriptor, offset)
    }

    fn has_verified(&self, descriptor: &Descriptor) -> bool {
        self.blobs.contains(&descriptor.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Limits};

    fn read(content: &[u8], descriptor: &Descriptor) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = Verified::new(content, descriptor)?;
        reader.read_to_end(&mut bytes).map_err(|error| Error::io("cannot read", error))?;
        Ok(bytes)
    }

    #[test]
    fn only_the_right_content_ends_well() {
        let descriptor = Descriptor::of("x", b"hello");
        assert_eq!(read(b"hello", &descriptor).unwrap(), b"hello");
        for wrong in [b"hell".as_slice(), b"hello!", b"hellO", b""] {
            assert_eq!(
                read(wrong, &descriptor).unwrap_err().kind(),
                Kind::Verification,
                "{wrong:?}"
            );
        }
        let nothing = Descriptor::of("x", b"");
        assert!(read(b"", &nothing).unwrap().is_empty());
        assert!(read(b"x", &nothing).is_err());
    }

    #[test]
    fn a_resumed_one_covers_what_was_there() {
        let descriptor = Descriptor::of("x", b"hello");
        let mut hasher = descriptor.digest.hasher().unwrap();
        hasher.update(b"he");
        let mut bytes = Vec::new();
        let mut reader = Verified::resumed(b"llo".as_slice(), &descriptor, hasher, 2);
        assert!(reader.read_to_end(&mut bytes).is_ok());
    }

    struct Bytes(&'static [u8]);

    impl Source for Bytes {
        fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
            Err(Error::not_found("nothing"))
        }

        fn manifest(&self, _: &Descriptor) -> Result<Vec<u8>> {
            Err(Error::not_found("nothing"))
        }

        fn blob(&self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new(self.0))
        }
    }

    #[test]
    fn what_was_brought_is_hashed_once_and_its_size_held_again() {
        let descriptor = Descriptor::of("x", b"hello");
        let all = |reader: Result<Verified<Box<dyn Read + Send + '_>>>| {
            let mut bytes = Vec::new();
            let read = reader?.read_to_end(&mut bytes);
            read.map(|_| bytes).map_err(|error| Error::io("cannot read", error))
        };
        let brought = |bytes| Brought::new(Bytes(bytes), [descriptor.digest.clone()]);
        let changed = brought(b"hellO");
        assert_eq!(all(crate::source::layer(&changed, &descriptor)).unwrap(), b"hellO");
        // Of nothing else is the digest taken for granted: what has no diff ID, and what was there before.
        let verification = |read: Result<Vec<u8>>| {
            assert_eq!(read.unwrap_err().kind(), Kind::Verification);
        };
        verification(all(crate::source::blob(&changed, &descriptor)));
        verification(crate::source::document(&changed, &descriptor, &Limits::default()));
        verification(all(crate::source::layer(&Brought::new(changed, []), &descriptor)));
        for wrong in [b"hell".as_slice(), b"hello!", b""] {
            verification(all(crate::source::layer(&brought(wrong), &descriptor)));
        }
    }
}
