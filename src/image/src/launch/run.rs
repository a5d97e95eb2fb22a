//! `run --image` and `create --image`: the image's bundle in a runtime directory, and the runtime on it.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use libcontainer::id::ContainerId;
use libcontainer::sys::pidfd;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::wanted;
use crate::bundle::{self, Made, Plan, record::Owner};
use crate::error::{Context, Error, Kind, Result};

/// What the image has to give.
pub trait Image {
    /// Its configuration, as it is.
    fn config(&self) -> &[u8];
    /// The digest of its manifest.
    fn digest(&self) -> String;
    /// Its unpacked layers in overlay form, the lowest first; unpacked for this if they were not.
    ///
    /// # Errors
    /// Those of fetching and unpacking.
    fn layers(&self) -> Result<Vec<PathBuf>>;
    /// Its files, into an empty directory.
    ///
    /// # Errors
    /// Those of fetching and unpacking.
    fn unpack(&self, root: BorrowedFd<'_>) -> Result<()>;
    /// An overlay of the layers that the container mounts itself, made in the bundle `directory`: [`bundle::inside`].
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where there can be none; those of fetching and unpacking.
    fn overlay(&self, directory: BorrowedFd<'_>) -> Result<bundle::inside::Overlay>;
    /// Makes it, for another process of this program that waits for it in [`overlay`](Self::overlay), and keeps it until a file ends.
    ///
    /// # Errors
    /// Those of fetching and unpacking.
    fn serve(&self, directory: BorrowedFd<'_>, until: &std::fs::File) -> Result<()>;
    /// Keeps the layers in the store for as long as the bundle at `place` is there, which is made next: so a bundle that is there has its layers,
    /// whatever becomes of this process.
    ///
    /// # Errors
    /// Those of noting it.
    fn keep(&self, place: &Path) -> Result<()>;
    /// The bundle is there, or will not be: the store can be collected.
    fn release(&self);
}

/// Flags of the runtime without a value.
const SWITCHES: &[(&str, Option<char>, &str)] = &[
    ("detach", Some('d'), "leave the container running in the background"),
    ("keep", None, "keep the container when it has ended"),
    ("no-pivot", None, "do not use pivot_root"),
    ("no-new-keyring", None, "leave the container the caller's session keyring"),
    ("no-subreaper", None, "do not adopt what the container leaves"),
];
/// And with one.
const VALUES: &[(&str, &str, &str)] = &[
    ("pid-file", "FILE", "write the process id to FILE"),
    ("console-socket", "SOCKET", "send the terminal to SOCKET"),
    ("pidfd-socket", "SOCKET", "send a pidfd of the process to SOCKET"),
    ("preserve-fds", "N", "pass on N descriptors from 3 on"),
];

/// The command `run` or `create`.
#[must_use]
pub fn command(name: &'static str, about: &'static str) -> Command {
    let path = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(OsString)).help(help)
    };
    let mut command = Command::new(name)
        .about(about)
        .arg(
            Arg::new("image")
                .long("image")
                .value_name("SOURCE")
                .required(true)
                .help("the image, as for pull"),
        )
        .arg(path("runtime", "PROGRAM", "the runtime (default: the skep beside this program)"))
        .arg(path(
            "bundle-root",
            "DIR",
            "where the bundle is made (default: below /run or $XDG_RUNTIME_DIR)",
        ))
        .arg(
            path("global", "WORD", "a word of the runtime's command line before its command")
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .hide(true),
        )
        .args(wanted::flags())
        .arg(Arg::new("id").value_name("ID").required(true).help("the container's name"))
        .arg(
            Arg::new("args")
                .value_name("ARGS")
                .last(true)
                .num_args(0..)
                .value_parser(value_parser!(OsString))
                .help("arguments, in place of the image's command"),
        );
    for (long, short, help) in SWITCHES {
        let flag = Arg::new(*long)
            .long(*long)
            .help(*help)
            .action(ArgAction::SetTrue)
            .help_heading("Runtime");
        command = command.arg(match short {
            Some(short) => flag.short(*short),
            None => flag,
        });
    }
    for (long, value, help) in VALUES {
        command = command.arg(path(long, value, help).help_heading("Runtime"));
    }
    command
}

/// Runs `command` (`run` or `create`) on `image`; the exit status is the runtime's.
///
/// # Errors
/// What keeps the bundle from being made or the runtime from being started; nothing is left then.
pub fn run(command: &str, matches: &ArgMatches, source: &str, image: &dyn Image) -> Result<u8> {
    let id = matches.get_one::<String>("id").map(String::as_str).unwrap_or_default();
    let id = ContainerId::new(id).map_err(|error| Error::usage(error.to_string()))?;
    let runtime = runtime(matches)?;
    let foreground = command == "run" && !matches.get_flag("detach");
    let mut request = wanted::request(matches)?;
    if foreground && !request.terminal {
        use std::io::IsTerminal;
        request.terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    }
    if request.hostname.is_none() && request.base.is_none() {
        request.hostname = Some(id.as_str().chars().take(63).collect());
    }
    let bundles = wanted::private_directory(&bundle_root(matches))?;
    let _collected = bundle::collect(&bundles)?;
    let place = bundles.join(id.as_str());
    let rootfs = wanted::rootfs(matches);
    let layers = layers(image, rootfs)?;
    let owner = Owner {
        state: state_root(matches, &runtime).join(id.as_str()),
        remover: if foreground { None } else { Some(own_path()?) },
    };
    let own = |directory: BorrowedFd<'_>| {
        let overlay = image.overlay(directory)?;
        image.keep(&place)?;
        Ok(overlay)
    };
    // A mount on the root is nothing that the specification speaks of: crun 1.8 does not take it.
    let known = matches.get_one::<OsString>("runtime").is_none()
        || ["skep", "runc"].iter().any(|name| is_called(&runtime, name));
    let takes_it = rootfs == bundle::Rootfs::Overlay || (rootfs == bundle::Rootfs::Auto && known);
    let plan = Plan {
        place: &place,
        rootfs,
        layers: &layers,
        own: (takes_it && is_ordinary_user()).then_some(&own),
        config: image.config(),
        request: &request,
        source,
        manifest: image.digest(),
        owner: Some(owner),
    };
    image.keep(&place)?;
    let made = bundle::make(&plan, &|root| image.unpack(root));
    image.release();
    let made = made.map_err(|error| {
        if error.kind() == Kind::Usage && place.symlink_metadata().is_ok() {
            Error::usage(format!(
                "there is a bundle for a container {id} already, {}",
                place.display()
            ))
            .hint("delete that container, or name this one otherwise")
        } else {
            error
        }
    })?;
    let told = wanted::tell(matches, &made.conversion, &mut std::io::stderr());
    let mut process = process(command, matches, &runtime, &place, &id);
    if foreground {
        let ended = told.and_then(|()| attend(process, &made));
        bundle::retire(&place, &made)?;
        return ended.map(code);
    }
    let status = told.and_then(|()| process.status().context(|| cannot_start(&runtime)));
    match status {
        Ok(status) if status.success() => Ok(0),
        failed => {
            bundle::retire(&place, &made)?;
            failed.map(code)
        }
    }
}

