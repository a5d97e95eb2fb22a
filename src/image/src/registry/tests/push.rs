//! What is pushed, and how it arrives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::server::Server;
use super::*;
use crate::limits::Limits;
use crate::registry::{Destination, PushOptions};

/// What a registry has been given.
#[derive(Default)]
struct Kept {
    blobs: HashMap<String, Vec<u8>>,
    upload: Vec<u8>,
    manifests: HashMap<String, Vec<u8>>,
}

type Shelf = Arc<Mutex<Kept>>;

/// A registry that takes what is pushed; `twist` may answer first.
fn taking(
    twist: impl Fn(&Asked, &mut Kept) -> Option<Answer> + Send + Sync + 'static,
) -> (Server, Shelf) {
    let shelf = Shelf::default();
    let there = Arc::clone(&shelf);
    let server = Server::start(move |asked| {
        let mut kept = there.lock().unwrap();
        if let Some(answer) = twist(asked, &mut kept) {
            return answer;
        }
        let last = asked.path().rsplit('/').next().unwrap().to_owned();
        let located =
            |status| Answer::new(status).header("location", "/v2/app/blobs/uploads/1?state=x%2Fy");
        match asked.method.as_str() {
            "HEAD" if kept.blobs.contains_key(&last) => Answer::new(200),
            "POST" => {
                kept.upload.clear();
                located(202)
            }
            "PATCH" => {
                let range =
                    format!("{}-{}", kept.upload.len(), kept.upload.len() + asked.body.len() - 1);
                if asked.header("content-range") != Some(&range) {
                    return Answer::new(416);
                }
                kept.upload.extend_from_slice(&asked.body);
                located(202).header("range", format!("0-{}", kept.upload.len() - 1))
            }
            "PUT" if asked.path().contains("/uploads/") => {
                assert_eq!(asked.query("state"), ["x/y"]);
                let mut body = std::mem::take(&mut kept.upload);
                body.extend_from_slice(&asked.body);
                let digest = Digest::of(&body).to_string();
                if asked.query("digest") != [digest.clone()] {
                    return Answer::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                kept.blobs.insert(digest, body);
                Answer::new(201)
            }
            "PUT" => {
                assert_eq!(asked.header("content-type"), Some(media::OCI_MANIFEST));
                kept.manifests.insert(last, asked.body.clone());
                Answer::new(201)
                    .header("docker-content-digest", Digest::of(&asked.body).to_string())
            }
            "DELETE" => Answer::new(204),
            _ => missing("UNKNOWN"),
        }
    });
    (server, shelf)
}

fn origin(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |asked| image.answer(asked))
}

fn push_from(from: &str, to: &str, chunk: Option<u64>) -> Result<Digest, Error> {
    let source = registry(from, None);
    let destination =
        Destination::new(&Reference::parse(to).unwrap(), settings(user("me")).0).unwrap();
    let (root, bytes) = source.resolve()?;
    let options = PushOptions { chunk, limits: &Limits::default(), done: &|_, _| {} };
    destination.push(&source, Some(&source), (&root, &bytes), &options)?;
    Ok(root.digest)
}

fn push(image: &Image, server: &Server, chunk: Option<u64>) -> Result<Digest, Error> {
    let from = origin(image);
    push_from(&format!("{}/from", from.host()), &format!("{}/app:v1", server.host()), chunk)
}

fn assert_whole(shelf: &Shelf, image: &Image) {
    let kept = shelf.lock().unwrap();
    assert!(kept.blobs[&image.layer().digest.to_string()] == image.layer);
    assert!(kept.blobs[&Digest::of(&image.config).to_string()] == image.config);
    assert_eq!(kept.manifests["v1"], image.manifest);
}

#[test]
fn in_one_piece_and_in_pieces() {
    let image = Image::new();
    for (chunk, patches) in [(None, 0), (Some(100_000), 5), (Some(1 << 30), 2)] {
        let (server, shelf) = taking(|_, _| None);
        assert_eq!(push(&image, &server, chunk).unwrap(), Digest::of(&image.manifest));
        assert_whole(&shelf, &image);
        assert_eq!(server.log().iter().filter(|asked| asked.method == "PATCH").count(), patches);
        // The name comes last.
        assert_eq!(server.log().last().unwrap().method, "PUT");
        // A second push sends no blob.
        push(&image, &server, chunk).unwrap();
        assert_eq!(server.log().iter().filter(|asked| asked.method == "POST").count(), 2);
    }
}

