//! Streams that come back, that are cut, and that lie.

use std::io::Write;

use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;
use crate::error::Kind;
use crate::media::{OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    compress_to_vec(data, CompressionLevel::Fastest)
}

/// Gives one byte at a time, then fails if it is told to.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match (self.0.split_first(), out.first_mut()) {
            (Some((first, rest)), Some(to)) => {
                *to = *first;
                self.0 = rest;
                Ok(1)
            }
            _ if self.1 => Err(Error::new(Kind::Network, "the cable was cut").into()),
            _ => Ok(0),
        }
    }
}

fn all(blob: impl Read, media_type: &str) -> Result<(Vec<u8>, Vec<String>)> {
    let mut decompressor = decompress(blob, media_type, &Limits::default())?;
    let mut out = Vec::new();
    let read = decompressor.read_to_end(&mut out);
    read.map_err(|error| Error::io("cannot read", error))?;
    Ok((out, decompressor.remarks().to_vec()))
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0] & 0x3f
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn the_window_of_a_frame_is_known_before_it_is_there() {
    let frame = |rest: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd], rest].concat();
    for (header, size) in [
        // As `zstd -c`, `--long=25` and `--ultra -22` write them: no content size, a window.
        (frame(&[0x04, 0x58]), 2 << 20),
        (frame(&[0x00, 15 << 3, 0]), 32 << 20),
        (frame(&[0x00, 17 << 3 | 1, 0]), (128 << 20) + (16 << 20)),
        // One segment: its length, in 1, 2, 4 and 8 bytes, behind a dictionary's number.
        (frame(&[0x20, 7]), 7),
        (frame(&[0x60, 0, 1]), 512),
        (frame(&[0xa1, 9, 0, 0, 1, 0]), 256 << 8),
        (frame(&[0xe3, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 1]), 1 << 56),
        (frame(&[0xe0, 1]), 0),
        (frame(&[]), 0),
        (vec![0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff], 0),
    ] {
        assert_eq!(window(&header), size, "{header:x?}");
    }
    let blob = zstd(&noise(3 << 20));
    let mut decompressor = decompress(blob.as_slice(), OCI_LAYER_ZSTD, &Limits::default()).unwrap();
    assert_eq!(decompressor.held(), 0);
    decompressor.read_exact(&mut [0; 100]).unwrap();
    assert!((1..=8 << 20).contains(&decompressor.held()), "{}", decompressor.held());
}

#[test]
fn each_compression_comes_back() {
    for length in [0, 1, 511, 100_000, 3_000_000] {
        let data = noise(length);
        assert_eq!(all(&*data, OCI_LAYER).unwrap(), (data.clone(), vec![]), "plain {length}");
        assert_eq!(
            all(&*gzip(&data), OCI_LAYER_GZIP).unwrap(),
            (data.clone(), vec![]),
            "gzip {length}"
        );
        assert_eq!(
            all(&*zstd(&data), OCI_LAYER_ZSTD).unwrap(),
            (data.clone(), vec![]),
            "zstd {length}"
        );
    }
    let data = noise(5000);
    assert_eq!(all(Slow(&gzip(&data), false), OCI_LAYER_GZIP).unwrap().0, data);
    assert_eq!(all(Slow(&zstd(&data), false), OCI_LAYER_ZSTD).unwrap().0, data);
}

#[test]
fn members_and_frames_follow_each_other() {
    let (one, two) = (noise(1000), noise(70_000));
    let both = [one.clone(), two.clone()].concat();
    let members = [gzip(&one), gzip(b""), gzip(&two)].concat();
    assert_eq!(all(&*members, OCI_LAYER_GZIP).unwrap().0, both);
    let skippable = [b"\x51\x2a\x4d\x18\x05\0\0\0table".as_slice()].concat();
    let frames = [skippable.clone(), zstd(&one), skippable.clone(), zstd(&two), skippable].concat();
    assert_eq!(all(&*frames, OCI_LAYER_ZSTD).unwrap().0, both);
    assert_eq!(all(Slow(&frames, false), OCI_LAYER_ZSTD).unwrap().0, both);
}

