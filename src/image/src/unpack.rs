//! From a source to a tree: every layer verified and decompressed in one thread, held against its diff ID and applied in the other.
//!
//! Content reaches the disk before all of it is known to be right, so what it goes to has no final name until [`stream`] has returned: that is an
//! error if size, digest or diff ID are wrong, whatever was applied.

use std::collections::HashSet;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::descriptor::Descriptor;
use crate::digest::{Digest, Hasher};
use crate::error::{Context as _, Error, Kind, Result};
use crate::event::{Event, Listener, Nobody};
use crate::image::Image;
use crate::interrupt;
use crate::layer::{self, File, Listing, Options, Used};
use crate::limits::Limits;
use crate::manifest::ImageConfig;
use crate::media::Media;
use crate::source::{self, Source};
use crate::store::{Name, Store};

/// Bytes of a piece.
const PIECE: usize = 512 << 10;
/// Pieces on their way: with those in hand 4 MiB.
const PIECES: usize = 6;

/// Applies all layers of an image to the directory `root`, which is empty. `options` says how; its name and what the layers use are set here.
///
/// # Errors
/// Those of the source, of verification and of [`layer::apply`]. Then the tree is to be removed.
pub fn flatten(
    source: &dyn Source,
    image: &Image,
    config: &ImageConfig,
    root: BorrowedFd<'_>,
    options: &Options<'_>,
    listener: &dyn Listener,
) -> Result<()> {
    check_layers(image, config)?;
    if image.manifest.layers.is_empty() {
        // As the first layer does where it has no entry for it.
        nix::sys::stat::fchmod(root, Mode::from_bits_truncate(0o755))
            .map_err(|errno| Error::sys("cannot set the mode of the root directory", errno))?;
    }
    let mut used = Used::default();
    for (number, (descriptor, diff_id)) in
        image.manifest.layers.iter().zip(&config.diff_ids).enumerate()
    {
        let options = Options {
            name: called(number, descriptor),
            used,
            first: number == 0,
            ..options.clone()
        };
        let one = One {
            source,
            name: &options.name,
            descriptor,
            diff_id,
            limits: &options.limits,
            used: used.bytes,
            listener,
        };
        let report = stream(&one, |tar, held| {
            layer::apply(tar, root, &Options { held: Some(held), ..options.clone() })
        })?;
        used = report.used;
        report.warnings.iter().for_each(|warning| listener.event(Event::Warning(warning)));
        listener.event(Event::LayerApplied { descriptor, diff_id, cached: false });
    }
    Ok(())
}

/// Unpacks the layers of an image into the store, those that are not there, in the form that overlay takes. Returns where they are, the lowest first.
///
/// # Errors
/// As [`flatten`], and those of the store. Layers before the one that failed stay: they are right.
pub fn lowers(
    source: &dyn Source,
    image: &Image,
    config: &ImageConfig,
    store: &Store,
    options: &Options<'_>,
    listener: &dyn Listener,
) -> Result<Vec<(Digest, PathBuf)>> {
    check_layers(image, config)?;
    let held = store.hold()?;
    let mut used = Used::default();
    let mut found: Vec<(Digest, PathBuf)> = Vec::new();
    let mut names = Name::of(&config.diff_ids);
    if let Some(ids) = crate::bundle::userns::own_ids() {
        names.iter_mut().for_each(|name| *name = name.with_ids(&ids));
    }
    let layers = image.manifest.layers.iter().zip(&config.diff_ids);
    for (number, ((descriptor, diff_id), name)) in layers.zip(&names).enumerate() {
        let unpacked = held.unpack_layer(name, |root| {
            // Topmost first.
            let below =
                found.iter().rev().map(|(_, path)| open(path)).collect::<Result<Vec<OwnedFd>>>()?;
            let options = Options {
                name: called(number, descriptor),
                used,
                first: true,
                lowers: &below,
                ..options.clone()
            };
            let one = One {
                source,
                name: &options.name,
                descriptor,
                diff_id,
                limits: &options.limits,
                used: used.bytes,
                listener,
            };
            let report = stream(&one, |tar, held| {
                layer::apply(tar, root.as_fd(), &Options { held: Some(held), ..options.clone() })
            })?;
            Ok((report.depends_on_lower, report))
        })?;
        if let Some(report) = &unpacked.done {
            used = report.used;
            report.warnings.iter().for_each(|warning| listener.event(Event::Warning(warning)));
        }
        listener.event(Event::LayerApplied {
            descriptor,
            diff_id,
            cached: unpacked.done.is_none(),
        });
        let path = store.layer_path(&unpacked.key);
        found.push((unpacked.key, path));
    }
    Ok(found)
}

