//! Template deployments, of which there are none: what the platform says of that.

use axum::http::{Method, StatusCode};
use serde_json::Value;

use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::respond::{empty, json};
use crate::wire::shapes::ListPage;

/// GET of the list, which is empty.
pub(crate) async fn list(call: Call) -> Answer {
    if let Ok(group) = call.id() {
        call.parts.service.check_group(group).await?;
    }
    json(StatusCode::OK, &ListPage { value: Vec::<Value>::new(), next_link: None })
}

/// GET and HEAD of one.
pub(crate) async fn get(call: Call) -> Answer {
    if let Ok(group) = call.id() {
        call.parts.service.check_group(group).await?;
    }
    if call.route.method == Method::HEAD {
        return Ok(empty(StatusCode::NOT_FOUND));
    }
    let name: String = call.last_argument().chars().take(100).collect();
    Err(Error::new(ErrorCode::DeploymentNotFound, format!("Deployment '{name}' could not be found.")))
}
