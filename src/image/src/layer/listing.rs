//! What the layers of an image amount to, without a tree: the rules of [`apply`](super::apply), on names alone.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, Write};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::archive::{Archive, Entry, Kind};
use super::attributes::id;
use super::late::{self, LateLink, Tried};
use super::name::{self, Name, Path, components, shown};
use super::{Used, too_much};
use crate::error::{Context, Error, Result};
use crate::limits::Limits;

/// Symlinks on the way to one file: the kernel's own count (path_resolution(7)).
const MAX_LINKS: usize = 40;
const NOTHING: &[u8] = &[0; 64 << 10];

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// As ls(1) shows it: `-`, `d`, `l`, `c`, `b`, `p`.
    pub kind: char,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// The target of a symlink.
    pub target: Box<[u8]>,
    /// The layer that it is from, counted from 0.
    pub layer: u32,
    /// For a regular file: the layer that its content is in, and the entry there.
    content_in: u32,
    number: u64,
}

/// The files of an image.
#[derive(Debug)]
pub struct Listing {
    /// By name, without a slash at its start. The root is not among them.
    files: BTreeMap<Box<[u8]>, File>,
    root: File,
    /// Bytes that all of it takes, and may take together with what the decompression of the current layer holds.
    memory: usize,
    limit: usize,
    held: usize,
    layers: u32,
    hasher: RandomState,
}

/// What has become of a hard link.
enum Linked {
    /// It has this name.
    As(Vec<u8>),
    /// There is nothing of this name that it could be a link to, yet.
    Missing(Vec<u8>),
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            root: File::implied(0),
            memory: 0,
            limit: 0,
            held: 0,
            layers: 0,
            hasher: RandomState::new(),
        }
    }
}

impl Listing {
    /// Adds a layer, uncompressed, above those before, and reads `tar` to its end. `held`: bytes of memory that its decompression holds.
    ///
    /// # Errors
    /// As [`apply`](super::apply).
    pub fn add(
        &mut self,
        tar: impl BufRead,
        limits: &Limits,
        used: Used,
        held: &AtomicUsize,
    ) -> Result<Used> {
        self.limit = limits.memory;
        let mut archive = Archive::new(tar, limits, used.bytes);
        let mut entries = used.entries;
        let mut number = 0;
        let mut links = Vec::new();
        while let Some(entry) = archive.next()? {
            entries += 1;
            self.held = held.load(Ordering::Relaxed);
            if entries > limits.entries {
                return Err(super::apply::too_many(&entry, limits));
            }
            self.entry(&entry, number, limits, &mut links)
                .context(|| format!("\"{}\"", shown(&entry.name)))?;
            number += 1;
        }
        let waited: usize = links.iter().map(LateLink::size).sum();
        self.late_links(links)?;
        self.memory = self.memory.saturating_sub(waited);
        (self.layers, self.held) = (self.layers.saturating_add(1), 0);
        Ok(Used { entries, bytes: archive.taken() })
    }

    fn entry(
        &mut self,
        entry: &Entry,
        number: u64,
        limits: &Limits,
        links: &mut Vec<LateLink>,
    ) -> Result<()> {
        match name::parse(&entry.name, limits)? {
            Name::Aufs => Ok(()),
            Name::Root if entry.kind == Kind::Directory => {
                let (mode, uid, gid) = (entry.mode, id(entry.uid, "uid")?, id(entry.gid, "gid")?);
                let (mtime, layer) = (entry.mtime.seconds, self.layers);
                self.root = File { mode, uid, gid, mtime, ..File::implied(layer) };
                Ok(())
            }
            Name::Root => Err(Error::verification("the root directory as something else")),
            Name::Whiteout(path) => {
                let mut key = self.resolve(&path.parent)?;
                push(&mut key, &path.base);
                self.hide(&key, true);
                Ok(())
            }
            Name::Opaque(path) => {
                let key = self.resolve(&path)?;
                self.hide(&key, false);
                Ok(())
            }
            Name::Plain(path) if entry.kind == Kind::HardLink => {
                let target = name::link_target(&entry.link, limits)?;
                if target == path {
                    return Err(Error::verification("a hard link to itself"));
                }
                if let Linked::Missing(_) = self.link(&path, &target)? {
                    let link = LateLink::new(&path, &target);
                    self.charge(link.size())?;
                    links.push(link);
                }
                Ok(())
            }
            Name::Plain(path) => {
                if entry.kind == Kind::Symlink {
                    name::symlink_target(&entry.link, limits)?;
                }
                self.plain(entry, number, &path)
            }
        }
    }

