//! Annotations about the unit: its properties, in the words of GVariant's text format, and the cgroup below its own.

use super::Property;
use crate::dbus::Value;
use crate::spec::annotations::{SYSTEMD_PROPERTY, SYSTEMD_SUBGROUP};
use crate::spec::{Map, Str};
use crate::{Error, Result};

/// How deep arrays may lie in one another.
const MAX_DEPTH: usize = 8;

/// The longest value that is read, in bytes, and the longest signature D-Bus has.
const MAX_TEXT: usize = 64 << 10;
const MAX_SIGNATURE: usize = 255;

/// Properties that say which processes are in the unit, and where it is: the container's own, and nobody else's.
const OURS: &[&str] = &["PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup", "ControlGroup"];

/// Reads the name of the cgroup below the unit's, and the properties.
pub(super) fn read(
    annotations: Option<&Map<'_, Str<'_>>>,
) -> Result<(Option<String>, Vec<Property>)> {
    let (mut below, mut list) = (None, Vec::new());
    for (key, value) in annotations.into_iter().flat_map(|annotations| annotations.iter()) {
        let field = |error: Error| error.field(format!("annotations[{:?}]", key.as_str()));
        if key.as_str() == SYSTEMD_SUBGROUP {
            below = subgroup(value).map_err(field)?;
        } else if let Some(name) = key.strip_prefix(SYSTEMD_PROPERTY) {
            list.push(property(name, value).map_err(field)?);
        }
    }
    Ok((below, list))
}

/// One name, and none of a file of a cgroup's.
pub(in crate::cgroup) fn subgroup(name: &str) -> Result<Option<String>> {
    if name.is_empty() {
        return Ok(None);
    }
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:@+".contains(character);
    if !name.chars().all(plain) || name.contains('.') || name.len() > 255 {
        return Err(Error::config(format!(
            "{name:?} is not the name of a cgroup: letters, digits, - and _"
        )));
    }
    Ok(Some(name.to_owned()))
}

