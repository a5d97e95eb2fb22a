//! Sources that are broken or hostile.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::archive::{Archive, clean};
use super::layout::{is_named, select};
use super::{Files as _, Location, Select};
use crate::descriptor::{CONTAINERD_NAME, Descriptor, REF_NAME};
use crate::manifest::Index;
use crate::platform::Platform;
use crate::{Digest, Kind, Limits};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-image-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// One tar entry: a ustar header and its content.
fn entry(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut all = header.to_vec();
    all.extend_from_slice(content);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn archive(place: &Place, entries: &[Vec<u8>]) -> crate::Result<Archive> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    Archive::open(&place.write("x.tar", &bytes), &Limits::default())
}

#[test]
fn names_stay_in_the_archive() {
    for (parent, name, expected) in [
        ("", "a/b", Some("a/b")),
        ("", "./a//b/", Some("a/b")),
        ("a", "../b/layer.tar", Some("b/layer.tar")),
        ("a", "../../etc/passwd", None),
        ("", "/a", Some("a")),
        ("x", "/a", Some("a")),
        ("", "..", None),
        ("", ".", None),
    ] {
        assert_eq!(clean(parent, name).as_deref(), expected, "{parent} {name}");
    }
}

#[test]
fn links_in_an_archive() {
    let place = Place::new("links");
    let made = archive(
        &place,
        &[
            entry("a/layer.tar", b'0', "", b"hello"),
            entry("b/layer.tar", b'2', "../a/layer.tar", b""),
            entry("c", b'1', "b/layer.tar", b""),
            entry("out", b'2', "../../etc/passwd", b""),
            entry("l1", b'2', "l2", b""),
            entry("l2", b'2', "l1", b""),
        ],
    )
    .unwrap();
    assert_eq!(made.small("c", 10).unwrap().unwrap(), b"hello");
    assert!(made.small("out", 10).unwrap().is_none());
    assert_eq!(made.small("l1", 10).unwrap_err().kind(), Kind::Verification);
    assert_eq!(made.small("c", 4).unwrap_err().kind(), Kind::NoSpace);
}

#[test]
fn archives_that_are_refused() {
    let place = Place::new("broken");
    let twice = [entry("a", b'0', "", b"1"), entry("./a", b'0', "", b"2")];
    assert!(archive(&place, &twice).unwrap_err().to_string().contains("twice"));
    assert_eq!(archive(&place, &[]).unwrap_err().kind(), Kind::Verification);
    let whole = entry("a", b'0', "", &[b'x'; 5000]);
    for length in [1, 511, 513, 1000, 5000] {
        let path = place.write("cut.tar", whole.get(..length).unwrap());
        assert!(Archive::open(&path, &Limits::default()).is_err(), "{length}");
    }
    for content in [
        b"".as_slice(),
        b"not a tar at all",
        &[0xff; 4096],
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
    ] {
        let path = place.write("no.tar", content);
        assert!(Archive::open(&path, &Limits::default()).is_err(), "{content:.20?}");
    }
    // Names are kept in memory, and GNU's may be long.
    let long: Vec<Vec<u8>> = (0..2200)
        .flat_map(|n| {
            let name = format!("{n}/{}\0", "x/".repeat(1990));
            [entry("././@LongLink", b'L', "", name.as_bytes()), entry("x", b'0', "", b"")]
        })
        .collect();
    let error = archive(&place, &long).unwrap_err();
    assert!(error.to_string().contains("its names have more than"), "{error}");
    assert_eq!(Archive::open(&place.0, &Limits::default()).unwrap_err().kind(), Kind::Usage);
    assert_eq!(
        Archive::open(Path::new("/nonexistent"), &Limits::default()).unwrap_err().kind(),
        Kind::NotFound
    );
}

#[test]
fn a_compressed_archive_is_read_and_a_bomb_is_not() {
    let place = Place::new("gz");
    let compress = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut tar = entry("a", b'0', "", b"hello");
    tar.resize(tar.len() + 1024, 0);
    let path = place.write("a.tar.gz", &compress(&tar));
    let made = Archive::open(&path, &Limits::default()).unwrap();
    assert_eq!(made.small("a", 10).unwrap().unwrap(), b"hello");
    let path = place.write("bomb.tar.gz", &compress(&vec![0; 4 << 20]));
    let small = Limits { unpacked: 1 << 20, ..Limits::default() };
    assert_eq!(Archive::open(&path, &small).unwrap_err().kind(), Kind::NoSpace);
}

#[test]
fn a_layout_that_is_not_one() {
    let place = Place::new("layout");
    let open = || {
        let location = Location::Oci(place.0.clone(), Select::Only);
        location.open_local(&Limits::default()).and_then(|source| source.unwrap().resolve())
    };
    assert_eq!(open().unwrap_err().kind(), Kind::NotFound);
    for (content, kind) in [
        ("{}", Kind::Verification),
        (r#"{"imageLayoutVersion":"2.0.0"}"#, Kind::Unsupported),
        (r#"{"imageLayoutVersion":"1.0.0"}"#, Kind::NotFound),
    ] {
        place.write("oci-layout", content.as_bytes());
        assert_eq!(open().unwrap_err().kind(), kind, "{content}");
    }
    let content = b"{}";
    let digest = Digest::of(content);
    let list = |digest: &str, size: usize| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{digest}","size":{size}}}]}}"#
        )
    };
    for (index, kind) in [
        (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), Kind::NotFound),
        (list("sha256:../../../../etc/passwd", 2), Kind::Verification),
        (list(&digest.to_string(), 2), Kind::NotFound),
    ] {
        place.write("index.json", index.as_bytes());
        assert_eq!(open().unwrap_err().kind(), kind, "{index}");
    }
    place.write(&format!("blobs/sha256/{}", digest.hex()), content);
    assert!(open().is_ok());
    place.write("index.json", list(&digest.to_string(), 3).as_bytes());
    assert_eq!(open().unwrap_err().kind(), Kind::Verification);
    // A FIFO must not stop us.
    let blob = place.0.join(format!("blobs/sha256/{}", digest.hex()));
    std::fs::remove_file(&blob).unwrap();
    nix::unistd::mkfifo(&blob, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(open().unwrap_err().kind(), Kind::Verification);
}

