//! `terminate`: stops a job.

use axum::http::StatusCode;

use crate::http::call::{Answer, Call};
use crate::http::operations;
use crate::http::respond::empty;

/// 202, or 200 without a body where the job had ended.
///
/// Source: recorded 2018-05-01 answers.
pub(crate) async fn job(call: Call) -> Answer {
    match call.parts.service.terminate(call.caller()?, call.id()?).await? {
        Some(operation) => operations::accepted(&call, &operation),
        // An action with nothing to tell is a 204 today; generated clients of the frozen contract take 200 alone.
        None if !call.contract.is_frozen() => Ok(empty(StatusCode::NO_CONTENT)),
        None => Ok(empty(StatusCode::OK)),
    }
}
