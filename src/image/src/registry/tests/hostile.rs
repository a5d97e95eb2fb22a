//! Registries that lie, stop, wait, and send one round in circles.

use std::time::Instant;

use super::server::Server;
use super::*;
use crate::registry::endpoint::Trust;
use crate::registry::transport::{Peer, Request, Transport};
use crate::registry::url::Url;

/// A server that gives the same answer to all.
fn always(answer: Answer) -> Server {
    Server::start(move |_| answer.clone())
}

fn resolve(server: &Server) -> Result<(Descriptor, Vec<u8>), Error> {
    registry(&format!("{}/app", server.host()), user("me")).resolve()
}

fn layer(server: &Server) -> Result<Vec<u8>, Error> {
    read_blob(&registry(&format!("{}/app", server.host()), None), &Image::new().layer())
}

fn manifest(content_type: &str, body: &str) -> Answer {
    Answer::new(200).header("content-type", content_type).body(body)
}

#[test]
fn manifests_that_are_none() {
    let html = resolve(&always(manifest("text/html", "<html>hello</html>")));
    assert_fails(html, Kind::Verification, "is there a registry at this address?");
    for body in ["", "{", "[]", "null", "\"x\""] {
        assert_fails(
            resolve(&always(manifest(media::OCI_MANIFEST, body))),
            Kind::Verification,
            "no manifest",
        );
    }
    let schema1 = resolve(&always(manifest("application/json", r#"{"schemaVersion":1}"#)));
    assert_fails(schema1, Kind::Unsupported, "schema 1");
    let signed = resolve(&always(manifest(media::DOCKER_SCHEMA1_SIGNED, r#"{"schemaVersion":1}"#)));
    assert_fails(signed, Kind::Unsupported, "schema 1");
    // CVE-2021-41190: one thing to the registry, another to itself.
    let both = format!(r#"{{"schemaVersion":2,"mediaType":"{}"}}"#, media::OCI_INDEX);
    assert_fails(
        resolve(&always(manifest(media::OCI_MANIFEST, &both))),
        Kind::Verification,
        "calls itself",
    );
    assert!(resolve(&always(manifest("application/octet-stream", &both))).is_ok());
    let large = format!("{}{}", both, " ".repeat(5 << 20));
    assert_fails(
        resolve(&always(manifest(media::OCI_INDEX, &large))),
        Kind::NoSpace,
        "larger than the limit",
    );
}

#[test]
fn digests_that_lie() {
    let other = Digest::of(b"other").to_string();
    let lie = manifest(media::OCI_MANIFEST, r#"{"schemaVersion":2}"#)
        .header("docker-content-digest", other.clone());
    assert_fails(resolve(&always(lie)), Kind::Verification, "says that it gives");
    // What cannot be one is no digest, and no path (CVE-2024-3727).
    let path = manifest(media::OCI_MANIFEST, r#"{"schemaVersion":2}"#)
        .header("docker-content-digest", "sha256:../../x");
    assert!(resolve(&always(path)).is_ok());
    let server = always(manifest(media::OCI_MANIFEST, r#"{"schemaVersion":2}"#));
    let wanted = registry(&format!("{}/app@{other}", server.host()), None);
    assert_fails(wanted.resolve(), Kind::Verification, "lies");
}

#[test]
fn blobs_that_lie() {
    let image = Image::new();
    let mut other = image.layer.clone();
    other[7] ^= 1;
    assert_fails(
        layer(&always(Answer::new(200).body(other))),
        Kind::Verification,
        &image.layer().digest.to_string(),
    );
    let mut long = image.layer.clone();
    long.push(0);
    assert_fails(
        layer(&always(Answer::new(200).body(long.clone()))),
        Kind::Verification,
        "320001 bytes",
    );
    // Without a length there is one byte too many, and then as many as the client will take.
    let chunked = |data: &[u8]| {
        let mut body = format!("{:x}\r\n", data.len()).into_bytes();
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n0\r\n\r\n");
        Answer::new(200).header("transfer-encoding", "chunked").body(body)
    };
    assert!(layer(&always(chunked(&image.layer))).unwrap() == image.layer);
    assert_fails(layer(&always(chunked(&long))), Kind::Verification, "sha256");
    assert_fails(layer(&always(Answer::new(200).body("short"))), Kind::Verification, "5 bytes");
    assert_fails(layer(&always(manifest("text/html", "<html>"))), Kind::Verification, "6 bytes");
}

#[test]
fn ranges_that_lie() {
    let image = Image::new();
    let size = image.layer.len();
    for range in [
        "bytes 0-319999/320000",
        "bytes 160001-319999/320000",
        "bytes 160000-320000/320000",
        "bytes 160000-319999/320001",
        "bytes 160000-159999/320000",
        "bytes */320000",
        "160000-319999/320000",
        "",
    ] {
        let body = image.layer[size / 2..].to_vec();
        let server = always(Answer::new(206).header("content-range", range).body(body));
        let opened = registry(&format!("{}/app", server.host()), None)
            .blob(&image.layer(), 160_000)
            .map(drop);
        assert_fails(opened, Kind::Verification, "with the range");
    }
    // Without having been asked for.
    let server =
        always(Answer::new(206).header("content-range", "bytes 0-9/320000").body("0123456789"));
    assert_fails(layer(&server), Kind::Network, "answers 206");
}

#[test]
fn answers_that_stop_or_never_come() {
    let image = Image::new();
    let started = Instant::now();
    let (half, size) = (image.layer[..1000].to_vec(), image.layer.len());
    // The same first kilobyte again and again, as if there were no range.
    let server = always(Answer::new(200).body(half.clone()).length(size));
    assert_fails(layer(&server), Kind::Network, "broke off at 1000 of 320000 bytes");
    assert_eq!(server.log().len(), 3);
    // The connection stays open and silent.
    let server = always(Answer::new(200).body(half).length(size).hang());
    let silent = impatient(&format!("{}/app", server.host()));
    assert_fails(read_blob(&silent, &image.layer()), Kind::Network, "broke off at 1000");
    let server = always(manifest(media::OCI_MANIFEST, "{").length(100).hang());
    assert_fails(
        impatient(&format!("{}/app", server.host())).resolve(),
        Kind::Network,
        "the answer stopped",
    );
    // Accepts, and says nothing at all.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/app", listener.local_addr().unwrap());
    assert_fails(impatient(&name).resolve(), Kind::Network, "no progress");
    drop(listener);
    assert_fails(registry(&name, None).resolve(), Kind::Network, "nobody listens");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn always_no() {
    let server = always(Answer::new(503).header("retry-after", "1000000"));
    assert_fails(resolve(&server), Kind::Network, "answers 503");
    assert_eq!(server.log().len(), 3);
    let server = always(
        Answer::new(429).body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"limit"}]}"#),
    );
    assert_fails(resolve(&server), Kind::Network, "TOOMANYREQUESTS: limit (too many requests");
    let server = always(Answer::new(501));
    assert_fails(resolve(&server), Kind::Unsupported, "answers 501");
    assert_eq!(server.log().len(), 1);
    let server = always(Answer::new(403).body(r#"{"errors":[{"code":"DENIED"}]}"#));
    assert_fails(resolve(&server), Kind::Auth, "DENIED");
    // 401 for ever, in each of the ways to say it.
    for challenge in [
        "Basic realm=x",
        "Negotiate",
        "",
        "Bearer",
        "Bearer realm=\"/token\"",
        "Bearer realm=\"ftp://x/\"",
    ] {
        let server = always(unauthorized(challenge));
        let error = resolve(&server).unwrap_err();
        assert_eq!(error.kind(), Kind::Auth, "{error}");
        assert!(server.log().len() <= 4);
    }
    let tokens = always(Answer::new(200).body(r#"{"token":"t"}"#));
    let server = always(unauthorized(&format!(
        r#"Bearer realm="{}/",error="insufficient_scope",scope="a b c""#,
        tokens.other_name()
    )));
    assert_fails(resolve(&server), Kind::Auth, "refuses these credentials");
    assert!(server.log().len() <= 4 && tokens.log().len() <= 4);
}

#[test]
fn token_servers_that_lie() {
    let try_with = |answer: Answer| {
        let tokens = always(answer);
        let server =
            always(unauthorized(&format!(r#"Bearer realm="{}/token""#, tokens.other_name())));
        resolve(&server)
    };
    for (body, words) in [
        ("<html>", "not JSON"),
        ("{}", "has no token"),
        (r#"{"token":""}"#, "has no token"),
        (r#"{"token":"a\r\nx: y"}"#, "characters"),
    ] {
        assert_fails(try_with(Answer::new(200).body(body)), Kind::Auth, words);
    }
    let large = format!(r#"{{"token":"{}"}}"#, "x".repeat(2 << 20));
    assert_fails(try_with(Answer::new(200).body(large)), Kind::Auth, "too large");
    assert_fails(try_with(Answer::new(500)), Kind::Network, "status 500");
    assert_fails(try_with(Answer::new(200).length(10)), Kind::Network, "stopped");
    assert_fails(
        try_with(Answer::new(302).header("location", "/token")),
        Kind::Network,
        "redirects",
    );
    // A redirect of the token server does not take the password along.
    let thief = always(Answer::new(200).body(r#"{"token":"t"}"#));
    let location = format!("http://127.0.0.1:{}/", thief.host().rsplit(':').next().unwrap());
    assert_fails(try_with(Answer::new(307).header("location", location)), Kind::Auth, "refuses");
    assert!(!thief.log().is_empty() && !thief.knows_secrets());
}

#[test]
fn redirects_in_circles_and_to_nowhere() {
    let to = |location: &str| resolve(&always(Answer::new(302).header("location", location)));
    assert_fails(to("/v2/app/manifests/latest"), Kind::Network, "more than 10 redirects");
    for nowhere in
        ["", "ftp://x/", "http://", "http://u:p@x/", "http://0x7f.1/", "file:///etc/passwd"]
    {
        let error = to(nowhere).unwrap_err();
        assert_eq!(error.kind(), Kind::Network, "{nowhere}: {error}");
    }
    assert_fails(resolve(&always(Answer::new(307))), Kind::Network, "nowhere to go");
}

#[test]
fn credentials_stay_where_they_belong() {
    // Away and back again: who sends one back has chosen the URL.
    let thief = Server::start(|asked| unauthorized(&format!("Basic realm={}", asked.method)));
    let url = thief.other_name();
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Answer::new(307).header("location", format!("{url}/x")),
        None => unauthorized("Basic realm=x"),
    });
    assert_fails(resolve(&server), Kind::Auth, "answers 401");
    assert_eq!(thief.log().len(), 1);
    assert!(!thief.knows_secrets());
}

#[test]
fn only_a_registry_here_may_send_one_here() {
    let server = always(Answer::new(200));
    let (settings, _) = settings(None);
    let transport =
        Transport::new(std::sync::Arc::new(settings.tls), settings.proxies, settings.timeouts);
    let trust = Trust::default();
    let ask = |host: &str, named: bool| {
        let port = server.host().rsplit(':').next().unwrap().to_owned();
        let request = Request::new(
            ureq::http::Method::GET,
            Url::parse(&format!("http://{host}:{port}/")).unwrap(),
        );
        let sent =
            transport.send(&request, &request.url, &[], Peer { trust: &trust, named, own: false });
        sent.map(|response| response.status).map_err(|failure| failure.error)
    };
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "0.0.0.0",
        "[fe80::1]",
        "[fd00:ec2::254]",
    ] {
        assert_fails(ask(host, false), Kind::Network, "may not send anybody");
    }
    assert!(server.log().is_empty());
    assert_eq!(ask("127.0.0.1", true).unwrap(), 200);
}

/// Sends `head`, then `drop` again and again, until the client goes; one connection after another.
fn dripping(head: &'static str, drop: &'static [u8], wait: u64) -> String {
    use std::io::{BufRead, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            std::thread::spawn(move || {
                let mut first = [0u8; 1];
                if !matches!(connection.peek(&mut first), Ok(1)) || first == [0x16] {
                    return;
                }
                let mut reader = std::io::BufReader::new(connection.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                let mut sent = connection.write_all(head.as_bytes());
                while sent.is_ok() {
                    std::thread::sleep(Duration::from_millis(wait));
                    sent = connection.write_all(drop);
                }
            });
        }
    });
    format!("{address}/app")
}

#[test]
fn drop_by_drop_for_ever() {
    let started = Instant::now();
    // A head that has no end, a document, and a blob; each byte comes in time.
    let head = dripping("HTTP/1.1 200 X\r\n", b"x", 20);
    assert_fails(impatient(&head).resolve(), Kind::Network, "no progress");
    let headers = dripping("HTTP/1.1 200 X\r\n", b"x: y\r\n", 20);
    assert_fails(impatient(&headers).resolve(), Kind::Network, "");
    let document = dripping("HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\n", b"{", 20);
    assert_fails(impatient(&document).resolve(), Kind::Network, "the answer stopped");
    assert_fails(impatient(&document).tags(), Kind::Network, "the answer stopped");
    let blob = dripping("HTTP/1.1 200 X\r\ncontent-length: 320000\r\n\r\n", b"x", 20);
    assert_fails(read_blob(&impatient(&blob), &Image::new().layer()), Kind::Network, "too slow");
    // Interim answers, and a head that is fast and has no end.
    let interim = dripping("", b"HTTP/1.1 100 Continue\r\n\r\n", 1);
    assert_fails(impatient(&interim).resolve(), Kind::Network, "");
    let large = dripping("HTTP/1.1 200 X\r\n", &[b'x'; 4096], 0);
    assert_fails(impatient(&large).resolve(), Kind::Network, "");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
