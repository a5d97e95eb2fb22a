//! A tar stream, read strictly: what two readers could understand differently is refused.
//!
//! Why not tar-core 0.1: a size in base 256 wraps at 64 bits, a time before 1970 is refused, a sparse file of version
//! 1.0 with a pax size loses its place, and records after a malformed one are dropped in silence.

mod header;
mod pax;

use std::cell::Cell;
use std::io::{self, BufRead};
use std::rc::Rc;

use header::{BLOCK, Dialect, Header, until_nul};
use pax::Pax;

use super::name::shown;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Bytes that an extension header is given before its own have come.
const SMALL: usize = 64 << 10;
/// Pieces of a sparse file (CVE-2025-58183).
const MAX_PLACES: usize = 65_536;

/// A point in time, as utimensat(2) takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Character(u32, u32),
    Block(u32, u32),
    Directory,
    Fifo,
}

/// One entry, with all extension headers applied.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Target of a link.
    pub(super) link: Vec<u8>,
    /// Permission bits, with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) mtime: Time,
    pub(super) atime: Time,
    /// Bytes of the file, holes included.
    pub(super) size: u64,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of the pieces of a sparse file.
    pub(super) sparse: Option<Vec<(u64, u64)>>,
}

/// What stood before an entry and is about it.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

/// What all layers together have used of the bytes that they may become.
pub(super) struct Meter {
    used: Cell<u64>,
    limit: u64,
}

impl Meter {
    pub(super) fn new(used: u64, limit: u64) -> Self {
        Self { used: Cell::new(used), limit }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.get()
    }

    /// # Errors
    /// [`Kind::NoSpace`](crate::Kind::NoSpace) when it is too much.
    pub(super) fn charge(&self, bytes: u64) -> Result<()> {
        self.used.set(self.used.get().saturating_add(bytes));
        if self.used.get() <= self.limit {
            return Ok(());
        }
        Err(Error::no_space(format!(
            "more than {} bytes uncompressed in all layers together: that is the limit",
            self.limit
        ))
        .hint("--max-size allows more"))
    }
}

/// A tar stream.
pub(super) struct Archive<R> {
    /// What it has in its buffer is used there: the bytes of a layer are copied by nobody but the kernel.
    reader: R,
    /// How much of that is metered.
    metered: usize,
    /// Bytes of the current entry's data that are still to come, without padding.
    data: u64,
    padding: u64,
    meter: Rc<Meter>,
    limits: Limits,
    remarks: Vec<String>,
    /// Entries read so far.
    number: u64,
    /// The name of the last of them.
    last: Vec<u8>,
    /// The name of the entry that is being read, as soon as it is known.
    about: Option<Vec<u8>>,
}

impl<R: BufRead> Archive<R> {
    /// `taken`: what the layers before have unpacked to, for the limit of all together.
    pub(super) fn new(reader: R, limits: &Limits, taken: u64) -> Self {
        Self::metered(reader, limits, Rc::new(Meter::new(taken, limits.unpacked)))
    }

    /// The same, with a meter that counts more than what is read.
    pub(super) fn metered(reader: R, limits: &Limits, meter: Rc<Meter>) -> Self {
        Self {
            reader,
            metered: 0,
            data: 0,
            padding: 0,
            meter,
            limits: *limits,
            remarks: Vec::new(),
            number: 0,
            last: Vec::new(),
            about: None,
        }
    }

