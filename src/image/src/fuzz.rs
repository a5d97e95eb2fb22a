//! Fuzzing with the stable toolchain: inputs that are mutated from good ones, for as long as is said, in tests of each module.
//!
//! What leads it is the answer: an input whose answer (which error, in which words; what was read) no other input had joins those
//! that are mutated. `make fuzz` gives each target its seconds; a plain `cargo test` runs each a moment, with the same seed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// xorshift64*: fast, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 16) % end.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Larger inputs find nothing that smaller ones do not.
const LARGEST: usize = 16 * 1024;
/// One input may take so long, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many inputs are kept to mutate.
const KEPT: usize = 4096;

/// Says which input it was when the thread panics with it.
struct Witness<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Witness<'_> {
    #[allow(clippy::print_stderr, reason = "it is what the run is for")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} fails with b\"{}\"", self.target, self.input.escape_ascii());
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs `check` with mutations of `good`, in which `words` are put now and then. `check` panics for what must not be, and returns
/// what came of the input: the words of an error, or anything that tells one success from another.
#[allow(clippy::print_stderr, reason = "how much was tried is the result")]
pub(crate) fn fuzz(
    target: &str,
    good: &[&[u8]],
    words: &[&[u8]],
    mut repair: impl FnMut(&mut Random, &mut Vec<u8>),
    mut check: impl FnMut(&[u8]) -> String,
) {
    let seconds = variable("SKEP_FUZZ_SECONDS");
    let seed = variable("SKEP_FUZZ_SEED").unwrap_or(1);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut corpus: Vec<Vec<u8>> = good.iter().map(|input| input.to_vec()).collect();
    let mut known = HashSet::new();
    let (started, mut tried) = (Instant::now(), 0);
    let enough = |tried: usize| match seconds {
        Some(seconds) => started.elapsed() >= Duration::from_secs(seconds),
        None => tried >= 400 || started.elapsed() >= Duration::from_secs(2),
    };
    while tried < good.len() || !enough(tried) {
        let input = match good.get(tried) {
            Some(input) => input.to_vec(),
            None => {
                let mut input = mutate(&mut random, &corpus, words);
                repair(&mut random, &mut input);
                input
            }
        };
        let witness = Witness { target, input: &input };
        let began = Instant::now();
        let answer = check(&input);
        assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
        drop(witness);
        // Numbers and quoted input would make every answer new.
        let words = answer.split('"').step_by(2).flat_map(str::chars);
        let signature: String =
            words.filter(|c| c.is_ascii_alphabetic() || *c == ' ').take(120).collect();
        if known.insert(signature) && corpus.len() < KEPT {
            corpus.push(input);
        }
        tried += 1;
    }
    if seconds.is_some() {
        eprintln!(
            "{target}: {tried} inputs, {} answers, seed {seed}, {:.0} s",
            known.len(),
            started.elapsed().as_secs_f32()
        );
    }
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(16)).min(input.len());
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.byte(),
            2 if at < end => drop(input.drain(at..end)),
            3 => input.insert(at, random.byte()),
            4 if at < end => {
                // The same again, many times.
                let piece = input[at..end].to_vec();
                let times = 1 + random.below(40);
                input.splice(at..at, piece.repeat(times));
            }
            5 if !words.is_empty() => {
                let word = words[random.below(words.len())];
                input.splice(at..at, word.iter().copied());
            }
            6 if !words.is_empty() && at < input.len() => {
                let word = words[random.below(words.len())];
                let until = (at + word.len()).min(input.len());
                input.splice(at..until, word.iter().copied());
            }
            7 => {
                // The beginning of one and the end of another.
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.truncate(at),
        }
    }
    input.truncate(LARGEST);
    input
}

/// No repair.
pub(crate) fn as_it_is(_: &mut Random, _: &mut Vec<u8>) {}

