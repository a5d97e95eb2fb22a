//! An image of a source, with a store that keeps its layers unpacked.

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::run;
use crate::convert::Mapping;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::layer::{self, Devices, Format, IdMap, Options, Owners, Report, Used};
use crate::limits::Limits;
use crate::platform::Platform;
use crate::source::{self, Source};
use crate::store::{Lock, Store};

/// An image that bundles are made of.
pub struct Opened<'a> {
    source: &'a dyn Source,
    store: &'a Store,
    limits: Limits,
    image: Image,
    config: Vec<u8>,
    diff_ids: Vec<Digest>,
    /// Whom the files of a copy belong to.
    owners: Owners,
    /// What keeps the unpacked layers in the store until a bundle does.
    held: RefCell<Option<Lock>>,
    /// The names of the layers in the store.
    keys: RefCell<Vec<Digest>>,
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("image", &self.image).finish_non_exhaustive()
    }
}

impl<'a> Opened<'a> {
    /// Finds the image for `platform` in `source`.
    ///
    /// # Errors
    /// Those of [`Image::find`] and [`Image::config`].
    pub fn new(
        source: &'a dyn Source,
        store: &'a Store,
        platform: Option<&Platform>,
        limits: &Limits,
        mapping: Option<&Mapping>,
    ) -> Result<Self> {
        let image = Image::find(source, platform, limits)?;
        let (config, read) = image.config(source, limits)?;
        if read.diff_ids.len() != image.manifest.layers.len() {
            return Err(Error::verification("the image has not as many diff_ids as layers"));
        }
        let ranges = |map: &[crate::convert::IdMap]| {
            IdMap(map.iter().map(|map| (map.container, map.host, map.size)).collect())
        };
        let owners = match mapping {
            Some(mapping) if mapping.rootless => Owners::Single,
            Some(mapping) => Owners::Mapped {
                uids: ranges(&mapping.uids),
                gids: ranges(&mapping.gids),
                squash: None,
            },
            None => Owners::Raw,
        };
        Ok(Self {
            source,
            store,
            limits: *limits,
            image,
            config,
            diff_ids: read.diff_ids,
            owners,
            held: RefCell::default(),
            keys: RefCell::default(),
        })
    }

    fn apply(&self, number: usize, root: BorrowedFd<'_>, options: Options<'_>) -> Result<Report> {
        let (Some(descriptor), Some(diff_id)) =
            (self.image.manifest.layers.get(number), self.diff_ids.get(number))
        else {
            return Err(Error::new(Kind::Generic, format!("there is no layer {number}")));
        };
        let blob = source::blob(self.source, descriptor)?;
        let inner = layer::decompress(blob, &descriptor.media_type, &self.limits)?;
        let mut tar = Hashed { inner, hasher: diff_id.hasher()? };
        let name = format!(
            "layer {} of {} ({})",
            number + 1,
            self.diff_ids.len(),
            descriptor.digest.short()
        );
        let options = Options { name: name.clone(), limits: self.limits, ..options };
        let report = layer::apply(&mut tar, root, &options)?;
        // What is behind the archive's end is part of both digests.
        io::copy(&mut tar, &mut io::sink()).context(|| format!("cannot read {name}"))?;
        let found = tar.hasher.finish();
        if found != *diff_id {
            return Err(Error::verification(format!(
                "{name} is {found} uncompressed, and the image says {diff_id}"
            )));
        }
        for warning in &report.warnings {
            use std::io::Write;
            let _nowhere_else = writeln!(io::stderr(), "skep-image: {name}: {warning}");
        }
        Ok(report)
    }

    /// Unpacks a layer above `lowers` (topmost first) under the name `key`, unless it is there. `Ok(false)`: it takes
    /// something from the layers below, and `key` is not for those alone.
    fn unpacked(
        &self,
        number: usize,
        key: &Digest,
        chain: bool,
        lowers: &[OwnedFd],
        used: &mut Used,
    ) -> Result<bool> {
        let done = self.store.unpack_layer(key, |root| {
            let options = Options {
                format: Format::Overlay { userxattr: !is_first_namespace() },
                used: *used,
                lowers,
                first: true,
                ..Options::default()
            };
            let report = self.apply(number, root.as_fd(), options)?;
            if report.depends_on_lower && !chain {
                return Err(Error::new(Kind::Generic, DEPENDS));
            }
            Ok(report)
        });
        match done {
            Ok(report) => {
                *used = report.map_or(*used, |report| report.used);
                Ok(true)
            }
            Err(error) if error.to_string() == DEPENDS => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What [`Opened::unpacked`] gives up with.
const DEPENDS: &str = "the layer takes something from those below it";

/// Whether whiteouts are those that only root of the host can make.
fn is_first_namespace() -> bool {
    nix::unistd::geteuid().is_root() && !crate::bundle::overlay::in_user_namespace()
}

impl run::Image for Opened<'_> {
    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layers(&self) -> Result<Vec<PathBuf>> {
        let held = self.store.hold()?;
        let mut keys = Vec::new();
        let mut paths = Vec::new();
        let mut lowers: Vec<OwnedFd> = Vec::new();
        let mut used = Used::default();
        let mut chain: Option<Digest> = None;
        for (number, diff_id) in self.diff_ids.iter().enumerate() {
            let above = match &chain {
                None => diff_id.clone(),
                Some(chain) => Digest::of(format!("{chain} {diff_id}").as_bytes()),
            };
            // By itself where it can be, for other images to use; with those below it where it takes something from them.
            let key = if !self.store.has_layer(&above)
                && self.unpacked(number, diff_id, number == 0, &lowers, &mut used)?
            {
                diff_id
            } else {
                self.unpacked(number, &above, true, &lowers, &mut used)?;
                &above
            };
            let path = self.store.layer_path(key);
            let opened = std::fs::File::open(&path)
                .context(|| format!("cannot open the layer {}", path.display()))?;
            lowers.insert(0, opened.into());
            paths.push(path);
            keys.push(key.clone());
            chain = Some(above);
        }
        self.held.replace(Some(held));
        self.keys.replace(keys);
        Ok(paths)
    }

    fn keep(&self, place: &Path) -> Result<()> {
        let keys = self.keys.take();
        if !keys.is_empty() {
            self.store.register_bundle(place, &keys)?;
        }
        drop(self.held.take());
        Ok(())
    }

    fn unpack(&self, root: BorrowedFd<'_>) -> Result<()> {
        let mut used = Used::default();
        let devices =
            if matches!(self.owners, Owners::Raw) { Devices::Create } else { Devices::Placeholder };
        for number in 0..self.diff_ids.len() {
            let options = Options {
                owners: self.owners.clone(),
                devices,
                used,
                first: number == 0,
                ..Options::default()
            };
            used = self.apply(number, root, options)?.used;
        }
        Ok(())
    }
}

/// Bytes on their way, hashed.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}