/// Lists the files of an image: all of it is read and verified, and nothing written.
///
/// # Errors
/// As [`flatten`].
pub fn list(
    source: &dyn Source,
    image: &Image,
    config: &ImageConfig,
    limits: &Limits,
    listener: &dyn Listener,
) -> Result<Listing> {
    check_layers(image, config)?;
    let mut listing = Listing::default();
    let mut used = Used::default();
    let layers = image.manifest.layers.iter().zip(&config.diff_ids);
    for (number, (descriptor, diff_id)) in layers.enumerate() {
        let name = &called(number, descriptor);
        let one = One { source, name, descriptor, diff_id, limits, used: used.bytes, listener };
        used = stream(&one, |tar, held| listing.add(tar, limits, used, held).context(|| name))?;
    }
    Ok(listing)
}

/// Writes the content of a file that [`list`] has found in the same image. The layer it is in is read to its end: who gets an error has got something
/// wrong.
///
/// # Errors
/// As [`list`], and those of writing.
pub fn write_file(
    source: &dyn Source,
    image: &Image,
    config: &ImageConfig,
    limits: &Limits,
    file: &File,
    out: &mut dyn Write,
) -> Result<()> {
    let Some(number) = file.content_layer() else { return Ok(()) };
    let layer = image.manifest.layers.get(number).zip(config.diff_ids.get(number));
    let Some((descriptor, diff_id)) = layer else { return Ok(()) };
    let (name, listener) = (&called(number, descriptor), &Nobody);
    let one = One { source, name, descriptor, diff_id, limits, used: 0, listener };
    stream(&one, |tar, _| file.write(tar, limits, out).context(|| name))
}

/// Reads all layers of an image and holds them against their digests and diff IDs.
///
/// # Errors
/// Those of the source and of verification.
pub fn verify(
    source: &dyn Source,
    image: &Image,
    config: &ImageConfig,
    limits: &Limits,
    listener: &dyn Listener,
) -> Result<()> {
    check_layers(image, config)?;
    let mut seen = HashSet::new();
    let layers = image.manifest.layers.iter().zip(&config.diff_ids);
    for (number, (descriptor, diff_id)) in layers.enumerate() {
        // An image may have one twice.
        if !seen.insert((&descriptor.digest, diff_id)) {
            continue;
        }
        listener.event(Event::BlobStart { descriptor, offset: 0 });
        let name = &called(number, descriptor);
        let one = One { source, name, descriptor, diff_id, limits, used: 0, listener };
        stream(&one, |_, _| Ok(()))?;
        listener.event(Event::BlobDone { descriptor, cached: false });
    }
    Ok(())
}

fn open(path: &std::path::Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| {
        Error::sys(format_args!("cannot open the layer {}", path.display()), errno)
    })
}

/// A layer, as messages name it.
pub(crate) fn called(number: usize, descriptor: &Descriptor) -> String {
    format!("layer {} ({})", number + 1, descriptor.digest.short())
}

/// Refuses an image with a layer that cannot be applied before anything is read.
fn check_layers(image: &Image, config: &ImageConfig) -> Result<()> {
    let (layers, diff_ids) = (image.manifest.layers.len(), config.diff_ids.len());
    if layers != diff_ids {
        return Err(Error::verification(format!(
            "the image has {layers} layers and {diff_ids} diff IDs"
        )));
    }
    image.manifest.layers.iter().enumerate().try_for_each(|(number, layer)| {
        Media::must_be_layer(&layer.media_type).map(drop).context(|| called(number, layer))
    })
}

/// One layer that is to be read.
#[derive(Clone, Copy)]
pub struct One<'a> {
    /// Where it is.
    pub source: &'a dyn Source,
    /// What messages call it.
    pub name: &'a str,
    /// What points at it.
    pub descriptor: &'a Descriptor,
    /// Its uncompressed digest.
    pub diff_id: &'a Digest,
    /// How much is too much.
    pub limits: &'a Limits,
    /// Uncompressed bytes of the layers before.
    pub used: u64,
    /// Who watches.
    pub listener: &'a dyn Listener,
}

