//! `--log`, `--log-format`, `--log-level` and `--debug`; the only writer to standard error.
//!
//! Who reads what, and why it is as it is:
//! - containerd decodes the log as a stream of JSON objects and shows the last whose level is `error`; `time` must
//!   be RFC 3339 or it shows nothing.
//! - Podman decodes the whole log of a command that failed as **one** object. So in JSON a failing command writes one
//!   record, and warnings are written once it has succeeded, unless `--debug` or `--log-level` asks for more or less.
//! - conmon, CRI-O and Podman read standard error, and match it against texts such as "no such file or directory".
//!   So an error is written there whether or not there is a log, and a warning only if a person is watching.
//! - Scripts that call us runc, and its tests, read the standard error of a `run` in the foreground: see
//!   [`Logger::stand_in_for_runc`].

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Instant;

use libcontainer::error::{self, Context, Kind};
use libcontainer::log::Log;
use libcontainer::{Error, Result, time};

use crate::cli::{Globals, flag};

/// The levels skep writes, gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

impl Level {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Self::Error,
            "warning" | "warn" => Self::Warning,
            "info" => Self::Info,
            "debug" | "trace" => Self::Debug,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// syslog(3)'s number for the level.
    fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Where records go.
#[derive(Debug)]
enum Sink {
    Stderr,
    File(File),
    Journal(UnixDatagram, String),
    Syslog(UnixDatagram, String),
}

/// The log of one command.
#[derive(Debug)]
pub(crate) struct Logger {
    sink: Sink,
    format: Format,
    level: Option<Level>,
    /// When it was opened, if everything is wanted.
    opened: Option<Instant>,
    /// Whether standard error is as runc's.
    as_runc: bool,
    /// Records that are for the log if the command succeeds.
    held: RefCell<Vec<String>>,
}

impl Logger {
    /// Opens the log that the flags ask for. The logger is usable either way: where the result is an error, it
    /// writes to standard error.
    pub(crate) fn open(globals: &Globals<'_>) -> (Self, Result<()>) {
        let mut logger = Self {
            sink: Sink::Stderr,
            format: Format::Text,
            level: None,
            opened: None,
            as_runc: false,
            held: RefCell::default(),
        };
        let opened = logger.configure(globals);
        logger.opened = logger.is_debug().then(Instant::now);
        (logger, opened)
    }

    fn configure(&mut self, globals: &Globals<'_>) -> Result<()> {
        let format = match globals.value(&flag::LOG_FORMAT).map(|format| (format, format.to_str()))
        {
            None | Some((_, Some("text"))) => Format::Text,
            Some((_, Some("json"))) => Format::Json,
            Some((format, _)) => {
                return Err(Error::config(format!("invalid log-format: {}", format.display())));
            }
        };
        if let Some(level) = globals.value(&flag::LOG_LEVEL) {
            self.level = Some(level.to_str().and_then(Level::named).ok_or_else(|| {
                Error::config(format!("invalid log-level: {}", level.display()))
                    .hint("it is one of debug, info, warning and error")
            })?);
        }
        if globals.debug() {
            self.level = Some(Level::Debug);
        }
        if let Some(log) = globals.value(&flag::LOG) {
            self.sink = Sink::open(log.as_bytes())?;
        }
        // Only now: a log that cannot be opened is told in words a person reads.
        self.format = format;
        Ok(())
    }

    /// Says that the command is a `run` in the foreground of somebody who calls us runc: warnings are then written to standard
    /// error, where there is no log, and a program that execve(2) refuses is told as runc's init tells it.
    pub(crate) fn stand_in_for_runc(&mut self) {
        self.as_runc = true;
    }

    /// Writes why the command failed: to the log, and to standard error as well.
    ///
    /// Where it is as runc's, the line of a program that execve(2) has refused stands alone; a log, or a person, is told what
    /// is wrong with the program too.
    pub(crate) fn fail(&self, error: &Error) {
        if self.as_runc
            && error.kind() == Kind::Exec
            && matches!((&self.sink, self.format), (Sink::Stderr, Format::Text))
            && !io::stderr().is_terminal()
        {
            return to_stderr(&format!("{}\n", error.bare()));
        }
        let message = error.to_string();
        self.record(Level::Error, &message);
        if !matches!(self.sink, Sink::Stderr) {
            to_stderr(&format!("{message}\n"));
        }
    }

    /// Writes what was to wait until it is known that the command has not failed.
    pub(crate) fn succeeded(&self) {
        for line in self.held.take() {
            if let Sink::File(file) = &self.sink {
                let _a_warning_is_not_worth_it = { file }.write_all(line.as_bytes());
            }
        }
    }

    /// Whether a record is to wait for [`Self::succeeded`].
    fn holds(&self, level: Level) -> bool {
        let unasked = self.level.is_none() && level == Level::Warning;
        unasked && matches!((&self.sink, self.format), (Sink::File(_), Format::Json))
    }

    fn wants(&self, level: Level) -> bool {
        let least = self.level.unwrap_or_else(|| match (&self.sink, self.format) {
            (Sink::Stderr, Format::Text) if self.as_runc || io::stderr().is_terminal() => {
                Level::Warning
            }
            (Sink::Stderr, _) | (Sink::File(_), Format::Json) => Level::Error,
            _ => Level::Warning,
        });
        level <= least
    }

