use std::ffi::OsStr;
use std::time::Duration;

use super::value::{User, boolean, bytes, duration, gid, int, signal, uint, user};

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn numbers_are_read_whole_or_refused() {
    for (text, want) in [
        ("0", Some(0)),
        ("42", Some(42)),
        ("-1", Some(-1)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("", None),
        ("-", None),
        ("--1", None),
        ("+1", None),
        ("-+1", None),
        (" 1", None),
        ("1 ", None),
        ("0x1", None),
        ("1e3", None),
        ("1_0", None),
        ("١", None),
    ] {
        assert_eq!(int(os(text)).ok(), want, "{text:?}");
    }
    for (text, want) in [
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("-1", None),
        ("+1", None),
        ("", None),
    ] {
        assert_eq!(uint(os(text)).ok(), want, "{text:?}");
    }
}

#[test]
fn booleans_are_gos() {
    for text in ["1", "t", "T", "true", "TRUE", "True"] {
        assert_eq!(boolean(os(text)), Some(true), "{text}");
    }
    for text in ["0", "f", "F", "false", "FALSE", "False"] {
        assert_eq!(boolean(os(text)), Some(false), "{text}");
    }
    for text in ["", "yes", "tRUE", "2", "auto"] {
        assert_eq!(boolean(os(text)), None, "{text}");
    }
}

#[test]
fn sizes_have_binary_units() {
    const M: i64 = 1 << 20;
    for (text, want) in [
        ("0", Some(0)),
        ("512", Some(512)),
        ("32b", Some(32)),
        ("1k", Some(1024)),
        ("64m", Some(64 * M)),
        ("64M", Some(64 * M)),
        ("64mb", Some(64 * M)),
        ("64MiB", Some(64 * M)),
        ("64 MB", Some(64 * M)),
        ("1.5g", Some(1536 * M)),
        ("0.5k", Some(512)),
        ("2t", Some(2 << 40)),
        ("1p", Some(1 << 50)),
        ("-1", Some(-1)),
        ("8191p", Some(8191 << 50)),
        ("8192p", None),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("99999999999999999999999999999999999999999999", None),
        ("", None),
        ("m", None),
        ("-2", None),
        ("-1m", None),
        ("+1", None),
        ("1.", None),
        (".5m", None),
        ("1.2.3", None),
        ("1x", None),
        ("1mm", None),
        ("1  m", None),
        (" 1", None),
        ("0x10", None),
        ("1e3", None),
    ] {
        assert_eq!(bytes(os(text)).ok(), want, "{text:?}");
    }
}

#[test]
fn durations_are_gos() {
    for (text, want) in [
        ("5s", Some(Duration::from_secs(5))),
        ("0", Some(Duration::ZERO)),
        ("0s", Some(Duration::ZERO)),
        ("250ms", Some(Duration::from_millis(250))),
        ("1m30s", Some(Duration::from_secs(90))),
        ("1h2m3s4ms5us6ns", Some(Duration::new(3723, 4_005_006))),
        ("1.5h", Some(Duration::from_secs(5400))),
        ("7µs", Some(Duration::from_micros(7))),
        ("5", None),
        ("", None),
        ("s", None),
        ("-5s", None),
        ("+5s", None),
        ("5 s", None),
        ("5sec", None),
        ("5s5", None),
        ("1.s", None),
        ("99999999999h", None),
    ] {
        assert_eq!(duration(os(text)).ok(), want, "{text:?}");
    }
}

#[test]
fn signals_have_numbers_and_names() {
    for (text, want) in [
        ("0", Some(0)),
        ("9", Some(9)),
        ("64", Some(64)),
        ("KILL", Some(9)),
        ("SIGKILL", Some(9)),
        ("sigkill", Some(9)),
        ("Term", Some(15)),
        ("hup", Some(1)),
        ("SIGCLD", Some(17)),
        ("SIGWINCH", Some(28)),
        ("SYS", Some(31)),
        ("SIGRTMIN", Some(34)),
        ("SIGRTMIN+3", Some(37)),
        ("RTMIN+30", Some(64)),
        ("rtmax-1", Some(63)),
        ("SIGRTMAX", Some(64)),
        ("SIGRTMIN+31", None),
        ("SIGRTMIN-1", None),
        ("SIGRTMAX-31", None),
        ("SIGRTMIN+", None),
        ("SIGRTMIN++1", None),
        ("65", None),
        ("-9", None),
        ("+9", None),
        ("9x", None),
        ("SIG9", None),
        ("SIG", None),
        ("SIGSIGKILL", None),
        ("FOO", None),
        ("", None),
        ("4294967305", None),
    ] {
        assert_eq!(signal(os(text)).ok(), want, "{text:?}");
    }
    let error = signal(os("FOO")).map_err(|e| e.to_string());
    assert_eq!(error, Err("unknown signal \"FOO\"".to_owned()));
}

/// CVE-2026-30892: `-u 1` was taken for user 0.
#[test]
fn users_are_exact_or_refused() {
    let of = |uid, gid| Some(User { uid, gid });
    for (text, want) in [
        ("1", of(1, None)),
        ("0", of(0, None)),
        ("1000:100", of(1000, Some(100))),
        ("0:0", of(0, Some(0))),
        ("4294967294", of(4_294_967_294, None)),
        ("4294967295", None),
        ("4294967296", None),
        ("18446744073709551616", None),
        ("1:", None),
        (":1", None),
        (":", None),
        ("", None),
        ("1:2:3", None),
        ("+1", None),
        ("-1", None),
        ("0x1", None),
        (" 1", None),
        ("1 ", None),
        ("1\n", None),
        ("1:+2", None),
        ("1:-2", None),
        ("root", None),
        ("1a", None),
        ("١", None),
    ] {
        assert_eq!(user(os(text)).ok(), want, "{text:?}");
        if !text.contains(':') {
            assert_eq!(gid(os(text)).ok(), want.map(|user| user.uid), "{text:?}");
        }
    }
}
