//! One entry after the other (image-spec, layer.md#applying-changesets).

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use libcontainer::sys::fd::{folds_case, openat, set_attribute};
use libcontainer::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, makedev, mknodat, utimensat,
};
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid, linkat, symlinkat};

use super::archive::{Archive, Entry, Kind, Meter};
use super::attributes::spec;
use super::below::is_whiteout;
use super::late::LateLink;
use super::name::{self, Name, Path, base, shown_path, whole};
use super::prune::Keep as _;
use super::record::{Record, Set};
use super::tree::{Directory, Mark, Tree};
use super::{Devices, Format, Options, Report, attributes, failed, finish};
use crate::error::{Context, Error, Result};
use crate::limits::Limits;

/// A layer on its way to a directory.
pub(super) struct Applier<'a> {
    pub(super) options: &'a Options<'a>,
    pub(super) tree: Tree<'a>,
    pub(super) report: Report,
    /// The bytes of all layers together.
    meter: Rc<Meter>,
    /// Hard links whose target is not there yet.
    pub(super) links: Vec<LateLink>,
    /// By cause, so that each is said once.
    pub(super) warnings: HashMap<String, u64>,
    /// What a new file belongs to.
    own: (u32, u32),
    /// The bits a new file does not get.
    umask: u32,
}

/// The entry is one too many.
pub(super) fn too_many(entry: &Entry, limits: &Limits) -> Error {
    Error::no_space(format!(
        "\"{}\": more than {} entries in all layers together: that is the limit",
        name::shown(&entry.name),
        limits.entries
    ))
    .hint("--max-entries allows more")
}

/// What became of a hard link.
pub(super) enum Linked {
    Yes,
    /// Its target is not there: the name in the directory that has it, if there is that.
    Missing(Option<(u64, Vec<u8>)>),
}

