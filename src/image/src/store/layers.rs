//! Unpacked layers: directories for overlay.
//!
//! A layer that is right above any other has its diff ID for a name, and all images share it. One that took something from those below it (the owner of
//! a directory that it has no entry for, the content of a hard link) is right above those alone: its name is the [`Name::stacked`] one.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::sys::fd::rename_new;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::{Held, Store};
use crate::bundle::userns::remove_any;
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::interrupt::{self, HalfMade};

/// What the layers of an image are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The layer by itself.
    pub diff_id: Digest,
    /// The layer above those that the image has below it: its chain ID (image-spec config.md). Of the lowest layer that is its diff ID again, and here
    /// the digest of a space and that: a layer that is above nothing may be wrong above something.
    pub stacked: Digest,
}

impl Name {
    /// Of all layers of an image, the lowest first.
    #[must_use]
    pub fn of(diff_ids: &[Digest]) -> Vec<Self> {
        let mut chain: Option<Digest> = None;
        let mut next = |diff_id: &Digest| {
            let below = chain.as_ref().map(ToString::to_string).unwrap_or_default();
            let stacked = Digest::of(format!("{below} {diff_id}").as_bytes());
            let id = if chain.is_none() { diff_id.clone() } else { stacked.clone() };
            chain = Some(id);
            Self { diff_id: diff_id.clone(), stacked }
        };
        diff_ids.iter().map(&mut next).collect()
    }

    /// The name of the same layer unpacked in a user namespace with `ids`: its files belong to others.
    #[must_use]
    pub fn with_ids(&self, ids: &str) -> Self {
        let of = |key: &Digest| Digest::of(format!("{key} {ids}").as_bytes());
        Self { diff_id: of(&self.diff_id), stacked: of(&self.stacked) }
    }
}

/// A layer that is in the store now.
#[derive(Debug)]
pub struct Unpacked<T> {
    /// Its name.
    pub key: Digest,
    /// What the closure has returned; `None` when the layer was there.
    pub done: Option<T>,
}

/// As that of a draft: under another name first, that it is not given its own while it is removed.
fn unless_named(temporaries: &OwnedFd, unfinished: &str) -> Result<HalfMade> {
    let temporaries =
        temporaries.try_clone().map_err(|error| Error::io("cannot remember a directory", error))?;
    let (from, to) = (unfinished.to_owned(), format!("gone-{unfinished}-{}", std::process::id()));
    Ok(interrupt::half_made(move || {
        if renameat(&temporaries, from.as_str(), &temporaries, to.as_str()).is_ok() {
            // Somebody may still be putting something in.
            let _collected_later =
                (0..16).any(|_| remove_any(temporaries.as_fd(), to.as_ref()).is_ok());
        }
    }))
}

fn name_of(key: &Digest) -> String {
    format!("unpacked/{}/{}", key.algorithm_name(), key.hex())
}

impl Held<'_> {
    /// Unpacks a layer with `unpack`, which gets an empty directory, unless it is there. `unpack` says whether the layer took something from those below
    /// it. It has its name only after `unpack` has succeeded. Two processes at once share the work: the second waits.
    ///
    /// # Errors
    /// Those of `unpack`, and of making and renaming the directory; then nothing is left.
    pub fn unpack_layer<T>(
        &self,
        name: &Name,
        unpack: impl FnOnce(OwnedFd) -> Result<(bool, T)>,
    ) -> Result<Unpacked<T>> {
        let there = |key: &Digest| Ok(Unpacked { key: key.clone(), done: None });
        if let Some(key) = self.has_layer(name) {
            return there(key);
        }
        let unfinished = format!("layer-{}-{}", name.diff_id.algorithm_name(), name.diff_id.hex());
        let _lock = self.lock(&unfinished, true)?;
        if let Some(key) = self.has_layer(name) {
            return there(key);
        }
        let temporaries = self.open_below(".skep/tmp")?;
        // One who was killed has left it: the lock says that it is nobody's.
        remove_any(temporaries.as_fd(), unfinished.as_ref())
            .context(|| "a layer that was left half unpacked")?;
        let busy = interrupt::busy();
        mkdirat(&temporaries, unfinished.as_str(), Mode::S_IRWXU)
            .map_err(|errno| self.failed("make", &unfinished, errno))?;
        let half_made = unless_named(&temporaries, &unfinished)?;
        drop(busy);
        let result = self.fill(name, &format!(".skep/tmp/{unfinished}"), unpack);
        let _to_its_end = interrupt::busy();
        drop(half_made);
        if result.is_err() {
            // The first error is the one to tell; the next unpacking tries this again.
            let _tried_again = remove_any(temporaries.as_fd(), unfinished.as_ref());
        }
        result
    }

    /// Notes that the bundle at `path` (absolute) is made of these layers, so that they are not removed while it is there. It may come to be there as
    /// long as this is held; one of other layers that is there keeps its own.
    ///
    /// # Errors
    /// Those of writing.
    pub fn register_bundle(&self, path: &Path, keys: &[Digest]) -> Result<()> {
        let path = path.to_str().filter(|path| path.starts_with('/')).ok_or_else(|| {
            Error::usage(format!("{} is not an absolute path in UTF-8", path.display()))
        })?;
        let content = serde_json::json!({"bundle": path, "layers": keys});
        let content = content.to_string();
        let name = format!(".skep/bundles/{}", Digest::of(content.as_bytes()).hex());
        // A bundle was there before, of the same layers: to write it to the disk again is what making one mostly waits for.
        if self.read_small(&name)?.is_some_and(|known| known == content.as_bytes()) {
            return Ok(());
        }
        self.replace(&name, content.as_bytes())
    }
}

