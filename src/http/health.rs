//! Whether this server lives, and whether it can serve.

use axum::http::StatusCode;
use serde_json::json;

use crate::http::call::{Answer, Call};
use crate::http::respond::json as document;

/// 200 while the process answers at all: what restarts it asks here.
pub(crate) async fn live(_: Call) -> Answer {
    document(StatusCode::OK, &json!({"status": "ok"}))
}

/// 200 while the store answers, else 503: what sends it requests asks here.
pub(crate) async fn ready(call: Call) -> Answer {
    call.parts.service.subscriptions(call.parts.auth.tenant()).await?;
    document(StatusCode::OK, &json!({"status": "ready"}))
}
