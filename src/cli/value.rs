//! Values of flags and operands, read whole or refused: nothing is cut off, rounded or taken for zero.

use std::ffi::OsStr;
use std::time::Duration;

use libcontainer::{Error, Result};

/// Why a value was refused.
type Refused = &'static str;

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &OsStr) -> Option<bool> {
    match text.to_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A decimal number with an optional minus.
pub(crate) fn int(text: &OsStr) -> std::result::Result<i64, Refused> {
    const WANT: Refused = "not a decimal number";
    let text = text.to_str().ok_or(WANT)?;
    decimal(text.strip_prefix('-').unwrap_or(text)).ok_or(WANT)?;
    text.parse().ok().ok_or("out of range")
}

/// A decimal number that is not negative.
pub(crate) fn uint(text: &OsStr) -> std::result::Result<u64, Refused> {
    let digits = text.to_str().and_then(decimal).ok_or("not a decimal number")?;
    digits.parse().ok().ok_or("out of range")
}

/// Returns `text` if it is digits and nothing else: `str::parse` takes a leading plus as well.
fn decimal(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// A size in bytes, as Docker's tools write it: a number, perhaps with a fraction, and one of k, m, g, t, p in
/// either case for powers of 1024, perhaps followed by `b` or `iB`. `-1` is -1, "no limit".
pub(crate) fn bytes(text: &OsStr) -> std::result::Result<i64, Refused> {
    const WANT: Refused = "not a size such as 512, 64m or 1.5g";
    let text = text.to_str().ok_or(WANT)?;
    if text == "-1" {
        return Ok(-1);
    }
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(WANT),
    };
    let size = scaled(number, 1_u128 << shift).ok_or(WANT)?;
    i64::try_from(size).ok().ok_or("out of range")
}

/// `number`, which may have a fraction of up to 15 digits, times `unit`, rounded down.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, fraction) = (decimal(whole)?, decimal(fraction)?);
    if whole.len() > 20 || fraction.len() > 15 {
        return None;
    }
    let part = fraction.parse::<u128>().ok()? * unit
        / 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole.parse::<u128>().ok()?.checked_mul(unit)?.checked_add(part)
}

/// A duration in Go's form (`time.ParseDuration`), not negative: `5s`, `1m30s`, `1.5h`, `250ms`.
pub(crate) fn duration(text: &OsStr) -> std::result::Result<Duration, Refused> {
    const WANT: Refused = "not a duration such as 5s, 250ms or 1m30s";
    let mut rest = text.to_str().ok_or(WANT)?;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or(WANT)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(WANT),
        };
        nanos = scaled(number, unit).and_then(|part| nanos.checked_add(part)).ok_or(WANT)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(WANT);
    }
    let nanos = u64::try_from(nanos).ok().ok_or("out of range")?;
    Ok(Duration::from_nanos(nanos))
}

/// Signals and their numbers (signal(7), the numbers that all architectures skep runs on share).
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first realtime signal as glibc and every engine counts them; the kernel's first two are glibc's own.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// A signal by number or name: `9`, `KILL`, `SIGKILL`, `sigkill`, `SIGRTMIN+3`.
///
/// # Errors
/// A number outside 0 to 64, or no such name.
pub(crate) fn signal(text: &OsStr) -> Result<i32> {
    let number = text.to_str().and_then(|name| match decimal(name) {
        Some(digits) => digits.parse().ok(),
        None => signal_name(&name.to_ascii_uppercase()),
    });
    number
        .filter(|number| (0..=SIGRTMAX).contains(number))
        .ok_or_else(|| Error::config(format!("unknown signal {:?}", text.display().to_string())))
}

fn signal_name(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(&(_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Some(number);
    }
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        _ => text.strip_prefix(sign).and_then(decimal)?.parse::<i32>().ok(),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(plus), _) => SIGRTMIN.checked_add(offset(plus, '+')?)?,
        (_, Some(minus)) => SIGRTMAX.checked_sub(offset(minus, '-')?)?,
        _ => return None,
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

/// A user and perhaps a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    /// The user id.
    pub(crate) uid: u32,
    /// The group id, if one was given.
    pub(crate) gid: Option<u32>,
}

/// `UID[:GID]`. CVE-2026-30892: a value that is not understood to its last byte must never become user 0.
///
/// # Errors
/// Anything but one or two decimal ids.
pub(crate) fn user(text: &OsStr) -> Result<User> {
    let read = |text: &str| match text.split_once(':') {
        Some((uid, gid)) => Some(User { uid: id(uid)?, gid: Some(id(gid)?) }),
        None => Some(User { uid: id(text)?, gid: None }),
    };
    text.to_str().and_then(read).ok_or_else(|| {
        let text = text.display().to_string();
        Error::config(format!("invalid value {text:?} for flag -user"))
            .hint("UID or UID:GID is needed, by number; names are not looked up in the container")
    })
}

/// A group id, by number.
///
/// # Errors
/// Anything but a decimal id.
pub(crate) fn gid(text: &OsStr) -> Result<u32> {
    text.to_str().and_then(id).ok_or_else(|| {
        let text = text.display().to_string();
        Error::config(format!("invalid value {text:?} for flag -additional-gids"))
            .hint("a group id is needed, by number")
    })
}

/// A decimal user or group id; (uid_t)-1 means "no change" to setuid(2) and chown(2), so it is none.
fn id(text: &str) -> Option<u32> {
    decimal(text)?.parse().ok().filter(|&id| id != u32::MAX)
}
