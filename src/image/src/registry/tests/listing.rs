//! Tags and referrers, page by page.

use super::server::Server;
use super::*;

#[test]
fn pages_are_followed_whatever_their_length() {
    for link in
        ["</v2/app/tags/list?n=1000&last=LAST>; rel=\"next\"", "<list?n=1000&last=LAST>; rel=next"]
    {
        let server = Server::start(move |asked| {
            let page = |tags: &str, last: &str| {
                let answer = Answer::new(200).body(format!(r#"{{"name":"app","tags":{tags}}}"#));
                if last.is_empty() {
                    answer
                } else {
                    answer.header("link", link.replace("LAST", last))
                }
            };
            match asked.query("last").first().map(String::as_str) {
                None => page(r#"["a","b"]"#, "b"),
                Some("b") => page("[]", "c"),
                Some("c") => page("null", "d"),
                _ => page(r#"["z","\u001b[31m","../x"]"#, ""),
            }
        });
        let registry = registry(&format!("{}/app", server.host()), None);
        assert_eq!(registry.tags().unwrap(), ["a", "b", "z"]);
        assert_eq!(server.log().len(), 4);
    }
}

#[test]
fn a_page_that_breaks_off_is_asked_for_again() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = Server::start(move |asked| {
        if asked.query("last").is_empty() {
            return Answer::new(200)
                .header("link", "<list?n=1000&last=b>; rel=next")
                .body(r#"{"tags":["a","b"]}"#);
        }
        let whole = Answer::new(200).body(r#"{"tags":["c"]}"#);
        let first = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        if first { whole.length(1000) } else { whole }
    });
    assert_eq!(registry(&format!("{}/app", server.host()), None).tags().unwrap(), ["a", "b", "c"]);
}

#[test]
fn pages_that_end_nowhere() {
    let circle = Server::start(|asked| {
        let next = if asked.target.contains("last=a") { "b" } else { "a" };
        Answer::new(200)
            .header("link", format!("</v2/app/tags/list?last={next}>; rel=next"))
            .body(r#"{"tags":["x"]}"#)
    });
    assert_fails(
        registry(&format!("{}/app", circle.host()), None).tags(),
        Kind::Network,
        "have no end",
    );
    // The next page is somebody else's, who wants to know who asks.
    let thief = Server::start(|_| Answer::new(200).body("{}"));
    let url = thief.other_name();
    let away = Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Answer::new(200)
            .header("link", format!("<{url}/v2/>; rel=next"))
            .body(r#"{"tags":["x"]}"#),
        None => unauthorized("Basic realm=x"),
    });
    assert_fails(
        registry(&format!("{}/app", away.host()), user("me")).tags(),
        Kind::Network,
        "next page elsewhere",
    );
    assert!(thief.log().is_empty());
    let html = Server::start(|_| Answer::new(200).body("<html>"));
    assert_fails(
        registry(&format!("{}/app", html.host()), None).tags(),
        Kind::Generic,
        "not a list",
    );
    let none = Server::start(|_| missing("NAME_UNKNOWN"));
    assert_fails(
        registry(&format!("{}/app", none.host()), None).tags(),
        Kind::NotFound,
        "NAME_UNKNOWN",
    );
}

#[test]
fn referrers_are_filtered_here_or_there() {
    let entry = |name: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":3,"artifactType":"{name}"}}"#,
            media::OCI_MANIFEST,
            Digest::of(name.as_bytes())
        )
    };
    let (all, one) = (format!("{},{}", entry("a/b"), entry("c/d")), entry("a/b"));
    for filters in [true, false] {
        let (all, one) = (all.clone(), one.clone());
        let server = Server::start(move |asked| {
            let filtered = filters && asked.query("artifactType") == ["a/b"];
            let answer = Answer::new(200).header("content-type", media::OCI_INDEX).body(format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                if filtered { &one } else { &all }
            ));
            if filtered { answer.header("oci-filters-applied", "artifactType") } else { answer }
        });
        let registry = registry(&format!("{}/app", server.host()), None);
        let digest = Digest::of(b"subject");
        assert_eq!(registry.referrers(&digest, None).unwrap().len(), 2);
        assert_eq!(registry.referrers(&digest, Some("a/b")).unwrap().len(), 1);
    }
    let lies = Server::start(|_| {
        Answer::new(200)
            .body(r#"{"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":1}]}"#)
    });
    assert_fails(
        registry(&format!("{}/app", lies.host()), None).referrers(&Digest::of(b""), None),
        Kind::Generic,
        "not a list",
    );
}

#[test]
fn referrers_are_in_a_tag_where_there_is_no_api() {
    let subject = Digest::of(b"subject");
    let tag = format!("/v2/app/manifests/sha256-{}", subject.hex());
    let entry = format!(
        r#"{{"mediaType":"{}","digest":"{}","size":3,"artifactType":"a/b","annotations":{{"x":"y"}}}}"#,
        media::OCI_MANIFEST,
        Digest::of(b"one")
    );
    for status in [400, 404, 405, 406, 501] {
        let (tag, entry) = (tag.clone(), entry.clone());
        let server = Server::start(move |asked| match asked.path() {
            path if path == tag => Answer::new(200)
                .header("content-type", media::OCI_INDEX)
                .body(format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)),
            path if path.contains("/referrers/") => Answer::new(status).body("<html>"),
            _ => missing("MANIFEST_UNKNOWN"),
        });
        let registry = registry(&format!("{}/app", server.host()), None);
        let found = registry.referrers(&subject, None).unwrap();
        assert_eq!(found.len(), 1, "{status}");
        assert_eq!(found[0].annotations["x"], "y");
        assert!(registry.referrers(&subject, Some("c/d")).unwrap().is_empty());
        assert!(registry.referrers(&Digest::of(b"other"), None).unwrap().is_empty());
    }
    // One that is not allowed, broken or gone after the first page is no registry without.
    for status in [401, 403, 500, 404] {
        let server = Server::start(move |asked| match asked.query("page").is_empty() {
            true if status == 404 => Answer::new(200)
                .header("link", "<?page=2>; rel=next")
                .body(r#"{"schemaVersion":2,"manifests":[]}"#),
            _ => Answer::new(status),
        });
        registry(&format!("{}/app", server.host()), None).referrers(&subject, None).unwrap_err();
        assert!(server.log().iter().all(|asked| !asked.path().contains("/manifests/")), "{status}");
    }
}
