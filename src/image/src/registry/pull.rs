//! A repository as a source of images.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::blob::{Blob, Place};
use super::endpoint::Repository;
use super::session::{Session, get};
use super::settings::Settings;
use super::transport::{Request, Response};
use super::url::Url;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::limits::Limits;
use crate::media::{self, Media};
use crate::reference::Reference;
use crate::source::Source;

/// What is wanted of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Tag(String),
    Digest(Digest),
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// One image of a repository, or the repository alone ([`tags`](Self::tags), [`referrers`](Self::referrers)).
#[derive(Debug)]
pub struct Registry {
    pub(super) repository: Repository,
    selector: Selector,
    pub(super) sessions: Vec<Session>,
    /// The server that gave the manifest: it has the blobs, too.
    preferred: AtomicUsize,
    limit: u64,
}

impl Registry {
    /// A client for what `reference` names. Nothing is asked yet.
    ///
    /// # Errors
    /// Those of the configuration: [`Kind::Usage`] for a file that cannot be understood, or that blocks the registry.
    pub fn new(reference: &Reference, settings: Settings) -> Result<Self> {
        let repository = Repository::new(reference.host(), reference.repository())?;
        let selector = match reference.digest() {
            Some(digest) => Selector::Digest(digest.clone()),
            None => Selector::Tag(reference.tag().unwrap_or("latest").to_owned()),
        };
        let sessions = settings.sessions(&repository, false)?;
        Ok(Self {
            repository,
            selector,
            sessions,
            preferred: AtomicUsize::new(0),
            limit: Limits::default().document,
        })
    }

    /// The same client for another manifest of the repository.
    #[must_use]
    pub fn at(mut self, digest: Digest) -> Self {
        self.selector = Selector::Digest(digest);
        self
    }

    /// The digest that the tag has now, without the manifest: a HEAD, which registries do not count. `None` when the
    /// registry does not say.
    ///
    /// # Errors
    /// As [`Source::resolve`].
    pub fn head(&self) -> Result<Option<Digest>> {
        let by_tag = matches!(self.selector, Selector::Tag(_));
        self.first(by_tag, |session| {
            let url = session.url(&format!("/manifests/{}", self.selector));
            let accept = media::ACCEPTED.join(", ");
            let make = || {
                Request::new(ureq::http::Method::HEAD, url.clone()).header("accept", accept.clone())
            };
            let response = session.exchange(&make, &[session.pull_scope()])?;
            if response.status == 405 {
                return Ok(None);
            }
            let response =
                session.expect(response, &[200], &format!("cannot find {}", self.name()))?;
            Ok(response.header("docker-content-digest").and_then(|text| Digest::parse(text).ok()))
        })
    }

    /// Asks one server after another until one has an answer. With the errors of all when none has.
    pub(super) fn first<'s, T>(
        &'s self,
        by_tag: bool,
        ask: impl Fn(&'s Session) -> Result<T>,
    ) -> Result<T> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut order: Vec<_> = (0..self.sessions.len()).collect();
        order.sort_by_key(|&index| index != preferred);
        let mut errors: Vec<Error> = Vec::new();
        for index in order {
            let Some(session) = self.sessions.get(index) else { continue };
            let endpoint = &session.endpoint;
            if !(if by_tag { endpoint.tags } else { endpoint.digests }) {
                continue;
            }
            match ask(session) {
                Ok(found) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    for error in &errors {
                        (session.shared.say.0)(&format!(
                            "{error}; {} was asked instead",
                            endpoint.host
                        ));
                    }
                    return Ok(found);
                }
                Err(error) => errors.push(error),
            }
        }
        // What the registry itself says counts; the mirrors' words come before it.
        let Some(last) = errors.pop() else {
            return Err(Error::new(
                Kind::NotFound,
                format!("no server for {} gives {}", self.repository, self.selector),
            ));
        };
        Err(errors.into_iter().rev().fold(last, |error, before| error.context(before)))
    }

    fn name(&self) -> String {
        match &self.selector {
            Selector::Tag(tag) => format!("{}:{tag}", self.repository),
            Selector::Digest(digest) => format!("{}@{digest}", self.repository),
        }
    }

    fn get_manifest(
        &self,
        session: &Session,
        selector: &Selector,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let url = session.url(&format!("/manifests/{selector}"));
        let what = format!("cannot get {}", self.name());
        let check = |response: Response| session.expect(response, &[200], &what);
        let make = || get(&url, &media::ACCEPTED);
        let (headers, url, bytes) =
            session.document(&make, &[session.pull_scope()], self.limit, &check)?;
        let header = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let descriptor = describe(&url, header("content-type"), &bytes, selector)?;
        if let Ok(said) = Digest::parse(header("docker-content-digest"))
            && said.algorithm_name() == descriptor.digest.algorithm_name()
            && said != descriptor.digest
        {
            return Err(Error::verification(format!(
                "{url} says that it gives {said}, and gives {}",
                descriptor.digest
            )));
        }
        Ok((descriptor, bytes))
    }
}

