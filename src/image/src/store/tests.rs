//! The store when things go wrong.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Name, Store};
use crate::event::Nobody;
use crate::layer::remove_tree;
use crate::source::{Select, Source};
use crate::{Descriptor, Digest, Error, Kind, Limits, Result};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-store-{}-{name}", std::process::id()));
        Self(path)
    }

    fn store(&self) -> Store {
        Store::open(&self.0, Limits::default()).unwrap()
    }

    fn part(&self, descriptor: &Descriptor) -> PathBuf {
        self.0.join(format!(".skep/ingest/sha256-{}", descriptor.digest.hex()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parent = std::fs::File::open(self.0.parent().unwrap()).unwrap();
        remove_tree(parent.as_fd(), self.0.file_name().unwrap()).unwrap();
    }
}

/// One blob, which breaks off after so many bytes. Counts how often it is asked for.
struct Blob {
    content: Vec<u8>,
    until: usize,
    asked: AtomicUsize,
    offsets: AtomicUsize,
}

impl Blob {
    fn new(content: &[u8]) -> Self {
        Self {
            content: content.to_vec(),
            until: usize::MAX,
            asked: AtomicUsize::new(0),
            offsets: AtomicUsize::new(0),
        }
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(Error::new(Kind::Network, "the connection is gone").into())
    }
}

impl Source for Blob {
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
        Err(Error::not_found("nothing"))
    }

    fn manifest(&self, _: &Descriptor) -> Result<Vec<u8>> {
        Err(Error::not_found("nothing"))
    }

    fn blob(&self, _: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let offset = usize::try_from(offset).unwrap();
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.offsets.fetch_add(offset, Ordering::SeqCst);
        if self.until < self.content.len() {
            return Ok(Box::new(self.content[offset..self.until].chain(Broken)));
        }
        Ok(Box::new(&self.content[offset..]))
    }
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let place = Place::new("resume");
    let store = place.store();
    let descriptor = Descriptor::of("x", b"hello world");
    let mut blob = Blob::new(b"hello world");
    blob.until = 5;
    let error = store.hold().unwrap().fetch(&blob, &descriptor, &Nobody).unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    assert!(!store.has(&descriptor));
    assert_eq!(std::fs::read(place.part(&descriptor)).unwrap(), b"hello");
    blob.until = usize::MAX;
    let fetched = store.hold().unwrap().fetch(&blob, &descriptor, &Nobody).unwrap();
    assert_eq!((fetched.bytes, fetched.cached), (6, false));
    assert_eq!(blob.offsets.load(Ordering::SeqCst), 5);
    assert!(store.has(&descriptor));
    assert!(std::fs::symlink_metadata(place.part(&descriptor)).is_err());
    assert!(store.hold().unwrap().fetch(&blob, &descriptor, &Nobody).unwrap().cached);
}

#[test]
fn what_a_kill_left_is_repaired() {
    let place = Place::new("killed");
    let descriptor = Descriptor::of("x", b"hello world");
    let blob = Blob::new(b"hello world");
    // Whole, and without its name yet; too long; wrong; wrong and whole.
    for (left, asked) in [
        (b"hello world".as_slice(), 0),
        (b"hello world and more", 1),
        (b"hexlo", 2),
        (b"hexlo world", 1),
    ] {
        let store = place.store();
        blob.asked.store(0, Ordering::SeqCst);
        std::fs::write(place.part(&descriptor), left).unwrap();
        store.hold().unwrap().fetch(&blob, &descriptor, &Nobody).unwrap();
        assert_eq!(blob.asked.load(Ordering::SeqCst), asked, "{left:?}");
        assert!(store.verify(false).unwrap().problems.is_empty());
        store.gc(false).unwrap();
        assert!(!store.has(&descriptor));
    }
}

#[test]
fn wrong_content_leaves_nothing() {
    let place = Place::new("wrong");
    let store = place.store();
    let descriptor = Descriptor::of("x", b"hello");
    for content in [b"hellO".as_slice(), b"hell", b"hello!", b""] {
        let error =
            store.hold().unwrap().fetch(&Blob::new(content), &descriptor, &Nobody).unwrap_err();
        assert_eq!(error.kind(), Kind::Verification, "{content:?}");
        assert!(std::fs::symlink_metadata(place.part(&descriptor)).is_err());
        assert!(!store.has(&descriptor));
    }
    assert!(store.hold().unwrap().put(&descriptor, b"hellO").is_err());
}

