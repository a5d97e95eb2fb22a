//! Into a repository: blobs that it has not, then the documents that point at them.

use std::io::Read;

use ureq::http::Method;

use super::endpoint::Repository;
use super::listing::fallback_tag;
use super::pull::Registry;
use super::referrer;
use super::session::{Session, get};
use super::settings::Settings;
use super::transport::{Payload, Request, Response};
use super::url::Url;
use crate::descriptor::Descriptor;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Kind, Result};
use crate::limits::Limits;
use crate::manifest::Document;
use crate::media::{self, Media};
use crate::reference::Reference;
use crate::source::{self, Source};

/// What one PATCH carries, where a registry takes no blob in one piece: GHCR takes no more.
const CHUNK: u64 = 4 << 20;
/// No registry refuses that for its size.
const SMALLEST_CHUNK: u64 = 64 << 10;
/// The largest one that a registry may ask for: it is held in memory.
const LARGEST_CHUNK: u64 = 64 << 20;

/// How to push.
#[derive(Clone, Copy)]
pub struct PushOptions<'a> {
    /// Send blobs in pieces of so many bytes; `None` in one, unless the registry refuses that.
    pub chunk: Option<u64>,
    /// How much is too much.
    pub limits: &'a Limits,
    /// Is told of each blob that is there now, and whether it was before.
    pub done: &'a dyn Fn(&Descriptor, bool),
}

impl std::fmt::Debug for PushOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PushOptions {{ chunk: {:?} }}", self.chunk)
    }
}

/// A repository that is written to.
#[derive(Debug)]
pub struct Destination {
    repository: Repository,
    selector: String,
    session: Session,
}

impl Destination {
    /// A client for what `reference` names. Mirrors have no part in it.
    ///
    /// # Errors
    /// As [`Registry::new`].
    pub fn new(reference: &Reference, settings: Settings) -> Result<Self> {
        let repository = Repository::new(reference.host(), reference.repository())?;
        let session = settings.sessions(&repository, true)?.pop();
        let session = session
            .ok_or_else(|| Error::usage(format!("{repository} has no server to push to")))?;
        Ok(Self { repository, selector: reference.selector(), session })
    }

    /// Copies what `root`, whose bytes are `bytes`, stands for: a manifest or an index with all below it, verified.
    /// `origin` is the registry that `source` is, if it is one: blobs of another repository of the same registry are
    /// mounted.
    ///
    /// # Errors
    /// Those of the source and of the registry. The name is written last.
    pub fn push(
        &self,
        source: &dyn Source,
        origin: Option<&Registry>,
        (root, bytes): (&Descriptor, &[u8]),
        options: &PushOptions<'_>,
    ) -> Result<()> {
        root.verify(bytes)?;
        // A name with a digest is a promise that is held before anything is written under it.
        if Digest::parse(&self.selector).is_ok_and(|wanted| wanted != root.digest) {
            return Err(Error::verification(format!(
                "{} is to be pushed as {}",
                root.digest, self.selector
            )));
        }
        let origin = origin.map(|o| &o.repository).filter(|o| o.host == self.repository.host);
        let push = Push {
            to: self,
            source,
            from: origin.map(|o| o.name.as_str()),
            options,
            no_mounts: Default::default(),
        };
        push.below(root, bytes, 0)?;
        self.put(root, bytes, &self.selector)
    }

    fn scopes(&self, from: Option<&str>) -> Vec<String> {
        let mut scopes = vec![format!("repository:{}:pull,push", self.session.endpoint.name)];
        scopes.extend(from.map(|from| format!("repository:{from}:pull")));
        scopes
    }

    fn put(&self, descriptor: &Descriptor, bytes: &[u8], selector: &str) -> Result<()> {
        let url = self.session.url(&format!("/manifests/{selector}"));
        let make = || {
            Request::new(Method::PUT, url.clone())
                .header("content-type", descriptor.media_type.clone())
                .payload(Payload::Bytes(bytes))
        };
        let response = self.session.exchange(&make, &self.scopes(None))?;
        let what = format!("cannot push {}:{selector}", self.repository);
        let response = self.session.expect(response, &[201, 200, 202], &what)?;
        same_digest(&response, &descriptor.digest, &what)?;
        // A registry that knows of referrers says that it has seen whom this is about.
        match referrer::subject(bytes) {
            Some(subject) if response.header("oci-subject").is_none() => {
                self.refer(&subject, descriptor, bytes)
            }
            _ => Ok(()),
        }
    }