    fn plain(&mut self, entry: &Entry, number: u64, path: &Path) -> Result<()> {
        let kind = match entry.kind {
            Kind::File | Kind::HardLink => '-',
            Kind::Directory => 'd',
            Kind::Symlink => 'l',
            Kind::Character(..) => 'c',
            Kind::Block(..) => 'b',
            Kind::Fifo => 'p',
        };
        let key = self.place(path)?;
        self.put(
            key,
            File {
                kind,
                mode: entry.mode,
                uid: id(entry.uid, "uid")?,
                gid: id(entry.gid, "gid")?,
                size: if kind == '-' { entry.size } else { 0 },
                mtime: entry.mtime.seconds,
                target: if kind == 'l' { entry.link.as_slice().into() } else { Box::default() },
                layer: self.layers,
                content_in: self.layers,
                number,
            },
        )
    }

    /// Where an entry goes; directories on the way are made.
    fn place(&mut self, path: &Path) -> Result<Vec<u8>> {
        let mut key = self.resolve(&path.parent)?;
        let missing = self.files.get(key.as_slice()).is_none_or(|file| file.kind != 'd');
        if missing && !key.is_empty() {
            let mut at = Vec::new();
            for part in key.split(|&byte| byte == b'/') {
                push(&mut at, part);
                if self.files.get(at.as_slice()).is_none_or(|file| file.kind != 'd') {
                    self.put(at.clone(), File::implied(self.layers))?;
                }
            }
        }
        push(&mut key, &path.base);
        Ok(key)
    }

    fn put(&mut self, key: Vec<u8>, file: File) -> Result<()> {
        let key = key.into_boxed_slice();
        self.charge(file.size_of(&key))?;
        let merged = file.kind == 'd' && self.files.get(&key).is_some_and(|old| old.kind == 'd');
        if !merged {
            self.remove(&key, true, u32::MAX);
        } else if let Some(old) = self.files.get(&key) {
            self.memory = self.memory.saturating_sub(old.size_of(&key));
        }
        self.files.insert(key, file);
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<Linked> {
        let mut from = self.resolve(&target.parent)?;
        push(&mut from, &target.base);
        let Some(file) = self.files.get(from.as_slice()).cloned() else {
            return Ok(Linked::Missing(from));
        };
        if file.kind == 'd' {
            return Err(Error::verification("a hard link to a directory"));
        }
        let key = self.place(path)?;
        if key == from {
            return Err(Error::verification("a hard link to itself"));
        }
        self.put(key.clone(), File { layer: self.layers, ..file })?;
        Ok(Linked::As(key))
    }

    fn late_links(&mut self, links: Vec<LateLink>) -> Result<()> {
        late::place(links, &mut |path, target| {
            let linked =
                self.link(path, target).context(|| format!("{:?}", name::shown_path(path)));
            Ok(match linked? {
                Linked::As(name) => Tried::As(self.hasher.hash_one(name)),
                Linked::Missing(name) => Tried::Missing(Some(self.hasher.hash_one(name))),
            })
        })
    }

    /// Hides what the layers below have under a name, or in a directory.
    fn hide(&mut self, key: &[u8], itself: bool) {
        self.remove(key, itself, self.layers);
    }

    /// Removes `key`, where `itself` says so, and all below it, as far as it is of a layer below `layer`. A directory stays with what is in it.
    fn remove(&mut self, key: &[u8], itself: bool, layer: u32) {
        // The last name first: what is in a directory comes after it. One at a time, for their names may be all that memory has room for.
        let mut last = if key.is_empty() { None } else { Some([key, b"0"].concat()) };
        let first = if key.is_empty() { Vec::new() } else { [key, b"/"].concat() };
        loop {
            let end = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let found =
                self.files.range::<[u8], _>((Bound::Included(first.as_slice()), end)).next_back();
            let Some(name) = found.map(|(name, _)| name.to_vec()) else { break };
            self.remove_one(&name, layer);
            last = Some(name);
        }
        if itself {
            self.remove_one(key, layer);
        }
    }

    fn remove_one(&mut self, name: &[u8], layer: u32) {
        let Some(file) = self.files.get(name) else { return };
        if file.layer < layer && (file.kind != 'd' || self.below(name, false).next().is_none()) {
            self.memory = self.memory.saturating_sub(file.size_of(name));
            self.files.remove(name);
        }
    }

    /// The name that a path leads to, symlinks followed inside the image.
    fn resolve(&self, path: &[Vec<u8>]) -> Result<Vec<u8>> {
        let literal = path.join(&b'/');
        // Names here have no symlink on the way to them.
        if self.files.get(literal.as_slice()).is_some_and(|file| file.kind == 'd') {
            return Ok(literal);
        }
        let mut todo: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                let end = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                at.truncate(end);
                continue;
            }
            let above = at.len();
            push(&mut at, &part);
            let Some(file) = self.files.get(at.as_slice()).filter(|file| file.kind == 'l') else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::verification("symlinks in a loop on the way to it"));
            }
            at.truncate(if file.target.starts_with(b"/") { 0 } else { above });
            let parts = file.target.split(|&byte| byte == b'/').rev();
            todo.extend(parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec));
        }
        Ok(at)
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory.saturating_add(self.held) > self.limit {
            return Err(too_much(self.limit, self.held));
        }
        Ok(())
    }

    /// The file that a path of the image leads to, with its name, which is empty for the root.
    ///
    /// # Errors
    /// Symlinks in a loop.
    pub fn find(&self, path: &[u8]) -> Result<Option<(&[u8], &File)>> {
        let key = self.resolve(&components(path))?;
        if key.is_empty() {
            return Ok(Some((b"".as_slice(), &self.root)));
        }
        Ok(self.files.get_key_value(key.as_slice()).map(|(name, file)| (&**name, file)))
    }

    /// What is in a directory, by name; everything below it where `all` says so.
    pub fn below<'a>(
        &'a self,
        directory: &[u8],
        all: bool,
    ) -> impl Iterator<Item = (&'a [u8], &'a File)> {
        let mut start = directory.to_vec();
        if !start.is_empty() {
            start.push(b'/');
        }
        let skip = start.len();
        let from = start.clone();
        self.files
            .range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Unbounded))
            .map(|(name, file)| (&**name, file))
            .take_while(move |(name, _)| name.starts_with(&from))
            .filter(move |(name, _)| all || !name.get(skip..).unwrap_or_default().contains(&b'/'))
    }
}

