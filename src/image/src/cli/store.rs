//! `store ls|rm|gc|du|verify`.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::inspect::printable;
use super::progress::size;
use super::{Context, place};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::source::Select;

pub(super) fn command() -> Command {
    Command::new("store")
        .about("look after the store")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("ls").about("list the images"))
        .subcommand(
            Command::new("rm")
                .about("forget images; store gc then removes what they were made of")
                .arg(
                    Arg::new("image")
                        .value_name("NAME")
                        .required(true)
                        .num_args(1..)
                        .help("names or digests"),
                ),
        )
        .subcommand(
            Command::new("gc").about("remove what no image and no bundle needs").arg(
                Arg::new("dry-run")
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .help("only say what would be removed"),
            ),
        )
        .subcommand(Command::new("du").about("say what the store holds"))
        .subcommand(
            Command::new("verify").about("read all blobs and hold them against their digests").arg(
                Arg::new("repair")
                    .long("repair")
                    .action(ArgAction::SetTrue)
                    .help("remove blobs that are wrong; the next pull brings them anew"),
            ),
        )
}

pub(super) fn run(matches: &ArgMatches, context: &Context) -> Result<()> {
    let store = context.open_store()?;
    match matches.subcommand() {
        Some(("ls", _)) => {
            for entry in store.entries()? {
                if context.json {
                    context
                        .print(json!({"name": entry.name, "digest": entry.descriptor.digest}))?;
                } else if context.quiet {
                    context.print(printable(&entry.name))?;
                } else {
                    let name = printable(&entry.name);
                    context.print(format_args!("{} {name}", entry.descriptor.digest))?;
                }
            }
            Ok(())
        }
        Some(("rm", matches)) => {
            for image in matches.get_many::<String>("image").into_iter().flatten() {
                let name = image.strip_prefix("store:").unwrap_or(image);
                let digest = Digest::parse(name.trim_start_matches('@'))
                    .ok()
                    .filter(|d| d.algorithm().is_some());
                let select = digest.map_or_else(
                    || place::stored_name(context, name),
                    |digest| Ok(Select::Digest(digest)),
                )?;
                for entry in store.untag(&select)? {
                    let name = printable(&entry.name);
                    context.print(format_args!("{} {name}", entry.descriptor.digest))?;
                }
            }
            Ok(())
        }
        Some(("gc", matches)) => collect(&store, matches.get_flag("dry-run"), context),
        Some(("du", _)) => usage(&store, context),
        Some(("verify", matches)) => {
            let verdict = store.verify(matches.get_flag("repair"))?;
            for problem in &verdict.problems {
                let removed = if problem.removed { " (removed)" } else { "" };
                if context.json {
                    context.print(json!({"problem": problem.what, "name": problem.name, "removed": problem.removed}))?;
                } else {
                    let what = printable(&format!("{}: {}", problem.name, problem.what));
                    context.print(format_args!("{what}{removed}"))?;
                }
            }
            if context.json {
                context.print(json!({"blobs": verdict.blobs, "bytes": verdict.bytes, "problems": verdict.problems.len()}))?;
            } else if !context.quiet {
                context.print(format_args!(
                    "{} blobs read, {}",
                    verdict.blobs,
                    size(verdict.bytes)
                ))?;
            }
            match verdict.problems.iter().filter(|problem| !problem.removed).count() {
                0 => Ok(()),
                count => Err(Error::verification(format!(
                    "{count} things in {} are wrong",
                    store.path().display()
                ))
                .hint("--repair removes blobs that are")),
            }
        }
        _ => Err(Error::usage("store ls, rm, gc, du or verify")),
    }
}

fn collect(store: &crate::store::Store, dry: bool, context: &Context) -> Result<()> {
    let r = store.gc(dry)?;
    for left in &r.left {
        let path = store.path().join(&left.name);
        if context.json {
            context.print(json!({"problem": left.what, "name": left.name, "removed": false}))?;
        } else {
            context.print(printable(&format!("{}: {}", path.display(), left.what)))?;
        }
    }
    if context.json {
        context.print(json!({
            "blobs": r.blobs, "layers": r.layers, "unfinished": r.unfinished, "bytes": r.bytes,
            "layer_bytes": r.layer_bytes, "dry_run": dry,
        }))?;
    } else {
        context.print(format_args!(
            "{} {} blobs, {} unpacked layers and {} unfinished: {}",
            if dry { "would remove" } else { "removed" },
            r.blobs,
            r.layers,
            r.unfinished,
            size(r.bytes.saturating_add(r.layer_bytes))
        ))?;
    }
    match r.left.len() {
        0 => Ok(()),
        count => Err(Error::new(
            Kind::Generic,
            format!("{count} things could not be removed from {}", store.path().display()),
        )
        .hint("files of ids that are no longer yours (subuid(5)) are for root to remove")),
    }
}

fn usage(store: &crate::store::Store, context: &Context) -> Result<()> {
    let u = store.usage()?;
    if context.json {
        return context.print(json!({
            "images": u.images, "blobs": u.blobs, "blob_bytes": u.blob_bytes, "layers": u.layers,
            "layer_bytes": u.layer_bytes, "partial": u.partial, "partial_bytes": u.partial_bytes,
        }));
    }
    context.print(format_args!("images           {:6}", u.images))?;
    context.print(format_args!("blobs            {:6}  {}", u.blobs, size(u.blob_bytes)))?;
    context.print(format_args!("unpacked layers  {:6}  {}", u.layers, size(u.layer_bytes)))?;
    context.print(format_args!("unfinished       {:6}  {}", u.partial, size(u.partial_bytes)))
}
