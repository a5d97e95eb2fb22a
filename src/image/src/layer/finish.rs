//! What can be done only after the last entry: late hard links, and the attributes of directories.

use std::os::fd::{AsFd, OwnedFd};

use libcontainer::sys::fd::set_attribute;
use libcontainer::sys::xattr;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::unistd::{Gid, Uid, fchown};

use super::apply::{Applier, Linked, chown_failed};
use super::attributes::spec;
use super::late::{self, Tried};
use super::name::{base, shown_path};
use super::record::Set;
use super::{Format, Report, failed, unfit};
use crate::error::{Context, Result};

/// Does it all.
pub(super) fn finish(mut applier: Applier<'_>) -> Result<Report> {
    late_links(&mut applier)?;
    directories(&mut applier)?;
    let counted = applier.warnings.into_iter();
    let mut warnings: Vec<String> = counted
        .map(|(what, times)| if times == 1 { what } else { format!("{what} ({times} times)") })
        .collect();
    warnings.sort();
    let depends_on_lower = applier.tree.depends;
    Ok(Report { warnings, depends_on_lower, ..applier.report })
}

/// Links whose target came later, in any order.
fn late_links(applier: &mut Applier<'_>) -> Result<()> {
    let links = std::mem::take(&mut applier.links);
    late::place(links, &mut |path, target| {
        let parent = applier.parent(&path.parent)?;
        let linked = applier.link_now(target, path, &parent, &base(path)?);
        let number = |ino, name: &[u8]| applier.tree.number(ino, name);
        Ok(match linked.context(|| format!("{:?}", shown_path(path)))? {
            Linked::Yes => Tried::As(number(parent.ino, &path.base)),
            Linked::Missing(name) => Tried::Missing(name.map(|(ino, name)| number(ino, &name))),
        })
    })
}

/// Owners, modes, attributes and times of directories: the deepest first, for what follows may close the way to them.
fn directories(applier: &mut Applier<'_>) -> Result<()> {
    let records = std::mem::take(&mut applier.tree.records);
    for (ino, path, record) in records.deepest_first() {
        let shown = || format!("\"{}\"", super::name::shown(&path));
        let opened = applier.tree.reopen(ino, &path);
        let opened = opened.map_err(|errno| {
            failed(format_args!("{}: cannot open the directory again", shown()), errno)
        });
        let Some(directory) = opened? else { continue };
        match (&record.set, record.restore) {
            (Some(set), _) => {
                set_directory(applier, &directory, set, record.made).context(shown)?;
            }
            (None, Some(mode)) => {
                fchmod(&directory, Mode::from_bits_truncate(mode.into())).map_err(|errno| {
                    failed(format_args!("{}: cannot set its mode again", shown()), errno)
                })?;
            }
            (None, None) => {}
        }
        if record.opaque && hide_below(applier, &directory).context(shown)? && path.is_empty() {
            applier.report.opaque_root = true;
        }
        futimens(&directory, &spec(record.atime()), &spec(record.mtime()))
            .map_err(|errno| failed(format_args!("{}: cannot set its times", shown()), errno))?;
    }
    Ok(())
}

/// Says to overlayfs, where there is one, that nothing of the layers below is seen in a directory.
fn hide_below(applier: &Applier<'_>, directory: &OwnedFd) -> Result<bool> {
    let name = match applier.options.format {
        Format::Plain => return Ok(false),
        Format::Overlay { userxattr: true } => c"user.overlay.opaque",
        Format::Overlay { userxattr: false } => c"trusted.overlay.opaque",
    };
    set_attribute(directory.as_fd(), name, b"y")
        .map(|()| true)
        .map_err(|errno| unfit("cannot hide what the layers below have in it", errno))
}

fn set_directory(
    applier: &mut Applier<'_>,
    directory: &OwnedFd,
    set: &Set,
    made: bool,
) -> Result<()> {
    if let Some((uid, gid)) = set.owner {
        fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| chown_failed(uid, gid, errno))?;
    }
    if !made {
        // All attributes are the entry's: those that were there go.
        for name in xattr::list(directory.as_fd()).unwrap_or_default() {
            let bytes = name.to_bytes();
            let ours = bytes.starts_with(b"user.") || bytes.starts_with(b"system.posix_acl_");
            if ours && !set.xattrs.iter().any(|(kept, _)| *kept == name) {
                xattr::remove(directory.as_fd(), &name)
                    .map_err(|errno| failed("cannot remove an attribute", errno))?;
            }
        }
    }
    fchmod(directory, Mode::from_bits_truncate(set.mode.into()))
        .map_err(|errno| failed("cannot set its mode", errno))?;
    for (name, value) in &*set.xattrs {
        applier.attribute(name, set_attribute(directory.as_fd(), name, value))?;
    }
    Ok(())
}
