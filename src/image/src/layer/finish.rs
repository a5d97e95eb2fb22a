//! What can be done only after the last entry: late hard links, whiteouts of overlayfs, the attributes of directories.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use libcontainer::sys::fd::{openat, set_attribute};
use libcontainer::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens, mknodat};
use nix::unistd::{Gid, Uid, fchown};

use super::apply::{Applier, chown_failed, spec};
use super::archive::Time;
use super::name::Path;
use super::tree::{Below, Record, Set, base, shown, whole};
use super::{Format, Options, Report, failed};
use crate::error::{Context, Error, Result};

/// Does it all.
pub(super) fn finish(mut applier: Applier<'_>) -> Result<Report> {
    late_links(&mut applier)?;
    overlay(&mut applier)?;
    directories(&mut applier)?;
    let counted = applier.warnings.into_iter();
    let mut warnings: Vec<String> = counted
        .map(|(what, times)| if times == 1 { what } else { format!("{what} ({times} times)") })
        .collect();
    warnings.sort();
    Ok(Report { warnings, ..applier.report })
}

/// Links whose target came later, in any order, or is in a layer below.
fn late_links(applier: &mut Applier<'_>) -> Result<()> {
    loop {
        let links = std::mem::take(&mut applier.links);
        let before = links.len();
        for (path, target) in links {
            let parent = applier.parent(&path.parent)?;
            let base = base(&path)?;
            let linked = applier.link_now(&target, &path, &parent, &base);
            if !linked.context(|| format!("{:?}", shown(&path)))? {
                applier.links.push((path, target));
            }
        }
        if applier.links.is_empty() {
            return Ok(());
        }
        if applier.links.len() < before {
            continue;
        }
        let Some((path, target)) = applier.links.first().cloned() else { return Ok(()) };
        if !copy_up(applier, &target)? {
            return Err(Error::verification(format!(
                "{:?}: a hard link to {:?}, which is not there",
                shown(&path),
                shown(&target)
            )));
        }
    }
}

/// Makes `target` of the layers below a file of this one, as overlayfs does before it links.
fn copy_up(applier: &mut Applier<'_>, target: &Path) -> Result<bool> {
    let Some((directory, stat)) = find_below(applier.options, &whole(target))? else {
        return Ok(false);
    };
    let base = base(target)?;
    let wrong = |errno| failed(format_args!("cannot copy {:?} from below", shown(target)), errno);
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(false);
    }
    let parent = applier.parent(&target.parent)?;
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let from = openat(directory.as_fd(), &base, flags, 0).map_err(wrong)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let to = openat(parent.fd.as_fd(), &base, flags, 0o600).map_err(wrong)?;
    let (mut from, mut to) = (File::from(from), File::from(to));
    std::io::copy(&mut from, &mut to)
        .map_err(|error| Error::io("cannot copy from below", error))?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(&to, Some(owner.0), Some(owner.1)).map_err(wrong)?;
    fchmod(&to, Mode::from_bits_truncate(stat.st_mode & 0o7777)).map_err(wrong)?;
    for (name, value) in attributes_of(from.as_fd()).map_err(wrong)? {
        set_attribute(to.as_fd(), &name, &value).map_err(wrong)?;
    }
    let times = times(&stat);
    futimens(&to, &spec(times.0), &spec(times.1)).map_err(wrong)?;
    applier.tree.mark(&parent, &target.base, false);
    applier.report.depends_on_lower = true;
    Ok(true)
}

/// Whiteouts and opaque directories in the words of overlayfs (filesystems/overlayfs.rst).
fn overlay(applier: &mut Applier<'_>) -> Result<()> {
    let Format::Overlay { userxattr } = applier.options.format else { return Ok(()) };
    let name = if userxattr { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" };
    let mut opaques = std::mem::take(&mut applier.opaques);
    let mut nodes = Vec::new();
    for path in std::mem::take(&mut applier.whiteouts) {
        let parent = applier.parent(&path.parent)?;
        let base = base(&path)?;
        match fstatat(&parent.fd, &*base, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // The layer hides a directory and makes it anew.
            Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => opaques.push(whole(&path)),
            Ok(_) => {}
            Err(Errno::ENOENT) => nodes.push((path, base)),
            Err(errno) => return Err(failed("cannot look for what it hides", errno)),
        }
    }
    for (path, base) in nodes {
        // Below an opaque directory there is nothing to hide, and the node would be seen by readdir(3).
        if opaques.iter().any(|opaque| path.parent.starts_with(opaque)) {
            continue;
        }
        let parent = applier.parent(&path.parent)?;
        match mknodat(&parent.fd, &*base, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                let shown = shown(&path);
                return Err(failed(format_args!("{shown:?}: cannot make the whiteout"), errno));
            }
        }
    }
    for path in opaques {
        let directory = applier.parent(&path)?;
        let record = applier
            .tree
            .records
            .entry(directory.ino)
            .or_insert_with(|| Record { made: true, ..Record::implied(path.join(&b'/'), None) });
        let set = record.set.get_or_insert_default();
        set.xattrs.retain(|(known, _)| known.as_c_str() != name);
        set.xattrs.push((name.to_owned(), b"y".to_vec()));
    }
    Ok(())
}