#[test]
fn who_has_not_brought_a_blob_has_not_verified_it() {
    let place = Place::new("brought");
    let store = place.store();
    let blob = Descriptor::of("x", b"some content");
    let held = store.hold().unwrap();
    let pulled = |fetched| crate::pull::Pulled {
        root: blob.clone(),
        image: None,
        blobs: vec![(blob.clone(), fetched)],
    };
    let first = held.fetch(&Blob::new(b"some content"), &blob, &Nobody).unwrap();
    assert!(pulled(first).brought().eq([blob.digest.clone()]));
    let second = held.fetch(&Blob::new(b"some content"), &blob, &Nobody).unwrap();
    assert_eq!(pulled(second).brought().count(), 0);
}

#[test]
fn two_at_once_share_a_download() {
    let place = Place::new("shared");
    let descriptor = Descriptor::of("x", &[7; 1 << 20]);
    let blob = Blob::new(&[7; 1 << 20]);
    std::thread::scope(|scope| {
        let pull = || place.store().hold().unwrap().fetch(&blob, &descriptor, &Nobody).unwrap();
        let all: Vec<_> = (0..4).map(|_| scope.spawn(pull)).collect();
        let fetched: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(fetched.iter().filter(|fetched| !fetched.cached).count(), 1);
    });
    assert_eq!(blob.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn many_at_once_make_a_store() {
    for _ in 0..100 {
        let place = Place::new("made");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| place.store());
            }
        });
    }
}

fn image(store: &Store) -> (Descriptor, Digest) {
    let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"not read");
    store.hold().unwrap().put(&layer, b"not read").unwrap();
    let diff_id = Digest::of(b"diff");
    let config =
        format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
    let config_descriptor = Descriptor::of(crate::media::OCI_CONFIG, config.as_bytes());
    store.hold().unwrap().put(&config_descriptor, config.as_bytes()).unwrap();
    let manifest =
        serde_json::json!({"schemaVersion": 2, "config": config_descriptor, "layers": [layer]})
            .to_string();
    let descriptor = Descriptor::of(crate::media::OCI_MANIFEST, manifest.as_bytes());
    store.hold().unwrap().put(&descriptor, manifest.as_bytes()).unwrap();
    (descriptor, diff_id)
}

fn name(diff_id: &Digest) -> Name {
    Name::of(std::slice::from_ref(diff_id)).remove(0)
}

#[test]
fn a_collection_keeps_what_is_needed() {
    let place = Place::new("gc");
    let store = place.store();
    let (descriptor, diff_id) = image(&store);
    store.hold().unwrap().tag("app:1", &descriptor).unwrap();
    store.hold().unwrap().tag("app:1", &descriptor).unwrap();
    assert_eq!(store.entries().unwrap().len(), 1);
    let other = Digest::of(b"other");
    for id in [&diff_id, &other] {
        let name = name(id);
        assert!(
            store.hold().unwrap().unpack_layer(&name, |_| Ok((false, ()))).unwrap().done.is_some()
        );
        // One that depends on what is below it is the image's too.
        let stacked = Name { diff_id: Digest::of(name.stacked.hex().as_bytes()), ..name };
        assert_eq!(
            store.hold().unwrap().unpack_layer(&stacked, |_| Ok((true, ()))).unwrap().key,
            stacked.stacked
        );
    }
    std::fs::create_dir(place.0.join(".skep/tmp/left")).unwrap();
    // Said, and not done.
    let would = store.gc(true).unwrap();
    assert!(store.has_layer(&name(&other)).is_some() && place.0.join(".skep/tmp/left").is_dir());
    let removed = store.gc(false).unwrap();
    assert_eq!((removed.blobs, removed.layers, removed.unfinished), (0, 2, 1));
    assert_eq!(would, removed);
    assert!(store.has_layer(&name(&diff_id)).is_some());
    assert!(store.has_layer(&name(&other)).is_none());
    // A bundle keeps its layers as long as it is there.
    let bundle = place.0.join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let record = || {
        store.hold().unwrap().register_bundle(&bundle, std::slice::from_ref(&diff_id)).unwrap();
        let found =
            std::fs::read_dir(place.0.join(".skep/bundles")).unwrap().next().unwrap().unwrap();
        (found.path(), found.metadata().unwrap().ino())
    };
    // It is not written again, unless it is not what it should be.
    let (path, first) = record();
    assert_eq!(record().1, first);
    std::fs::write(&path, "").unwrap();
    assert_ne!(record().1, first);
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    store.untag(&Select::Name("app:1".to_owned())).unwrap();
    assert_eq!(store.untag(&Select::Name("app:1".to_owned())).unwrap_err().kind(), Kind::NotFound);
    let removed = store.gc(false).unwrap();
    assert_eq!((removed.blobs, removed.layers), (3, 1));
    std::fs::remove_dir(&bundle).unwrap();
    assert_eq!(store.gc(false).unwrap().layers, 1);
    assert_eq!(store.usage().unwrap().blobs, 0);
}