    /// Puts what was pushed among those that refer to `subject`, for a registry that does not do so itself (distribution-spec
    /// "Pushing Manifests with Subject"): in an index with a tag that is made of the digest.
    fn refer(&self, subject: &Digest, pushed: &Descriptor, bytes: &[u8]) -> Result<()> {
        let session = &self.session;
        let what = format!("cannot note in {} what refers to {subject}", self.repository);
        // It may know of them after all, and not say so.
        let api = session.url(&format!("/referrers/{subject}"));
        let knows = session.exchange(&|| get(&api, &[media::OCI_INDEX]), &self.scopes(None))?;
        if knows.status == 200 {
            return Ok(());
        }
        let url = session.url(&format!("/manifests/{}", fallback_tag(subject)));
        let mut failures = 0;
        loop {
            let make = || get(&url, &[media::OCI_INDEX]);
            let there = session.exchange(&make, &self.scopes(None))?;
            let there = session.expect_or(there, &[200], &[404], &what)?;
            let tag = there.as_ref().and_then(|there| there.header("etag")).map(str::to_owned);
            let known = match there {
                Some(there) => session.body(there, Limits::default().document)?,
                None => Vec::new(),
            };
            let Some(index) =
                referrer::added(&known, pushed, bytes).map_err(|e| e.context(&what))?
            else {
                return Ok(());
            };
            let make = || {
                let request = Request::new(Method::PUT, url.clone())
                    .header("content-type", media::OCI_INDEX)
                    .payload(Payload::Bytes(&index));
                match &tag {
                    // Somebody else's must not be lost.
                    Some(tag) => request.header("if-match", tag.clone()),
                    None => request,
                }
            };
            let answer = session.exchange(&make, &self.scopes(None))?;
            if answer.status == 412 && !session.is_last(&mut failures) {
                session.pause(failures, None, &what);
                continue;
            }
            session.expect(answer, &[200, 201, 202], &what)?;
            return Ok(());
        }
    }
}

struct Push<'a> {
    to: &'a Destination,
    source: &'a dyn Source,
    from: Option<&'a str>,
    options: &'a PushOptions<'a>,
    /// A mount was refused.
    no_mounts: std::cell::Cell<bool>,
}

