//! `simulateEviction`: takes a node away as a cloud takes one of low priority. In our own version alone.

use std::time::Duration;

use axum::http::StatusCode;

use crate::http::call::{Answer, Call};
use crate::http::respond::empty;

/// Time between the notice and the end. Unit: seconds. The default is what the platform's own machines are given.
pub(crate) const NOTICE_SECONDS: (u32, u32, u32) = (0, 3600, 30);

/// 204, as the platform's own action of this name answers.
pub(crate) async fn simulate(call: Call) -> Answer {
    let (low, high, default) = NOTICE_SECONDS;
    let notice = Duration::from_secs(call.query.number("noticeseconds", low, high, default)?.into());
    call.parts.service.simulate_eviction(call.caller()?, call.id()?, call.last_argument(), notice).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