impl File {
    /// A directory that no entry names.
    fn implied(layer: u32) -> Self {
        Self {
            kind: 'd',
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            target: Box::default(),
            layer,
            content_in: layer,
            number: 0,
        }
    }

    /// Bytes that it takes as `name`: twice itself, for maps are of nodes that are left half full, and what the heap adds to its texts.
    fn size_of(&self, name: &[u8]) -> usize {
        let target = if self.target.is_empty() { 0 } else { self.target.len() + 16 };
        2 * (size_of::<Box<[u8]>>() + size_of::<Self>()) + name.len() + 16 + target
    }

    /// The layer that the content is in; none for what has none.
    #[must_use]
    pub fn content_layer(&self) -> Option<usize> {
        (self.kind == '-').then(|| usize::try_from(self.content_in).ok())?
    }

    /// Writes the content, of which `tar` is the layer. The rest of it is not read.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn write(&self, tar: impl BufRead, limits: &Limits, out: &mut dyn Write) -> Result<()> {
        if self.kind != '-' {
            return Ok(());
        }
        let mut archive = Archive::new(tar, limits, 0);
        let gone = || Error::verification("the layer is another than before");
        for _ in 0..self.number {
            archive.next()?.ok_or_else(gone)?;
        }
        let entry = archive.next()?.ok_or_else(gone)?;
        let places = entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]);
        let mut at = 0;
        for (offset, mut length) in places {
            zeros(out, offset.saturating_sub(at))?;
            at = offset.saturating_add(length);
            while length > 0 {
                let data = archive.data()?;
                let most = usize::try_from(length).unwrap_or(usize::MAX);
                let piece = data.get(..data.len().min(most)).unwrap_or_default();
                if piece.is_empty() {
                    return Err(gone());
                }
                out.write_all(piece).context(|| "cannot write it")?;
                let count = piece.len();
                archive.advance(count);
                length -= u64::try_from(count).unwrap_or(length).min(length);
            }
        }
        zeros(out, entry.size.saturating_sub(at))
    }
}