fn property(name: &str, text: &str) -> Result<Property> {
    if name.len() < 3 || !name.chars().all(|character| character.is_ascii_alphabetic()) {
        return Err(Error::config(format!(
            "{name:?} is not the name of a property of a systemd unit"
        )));
    }
    if OURS.contains(&name) {
        return Err(Error::config(format!("the property {name} is the runtime's to set")));
    }
    let value = parse(text).ok_or_else(|| {
        Error::config(format!("{text:?} is not a value in GVariant's text format"))
            .hint("such as true, uint64 42, 'text' or ['a', 'b']; a text needs quotation marks")
    })?;
    // As in unit files; on the bus there are only microseconds.
    match name.strip_suffix("Sec") {
        Some(base) if base.ends_with(|character: char| character.is_ascii_lowercase()) => {
            Ok((format!("{base}USec"), microseconds(&value)?))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds are checked"
)]
fn microseconds(value: &Value) -> Result<Value> {
    const MICRO: u64 = 1_000_000;
    let bad = || Error::config("a time in seconds is a number that is not negative");
    let whole = |number: Option<u64>| number.and_then(|number| number.checked_mul(MICRO));
    let time = match value {
        Value::Byte(number) => whole(Some((*number).into())),
        Value::Int16(number) => whole(u64::try_from(*number).ok()),
        Value::Uint16(number) => whole(Some((*number).into())),
        Value::Int32(number) => whole(u64::try_from(*number).ok()),
        Value::Uint32(number) => whole(Some((*number).into())),
        Value::Int64(number) => whole(u64::try_from(*number).ok()),
        Value::Uint64(number) => whole(Some(*number)),
        Value::Double(number) if (0.0..1e12).contains(number) => {
            Some((number * MICRO as f64) as u64)
        }
        _ => None,
    };
    time.map(Value::Uint64).ok_or_else(bad)
}

/// Reads a whole value.
fn parse(text: &str) -> Option<Value> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(None, 0)?;
    let whole = parser.rest.trim().is_empty() && value.signature().len() <= MAX_SIGNATURE;
    whole.then_some(value)
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn skip(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A value, of the type `wanted` if one is.
    fn value(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '[' => self.array(wanted, depth),
            '(' => self.structure(wanted, depth),
            '\'' | '"' => {
                let text = self.text()?;
                matches!(wanted, None | Some("s")).then_some(Value::Text(text))
            }
            '@' => {
                let (kind, rest) = self.rest.strip_prefix('@')?.split_once(char::is_whitespace)?;
                let (kind, rest) = (kind.to_owned(), rest.to_owned());
                if !is_type(&kind) || wanted.is_some_and(|wanted| wanted != kind) {
                    return None;
                }
                let mut inner = Parser { rest: &rest };
                let value = inner.value(Some(&kind), depth + 1)?;
                let left = inner.rest.len();
                self.rest = self.rest.get(self.rest.len() - left..)?;
                Some(value)
            }
            _ => self.word(wanted, depth),
        }
    }

    fn array(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        self.skip('[');
        let mut element = match wanted {
            Some(wanted) => Some(wanted.strip_prefix('a')?.to_owned()),
            None => None,
        };
        let mut items = Vec::new();
        while !self.skip(']') {
            if !items.is_empty() && !self.skip(',') {
                return None;
            }
            let item = self.value(element.as_deref(), depth + 1)?;
            element.get_or_insert_with(|| item.signature());
            items.push(item);
        }
        // Of an empty one nobody can tell the type.
        Some(Value::Array(element?, items))
    }

    fn structure(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        self.skip('(');
        let mut fields = Vec::new();
        while !self.skip(')') {
            if !fields.is_empty() && !self.skip(',') {
                return None;
            }
            fields.push(self.value(None, depth + 1)?);
        }
        let value = Value::Struct(fields);
        (wanted.is_none_or(|wanted| value.signature() == wanted) && value.signature() != "()")
            .then_some(value)
    }

    fn text(&mut self) -> Option<String> {
        let mut characters = self.rest.chars();
        let quote = characters.next()?;
        let mut text = String::new();
        loop {
            match characters.next()? {
                '\0' => return None,
                end if end == quote => break,
                '\\' => text.push(match characters.next()? {
                    'n' => '\n',
                    't' => '\t',
                    same @ ('\\' | '\'' | '"') => same,
                    _ => return None,
                }),
                other => text.push(other),
            }
        }
        self.rest = characters.as_str();
        Some(text)
    }

    /// `true`, a number, or a type's name before one.
    fn word(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        let end = self
            .rest
            .find(|character: char| character.is_whitespace() || ",])".contains(character));
        let word = self.rest.get(..end.unwrap_or(self.rest.len()))?.to_owned();
        self.rest = self.rest.get(word.len()..)?;
        let named = match word.as_str() {
            "true" | "false" => {
                let value = Value::Bool(word == "true");
                return matches!(wanted, None | Some("b")).then_some(value);
            }
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            _ => return plain(&word, wanted),
        };
        if wanted.is_some_and(|wanted| wanted != named) {
            return None;
        }
        self.value(Some(named), depth + 1)
    }
}

/// A number; one that says nothing else is an int32, or with a point a double.
fn plain(word: &str, wanted: Option<&str>) -> Option<Value> {
    let by_itself =
        if word.contains(['.', 'e', 'E']) && !word.starts_with("0x") { "d" } else { "i" };
    let integer = || -> Option<i128> {
        match (word.strip_prefix("0x"), word.strip_prefix("-0x")) {
            (Some(digits), _) => i128::from_str_radix(digits, 16).ok(),
            (_, Some(digits)) => i128::from_str_radix(digits, 16).ok().map(|number| -number),
            _ => word.parse().ok(),
        }
    };
    match wanted.unwrap_or(by_itself) {
        "y" => integer()?.try_into().ok().map(Value::Byte),
        "n" => integer()?.try_into().ok().map(Value::Int16),
        "q" => integer()?.try_into().ok().map(Value::Uint16),
        "i" => integer()?.try_into().ok().map(Value::Int32),
        "u" => integer()?.try_into().ok().map(Value::Uint32),
        "x" => integer()?.try_into().ok().map(Value::Int64),
        "t" => integer()?.try_into().ok().map(Value::Uint64),
        "d" => word.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Double),
        _ => None,
    }
}