    /// Bytes of this and the earlier layers.
    pub(super) fn taken(&self) -> u64 {
        self.meter.used()
    }

    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The next entry; `None` at the end, when everything was read that there is: the diff ID covers it.
    ///
    /// # Errors
    /// They say at which entry, or after which.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let rest = self.skip(self.data);
        rest.map_err(|error| self.placed(error, Some(&self.last)))?;
        self.about = None;
        match self.read() {
            Ok(Some(entry)) => {
                self.number += 1;
                self.last.clone_from(&entry.name);
                Ok(Some(entry))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.placed(error, self.about.as_deref())),
        }
    }

    /// What was found wrong in the archive, and where; what comes from elsewhere (the source, a signal) has no place in it.
    fn placed(&self, error: Error, name: Option<&[u8]>) -> Error {
        if !matches!(error.kind(), crate::Kind::Verification | crate::Kind::NoSpace) {
            return error;
        }
        match name {
            Some(name) => error.context(format_args!("\"{}\"", shown(name))),
            None if self.number == 0 => error.context("at the first entry"),
            None => {
                let (last, number) = (shown(&self.last), self.number);
                error.context(format_args!("after entry \"{last}\" (number {number})"))
            }
        }
    }

    fn read(&mut self) -> Result<Option<Entry>> {
        let padded = self.passed(self.padding)?;
        (self.data, self.padding) = (0, 0);
        if !padded {
            // umoci insert ends its layers so, up to 0.4.7 at least; Go reads them.
            self.remarks.push("the archive ends before the padding of its last file".into());
            return Ok(None);
        }
        let mut before = Before::default();
        let mut first = true;
        loop {
            let Some(block) = self.block()? else {
                if !first {
                    return Err(cut("after a header that is about an entry"));
                }
                self.remarks.push("the archive has no end-of-archive blocks".into());
                return Ok(None);
            };
            if block == [0; BLOCK] {
                return self.at_end(first);
            }
            first = false;
            if let Some(entry) = self.header(&block, &mut before)? {
                return Ok(Some(entry));
            }
        }
    }

    /// One zero block has been read.
    fn at_end(&mut self, first: bool) -> Result<Option<Entry>> {
        if !first {
            return Err(broken("the archive ends where an entry must be"));
        }
        match self.block()? {
            // Entries behind the end are seen by some readers and not by others.
            Some(block) if block != [0; BLOCK] => {
                Err(broken("the archive goes on after a single zero block"))
            }
            Some(_) => loop {
                match self.waiting()?.len() {
                    0 => return Ok(None),
                    count => self.consume(count),
                }
            },
            None => Ok(None),
        }
    }

    fn header(&mut self, block: &[u8; BLOCK], before: &mut Before) -> Result<Option<Entry>> {
        let header = Header::new(block).map_err(broken)?;
        // The name of an extension header is its writer's.
        let said = before.pax.as_ref().and_then(|pax| pax.path.as_ref()).or(before.name.as_ref());
        self.about = said.cloned().or_else(|| match header.type_flag() {
            b'L' | b'K' | b'g' => None,
            _ => Some(header.name()),
        });
        let size = header.size().map_err(broken)?;
        let extended = header.dialect() != Dialect::V7;
        match header.type_flag() {
            b'x' if extended && before.pax.is_none() => {
                let records = self.small(size, self.limits.pax)?;
                match Pax::parse(&records, MAX_PLACES, self.limits.xattrs) {
                    Ok(pax) => before.pax = Some(pax),
                    Err(error) => {
                        self.find_name(before);
                        return Err(error);
                    }
                }
            }
            // Global headers say where an archive comes from (git archive); podman ignores them too.
            b'g' if extended => {
                drop(self.small(size, self.limits.pax)?);
            }
            b'L' if extended && before.name.is_none() => {
                before.name = Some(self.long_name(size)?);
            }
            b'K' if extended && before.link.is_none() => {
                before.link = Some(self.long_name(size)?);
            }
            b'x' | b'L' | b'K' if extended => {
                return Err(broken("two extension headers of one type for one entry"));
            }
            _ => return self.entry(header, size, std::mem::take(before)).map(Some),
        }
        Ok(None)
    }

    /// Whose records could not be read: the header behind them says it.
    fn find_name(&mut self, before: &Before) {
        let behind = self.block().ok().flatten();
        let header = behind.as_ref().and_then(|block| Header::new(block).ok());
        let plain =
            header.filter(|header| !matches!(header.type_flag(), b'x' | b'g' | b'L' | b'K'));
        if let Some(name) = before.name.clone().or_else(|| Some(plain?.name())) {
            self.about = Some(name);
        }
    }

    fn entry(&mut self, header: Header<'_>, size: u64, before: Before) -> Result<Entry> {
        let pax = before.pax.unwrap_or_default();
        let sparse_name = pax.sparse.name;
        let name = sparse_name.or(pax.path).or(before.name).unwrap_or_else(|| header.name());
        self.about = Some(name.clone());
        let kind = kind(header, &name).map_err(broken)?;
        let mut size = pax.size.unwrap_or(size);
        if !matches!(kind, Kind::File | Kind::Directory) && size > 0 {
            // Readers disagree whether data follows, and so about every entry after it.
            return Err(broken(format!("an entry that is no file has a size, {size}")));
        }
        if kind == Kind::Directory {
            size = 0;
        }
        self.data = size;
        self.padding = size.wrapping_neg() % 512;
        let mut real_size = size;
        let mut sparse = None;
        if header.type_flag() == b'S' {
            let (places, real) = self.old_sparse(header)?;
            (sparse, real_size) = (Some(places), real);
        } else if kind == Kind::File && pax.sparse.version == (Some(1), Some(0)) {
            sparse = Some(self.sparse_map()?);
            real_size = pax.sparse.real_size.unwrap_or(self.data);
        } else if kind == Kind::File && pax.sparse.places.is_some() {
            sparse = pax.sparse.places;
            real_size = pax.sparse.real_size.unwrap_or(self.data);
        }
        if let Some(places) = &sparse {
            check_places(places, self.data, real_size).map_err(broken)?;
        }
        // Holes cost nothing here, and everything wherever the file is copied.
        self.meter
            .charge(real_size.saturating_sub(size))
            .map_err(|error| error.context(format_args!("{real_size} bytes")))?;
        let number = |said: Option<i64>, read: Result<i64, String>| match said {
            Some(number) => Ok(number),
            None => read.map_err(broken),
        };
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Time { seconds: number(None, header.mtime())?, nanoseconds: 0 },
        };
        let (uid, gid) = (number(pax.uid, header.uid())?, number(pax.gid, header.gid())?);
        let mode = header.mode().map_err(broken)?;
        if name.contains(&0) {
            return Err(broken("a NUL in a name"));
        }
        let link = pax.link.or(before.link).unwrap_or_else(|| header.link().to_vec());
        let (atime, xattrs) = (pax.atime.unwrap_or(mtime), pax.xattrs.into_iter().collect());
        Ok(Entry {
            name,
            kind,
            link,
            mode,
            uid,
            gid,
            mtime,
            atime,
            size: real_size,
            xattrs,
            sparse,
        })
    }

    /// The places of an old GNU sparse file: those of the blocks between header and data too.
    fn old_sparse(&mut self, header: Header<'_>) -> Result<(Vec<(u64, u64)>, u64)> {
        let (mut places, mut more, real) = header.sparse().map_err(broken)?;
        while more {
            let block = self.block()?.ok_or_else(|| cut("in a sparse file's map"))?;
            let (next, again) = header::more_places(&block).map_err(broken)?;
            places.extend(next);
            if places.len() > MAX_PLACES {
                return Err(broken(format!("the sparse file has more than {MAX_PLACES} pieces")));
            }
            more = again;
        }
        Ok((places, real))
    }

    /// The map of a sparse file of version 1.0, which is the beginning of its data.
    fn sparse_map(&mut self) -> Result<Vec<(u64, u64)>> {
        let count = self.sparse_number()?;
        let max = u64::try_from(MAX_PLACES).unwrap_or(u64::MAX);
        if count > max {
            return Err(broken(format!("the sparse file has {count} pieces, more than {max}")));
        }
        let mut places = Vec::new();
        for _ in 0..count {
            places.push((self.sparse_number()?, self.sparse_number()?));
        }
        // The map is padded to a block, as the data is: what is left of the last block goes.
        let rest = self.data.saturating_add(self.padding) % 512;
        if rest > self.data {
            return Err(broken("the map of the sparse file is larger than its data"));
        }
        self.skip(rest)?;
        self.data -= rest;
        Ok(places)
    }

    /// A decimal number and the newline after it.
    fn sparse_number(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for position in 0..=20 {
            let next = if self.data == 0 { None } else { self.waiting()?.first().copied() };
            let byte = next.ok_or_else(|| cut("in a sparse file's map"))?;
            self.advance(1);
            let digit = match byte {
                b'\n' if position > 0 => return Ok(value),
                b'0'..=b'9' => u64::from(byte - b'0'),
                _ => break,
            };
            let next = value.checked_mul(10).and_then(|value| value.checked_add(digit));
            value = next.ok_or_else(|| broken("a number in a sparse file's map is too large"))?;
        }
        Err(broken("the map of a sparse file holds something that is no number"))
    }

    /// What there is of the data, as much as has come; empty at its end.
    pub(super) fn data(&mut self) -> Result<&[u8]> {
        let wanted = usize::try_from(self.data).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Ok(&[]);
        }
        let there = self.waiting()?;
        if there.is_empty() {
            return Err(cut("in the middle of a file"));
        }
        Ok(there.get(..wanted).unwrap_or(there))
    }

    /// Takes `count` bytes of the data.
    pub(super) fn advance(&mut self, count: usize) {
        self.consume(count);
        self.data = self.data.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// The content of GNU tar's header of a long name.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        self.small(size, self.limits.path.saturating_add(1))
            .map(|name| until_nul(&name).to_vec())
            .map_err(|error| match error.kind() {
                crate::Kind::NoSpace => error.hint("--max-path allows more"),
                _ => error,
            })
    }

    /// The content of an extension header.
    fn small(&mut self, size: u64, max: usize) -> Result<Vec<u8>> {
        let length = usize::try_from(size).ok().filter(|&size| size <= max).ok_or_else(|| {
            Error::no_space(format!(
                "an extension header of {size} bytes is larger than the limit of {max}"
            ))
        })?;
        let mut content = Vec::with_capacity(length.min(SMALL));
        while content.len() < length {
            let waiting = self.waiting()?;
            if waiting.is_empty() {
                return Err(cut("in an extension header"));
            }
            let count = waiting.len().min(length - content.len());
            content.extend_from_slice(waiting.get(..count).unwrap_or_default());
            self.consume(count);
        }
        self.skip(size.wrapping_neg() % 512)?;
        Ok(content)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut had = 0;
        while let Some(rest) = block.get_mut(had..).filter(|rest| !rest.is_empty()) {
            let waiting = self.waiting()?;
            let count = waiting.len().min(rest.len());
            if count == 0 {
                return if had == 0 { Ok(None) } else { Err(cut("in a header")) };
            }
            rest.iter_mut().zip(waiting).for_each(|(to, from)| *to = *from);
            self.consume(count);
            had += count;
        }
        Ok(Some(block))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        if self.passed(count)? { Ok(()) } else { Err(cut("in the middle of a file")) }
    }

    /// Goes on by `count` bytes: false where the archive ends before.
    fn passed(&mut self, mut count: u64) -> Result<bool> {
        while count > 0 {
            let there = self.waiting()?.len();
            if there == 0 {
                return Ok(false);
            }
            let step = there.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.consume(step);
            count -= u64::try_from(step).unwrap_or(count);
        }
        Ok(true)
    }

    /// What has come and is not used yet; empty at the end.
    fn waiting(&mut self) -> Result<&[u8]> {
        let there = loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("cannot read the layer", error)),
                Ok(there) => break there.len(),
            }
        };
        let new = there.saturating_sub(self.metered);
        self.metered += new;
        self.meter.charge(u64::try_from(new).unwrap_or(u64::MAX))?;
        // What is there already.
        self.reader.fill_buf().map_err(|error| Error::io("cannot read the layer", error))
    }

    fn consume(&mut self, count: usize) {
        self.metered = self.metered.saturating_sub(count);
        self.reader.consume(count);
    }
}

fn kind(header: Header<'_>, name: &[u8]) -> Result<Kind, String> {
    Ok(match header.type_flag() {
        // Before POSIX a directory was a file whose name ends so.
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => header.device().map(|(major, minor)| Kind::Character(major, minor))?,
        b'4' => header.device().map(|(major, minor)| Kind::Block(major, minor))?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(format!("an entry of the unknown type {:?}", char::from(other))),
    })
}

/// The pieces are in order, do not overlap, and are exactly the data.
fn check_places(places: &[(u64, u64)], data: u64, real_size: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in places {
        if offset < end {
            return Err("the pieces of the sparse file overlap or are out of order".into());
        }
        end = offset.checked_add(length).ok_or("a piece of the sparse file has no end")?;
        sum = sum.saturating_add(length);
    }
    if end > real_size {
        return Err(format!(
            "the sparse file has {real_size} bytes, and a piece that ends at {end}"
        ));
    }
    if sum != data {
        return Err(format!("the pieces of the sparse file are {sum} bytes, its data {data}"));
    }
    Ok(())
}

fn broken(what: impl Into<String>) -> Error {
    Error::verification(what)
}

fn cut(place: &str) -> Error {
    broken(format!("the archive ends {place}"))
}
