//! From a source into the store.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Listener};
use crate::image::Image;
use crate::limits::Limits;
use crate::manifest::Document;
use crate::media::Media;
use crate::platform::Platform;
use crate::source::{self, Source};
use crate::store::{Fetched, Held, Store};

/// Which of the images of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// The one that fits best; this machine's when absent.
    One(Option<Platform>),
    /// All of them.
    All,
}

/// What a pull has brought.
#[derive(Debug)]
pub struct Pulled {
    /// What the name stands for.
    pub root: Descriptor,
    /// The image for the platform; `None` when all were pulled.
    pub image: Option<Image>,
    /// How each blob came.
    pub blobs: Vec<(Descriptor, Fetched)>,
}

impl Pulled {
    /// Bytes that were read from the source.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, fetched)| fetched.bytes).sum()
    }

    /// The blobs that were not there: each was verified as it came.
    pub fn brought(&self) -> impl Iterator<Item = Digest> {
        let new = self.blobs.iter().filter(|(_, fetched)| !fetched.cached);
        new.map(|(descriptor, _)| descriptor.digest.clone())
    }
}

/// How to pull.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What the image is called in the store; `None` gives it no name, and the next collection removes it.
    pub name: Option<&'a str>,
    /// Which images.
    pub platforms: &'a Platforms,
    /// Blobs at a time.
    pub jobs: usize,
    /// How much is too much.
    pub limits: &'a Limits,
}

/// Brings an image into the store. It has its name when all of it is there.
///
/// # Errors
/// Those of the source, of verification and of the store. What has come stays: the next pull goes on there.
pub fn pull(
    source: &dyn Source,
    store: &Store,
    options: &Options<'_>,
    listener: &dyn Listener,
) -> Result<Pulled> {
    let held = store.hold()?;
    let limits = options.limits;
    let (root, bytes) = source.resolve()?;
    root.verify(&bytes)?;
    listener
        .event(Event::Resolved { name: options.name.unwrap_or_default(), digest: &root.digest });
    let mut plan = Plan::default();
    let image = match options.platforms {
        Platforms::One(platform) => {
            let image = Image::from_root(source, root.clone(), bytes, platform.as_ref(), limits)?;
            image.manifest.check_config(source, limits)?;
            plan.documents.extend(image.indexes.iter().cloned());
            plan.documents.push((image.descriptor.clone(), image.bytes.clone()));
            plan.add(image.blobs());
            Some(image)
        }
        Platforms::All => {
            plan.all(source, root.clone(), bytes, 0, limits)?;
            None
        }
    };
    for (descriptor, bytes) in &plan.documents {
        held.put(descriptor, bytes)?;
    }
    let blobs = fetch_all(source, &held, plan.blobs, options.jobs, listener)?;
    if let Some(name) = options.name {
        held.tag(name, &root)?;
    }
    Ok(Pulled { root, image, blobs })
}

/// What is to be brought.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Manifests and indexes, the root first.
    pub(crate) documents: Vec<(Descriptor, Vec<u8>)>,
    /// Everything else.
    pub(crate) blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
}

impl Plan {
    /// The image for one platform, without the index that led to it, or all of what the name stands for.
    ///
    /// # Errors
    /// Those of the source and of the documents.
    pub(crate) fn of(source: &dyn Source, platforms: &Platforms, limits: &Limits) -> Result<Self> {
        let mut plan = Self::default();
        match platforms {
            Platforms::One(platform) => {
                let image = Image::find(source, platform.as_ref(), limits)?;
                image.manifest.check_config(source, limits)?;
                plan.add(image.blobs());
                plan.documents.push((image.descriptor, image.bytes));
            }
            Platforms::All => {
                let (root, bytes) = source.resolve()?;
                root.verify(&bytes)?;
                plan.all(source, root, bytes, 0, limits)?;
            }
        }
        Ok(plan)
    }

    fn add<'a>(&mut self, blobs: impl IntoIterator<Item = &'a Descriptor>) {
        for blob in blobs {
            if self.seen.insert(blob.digest.clone()) {
                self.blobs.push(blob.clone());
            }
        }
    }

    fn all(
        &mut self,
        source: &dyn Source,
        descriptor: Descriptor,
        bytes: Vec<u8>,
        depth: usize,
        limits: &Limits,
    ) -> Result<()> {
        let document = Document::parse(&bytes, &descriptor.media_type, limits)
            .context(|| descriptor.digest.to_string())?;
        self.documents.push((descriptor, bytes));
        if self.documents.len() > limits.descriptors {
            return Err(Error::no_space(format!(
                "the image has more than {} manifests",
                limits.descriptors
            )));
        }
        let index = match document {
            Document::Manifest(manifest) => {
                manifest.check_config(source, limits)?;
                self.add(std::iter::once(&manifest.config).chain(&manifest.layers));
                return Ok(());
            }
            Document::Index(index) => index,
        };
        if depth >= limits.index_depth {
            return Err(Error::no_space(format!(
                "indexes stand in indexes deeper than {}",
                limits.index_depth
            )));
        }
        for entry in index.manifests {
            if !matches!(entry.media(), Media::Index | Media::Manifest)
                || !self.seen.insert(entry.digest.clone())
            {
                continue;
            }
            let bytes = source::manifest(source, &entry, limits)?;
            self.all(source, entry, bytes, depth + 1, limits)?;
        }
        Ok(())
    }
}

/// Brings blobs, several at a time, the largest first.
fn fetch_all(
    source: &dyn Source,
    store: &Held<'_>,
    mut blobs: Vec<Descriptor>,
    jobs: usize,
    listener: &dyn Listener,
) -> Result<Vec<(Descriptor, Fetched)>> {
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            // A thread that has panicked has poisoned it; then there is nothing to go on with.
            if failed.lock().is_ok_and(|failed| failed.is_some()) {
                return;
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(blob) = blobs.get(number) else { return };
            let fetched = store.fetch(source, blob, listener);
            match fetched {
                Ok(fetched) => {
                    if let Ok(mut done) = done.lock() {
                        done.insert(number, fetched);
                    }
                }
                Err(error) => {
                    if let Ok(mut failed) = failed.lock() {
                        // The first is the cause; the others may follow from it.
                        let _first = failed.get_or_insert(error);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, 16).min(blobs.len().max(1)) {
            let _joined_by_the_scope = scope.spawn(work);
        }
        work();
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let done = done
        .into_inner()
        .map_err(|_poisoned| Error::new(crate::Kind::Generic, "a download has panicked"))?;
    Ok(done
        .into_iter()
        .filter_map(|(number, fetched)| Some((blobs.get(number)?.clone(), fetched)))
        .collect())
}