#[test]
fn the_optional_fields_of_a_gzip_header_are_stepped_over() {
    let data = noise(3000);
    let plain = gzip(&data);
    let mut blob = vec![0x1f, 0x8b, 8, 4 | 8 | 16 | 2, 0, 0, 0, 0, 0, 255, 3, 0, 1, 2, 3];
    blob.extend_from_slice(b"layer.tar\0a comment\0\x12\x34");
    blob.extend_from_slice(&plain[10..]);
    assert_eq!(all(&*blob, OCI_LAYER_GZIP).unwrap().0, data);
}

#[test]
fn what_follows_gzip_is_read_and_remarked() {
    let data = noise(3000);
    let padded = [gzip(&data), vec![0; 1000]].concat();
    assert_eq!(all(&*padded, OCI_LAYER_GZIP).unwrap(), (data.clone(), vec![]));
    let more = [gzip(&data), b"more".to_vec(), vec![7; 600_000]].concat();
    let mut decompressor = decompress(&*more, OCI_LAYER_GZIP, &Limits::default()).unwrap();
    let mut out = Vec::new();
    decompressor.read_to_end(&mut out).unwrap();
    assert_eq!(out, data);
    assert_eq!(decompressor.remarks().len(), 1);
    assert!(decompressor.into_inner().is_empty(), "the digest covers the rest too");
}

#[test]
fn a_wrong_media_type_is_a_remark() {
    let data = noise(3000);
    let (out, remarks) = all(&*gzip(&data), OCI_LAYER).unwrap();
    assert_eq!(out, data);
    assert!(remarks[0].contains("is gzip, and its media type is"), "{remarks:?}");
    assert!(all(&*data, OCI_LAYER_ZSTD).unwrap().1[0].contains("not compressed"));
}

#[test]
fn another_compression_is_refused_by_name() {
    for (start, name) in [(b"\xfd7zXZ\0".as_slice(), "xz"), (b"BZh91AY", "bzip2")] {
        let error = all(start, OCI_LAYER).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_stream_cut_at_any_byte_is_an_error() {
    let data = noise(600);
    for (blob, media_type) in [(gzip(&data), OCI_LAYER_GZIP), (zstd(&data), OCI_LAYER_ZSTD)] {
        for length in 4..blob.len() {
            let error = all(&blob[..length], media_type).unwrap_err();
            assert_eq!(error.kind(), Kind::Verification, "{length} of {}: {error}", blob.len());
        }
    }
}

#[test]
fn a_failing_reader_is_named_and_not_the_stream() {
    for blob in [gzip(&noise(600)), zstd(&noise(600))] {
        for length in 300..blob.len() {
            let error = all(Slow(&blob[..length], true), OCI_LAYER).unwrap_err();
            assert_eq!(error.kind(), Kind::Network, "{length}: {error}");
        }
    }
}

#[test]
fn flipped_bits_end_in_data_or_an_error_and_never_hang() {
    let data = noise(700);
    for blob in [gzip(&data), zstd(&data)] {
        for position in 0..blob.len() {
            for bit in [0, 6] {
                let mut blob = blob.clone();
                blob[position] ^= 1 << bit;
                match all(&*blob, OCI_LAYER) {
                    Ok((out, _)) => assert!(out.len() < 10_000_000),
                    Err(error) => assert_ne!(error.kind(), Kind::Generic, "{error}"),
                }
            }
        }
    }
}

#[test]
fn a_bomb_is_stopped_by_the_ratio() {
    let limits = Limits { ratio: 10, ratio_free: 1 << 20, ..Limits::default() };
    let blob = gzip(&vec![0; 4 << 20]);
    let mut decompressor = decompress(&*blob, OCI_LAYER_GZIP, &limits).unwrap();
    let error = Error::io("x", io::copy(&mut decompressor, &mut io::sink()).unwrap_err());
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(error.to_string().contains("bomb"), "{error}");
    assert!(all(&*blob, OCI_LAYER_GZIP).is_ok(), "the default lets 4 MiB of zeroes pass");
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    // A frame header alone: magic, no single segment, a window of 512 MiB.
    let error = all(b"\x28\xb5\x2f\xfd\x00\x98".as_slice(), OCI_LAYER_ZSTD).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
}
