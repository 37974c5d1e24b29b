//! `inputs`: one file of the input of a job that is yet to be made. In our own version alone.

use axum::http::StatusCode;
use serde_json::json;

use crate::http::call::{Answer, Call, check_content_type, read};
use crate::http::respond;

/// Longest file. Unit: bytes. For scripts and what belongs to them; data is mounted.
pub(crate) const MAX_INPUT: usize = 32 << 20;

/// PUT of the bytes of a file.
pub(crate) async fn put(mut call: Call) -> Answer {
    check_content_type(&call.headers, "application/octet-stream")?;
    let id = call.id()?.clone();
    // Subscription, group and the names of the job come before it.
    let path = call.arguments.iter().skip(2 + id.kind().type_segments().len()).cloned().collect::<Vec<_>>().join("/");
    let data = read(call.take_body(), &call.headers, MAX_INPUT).await?;
    let size = data.len();
    let folder = call.parts.service.put_input(&id, &path, data).await?;
    respond::json(StatusCode::CREATED, &json!({ "name": path, "directory": folder, "size": size }))
}