#[test]
fn a_registry_that_takes_nothing_large() {
    let image = Image::new();
    let (server, shelf) = taking(|asked, _| match asked.method.as_str() {
        "PUT" if asked.body.len() > 100_000 => Some(Answer::new(413)),
        "POST" => Some(
            Answer::new(202)
                .header("location", "/v2/app/blobs/uploads/1?state=x%2Fy")
                .header("oci-chunk-min-length", "65536"),
        ),
        _ => None,
    });
    push(&image, &server, None).unwrap();
    assert_whole(&shelf, &image);
    assert!(server.log().iter().any(|asked| asked.method == "PATCH" && asked.body.len() == 65536));
    assert!(server.log().iter().any(|asked| asked.method == "DELETE"));
}

#[test]
fn blobs_of_the_same_registry_are_mounted() {
    let image = Image::new();
    let served = image.clone();
    let (server, shelf) = taking(move |asked, kept| {
        if asked.path().starts_with("/v2/from/") {
            return Some(served.answer(asked));
        }
        if asked.method == "POST" && asked.query("from") == ["from"] {
            let mounted = asked.query("mount").pop().unwrap();
            kept.blobs.insert(mounted, Vec::new());
            return Some(Answer::new(201));
        }
        None
    });
    push_from(&format!("{}/from", server.host()), &format!("{}/app:v1", server.host()), None)
        .unwrap();
    assert_eq!(shelf.lock().unwrap().blobs.len(), 2);
    assert!(
        server
            .log()
            .iter()
            .all(|asked| asked.method != "PATCH" && !asked.path().contains("/from/blobs/"))
    );
}

#[test]
fn what_breaks_is_begun_anew() {
    let image = Image::new();
    let count = AtomicU32::new(0);
    let (server, shelf) = taking(move |asked, _| {
        let large = asked.path().contains("/uploads/") && asked.body.len() > 1000;
        (large && count.fetch_add(1, Ordering::SeqCst) == 0).then(|| Answer::new(502))
    });
    push(&image, &server, None).unwrap();
    assert_whole(&shelf, &image);
}

#[test]
fn destinations_that_lie_or_send_elsewhere() {
    let image = Image::new();
    let (lies, _) = taking(|asked, _| {
        (asked.method == "PUT")
            .then(|| Answer::new(201).header("docker-content-digest", Digest::of(b"x").to_string()))
    });
    assert_fails(push(&image, &lies, None), Kind::Verification, "has stored");
    let thief = Server::start(|_| Answer::new(201));
    let url = thief.other_name();
    let (sends, _) = taking(move |asked, _| {
        (asked.method == "POST").then(|| Answer::new(202).header("location", format!("{url}/x")))
    });
    assert_fails(push(&image, &sends, None), Kind::Network, "it is elsewhere");
    assert!(thief.log().is_empty());
    let (denies, _) =
        taking(|_, _| Some(Answer::new(403).body(r#"{"errors":[{"code":"DENIED"}]}"#)));
    assert_fails(push(&image, &denies, None), Kind::Auth, "answers 403");
    let (breaks, _) = taking(|asked, _| (asked.method == "PUT").then(|| Answer::new(500)));
    assert_fails(push(&image, &breaks, None), Kind::Network, "answers 500");
}

#[test]
fn a_source_that_lies_is_not_passed_on() {
    let image = Image::new();
    let served = image.clone();
    let from = Server::start(move |asked| {
        let mut answer = served.answer(asked);
        if answer.body.len() > 100_000 {
            answer.body[5] ^= 1;
        }
        answer
    });
    for chunk in [None, Some(100_000)] {
        let (server, shelf) = taking(|_, _| None);
        let pushed = push_from(
            &format!("{}/from", from.host()),
            &format!("{}/app:v1", server.host()),
            chunk,
        );
        assert_fails(pushed, Kind::Verification, "sha256");
        let kept = shelf.lock().unwrap();
        assert!(kept.manifests.is_empty() && kept.blobs.is_empty());
    }
}
