//! The built-in issuer's endpoints. What is decided there is `auth`'s; here are forms, documents and statuses.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use axum::http::{Response, StatusCode};
use serde_json::json;

use crate::auth::TokenRequest;
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call, check_content_type, read};
use crate::http::query::parse_form;
use crate::http::respond;

/// Longest form. Unit: bytes.
const MAX_FORM: usize = 64 * 1024;

/// The tenant segment of the other style of sign-in.
const ADFS: &str = "adfs";

/// POST of a form, by anyone.
pub(crate) async fn issue(mut call: Call) -> Answer {
    check_content_type(&call.headers, "application/x-www-form-urlencoded")?;
    let bytes = read(call.take_body(), &call.headers, MAX_FORM).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::new(ErrorCode::BadRequest, "The form is not UTF-8 text."))?;
    let request = TokenRequest {
        tenant: tenant(&call),
        form: parse_form(text)?,
        // Without an address there is a unix socket, whose peers are of this host.
        peer: call.peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let mut response = match call.parts.auth.token(request).await {
        Ok(document) => respond::json(StatusCode::OK, &document)?,
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
            let document = json!({"error": refused.error, "error_description": refused.description});
            let mut response = respond::json(status, &document)?;
            if let Some(after) = refused.retry_after {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
            }
            response
        }
    };
    keep_from_caches(&mut response);
    Ok(response)
}

/// GET of what an authority says of itself, by anyone.
pub(crate) async fn configuration(call: Call) -> Answer {
    respond::json(StatusCode::OK, &call.parts.auth.openid_configuration(&call.base, &tenant(&call)))
}

/// The same below the other style's prefix, for clients that join a tenant to it.
pub(crate) async fn adfs_configuration(call: Call) -> Answer {
    respond::json(StatusCode::OK, &call.parts.auth.openid_configuration(&call.base, ADFS))
}

/// GET of the public keys, by anyone.
pub(crate) async fn keys(call: Call) -> Answer {
    respond::json(StatusCode::OK, &call.parts.auth.jwks())
}

fn tenant(call: &Call) -> String {
    let text = call.arguments.first().map_or("", String::as_str);
    if text.eq_ignore_ascii_case(ADFS) { ADFS.to_owned() } else { text.to_owned() }
}

fn keep_from_caches<B>(response: &mut Response<B>) {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
