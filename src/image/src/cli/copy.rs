//! `copy`.

use std::io::{Read, Write};
use std::path::Path;

use clap::{Arg, ArgMatches, Command};

use super::{Context, all_platforms_flag, place, platform_flag, platforms};
use crate::digest::Digest;
use crate::error::{Context as _, Error, Result};
use crate::image::Image;
use crate::pull::{Options, Platforms, pull};
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
                .help("oci:PATH[:TAG], dir:PATH or store:NAME"),
        )
        .arg(platform_flag())
        .arg(all_platforms_flag())
}

pub(super) fn copy(matches: &ArgMatches, context: &Context) -> Result<()> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let from = Location::parse(text("source"))?;
    let to = Location::parse(text("destination"))?;
    let source = place::open(&from, context)?;
    let platforms = platforms(matches);
    let digest = match &to {
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
        Location::Dir(path) => into_dir(&*source, path, &platforms, context)?,
        other => {
            return Err(Error::unsupported(format!(
                "{other} is not a destination that is supported"
            )));
        }
    };
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
    std::fs::create_dir(path).context(|| format!("cannot make {}", path.display()))?;
    let result = fill_dir(source, &image, path);
    if result.is_err() {
        // It was not there before.
        let _gone = std::fs::remove_dir_all(path);
    }
    result.map(|()| image.descriptor.digest)
}

fn fill_dir(source: &dyn Source, image: &Image, path: &Path) -> Result<()> {
    let write = |name: &str, content: &mut dyn Read| {
        let target = path.join(name);
        let what = || format!("cannot write {}", target.display());
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).open(&target).context(what)?;
        std::io::copy(content, &mut file).context(what)?;
        file.flush().context(what)
    };
    for descriptor in image.blobs() {
        write(descriptor.digest.hex(), &mut source::blob(source, descriptor)?)?;
    }
    write("version", &mut b"Directory Transport Version: 1.1\n".as_slice())?;
    write("manifest.json", &mut image.bytes.as_slice())
}
