//! A reader that ends well only if what it read is what the descriptor says.

use std::io::{self, Read};

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

    /// How many bytes have come, those before a resumption included.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    fn finish(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.read != self.size {
            let (digest, size, read) = (&self.digest, self.size, self.read);
            return Err(Error::verification(format!("{digest} ends after {read} of {size} bytes")));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

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
}
