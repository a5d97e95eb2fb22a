//! Whom TLS trusts: the system's authorities, those of `--ca-file` and certs.d, and certificates of one's own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::endpoint::Trust;
use crate::error::{Error, Result};

/// Where certificates are.
#[derive(Debug, Default)]
pub struct TlsFiles {
    /// `--ca-file`: authorities trusted besides the system's, for every host.
    pub ca: Vec<PathBuf>,
    /// `--cert-dir`: a directory with authorities for every host, and certificates of one's own for the registry.
    pub directory: Option<PathBuf>,
    /// `--cert` and `--key`: for the registry.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Directories with one directory a host: `/etc/containers/certs.d`. The first that has the host's counts.
    pub certs_d: Vec<PathBuf>,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`, instead of the system's.
    pub system: Vec<PathBuf>,
    system_roots: OnceLock<Option<Vec<Certificate<'static>>>>,
}

/// Where distributions keep the bundle of the system's authorities.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Larger files are no certificates.
const LIMIT: u64 = 8 << 20;

impl TlsFiles {
    /// The directories that podman, skopeo and docker read, and the variables that OpenSSL reads.
    #[must_use]
    pub fn from_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config =
            path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
        let mut certs_d: Vec<_> =
            config.map(|dir| dir.join("containers/certs.d")).into_iter().collect();
        certs_d.extend(["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()]);
        let system = [path("SSL_CERT_FILE"), path("SSL_CERT_DIR")].into_iter().flatten().collect();
        Self { certs_d, system, ..Self::default() }
    }

    /// The configuration for one host. `own` is whether it is the registry, whose client certificate is used.
    pub(super) fn config(&self, authority: &str, trust: &Trust, own: bool) -> Result<TlsConfig> {
        let mut ca = self.ca.clone();
        let mut client: Vec<_> =
            if own { self.client.clone().into_iter().collect() } else { Vec::new() };
        ca.extend(trust.ca.iter().cloned());
        client.extend(trust.client.iter().cloned());
        if let Some(directory) = &self.directory {
            let (more_ca, more_client) = of_directory(directory)?;
            ca.extend(more_ca);
            client.extend(more_client.into_iter().filter(|_| own));
        }
        if let Some(directory) = self.directory_of(authority) {
            let (more_ca, more_client) = of_directory(&directory)?;
            ca.extend(more_ca);
            client.extend(more_client);
        }
        let client = client.first().map(|(cert, key)| client_cert(cert, key)).transpose()?;
        let mut added = Vec::new();
        for file in &ca {
            let found = certificates(file)?;
            if found.is_empty() {
                return Err(Error::usage(format!("{} holds no certificate", file.display())));
            }
            added.extend(found);
        }
        // Without a bundle of the system there is the one that was built in, which cannot be added to.
        let roots = match self.system_roots() {
            None if added.is_empty() => RootCerts::WebPki,
            system => {
                added.extend(system.into_iter().flatten().cloned());
                RootCerts::Specific(Arc::new(added))
            }
        };
        let builder = TlsConfig::builder().client_cert(client).root_certs(roots);
        Ok(builder.disable_verification(trust.skip_verify).build())
    }

    fn directory_of(&self, authority: &str) -> Option<PathBuf> {
        // It comes from a URL, where a host is no path.
        if authority.is_empty() || authority.contains('/') || authority.starts_with('.') {
            return None;
        }
        self.certs_d.iter().map(|dir| dir.join(authority)).find(|dir| dir.is_dir())
    }

    fn system_roots(&self) -> Option<&Vec<Certificate<'static>>> {
        self.system_roots
            .get_or_init(|| {
                if self.system.is_empty() {
                    return BUNDLES.iter().find_map(|file| {
                        certificates(Path::new(file)).ok().filter(|c| !c.is_empty())
                    });
                }
                let mut all = Vec::new();
                for place in &self.system {
                    match fs::read_dir(place) {
                        Ok(entries) => {
                            let files = entries.flatten().map(|entry| entry.path());
                            all.extend(files.filter_map(|file| certificates(&file).ok()).flatten());
                        }
                        Err(_) => all.extend(certificates(place).unwrap_or_default()),
                    }
                }
                Some(all)
            })
            .as_ref()
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    let opened = fs::File::open(file).and_then(|f| f.take(LIMIT).read_to_end(&mut text));
    opened.map_err(|e| Error::io(format!("cannot read {}", file.display()), e))?;
    Ok(text)
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let text = read(file)?;
    let items = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    Ok(items.collect())
}

type Pairs = Vec<(PathBuf, PathBuf)>;

/// `*.crt` are authorities, `x.cert` with `x.key` is a certificate of one's own.
fn of_directory(directory: &Path) -> Result<(Vec<PathBuf>, Pairs)> {
    let failed = |e| Error::io(format!("cannot read {}", directory.display()), e);
    let mut names: Vec<_> =
        fs::read_dir(directory).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let with = |extension: &str| {
        let matches = |path: &&PathBuf| path.extension().is_some_and(|e| e == extension);
        names.iter().filter(matches).cloned().collect::<Vec<_>>()
    };
    let mut client = Vec::new();
    for cert in with("cert") {
        let key = cert.with_extension("key");
        if !names.contains(&key) {
            return Err(Error::usage(format!(
                "{} has no {} beside it",
                cert.display(),
                key.display()
            )));
        }
        client.push((cert, key));
    }
    Ok((with("crt"), client))
}

fn client_cert(cert: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(cert)?;
    if chain.is_empty() {
        return Err(Error::usage(format!("{} holds no certificate", cert.display())));
    }
    let no_key = |why: &str| Error::usage(format!("{} {why}", key.display()));
    let text = read(key)?;
    let found = PrivateKey::from_pem(&text)
        .map_err(|_why| no_key("holds no private key that is not encrypted"))?;
    // What does not fit would stop the program further on.
    check_pair(&chain, &text)
        .map_err(|why| no_key(&format!("is no key for {}: {why}", cert.display())))?;
    Ok(ClientCert::new_with_certs(&chain, found))
}

fn check_pair(chain: &[Certificate<'static>], key: &[u8]) -> Result<(), rustls::Error> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = chain.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect();
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|e| rustls::Error::General(e.to_string()))?;
    rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map(drop)
}
