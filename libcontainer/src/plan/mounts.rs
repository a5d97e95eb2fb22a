//! `mounts` of `config.json` → the operations that make them.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use super::idmapped::{self, Idmap, Own};
use super::mount_options::Options;
use super::{HostFacts, NamespacePlan, cstring};
use crate::error::{Error, Result};
use crate::path;
use crate::spec;
use crate::sys::mount::{Attr, Recursive};

/// One mount to make, inside the container's root.
#[derive(Debug)]
pub struct MountOp {
    /// Index in `mounts`.
    pub index: usize,
    /// Where, relative to the root, cleaned.
    pub target: CString,
    /// What.
    pub action: Action,
    /// Attributes of the mount itself.
    pub attr: Attr,
    /// Attributes that options clear by name; a user namespace may not clear what its source has.
    pub cleared: u64,
    /// Whether it becomes read-only only once all is in place: a tmpfs, in which mounts and devices may be made.
    pub sealed_later: bool,
    /// Attributes of it and every mount below.
    pub below: Attr,
    /// Changes of propagation once it is attached, in order.
    pub propagation: Vec<(u64, Recursive)>,
    /// Whether any symlink in the target is refused: procfs and sysfs (CVE-2019-19921).
    pub no_symlinks: bool,
    /// Whether a symlink at the end of the target is itself mounted over.
    pub target_nofollow: bool,
    /// How ids are mapped.
    pub idmap: Option<Idmap>,
}

impl MountOp {
    /// Whether it covers `/proc` itself.
    pub fn is_over_proc(&self) -> bool {
        self.target.as_c_str() == c"proc"
    }

    /// Its places in the container's root: where it goes, and where its source is.
    pub(super) fn places(&self) -> impl Iterator<Item = &CString> {
        let inside = match &self.action {
            Action::Bind(bind) => bind.inside.as_ref(),
            _ => None,
        };
        std::iter::once(&self.target).chain(inside)
    }
}

/// What a [`MountOp`] does.
#[derive(Debug)]
pub enum Action {
    /// Clones a tree of the host.
    Bind(Bind),
    /// Makes a file system.
    New(New),
    /// Changes the attributes of what is mounted at the target.
    Remount {
        /// Superblock options to change; empty for a bind remount.
        parameters: Vec<Parameter>,
    },
    /// The v1 view of the container's own cgroups: a tmpfs with one bind mount per hierarchy.
    CgroupV1,
    /// cgroup2, or a bind of the container's own cgroup where mounting it is not allowed.
    CgroupV2,
}

/// An option of a file system: `key`, or `key=value`.
pub type Parameter = (CString, Option<CString>);

/// A bind mount.
#[derive(Debug)]
pub struct Bind {
    /// On the host; absolute.
    pub source: CString,
    /// How deep.
    pub recursive: Recursive,
    /// Whether a symlink as source is itself mounted.
    pub nofollow: bool,
    /// Whether a symlink as source is made anew.
    pub copy_symlink: bool,
    /// The source's path in the container's root, if it lies there: earlier mounts may cover it, so the child looks for it.
    pub inside: Option<CString>,
    /// The clone, where the parent has made it; else the child does.
    pub found: Option<Found>,
}

/// What a bind mount's source is.
#[derive(Debug)]
pub enum Found {
    /// A tree to attach.
    Tree {
        /// The detached clone.
        tree: OwnedFd,
        /// Whether it is one of a directory.
        directory: bool,
    },
    /// A symlink to make anew, and what it says.
    Link(CString),
}

/// Whether `path` is `top` or below it; both relative to the root, clean.
pub fn is_within(path: &[u8], top: &[u8]) -> bool {
    let rest = path.strip_prefix(top);
    rest.is_some_and(|rest| rest.is_empty() || top.is_empty() || rest.starts_with(b"/"))
}

