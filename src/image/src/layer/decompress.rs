//! The compression of a layer: gzip of any number of members, zstd of any number of frames, or none.
//!
//! What it is, the first bytes say: builders mislabel, and podman and containerd look as well. The blob is read to its
//! end whatever the codec thinks, because its digest covers all of it.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::media::{Compression, Media};

/// How much is read at once.
const INPUT: usize = 256 << 10;

/// What the first bytes of a blob say.
///
/// # Errors
/// [`Kind::Unsupported`](crate::Kind::Unsupported) for compressions that image-spec has no media type for.
fn of_magic(start: &[u8]) -> Result<Compression> {
    const FOREIGN: [(&[u8], &str); 5] = [
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"LZIP", "lzip"),
        (b"PK\x03\x04", "zip"),
    ];
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Compression::Gzip);
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(start) {
        return Ok(Compression::Zstd);
    }
    // A tar whose first name happens to begin like that has its own magic further on.
    let tar = start.get(257..262) == Some(b"ustar".as_slice());
    match FOREIGN.iter().find(|(magic, _)| !tar && start.starts_with(magic)) {
        Some((_, name)) => Err(Error::unsupported(format!(
            "the layer is compressed with {name}: image-spec knows gzip and zstd"
        ))),
        None => Ok(Compression::None),
    }
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "not compressed",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

/// Whether a skippable frame of zstd begins here (RFC 8878 section 3.1.2).
fn is_skippable(start: &[u8]) -> bool {
    start.first().is_some_and(|byte| byte & 0xf0 == 0x50)
        && start.get(1..4) == Some([0x2a, 0x4d, 0x18].as_slice())
}

/// The uncompressed bytes of a layer, for [`decompress`].
#[derive(Debug)]
pub struct Decompressor<R> {
    input: Input<R>,
    codec: Codec,
    /// Uncompressed bytes given so far.
    given: u64,
    /// Bytes of the largest window so far, which stay in memory.
    held: usize,
    limits: Limits,
    remarks: Vec<String>,
}

enum Codec {
    Plain,
    Gzip { inflate: Box<Decompress>, member: Member },
    Zstd { decoder: Box<FrameDecoder>, in_frame: bool },
    End,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Gzip { .. } => "Gzip",
            Self::Zstd { .. } => "Zstd",
            Self::End => "End",
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Member {
    /// Before the first.
    First,
    Inside,
    /// One has ended; another may follow.
    After,
}

/// Looks at the first bytes of a layer's blob and undoes its compression. `media_type` is only compared with what they
/// say: a difference is a remark.
///
/// # Errors
/// Those of reading; [`Kind::Unsupported`](crate::Kind::Unsupported) for another compression.
pub fn decompress<R: Read>(
    reader: R,
    media_type: &str,
    limits: &Limits,
) -> Result<Decompressor<R>> {
    let mut input = Input::new(reader);
    input.at_least(262).map_err(|error| Error::io("cannot read the layer", error))?;
    let compression = of_magic(input.waiting())?;
    let mut remarks = Vec::new();
    if matches!(Media::of(media_type), Media::Layer(said) if said != compression) {
        remarks.push(format!(
            "the layer is {}, and its media type is {media_type}",
            name(compression)
        ));
    }
    let codec = match compression {
        Compression::None => Codec::Plain,
        Compression::Gzip => {
            Codec::Gzip { inflate: Box::new(Decompress::new(false)), member: Member::First }
        }
        Compression::Zstd => {
            let mut decoder = Box::new(FrameDecoder::new());
            decoder.set_max_window_size(limits.zstd_window);
            Codec::Zstd { decoder, in_frame: false }
        }
    };
    Ok(Decompressor { input, codec, given: 0, held: 0, limits: *limits, remarks })
}

impl<R: Read> Decompressor<R> {
    /// What is odd about the stream and does no harm.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Bytes that are in memory for the window, beyond what every layer takes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// What the blob was read from.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.input.reader
    }

