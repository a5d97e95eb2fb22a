//! Layers, mutated: read, decompressed, and applied beside a victim.

use std::io::Read;

use super::archive::Archive;
use super::testing::{Item, Place, Tar, sum};
use super::{Devices, Options, decompress};
use crate::fuzz::{Random, as_it_is, fuzz};
use crate::limits::Limits;

/// Small enough that an input is done in no time.
fn limits() -> Limits {
    Limits {
        unpacked: 1 << 20,
        entries: 200,
        ratio_free: 1 << 20,
        zstd_window: 1 << 20,
        ..Limits::default()
    }
}

fn layers() -> Vec<Vec<u8>> {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let sparse: [(&[u8], &[u8]); 3] =
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")];
    let mapped = Item {
        name: b"s",
        data: &[b"1\n0\n4\n".as_slice(), &[0; 506], b"data"].concat(),
        pax: sparse.to_vec(),
        ..Item::default()
    };
    let made = [
        Tar::new()
            .dir("a/", 0o755)
            .file("a/f", "one")
            .link("a/g", "a/f")
            .symlink("a/l", "../victim"),
        Tar::new().file(".wh.a", "").dir("a/", 0o700).file("a/.wh..wh..opq", "").flag("p", b'6'),
        Tar::new().file(&long, "two").pax(
            "x",
            "three",
            &[("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.5")],
        ),
        Tar::new()
            .symlink("s", "/")
            .file("s/victim/file", "mine")
            .link("h", "/etc/passwd")
            .dir("..", 0o777),
        Tar::new().item(&mapped).flag("c", b'3'),
        Tar::new().pax("y", "four", &[("size", b"4"), ("path", b"../z"), ("linkpath", b"/etc")]),
    ];
    made.iter().map(Tar::end).collect()
}

const WORDS: [&[u8]; 16] = [
    b"../",
    b"/",
    b"victim/file",
    b".wh.",
    b".wh..wh..opq",
    b"\0",
    b"ustar\x0000",
    b"ustar  \0",
    b"9 path=x\n",
    b"30 SCHILY.xattr.user.a=b",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\0\xff",
    b"\xff\xff\xff\xff\xff\xff",
    b"size=",
    b"GNU.sparse.map=0,1",
    b"1",
];

/// Right checksums, mostly: without them nothing further on is reached.
fn checksums(random: &mut Random, tar: &mut Vec<u8>) {
    if random.below(16) == 0 {
        return;
    }
    tar.resize(tar.len().next_multiple_of(512), 0);
    for block in tar.chunks_exact_mut(512) {
        let is_header = block[257..262] == *b"ustar" || random.below(24) == 0;
        if is_header && let Ok(header) = <[u8; 512]>::try_from(&*block) {
            block.copy_from_slice(&sum(header));
        }
    }
}

#[test]
fn fuzz_tar_entries() {
    let good = layers();
    let good: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    fuzz("tar entries", &good, &WORDS, checksums, |input| {
        let mut archive = Archive::new(input, &limits(), 0);
        let (mut entries, mut kinds) = (0, String::new());
        loop {
            match archive.next() {
                Ok(Some(entry)) => {
                    entries += 1;
                    // Each has a header of its own in what was read.
                    assert!(entries * 512 <= input.len());
                    kinds += &format!("{:?}", entry.kind).chars().take(3).collect::<String>();
                    let mut read = 0;
                    loop {
                        let (data, failed) = match archive.data() {
                            Ok(data) => (data.len(), None),
                            Err(error) => (0, Some(error.to_string())),
                        };
                        if let Some(error) = failed {
                            return format!("{kinds} {error}");
                        }
                        if data == 0 {
                            break;
                        }
                        read += data;
                        archive.advance(data);
                    }
                    assert!(read <= input.len());
                }
                Ok(None) => return kinds,
                Err(error) => return format!("{kinds} {error}"),
            }
        }
    });
}

#[test]
fn fuzz_applied_layers() {
    let good = layers();
    let good: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    fuzz("applied layers", &good, &WORDS, checksums, |input| {
        use std::os::fd::AsFd;
        let place = Place::new();
        let before = place.victim();
        let root = place.open("rootfs");
        let mut options =
            Options { limits: limits(), devices: Devices::Skip, ..Options::default() };
        if !super::testing::root() {
            options.owners = super::Owners::Single;
        }
        let applied = super::apply(input, root.as_fd(), &options);
        assert_eq!(place.victim(), before, "nothing beside the root is touched");
        let answer = match applied {
            Ok(report) => {
                assert!(report.used.entries <= 200);
                format!("good {:?}", report.warnings)
            }
            Err(error) => error.to_string(),
        };
        // Whatever is there can be removed.
        super::remove_tree(std::fs::File::open(&place.0).unwrap(), "rootfs").unwrap();
        std::fs::create_dir(place.rootfs()).unwrap();
        answer
    });
}

#[test]
fn fuzz_compressed_layers() {
    use std::io::Write;
    let plain = layers().swap_remove(0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(
        plain.as_slice(),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let good: [&[u8]; 3] = [&gzip, &zstd, &plain];
    let words: [&[u8]; 7] = [
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
        b"\x50\x2a\x4d\x18",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\x01\0\0",
        b"\x78\x9c",
    ];
    fuzz("compressed layers", &good, &words, as_it_is, |input| {
        let mut made = 0u64;
        let read =
            decompress(input, crate::media::OCI_LAYER_GZIP, &limits()).and_then(|mut reader| {
                let mut buffer = [0; 4096];
                loop {
                    match reader.read(&mut buffer) {
                        Ok(0) => return Ok(()),
                        Ok(count) => made += count as u64,
                        Err(error) => return Err(crate::Error::io("cannot read", error)),
                    }
                    assert!(made <= (LARGEST_MADE + input.len() as u64), "it goes on for ever");
                }
            });
        match read {
            Ok(()) => {
                format!("good {}", "x".repeat(made.checked_ilog2().map_or(0, |log| log as usize)))
            }
            Err(error) => error.to_string(),
        }
    });
}

/// What 16 KiB may become: by ratio and what is free of it, and the last buffers of the decoder.
const LARGEST_MADE: u64 = 64 << 20;
