//! What the store holds, what of it nobody needs, and whether it is what it should be.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_json::Value;

use super::{Name, Store};
use crate::bundle::userns::{self, remove_any};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::document;
use crate::error::{Context, Error, Result};
use crate::manifest::Document;
use crate::media::Media;
use crate::source::layout::blob_name;
use crate::source::{Directory, Files as _};

/// What a collection has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Downloads and unpackings that nobody went on with.
    pub unfinished: u64,
    /// Bytes of the blobs and downloads.
    pub bytes: u64,
    /// Bytes that the unpacked layers, and what was unfinished of such, took on the disk.
    pub layer_bytes: u64,
    /// What is still there, for it could not be removed.
    pub left: Vec<Problem>,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images.
    pub images: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes that they take on the disk.
    pub layer_bytes: u64,
    /// Unfinished downloads.
    pub partial: u64,
    /// Their bytes.
    pub partial_bytes: u64,
}

/// Something in the store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, below the store.
    pub name: String,
    /// What is wrong with it.
    pub what: String,
    /// It has been removed.
    pub removed: bool,
}

/// What [`Store::verify`] has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// What is needed.
#[derive(Default)]
struct Marked {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
    /// Manifests and indexes that have been followed, from how deep an index. That a blob is needed does not say so: the subject of an
    /// artifact is a manifest too.
    followed: HashMap<Digest, usize>,
    /// The ids of the namespaces in which this user's layers are unpacked.
    ids: Vec<String>,
}

impl Store {
    /// Removes blobs and unpacked layers that no image needs, nor a bundle, and what was left unfinished. Waits until nobody uses the store. With
    /// `dry` it only says what it would remove.
    ///
    /// # Errors
    /// Those of reading; what cannot be removed is told in [`Removed::left`]. When the manifest of an image cannot be read nothing is removed: what it needs is not known.
    pub fn gc(&self, dry: bool) -> Result<Removed> {
        let _lock = self.lock("store", true)?;
        let mut marked = Marked { ids: userns::ids(), ..Marked::default() };
        for entry in self.entries()? {
            self.mark(&entry.descriptor, 0, &mut marked)
                .context(|| format!("image {}", entry.name))?;
        }
        self.mark_bundles(&mut marked, dry)?;
        let mut removed = Removed::default();
        let mut left = Vec::new();
        // Whether it is gone, or would be.
        let mut done = |removing: &mut dyn FnMut() -> Result<()>, name: String| match if dry {
            Ok(())
        } else {
            removing()
        } {
            Ok(()) => true,
            Err(error) => {
                left.push(Problem { name, what: error.to_string(), removed: false });
                false
            }
        };
        for (algorithm, hex, size) in self.digests("blobs")? {
            let used = Digest::parse(&format!("{algorithm}:{hex}"))
                .is_ok_and(|d| marked.blobs.contains(&d));
            if !used
                && done(
                    &mut || self.remove_blob(&algorithm, &hex),
                    format!("blobs/{algorithm}/{hex}"),
                )
            {
                removed.blobs += 1;
                removed.bytes += size;
            }
        }
        // What of a layer cannot be removed comes to be there, and is told of once.
        let unfinished =
            [".skep/ingest", ".skep/tmp"].map(|place| (place, self.list(Path::new(place))));
        for (algorithm, hex, _) in self.digests("unpacked")? {
            let used = Digest::parse(&format!("{algorithm}:{hex}"))
                .is_ok_and(|d| marked.layers.contains(&d));
            if used {
                continue;
            }
            let name = format!("unpacked/{algorithm}/{hex}");
            let bytes = disk_bytes(&self.path.join(&name));
            if done(&mut || self.remove_layer(&algorithm, &hex), name) {
                removed.layer_bytes += bytes;
                removed.layers += 1;
            }
        }
        for (place, found) in unfinished {
            let dir = self.open_below(place)?;
            for (name, size) in found? {
                let path = self.path.join(place).join(&name);
                let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
                let bytes = if is_directory { disk_bytes(&path) } else { size };
                let shown = format!("{place}/{}", name.display());
                if done(&mut || remove_any(dir.as_fd(), name.as_ref()), shown) {
                    *(if is_directory { &mut removed.layer_bytes } else { &mut removed.bytes }) +=
                        bytes;
                    removed.unfinished += 1;
                }
            }
        }
        removed.left = left;
        Ok(removed)
    }

    fn mark(&self, descriptor: &Descriptor, depth: usize, marked: &mut Marked) -> Result<()> {
        if depth > self.limits.index_depth {
            return Ok(());
        }
        marked.blobs.insert(descriptor.digest.clone());
        if !descriptor.media_type.is_empty()
            && !matches!(descriptor.media(), Media::Index | Media::Manifest)
        {
            return Ok(());
        }
        // From further up more of what is below it counts.
        if marked.followed.get(&descriptor.digest).is_some_and(|&from| from <= depth) {
            return Ok(());
        }
        marked.followed.insert(descriptor.digest.clone(), depth);
        let Some(bytes) = self.read_small(&blob_name(&descriptor.digest))? else {
            // Of an index only what was asked for is there.
            return if depth > 0 {
                Ok(())
            } else {
                Err(Error::not_found(format!("its manifest {} is not there", descriptor.digest))
                    .hint("pull it again, or store rm it"))
            };
        };
        descriptor.verify(&bytes)?;
        match Document::parse(&bytes, &descriptor.media_type, &self.limits)? {
            Document::Index(index) => {
                index.manifests.iter().try_for_each(|entry| self.mark(entry, depth + 1, marked))?;
            }
            Document::Manifest(manifest) => {
                let all = std::iter::once(&manifest.config)
                    .chain(&manifest.layers)
                    .chain(&manifest.subject);
                marked.blobs.extend(all.map(|blob| blob.digest.clone()));
                if let Some(config) = self.read_small(&blob_name(&manifest.config.digest))?
                    && let Ok(config) = crate::manifest::ImageConfig::parse(&config, &manifest)
                {
                    for name in Name::of(&config.diff_ids) {
                        let others = marked.ids.iter().map(|ids| name.with_ids(ids));
                        let others: Vec<Name> = others.collect();
                        let all = others.into_iter().chain([name]);
                        marked.layers.extend(all.flat_map(|n| [n.diff_id, n.stacked]));
                    }
                }
            }
        }
        Ok(())
    }

