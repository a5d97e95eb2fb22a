//! Names of images in registries: `[host[:port]/]path[:tag][@digest]`, completed as Docker completes them.

use std::fmt;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The host that a name without one means.
pub const DEFAULT_HOST: &str = "docker.io";

/// The name of an image, complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name and completes it: no host means `docker.io`, where one component means `library/` and it; neither tag nor
    /// digest means `latest`.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage), saying which part is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(120).flat_map(char::escape_default).collect();
            Error::usage(format!("\"{shown}\" is not the name of an image: {why}"))
        };
        if text.len() > 1024 {
            return Err(bad("it is too long"));
        }
        if text.contains("://") {
            return Err(bad("it begins with a scheme; docker:// is the one there is"));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|error| bad(&error.to_string()))?;
                (rest, Some(digest))
            }
        };
        // The colon after the last slash divides the tag; one before it belongs to the port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(name_end..).and_then(|last| last.find(':')) {
            None => (rest, None),
            Some(colon) => {
                let (name, tag) = rest.split_at(name_end + colon);
                (name, tag.strip_prefix(':'))
            }
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(
                "the tag has other characters than letters, digits, _ . and -, begins with one of the last two, or is longer than 128",
            ));
        }
        let (host, repository) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path.to_owned()),
            _ => (DEFAULT_HOST, name.to_owned()),
        };
        if !valid_host(host) {
            return Err(bad("the host is not one"));
        }
        // Capital letters alone can say that it is a host: without them it would be read as something else the next time.
        let lower = host.to_ascii_lowercase();
        let host = match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_HOST,
            lower if is_host(lower) => lower,
            _ => host,
        };
        let repository = if host == DEFAULT_HOST && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if let Some(why) = bad_path(&repository) {
            return Err(bad(why));
        }
        if host.len() + 1 + repository.len() > 255 {
            return Err(bad("host and path are longer than 255"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    /// The registry's host, with its port if the name has one; `docker.io` for Docker Hub (whose API is elsewhere).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. With a digest it only says what the digest once was.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which wins over the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `host/path`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What a registry is asked for: the digest, or else the tag.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository, at `digest`, without a tag.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Whether a first component is a host rather than part of the path.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn valid_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => {
            let Some((address, port)) = v6.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return port.is_empty() || port.strip_prefix(':').is_some_and(valid_port);
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(valid_port)
}

fn valid_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether `tag` is one: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Why a path in a registry is none: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, several with slashes between.
fn bad_path(path: &str) -> Option<&'static str> {
    let component = |component: &str| {
        let mut separator = String::new();
        let mut begun = false;
        for b in component.bytes() {
            match b {
                b'a'..=b'z' | b'0'..=b'9' => {
                    let good = matches!(separator.as_str(), "" | "." | "_" | "__")
                        || (begun && separator.bytes().all(|b| b == b'-'));
                    if !good || (!begun && !separator.is_empty()) {
                        return false;
                    }
                    separator.clear();
                    begun = true;
                }
                b'.' | b'_' | b'-' => separator.push(char::from(b)),
                _ => return false,
            }
        }
        begun && separator.is_empty()
    };
    if path.is_empty() {
        Some("there is no name")
    } else if path.bytes().any(|b| b.is_ascii_uppercase()) {
        Some("the path has capital letters")
    } else if !path.split('/').all(component) {
        Some(
            "the path has components that are empty, begin or end with a separator, or have other characters than a-z 0-9 . _ -",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:bookworm", "docker.io/library/debian:bookworm"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:1", "localhost:5000/x:1"),
            ("localhost", "docker.io/library/localhost:latest"),
            ("ghcr.io/a/b/c:v1.0-rc_2", "ghcr.io/a/b/c:v1.0-rc_2"),
            ("HOST/x", "HOST/x:latest"),
            ("HOST.example/x", "host.example/x:latest"),
            ("Docker.IO/debian", "docker.io/library/debian:latest"),
            ("LOCALHOST/x", "localhost/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("a--b/c__d.e", "docker.io/a--b/c__d.e:latest"),
            ("quay.io/x", "quay.io/x:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), expected);
        }
        let digest = Digest::of(b"");
        let both = Reference::parse(&format!("debian:12@{digest}")).unwrap();
        assert_eq!(both.selector(), digest.to_string());
        assert_eq!(Reference::parse(&format!("debian@{digest}")).unwrap().tag(), None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            ":a",
            "a@",
            "@",
            "a:b:c",
            "a:b/c",
            "Debian",
            "a/B",
            "a..b",
            "a/../b",
            "a/.",
            "-a",
            "a-",
            "a___b",
            "a._b",
            "a b",
            "a\nb",
            "a?b",
            "a#b",
            "a%2fb",
            "http://a/b",
            "docker://a/b",
            "host.com:99999/x",
            "host.com:/x",
            "-.com/x",
            "a..com/x",
            "[::1/x",
            "[zz]/x",
            "a:.x",
            "a:-x",
            "a@sha256:abc",
            "user@host.com/x",
            &long,
            "é",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
