//! The one canonicaliser of request paths: raw bytes in, decoded segments out, before anything is routed, authorised or logged.
//!
//! Each segment is percent-decoded exactly once. Empty segments are left out, as clients that join a base, a parent path and a type write
//! `//` where one of them is empty. What could be read in two ways is refused: `.`, `..`, decoded `/`, `\` and `%`, control characters,
//! and bytes that are not UTF-8. Refuses to know routes.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Longest path that is looked at. Unit: bytes.
pub(crate) const MAX_PATH: usize = 8 * 1024;

/// Why a path has no single reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("must begin with '/'")]
    NotAbsolute,
    #[error("is longer than 8192 bytes")]
    TooLong,
    #[error("has a segment '.' or '..'")]
    DotSegment,
    #[error("has an escape that is not '%' and two hexadecimal digits")]
    BadEscape,
    #[error("has a segment with an escaped '/', '\\' or '%', or a control character")]
    ForbiddenCharacter,
    #[error("has a segment that is not UTF-8")]
    NotUtf8,
}

/// The decoded segments of a raw path; none for `/`.
///
/// # Errors
/// [`PathError`] where the path has no single reading.
pub(crate) fn segments(raw: &str) -> Result<Vec<String>, PathError> {
    if raw.len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    let rest = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let rest = unescape_scope(rest);
    rest.split('/').filter(|raw| !raw.is_empty()).map(segment).collect()
}

/// Clients that take a whole scope for one name escape its slashes: `/%2Fsubscriptions%2F{id}/providers/...`. A path that begins so
/// is read as one that does not; an escaped slash anywhere else stays what it is, which is refused.
fn unescape_scope(rest: &str) -> Cow<'_, str> {
    let (first, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let folded = first.to_ascii_lowercase();
    if !(folded.starts_with("%2fsubscriptions%2f") || folded.starts_with("subscriptions%2f")) {
        return Cow::Borrowed(rest);
    }
    Cow::Owned(format!("{}{tail}", first.replace("%2F", "/").replace("%2f", "/")))
}

fn segment(raw: &str) -> Result<String, PathError> {
    let text = if raw.contains('%') {
        check_escapes(raw)?;
        percent_decode_str(raw).decode_utf8().map_err(|_| PathError::NotUtf8)?.into_owned()
    } else {
        raw.to_owned()
    };
    if text == "." || text == ".." {
        return Err(PathError::DotSegment);
    }
    if text.chars().any(|c| matches!(c, '/' | '\\' | '%') || c.is_control()) {
        return Err(PathError::ForbiddenCharacter);
    }
    Ok(text)
}

/// The decoder keeps a broken escape as it stands, which is a second reading: `%zz` is refused here.
fn check_escapes(raw: &str) -> Result<(), PathError> {
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let is_hex = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_hexdigit());
        if byte == b'%' && !(is_hex(bytes.next()) && is_hex(bytes.next())) {
            return Err(PathError::BadEscape);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_each_segment_once() {
        assert_eq!(segments("/"), Ok(vec![]));
        assert_eq!(segments("/a/%62c"), Ok(vec!["a".into(), "bc".into()]));
        assert_eq!(segments("/rg%20%C3%A4"), Ok(vec!["rg ä".into()]));
    }

    #[test]
    fn empty_segments_are_left_out() {
        for raw in ["//a/b", "/a//b", "/a/b/", "///a///b///"] {
            assert_eq!(segments(raw), Ok(vec!["a".into(), "b".into()]), "{raw}");
        }
        assert_eq!(segments("//"), Ok(vec![]));
    }

    #[test]
    fn a_scope_may_be_escaped_as_a_whole() {
        let wanted = segments("/subscriptions/s/resourceGroups/g/providers/p/locks/l");
        for raw in [
            "/%2Fsubscriptions%2Fs%2FresourceGroups%2Fg/providers/p/locks/l",
            "/subscriptions%2fs%2fresourceGroups%2fg/providers/p/locks/l",
        ] {
            assert_eq!(segments(raw), wanted, "{raw}");
        }
        for raw in [
            "/subscriptions/s%2Fg",
            "/tenants%2Fs",
            "/x/%2Fsubscriptions%2Fs",
            "/%2Fsubscriptions%2Fs%2F..",
            "/%252Fsubscriptions%252Fs",
        ] {
            assert!(segments(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn spellings_with_two_readings_are_refused() {
        let table = [
            ("a", PathError::NotAbsolute),
            ("", PathError::NotAbsolute),
            ("/a/./b", PathError::DotSegment),
            ("/a/../b", PathError::DotSegment),
            ("/a/%2e%2E/b", PathError::DotSegment),
            ("/a/%2e/b", PathError::DotSegment),
            ("/a%2Fb", PathError::ForbiddenCharacter),
            ("/a%2fb", PathError::ForbiddenCharacter),
            ("/a%5Cb", PathError::ForbiddenCharacter),
            ("/a\\b", PathError::ForbiddenCharacter),
            ("/a%252Fb", PathError::ForbiddenCharacter),
            ("/a%25b", PathError::ForbiddenCharacter),
            ("/a%00", PathError::ForbiddenCharacter),
            ("/a%0d%0aX:1", PathError::ForbiddenCharacter),
            ("/a%7f", PathError::ForbiddenCharacter),
            ("/a%C2%85", PathError::ForbiddenCharacter),
            ("/a%ff", PathError::NotUtf8),
            ("/a%c0%af", PathError::NotUtf8),
            ("/a%zz", PathError::BadEscape),
            ("/a%", PathError::BadEscape),
            ("/a%4", PathError::BadEscape),
        ];
        for (raw, wanted) in table {
            assert_eq!(segments(raw), Err(wanted), "{raw}");
        }
        assert_eq!(segments(&format!("/{}", "a".repeat(MAX_PATH))), Err(PathError::TooLong));
    }

    proptest! {
        /// Whatever is accepted has one reading: encoded again and read again it is the same.
        #[test]
        fn an_accepted_path_reads_the_same_again(raw in "(/[ -~]{0,12}){1,6}") {
            if let Ok(read) = segments(&raw) {
                let again: String =
                    read.iter().map(|s| format!("/{}", utf8_percent_encode(s, NON_ALPHANUMERIC))).collect();
                if read.is_empty() {
                    prop_assert!(raw.bytes().all(|b| b == b'/'));
                } else {
                    prop_assert_eq!(segments(&again), Ok(read.clone()));
                }
                for segment in &read {
                    prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                    let harmless = !segment.contains(['/', '\\', '%']) && !segment.chars().any(char::is_control);
                    prop_assert!(harmless);
                }
            }
        }

        /// No input panics, and a refusal never depends on the case of an escape.
        #[test]
        fn the_case_of_escapes_does_not_matter(bytes in proptest::collection::vec(any::<u8>(), 1..16)) {
            let upper: String = bytes.iter().map(|b| format!("%{b:02X}")).collect();
            let lower: String = bytes.iter().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(segments(&format!("/{upper}")), segments(&format!("/{lower}")));
        }
    }
}