#[test]
fn a_damaged_blob_is_found_and_removed() {
    let place = Place::new("damaged");
    let store = place.store();
    let (descriptor, _) = image(&store);
    store.hold().unwrap().tag("app:1", &descriptor).unwrap();
    let path = place.0.join(format!("blobs/sha256/{}", descriptor.digest.hex()));
    let content = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, content.replace("layers", "lAyers")).unwrap();
    assert!(store.gc(false).is_err(), "what the image needs is not known");
    assert_eq!(store.verify(false).unwrap().problems.len(), 2);
    assert!(store.verify(true).unwrap().problems[0].removed);
    assert!(!store.has(&descriptor));
}

#[test]
fn a_layer_has_its_name_only_when_it_is_whole() {
    let place = Place::new("layer");
    let store = place.store();
    let id = Digest::of(b"layer");
    let fill = |dir: &OwnedFd| {
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(dir)));
        std::fs::create_dir(path.join("locked")).unwrap();
        std::fs::write(path.join("locked/file"), b"x").unwrap();
        std::fs::set_permissions(path.join("locked"), std::fs::Permissions::from_mode(0o500))
            .unwrap();
    };
    let name = name(&id);
    for depends in [false, true] {
        let failed = store.hold().unwrap().unpack_layer(&name, |dir| -> Result<(bool, ())> {
            fill(&dir);
            Err(Error::verification("wrong"))
        });
        assert_eq!(failed.unwrap_err().kind(), Kind::Verification);
        assert_eq!(store.has_layer(&name), None);
        assert_eq!(std::fs::read_dir(place.0.join(".skep/tmp")).unwrap().count(), 0);
        // As a kill would leave it.
        let left = place.0.join(format!(".skep/tmp/layer-sha256-{}", id.hex()));
        std::fs::create_dir(left).unwrap();
        let done = store.hold().unwrap().unpack_layer(&name, |dir| {
            fill(&dir);
            Ok((depends, ()))
        });
        let key = if depends { &name.stacked } else { &name.diff_id };
        assert_eq!(done.unwrap().key, *key);
        assert_eq!(store.has_layer(&name), Some(key));
        let again = store.hold().unwrap().unpack_layer(&name, |_| Ok((false, ()))).unwrap();
        assert_eq!((again.key == *key, again.done), (true, None));
        store.gc(false).unwrap();
        assert_eq!(store.has_layer(&name), None);
    }
}

