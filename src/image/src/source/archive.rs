//! A tar archive as files by name: it is read once for where they are, and nothing is extracted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tar_core::EntryType;
use tar_core::parse::{Limits as TarLimits, ParseEvent, Parser};

use super::files::{Files, Window};
use crate::error::{Context, Error, Kind, Result};
use crate::limits::Limits;

/// Entries of an archive of images. One of 256 layers has some 800.
const ENTRIES: usize = 50_000;
/// Bytes of all their names and targets together, which are kept in memory.
const NAMES: usize = 8 << 20;
/// Links from one to the next.
const HOPS: usize = 16;

/// A tar archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    members: HashMap<String, Member>,
}

#[derive(Debug, Clone)]
enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// Reads where everything is. A compressed one, and one that comes through a pipe, is first written to an unnamed file.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Verification`] when it is no tar archive, and those of reading and writing.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let what = || format!("cannot open {}", path.display());
        let file = File::open(path).context(what)?;
        let metadata = file.metadata().context(what)?;
        if metadata.is_dir() {
            return Err(Error::usage(format!("{} is a directory, not an archive", path.display())));
        }
        let direct = metadata.is_file() && !compressed(&file).context(what)?;
        let file = if direct { file } else { spool(file, path, limits)? };
        let mut archive = Self { path: path.to_owned(), file, members: HashMap::new() };
        archive.index()?;
        Ok(archive)
    }

    /// Whether a regular file must be written to another before it can be read at any place.
    ///
    /// # Errors
    /// Those of opening and reading it.
    pub fn is_compressed(path: &Path) -> Result<bool> {
        File::open(path)
            .and_then(|file| compressed(&file))
            .context(|| format!("cannot open {}", path.display()))
    }

    fn bad(&self, why: impl std::fmt::Display) -> Error {
        Error::verification(format!(
            "{} is not a tar archive of images: {why}",
            self.path.display()
        ))
    }

    fn index(&mut self) -> Result<()> {
        let size = self.file.metadata().context(|| "cannot read the archive")?.len();
        let mut parser =
            Parser::new(TarLimits { max_path_len: Some(4096), ..TarLimits::default() });
        let (mut position, mut wanted) = (0u64, 512usize);
        let mut buffer = Vec::new();
        let (mut entries, mut names) = (0, 0);
        loop {
            buffer.resize(wanted, 0);
            let read = read_fully_at(&self.file, &mut buffer, position)
                .context(|| format!("cannot read {}", self.path.display()))?;
            buffer.truncate(read);
            if read == 0 {
                break;
            }
            match parser.parse(&buffer).map_err(|error| self.bad(error))? {
                ParseEvent::NeedData { min_bytes } => {
                    if min_bytes <= read || min_bytes > 4 << 20 || read < wanted {
                        return Err(self.bad("it ends in the middle of a header"));
                    }
                    wanted = min_bytes;
                    continue;
                }
                ParseEvent::End { .. } => break,
                ParseEvent::GlobalExtensions { consumed, .. } => position += consumed as u64,
                ParseEvent::SparseEntry { .. } => return Err(self.bad("it has sparse files")),
                ParseEvent::Entry { consumed, entry } => {
                    let offset = position + consumed as u64;
                    let size_of =
                        if entry.entry_type == EntryType::Regular { entry.size } else { 0 };
                    let next = offset.checked_add(entry.padded_size());
                    let Some(next) = next.filter(|_| offset.saturating_add(entry.size) <= size)
                    else {
                        return Err(self.bad("it ends in the middle of a file"));
                    };
                    position = next;
                    names += entry.path.len() + entry.link_target.as_deref().map_or(0, <[u8]>::len);
                    if names > NAMES {
                        return Err(
                            self.bad(format_args!("its names have more than {NAMES} bytes"))
                        );
                    }
                    // A name that is not UTF-8 is none that is looked for.
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
                    let name = text(&entry.path).and_then(|name| clean("", &name));
                    let target = entry.link_target.as_deref().and_then(text);
                    let member = match (entry.entry_type, target) {
                        (EntryType::Regular, _) => Some(Member::File { offset, size: size_of }),
                        (EntryType::Link, Some(target)) => clean("", &target).map(Member::Link),
                        (EntryType::Symlink, Some(target)) => {
                            let parent = name
                                .as_deref()
                                .and_then(|n| n.rsplit_once('/'))
                                .map_or("", |(p, _)| p);
                            clean(parent, &target).map(Member::Link)
                        }
                        _ => None,
                    };
                    if let (Some(name), Some(member)) = (name, member) {
                        // Two of one name could be two images for two readers.
                        if self.members.insert(name.clone(), member).is_some() {
                            return Err(self.bad(format_args!("{name:?} is in it twice")));
                        }
                    }
                    entries += 1;
                    if entries > ENTRIES {
                        return Err(self.bad(format_args!("it has more than {ENTRIES} entries")));
                    }
                }
            }
            wanted = 512;
        }
        if self.members.is_empty() { Err(self.bad("it is empty")) } else { Ok(()) }
    }

    /// The file that `name` is, links followed: its offset and size.
    fn member(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let mut name = name;
        for _ in 0..HOPS {
            match self.members.get(name) {
                None => return Ok(None),
                Some(Member::File { offset, size }) => return Ok(Some((*offset, *size))),
                Some(Member::Link(target)) => name = target,
            }
        }
        Err(self.bad(format_args!("{name:?} is a link to a link, and so on for ever")))
    }
}

