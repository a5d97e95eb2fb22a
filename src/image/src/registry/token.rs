//! Tokens: from the server that a Bearer challenge names, as the distribution project's token and OAuth2
//! specifications have it.

use std::time::{Duration, Instant};

use ureq::http::Method;

use super::base64;
use super::challenge::Bearer;
use super::credentials::Credential;
use super::redirect::follow;
use super::transport::{Failure, Payload, Peer, Request, Transport};
use super::url::{Url, escape};
use crate::error::{Error, Kind};

/// An access token.
pub(super) struct Token {
    pub(super) value: String,
    /// When another one should be got.
    pub(super) stale: Instant,
}

/// Larger answers hold no token.
const LIMIT: u64 = 1 << 20;

#[derive(serde::Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

/// `Basic` for the header Authorization.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::encode(format!("{user}:{password}").as_bytes()))
}

/// Asks `realm`, as `credential` or as nobody, for a token for `scopes`.
///
/// An identity token is sent as an OAuth2 refresh token in a POST, all else goes by GET: servers differ in what else
/// they know, and these two all of them do.
pub(super) fn fetch(
    transport: &Transport,
    realm: &Url,
    challenge: &Bearer,
    scopes: &[String],
    credential: Option<&Credential>,
    peer: Peer<'_>,
) -> Result<Token, Failure> {
    let lasting = |error: Error| Failure { error, transient: false, no_tls: false };
    let form;
    let mut secret = Vec::new();
    let request = if let Some(Credential::Identity { token, .. }) = credential {
        let mut fields =
            vec![("grant_type", "refresh_token"), ("client_id", "skep"), ("refresh_token", token)];
        fields.extend(challenge.service.as_deref().map(|service| ("service", service)));
        let scope = scopes.join(" ");
        if !scope.is_empty() {
            fields.push(("scope", &scope));
        }
        let pairs: Vec<_> =
            fields.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
        form = pairs.join("&");
        Request::new(Method::POST, realm.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .payload(Payload::Bytes(form.as_bytes()))
    } else {
        let mut url = realm.clone();
        if let Some(service) = &challenge.service {
            url = url.with_query("service", service);
        }
        for scope in scopes {
            url = url.with_query("scope", scope);
        }
        if let Some(Credential::Basic { user, password }) = credential {
            url = url.with_query("account", user);
            secret.push(("authorization".to_owned(), basic(user, password)));
        }
        Request::new(Method::GET, url)
    };
    let request = request.header("accept", "application/json");
    let response = follow(transport, &request, &secret, peer)?;
    let (status, who) = (response.status, response.url.clone());
    let transient = super::retry::is_transient(status);
    let body = response.read_to(LIMIT, transport.timeouts().document).map_err(|e| Failure {
        error: Error::new(Kind::Network, format!("the token server {who} stopped: {e}")),
        transient: true,
        no_tls: false,
    })?;
    if status != 200 {
        let kind = if transient { Kind::Network } else { Kind::Auth };
        let said = super::answer::message(body.as_deref().unwrap_or_default());
        let as_whom = match credential {
            Some(Credential::Basic { user, .. }) => format!(" to {user:?}"),
            Some(_) => " to the identity token".to_owned(),
            None => " to somebody without credentials".to_owned(),
        };
        let error = Error::new(
            kind,
            format!("the token server {who} gives no token{as_whom}: status {status}{said}"),
        );
        return Err(Failure { error, transient, no_tls: false });
    }
    let no_token = |why: &str| {
        lasting(Error::new(Kind::Auth, format!("the answer of the token server {who} {why}")))
    };
    let body = body.ok_or_else(|| no_token("is too large"))?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|_why| no_token("is not JSON"))?;
    let full = |token: Option<String>| token.filter(|t| !t.is_empty());
    let value =
        full(answer.token).or(full(answer.access_token)).ok_or_else(|| no_token("has no token"))?;
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no_token("has a token with characters that no header has"));
    }
    // At least a minute, whatever it says, and not for ever.
    let seconds = answer.expires_in.filter(|s| s.is_finite()).unwrap_or(60.0).clamp(60.0, 86_400.0);
    Ok(Token { value, stale: Instant::now() + Duration::from_secs_f64(seconds * 0.8) })
}