/// The unpacked layers for a root filesystem that is an overlay of them; none for a copy.
///
/// A user without privilege mounts nothing: see [`Image::overlay`]. With `--rootfs=auto` an image whose layers cannot be had
/// one by one is copied.
///
/// # Errors
/// Those of [`Image::layers`].
pub fn layers(image: &dyn Image, rootfs: bundle::Rootfs) -> Result<Vec<PathBuf>> {
    match rootfs {
        bundle::Rootfs::Copy => return Ok(Vec::new()),
        _ if is_ordinary_user() => return Ok(Vec::new()),
        _ => {}
    }
    match image.layers() {
        Err(error) if rootfs == bundle::Rootfs::Auto && error.kind() == Kind::Unsupported => {
            Ok(Vec::new())
        }
        layers => layers,
    }
}

/// Whether this user mounts nothing.
#[must_use]
pub fn is_ordinary_user() -> bool {
    !nix::unistd::geteuid().is_root()
}

fn is_called(program: &Path, name: &str) -> bool {
    program.file_name().is_some_and(|file| file == name)
}

fn process(
    command: &str,
    matches: &ArgMatches,
    runtime: &Path,
    place: &Path,
    id: &ContainerId,
) -> Process {
    let mut process = Process::new(runtime);
    process.args(matches.get_many::<OsString>("global").into_iter().flatten());
    process.arg(command).arg("--bundle").arg(place);
    for (name, ..) in SWITCHES {
        if matches.get_flag(name) {
            process.arg(format!("--{name}"));
        }
    }
    for (name, ..) in VALUES {
        if let Some(value) = matches.get_one::<OsString>(name) {
            process.arg(format!("--{name}")).arg(value);
        }
    }
    process.arg(id.as_str());
    // What is left to do here makes no more files.
    crate::cli::restore_umask();
    process
}

