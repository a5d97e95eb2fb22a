//! Uploads that break off and go on, and what a registry without referrers is given besides.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::push::{Kept, assert_whole, origin, push_from, taking};
use super::server::Server;
use super::*;

fn push(image: &Image, server: &Server, chunk: Option<u64>) -> Result<Digest, Error> {
    let from = origin(image);
    let (from, to) = (format!("{}/from", from.host()), format!("{}/app:v1", server.host()));
    push_from(&from, None, &to, user("me"), chunk)
}

/// The status of an upload, as the specification has it.
fn status(kept: &Kept) -> Answer {
    let answer = Answer::new(204).header("location", "/v2/app/blobs/uploads/1?state=x%2Fy");
    answer.header("range", format!("0-{}", kept.upload.len().saturating_sub(1)))
}

fn is_large_upload(asked: &Asked) -> bool {
    asked.path().contains("/uploads/") && asked.body.len() > 1000
}

fn sent(server: &Server) -> usize {
    server.log().iter().filter(|asked| is_large_upload(asked)).map(|asked| asked.body.len()).sum()
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let image = Image::new();
    // In one piece, and in pieces; each breaks off once, with a part of it taken.
    for (chunk, taken) in [(None, 100_000), (Some(100_000), 40_000), (Some(200_000), 200_000)] {
        let count = AtomicU32::new(0);
        let (server, shelf) = taking(move |asked, kept| {
            if asked.method == "GET" && asked.path().contains("/uploads/") {
                return Some(status(kept));
            }
            if is_large_upload(asked) && count.fetch_add(1, Ordering::SeqCst) == 0 {
                kept.upload.extend_from_slice(&asked.body[..taken]);
                return Some(Answer::new(502));
            }
            None
        });
        push(&image, &server, chunk).unwrap();
        assert_whole(&shelf, &image);
        let again =
            chunk.map_or(image.layer.len(), |chunk| usize::try_from(chunk).unwrap()) - taken;
        assert_eq!(sent(&server), image.layer.len() + again, "{chunk:?}");
        // One upload for each of the two blobs.
        assert_eq!(server.log().iter().filter(|asked| asked.method == "POST").count(), 2);
        assert!(server.log().iter().all(|asked| asked.method != "DELETE"));
    }
}

#[test]
fn a_status_that_is_wrong_costs_a_new_upload_and_no_more() {
    let image = Image::new();
    let size = image.layer.len();
    for range in ["", "0-0", "5-9", "x", "0-18446744073709551615", "bytes=0-9999999999", "0-5"] {
        for chunk in [None, Some(100_000)] {
            let count = AtomicU32::new(0);
            let (server, shelf) = taking(move |asked, kept| {
                if asked.method == "GET" && asked.path().contains("/uploads/") {
                    let answer = Answer::new(204);
                    return Some(if range.is_empty() {
                        answer
                    } else {
                        answer.header("range", range)
                    });
                }
                // What was taken is the first half of the piece; the first piece has gone well where there are several.
                let first = u32::from(chunk.is_some());
                if is_large_upload(asked) && count.fetch_add(1, Ordering::SeqCst) == first {
                    kept.upload.extend_from_slice(&asked.body[..asked.body.len() / 2]);
                    return Some(Answer::new(502));
                }
                None
            });
            push(&image, &server, chunk).unwrap();
            assert_whole(&shelf, &image);
            assert!(sent(&server) <= 3 * size, "{range}: {}", sent(&server));
        }
    }
}

#[test]
fn an_answer_that_is_lost_is_no_upload_that_is() {
    let image = Image::new();
    let count = AtomicU32::new(0);
    let (server, shelf) = taking(move |asked, kept| {
        if asked.method == "PUT"
            && is_large_upload(asked)
            && count.fetch_add(1, Ordering::SeqCst) == 0
        {
            kept.blobs.insert(Digest::of(&asked.body).to_string(), asked.body.clone());
            return Some(Answer::new(504));
        }
        None
    });
    push(&image, &server, None).unwrap();
    assert_whole(&shelf, &image);
    assert_eq!(sent(&server), image.layer.len());
}

