//! What CRIU says of a failure: the lines of its log that are errors.

use std::os::fd::{AsFd, OwnedFd};

use super::Places;
use super::message::{Kind, Response};
use crate::error::{self, Error};
use crate::sys::fd;

/// How many of CRIU's errors are told; the first is the cause, the last that it has failed.
const TOLD: usize = 3;
/// How much of one, in characters.
const LENGTH: usize = 300;
/// How much of a log is read, in bytes.
const LOG: u64 = 64 << 20;

/// What CRIU calls an error, and goes on.
const HARMLESS: &[&str] = &["Can't setup RLIMIT_NOFILE"];

/// What CRIU says when the processes are not stopped after 10 s, or what its option `timeout` says.
const TIMEOUT: &str = "Timeout reached";
/// What to do then.
const SLOW: &str = "a process that waits for its child in vfork(2) cannot be stopped: try again, or on a slow machine \
    with `timeout SECONDS` in /etc/criu/skep.conf; ";

/// What is said of a request of `kind` that `response` says has failed; `None` if CRIU is gone without a word.
pub(super) fn explain(
    kind: Kind,
    response: Option<&Response>,
    places: Option<&Places>,
    stderr: &OwnedFd,
) -> Error {
    let log = places.map(read).unwrap_or_default();
    let mut told = errors(&log);
    let logged = !log.is_empty();
    if told.is_empty() {
        told.extend(
            response.map(|response| plain(&response.message)).filter(|text| !text.is_empty()),
        );
    }
    if told.is_empty() {
        told = last_lines(&read_all(stderr));
    }
    let name = kind.name();
    let mut what = match response {
        Some(response) => format!("criu failed: type {name} errno {}", response.errno),
        None => format!("criu failed: type {name}: it ended without an answer"),
    };
    if let Some(response) = response.filter(|response| response.errno > 0) {
        let errno = nix::errno::Errno::from_raw(response.errno);
        what = format!("{what} ({})", error::errno_text(errno));
    }
    if !told.is_empty() {
        what = format!("{what}: {}", told.join(" | "));
    }
    let failed = Error::new(crate::Kind::Os, what);
    match places.filter(|_| logged) {
        Some(places) => {
            let advice = if told.iter().any(|text| text.contains(TIMEOUT)) { SLOW } else { "" };
            failed.hint(format!("{advice}the whole log is {:?}", places.log_path))
        }
        None => failed,
    }
}

fn read(places: &Places) -> String {
    let Ok(name) = std::ffi::CString::new(places.log) else { return String::new() };
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let log = fd::openat(places.log_directory().as_fd(), &name, flags, 0);
    log.and_then(|log| fd::read_all(&log, LOG))
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .unwrap_or_default()
}

/// All that was written to a file of ours.
fn read_all(file: &OwnedFd) -> String {
    let _begin = nix::unistd::lseek(file, 0, nix::unistd::Whence::SeekSet);
    let text = fd::read_all(file, LOG).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// The first errors in a log, each once, without their times.
fn errors(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines() {
        let Some(at) = line.find("Error (") else { continue };
        if HARMLESS.iter().any(|words| line.contains(words)) {
            continue;
        }
        let text = plain(line.get(at..).unwrap_or_default());
        if found.len() < TOLD && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
    let skipped = lines.len().saturating_sub(TOLD);
    lines.into_iter().skip(skipped).collect()
}

/// Names of the container's files may be anything: one line, nothing for a terminal, no endless one.
fn plain(text: &str) -> String {
    let shown = |char: char| if char.is_control() { '?' } else { char };
    text.trim().chars().take(LENGTH).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_errors_are_told_once_and_without_their_times() {
        let log = "(00.000001) Version: 4.2.1\n\
            (00.1) Error (criu/files-reg.c:1): Can't lookup mount=1\n\
            (00.1) Error (criu/util.c:9): rlimit: Can't setup RLIMIT_NOFILE for self: No\n\
            (00.2) Warn  (criu/x.c:1): nothing\n\
            (00.3)      7: Error (criu/files-reg.c:1): Can't lookup mount=1\n\
            (00.4) Error (criu/sk.c:2): a\u{1b}[2Jb\n\
            (00.5) Error (criu/cr-dump.c:3): Dumping FAILED.\n\
            (00.6) Error (criu/more.c:4): more\n";
        assert_eq!(
            errors(log),
            [
                "Error (criu/files-reg.c:1): Can't lookup mount=1",
                "Error (criu/sk.c:2): a?[2Jb",
                "Error (criu/cr-dump.c:3): Dumping FAILED."
            ]
        );
        assert!(errors("").is_empty());
        assert_eq!(errors(&format!("Error ({}", "x".repeat(10_000)))[0].len(), LENGTH);
    }

    #[test]
    fn of_what_was_not_logged_the_end_is_told() {
        assert_eq!(last_lines("a\n\nb\nc\r\nd\n"), ["b", "c", "d"]);
    }
}
