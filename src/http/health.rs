//! Whether this server lives, whether it can serve, and what it counted.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use serde_json::json;

use crate::http::call::{Answer, Call};
use crate::http::respond::json as document;

/// What Prometheus's text format is called. Source: its page on exposition formats.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// 200 while the process answers at all: what restarts it asks here.
pub(crate) async fn live(_: Call) -> Answer {
    document(StatusCode::OK, &json!({"status": "ok"}))
}

/// 200 while the store answers, else 503: what sends it requests asks here.
pub(crate) async fn ready(call: Call) -> Answer {
    call.parts.service.subscriptions(call.parts.auth.tenant()).await?;
    document(StatusCode::OK, &json!({"status": "ready"}))
}

/// All counts, over all subscriptions.
pub(crate) async fn metrics(call: Call) -> Answer {
    let census = call.parts.service.census().await?;
    let mut response = Response::new(Body::from(call.parts.telemetry.render(&census)));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    Ok(response)
}
