//! `copy`.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::remote::End;
use super::{Context, all_platforms_flag, archive, place, platform_flag, platforms};
use crate::digest::Digest;
use crate::draft;
use crate::error::{Context as _, Error, Result};
use crate::event::{Event, Listener};
use crate::image::Image;
use crate::interrupt;
use crate::pull::{Options, Platforms, pull};
use crate::reference::Reference;
use crate::registry::{Destination, PushOptions};
use crate::source::{self, Location, Select, Source};
use crate::store::Store;

pub(super) fn command() -> Command {
    Command::new("copy")
        .about("copy an image from one place to another")
        .arg(Arg::new("source").value_name("SOURCE").required(true).help("the image"))
        .arg(
            Arg::new("destination")
                .value_name("DESTINATION")
                .required(true)
                .help("docker://NAME, oci:PATH[:TAG], oci-archive:PATH[:TAG], docker-archive:PATH[:NAME:TAG], dir:PATH or store:NAME"),
        )
        .arg(platform_flag())
        .arg(all_platforms_flag())
}

pub(super) fn push_command() -> Command {
    Command::new("push")
        .about("write an image to a registry")
        .arg(
            Arg::new("source")
                .value_name("SOURCE")
                .required(true)
                .help("the image: the one of this name in the store, or any other SOURCE"),
        )
        .arg(
            Arg::new("destination").value_name("DESTINATION").help(
                "the name in a registry, or any other DESTINATION [default: the name of SOURCE]",
            ),
        )
        .arg(platform_flag())
        .arg(all_platforms_flag())
}

pub(super) fn copy(matches: &ArgMatches, context: &Context) -> Result<()> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let (from, to) = (Location::parse(text("source"))?, Location::parse(text("destination"))?);
    transfer(&from, &to, matches, context)
}

/// As [`copy`], and a name is what it is in the store on the one side and in a registry on the other.
pub(super) fn push(matches: &ArgMatches, context: &Context) -> Result<()> {
    let text = matches.get_one::<String>("source").map_or("", String::as_str);
    let from = match Location::parse(text)? {
        Location::Registry(_) if !has_transport(text) => {
            Location::Store(Select::Name(text.to_owned()))
        }
        other => other,
    };
    let to = match (matches.get_one::<String>("destination"), &from) {
        (Some(text), _) if has_transport(text) => Location::parse(text)?,
        (Some(text), _) => Location::Registry(Reference::parse(text)?),
        (None, Location::Store(Select::Name(name))) => Location::Registry(Reference::parse(name)?),
        (None, from) => {
            return Err(Error::usage(format!(
                "{from} has no name in a registry: say where it is to go"
            )));
        }
    };
    transfer(&from, &to, matches, context)
}

/// Whether it is said where, so that a word needs no guess.
fn has_transport(text: &str) -> bool {
    ["docker://", "oci:", "oci-archive:", "docker-archive:", "dir:", "store:"]
        .iter()
        .any(|transport| text.starts_with(transport))
}

fn transfer(from: &Location, to: &Location, matches: &ArgMatches, context: &Context) -> Result<()> {
    let source = place::open(from, context)?;
    let platforms = platforms(matches);
    let digest = match to {
        Location::Oci(path, select) => {
            let name = match select {
                Select::Only => Some("latest".to_owned()),
                Select::Name(name) => Some(name.clone()),
                Select::Digest(_) => {
                    return Err(Error::usage(
                        "a destination has no digest: what is copied decides it",
                    ));
                }
            };
            let layout = Store::open(path, context.limits)?;
            let done = into(&*source, &layout, name.as_deref(), &platforms, context);
            layout.strip();
            done?
        }
        Location::Store(Select::Name(name)) => {
            into(&*source, &context.open_store()?, Some(name), &platforms, context)?
        }
        Location::Registry(reference) => {
            into_registry(&*source, from, reference, &platforms, context)?
        }
        Location::Dir(path) => into_dir(&*source, path, &platforms, context)?,
        Location::OciArchive(_, Select::Digest(_))
        | Location::DockerArchive(_, Select::Digest(_)) => {
            return Err(Error::usage("a destination has no digest: what is copied decides it"));
        }
        Location::OciArchive(path, select) => {
            archive::oci(&*source, path, select, &platforms, context)?
        }
        Location::DockerArchive(path, select) => {
            archive::docker(&*source, path, select, &platforms, context)?
        }
        other => {
            return Err(Error::unsupported(format!(
                "{other} is not a destination that is supported"
            )));
        }
    };
    if context.json {
        let result = json!({"event": "result", "name": to.to_string(), "digest": digest});
        context.progress.result(&result);
        return Ok(());
    }
    context.print(digest)
}

