//! Redirects: followed here and not by the HTTP library, because each hop decides who may know what.

use ureq::http::Method;

use super::endpoint::Trust;
use super::transport::{Failure, Peer, Request, Response, Transport};
use super::url::Scheme;
use crate::error::{Error, Kind};

/// More hops go in circles.
const HOPS: usize = 10;

/// Sends `request` and follows where a GET or HEAD is sent on to. `secret` (credentials, and headers that the
/// configuration has for this host) is for the origin of the request's own URL; it is never sent again once another
/// origin was visited, because those hosts could send anybody back with a URL of their making.
///
/// A way from https to http is refused: what is behind it could be read and changed by everybody.
pub(super) fn follow(
    transport: &Transport,
    request: &Request<'_>,
    secret: &[(String, String)],
    peer: Peer<'_>,
) -> Result<Response, Failure> {
    let start = &request.url;
    let elsewhere = Trust { skip_verify: peer.trust.skip_verify, ..Trust::default() };
    let mut url = start.clone();
    let mut left = false;
    for _ in 0..=HOPS {
        let response = if left {
            // A registry on this machine may have its storage there, too.
            let named = start.is_loopback() && peer.named;
            transport.send(request, &url, &[], Peer { trust: &elsewhere, named, own: false })?
        } else {
            transport.send(request, &url, secret, peer)?
        };
        let redirect = matches!(response.status, 301 | 302 | 303 | 307 | 308);
        if !redirect || !matches!(request.method, Method::GET | Method::HEAD) {
            return Ok(response);
        }
        let refuse = |why: String| Failure {
            error: Error::new(Kind::Network, format!("{} {url}: {why}", request.method)),
            transient: false,
            no_tls: false,
        };
        let Some(location) = response.header("location") else {
            return Err(refuse(format!("status {} says nowhere to go", response.status)));
        };
        let next =
            url.join(location).map_err(|e| refuse(format!("redirects to what is no URL: {e}")))?;
        if url.scheme == Scheme::Https && next.scheme == Scheme::Http {
            return Err(refuse(format!(
                "redirects from https to {next}, where everybody could change the answer"
            )));
        }
        left |= !next.same_origin(start);
        url = next;
    }
    Err(Failure {
        error: Error::new(
            Kind::Network,
            format!("{} {start}: more than {HOPS} redirects, the last to {url}", request.method),
        ),
        transient: false,
        no_tls: false,
    })
}
