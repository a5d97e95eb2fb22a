//! What is pulled, and how it goes on.

use std::sync::atomic::{AtomicU32, Ordering};

use super::server::Server;
use super::*;

#[test]
fn by_tag_and_by_digest() {
    let image = Image::new();
    let served = image.clone();
    let server = Server::start(move |asked| served.answer(asked));
    pull(&registry(&format!("{}/app", server.host()), None), &image).unwrap();
    let digest = Digest::of(&image.manifest);
    pull(&registry(&format!("{}/app:other@{digest}", server.host()), None), &image).unwrap();
    assert_eq!(registry(&format!("{}/app", server.host()), None).head().unwrap(), Some(digest));
    let asked = server.log();
    assert!(media::ACCEPTED.iter().all(|one| asked[0].header("accept").unwrap().contains(one)));
    assert!(asked.iter().all(|a| a.header("user-agent").unwrap().starts_with("skep/")));
    assert_fails(
        registry(&format!("{}/app:none", server.host()), None).resolve(),
        Kind::NotFound,
        "MANIFEST_UNKNOWN: not here",
    );
    let absent = Descriptor::of("x/y", b"absent");
    assert_fails(
        read_blob(&registry(&format!("{}/app", server.host()), None), &absent),
        Kind::NotFound,
        "BLOB_UNKNOWN",
    );
}

/// This registry answers none of the two blobs before it was asked for both.
#[test]
fn blobs_come_side_by_side() {
    let image = Image::new();
    let served = image.clone();
    let asked_for = (Mutex::new(0), std::sync::Condvar::new());
    let server = Server::start(move |asked| {
        if asked.path().contains("/blobs/") {
            let (count, changed) = &asked_for;
            *count.lock().unwrap() += 1;
            changed.notify_all();
            let patience = Duration::from_secs(60);
            let waited = changed.wait_timeout_while(count.lock().unwrap(), patience, |n| *n < 2);
            if waited.unwrap().1.timed_out() {
                return Answer::new(403).body("one at a time");
            }
        }
        served.answer(asked)
    });
    let place = std::env::temp_dir().join(format!("skep-side-by-side-{}", std::process::id()));
    let limits = crate::Limits::default();
    let store = crate::store::Store::open(&place, limits).unwrap();
    let platforms = crate::pull::Platforms::One(None);
    let options =
        crate::pull::Options { name: Some("app"), platforms: &platforms, jobs: 2, limits: &limits };
    let registry = registry(&format!("{}/app", server.host()), None);
    let pulled = crate::pull::pull(&registry, &store, &options, &crate::event::Nobody);
    let bytes = pulled.map(|pulled| pulled.bytes());
    std::fs::remove_dir_all(&place).unwrap();
    assert_eq!(bytes.unwrap(), (image.layer.len() + image.config.len()) as u64);
}

