//! `bundle`, and `run` and `create` with `--image`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{Context, place, platform, platform_flag};
use crate::bundle::userns::{Errand, Into};
use crate::bundle::{self, Plan, Rootfs};
use crate::error::{Error, Result};
use crate::event::{Event, Listener};
use crate::launch::opened::Opened;
use crate::launch::run::{self, Image};
use crate::launch::wanted;
use crate::pull;
use crate::source::{Brought, Location, Select, Source};
use crate::store::Store;

pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    Command::new("bundle")
        .about("make a bundle of an image: config.json and rootfs")
        .arg(
            Arg::new("source")
                .value_name("SOURCE")
                .required(true)
                .help("the image; with --remove and --mount, the bundle"),
        )
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .required_unless_present_any(["remove", "mount-again"])
                .help("the bundle, which is not there yet"),
        )
        .arg(flag("remove", "unmount and remove the bundle").conflicts_with("directory"))
        .arg(
            flag("mount-again", "mount the root filesystem of the bundle, after a reboot")
                .conflicts_with_all(["directory", "remove"]),
        )
        .arg(platform_flag())
        .arg(pull_flag())
        .args(wanted::flags())
        .arg(
            Arg::new("args")
                .value_name("ARGS")
                .last(true)
                .num_args(0..)
                .value_parser(value_parser!(std::ffi::OsString))
                .help("arguments, in place of the image's command"),
        )
}

pub(super) fn run_command() -> Command {
    run::command("run", "run a container of an image").arg(platform_flag()).arg(pull_flag())
}

pub(super) fn create_command() -> Command {
    run::command("create", "create a container of an image").arg(platform_flag()).arg(pull_flag())
}

pub(super) fn bundle(matches: &ArgMatches, context: &Context) -> Result<()> {
    let text = matches.get_one::<String>("source").map(String::as_str).unwrap_or_default();
    if matches.get_flag("remove") {
        return bundle::remove(&absolute(Path::new(text))?);
    }
    if let Some(errand) = &context.errand {
        return files(text, matches, context, errand);
    }
    let request = wanted::request(matches)?;
    if matches.get_flag("mount-again") {
        return bundle::mount_again(&absolute(Path::new(text))?, request.mapping.as_ref());
    }
    let directory = matches.get_one::<PathBuf>("directory").cloned().unwrap_or_default();
    let directory = absolute(&directory)?;
    with_image(text, matches, context, request.mapping.as_ref(), |image| {
        let rootfs = wanted::rootfs(matches);
        let layers = run::layers(image, rootfs)?;
        let own = |at: BorrowedFd<'_>| {
            let overlay = image.overlay(at)?;
            image.keep(&directory)?;
            Ok(overlay)
        };
        let plan = Plan {
            place: &directory,
            rootfs,
            layers: &layers,
            // Any runtime is to run it, and crun 1.8 takes no mount on the root: it has to be asked for.
            own: (rootfs == Rootfs::Overlay && run::is_ordinary_user()).then_some(&own),
            config: image.config(),
            request: &request,
            source: &recorded(text)?,
            manifest: image.digest(),
            owner: None,
        };
        image.keep(&directory)?;
        let made = bundle::make(&plan, &|root| image.unpack(root))?;
        wanted::tell(matches, &made.conversion, &mut std::io::stdout())
    })
}

/// The exit code of the runtime.
pub(super) fn run(command: &str, matches: &ArgMatches, context: &Context) -> Result<u8> {
    let text = matches.get_one::<String>("image").map(String::as_str).unwrap_or_default();
    if let Some(errand) = &context.errand {
        return files(text, matches, context, errand).map(|()| 0);
    }
    let mapping = wanted::request(matches)?.mapping;
    with_image(text, matches, context, mapping.as_ref(), |image| {
        run::run(command, matches, &recorded(text)?, image)
    })
}

/// What a bundle's record calls the image: as it was typed, but from any directory.
fn recorded(text: &str) -> Result<String> {
    Ok(match Location::parse(text)? {
        Location::Registry(_) | Location::Store(_) => text.to_owned(),
        local => local.absolute()?.to_string(),
    })
}

/// Tells what is done, and not what was done before: a container of an image that is there begins without a word.
struct News<'a>(&'a dyn Listener);

impl Listener for News<'_> {
    fn event(&self, event: Event<'_>) {
        let known = matches!(
            event,
            Event::BlobDone { cached: true, .. } | Event::LayerApplied { cached: true, .. }
        );
        if !known {
            self.0.event(event);
        }
    }
}

/// The files of the image alone: see [`bundle::userns`].
fn files(text: &str, matches: &ArgMatches, context: &Context, errand: &Errand) -> Result<()> {
    with_image(text, matches, context, None, |image| {
        errand.check(&image.digest())?;
        match &errand.into {
            Into::Files(directory) => image.unpack(directory.as_fd()),
            Into::Overlay(directory, until) => image.serve(directory.as_fd(), until),
        }
    })
}

fn with_image<T>(
    text: &str,
    matches: &ArgMatches,
    context: &Context,
    mapping: Option<&crate::convert::Mapping>,
    use_it: impl FnOnce(&dyn Image) -> Result<T>,
) -> Result<T> {
    let location = Location::parse(text)?;
    let store = context.open_store()?;
    let source = match &location {
        Location::Registry(_) => pulled(&location, matches, context, &store)?,
        _ => place::open(&location, context)?,
    };
    let listener = News(&context.progress);
    let (platform, limits) = (platform(matches), &context.limits);
    let opened = Opened::new(&*source, &store, platform, limits, mapping, &listener)?;
    use_it(&opened.read_once(location.is_read_once()))
}

/// The image of a registry, in the store: downloaded in parallel, gone on with after a break, and there the next time.
fn pulled(
    location: &Location,
    matches: &ArgMatches,
    context: &Context,
    store: &Store,
) -> Result<Box<dyn Source + Send>> {
    let name = place::name_for(location);
    let platform = platform(matches);
    let stored = || store.source(Select::Name(name.clone()));
    // Who asked for this in a namespace has pulled it.
    let missing = matches.get_one::<String>("pull").is_none_or(|when| when == "missing");
    if missing || context.errand.is_some() {
        let there = stored()?;
        let all = crate::image::Image::find(&there, platform, &context.limits)
            .is_ok_and(|image| image.blobs().into_iter().all(|blob| store.has(blob)));
        if all {
            return Ok(Box::new(there));
        }
    }
    let source = place::open(location, context)?;
    let options = pull::Options {
        name: Some(&name),
        platforms: &pull::Platforms::One(platform.cloned()),
        jobs: context.jobs,
        limits: &context.limits,
    };
    let pulled = pull::pull(&*source, store, &options, &News(&context.progress))?;
    Ok(Box::new(Brought::new(stored()?, pulled.brought())))
}

/// `--pull`.
fn pull_flag() -> Arg {
    Arg::new("pull")
        .long("pull")
        .value_name("WHEN")
        .value_parser(["missing", "always"])
        .help("when to ask the registry for an image that is in the store [default: missing]")
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::io(format!("cannot find {}", path.display()), error))
}
