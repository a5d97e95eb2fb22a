//! A bundle: a directory with a `config.json` (bundle.md).

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::Deserialize;

use crate::error::{Context, Error, Kind, Result};
use crate::spec::objects::Objects;
use crate::spec::{Process, Spec};
use crate::sys::fd;

/// The largest `config.json` that is read, in bytes: a real one has a thousandth of it.
pub const MAX_CONFIG: u64 = 16 << 20;

/// The bytes of a bundle's configuration and where they are from.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute path of the bundle.
    pub path: PathBuf,
    /// `config.json`, unparsed.
    pub config: Vec<u8>,
}

impl Bundle {
    /// Reads the configuration of the bundle at `path` (made absolute), or the file `config` if one is given.
    ///
    /// # Errors
    /// Those of open(2) and read(2), naming the file; [`Kind::Config`] for one over 16 MiB.
    pub fn open(path: &Path, config: Option<&Path>) -> Result<Self> {
        let path = absolute(path)?;
        if path.to_str().is_none() {
            return Err(Error::config("the path of the bundle is not UTF-8").path(path));
        }
        let file = match config {
            None => path.join("config.json"),
            Some(file) => absolute(file)?,
        };
        let config = read_config(&file).map_err(|error| match error.raw_errno() {
            Some(Errno::ENOENT) if config.is_none() => {
                error.hint("a bundle is a directory with a config.json; `skep spec` writes one")
            }
            _ => error,
        })?;
        Ok(Self { path, config })
    }

    /// The path as text.
    pub fn path_text(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).on("make absolute", path)
}

/// Reads a JSON document of at most [`MAX_CONFIG`] bytes.
///
/// # Errors
/// Those of open(2) and read(2), naming the file; [`Kind::Config`] for one over 16 MiB or something else than a file.
pub fn read_config(path: &Path) -> Result<Vec<u8>> {
    // Whoever made the bundle does not get to keep the runtime waiting.
    read(&open(path, libc::O_NONBLOCK)?, path)
}

/// Reads a JSON document that is an argument: it may come from a pipe, whose other end may take its time
/// (`--process <(jq …)`), to come as well as to write.
///
/// # Errors
/// As for [`read_config`].
pub fn read_document(path: &Path) -> Result<Vec<u8>> {
    read(&open(path, 0)?, path)
}

fn open(path: &Path, flags: libc::c_int) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_nul| Error::config("a path with NUL").path(path))?;
    fd::openat(fd::CWD, &name, libc::O_RDONLY | libc::O_NOCTTY | flags, 0).on("open", path)
}

fn read(file: &OwnedFd, path: &Path) -> Result<Vec<u8>> {
    match fd::read_all(file, MAX_CONFIG) {
        Err(Errno::EFBIG) => Err(Error::config("the file is over 16 MiB").path(path)),
        other => other.on("read", path),
    }
}

/// Parses the configuration.
///
/// # Errors
/// [`Kind::Config`] with the field, line and column.
pub fn parse(config: &[u8]) -> Result<Spec<'_>> {
    let mut spec: Spec<'_> = parse_as(config, "config.json")?;
    spec.apply_annotations()?;
    Ok(spec)
}

/// Parses a document of type `T`, called `name` in errors.
///
/// # Errors
/// [`Kind::Config`] with the field, line and column.
pub fn parse_as<'a, T: Deserialize<'a>>(text: &'a [u8], name: &str) -> Result<T> {
    // One look at the whole, in place of one at every string.
    let checked = std::str::from_utf8(text).map_err(|utf8| {
        let offset = utf8.valid_up_to();
        Error::new(Kind::Config, format!("{name} is not UTF-8: invalid byte at offset {offset}"))
    })?;
    let mut reader = serde_json::Deserializer::from_str(checked);
    T::deserialize(Objects(&mut reader))
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| explain(text, name, &error))
}

/// Parses `process` of the configuration, and nothing else of it.
///
/// # Errors
/// [`Kind::Config`] with the field, line and column.
pub fn parse_process(config: &[u8]) -> Result<Process<'_>> {
    #[derive(Deserialize)]
    struct Only<'a> {
        #[serde(borrow, default)]
        process: Option<Process<'a>>,
    }
    let only: Only<'_> = parse_as(config, "config.json")?;
    Ok(only.process.unwrap_or_default())
}

/// A second look, only taken when the first one failed, finds out which field it was.
fn explain(text: &[u8], name: &str, error: &serde_json::Error) -> Error {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Error::new(Kind::Config, format!("{name} is empty"));
    }
    let sentence = error.to_string();
    // Of these two the place is the object; the name is in the sentence alone.
    let named = ["missing field `", "duplicate field `"]
        .into_iter()
        .find_map(|what| sentence.strip_prefix(what))
        .and_then(|rest| rest.split('`').next());
    let field = field_at(text, error.line(), error.column(), named);
    let place = if field.is_empty() { String::new() } else { format!(" {field}:") };
    Error::new(Kind::Config, format!("{name}:{place} {sentence}"))
}

/// The field a position of a JSON text is in, as `process.user.uid` or `mounts[3].options`; or `named` of the object that
/// position is in.
fn field_at(text: &[u8], line: usize, column: usize, named: Option<&str>) -> String {
    let mut end = 0;
    for _ in 1..line {
        let rest = text.get(end..).unwrap_or_default();
        end += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
    }
    end += column;
    walk_to(text.get(..end.min(text.len())).unwrap_or_default(), named)
}

enum Level {
    Object(String),
    Array(usize),
}

