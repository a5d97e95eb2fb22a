//! JSON, read so that nobody else can read it otherwise.
//!
//! Go's decoder takes the last of two equal keys, ignores case and accepts either; serde's does neither. A document that two
//! readers understand differently is how an image that was checked becomes another that runs, so it is refused.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Error, Result};

/// Bytes that a manifest or an index may take in memory, as [`Cost`] counts them. One of 10 000 descriptors, each with a platform and some annotations,
/// takes less.
const MEMORY: usize = 36 << 20;
/// The same of a configuration, which is kept in several forms at once. One of 100 000 labels takes less.
const CONFIG_MEMORY: usize = 16 << 20;
/// What a node of a map takes, and how many members are in one at least: maps are trees of nodes for eleven that are left half full.
const NODE: usize = 640;
const IN_A_NODE: usize = 6;
/// What a value in an array takes, which may have grown to twice its length.
const ITEM: usize = 48;
/// The same in a configuration, where it may be a variable: they are looked up by name and explained.
const CONFIG_ITEM: usize = 128;
/// What a text takes beside its bytes.
const TEXT: usize = 16;

/// Reads `bytes`, which are called `what` in an error, as one JSON object without equal keys. Nesting ends at serde_json's 128.
///
/// # Errors
/// [`Kind::Verification`](crate::Kind::Verification); [`Kind::NoSpace`](crate::Kind::NoSpace) for one that would take too much memory.
pub fn parse(what: &str, bytes: &[u8]) -> Result<Value> {
    within(what, bytes, MEMORY, ITEM)
}

/// The same, for the configuration of an image.
///
/// # Errors
/// As [`parse`].
pub fn parse_config(bytes: &[u8]) -> Result<Value> {
    within("the image's configuration", bytes, CONFIG_MEMORY, CONFIG_ITEM)
}

fn within(what: &str, bytes: &[u8], memory: usize, item: usize) -> Result<Value> {
    let fail =
        |error: &dyn fmt::Display| Error::verification(format!("{what} is not valid: {error}"));
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(fail(&"it begins with a byte order mark, which JSON does not allow"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(fail(&"it is empty"));
    }
    let mut cost = Cost { left: memory, item, spent: false };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Unambiguous(&mut cost).deserialize(&mut deserializer);
    if cost.spent {
        return Err(Error::no_space(format!(
            "{what} has too many values: in memory they are more than the limit of {memory} bytes"
        )));
    }
    read.map_err(|error| fail(&error))?;
    deserializer.end().map_err(|error| fail(&error))?;
    let value: Value = serde_json::from_slice(bytes).map_err(|error| fail(&error))?;
    if !value.is_object() {
        return Err(fail(&"it is not an object"));
    }
    Ok(value)
}

/// Refuses keys of `value` that are one of `known` in other letters: Go takes `Layers` for `layers`.
///
/// # Errors
/// [`Kind::Verification`](crate::Kind::Verification), naming the key.
pub fn exact_keys(what: &str, value: &Value, known: &[&str]) -> Result<()> {
    let Some(object) = value.as_object() else { return Ok(()) };
    for key in object.keys() {
        let other_letters = |name: &&&str| name.eq_ignore_ascii_case(key) && ***name != **key;
        if let Some(name) = known.iter().find(other_letters) {
            return Err(Error::verification(format!(
                "{what} is ambiguous: it has a property {key:?}, which some readers take for {name:?} and others ignore"
            )));
        }
    }
    Ok(())
}

/// What a document takes in memory, before it does: a byte of JSON may become two hundred.
struct Cost {
    left: usize,
    item: usize,
    spent: bool,
}

impl Cost {
    fn charge<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                self.spent = true;
                return Err(E::custom("it has too many values"));
            }
        }
        Ok(())
    }
}

/// Goes through a value, refuses equal keys in any of its objects, and counts what it takes.
struct Unambiguous<'a>(&'a mut Cost);

impl<'de> DeserializeSeed<'de> for Unambiguous<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.charge(text.len() + TEXT)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Unambiguous(self.0))?.is_some() {
            self.0.charge(self.0.item)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                let shown: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!(
                    "the property {shown:?} is there twice"
                )));
            }
            self.0.charge(key.len() + TEXT + if seen.len() % IN_A_NODE == 0 { NODE } else { 0 })?;
            seen.insert(key);
            map.next_value_seed(Unambiguous(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_are_refused() {
        for text in [
            "",
            "  \n",
            "[]",
            "null",
            "1",
            "{",
            "{}{}",
            "{}x",
            "\u{feff}{}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"\u0062":2}]}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1,}"#,
        ] {
            let error = parse("the manifest", text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Verification, "{text}");
        }
        assert!(parse("x", b"{\"a\":\"\xff\"}").is_err());
        assert!(
            parse("x", format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200)).as_bytes())
                .is_err()
        );
    }

    #[test]
    fn what_takes_too_much_memory_is_refused() {
        let list = |item: &str, times: usize| {
            format!("{{\"a\":[{}{item}]}}", format!("{item},").repeat(times - 1))
        };
        let members = |times: usize| {
            let members: Vec<String> = (0..times).map(|n| format!("\"k{n}\":\"\"")).collect();
            format!("{{{}}}", members.join(","))
        };
        for (text, words) in [
            (list("0", 1_000_000), "too many values"),
            (list("{\"a\":1}", 149_000), "too many values"),
            (list("[\"\"]", 500_000), "too many values"),
            (members(300_000), "too many values"),
        ] {
            let error = parse("x", text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::NoSpace);
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(
            parse_config(members(120_000).as_bytes()).unwrap_err().kind(),
            crate::Kind::NoSpace
        );
        // What somebody may have in earnest.
        let digest = crate::digest::Digest::of(b"x");
        let descriptor = format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1234,
                "platform":{{"architecture":"arm","os":"linux","variant":"v7"}},
                "annotations":{{"org.opencontainers.image.ref.name":"1.2.3","b":"c","d":"e"}}}}"#
        );
        assert!(parse("x", list(&descriptor, 10_000).as_bytes()).is_ok());
        assert!(parse_config(members(100_000).as_bytes()).is_ok());
    }

    #[test]
    fn keys_in_other_letters() {
        let value = parse("x", br#"{"Layers":[],"labels":{}}"#).unwrap();
        assert!(exact_keys("x", &value, &["layers"]).is_err());
        assert!(exact_keys("x", &value, &["Layers", "labels"]).is_ok());
    }
}
