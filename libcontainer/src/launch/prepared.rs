//! What a launch opens before anything exists that would have to be taken back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;

use super::{Mode, Options, sources};
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::{self, Namespace};
use crate::plan::{self, Plan};
use crate::spec::{Spec, annotations};
use crate::sys::fd;
use crate::terminal;

/// The descriptors.
pub(super) struct Prepared {
    pub(super) rootfs: Option<OwnedFd>,
    pub(super) proc: OwnedFd,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) console: Option<OwnedFd>,
    pub(super) pidfd_socket: Option<OwnedFd>,
    pub(super) hook_stdout: Option<OwnedFd>,
    pub(super) hook_stderr: Option<OwnedFd>,
}

impl Prepared {
    pub(super) fn open(
        options: &Options<'_>,
        plan: &mut Plan,
        spec: &Spec<'_>,
        restored: bool,
    ) -> Result<Self> {
        let detach = options.mode != Mode::RunForeground;
        let terminal = plan.process.terminal.is_some();
        terminal::check_terminal(terminal, detach, options.console_socket.is_some())?;
        let rootfs = open_root(plan)?;
        // CRIU makes the mounts of a restored container.
        if restored { sources::open_all(plan) } else { sources::open(plan) }?;
        sources::make_devices(plan)?;
        let path = |key: &str| spec.annotations.get(key).map(|path| PathBuf::from(path.as_str()));
        let output = |key: &str| path(key).map(|path| hooks::open_output(&path)).transpose();
        let console = options.console_socket.as_deref().map(terminal::connect_console_socket);
        let pidfd = options.pidfd_socket.clone().or_else(|| path(annotations::PIDFD_RECEIVER));
        Ok(Self {
            rootfs,
            proc: open_proc()?,
            namespaces: open_namespaces(plan)?,
            console: console.transpose()?,
            pidfd_socket: pidfd.as_deref().map(terminal::connect_pidfd_socket).transpose()?,
            hook_stdout: output(annotations::HOOKS_STDOUT)?,
            hook_stderr: output(annotations::HOOKS_STDERR)?,
        })
    }
}

/// The tree of the root, or a good error: a missing directory, a file.
fn open_root(plan: &Plan) -> Result<Option<OwnedFd>> {
    let path = plan.root.path.to_string_lossy().into_owned();
    let result = if plan.has_own_mounts() {
        init::clone_root(plan).map(Some)
    } else {
        fd::openat(fd::CWD, &plan.root.path, libc::O_PATH | libc::O_DIRECTORY, 0).map(|_| None)
    };
    match result {
        // Only the child, as root of its own user namespace, may clone mounts.
        Err(Errno::EPERM) => Ok(None),
        Err(errno) => {
            let error = Error::os("open the root filesystem", errno).path(path).field("root.path");
            Err(match errno {
                Errno::ENOENT => error.hint("unpack an image there, or correct root.path"),
                _ => error,
            })
        }
        Ok(tree) => Ok(tree),
    }
}

/// The host's procfs, and nothing mounted in its place.
pub(crate) fn open_proc() -> Result<OwnedFd> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let proc =
        fd::openat(fd::CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0).on("open", "/proc")?;
    if fd::fs_magic(proc.as_fd()).on("statfs", "/proc")? != PROC_SUPER_MAGIC {
        return Err(Error::unsupported("/proc is not a procfs").hint("mount -t proc proc /proc"));
    }
    Ok(proc)
}

fn open_namespaces(plan: &Plan) -> Result<Vec<Namespace>> {
    let mut list = Vec::with_capacity(plan.namespaces.join.len());
    for join in &plan.namespaces.join {
        let field = || format!("linux.namespaces[{}].path", join.index);
        let path = join.path.to_string_lossy().into_owned();
        let file = fd::openat(fd::CWD, &join.path, libc::O_RDONLY, 0)
            .map_err(|errno| Error::os("open the namespace", errno).path(&path).field(field()))?;
        let kind = crate::sys::clone::namespace_kind(file.as_fd())
            .map_err(|errno| Error::os("not a namespace:", errno).path(&path).field(field()))?;
        if kind != join.kind {
            return Err(Error::config(format!(
                "it is a namespace of type {}, not {}",
                plan::namespaces::name(kind),
                plan::namespaces::name(join.kind)
            ))
            .path(path)
            .field(field()));
        }
        list.push(Namespace { index: join.index, kind: join.kind, fd: file });
    }
    check_own_network(plan, &list)?;
    Ok(list)
}

/// sysctl net.* in a "joined" network namespace that is the runtime's own would change the host.
fn check_own_network(plan: &Plan, namespaces: &[Namespace]) -> Result<()> {
    let wants = plan.sysctl.iter().find(|sysctl| sysctl.file.to_bytes().starts_with(b"sys/net/"));
    let joined = namespaces.iter().find(|namespace| namespace.kind == libc::CLONE_NEWNET);
    if let (Some(sysctl), Some(joined)) = (wants, joined) {
        let own = fd::stat_follow(fd::CWD, c"/proc/self/ns/net").on("stat", "/proc/self/ns/net")?;
        let other = fd::stat(joined.fd.as_fd(), c"").doing("stat the network namespace")?;
        if (own.ino, own.dev) == (other.ino, other.dev) {
            return Err(Error::config(format!(
                "sysctl {:?} is not allowed in the hosts network namespace",
                sysctl.name
            ))
            .field(format!("linux.sysctl[{:?}]", sysctl.name)));
        }
    }
    Ok(())
}