#[test]
fn an_upload_that_always_breaks_off_ends() {
    let image = Image::new();
    for chunk in [None, Some(100_000)] {
        let (server, _) = taking(|asked, kept| {
            if asked.method == "GET" && asked.path().contains("/uploads/") {
                return Some(status(kept));
            }
            is_large_upload(asked).then(|| Answer::new(502))
        });
        assert_fails(push(&image, &server, chunk), Kind::Network, "answers 502");
        assert!(server.log().len() < 100, "{}", server.log().len());
    }
}

/// An artifact that is about something.
fn about(subject: &Digest) -> Image {
    let mut image = Image::new();
    let text = String::from_utf8(image.manifest).unwrap();
    let more = format!(
        r#"{{"artifactType":"a/b","subject":{{"mediaType":"{}","digest":"{subject}","size":3}},"#,
        media::OCI_MANIFEST
    );
    image.manifest = text.replacen('{', &more, 1).into_bytes();
    image
}

#[test]
fn a_registry_without_referrers_is_given_their_index() {
    let subject = Digest::of(b"subject");
    let image = about(&subject);
    let tag = format!("sha256-{}", subject.hex());
    let conflicts = AtomicUsize::new(0);
    let (tag_there, index) = (tag.clone(), Arc::new(Mutex::new(Vec::<u8>::new())));
    let there = Arc::clone(&index);
    let (server, _) = taking(move |asked, _| {
        if !asked.path().ends_with(&tag_there) {
            return None;
        }
        let mut index = there.lock().unwrap();
        let etag = format!("\"{}\"", Digest::of(&index).hex());
        if asked.method == "GET" {
            return Some(if index.is_empty() {
                missing("MANIFEST_UNKNOWN")
            } else {
                Answer::new(200).header("etag", etag).body(index.clone())
            });
        }
        if index.is_empty() && conflicts.fetch_add(1, Ordering::SeqCst) == 0 {
            // Somebody else was faster.
            *index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:00","size":1}]}"#.to_vec();
            return Some(Answer::new(412));
        }
        assert_eq!(asked.header("if-match"), Some(etag.as_str()));
        assert_eq!(asked.header("content-type"), Some(media::OCI_INDEX));
        index.clone_from(&asked.body);
        Some(Answer::new(201))
    });
    push(&image, &server, None).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&index.lock().unwrap()).unwrap();
    assert_eq!(value["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(value["manifests"][1]["digest"], Digest::of(&image.manifest).to_string());
    assert_eq!(value["manifests"][1]["artifactType"], "a/b");
    // A second push changes nothing.
    let puts = || {
        server
            .log()
            .iter()
            .filter(|asked| asked.path().ends_with(&tag) && asked.method == "PUT")
            .count()
    };
    let before = puts();
    push(&image, &server, None).unwrap();
    assert_eq!(puts(), before);
}

#[test]
fn a_registry_that_knows_of_referrers_is_told_once() {
    let image = about(&Digest::of(b"subject"));
    for says in [true, false] {
        let (server, _) = taking(move |asked, _| {
            if asked.path().contains("/referrers/") {
                return Some(Answer::new(200).body(r#"{"manifests":[]}"#));
            }
            let is_manifest = asked.method == "PUT" && asked.path().contains("/manifests/");
            (is_manifest && says)
                .then(|| Answer::new(201).header("oci-subject", Digest::of(b"subject").to_string()))
        });
        push(&image, &server, None).unwrap();
        let manifests = server
            .log()
            .iter()
            .filter(|asked| asked.method == "PUT" && asked.path().contains("/manifests/"))
            .count();
        assert_eq!(manifests, 1);
    }
}
