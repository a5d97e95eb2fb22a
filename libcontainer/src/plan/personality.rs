//! `linux.personality` → the argument of personality(2).

use crate::error::{Error, Result};
use crate::spec;

/// Execution domains (`<linux/personality.h>`).
const DOMAINS: [(&str, libc::c_ulong); 2] = [("LINUX", 0), ("LINUX32", 8)];

/// Plans `linux.personality`.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) for another domain, or any flag: none is defined.
pub(super) fn plan(personality: Option<&spec::Personality<'_>>) -> Result<Option<libc::c_ulong>> {
    let Some(personality) = personality else { return Ok(None) };
    if let Some(flag) = personality.flags.first() {
        return Err(Error::config(format!("invalid personality flag {flag:?}"))
            .field("linux.personality.flags[0]")
            .hint("the specification defines none"));
    }
    let domain = super::scheduling::number(&DOMAINS, &personality.domain);
    domain.map(Some).ok_or_else(|| {
        Error::config(format!("invalid personality domain {:?}", &*personality.domain))
            .field("linux.personality.domain")
            .hint("use LINUX or LINUX32")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_domains_are_known_and_no_flag() {
        let build = |json: &'static str| {
            let personality: spec::Personality<'_> = serde_json::from_str(json).unwrap();
            plan(Some(&personality))
        };
        assert_eq!(build(r#"{"domain":"LINUX","flags":[]}"#).unwrap(), Some(0));
        assert_eq!(build(r#"{"domain":"LINUX32","flags":null}"#).unwrap(), Some(8));
        for (json, field) in [
            (r#"{}"#, "linux.personality.domain"),
            (r#"{"domain":"linux"}"#, "linux.personality.domain"),
            (r#"{"domain":"LINUX","flags":["ADDR_NO_RANDOMIZE"]}"#, "linux.personality.flags"),
        ] {
            assert!(build(json).unwrap_err().to_string().contains(field), "{json}");
        }
        assert_eq!(plan(None).unwrap(), None);
    }
}
