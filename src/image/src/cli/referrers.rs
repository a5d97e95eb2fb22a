//! `inspect --referrers`: what says that it is about an image.

use clap::{Arg, ArgMatches, Command};

use super::inspect::printable;
use super::{Context, place, platform};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::source::{self, Directory, Layout, Location, Select, Source};

/// The flag that goes with `--referrers`.
pub(super) fn flags(command: Command) -> Command {
    command.arg(
        Arg::new("artifact-type")
            .long("artifact-type")
            .value_name("TYPE")
            .requires("referrers")
            .help("with --referrers: those of this type alone"),
    )
}

/// Prints a line for each manifest that refers to the one `location` names, or to the image in it for `--platform`.
pub(super) fn list(matches: &ArgMatches, context: &Context, location: &Location) -> Result<()> {
    let kind = matches.get_one::<String>("artifact-type").map(String::as_str);
    let found = match location {
        Location::Registry(reference) => {
            let registry = context.remote.registry(reference)?;
            let subject = match reference.digest() {
                // There may be referrers to what is not there (yet).
                Some(digest) if platform(matches).is_none() => digest.clone(),
                _ => subject(&registry, matches, context)?,
            };
            registry.referrers(&subject, kind)?
        }
        Location::Oci(path, _) => {
            let subject = subject(&*place::open(location, context)?, matches, context)?;
            let layout = Layout::new(Directory::open(path)?, Select::Only, context.limits)?;
            layout.referrers(&subject, kind)?
        }
        Location::OciArchive(path, select) => {
            let archive = source::archive::Archive::open(path, &context.limits)?;
            let layout = Layout::new(archive, select.clone(), context.limits)?;
            layout.referrers(&subject(&layout, matches, context)?, kind)?
        }
        Location::Store(_) => {
            let subject = subject(&*place::open(location, context)?, matches, context)?;
            context.open_store()?.source(Select::Only)?.referrers(&subject, kind)?
        }
        other => {
            return Err(Error::unsupported(format!("nothing in {other} can refer to an image")));
        }
    };
    found.iter().try_for_each(|entry| context.print(line(entry, context.json)))
}

fn subject(source: &dyn Source, matches: &ArgMatches, context: &Context) -> Result<Digest> {
    Ok(match platform(matches) {
        Some(platform) => Image::find(source, Some(platform), &context.limits)?.descriptor.digest,
        None => source.resolve()?.0.digest,
    })
}

fn line(entry: &Descriptor, json: bool) -> String {
    if json {
        return serde_json::to_string(entry).unwrap_or_default();
    }
    let kind = entry.artifact_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("-");
    format!("{} {} {} {}", entry.digest, entry.size, printable(&entry.media_type), printable(kind))
}
