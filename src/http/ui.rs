//! The web page: the files that `script/page` built, as they are in the binary.
//!
//! The page is a client of the public API like any other, and has no route of its own there. Every address below `/ui` that is no file is
//! the same document, which reads the address itself. Files below `assets` have their content's hash in their name and never change.
//! Its policy lets a browser run, show and fetch nothing that did not come from this server as a file. A binary that was built without
//! the page says so. Refuses to know what the page shows.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
};
use axum::http::{Method, Response, StatusCode, request};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::{Error, ErrorCode};
use crate::http::call::Answer;
use crate::http::respond::{empty, header};

/// Where the page is.
const HOME: &str = "/ui";

/// The document that reads the address.
const INDEX: &str = "index.html";

/// What a binary shows that was built without the page.
const NOTICE: &str = include_str!("notice.html");

/// Scripts, styles and data of this origin, pictures also from the page itself; no script is made of text, and nobody may frame it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// A year: the name of such a file is another once its content is.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// What `script/page` built. A debug build reads the files as they are now.
#[derive(RustEmbed)]
#[folder = "page/dist"]
struct Built;

/// What a request for the page is answered; `None` where it is for something else.
pub(crate) fn answer(head: &request::Parts) -> Option<Answer> {
    let path = head.uri.path();
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    if path == "/" && is_browser(&head.headers) {
        return Some(to_home());
    }
    let below = path.strip_prefix(HOME).filter(|below| below.is_empty() || below.starts_with('/'))?;
    let answer = match below.trim_start_matches('/') {
        name if name.starts_with("assets/") || is_plain_file(name) => file(name, &head.headers),
        _ => document(&head.headers),
    };
    Some(answer.map(|response| if head.method == Method::HEAD { response.map(|_| Body::empty()) } else { response }))
}

/// Whether a request is a person's following a link to the page, from wherever that is.
pub(crate) fn is_visit(head: &request::Parts) -> bool {
    let is_page = head.uri.path() == "/" || head.uri.path() == HOME || head.uri.path().starts_with("/ui/");
    is_page && head.method == Method::GET && head.headers.get(&FETCH_MODE).is_some_and(|mode| mode == "navigate")
}

/// Programs that ask for the root are told of the API as ever.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// Files beside the document, whose names do not change: the icon.
fn is_plain_file(name: &str) -> bool {
    name == "icon.svg"
}

fn to_home() -> Answer {
    let mut response = empty(StatusCode::FOUND);
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/ui/"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn document(headers: &HeaderMap) -> Answer {
    if Built::get(INDEX).is_some() {
        return file(INDEX, headers);
    }
    let mut response: Response<Body> = empty(StatusCode::OK);
    *response.body_mut() = Body::from(NOTICE);
    write(response.headers_mut(), INDEX, ASK_AGAIN);
    Ok(response)
}

/// A file, as small as the client takes it.
fn file(name: &str, asked: &HeaderMap) -> Answer {
    let plain = Built::get(name).ok_or_else(absent)?;
    let tag = tag(&plain);
    let cache = if name.starts_with("assets/") { FOREVER } else { ASK_AGAIN };
    let is_known = asked.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).is_some_and(|known| known.contains(&tag));
    let mut response: Response<Body> = empty(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    if !is_known {
        let (bytes, encoding) = smallest(name, plain, asked);
        *response.body_mut() = Body::from(bytes.into_owned());
        if let Some(encoding) = encoding {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
    }
    let headers = response.headers_mut();
    write(headers, name, cache);
    headers.insert(ETAG, header(&tag)?);
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

/// The built form with the least bytes that the client can read.
fn smallest(name: &str, plain: EmbeddedFile, asked: &HeaderMap) -> (Cow<'static, [u8]>, Option<&'static str>) {
    let takes = asked.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let takes = |word: &str| takes.split(',').any(|one| one.trim() == word || one.trim().starts_with(&format!("{word};q=0.")));
    for (encoding, suffix) in [("br", "br"), ("gzip", "gz")] {
        if takes(encoding)
            && let Some(packed) = Built::get(&format!("{name}.{suffix}"))
        {
            return (packed.data, Some(encoding));
        }
    }
    (plain.data, None)
}

/// A weak tag, as the same file is sent in several forms.
fn tag(file: &EmbeddedFile) -> String {
    let digits: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{digits}\"")
}

fn write(headers: &mut HeaderMap, name: &str, cache: HeaderValue) {
    let media_type = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, cache);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

fn absent() -> Error {
    Error::new(ErrorCode::NotFound, "The page has no such file. It may be of another version: load the page again.")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn ask(method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        answer(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn browsers_are_led_to_the_page_and_programs_are_not() {
        let response = ask(Method::GET, "/", &[(ACCEPT, "text/html,*/*;q=0.8")]).expect("the page's").expect("an answer");
        assert_eq!((response.status(), response.headers()[LOCATION].to_str().ok()), (StatusCode::FOUND, Some("/ui/")));
        assert!(ask(Method::GET, "/", &[(ACCEPT, "*/*")]).is_none());
        assert!(ask(Method::GET, "/", &[]).is_none());
        for (method, path) in [(Method::GET, "/uix"), (Method::GET, "/docs"), (Method::POST, "/ui"), (Method::DELETE, "/ui/x")] {
            assert!(ask(method.clone(), path, &[]).is_none(), "{method} {path}");
        }
    }

    #[test]
    fn every_address_is_one_document_under_the_policy() {
        for path in ["/ui", "/ui/", "/ui/g/a/w/b", "/ui/jobs"] {
            let response = ask(Method::GET, path, &[]).expect("the page's").expect("an answer");
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY);
        }
        for path in ["/ui/assets/none.js", "/ui/assets/", "/ui/assets/../../../Cargo.toml", "/ui/assets/%2e%2e/index.html"] {
            let error = ask(Method::GET, path, &[]).expect("the page's").expect_err(path);
            assert_eq!(error.code, ErrorCode::NotFound);
        }
    }

    #[test]
    fn the_notice_would_break_no_policy() {
        for forbidden in ["style=", "<style", "<script", "onclick", "http://", "https://"] {
            assert!(!NOTICE.contains(forbidden), "the notice has {forbidden}");
        }
    }

    #[test]
    fn visits_come_from_anywhere_and_nothing_else_does() {
        let visit = |method: Method, path: &str, mode: &str| {
            is_visit(&Request::builder().method(method).uri(path).header(FETCH_MODE, mode).body(()).expect("one").into_parts().0)
        };
        assert!(visit(Method::GET, "/ui/g/a", "navigate") && visit(Method::GET, "/", "navigate"));
        assert!(!visit(Method::GET, "/ui/g/a", "cors") && !visit(Method::POST, "/ui", "navigate"));
        assert!(!visit(Method::GET, "/subscriptions", "navigate"));
    }
}
