//! `docker save` before version 25: no digests but those of the uncompressed layers, in the configuration.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Source;
use super::archive::{Archive, clean};
use super::files::Files;
use super::layout::Select;
use crate::descriptor::{Descriptor, null_is_default};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::document;
use crate::error::{Context, Error, Result};
use crate::limits::Limits;
use crate::media::{DOCKER_CONFIG, DOCKER_MANIFEST};
use crate::reference::Reference;

const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// An image of an archive. Its manifest is made here: the archive has none.
#[derive(Debug)]
pub struct DockerArchive {
    archive: Archive,
    manifest: Vec<u8>,
    members: HashMap<Digest, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<String>,
}

impl DockerArchive {
    /// Reads `manifest.json` and the configuration of the image that is meant.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification) for what is not such an archive; [`Kind::NotFound`](crate::Kind::NotFound) and
    /// [`Kind::Usage`](crate::Kind::Usage) when the image is not there or not the only one.
    pub fn new(archive: Archive, select: &Select, limits: &Limits) -> Result<Self> {
        let place = archive.place();
        let bytes = archive.small("manifest.json", limits.document)?.ok_or_else(|| {
            Error::not_found(format!("{place} is not from docker save: it has no manifest.json"))
        })?;
        // An array: the checks are for objects.
        let wrapped = [b"{\"manifest.json\":".as_slice(), &bytes, b"}"].concat();
        let mut value = document::parse(&format!("manifest.json in {place}"), &wrapped)?;
        let entries: Vec<Entry> = crate::manifest::typed(
            &format!("manifest.json in {place}"),
            value.get_mut("manifest.json").map(Value::take).unwrap_or_default(),
        )?;
        let entry = choose(&entries, select, &place)?;
        let in_archive = |name: &str| {
            clean("", name).ok_or_else(|| {
                Error::verification(format!(
                    "manifest.json in {place} names {name:?}, which leads out of it"
                ))
            })
        };
        let config_name = in_archive(&entry.config)?;
        let config_bytes = archive.small(&config_name, limits.document)?.ok_or_else(|| {
            Error::verification(format!(
                "{place} has no {config_name:?}, which its manifest.json names"
            ))
        })?;
        let config = Descriptor::of(DOCKER_CONFIG, &config_bytes);
        check_name(&config_name, &config.digest, &place)?;
        let diff_ids = diff_ids(&config_bytes, entry.layers.len())?;
        if entry.layers.len() > limits.layers {
            let count = entry.layers.len();
            return Err(Error::no_space(format!(
                "the image has {count} layers, and {} are the limit",
                limits.layers
            )));
        }
        let mut members = HashMap::from([(config.digest.clone(), config_name)]);
        let mut layers = Vec::new();
        for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
            let name = in_archive(name)?;
            let layer = describe(&archive, &name, diff_id)?;
            members.insert(layer.digest.clone(), name);
            layers.push(layer);
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers});
        Ok(Self { archive, manifest: manifest.to_string().into_bytes(), members })
    }
}

/// The entry that is meant.
fn choose<'a>(entries: &'a [Entry], select: &Select, place: &str) -> Result<&'a Entry> {
    let names = || {
        let mut names: Vec<&str> =
            entries.iter().flat_map(|e| &e.repo_tags).map(String::as_str).collect();
        names.truncate(20);
        names.join(", ")
    };
    match (select, entries) {
        (_, []) => Err(Error::not_found(format!("{place} has no images"))),
        (Select::Only, [only]) => Ok(only),
        (Select::Only, _) => Err(Error::usage(format!("{place} has several images: {}", names()))
            .hint("put :NAME:TAG after the path")),
        (Select::Name(name), _) => {
            let wanted = Reference::parse(name).ok();
            let is_it = |tag: &String| {
                tag == name
                    || (wanted.is_some() && Reference::parse(tag).ok() == wanted)
                    || tag.rsplit_once(':').is_some_and(|(_, short)| short == name)
            };
            entries.iter().find(|entry| entry.repo_tags.iter().any(is_it)).ok_or_else(|| {
                Error::not_found(format!(
                    "{place}:{name}: there is no such image; there are {}",
                    names()
                ))
            })
        }
        (Select::Digest(_), _) => Err(Error::usage(format!(
            "{place} knows no digests of images: put :NAME:TAG after the path"
        ))),
    }
}

/// Docker calls the configuration after its digest.
fn check_name(name: &str, digest: &Digest, place: &str) -> Result<()> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let stem = base.strip_suffix(".json").unwrap_or(base);
    let is_digest = Digest::parse(&format!("sha256:{stem}")).is_ok();
    if is_digest && stem != digest.hex() {
        return Err(Error::verification(format!("{name} in {place} has the digest {digest}")));
    }
    Ok(())
}

fn diff_ids(config: &[u8], layers: usize) -> Result<Vec<Digest>> {
    let value = document::parse_config(config)?;
    let ids = value.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).cloned();
    let ids: Vec<Digest> = match ids {
        None | Some(Value::Null) => Vec::new(),
        Some(ids) => crate::manifest::typed("rootfs.diff_ids of the image's configuration", ids)?,
    };
    if ids.len() == layers {
        return Ok(ids);
    }
    let count = ids.len();
    Err(Error::verification(format!(
        "manifest.json has {layers} layers, and the image's configuration rootfs.diff_ids for {count}"
    )))
}

/// A layer: without compression its digest is the diff ID; with it the file is read for one.
fn describe(archive: &Archive, name: &str, diff_id: Digest) -> Result<Descriptor> {
    let size = archive.size(name)?.ok_or_else(|| {
        Error::verification(format!(
            "{} has no {name:?}, which its manifest.json names",
            archive.place()
        ))
    })?;
    let what = || format!("cannot read {name} in {}", archive.place());
    let mut reader = archive.open(name, 0)?;
    let mut buffer = vec![0; 256 << 10];
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut first = true;
    loop {
        let count = reader.read(&mut buffer).context(what)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        let plain = first
            && !bytes.starts_with(&[0x1f, 0x8b])
            && !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        if plain {
            return Ok(Descriptor::new(LAYER, diff_id, size));
        }
        if count == 0 {
            return Ok(Descriptor::new(LAYER_GZIP, hasher.finish(), size));
        }
        first = false;
        hasher.update(bytes);
    }
}

impl Source for DockerArchive {
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
        Ok((Descriptor::of(DOCKER_MANIFEST, &self.manifest), self.manifest.clone()))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let (digest, place) = (&descriptor.digest, self.archive.place());
        Err(Error::not_found(format!("there is no manifest {digest} in {place}")))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (digest, place) = (&descriptor.digest, self.archive.place());
        let name = self
            .members
            .get(digest)
            .ok_or_else(|| Error::not_found(format!("the blob {digest} is not in {place}")))?;
        self.archive.open(name, offset)
    }
}
