//! URLs as far as a registry client needs them: who is asked, and whether two of them are the same somebody.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::error::{Error, Result};

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// An absolute URL without user, password and fragment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// Lower case; an IPv6 address stands in brackets.
    pub(super) host: String,
    port: Option<u16>,
    /// From the first slash, with the query.
    pub(super) target: String,
}

/// Longer ones are hostile.
const LIMIT: usize = 16 * 1024;

impl Url {
    /// Reads an absolute `http` or `https` URL.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(120).flat_map(char::escape_default).collect();
            Error::usage(format!("{shown:?} is not a URL that can be asked: {why}"))
        };
        if text.len() > LIMIT {
            return Err(bad("it is too long"));
        }
        // What is no printable ASCII would end a header line, or look like another host.
        if !text.bytes().all(|b| b.is_ascii_graphic())
            || text.contains(['\\', '"', '<', '>', '`', '^', '{', '}', '|'])
        {
            return Err(bad("it has a character that no URL has"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("the scheme is missing"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(bad("only http and https are asked")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = match target.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{target}"),
            Some(_) => target.to_owned(),
        };
        if authority.contains('@') {
            return Err(bad("a user name stands before the host"));
        }
        let (host, port) = split_authority(authority).ok_or_else(|| bad("the host is not one"))?;
        Ok(Self { scheme, host, port, target })
    }

    /// `authority` is `host` or `host:port`, as an image reference has it.
    pub(super) fn of_host(scheme: Scheme, authority: &str) -> Result<Self> {
        let name = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        Self::parse(&format!("{name}://{authority}/"))
    }

    /// The same host, `target` (which begins with a slash) below the path of this one.
    pub(super) fn below(&self, target: &str) -> Self {
        let base = self.target.split('?').next().unwrap_or_default().trim_end_matches('/');
        Self { target: format!("{base}{target}"), ..self.clone() }
    }

    /// What `location` means on a page of this URL (RFC 3986 §5, without dot segments, which servers resolve).
    pub(super) fn join(&self, location: &str) -> Result<Self> {
        let location = location.trim();
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let path = self.target.split('?').next().unwrap_or("/");
        let before_query = location.split(['?', '#']).next().unwrap_or_default();
        if before_query.contains("://") {
            return Self::parse(location);
        }
        let authority = self.authority();
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{scheme}://{authority}{location}"));
        }
        if location.starts_with('?') || location.is_empty() {
            return Self::parse(&format!("{scheme}://{authority}{path}{location}"));
        }
        let directory = path.rfind('/').and_then(|i| path.get(..=i)).unwrap_or("/");
        Self::parse(&format!("{scheme}://{authority}{directory}{location}"))
    }

    /// The same URL with one more parameter, which is escaped.
    pub(super) fn with_query(mut self, key: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(key);
        self.target.push('=');
        self.target.push_str(&escape(value));
        self
    }

    /// The port that is asked.
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// `host` or `host:port`, as written.
    pub(super) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Whether both are the same scheme, host and port: only then a secret may go where another one went.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port() == other.port()
    }

    /// Whether the host is this machine by its very name.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The URL in full, for the wire only: its query may hold a signature.
    pub(super) fn to_wire(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}{}", self.authority(), self.target)
    }
}

/// For people: the query is left out, which is where signatures and tokens stand.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.to_wire();
        match whole.split_once('?') {
            Some((before, _)) => write!(f, "{before}?..."),
            None => f.write_str(&whole),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a host (an IPv6 address in brackets or not) is this machine: `localhost`, 127.0.0.0/8 or ::1.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let digit =
                    |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0').to_ascii_uppercase();
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out
}

fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (host, Some(port.parse::<u16>().ok().filter(|&p| p != 0)?))
        }
        _ => (authority, None),
    };
    let host = host.to_ascii_lowercase();
    let valid = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
                // Other ways to write an IPv4 address (0x7f.1, 2130706433) that some resolvers read as one.
                && (host.parse::<IpAddr>().is_ok() || !looks_like_number(&host))
        }
    };
    valid.then_some((host, port))
}

/// The last label of a name is never a number.
fn looks_like_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").map_or_else(
        || last.bytes().all(|b| b.is_ascii_digit()),
        |hex| hex.bytes().all(|b| b.is_ascii_hexdigit()),
    );
    digits && !last.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn parts() {
        let whole = url("HTTPS://Registry.Example:5000/v2/a?x=y#z");
        assert_eq!(whole.to_wire(), "https://registry.example:5000/v2/a?x=y");
        assert_eq!(whole.to_string(), "https://registry.example:5000/v2/a?...");
        assert_eq!(url("http://x").target, "/");
        assert_eq!(url("http://x?a").target, "/?a");
        assert_eq!(url("http://[::1]:5000/").port(), 5000);
        assert!(url("http://[::1]/").is_loopback());
        assert!(url("http://127.8.9.1/").is_loopback());
        assert!(!url("http://127.0.0.1.example/").is_loopback());
        assert!(url("https://x/").same_origin(&url("https://X:443/y")));
        assert!(!url("https://x/").same_origin(&url("http://x/")));
        assert!(!url("https://x/").same_origin(&url("https://x:444/")));
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "x",
            "/v2/",
            "ftp://x/",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://a b/",
            "http://u@x/",
            "http://u:p@x/",
            "http://x\r\nHost: y/",
            "http://x:99999/",
            "http://x:0/",
            "http://x:/",
            "http://[::1/",
            "http://x\\@y/",
            "http://\u{e4}/",
            "http://0x7f.0.0.1/",
            "http://2130706433/",
            "http://127.1/",
            "http://0x7f000001/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
        assert!(Url::parse(&format!("http://x/{}", "a".repeat(LIMIT))).is_err());
    }

    #[test]
    fn locations() {
        let base = url("https://r:5000/v2/a/blobs/uploads/?state=1");
        for (location, expected) in [
            ("https://s/x?y", "https://s/x?y"),
            ("//s/x", "https://s/x"),
            ("/v2/x", "https://r:5000/v2/x"),
            ("x?y=http://z/", "https://r:5000/v2/a/blobs/uploads/x?y=http://z/"),
            ("?n=2", "https://r:5000/v2/a/blobs/uploads/?n=2"),
        ] {
            assert_eq!(base.join(location).unwrap().to_wire(), expected);
        }
        assert!(base.join("javascript://x").is_err());
        assert_eq!(url("https://m/prefix/").below("/v2/").to_wire(), "https://m/prefix/v2/");
        assert_eq!(
            url("https://m/a?b").with_query("ns", "docker.io/x y").target,
            "/a?b&ns=docker.io%2Fx%20y"
        );
    }
}
