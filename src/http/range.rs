//! The one range that a download may ask for.

use std::ops::Range;

/// What a `Range` header asks for of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no header, or one in another unit than bytes.
    All,
    /// These bytes, at least one, within the file.
    Part(Range<u64>),
    /// Nothing that there is: beyond the end, of an empty file, several ranges, or not a range.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes.
///
/// Clients that follow a growing file count every byte of a successful answer: whatever is not exactly one range within the file
/// must fail, or they print the file again and again.
pub(crate) fn parse(header: Option<&[u8]>, size: u64) -> Wanted {
    let Some(header) = header else { return Wanted::All };
    let Ok(text) = std::str::from_utf8(header) else { return Wanted::Unsatisfiable };
    let Some((unit, set)) = text.split_once('=') else { return Wanted::Unsatisfiable };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::All;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Unsatisfiable };
    let range = match (number(first), number(last)) {
        (Number::Absent, Number::Is(count)) => size.saturating_sub(count)..size,
        (Number::Is(first), Number::Absent) => first..size,
        (Number::Is(first), Number::Is(last)) if first <= last => first..size.min(last.saturating_add(1)),
        _ => return Wanted::Unsatisfiable,
    };
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

enum Number {
    Absent,
    Is(u64),
    Wrong,
}

/// A number too large to count is beyond every end.
fn number(text: &str) -> Number {
    match text {
        "" => Number::Absent,
        _ if text.bytes().all(|b| b.is_ascii_digit()) => Number::Is(text.parse().unwrap_or(u64::MAX)),
        _ => Number::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_within_the_file_or_none() {
        let table = [
            (None, 3, Wanted::All),
            (Some("bytes=0-"), 3, Wanted::Part(0..3)),
            (Some("bytes=1-1"), 3, Wanted::Part(1..2)),
            (Some("bytes=1-99"), 3, Wanted::Part(1..3)),
            (Some("Bytes=0-0"), 3, Wanted::Part(0..1)),
            (Some("bytes=-2"), 3, Wanted::Part(1..3)),
            (Some("bytes=-9"), 3, Wanted::Part(0..3)),
            (Some("bytes=0-18446744073709551615"), 3, Wanted::Part(0..3)),
            (Some("bytes=0-99999999999999999999999"), 3, Wanted::Part(0..3)),
            (Some("lines=0-1"), 3, Wanted::All),
            (Some("bytes=3-"), 3, Wanted::Unsatisfiable),
            (Some("bytes=99999999999999999999999-"), 3, Wanted::Unsatisfiable),
            (Some("bytes=-0"), 3, Wanted::Unsatisfiable),
            (Some("bytes=2-1"), 3, Wanted::Unsatisfiable),
            (Some("bytes=0-0,2-2"), 3, Wanted::Unsatisfiable),
            (Some("bytes=-"), 3, Wanted::Unsatisfiable),
            (Some("bytes=x-"), 3, Wanted::Unsatisfiable),
            (Some("bytes=+0-"), 3, Wanted::Unsatisfiable),
            (Some("bytes"), 3, Wanted::Unsatisfiable),
            (Some("bytes=0-"), 0, Wanted::Unsatisfiable),
            (Some("bytes=-1"), 0, Wanted::Unsatisfiable),
            (None, 0, Wanted::All),
        ];
        for (header, size, wanted) in table {
            assert_eq!(parse(header.map(str::as_bytes), size), wanted, "{header:?} of {size}");
        }
    }
}
