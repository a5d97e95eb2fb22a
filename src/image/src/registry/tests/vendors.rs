//! Who asks for what: one test for each registry, after its documentation.

use super::server::Server;
use super::*;

/// A token server that gives `token` to who `allowed` says.
fn token_server(
    token: &'static str,
    allowed: impl Fn(&Asked) -> bool + Send + Sync + 'static,
) -> Server {
    Server::start(move |asked| {
        if allowed(asked) {
            Answer::new(200).body(format!(r#"{{"token":"{token}","expires_in":300}}"#))
        } else {
            Answer::new(401).body(r#"{"details":"incorrect username or password"}"#)
        }
    })
}

/// A registry that wants `Authorization: header`, and challenges with what `challenge` makes of the repository.
fn guarded(
    image: &Image,
    header: &'static str,
    challenge: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Server {
    let image = image.clone();
    Server::start(move |asked| {
        if asked.header("authorization") == Some(header) {
            return image.answer(asked);
        }
        let name =
            asked.path().trim_start_matches("/v2/").split("/manifests").next().unwrap().to_owned();
        unauthorized(&challenge(&name))
    })
}

fn bearer(realm: &str, service: &str) -> impl Fn(&str) -> String + Send + Sync + 'static {
    let (realm, service) = (realm.to_owned(), service.to_owned());
    move |name| {
        format!(r#"Bearer realm="{realm}",service="{service}",scope="repository:{name}:pull""#)
    }
}

/// Keeps the layer for a registry that sends its clients there with a signature in the URL, and refuses who shows other credentials as well.
fn storage(image: &Image) -> Server {
    let stored = image.clone();
    Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Answer::new(400).body("only one auth mechanism allowed"),
        None if asked.target.contains("signature=") => ranged(asked, &stored.layer),
        None => Answer::new(403),
    })
}

/// As [`guarded`], with the layer in a [`storage`].
fn redirecting(
    image: &Image,
    header: &'static str,
    challenge: impl Fn(&str) -> String + Send + Sync + 'static,
    storage: &Server,
) -> Server {
    let (url, layer) = (storage.other_name(), image.layer().digest.to_string());
    let image = image.clone();
    Server::start(move |asked| {
        if asked.header("authorization") != Some(header) {
            return unauthorized(&challenge("app"));
        }
        match asked.path().ends_with(&layer) {
            true => Answer::new(307).header("location", format!("{url}/x?signature=y")),
            false => image.answer(asked),
        }
    })
}

#[test]
fn docker_hub_for_nobody() {
    let image = Image::new();
    let tokens = token_server("hub", |asked| {
        asked.query("service") == ["registry.docker.io"]
            && asked.query("scope") == ["repository:library/debian:pull"]
            && asked.query("account").is_empty()
            && asked.header("authorization").is_none()
    });
    // Its blobs are with somebody who refuses a request with two kinds of credentials.
    let stored = image.clone();
    let cdn = Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Answer::new(400).body("only one auth mechanism allowed"),
        None if asked.target.contains("signature=") => ranged(asked, &stored.layer),
        None => Answer::new(403),
    });
    let (realm, cdn_url, served) =
        (format!("{}/token", tokens.other_name()), cdn.other_name(), image.clone());
    let layer = image.layer().digest.to_string();
    let hub = Server::start(move |asked| match asked.header("authorization") {
        Some("Bearer hub") if asked.path().ends_with(&layer) => {
            Answer::new(307).header("location", format!("{cdn_url}/x?signature=y"))
        }
        Some("Bearer hub") => served.answer(asked).header("ratelimit-remaining", "99;w=21600"),
        _ => unauthorized(&bearer(&realm, "registry.docker.io")("library/debian")),
    });
    pull(&registry(&format!("{}/library/debian", hub.host()), None), &image).unwrap();
    assert!(!cdn.knows_secrets());
    // One challenge and one token for all of it.
    assert_eq!(tokens.log().len(), 1);
    assert_eq!(hub.log().len(), 4);
}

