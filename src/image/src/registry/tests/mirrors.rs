//! Mirrors: asked first, trusted with nothing.

use super::server::Server;
use super::*;

/// A directory of the test's own.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("skep-registry-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn basic_registry(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |asked| match asked.header("authorization") == Some(&basic("me")) {
        true => image.answer(asked),
        false => unauthorized("Basic realm=x"),
    })
}

#[test]
fn what_a_mirror_has_comes_from_it() {
    let image = Image::new();
    let (own, served) = (basic_registry(&image), image.clone());
    // It has the manifest and not the layer.
    let mirror = Server::start(move |asked| match asked.path().contains("/blobs/") {
        true => missing("BLOB_UNKNOWN"),
        false => served.answer(asked),
    });
    let directory = Directory::new("conf");
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\ninsecure = true\n",
        own.host(),
        mirror.host()
    );
    let (mut settings, said) = settings(user("me"));
    settings.registries_conf =
        vec!["/does/not/exist".into(), directory.write("registries.conf", &conf)];
    let registry =
        Registry::new(&Reference::parse(&format!("{}/app", own.host())).unwrap(), settings)
            .unwrap();
    pull(&registry, &image).unwrap();
    assert!(mirror.log()[0].path().starts_with("/v2/hub/app/manifests/"));
    assert!(!mirror.knows_secrets());
    assert!(own.log().iter().all(|asked| asked.path().contains("/blobs/")));
    assert!(said.lock().unwrap().iter().any(|text| text.contains("was asked instead")));
}

#[test]
fn a_mirror_that_asks_for_a_password_or_lies_is_left_out() {
    let image = Image::new();
    let own = basic_registry(&image);
    let thief = Server::start(|_| unauthorized("Basic realm=give"));
    let liar = Server::start(|_| {
        Answer::new(200).header("content-type", media::OCI_MANIFEST).body(r#"{"schemaVersion":2}"#)
    });
    let directory = Directory::new("hosts");
    directory.write(
        &format!("{}/hosts.toml", own.host()),
        &format!("[host.\"http://{}\"]\n[host.\"http://{}\"]\n", thief.host(), liar.host()),
    );
    let (mut settings, _) = settings(user("me"));
    settings.hosts_d = vec![directory.0.clone()];
    let name = format!("{}/app@{}", own.host(), Digest::of(&image.manifest));
    let registry = Registry::new(&Reference::parse(&name).unwrap(), settings).unwrap();
    assert_eq!(registry.resolve().unwrap().1, image.manifest);
    assert!(!thief.knows_secrets() && !liar.knows_secrets());
    assert_eq!(thief.log()[0].query("ns"), [own.host()]);
    assert_eq!(liar.log().len(), 1);
    assert!(own.log().iter().all(|asked| asked.query("ns").is_empty()));
}

#[test]
fn headers_and_abilities_of_hosts_toml() {
    let image = Image::new();
    let (own, served) = (basic_registry(&image), image.clone());
    let elsewhere = Server::start({
        let image = image.clone();
        move |asked| ranged(asked, &image.layer)
    });
    let (url, layer) = (elsewhere.other_name(), image.layer().digest.to_string());
    let mirror = Server::start(move |asked| match asked.path().ends_with(&layer) {
        true => Answer::new(307).header("location", format!("{url}/x")),
        false => served.answer(asked),
    });
    let directory = Directory::new("headers");
    directory.write(
        "_default/hosts.toml",
        &format!(
            "[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{}\".header]\nx-key = \"secret\"\n",
            mirror.host(),
            mirror.host()
        ),
    );
    let (mut settings, _) = settings(user("me"));
    settings.hosts_d = vec![directory.0.clone()];
    let registry =
        Registry::new(&Reference::parse(&format!("{}/app", own.host())).unwrap(), settings)
            .unwrap();
    pull(&registry, &image).unwrap();
    // It does not say which digest a tag has.
    assert!(
        mirror
            .log()
            .iter()
            .all(|asked| !asked.path().ends_with("/latest")
                && asked.header("x-key") == Some("secret"))
    );
    assert!(!mirror.log().is_empty() || own.log().len() > 1);
    assert!(elsewhere.log().iter().all(|asked| asked.header("x-key").is_none()));
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let server = Server::start(|_| Answer::new(200));
    let directory = Directory::new("blocked");
    let (mut settings, _) = settings(None);
    let conf = format!("[[registry]]\nprefix = \"{}/bad\"\nblocked = true\n", server.host());
    settings.registries_conf = vec![directory.write("registries.conf", &conf)];
    let made =
        Registry::new(&Reference::parse(&format!("{}/bad/app", server.host())).unwrap(), settings);
    assert_fails(made, Kind::Usage, "registries.conf blocks");
    assert!(server.log().is_empty());
}
