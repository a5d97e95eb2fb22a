//! `inspect`, `resolve`, `tags` and `verify`: what only looks.

use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::{Context, drift, place, platform, platform_flag, referrers, source_argument};
use crate::descriptor::Descriptor;
use crate::document;
use crate::error::{Error, Result};
use crate::event::{Event, Listener};
use crate::image::Image;
use crate::source::layout::name_of;
use crate::source::{self, Directory, Layout, Location, Select, Source};
use crate::unpack;

pub(super) fn inspect_command() -> Command {
    let mut command = Command::new("inspect")
        .about("say what an image is, without its layers")
        .arg(source_argument())
        .arg(platform_flag())
        .group(clap::ArgGroup::new("what"));
    for (name, help) in [
        ("raw", "print what the name stands for, manifest or index, byte by byte"),
        ("index", "print the index, byte by byte"),
        ("manifest", "print the manifest, byte by byte"),
        ("config", "print the configuration, byte by byte"),
        ("layers", "print a line for each layer: digest, size, media type, diff ID"),
        (
            "referrers",
            "print a line for each manifest that refers to it, as signatures and bills of material do: digest, size, media type, artifact type",
        ),
    ] {
        command = command
            .arg(Arg::new(name).long(name).action(ArgAction::SetTrue).group("what").help(help));
    }
    referrers::flags(command)
}

pub(super) fn resolve_command() -> Command {
    Command::new("resolve")
        .about("print the name of an image with its digest")
        .arg(source_argument())
        .arg(
            platform_flag()
                .help("print the digest of the image for this platform, not of the index"),
        )
}

pub(super) fn tags_command() -> Command {
    Command::new("tags")
        .about("list the images of a layout, an archive, the store or a repository")
        .arg(source_argument())
}

pub(super) fn verify_command() -> Command {
    Command::new("verify")
        .about("read all of an image and hold it against its digests and diff IDs; or a bundle, and hold its root filesystem against its image")
        .arg(source_argument().help("the image, or a bundle that skep has made"))
        .arg(
            Arg::new("image")
                .long("image")
                .value_name("SOURCE")
                .help("with a bundle: its image, if that is elsewhere by now"),
        )
        .arg(platform_flag())
}

fn source_of(matches: &ArgMatches) -> Result<Location> {
    Location::parse(matches.get_one::<String>("source").map_or("", String::as_str))
}

pub(super) fn inspect(matches: &ArgMatches, context: &Context) -> Result<()> {
    let location = source_of(matches)?;
    if matches.get_flag("referrers") {
        return referrers::list(matches, context, &location);
    }
    let source = place::open(&location, context)?;
    let limits = &context.limits;
    if matches.get_flag("raw") {
        return context.print_bytes(&source.resolve()?.1);
    }
    if matches.get_flag("index") {
        let (root, bytes) = source.resolve()?;
        return match crate::manifest::Document::parse(&bytes, &root.media_type, limits)? {
            crate::manifest::Document::Index(_) => context.print_bytes(&bytes),
            crate::manifest::Document::Manifest(_) => {
                Err(Error::not_found(format!("{location} is one image, without an index")))
            }
        };
    }
    let image = Image::find(&*source, platform(matches), limits)?;
    if matches.get_flag("manifest") {
        return context.print_bytes(&image.bytes);
    }
    if matches.get_flag("config") {
        let bytes = source::document(&*source, &image.manifest.config, limits)?;
        return context.print_bytes(&bytes);
    }
    if matches.get_flag("layers") {
        let (_, config) = image.config(&*source, limits)?;
        for (layer, diff_id) in image.manifest.layers.iter().zip(&config.diff_ids) {
            context.print(format_args!(
                "{} {} {} {diff_id}",
                layer.digest,
                layer.size,
                printable(&layer.media_type)
            ))?;
        }
        return Ok(());
    }
    let summary = summary(&location, &*source, &image, context)?;
    let text = if context.json { summary.to_string() } else { pretty(&summary) };
    context.print(text)
}

