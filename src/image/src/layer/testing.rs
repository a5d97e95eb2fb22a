//! Archives and trees for the tests of this module.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Options, Owners, Report, apply, remove_tree};
use crate::error::Result;

/// Whether the tests may give files away and make devices.
pub(super) fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether its caller can be tested here; if not it says so, and the caller returns.
pub(super) fn needs_root(what: &str) -> bool {
    if !root() {
        skipped(&format!("{what} needs root"));
    }
    root()
}

/// Says that a test is none here, in the words that `hack/steps.sh` counts. Libtest has no word for that, and keeps to itself what is printed by a test
/// that passes, but not what is written.
pub(super) fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("\nskipped: {}: {why}\n", thread.name().unwrap_or_default());
    let _unheard = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// An archive under construction.
#[derive(Default, Clone)]
pub(super) struct Tar(pub(super) Vec<u8>);

/// One entry.
pub(super) struct Item<'a> {
    pub(super) name: &'a [u8],
    pub(super) flag: u8,
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) data: &'a [u8],
    pub(super) pax: Vec<(&'a [u8], &'a [u8])>,
    pub(super) device: (u32, u32),
}

impl Default for Item<'_> {
    fn default() -> Self {
        Self {
            name: b"f",
            flag: b'0',
            link: b"",
            mode: 0o644,
            data: b"",
            pax: vec![],
            device: (0, 0),
        }
    }
}

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn file(self, name: &str, data: &str) -> Self {
        self.item(&Item { name: name.as_bytes(), data: data.as_bytes(), ..Item::default() })
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        self.item(&Item { name: name.as_bytes(), flag: b'5', mode, ..Item::default() })
    }

    pub(super) fn symlink(self, name: &str, to: &str) -> Self {
        let (name, link) = (name.as_bytes(), to.as_bytes());
        self.item(&Item { name, link, flag: b'2', mode: 0o777, ..Item::default() })
    }

    pub(super) fn link(self, name: &str, to: &str) -> Self {
        self.item(&Item {
            name: name.as_bytes(),
            link: to.as_bytes(),
            flag: b'1',
            ..Item::default()
        })
    }

    pub(super) fn flag(self, name: &str, flag: u8) -> Self {
        self.item(&Item { name: name.as_bytes(), flag, ..Item::default() })
    }

    pub(super) fn pax(self, name: &str, data: &str, pax: &[(&str, &[u8])]) -> Self {
        let pax = pax.iter().map(|(key, value)| (key.as_bytes(), *value)).collect();
        self.item(&Item { name: name.as_bytes(), data: data.as_bytes(), pax, ..Item::default() })
    }

    pub(super) fn item(mut self, item: &Item<'_>) -> Self {
        let mut records = Vec::new();
        let long: Vec<(&[u8], &[u8])> = [(b"path".as_slice(), item.name), (b"linkpath", item.link)]
            .into_iter()
            .filter(|(_, value)| value.len() > 100)
            .collect();
        for (key, value) in long.iter().chain(&item.pax) {
            records.extend(record(key, value));
        }
        if !records.is_empty() {
            self = self.raw(&header(b"pax", b'x', b"", 0o644, records.len(), (0, 0)), &records);
        }
        let name = &item.name[..item.name.len().min(100)];
        let link = &item.link[..item.link.len().min(100)];
        let size = if item.flag == b'0' || item.flag == b'7' { item.data.len() } else { 0 };
        self.raw(&header(name, item.flag, link, item.mode, size, item.device), item.data)
    }

    /// A header as it is, and what follows it, padded.
    pub(super) fn raw(mut self, header: &[u8; 512], data: &[u8]) -> Self {
        self.0.extend_from_slice(header);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn end(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while body + length.to_string().len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub(super) fn header(
    name: &[u8],
    flag: u8,
    link: &[u8],
    mode: u32,
    size: usize,
    device: (u32, u32),
) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"07346545000");
    put(156, &[flag]);
    put(157, link);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", device.0).as_bytes());
    put(337, format!("{:07o}", device.1).as_bytes());
    sum(block)
}

