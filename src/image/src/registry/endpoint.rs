//! Which servers are asked for a repository, and in which order: the registry itself and its mirrors.
//!
//! Two files say it: registries.conf version 2 (podman, skopeo, CRI-O; `[[registry]]` tables) and hosts.toml
//! (containerd, BuildKit). A `[[registry]]` that matches counts alone; without one hosts.toml counts. Mirrors are
//! asked for what is pulled and never get what is pushed.

use std::path::PathBuf;

use super::url::{Scheme, Url};
use crate::error::{Error, Kind, Result};

/// The repository that a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `host` or `host:port`, as the reference has it after normalisation: `docker.io`, `localhost:5000`.
    pub host: String,
    /// The name: `library/debian`.
    pub name: String,
}

impl Repository {
    /// Checks both parts, which become part of URLs.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what is no name.
    pub fn new(host: impl Into<String>, name: impl Into<String>) -> Result<Self> {
        let (host, name) = (host.into(), name.into());
        let component = |part: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let ends = [part.bytes().next(), part.bytes().last()];
            ends.into_iter().all(|b| b.is_some_and(plain))
                && part.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
        };
        if name.len() > 255 || !name.split('/').all(component) {
            let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
            return Err(Error::usage(format!("{shown:?} is not the name of a repository")));
        }
        let url = Url::of_host(Scheme::Https, &host)?;
        if url.target != "/" || url.authority() != host.to_ascii_lowercase() {
            return Err(Error::usage(format!("{host:?} is not the host of a registry")));
        }
        Ok(Self { host, name })
    }

    fn whole(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// What TLS of one host is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// No certificate is looked at.
    pub(super) skip_verify: bool,
    /// Files of authorities that are trusted besides the system's.
    pub(super) ca: Vec<PathBuf>,
    /// Files of client certificates with their keys; the first that can be used is.
    pub(super) client: Vec<(PathBuf, PathBuf)>,
}

/// A server that has the repository.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Whom messages name and for whom credentials are looked up: `host[:port]`.
    pub(super) host: String,
    /// The root of the API: `https://registry-1.docker.io/v2`.
    pub(super) api: Url,
    /// What the repository is called there.
    pub(super) name: String,
    pub(super) trust: Trust,
    /// Whether plain HTTP may be tried after TLS was not spoken.
    pub(super) plain_allowed: bool,
    /// Sent with each request to this very origin.
    pub(super) headers: Vec<(String, String)>,
    /// The registry that this one stands in for, sent as `ns`.
    pub(super) stands_for: Option<String>,
    /// Whether tags, and whether digests may be asked for here.
    pub(super) tags: bool,
    pub(super) digests: bool,
    /// Whether it is the registry itself and no mirror.
    pub(super) own: bool,
}

/// The host of Docker Hub's API is none that a reference names.
fn api_host(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

impl Endpoint {
    /// The registry itself. `tls_verify` is what the command line says: `Some(false)` also allows plain HTTP.
    pub(super) fn registry(repository: &Repository, tls_verify: Option<bool>) -> Result<Self> {
        Self::at(&repository.host, repository.name.clone(), tls_verify.map(|verify| !verify))
    }

    /// `insecure`: `None` leaves it to the host, which is trusted when it is this machine.
    pub(super) fn at(host: &str, name: String, insecure: Option<bool>) -> Result<Self> {
        let api = Url::of_host(Scheme::Https, api_host(host))?.below("/v2");
        let plain_allowed = insecure.unwrap_or_else(|| api.is_loopback());
        Ok(Self {
            host: host.to_owned(),
            api,
            name,
            trust: Trust { skip_verify: insecure == Some(true), ..Trust::default() },
            plain_allowed,
            headers: Vec::new(),
            stands_for: None,
            tags: true,
            digests: true,
            own: true,
        })
    }
}

/// A `[[registry]]` of registries.conf.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorTable>,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct RegistriesFile {
    registry: Vec<RegistryTable>,
}

/// What registries.conf and its directory say.
#[derive(Debug, Default, Clone)]
pub(super) struct Registries {
    tables: Vec<RegistryTable>,
}

impl Registries {
    /// Adds a file; a table with the prefix of an earlier one replaces it, as registries.conf.d does.
    pub(super) fn add(&mut self, text: &str) -> Result<()> {
        let file: RegistriesFile =
            toml::from_str(text).map_err(|e| Error::usage(e.message().to_owned()))?;
        for mut table in file.registry {
            if table.prefix.is_empty() {
                table.prefix.clone_from(&table.location);
            }
            table.prefix = table.prefix.trim_end_matches('/').to_owned();
            table.location = table.location.trim_end_matches('/').to_owned();
            if table.prefix.is_empty() {
                return Err(Error::usage("a [[registry]] has neither prefix nor location"));
            }
            self.tables.retain(|old| old.prefix != table.prefix);
            self.tables.push(table);
        }
        Ok(())
    }

