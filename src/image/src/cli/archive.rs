//! Images in one file, for `copy`: an OCI layout in a tar archive, and what `docker save` writes.

use std::fs::File;
use std::io::{BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use super::Context;
use crate::descriptor::{Descriptor, REF_NAME};
use crate::digest::Digest;
use crate::draft;
use crate::error::{Context as _, Error, Result};
use crate::event::{Event, Listener};
use crate::image::Image;
use crate::interrupt;
use crate::media::OCI_INDEX;
use crate::pull::{Plan, Platforms};
use crate::reference::Reference;
use crate::source::{self, Select, Source};
use crate::unpack::{One, called, stream};

const BLOCK: usize = 512;

/// A tar archive that is being written (POSIX ustar; a name or size that does not fit stands in a pax header before it).
struct Tar<'a> {
    file: &'a File,
    /// Bytes that are written.
    at: u64,
}

impl Tar<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        interrupt::check().context(|| "cannot write the archive")?;
        self.file.write_all_at(bytes, self.at).context(|| "cannot write the archive")?;
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// To the end of a block.
    fn pad(&mut self) -> Result<()> {
        let over = usize::try_from(self.at % BLOCK as u64).unwrap_or(0);
        match over {
            0 => Ok(()),
            over => self.write([0; BLOCK].get(over..).unwrap_or_default()),
        }
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.write(&header(name, b'5', 0))
    }

    fn document(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.copy(name, content.len() as u64, &mut &*content)
    }

    /// A file of which the size is known: `content` has it, or fails.
    fn copy(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        self.write(&headers(name, size))?;
        let start = self.at;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = content.read(&mut buffer).context(|| format!("cannot read {name}"))?;
            if count == 0 {
                break;
            }
            self.write(buffer.get(..count).unwrap_or_default())?;
        }
        if self.at - start != size {
            return Err(Error::verification(format!(
                "{name} has not the {size} bytes it is said to have"
            )));
        }
        self.pad()
    }

    /// A file of which the size is known at its end.
    fn stream(&mut self, name: &str, content: &mut dyn BufRead) -> Result<()> {
        // A pax header is there whatever the size, so that it fits.
        let start = self.at;
        self.write(&long_headers(name, 0))?;
        let begin = self.at;
        loop {
            let piece = content.fill_buf().context(|| format!("cannot read {name}"))?;
            if piece.is_empty() {
                break;
            }
            let count = piece.len();
            self.write(piece)?;
            content.consume(count);
        }
        let size = self.at - begin;
        self.file
            .write_all_at(&long_headers(name, size), start)
            .context(|| "cannot write the archive")?;
        self.pad()
    }

    fn end(&mut self) -> Result<()> {
        self.write(&[0; 2 * BLOCK])
    }
}

/// The most that eleven octal digits say.
const MOST: u64 = 0o777_7777_7777;

fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, name.as_bytes().get(..name.len().min(100)).unwrap_or_default());
    put(100, if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", size.min(MOST)).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *to = from;
    }
    block
}

/// The header of a file, with a pax header where it needs one.
fn headers(name: &str, size: u64) -> Vec<u8> {
    if name.len() <= 100 && size <= MOST {
        return header(name, b'0', size).to_vec();
    }
    long_headers(name, size)
}

/// A pax header with name and size, of the same length whatever the size, and the header.
fn long_headers(name: &str, size: u64) -> Vec<u8> {
    let records = format!("{}{}", record("path", name), record("size", &format!("{size:020}")));
    let mut bytes = header("pax", b'x', records.len() as u64).to_vec();
    bytes.extend_from_slice(records.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes.extend_from_slice(&header(name, b'0', size));
    bytes
}

/// A record of a pax header: it begins with its own length.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm_name(), digest.hex())
}

