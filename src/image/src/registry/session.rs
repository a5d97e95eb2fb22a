//! A conversation with one server: authentication, attempts, and the choice between TLS and plain HTTP.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use ureq::http::Method;

use super::challenge::{self, Bearer, Challenge};
use super::credentials::{Credential, Credentials};
use super::endpoint::Endpoint;
use super::redirect::follow;
use super::retry::{self, Retry};
use super::token::{self, Token};
use super::transport::{Failure, Peer, Request, Response, Transport};
use super::url::{Scheme, Url};
use super::{Say, answer};
use crate::error::{Error, Kind, Result};

/// How often a request may be answered with 401: once without a token, once with one that just ran out, and once for
/// a scope that only the challenge names.
const ROUNDS: u32 = 3;

/// What all conversations of one run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) transport: Transport,
    pub(super) credentials: Credentials,
    pub(super) retry: Retry,
    pub(super) say: Say,
    /// Warnings of registries that were said already.
    pub(super) said: Mutex<HashSet<String>>,
}

/// A conversation with one endpoint.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) endpoint: Endpoint,
    pub(super) shared: Arc<Shared>,
    scheme: Mutex<Spoken>,
    auth: Mutex<Auth>,
}

/// TLS or not, and whether there was an answer yet: then it stays.
#[derive(Debug, Clone, Copy)]
struct Spoken {
    scheme: Scheme,
    sure: bool,
}

#[derive(Default)]
struct Auth {
    /// What the server asked for, with the token server's URL where it checked.
    asked: Option<(Challenge, Option<Url>)>,
    tokens: HashMap<String, Token>,
    credential: Option<Option<Credential>>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

impl Session {
    pub(super) fn new(endpoint: Endpoint, shared: Arc<Shared>) -> Self {
        let scheme = endpoint.api.scheme;
        let sure = scheme == Scheme::Http || !endpoint.plain_allowed;
        Self {
            endpoint,
            shared,
            scheme: Mutex::new(Spoken { scheme, sure }),
            auth: Mutex::default(),
        }
    }

    /// The URL of `target` (`/manifests/latest`) in the repository.
    pub(super) fn url(&self, target: &str) -> Url {
        let url = self.endpoint.api.below(&format!("/{}{target}", self.endpoint.name));
        match &self.endpoint.stands_for {
            Some(host) => url.with_query("ns", host),
            None => url,
        }
    }

    /// Sends what `make` makes, for every attempt anew, until there is an answer that another attempt would not better. `scopes` is what
    /// the token has to allow.
    pub(super) fn exchange<'a>(
        &self,
        make: &dyn Fn() -> Request<'a>,
        scopes: &[String],
    ) -> Result<Response> {
        self.attempts(make, scopes, true)
    }