mod targets {
    use super::{as_it_is, fuzz};
    use crate::limits::Limits;
    use crate::manifest::{Document, ImageConfig};
    use crate::media;
    use crate::platform::Platform;
    use crate::reference::Reference;
    use crate::registry::Repository;
    use crate::{Descriptor, Digest};

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(input)
    }

    #[test]
    fn fuzz_references() {
        let pinned = format!("quay.io/a/b:c@sha256:{HEX}");
        let good: [&[u8]; 6] = [
            b"debian",
            b"library/debian:bookworm",
            b"localhost:5000/a/b/c:v1.0",
            b"[::1]:5000/a",
            b"docker.io/library/x",
            pinned.as_bytes(),
        ];
        let words: [&[u8]; 12] = [
            b"/",
            b"..",
            b":",
            b"@",
            b"@sha256:",
            b"//",
            b"%2f",
            b"\0",
            b"__",
            b"-",
            b"A",
            b"\xc3\xa4",
        ];
        fuzz("references", &good, &words, as_it_is, |input| match Reference::parse(&text(input)) {
            Ok(reference) => {
                let again = Reference::parse(&reference.to_string()).unwrap();
                assert_eq!(again, reference, "what is written is what was read");
                assert!(reference.repository().split('/').all(|c| !matches!(c, "" | "." | "..")));
                assert!(reference.repository().bytes().all(|b| b.is_ascii_graphic()));
                assert!(!reference.host().contains(['/', '@', '?', '#', '\\', ' ']));
                assert!(!reference.selector().contains('/'));
                match Repository::new(reference.host(), reference.repository()) {
                    Ok(_) => "good".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn fuzz_digests_and_platforms() {
        let digest = format!("sha256:{HEX}");
        let good: [&[u8]; 4] = [digest.as_bytes(), b"linux/amd64/v3", b"arm64", b"a+b.c:=_x"];
        let words: [&[u8]; 6] = [b"sha512:", b"../", b":", b"/", b"+", b"\0"];
        fuzz("digests and platforms", &good, &words, as_it_is, |input| {
            let text = text(input);
            let digest = Digest::parse(&text).map(|digest| {
                // It becomes a path.
                assert!(
                    digest.hex().bytes().all(|b| b.is_ascii_alphanumeric() || b"=_-".contains(&b))
                );
                assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
                digest.algorithm().is_some()
            });
            let platform = Platform::parse(&text).map(|platform| {
                assert_eq!(Platform::parse(&platform.to_string()).unwrap(), platform);
            });
            format!("{digest:?} {platform:?}")
        });
    }

    fn documents() -> [Vec<u8>; 4] {
        let part = |media_type: &str| {
            format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":0}}"#)
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}],"annotations":{{"a":"b"}}}}"#,
            media::OCI_MANIFEST,
            part(media::OCI_CONFIG),
            part(media::OCI_LAYER_GZIP)
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media::OCI_INDEX,
            part(media::OCI_MANIFEST)
        );
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned();
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Env":["A=b"],"Cmd":null}},"rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}}}}"#
        );
        [manifest, index, old, config].map(String::into_bytes)
    }

    const JSON: [&[u8]; 22] = [
        b"null",
        b"{}",
        b"[]",
        b"\"\"",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\"manifests\":",
        b"\"layers\":",
        b"\"config\":",
        b"\"size\":",
        b"\"digest\":",
        b"\"mediaType\":",
        b"\"urls\":[\"x\"]",
        b"\"data\":\"AA==\"",
        b"\\u0000",
        b"[[[[[[[[",
        b"{\"a\":{\"a\":",
        b",",
        b"\xef\xbb\xbf",
        b"\"schemaVersion\":2,",
        b"\"platform\":{\"os\":\"linux\"}",
    ];

    #[test]
    fn fuzz_manifests() {
        let documents = documents();
        let good: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        let limits = Limits::default();
        fuzz("manifests", &good, &JSON, as_it_is, |input| {
            let mut answers = String::new();
            for expected in ["", media::OCI_MANIFEST, media::OCI_INDEX] {
                let safe = |d: &Descriptor| {
                    assert!(!d.digest.to_string().contains('/'));
                    let _bytes = d.embedded();
                };
                answers += &match Document::parse(input, expected, &limits) {
                    Ok(Document::Manifest(manifest)) => {
                        assert_ne!(expected, media::OCI_INDEX);
                        assert!(manifest.layers.len() <= limits.layers);
                        manifest.layers.iter().chain([&manifest.config]).for_each(safe);
                        format!("manifest {:?}", manifest.must_be_image())
                    }
                    Ok(Document::Index(index)) => {
                        assert_ne!(expected, media::OCI_MANIFEST);
                        index.manifests.iter().for_each(safe);
                        "index".to_owned()
                    }
                    Err(error) => error.to_string(),
                };
            }
            answers
        });
    }

    #[test]
    fn fuzz_configurations() {
        let [manifest, .., config] = documents();
        let Ok(Document::Manifest(manifest)) = Document::parse(&manifest, "", &Limits::default())
        else {
            panic!("no manifest");
        };
        fuzz("configurations", &[&config], &JSON, as_it_is, |input| {
            match ImageConfig::parse(input, &manifest) {
                Ok(config) => {
                    assert_eq!(config.diff_ids.len(), manifest.layers.len());
                    "good".to_owned()
                }
                Err(error) => error.to_string(),
            }
        });
    }
}
