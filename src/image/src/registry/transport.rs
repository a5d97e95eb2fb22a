//! One HTTP request and its answer: connections, TLS, proxies, bounds on time. Nothing here tries again, follows or
//! authenticates.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{self, HeaderMap};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, SendBody};

use super::endpoint::Trust;
use super::proxy::Proxies;
use super::tls::TlsFiles;
use super::url::{Scheme, Url};
use crate::error::{Error, Kind, Result};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, its TLS included.
    pub connect: Duration,
    /// For the whole head of an answer.
    pub answer: Duration,
    /// For the head of the answer to an upload: the registry hashes all of it first.
    pub commit: Duration,
    /// For the next bytes, either way.
    pub stall: Duration,
    /// For a whole document or token.
    pub document: Duration,
    /// For the next 64 KiB of a blob: slower ones are given to keep somebody waiting.
    pub trickle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            commit: Duration::from_secs(900),
            stall: Duration::from_secs(30),
            document: Duration::from_secs(120),
            trickle: Duration::from_secs(60),
        }
    }
}

/// What is sent after the head.
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// So many bytes, from a reader that can be opened anew for another attempt.
    Stream(u64, &'a dyn Fn() -> Result<Box<dyn Read + Send + 'a>>),
}

/// A request.
pub(super) struct Request<'a> {
    pub(super) method: http::Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Payload<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: http::Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), payload: Payload::Nothing }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Who gave it.
    pub(super) url: Url,
    body: Body,
}

impl Response {
    /// A header, when it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.parse().ok())
    }

    /// The body as a stream. It ends with an error when it is shorter than the head said.
    pub(super) fn into_reader(self) -> impl Read + Send + 'static {
        self.body.into_with_config().limit(u64::MAX).reader()
    }

    /// The body in memory; `None` when it is larger than `limit`.
    pub(super) fn read_to(self, limit: u64, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let started = std::time::Instant::now();
        let mut reader = self.into_reader().take(limit + 1);
        let mut bytes = Vec::new();
        let mut buffer = [0u8; 16 * 1024];
        loop {
            let read = reader.read(&mut buffer)?;
            bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if read == 0 {
                break;
            }
            if started.elapsed() > patience {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not all of it came within {} s", patience.as_secs()),
                ));
            }
        }
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether another attempt may have one.
    pub(super) transient: bool,
    /// Whether the other end may be one that does not speak TLS.
    pub(super) no_tls: bool,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) trust: &'a Trust,
    /// It is the registry or a mirror, that is: the user named it. Whom else a registry names may not be in this
    /// machine or its link (server-side request forgery), unless the registry is itself.
    pub(super) named: bool,
    /// It is the registry, for which `--cert` is.
    pub(super) own: bool,
}

/// Makes connections, and keeps them.
pub(super) struct Transport {
    tls: Arc<TlsFiles>,
    proxies: Proxies,
    timeouts: Timeouts,
    agents: Mutex<HashMap<(String, Trust, bool, bool), Agent>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    pub(super) fn new(tls: Arc<TlsFiles>, proxies: Proxies, timeouts: Timeouts) -> Self {
        Self { tls, proxies, timeouts, agents: Mutex::default() }
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends `request` to `url`, with more headers, and waits for the head of the answer. Every status is an answer.
    pub(super) fn send(
        &self,
        request: &Request<'_>,
        url: &Url,
        more: &[(String, String)],
        peer: Peer<'_>,
    ) -> Result<Response, Failure> {
        let lasting = |error: Error| Failure { error, transient: false, no_tls: false };
        if !peer.named {
            let bare = url.host.trim_start_matches('[').trim_end_matches(']');
            if url.is_loopback() || bare.parse::<IpAddr>().is_ok_and(is_own) {
                return Err(lasting(refused(&url.host)));
            }
        }
        let agent = self.agent(url, peer).map_err(lasting)?;
        let mut builder =
            http::Request::builder().method(request.method.clone()).uri(url.to_wire());
        for (name, value) in request.headers.iter().chain(more) {
            builder = builder.header(name, value);
        }
        let posted =
            matches!(request.method, http::Method::POST | http::Method::PUT | http::Method::PATCH);
        let (length, mut opened): (u64, Option<Box<dyn Read + '_>>) = match &request.payload {
            Payload::Nothing => (0, None),
            Payload::Bytes(bytes) => (bytes.len() as u64, Some(Box::new(*bytes))),
            Payload::Stream(length, open) => (*length, Some(open().map_err(lasting)?)),
        };
        // A POST without a body needs its length all the same.
        if posted {
            builder = builder.header("content-length", length);
        }
        let no_request =
            |e| lasting(Error::usage(format!("{} {url} cannot be asked: {e}", request.method)));
        let answer = match &mut opened {
            None => agent.run(builder.body(SendBody::none()).map_err(no_request)?),
            Some(reader) => {
                let ready = builder.body(SendBody::from_reader(reader)).map_err(no_request)?;
                let commit = Some(self.timeouts.commit);
                agent.run(agent.configure_request(ready).timeout_recv_response(commit).build())
            }
        };
        let answer = answer.map_err(|e| failure(e, &request.method, url))?;
        let (head, body) = answer.into_parts();
        Ok(Response { status: head.status.as_u16(), headers: head.headers, url: url.clone(), body })
    }

    fn agent(&self, url: &Url, peer: Peer<'_>) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = format!("{:?}://{}:{}", url.scheme, url.host, url.port());
        let key = (origin, peer.trust.clone(), peer.named, peer.own);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let proxy = match self.proxies.of(url) {
            Some(text) => Some(
                ureq::Proxy::new(text)
                    .map_err(|_why| Error::usage("the proxy of the environment is not a URL"))?,
            ),
            None => None,
        };
        // A proxy resolves names itself, and is asked by a name that the user gave.
        let resolver =
            Guard { inner: DefaultResolver::default(), on: !peer.named && proxy.is_none() };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("skep/", env!("CARGO_PKG_VERSION")))
            .accept("")
            .proxy(proxy)
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_resolve(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.answer))
            .timeout_per_read(Some(self.timeouts.stall))
            .timeout_per_write(Some(self.timeouts.stall))
            .input_buffer_size(128 * 1024)
            .max_idle_connections_per_host(8);
        if url.scheme == Scheme::Https {
            config = config.tls_config(self.tls.config(&url.authority(), peer.trust, peer.own)?);
        }
        let agent = Agent::with_parts(config.build(), DefaultConnector::default(), resolver);
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

/// Resolves names, and where it is on refuses addresses that only this machine can mean.
#[derive(Debug)]
struct Guard {
    inner: DefaultResolver,
    on: bool,
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.on && found.iter().any(|address| is_own(address.ip())) {
            return Err(ureq::Error::Other(Box::new(refused(uri.host().unwrap_or_default()))));
        }
        Ok(found)
    }
}

