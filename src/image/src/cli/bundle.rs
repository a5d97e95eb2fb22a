//! `bundle`, and `run` and `create` with `--image`.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{Context, place, platform, platform_flag};
use crate::bundle::{self, Plan};
use crate::error::{Error, Result};
use crate::event::{Event, Listener};
use crate::launch::opened::Opened;
use crate::launch::run::{self, Image};
use crate::launch::wanted;
use crate::source::Location;

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
    run::command("run", "run a container of an image").arg(platform_flag())
}

pub(super) fn create_command() -> Command {
    run::command("create", "create a container of an image").arg(platform_flag())
}

pub(super) fn bundle(matches: &ArgMatches, context: &Context) -> Result<()> {
    let text = matches.get_one::<String>("source").map(String::as_str).unwrap_or_default();
    if matches.get_flag("remove") {
        return bundle::remove(&absolute(Path::new(text))?);
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
        let plan = Plan {
            place: &directory,
            rootfs,
            layers: &layers,
            config: image.config(),
            request: &request,
            source: text,
            owner: None,
        };
        let made = bundle::make(&plan, &|root| image.unpack(root))?;
        if let Err(error) = image.keep(&directory) {
            bundle::retire(&directory, &made)?;
            return Err(error);
        }
        wanted::tell(matches, &made.conversion, &mut std::io::stdout())
    })
}

/// The exit code of the runtime.
pub(super) fn run(command: &str, matches: &ArgMatches, context: &Context) -> Result<u8> {
    let text = matches.get_one::<String>("image").map(String::as_str).unwrap_or_default();
    let mapping = wanted::request(matches)?.mapping;
    with_image(text, matches, context, mapping.as_ref(), |image| {
        run::run(command, matches, text, image)
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

fn with_image<T>(
    text: &str,
    matches: &ArgMatches,
    context: &Context,
    mapping: Option<&crate::convert::Mapping>,
    use_it: impl FnOnce(&dyn Image) -> Result<T>,
) -> Result<T> {
    let location = Location::parse(text)?;
    let source = place::open(&location, context)?;
    let store = context.open_store()?;
    let listener = News(&context.progress);
    let (platform, limits) = (platform(matches), &context.limits);
    let opened = Opened::new(&*source, &store, platform, limits, mapping, &listener)?;
    use_it(&opened)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::io(format!("cannot find {}", path.display()), error))
}