impl<'a> Applier<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, options: &'a Options<'a>) -> Result<Self> {
        let owner = attributes::owner(options, 0, 0)?;
        let lowers = (options.format != Format::Plain).then_some(options.lowers);
        let mut applier = Self {
            options,
            tree: Tree::new(root, owner, lowers, options)?,
            report: Report { used: options.used, ..Report::default() },
            meter: Rc::new(Meter::new(options.used.bytes, options.limits.unpacked)),
            links: Vec::new(),
            warnings: HashMap::new(),
            own: (geteuid().as_raw(), getegid().as_raw()),
            umask: umask(),
        };
        // A list that new files inherit makes their mode another than was asked for.
        if xattr::get(root, c"system.posix_acl_default").is_ok_and(|list| list.is_some()) {
            applier.umask = 0o7777;
        }
        if options.first && folds_case(root) {
            applier
                .warn("the directory folds case: names that differ in nothing else are one".into());
        }
        applier.root()?;
        Ok(applier)
    }

    /// What becomes of the root without an entry. Of a layer by itself it is not known: who mounts it passes over a root like this one.
    fn root(&mut self) -> Result<()> {
        if self.options.format == Format::Plain && !self.options.first {
            let _remembered = self.tree.find(&[])?; // with the times it has
            return Ok(());
        }
        let root = self.tree.root()?;
        let owner = attributes::owner(self.options, 0, 0)?;
        let record = Record { made: false, ..Record::implied(owner) };
        self.tree.records.put(root.ino, None, b"", record);
        Ok(())
    }

    pub(super) fn run(mut self, tar: impl BufRead) -> Result<Report> {
        let mut archive = Archive::metered(tar, &self.options.limits, Rc::clone(&self.meter));
        while let Some(entry) = archive.next()? {
            self.report.used.entries += 1;
            if self.report.used.entries > self.options.limits.entries {
                return Err(too_many(&entry, &self.options.limits));
            }
            self.entry(&entry, &mut archive)
                .context(|| format!("\"{}\"", name::shown(&entry.name)))?;
        }
        for remark in archive.remarks() {
            self.warn(remark.clone());
        }
        drop(archive);
        let meter = Rc::clone(&self.meter);
        let mut report = finish::finish(self)?;
        report.used.bytes = meter.used();
        Ok(report)
    }

    pub(super) fn warn(&mut self, what: String) {
        // A hostile layer has as many causes as it likes.
        if self.warnings.len() < 100 || self.warnings.contains_key(&what) {
            *self.warnings.entry(what).or_default() += 1;
        }
    }

    fn entry(&mut self, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<()> {
        match name::parse(&entry.name, &self.options.limits)? {
            Name::Aufs => {
                self.warn("the bookkeeping of aufs (.wh..wh.*) is left out".into());
                Ok(())
            }
            Name::Whiteout(path) => self.whiteout(&path),
            Name::Opaque(path) => self.opaque(&path),
            Name::Root if entry.kind == Kind::Directory => self.root_entry(entry),
            // CVE-2021-29136
            Name::Root => Err(Error::verification("the root directory as something else")),
            Name::Plain(path) => self.plain(entry, &path, archive),
        }
    }

    fn whiteout(&mut self, path: &Path) -> Result<()> {
        match self.tree.find(&path.parent)? {
            Some(parent) => self.tree.hide(&parent, &base(path)?),
            None => Ok(()),
        }
    }

    fn opaque(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let Some(directory) = self.tree.find(path)? else { return Ok(()) };
        let hidden = self.tree.hide_content(&directory);
        hidden.map_err(|errno| failed("cannot remove what it hides", errno))
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        let root = self.tree.root()?;
        let record = self.record(entry)?;
        self.tree.update(root.ino, &root, b"", record).map(drop)
    }

    /// The directory that an entry goes into.
    pub(super) fn parent(&mut self, path: &[Vec<u8>]) -> Result<Rc<Directory>> {
        self.tree.make(path)
    }

    fn plain(
        &mut self,
        entry: &Entry,
        path: &Path,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<()> {
        let parent = self.parent(&path.parent)?;
        let base = base(path)?;
        let node = |kind, major, minor| (kind, makedev(major, minor));
        match entry.kind {
            Kind::Directory => return self.directory(entry, path, &parent, &base),
            Kind::File => self.file(entry, &parent, &base, archive)?,
            Kind::HardLink => return self.link(entry, path, &parent, &base),
            Kind::Symlink => self.symlink(entry, &parent, &base)?,
            Kind::Fifo => {
                self.node(entry, &parent, &base, (SFlag::S_IFIFO, 0))?;
            }
            Kind::Character(major, minor) => {
                let device = node(SFlag::S_IFCHR, major.into(), minor.into());
                self.device(entry, &parent, &base, device)?;
            }
            Kind::Block(major, minor) => {
                let device = node(SFlag::S_IFBLK, major.into(), minor.into());
                self.device(entry, &parent, &base, device)?;
            }
        }
        self.tree.mark(&parent, &path.base, Mark::Whole)
    }

    /// Does `make`, after removing what is in the way.
    fn place<T>(
        &mut self,
        parent: &Directory,
        base: &CString,
        what: &str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T> {
        let made = match make() {
            Err(Errno::EEXIST) => self.tree.clear(parent, base).and_then(|()| make()),
            other => other,
        };
        made.map_err(|errno| failed(format_args!("cannot make the {what}"), errno))
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &Directory,
        base: &CString,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<()> {
        let owner = attributes::owner(self.options, entry.uid, entry.gid)?;
        // The group of a new file may be that of a directory with setgid.
        let owner = match parent.made {
            true => owner.filter(|&owner| owner != self.own),
            false => owner.or(Some(self.own)),
        };
        // chown(2) takes setuid and setgid away, so they come after it.
        let early = entry.mode & !0o777 == 0 && entry.mode & self.umask == 0 && parent.made;
        let mode = if early { entry.mode } else { 0o600 };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let fd =
            self.place(parent, base, "file", || openat(parent.fd.as_fd(), base, flags, mode))?;
        let mut file = File::from(fd);
        match &entry.sparse {
            None => write(&mut file, archive)?,
            Some(places) => write_sparse(&file, archive, places, entry.size)?,
        }
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| chown_failed(uid, gid, errno))?;
        }
        if !parent.made {
            attributes::disinherit(file.as_fd())
                .map_err(|errno| failed("cannot remove the list it has inherited", errno))?;
        }
        if !early {
            fchmod(&file, Mode::from_bits_truncate(entry.mode))
                .map_err(|errno| failed("cannot set its mode", errno))?;
        }
        for (name, value) in self.xattrs(entry)? {
            self.attribute(&name, set_attribute(file.as_fd(), &name, &value))?;
        }
        futimens(&file, &spec(entry.atime), &spec(entry.mtime))
            .map_err(|errno| failed("cannot set its times", errno))
    }

    fn symlink(&mut self, entry: &Entry, parent: &Directory, base: &CString) -> Result<()> {
        let target = name::symlink_target(&entry.link, &self.options.limits)?;
        self.place(parent, base, "symlink", || symlinkat(&*target, &parent.fd, &**base))?;
        self.finish_node(entry, parent, base, false)
    }

    fn device(
        &mut self,
        entry: &Entry,
        parent: &Directory,
        base: &CString,
        device: (SFlag, u64),
    ) -> Result<()> {
        if self.options.format != Format::Plain && device == (SFlag::S_IFCHR, 0) {
            return Err(Error::verification(
                "a character device 0:0, which overlayfs takes for a whiteout",
            ));
        }
        match self.options.devices {
            Devices::Create => self.node(entry, parent, base, device),
            Devices::Skip => {
                self.warn("device nodes are left out".into());
                self.tree
                    .clear(parent, base)
                    .map_err(|errno| failed("cannot remove what it replaces", errno))?;
                self.tree.whiteout(parent, base)
            }
            Devices::Placeholder => {
                self.warn("empty files stand for device nodes".into());
                let entry = Entry {
                    mode: 0,
                    xattrs: Vec::new(),
                    link: Vec::new(),
                    name: Vec::new(),
                    sparse: None,
                    ..*entry
                };
                self.node(&entry, parent, base, (SFlag::S_IFREG, 0))
            }
        }
    }

    fn node(
        &mut self,
        entry: &Entry,
        parent: &Directory,
        base: &CString,
        (kind, device): (SFlag, u64),
    ) -> Result<()> {
        let make = || mknodat(&parent.fd, &**base, kind, Mode::S_IRUSR | Mode::S_IWUSR, device);
        self.place(parent, base, "node", make).map_err(|error| match kind {
            SFlag::S_IFCHR | SFlag::S_IFBLK => {
                error.hint("device nodes need root: they can be skipped or replaced by empty files")
            }
            _ => error,
        })?;
        self.finish_node(entry, parent, base, true)
    }

    /// Owner, mode, attributes and times of what cannot be opened.
    fn finish_node(
        &mut self,
        entry: &Entry,
        parent: &Directory,
        base: &CString,
        mode: bool,
    ) -> Result<()> {
        let mut owner = attributes::owner(self.options, entry.uid, entry.gid)?;
        if !parent.made {
            owner = owner.or(Some(self.own));
            if mode {
                attributes::disinherit_at(parent.fd.as_fd(), base)
                    .map_err(|errno| failed("cannot remove the list it has inherited", errno))?;
            }
        }
        if let Some((uid, gid)) = owner {
            let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            fchownat(&parent.fd, &**base, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| chown_failed(uid, gid, errno))?;
        }
        if mode {
            attributes::chmod_at(parent.fd.as_fd(), base, entry.mode)
                .map_err(|errno| failed("cannot set its mode", errno))?;
        }
        for (name, value) in self.xattrs(entry)? {
            self.attribute(&name, xattr::set_at(parent.fd.as_fd(), base, &name, &value))?;
        }
        let (atime, mtime) = (spec(entry.atime), spec(entry.mtime));
        utimensat(&parent.fd, &**base, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
            .map_err(|errno| failed("cannot set its times", errno))
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: &Directory,
        base: &CString,
    ) -> Result<()> {
        let record = self.record(entry)?;
        let opaque = match self.existing(path, parent, base)? {
            There::Nothing => false,
            // Its children stay; all attributes are those of the entry.
            There::Directory(ino) => {
                let opaque = self.tree.update(ino, parent, &path.base, record)?;
                let mark = if opaque { Mark::Whole } else { Mark::Itself };
                return self.tree.mark(parent, base.to_bytes(), mark);
            }
            There::Other => {
                self.tree
                    .clear(parent, base)
                    .map_err(|errno| failed("cannot replace it", errno))?;
                // What was there has hidden what is below it.
                true
            }
        };
        self.tree.charge_directory(parent, &path.base)?;
        let made = self.tree.make_directory(parent, base, Record { opaque, ..record });
        let made = made.map_err(|errno| failed("cannot make the directory", errno))?;
        let alone = self.tree.content(made.ino);
        self.tree.mark(parent, &path.base, if alone { Mark::Whole } else { Mark::Itself })
    }

    /// What has the name of a directory entry. With `keep_dirlinks` a symlink to a directory is one.
    fn existing(&mut self, path: &Path, parent: &Directory, base: &CString) -> Result<There> {
        let stat = match fstatat(&parent.fd, &**base, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {
                let symlink = self.options.keep_dirlinks
                    && self
                        .tree
                        .below(parent, &path.base)?
                        .is_some_and(|found| found.kind() == libc::S_IFLNK);
                let found = if symlink { self.tree.find(&whole(path))? } else { None };
                return Ok(found.map_or(There::Nothing, |found| There::Directory(found.ino)));
            }
            other => other.map_err(|errno| failed("cannot look at what is there", errno))?,
        };
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFDIR {
            return Ok(There::Directory(stat.st_ino));
        }
        if kind == libc::S_IFLNK
            && self.options.keep_dirlinks
            && let Some(directory) = self.tree.find(&whole(path))?
        {
            return Ok(There::Directory(directory.ino));
        }
        Ok(There::Other)
    }

    fn record(&mut self, entry: &Entry) -> Result<Record> {
        let owner = attributes::owner(self.options, entry.uid, entry.gid)?;
        let xattrs = self.xattrs(entry)?;
        let values = xattrs.iter().map(|(name, value)| name.as_bytes().len() + value.len() + 70);
        self.tree.charge(values.sum())?;
        Ok(Record::new(entry.atime, entry.mtime, Some(Set::new(entry.mode, owner, xattrs))))
    }

    fn link(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: &Directory,
        base: &CString,
    ) -> Result<()> {
        let target = name::link_target(&entry.link, &self.options.limits)?;
        if target == *path {
            return Err(Error::verification("a hard link to itself"));
        }
        if let Linked::Missing(_) = self.link_now(&target, path, parent, base)? {
            // It may come later; a target that never comes is an error at the end.
            let link = LateLink::new(path, &target);
            self.tree.charge(link.size())?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Makes a hard link, if its target is there.
    pub(super) fn link_now(
        &mut self,
        target: &Path,
        path: &Path,
        parent: &Directory,
        base: &CString,
    ) -> Result<Linked> {
        let to = name::base(target)?;
        let Some(from) = self.tree.find(&target.parent)? else { return Ok(Linked::Missing(None)) };
        let missing = || Ok(Linked::Missing(Some((from.ino, target.base.clone()))));
        let directory = || {
            Error::verification(format!("a hard link to the directory {:?}", shown_path(target)))
        };
        match fstatat(&from.fd, &*to, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => match self.tree.below(&from, &target.base)? {
                None => return missing(),
                Some(found) if found.kind() == libc::S_IFDIR => return Err(directory()),
                // As overlayfs does before it links.
                Some(found) => {
                    self.meter
                        .charge(u64::try_from(found.stat.st_size).unwrap_or(u64::MAX))
                        .and_then(|()| found.copy(from.fd.as_fd(), &to))
                        .context(|| format!("to {:?}", shown_path(target)))?;
                }
            },
            Ok(stat) if self.options.format != Format::Plain && is_whiteout(&stat) => {
                return missing();
            }
            Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => return Err(directory()),
            Ok(_) => {}
            Err(errno) => return Err(failed("cannot look at the target", errno)),
        }
        if (from.ino, to.to_bytes()) == (parent.ino, base.to_bytes()) {
            return Err(Error::verification("a hard link to itself"));
        }
        // Not followed: a hard link to a symlink is another name of the symlink.
        let link = || linkat(&from.fd, &*to, &parent.fd, &**base, AtFlags::empty());
        self.place(parent, base, "hard link", link)
            .context(|| format!("to {:?}", shown_path(target)))?;
        self.tree.mark(parent, &path.base, Mark::Whole)?;
        Ok(Linked::Yes)
    }

    fn xattrs(&mut self, entry: &Entry) -> Result<Vec<(CString, Vec<u8>)>> {
        if entry.xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let mut dropped = Vec::new();
        let kept = attributes::of(&entry.xattrs, self.options, &mut |name, reason| {
            dropped.push(format!("the attribute {} {reason}: not set", name.escape_ascii()));
        })?;
        for warning in dropped {
            self.warn(warning);
        }
        Ok(kept)
    }

    /// What cannot be set on this file system, or on this type of file, is left out.
    pub(super) fn attribute(&mut self, name: &CString, set: Result<(), Errno>) -> Result<()> {
        let shown = name.to_bytes().escape_ascii();
        match set {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP) => {
                self.warn(format!("the file system has no attributes like {shown}: not set"));
                Ok(())
            }
            Err(Errno::EPERM) if name.to_bytes().starts_with(b"user.") => {
                self.warn(format!("{shown} can be set on files and directories alone: not set"));
                Ok(())
            }
            Err(errno) => Err(failed(format_args!("cannot set the attribute {shown}"), errno)),
        }
    }
}

/// What already has the name of a directory entry.
enum There {
    Nothing,
    Directory(u64),
    Other,
}

fn write(file: &mut File, archive: &mut Archive<impl BufRead>) -> Result<()> {
    loop {
        let data = archive.data()?;
        let count = data.len();
        if count == 0 {
            return Ok(());
        }
        file.write_all(data).map_err(|error| Error::io("cannot write the file", error))?;
        archive.advance(count);
    }
}

fn write_sparse(
    file: &File,
    archive: &mut Archive<impl BufRead>,
    places: &[(u64, u64)],
    size: u64,
) -> Result<()> {
    let wrong = |error| Error::io("cannot write the file", error);
    file.set_len(size).map_err(wrong)?;
    for &(mut offset, mut length) in places {
        while length > 0 {
            let data = archive.data()?;
            let most = usize::try_from(length).unwrap_or(usize::MAX);
            let piece = data.get(..data.len().min(most)).unwrap_or_default();
            if piece.is_empty() {
                return Err(Error::verification("the sparse file has less data than pieces"));
            }
            file.write_all_at(piece, offset).map_err(wrong)?;
            let count = piece.len();
            archive.advance(count);
            let count = u64::try_from(count).unwrap_or(length);
            offset = offset.saturating_add(count);
            length -= count.min(length);
        }
    }
    Ok(())
}

pub(super) fn chown_failed(uid: u32, gid: u32, errno: Errno) -> Error {
    let error = failed(format_args!("cannot give it to {uid}:{gid}"), errno);
    match errno {
        Errno::EPERM | Errno::EINVAL => {
            error.hint("other owners need root, or subordinate ids: /etc/subuid and /etc/subgid")
        }
        _ => error,
    }
}

/// From /proc, for umask(2) can only tell it by changing it. Where it cannot be read no mode is taken for granted.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o7777)
}
