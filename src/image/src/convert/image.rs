//! The image's configuration (image-spec config.md), of which only what `config.json` is made from is kept.
//!
//! Go, with which nearly all images are made and read, takes a key whatever its case; so does this. What Go lets pass
//! and two readers could take differently is refused: a key twice, or in two spellings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::document;
use crate::error::{Error, Result};

/// What a container is made from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `architecture`, in Go's words.
    pub architecture: String,
    /// `os`.
    pub os: String,
    /// `variant` of the architecture.
    pub variant: String,
    /// `os.version`.
    pub os_version: String,
    /// `os.features`.
    pub os_features: Vec<String>,
    /// `author`.
    pub author: String,
    /// `created`, as it is written there.
    pub created: String,
    /// `config.User`.
    pub user: String,
    /// `config.Env`.
    pub env: Vec<String>,
    /// `config.Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `config.Cmd`.
    pub cmd: Vec<String>,
    /// `config.WorkingDir`.
    pub working_dir: String,
    /// `config.StopSignal`.
    pub stop_signal: String,
    /// The keys of `config.ExposedPorts`.
    pub exposed_ports: Vec<String>,
    /// The keys of `config.Volumes`.
    pub volumes: Vec<String>,
    /// `config.Labels`.
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// Reads the document.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification) for what is no JSON, has a key twice or a value of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document = document::parse_config(bytes)?;
        let nothing = Map::new();
        let top = Object { path: "", members: document.as_object().unwrap_or(&nothing) };
        let config = match top.get("config")? {
            None | Some(Value::Null) => Object { path: "config.", members: &nothing },
            Some(Value::Object(members)) => Object { path: "config.", members },
            Some(_) => return Err(wrong("", "config", "object")),
        };
        Ok(Self {
            architecture: top.text("architecture")?,
            os: top.text("os")?,
            variant: top.text("variant")?,
            os_version: top.text("os.version")?,
            os_features: top.texts("os.features")?,
            author: top.text("author")?,
            created: top.text("created")?,
            user: config.text("User")?,
            env: config.texts("Env")?,
            entrypoint: config.texts("Entrypoint")?,
            cmd: config.texts("Cmd")?,
            working_dir: config.text("WorkingDir")?,
            stop_signal: config.text("StopSignal")?,
            exposed_ports: config.keys("ExposedPorts")?,
            volumes: config.keys("Volumes")?,
            labels: config.labels("Labels")?,
        })
    }
}

fn wrong(path: &str, name: &str, wanted: &str) -> Error {
    Error::verification(format!("{path}{name} of the image's configuration is no {wanted}"))
}

struct Object<'a> {
    path: &'static str,
    members: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The member `name` in any case.
    fn get(&self, name: &str) -> Result<Option<&'a Value>> {
        let mut found = self.members.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let first = found.next();
        if let (Some((first, _)), Some((second, _))) = (first, found.next()) {
            return Err(Error::verification(format!(
                "the image's configuration has {path}{first} and {path}{second}",
                path = self.path
            )));
        }
        Ok(first.map(|(_, value)| value))
    }

    fn text(&self, name: &str) -> Result<String> {
        let text = match self.get(name)? {
            None | Some(Value::Null) => return Ok(String::new()),
            Some(Value::String(text)) => text,
            Some(_) => return Err(wrong(self.path, name, "string")),
        };
        self.plain(name, text)
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let items = match self.get(name)? {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong(self.path, name, "array of strings")),
        };
        items
            .iter()
            .map(|item| match item {
                Value::String(text) => self.plain(name, text),
                _ => Err(wrong(self.path, name, "array of strings")),
            })
            .collect()
    }

    /// The keys of what Go calls a `map[string]struct{}`, sorted.
    fn keys(&self, name: &str) -> Result<Vec<String>> {
        let members = match self.get(name)? {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(wrong(self.path, name, "object")),
        };
        let mut keys =
            members.iter().map(|(key, _)| self.plain(name, key)).collect::<Result<Vec<_>>>()?;
        keys.sort();
        Ok(keys)
    }

    fn labels(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let members = match self.get(name)? {
            None | Some(Value::Null) => return Ok(BTreeMap::new()),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(wrong(self.path, name, "object")),
        };
        members
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => Ok((self.plain(name, key)?, self.plain(name, text)?)),
                Value::Null => Ok((self.plain(name, key)?, String::new())),
                _ => Err(wrong(self.path, name, "object of strings")),
            })
            .collect()
    }

    /// The kernel's strings end at a NUL: what is behind it would be checked and not used.
    fn plain(&self, name: &str, text: &str) -> Result<String> {
        if text.contains('\0') {
            return Err(Error::verification(format!(
                "{}{name} of the image's configuration has a NUL in it",
                self.path
            )));
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_configuration_is_read_as_go_reads_it() {
        let config = ImageConfig::parse(
            br#"{"Architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00.5Z","os.features":["a"],
                "config":{"cmd":["a"],"Entrypoint":null,"ENV":["A=b"],"ExposedPorts":{"80/tcp":{},"22/tcp":{}},
                "Labels":{"k":"v","n":null},"Healthcheck":{"Interval":1e99}},"rootfs":{"type":"layers"},"history":[{"empty_layer":true}]}"#,
        )
        .unwrap();
        assert_eq!((config.architecture.as_str(), config.os.as_str()), ("amd64", "linux"));
        assert_eq!(config.created, "2020-01-01T00:00:00.5Z");
        assert_eq!(
            (config.cmd, config.entrypoint.len(), config.env),
            (vec!["a".into()], 0, vec!["A=b".into()])
        );
        assert_eq!(config.exposed_ports, ["22/tcp", "80/tcp"]);
        assert_eq!(config.labels["k"], "v");
        assert_eq!(config.labels["n"], "");
        for empty in [
            "{}",
            r#"{"config":null}"#,
            r#"{"config":{"Cmd":null,"Env":null,"Volumes":null,"Labels":null}}"#,
        ] {
            assert_eq!(
                ImageConfig::parse(empty.as_bytes()).unwrap(),
                ImageConfig::default(),
                "{empty}"
            );
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        for (text, words) in [
            ("", "is not valid"),
            ("[]", "is not an object"),
            ("{}{}", "is not valid"),
            (r#"{"config":[]}"#, "config of the image's configuration is no object"),
            (r#"{"config":{"User":0}}"#, "config.User of the image's configuration is no string"),
            (r#"{"config":{"Env":"A=b"}}"#, "config.Env of"),
            (r#"{"config":{"Env":[["A=b"]]}}"#, "config.Env of"),
            (r#"{"config":{"Labels":{"a":1}}}"#, "config.Labels of"),
            (r#"{"config":{"Volumes":["/a"]}}"#, "config.Volumes of"),
            (r#"{"config":{"User":"a","User":"b"}}"#, "is not valid"),
            (r#"{"config":{"User":"a","user":"b"}}"#, "config.User and config.user"),
            (r#"{"config":{},"Config":{}}"#, "Config and config"),
            (r#"{"config":{"Labels":{"a":"1","a":"2"}}}"#, "is not valid"),
            (r#"{"config":{"Cmd":["a\u0000b"]}}"#, "NUL"),
            (r#"{"config":{"Labels":{"a\u0000":"b"}}}"#, "NUL"),
            ("{\"config\":{\"User\":\"\u{1}\"}}", "is not valid"),
        ] {
            let error = ImageConfig::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Verification, "{text}");
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(ImageConfig::parse(deep.as_bytes()).is_err());
    }
}
