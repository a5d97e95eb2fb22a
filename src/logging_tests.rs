use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::cli;

/// A log file of one test, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("skep-log-{}-{test}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.0).expect("the log")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _it_may_not_exist = fs::remove_file(&self.0);
    }
}

fn open(log: &Path, flags: &str) -> (Logger, Result<()>) {
    let mut argv = vec![OsStr::new("skep"), OsStr::new("--log"), log.as_os_str()];
    argv.extend(flags.split_ascii_whitespace().map(OsStr::new));
    Logger::open(&cli::parse(&argv).globals)
}

/// What a failing command with a warning and a debug message leaves in the log: the levels.
fn levels(test: &str, flags: &str) -> String {
    let scratch = Scratch::new(test);
    let (log, opened) = open(&scratch.0, flags);
    opened.expect("a log");
    log.warn("odd");
    log.debug("step");
    log.fail(&Error::config("bad"));
    let text = scratch.read();
    let level = |line: &str| {
        ["debug", "warning", "error"]
            .into_iter()
            .find(|level| line.contains(level))
            .expect("a level")
    };
    text.lines().map(level).collect::<Vec<_>>().join(" ")
}

#[test]
fn json_holds_one_record_unless_more_is_asked_for() {
    assert_eq!(levels("json", "--log-format json"), "error");
    assert_eq!(levels("json-debug", "--log-format json --debug"), "warning debug error");
    assert_eq!(levels("json-warning", "--log-format=json --log-level=warning"), "warning error");
    assert_eq!(levels("json-error", "--log-format json --log-level error"), "error");
}

#[test]
fn json_holds_the_warnings_of_a_command_that_succeeds() {
    let levels = |test: &str, flags: &str| {
        let scratch = Scratch::new(test);
        let (log, opened) = open(&scratch.0, flags);
        opened.expect("a log");
        log.warn("odd");
        log.warn("queer");
        log.debug("step");
        let before = scratch.read().lines().count();
        log.succeeded();
        log.succeeded();
        let text = scratch.read();
        assert!(text.lines().all(|line| line.starts_with("{\"level\":")), "{text}");
        (before, text.matches("\"warning\"").count())
    };
    assert_eq!(levels("held", "--log-format json"), (0, 2));
    assert_eq!(levels("held-warning", "--log-format json --log-level warning"), (2, 2));
    assert_eq!(levels("held-error", "--log-format json --log-level error"), (0, 0));
    assert_eq!(levels("held-debug", "--log-format json --debug"), (3, 2));
}

#[test]
fn text_holds_warnings_unless_less_is_asked_for() {
    assert_eq!(levels("text", ""), "warning error");
    assert_eq!(levels("text-error", "--log-level error"), "error");
    assert_eq!(levels("text-debug", "-debug"), "warning debug error");
}

#[test]
fn a_json_record_is_what_containerd_decodes() {
    #[derive(serde::Deserialize)]
    struct Record {
        level: String,
        msg: String,
        time: String,
    }
    let scratch = Scratch::new("record");
    let message = "exec: \"foo\": executable file not found in $PATH\n\t\u{1}\\é";
    for _ in 0..2 {
        let (log, opened) = open(&scratch.0, "--log-format json");
        opened.expect("a log");
        log.fail(&Error::config(message));
    }
    let text = scratch.read();
    assert_eq!(text.lines().count(), 2, "the log is appended to: {text}");
    for line in text.lines() {
        let record: Record = serde_json::from_str(line).expect("one object on each line");
        assert_eq!((record.level.as_str(), record.msg.as_str()), ("error", message));
        let pattern: String =
            record.time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(pattern, "0000-00-00T00:00:00Z");
    }
}

#[test]
fn a_text_record_is_logrus() {
    for (message, want) in [
        ("container does not exist", "msg=\"container does not exist\"\n"),
        ("plain", "msg=plain\n"),
        ("a/b@c+d^e_f-1.2", "msg=a/b@c+d^e_f-1.2\n"),
        ("", "msg=\"\"\n"),
        ("say \"x\"\n", "msg=\"say \\\"x\\\"\\n\"\n"),
    ] {
        let line = text_line(Level::Error, message);
        assert!(line.starts_with("time=\"2") && line.contains("Z\" level=error "), "{line}");
        assert!(line.ends_with(want), "{line}");
    }
}

#[test]
fn the_log_is_readable_by_the_engine() {
    let scratch = Scratch::new("mode");
    open(&scratch.0, "").1.expect("a log");
    let mode = fs::metadata(&scratch.0).expect("the log").permissions().mode();
    // 0644 less the umask, which only takes away.
    assert_eq!(mode & 0o7777 & !0o644, 0);
    assert_eq!(mode & 0o600, 0o600);
}

#[test]
fn a_log_that_cannot_be_used_is_an_error() {
    for (log, flags, want) in [
        ("/nonexistent/log", "", "open --log \"/nonexistent/log\": no such file or directory"),
        ("/", "", "open --log \"/\": is a directory"),
        ("file:/nonexistent/log", "", "open --log \"/nonexistent/log\": no such file or directory"),
        ("/dev/null", "--log-format xml", "invalid log-format: xml"),
        (
            "/dev/null",
            "--log-level loud",
            "invalid log-level: loud; it is one of debug, info, warning and error",
        ),
    ] {
        let (logger, opened) = open(Path::new(log), flags);
        assert_eq!(opened.map_err(|e| e.to_string()), Err(want.to_owned()));
        assert!(matches!(logger.sink, Sink::Stderr) && logger.format == Format::Text);
    }
}

#[test]
fn the_journal_gets_every_line_of_a_message() {
    assert_eq!(
        journal_datagram(Level::Warning, "c1", "odd"),
        b"PRIORITY=4\nSYSLOG_IDENTIFIER=skep\nCONTAINER_ID=c1\nID=c1\nMESSAGE=odd\n"
    );
    assert_eq!(
        journal_datagram(Level::Error, "c1", "a\nb"),
        b"PRIORITY=3\nSYSLOG_IDENTIFIER=skep\nCONTAINER_ID=c1\nID=c1\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"
    );
}

#[test]
fn a_record_reaches_a_datagram_socket() {
    let (near, far) = UnixDatagram::pair().expect("a socket pair");
    let log = Logger {
        sink: Sink::Syslog(near, "c1".into()),
        format: Format::Json,
        level: None,
        opened: None,
        as_runc: false,
        held: RefCell::default(),
    };
    log.warn("odd");
    let mut buffer = [0; 128];
    let count = far.recv(&mut buffer).expect("a datagram");
    let want = format!("<12>c1[{}]: odd", std::process::id());
    assert_eq!(&buffer[..count], want.as_bytes());
}
