//! Checkpoint and restore: CRIU does both, asked over its RPC (`criu swrk`, criu.org/RPC).
//!
//! CRIU is a program of the host that is started for one request; nothing of it is linked. What it is asked is told by
//! [`crate::container`] for a checkpoint and by [`crate::launch`] for a restore; here is what both share.

pub mod external;
mod failure;
pub mod message;
pub(crate) mod session;
mod wire;

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::spec::{Spec, annotations};
use crate::sys::fd;
use message::{Opts, Switch};
pub use session::Session;

/// What CRIU reads where the configuration names no file of options.
const CONFIG_FILES: &[&str] = &["/etc/criu/skep.conf", "/etc/criu/runc.conf"];

/// The file among the images that says what the standard streams were.
pub(crate) const STREAMS: &str = "descriptors.json";

/// What CRIU does with cgroups (`--manage-cgroups-mode`): `criu_cg_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing.
    Ignore = 0,
    /// It makes those that are missing, with their properties.
    Soft = 3,
    /// The properties of those that are there as well.
    Full = 4,
    /// None may be there yet.
    Strict = 5,
}

/// How packets are kept away from connections (`--network-lock`): `criu_network_lock_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkLock {
    /// With iptables(8).
    Iptables = 1,
    /// With nft(8).
    Nftables = 2,
    /// Not at all.
    Skip = 3,
}

/// What `checkpoint` and `restore` are both asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--criu`: a path, or a name to be looked for.
    pub program: OsString,
    /// `$PATH`.
    pub search: OsString,
    /// `--image-path`; absolute.
    pub images: PathBuf,
    /// `--work-path`; absolute.
    pub work: Option<PathBuf>,
    /// What is switched on.
    pub switches: Vec<Switch>,
    /// `--manage-cgroups-mode`.
    pub cgroups: Option<CgroupMode>,
    /// `--network-lock`.
    pub network_lock: Option<NetworkLock>,
    /// `--empty-ns network`.
    pub empty_network: bool,
}

impl Options {
    /// Whether `switch` is on.
    pub fn has(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// Asks for all of it, with `spec`'s file of more options.
    pub(crate) fn ask(&self, opts: &mut Opts, places: &Places, spec: &Spec<'_>) {
        opts.images(places.images.as_raw_fd());
        if let Some(work) = &places.work {
            opts.work(work.as_raw_fd());
        }
        opts.log(places.log, 4);
        for switch in &self.switches {
            opts.switch(*switch);
        }
        for always in [Switch::NotifyScripts, Switch::OrphanPtsMaster, Switch::ManageCgroups] {
            opts.switch(always);
        }
        if let Some(mode) = self.cgroups {
            opts.cgroups_mode(mode as u32);
        }
        if let Some(method) = self.network_lock {
            opts.network_lock(method as u32);
        }
        if self.empty_network {
            opts.empty_namespaces(libc::CLONE_NEWNET.cast_unsigned());
        }
        if let Some(file) = config_file(spec) {
            opts.config_file(file.as_bytes());
        }
    }
}

/// The file of options that CRIU reads besides: what the configuration names, or else one of the host's.
fn config_file(spec: &Spec<'_>) -> Option<String> {
    if let Some(file) = spec.annotations.get(annotations::CRIU_CONFIG) {
        return Some(file.to_string()).filter(|file| !file.is_empty());
    }
    let there = |path: &&&str| std::fs::metadata(path).is_ok_and(|file| file.is_file());
    CONFIG_FILES.iter().find(there).map(|path| (*path).to_owned())
}

/// The directories of a request.
#[derive(Debug)]
pub(crate) struct Places {
    /// The images.
    pub(crate) images: OwnedFd,
    /// Logs and statistics, if not there.
    pub(crate) work: Option<OwnedFd>,
    /// The name of the log.
    pub(crate) log: &'static str,
    log_path: PathBuf,
    made: Option<PathBuf>,
}

impl Places {
    /// Makes, where they are missing, and opens the directories of a checkpoint.
    pub(crate) fn make(options: &Options) -> Result<Self> {
        let made = make_directory(&options.images)?.then(|| options.images.clone());
        let places = Self::open_all(options, "dump.log", made)?;
        places.check_writable(&options.images)?;
        Ok(places)
    }

