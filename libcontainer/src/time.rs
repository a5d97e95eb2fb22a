//! Points in time as RFC 3339 writes them, in UTC, without a calendar library.

use std::fmt::Write as _;
use std::time::Duration;

use crate::sys::process;

/// Returns the time since the epoch; zero on a clock set before it.
pub fn now() -> Duration {
    process::realtime()
}

/// Writes `since_epoch` to the second: `2026-09-01T10:00:00Z`.
pub fn rfc3339(since_epoch: Duration) -> String {
    let mut text = seconds(since_epoch.as_secs());
    text.push('Z');
    text
}

/// Writes `since_epoch` to the nanosecond, without trailing zeros, as Go's `RFC3339Nano` does.
pub fn rfc3339_nano(since_epoch: Duration) -> String {
    let mut text = seconds(since_epoch.as_secs());
    if since_epoch.subsec_nanos() != 0 {
        let _infallible = write!(text, ".{:09}", since_epoch.subsec_nanos());
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
    text
}

fn seconds(since_epoch: u64) -> String {
    let (days, second) = (since_epoch / 86_400, since_epoch % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar. The year is taken to begin in
/// March, so that the leap day is its last and the months before a date have lengths that repeat every five.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970_FROM_MARCH_0000: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + DAYS_TO_1970_FROM_MARCH_0000;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        // Every day of 1970 to 2400 by the rule of the calendar itself.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..157_000 {
            assert_eq!(civil(days), (year, month, day), "day {days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn times_are_written_as_go_reads_them() {
        for (seconds, nanos, want, want_nano) in [
            (0, 0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            (951_782_399, 1, "2000-02-28T23:59:59Z", "2000-02-28T23:59:59.000000001Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.5Z"),
            (1_788_256_800, 123_456_789, "2026-09-01T10:00:00Z", "2026-09-01T10:00:00.123456789Z"),
            (253_402_300_799, 10, "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.00000001Z"),
        ] {
            let time = Duration::new(seconds, nanos);
            assert_eq!(rfc3339(time), want);
            assert_eq!(rfc3339_nano(time), want_nano);
        }
    }
}
