//! Pushes to registries as they are documented to differ: one server, a row for each of them.

use super::push::{Kept, assert_whole, push_from, taking};
use super::server::Server;
use super::*;

/// How a registry is told who one is.
#[derive(Clone, Copy)]
enum Auth {
    Basic(&'static str),
    /// A token for these scopes, from a server that takes user and password by GET.
    Bearer(&'static str),
    /// A token by POST, for a refresh token.
    OAuth2,
}

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    auth: Auth,
    /// `Location` of an upload: `HOST` is the registry's own.
    location: &'static str,
    /// Whether blobs come from other repositories of it.
    mounts: bool,
    /// Whether a blob may come in pieces.
    pieces: bool,
    /// The largest body it takes.
    largest: usize,
    /// Says what it has stored.
    says_digest: bool,
}

/// docs.docker.com (registry API), docs.github.com and its users' reports of 4 MiB a request, docs.quay.io, goharbor.io,
/// jfrog.com (Docker repositories), cloud.google.com/artifact-registry/docs/reference/docker-api (no chunks, uploads at another
/// path), docs.aws.amazon.com/AmazonECR (Basic, mounts where they are switched on), learn.microsoft.com (OAuth2).
const ROWS: [Row; 9] = [
    Row {
        name: "Docker Hub",
        auth: Auth::Bearer("me"),
        location: "http://HOST/v2/app/blobs/uploads/1?_state=a%3D%3D",
        mounts: true,
        pieces: true,
        largest: usize::MAX,
        says_digest: true,
    },
    Row {
        name: "GHCR",
        auth: Auth::Bearer("me"),
        location: "/v2/app/blobs/upload/1",
        mounts: true,
        pieces: true,
        largest: 150_000,
        says_digest: true,
    },
    Row {
        name: "Quay",
        auth: Auth::Bearer("org+robot"),
        location: "http://HOST/v2/app/blobs/uploads/1",
        mounts: true,
        pieces: true,
        largest: usize::MAX,
        says_digest: true,
    },
    Row {
        name: "Harbor",
        auth: Auth::Bearer("robot$project+ci"),
        location: "http://HOST/v2/app/blobs/uploads/1?_state=x",
        mounts: true,
        pieces: true,
        largest: usize::MAX,
        says_digest: true,
    },
    Row {
        name: "Artifactory",
        auth: Auth::Basic("me"),
        location: "http://HOST/v2/app/blobs/uploads/1",
        mounts: false,
        pieces: true,
        largest: usize::MAX,
        says_digest: true,
    },
    Row {
        name: "Google Artifact Registry",
        auth: Auth::Bearer("_json_key"),
        location: "/artifacts-uploads/namespaces/p/repositories/r/uploads/AB-c_d",
        mounts: false,
        pieces: false,
        largest: usize::MAX,
        says_digest: true,
    },
    Row {
        name: "GCR",
        auth: Auth::Bearer("oauth2accesstoken"),
        location: "/artifacts-uploads/namespaces/p/repositories/gcr.io/uploads/x",
        mounts: false,
        pieces: false,
        largest: usize::MAX,
        says_digest: true,
    },
    Row {
        name: "ECR",
        auth: Auth::Basic("AWS"),
        location: "http://HOST/v2/app/blobs/uploads/0f-1",
        mounts: false,
        pieces: true,
        largest: usize::MAX,
        says_digest: false,
    },
    Row {
        name: "ACR",
        auth: Auth::OAuth2,
        location: "/v2/app/blobs/uploads/1?_nouploadcache=false&_state=b",
        mounts: true,
        pieces: true,
        largest: usize::MAX,
        says_digest: true,
    },
];

fn tokens(auth: Auth) -> Server {
    Server::start(move |asked| {
        let granted = match auth {
            Auth::Basic(_) => false,
            Auth::Bearer(who) => {
                asked.method == "GET" && asked.header("authorization") == Some(&basic(who))
            }
            Auth::OAuth2 => {
                asked.method == "POST" && asked.field("refresh_token").as_deref() == Some("refresh")
            }
        };
        let scopes = if asked.method == "POST" {
            asked.field("scope").unwrap_or_default()
        } else {
            asked.query("scope").join(" ")
        };
        match granted {
            // The token is what it is for.
            true => Answer::new(200)
                .body(format!(r#"{{"access_token":"{}"}}"#, scopes.replace(' ', "_"))),
            false => Answer::new(401),
        }
    })
}

/// Why a request is refused that does not show who is asking.
fn refusal(row: Row, asked: &Asked, realm: &str) -> Option<Answer> {
    let reads = asked.method == "GET" || asked.method == "HEAD";
    let repository = if asked.path().starts_with("/v2/from/") { "from" } else { "app" };
    let needed = match (reads, asked.query("from").is_empty()) {
        (true, _) => format!("repository:{repository}:pull"),
        (_, true) => "repository:app:pull,push".to_owned(),
        (_, false) => "repository:app:pull,push_repository:from:pull".to_owned(),
    };
    let said = asked.header("authorization").unwrap_or_default();
    let (known, challenge) = match row.auth {
        Auth::Basic(who) => (said == basic(who), "Basic realm=x".to_owned()),
        Auth::Bearer(_) | Auth::OAuth2 => (
            said.strip_prefix("Bearer ").is_some_and(|token| token.starts_with(&needed)),
            format!(r#"Bearer realm="{realm}/token",service="s""#),
        ),
    };
    (!known).then(|| unauthorized(&challenge))
}

/// What the row's registry does its own way.
fn answer(row: Row, image: &Image, asked: &Asked, kept: &mut Kept) -> Option<Answer> {
    if asked.path().starts_with("/v2/from/") {
        return Some(image.answer(asked));
    }
    if asked.body.len() > row.largest {
        return Some(Answer::new(413));
    }
    let here = asked.header("host").unwrap_or_default();
    let located =
        |status: u16| Answer::new(status).header("location", row.location.replace("HOST", here));
    match asked.method.as_str() {
        "POST" if row.mounts && asked.query("from") == ["from"] => {
            let digest = asked.query("mount").pop().unwrap();
            let mut blobs = [&image.config, &image.layer].into_iter();
            let blob = blobs.find(|b| Digest::of(b).to_string() == digest).unwrap();
            kept.blobs.insert(digest, blob.clone());
            Some(Answer::new(201))
        }
        "POST" => {
            kept.upload.clear();
            Some(located(202))
        }
        "PATCH" if !row.pieces => Some(Answer::new(405)),
        "PATCH" => {
            kept.upload.extend_from_slice(&asked.body);
            // As ECR says it: of the first piece, for ever.
            Some(located(202).header("range", "0-0"))
        }
        "PUT" if !asked.path().contains("/manifests/") => {
            // What the Location said is given back as it was.
            let place = row.location.rsplit("HOST").next().unwrap();
            assert!(asked.target.starts_with(place), "{}", asked.target);
            assert!(!asked.body.is_empty(), "ECR takes no empty PUT");
            let mut body = std::mem::take(&mut kept.upload);
            body.extend_from_slice(&asked.body);
            let digest = Digest::of(&body).to_string();
            assert_eq!(asked.query("digest").pop().as_ref(), Some(&digest));
            kept.blobs.insert(digest, body);
            Some(Answer::new(201))
        }
        "PUT" if !row.says_digest => {
            let last = asked.path().rsplit('/').next().unwrap().to_owned();
            kept.manifests.insert(last, asked.body.clone());
            Some(Answer::new(201))
        }
        _ => None,
    }
}

#[test]
fn each_takes_what_is_pushed() {
    for row in ROWS {
        let image = Image::new();
        let served = image.clone();
        let tokens = tokens(row.auth);
        let realm = tokens.other_name();
        let (server, shelf) = taking(move |asked, kept| {
            refusal(row, asked, &realm).or_else(|| answer(row, &served, asked, kept))
        });
        let who = match row.auth {
            Auth::Basic(who) | Auth::Bearer(who) => user(who),
            Auth::OAuth2 => {
                Some(Credential::Identity { user: String::new(), token: "refresh".into() })
            }
        };
        let to = format!("{}/app:v1", server.host());
        // From elsewhere, in one piece and where it is known in several; then from a neighbour.
        let elsewhere = super::push::origin(&image);
        let chunks: &[Option<u64>] = if row.pieces { &[None, Some(100_000)] } else { &[None] };
        for chunk in chunks {
            *shelf.lock().unwrap() = Default::default();
            push_from(&format!("{}/from", elsewhere.host()), None, &to, who.clone(), *chunk)
                .unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_whole(&shelf, &image);
        }
        *shelf.lock().unwrap() = Default::default();
        let before = server.log().len();
        push_from(&format!("{}/from", server.host()), who.clone(), &to, who, None)
            .unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert_whole(&shelf, &image);
        let uploads = server.log()[before..]
            .iter()
            .any(|asked| asked.method != "POST" && asked.path().contains("upload"));
        assert_eq!(uploads, !row.mounts, "{}", row.name);
    }
}