    /// Layers of bundles that are there. What is known of one that is gone is forgotten.
    fn mark_bundles(&self, marked: &mut Marked, dry: bool) -> Result<()> {
        for (name, _) in self.list(Path::new(".skep/bundles"))? {
            let Some(name) = name.to_str().map(|name| format!(".skep/bundles/{name}")) else {
                continue;
            };
            let Some(bytes) = self.read_small(&name)? else { continue };
            let value = document::parse(&name, &bytes)?;
            let bundle = value.get("bundle").and_then(Value::as_str).unwrap_or_default();
            if matches!(std::fs::symlink_metadata(bundle), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
            {
                if !dry {
                    let _gone = unlinkat(self.dir(), name.as_str(), UnlinkatFlags::NoRemoveDir);
                }
                continue;
            }
            let layers = value.get("layers").and_then(Value::as_array).into_iter().flatten();
            marked
                .layers
                .extend(layers.filter_map(Value::as_str).filter_map(|id| Digest::parse(id).ok()));
        }
        Ok(())
    }

    /// What the store holds.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage { images: self.entries()?.len() as u64, ..Usage::default() };
        for (_, _, size) in self.digests("blobs")? {
            usage.blobs += 1;
            usage.blob_bytes += size;
        }
        for (algorithm, hex, _) in self.digests("unpacked")? {
            usage.layers += 1;
            usage.layer_bytes += disk_bytes(&self.path.join("unpacked").join(algorithm).join(hex));
        }
        for (_, size) in self.list(Path::new(".skep/ingest"))? {
            usage.partial += 1;
            usage.partial_bytes += size;
        }
        Ok(usage)
    }

    /// Reads every blob and holds it against its name, and every image against what it needs. With `repair`, blobs that are wrong are removed: the next
    /// pull brings them anew.
    ///
    /// # Errors
    /// Those of reading and removing.
    pub fn verify(&self, repair: bool) -> Result<Verdict> {
        let _lock = self.lock("store", repair)?;
        let (mut blobs, mut bytes) = (0, 0);
        let mut problems = Vec::new();
        let files = Directory::open(&self.path)?;
        for (algorithm, hex, size) in self.digests("blobs")? {
            (blobs, bytes) = (blobs + 1, bytes + size);
            let name = format!("blobs/{algorithm}/{hex}");
            if let Err(error) = check_blob(&files, &algorithm, &hex, &name) {
                if repair {
                    self.remove_blob(&algorithm, &hex)?;
                }
                problems.push(Problem { name, what: error.to_string(), removed: repair });
            }
        }
        for entry in self.entries()? {
            let mut marked = Marked::default();
            let what = match self.mark(&entry.descriptor, 0, &mut marked) {
                Err(error) => error.to_string(),
                Ok(()) => continue,
            };
            problems.push(Problem { name: entry.name, what, removed: false });
        }
        Ok(Verdict { blobs, bytes, problems })
    }

    /// Directories `below/ALGORITHM/HEX`, with sizes as the file system has them.
    fn digests(&self, below: &str) -> Result<Vec<(String, String, u64)>> {
        let mut found = Vec::new();
        for (algorithm, _) in self.list(Path::new(below))? {
            // Not through a link: what is found here may be removed.
            let place = self.path.join(below).join(&algorithm);
            if !place.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                continue;
            }
            for (hex, size) in self.list(&Path::new(below).join(&algorithm))? {
                if let (Some(algorithm), Some(hex)) = (algorithm.to_str(), hex.to_str()) {
                    found.push((algorithm.to_owned(), hex.to_owned(), size));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn list(&self, below: &Path) -> Result<Vec<(OsString, u64)>> {
        let path = self.path.join(below);
        let what = || format!("cannot read {}", path.display());
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Error::io(what(), error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.context(what)?;
            // It may be gone by now.
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            found.push((entry.file_name(), size));
        }
        Ok(found)
    }
}

fn check_blob(files: &Directory, algorithm: &str, hex: &str, name: &str) -> Result<()> {
    let digest = Digest::parse(&format!("{algorithm}:{hex}"))?;
    let mut hasher = digest.hasher()?;
    let mut reader = files.open(name, 0)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = reader.read(&mut buffer).context(|| format!("cannot read {name}"))?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    let found = hasher.finish();
    if found == digest {
        Ok(())
    } else {
        Err(Error::verification(format!("its content has the digest {found}")))
    }
}

/// Bytes on the disk below a directory, as far as they can be read.
fn disk_bytes(path: &Path) -> u64 {
    let mut stack = vec![path.to_owned()];
    let mut total = 0;
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total += std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
            if metadata.is_dir() {
                stack.push(entry.path());
            }
        }
    }
    total
}
