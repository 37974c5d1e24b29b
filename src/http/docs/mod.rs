//! The contract for people: a page that shows the OpenAPI documents, and the documents themselves.
//!
//! Everything is in the binary and comes from this server alone; the page's policy lets a browser fetch nothing from anywhere else, and
//! run nothing that is written into it. Refuses to know what the documents say.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY};
use axum::http::{Response, StatusCode};
use bytes::Bytes;

use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::openapi;
use crate::http::respond::{empty, header};
use crate::wire::ApiVersion;

/// Scripts, styles and documents of this origin; nothing else, and nobody may frame it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// What stands in the page for the versions that it offers.
const VERSIONS: &str = "{versions}";

/// Every document as it is sent, by version.
static DOCUMENTS: LazyLock<BTreeMap<&'static str, Bytes>> = LazyLock::new(|| {
    ApiVersion::ALL.into_iter().map(|version| (version.as_str(), openapi(version).to_string().into())).collect()
});

/// The page.
pub(crate) async fn page(_: Call) -> Answer {
    let versions = ApiVersion::ALL.map(|version| format!("<option>{}</option>", version.as_str())).concat();
    file("text/html; charset=utf-8", PAGE.replace(VERSIONS, &versions).into())
}

/// The page's script or style.
pub(crate) async fn part(call: Call) -> Answer {
    match call.last_argument() {
        "page.js" => file("text/javascript; charset=utf-8", SCRIPT.into()),
        "page.css" => file("text/css; charset=utf-8", STYLE.into()),
        _ => Err(absent()),
    }
}

/// The document of `{version}.json`.
pub(crate) async fn openapi_document(call: Call) -> Answer {
    let version = call.last_argument().strip_suffix(".json").and_then(ApiVersion::find);
    let document = version.and_then(|version| DOCUMENTS.get(version.as_str())).ok_or_else(absent)?;
    file("application/json; charset=utf-8", document.clone())
}

fn file(media_type: &str, bytes: Bytes) -> Answer {
    let mut response: Response<Body> = empty(StatusCode::OK);
    *response.body_mut() = Body::from(bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, header(media_type)?);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    Ok(response)
}

fn absent() -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!(
            "There is no such document. There are /docs and, for each version, /openapi/VERSION.json: {}.",
            ApiVersion::list(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy would block anyway must not be there: the page would be broken.
    #[test]
    fn nothing_is_written_into_the_page_and_nothing_comes_from_elsewhere() {
        for forbidden in ["style=", "onclick", "onload", "<style", "javascript:", "http://", "https://"] {
            assert!(!PAGE.contains(forbidden), "the page has {forbidden}");
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"] {
            assert!(!SCRIPT.contains(forbidden), "the script has {forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
