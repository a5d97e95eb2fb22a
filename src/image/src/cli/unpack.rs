//! `unpack`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::{Context, place, platform, platform_flag, source_argument};
use crate::draft;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::{Devices, IdMap, Options, Owners};
use crate::source::Location;
use crate::unpack::flatten;

/// The kernel's overflow id (proc_sys_kernel(5), overflowuid).
const NOBODY: u32 = 65_534;

pub(super) fn command() -> Command {
    let map = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("IMAGE:HOST:COUNT")
            .action(ArgAction::Append)
            .value_parser(range)
            .help(help)
    };
    Command::new("unpack")
        .about("unpack an image, verified, into a new directory")
        .arg(source_argument())
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("what is made; it may be there if it is empty"),
        )
        .arg(platform_flag())
        .arg(map("uid-map", "user ids of the image and who they are on the host"))
        .arg(map("gid-map", "the same for groups"))
        .arg(
            Arg::new("rootless")
                .long("rootless")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["uid-map", "gid-map"])
                .help("all files belong to the caller, and devices become empty files [default for other users than root]"),
        )
        .arg(
            Arg::new("devices")
                .long("devices")
                .value_parser(["create", "skip", "placeholder"])
                .help("what becomes of device nodes [default: create, or placeholder with --rootless]"),
        )
        .arg(
            Arg::new("squash-unmapped")
                .long("squash-unmapped")
                .action(ArgAction::SetTrue)
                .conflicts_with("rootless")
                .help("files of ids that are in no range of --uid-map or --gid-map belong to nobody, 65534, instead of being an error"),
        )
        .arg(
            Arg::new("trusted-xattrs")
                .long("trusted-xattrs")
                .action(ArgAction::SetTrue)
                .conflicts_with("rootless")
                .help("set attributes trusted.*, but for those of overlay; without it they are left out with a warning"),
        )
        .arg(
            Arg::new("keep-dirlinks")
                .long("keep-dirlinks")
                .action(ArgAction::SetTrue)
                .help("a directory of a layer does not replace a symlink to a directory"),
        )
}

/// One range of ids.
fn range(text: &str) -> Result<(u32, u32, u32), String> {
    let parts: Vec<Option<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        [Some(image), Some(host), Some(count)] if *count > 0 => Ok((*image, *host, *count)),
        _ => Err(format!("{text:?} is not IMAGE:HOST:COUNT")),
    }
}

fn options<'a>(matches: &ArgMatches, context: &Context) -> Options<'a> {
    let single = matches.get_flag("rootless") || !nix::unistd::geteuid().is_root();
    let map = |name: &str| matches.get_many(name).map(|ranges| IdMap(ranges.copied().collect()));
    let owners = match (map("uid-map"), map("gid-map")) {
        (None, None) if single => Owners::Single,
        (None, None) => Owners::Raw,
        // One alone is meant for both, as with umoci's users in mind.
        (uids, gids) => {
            let either = uids.clone().or_else(|| gids.clone()).unwrap_or_default();
            Owners::Mapped {
                uids: uids.unwrap_or_else(|| either.clone()),
                gids: gids.unwrap_or(either),
                squash: matches.get_flag("squash-unmapped").then_some((NOBODY, NOBODY)),
            }
        }
    };
    let devices = match matches.get_one::<String>("devices").map(String::as_str) {
        Some("create") => Devices::Create,
        Some("skip") => Devices::Skip,
        Some(_) => Devices::Placeholder,
        None if owners == Owners::Single => Devices::Placeholder,
        None => Devices::Create,
    };
    Options {
        owners,
        devices,
        limits: context.limits,
        keep_dirlinks: matches.get_flag("keep-dirlinks"),
        trusted_xattrs: matches.get_flag("trusted-xattrs"),
        ..Options::default()
    }
}

pub(super) fn unpack(matches: &ArgMatches, context: &Context) -> Result<()> {
    let location = Location::parse(matches.get_one::<String>("source").map_or("", String::as_str))?;
    let Some(directory) = matches.get_one::<PathBuf>("directory") else {
        return Err(Error::usage("where to?"));
    };
    let began = std::time::Instant::now();
    let source = place::open(&location, context)?;
    let image = Image::find(&*source, platform(matches), &context.limits)?;
    let (_, config) = image.config(&*source, &context.limits)?;
    let options = options(matches, context);
    draft::tree(directory, |root| {
        flatten(&*source, &image, &config, root, &options, &context.progress)
    })?;
    if context.json {
        context.progress.result(&json!({
            "event": "result", "digest": image.root.digest, "manifest_digest": image.descriptor.digest,
            "config_digest": image.manifest.config.digest, "rootfs": directory.to_string_lossy(),
            "elapsed_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
        return Ok(());
    }
    context.print(&image.root.digest)
}
