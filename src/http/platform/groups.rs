//! What groups have beyond the verbs of all kinds.

use axum::http::StatusCode;

use crate::domain::group::Group;
use crate::http::call::{Answer, Call};
use crate::http::respond::empty;
use crate::http::verbs::is_absence;

/// HEAD: 204 where the group exists, 404 where it does not, neither with a body.
pub(crate) async fn exists(call: Call) -> Answer {
    match call.parts.service.get::<Group>(call.id()?).await {
        Ok(_) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(error) if is_absence(error.code) => Ok(empty(StatusCode::NOT_FOUND)),
        Err(error) => Err(error),
    }
}
