//! What a registry says besides content: errors, warnings, links.

use super::transport::Response;
use super::url::Url;
use crate::error::{Error, Kind, Result};

/// Larger bodies hold no message.
const LIMIT: u64 = 1 << 20;

/// The registry's own words of a failure: `: DENIED: requested access is denied`; empty when it said nothing that can
/// be shown.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<Item>,
        /// OAuth2's, and those of some token servers.
        #[serde(default)]
        error: Option<serde_json::Value>,
        #[serde(default, alias = "details", alias = "message")]
        error_description: Option<serde_json::Value>,
    }
    #[derive(serde::Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Item {
        code: Option<String>,
        message: Option<String>,
    }
    let mut said = Vec::new();
    if let Ok(errors) = serde_json::from_slice::<Errors>(body) {
        for item in errors.errors.into_iter().take(3) {
            said.extend([item.code, item.message].into_iter().flatten());
        }
        let text = |value: serde_json::Value| value.as_str().map(str::to_owned);
        said.extend(
            [errors.error, errors.error_description].into_iter().flatten().filter_map(text),
        );
    }
    said.retain(|s| !s.is_empty());
    if said.is_empty() { String::new() } else { format!(": {}", shown(&said.join(": "))) }
}

/// Text from elsewhere, for a terminal: no control characters, and not too much.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(400).collect()
}

/// What is wrong when `response` has a status that was not hoped for. `what` says what was asked for.
pub(super) fn refusal(response: Response, what: &str, patience: std::time::Duration) -> Error {
    let (status, url) = (response.status, response.url.clone());
    let html = response.header("content-type").is_some_and(|t| t.starts_with("text/html"));
    let body = response.read_to(LIMIT, patience).ok().flatten().unwrap_or_default();
    let said = message(&body);
    let kind = match status {
        401 | 403 => Kind::Auth,
        404 => Kind::NotFound,
        400 | 405 | 406 | 413 | 416 => Kind::Generic,
        501 => Kind::Unsupported,
        _ => Kind::Network,
    };
    let hint = match status {
        _ if html && said.is_empty() => {
            " (the answer is a web page: is there a registry at this address?)"
        }
        429 => " (too many requests: credentials often raise the limit)",
        _ => "",
    };
    Error::new(kind, format!("{what}: {url} answers {status}{said}{hint}"))
}

/// The warnings of RFC 7234 §5.5 with the code that the distribution specification uses.
pub(super) fn warnings(response: &Response) -> Vec<String> {
    let lines = response.headers.get_all("warning").into_iter().filter_map(|v| v.to_str().ok());
    lines
        .filter(|line| line.len() <= 4096)
        .filter_map(|line| line.strip_prefix("299 - \"")?.split('"').next())
        .map(shown)
        .filter(|text| !text.is_empty())
        .take(8)
        .collect()
}

/// The next page: the target of a `Link` with `rel=next` (RFC 8288). It has to be of the same origin, because it is
/// asked for with the same credentials.
pub(super) fn next_page(response: &Response) -> Result<Option<Url>> {
    for line in response.headers.get_all("link").into_iter().filter_map(|v| v.to_str().ok()) {
        let Some(target) = next_of(line) else { continue };
        let next = response.url.join(target).map_err(|e| e.with_kind(Kind::Network))?;
        if !next.same_origin(&response.url) {
            return Err(Error::new(
                Kind::Network,
                format!("{} has its next page elsewhere, at {next}", response.url),
            ));
        }
        return Ok(Some(next));
    }
    Ok(None)
}

fn next_of(line: &str) -> Option<&str> {
    let mut rest = line;
    loop {
        let start = rest.find('<')?;
        let (target, after) = rest.get(start + 1..)?.split_once('>')?;
        // The parameters go on to the next link.
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = parameters.split([';', ',']).any(|parameter| {
            parameter.trim().split_once('=').is_some_and(|(key, value)| {
                key.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
            })
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let text = |body: &str| message(body.as_bytes());
        assert_eq!(
            text(r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m"}]}"#),
            ": DENIED: no[31m"
        );
        assert_eq!(
            text(r#"{"error":"invalid_grant","error_description":"gone"}"#),
            ": invalid_grant: gone"
        );
        assert_eq!(
            text(r#"{"details":"incorrect username or password"}"#),
            ": incorrect username or password"
        );
        for nothing in ["", "<html>", "[]", r#"{"errors":[]}"#, r#"{"errors":[{"code":""}]}"#] {
            assert_eq!(text(nothing), "", "{nothing}");
        }
        assert!(text(&format!(r#"{{"error":"{}"}}"#, "x".repeat(10_000))).len() < 500);
    }

    #[test]
    fn links() {
        assert_eq!(
            next_of(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#),
            Some("/v2/a/tags/list?n=2&last=b")
        );
        assert_eq!(next_of(r#"</p>; rel="prev", </n>; title="a, b"; REL=next"#), Some("/n"));
        for none in ["", "<", "<x", "</x>", "</x>; rel=prev", "rel=next", "</x>; rel=nextish"] {
            assert_eq!(next_of(none), None, "{none}");
        }
    }
}
