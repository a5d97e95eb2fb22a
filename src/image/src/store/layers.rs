//! Unpacked layers: directories for overlay, by diff ID.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::{Store, tree};
use crate::digest::Digest;
use crate::error::{Error, Result};

fn name_of(diff_id: &Digest) -> String {
    format!("unpacked/{}/{}", diff_id.algorithm_name(), diff_id.hex())
}

impl Store {
    /// Where an unpacked layer is, or would be.
    #[must_use]
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.path.join(name_of(diff_id))
    }

    /// Whether a layer is there, unpacked.
    #[must_use]
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        fstatat(self.dir(), name_of(diff_id).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Unpacks a layer with `unpack`, which gets an empty directory, unless it is there. It has its name only after `unpack` has succeeded.
    /// Two processes at once share the work: the second waits. Returns `None` when it was there.
    ///
    /// # Errors
    /// Those of `unpack`, and of making and renaming the directory; then nothing is left.
    pub fn unpack_layer<T>(
        &self,
        diff_id: &Digest,
        unpack: impl FnOnce(OwnedFd) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.has_layer(diff_id) {
            return Ok(None);
        }
        let key = format!("layer-{}-{}", diff_id.algorithm_name(), diff_id.hex());
        let _lock = self.lock(&key, true)?;
        if self.has_layer(diff_id) {
            return Ok(None);
        }
        let temporary = format!(".skep/tmp/{key}");
        // One who was killed has left it: the lock says that it is nobody's.
        tree::remove(self.dir(), Path::new(&temporary))
            .map_err(|e| e.context("a layer that was left half unpacked"))?;
        mkdirat(self.dir(), temporary.as_str(), Mode::S_IRWXU)
            .map_err(|e| self.failed("make", &temporary, e))?;
        let result = self.fill(diff_id, &temporary, unpack);
        if result.is_err()
            && let Err(error) = tree::remove(self.dir(), Path::new(&temporary))
        {
            // The first error is the one to tell; the next unpacking tries this again.
            drop(error);
        }
        result.map(Some)
    }

    fn fill<T>(
        &self,
        diff_id: &Digest,
        temporary: &str,
        unpack: impl FnOnce(OwnedFd) -> Result<T>,
    ) -> Result<T> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(self.dir(), temporary, flags, Mode::empty())
            .map_err(|errno| self.failed("open", temporary, errno))?;
        let done = unpack(dir)?;
        self.make_algorithm("unpacked", diff_id)?;
        let name = name_of(diff_id);
        let renamed = renameat2(
            self.dir(),
            temporary,
            self.dir(),
            name.as_str(),
            RenameFlags::RENAME_NOREPLACE,
        );
        match renamed {
            Ok(()) => Ok(done),
            // Some file systems do not know the flag; the lock says that there is nothing to replace.
            Err(Errno::EINVAL) => {
                nix::fcntl::renameat(self.dir(), temporary, self.dir(), name.as_str())
                    .map(|()| done)
                    .map_err(|errno| self.failed("make", &name, errno))
            }
            Err(errno) => Err(self.failed("make", &name, errno)),
        }
    }

    /// Notes that the bundle at `path` (absolute) is made of these layers, so that they are not removed while it is there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn register_bundle(&self, path: &Path, diff_ids: &[Digest]) -> Result<()> {
        let path = path.to_str().filter(|path| path.starts_with('/')).ok_or_else(|| {
            Error::usage(format!("{} is not an absolute path in UTF-8", path.display()))
        })?;
        let content = serde_json::json!({"bundle": path, "layers": diff_ids});
        let key = Digest::of(path.as_bytes());
        self.replace(&format!(".skep/bundles/{}", key.hex()), content.to_string().as_bytes())
    }

    /// Removes an unpacked layer. It must be under a name of its own first: half of one must not be taken for the whole.
    pub(super) fn remove_layer(&self, algorithm: &str, hex: &str) -> Result<()> {
        let name = format!("unpacked/{algorithm}/{hex}");
        let temporary = format!(".skep/tmp/gone-{algorithm}-{hex}-{}", std::process::id());
        match nix::fcntl::renameat(self.dir(), name.as_str(), self.dir(), temporary.as_str()) {
            Ok(()) => tree::remove(self.dir.as_fd(), Path::new(&temporary)),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", &name, errno)),
        }
    }
}
