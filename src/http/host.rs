//! Which names this server answers for, and what a request calls it.
//!
//! URLs in answers are built from the request's host, and clients send their token to them: a strange name is refused before
//! anything is routed. The same check stops a web page that rebinds its own name to this server's address.

use std::collections::BTreeSet;

use axum::http::header::{HOST, HeaderMap};
use axum::http::{HeaderName, Uri};

use crate::error::{Error, ErrorCode};

pub(crate) const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that this server answers for, without ports.
#[derive(Clone, Debug, Default)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// These names and addresses, without regard to case; brackets of IPv6 addresses and ports do not count.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Hosts {
        Hosts(names.into_iter().map(|name| bare(name).to_ascii_lowercase()).collect())
    }

    fn serves(&self, name: &str) -> bool {
        self.0.contains(&name.to_ascii_lowercase())
    }
}

/// The host and port that a request was sent to, as the client wrote it.
///
/// # Errors
/// `BadRequest` where the request names none or a malformed one; `MisdirectedRequest` where it is not served here.
pub(crate) fn requested<'r>(hosts: &Hosts, uri: &'r Uri, headers: &'r HeaderMap) -> Result<&'r str, Error> {
    let bad = || Error::new(ErrorCode::BadRequest, "The request must name one host in the 'Host' header.");
    let mut given = headers.get_all(HOST).iter();
    let authority = match (uri.authority(), given.next(), given.next()) {
        (_, Some(_), Some(_)) | (None, None, None) => return Err(bad()),
        (_, Some(host), None) => host.to_str().map_err(|_| bad())?,
        (Some(authority), None, _) => authority.as_str(),
        (None, None, Some(_)) => return Err(bad()),
    };
    let is_plain = !authority.is_empty()
        && authority.len() <= 300
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'));
    if !is_plain {
        return Err(bad());
    }
    if !hosts.serves(bare(authority)) {
        return Err(Error::new(
            ErrorCode::MisdirectedRequest,
            "This server does not answer for the host name of the request. Use a configured name, or add it to the configuration.",
        ));
    }
    Ok(authority)
}

/// Refuses requests that a web page of another site makes a browser send.
///
/// # Errors
/// `BadRequest`.
pub(crate) fn refuse_cross_site(headers: &HeaderMap) -> Result<(), Error> {
    if headers.get_all(FETCH_SITE).iter().any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site")) {
        return Err(Error::new(ErrorCode::CrossSiteRequest, "Requests that a page of another site makes are not answered."));
    }
    Ok(())
}

/// A host without its port and brackets.
pub(crate) fn bare(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    // More than one colon and no brackets: an IPv6 address without a port.
    match authority.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_configured_names_are_served() {
        let hosts = Hosts::new(["localhost", "127.0.0.1", "[::1]", "Batch.Example.org:443"]);
        let uri = Uri::from_static("/x");
        for (host, served) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:1", true),
            ("[::1]:8080", true),
            ("batch.example.org", true),
            ("evil.example.org", false),
            ("localhost.evil.org", false),
            ("127.0.0.1.nip.io", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            let answer = requested(&hosts, &uri, &headers).map_err(|e| e.code);
            assert_eq!(answer, if served { Ok(host) } else { Err(ErrorCode::MisdirectedRequest) });
        }
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        let hosts = Hosts::new(["localhost"]);
        let relative = Uri::from_static("/x");
        let code = |uri: &Uri, headers: &HeaderMap| requested(&hosts, uri, headers).map(str::to_owned).map_err(|e| e.code);
        let mut headers = HeaderMap::new();
        assert_eq!(code(&relative, &headers), Err(ErrorCode::BadRequest));
        let absolute = Uri::from_static("http://localhost:1/x");
        assert_eq!(code(&absolute, &headers), Ok("localhost:1".into()), "HTTP/2 names it in the authority");
        headers.append(HOST, HeaderValue::from_static("localhost"));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(code(&relative, &headers), Err(ErrorCode::BadRequest));
        headers.insert(HOST, HeaderValue::from_static("localhost/@x"));
        assert_eq!(code(&relative, &headers), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(refuse_cross_site(&headers).is_ok());
        headers.insert(&FETCH_SITE, HeaderValue::from_static("none"));
        assert!(refuse_cross_site(&headers).is_ok());
        headers.insert(&FETCH_SITE, HeaderValue::from_static("Cross-Site"));
        assert!(refuse_cross_site(&headers).is_err());
    }
}