/// The same with a right checksum.
pub(super) fn sum(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A directory that is gone afterwards. The tree is in `rootfs`; beside it is `victim`, which nothing may touch.
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skep-layer-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("rootfs")).unwrap();
        fs::create_dir(path.join("victim")).unwrap();
        fs::write(path.join("victim/file"), "untouched").unwrap();
        Self(path)
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    pub(super) fn open(&self, name: &str) -> OwnedFd {
        fs::File::open(self.0.join(name)).unwrap().into()
    }

    /// Applies layers one after the other, with owners if the caller can give files away.
    pub(super) fn apply(&self, layers: &[&Tar], options: &Options<'_>) -> Result<Vec<Report>> {
        use std::os::fd::AsFd;
        let root = self.open("rootfs");
        let mut reports = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let mut options = Options { first: index == 0, ..options.clone() };
            if !self::root() && options.owners == Owners::Raw {
                options.owners = Owners::Single;
            }
            reports.push(apply(&*layer.end(), root.as_fd(), &options)?);
        }
        Ok(reports)
    }

    /// `rootfs` as lines: `d755 name`, `f644 name=content`, `l name -> target`, `h name = first name`.
    pub(super) fn tree(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut inodes = std::collections::HashMap::new();
        list(&self.rootfs(), Path::new(""), &mut inodes, &mut lines);
        lines
    }

    pub(super) fn victim(&self) -> String {
        let directory = fs::metadata(self.0.join("victim")).unwrap();
        let file = fs::metadata(self.0.join("victim/file")).unwrap();
        let entries = fs::read_dir(self.0.join("victim")).unwrap().count();
        let content = fs::read_to_string(self.0.join("victim/file")).unwrap();
        let beside = fs::read_dir(&self.0).unwrap().count();
        format!(
            "{entries} {beside} {content} {:o} {:o} {} {} {}",
            directory.mode(),
            file.mode(),
            directory.mtime_nsec(),
            file.mtime_nsec(),
            file.nlink()
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        use std::os::fd::AsFd;
        let above: OwnedFd = fs::File::open(self.0.parent().unwrap()).unwrap().into();
        remove_tree(above.as_fd(), self.0.file_name().unwrap()).unwrap();
    }
}

fn list(
    directory: &Path,
    below: &Path,
    inodes: &mut std::collections::HashMap<u64, PathBuf>,
    lines: &mut Vec<String>,
) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let (path, shown) = (directory.join(&name), below.join(&name));
        let stat = fs::symlink_metadata(&path).unwrap();
        let (kind, mode) = (stat.file_type(), stat.mode() & 0o7777);
        let text = shown.display();
        if !kind.is_dir() && stat.nlink() > 1 {
            if let Some(first) = inodes.get(&stat.ino()) {
                lines.push(format!("h {text} = {}", first.display()));
                continue;
            }
            inodes.insert(stat.ino(), shown.clone());
        }
        if kind.is_dir() {
            lines.push(format!("d{mode:o} {text}"));
            list(&path, &shown, inodes, lines);
        } else if kind.is_symlink() {
            lines.push(format!("l {text} -> {}", fs::read_link(&path).unwrap().display()));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            lines.push(format!(
                "f{mode:o} {text}={}",
                content[..content.len().min(40)].escape_ascii()
            ));
        } else if kind.is_fifo() {
            lines.push(format!("p{mode:o} {text}"));
        } else {
            let (major, minor) =
                (nix::sys::stat::major(stat.rdev()), nix::sys::stat::minor(stat.rdev()));
            let letter = if kind.is_char_device() { 'c' } else { 'b' };
            lines.push(format!("{letter}{mode:o} {text} {major}:{minor}"));
        }
    }
}