impl std::fmt::Debug for One<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "One({})", self.descriptor.digest)
    }
}

/// Gives `apply` the uncompressed bytes of a layer, and how much memory their decompression holds, and holds them against its digests.
///
/// # Errors
/// Those of the source; [`Kind::Verification`] for wrong size, digest or diff ID; [`Kind::NoSpace`] when it is too large; those of `apply`.
pub fn stream<T>(
    one: &One<'_>,
    apply: impl FnOnce(&mut dyn BufRead, &AtomicUsize) -> Result<T>,
) -> Result<T> {
    let held = AtomicUsize::new(0);
    let hasher = one.diff_id.hasher().context(|| one.name)?;
    let (full, pieces) = sync_channel::<Vec<u8>>(PIECES);
    let (empty, used) = channel::<Vec<u8>>();
    let (applied, produced) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(one, full, used, &held));
        let mut reader = Pieces { pieces, empty, current: Vec::new(), position: 0, hasher };
        let applied = apply(&mut reader, &held).and_then(|done| {
            // What follows the end of the archive belongs to the digests.
            io::copy(&mut reader, &mut io::sink())
                .map_err(|error| Error::io("cannot read it", error))?;
            Ok(done)
        });
        // Who waits for a place for the next piece, or for an empty one, hears that nobody takes it any more.
        let Pieces { hasher, pieces, empty, .. } = reader;
        drop((pieces, empty));
        (applied.map(|done| (done, hasher.finish())), producer.join())
    });
    let produced = produced.unwrap_or_else(|_| {
        Err(Error::new(Kind::Generic, "the thread that reads the layer has panicked"))
    });
    // Of what is too large, who applies it knows the entry.
    let applied = match (&produced, applied) {
        (Err(limit), Err(applied)) if [limit.kind(), applied.kind()] == [Kind::NoSpace; 2] => {
            return Err(applied);
        }
        (_, applied) => applied,
    };
    // Content that is not what it should be explains what could not be applied.
    produced.context(|| one.name)?;
    let (done, found) = applied?;
    if found != *one.diff_id {
        let diff_id = one.diff_id;
        return Err(Error::verification(format!(
            "its uncompressed content has the digest {found}, and its diff ID is {diff_id}"
        ))
        .context(one.name));
    }
    Ok(done)
}

/// Reads, verifies and decompresses; stops when nobody takes it any more.
#[allow(
    clippy::needless_pass_by_value,
    reason = "who waits at the other ends hears that this one is gone"
)]
fn produce(
    one: &One<'_>,
    full: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
    held: &AtomicUsize,
) -> Result<()> {
    let One { source, name, descriptor, limits, used: before, listener, .. } = *one;
    let allowed = limits.unpacked.saturating_sub(before);
    let failed = |error| Error::io("cannot read it", error);
    let verified = source::layer(source, descriptor)?;
    let watched = Watched { inner: verified, descriptor, listener };
    let mut reader = crate::layer::decompress(watched, &descriptor.media_type, limits)?;
    let mut total = 0u64;
    loop {
        interrupt::check().map_err(failed)?;
        let mut piece = used.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        piece.resize(PIECE, 0);
        let filled = fill(&mut reader, &mut piece).map_err(failed)?;
        if filled == 0 {
            break;
        }
        held.store(reader.held(), Ordering::Relaxed);
        piece.truncate(filled);
        total += filled as u64;
        if total > allowed {
            // For who applies it to say where.
            let _unread = full.send(piece);
            return Err(Error::no_space(format!(
                "the image has more than {} uncompressed bytes",
                limits.unpacked
            ))
            .hint("--max-size allows more"));
        }
        if full.send(piece).is_err() {
            return Ok(());
        }
    }
    for remark in reader.remarks() {
        listener.event(Event::Warning(&format!("{name}: {remark}")));
    }
    Ok(())
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Says how far a blob has been read.
struct Watched<'a, R> {
    inner: R,
    descriptor: &'a Descriptor,
    listener: &'a dyn Listener,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.listener
            .event(Event::BlobProgress { descriptor: self.descriptor, bytes: count as u64 });
        Ok(count)
    }
}