/// What a manifest is: its digest by its bytes, its type by what it says itself and what the registry says, which have to agree
/// (CVE-2021-41190).
fn describe(
    url: &Url,
    content_type: &str,
    bytes: &[u8],
    selector: &Selector,
) -> Result<Descriptor> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
        schema_version: Option<serde_json::Value>,
    }
    let digest = match selector {
        Selector::Digest(digest) => {
            digest.verify(bytes).map_err(|e| e.context(format_args!("{url} lies")))?;
            digest.clone()
        }
        Selector::Tag(_) => Digest::of(bytes),
    };
    let said = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let vague = matches!(
        said.as_str(),
        "" | "application/json" | "application/octet-stream" | "text/plain" | "binary/octet-stream"
    );
    let own: Own = serde_json::from_slice(bytes).map_err(|_why| {
        let hint = if said == "text/html" { ": is there a registry at this address?" } else { "" };
        let shown = super::answer::shown(&said);
        Error::verification(format!("{url} gives no manifest but {shown:?}{hint}"))
    })?;
    let schema1 = own.schema_version.as_ref().and_then(serde_json::Value::as_u64) == Some(1);
    let media_type = match own.media_type {
        Some(own) if !vague && own != said => {
            return Err(Error::verification(format!(
                "{url} calls {digest} {:?}, and it calls itself {:?}",
                super::answer::shown(&said),
                super::answer::shown(&own)
            )));
        }
        Some(own) => own,
        None if !vague => said,
        None if schema1 => media::DOCKER_SCHEMA1.to_owned(),
        None => media::OCI_MANIFEST.to_owned(),
    };
    if schema1 || Media::of(&media_type) == Media::Schema1 {
        return Err(Error::unsupported(format!(
            "{url} is a manifest of schema 1, which is not supported: ask the publisher to push the image anew"
        )));
    }
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

impl Source for Registry {
    fn resolve(&self) -> Result<(Descriptor, Vec<u8>)> {
        let by_tag = matches!(self.selector, Selector::Tag(_));
        self.first(by_tag, |session| self.get_manifest(session, &self.selector))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let selector = Selector::Digest(descriptor.digest.clone());
        self.first(false, |session| Ok(self.get_manifest(session, &selector)?.1))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let found =
            self.first(false, |session| Blob::open(session, descriptor, Place::Repository, offset));
        let absent = match found {
            Ok(blob) => return Ok(Box::new(blob)),
            Err(error)
                if error.kind() == Kind::NotFound
                    && Media::is_nondistributable(&descriptor.media_type) =>
            {
                error
            }
            Err(error) => return Err(error),
        };
        for text in &descriptor.urls {
            if let (Ok(url), Some(session)) = (Url::parse(text), self.sessions.last())
                && let Ok(blob) = Blob::open(session, descriptor, Place::Foreign(url), offset)
            {
                return Ok(Box::new(blob));
            }
        }
        Err(absent)
    }
}
