//! Blobs: into the store, whole and verified or not at all.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Held, Store};
use crate::descriptor::Descriptor;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Event, Listener};
use crate::source::layout::blob_name;
use crate::source::{Source, Verified};

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// How a blob came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// It was there, or somebody else brought it while we waited.
    pub cached: bool,
    /// Bytes that were read from the source.
    pub bytes: u64,
}

impl Held<'_> {
    /// Puts content that is in memory into the store, verified.
    ///
    /// # Errors
    /// [`Kind::Verification`], and those of writing.
    pub fn put(&self, descriptor: &Descriptor, content: &[u8]) -> Result<()> {
        descriptor.verify(content)?;
        if self.has(descriptor) {
            return Ok(());
        }
        self.make_algorithm("blobs", &descriptor.digest)?;
        self.replace(&blob_name(&descriptor.digest), content)
    }

    /// Brings a blob from `source`, going on where an earlier try ended. Two processes at once share one download: the second waits.
    ///
    /// # Errors
    /// Those of the source and of writing; what has come by then is kept. [`Kind::Verification`] when it is not what its descriptor
    /// says, and [`Kind::NoSpace`] when the disk is full; then nothing is kept.
    pub fn fetch(
        &self,
        source: &dyn Source,
        descriptor: &Descriptor,
        listener: &dyn Listener,
    ) -> Result<Fetched> {
        let cached = || {
            listener.event(Event::BlobDone { descriptor, cached: true });
            Ok(Fetched { cached: true, bytes: 0 })
        };
        if self.has(descriptor) {
            return cached();
        }
        if let Some(content) = descriptor.embedded() {
            self.put(descriptor, &content)?;
            return cached();
        }
        let digest = &descriptor.digest;
        let key = format!("{}-{}", digest.algorithm_name(), digest.hex());
        let _lock = self.lock(&key, true)?;
        if self.has(descriptor) {
            return cached();
        }
        let part = format!(".skep/ingest/{key}");
        let first = self.download(source, descriptor, &part, listener);
        let result = match first {
            // What an earlier try has left may be what is wrong.
            Err((error, true)) if error.kind() == Kind::Verification => {
                self.download(source, descriptor, &part, listener)
            }
            other => other,
        };
        let bytes = result.map_err(|(error, _)| error)?;
        listener.event(Event::BlobDone { descriptor, cached: false });
        Ok(Fetched { cached: false, bytes })
    }
}

impl Store {
    /// Whether a blob is there, with the right size. Its content was verified when it came, and is again whenever another
    /// process uses it ([`source::layer`](crate::source::layer)).
    #[must_use]
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        let name = blob_name(&descriptor.digest);
        fstatat(self.dir(), name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(descriptor.size))
    }

    /// One try. The error says whether it went on where an earlier one ended.
    fn download(
        &self,
        source: &dyn Source,
        descriptor: &Descriptor,
        part: &str,
        listener: &dyn Listener,
    ) -> Result<u64, (Error, bool)> {
        let what = || format!("cannot write {}/{part}", self.path.display());
        let mut resumed = false;
        let run = |resumed: &mut bool| {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let mode = Mode::from_bits_truncate(0o644);
            let fd = openat(self.dir(), part, flags, mode)
                .map_err(|errno| self.failed("write", part, errno))?;
            let mut file = File::from(fd);
            let mut hasher = descriptor.digest.hasher()?;
            let offset = read_again(&mut file, descriptor.size, &mut hasher).context(what)?;
            *resumed = offset > 0;
            listener.event(Event::BlobStart { descriptor, offset });
            // Whole already: killed between the last byte and the rename.
            let inner: Box<dyn Read + Send + '_> = if offset == descriptor.size {
                Box::new(std::io::empty())
            } else {
                source.blob(descriptor, offset)?
            };
            let mut reader = Verified::resumed(inner, descriptor, hasher, offset);
            copy(&mut reader, &mut file, descriptor, listener, &what)?;
            // Its name says that it was verified: a size without the bytes must not get it when the power fails.
            file.sync_data().context(what)?;
            self.make_algorithm("blobs", &descriptor.digest)?;
            let name = blob_name(&descriptor.digest);
            renameat(self.dir(), part, self.dir(), name.as_str())
                .map_err(|errno| self.failed("make", &name, errno))?;
            Ok(descriptor.size - offset)
        };
        run(&mut resumed).map_err(|error: Error| {
            // On a full disk half of a blob is in the way of everything else.
            if matches!(error.kind(), Kind::Verification | Kind::NoSpace) {
                let _gone = unlinkat(self.dir(), part, UnlinkatFlags::NoRemoveDir);
            }
            (error, resumed)
        })
    }

    /// The directory of an algorithm's digests.
    pub(super) fn make_algorithm(&self, below: &str, digest: &Digest) -> Result<()> {
        self.make_directory(&format!("{below}/{}", digest.algorithm_name()))
    }

    /// Removes a blob. It need not be there.
    pub(super) fn remove_blob(&self, algorithm: &str, hex: &str) -> Result<()> {
        let name = format!("blobs/{algorithm}/{hex}");
        match unlinkat(self.dir(), name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", &name, errno)),
        }
    }
}

/// Feeds `hasher` what the file holds, at most `size` bytes; a longer one is emptied. Leaves the file at its end.
fn read_again(file: &mut File, size: u64, hasher: &mut Hasher) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    if length > size {
        file.set_len(0)?;
        return Ok(0);
    }
    let mut buffer = vec![0; BUFFER.min(usize::try_from(length).unwrap_or(BUFFER)).max(1)];
    let mut offset = 0;
    while offset < length {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        offset += count as u64;
    }
    file.seek(SeekFrom::Start(offset))
}

fn copy(
    reader: &mut impl Read,
    file: &mut File,
    descriptor: &Descriptor,
    listener: &dyn Listener,
    what: &dyn Fn() -> String,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::io(format_args!("cannot read {}", descriptor.digest), error));
            }
        };
        file.write_all(buffer.get(..count).unwrap_or_default()).context(what)?;
        listener.event(Event::BlobProgress { descriptor, bytes: count as u64 });
    }
}