/// Owners, modes, attributes and times of directories: the deepest first, for what follows may close the way to them.
fn directories(applier: &mut Applier<'_>) -> Result<()> {
    let mut records: Vec<(u64, Record)> = applier.tree.records.drain().collect();
    let depth = |path: &[u8]| path.iter().filter(|&&byte| byte == b'/').count();
    records.sort_by_cached_key(|(_, record)| {
        std::cmp::Reverse((depth(&record.path), record.path.len()))
    });
    for (ino, record) in records {
        let shown = || format!("\"{}\"", super::name::shown(&record.path));
        let opened = applier.tree.reopen(ino, &record.path);
        let opened = opened.map_err(|errno| {
            failed(format_args!("{}: cannot open the directory again", shown()), errno)
        });
        let Some(directory) = opened? else { continue };
        if let Some(set) = &record.set {
            set_directory(applier, &directory, set, record.made).context(shown)?;
        }
        futimens(&directory, &spec(record.atime), &spec(record.mtime))
            .map_err(|errno| failed(format_args!("{}: cannot set its times", shown()), errno))?;
    }
    Ok(())
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
    fchmod(directory, Mode::from_bits_truncate(set.mode))
        .map_err(|errno| failed("cannot set its mode", errno))?;
    for (name, value) in &set.xattrs {
        applier.attribute(name, set_attribute(directory.as_fd(), name, value))?;
    }
    Ok(())
}

/// What the layers below have at `path`: the topmost that has it, unless one above hides it.
pub(super) fn below(options: &Options<'_>, path: &[Vec<u8>]) -> Result<Below> {
    let Some((directory, stat)) = find_below(options, path)? else { return Ok(Below::Nothing) };
    let wrong = |errno| failed("cannot look at the layer below", errno);
    let last = path.last().map_or(b".".as_slice(), Vec::as_slice);
    let base = CString::new(last).map_err(|_nul| Error::verification("a NUL in a name"))?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let fd = openat(directory.as_fd(), &base, flags, 0).map_err(wrong)?;
            let (atime, mtime) = times(&stat);
            let set = Some(Set {
                mode: stat.st_mode & 0o7777,
                owner: Some((stat.st_uid, stat.st_gid)),
                xattrs: attributes_of(fd.as_fd()).map_err(wrong)?,
            });
            let path = path.join(&b'/');
            Ok(Below::Directory(Box::new(Record { path, atime, mtime, set, made: true })))
        }
        libc::S_IFLNK => {
            use std::os::unix::ffi::OsStringExt;
            Ok(Below::Symlink(readlinkat(&directory, &*base).map_err(wrong)?.into_vec()))
        }
        _ => Ok(Below::Nothing),
    }
}

/// The directory of a lower layer that holds the last component of `path`, with what it is. The path has no symlinks:
/// it is walked by [`super::tree::Tree`], which asks for each directory on the way.
fn find_below(options: &Options<'_>, path: &[Vec<u8>]) -> Result<Option<(OwnedFd, FileStat)>> {
    'layers: for lower in options.lowers {
        let wrong = |errno| failed("cannot look at the layer below", errno);
        let mut directory =
            lower.try_clone().map_err(|error| Error::io("cannot open it", error))?;
        let mut hides = is_opaque(&directory);
        let Some((last, parents)) = path.split_last() else {
            let stat = fstat(&directory).map_err(wrong)?;
            return Ok(Some((directory, stat)));
        };
        for name in parents {
            let name = CString::new(name.as_slice())
                .map_err(|_nul| Error::verification("a NUL in a name"))?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            match openat(directory.as_fd(), &name, flags, 0) {
                Ok(next) => directory = next,
                Err(Errno::ENOENT) if hides => return Ok(None),
                Err(Errno::ENOENT) => continue 'layers,
                // A file, a symlink or a whiteout: what is below it is not seen.
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                Err(errno) => return Err(wrong(errno)),
            }
            hides |= is_opaque(&directory);
        }
        let name =
            CString::new(last.as_slice()).map_err(|_nul| Error::verification("a NUL in a name"))?;
        match fstatat(&directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) if hides => return Ok(None),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(wrong(errno)),
            Ok(stat) if is_whiteout(&stat) => return Ok(None),
            Ok(stat) => return Ok(Some((directory, stat))),
        }
    }
    Ok(None)
}

fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let names = [c"trusted.overlay.opaque", c"user.overlay.opaque"];
    names.iter().any(|name| {
        matches!(xattr::get(directory.as_fd(), name), Ok(Some(value)) if value == b"y" || value == b"x")
    })
}

/// All attributes of a file of a layer below, but for what it says to overlayfs.
fn attributes_of(fd: std::os::fd::BorrowedFd<'_>) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let mut attributes = Vec::new();
    for name in xattr::list(fd)? {
        let bytes = name.to_bytes();
        let own = [b"trusted.overlay.".as_slice(), b"user.overlay."].iter().any(|prefix| {
            bytes.strip_prefix(*prefix).is_some_and(|rest| !rest.starts_with(b"overlay."))
        });
        if own || bytes == b"security.selinux" {
            continue;
        }
        if let Some(value) = xattr::get(fd, &name)? {
            attributes.push((name, value));
        }
    }
    attributes.sort_by_key(|(name, _)| name.to_bytes() == b"security.capability");
    Ok(attributes)
}

fn times(stat: &FileStat) -> (Time, Time) {
    let atime = Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec };
    (atime, Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec })
}
