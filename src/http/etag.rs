//! Entity tags and preconditions.
//!
//! A tag follows the stored entity: it changes with every change by a request and stays while node counts and execution states
//! change, as recorded. Lists, polls and POST answers carry none.

use axum::http::header::{ETAG, HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED};
use sha2::{Digest, Sha256};

use crate::domain::resource::{Envelope, Resource};
use crate::error::{Error, ErrorCode};
use crate::http::respond::header;

/// The tag of a stored resource: `"0x` and 15 hexadecimal digits `"`.
///
/// Source: recorded 2018-05-01 answers.
pub(crate) fn of<K: Resource>(stored: &Envelope<K>) -> String {
    let mut hash = Sha256::new();
    hash.update(stored.uid.0.as_bytes());
    hash.update(stored.generation.to_be_bytes());
    let digits: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02X}")).collect();
    format!("\"0x{}\"", digits.get(..15).unwrap_or_default())
}

/// Puts the tag and the time of the last change into an answer.
///
/// # Errors
/// `InternalServerError` where they are no headers.
pub(crate) fn write<K: Resource>(headers: &mut HeaderMap, stored: &Envelope<K>) -> Result<(), Error> {
    headers.insert(ETAG, header(&of(stored))?);
    headers.insert(LAST_MODIFIED, header(&httpdate::fmt_http_date(stored.updated_at.into()))?);
    Ok(())
}

/// Whether a request sets conditions at all: only then is the resource read beforehand.
pub(crate) fn has_conditions(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH)
}

/// Whether a request wants its resource to be absent.
pub(crate) fn wants_absence(headers: &HeaderMap) -> bool {
    headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == b"*")
}

/// Whether a request is about one version of its resource alone.
pub(crate) fn names_one(headers: &HeaderMap) -> bool {
    headers.get(IF_MATCH).is_some_and(|value| value.as_bytes() != b"*")
}

/// The refusal of a request whose condition does not hold.
pub(crate) fn failed() -> Error {
    Error::new(ErrorCode::PreconditionFailed, "The condition in the request's If-Match or If-None-Match header does not hold.")
}

/// What a verb does where the resource is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// It makes it: conditions on an existing one fail.
    Put,
    /// It says so itself: conditions do not count.
    Other,
}

/// Checks the conditions of a write against the tag of what is there, if anything is.
///
/// Source: the platform's published table of tags and verbs.
///
/// # Errors
/// `PreconditionFailed`.
pub(crate) fn check(headers: &HeaderMap, verb: Verb, present: Option<&str>) -> Result<(), Error> {
    if let Some(wanted) = only(headers, &IF_MATCH)? {
        match present {
            None if verb == Verb::Put => return Err(failed()),
            Some(tag) if wanted != "*" && !same(wanted, tag) => return Err(failed()),
            _ => {}
        }
    }
    if let Some(unwanted) = only(headers, &IF_NONE_MATCH)?
        && let Some(tag) = present
        && (unwanted == "*" || same(unwanted, tag))
    {
        return Err(failed());
    }
    Ok(())
}

/// The one value of a header. A list of tags is not taken for one of them.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().ok().map(str::trim);
            text.map(Some).ok_or_else(|| Error::new(ErrorCode::BadRequest, format!("The header '{name}' is malformed.")))
        }
        _ => Err(Error::new(ErrorCode::BadRequest, format!("The header '{name}' may be given once."))),
    }
}

fn same(given: &str, tag: &str) -> bool {
    given.strip_prefix("W/").unwrap_or(given) == tag
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TAG: &str = "\"0x8D5D6EFBC0AAABA\"";

    fn outcome(name: HeaderName, value: &str, verb: Verb, present: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header"));
        check(&headers, verb, present).is_ok()
    }

    #[test]
    fn the_published_table_holds() {
        let table = [
            (IF_MATCH, "*", Verb::Put, None, false),
            (IF_MATCH, "*", Verb::Put, Some(TAG), true),
            (IF_MATCH, TAG, Verb::Put, None, false),
            (IF_MATCH, TAG, Verb::Put, Some(TAG), true),
            (IF_MATCH, "\"x\"", Verb::Put, Some(TAG), false),
            (IF_NONE_MATCH, "*", Verb::Put, None, true),
            (IF_NONE_MATCH, "*", Verb::Put, Some(TAG), false),
            (IF_MATCH, "*", Verb::Other, None, true),
            (IF_MATCH, "\"x\"", Verb::Other, None, true),
            (IF_MATCH, "*", Verb::Other, Some(TAG), true),
            (IF_MATCH, TAG, Verb::Other, Some(TAG), true),
            (IF_MATCH, "W/\"0x8D5D6EFBC0AAABA\"", Verb::Other, Some(TAG), true),
            (IF_MATCH, "\"x\"", Verb::Other, Some(TAG), false),
        ];
        for (name, value, verb, present, holds) in table {
            assert_eq!(outcome(name.clone(), value, verb, present), holds, "{name}: {value} {verb:?} {present:?}");
        }
        assert!(check(&HeaderMap::new(), Verb::Put, None).is_ok());
    }
}
