//! The query of a request: names without regard to case, each pair decoded once.

use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorCode};

/// The name of the parameter that says where a page begins.
pub(crate) const SKIP_TOKEN: &str = "$skiptoken";

/// A parsed query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses a raw query; `+` is a blank, as forms write it.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue` where a pair is not UTF-8 or holds control characters.
    pub(crate) fn parse(raw: &str) -> Result<Query, Error> {
        let mut pairs = Vec::new();
        for piece in raw.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            pairs.push((decode(name)?.to_ascii_lowercase(), decode(value)?));
        }
        Ok(Query { pairs })
    }

    /// The value of a parameter whose name is given in lower case; the first, where it is repeated.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number between two bounds.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue` where it is none, or beyond its bounds.
    pub(crate) fn number(&self, name: &str, low: u32, high: u32, default: u32) -> Result<u32, Error> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse::<u32>() {
            Ok(number) if (low..=high).contains(&number) && text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
            _ => Err(invalid(name, format!("The query parameter '{name}' must be a whole number from {low} to {high}."))),
        }
    }
}

/// All pairs of a form, names as they are; the last of a repeated name counts.
///
/// # Errors
/// As of [`Query::parse`].
pub(crate) fn parse_form(raw: &str) -> Result<std::collections::BTreeMap<String, String>, Error> {
    raw.split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// A raw query without the parameter that says where a page begins, to be continued by the next page's.
pub(crate) fn without_skip_token(raw: &str) -> String {
    let keeps = |piece: &&str| {
        let name = piece.split('=').next().unwrap_or_default();
        !piece.is_empty() && !decode(name).is_ok_and(|name| name.eq_ignore_ascii_case(SKIP_TOKEN))
    };
    raw.split('&').filter(keeps).collect::<Vec<_>>().join("&")
}

/// A refusal of a query parameter.
pub(crate) fn invalid(name: &str, message: String) -> Error {
    Error::new(ErrorCode::InvalidQueryParameterValue, message).with_target(name)
}

fn decode(text: &str) -> Result<String, Error> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok().filter(|text| !text.chars().any(|c| c == '\0'));
    decoded
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| Error::new(ErrorCode::InvalidQueryParameterValue, "The query holds a value that is not UTF-8 text."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_without_case() {
        let query = Query::parse("API-Version=2018-05-01&maxResults=7&empty&d=a%2Fb+c").expect("parses");
        assert_eq!(query.get("api-version"), Some("2018-05-01"));
        assert_eq!(query.number("maxresults", 1, 1000, 1000).ok(), Some(7));
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("d"), Some("a/b c"));
        assert!(Query::parse("a=%ff").is_err());
    }

    #[test]
    fn numbers_have_bounds() {
        for text in ["0", "1001", "-1", "+7", "x", "", "1e3", "99999999999999999999"] {
            let query = Query::parse(&format!("maxresults={}", text.replace('+', "%2B"))).expect("parses");
            assert!(query.number("maxresults", 1, 1000, 1000).is_err(), "{text}");
        }
    }

    #[test]
    fn the_next_page_keeps_all_else() {
        assert_eq!(without_skip_token("a=1&%24SkipToken=x&b=%20"), "a=1&b=%20");
        assert_eq!(without_skip_token("$skiptoken=x"), "");
    }
}
