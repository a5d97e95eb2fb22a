//! The flags that say what `config.json` is to be: the same for `bundle`, `run --image` and `create --image`.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::{Map, Value};

use crate::bundle::{Rootfs, userns};
use crate::convert::{
    Capabilities, Conversion, IdMap, Mapping, Network, Request, Seccomp, Volumes, mounts,
};
use crate::error::{Context, Error, Result};

/// Bytes of a file that a flag names.
const MAX_FILE: u64 = 4 << 20;

/// The flags.
#[must_use]
pub fn flags() -> Vec<Arg> {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).help_heading("Container")
    };
    let list = |name, text, help| value(name, text, help).action(ArgAction::Append);
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).help_heading("Container")
    };
    vec![
        value("rootfs", "KIND", "how the root filesystem is made (default: auto; for an ordinary user's bundle that is a copy, and with overlay its containers mount it themselves)")
            .value_parser(["auto", "overlay", "copy"]),
        value("config-from", "FILE", "start from this config.json in place of the defaults"),
        value("user", "USER[:GROUP]", "run as this user, in place of the image's").short('u'),
        list("env", "NAME=VALUE", "set a variable").short('e'),
        value(
            "entrypoint",
            "PROGRAM",
            "run this in place of the image's entrypoint and command; a JSON array for several words",
        ),
        value("workdir", "DIR", "begin in this directory").short('w'),
        list(
            "mount",
            "MOUNT",
            "type=bind,source=A,target=B[,readonly], or a mount of config.json as JSON",
        ),
        value("net", "NET", "the container's network (default: none)")
            .value_parser(["none", "host"]),
        value("hostname", "NAME", "the container's host name"),
        flag("tty", "give it a terminal").short('t'),
        flag("read-only", "let nobody write to the root filesystem"),
        value("caps", "SET", "capabilities (default: docker)")
            .value_parser(["docker", "minimal", "none"]),
        value("no-new-privileges", "BOOL", "whether setuid programs gain nothing")
            .value_parser(["true", "false"])
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        value("seccomp", "PROFILE", "default, unconfined, or a file with the object linux.seccomp"),
        value("volumes", "HOW", "what becomes of the image's volumes (default: tmpfs)")
            .value_parser(["tmpfs", "ignore"]),
        list("annotation", "KEY=VALUE", "set an annotation"),
        flag("allow-annotations", "keep labels that runtimes act upon"),
        list("uid-map", "CONTAINER:HOST[:SIZE]", "a user namespace with these user ids"),
        list(
            "gid-map",
            "CONTAINER:HOST[:SIZE]",
            "and these group ids (default: those of --uid-map)",
        ),
        flag("explain", "say where each field of config.json comes from"),
    ]
}

/// How the root filesystem is to be made.
#[must_use]
pub fn rootfs(matches: &ArgMatches) -> Rootfs {
    match text(matches, "rootfs") {
        Some("overlay") => Rootfs::Overlay,
        Some("copy") => Rootfs::Copy,
        _ => Rootfs::Auto,
    }
}

/// What the flags say, with the arguments behind `--`.
///
/// # Errors
/// Values that mean nothing; files that cannot be read.
pub fn request(matches: &ArgMatches) -> Result<Request> {
    let here = std::env::current_dir().context(|| "cannot find out the current directory")?;
    let args: Vec<String> = matches
        .get_many::<OsString>("args")
        .into_iter()
        .flatten()
        .map(|word| {
            word.to_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::usage(format!("the argument {word:?} is not UTF-8")))
        })
        .collect::<Result<_>>()?;
    Ok(Request {
        args: (!args.is_empty()).then_some(args),
        entrypoint: text(matches, "entrypoint").map(entrypoint).transpose()?,
        user: text(matches, "user").map(str::to_owned),
        env: texts(matches, "env").map(str::to_owned).collect(),
        workdir: text(matches, "workdir").map(str::to_owned),
        mounts: texts(matches, "mount")
            .map(|mount| mounts::parse(mount, &here))
            .collect::<Result<_>>()?,
        network: if text(matches, "net") == Some("host") { Network::Host } else { Network::None },
        hostname: text(matches, "hostname").map(str::to_owned),
        terminal: matches.get_flag("tty"),
        read_only: matches.get_flag("read-only"),
        capabilities: match text(matches, "caps") {
            Some("minimal") => Capabilities::Minimal,
            Some("none") => Capabilities::None,
            _ => Capabilities::Docker,
        },
        no_new_privileges: text(matches, "no-new-privileges").map(|value| value == "true"),
        seccomp: match text(matches, "seccomp") {
            None | Some("default") => Seccomp::Default,
            Some("unconfined") => Seccomp::Unconfined,
            Some(file) => Seccomp::Profile(Value::Object(json_file(Path::new(file))?)),
        },
        volumes: if text(matches, "volumes") == Some("ignore") {
            Volumes::Ignore
        } else {
            Volumes::Tmpfs
        },
        allow_annotations: matches.get_flag("allow-annotations"),
        annotations: texts(matches, "annotation")
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
                _ => Err(Error::usage(format!("--annotation {pair:?} is no KEY=VALUE"))),
            })
            .collect::<Result<_>>()?,
        base: text(matches, "config-from").map(|file| json_file(Path::new(file))).transpose()?,
        mapping: mapping(matches)?,
        unified: std::fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok(),
    })
}