    fn attempts<'a>(
        &self,
        make: &dyn Fn() -> Request<'a>,
        scopes: &[String],
        several: bool,
    ) -> Result<Response> {
        let (mut failures, mut rounds) = (0, 0);
        let mut tls_failure: Option<Error> = None;
        loop {
            let mut request = make();
            let spoken = *self.spoken();
            if self.is_here(&request.url) {
                request.url.scheme = spoken.scheme;
            }
            let here = self.is_here(&request.url);
            let secret = if here { self.secret(scopes)? } else { Vec::new() };
            match follow(&self.shared.transport, &request, &secret, self.peer(here)) {
                Ok(response) => {
                    self.spoken().sure = true;
                    self.pass_on_warnings(&response);
                    // Who was redirected to has no claim on credentials (CVE-2020-15157).
                    if response.status == 401 && here && self.is_here(&response.url) {
                        rounds += 1;
                        self.challenged(response, scopes, &secret, rounds)?;
                        continue;
                    }
                    if !retry::is_transient(response.status)
                        || !several
                        || self.is_last(&mut failures)
                    {
                        return Ok(response);
                    }
                    let asked = response
                        .header("retry-after")
                        .and_then(|v| retry::retry_after(v, SystemTime::now()));
                    self.pause(
                        failures,
                        asked,
                        &format!("{} answers {}", response.url, response.status),
                    );
                }
                Err(failure) if failure.no_tls && here && self.may_speak_plain(spoken) => {
                    *self.spoken() = Spoken { scheme: Scheme::Http, sure: false };
                    tls_failure = Some(failure.error);
                }
                Err(failure) if several && failure.transient && !self.is_last(&mut failures) => {
                    self.pause(failures, None, &failure.error.to_string());
                }
                Err(failure) => return Err(self.both(failure.error, tls_failure)),
            }
        }
    }

    /// As [`exchange`](Self::exchange), for a URL that neither this server nor its token server has anything to do with.
    pub(super) fn exchange_as_nobody<'a>(
        &self,
        make: &dyn Fn() -> Request<'a>,
    ) -> Result<Response> {
        let mut failures = 0;
        loop {
            let why = match follow(&self.shared.transport, &make(), &[], self.peer(false)) {
                Ok(response)
                    if !retry::is_transient(response.status) || self.is_last(&mut failures) =>
                {
                    return Ok(response);
                }
                Ok(response) => format!("{} answers {}", response.url, response.status),
                Err(failure) if !failure.transient || self.is_last(&mut failures) => {
                    return Err(failure.error);
                }
                Err(failure) => failure.error.to_string(),
            };
            self.pause(failures, None, &why);
        }
    }

    /// The scope of a token to read the repository with.
    pub(super) fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.endpoint.name)
    }

    /// Both reasons, where neither TLS nor plain HTTP had an answer; and the next request begins with TLS again.
    fn both(&self, error: Error, tls: Option<Error>) -> Error {
        let mut spoken = self.spoken();
        if !spoken.sure {
            spoken.scheme = self.endpoint.api.scheme;
        }
        match tls {
            Some(tls) => error.context(tls),
            None => error,
        }
    }

    /// As [`exchange`](Self::exchange), with a single attempt apart from those for authentication: what was sent may have been
    /// taken, so who sends it decides what an attempt is.
    pub(super) fn once<'a>(
        &self,
        make: &dyn Fn() -> Request<'a>,
        scopes: &[String],
    ) -> Result<Response> {
        self.attempts(make, scopes, false)
    }

    /// The answer, if its status is one of `hoped`; `None` for one of `absent`.
    pub(super) fn expect_or(
        &self,
        response: Response,
        hoped: &[u16],
        absent: &[u16],
        what: &str,
    ) -> Result<Option<Response>> {
        if absent.contains(&response.status) {
            return Ok(None);
        }
        self.expect(response, hoped, what).map(Some)
    }

    /// The answer, if its status is one of `hoped`.
    ///
    /// # Errors
    /// What the registry said, after `what`.
    pub(super) fn expect(&self, response: Response, hoped: &[u16], what: &str) -> Result<Response> {
        if hoped.contains(&response.status) {
            return Ok(response);
        }
        Err(answer::refusal(response, what, self.shared.transport.timeouts().document))
    }

    /// The body of a document of at most `limit` bytes.
    pub(super) fn body(&self, response: Response, limit: u64) -> Result<Vec<u8>> {
        let url = response.url.clone();
        let patience = self.shared.transport.timeouts().document;
        let body = response.read_to(limit, patience);
        let body =
            body.map_err(|e| Error::new(Kind::Network, format!("{url}: the answer stopped: {e}")))?;
        body.ok_or_else(|| {
            Error::no_space(format!(
                "{url}: the document is larger than the limit of {limit} bytes"
            ))
        })
    }

    /// GET of a document: as [`exchange`](Self::exchange) and [`body`](Self::body), and a body that stops half-way is
    /// asked for again.
    pub(super) fn document<'a>(
        &self,
        make: &dyn Fn() -> Request<'a>,
        scopes: &[String],
        limit: u64,
        check: &dyn Fn(Response) -> Result<Response>,
    ) -> Result<(ureq::http::HeaderMap, Url, Vec<u8>)> {
        let mut failures = 0;
        loop {
            let response = check(self.exchange(make, scopes)?)?;
            let (headers, url) = (response.headers.clone(), response.url.clone());
            match self.body(response, limit) {
                Ok(body) => return Ok((headers, url, body)),
                Err(error) if error.kind() == Kind::Network && !self.is_last(&mut failures) => {
                    self.pause(failures, None, &error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts a failure; whether it was the last one allowed.
    pub(super) fn is_last(&self, failures: &mut u32) -> bool {
        *failures += 1;
        *failures >= self.shared.retry.attempts.max(1)
    }

    /// Waits after failure number `failures` (from 1).
    pub(super) fn pause(&self, failures: u32, asked: Option<std::time::Duration>, why: &str) {
        let pause = self.shared.retry.pause(failures.saturating_sub(1), asked);
        (self.shared.say.0)(&format!("{why}; trying again in {:.1} s", pause.as_secs_f32()));
        std::thread::sleep(pause);
    }

    fn spoken(&self) -> std::sync::MutexGuard<'_, Spoken> {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_speak_plain(&self, spoken: Spoken) -> bool {
        spoken.scheme == Scheme::Https && !spoken.sure && self.endpoint.plain_allowed
    }

    /// Whether a URL is this server's: the same host and port, with the scheme that is spoken or was to be.
    fn is_here(&self, url: &Url) -> bool {
        let mut api = self.endpoint.api.clone();
        let spoken = self.spoken().scheme;
        [api.scheme, spoken].into_iter().any(|scheme| {
            api.scheme = scheme;
            url.same_origin(&api)
        })
    }

    fn peer(&self, here: bool) -> Peer<'_> {
        let named = here || self.endpoint.api.is_loopback();
        Peer { trust: &self.endpoint.trust, named, own: here && self.endpoint.own }
    }

    fn pass_on_warnings(&self, response: &Response) {
        for warning in answer::warnings(response) {
            let mut said = self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
            // A registry cannot fill memory with new ones.
            if said.len() < 100 && said.insert(warning.clone()) {
                (self.shared.say.0)(&format!("{} says: {warning}", self.endpoint.host));
            }
        }
    }

    /// The headers that only this server may see.
    fn secret(&self, scopes: &[String]) -> Result<Vec<(String, String)>> {
        let mut headers = self.endpoint.headers.clone();
        let mut auth = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = self.authorization(&mut auth, scopes)? {
            headers.push(("authorization".to_owned(), value));
        }
        Ok(headers)
    }

    /// What is known to be wanted; nothing before the server has said what it wants.
    fn authorization(&self, auth: &mut Auth, scopes: &[String]) -> Result<Option<String>> {
        Ok(match &auth.asked {
            None => None,
            Some((Challenge::Basic, _)) => match self.credential(auth)? {
                Some(Credential::Basic { user, password }) => Some(token::basic(&user, &password)),
                _ => None,
            },
            Some((Challenge::Bearer(bearer), realm)) => {
                let key = scopes.join(" ");
                let fresh = auth.tokens.get(&key).filter(|t| t.stale > Instant::now());
                if let Some(token) = fresh {
                    return Ok(Some(format!("Bearer {}", token.value)));
                }
                let (bearer, realm) = (bearer.clone(), realm.clone());
                match realm {
                    Some(realm) => Some(self.get_token(auth, &bearer, &realm, scopes)?),
                    None => None,
                }
            }
        })
    }

    fn credential(&self, auth: &mut Auth) -> Result<Option<Credential>> {
        if auth.credential.is_none() {
            let endpoint = &self.endpoint;
            let say = |text: &str| (self.shared.say.0)(text);
            auth.credential = Some(self.shared.credentials.lookup(
                &endpoint.host,
                &endpoint.name,
                endpoint.own,
                &say,
            )?);
        }
        Ok(auth.credential.clone().flatten())
    }

    /// After a 401: gets what is asked for, or says why there is none.
    fn challenged(
        &self,
        response: Response,
        scopes: &[String],
        sent: &[(String, String)],
        round: u32,
    ) -> Result<()> {
        let sent =
            sent.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.as_str());
        let mut auth = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread has got a new token while this one was asking.
        if round < ROUNDS && sent != self.authorization(&mut auth, scopes)?.as_deref() {
            return Ok(());
        }
        let mut challenges = challenges(&response);
        let again = sent.is_some();
        let names_more = |c: &Challenge| matches!(c, Challenge::Bearer(b) if b.error.as_deref() == Some("insufficient_scope"));
        let scope_was_too_small = challenges.iter().any(names_more);
        if round >= ROUNDS || (again && !scope_was_too_small && round > 1) {
            let refused = answer::refusal(
                response,
                "the registry refuses these credentials",
                self.shared.transport.timeouts().document,
            );
            return Err(refused.hint(self.who(&mut auth)?));
        }
        if challenges.is_empty() {
            // Some say what they want only here.
            challenges = self.ping()?;
        }
        let Some(first) = challenges.into_iter().next() else {
            let refused = answer::refusal(
                response,
                "the registry asks for credentials, and not for which",
                self.shared.transport.timeouts().document,
            );
            return Err(refused);
        };
        match first {
            Challenge::Basic => {
                auth.asked = Some((Challenge::Basic, None));
                match self.credential(&mut auth)? {
                    Some(Credential::Basic { .. }) if !again => Ok(()),
                    _ => {
                        let refused = answer::refusal(
                            response,
                            "the registry asks for a user and a password",
                            self.shared.transport.timeouts().document,
                        );
                        Err(refused.hint(self.who(&mut auth)?))
                    }
                }
            }
            Challenge::Bearer(bearer) => {
                let realm = self.realm(&bearer)?;
                auth.tokens.remove(&scopes.join(" "));
                let result = self.get_token(&mut auth, &bearer, &realm, scopes);
                auth.asked = Some((Challenge::Bearer(bearer), Some(realm)));
                result.map(drop)
            }
        }
    }

    /// Whose credentials were used, or where none were found.
    fn who(&self, auth: &mut Auth) -> Result<String> {
        Ok(match self.credential(auth)? {
            Some(Credential::Basic { user, .. }) => {
                format!("credentials of {user:?} for {}", self.endpoint.host)
            }
            Some(_) => format!("a token for {}", self.endpoint.host),
            None => format!(
                "no credentials for {}: {}",
                self.endpoint.host,
                self.shared.credentials.places()
            ),
        })
    }

    fn get_token(
        &self,
        auth: &mut Auth,
        bearer: &Bearer,
        realm: &Url,
        scopes: &[String],
    ) -> Result<String> {
        let credential = self.credential(auth)?;
        if let Some(Credential::Access(token)) = &credential {
            return Ok(format!("Bearer {token}"));
        }
        // What the server names counts besides: one that rewrites paths knows the repository by another name.
        let mut wanted = scopes.to_vec();
        for scope in bearer.scope.iter().flat_map(|s| s.split(' ')) {
            if !scope.is_empty() && wanted.len() < 8 && wanted.iter().all(|w| w != scope) {
                wanted.push(scope.to_owned());
            }
        }
        let mut failures = 0;
        let trust = if self.is_here(realm) {
            self.endpoint.trust.clone()
        } else {
            super::endpoint::Trust {
                skip_verify: self.endpoint.trust.skip_verify,
                ..Default::default()
            }
        };
        let here = self.is_here(realm);
        let token = loop {
            let peer = Peer { trust: &trust, ..self.peer(here) };
            match token::fetch(
                &self.shared.transport,
                realm,
                bearer,
                &wanted,
                credential.as_ref(),
                peer,
            ) {
                Ok(token) => break token,
                Err(failure) if failure.transient && !self.is_last(&mut failures) => {
                    self.pause(failures, None, &failure.error.to_string());
                }
                Err(Failure { error, .. }) if error.kind() == Kind::Auth => {
                    return Err(error.hint(self.who(auth)?));
                }
                Err(Failure { error, .. }) => return Err(error),
            }
        };
        let value = format!("Bearer {}", token.value);
        auth.tokens.insert(scopes.join(" "), token);
        Ok(value)
    }

    /// The token server, if credentials may go there (CVE-2019-10214).
    fn realm(&self, bearer: &Bearer) -> Result<Url> {
        let mut realm = Url::parse(&bearer.realm).map_err(|e| {
            e.with_kind(Kind::Auth)
                .context(format_args!("{} names a token server", self.endpoint.host))
        })?;
        if realm.scheme == Scheme::Http && self.spoken().scheme == Scheme::Https {
            if realm.host != self.endpoint.api.host {
                return Err(Error::new(
                    Kind::Auth,
                    format!(
                        "{} names {realm} as its token server: credentials do not go there without TLS",
                        self.endpoint.host
                    ),
                ));
            }
            // The same host behind a proxy that it does not know of.
            (self.shared.say.0)(&format!(
                "{} names {realm} as its token server; https is used",
                self.endpoint.host
            ));
            let authority = if realm.port() == 80 { realm.host.clone() } else { realm.authority() };
            let target = realm.target.clone();
            realm = Url::parse(&format!("https://{authority}{target}"))?;
        }
        Ok(realm)
    }

    fn ping(&self) -> Result<Vec<Challenge>> {
        let mut url = self.endpoint.api.below("/");
        url.scheme = self.spoken().scheme;
        let request = Request::new(Method::GET, url);
        let sent = self.shared.transport.send(
            &request,
            &request.url,
            &self.endpoint.headers,
            self.peer(true),
        );
        let response = sent.map_err(|failure| failure.error)?;
        Ok(if response.status == 401 { challenges(&response) } else { Vec::new() })
    }
}

fn challenges(response: &Response) -> Vec<Challenge> {
    let lines = response.headers.get_all("www-authenticate").into_iter();
    challenge::parse(lines.filter_map(|value| value.to_str().ok()))
}

/// A GET that accepts what `accept` says.
pub(super) fn get<'a>(url: &Url, accept: &[&str]) -> Request<'a> {
    let request = Request::new(Method::GET, url.clone());
    if accept.is_empty() { request } else { request.header("accept", accept.join(", ")) }
}