    fn record(&self, level: Level, message: &str) {
        if self.holds(level) {
            return self.held.borrow_mut().push(self.line(level, message));
        }
        if !self.wants(level) {
            return;
        }
        let sent = match &self.sink {
            Sink::Stderr => {
                to_stderr(&self.stderr_line(level, message));
                Ok(())
            }
            // One write(2) for each record: others append to the same file.
            Sink::File(file) => { file }.write_all(self.line(level, message).as_bytes()),
            Sink::Journal(socket, id) => {
                socket.send(&journal_datagram(level, id, message)).map(drop)
            }
            Sink::Syslog(socket, id) => {
                // RFC 3164: the facility, 1 (user), times 8, and the severity; the tag is the identifier, as crun's is.
                let (priority, pid) = (8 + level.priority(), std::process::id());
                let tag = if id.is_empty() { "skep" } else { id };
                socket.send(format!("<{priority}>{tag}[{pid}]: {message}").as_bytes()).map(drop)
            }
        };
        // A full disk must not hide the record: standard error is what is left.
        if let (Err(why), Level::Error) = (sent, level) {
            to_stderr(&format!("write to the log: {}\n", error::errno_text(error::io_errno(&why))));
        }
    }

    fn line(&self, level: Level, message: &str) -> String {
        match self.format {
            Format::Text => text_line(level, message),
            Format::Json => json_line(level, message),
        }
    }

    fn stderr_line(&self, level: Level, message: &str) -> String {
        match self.format {
            Format::Text if io::stderr().is_terminal() => format!("{}: {message}\n", level.name()),
            _ => self.line(level, message),
        }
    }
}

impl Log for Logger {
    fn warn(&self, message: &str) {
        self.record(Level::Warning, message);
    }

    fn debug(&self, message: &str) {
        self.record(Level::Debug, message);
    }

    fn is_debug(&self) -> bool {
        // Never by default, so nobody has to ask what standard error is.
        self.level == Some(Level::Debug)
    }

    fn began(&self) -> Option<Instant> {
        self.opened
    }
}

impl Sink {
    /// Opens crun's forms of --log: `FILE`, `file:FILE`, `journald:ID`, `syslog:ID`.
    fn open(log: &[u8]) -> Result<Self> {
        let id = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
        if let Some(name) = log.strip_prefix(b"journald:") {
            return Ok(Self::Journal(connect("/run/systemd/journal/socket")?, id(name)));
        }
        if let Some(name) = log.strip_prefix(b"syslog:") {
            return Ok(Self::Syslog(connect("/dev/log")?, id(name)));
        }
        let path = Path::new(OsStr::from_bytes(log.strip_prefix(b"file:").unwrap_or(log)));
        if path == Path::new("/dev/stderr") {
            return Ok(Self::Stderr);
        }
        // Engines give the same file to create, start, kill and delete, so it is appended to; O_SYNC as in runc: the
        // caller reads it the moment we end, perhaps from another mount of a network file system.
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o644).custom_flags(libc::O_SYNC | libc::O_NOCTTY);
        options.open(path).on("open --log", path).map(Self::File)
    }
}

fn connect(path: &str) -> Result<UnixDatagram> {
    let socket = UnixDatagram::unbound().and_then(|socket| {
        socket.connect(path)?;
        Ok(socket)
    });
    socket.on("connect --log to", path)
}

fn to_stderr(text: &str) {
    let _nowhere_left_to_tell = io::stderr().write_all(text.as_bytes());
}

/// logrus' JSONFormatter, which the engines decode.
fn json_line(level: Level, message: &str) -> String {
    let (level, time) = (level.name(), time::rfc3339(time::now()));
    let mut line = format!("{{\"level\":\"{level}\",\"msg\":");
    json_string(&mut line, message);
    let _infallible = writeln!(line, ",\"time\":\"{time}\"}}");
    line
}

/// RFC 8259 section 7.
fn json_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            '\r' => line.push_str("\\r"),
            '\0'..='\x1f' => {
                let _infallible = write!(line, "\\u{:04x}", u32::from(c));
            }
            _ => line.push(c),
        }
    }
    line.push('"');
}

/// logrus' TextFormatter for what is not a terminal.
fn text_line(level: Level, message: &str) -> String {
    let (level, time) = (level.name(), time::rfc3339(time::now()));
    let mut line = format!("time=\"{time}\" level={level} msg=");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !message.is_empty() && message.chars().all(plain) {
        line.push_str(message);
    } else {
        json_string(&mut line, message);
    }
    line.push('\n');
    line
}

/// systemd's native journal protocol: `NAME=value` lines, or the name, the length in 64 little-endian bits and the
/// value where that has line breaks.
fn journal_datagram(level: Level, id: &str, message: &str) -> Vec<u8> {
    let mut datagram =
        format!("PRIORITY={}\nSYSLOG_IDENTIFIER=skep\n", level.priority()).into_bytes();
    // ID is crun's name for what others call CONTAINER_ID.
    for (name, value) in [("CONTAINER_ID", id), ("ID", id), ("MESSAGE", message)] {
        datagram.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            datagram.push(b'\n');
            datagram.extend_from_slice(&u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
        } else {
            datagram.push(b'=');
        }
        datagram.extend_from_slice(value.as_bytes());
        datagram.push(b'\n');
    }
    datagram
}

#[cfg(test)]
#[path = "logging_tests.rs"]
mod tests;