    fn next(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let given = match &mut self.codec {
                Codec::Plain => self.input.copy(out)?,
                Codec::Gzip { inflate, member } => {
                    match gzip(&mut self.input, inflate, member, out, &mut self.remarks)? {
                        Some(0) => continue,
                        Some(given) => given,
                        None => 0,
                    }
                }
                Codec::Zstd { decoder, in_frame } => {
                    if !*in_frame {
                        let window = window(self.input.at_least(HEADER)?);
                        self.held = self.held.max(to_usize(window.min(self.limits.zstd_window)));
                    }
                    zstd(&mut self.input, decoder, in_frame, out, &self.limits)?
                }
                Codec::End => return Ok(0),
            };
            if given == 0 {
                self.codec = Codec::End;
                self.input.discard()?;
            }
            return Ok(given);
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let given = self.next(out)?;
        self.given = self.given.saturating_add(u64::try_from(given).unwrap_or(u64::MAX));
        let allowed = self.input.taken.saturating_mul(self.limits.ratio);
        if self.given > allowed.saturating_add(self.limits.ratio_free) {
            return Err(Error::no_space(format!(
                "{} bytes came out of {} compressed ones, more than {} for one: this is a decompression bomb",
                self.given, self.input.taken, self.limits.ratio
            ))
            .hint("--max-ratio allows more")
            .into());
        }
        Ok(given)
    }
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    Error::verification(what.to_string()).into()
}

/// One step of a gzip stream; `None` at its end.
///
/// The CRC of a member is not computed: it is 6 % of the time, and the diff ID covers the same bytes. The length is.
fn gzip<R: Read>(
    input: &mut Input<R>,
    inflate: &mut Decompress,
    member: &mut Member,
    out: &mut [u8],
    remarks: &mut Vec<String>,
) -> io::Result<Option<usize>> {
    if *member != Member::Inside {
        let start = input.at_least(2)?;
        if *member == Member::After && !start.starts_with(&[0x1f, 0x8b]) {
            // Padding of zeroes is in images out there; GNU gzip ignores whatever else follows.
            if start.iter().any(|&byte| byte != 0) {
                remarks.push("after the last gzip member there is something else, ignored".into());
            }
            return Ok(None);
        }
        gzip_header(input)?;
        inflate.reset(false);
        *member = Member::Inside;
    }
    let waiting = input.fill()?;
    let ended = waiting.is_empty();
    let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
    let flush = if ended { FlushDecompress::Finish } else { FlushDecompress::None };
    let status = inflate.decompress(waiting, out, flush);
    let (taken, given) = (inflate.total_in() - before_in, inflate.total_out() - before_out);
    let (taken, given) = (to_usize(taken), to_usize(given));
    input.consume(taken);
    match status {
        Err(error) => Err(broken(format_args!("the layer's gzip stream is corrupt: {error}"))),
        Ok(Status::StreamEnd) => {
            let length = inflate.total_out() & 0xffff_ffff;
            let said = input.trailer()?;
            if u64::from(said) != length {
                return Err(broken("the layer's gzip stream has another length than it says"));
            }
            *member = Member::After;
            Ok(Some(given))
        }
        Ok(_) if taken == 0 && given == 0 => Err(broken(if ended {
            "the layer's gzip stream ends in the middle"
        } else {
            "the layer's gzip stream is corrupt"
        })),
        Ok(_) => Ok(Some(given)),
    }
}

/// The header of a member (RFC 1952 section 2.3).
fn gzip_header<R: Read>(input: &mut Input<R>) -> io::Result<()> {
    const CUT: &str = "the layer's gzip stream ends in the middle of a header";
    let mut fixed = [0; 10];
    input.exactly(&mut fixed, CUT)?;
    let [0x1f, 0x8b, 8, flags, ..] = fixed else {
        return Err(broken("the layer is no gzip stream that deflate made"));
    };
    if flags & 0xe0 != 0 {
        return Err(broken("the layer's gzip stream has flags that RFC 1952 reserves"));
    }
    if flags & 4 != 0 {
        let mut length = [0; 2];
        input.exactly(&mut length, CUT)?;
        input.skip(u64::from(u16::from_le_bytes(length)), CUT)?;
    }
    for flag in [8, 16] {
        let mut byte = [u8::from(flags & flag != 0)];
        while byte != [0] {
            input.exactly(&mut byte, CUT)?;
        }
    }
    if flags & 2 != 0 {
        input.skip(2, CUT)?;
    }
    Ok(())
}

/// Bytes of the longest header of a zstd frame.
const HEADER: usize = 18;

/// The window that the header of a zstd frame asks for, which is all its content where it says so (RFC 8878 section 3.1.1.1); 0 for what is none.
fn window(header: &[u8]) -> u64 {
    let Some((&descriptor, rest)) = header.get(4..).and_then(<[u8]>::split_first) else { return 0 };
    if is_skippable(header) {
        return 0;
    }
    if descriptor & 0x20 == 0 {
        let Some(&byte) = rest.first() else { return 0 };
        let base = 1_u64 << (10 + (byte >> 3));
        return base + base / 8 * u64::from(byte & 7);
    }
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
    let (length, more) = match descriptor >> 6 {
        0 => (1, 0),
        1 => (2, 256),
        2 => (4, 0),
        _ => (8, 0),
    };
    let size = rest.get(dictionary..dictionary + length).unwrap_or_default();
    size.iter().rev().fold(0, |size, &byte| size << 8 | u64::from(byte)) + more
}