    /// Opens those of a restore. Whoever writes images decides what runs with which privileges: they have to be of
    /// somebody the caller trusts.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let places = Self::open_all(options, "restore.log", None)?;
        let stat = fd::stat(places.images.as_fd(), c"").on("stat", &options.images)?;
        let caller = nix::unistd::geteuid().as_raw();
        if stat.uid != caller && stat.uid != 0 {
            return Err(Error::config(format!(
                "the checkpoint belongs to user {}, who could make of it what he likes",
                stat.uid
            ))
            .path(&options.images)
            .hint("if he is to be trusted, chown it first"));
        }
        if stat.mode & libc::S_IWOTH != 0 {
            return Err(Error::config("everybody may write to the checkpoint")
                .path(&options.images)
                .hint("if it is to be trusted, chmod o-w it first"));
        }
        Ok(places)
    }

    fn open_all(options: &Options, log: &'static str, made: Option<PathBuf>) -> Result<Self> {
        let images = open_directory(&options.images).map_err(|error| match error.raw_errno() {
            Some(Errno::ENOENT) => error.hint("--image-path names the directory of the checkpoint"),
            _ => error,
        })?;
        let work = match &options.work {
            Some(path) => {
                make_directory(path)?;
                Some(open_directory(path)?)
            }
            None => None,
        };
        let log_path = options.work.as_ref().unwrap_or(&options.images).join(log);
        let places = Self { images, work, log, log_path, made };
        // What it said another time is not to be taken for what it says now.
        let _none = nix::unistd::unlinkat(
            places.log_directory(),
            log,
            nix::unistd::UnlinkatFlags::NoRemoveDir,
        );
        Ok(places)
    }

    fn check_writable(&self, path: &Path) -> Result<()> {
        match fd::is_read_only(self.images.as_fd()) {
            Ok(true) => Err(Error::os("write the images to", Errno::EROFS).path(path)),
            _ => Ok(()),
        }
    }

    /// Writes a file among the images.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = CString::new(name).unwrap_or_default();
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
        let file = fd::openat(self.images.as_fd(), &path, flags, 0o600).on("create", name)?;
        fd::write_all(&file, content).on("write", name)
    }

    /// Reads a file among the images; nothing if it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = CString::new(name).unwrap_or_default();
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        match fd::openat(self.images.as_fd(), &path, flags, 0) {
            Err(Errno::ENOENT) => Ok(Vec::new()),
            other => fd::read_all(&other.on("open", name)?, 1 << 20).on("read", name),
        }
    }

    fn log_directory(&self) -> &OwnedFd {
        self.work.as_ref().unwrap_or(&self.images)
    }

    /// Removes the images of a checkpoint that failed, if their directory was made for it; only the log stays.
    pub(crate) fn discard(&self) {
        let Some(made) = &self.made else { return };
        let mut empty = true;
        for entry in std::fs::read_dir(made).into_iter().flatten().flatten() {
            if self.work.is_none() && entry.file_name() == self.log {
                empty = false;
            } else {
                let _stays = std::fs::remove_file(entry.path());
            }
        }
        if empty {
            let _not_ours = std::fs::remove_dir(made);
        }
    }
}

fn make_directory(path: &Path) -> Result<bool> {
    match nix::unistd::mkdir(path, nix::sys::stat::Mode::S_IRWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(Error::os("mkdir", errno).path(path)),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_nul| Error::config("a path with NUL").path(path))?;
    fd::openat(fd::CWD, &name, libc::O_RDONLY | libc::O_DIRECTORY, 0).on("open", path)
}
