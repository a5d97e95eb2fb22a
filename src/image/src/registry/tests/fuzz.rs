//! What registries say and what files about them hold, mutated.

use crate::fuzz::{as_it_is, fuzz};
use crate::registry::challenge::{self, Challenge};
use crate::registry::endpoint::{Registries, Repository};
use crate::registry::url::Url;
use crate::registry::{answer, hosts, retry};

#[test]
fn fuzz_challenges() {
    let good: [&[u8]; 4] = [
        br#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push""#,
        br#"Basic realm="x", Bearer realm=https://x/,error="insufficient_scope""#,
        br#"Negotiate abc==, basic"#,
        br#"BEARER realm = "https://x/\"y" , service = z"#,
    ];
    let words: [&[u8]; 10] = [
        b"Bearer ",
        b"Basic ",
        b"realm=",
        b"\"",
        b"\\",
        b",",
        b"=",
        b"scope=\"",
        b"\xc3\xa4",
        b" \t ",
    ];
    fuzz("challenges", &good, &words, as_it_is, |input| {
        let text = String::from_utf8_lossy(input);
        let found = challenge::parse(text.lines());
        let basics = found.iter().filter(|c| matches!(c, Challenge::Basic)).count();
        for challenge in &found {
            if let Challenge::Bearer(bearer) = challenge {
                assert!(!bearer.realm.is_empty());
                // Where credentials would go: a URL, or nowhere.
                if let Ok(url) = Url::parse(&bearer.realm) {
                    assert_eq!(Url::parse(&url.to_wire()).unwrap(), url);
                }
            }
        }
        // What is stronger comes first.
        assert!(found.iter().rev().take(basics).all(|c| matches!(c, Challenge::Basic)));
        format!(
            "{} {} {:?}",
            "x".repeat(found.len().min(50)),
            "y".repeat(basics.min(50)),
            found.first()
        )
    });
}

#[test]
fn fuzz_locations() {
    let base = Url::parse("https://registry.example:5000/v2/a/blobs/uploads/?state=1").unwrap();
    let good: [&[u8]; 6] =
        [b"https://s/x?y", b"//s/x", b"/v2/x", b"x?y=http://z/", b"?n=2", b"http://[::1]:80/#x"];
    let words: [&[u8]; 14] = [
        b"//",
        b"/",
        b"@",
        b":",
        b"\\",
        b"..",
        b"%2f",
        b"0x7f.1",
        b"127.0.0.1",
        b"localhost",
        b"\r\n",
        b"#",
        b"?",
        b"[::1]",
    ];
    fuzz("locations", &good, &words, as_it_is, |input| {
        match base.join(&String::from_utf8_lossy(input)) {
            Ok(url) => {
                let wire = url.to_wire();
                assert!(wire.bytes().all(|b| b.is_ascii_graphic()), "one line of a request");
                let again = Url::parse(&wire).unwrap();
                assert_eq!(again, url);
                // What decides who is told secrets reads the same as what is connected to.
                let uri: ureq::http::Uri = match wire.parse() {
                    Ok(uri) => uri,
                    Err(error) => return format!("no uri {error}"),
                };
                assert_eq!(uri.host(), Some(url.host.as_str()));
                assert_eq!(uri.port_u16().unwrap_or(url.port()), url.port());
                format!("here {} loopback {}", url.same_origin(&base), url.is_loopback())
            }
            Err(error) => error.to_string(),
        }
    });
}

#[test]
fn fuzz_messages_and_dates() {
    let good: [&[u8]; 4] = [
        br#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
        br#"{"error":"invalid_grant","error_description":"gone"}"#,
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ];
    let words: [&[u8]; 6] = [b"\\u001b[31m", b"99", b":", b"null", b"[", b"{"];
    fuzz("messages and dates", &good, &words, as_it_is, |input| {
        let said = answer::message(input);
        assert!(!said.chars().any(char::is_control) && said.chars().count() <= 410);
        let text = String::from_utf8_lossy(input);
        let later = retry::retry_after(&text, std::time::UNIX_EPOCH);
        format!("{said} {}", later.is_some())
    });
}

#[test]
fn fuzz_mirrors() {
    let good: [&[u8]; 3] = [
        b"[[registry]]\nprefix = \"r.example\"\nlocation = \"m.example/x\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"n.example\"\npull-from-mirror = \"digest-only\"\n",
        b"[[registry]]\nprefix = \"*.example\"\nblocked = true\n",
        b"server = \"https://r.example\"\n[host.\"https://m.example/x\"]\ncapabilities = [\"pull\"]\nca = \"x\"\n[host.\"https://m.example/x\".header]\na = [\"b\"]\n",
    ];
    let words: [&[u8]; 10] = [
        b"[[registry]]\n",
        b"prefix = \"\"",
        b"location = \"/\"",
        b"..",
        b"http://",
        b"*",
        b"\"",
        b"\n",
        b"[host.\"x\"]\n",
        b"r.example/a",
    ];
    let repository = Repository::new("r.example", "a/b").unwrap();
    fuzz("mirrors", &good, &words, as_it_is, |input| {
        let text = String::from_utf8_lossy(input);
        let mut registries = Registries::default();
        let of_podman = registries
            .add(&text)
            .and_then(|()| registries.endpoints(&repository, None))
            .map(|found| found.map(|endpoints| endpoints.len()));
        let directory = std::path::Path::new("/d");
        let of_containerd =
            hosts::endpoints(&text, directory, &repository, None).map(|endpoints| {
                assert!(!endpoints.is_empty());
                endpoints.len()
            });
        format!("{of_podman:?} {of_containerd:?}")
    });
}
