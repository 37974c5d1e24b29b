//! Values of settings that have a unit.

use std::fmt;
use std::time::Duration;

/// A time as settings write it: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// An amount of bytes as settings write it: a whole number and `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// Units of time in milliseconds, the longest first.
const SPANS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of bytes, the largest first.
const AMOUNTS: &[(&str, u64)] = &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Span {
    /// Reads `90s`.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        parse(text, SPANS).map(|milliseconds| Span(Duration::from_millis(milliseconds)))
    }
}

impl Bytes {
    /// Reads `64MiB`.
    pub(super) fn parse(text: &str) -> Option<Bytes> {
        parse(text, AMOUNTS).map(Bytes)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), SPANS)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0, AMOUNTS)
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn print(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| value.is_multiple_of(*factor) && value >= *factor).or(units.last()) {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => write!(f, "{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_units_are_read_and_printed() {
        for text in ["0ms", "250ms", "90s", "5m", "36h", "2d"] {
            assert_eq!(Span::parse(text).map(|span| span.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Span::parse("60s").map(|span| span.to_string()).as_deref(), Some("1m"));
        assert_eq!(Bytes::parse("64 MiB"), Some(Bytes(64 << 20)));
        assert_eq!(Bytes(64 << 20).to_string(), "64MiB");
        for text in ["", "5", "s", "-1s", "1.5s", "1y", "99999999999999999999s", "9999999999999999d"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