    /// The servers for `repository`; `None` when no table matches.
    pub(super) fn endpoints(
        &self,
        repository: &Repository,
        tls_verify: Option<bool>,
    ) -> Result<Option<Vec<Endpoint>>> {
        let whole = repository.whole();
        let matching = self
            .tables
            .iter()
            .filter_map(|table| Some((prefix_length(&table.prefix, &whole)?, table)));
        let Some((length, table)) = matching.max_by_key(|(length, _)| *length) else {
            return Ok(None);
        };
        if table.blocked {
            return Err(Error::new(
                Kind::Usage,
                format!("registries.conf blocks {} (prefix {:?})", repository, table.prefix),
            ));
        }
        let rest = whole.get(length..).unwrap_or_default();
        let insecure =
            |table: bool| if table { Some(true) } else { tls_verify.map(|verify| !verify) };
        let mut endpoints = Vec::new();
        for mirror in &table.mirror {
            let place = format!("{}{rest}", mirror.location.trim_end_matches('/'));
            let insecure = if mirror.insecure { Some(true) } else { None };
            let mut endpoint = relocated(&place, insecure)?;
            let when = mirror.pull_from_mirror.as_str();
            endpoint.tags = !table.mirror_by_digest_only && when != "digest-only";
            endpoint.digests = when != "tag-only";
            endpoint.own = false;
            endpoints.push(endpoint);
        }
        // A wildcard has no location of its own: it is for whatever host it matched.
        let moved = !table.location.is_empty()
            && !table.prefix.starts_with("*.")
            && table.location != table.prefix;
        let place = if moved { format!("{}{rest}", table.location) } else { whole.clone() };
        let mut own = relocated(&place, insecure(table.insecure))?;
        own.own = own.host == repository.host;
        endpoints.push(own);
        Ok(Some(endpoints))
    }
}

fn relocated(place: &str, insecure: Option<bool>) -> Result<Endpoint> {
    let (host, name) = place.split_once('/').ok_or_else(|| {
        Error::usage(format!("registries.conf makes {place:?}, which has no repository"))
    })?;
    let repository = Repository::new(host, name)?;
    Endpoint::at(&repository.host, repository.name, insecure)
}

/// How many bytes of `whole` the prefix stands for; `None` when it does not match.
fn prefix_length(prefix: &str, whole: &str) -> Option<usize> {
    let at_border = |length: usize| matches!(whole.as_bytes().get(length), None | Some(b'/'));
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = whole.split('/').next().unwrap_or_default();
        let matches =
            domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain);
        return matches.then_some(host.len());
    }
    (whole.starts_with(prefix) && at_border(prefix.len())).then_some(prefix.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(text: &str, reference: &str) -> Vec<Endpoint> {
        let mut registries = Registries::default();
        registries.add(text).unwrap();
        let (host, name) = reference.split_once('/').unwrap();
        registries
            .endpoints(&Repository::new(host, name).unwrap(), None)
            .unwrap()
            .unwrap_or_default()
    }

    fn places(endpoints: &[Endpoint]) -> Vec<String> {
        endpoints.iter().map(|e| format!("{}/{}", e.api.to_wire(), e.name)).collect()
    }

    #[test]
    fn mirrors_come_first() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "second.example"
            pull-from-mirror = "digest-only"
        "#;
        let found = endpoints(text, "docker.io/library/debian");
        assert_eq!(
            places(&found),
            [
                "https://mirror.example:5000/v2/hub/library/debian",
                "https://second.example/v2/library/debian",
                "https://registry-1.docker.io/v2/library/debian"
            ]
        );
        let [first, second, own] = found.as_slice() else { panic!() };
        assert!(first.trust.skip_verify && first.plain_allowed && !first.own);
        assert!(!second.trust.skip_verify && !second.tags && second.digests);
        assert!(own.own && own.host == "docker.io" && !own.plain_allowed);
    }

    #[test]
    fn the_longest_prefix_counts() {
        let text = r#"
            [[registry]]
            prefix = "r.example"
            location = "short.example"
            [[registry]]
            prefix = "r.example/team"
            location = "long.example/x"
            [[registry]]
            prefix = "*.wild.example"
            insecure = true
            [[registry]]
            location = "bad.example"
            blocked = true
        "#;
        assert_eq!(
            places(&endpoints(text, "r.example/team/app")),
            ["https://long.example/v2/x/app"]
        );
        assert_eq!(
            places(&endpoints(text, "r.example/teams/app")),
            ["https://short.example/v2/teams/app"]
        );
        assert_eq!(
            places(&endpoints(text, "a.b.wild.example/app")),
            ["https://a.b.wild.example/v2/app"]
        );
        assert!(endpoints(text, "wild.example/app").is_empty());
        assert!(endpoints(text, "r.example.evil/app").is_empty());
        // Credentials of the command line are for the host of the reference.
        assert!(!endpoints(text, "r.example/team/app")[0].own);
        let mut registries = Registries::default();
        registries.add(text).unwrap();
        let error =
            registries.endpoints(&Repository::new("bad.example", "a").unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("blocks bad.example/a"), "{error}");
    }

    #[test]
    fn a_later_file_replaces_a_table() {
        let mut registries = Registries::default();
        registries.add("[[registry]]\nlocation = \"r\"\nblocked = true").unwrap();
        registries.add("[[registry]]\nlocation = \"r\"").unwrap();
        assert!(registries.endpoints(&Repository::new("r", "a").unwrap(), None).is_ok());
        for bad in [
            "[[registry]]",
            "[[registry]]\nlocation = 3",
            "[registry",
            "[[registry]]\nblocked = \"x\"\nlocation=\"r\"",
        ] {
            assert!(Registries::default().add(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_are_none() {
        for name in
            ["", "/", "a//b", "../a", "A", "a?b", "a b", "a/../b", ".a", "a.", &"a".repeat(256)]
        {
            assert!(Repository::new("r", name).is_err(), "{name}");
        }
        for host in ["", "a/b", "u@h", "h:x", "h?x", "h#x", "a b"] {
            assert!(Repository::new(host, "a").is_err(), "{host}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        let plain = |host: &str, verify| {
            Endpoint::registry(&Repository::new(host, "a").unwrap(), verify).unwrap().plain_allowed
        };
        assert!(
            plain("localhost:5000", None)
                && plain("127.0.0.1:5000", None)
                && plain("[::1]:5000", None)
        );
        assert!(
            !plain("localhost:5000", Some(true))
                && !plain("192.168.1.1:5000", None)
                && !plain("r.example", None)
        );
        assert!(plain("r.example", Some(false)));
    }
}