/// As skopeo's oci-archive: a layout of this image alone. Returns the digest of what the tag stands for.
///
/// # Errors
/// Those of the source, of verification and of writing; [`Kind::Usage`](crate::Kind::Usage) where something is there already.
pub(super) fn oci(
    source: &dyn Source,
    path: &Path,
    select: &Select,
    platforms: &Platforms,
    context: &Context,
) -> Result<Digest> {
    let plan = Plan::of(source, platforms, &context.limits)?;
    let root = plan.documents.first().map(|(root, _)| root.clone());
    let root = root.ok_or_else(|| Error::not_found("there is nothing to copy"))?;
    let mut entry = Descriptor::new(root.media_type.clone(), root.digest.clone(), root.size);
    if let Select::Name(name) = select {
        let _none = entry.annotations.insert(REF_NAME.into(), name.clone());
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    context
        .progress
        .event(Event::Resolved { name: &path.display().to_string(), digest: &root.digest });
    draft::file(path, |file| {
        let mut tar = Tar { file, at: 0 };
        tar.document("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        tar.document("index.json", index.to_string().as_bytes())?;
        tar.directory("blobs/")?;
        let all = plan.documents.iter().map(|(descriptor, _)| descriptor).chain(&plan.blobs);
        let mut algorithms: Vec<String> =
            all.map(|descriptor| descriptor.digest.algorithm_name().to_owned()).collect();
        algorithms.sort();
        algorithms.dedup();
        for algorithm in algorithms {
            tar.directory(&format!("blobs/{algorithm}/"))?;
        }
        for (descriptor, bytes) in &plan.documents {
            tar.document(&blob_name(&descriptor.digest), bytes)?;
        }
        for descriptor in &plan.blobs {
            context.progress.event(Event::BlobStart { descriptor, offset: 0 });
            let mut content = source::blob(source, descriptor)?;
            tar.copy(&blob_name(&descriptor.digest), descriptor.size, &mut content)?;
            context.progress.event(Event::BlobDone { descriptor, cached: false });
        }
        tar.end()
    })?;
    Ok(root.digest)
}

/// As `docker save` before version 25: the configuration, and the layers without compression, which are held against their diff IDs.
///
/// # Errors
/// As [`oci`]; [`Kind::Unsupported`](crate::Kind::Unsupported) for what is no image.
pub(super) fn docker(
    source: &dyn Source,
    path: &Path,
    select: &Select,
    platforms: &Platforms,
    context: &Context,
) -> Result<Digest> {
    let Platforms::One(platform) = platforms else {
        return Err(Error::usage("docker-archive: holds one image: --platform chooses it"));
    };
    let tags: Vec<String> = match select {
        Select::Name(name) => {
            if Reference::parse(name)?.digest().is_some() {
                return Err(Error::usage("a destination has no digest: what is copied decides it"));
            }
            let last = name.rsplit('/').next().unwrap_or(name);
            let tag = if last.contains(':') { "" } else { ":latest" };
            vec![format!("{name}{tag}")]
        }
        _ => Vec::new(),
    };
    let limits = &context.limits;
    let image = Image::find(source, platform.as_ref(), limits)?;
    image.manifest.must_be_image()?;
    let (bytes, config) = image.config(source, limits)?;
    let config_name = format!("{}.json", image.manifest.config.digest.hex());
    let layer_name = |id: &Digest| format!("{}.tar", id.hex());
    let layers: Vec<Value> = config.diff_ids.iter().map(|id| layer_name(id).into()).collect();
    let list = json!([{"Config": config_name, "RepoTags": tags, "Layers": layers}]);
    context.progress.event(Event::Resolved {
        name: &path.display().to_string(),
        digest: &image.descriptor.digest,
    });
    draft::file(path, |file| {
        let mut tar = Tar { file, at: 0 };
        let mut written = std::collections::HashSet::new();
        let mut used = 0;
        for (number, (descriptor, diff_id)) in
            image.manifest.layers.iter().zip(&config.diff_ids).enumerate()
        {
            if !written.insert(diff_id) {
                continue;
            }
            let (name, listener) = (&called(number, descriptor), &context.progress);
            let one = One { source, name, descriptor, diff_id, limits, used, listener };
            let before = tar.at;
            listener.event(Event::BlobStart { descriptor, offset: 0 });
            stream(&one, |content, _| tar.stream(&layer_name(diff_id), content).context(|| name))?;
            listener.event(Event::BlobDone { descriptor, cached: false });
            used += tar.at - before;
        }
        tar.document(&config_name, &bytes)?;
        tar.document("manifest.json", list.to_string().as_bytes())?;
        tar.end()
    })?;
    Ok(image.descriptor.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_know_their_length() {
        assert_eq!(record("path", "x"), "9 path=x\n");
        for length in 80..=100 {
            let record = record("path", &"n".repeat(length));
            assert_eq!(record.split_once(' ').unwrap().0, record.len().to_string());
        }
        assert_eq!(long_headers("n", 0).len(), long_headers("n", u64::MAX).len());
        assert_eq!(headers("n", 5).len(), BLOCK);
        assert!(headers("n", MOST + 1).len() > BLOCK && headers(&"n".repeat(101), 1).len() > BLOCK);
    }
}
