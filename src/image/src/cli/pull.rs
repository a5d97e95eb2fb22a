//! `pull`.

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::{Context, all_platforms_flag, place, platform_flag, platforms, progress};
use crate::error::Result;
use crate::pull::{Options, pull as bring};
use crate::source::Location;

pub(super) fn command() -> Command {
    Command::new("pull")
        .about("bring an image into the store, verified")
        .arg(
            Arg::new("source").value_name("SOURCE").required(true).num_args(1..).help("the images"),
        )
        .arg(platform_flag())
        .arg(all_platforms_flag())
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("what the image is called in the store [default: as the source]"),
        )
}

pub(super) fn pull(matches: &ArgMatches, context: &Context) -> Result<()> {
    let platforms = platforms(matches);
    let store = context.open_store()?;
    for text in matches.get_many::<String>("source").into_iter().flatten() {
        let location = Location::parse(text)?;
        let source = place::open(&location, context)?;
        let name = matches
            .get_one::<String>("name")
            .cloned()
            .unwrap_or_else(|| place::name_for(&location));
        let began = std::time::Instant::now();
        let options = Options {
            name: Some(&name),
            platforms: &platforms,
            jobs: context.jobs,
            limits: &context.limits,
        };
        let pulled = bring(&*source, &store, &options, &context.progress)?;
        let digest = &pulled.root.digest;
        if context.json {
            let blob = |(descriptor, fetched): &(crate::Descriptor, crate::store::Fetched)| json!({"digest": descriptor.digest, "size": descriptor.size, "cached": fetched.cached});
            let image = pulled.image.as_ref();
            context.progress.result(&json!({
                "event": "result",
                "name": name,
                "digest": digest,
                "manifest_digest": image.map(|i| &i.descriptor.digest),
                "config_digest": image.map(|i| &i.manifest.config.digest),
                "blobs": pulled.blobs.iter().map(blob).collect::<Vec<_>>(),
                "bytes_downloaded": pulled.bytes(),
                "elapsed_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            }));
        } else if context.quiet {
            context.print(digest)?;
        } else {
            context.print(format_args!(
                "store:{name} {digest}, {} read",
                progress::size(pulled.bytes())
            ))?;
        }
    }
    Ok(())
}