#[test]
fn docker_hub_with_an_account() {
    let image = Image::new();
    let tokens = token_server("hub", |asked| {
        asked.header("authorization") == Some(&basic("me")) && asked.query("account") == ["me"]
    });
    let hub = guarded(
        &image,
        "Bearer hub",
        bearer(&format!("{}/token", tokens.other_name()), "registry.docker.io"),
    );
    let name = format!("{}/me/private", hub.host());
    pull(&registry(&name, user("me")), &image).unwrap();
    // The registry never sees the password.
    assert!(
        hub.log()
            .iter()
            .all(|asked| !asked.header("authorization").unwrap_or_default().starts_with("Basic"))
    );
    assert_fails(
        registry(&name, user("other")).resolve(),
        Kind::Auth,
        "incorrect username or password",
    );
    assert_fails(registry(&name, None).resolve(), Kind::Auth, "no credentials for 127.0.0.1");
}

#[test]
fn ghcr() {
    let image = Image::new();
    // Public packages want a token, too; referrers are in the tag of old.
    let tokens = token_server("ghcr", |asked| asked.query("service") == ["ghcr.io"]);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}","size":3,"artifactType":"a/b"}}]}}"#,
        media::OCI_INDEX,
        media::OCI_MANIFEST,
        Digest::of(b"sig")
    );
    let tag = Digest::of(&image.manifest).to_string().replace(':', "-");
    let challenge = bearer(&format!("{}/token", tokens.other_name()), "ghcr.io");
    // Its blobs are at pkg-containers.githubusercontent.com.
    let packages = storage(&image);
    let (url, layer) = (packages.other_name(), image.layer().digest.to_string());
    let served = image.clone();
    let ghcr = Server::start(move |asked| {
        if asked.header("authorization") != Some("Bearer ghcr") {
            unauthorized(&challenge("o/p"))
        } else if asked.path().ends_with(&layer) {
            Answer::new(307).header("location", format!("{url}/x?signature=y"))
        } else if asked.path().contains("/referrers/") {
            Answer::new(404).body("404 page not found")
        } else if asked.path().ends_with(&tag) {
            Answer::new(200).header("content-type", media::OCI_INDEX).body(index.clone())
        } else {
            served.answer(asked)
        }
    });
    let registry = registry(&format!("{}/o/p", ghcr.host()), user("me"));
    pull(&registry, &image).unwrap();
    assert!(!packages.knows_secrets());
    let found = registry.referrers(&Digest::of(&image.manifest), None).unwrap();
    assert_eq!(found.len(), 1);
    assert!(registry.referrers(&Digest::of(&image.manifest), Some("c/d")).unwrap().is_empty());
    assert!(registry.referrers(&Digest::of(b"other"), None).unwrap().is_empty());
}

