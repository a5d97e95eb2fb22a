//! When to try again, and after how long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often, and how patiently, a request is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Attempts altogether; at least one is made.
    pub attempts: u32,
    /// The pause after the first failure; each further one doubles it.
    pub base: Duration,
    /// The longest pause, also of those that `Retry-After` asks for.
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The pause after failure number `failure` (from 0): exponential, between a half of it and all of it, so that
    /// those who failed together do not come back together. What the server asked for counts when it is longer.
    pub(super) fn pause(&self, failure: u32, asked: Option<Duration>) -> Duration {
        let full = self
            .base
            .saturating_mul(1u32.checked_shl(failure.min(16)).unwrap_or(u32::MAX))
            .min(self.cap);
        let own = full / 2 + full.mul_f64(jitter() / 2.0);
        asked.unwrap_or_default().min(self.cap).max(own)
    }
}

/// Between 0 and 1: the clock's lowest digits are random enough to spread clients.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.subsec_nanos());
    f64::from(nanos.wrapping_mul(2_654_435_761) >> 12) / f64::from(1u32 << 20)
}

/// Whether a status says "later", not "no".
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=599)
}

/// `Retry-After`: seconds, or a date in any of the three forms of RFC 9110 §5.6.7. Past dates are no pause.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(date.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and
/// `Sun Nov  6 08:49:37 1994`.
pub(super) fn http_date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|w| !w.is_empty()).collect();
    let (day, month, year, clock) = match words.as_slice() {
        [_, day, month, year, clock, "GMT" | "UTC"] => (day, month, year, clock),
        [_, month, day, clock, year] => (day, month, year, clock),
        _ => return None,
    };
    let number = |text: &str, digits: usize| {
        (text.len() <= digits && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u64>().ok())
            .flatten()
    };
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month))? as u64 + 1;
    let day = number(day, 2).filter(|d| (1..=31).contains(d))?;
    let year = match number(year, 4)? {
        year if year < 70 => year + 2000,
        year if year < 100 => year + 1900,
        year if year >= 1970 => year,
        _ => return None,
    };
    let mut clock = clock.split(':').map(|part| number(part, 2));
    let (Some(hour), Some(minute), Some(second), None) =
        (clock.next()?, clock.next()?, clock.next()?, clock.next())
    else {
        return None;
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970, counting years from March so that the leap day comes last.
    let (shifted_year, shifted_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = shifted_year * 365 + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (shifted_month * 153 + 2) / 5
        + day
        - 1;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(http_date(date), Some(784_111_777), "{date}");
        }
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in [
            "",
            "soon",
            "Sun, 06 Nov 1994",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 99:49:37 GMT",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let after = |text| retry_after(text, now).map(|d| d.as_secs());
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(after("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(after("-1"), None);
        assert_eq!(after("1.5"), None);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let retry =
            Retry { attempts: 5, base: Duration::from_secs(1), cap: Duration::from_secs(60) };
        for failure in 0..40 {
            let full = Duration::from_secs(1 << failure.min(6)).min(Duration::from_secs(60));
            let pause = retry.pause(failure, None);
            assert!(pause >= full / 2 && pause <= full, "{failure}: {pause:?}");
        }
        assert_eq!(retry.pause(0, Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(retry.pause(0, Some(Duration::from_secs(u64::MAX))).as_secs(), 60);
    }

    #[test]
    fn what_is_worth_another_attempt() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 501] {
            assert!(!is_transient(status), "{status}");
        }
    }
}