/// One step of a zstd stream; 0 at its end.
fn zstd<R: Read>(
    input: &mut Input<R>,
    decoder: &mut FrameDecoder,
    in_frame: &mut bool,
    out: &mut [u8],
    limits: &Limits,
) -> io::Result<usize> {
    const CUT: &str = "the layer's zstd stream ends in the middle of a frame";
    loop {
        if *in_frame {
            let given = decoder.read(out)?;
            if given > 0 {
                return Ok(given);
            }
            if decoder.is_finished() {
                *in_frame = false;
                continue;
            }
            // One at a time, so that the decoder has room for it beside the window: it would double its memory for more.
            let step = BlockDecodingStrategy::UptoBlocks(1);
            decoder.decode_blocks(&mut *input, step).map_err(|error| input.blame(&error))?;
            continue;
        }
        if input.fill()?.is_empty() {
            return Ok(0);
        }
        match decoder.reset(&mut *input) {
            Ok(()) => *in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => input.skip(length.into(), CUT)?,
            Err(FrameDecoderError::WindowSizeTooBig { requested, .. }) => {
                return Err(Error::no_space(format!(
                    "the layer's zstd stream wants a window of {requested} bytes in memory, and {} are the limit",
                    limits.zstd_window
                ))
                .hint("--max-window allows more")
                .into());
            }
            Err(error) => return Err(input.blame(&error)),
        }
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The compressed bytes, in a buffer.
struct Input<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes that came from the reader.
    taken: u64,
    /// What reading failed with: the decoders wrap it, or make something else of it.
    failure: Option<io::Error>,
}

impl<R> std::fmt::Debug for Input<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<R: Read> Input<R> {
    fn new(reader: R) -> Self {
        let buffer = vec![0; INPUT].into_boxed_slice();
        Self { reader, buffer, start: 0, end: 0, taken: 0, failure: None }
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// What waits, read anew when nothing does; empty at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.more()?;
        }
        Ok(self.waiting())
    }

    /// At least `count` bytes, fewer only at the end; `count` is far below the buffer.
    fn at_least(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end - self.start < count {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.more()? == 0 {
                break;
            }
        }
        Ok(self.waiting())
    }

    fn more(&mut self) -> io::Result<usize> {
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            match self.reader.read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += count;
        self.taken = self.taken.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn exactly(&mut self, out: &mut [u8], cut: &str) -> io::Result<()> {
        for byte in out {
            *byte = *self.fill()?.first().ok_or_else(|| broken(cut))?;
            self.consume(1);
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64, cut: &str) -> io::Result<()> {
        while count > 0 {
            let waiting = self.fill()?.len();
            if waiting == 0 {
                return Err(broken(cut));
            }
            let step = waiting.min(to_usize(count));
            self.consume(step);
            count -= u64::try_from(step).unwrap_or(count);
        }
        Ok(())
    }

    /// CRC and length at the end of a gzip member: the length.
    fn trailer(&mut self) -> io::Result<u32> {
        let mut trailer = [0; 8];
        self.exactly(&mut trailer, "the layer's gzip stream ends in the middle of a trailer")?;
        let [_, _, _, _, length @ ..] = trailer;
        Ok(u32::from_le_bytes(length))
    }

    /// Reads to the end: the digest of the blob covers it.
    fn discard(&mut self) -> io::Result<()> {
        while !self.fill()?.is_empty() {
            self.start = self.end;
        }
        Ok(())
    }

    fn copy(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut waiting = self.fill()?;
        let count = waiting.read(out)?;
        self.consume(count);
        Ok(count)
    }

    /// The failure of the reader where there was one, or that of the decoder.
    fn blame(&mut self, error: &FrameDecoderError) -> io::Error {
        self.failure.take().unwrap_or_else(|| {
            broken(format_args!("the layer's zstd stream is corrupt or cut short: {error}"))
        })
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.copy(out).map_err(|error| {
            let copy = io::Error::new(error.kind(), "the layer cannot be read");
            self.failure = Some(error);
            copy
        })
    }
}

#[cfg(test)]
#[path = "decompress_tests.rs"]
mod tests;
