//! `checkpoint`: the container's processes into files, by CRIU.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{Container, Status, streams, wait_for_end};
use crate::bundle;
use crate::criu::external::{self, Known};
use crate::criu::message::{self, Kind, Opts, Switch};
use crate::criu::{self, Places, Session};
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::path;
use crate::plan::namespaces::proc_name;
use crate::spec::Spec;
use crate::sys::fd;

/// What `checkpoint` is asked beyond what `restore` is too.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// `--pre-dump`.
    pub pre_dump: bool,
    /// `--parent-path`: relative to the images.
    pub parent: Option<PathBuf>,
    /// `--page-server`.
    pub page_server: Option<(String, u16)>,
    /// `--status-fd`.
    pub status_fd: Option<i32>,
}

impl Container<'_> {
    /// Saves the processes of a container that was [opened locked](super::Saved::open_locked), and says whether they have
    /// ended, so that it is to be [deleted](super::delete_checkpointed).
    ///
    /// # Errors
    /// [`crate::Kind::Lifecycle`] if it does not run; what CRIU says. The container runs on then.
    pub fn checkpoint(
        &self,
        options: &criu::Options,
        how: &Checkpoint,
        log: &dyn Log,
    ) -> Result<bool> {
        let status = self.status()?;
        if !matches!(status, Status::Running | Status::Paused) {
            return Err(Error::lifecycle(format!(
                "Container cannot be checkpointed in {} state",
                status.name()
            )));
        }
        check_parent(options, how)?;
        let config = self.config()?;
        let spec = bundle::parse(&config)?;
        let stays = how.pre_dump || options.has(Switch::LeaveRunning);
        match criu::check_restorable(&spec) {
            Err(error) if stays => log.warn(&error.context("not to be restored so").to_string()),
            other => other?,
        }
        criu::losses(&spec).for_each(|loss| log.warn(&loss));
        // First, so that without CRIU nothing is made.
        let mut session = Session::start(options, &[])?;
        check_features(&mut session, options, how)?;
        let places = Places::make(options, how.parent.as_deref())?;
        let dumped = self.dump(&mut session, &places, options, how, &spec);
        dumped.inspect_err(|_| {
            // If CRIU has ended the container before it failed itself, the images are all there is of it.
            if self.init.is_alive() {
                places.discard();
            }
        })?;
        if !how.pre_dump
            && let Err(error) = criu::forget_others(&places, &self.cgroup)
        {
            let error = error.context("a restore will make cgroups of others as well");
            log.warn(&error.to_string());
        }
        // After a pre-dump CRIU waits for the dump, which will be another's. The images are whole in any case.
        if !how.pre_dump
            && let Err(error) = session.finish()
        {
            log.warn(&error.context("after the checkpoint was made").to_string());
        }
        if stays {
            return Ok(false);
        }
        if let Some(init) = self.init.pidfd().doing("pidfd_open")?
            && wait_for_end(&init, super::KILL_WAIT).is_err()
        {
            let pid = self.init.pid;
            let what = format!("CRIU says that all is saved, but init (pid {pid}) runs on; see");
            return Err(Error::lifecycle(what).path(&options.images));
        }
        Ok(true)
    }

    fn dump(
        &self,
        session: &mut Session,
        places: &Places,
        options: &criu::Options,
        how: &Checkpoint,
        spec: &Spec<'_>,
    ) -> Result<()> {
        let mut opts = Opts::default();
        options.ask(&mut opts, places, spec);
        opts.pid(self.init.pid.as_raw());
        opts.root(self.record.rootfs.as_bytes());
        opts.switch(Switch::ExternalMasters);
        if let Some(directory) = self.cgroup.freezer_directory() {
            opts.freezer(&directory);
        }
        self.leave_namespaces(&mut opts)?;
        if let Some((address, port)) = &how.page_server {
            opts.page_server(address, *port);
        }
        if let Some(parent) = &how.parent {
            opts.parent(parent.as_os_str().as_bytes());
        }
        if how.pre_dump || how.parent.is_some() {
            opts.switch(Switch::TrackMem);
        }
        if let Some(fd) = how.status_fd {
            opts.status(fd);
        }
        let kind = if how.pre_dump { Kind::PreDump } else { Kind::Dump };
        if kind == Kind::Dump {
            self.leave_mounts(&mut opts, spec)?;
            self.leave_streams(&mut opts, places)?;
        }
        let request = message::request(kind, Some(&opts), false);
        let mut status_fd = how.status_fd;
        session.request(kind, &request, Some(places), &mut |_, _| {
            // CRIU has its own by now, and whoever waits at the other end is not to wait for us.
            if let Some(fd) = status_fd.take() {
                let _closed = nix::unistd::close(fd);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Namespaces of others stay outside: they are there at the restore.
    fn leave_namespaces(&self, opts: &mut Opts) -> Result<()> {
        let joined = self.record.namespaces & !self.record.made_namespaces();
        for (kind, name) in
            [(libc::CLONE_NEWNET, external::NETWORK), (libc::CLONE_NEWPID, external::PIDS)]
        {
            if joined & kind == 0 {
                continue;
            }
            let file = proc_name(kind);
            let path = format!("/proc/{}/ns/{file}", self.init.pid);
            let text = CString::new(path.as_str()).unwrap_or_default();
            let inode = fd::stat_follow(fd::CWD, &text).on("stat", &path)?.ino;
            opts.external(&format!("{file}[{inode}]:{name}"));
        }
        Ok(())
    }

    fn leave_mounts(&self, opts: &mut Opts, spec: &Spec<'_>) -> Result<()> {
        let root = format!("/proc/{}/root", self.init.pid);
        let text = CString::new(root.as_str()).unwrap_or_default();
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let directory = fd::openat(fd::CWD, &text, flags, 0).on("open", &root)?;
        let resolve = |destination: &str| {
            let destination = CString::new(destination.trim_start_matches('/')).ok()?;
            let found = path::open(directory.as_fd(), &destination).ok()?;
            let link = format!("/proc/self/fd/{}", found.as_raw_fd());
            std::fs::read_link(link).ok()?.into_os_string().into_string().ok()
        };
        let known = Known::of(&self.record.id, spec, &resolve);
        let source = format!("/proc/{}/mountinfo", self.init.pid);
        let mountinfo = std::fs::read(&source).on("read", &source)?;
        let mountinfo = String::from_utf8_lossy(&mountinfo);
        for (point, name) in external::of_checkpoint(&mountinfo, &known) {
            opts.external_mount(point.as_bytes(), name.as_bytes());
        }
        Ok(())
    }

    /// Standard streams that lead out of the container are not its own: at the restore, those of `restore` take their place.
    fn leave_streams(&self, opts: &mut Opts, places: &Places) -> Result<()> {
        // A shell that is just redirecting something would be seen half-way. Without a freezer, that is a risk.
        let frozen = self.cgroup.freeze_for();
        let streams = streams::leading_out(self.init.pid.as_raw(), &self.pids()?);
        drop(frozen);
        for (at, name) in streams.iter().enumerate() {
            let known = streams.iter().take(at).any(|earlier| earlier == name);
            if !known && name.starts_with("file[") {
                opts.external(name);
            }
        }
        let text = serde_json::to_vec(&streams)
            .map_err(|error| Error::internal(format!("encode the standard streams: {error}")))?;
        places.write(criu::STREAMS, &text)
    }
}

/// CRIU would only find out half-way.
fn check_features(session: &mut Session, options: &criu::Options, how: &Checkpoint) -> Result<()> {
    let tracks = how.pre_dump || how.parent.is_some();
    let lazy = options.has(Switch::LazyPages);
    if !tracks && !lazy {
        return Ok(());
    }
    let features = session.features()?;
    if tracks && !features.mem_track {
        return Err(Error::unsupported(
            "this kernel cannot track which pages are written, as --pre-dump and --parent-path need",
        )
        .hint("it lacks CONFIG_MEM_SOFT_DIRTY; make one whole checkpoint instead"));
    }
    if lazy && !features.lazy_pages {
        return Err(Error::unsupported(
            "this kernel cannot bring pages when they are touched, as --lazy-pages needs",
        )
        .hint("it lacks userfaultfd(2) for processes that fork"));
    }
    Ok(())
}

fn check_parent(options: &criu::Options, how: &Checkpoint) -> Result<()> {
    if let Some(parent) = &how.parent {
        if !parent.components().all(|part| !matches!(part, Component::RootDir)) {
            return Err(Error::config("--parent-path must be relative").path(parent));
        }
        let whole = options.images.join(parent);
        let directory = std::fs::metadata(&whole).is_ok_and(|found| found.is_dir());
        // The images' own directory may not be there yet, and `..` of it neither.
        if !directory && !beside(&options.images, parent) {
            return Err(Error::config("--parent-path is no directory").path(whole));
        }
    }
    if let Some(fd) = how.status_fd
        && !fd::is_open(fd)
    {
        return Err(Error::config(format!("--status-fd {fd} is not an open descriptor")));
    }
    Ok(())
}

/// Whether `parent` is `../NAME` of a directory beside one that is still to be made.
fn beside(images: &Path, parent: &Path) -> bool {
    let (Some(above), Ok(name)) = (images.parent(), parent.strip_prefix("..")) else {
        return false;
    };
    std::fs::metadata(above.join(name)).is_ok_and(|found| found.is_dir())
}