impl Files for Archive {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.member(name)?.map(|(_, size)| size))
    }

    fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (start, size) = self.member(name)?.ok_or_else(|| {
            Error::not_found(format!("there is no {name:?} in {}", self.path.display()))
        })?;
        let position = start + offset.min(size);
        Ok(Box::new(Window { file: &self.file, position, end: start + size }))
    }
}

/// `name`, below `parent`, without dots; `None` when it leads out of the archive. An absolute one begins at its top.
pub(super) fn clean(parent: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let parent = if name.starts_with('/') { "" } else { parent };
    for part in parent.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                let _parent = parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn compressed(file: &File) -> std::io::Result<bool> {
    let mut magic = [0; 4];
    let known = read_fully_at(file, &mut magic, 0)?;
    Ok(matches!(magic.get(..known), Some([0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd])))
}

fn read_fully_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes what can be read once, decompressed, to a file without a name.
fn spool(input: File, path: &Path, limits: &Limits) -> Result<File> {
    let place = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let what =
        || format!("cannot write {} to a temporary file in {}", path.display(), place.display());
    let mut output = std::fs::OpenOptions::new();
    let mut output = std::os::unix::fs::OpenOptionsExt::custom_flags(
        output.read(true).write(true),
        OFlag::O_TMPFILE.bits(),
    )
    .open(&place)
    .context(what)?;
    let mut input = std::io::BufReader::with_capacity(256 << 10, input);
    let magic = std::io::BufRead::fill_buf(&mut input).context(what)?;
    let is_gzip = magic.starts_with(&[0x1f, 0x8b]);
    let is_zstd = magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut reader: Box<dyn Read> = if is_gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(input))
    } else if is_zstd {
        return Err(Error::unsupported(format!(
            "{} is compressed with zstd: unpack it first",
            path.display()
        )));
    } else {
        Box::new(input)
    };
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0u64;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::io(format_args!("cannot read {}", path.display()), error)
                    .with_kind(Kind::Verification));
            }
        };
        total += count as u64;
        if total > limits.unpacked {
            return Err(Error::no_space(format!(
                "{} has more than {} bytes",
                path.display(),
                limits.unpacked
            )));
        }
        output.write_all(buffer.get(..count).unwrap_or_default()).context(what)?;
    }
    output.rewind().context(what)?;
    Ok(output)
}
