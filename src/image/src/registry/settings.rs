//! All that a client is told: by the command line, the environment and files.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::credentials::Credentials;
use super::endpoint::{Endpoint, Registries, Repository};
use super::hosts;
use super::proxy::Proxies;
use super::retry::Retry;
use super::session::{Session, Shared};
use super::tls::TlsFiles;
use super::transport::{Timeouts, Transport};
use crate::error::{Error, Result};

/// Where what a person should know goes: attempts, warnings of registries, files that everybody can read.
#[derive(Clone)]
pub struct Say(pub Arc<dyn Fn(&str) + Send + Sync>);

impl Default for Say {
    fn default() -> Self {
        Self(Arc::new(|_| {}))
    }
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Say")
    }
}

/// What a client is told. [`Settings::from_environment`] for the program, [`Settings::default`] for nothing at all.
#[derive(Debug, Default)]
pub struct Settings {
    /// Who one is.
    pub credentials: Option<Credentials>,
    /// Certificates.
    pub tls: TlsFiles,
    /// `--tls-verify`: `false` looks at no certificate and allows plain HTTP; without it, plain HTTP is for this machine.
    pub tls_verify: Option<bool>,
    /// Proxies.
    pub proxies: Proxies,
    /// registries.conf and the files of registries.conf.d, in the order of reading.
    pub registries_conf: Vec<PathBuf>,
    /// Directories with `HOST/hosts.toml`.
    pub hosts_d: Vec<PathBuf>,
    /// Attempts.
    pub retry: Retry,
    /// Bounds on time.
    pub timeouts: Timeouts,
    /// Where messages go.
    pub say: Say,
}

impl Settings {
    /// Those of the environment: the files of the user, then of the system.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) for a proxy that is none.
    pub fn from_environment(
        env: &dyn Fn(&str) -> Option<OsString>,
        uid: u32,
        authfile: Option<PathBuf>,
    ) -> Result<Self> {
        let path = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config =
            path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
        Ok(Self {
            credentials: Some(Credentials::from_environment(authfile, env, uid)),
            tls: TlsFiles::from_environment(env),
            proxies: Proxies::from_environment(env)?,
            registries_conf: registries_conf(path("CONTAINERS_REGISTRIES_CONF"), config.as_deref()),
            hosts_d: vec!["/etc/containerd/certs.d".into(), "/etc/docker/certs.d".into()],
            ..Self::default()
        })
    }

    /// The servers to pull `repository` from, the first one first.
    fn endpoints(&self, repository: &Repository) -> Result<Vec<Endpoint>> {
        let mut registries = Registries::default();
        for file in &self.registries_conf {
            if let Some(text) = read(file)? {
                registries.add(&text).map_err(|e| e.context(file.display()))?;
            }
        }
        if let Some(endpoints) = registries.endpoints(repository, self.tls_verify)? {
            return Ok(endpoints);
        }
        // A name for a directory, which a checked host is. `_` instead of `:` is containerd's for Windows.
        for place in &self.hosts_d {
            for name in [repository.host.as_str(), "_default"] {
                let directory = place.join(name);
                let file = directory.join("hosts.toml");
                if let Some(text) = read(&file)? {
                    let found = hosts::endpoints(&text, &directory, repository, self.tls_verify);
                    return found.map_err(|e| e.context(file.display()));
                }
            }
        }
        Ok(vec![Endpoint::registry(repository, self.tls_verify)?])
    }

    /// Conversations with those servers; for a push with the registry itself alone.
    pub(super) fn sessions(self, repository: &Repository, push: bool) -> Result<Vec<Session>> {
        let mut endpoints = self.endpoints(repository)?;
        if push {
            // The last one: the registry, wherever registries.conf says that it is.
            endpoints.drain(..endpoints.len().saturating_sub(1));
        }
        let shared = Arc::new(Shared {
            transport: Transport::new(Arc::new(self.tls), self.proxies, self.timeouts),
            credentials: self.credentials.unwrap_or_else(Credentials::none),
            retry: self.retry,
            say: self.say,
            said: Mutex::new(HashSet::new()),
        });
        Ok(endpoints
            .into_iter()
            .map(|endpoint| Session::new(endpoint, Arc::clone(&shared)))
            .collect())
    }
}

/// The user's file instead of the system's, and the directories of both.
fn registries_conf(named: Option<PathBuf>, config: Option<&Path>) -> Vec<PathBuf> {
    if let Some(only) = named {
        return vec![only];
    }
    let system = PathBuf::from("/etc/containers/registries.conf");
    let user =
        config.map(|dir| dir.join("containers/registries.conf")).filter(|file| file.is_file());
    let mut files = vec![user.unwrap_or(system)];
    let user_d = config.map(|dir| dir.join("containers/registries.conf.d"));
    for directory in
        [Some("/etc/containers/registries.conf.d".into()), user_d].into_iter().flatten()
    {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        names.retain(|name| name.extension().is_some_and(|e| e == "conf"));
        names.sort();
        files.extend(names);
    }
    files
}

/// Larger files are no configuration.
const LIMIT: u64 = 1 << 20;

fn read(file: &Path) -> Result<Option<String>> {
    use io::Read;
    let mut text = String::new();
    let opened = fs::File::open(file).and_then(|f| f.take(LIMIT).read_to_string(&mut text));
    match opened {
        Ok(_) => Ok(Some(text)),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(Error::io(format!("cannot read {}", file.display()), e)),
    }
}
