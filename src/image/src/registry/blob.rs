//! A blob as a stream that goes on where it broke off.

use std::io::{self, Read};
use std::time::Instant;

use super::session::{Session, get};
use super::transport::{Request, Response};
use super::url::Url;
use crate::descriptor::Descriptor;
use crate::error::{Error, Kind, Result};

/// A connection that gave less than this before it broke made no progress.
const PROGRESS: u64 = 64 * 1024;

/// Where a blob is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the repository.
    Repository,
    /// At a URL of the descriptor, where nobody is told who asks (CVE-2020-15157).
    Foreign(Url),
}

/// The bytes of a blob. Not verified: it only sees to it that they are as many as they should be, and goes on reading
/// when there are more, so that who verifies sees those.
pub(super) struct Blob<'a> {
    session: &'a Session,
    descriptor: Descriptor,
    place: Place,
    position: u64,
    stream: Option<Box<dyn Read + Send>>,
    failures: u32,
    since: Instant,
    got: u64,
}

impl<'a> Blob<'a> {
    /// Asks for the blob from `offset` on, and has the answer's head when it returns.
    pub(super) fn open(
        session: &'a Session,
        descriptor: &Descriptor,
        place: Place,
        offset: u64,
    ) -> Result<Self> {
        let mut blob = Self {
            session,
            descriptor: descriptor.clone(),
            place,
            position: offset,
            stream: None,
            failures: 0,
            since: Instant::now(),
            got: 0,
        };
        blob.connect()?;
        Ok(blob)
    }

    fn connect(&mut self) -> Result<()> {
        let (digest, size) = (&self.descriptor.digest, self.descriptor.size);
        self.got = 0;
        self.since = Instant::now();
        if self.position >= size && self.position > 0 {
            self.stream = Some(Box::new(io::empty()));
            return Ok(());
        }
        let url = match &self.place {
            Place::Repository => self.session.url(&format!("/blobs/{digest}")),
            Place::Foreign(url) => url.clone(),
        };
        let from = self.position;
        let make = || -> Request<'a> {
            // What is compressed on the way has another digest.
            let request =
                get(&url, &[]).header("accept", "*/*").header("accept-encoding", "identity");
            if from == 0 { request } else { request.header("range", format!("bytes={from}-")) }
        };
        let response = match &self.place {
            Place::Repository => self.session.exchange(&make, &[self.session.pull_scope()])?,
            Place::Foreign(_) => self.session.exchange_as_nobody(&make)?,
        };
        let what = format!("cannot get {digest}");
        let response = if response.status == 416 && from > 0 {
            // It knows no ranges, or another blob: from the beginning, and what is there already is skipped.
            let from_start =
                || get(&url, &[]).header("accept", "*/*").header("accept-encoding", "identity");
            match &self.place {
                Place::Repository => {
                    self.session.exchange(&from_start, &[self.session.pull_scope()])?
                }
                Place::Foreign(_) => self.session.exchange_as_nobody(&from_start)?,
            }
        } else {
            response
        };
        let hoped: &[u16] = if from > 0 { &[200, 206] } else { &[200] };
        let response = self.session.expect(response, hoped, &what)?;
        let skip = if response.status == 206 {
            check_range(&response, from, size).map_err(|e| e.context(what))?;
            0
        } else {
            if let Some(length) = response.content_length().filter(|&length| length != size) {
                return Err(Error::verification(format!(
                    "{what}: {} has {length} bytes of it, and its descriptor says {size}",
                    response.url
                )));
            }
            from
        };
        let mut stream: Box<dyn Read + Send> = Box::new(response.into_reader());
        if skip > 0 {
            let skipped = io::copy(&mut stream.by_ref().take(skip), &mut io::sink());
            match skipped {
                Ok(n) if n == skip => {}
                // As if it had broken off here: the next read finds out.
                _ => stream = Box::new(Broken),
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// One more failure; an error when it was one too many.
    fn failed(&mut self, why: &str) -> Result<()> {
        self.stream = None;
        if self.got >= PROGRESS {
            self.failures = 0;
        }
        let at = format!(
            "{} broke off at {} of {} bytes: {why}",
            self.descriptor.digest, self.position, self.descriptor.size
        );
        if self.session.is_last(&mut self.failures) {
            return Err(Error::new(
                Kind::Network,
                format!("{} ({})", at, self.session.endpoint.host),
            ));
        }
        self.session.pause(self.failures, None, &at);
        Ok(())
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(stream) = &mut self.stream else {
                match self.connect() {
                    Ok(()) => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            let why = match stream.read(buffer) {
                Ok(0) if self.position < self.descriptor.size => "the connection ended".to_owned(),
                Ok(n) => {
                    self.position += n as u64;
                    self.got += n as u64;
                    if n == 0
                        || self.since.elapsed() < self.session.shared.transport.timeouts().trickle
                    {
                        return Ok(n);
                    }
                    let enough = self.got >= PROGRESS;
                    if enough {
                        self.got = 0;
                        self.failures = 0;
                        self.since = Instant::now();
                        return Ok(n);
                    }
                    // The bytes are good all the same; the connection is given up for the next read.
                    self.failed("too slow")?;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e.to_string(),
            };
            self.failed(&why)?;
        }
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before where it was to go on"))
    }
}

/// A range that is not the one that was asked for would make a blob of pieces of several.
fn check_range(response: &Response, from: u64, size: u64) -> Result<()> {
    let text = response.header("content-range").unwrap_or_default();
    let wrong = || {
        Error::verification(format!(
            "{} answers bytes {from} to {size} with the range {:?}",
            response.url,
            super::answer::shown(text)
        ))
    };
    let (range, total) =
        text.strip_prefix("bytes ").and_then(|r| r.split_once('/')).ok_or_else(wrong)?;
    let (first, last) = range.trim().split_once('-').ok_or_else(wrong)?;
    let last: u64 = last.parse().map_err(|_why| wrong())?;
    let fits = first.parse() == Ok(from)
        && last < size
        && last >= from
        && (total == "*" || total.parse() == Ok(size));
    if fits { Ok(()) } else { Err(wrong()) }
}
