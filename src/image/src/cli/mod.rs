//! The command line.

mod archive;
mod browse;
mod bundle;
mod copy;
mod drift;
mod inspect;
mod manual;
mod place;
mod progress;
mod pull;
mod referrers;
mod remote;
mod store;
mod unpack;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::bundle::userns::Errand;
use crate::error::{Error, Kind, Result};
use crate::limits::Limits;
use crate::platform::Platform;
use crate::pull::Platforms;
use crate::store::Store;

use progress::Progress;

/// The caller's file mode creation mask.
static UMASK: std::sync::OnceLock<nix::sys::stat::Mode> = std::sync::OnceLock::new();

/// Gives the process the caller's file mode creation mask again, for a program that it starts.
pub(crate) fn restore_umask() {
    if let Some(umask) = UMASK.get() {
        let _ours = nix::sys::stat::umask(*umask);
    }
}

/// What every command needs.
struct Context {
    /// `None` for the place where it is when nobody says: not every command needs one, and a hook of a runtime has no `HOME` to find it by.
    store: Option<PathBuf>,
    limits: Limits,
    jobs: usize,
    quiet: bool,
    json: bool,
    progress: Progress,
    /// All that is wanted is the image in this directory: another process of this program does the rest.
    errand: Option<Errand>,
    remote: remote::Remote,
}

impl Context {
    fn new(matches: &ArgMatches, errand: Option<Errand>) -> Result<Self> {
        let store = matches.get_one::<PathBuf>("store").cloned();
        let (quiet, json) = (matches.get_flag("quiet"), matches.get_flag("json"));
        let limits = limits(matches);
        let jobs =
            matches.get_one::<u64>("jobs").map_or(4, |jobs| usize::try_from(*jobs).unwrap_or(16));
        let progress = Progress::new(quiet, json);
        let remote = remote::Remote::new(matches, progress.clone());
        Ok(Self { store, limits, jobs, quiet, json, progress, remote, errand })
    }

    fn open_store(&self) -> Result<Store> {
        let path = match &self.store {
            Some(path) => path.clone(),
            None => {
                let uid = nix::unistd::geteuid().as_raw();
                Store::default_path(uid, &|name| std::env::var_os(name))?
            }
        };
        Store::open(&path, self.limits)
    }

    /// One line of data on stdout.
    fn print(&self, line: impl std::fmt::Display) -> Result<()> {
        self.progress.clear();
        writeln!(std::io::stdout(), "{line}")
            .map_err(|error| Error::io("cannot write to stdout", error))
    }

    /// Bytes of a document on stdout, as they are.
    fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout();
        let newline: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.write_all(newline))
            .and_then(|()| stdout.flush())
            .map_err(|error| Error::io("cannot write to stdout", error))
    }
}

/// The program.
///
/// Returns the exit code: see [`Kind`]. With `errand`, which is for [`crate::bundle::userns`], that is all that is done.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>, errand: Option<Errand>) -> u8 {
    // Most modes that layers and the store ask for are then what is meant at once; what asks for none is for its owner alone to write.
    let was = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let _the_first = UMASK.set(was);
    let matches = match program().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _nowhere_else = error.print();
            return if error.use_stderr() { Kind::Usage.exit_code() } else { 0 };
        }
    };
    let Some((name, matches)) = matches.subcommand() else { return Kind::Usage.exit_code() };
    let watched = crate::interrupt::watch();
    let result = watched.and_then(|()| Context::new(matches, errand)).and_then(|context| {
        let result = dispatch(name, matches, &context);
        context.progress.clear();
        if let (Err(error), true) = (&result, context.json) {
            context.progress.failed(error);
        }
        result
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            // Much of it are words of images and registries.
            let shown = inspect::printable(&error.to_string());
            crate::interrupt::say(format_args!("skep {name}: {shown}"));
            crate::interrupt::end();
            error.kind().exit_code()
        }
    }
}