#[test]
fn a_tree_is_removed_and_nothing_else() {
    let place = Place::new("tree");
    let victim = place.0.join("victim");
    std::fs::create_dir_all(&victim).unwrap();
    std::fs::write(victim.join("file"), b"x").unwrap();
    let top = place.0.join("top");
    let mut deep = top.clone();
    for _ in 0..700 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(&victim, top.join("link")).unwrap();
    std::fs::set_permissions(top.join("d"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let dir = std::fs::File::open(&place.0).unwrap();
    remove_tree(dir.as_fd(), "top").unwrap();
    assert!(std::fs::symlink_metadata(&top).is_err());
    assert!(victim.join("file").is_file());
    remove_tree(dir.as_fd(), "top").unwrap();
}

#[test]
fn a_directory_with_something_else_is_no_store() {
    let place = Place::new("else");
    std::fs::create_dir_all(place.0.join("home")).unwrap();
    assert_eq!(Store::open(&place.0, Limits::default()).unwrap_err().kind(), Kind::Usage);
    assert!(std::fs::symlink_metadata(place.0.join("blobs")).is_err());
    // One who was killed while making a store has left this.
    std::fs::remove_dir(place.0.join("home")).unwrap();
    std::fs::create_dir_all(place.0.join("blobs/sha256")).unwrap();
    assert!(Store::open(&place.0, Limits::default()).is_ok());
}

#[test]
fn the_subject_of_an_artifact_keeps_what_it_needs() {
    let place = Place::new("subject");
    let store = place.store();
    let (subject, diff_id) = image(&store);
    store.hold().unwrap().unpack_layer(&name(&diff_id), |_| Ok((false, ()))).unwrap();
    let empty = Descriptor::of(crate::media::OCI_EMPTY, b"{}");
    store.hold().unwrap().put(&empty, b"{}").unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "artifactType": "application/spdx+json",
        "config": empty,
        "layers": [empty],
        "subject": subject,
    })
    .to_string();
    let artifact = Descriptor::of(crate::media::OCI_MANIFEST, manifest.as_bytes());
    store.hold().unwrap().put(&artifact, manifest.as_bytes()).unwrap();
    // An index in an index, so deep that what it names does not count there.
    let index = |manifest: &Descriptor| {
        let content = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        let descriptor = Descriptor::of(crate::media::OCI_INDEX, content.as_bytes());
        store.hold().unwrap().put(&descriptor, content.as_bytes()).unwrap();
        descriptor
    };
    for deep in [false, true] {
        let then = if deep { index(&subject) } else { subject.clone() };
        let depth = Limits::default().index_depth;
        let outer = (0..depth).fold(then.clone(), |inner, _| index(&inner));
        store.hold().unwrap().tag("first:1", if deep { &outer } else { &artifact }).unwrap();
        store.hold().unwrap().tag("then:1", &then).unwrap();
        assert_eq!(store.gc(false).unwrap().layers, 0);
        assert!(store.verify(false).unwrap().problems.is_empty());
        let config = store.source(Select::Name("then:1".to_owned())).unwrap();
        assert!(crate::image::Image::find(&config, None, &Limits::default()).is_ok());
        assert!(store.has_layer(&name(&diff_id)).is_some());
    }
}

#[test]
fn a_file_that_was_being_written_is_collected() {
    let place = Place::new("temporary");
    let store = place.store();
    let (name, file) = store.temporary("index.json").unwrap();
    assert_ne!(store.temporary("index.json").unwrap().0, name);
    drop(file);
    assert_eq!(store.gc(false).unwrap().unfinished, 2);
    let left: Vec<_> = std::fs::read_dir(place.0.join(".skep")).unwrap().collect();
    assert_eq!(left.len(), 4, "directories alone: {left:?}");
    assert!(std::fs::symlink_metadata(place.0.join(name)).is_err());
}

#[test]
fn what_is_being_written_is_not_swept_away() {
    let place = Place::new("swept-at-once");
    let store = place.store();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let other = place.store();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                other.sweep();
            }
        });
        for round in 0..5000 {
            let (name, file) = store.temporary("index.json").unwrap();
            let there = std::fs::symlink_metadata(place.0.join(&name)).is_ok();
            drop(file);
            if !there {
                done.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("{name} is gone, round {round}");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        sweeper.join().unwrap();
    });
}

#[test]
fn who_comes_next_removes_what_a_kill_has_left() {
    let place = Place::new("swept");
    let store = place.store();
    let there = |path: PathBuf| std::fs::symlink_metadata(path).is_ok();
    let (written, file) = store.temporary("index.json").unwrap();
    let (left, _) = store.temporary("index.json").unwrap();
    let tmp = place.0.join(".skep/tmp");
    // Nothing else that is there, whatever its name.
    std::os::unix::fs::symlink(place.0.join("index.json"), tmp.join("x.0123456789abcdef")).unwrap();
    std::fs::create_dir(tmp.join("y.0123456789abcdef")).unwrap();
    std::fs::write(tmp.join("0123456789abcdef"), "").unwrap();
    std::fs::write(tmp.join("layer-sha256-0"), "").unwrap();
    let _next = place.store();
    assert!(there(place.0.join(&written)), "somebody is at it");
    assert!(!there(place.0.join(&left)));
    drop(file);
    let _the_one_after = place.store();
    assert!(!there(place.0.join(&written)));
    let mut names: Vec<_> =
        std::fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["0123456789abcdef", "layer-sha256-0", "x.0123456789abcdef", "y.0123456789abcdef"]
    );
    assert!(there(place.0.join("index.json")));
}

#[test]
fn its_layers_have_absolute_paths() {
    let place = Place::new("relative");
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(place.0.strip_prefix("/").unwrap());
    let store = Store::open(&relative, Limits::default()).unwrap();
    assert!(store.layer_path(&Digest::of(b"x")).is_absolute());
}
