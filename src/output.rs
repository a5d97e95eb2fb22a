//! What goes to standard output: documents and tables in the shapes that engines decode (runc's).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::str::FromStr;

use libcontainer::error::Context;
use libcontainer::spec::{Map, Str};
use libcontainer::{Error, Result};
use serde::Serialize;

/// Writes `bytes` to standard output.
///
/// # Errors
/// The errno of write(2): a document that was cut off must not look like success.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).doing("write to standard output")
}

/// The state of a container (runtime.md "State"), with what runc adds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    /// The version of the runtime specification that the document is of.
    pub(crate) oci_version: &'a str,
    /// The container id.
    pub(crate) id: &'a str,
    /// The process id in the caller's pid namespace; 0 once it has ended.
    pub(crate) pid: i32,
    /// creating, created, running, paused or stopped; in `list` also unknown.
    pub(crate) status: &'a str,
    /// The absolute path of the bundle.
    pub(crate) bundle: &'a str,
    /// The absolute path of the root filesystem.
    pub(crate) rootfs: &'a str,
    /// When it was created, in RFC 3339 with nanoseconds.
    pub(crate) created: &'a str,
    /// The annotations of config.json.
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) annotations: Option<&'a Map<'a, Str<'a>>>,
    /// The name of the user that the state directory belongs to; empty in `state`.
    pub(crate) owner: &'a str,
    /// The systemd unit of the cgroup, as crun prints it.
    #[serde(rename = "systemd-scope", skip_serializing_if = "Option::is_none")]
    pub(crate) systemd_scope: Option<&'a str>,
}

fn is_empty(annotations: &Option<&Map<'_, Str<'_>>>) -> bool {
    annotations.is_none_or(|map| map.is_empty())
}

/// The form of `list` and `ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Format {
    /// Reads --format.
    ///
    /// # Errors
    /// Another word than `table` or `json`.
    pub(crate) fn parse(text: Option<&OsStr>) -> Result<Self> {
        match text.map(OsStr::as_encoded_bytes) {
            None | Some(b"table") => Ok(Self::Table),
            Some(b"json") => Ok(Self::Json),
            Some(_) => Err(Error::config("invalid format option").hint("it is table or json")),
        }
    }
}

/// `state`: indented by 2, without an end of line.
///
/// # Errors
/// None that the document could cause.
pub(crate) fn state(state: &State<'_>) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(state).map_err(|e| Error::internal(e.to_string()))
}

/// What `list` prints, one container after the other: nothing else is kept of them.
#[derive(Debug)]
pub(crate) enum Listing {
    /// `--quiet`: one id on each line.
    Ids(String),
    /// A header and a row for each.
    Table(Vec<[String; 6]>),
    /// `--format json`: one line.
    Json(Vec<u8>),
}

impl Listing {
    /// A listing without containers.
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
        match format {
            _ if quiet => Self::Ids(String::new()),
            Format::Table => Self::Table(vec![header.map(str::to_owned)]),
            Format::Json => Self::Json(Vec::new()),
        }
    }

    /// Appends a container.
    ///
    /// # Errors
    /// None that the document could cause.
    pub(crate) fn add(&mut self, state: &State<'_>) -> Result<()> {
        match self {
            Self::Ids(lines) => lines.extend([state.id, "\n"]),
            Self::Table(rows) => {
                let pid = state.pid.to_string();
                let row = [state.id, &pid, state.status, state.bundle, state.created, state.owner];
                rows.push(row.map(str::to_owned));
            }
            Self::Json(line) => {
                line.push(if line.is_empty() { b'[' } else { b',' });
                let document = serde_json::to_vec(state);
                line.extend(document.map_err(|e| Error::internal(e.to_string()))?);
            }
        }
        Ok(())
    }

    /// The bytes to print.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Ids(lines) => lines.into_bytes(),
            Self::Table(rows) => table(&rows).into_bytes(),
            // What Go makes of no slice.
            Self::Json(line) if line.is_empty() => b"null\n".to_vec(),
            Self::Json(mut line) => {
                line.extend_from_slice(b"]\n");
                line
            }
        }
    }
}

/// Columns as Go's tabwriter makes them for runc: at least 12 wide, 3 of it space; the last one is not padded.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + 3).max().unwrap_or(0).max(12)
    };
    let widths: Vec<_> = (1..N).map(|column| width(column - 1)).chain([0]).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, &width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        text.push('\n');
    }
    text
}

/// `ps --format json`: `[1,2]` and an end of line.
pub(crate) fn ps_json(pids: &[i32]) -> String {
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    format!("[{}]\n", pids.join(","))
}

/// `ps`: the header and the rows of `output`, what ps(1) printed, whose PID column is one of `pids`.
///
/// # Errors
/// A header without PID, or a row without a number under it.
pub(crate) fn ps_table(output: &[u8], pids: &[i32]) -> Result<Vec<u8>> {
    let pids: HashSet<i32> = pids.iter().copied().collect();
    let mut lines = output.split(|&byte| byte == b'\n');
    let header = lines.next().unwrap_or_default();
    let column = words(header)
        .position(|word| word == b"PID")
        .ok_or_else(|| Error::config("couldn't find PID field in ps output"))?;
    let mut kept = [header, b"\n"].concat();
    for line in lines.filter(|line| words(line).next().is_some()) {
        let pid = words(line).nth(column).and_then(|word| std::str::from_utf8(word).ok());
        let pid = pid.and_then(|word| i32::from_str(word).ok()).ok_or_else(|| {
            let line = String::from_utf8_lossy(line);
            Error::config(format!("no process id in the ps output {line:?}"))
        })?;
        if pids.contains(&pid) {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
    }
    Ok(kept)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
