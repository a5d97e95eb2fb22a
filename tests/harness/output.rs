//! What a command left: exit status, both streams, and the assertions over them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::phrases::Phrase;
use super::runtime::Kind;

/// The result of one invocation of the runtime.
#[derive(Debug)]
pub struct Output {
    pub command: String,
    pub kind: Kind,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub stdout_path: PathBuf,
    pub stderr_path: PathBuf,
}

impl Output {
    /// Asserts exit status 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts an exit status.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit status {code}, got {self}");
        self
    }

    /// Asserts a failure of the runtime's own: status 1 and something on standard error.
    #[track_caller]
    pub fn fails(self) -> Self {
        let this = if self.kind == Kind::Crun { self.crun_failure() } else { self.code(1) };
        assert!(!this.stderr.trim().is_empty(), "a failure without a word: {this}");
        this
    }

    /// crun's own failures have many statuses: 64 for usage, small negative ones where 1 was meant.
    #[track_caller]
    fn crun_failure(self) -> Self {
        assert!(
            matches!(self.code, Some(1 | 64 | 250..=255)),
            "expected a failure of crun's own, got {self}"
        );
        self
    }

    /// Asserts that exec failed for a reason of the runtime's own: 255.
    #[track_caller]
    pub fn exec_fails(self) -> Self {
        let this = if self.kind == Kind::Crun { self.crun_failure() } else { self.code(255) };
        assert!(!this.stderr.trim().is_empty(), "a failure without a word: {this}");
        this
    }

    /// Asserts any failure that is neither a time-out nor a crash.
    #[track_caller]
    pub fn not_ok(self) -> Self {
        assert!(matches!(self.code, Some(code) if code != 0), "expected a failure, got {self}");
        assert!(!self.stderr.contains("panicked at"), "a panic: {self}");
        assert!(!self.stderr.contains("goroutine "), "a panic: {self}");
        self
    }

    /// Asserts that standard error holds the phrase callers match on.
    #[track_caller]
    pub fn says(self, phrase: &Phrase) -> Self {
        let words = phrase.of(self.kind);
        assert!(self.stderr.contains(words), "expected {words:?} on stderr, got {self}");
        self
    }

    /// Asserts that standard error names this: a path, a field, a value.
    #[track_caller]
    pub fn names(self, what: &str) -> Self {
        let plain = self.stderr.replace("\\\"", "\"");
        assert!(plain.contains(what), "expected stderr to name {what:?}, got {self}");
        self
    }

    /// Asserts that standard error is one line, or at most one for crun's and runc's warnings.
    #[track_caller]
    pub fn one_line(self) -> Self {
        assert!(self.stderr.trim_end().lines().count() == 1, "expected one line on stderr: {self}");
        self
    }

    /// Asserts that nothing was written to standard output.
    #[track_caller]
    pub fn no_stdout(self) -> Self {
        assert!(self.stdout.is_empty(), "expected nothing on stdout, got {self}");
        self
    }

    /// Asserts that nothing was written to standard output but the usage text.
    #[track_caller]
    pub fn no_stdout_but_help(self) -> Self {
        let is_help = self.stdout.is_empty() || self.stdout.to_lowercase().contains("usage");
        assert!(is_help, "expected nothing on stdout, got {self}");
        self
    }

    /// Asserts that nothing was written to standard error.
    #[track_caller]
    pub fn no_stderr(self) -> Self {
        assert!(self.stderr.is_empty(), "expected nothing on stderr, got {self}");
        self
    }

    /// Asserts standard output, whole.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout == text, "expected {text:?} on stdout, got {self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }

    /// Standard output without the last newline.
    pub fn text(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }

    /// Standard output as it is now: a detached container goes on writing.
    pub fn stdout_now(&self) -> String {
        fs::read_to_string(&self.stdout_path).unwrap()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "status {code}")?,
            (None, Some(signal)) => write!(f, "death by signal {signal}")?,
            (None, None) => write!(f, "no end (time limit)")?,
        }
        write!(f, "\n  of: {}", self.command)?;
        write!(f, "\n  stdout: {:?}\n  stderr: {:?}", cut(&self.stdout), cut(&self.stderr))
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(1500) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