impl Store {
    /// Where an unpacked layer is, or would be.
    #[must_use]
    pub fn layer_path(&self, key: &Digest) -> PathBuf {
        self.path.join(name_of(key))
    }

    /// The name under which a layer is there, unpacked.
    #[must_use]
    pub fn has_layer<'a>(&self, name: &'a Name) -> Option<&'a Digest> {
        let is_there = |key: &&Digest| {
            fstatat(self.dir(), name_of(key).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
        };
        [&name.diff_id, &name.stacked].into_iter().find(is_there)
    }

    fn fill<T>(
        &self,
        name: &Name,
        temporary: &str,
        unpack: impl FnOnce(OwnedFd) -> Result<(bool, T)>,
    ) -> Result<Unpacked<T>> {
        let (depends, done) = unpack(self.open_below(temporary)?)?;
        // Its name says that it is whole: files without their bytes must not get it when the power fails.
        nix::unistd::syncfs(self.open_below(temporary)?)
            .map_err(|errno| self.failed("write", temporary, errno))?;
        let key = if depends { &name.stacked } else { &name.diff_id };
        self.make_algorithm("unpacked", key)?;
        let to = name_of(key);
        let name = |text: &str| {
            CString::new(text).map_err(|_nul| self.failed("make", text, Errno::EINVAL))
        };
        match rename_new(self.dir(), &name(temporary)?, self.dir(), &name(&to)?) {
            // Some file systems do not know the flag; the lock says that there is nothing to replace.
            Err(Errno::EINVAL) => renameat(self.dir(), temporary, self.dir(), to.as_str()),
            other => other,
        }
        .map_err(|errno| self.failed("make", &to, errno))?;
        Ok(Unpacked { key: key.clone(), done: Some(done) })
    }

    /// Removes an unpacked layer. It must be under a name of its own first: half of one must not be taken for the whole.
    pub(super) fn remove_layer(&self, algorithm: &str, hex: &str) -> Result<()> {
        let name = format!("unpacked/{algorithm}/{hex}");
        let temporaries = self.open_below(".skep/tmp")?;
        let temporary = format!("gone-{algorithm}-{hex}-{}", std::process::id());
        match renameat(self.dir(), name.as_str(), &temporaries, temporary.as_str()) {
            Ok(()) => remove_any(temporaries.as_fd(), temporary.as_ref())
                .context(|| format!("now .skep/tmp/{temporary}")),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", &name, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_chain_ids() {
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
        let names = Name::of(&[a.clone(), b.clone(), c.clone()]);
        let ids: Vec<&Digest> = names.iter().map(|name| &name.diff_id).collect();
        assert_eq!(ids, [&a, &b, &c]);
        // What is above nothing is not called as it is by itself.
        assert_ne!(names[0].stacked, a);
        let chain = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(names[1].stacked, chain);
        assert_ne!(names[1].with_ids("0 1000 1"), names[1].with_ids("0 1001 1"));
        assert_eq!(names[2].stacked, Digest::of(format!("{chain} {c}").as_bytes()));
    }
}
