//! The flags before the command.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libcontainer::cgroup::Driver;
use libcontainer::store::check_private;
use libcontainer::sys::creds;
use libcontainer::{Error, Result, error};
use nix::unistd::{getegid, geteuid};

use super::flag::{self, Flag};
use super::parse::Args;
use super::value;

/// The flags before the command.
#[derive(Debug)]
pub(crate) struct Globals<'a>(pub(super) Args<'a>);

/// Where the state of containers lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    /// An absolute path.
    pub(crate) path: PathBuf,
    /// It was asked for by --root; a default that does not exist yet is no error.
    pub(crate) explicit: bool,
}

/// Whether a cgroup that may not be made is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rootless {
    /// It is not, if the caller is not root or root only of its user namespace.
    Auto,
    /// It is not.
    True,
    /// It is.
    False,
}

/// What decides about the default root directory.
#[derive(Debug)]
pub(super) struct Caller<'e> {
    pub(super) xdg_runtime_dir: Option<&'e OsStr>,
    pub(super) user: Option<&'e OsStr>,
    pub(super) is_root: bool,
    pub(super) in_user_namespace: bool,
}

impl<'a> Globals<'a> {
    /// Says whether --debug was given.
    pub(crate) fn debug(&self) -> bool {
        self.0.flag(&flag::DEBUG)
    }

    /// Returns the value of a flag of the program.
    pub(crate) fn value(&self, flag: &'static Flag) -> Option<&'a OsStr> {
        self.0.value(flag)
    }

    /// Returns the directory for the state of containers.
    ///
    /// # Errors
    /// `/`, a relative path when the current directory is gone, and a default that is not the user's own.
    pub(crate) fn root(&self) -> Result<Root> {
        let Some(given) = self.0.path(&flag::ROOT) else {
            return Ok(Root { path: default_root()?, explicit: false });
        };
        let path = std::path::absolute(given)
            .map_err(|e| Error::os("make --root absolute", error::io_errno(&e)).path(given))?;
        if path == Path::new("/") {
            return Err(Error::config("Option --root argument should not be set to /"));
        }
        Ok(Root { path, explicit: true })
    }

    /// Returns who makes the cgroups: --cgroup-manager, or else --systemd-cgroup.
    ///
    /// # Errors
    /// A name that is none of the three.
    pub(crate) fn cgroup_driver(&self) -> Result<Driver> {
        match self.0.text(&flag::CGROUP_MANAGER)? {
            Some(name) => name.parse(),
            None if self.0.flag(&flag::SYSTEMD_CGROUP) => Ok(Driver::Systemd),
            None => Ok(Driver::Cgroupfs),
        }
    }

    /// Returns the value of --rootless.
    ///
    /// # Errors
    /// A value that is neither a boolean nor `auto`.
    pub(crate) fn rootless(&self) -> Result<Rootless> {
        let Some(text) = self.value(&flag::ROOTLESS) else { return Ok(Rootless::Auto) };
        match value::boolean(text) {
            Some(true) => Ok(Rootless::True),
            Some(false) => Ok(Rootless::False),
            None if text == "auto" => Ok(Rootless::Auto),
            None => {
                let text = text.display().to_string();
                Err(Error::config(format!("invalid value {text:?} for flag -rootless"))
                    .hint("it is one of true, false and auto"))
            }
        }
    }
}

fn default_root() -> Result<PathBuf> {
    // Almost every caller is root without the variable (Podman: with an empty one) and needs no more questions.
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    if xdg.is_none() && creds::started_as_root() {
        return Ok(PathBuf::from(DEFAULT_ROOT));
    }
    let uid = geteuid();
    // Where logind makes it, for who has come past it: by su(1), say, or from a timer of the system's.
    let xdg = xdg.or_else(|| own_directory(uid.as_raw()));
    let path = choose_root(&Caller {
        xdg_runtime_dir: xdg.as_deref(),
        user: std::env::var_os("USER").as_deref(),
        is_root: uid.is_root(),
        in_user_namespace: std::fs::read("/proc/self/uid_map").is_ok_and(|map| !is_initial(&map)),
    });
    if path != Path::new(DEFAULT_ROOT) {
        check_private(&path, uid.as_raw(), getegid().as_raw())?;
    } else if !uid.is_root() {
        return Err(Error::config("there is no place for the state of containers")
            .hint("set $XDG_RUNTIME_DIR to a directory of your own, or use --root"));
    }
    Ok(path)
}

/// `/run/user/UID`, if it is there and his.
fn own_directory(uid: u32) -> Option<OsString> {
    let path = format!("/run/user/{uid}");
    let his = uid != 0 && std::fs::metadata(&path).is_ok_and(|found| found.uid() == uid);
    his.then(|| path.into())
}

const DEFAULT_ROOT: &str = "/run/skep";

/// user_namespaces(7): the map of the initial user namespace is every id onto itself.
pub(super) fn is_initial(uid_map: &[u8]) -> bool {
    let words = uid_map.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.eq([b"0".as_slice(), b"0", b"4294967295"])
}

/// runc's rule: $XDG_RUNTIME_DIR is for other users than root, and for root of a user namespace unless $USER says
/// root. A `sudo` that keeps the variable must not hide root's containers from root.
pub(super) fn choose_root(caller: &Caller<'_>) -> PathBuf {
    let own = !caller.is_root
        || (caller.in_user_namespace && caller.user.is_none_or(|user| user != "root"));
    match caller.xdg_runtime_dir {
        Some(dir) if own => Path::new(dir).join("skep"),
        _ => PathBuf::from(DEFAULT_ROOT),
    }
}