/// `--uid-map` and `--gid-map`; without them a user who is not root gets his subordinate ids, or the one id that he can map himself.
fn mapping(matches: &ArgMatches) -> Result<Option<Mapping>> {
    let ranges = |name| texts(matches, name).map(IdMap::parse).collect::<Result<Vec<_>>>();
    let (uids, gids) = (ranges("uid-map")?, ranges("gid-map")?);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uids.is_empty() {
        if !gids.is_empty() {
            return Err(Error::usage("--gid-map needs --uid-map"));
        }
        let own =
            || userns::subordinate().unwrap_or_else(|| Mapping::single(uid.as_raw(), gid.as_raw()));
        return Ok((!uid.is_root()).then(own));
    }
    let gids = if gids.is_empty() { uids.clone() } else { gids };
    Ok(Some(Mapping { uids, gids, rootless: !uid.is_root() }))
}

/// One word, or several as a JSON array; none for an empty one.
fn entrypoint(text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|error| {
            Error::usage(format!("--entrypoint {text:?} is no array of strings")).with_source(error)
        });
    }
    Ok(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
}

fn json_file(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    let file = std::fs::File::open(path).context(|| format!("cannot open {shown}"))?;
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).context(|| format!("cannot read {shown}"))?;
    if content.len() as u64 > MAX_FILE {
        return Err(Error::usage(format!("{shown} is larger than {MAX_FILE} bytes")));
    }
    serde_json::from_slice(&content)
        .map_err(|error| Error::usage(format!("{shown} is no JSON object")).with_source(error))
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn texts<'a>(matches: &'a ArgMatches, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    matches.get_many::<String>(name).into_iter().flatten().map(String::as_str)
}

/// Says what was left out, on standard error, and where everything else comes from, if that is asked for.
///
/// # Errors
/// Those of writing.
pub fn tell(matches: &ArgMatches, conversion: &Conversion, output: &mut dyn Write) -> Result<()> {
    let mut warnings = std::io::stderr().lock();
    for warning in &conversion.warnings {
        let _nowhere_to_say_it = writeln!(warnings, "skep-image: {}", printable(warning));
    }
    if !matches.get_flag("explain") {
        return Ok(());
    }
    let width = conversion
        .origins
        .iter()
        .map(|origin| origin.field.chars().count())
        .max()
        .unwrap_or(0)
        .min(48);
    for origin in &conversion.origins {
        writeln!(output, "{:width$}  {}", printable(&origin.field), printable(&origin.from))
            .context(|| "cannot write what --explain asks for")?;
    }
    Ok(())
}

/// Text of an image on a terminal: what would move its cursor is shown as it is written in Rust.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|char| {
            if char.is_control() { char.escape_default().collect::<Vec<_>>() } else { vec![char] }
        })
        .collect()
}

/// Makes a directory for this user alone, and those above it.
///
/// # Errors
/// Those of mkdir(2); a directory that is somebody else's.
pub fn private_directory(path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let shown = path.display();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .context(|| format!("cannot make {shown}"))?;
    let made = std::fs::symlink_metadata(path).context(|| format!("cannot look at {shown}"))?;
    if !made.is_dir() || made.uid() != nix::unistd::geteuid().as_raw() || made.mode() & 0o022 != 0 {
        return Err(Error::usage(format!("{shown} is not a directory of this user alone")));
    }
    Ok(path.to_path_buf())
}