fn dispatch(name: &str, matches: &ArgMatches, context: &Context) -> Result<u8> {
    match name {
        "inspect" => inspect::inspect(matches, context),
        "resolve" => inspect::resolve(matches, context),
        "tags" => inspect::tags(matches, context),
        "verify" => inspect::verify(matches, context),
        "ls" => browse::ls(matches, context),
        "cat" => browse::cat(matches, context),
        "man" => manual::man(matches, context),
        "completion" => manual::completion(matches, context),
        "pull" => pull::pull(matches, context),
        "copy" => copy::copy(matches, context),
        "push" => copy::push(matches, context),
        "store" => store::run(matches, context),
        "unpack" => unpack::unpack(matches, context),
        "bundle" => bundle::bundle(matches, context),
        "run" | "create" => return bundle::run(name, matches, context),
        other => Err(Error::usage(format!("there is no command {other}"))),
    }
    .map(|()| 0)
}

fn program() -> Command {
    let program = Command::new("skep-image")
        .about("Images for skep: pull, verify, unpack and turn them into bundles")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "SOURCE is oci:PATH[:TAG|@DIGEST], oci-archive:PATH[:TAG], docker-archive:PATH[:NAME], dir:PATH, store:NAME,\n\
             docker://NAME, or a bare word: a path that is there, and a name in a registry otherwise.\n\n\
             Exit codes: 1 anything else, 2 usage, 3 not found, 4 authentication, 5 verification, 6 unsupported image,\n\
             7 network, 8 no space or beyond a limit. Ctrl-C, SIGTERM and SIGHUP take away what is half made and keep what was\n\
             downloaded; whoever waits sees the signal.",
        )
        .subcommands([
                pull::command(),
                copy::command(),
                copy::push_command(),
                inspect::inspect_command(),
                inspect::resolve_command(),
                inspect::tags_command(),
                inspect::verify_command(),
                browse::ls_command(),
                browse::cat_command(),
                store::command(),
                unpack::command(),
                bundle::command(),
                bundle::run_command(),
                bundle::create_command(),
                manual::man_command(),
                manual::completion_command(),
            ]);
    remote::flags(common(program))
}

