//! Headers that every answer carries, whatever it says.
//!
//! Source: recorded 2018-05-01 answers and the platform's contract.

use axum::http::header::{
    CACHE_CONTROL, EXPIRES, HeaderMap, HeaderName, HeaderValue, PRAGMA, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::http::Scheme;
use crate::wire::times::compact;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const PROVIDER_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ROUTING_ID: HeaderName = HeaderName::from_static("x-ms-routing-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const RETURN_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-return-client-request-id");

/// The ids of one request.
#[derive(Clone, Debug)]
pub(crate) struct RequestIds {
    /// Unique to this request.
    pub(crate) request: Uuid,
    /// Groups related requests: as the caller gave it, else the request's own.
    pub(crate) correlation: String,
    /// The caller's own id, for the log.
    pub(crate) client: Option<String>,
    /// Its span, as a W3C traceparent, where it is told.
    pub(crate) trace: Option<String>,
    echoes_client: bool,
}

impl RequestIds {
    /// The ids of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> RequestIds {
        let request = Uuid::new_v4();
        RequestIds {
            request,
            correlation: harmless(headers, &CORRELATION_ID).unwrap_or_else(|| request.to_string()),
            client: harmless(headers, &CLIENT_REQUEST_ID),
            trace: None,
            echoes_client: headers
                .get(&RETURN_CLIENT_REQUEST_ID)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
        }
    }

    /// Puts the ids and the constant headers into an answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap, now: Timestamp) {
        let mut put = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        let request = self.request.to_string();
        put(REQUEST_ID, &request);
        put(PROVIDER_REQUEST_ID, &Uuid::new_v4().to_string());
        put(CORRELATION_ID, &self.correlation);
        put(ROUTING_ID, &format!("LOCAL:{}:{request}", compact(now)));
        if let Some(client) = self.client.as_deref().filter(|_| self.echoes_client) {
            put(CLIENT_REQUEST_ID, client);
        }
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert(EXPIRES, HeaderValue::from_static("-1"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}

/// A caller's id that may be echoed: 1 to 64 letters, digits and `-`. Anything else is dropped.
fn harmless(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| text.to_owned())
}

/// Tells browsers to stay with https, where that does no harm: not for a loopback name or an address, as it would bind every other
/// port of that host too.
pub(crate) fn write_transport_security(headers: &mut HeaderMap, scheme: Scheme, host: &str) {
    let is_public_name = host != "localhost" && !host.ends_with(".localhost") && host.parse::<std::net::IpAddr>().is_err();
    if scheme == Scheme::Https && is_public_name {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    }
}

/// Tells how many requests of a kind a caller may still send in a row, in its subscription or outside of all.
///
/// Source: recorded headers; POST lists count as reads.
pub(crate) fn write_remaining(headers: &mut HeaderMap, kind: RequestKind, in_subscription: bool, count: u32) {
    let name = match (in_subscription, kind) {
        (true, RequestKind::Read) => "x-ms-ratelimit-remaining-subscription-reads",
        (true, RequestKind::Write) => "x-ms-ratelimit-remaining-subscription-writes",
        (true, RequestKind::Delete) => "x-ms-ratelimit-remaining-subscription-deletes",
        (false, RequestKind::Read) => "x-ms-ratelimit-remaining-tenant-reads",
        (false, RequestKind::Write | RequestKind::Delete) => "x-ms-ratelimit-remaining-tenant-writes",
    };
    headers.insert(HeaderName::from_static(name), HeaderValue::from(count));
}

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RequestKind {
    /// It changes nothing.
    Read,
    /// It makes, changes or acts.
    Write,
    /// It deletes.
    Delete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_echoed_only_where_they_are_harmless() {
        let mut headers = HeaderMap::new();
        headers.insert(&CORRELATION_ID, HeaderValue::from_static("abc-123"));
        headers.insert(&CLIENT_REQUEST_ID, HeaderValue::from_static("a b"));
        headers.insert(&RETURN_CLIENT_REQUEST_ID, HeaderValue::from_static("True"));
        let ids = RequestIds::of(&headers);
        assert_eq!(ids.correlation, "abc-123");
        assert_eq!(ids.client, None);
        headers.insert(&CORRELATION_ID, HeaderValue::from_str(&"a".repeat(65)).expect("a header"));
        headers.insert(&CLIENT_REQUEST_ID, HeaderValue::from_static("0f"));
        let ids = RequestIds::of(&headers);
        assert_eq!(ids.correlation, ids.request.to_string());
        let mut answer = HeaderMap::new();
        ids.write(&mut answer, time::OffsetDateTime::UNIX_EPOCH);
        assert_eq!(answer.get(&CLIENT_REQUEST_ID).map(HeaderValue::as_bytes), Some(b"0f".as_slice()));
        assert_eq!(
            answer.get(&ROUTING_ID).and_then(|v| v.to_str().ok()),
            Some(format!("LOCAL:19700101T000000Z:{}", ids.request).as_str())
        );
    }

    #[test]
    fn browsers_are_bound_to_https_only_where_it_does_no_harm() {
        for (scheme, host, bound) in [
            (Scheme::Https, "batchyard.example.org", true),
            (Scheme::Http, "batchyard.example.org", false),
            (Scheme::Https, "localhost", false),
            (Scheme::Https, "127.0.0.1", false),
            (Scheme::Https, "::1", false),
        ] {
            let mut headers = HeaderMap::new();
            write_transport_security(&mut headers, scheme, host);
            assert_eq!(headers.contains_key(STRICT_TRANSPORT_SECURITY), bound, "{host}");
        }
    }
}
