//! The client of the distribution specification: pull, tags, referrers, push.
//!
//! | module | what |
//! |---|---|
//! | `pull`, `blob`, `listing` | what is read: manifests, blobs that go on where they broke off, tags and referrers |
//! | `push`, `referrer` | what is written |
//! | `session` | one server: attempts, authentication, TLS or not |
//! | `challenge`, `token`, `credentials`, `helper` | who one is, and how that is shown |
//! | `endpoint`, `hosts` | which servers are asked: registries.conf and hosts.toml |
//! | `transport`, `redirect`, `tls`, `proxy`, `url`, `retry`, `answer` | HTTP |
//!
//! A registry is somebody else's machine: it may lie about everything. What it says of length, digest, type and range
//! is held against the descriptor; where it sends one decides what one tells there; and nothing waits for ever.

mod answer;
mod base64;
mod blob;
mod challenge;
mod credentials;
mod endpoint;
mod helper;
mod hosts;
mod listing;
mod proxy;
mod pull;
mod push;
mod redirect;
mod referrer;
mod retry;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod transport;
mod url;

pub use credentials::{Credential, Credentials};
pub use endpoint::Repository;
pub use proxy::Proxies;
pub use pull::Registry;
pub use push::{Destination, PushOptions};
pub use retry::Retry;
pub use settings::{Say, Settings};
pub use tls::TlsFiles;
pub use transport::Timeouts;
