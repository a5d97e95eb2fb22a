//! The command line: how it is parsed, and what the commands that only print say.

use crate::harness::runner::cases;
use crate::harness::{Test, say};

cases![every_command_has_help];

/// Whether a text is a time as RFC 3339 writes it.
pub fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let date = [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit)
        && is(4, b'-')
        && is(7, b'-')
        && is(10, b'T');
    let time = [11, 12, 14, 15, 17, 18].into_iter().all(digit) && is(13, b':') && is(16, b':');
    let mut rest = &text[text.len().min(19)..];
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone =
        rest == "Z" || (rest.len() == 6 && rest.starts_with(['+', '-']) && &rest[3..4] == ":");
    date && time && zone
}

const COMMANDS: [&str; 15] = [
    "create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume",
    "update", "events", "spec", "features",
];

fn every_command_has_help(t: &Test) {
    let _ = &say::ID_EMPTY;
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let output = t.call(&[command, flag]).run().ok();
            assert!(output.stdout.contains(command), "{output}");
        }
    }
}
