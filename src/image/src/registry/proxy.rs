//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, read as curl and the tools of the same kind read them.

use std::ffi::OsString;
use std::net::IpAddr;

use super::url::{Scheme, Url};
use crate::error::{Error, Result};

/// The proxies of the environment.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    except: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    All,
    /// The host itself and all below it; with a port only that.
    Domain(String, Option<u16>),
    Network(IpAddr, u8),
}

/// A proxy's URL may hold a password.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = |proxy: &Option<String>| proxy.is_some();
        write!(f, "Proxies {{ http: {}, https: {} }}", set(&self.http), set(&self.https))
    }
}

impl Proxies {
    /// Reads the environment, the lower-case names first.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) for a proxy that is no URL, or one that is asked with SOCKS.
    pub fn from_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let get = |name: &str| {
            let either =
                env(&name.to_ascii_lowercase()).filter(|v| !v.is_empty()).or_else(|| env(name));
            either.filter(|v| !v.is_empty()).and_then(|v| v.into_string().ok())
        };
        let all = get("ALL_PROXY");
        let proxy = |name: &str| match get(name).or_else(|| all.clone()) {
            Some(text) => complete(&text).map(Some).map_err(|e| e.context(name)),
            None => Ok(None),
        };
        let except = get("NO_PROXY").unwrap_or_default();
        Ok(Self {
            // A CGI program gets HTTP_PROXY from the header `Proxy:` of whoever asks (CVE-2016-5385).
            http: if env("REQUEST_METHOD").is_some() { None } else { proxy("HTTP_PROXY")? },
            https: proxy("HTTPS_PROXY")?,
            except: except.split([',', ' ']).filter_map(exception).collect(),
        })
    }

    /// The proxy for `url`, none for this machine.
    pub(super) fn of(&self, url: &Url) -> Option<&str> {
        let proxy = match url.scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        let bare = url.host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        let excepted = |exception: &Exception| match exception {
            Exception::All => true,
            Exception::Domain(domain, port) => {
                let below = bare
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && port.is_none_or(|port| port == url.port())
            }
            Exception::Network(network, bits) => {
                address.is_some_and(|a| same_network(a, *network, *bits))
            }
        };
        proxy.as_deref().filter(|_| !url.is_loopback() && !self.except.iter().any(excepted))
    }
}

fn complete(text: &str) -> Result<String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let scheme = whole.split("://").next().unwrap_or_default();
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(Error::usage(format!(
            "a proxy of the kind {scheme:?} is not supported, http and https are"
        )));
    }
    // Whether the rest is one is said without it: there may be a password in it.
    ureq::Proxy::new(&whole).map_err(|_why| Error::usage("the proxy is not a URL"))?;
    Ok(whole)
}

fn exception(text: &str) -> Option<Exception> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return None;
    }
    if text == "*" {
        return Some(Exception::All);
    }
    if let Some((network, bits)) = text.split_once('/') {
        return Some(Exception::Network(network.parse().ok()?, bits.parse().ok()?));
    }
    if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(Exception::Network(address, if address.is_ipv4() { 32 } else { 128 }));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text.as_str(), None),
    };
    let host = host.trim_start_matches('*').trim_start_matches('.');
    (!host.is_empty()).then(|| Exception::Domain(host.to_owned(), port))
}

fn same_network(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let (a, b, width) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let drop = width - u32::from(bits).min(width);
    a.checked_shr(drop).unwrap_or(0) == b.checked_shr(drop).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies> {
        Proxies::from_environment(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        })
    }

    fn of<'a>(proxies: &'a Proxies, url: &str) -> Option<&'a str> {
        proxies.of(&Url::parse(url).unwrap())
    }

    #[test]
    fn schemes_have_their_own() {
        let both = proxies(&[("HTTPS_PROXY", "http://p:1"), ("http_proxy", "q:2")]).unwrap();
        assert_eq!(of(&both, "https://r.example/"), Some("http://p:1"));
        assert_eq!(of(&both, "http://r.example/"), Some("http://q:2"));
        for loopback in ["http://localhost/", "https://127.0.0.1:5000/", "http://[::1]/"] {
            assert_eq!(of(&both, loopback), None);
        }
        let all = proxies(&[("ALL_PROXY", "http://p:1"), ("HTTP_PROXY", "")]).unwrap();
        assert_eq!(of(&all, "http://r.example/"), Some("http://p:1"));
        let cgi = proxies(&[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")]).unwrap();
        assert_eq!(of(&cgi, "http://r.example/"), None);
    }

    #[test]
    fn exceptions() {
        let list =
            "a.example,.b.example, *.c.example,10.0.0.0/8,fd00::/8,192.168.1.1,d.example:444";
        let some = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)]).unwrap();
        for direct in [
            "a.example",
            "x.a.example",
            "x.b.example",
            "x.c.example",
            "10.1.2.3",
            "[fd12::1]",
            "192.168.1.1",
            "d.example:444",
        ] {
            assert_eq!(of(&some, &format!("https://{direct}/")), None, "{direct}");
        }
        for proxied in
            ["xa.example", "a.example.org", "11.0.0.1", "192.168.1.2", "d.example", "[fe00::1]"]
        {
            assert!(of(&some, &format!("https://{proxied}/")).is_some(), "{proxied}");
        }
        let none = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*")]).unwrap();
        assert_eq!(of(&none, "https://r.example/"), None);
    }

    #[test]
    fn bad_proxies_are_named_without_their_password() {
        let error = proxies(&[("HTTPS_PROXY", "socks5://u:hush@p:1")]).unwrap_err();
        assert!(
            error.to_string().contains("HTTPS_PROXY") && !error.to_string().contains("hush"),
            "{error}"
        );
        let error = proxies(&[("HTTPS_PROXY", "http://u:hush@ x")]).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
