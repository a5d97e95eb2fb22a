//! containerd's hosts.toml: the mirrors of one registry, with their abilities and their TLS.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;

use super::endpoint::{Endpoint, Repository, Trust};
use super::url::{Scheme, Url};
use crate::error::{Error, Result};

#[derive(Debug, serde::Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: HashMap<toml::Spanned<String>, Host>,
    #[serde(flatten)]
    root: Host,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Host {
    capabilities: Vec<String>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: bool,
    override_path: bool,
    header: BTreeMap<String, OneOrMany>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
        .iter()
        .map(String::as_str)
    }
}

/// One file with both, several such, or pairs.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Client {
    Files(OneOrMany),
    Pairs(Vec<OneOrMany>),
}

/// The servers for `repository` that the text of a hosts.toml in `directory` names, the registry itself last.
pub(super) fn endpoints(
    text: &str,
    directory: &Path,
    repository: &Repository,
    tls_verify: Option<bool>,
) -> Result<Vec<Endpoint>> {
    let file: HostsFile = toml::from_str(text).map_err(|e| Error::usage(e.message().to_owned()))?;
    let mut hosts: Vec<_> = file.host.iter().collect();
    // The order of the file is the order of asking.
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut endpoints = Vec::new();
    for (name, host) in hosts {
        endpoints.extend(host.endpoint(name.get_ref(), directory, repository, false)?);
    }
    let own = match &file.server {
        Some(server) => file.root.endpoint(server, directory, repository, true)?,
        None => None,
    };
    let same_host =
        |endpoint: &Endpoint, registry: &Endpoint| endpoint.api.same_origin(&registry.api);
    let registry = Endpoint::registry(repository, tls_verify)?;
    endpoints.push(match own {
        Some(mut own) => {
            own.own = same_host(&own, &registry);
            if own.own {
                own.stands_for = None;
                own.host.clone_from(&repository.host);
                own.trust.skip_verify |= registry.trust.skip_verify;
                own.plain_allowed |= registry.plain_allowed;
            }
            own
        }
        None => registry,
    });
    Ok(endpoints)
}

impl Host {
    /// `None` when it can do nothing that is needed.
    fn endpoint(
        &self,
        name: &str,
        directory: &Path,
        repository: &Repository,
        server: bool,
    ) -> Result<Option<Endpoint>> {
        let can = |what: &str| {
            self.capabilities.is_empty() || self.capabilities.iter().any(|c| c == what)
        };
        if !can("pull") && !server {
            return Ok(None);
        }
        let written =
            if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
        let url = Url::parse(&written)?;
        let api = if self.override_path { url.below("") } else { url.below("/v2") };
        let file = |name: &str| directory.join(name);
        let trust = Trust {
            skip_verify: self.skip_verify,
            ca: self.ca.iter().flat_map(OneOrMany::iter).map(file).collect(),
            client: self.client.as_ref().map(|c| c.pairs(directory)).unwrap_or_default(),
        };
        let headers = self
            .header
            .iter()
            .flat_map(|(key, values)| values.iter().map(|v| (key.clone(), v.to_owned())));
        Ok(Some(Endpoint {
            host: url.authority(),
            // Written as `http://`, it is asked for.
            plain_allowed: url.scheme == Scheme::Http || self.skip_verify,
            api,
            name: repository.name.clone(),
            trust,
            headers: headers.collect(),
            stands_for: Some(repository.host.clone()),
            tags: can("resolve"),
            digests: true,
            own: false,
        }))
    }
}

impl Client {
    fn pairs(&self, directory: &Path) -> Vec<(std::path::PathBuf, std::path::PathBuf)> {
        let both = |name: &str| (directory.join(name), directory.join(name));
        match self {
            Self::Files(files) => files.iter().map(both).collect(),
            Self::Pairs(pairs) => pairs
                .iter()
                .filter_map(|pair| {
                    let mut names = pair.iter();
                    let first = names.next()?;
                    Some(match names.next().filter(|key| !key.is_empty()) {
                        Some(key) => (directory.join(first), directory.join(key)),
                        None => both(first),
                    })
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn read(text: &str) -> Vec<Endpoint> {
        endpoints(text, Path::new("/d"), &Repository::new("docker.io", "library/x").unwrap(), None)
            .unwrap()
    }

    #[test]
    fn the_order_of_the_file_is_kept() {
        let found = read(
            r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example:8443"]
              capabilities = ["pull", "resolve"]
              ca = "ca.crt"
              client = [["/abs/c.cert", "c.key"], ["both.pem", ""]]
              [host."https://z.example:8443".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."http://a.example/api"]
              capabilities = ["pull"]
              override_path = true
            [host."https://push.example"]
              capabilities = ["push"]
        "#,
        );
        let [z, a, own] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(z.api.to_wire(), "https://z.example:8443/v2");
        assert_eq!(z.trust.ca, [PathBuf::from("/d/ca.crt")]);
        assert_eq!(
            z.trust.client,
            [
                ("/abs/c.cert".into(), "/d/c.key".into()),
                ("/d/both.pem".into(), "/d/both.pem".into())
            ]
        );
        assert_eq!(z.headers.len(), 3);
        assert_eq!(z.stands_for.as_deref(), Some("docker.io"));
        assert!(!z.plain_allowed && !z.own);
        assert_eq!(a.api.to_wire(), "http://a.example/api");
        assert!(a.plain_allowed && !a.tags);
        assert!(own.own && own.stands_for.is_none() && own.host == "docker.io");
    }

    #[test]
    fn another_server_is_a_mirror() {
        let found = read("server = \"https://else.example\"\nskip_verify = true");
        assert_eq!(found.len(), 1);
        assert!(!found[0].own && found[0].trust.skip_verify);
        assert!(read("")[0].own);
    }

    #[test]
    fn bad_files() {
        for text in
            ["server = 3", "[host.\"ftp://x\"]", "[host.\"https://u:p@x\"]", "host = 3", "[host"]
        {
            let repository = Repository::new("r", "x").unwrap();
            assert!(endpoints(text, Path::new("/d"), &repository, None).is_err(), "{text}");
        }
    }
}