fn refused(host: &str) -> Error {
    Error::new(
        Kind::Network,
        format!(
            "{host} is an address of this machine or its link, where a registry elsewhere may not send anybody"
        ),
    )
}

/// This machine, its link (where clouds keep their metadata), or nobody.
fn is_own(address: IpAddr) -> bool {
    let v4 = match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    match (v4, address) {
        (Some(v4), _) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.octets().first() == Some(&0)
                || v4.is_broadcast()
        }
        (None, IpAddr::V6(v6)) => {
            // fd00:ec2::254 is where one cloud has its metadata.
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
        (None, IpAddr::V4(_)) => false,
    }
}

fn failure(error: ureq::Error, method: &http::Method, url: &Url) -> Failure {
    let what = format!("{method} {url}");
    let network = |why: String, transient: bool, no_tls: bool| Failure {
        error: Error::new(Kind::Network, format!("{what}: {why}")),
        transient,
        no_tls,
    };
    match error {
        ureq::Error::Io(e) => match e.downcast::<Error>() {
            // What the sender of an upload could not read.
            Ok(own) => Failure { error: own, transient: false, no_tls: false },
            Err(e) => {
                if let Some(tls) =
                    e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
                {
                    let (why, no_tls) = explain(tls);
                    return network(why, false, no_tls);
                }
                let kind = e.kind();
                let closed = matches!(
                    kind,
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionAborted
                );
                let refused = kind == io::ErrorKind::ConnectionRefused;
                network(
                    if refused {
                        format!("nobody listens at port {}", url.port())
                    } else {
                        e.to_string()
                    },
                    !refused,
                    closed,
                )
            }
        },
        ureq::Error::Rustls(tls) => {
            let (why, no_tls) = explain(&tls);
            network(why, false, no_tls)
        }
        ureq::Error::Timeout(which) => {
            network(format!("no progress within the time for this ({which})"), true, false)
        }
        ureq::Error::HostNotFound => {
            network(format!("the name {} is not known", url.host), true, false)
        }
        ureq::Error::Other(other) => match other.downcast::<Error>() {
            Ok(own) => Failure { error: *own, transient: false, no_tls: false },
            Err(other) => network(other.to_string(), true, false),
        },
        // `proxy server responded 407/407`: what it refuses it refuses again, what it cannot reach it may.
        ureq::Error::ConnectProxyFailed(why) => {
            let refused = why.contains("responded 4");
            let hint =
                if why.contains("407") { " (it asks for a user and a password)" } else { "" };
            network(format!("the proxy of the environment: {why}{hint}"), !refused, false)
        }
        ureq::Error::LargeResponseHeader(..) => {
            network("the head of the answer is too large".into(), false, false)
        }
        ureq::Error::Protocol(e) => network(format!("the answer is not HTTP: {e}"), false, false),
        other => network(other.to_string(), true, false),
    }
}

/// In words, and whether the other end may just not speak TLS.
fn explain(error: &rustls::Error) -> (String, bool) {
    match error {
        rustls::Error::InvalidCertificate(why) => (
            format!(
                "its certificate is refused: {why:?} (--ca-file FILE trusts another authority, --tls-verify=false anybody)"
            ),
            false,
        ),
        rustls::Error::InvalidMessage(_) => {
            ("it does not speak TLS (--tls-verify=false allows plain HTTP)".into(), true)
        }
        other => (format!("TLS: {other}"), false),
    }
}
