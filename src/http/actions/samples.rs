//! `samples`: what the nodes of a job, or a node of a cluster, used over time. In our own version alone.

use axum::http::StatusCode;
use time::format_description::well_known::Rfc3339;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::query::{Query, invalid};
use crate::http::respond::json;
use crate::service::AskedSamples;
use crate::wire::v2026_11_01_preview::samples::curves;

/// Shortest and longest point. Unit: seconds.
pub(crate) const STEP: (u32, u32) = (1, 86_400);

/// Of a job: of its latest attempt, or the one that is asked for.
pub(crate) async fn of_job(call: Call) -> Answer {
    let (low, high) = (1, i32::MAX.unsigned_abs());
    let number = match call.query.get("attempt") {
        Some(_) => i32::try_from(call.query.number("attempt", low, high, low)?).ok(),
        None => None,
    };
    let found = call.parts.service.job_samples(call.id()?, number, &asked(&call.query)?).await?;
    json(StatusCode::OK, &curves(&found))
}

/// Of a node.
pub(crate) async fn of_node(call: Call) -> Answer {
    let found = call.parts.service.node_samples(call.id()?, call.last_argument(), &asked(&call.query)?).await?;
    json(StatusCode::OK, &curves(&found))
}

fn asked(query: &Query) -> Result<AskedSamples, Error> {
    let time = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => Timestamp::parse(text, &Rfc3339)
            .map(Some)
            .map_err(|_| invalid(name, format!("The query parameter '{name}' must be a time like 2026-01-31T12:00:00Z."))),
    };
    let step_s = match query.get("step") {
        Some(_) => Some(query.number("step", STEP.0, STEP.1, STEP.0)?),
        None => None,
    };
    Ok(AskedSamples { from: time("from")?, to: time("to")?, step_s })
}