#[test]
fn quay_with_a_robot() {
    // The token server is the registry itself; without the right Accept there is schema 1.
    let image = Image::new();
    let served = image.clone();
    let host = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&host);
    let quay = Server::start(move |asked| {
        if asked.path() == "/v2/auth" {
            return match asked.header("authorization") == Some(&basic("org+robot")) {
                true => Answer::new(200).body(r#"{"token":"quay"}"#),
                false => Answer::new(401),
            };
        }
        if asked.header("authorization") != Some("Bearer quay") {
            return unauthorized(&bearer(
                &format!("http://{}/v2/auth", own.lock().unwrap()),
                "quay.io",
            )("org/app"));
        }
        if asked.path().contains("/manifests/")
            && !asked.header("accept").unwrap().contains(media::OCI_MANIFEST)
        {
            return Answer::new(200)
                .header("content-type", media::DOCKER_SCHEMA1_SIGNED)
                .body(r#"{"schemaVersion":1}"#);
        }
        served.answer(asked)
    });
    *host.lock().unwrap() = quay.host();
    pull(&registry(&format!("{}/org/app", quay.host()), user("org+robot")), &image).unwrap();
}

#[test]
fn harbor_with_a_robot() {
    let image = Image::new();
    let tokens = token_server("harbor", |asked| {
        asked.header("authorization") == Some(&basic("robot$project+ci"))
            && asked.query("service") == ["harbor-registry"]
    });
    let harbor = guarded(
        &image,
        "Bearer harbor",
        bearer(&format!("{}/service/token", tokens.other_name()), "harbor-registry"),
    );
    pull(&registry(&format!("{}/project/app", harbor.host()), user("robot$project+ci")), &image)
        .unwrap();
    assert!(tokens.log()[0].target.contains("account=robot%24project%2Bci"));
}

#[test]
fn artifactory() {
    // It refuses POST, and knows the repository by another name, which only its challenge says.
    let image = Image::new();
    let tokens = token_server("jfrog", |asked| {
        asked.method == "GET"
            && asked.query("scope").contains(&"repository:docker-local/app:pull".to_owned())
    });
    let realm = format!("{}/v2/token", tokens.other_name());
    let artifactory =
        guarded(&image, "Bearer jfrog", move |_| bearer(&realm, "company")("docker-local/app"));
    pull(&registry(&format!("{}/app", artifactory.host()), user("me")), &image).unwrap();
    // Or it is set up for Basic.
    let header: &'static str = Box::leak(basic("me").into_boxed_str());
    let plain = guarded(&image, header, |_| r#"Basic realm="Artifactory Realm""#.to_owned());
    pull(&registry(&format!("{}/app", plain.host()), user("me")), &image).unwrap();
}

#[test]
fn google() {
    // Its real answers have no challenge: only that of the base does.
    let image = Image::new();
    let tokens = token_server("google", |asked| {
        ["_json_key", "oauth2accesstoken"]
            .iter()
            .any(|user| asked.header("authorization") == Some(&basic(user)))
    });
    let challenge = bearer(&format!("{}/v2/token", tokens.other_name()), "gcr.io");
    let served = image.clone();
    let gar = Server::start(move |asked| match asked.header("authorization") {
        Some("Bearer google") => served.answer(asked),
        _ if asked.path() == "/v2/" => unauthorized(&challenge("")),
        _ => Answer::new(401).body("{}"),
    });
    pull(&registry(&format!("{}/project/repo/app", gar.host()), user("_json_key")), &image)
        .unwrap();
    assert_eq!(tokens.log()[0].query("scope")[0], "repository:project/repo/app:pull");
    // With a key, and with what gcloud auth print-access-token prints.
    let name = format!("{}/project/repo/app", gar.host());
    pull(&registry(&name, user("oauth2accesstoken")), &image).unwrap();
    assert_eq!(tokens.log().len(), 2);
}

#[test]
fn ecr() {
    // Basic with every request, blobs in a bucket that refuses credentials, pages with a token that nobody can read.
    let image = Image::new();
    let stored = image.clone();
    let s3 = Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Answer::new(400),
        None => ranged(asked, &stored.layer),
    });
    let (url, layer, served) = (s3.other_name(), image.layer().digest.to_string(), image.clone());
    let header = basic("AWS");
    let ecr = Server::start(move |asked| {
        if asked.header("authorization") != Some(&header) {
            return unauthorized(
                r#"Basic realm="https://123.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com""#,
            );
        }
        if asked.path().ends_with("/tags/list") {
            return match asked.query("last").first().map(String::as_str) {
                None => Answer::new(200)
                    .header(
                        "link",
                        r#"</v2/app/tags/list?last=3%2Bopaque%3D%3D&n=1000>; rel="next""#,
                    )
                    .body(r#"{"name":"app","tags":["a"]}"#),
                Some("3+opaque==") => Answer::new(200).body(r#"{"name":"app","tags":["b"]}"#),
                Some(_) => Answer::new(405),
            };
        }
        if asked.path().ends_with(&layer) {
            return Answer::new(307)
                .header("location", format!("{url}/bucket/x?X-Amz-Signature=y"));
        }
        served.answer(asked)
    });
    let registry = registry(&format!("{}/app", ecr.host()), user("AWS"));
    pull(&registry, &image).unwrap();
    assert!(!s3.knows_secrets());
    assert_eq!(registry.tags().unwrap(), ["a", "b"]);
    // It is asked only once which kind it wants.
    assert_eq!(ecr.log().iter().filter(|asked| asked.header("authorization").is_none()).count(), 1);
}

#[test]
fn acr_with_an_identity_token() {
    let image = Image::new();
    let tokens = Server::start(|asked| {
        let form = |name| asked.field(name).unwrap_or_default();
        let good = asked.method == "POST"
            && asked.path() == "/oauth2/token"
            && asked.header("content-type") == Some("application/x-www-form-urlencoded")
            && form("grant_type") == "refresh_token"
            && form("service") == "company.azurecr.io"
            && form("scope") == "repository:app:pull"
            && form("refresh_token") == "ref+resh/hush";
        match good {
            true => Answer::new(200).body(r#"{"access_token":"azure"}"#),
            false => {
                Answer::new(400).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#)
            }
        }
    });
    // Its blobs are at *.blob.core.windows.net.
    let blobs = storage(&image);
    let acr = redirecting(
        &image,
        "Bearer azure",
        bearer(&format!("{}/oauth2/token", tokens.other_name()), "company.azurecr.io"),
        &blobs,
    );
    let identity = |token: &str| {
        Some(Credential::Identity {
            user: "00000000-0000-0000-0000-000000000000".into(),
            token: token.into(),
        })
    };
    let name = format!("{}/app", acr.host());
    pull(&registry(&name, identity("ref+resh/hush")), &image).unwrap();
    assert!(!tokens.knows_secrets() && !blobs.knows_secrets());
    assert_fails(
        registry(&name, identity("hush")).resolve(),
        Kind::Auth,
        "status 400: UNAUTHORIZED: no",
    );
}

/// The admin user has a password, for which the token server is asked with GET; refresh tokens are none of its.
#[test]
fn acr_with_its_admin_user() {
    let image = Image::new();
    let tokens = token_server("azure", |asked| {
        asked.method == "GET"
            && asked.header("authorization") == Some(&basic("company"))
            && asked.query("service") == ["company.azurecr.io"]
    });
    let blobs = storage(&image);
    let realm = format!("{}/oauth2/token", tokens.other_name());
    let acr = redirecting(&image, "Bearer azure", bearer(&realm, "company.azurecr.io"), &blobs);
    pull(&registry(&format!("{}/app", acr.host()), user("company")), &image).unwrap();
    assert!(!blobs.knows_secrets());
    assert!(tokens.log().iter().all(|asked| asked.method == "GET"));
}

#[test]
fn gitlab_has_its_token_server_elsewhere() {
    let image = Image::new();
    let tokens = token_server("lab", |asked| {
        asked.path() == "/jwt/auth" && asked.header("authorization") == Some(&basic("deploy"))
    });
    let gitlab = guarded(
        &image,
        "Bearer lab",
        bearer(&format!("{}/jwt/auth", tokens.other_name()), "container_registry"),
    );
    pull(&registry(&format!("{}/group/project", gitlab.host()), user("deploy")), &image).unwrap();
}

#[test]
fn distribution_with_htpasswd() {
    let image = Image::new();
    let header: &'static str = Box::leak(basic("me").into_boxed_str());
    let server = guarded(&image, header, |_| r#"Basic realm="Registry Realm""#.to_owned());
    let name = format!("{}/app", server.host());
    pull(&registry(&name, user("me")), &image).unwrap();
    assert_fails(registry(&name, user("other")).resolve(), Kind::Auth, "credentials of \"other\"");
    assert_fails(registry(&name, None).resolve(), Kind::Auth, "no credentials for 127.0.0.1");
}

#[test]
fn a_token_that_ran_out_is_renewed_once() {
    let image = Image::new();
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let given = Arc::clone(&count);
    let tokens = Server::start(move |_| {
        let n = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Answer::new(200).body(format!(r#"{{"token":"t{n}"}}"#))
    });
    let challenge = bearer(&format!("{}/t", tokens.other_name()), "s");
    let served = image.clone();
    // The first token is for the manifest alone.
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some("Bearer t0") if asked.path().contains("/manifests/") => served.answer(asked),
        Some("Bearer t1") => served.answer(asked),
        _ => unauthorized(&challenge("app")),
    });
    pull(&registry(&format!("{}/app", server.host()), None), &image).unwrap();
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[test]
fn a_scope_that_only_the_challenge_names() {
    let image = Image::new();
    let tokens = Server::start(|asked| {
        let wide = asked.query("scope").iter().any(|scope| scope == "repository:app:pull,special");
        Answer::new(200).body(if wide { r#"{"token":"wide"}"# } else { r#"{"token":"narrow"}"# })
    });
    let realm = format!("{}/t", tokens.other_name());
    let served = image.clone();
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some("Bearer wide") => served.answer(asked),
        Some(_) => unauthorized(&format!(
            r#"Bearer realm="{realm}",service="s",scope="repository:app:pull,special",error="insufficient_scope""#
        )),
        None => unauthorized(&format!(r#"Bearer realm="{realm}",service="s""#)),
    });
    pull(&registry(&format!("{}/app", server.host()), None), &image).unwrap();
}

#[test]
fn parallel_requests_share_one_token() {
    let image = Image::new();
    let tokens = token_server("t", |_| true);
    let server = guarded(&image, "Bearer t", bearer(&format!("{}/t", tokens.other_name()), "s"));
    let registry = registry(&format!("{}/app", server.host()), None);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert!(read_blob(&registry, &image.layer()).unwrap() == image.layer));
        }
    });
    assert_eq!(tokens.log().len(), 1);
}