#[test]
fn a_blob_goes_on_where_it_broke_off() {
    let image = Image::new();
    let served = image.clone();
    let count = AtomicU32::new(0);
    let server = Server::start(move |asked| {
        let mut answer = served.answer(asked);
        // Each connection gives a quarter of a megabyte, and the length of it all.
        if asked.path().contains("/blobs/") && answer.body.len() > 1 << 16 {
            count.fetch_add(1, Ordering::SeqCst);
            answer.length = Some(answer.body.len());
            answer.body.truncate(1 << 16);
        }
        answer
    });
    // More breaks than attempts: progress is what counts.
    assert!(image.layer.len() > 4 << 16);
    let (settings, said) = settings(None);
    let registry =
        Registry::new(&Reference::parse(&format!("{}/app", server.host())).unwrap(), settings)
            .unwrap();
    assert!(read_blob(&registry, &image.layer()).unwrap() == image.layer);
    let ranges: Vec<_> =
        server.log().iter().filter_map(|a| a.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=65536-", "bytes=131072-", "bytes=196608-", "bytes=262144-"]);
    assert!(said.lock().unwrap()[0].contains("broke off at 65536 of 320000 bytes"));
}

#[test]
fn from_an_offset() {
    let image = Image::new();
    let served = image.clone();
    let server = Server::start(move |asked| served.answer(asked));
    // One that knows no ranges, and one that refuses them.
    let served = image.clone();
    let whole = Server::start(move |asked| {
        let mut asked = asked.clone();
        asked.headers.remove("range");
        served.answer(&asked)
    });
    let served = image.clone();
    let refusing = Server::start(move |asked| match asked.header("range") {
        Some(_) => Answer::new(416),
        None => served.answer(asked),
    });
    for server in [&server, &whole, &refusing] {
        let registry = registry(&format!("{}/app", server.host()), None);
        for offset in [0, 1, 160_000, image.layer.len() - 1, image.layer.len()] {
            let mut rest = Vec::new();
            registry.blob(&image.layer(), offset as u64).unwrap().read_to_end(&mut rest).unwrap();
            assert!(rest == image.layer[offset..], "{offset}");
        }
    }
}

#[test]
fn a_blob_that_is_on_the_way_when_the_link_expires() {
    // Links to a bucket are good once: the second attempt asks the registry for another one.
    let image = Image::new();
    let used = Mutex::new(std::collections::HashSet::new());
    let stored = image.clone();
    let bucket = Server::start(move |asked| {
        if !used.lock().unwrap().insert(asked.target.clone()) {
            return Answer::new(403).body("<Error>expired</Error>");
        }
        let answer = ranged(asked, &stored.layer);
        let (length, half) = (answer.body.len(), answer.body.len() / 2);
        if half < 70_000 {
            answer
        } else {
            Answer { body: answer.body[..half].to_vec(), length: Some(length), ..answer }
        }
    });
    let (url, count) = (bucket.other_name(), AtomicU32::new(0));
    let server = Server::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        Answer::new(302).header("location", format!("{url}/x?once={n}"))
    });
    let registry = registry(&format!("{}/app", server.host()), None);
    assert!(read_blob(&registry, &image.layer()).unwrap() == image.layer);
}

#[test]
fn what_the_server_cannot_now_is_tried_again() {
    for (status, header) in [
        (500, None),
        (503, Some("0")),
        (408, None),
        (429, Some("1")),
        (429, Some("Fri, 31 Dec 2100 23:59:59 GMT")),
    ] {
        let image = Image::new();
        let (served, count) = (image.clone(), AtomicU32::new(0));
        let server = Server::start(move |asked| {
            if count.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                return served.answer(asked);
            }
            let answer = Answer::new(status);
            match header {
                Some(value) => answer.header("retry-after", value),
                None => answer,
            }
        });
        pull(&registry(&format!("{}/app", server.host()), None), &image).unwrap();
    }
}

#[test]
fn warnings_are_said_once() {
    let image = Image::new();
    let served = image.clone();
    let server = Server::start(move |asked| {
        served
            .answer(asked)
            .header("warning", "299 - \"this goes away\"")
            .header("warning", "199 - \"not this\"")
    });
    let (settings, said) = settings(None);
    let registry =
        Registry::new(&Reference::parse(&format!("{}/app", server.host())).unwrap(), settings)
            .unwrap();
    pull(&registry, &image).unwrap();
    assert_eq!(*said.lock().unwrap(), [format!("{} says: this goes away", server.host())]);
}

#[test]
fn foreign_layers_are_asked_for_as_nobody() {
    let image = Image::new();
    // CVE-2020-15157: the host of the URL asks for a password.
    let thief = Server::start(|_| unauthorized(r#"Basic realm="give""#));
    let stored = image.clone();
    let honest = Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Answer::new(400),
        None => ranged(asked, &stored.layer),
    });
    let server = Server::start(|asked| match asked.header("authorization") {
        Some(_) => missing("BLOB_UNKNOWN"),
        None => unauthorized("Basic realm=x"),
    });
    let registry = registry(&format!("{}/app", server.host()), user("me"));
    let mut layer = image.layer();
    layer.urls = vec![
        format!("{}/layer", thief.other_name()),
        "file:///etc/passwd".into(),
        format!("{}/layer", honest.other_name()),
    ];
    // An ordinary layer is in the registry or nowhere.
    assert_fails(read_blob(&registry, &layer), Kind::NotFound, "BLOB_UNKNOWN");
    assert!(thief.log().is_empty());
    layer.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    assert!(read_blob(&registry, &layer).unwrap() == image.layer);
    assert_eq!(thief.log().len(), 1);
    assert!(!thief.knows_secrets() && !honest.knows_secrets());
}
