//! The state document that hooks and the seccomp agent get (runtime.md "State").

use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec::{Map, Str};

/// A state document without status and pid: init, which renders it, learns those late and parses nothing.
#[derive(Debug, Clone)]
pub struct StateTemplate {
    /// Up to and with `"status":`.
    head: String,
    /// From `,"bundle":` to the end.
    tail: String,
}

impl StateTemplate {
    /// Prepares the document of the container `id` whose bundle is at the absolute path `bundle`.
    ///
    /// # Errors
    /// [`crate::Kind::Internal`] if the strings cannot be written as JSON.
    pub fn new(
        oci_version: &str,
        id: &str,
        bundle: &str,
        annotations: &Map<'_, Str<'_>>,
    ) -> Result<Self> {
        let head = format!(r#"{{"ociVersion":{},"id":{},"status":"#, json(oci_version)?, json(id)?);
        let mut tail = format!(r#","bundle":{}"#, json(bundle)?);
        if !annotations.is_empty() {
            tail.push_str(r#","annotations":"#);
            tail.push_str(&json(annotations)?);
        }
        tail.push('}');
        Ok(Self { head, tail })
    }

    /// Writes the document. `status` is one of runtime.md's words; `pid` is left out when it is 0.
    pub fn render(&self, status: &str, pid: i32) -> Vec<u8> {
        let mut document = format!("{}\"{status}\"", self.head);
        if pid != 0 {
            document.push_str(&format!(r#","pid":{pid}"#));
        }
        document.push_str(&self.tail);
        document.into_bytes()
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::internal(format!("write the container's state: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(template: &StateTemplate, status: &str, pid: i32) -> String {
        String::from_utf8(template.render(status, pid)).unwrap()
    }

    #[test]
    fn the_document_is_the_one_of_the_contract() {
        let annotations = Map(vec![("k".into(), "v".into())]);
        let template = StateTemplate::new("1.3.0", "c1", "/b", &annotations).unwrap();
        assert_eq!(
            text(&template, "creating", 4242),
            r#"{"ociVersion":"1.3.0","id":"c1","status":"creating","pid":4242,"bundle":"/b","annotations":{"k":"v"}}"#
        );
        let template = StateTemplate::new("1.3.0", "c1", "/b", &Map::default()).unwrap();
        assert_eq!(
            text(&template, "stopped", 0),
            r#"{"ociVersion":"1.3.0","id":"c1","status":"stopped","bundle":"/b"}"#
        );
    }

    #[test]
    fn strings_are_escaped() {
        let annotations = Map(vec![("a\"b".into(), "line\nbreak \u{1}".into())]);
        let template = StateTemplate::new("1.3.0", "c", "/b/\"x\"\\", &annotations).unwrap();
        let document: serde_json::Value =
            serde_json::from_slice(&template.render("running", 1)).unwrap();
        assert_eq!(document["bundle"], "/b/\"x\"\\");
        assert_eq!(document["annotations"]["a\"b"], "line\nbreak \u{1}");
        assert_eq!(document["pid"], 1);
    }
}