/// Follows strings, brackets and commas up to the end of `text` and says where that is.
fn walk_to(text: &[u8], named: Option<&str>) -> String {
    let mut levels: Vec<Level> = Vec::new();
    let mut bytes = text.iter().copied().enumerate();
    let mut last = String::new();
    while let Some((start, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let mut escaped = false;
                let mut end = start;
                for (at, byte) in bytes.by_ref() {
                    end = at;
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => break,
                        _ => {}
                    }
                }
                let content = text.get(start + 1..end).unwrap_or_default();
                last = String::from_utf8_lossy(content).into_owned();
            }
            b':' => {
                if let Some(Level::Object(name)) = levels.last_mut() {
                    *name = std::mem::take(&mut last);
                }
            }
            b',' => {
                if let Some(Level::Array(index)) = levels.last_mut() {
                    *index += 1;
                }
            }
            b'{' => levels.push(Level::Object(String::new())),
            b'[' => levels.push(Level::Array(0)),
            // The error is found at the end of the value: what closes there is still the place.
            b'}' | b']' if start + 1 < text.len() => {
                levels.pop();
            }
            _ => {}
        }
    }
    if let (Some(Level::Object(last)), Some(named)) = (levels.last_mut(), named) {
        named.clone_into(last);
    }
    let mut field = String::new();
    for level in levels {
        match level {
            Level::Object(name) if name.is_empty() => {}
            Level::Object(name) => {
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(&name);
            }
            Level::Array(index) => field.push_str(&format!("[{index}]")),
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        for (text, field) in [
            (r#"{"process":{"user":{"uid":"x"}}}"#, "process.user.uid"),
            (r#"{"process":{"user":{"uid":-1}}}"#, "process.user.uid"),
            (r#"{"process":{"user":{"uid":4294967296}}}"#, "process.user.uid"),
            (
                "{\n \"mounts\": [\n {\"destination\":\"/a\"},\n {\"destination\": 5}]}",
                "mounts[1].destination",
            ),
            (r#"{"root":{"path":"a","readonly":"yes"}}"#, "root.readonly"),
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":[]}]}}"#,
                "linux.namespaces[1].type",
            ),
            (r#"{"mounts":{}}"#, "mounts"),
            (r#"{"linux":{"seccomp":[]}}"#, "linux.seccomp"),
            (r#"{"process":{"user":[0,0]}}"#, "process.user"),
            (r#"{"hooks":{"prestart":[["/bin/true"]]}}"#, "hooks.prestart[0]"),
            (
                r#"{"linux":{"uidMappings":[{"containerID":0,"size":1}]}}"#,
                "linux.uidMappings[0].hostID",
            ),
            (r#"{"process":{"rlimits":[{}]}}"#, "process.rlimits[0].type"),
            (r#"{"ociVersion":"1.0.0","linux":{},"ociVersion":"1.0.0"}"#, "ociVersion"),
            (r#"{"linux":{"devices":[]},"linux":{}}"#, "linux"),
            (r#"{"process":{"user":{"uid":1},"cwd":"/","user" : {}}}"#, "process.user"),
            ("{\"mounts\":[{},\n{\"type\":\"a\",\n\"type\"\n:\"b\"}]}", "mounts[1].type"),
        ] {
            let message = message(text);
            assert!(message.contains(&format!("config.json: {field}: ")), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_not_json_is_said_so() {
        assert!(message("").contains("empty"));
        assert!(message("{\"process\": {\"args\": [\"a\"").contains("process.args"));
        assert!(message("[]").contains("config.json"));
        let not_utf8 = parse(b"{\"hostname\": \"\xff\"}").unwrap_err().to_string();
        assert!(not_utf8.contains("not UTF-8") && not_utf8.contains("14"), "{not_utf8}");
    }

    #[test]
    fn the_process_alone_is_read_as_it_is_in_the_whole() {
        let text = r#"{"ociVersion":"1.0.2","mounts":[{"destination":"/a","options":["ro"]}],
            "process":{"args":["sh","é\"\u00e9"],"rlimits":[{"type":"RLIMIT_CORE","soft":7,"hard":9}],
                "capabilities":{"bounding":["CAP_KILL"]},"apparmorProfile":"p"},
            "linux":{"seccomp":{"syscalls":[{"names":["read"]}]}},"hooks":{"poststop":[]}}"#;
        let whole = parse(text.as_bytes()).unwrap().process.unwrap();
        assert_eq!(parse_process(text.as_bytes()).unwrap(), *whole);
        assert_eq!(whole.args.last().unwrap().as_str(), "é\"é");
        for none in ["{}", r#"{"process":null}"#] {
            assert_eq!(parse_process(none.as_bytes()).unwrap(), Process::default());
        }
        for (text, part) in [
            (r#"{"process":[["sh"]]}"#, "config.json: process"),
            (r#"{"process":{"args":[1]}}"#, "config.json: process.args[0]: "),
            (r#"{"process":{},"mounts":[}"#, "config.json: mounts"),
            (r#"{"process":{}} x"#, "trailing"),
            ("[]", "config.json"),
        ] {
            let message = parse_process(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        let hidden = parse_process(b"{\"process\":{},\"hostname\":\"\xff\"}").unwrap_err();
        assert!(hidden.to_string().contains("not UTF-8"), "{hidden}");
    }

    #[test]
    fn unknown_properties_and_nulls_are_ignored() {
        let text = r#"{"x-future":{"a":[1]},"mounts":null,"hooks":null,"process":{"args":null,"env":null,"rlimits":null}}"#;
        assert!(parse(text.as_bytes()).unwrap().mounts.is_empty());
    }
}