impl Push<'_> {
    /// All that a document points at: a registry refuses one whose parts it has not.
    fn below(&self, descriptor: &Descriptor, bytes: &[u8], depth: usize) -> Result<()> {
        let limits = self.options.limits;
        if depth > limits.index_depth {
            return Err(Error::no_space(format!(
                "{} is an index in too many indexes",
                descriptor.digest
            )));
        }
        match Document::parse(bytes, &descriptor.media_type, limits)? {
            Document::Index(index) => {
                for entry in &index.manifests {
                    let bytes = source::manifest(self.source, entry, limits)?;
                    self.below(entry, &bytes, depth + 1)?;
                    self.to.put(entry, &bytes, &entry.digest.to_string())?;
                }
            }
            Document::Manifest(manifest) => {
                let mut done = Vec::new();
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    // Licensed not to be given to others.
                    if !Media::is_nondistributable(&blob.media_type)
                        && !done.contains(&&blob.digest)
                    {
                        self.blob(blob)?;
                        done.push(&blob.digest);
                    }
                }
            }
        }
        Ok(())
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let session = &self.to.session;
        let what = format!("cannot push {} to {}", blob.digest, self.to.repository);
        let scopes = self.to.scopes(None);
        let url = session.url(&format!("/blobs/{}", blob.digest));
        let there = session.exchange(&|| Request::new(Method::HEAD, url.clone()), &scopes)?;
        if session.expect_or(there, &[200], &[404], &what)?.is_some() {
            (self.options.done)(blob, true);
            return Ok(());
        }
        if self.mounted(blob, &what)? {
            (self.options.done)(blob, true);
            return Ok(());
        }
        let (mut failures, mut chunk) = (0, self.options.chunk);
        loop {
            match self.upload(blob, chunk, &scopes, &what) {
                Ok(Outcome::Done) => break,
                Ok(Outcome::Failed(error)) => return Err(error),
                Ok(Outcome::InPieces(size)) if chunk.is_none_or(|now| now > size) => {
                    chunk = Some(size);
                }
                Ok(Outcome::InPieces(_)) => {
                    return Err(Error::new(
                        Kind::Generic,
                        format!("{what}: the registry takes no piece of it"),
                    ));
                }
                // What was sent is of unknown use: from the beginning, with another upload. Unless it was only the answer that did not come.
                Err(error) if error.kind() == Kind::Network && !session.is_last(&mut failures) => {
                    session.pause(failures, None, &error.to_string());
                    let head = || Request::new(Method::HEAD, url.clone());
                    if session.exchange(&head, &scopes).is_ok_and(|answer| answer.status == 200) {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        (self.options.done)(blob, false);
        Ok(())
    }

    /// Whether the blob could be taken from another repository of the registry. It is a favour: a registry or token
    /// server that refuses it, in whatever way, is not asked for it again.
    fn mounted(&self, blob: &Descriptor, what: &str) -> Result<bool> {
        let Some(from) = self.from.filter(|_| !self.no_mounts.get()) else { return Ok(false) };
        let session = &self.to.session;
        let url = session.url("/blobs/uploads/");
        let url = url.with_query("mount", &blob.digest.to_string()).with_query("from", from);
        let make = || Request::new(Method::POST, url.clone());
        let scopes = self.to.scopes(Some(from));
        match session.exchange(&make, &scopes) {
            Ok(response) if response.status == 201 => {
                same_digest(&response, &blob.digest, what)?;
                Ok(true)
            }
            // An upload was begun instead, which has another scope.
            Ok(response) if response.status == 202 => {
                if let Ok(place) = location(&response, what) {
                    self.abandon(&place, &scopes);
                }
                Ok(false)
            }
            Ok(_) => {
                self.no_mounts.set(true);
                Ok(false)
            }
            Err(error) if error.kind() == Kind::Auth => {
                self.no_mounts.set(true);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// What was begun is nobody's; whether it goes is the registry's affair.
    fn abandon(&self, place: &Url, scopes: &[String]) {
        let _left = self.to.session.once(&|| Request::new(Method::DELETE, place.clone()), scopes);
    }

    fn upload(
        &self,
        blob: &Descriptor,
        chunk: Option<u64>,
        scopes: &[String],
        what: &str,
    ) -> Result<Outcome> {
        let session = &self.to.session;
        let mut url = session.url("/blobs/uploads/");
        if blob.digest.algorithm() != Some(Algorithm::Sha256) {
            url = url.with_query("digest-algorithm", blob.digest.algorithm_name());
        }
        let begun = session.exchange(&|| Request::new(Method::POST, url.clone()), scopes)?;
        let begun = session.expect(begun, &[201, 202], what)?;
        if begun.status == 201 {
            same_digest(&begun, &blob.digest, what)?;
            return Ok(Outcome::Done);
        }
        let place = location(&begun, what)?;
        let asked = begun.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        let result = match chunk {
            None => self.whole(blob, &place, scopes, what, asked),
            Some(size) => {
                let size = size.max(asked.unwrap_or(0)).clamp(1, LARGEST_CHUNK);
                self.pieces(blob, (place.clone(), 0), size, scopes, what)
            }
        };
        let result = match (result, chunk) {
            // Broken off: what the registry has of it need not be sent again.
            (Err(error), None) if error.kind() == Kind::Network => {
                match self.status(&place, scopes, what) {
                    Some((next, had)) if had < blob.size => {
                        self.goes_on(had, blob, &error);
                        let size = asked.unwrap_or(0).clamp(CHUNK, LARGEST_CHUNK);
                        self.pieces(blob, (next, had), size, scopes, what)
                    }
                    _ => Err(error),
                }
            }
            (result, _) => result,
        };
        if !matches!(result, Ok(Outcome::Done)) {
            self.abandon(&place, scopes);
        }
        result
    }

    fn whole(
        &self,
        blob: &Descriptor,
        place: &Url,
        scopes: &[String],
        what: &str,
        asked: Option<u64>,
    ) -> Result<Outcome> {
        let session = &self.to.session;
        let url = place.clone().with_query("digest", &blob.digest.to_string());
        let open = || -> Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new(Ahead::new(source::blob(self.source, blob)?)))
        };
        let make = || {
            Request::new(Method::PUT, url.clone())
                .header("content-type", "application/octet-stream")
                .payload(Payload::Stream(blob.size, &open))
        };
        let response = session.once(&make, scopes)?;
        // Too large for it or for a proxy before it, or a way that it does not know (Artifactory of old).
        if matches!(response.status, 404 | 405 | 411 | 413 | 501) {
            return Ok(Outcome::InPieces(asked.unwrap_or(CHUNK)));
        }
        finished(session, response, blob, what)
    }

    /// How much of an upload the registry has, and where it goes on; `None` when it has nothing of it, or does not say
    /// (distribution-spec "Pushing a blob in chunks").
    fn status(&self, place: &Url, scopes: &[String], what: &str) -> Option<(Url, u64)> {
        let make = || Request::new(Method::GET, place.clone());
        let answer = self.to.session.exchange(&make, scopes).ok()?;
        if !matches!(answer.status, 200 | 202 | 204) {
            return None;
        }
        let range = answer.header("range")?;
        let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
        // `0-0` is what some say of nothing.
        let last =
            last.trim().parse::<u64>().ok().filter(|&last| last > 0 && first.trim() == "0")?;
        let next = match answer.header("location") {
            Some(_) => location(&answer, what).ok()?,
            None => place.clone(),
        };
        Some((next, last.checked_add(1)?))
    }

    fn goes_on(&self, from: u64, blob: &Descriptor, why: &Error) {
        let (digest, size) = (&blob.digest, blob.size);
        let text = format!("{why}; the upload of {digest} goes on at {from} of {size} bytes");
        (self.to.session.shared.say.0)(&text);
    }

    /// Sends the blob in pieces of `size` bytes, from where the registry has it up to.
    fn pieces(
        &self,
        blob: &Descriptor,
        (mut place, mut sent): (Url, u64),
        size: u64,
        scopes: &[String],
        what: &str,
    ) -> Result<Outcome> {
        let session = &self.to.session;
        let mut reader = source::blob(self.source, blob)?;
        let failed = |error| Error::io(what, error);
        // Read all the same: it is held against its digest.
        std::io::copy(&mut reader.by_ref().take(sent), &mut std::io::sink()).map_err(failed)?;
        let (mut failures, mut piece) = (0, Vec::new());
        loop {
            if piece.is_empty() {
                reader.by_ref().take(size).read_to_end(&mut piece).map_err(failed)?;
            }
            let end = sent + piece.len() as u64;
            let is_last = end >= blob.size || piece.is_empty();
            let (method, url) = if is_last {
                // Reads to the end, where the digest is held against the bytes.
                std::io::copy(&mut reader, &mut std::io::sink()).map_err(failed)?;
                // ECR takes no PUT without a body, so the last piece goes with it.
                (Method::PUT, place.clone().with_query("digest", &blob.digest.to_string()))
            } else {
                (Method::PATCH, place.clone())
            };
            let make = || {
                let request = Request::new(method.clone(), url.clone())
                    .header("content-type", "application/octet-stream")
                    .payload(Payload::Bytes(&piece));
                match end.checked_sub(1).filter(|last| *last >= sent) {
                    Some(last) => request.header("content-range", format!("{sent}-{last}")),
                    None => request,
                }
            };
            let answer = session.once(&make, scopes).and_then(|answer| {
                if super::retry::is_transient(answer.status) {
                    // An error, with what it says.
                    return session.expect(answer, &[], what);
                }
                Ok(answer)
            });
            let response = match answer {
                Ok(response) => response,
                Err(error) if error.kind() != Kind::Network => return Err(error),
                Err(error) if session.is_last(&mut failures) => return Ok(Outcome::Failed(error)),
                Err(error) => {
                    session.pause(failures, None, &error.to_string());
                    match self.status(&place, scopes, what) {
                        // Not what was sent before this piece: that would have to be read again.
                        Some((next, had)) if (sent..=end).contains(&had) => {
                            self.goes_on(had, blob, &error);
                            let taken = usize::try_from(had - sent).unwrap_or(piece.len());
                            piece.drain(..taken.min(piece.len()));
                            (place, sent) = (next, had);
                        }
                        // Nothing of the first piece has arrived.
                        None if sent == 0 => {}
                        _ => return Err(error),
                    }
                    continue;
                }
            };
            failures = 0;
            if matches!(response.status, 413 | 416) && size > SMALLEST_CHUNK {
                return Ok(Outcome::InPieces((size / 4).max(SMALLEST_CHUNK)));
            }
            if is_last {
                return finished(session, response, blob, what);
            }
            let response = session.expect(response, &[202], what)?;
            // What it says in Range is not to be relied on (ECR says that of the first piece for ever); that it has
            // something else it finds by the digest.
            place = location(&response, what)?;
            sent = end;
            piece.clear();
        }
    }
}

/// Gives a block only when the one after it, or the end, has been read: who verifies says at the end that the content is not
/// what it should be, and by then the last bytes must not have been sent.
struct Ahead<R> {
    inner: R,
    now: std::io::Cursor<Vec<u8>>,
    next: Option<Vec<u8>>,
}

impl<R: Read> Ahead<R> {
    fn new(inner: R) -> Self {
        Self { inner, now: std::io::Cursor::default(), next: None }
    }

    fn block(&mut self) -> std::io::Result<Vec<u8>> {
        let mut block = Vec::new();
        self.inner.by_ref().take(256 * 1024).read_to_end(&mut block)?;
        Ok(block)
    }
}

impl<R: Read> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.now.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let now = match self.next.take() {
            Some(block) => block,
            None => self.block()?,
        };
        self.next = Some(if now.is_empty() { Vec::new() } else { self.block()? });
        self.now = std::io::Cursor::new(now);
        self.now.read(buffer)
    }
}

enum Outcome {
    Done,
    /// Time and again: there is no use in another upload.
    Failed(Error),
    /// Not in one piece, but in ones of so many bytes.
    InPieces(u64),
}

fn finished(
    session: &Session,
    response: Response,
    blob: &Descriptor,
    what: &str,
) -> Result<Outcome> {
    let response = session.expect(response, &[201, 204], what)?;
    same_digest(&response, &blob.digest, what)?;
    Ok(Outcome::Done)
}

/// A registry that says that it has stored something else has stored something else.
fn same_digest(response: &Response, digest: &Digest, what: &str) -> Result<()> {
    let said = response.header("docker-content-digest").and_then(|text| Digest::parse(text).ok());
    match said {
        Some(said) if said.algorithm_name() == digest.algorithm_name() && said != *digest => Err(
            Error::verification(format!("{what}: {} has stored {said} for {digest}", response.url)),
        ),
        _ => Ok(()),
    }
}

/// Where the upload goes on. A registry behind a proxy that it does not know of says http, and means what it was asked by.
fn location(response: &Response, what: &str) -> Result<Url> {
    let text = response.header("location").unwrap_or_default();
    let bad = |why: String| {
        Error::new(Kind::Network, format!("{what}: {} says nowhere to go on: {why}", response.url))
    };
    if text.is_empty() {
        return Err(bad("there is no Location".into()));
    }
    let mut next = response.url.join(text).map_err(|e| bad(e.to_string()))?;
    if next.host == response.url.host && next.scheme != response.url.scheme {
        next = response.url.join(&next.target).map_err(|e| bad(e.to_string()))?;
    }
    if !next.same_origin(&response.url) {
        // Nobody has a registry that does so, and the content is not for everybody.
        return Err(bad(format!("it is elsewhere, at {next}")));
    }
    Ok(next)
}