/// What surrounds the mounts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    host: &'a HostFacts<'a>,
    own: Own<'a>,
    /// The root's path on the host, clean, with a slash at its end; empty for `/` itself.
    root: &'a str,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(
        host: &'a HostFacts<'a>,
        linux: &'a spec::Linux<'_>,
        namespaces: &'a NamespacePlan,
        root: &'a str,
    ) -> Self {
        let own = Own {
            joined: namespaces.joins(libc::CLONE_NEWUSER).map(|join| &join.path),
            present: namespaces.has(libc::CLONE_NEWUSER),
            uids: &linux.uid_mappings,
            gids: &linux.gid_mappings,
        };
        Self { host, own, root }
    }

    /// What of `path`, which is absolute, lies in the root.
    fn inside<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.root).filter(|_| !self.root.is_empty())
    }
}

/// A file system to make.
#[derive(Debug)]
pub struct New {
    /// Its type.
    pub kind: CString,
    /// Its source.
    pub source: CString,
    /// Options of the superblock.
    pub parameters: Vec<Parameter>,
    /// A tmpfs without `mode=`: it takes the mode of the directory it covers, so `/tmp` stays 1777.
    pub inherit_mode: bool,
    /// Whether the content of the target is copied into it.
    pub copy_up: bool,
}

/// File systems without a device of their own, one instance of which several mounts may share: only the mount is
/// read-only.
const PSEUDO: &[&str] =
    &["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs", "securityfs"];

