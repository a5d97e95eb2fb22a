//! JSON, read so that nobody else can read it otherwise.
//!
//! Go's decoder takes the last of two equal keys, ignores case and accepts either; serde's does neither. A document that two
//! readers understand differently is how an image that was checked becomes another that runs, so it is refused.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Error, Result};

/// Values in one document. An index of 10 000 descriptors, each with a platform and some annotations, has not as many.
const VALUES: usize = 300_000;

/// Reads `bytes`, which are called `what` in an error, as one JSON object without equal keys. Nesting ends at serde_json's 128.
///
/// # Errors
/// [`Kind::Verification`](crate::Kind::Verification).
pub fn parse(what: &str, bytes: &[u8]) -> Result<Value> {
    let fail =
        |error: &dyn fmt::Display| Error::verification(format!("{what} is not valid: {error}"));
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(fail(&"it begins with a byte order mark, which JSON does not allow"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(fail(&"it is empty"));
    }
    let mut left = VALUES;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Unambiguous(&mut left).deserialize(&mut deserializer).map_err(|error| fail(&error))?;
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

/// Goes through a value and refuses equal keys in any of its objects.
struct Unambiguous<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Unambiguous<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        *self.0 =
            self.0.checked_sub(1).ok_or_else(|| D::Error::custom("it has too many values"))?;
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

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Unambiguous(self.0))?.is_some() {}
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
        let many = format!("{{\"a\":[{}0]}}", "0,".repeat(VALUES));
        assert!(parse("x", many.as_bytes()).unwrap_err().to_string().contains("too many"));
    }

    #[test]
    fn keys_in_other_letters() {
        let value = parse("x", br#"{"Layers":[],"labels":{}}"#).unwrap();
        assert!(exact_keys("x", &value, &["layers"]).is_err());
        assert!(exact_keys("x", &value, &["Layers", "labels"]).is_ok());
    }
}
