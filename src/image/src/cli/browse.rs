//! `ls` and `cat`: the files of an image, without unpacking it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use super::inspect::printable;
use super::{Context, place, platform, platform_flag, source_argument};
use crate::error::{Error, Result};
use crate::event::Nobody;
use crate::image::Image;
use crate::layer::{File, Listing};
use crate::manifest::ImageConfig;
use crate::source::{Location, Source};
use crate::unpack;

pub(super) fn ls_command() -> Command {
    let flag = |name: &'static str, short: char, help: &'static str| {
        Arg::new(name).long(name).short(short).help(help).action(ArgAction::SetTrue)
    };
    Command::new("ls")
        .about("list the files of an image, without unpacking it")
        .arg(source_argument())
        .arg(path_argument().default_value("/").help("a file or directory of the image"))
        .arg(flag("long", 'l', "type and mode, owner, size, time and target"))
        .arg(flag("recursive", 'R', "everything below the directory"))
        .arg(platform_flag())
}

pub(super) fn cat_command() -> Command {
    Command::new("cat")
        .about("print files of an image, without unpacking it")
        .arg(source_argument())
        .arg(path_argument().required(true).num_args(1..).help("files of the image"))
        .arg(platform_flag())
}

fn path_argument() -> Arg {
    Arg::new("path").value_name("PATH").value_parser(value_parser!(OsString))
}

/// An image whose files are known.
struct Listed {
    source: Box<dyn Source + Send>,
    image: Image,
    config: ImageConfig,
    listing: Listing,
}

fn list(matches: &ArgMatches, context: &Context) -> Result<Listed> {
    let location = Location::parse(matches.get_one::<String>("source").map_or("", String::as_str))?;
    let source = place::open(&location, context)?;
    let image = Image::find(&*source, platform(matches), &context.limits)?;
    let (_, config) = image.config(&*source, &context.limits)?;
    let listing = unpack::list(&*source, &image, &config, &context.limits, &Nobody)?;
    Ok(Listed { source, image, config, listing })
}

fn absent(path: &OsStr) -> Error {
    Error::not_found(format!("the image has no {}", printable(&path.to_string_lossy())))
}

pub(super) fn ls(matches: &ArgMatches, context: &Context) -> Result<()> {
    let listed = list(matches, context)?;
    let Some(path) = matches.get_one::<OsString>("path") else { return Ok(()) };
    let (long, all) = (matches.get_flag("long"), matches.get_flag("recursive"));
    let show = |name: &[u8], shown: &[u8], file: &File| show(context, name, shown, file, long);
    let (directory, file) = listed.listing.find(path.as_bytes())?.ok_or_else(|| absent(path))?;
    if file.kind != 'd' {
        return show(directory, directory, file);
    }
    let skip = if directory.is_empty() || all { 0 } else { directory.len() + 1 };
    for (name, file) in listed.listing.below(directory, all) {
        show(name, name.get(skip..).unwrap_or(name), file)?;
    }
    Ok(())
}

fn show(context: &Context, name: &[u8], shown: &[u8], file: &File, long: bool) -> Result<()> {
    let text = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes));
    if context.json {
        return context.print(json!({
            "name": format!("/{}", String::from_utf8_lossy(name)), "type": file.kind.to_string(),
            "mode": format!("{:04o}", file.mode), "uid": file.uid, "gid": file.gid, "size": file.size,
            "mtime": file.mtime, "layer": file.layer,
            "target": (file.kind == 'l').then(|| String::from_utf8_lossy(&file.target).into_owned()),
        }));
    }
    if !long {
        return context.print(text(shown));
    }
    let target =
        if file.kind == 'l' { format!(" -> {}", text(&file.target)) } else { String::new() };
    context.print(format_args!(
        "{}{} {:>5} {:>5} {:>10} {} {}{target}",
        file.kind,
        permissions(file.mode),
        file.uid,
        file.gid,
        file.size,
        date(file.mtime),
        text(shown)
    ))
}

/// As ls(1) has them.
fn permissions(mode: u32) -> String {
    let special = [(0o4000, 's'), (0o2000, 's'), (0o1000, 't')];
    let mut text = String::new();
    for ((bit, letter), shift) in special.into_iter().zip([6, 3, 0]) {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & bit != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

/// RFC 3339, in UTC. The days by Howard Hinnant's civil_from_days.
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = i128::from(days) + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i128::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

pub(super) fn cat(matches: &ArgMatches, context: &Context) -> Result<()> {
    let listed = list(matches, context)?;
    let mut found = Vec::new();
    // All of them before the first byte.
    for path in matches.get_many::<OsString>("path").into_iter().flatten() {
        let (_, file) = listed.listing.find(path.as_bytes())?.ok_or_else(|| absent(path))?;
        if file.kind != '-' {
            let shown = printable(&path.to_string_lossy());
            return Err(Error::usage(format!("{shown} is no regular file")));
        }
        found.push(file);
    }
    let mut stdout = std::io::stdout().lock();
    for file in found {
        let Listed { source, image, config, .. } = &listed;
        unpack::write_file(&**source, image, config, &context.limits, file, &mut stdout)?;
    }
    stdout.flush().map_err(|error| Error::io("cannot write to stdout", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_times_are_those_of_ls() {
        for (mode, text) in [
            (0o755, "rwxr-xr-x"),
            (0o4755, "rwsr-xr-x"),
            (0o2640, "rw-r-S---"),
            (0o1777, "rwxrwxrwt"),
        ] {
            assert_eq!(permissions(mode), text);
        }
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_795_305_600, "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert!(date(i64::MAX).ends_with('Z') && date(i64::MIN).ends_with('Z'));
    }
}