/// Flags of every command.
fn common(command: Command) -> Command {
    let number = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .help(help)
            .global(true)
            .value_parser(clap::value_parser!(u64).range(1..))
    };
    command
        .arg(
            Arg::new("store")
                .long("store")
                .alias("root")
                .value_name("DIR")
                .global(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("where the store is [default: /var/lib/skep/images, or ~/.local/share/skep/images]"),
        )
        .arg(
            Arg::new("quiet")
                .long("quiet")
                .short('q')
                .global(true)
                .action(ArgAction::SetTrue)
                .help("print the result and nothing else"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(ArgAction::SetTrue)
                .help("print what happens and the result as JSON, one object a line"),
        )
        .arg(number("jobs", "N", "blobs that are read at a time [default: 4]"))
        .arg(
            Arg::new("max-size")
                .long("max-size")
                .value_name("BYTES")
                .global(true)
                .value_parser(bytes)
                .help("uncompressed bytes that an image may have; K, M, G and T are understood [default: 64G]"),
        )
        .arg(
            Arg::new("max-window")
                .long("max-window")
                .value_name("BYTES")
                .global(true)
                .value_parser(bytes)
                .help("memory that a layer compressed with zstd may want for its window [default: 32M]"),
        )
        .arg(
            Arg::new("max-memory")
                .long("max-memory")
                .value_name("BYTES")
                .global(true)
                .value_parser(bytes)
                .help("memory for names and attributes that are kept to the end of a layer, with the window of zstd [default: 40M]"),
        )
        .arg(number("max-entries", "N", "entries that the layers of an image may have [default: 5000000]"))
        .arg(number("max-layers", "N", "layers that an image may have [default: 256]"))
        .arg(number("max-path", "BYTES", "bytes that the name of an entry, and the target of a link, may have [default: 65536]"))
        .arg(number("max-xattrs", "N", "extended attributes that an entry may have [default: 256]"))
        .arg(number("max-ratio", "N", "bytes that one compressed byte may become, beyond --ratio-free [default: 1032]"))
        .arg(
            Arg::new("ratio-free")
                .long("ratio-free")
                .value_name("BYTES")
                .global(true)
                .value_parser(bytes)
                .help("uncompressed bytes of a layer that are not held against --max-ratio [default: 1G]"),
        )
}

/// What the flags say of how much is too much.
fn limits(matches: &ArgMatches) -> Limits {
    let mut limits = Limits::default();
    let given = |name: &str| matches.get_one::<u64>(name).copied();
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let set = |limit: &mut u64, name| *limit = given(name).unwrap_or(*limit);
    let set_size = |limit: &mut usize, name| *limit = given(name).map_or(*limit, size);
    set(&mut limits.unpacked, "max-size");
    set(&mut limits.entries, "max-entries");
    set(&mut limits.zstd_window, "max-window");
    set(&mut limits.ratio, "max-ratio");
    set(&mut limits.ratio_free, "ratio-free");
    set_size(&mut limits.memory, "max-memory");
    set_size(&mut limits.layers, "max-layers");
    set_size(&mut limits.path, "max-path");
    set_size(&mut limits.xattrs, "max-xattrs");
    limits
}

/// `--platform`, for the commands that choose one.
fn platform_flag() -> Arg {
    Arg::new("platform")
        .long("platform")
        .value_name("OS/ARCH[/VARIANT]")
        .value_parser(|text: &str| Platform::parse(text).map_err(|error| error.to_string()))
        .help("the platform to choose from an index [default: this machine's]")
}

fn platform(matches: &ArgMatches) -> Option<&Platform> {
    matches.get_one::<Platform>("platform")
}

/// Which images a command means that takes `--platform` and `--all-platforms`.
fn platforms(matches: &ArgMatches) -> Platforms {
    if matches.get_flag("all-platforms") {
        Platforms::All
    } else {
        Platforms::One(platform(matches).cloned())
    }
}

fn all_platforms_flag() -> Arg {
    Arg::new("all-platforms")
        .long("all-platforms")
        .action(ArgAction::SetTrue)
        .conflicts_with("platform")
        .help("take the images for all platforms")
}

fn source_argument() -> Arg {
    Arg::new("source").value_name("SOURCE").required(true).help("the image")
}

/// A number of bytes, with K, M, G or T for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let plain = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, shift) = match plain.char_indices().last() {
        Some((at, 'K')) => (&plain[..at], 10),
        Some((at, 'M')) => (&plain[..at], 20),
        Some((at, 'G')) => (&plain[..at], 30),
        Some((at, 'T')) => (&plain[..at], 40),
        _ => (plain, 0),
    };
    let number: u64 =
        digits.parse().map_err(|error| format!("{text:?} is not a number of bytes: {error}"))?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        program().debug_assert();
    }

    #[test]
    fn limits_are_what_is_asked_for() {
        let read = |flags: &[&str]| {
            let line = ["skep-image", "unpack", "a", "b"].iter().chain(flags);
            let matches = program().try_get_matches_from(line).ok()?;
            Some(limits(matches.subcommand()?.1))
        };
        assert_eq!(read(&[]), Some(Limits::default()));
        let flags = [
            "--max-size=1K",
            "--max-window=2K",
            "--max-entries=3",
            "--max-layers=4",
            "--max-path=5",
            "--max-xattrs=6",
            "--max-ratio=7",
            "--max-memory=8M",
            "--ratio-free=9K",
        ];
        let all = Limits {
            unpacked: 1024,
            zstd_window: 2048,
            entries: 3,
            layers: 4,
            path: 5,
            xattrs: 6,
            ratio: 7,
            memory: 8 << 20,
            ratio_free: 9 << 10,
            ..Limits::default()
        };
        assert_eq!(read(&flags), Some(all));
        assert_eq!(read(&["--max-xattrs=0"]), None);
        assert_eq!(read(&["--max-ratio=x"]), None);
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("64G", Some(64 << 30)),
            ("10MiB", Some(10 << 20)),
            ("5kb", Some(5 << 10)),
            ("", None),
            ("0", None),
            ("G", None),
            ("-1", None),
            ("99999999T", None),
            ("é", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