/// The pieces as one stream, hashed as they come: here and not where they are made, which takes longer than applying them.
struct Pieces {
    pieces: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    hasher: Hasher,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            interrupt::check()?;
            if let Ok(next) = self.pieces.recv() {
                self.hasher.update(&next);
                let done = std::mem::replace(&mut self.current, next);
                self.position = 0;
                if done.capacity() > 0 {
                    // Nobody to take it back is nobody's loss.
                    let _unused = self.empty.send(done);
                }
            }
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position = self.position.saturating_add(count).min(self.current.len());
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut waiting = self.fill_buf()?;
        let count = waiting.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Brought;

    struct Bytes(Vec<u8>);

    impl Source for Bytes {
        fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
            Err(Error::not_found("nothing"))
        }

        fn manifest(&self, _: &Descriptor) -> Result<Vec<u8>> {
            Err(Error::not_found("nothing"))
        }

        fn blob(&self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new(self.0.as_slice()))
        }
    }

    #[test]
    fn who_stops_applying_stops_the_reader() {
        // More than the pieces that may wait.
        let content = vec![b'x'; (PIECES + 8) * PIECE];
        let descriptor = Descriptor::of("application/vnd.oci.image.layer.v1.tar", &content);
        let id = Digest::of(&content);
        let source = Bytes(content);
        let limits = Limits::default();
        let one = layer(&source, &descriptor, &id, &limits);
        let result = stream(&one, |_, _| Err::<(), _>(Error::no_space("full")));
        assert_eq!(result.unwrap_err().kind(), Kind::NoSpace);
    }

    fn run(
        content: &[u8],
        said: &[u8],
        diff_id: &Digest,
        limits: &Limits,
        take: u64,
    ) -> Result<usize> {
        let descriptor = Descriptor::of("application/vnd.oci.image.layer.v1.tar", said);
        let source = Bytes(content.to_vec());
        // Whether its digest is looked at or not, its diff ID and its size are.
        let brought = Brought::new(Bytes(content.to_vec()), [descriptor.digest.clone()]);
        let again = stream_of(&brought, &descriptor, diff_id, limits, take);
        let first = stream_of(&source, &descriptor, diff_id, limits, take);
        assert_eq!(first.as_ref().map_err(Error::kind), again.as_ref().map_err(Error::kind));
        first
    }

    fn layer<'a>(
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        diff_id: &'a Digest,
        limits: &'a Limits,
    ) -> One<'a> {
        One { source, name: "layer 1", descriptor, diff_id, limits, used: 0, listener: &Nobody }
    }

    fn stream_of(
        source: &dyn Source,
        descriptor: &Descriptor,
        diff_id: &Digest,
        limits: &Limits,
        take: u64,
    ) -> Result<usize> {
        stream(&layer(source, descriptor, diff_id, limits), |tar, _| {
            let mut bytes = Vec::new();
            tar.take(take)
                .read_to_end(&mut bytes)
                .map_err(|error| Error::io("cannot read", error))?;
            Ok(bytes.len())
        })
    }

    #[test]
    fn only_what_is_right_to_its_end_succeeds() {
        let content = vec![b'x'; 5 << 20];
        let id = Digest::of(&content);
        let limits = Limits::default();
        let all = u64::MAX;
        assert_eq!(run(&content, &content, &id, &limits, all).unwrap(), content.len());
        // An applier that stops early does not hide what follows.
        assert_eq!(run(&content, &content, &id, &limits, 10).unwrap(), 10);
        let mut changed = content.clone();
        *changed.last_mut().unwrap() = b'y';
        for take in [all, 10] {
            assert_eq!(
                run(&changed, &content, &id, &limits, take).unwrap_err().kind(),
                Kind::Verification
            );
            assert_eq!(
                run(&content[1..], &content, &id, &limits, take).unwrap_err().kind(),
                Kind::Verification
            );
            let other = Digest::of(b"other");
            assert_eq!(
                run(&content, &content, &other, &limits, take).unwrap_err().kind(),
                Kind::Verification
            );
            let small = Limits { unpacked: 1 << 20, ..limits };
            assert_eq!(
                run(&content, &content, &id, &small, take).unwrap_err().kind(),
                Kind::NoSpace
            );
        }
    }
}
