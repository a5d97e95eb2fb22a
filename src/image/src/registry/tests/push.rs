//! What is pushed, and how it arrives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::server::Server;
use super::*;
use crate::limits::Limits;
use crate::registry::{Destination, PushOptions};

/// What a registry has been given.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) blobs: HashMap<String, Vec<u8>>,
    pub(super) upload: Vec<u8>,
    pub(super) manifests: HashMap<String, Vec<u8>>,
}

pub(super) type Shelf = Arc<Mutex<Kept>>;

/// A registry that takes what is pushed; `twist` may answer first.
pub(super) fn taking(
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
                let here = kept.upload.len();
                let range = format!("{here}-{}", (here + asked.body.len()).saturating_sub(1));
                if asked.header("content-range").is_some_and(|said| said != range) {
                    return Answer::new(416);
                }
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

pub(super) fn origin(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |asked| image.answer(asked))
}

pub(super) fn push_from(
    from: &str,
    reader: Option<Credential>,
    to: &str,
    writer: Option<Credential>,
    chunk: Option<u64>,
) -> Result<Digest, Error> {
    let source = registry(from, reader);
    let destination = Destination::new(&Reference::parse(to).unwrap(), settings(writer).0).unwrap();
    let (root, bytes) = source.resolve()?;
    let options = PushOptions { chunk, limits: &Limits::default(), done: &|_, _| {} };
    destination.push(&source, Some(&source), (&root, &bytes), &options)?;
    Ok(root.digest)
}

fn push_as_me(from: &str, to: &str, chunk: Option<u64>) -> Result<Digest, Error> {
    push_from(from, None, to, user("me"), chunk)
}

fn push(image: &Image, server: &Server, chunk: Option<u64>) -> Result<Digest, Error> {
    let from = origin(image);
    push_as_me(&format!("{}/from", from.host()), &format!("{}/app:v1", server.host()), chunk)
}

pub(super) fn assert_whole(shelf: &Shelf, image: &Image) {
    let kept = shelf.lock().unwrap();
    assert!(kept.blobs[&image.layer().digest.to_string()] == image.layer);
    assert!(kept.blobs[&Digest::of(&image.config).to_string()] == image.config);
    assert_eq!(kept.manifests["v1"], image.manifest);
}

#[test]
fn in_one_piece_and_in_pieces() {
    let image = Image::new();
    for (chunk, patches) in [(None, 0), (Some(100_000), 3), (Some(1 << 30), 0)] {
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
    push_as_me(&format!("{}/from", server.host()), &format!("{}/app:v1", server.host()), None)
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
        let pushed = push_as_me(
            &format!("{}/from", from.host()),
            &format!("{}/app:v1", server.host()),
            chunk,
        );
        assert_fails(pushed, Kind::Verification, "sha256");
        let kept = shelf.lock().unwrap();
        assert!(kept.manifests.is_empty() && kept.blobs.is_empty());
    }
}

#[test]
fn a_mount_that_is_refused_is_no_obstacle() {
    let image = Image::new();
    // ECR Public answers so, and a token server may give no token for the other repository.
    for refusal in [400, 401, 403, 404, 405] {
        let served = image.clone();
        let (server, shelf) = taking(move |asked, _| {
            if asked.path().starts_with("/v2/from/") {
                return Some(served.answer(asked));
            }
            (!asked.query("mount").is_empty()).then(|| Answer::new(refusal))
        });
        push_as_me(&format!("{}/from", server.host()), &format!("{}/app:v1", server.host()), None)
            .unwrap();
        assert_whole(&shelf, &image);
        // Once is enough to know.
        let mounts = server.log().iter().filter(|asked| !asked.query("mount").is_empty()).count();
        assert!(mounts == 1 || refusal == 401, "{refusal}: {mounts}");
    }
    // One that knows no mounts begins an upload, which is given back.
    let served = image.clone();
    let (server, shelf) =
        taking(move |asked, _| asked.path().starts_with("/v2/from/").then(|| served.answer(asked)));
    push_as_me(&format!("{}/from", server.host()), &format!("{}/app:v1", server.host()), None)
        .unwrap();
    assert_whole(&shelf, &image);
    assert_eq!(server.log().iter().filter(|asked| asked.method == "DELETE").count(), 2);
}

#[test]
fn pieces_shrink_until_they_fit() {
    let image = Image::new();
    // GHCR takes no more than 4 MiB in a piece; here it is less.
    let (server, shelf) = taking(|asked, _| (asked.body.len() > 70_000).then(|| Answer::new(416)));
    push(&image, &server, Some(300_000)).unwrap();
    assert_whole(&shelf, &image);
    let (server, shelf) = taking(|asked, _| {
        (asked.path().contains("/uploads/") && !asked.body.is_empty()).then(|| Answer::new(416))
    });
    assert_fails(push(&image, &server, Some(1 << 20)), Kind::Generic, "answers 416");
    assert!(shelf.lock().unwrap().manifests.is_empty());
}

#[test]
fn a_push_that_nobody_reads_ends() {
    let image = Image::new();
    let from = origin(&image);
    // It takes the connection for the upload and no byte more; the body is larger than what the sockets hold.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = std::thread::spawn(move || {
        use std::io::{BufRead, Write};
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept() {
            let mut first = [0u8; 1];
            if connection.peek(&mut first).is_ok_and(|n| n == 1) && first == [0x16] {
                continue;
            }
            let mut line = String::new();
            std::io::BufReader::new(connection.try_clone().unwrap()).read_line(&mut line).unwrap();
            match line.split(' ').next() {
                Some("END") => return,
                Some("HEAD") => connection.write_all(b"HTTP/1.1 404 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap(),
                Some("POST") => connection.write_all(b"HTTP/1.1 202 X\r\nconnection: close\r\nlocation: /v2/x\r\ncontent-length: 0\r\n\r\n").unwrap(),
                Some("PUT") => open.push(connection),
                _ => {}
            }
        }
    });
    let source = registry(&format!("{}/from", from.host()), None);
    let mut settings = settings(None).0;
    let short = Duration::from_millis(200);
    settings.timeouts =
        Timeouts { answer: short, stall: short, commit: short, ..settings.timeouts };
    let destination =
        Destination::new(&Reference::parse(&format!("{address}/app")).unwrap(), settings).unwrap();
    let (root, bytes) = source.resolve().unwrap();
    let options = PushOptions { chunk: None, limits: &Limits::default(), done: &|_, _| {} };
    let began = std::time::Instant::now();
    assert_fails(
        destination.push(&source, None, (&root, &bytes), &options),
        Kind::Network,
        "no progress",
    );
    assert!(began.elapsed() < Duration::from_secs(30));
    std::io::Write::write_all(&mut std::net::TcpStream::connect(address).unwrap(), b"END \n")
        .unwrap();
    held.join().unwrap();
}
