//! `attempts`: what became of a job's attempts, where and when. In our own version alone.

use axum::http::StatusCode;

use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::wire::shapes::ListPage;
use crate::wire::v2026_11_01_preview::attempts::AttemptBody;

/// The latest attempts of a job, on one page.
pub(crate) async fn list(call: Call) -> Answer {
    let attempts = call.parts.service.attempts(call.id()?).await?;
    json(StatusCode::OK, &ListPage { value: attempts.into_iter().map(AttemptBody::of).collect(), next_link: None })
}