/// A basic type, or arrays of one.
fn is_type(kind: &str) -> bool {
    let basic = kind.trim_start_matches('a');
    kind.len() - basic.len() <= MAX_DEPTH
        && (matches!(basic, "y" | "b" | "n" | "q" | "i" | "u" | "x" | "t" | "d" | "s")
            || is_structure(basic))
}

fn is_structure(kind: &str) -> bool {
    let inner = kind.strip_prefix('(').and_then(|kind| kind.strip_suffix(')'));
    inner.is_some_and(|inner| {
        !inner.is_empty() && inner.bytes().all(|byte| b"ybnqiuxtds".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_gvariants() {
        let text = |text: &str| Value::Text(text.into());
        for (given, value) in [
            ("true", Value::Bool(true)),
            (" false ", Value::Bool(false)),
            ("boolean true", Value::Bool(true)),
            ("42", Value::Int32(42)),
            ("-42", Value::Int32(-42)),
            ("0x10", Value::Int32(16)),
            ("uint64 120000000", Value::Uint64(120_000_000)),
            ("@t 5", Value::Uint64(5)),
            ("byte 255", Value::Byte(255)),
            ("int16 -3", Value::Int16(-3)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            (r#""a'b""#, text("a'b")),
            (r"'a\'b\\'", text(r"a'b\")),
            ("['a', \"b\"]", Value::texts(&["a", "b"])),
            ("@as []", Value::texts(&[])),
            ("[uint32 1, 2]", Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)])),
            (
                "[('/dev/null', 'rw')]",
                Value::Array(
                    "(ss)".into(),
                    vec![Value::Struct(vec![text("/dev/null"), text("rw")])],
                ),
            ),
            ("@a(ss) []", Value::Array("(ss)".into(), vec![])),
        ] {
            assert_eq!(parse(given), Some(value), "{given}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for bad in [
            "",
            "bare",
            "'open",
            "true false",
            "[",
            "[1",
            "[1,]",
            "[1 2]",
            "[]",
            "[1, 'a']",
            "uint64 -1",
            "byte 256",
            "2147483648",
            "uint32",
            "uint32 true",
            "@t",
            "@v 5",
            "@a{sv} {}",
            "nan",
            "inf",
            "()",
            "(1",
            "'a\0b'",
            "'\\x'",
            "@as [1]",
            "string 5",
            "int32 'x'",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(parse(&format!("({}1)", "1,".repeat(252))).is_some());
        assert_eq!(parse(&format!("({}1)", "1,".repeat(253))), None, "its type is too long");
        assert_eq!(parse(&format!("'{}'", "a".repeat(65_536))), None);
        let deep = "[".repeat(60_000);
        assert_eq!(parse(&deep), None);
        assert_eq!(parse(&format!("@{}s []", "a".repeat(300))), None);
        assert_eq!(parse(&"uint64 ".repeat(9_000)), None);
    }

    #[test]
    fn seconds_become_microseconds() {
        let is = |name: &str, text: &str, expected: (&str, u64)| {
            let (name, value) = property(name, text).unwrap();
            assert_eq!((name.as_str(), value), (expected.0, Value::Uint64(expected.1)));
        };
        is("TimeoutStopSec", "uint64 120", ("TimeoutStopUSec", 120_000_000));
        is("TimeoutStopSec", "1.5", ("TimeoutStopUSec", 1_500_000));
        is("TimeoutStopUSec", "uint64 7", ("TimeoutStopUSec", 7));
        for bad in ["-1", "'5'", "true", "uint64 18446744073709551615", "-0.5", "1e300"] {
            assert!(property("TimeoutStopSec", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_properties_that_are_not_the_callers_are_refused() {
        for (name, text) in [
            ("", "1"),
            ("Ab", "1"),
            ("A b", "1"),
            ("Memory.Max", "1"),
            ("PIDs", "[uint32 1]"),
            ("Delegate", "false"),
            ("Slice", "'a.slice'"),
        ] {
            assert!(property(name, text).is_err(), "{name}");
        }
        for (name, ok) in [
            ("container", true),
            ("", true),
            ("a/b", false),
            ("..", false),
            ("cgroup.procs", false),
            ("a b", false),
        ] {
            assert_eq!(subgroup(name).is_ok(), ok, "{name}");
        }
    }
}
