//! The client against servers that behave as registries' documentation says, and against those that nobody should
//! have to meet.

mod fuzz;
mod hostile;
mod listing;
mod mirrors;
mod pull;
mod push;
mod push_resume;
mod server;
mod vendors;
mod vendors_push;

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::server::{Answer, Asked};
use super::{Credential, Credentials, Registry, Retry, Say, Settings, Timeouts};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Kind};
use crate::media;
use crate::reference::Reference;
use crate::source::{self, Source};

/// An image of one layer.
#[derive(Clone)]
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let layer: Vec<u8> =
            (0..80_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&layer)
        )
        .into_bytes();
        let part = |media_type: &str, bytes: &[u8]| {
            format!(
                r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
                Digest::of(bytes),
                bytes.len()
            )
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media::OCI_MANIFEST,
            part(media::OCI_CONFIG, &config),
            part(media::OCI_LAYER_GZIP, &layer)
        );
        Self { manifest: manifest.into_bytes(), config, layer }
    }

    fn layer(&self) -> Descriptor {
        Descriptor::of(media::OCI_LAYER_GZIP, &self.layer)
    }

    /// What a registry answers that has this image as `NAME:latest`.
    fn answer(&self, asked: &Asked) -> Answer {
        if asked.path() == "/v2/" {
            return Answer::new(200).body("{}");
        }
        let (_, last) = asked.path().rsplit_once('/').unwrap();
        if asked.path().contains("/manifests/") {
            if last == "latest" || last == Digest::of(&self.manifest).to_string() {
                return Answer::new(200)
                    .header("content-type", media::OCI_MANIFEST)
                    .header("docker-content-digest", Digest::of(&self.manifest).to_string())
                    .body(self.manifest.clone());
            }
            return missing("MANIFEST_UNKNOWN");
        }
        for blob in [&self.config, &self.layer] {
            if asked.path().contains("/blobs/") && last == Digest::of(blob).to_string() {
                return ranged(asked, blob);
            }
        }
        missing("BLOB_UNKNOWN")
    }
}

fn missing(code: &str) -> Answer {
    Answer::new(404).body(format!(r#"{{"errors":[{{"code":"{code}","message":"not here"}}]}}"#))
}

/// The blob, or the range of it that was asked for.
fn ranged(asked: &Asked, blob: &[u8]) -> Answer {
    let Some(range) = asked.header("range") else { return Answer::new(200).body(blob) };
    let from: usize =
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    Answer::new(206)
        .header("content-range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()))
        .body(&blob[from..])
}

fn unauthorized(challenge: &str) -> Answer {
    Answer::new(401)
        .header("www-authenticate", challenge)
        .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
}

/// Settings with short patience, which remember what is said.
fn settings(credential: Option<Credential>) -> (Settings, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let there = Arc::clone(&said);
    let settings = Settings {
        credentials: Some(Credentials::none().with_explicit(credential)),
        retry: Retry {
            attempts: 3,
            base: Duration::from_millis(2),
            cap: Duration::from_millis(20),
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            commit: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            document: Duration::from_secs(30),
            trickle: Duration::from_secs(30),
        },
        say: Say(Arc::new(move |text| there.lock().unwrap().push(text.to_owned()))),
        ..Settings::default()
    };
    (settings, said)
}

fn registry(reference: &str, credential: Option<Credential>) -> Registry {
    Registry::new(&Reference::parse(reference).unwrap(), settings(credential).0).unwrap()
}

/// A client that waits for next to nothing.
fn impatient(reference: &str) -> Registry {
    let mut settings = settings(user("me")).0;
    let short = Duration::from_millis(200);
    settings.timeouts = Timeouts {
        answer: short,
        stall: short,
        document: short,
        trickle: short,
        ..settings.timeouts
    };
    Registry::new(&Reference::parse(reference).unwrap(), settings).unwrap()
}

fn user(name: &str) -> Option<Credential> {
    Some(Credential::Basic { user: name.into(), password: "hush".into() })
}

fn basic(name: &str) -> String {
    super::token::basic(name, "hush")
}

/// Pulls all of it, verified.
fn pull(registry: &Registry, image: &Image) -> Result<(), Error> {
    let (root, bytes) = registry.resolve()?;
    assert_eq!(bytes, image.manifest);
    assert_eq!(root.media_type, media::OCI_MANIFEST);
    for (descriptor, expected) in [
        (Descriptor::of(media::OCI_CONFIG, &image.config), &image.config),
        (image.layer(), &image.layer),
    ] {
        assert!(read_blob(registry, &descriptor)? == *expected);
    }
    Ok(())
}

fn read_blob(registry: &Registry, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut reader = source::blob(registry, descriptor)?;
    reader.read_to_end(&mut bytes).map_err(|e| Error::io("cannot read", e))?;
    Ok(bytes)
}

#[track_caller]
fn assert_fails<T>(result: Result<T, Error>, kind: Kind, words: &str) {
    let error = result.err().expect("it went well");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
}