#[test]
fn several_images_of_one_name() {
    let named = |content: &str, name: &str, platform: Option<&str>| {
        let mut entry = Descriptor::of("x", content.as_bytes());
        entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        entry.platform = platform.map(|p| Platform::parse(p).unwrap());
        entry
    };
    let index = |manifests| Index {
        media_type: None,
        artifact_type: None,
        manifests,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let count = |index: &Index, name: &str| {
        select(index, &Select::Name(name.to_owned()), "x")
            .map(|found| found.len())
            .map_err(|e| e.kind())
    };
    let two = index(vec![named("1", "a", None), named("2", "a", None), named("3", "b", None)]);
    assert_eq!(count(&two, "a"), Err(Kind::Usage));
    assert_eq!(count(&two, "b"), Ok(1));
    assert_eq!(count(&two, "c"), Err(Kind::NotFound));
    assert!(select(&two, &Select::Only, "x").is_err());
    let platforms = index(vec![named("1", "a", Some("amd64")), named("2", "a", Some("arm64"))]);
    assert_eq!(count(&platforms, "a"), Ok(2));
    let same = index(vec![named("1", "a", None), named("1", "a", None)]);
    assert_eq!(count(&same, "a"), Ok(1));
}

#[test]
fn names_in_a_layout() {
    let mut entry = Descriptor::of("x", b"");
    entry.annotations.insert(REF_NAME.to_owned(), "1.0".to_owned());
    entry.annotations.insert(CONTAINERD_NAME.to_owned(), "docker.io/library/app:1.0".to_owned());
    for (name, expected) in [
        ("1.0", true),
        ("app:1.0", true),
        ("docker.io/library/app:1.0", true),
        ("app", false),
        ("2.0", false),
    ] {
        assert_eq!(is_named(&entry, name), expected, "{name}");
    }
}

#[test]
fn what_is_typed() {
    for (text, expected) in [
        ("docker://debian", "docker://docker.io/library/debian:latest"),
        ("debian:12", "docker://docker.io/library/debian:12"),
        ("localhost:5000/x", "docker://localhost:5000/x:latest"),
        ("oci:/nowhere/x:1.0", "oci:/nowhere/x:1.0"),
        ("oci:/nowhere/x", "oci:/nowhere/x"),
        ("docker-archive:/nowhere/x.tar:app:1.0", "docker-archive:/nowhere/x.tar:app:1.0"),
        ("dir:/nowhere", "dir:/nowhere"),
        ("store:debian:12", "store:debian:12"),
    ] {
        assert_eq!(Location::parse(text).unwrap().to_string(), expected);
    }
    for text in [
        "oci:",
        "oci:/x:",
        "docker://",
        "docker-daemon:x",
        "/nonexistent",
        "./nonexistent",
        "",
        "oci:/x@sha256:12",
        "/tmp",
    ] {
        assert!(Location::parse(text).is_err(), "{text}");
    }
}

/// Docker's archive of one image without layers.
fn saved() -> Vec<u8> {
    let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":[]}]"#;
    let mut tar =
        [entry("c.json", b'0', "", config), entry("manifest.json", b'0', "", manifest)].concat();
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn what_comes_through_a_pipe_is_read_once() {
    let place = Place::new("pipe");
    for (name, content, good) in
        [("good", saved(), true), ("other", entry("a", b'0', "", b"x"), false)]
    {
        let path = place.0.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let open = || {
            let location = Location::parse(path.to_str().unwrap())?;
            location.open_local(&Limits::default())?.unwrap().resolve()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| std::fs::write(&path, &content));
            match open() {
                Ok(_) => assert!(good),
                Err(error) => assert!(!good && error.to_string().contains("not of an image")),
            }
        });
    }
}

#[test]
fn a_compressed_archive_is_held_against_the_limits_that_are_asked_for() {
    let place = Place::new("gz-limits");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&saved()).unwrap();
    let path = place.write("a.tar.gz", &encoder.finish().unwrap());
    let location = Location::parse(path.to_str().unwrap()).unwrap();
    assert_eq!(location, Location::Archive(path, Select::Only));
    assert!(location.open_local(&Limits::default()).is_ok());
    let small = Limits { unpacked: 1024, ..Limits::default() };
    assert_eq!(location.open_local(&small).err().unwrap().kind(), Kind::NoSpace);
}

#[test]
fn what_is_noted_is_found_from_anywhere() {
    let here = std::env::current_dir().unwrap();
    let noted = |text: &str| Location::parse(text).unwrap().absolute().unwrap().to_string();
    for (typed, kept) in [("oci:lay:t", "t"), ("oci-archive:lay:t", "t"), ("dir:lay", "")] {
        let end = if kept.is_empty() { String::new() } else { format!(":{kept}") };
        let transport = typed.split_once(':').unwrap().0;
        let wanted = format!("{transport}:{}{end}", here.join("lay").display());
        assert_eq!(noted(typed), wanted);
        assert_eq!(noted(&wanted), wanted);
    }
    assert_eq!(noted("store:x"), "store:x");
}