fn zeros(out: &mut dyn Write, mut count: u64) -> Result<()> {
    while count > 0 {
        let piece = usize::try_from(count).unwrap_or(usize::MAX).min(NOTHING.len());
        out.write_all(NOTHING.get(..piece).unwrap_or_default()).context(|| "cannot write it")?;
        count -= u64::try_from(piece).unwrap_or(count).min(count);
    }
    Ok(())
}

fn push(at: &mut Vec<u8>, part: &[u8]) {
    if !at.is_empty() {
        at.push(b'/');
    }
    at.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tar;
    use super::*;

    fn listing(layers: Vec<Tar>) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut used = Used::default();
        for tar in layers {
            used = listing.add(
                tar.end().as_slice(),
                &Limits::default(),
                used,
                &AtomicUsize::new(0),
            )?;
        }
        Ok(listing)
    }

    fn names(layers: Vec<Tar>) -> String {
        let listing = listing(layers).unwrap();
        let names = listing.below(b"", true).map(|(name, file)| {
            format!("{}{}", String::from_utf8_lossy(name), if file.kind == 'd' { "/" } else { "" })
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn layers_are_merged_as_they_are_applied() {
        let t = Tar::new;
        let base = || t().dir("d", 0o755).file("d/a", "1").file("d/b", "2").file("d-e", "3");
        for (layers, expected) in [
            (vec![base()], "d/ d-e d/a d/b"),
            (vec![base(), t().file("d/.wh.a", "")], "d/ d-e d/b"),
            (vec![base(), t().file(".wh.d", "")], "d-e"),
            // A whiteout hides what is below, and nothing of its own layer, in any order.
            (vec![base(), t().file("d/n", "").file(".wh.d", "")], "d/ d-e d/n"),
            (vec![base(), t().file(".wh.d", "").file("d/n", "")], "d/ d-e d/n"),
            (vec![base(), t().file("d/n", "").file("d/.wh..wh..opq", "")], "d/ d-e d/n"),
            (vec![base(), t().file(".wh..wh..opq", "")], ""),
            (vec![base(), t().file("d", "now a file")], "d d-e"),
            (vec![base(), t().file("d/a/x", "")], "d/ d-e d/a/ d/a/x d/b"),
            (vec![base(), t().symlink("s", "/d").file("s/n", "")], "d/ d-e d/a d/b d/n s"),
            (vec![base(), t().symlink("s", "d").file("s/.wh.a", "")], "d/ d-e d/b s"),
            (vec![base(), t().symlink("d", "d-e")], "d d-e"),
            (vec![t().file(".wh..wh.plnk", "").file("x/y/z", "")], "x/ x/y/ x/y/z"),
            // Late, and to a file of a layer below.
            (
                vec![base(), t().link("l", "m").file("m", "").link("k", "d/a")],
                "d/ d-e d/a d/b k l m",
            ),
        ] {
            assert_eq!(names(layers), expected);
        }
        for bad in [
            t().link("l", "gone"),
            t().link("l", "l"),
            t().dir("d", 0o755).link("l", "d"),
            t().symlink("a", "b").symlink("b", "a").file("a/f", ""),
            t().symlink(".", "/"),
        ] {
            assert_eq!(listing(vec![bad]).unwrap_err().kind(), crate::Kind::Verification);
        }
    }

    #[test]
    fn content_is_that_of_the_layer_it_is_in() {
        let one = Tar::new().dir("d", 0o755).file("d/f", "old").file("g", "of the first");
        let two = Tar::new().file("d/f", "new").link("l", "g").symlink("s", "/d/../d/f");
        let tars = [one.clone().end(), two.clone().end()];
        let listing = listing(vec![one, two]).unwrap();
        let read = |path: &str| {
            let (_, file) = listing.find(path.as_bytes()).unwrap().unwrap();
            let mut out = Vec::new();
            let tar = tars[file.content_layer().unwrap()].as_slice();
            file.write(tar, &Limits::default(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(read("/d/f"), "new");
        assert_eq!(read("s"), "new");
        assert_eq!(read("l"), "of the first");
        assert!(listing.find(b"none").unwrap().is_none());
        assert_eq!(listing.below(b"d", false).count(), 1);
    }
}
