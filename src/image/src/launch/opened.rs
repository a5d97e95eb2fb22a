//! An image of a source, with a store that keeps its layers unpacked.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::run;
use crate::bundle::inside::{self, Overlay};
use crate::bundle::userns;
use crate::convert::Mapping;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::event::Listener;
use crate::image::Image;
use crate::layer::{Devices, Format, IdMap, Options, Owners};
use crate::limits::Limits;
use crate::manifest::ImageConfig;
use crate::platform::Platform;
use crate::source::Source;
use crate::store::{Held, Store};
use crate::unpack;

/// An image that bundles are made of.
pub struct Opened<'a> {
    source: &'a dyn Source,
    store: &'a Store,
    limits: Limits,
    image: Image,
    config: Vec<u8>,
    read: ImageConfig,
    listener: &'a dyn Listener,
    /// Whom the files of a copy belong to.
    owners: Owners,
    /// The ids of a namespace that a copy has to be made in.
    inside: Option<Mapping>,
    /// The ids of the container that an ordinary user makes.
    rootless: Option<Mapping>,
    /// Whether the source is gone once it has been read.
    once: bool,
    /// What keeps the unpacked layers in the store until a bundle does.
    held: RefCell<Option<Held<'a>>>,
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
        listener: &'a dyn Listener,
    ) -> Result<Self> {
        let image = Image::find(source, platform, limits)?;
        let (config, read) = image.config(source, limits)?;
        let ranges = |map: &[crate::convert::IdMap]| {
            IdMap(map.iter().map(|map| (map.container, map.host, map.size)).collect())
        };
        let inside = mapping.filter(|mapping| userns::is_helped(mapping)).cloned();
        let rootless = mapping.filter(|mapping| mapping.rootless).cloned();
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
            read,
            listener,
            owners,
            inside,
            rootless,
            once: false,
            held: RefCell::default(),
            keys: RefCell::default(),
        })
    }
}

impl Opened<'_> {
    /// Says whether the source is gone once it has been read.
    #[must_use]
    pub fn read_once(self, once: bool) -> Self {
        Self { once, ..self }
    }

    /// Refuses to have the source read by another process where that would find nothing.
    fn again(&self) -> Result<()> {
        if !self.once {
            return Ok(());
        }
        Err(Error::unsupported(
            "the image comes through a pipe, and who unpacks it in the user namespace has to read it again",
        )
        .hint("put it into a file, or into the store with copy, first"))
    }
}

/// Whether whiteouts are those that only root of the host can make.
fn is_first_namespace() -> bool {
    nix::unistd::geteuid().is_root() && !crate::bundle::overlay::in_user_namespace()
}

impl run::Image for Opened<'_> {
    fn config(&self) -> &[u8] {
        &self.config
    }

    fn digest(&self) -> String {
        self.image.descriptor.digest.to_string()
    }

    fn layers(&self) -> Result<Vec<PathBuf>> {
        let held = self.store.hold()?;
        let here = is_first_namespace();
        let options = Options {
            format: Format::Overlay { userxattr: !here },
            owners: if userns::is_alone() { Owners::Single } else { Owners::Raw },
            devices: if here { Devices::Create } else { Devices::Placeholder },
            limits: self.limits,
            ..Options::default()
        };
        let (source, store, listener) = (self.source, self.store, self.listener);
        let found = unpack::lowers(source, &self.image, &self.read, store, &options, listener)?;
        let (keys, paths) = found.into_iter().unzip();
        self.held.replace(Some(held));
        self.keys.replace(keys);
        Ok(paths)
    }

    fn overlay(&self, directory: BorrowedFd<'_>) -> Result<Overlay> {
        let mapping = self.rootless.as_ref();
        let mapping = mapping.filter(|m| Mapping::has(&m.uids, 0) && Mapping::has(&m.gids, 0));
        let mapping = mapping.ok_or_else(|| {
            Error::unsupported("the user namespace has no root, who would mount an overlay")
        })?;
        let held = self.store.hold()?;
        self.again()?;
        let overlay = userns::overlay(mapping, directory, self.store.path(), &self.digest())?;
        self.held.replace(Some(held));
        self.keys.replace(overlay.layers.iter().map(|(key, _)| key.clone()).collect());
        Ok(overlay)
    }

    fn serve(&self, directory: BorrowedFd<'_>, until: &std::fs::File) -> Result<()> {
        let paths = match self.layers() {
            Err(error) if error.kind() == Kind::Unsupported => return inside::refuse(&error),
            layers => layers?,
        };
        let keys = self.keys.borrow();
        let layers: Vec<_> = keys.iter().cloned().zip(paths).collect();
        inside::serve(directory, &layers, until)
    }

    fn keep(&self, place: &Path) -> Result<()> {
        let held = self.held.borrow();
        held.as_ref().map_or(Ok(()), |held| held.register_bundle(place, &self.keys.borrow()))
    }

    fn release(&self) {
        drop(self.held.take());
    }

    fn unpack(&self, root: BorrowedFd<'_>) -> Result<()> {
        if let Some(mapping) = &self.inside {
            self.again()?;
            return userns::unpack(mapping, root, self.store.path(), &self.digest());
        }
        let real = matches!(self.owners, Owners::Raw) && is_first_namespace();
        let devices = if real { Devices::Create } else { Devices::Placeholder };
        let options = Options {
            owners: self.owners.clone(),
            devices,
            limits: self.limits,
            ..Options::default()
        };
        unpack::flatten(self.source, &self.image, &self.read, root, &options, self.listener)
    }
}
