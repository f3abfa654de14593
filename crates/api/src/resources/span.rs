//! Lengths of time as resources and flags write them: `15m`, `1h30m`, `24h`, `90d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A positive length of time in whole seconds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span(Duration);

impl Span {
    /// As a `Duration`.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Span {
    /// The shortest form that reads back to the same length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        for (unit, seconds) in UNITS {
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = SpanError;

    /// One or more `<whole number><unit>` with units d, h, m, s, from large to small, each at most
    /// once; up to 100 years in all.
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text;
        let mut total: u64 = 0;
        for (unit, seconds) in UNITS {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let Some(after) = after.strip_prefix(unit) else { continue };
            let number: u64 = number.parse().map_err(|_| SpanError)?;
            total = number
                .checked_mul(seconds)
                .and_then(|part| total.checked_add(part))
                .ok_or(SpanError)?;
            rest = after;
        }
        if !rest.is_empty() || total == 0 || total > LONGEST {
            return Err(SpanError);
        }
        Ok(Self(Duration::from_secs(total)))
    }
}

/// The text is not a length of time.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a length of time such as `30s`, `15m`, `1h30m`, `24h` or `90d`")]
pub struct SpanError;

/// Unit letters and their seconds, from large to small.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// 100 years of 365 days, in seconds.
const LONGEST: u64 = 100 * 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::{Span, SpanError};

    #[test]
    fn spans_read_and_write() {
        for (text, seconds, shown) in [
            ("15m", 900, "15m"),
            ("90m", 5400, "1h30m"),
            ("1h30m", 5400, "1h30m"),
            ("24h", 86_400, "1d"),
            ("90d", 90 * 86_400, "90d"),
            ("30s", 30, "30s"),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.duration().as_secs(), seconds, "{text}");
            assert_eq!(span.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in
            ["", "0s", "15", "m", "-5m", "1.5h", "5m1h", "5 m", "99999999999999999999d", "101y"]
        {
            assert_eq!(text.parse::<Span>(), Err(SpanError), "{text}");
        }
    }
}