fn into(
    source: &dyn Source,
    store: &Store,
    name: Option<&str>,
    platforms: &Platforms,
    context: &Context,
) -> Result<Digest> {
    let options = Options { name, platforms, jobs: context.jobs, limits: &context.limits };
    Ok(pull(source, store, &options, &context.progress)?.root.digest)
}

/// What the name stands for, or the one image of it for the platform.
fn into_registry(
    source: &dyn Source,
    from: &Location,
    to: &Reference,
    platforms: &Platforms,
    context: &Context,
) -> Result<Digest> {
    // Blobs that the same registry has already are mounted.
    let origin = match from {
        Location::Registry(name) => Some(context.remote.registry(name)?),
        _ => None,
    };
    let from_another =
        origin.is_some() && !matches!(from, Location::Registry(name) if name.host() == to.host());
    let settings = context.remote.settings(End::To { from_another })?;
    let destination = Destination::new(to, settings)?;
    let (root, bytes) = match platforms {
        Platforms::All => source.resolve()?,
        Platforms::One(platform) => {
            let image = Image::find(source, platform.as_ref(), &context.limits)?;
            image.manifest.check_config(source, &context.limits)?;
            (image.descriptor, image.bytes)
        }
    };
    let done = |descriptor: &crate::Descriptor, cached: bool| {
        context.progress.event(Event::BlobDone { descriptor, cached });
    };
    context.progress.event(Event::Resolved { name: &to.to_string(), digest: &root.digest });
    let options = PushOptions { chunk: None, limits: &context.limits, done: &done };
    destination.push(source, origin.as_ref(), (&root, &bytes), &options)?;
    Ok(root.digest)
}

/// As skopeo's dir:. It is one image: an index is followed to it.
fn into_dir(
    source: &dyn Source,
    path: &Path,
    platforms: &Platforms,
    context: &Context,
) -> Result<Digest> {
    let Platforms::One(platform) = platforms else {
        return Err(Error::usage("dir: holds one image: --platform chooses it"));
    };
    let image = Image::find(source, platform.as_ref(), &context.limits)?;
    image.manifest.check_config(source, &context.limits)?;
    draft::tree(path, |directory| {
        let readable = nix::sys::stat::Mode::from_bits_truncate(0o755);
        nix::sys::stat::fchmod(directory, readable)
            .map_err(|errno| Error::sys("cannot open the directory to others", errno))?;
        fill_dir(source, &image, directory)
    })?;
    Ok(image.descriptor.digest)
}

fn fill_dir(source: &dyn Source, image: &Image, directory: BorrowedFd<'_>) -> Result<()> {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let write = |name: &str, content: &mut dyn Read| {
        let target = Path::new(&path).join(name);
        let what = || format!("cannot write {}", target.display());
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).open(&target).context(what)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            interrupt::check().context(what)?;
            let count = content.read(&mut buffer).context(what)?;
            if count == 0 {
                return file.flush().context(what);
            }
            file.write_all(buffer.get(..count).unwrap_or_default()).context(what)?;
        }
    };
    for descriptor in image.blobs() {
        write(descriptor.digest.hex(), &mut source::blob(source, descriptor)?)?;
    }
    write("version", &mut b"Directory Transport Version: 1.1\n".as_slice())?;
    write("manifest.json", &mut image.bytes.as_slice())
}
