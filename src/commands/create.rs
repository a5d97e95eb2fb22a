//! `create` and `run`.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libcontainer::cgroup::{Buses, Driver};
use libcontainer::container;
use libcontainer::error::Context;
use libcontainer::foreground::{Attached, Foreground, Reap};
use libcontainer::id::ContainerId;
use libcontainer::launch::{Launched, Mode, Options, launch};
use libcontainer::log::Log;
use libcontainer::notify;
use libcontainer::store::Store;
use libcontainer::sys::entry;
use libcontainer::{Error, Result};

use super::{id, store};
use crate::cli::{Args, Globals, Rootless, flag};
use crate::logging::Logger;

/// `create`.
///
/// # Errors
/// Why the container could not be made; nothing of it is left.
pub(crate) fn create(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<i32> {
    let made = || -> Result<()> {
        let store = store(globals)?;
        let options = launch_options(args, globals, &store, Mode::Create)?;
        enter_bundle(&options.bundle);
        launch(&options, log).map(drop)
    };
    made().map_err(|error| failed(error, "create"))?;
    Ok(0)
}

/// `run`; the status is the container's, unless it is detached.
///
/// # Errors
/// Why the container could not be run; nothing of it is left.
pub(crate) fn run(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<i32> {
    run_container(args, globals, log).map_err(|error| failed(error, "run"))
}

/// Under the name it was called by: where skep stands in for runc, callers look for runc's words.
fn failed(error: Error, command: &str) -> Error {
    let name = libcontainer::sys::entry::called().unwrap_or("skep");
    error.context(&format!("{name} {command} failed"))
}

fn run_container(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<i32> {
    let store = store(globals)?;
    let detach = args.flag(&flag::DETACH);
    let mode = if detach { Mode::RunDetached } else { Mode::RunForeground };
    let options = launch_options(args, globals, &store, mode)?;
    enter_bundle(&options.bundle);
    if detach {
        let launched = launch(&options, log)?;
        if let Some(proxy) = &launched.proxy {
            proxy.wait_ready(launched.pidfd.as_fd(), launched.init.pid)?;
        }
        return Ok(0);
    }
    stay(args, &store, &options.id, log, || launch(&options, log))
}

/// Launches a container in the foreground, and takes it away when it has ended.
pub(super) fn stay(
    args: &Args<'_>,
    store: &Store,
    id: &ContainerId,
    log: &Logger,
    launch: impl FnOnce() -> Result<Launched>,
) -> Result<i32> {
    let foreground = Foreground::prepare()?;
    if !args.flag(&flag::NO_SUBREAPER) {
        foreground.become_subreaper()?;
    }
    let mut launched = launch()?;
    log.succeeded();
    let status = attend(&foreground, &mut launched);
    if !args.flag(&flag::KEEP)
        && let Err(error) = container::delete_ended(launched, store, id, log)
    {
        log.warn(&error.to_string());
    }
    status
}

/// Stays with the container until its process ends.
fn attend(foreground: &Foreground, launched: &mut Launched) -> Result<i32> {
    let tty = launched.terminal.take();
    let status = foreground.wait(Attached {
        pidfd: launched.pidfd.as_fd(),
        pid: launched.init.pid,
        tty,
        notify: launched.proxy.as_ref(),
        reap: Reap::All,
    })?;
    Ok(status.code())
}

pub(super) fn launch_options<'a>(
    args: &Args<'_>,
    globals: &Globals<'_>,
    store: &'a Store,
    mode: Mode,
) -> Result<Options<'a>> {
    let bundle = args.path(&flag::BUNDLE).unwrap_or(Path::new("."));
    let cgroup_driver = globals.cgroup_driver()?;
    Ok(Options {
        id: id(args)?,
        store,
        bundle: absolute(bundle)?,
        config: args.path(&flag::CONFIG).map(absolute).transpose()?,
        mode,
        console_socket: args.path(&flag::CONSOLE_SOCKET).map(absolute).transpose()?,
        pidfd_socket: args.path(&flag::PIDFD_SOCKET).map(absolute).transpose()?,
        pid_file: args.path(&flag::PID_FILE).map(absolute).transpose()?,
        preserve_fds: preserve_fds(args)?,
        listen_fds: listen_fds(),
        listen_names: std::env::var("LISTEN_FDNAMES").ok(),
        notify_socket: notify_socket(),
        notify_place: notify_place(),
        no_pivot: args.flag(&flag::NO_PIVOT),
        no_new_keyring: args.flag(&flag::NO_NEW_KEYRING),
        cgroup_driver,
        buses: match cgroup_driver {
            Driver::Systemd => buses(),
            _ => Buses::default(),
        },
        ignore_cgroup_permission: match globals.rootless()? {
            Rootless::True => true,
            Rootless::False => false,
            // The kernel says EPERM to a root of a user namespace only.
            Rootless::Auto => true,
        },
    })
}

/// Relative paths are the caller's: made absolute before the bundle becomes the current directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).on("make absolute", path)
}

/// Hooks run in the bundle's directory. One that cannot be entered is told by whoever reads its config.json.
pub(super) fn enter_bundle(bundle: &Path) {
    let _told_later = std::env::set_current_dir(bundle);
}

pub(super) fn preserve_fds(args: &Args<'_>) -> Result<u32> {
    let number = args.uint(&flag::PRESERVE_FDS)?.unwrap_or(0);
    u32::try_from(number).ok().filter(|number| *number < 1 << 20).ok_or_else(|| {
        Error::config(format!("invalid value \"{number}\" for flag -preserve-fds: too large"))
    })
}

/// sd_listen_fds(3): meant for this process only if LISTEN_PID says so.
pub(super) fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|count| ours && *count < 1 << 20).unwrap_or(0)
}

/// What sd-bus looks at.
fn buses() -> Buses {
    let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    Buses {
        system: text("DBUS_SYSTEM_BUS_ADDRESS"),
        session: text("DBUS_SESSION_BUS_ADDRESS"),
        runtime_dir: text("XDG_RUNTIME_DIR").map(PathBuf::from),
    }
}

/// Who calls us crun gets the socket where crun has it.
fn notify_place() -> Option<String> {
    notify_socket()
        .filter(|_| entry::called() == Some("crun"))
        .and_then(|host| notify::place_of(&host))
}

pub(super) fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}
