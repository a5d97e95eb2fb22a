//! What a repository has: tags, and what refers to a manifest.

use std::collections::HashSet;

use super::answer;
use super::pull::Registry;
use super::session::{Session, get};
use super::transport::Response;
use super::url::Url;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::media;

/// The largest page that is read.
const PAGE: u64 = 32 << 20;
/// More pages, or more entries, are hostile.
const PAGES: usize = 10_000;
const ENTRIES: usize = 1_000_000;
/// What registries without the referrers API answer.
const NO_API: [u16; 5] = [400, 404, 405, 406, 501];

#[derive(serde::Deserialize)]
struct Tags {
    /// Go writes no tags as `null`.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl Registry {
    /// All tags, in the order of the registry.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such repository; [`Kind::Network`] also for pages without an end.
    pub fn tags(&self) -> Result<Vec<String>> {
        self.first(true, |session| {
            let mut tags = Vec::new();
            let first = session.url("/tags/list").with_query("n", "1000");
            let what = format!("cannot list the tags of {}", self.repository);
            let _always_there = pages(session, first, &[], &[], &what, &mut |body| {
                let page: Tags =
                    serde_json::from_slice(body).map_err(|_why| no_list(session, &what))?;
                // They are shown on terminals, and become parts of paths.
                tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
                Ok(tags.len())
            })?;
            Ok(tags)
        })
    }

    /// What refers to `digest`: signatures, attestations, bills of material; of `artifact_type` alone if it is given.
    ///
    /// # Errors
    /// As [`tags`](Self::tags).
    pub fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        self.first(false, |session| {
            let mut url = session.url(&format!("/referrers/{digest}"));
            if let Some(wanted) = artifact_type {
                url = url.with_query("artifactType", wanted);
            }
            let what = format!("cannot list what refers to {digest}");
            let mut found: Vec<Descriptor> = Vec::new();
            let mut add = |body: &[u8]| {
                let page: Index =
                    serde_json::from_slice(body).map_err(|_why| no_list(session, &what))?;
                found.extend(page.manifests.unwrap_or_default());
                Ok(found.len())
            };
            let accept = [media::OCI_INDEX];
            // A registry from before the API keeps an index under a tag made of the digest. The specification has it say 404, and
            // some say that they do not know what is meant.
            if !pages(session, url, &accept, &NO_API, &what, &mut add)? {
                let url = session.url(&format!("/manifests/{}", fallback_tag(digest)));
                let _none = pages(session, url, &accept, &[404], &what, &mut add)?;
            }
            // Whether the registry has filtered or not.
            found.retain(|d| {
                artifact_type.is_none_or(|wanted| d.artifact_type.as_deref() == Some(wanted))
            });
            Ok(found)
        })
    }
}

/// `sha256-...`, both parts cut to what a tag can hold.
pub(super) fn fallback_tag(digest: &Digest) -> String {
    let cut = |text: &str, length: usize| text.get(..length).unwrap_or(text).to_owned();
    format!("{}-{}", cut(digest.algorithm_name(), 32), cut(digest.hex(), 64))
}

fn no_list(session: &Session, what: &str) -> Error {
    Error::new(
        Kind::Generic,
        format!("{what}: the answer of {} is not a list", session.endpoint.host),
    )
}

/// Whether the specification allows it as a tag.
fn is_tag(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'-'))
}

/// Reads all pages. A short page is no last page: only one without a link is. Returns whether there is such a list: the first answer had a status
/// that is not in `absent`.
fn pages(
    session: &Session,
    first: Url,
    accept: &[&str],
    absent: &[u16],
    what: &str,
    add: &mut dyn FnMut(&[u8]) -> Result<usize>,
) -> Result<bool> {
    let mut next = Some(first);
    let mut seen = HashSet::new();
    while let Some(url) = next {
        if !seen.insert(url.to_wire()) || seen.len() > PAGES {
            return Err(Error::new(
                Kind::Network,
                format!("{what}: the pages of {} have no end", session.endpoint.host),
            ));
        }
        let link = std::cell::RefCell::new(None);
        let is_absent = std::cell::Cell::new(false);
        let first = seen.len() == 1;
        let check = |response: Response| {
            is_absent.set(first && absent.contains(&response.status));
            let response = session.expect(response, &[200], what)?;
            link.replace(answer::next_page(&response)?);
            Ok(response)
        };
        let make = || get(&url, accept);
        let body = match session.document(&make, &[session.pull_scope()], PAGE, &check) {
            Err(_) if is_absent.get() => return Ok(false),
            answered => answered?.2,
        };
        if add(&body)? > ENTRIES {
            return Err(Error::no_space(format!("{what}: more than {ENTRIES} entries")));
        }
        next = link.into_inner();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallback_tags_are_tags() {
        let sha512 = Digest::parse(&format!("sha512:{}", "a".repeat(128))).unwrap();
        assert_eq!(fallback_tag(&sha512).len(), "sha512-".len() + 64);
        assert!(is_tag(&fallback_tag(&sha512)));
        assert!(is_tag(&fallback_tag(&Digest::of(b""))));
    }

    #[test]
    fn tags() {
        for good in ["latest", "1.0", "_x", "A-b_c.d", &"a".repeat(128)] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a b", "\u{1b}[31m", "../x", &"a".repeat(129)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
