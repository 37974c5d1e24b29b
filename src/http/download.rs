//! Following a link to an output file.
//!
//! What a job wrote is hostile: it is sent as an attachment of no type, in a sandbox, and never as a page of this origin. A link
//! dies with its job.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap,
    HeaderValue, LAST_MODIFIED, RANGE, REFERRER_POLICY,
};
use axum::http::{Method, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::job::Job;
use crate::domain::output::OutputPlace;
use crate::domain::resource::Provisioning;
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::range::{self, Wanted};
use crate::http::respond::header;
use crate::http::verbs::is_absence;
use crate::http::{links, respond};
use crate::id::{Kind, ResourceId, SubscriptionId};

/// The body that storage services send with a 416, which clients of theirs may look into.
const INVALID_RANGE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>InvalidRange</Code><Message>The range specified \
                             is invalid for the current size of the resource.</Message></Error>";

/// GET and HEAD of a linked file.
pub(crate) async fn get(call: Call) -> Answer {
    let absent = || Error::new(ErrorCode::NotFound, "The file that the link leads to does not exist any more.");
    let mut arguments = call.arguments.iter().cloned();
    let mut next = || arguments.next().unwrap_or_default();
    let (subscription, group, names, job) = (next(), next(), vec![next(), next(), next()], next());
    let shown = arguments.collect::<Vec<_>>().join("/");
    let linked = links::check(&call.parts.signer, &job, shown, &call.query, call.parts.clock.now())?;

    let subscription = uuid::Uuid::try_parse(&subscription).map(SubscriptionId).map_err(|_| absent())?;
    let id = ResourceId::below_group(subscription, group, Kind::Job, names).map_err(|_| absent())?;
    let hide = |error: Error| if is_absence(error.code) { absent() } else { error };
    let service = &call.parts.service;
    let stored = service.get::<Job>(&id).await.map_err(hide)?;
    if stored.uid != linked.job || stored.provisioning == Provisioning::Deleting {
        return Err(absent());
    }
    let path = linked.path(&stored.spec).ok_or_else(absent)?;
    let place = match linked.attempt {
        Some(attempt) => OutputPlace::Archive { attempt, directory: linked.directory.clone() },
        None => match service.output_place(&id, &linked.directory).await.map_err(hide)? {
            Some(place @ OutputPlace::Share { .. }) => place,
            _ => return Err(absent()),
        },
    };
    let file = service.output.stat(&place, &path).await.map_err(hide)?;

    let (status, range) = match range::parse(call.headers.get(RANGE).map(HeaderValue::as_bytes), file.size) {
        Wanted::All => (StatusCode::OK, 0..file.size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => return unsatisfiable(file.size),
    };
    let length = range.end - range.start;
    let body = if call.route.method == Method::HEAD || length == 0 {
        Body::empty()
    } else {
        Body::from_stream(service.output.read(&place, &path, range.clone()).await.map_err(hide)?)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(LAST_MODIFIED, header(&httpdate::fmt_http_date(file.modified_at.into()))?);
    headers.insert(CONTENT_DISPOSITION, disposition(path.rsplit('/').next().unwrap_or_default())?);
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(CONTENT_RANGE, header(&format!("bytes {}-{}/{}", range.start, range.end - 1, file.size))?);
    }
    confine(headers);
    Ok(response)
}

fn unsatisfiable(size: u64) -> Answer {
    let mut response = Response::new(Body::from(INVALID_RANGE));
    *response.status_mut() = respond::status_of(ErrorCode::InvalidRange);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(CONTENT_RANGE, header(&format!("bytes */{size}"))?);
    confine(headers);
    Ok(response)
}

/// Headers that keep a browser from running or leaking anything.
fn confine(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

/// The name under which a browser saves the file: plain for old ones, exact for the others.
fn disposition(name: &str) -> Result<HeaderValue, Error> {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "._- ".contains(c) { c } else { '_' }).collect();
    let exact = utf8_percent_encode(name, NON_ALPHANUMERIC);
    header(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_split_a_header() {
        for name in ["a.txt", "ä\r\nX: 1", "\"; filename=x", "\u{202e}gpj.exe", ""] {
            let value = disposition(name).expect("a header");
            let text = value.to_str().expect("ASCII");
            assert!(text.starts_with("attachment; filename=\"") && !text.contains('\r'), "{text}");
            assert_eq!(text.matches('"').count(), 2, "{text}");
        }
    }
}
