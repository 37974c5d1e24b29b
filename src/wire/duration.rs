//! Durations on the wire: ISO 8601 both ways, and on input also the .NET form that the published contract uses for its default.

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Neither form.
    #[error("is not a duration; write it as ISO 8601, for example P1D or PT2H30M")]
    Malformed,
    /// Years and months have no fixed length.
    #[error("has years or months, whose length varies; use days, hours, minutes and seconds")]
    Calendar,
    /// Too long to count.
    #[error("is too long")]
    Overflow,
}

/// Whole seconds of a duration; a fraction counts as a whole second.
///
/// # Errors
/// [`DurationError`].
pub fn parse_seconds(text: &str) -> Result<u64, DurationError> {
    if text.len() > 64 || !text.is_ascii() {
        return Err(DurationError::Malformed);
    }
    match text.strip_prefix('P') {
        Some(rest) => parse_iso(rest),
        None => parse_dotnet(text),
    }
}

/// `P[nW][nD][T[nH][nM][n[.n]S]]`, each unit at most once and in this order.
fn parse_iso(rest: &str) -> Result<u64, DurationError> {
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return Err(DurationError::Malformed),
        None => (rest, ""),
    };
    if date.contains(['Y', 'M']) {
        return Err(DurationError::Calendar);
    }
    if date.is_empty() && time.is_empty() {
        return Err(DurationError::Malformed);
    }
    let days = parse_units(date, &[('W', 7 * 86_400), ('D', 86_400)])?;
    let clock = parse_units(time, &[('H', 3_600), ('M', 60), ('S', 1)])?;
    days.checked_add(clock).ok_or(DurationError::Overflow)
}

fn parse_units(mut text: &str, units: &[(char, u64)]) -> Result<u64, DurationError> {
    let mut total = 0u64;
    for &(letter, length) in units {
        let Some((number, rest)) = text.split_once(letter) else { continue };
        let (whole, fraction) = match number.split_once(['.', ',']) {
            // Only the smallest unit of all may have a fraction.
            Some((whole, fraction)) if letter == 'S' => (whole, Some(fraction)),
            Some(_) => return Err(DurationError::Malformed),
            None => (number, None),
        };
        let amount = digits(whole)?.checked_add(round_up(fraction)?).ok_or(DurationError::Overflow)?;
        total = amount.checked_mul(length).and_then(|part| total.checked_add(part)).ok_or(DurationError::Overflow)?;
        text = rest;
    }
    if text.is_empty() { Ok(total) } else { Err(DurationError::Malformed) }
}

/// `[d.]hh:mm:ss[.fffffff]`.
fn parse_dotnet(text: &str) -> Result<u64, DurationError> {
    let (clock, fraction) = match text.rsplit_once('.') {
        Some((clock, fraction)) if clock.contains(':') => (clock, Some(fraction)),
        _ => (text, None),
    };
    let (days, clock) = match clock.split_once('.') {
        Some((days, clock)) => (digits(days)?, clock),
        None => (0, clock),
    };
    let mut parts = clock.split(':');
    let (Some(hours), Some(minutes), Some(seconds), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(DurationError::Malformed);
    };
    let (hours, minutes, seconds) = (digits(hours)?, digits(minutes)?, digits(seconds)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return Err(DurationError::Malformed);
    }
    let rest = hours * 3_600 + minutes * 60 + seconds + round_up(fraction)?;
    days.checked_mul(86_400).and_then(|days| days.checked_add(rest)).ok_or(DurationError::Overflow)
}

fn digits(text: &str) -> Result<u64, DurationError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::Malformed);
    }
    text.parse().map_err(|_| DurationError::Overflow)
}

fn round_up(fraction: Option<&str>) -> Result<u64, DurationError> {
    match fraction {
        None => Ok(0),
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(u64::from(text.bytes().any(|b| b != b'0')))
        }
        Some(_) => Err(DurationError::Malformed),
    }
}

/// ISO 8601 with days, hours, minutes and seconds, zero parts left out: `P7D`, `P1DT2H`, `PT1H30M`, `PT0S`.
pub fn write_seconds(seconds: u64) -> String {
    let parts = [(seconds / 86_400, 'D'), (seconds % 86_400 / 3_600, 'H'), (seconds % 3_600 / 60, 'M'), (seconds % 60, 'S')];
    if seconds == 0 {
        return "PT0S".to_owned();
    }
    let mut text = String::from("P");
    for (amount, letter) in parts {
        if amount == 0 {
            continue;
        }
        if letter != 'D' && !text.contains('T') {
            text.push('T');
        }
        text.push_str(&amount.to_string());
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let table = [
            ("P7D", 604_800),
            ("7.00:00:00", 604_800),
            ("P1W", 604_800),
            ("P1DT2H", 93_600),
            ("PT1H30M", 5_400),
            ("PT90S", 90),
            ("PT0.5S", 1),
            ("PT0S", 0),
            ("01:30:00", 5_400),
            ("00:00:01.5000000", 2),
            ("1.02:03:04.0000000", 93_784),
        ];
        for (text, seconds) in table {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "P", "PT", "P1", "7", "P-1D", "-P1D", "PT1S2H", "P1.5D", "P1DT", "24:00:00", "1:2", "1:2:3:4", "P1Dx", "P٣D"]
        {
            assert_eq!(parse_seconds(text), Err(DurationError::Malformed), "{text}");
        }
        assert_eq!(parse_seconds("P1Y"), Err(DurationError::Calendar));
        assert_eq!(parse_seconds("P1M"), Err(DurationError::Calendar));
        assert_eq!(parse_seconds("P99999999999999999999D"), Err(DurationError::Overflow));
        assert_eq!(parse_seconds("P999999999999999999D"), Err(DurationError::Overflow));
    }

    #[test]
    fn the_default_is_written_as_recorded() {
        assert_eq!(write_seconds(604_800), "P7D");
        assert_eq!(write_seconds(93_600), "P1DT2H");
        assert_eq!(write_seconds(90), "PT1M30S");
        assert_eq!(write_seconds(0), "PT0S");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(seconds in 0u64..100_000_000_000) {
            prop_assert_eq!(parse_seconds(&write_seconds(seconds)), Ok(seconds));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = parse_seconds(&text);
        }
    }
}