/// What people want to know. The words are skopeo's where it has them.
fn summary(
    location: &Location,
    source: &dyn Source,
    image: &Image,
    context: &Context,
) -> Result<Value> {
    let size: u64 =
        image.manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    let mut value = serde_json::Map::new();
    let mut put = |name: &str, found: Value| drop(value.insert(name.to_owned(), found));
    put("Name", json!(location.to_string()));
    put("Digest", json!(image.root.digest));
    put("ManifestDigest", json!(image.descriptor.digest));
    put("MediaType", json!(image.root.media_type));
    put(
        "Layers",
        json!(image.manifest.layers.iter().map(|l| l.digest.to_string()).collect::<Vec<_>>()),
    );
    put("Size", json!(size));
    if let Some((index, bytes)) = image.indexes.first()
        && let crate::manifest::Document::Index(index) =
            crate::manifest::Document::parse(bytes, &index.media_type, &context.limits)?
    {
        let names = index.manifests.iter().filter(|e| !e.is_attestation());
        put(
            "Platforms",
            names.filter_map(|e| e.platform.as_ref()).map(ToString::to_string).collect(),
        );
    }
    if image.manifest.must_be_image().is_err() {
        put(
            "ArtifactType",
            json!(
                image
                    .manifest
                    .artifact_type
                    .as_deref()
                    .unwrap_or(&image.manifest.config.media_type)
            ),
        );
        return Ok(Value::Object(value));
    }
    let bytes = source::document(source, &image.manifest.config, &context.limits)?;
    let config = document::parse_config(&bytes)?;
    for (name, key) in [
        ("Created", "created"),
        ("Architecture", "architecture"),
        ("Os", "os"),
        ("Variant", "variant"),
    ] {
        if let Some(found) = config.get(key).filter(|found| !found.is_null()) {
            put(name, found.clone());
        }
    }
    for key in [
        "Entrypoint",
        "Cmd",
        "Env",
        "WorkingDir",
        "User",
        "Labels",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
    ] {
        let found = config.get("config").and_then(|config| config.get(key));
        if let Some(found) = found.filter(|found| !found.is_null() && found.as_str() != Some("")) {
            put(key, found.clone());
        }
    }
    Ok(Value::Object(value))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// What came from outside, on one line and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

pub(super) fn resolve(matches: &ArgMatches, context: &Context) -> Result<()> {
    let location = source_of(matches)?;
    let source = place::open(&location, context)?;
    let digest = if let Some(platform) = platform(matches) {
        Image::find(&*source, Some(platform), &context.limits)?.descriptor.digest
    } else {
        source.resolve()?.0.digest
    };
    let name = match &location {
        _ if context.quiet => String::new(),
        Location::Registry(reference) => format!("{}@", reference.name()),
        Location::Oci(path, _) => format!("oci:{}@", path.display()),
        Location::OciArchive(path, _) => format!("oci-archive:{}@", path.display()),
        Location::Store(_) => "store:".to_owned(),
        Location::DockerArchive(..) | Location::Archive(..) | Location::Dir(_) => String::new(),
    };
    context.print(format_args!("{name}{digest}"))
}

pub(super) fn tags(matches: &ArgMatches, context: &Context) -> Result<()> {
    let location = source_of(matches)?;
    if let Location::Registry(reference) = &location {
        let tags = context.remote.registry(reference)?.tags()?;
        return tags.iter().try_for_each(|tag| context.print(tag));
    }
    let index = match &location {
        Location::Oci(path, _) => {
            Layout::new(Directory::open(path)?, Select::Only, context.limits)?.index()?
        }
        // One without a layout is told so.
        Location::OciArchive(path, _) | Location::Archive(path, _) => {
            let archive = source::archive::Archive::open(path, &context.limits)?;
            Layout::new(archive, Select::Only, context.limits)?.index()?
        }
        Location::Store(_) => context.open_store()?.source(Select::Only)?.index()?,
        other => return Err(Error::unsupported(format!("{other} has no tags that can be listed"))),
    };
    for entry in &index.manifests {
        context.print(printable(&name_of(entry)))?;
    }
    Ok(())
}

pub(super) fn verify(matches: &ArgMatches, context: &Context) -> Result<()> {
    let text = matches.get_one::<String>("source").map_or("", String::as_str);
    if drift::is_bundle(text) {
        return drift::verify(text, matches, context);
    }
    let location = source_of(matches)?;
    let source = place::open(&location, context)?;
    let image = Image::find(&*source, platform(matches), &context.limits)?;
    let (source, progress) = (&*source, &context.progress);
    if image.manifest.must_be_image().is_ok() {
        let (_, config) = image.config(source, &context.limits)?;
        unpack::verify(source, &image, &config, &context.limits, progress)?;
    } else {
        // An artifact: what its blobs are is not for us to know.
        image.blobs().into_iter().try_for_each(|blob| read_all(source, blob, progress))?;
    }
    context.print(format_args!("{} is whole", image.root.digest))
}

fn read_all(source: &dyn Source, descriptor: &Descriptor, listener: &dyn Listener) -> Result<()> {
    listener.event(Event::BlobStart { descriptor, offset: 0 });
    let mut reader = source::blob(source, descriptor)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = reader
            .read(&mut buffer)
            .map_err(|error| Error::io(format_args!("cannot read {}", descriptor.digest), error))?;
        if count == 0 {
            listener.event(Event::BlobDone { descriptor, cached: false });
            return Ok(());
        }
        listener.event(Event::BlobProgress { descriptor, bytes: count as u64 });
    }
}