fn cannot_start(runtime: &Path) -> String {
    format!("cannot start the runtime {}", runtime.display())
}

/// Stays with the runtime until it ends, and passes on what is sent to this process alone.
///
/// What a terminal sends goes to the whole group, and so to the runtime anyway.
fn attend(mut process: Process, made: &Made) -> Result<ExitStatus> {
    const PASSED_ON: [Signal; 6] = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ];
    let signals: SigSet = PASSED_ON.into_iter().collect();
    let failed = |errno| Error::sys("cannot wait for signals", errno);
    // Before the start, so that none is lost; the standard library starts children with nothing blocked.
    signals.thread_block().map_err(failed)?;
    let arriving = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(failed)?;
    // The runtime keeps the bundle locked even if this process is killed.
    libcontainer::sys::fd::set_cloexec(made.lock.as_raw_fd(), false)
        .map_err(|errno| Error::sys("cannot pass on the lock of the bundle", errno))?;
    let runtime = Path::new(process.get_program()).to_path_buf();
    let mut child = process.spawn().context(|| cannot_start(&runtime))?;
    let pidfd = pid(&child)
        .and_then(pidfd::open)
        .map_err(|errno| Error::sys("cannot watch the runtime", errno))?;
    loop {
        let mut ready = [
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(arriving.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let [ended, arrived] = ready.map(|one| one.any().unwrap_or(false));
        if arrived && let Some(signal) = arriving.read_signal().map_err(failed)? {
            pass_on(signal.ssi_signo, signal.ssi_code, pidfd.as_fd());
        }
        if ended {
            return child.wait().context(|| "cannot wait for the runtime");
        }
    }
}

fn pid(child: &Child) -> Result<Pid, Errno> {
    i32::try_from(child.id()).map(Pid::from_raw).map_err(|_too_large| Errno::ESRCH)
}

fn pass_on(number: u32, code: i32, runtime: BorrowedFd<'_>) {
    // siginfo(2): 0 and less is a process's kill(2), more is the kernel's.
    if code <= 0
        && let Ok(number) = i32::try_from(number)
    {
        let _it_may_have_ended = pidfd::send_signal(runtime, number);
    }
}

/// As a shell says it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

fn own_path() -> Result<PathBuf> {
    std::fs::read_link("/proc/self/exe").context(|| "cannot find out where this program is")
}

/// The runtime asked for, or the skep that this program was installed with.
fn runtime(matches: &ArgMatches) -> Result<PathBuf> {
    if let Some(runtime) = matches.get_one::<OsString>("runtime") {
        return Ok(runtime.into());
    }
    let own = own_path()?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    // PREFIX/bin, or PREFIX/libexec/skep and PREFIX/libexec with the program in PREFIX/bin.
    let places = [beside.join("skep"), beside.join("../bin/skep"), beside.join("../../bin/skep")];
    places
        .into_iter()
        .find(|place| std::fs::metadata(place).is_ok_and(|found| found.is_file()))
        .ok_or_else(|| {
            Error::not_found(format!("there is no skep beside {}", own.display()))
                .hint("name the runtime with --runtime")
        })
}

fn below_run() -> PathBuf {
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match xdg {
        Some(dir) if !nix::unistd::geteuid().is_root() => dir.into(),
        _ => "/run".into(),
    }
}

fn bundle_root(matches: &ArgMatches) -> PathBuf {
    match matches.get_one::<OsString>("bundle-root") {
        Some(root) => std::path::absolute(root).unwrap_or_else(|_| root.into()),
        None => below_run().join("skep-image/bundles"),
    }
}

/// Where the runtime keeps its containers: what its `--root` says, or its default.
fn state_root(matches: &ArgMatches, runtime: &Path) -> PathBuf {
    let mut words = matches.get_many::<OsString>("global").into_iter().flatten();
    let mut root = None;
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        match text.strip_prefix('-').map(|text| text.strip_prefix('-').unwrap_or(text)) {
            Some("root") => root = words.next().map(PathBuf::from),
            Some(flag) => root = flag.strip_prefix("root=").map(PathBuf::from).or(root),
            None => {}
        }
    }
    match root {
        Some(root) => std::path::absolute(&root).unwrap_or(root),
        None => below_run().join(runtime.file_name().unwrap_or("skep".as_ref())),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
