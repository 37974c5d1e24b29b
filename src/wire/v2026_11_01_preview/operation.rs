//! Long-running operations: a document of today's shape.

use serde::Serialize;

use crate::domain::operation::{Operation, State};
use crate::wire::times::moment;

/// The status document of an operation.
///
/// Source: the platform's contract for asynchronous operations.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus<'a> {
    id: String,
    name: String,
    /// The resource that it is about.
    resource_id: &'a str,
    status: &'static str,
    start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<OperationError<'a>>,
}

#[derive(Serialize)]
struct OperationError<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> OperationStatus<'a> {
    /// The document; `path` is where it is, without host and query.
    pub fn of(operation: &'a Operation, path: String) -> OperationStatus<'a> {
        OperationStatus {
            id: path,
            name: operation.id.to_string(),
            resource_id: &operation.resource_path,
            status: match operation.state {
                State::Running => "InProgress",
                State::Succeeded => "Succeeded",
                State::Failed => "Failed",
            },
            start_time: moment(operation.started_at),
            end_time: operation.ended_at.map(moment),
            error: (operation.state == State::Failed).then(|| match &operation.error {
                Some(error) => OperationError { code: &error.code, message: &error.message },
                None => OperationError { code: "InternalServerError", message: "Internal server error." },
            }),
        }
    }
}
