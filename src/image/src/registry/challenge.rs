//! `WWW-Authenticate`: what a registry asks for (RFC 9110 §11.6.1).
//!
//! Registries send one challenge a line, several in a line, schemes in any case, parameters quoted or not, and some
//! send what no grammar allows. What can be read is read, what cannot is skipped: a challenge decides where
//! credentials go, so nothing is guessed.

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from `realm`.
    Bearer(Bearer),
    /// User and password with every request.
    Basic,
}

/// The parameters of a Bearer challenge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bearer {
    /// The URL of the token server.
    pub(super) realm: String,
    /// What the token server calls the registry.
    pub(super) service: Option<String>,
    /// The scopes, separated by spaces.
    pub(super) scope: Option<String>,
    /// Why a token that was sent is not enough, `insufficient_scope` for one.
    pub(super) error: Option<String>,
}

/// Longer headers are hostile.
const LIMIT: usize = 16 * 1024;

/// Reads all challenges of the header's lines, those first that are stronger.
pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found: Vec<Challenge> =
        lines.filter(|l| l.len() <= LIMIT).flat_map(parse_line).collect();
    found.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    found
}

fn parse_line(line: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = Scanner(line);
    let mut current: Option<(String, Bearer)> = None;
    loop {
        rest.skip(|c| c == ',' || c == ' ' || c == '\t');
        let word = rest.token();
        if word.is_empty() {
            // Neither a scheme nor a parameter: one character on, so that the end is reached.
            if !rest.advance() {
                break;
            }
            continue;
        }
        rest.skip(|c| c == ' ' || c == '\t');
        // `scheme token68` also has a `=` at its end; none of the schemes wanted here has a token68.
        if !rest.0.starts_with('=') {
            found.extend(current.take().and_then(finish));
            current = Some((word.to_ascii_lowercase(), Bearer::default()));
            continue;
        }
        rest.advance();
        rest.skip(|c| c == ' ' || c == '\t');
        let value = rest.value();
        if let Some((_, bearer)) = &mut current {
            match word.to_ascii_lowercase().as_str() {
                // The first of two counts: a second one was put there by somebody else.
                "realm" if bearer.realm.is_empty() => bearer.realm = value,
                "service" => drop(bearer.service.get_or_insert(value)),
                "scope" => drop(bearer.scope.get_or_insert(value)),
                "error" => drop(bearer.error.get_or_insert(value)),
                _ => {}
            }
        }
    }
    found.extend(current.and_then(finish));
    found
}

fn finish((scheme, bearer): (String, Bearer)) -> Option<Challenge> {
    match scheme.as_str() {
        "bearer" if !bearer.realm.is_empty() => Some(Challenge::Bearer(bearer)),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn skip(&mut self, which: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(which);
    }

    fn advance(&mut self) -> bool {
        let mut chars = self.0.chars();
        let any = chars.next().is_some();
        self.0 = chars.as_str();
        any
    }

    fn token(&mut self) -> &'a str {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else {
            // Some registries forget the quotes around a URL.
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return value.to_owned();
        };
        let mut value = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: None,
        })
    }

    fn one(line: &str) -> Vec<Challenge> {
        parse([line].into_iter())
    }

    #[test]
    fn what_registries_send() {
        assert_eq!(
            one(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#
            ),
            [bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull")
            )]
        );
        assert_eq!(one(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(one("basic"), [Challenge::Basic]);
        assert_eq!(
            one(r#"BEARER realm = "https://x/" , service = y"#),
            [bearer("https://x/", Some("y"), None)]
        );
        assert_eq!(
            one("Bearer realm=https://x/token,service=y"),
            [bearer("https://x/token", Some("y"), None)]
        );
    }

    #[test]
    fn several_challenges() {
        let both = [bearer("https://x/", Some("a, b"), None), Challenge::Basic];
        assert_eq!(one(r#"Basic realm="x", Bearer realm="https://x/", service="a, b""#), both);
        assert_eq!(
            parse(
                ["Basic realm=x", r#"Negotiate, Bearer realm="https://x/",service="a, b""#]
                    .into_iter()
            ),
            both
        );
    }

    #[test]
    fn escapes_and_unknown_parameters() {
        assert_eq!(
            one(
                r#"Bearer zone="a\"b, Basic realm=no", realm="https://x/\"y",error="insufficient_scope""#
            ),
            [Challenge::Bearer(Bearer {
                realm: "https://x/\"y".into(),
                error: Some("insufficient_scope".into()),
                ..Bearer::default()
            })]
        );
        // A second realm does not replace the first.
        assert_eq!(
            one(r#"Bearer realm="https://a/",realm="https://b/""#),
            [bearer("https://a/", None, None)]
        );
    }

    #[test]
    fn hostile_lines_end() {
        for line in [
            "",
            ",",
            ",,,,",
            "=",
            "==",
            "Bearer",
            "Bearer realm",
            "Bearer realm=",
            "Bearer realm=\"",
            "\"",
            "\u{e4}\u{f6}",
            "Bearer realm=\"\\",
            "Digest realm=\"x\"",
            "Bearer =x",
            "realm=\"https://x/\"",
        ] {
            let found = one(line);
            assert!(found.is_empty(), "{line:?} gives {found:?}");
        }
        let long = format!("Bearer realm=\"{}\"", "x".repeat(LIMIT));
        assert!(one(&long).is_empty());
        // Every prefix of a valid line ends, and gives no other realm.
        let line = r#"Bearer realm="https://x/",service="s", Basic realm="y""#;
        for end in 0..line.len() {
            for challenge in one(&line[..end]) {
                if let Challenge::Bearer(bearer) = challenge {
                    assert!("https://x/".starts_with(&bearer.realm));
                }
            }
        }
    }
}