/// Files of procfs that lxcfs and its like may be mounted over (CVE-2019-16884: nothing else below /proc may).
const PROC_FILES: &[&str] = &[
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// Whether `target` (cleaned) may be mounted over although it lies below /proc.
pub fn allowed_below_proc(target: &[u8]) -> bool {
    PROC_FILES.iter().any(|file| file.as_bytes() == target)
}

/// Plans one of `mounts`.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) naming the entry.
pub(super) fn plan(
    index: usize,
    mount: &spec::Mount<'_>,
    around: Surroundings<'_>,
) -> Result<MountOp> {
    let field = format!("mounts[{index}]");
    if mount.destination.is_empty() {
        return Err(
            Error::config("a mount needs a destination").field(format!("{field}.destination"))
        );
    }
    let options = Options::parse(mount.options.iter().map(spec::Str::as_str));
    options.check_bind(&field)?;
    // runc takes a destination that begins with the root's path on the host as meant inside.
    let target = path::clean(around.inside(&mount.destination).unwrap_or(&mount.destination));
    let kind = mount.kind.as_deref().unwrap_or_default();
    let procfs = matches!(kind, "proc" | "sysfs") && options.bind.is_none();
    check_target(index, &target, kind, &options, &field)?;
    let action = action(kind, mount, &options, around, &field)?;
    let idmap = idmapped::plan(mount, &options, around.own, around.host.euid, &field)?;
    if idmap.is_some() && !matches!(action, Action::Bind(_) | Action::New(_)) {
        return Err(Error::config("only a bind mount or a new file system can be id-mapped")
            .field(field)
            .hint("remove idmap, uidMappings and gidMappings from the mount"));
    }
    let mut attr = match action {
        Action::Bind(_) => options.bind_attributes(),
        _ => options.attr,
    };
    let tmpfs = matches!(&action, Action::New(new) if new.kind.as_c_str() == c"tmpfs");
    let sealed_later = tmpfs && attr.set & libc::MOUNT_ATTR_RDONLY != 0;
    if sealed_later {
        attr.set &= !libc::MOUNT_ATTR_RDONLY;
    }
    Ok(MountOp {
        index,
        target: cstring(&target, || format!("{field}.destination"))?,
        action,
        attr,
        cleared: options.attr.clear,
        sealed_later,
        below: options.below,
        propagation: options.propagation,
        no_symlinks: procfs || target == "dev",
        target_nofollow: options.destination_nofollow,
        idmap,
    })
}

fn check_target(
    index: usize,
    target: &str,
    kind: &str,
    options: &Options<'_>,
    field: &str,
) -> Result<()> {
    let field = || format!("{field}.destination");
    if target.is_empty() {
        // Whoever may mount nothing on the host has the layers of an image put together in the container's own namespaces.
        // Later it would hide what was mounted before it.
        let own_root = kind == "overlay" && options.bind.is_none() && !options.remount;
        if own_root && index == 0 {
            return Ok(());
        }
        return Err(Error::config("a mount may not cover the root of the container")
            .field(field())
            .hint("change root.path instead; only an overlay may, as the first of the mounts"));
    }
    let below_proc = target.starts_with("proc/");
    if below_proc && !allowed_below_proc(target.as_bytes()) {
        return Err(Error::config(format!(
            "{:?} cannot be mounted because it is inside /proc",
            format!("/{target}")
        ))
        .field(field()));
    }
    // A bind of the host's /proc is how nested containers get theirs; what it really is, the kernel is asked later.
    if target == "proc"
        && options.bind.is_none()
        && !matches!(kind, "proc" | "sysfs")
        && !options.remount
    {
        return Err(Error::config(format!("filesystem {kind:?} cannot be mounted on \"/proc\""))
            .field(field())
            .hint("only procfs, or a bind mount of one, may be there"));
    }
    Ok(())
}

fn action(
    kind: &str,
    mount: &spec::Mount<'_>,
    options: &Options<'_>,
    around: Surroundings<'_>,
    field: &str,
) -> Result<Action> {
    if options.remount {
        let parameters =
            if options.bind.is_some() { Vec::new() } else { parameters(options, field)? };
        return Ok(Action::Remount { parameters });
    }
    if let Some(recursive) = options.bind {
        return bind(mount, options, recursive, around, field).map(Action::Bind);
    }
    match kind {
        "cgroup" | "cgroup2" if around.host.cgroup_v2 => Ok(Action::CgroupV2),
        "cgroup" => Ok(Action::CgroupV1),
        "" | "none" => Err(Error::config("a mount without a type needs the option bind or rbind")
            .field(format!("{field}.type"))),
        _ => new(kind, mount, options, field).map(Action::New),
    }
}

fn bind(
    mount: &spec::Mount<'_>,
    options: &Options<'_>,
    recursive: Recursive,
    around: Surroundings<'_>,
    field: &str,
) -> Result<Bind> {
    if options.copy_symlink && (options.source_nofollow || options.destination_nofollow) {
        return Err(Error::config(
            "copy-symlink is mutually exclusive with src-nofollow and dest-nofollow",
        )
        .field(format!("{field}.options")));
    }
    let source = mount.source.as_deref().unwrap_or_default();
    if source.is_empty() {
        return Err(Error::config("a bind mount needs a source").field(format!("{field}.source")));
    }
    let source = if source.starts_with('/') {
        source.to_owned()
    } else {
        format!("{}/{source}", around.host.bundle)
    };
    let clean = format!("/{}", path::clean(&source));
    Ok(Bind {
        source: cstring(&source, || format!("{field}.source"))?,
        recursive,
        nofollow: options.source_nofollow || options.copy_symlink,
        copy_symlink: options.copy_symlink,
        inside: around
            .inside(&clean)
            .map(|inside| cstring(inside, || format!("{field}.source")))
            .transpose()?,
        found: None,
    })
}

fn new(kind: &str, mount: &spec::Mount<'_>, options: &Options<'_>, field: &str) -> Result<New> {
    if options.copy_up && kind != "tmpfs" {
        return Err(Error::config("tmpcopyup needs a tmpfs").field(format!("{field}.options")));
    }
    let mut parameters = parameters(options, field)?;
    if options.attr.set & libc::MOUNT_ATTR_RDONLY != 0 && !PSEUDO.contains(&kind) {
        // A device that cannot be written to has no other way to be mounted.
        parameters.push((c"ro".to_owned(), None));
    }
    let mode_given = parameters.iter().any(|(key, _)| key.as_c_str() == c"mode");
    Ok(New {
        kind: cstring(kind, || format!("{field}.type"))?,
        source: cstring(mount.source.as_deref().unwrap_or(kind), || format!("{field}.source"))?,
        parameters,
        inherit_mode: kind == "tmpfs" && !mode_given,
        copy_up: options.copy_up,
    })
}

fn parameters(options: &Options<'_>, field: &str) -> Result<Vec<Parameter>> {
    let place = || format!("{field}.options");
    let mut list = Vec::with_capacity(options.data.len() + options.superblock.len());
    for name in &options.superblock {
        list.push((cstring(name, place)?, None));
    }
    for data in &options.data {
        list.push(match data.split_once('=') {
            Some((key, value)) => (cstring(key, place)?, Some(cstring(value, place)?)),
            None => (cstring(data, place)?, None),
        });
    }
    Ok(list)
}
