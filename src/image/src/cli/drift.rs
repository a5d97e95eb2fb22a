//! `verify` of a bundle: its root filesystem against its image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use libcontainer::sys::fd;
use serde_json::{Value, json};

use super::inspect::printable;
use super::{Context, bundle::absolute, place, platform};
use crate::bundle::compare::{self, Difference};
use crate::bundle::userns::{self, Into};
use crate::bundle::{self, Record, inside, record};
use crate::convert::{IdMap, Mapping};
use crate::draft::{Draft, open_directory, split};
use crate::error::{Error, Kind, Result};
use crate::event::Nobody;
use crate::image::Image;
use crate::layer::{self, Devices, Options, Owners};
use crate::source::{Location, Select, Source};
use crate::unpack::flatten;

/// Bytes of a config.json that is read.
const MAX_CONFIG: u64 = 4 << 20;

/// Whether what was typed is a bundle of ours.
pub(super) fn is_bundle(text: &str) -> bool {
    record::NAME.to_str().is_ok_and(|name| Path::new(text).join(name).is_file())
}

/// A bundle that is looked at.
struct Bundle {
    place: PathBuf,
    directory: OwnedFd,
    record: Record,
    mapping: Option<Mapping>,
}

/// Unpacks the image anew beside the bundle and compares; what is unpacked does not stay.
pub(super) fn verify(text: &str, matches: &ArgMatches, context: &Context) -> Result<()> {
    let place = absolute(Path::new(text))?;
    let directory = open_directory(&place)?;
    let record = Record::read(directory.as_fd(), &place)?;
    let mapping = mapping_of(directory.as_fd())?;
    let bundle = Bundle { place, directory, record, mapping };
    if let Some(Into::Files(wanted)) = context.errand.as_ref().map(|errand| &errand.into) {
        return bundle.check(wanted.as_fd(), matches, context);
    }
    let (parent, _) = split(&bundle.place)?;
    // What is left of it when this is killed is known for what it is.
    let draft = Draft::new(open_directory(&parent)?, bundle::UNFINISHED, |parent, name, _| {
        userns::remove_any(parent, name)
    })?;
    let ordinary = !nix::unistd::geteuid().is_root();
    let checked = if ordinary {
        let own = || {
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            userns::subordinate().unwrap_or_else(|| Mapping::single(uid, gid))
        };
        let mapping = bundle.mapping.clone().unwrap_or_else(own);
        let store = context.open_store()?;
        let failed = format!("{} was not found to be what its image says", bundle.place.display());
        userns::again(&mapping, draft.directory.as_fd(), store.path(), &failed)
    } else {
        bundle.check(draft.directory.as_fd(), matches, context)
    };
    draft.discard();
    checked
}

impl Bundle {
    fn check(&self, wanted: BorrowedFd<'_>, matches: &ArgMatches, context: &Context) -> Result<()> {
        let named = matches.get_one::<String>("image");
        let source = image_of(named.unwrap_or(&self.record.source), context)?;
        let image = Image::find(&*source, platform(matches), &context.limits)?;
        let (is, was) = (image.descriptor.digest.to_string(), &self.record.manifest);
        if !was.is_empty() && is != *was {
            return Err(Error::verification(format!(
                "{} was made of {was}, and its image is {is} now",
                self.place.display()
            ))
            .hint("--image SOURCE says where the old one is"));
        }
        let (_, config) = image.config(&*source, &context.limits)?;
        let options = self.options(context);
        flatten(&*source, &image, &config, wanted, &options, &Nobody)?;
        let root = self.root()?;
        let mut differences = 0_u64;
        compare::trees(wanted, root.as_fd(), &mut |path, what| {
            differences += 1;
            tell(path, what, context)
        })?;
        if differences > 0 {
            return Err(Error::new(
                Kind::Verification,
                format!("{} and its image differ in {differences} entries", self.place.display()),
            ));
        }
        context.print(format_args!(
            "{} is what its image says",
            printable(&self.place.to_string_lossy())
        ))
    }

    /// As the root filesystem was made.
    fn options<'a>(&self, context: &Context) -> Options<'a> {
        let ranges = |map: &[IdMap]| {
            layer::IdMap(map.iter().map(|map| (map.container, map.host, map.size)).collect())
        };
        let inside = userns::own_ids().is_some();
        let owners = match &self.mapping {
            _ if userns::is_alone() => Owners::Single,
            Some(mapping) if !inside => Owners::Mapped {
                uids: ranges(&mapping.uids),
                gids: ranges(&mapping.gids),
                squash: None,
            },
            _ => Owners::Raw,
        };
        let real = !inside && (self.record.overlay || self.mapping.is_none());
        let devices = if real { Devices::Create } else { Devices::Placeholder };
        Options { owners, devices, limits: context.limits, ..Options::default() }
    }

    fn root(&self) -> Result<OwnedFd> {
        if userns::own_ids().is_none() {
            return bundle::root_of(self.directory.as_fd(), &self.record, self.mapping.as_ref());
        }
        // Only root of a mount namespace mounts.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Error::sys("cannot make a mount namespace", errno))?;
        let here = inside::opened_here(self.directory.as_fd())?;
        bundle::root_of(here.as_fd(), &self.record, None)
    }
}

/// The image, from the store if it was pulled.
fn image_of(text: &str, context: &Context) -> Result<Box<dyn Source + Send>> {
    let location = Location::parse(text)?;
    if matches!(location, Location::Registry(_)) {
        let stored = context.open_store()?.source(Select::Name(place::name_for(&location)))?;
        if stored.resolve().is_ok() {
            return Ok(Box::new(stored));
        }
    }
    place::open(&location, context)
}

/// The ids of the containers of a bundle, as its config.json has them.
fn mapping_of(directory: BorrowedFd<'_>) -> Result<Option<Mapping>> {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let content = fd::openat(directory, c"config.json", flags, 0)
        .and_then(|file| fd::read_all(&file, MAX_CONFIG))
        .map_err(|errno| Error::sys("cannot read config.json of the bundle", errno))?;
    let config: Value = serde_json::from_slice(&content).map_err(|error| {
        Error::verification("config.json of the bundle is no JSON").with_source(error)
    })?;
    let ranges = |name: &str| -> Option<Vec<IdMap>> {
        let list = config.get("linux")?.get(name)?.as_array()?;
        list.iter()
            .map(|range| {
                let number = |name: &str| u32::try_from(range.get(name)?.as_u64()?).ok();
                let (container, host) = (number("containerID")?, number("hostID")?);
                Some(IdMap { container, host, size: number("size")? })
            })
            .collect()
    };
    let both = ranges("uidMappings").zip(ranges("gidMappings"));
    let rootless = !nix::unistd::geteuid().is_root();
    let both = both.filter(|(uids, gids)| !uids.is_empty() && !gids.is_empty());
    Ok(both.map(|(uids, gids)| Mapping { uids, gids, rootless }))
}

fn tell(path: &str, what: &Difference, context: &Context) -> Result<()> {
    let (word, properties) = match what {
        Difference::Added => ("added", &[][..]),
        Difference::Missing => ("missing", &[][..]),
        Difference::Changed(properties) => ("changed", properties.as_slice()),
    };
    if context.json {
        let line =
            json!({ "event": "difference", "path": path, "what": word, "properties": properties });
        return context.print(line);
    }
    let path = printable(path);
    if properties.is_empty() {
        context.print(format_args!("{word} {path}"))
    } else {
        context.print(format_args!("{word} {path}: {}", properties.join(", ")))
    }
}
