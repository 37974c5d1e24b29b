//! Long-running operations, as 2018-05-01 shows them at `operationresults`.

use serde::Serialize;

use crate::domain::operation::{Operation, State};
use crate::id::ResourceId;
use crate::wire::ApiVersion;
use crate::wire::times::moment;

/// The status document of an operation.
///
/// Source: recorded answers: the id is an absolute URL without query, the resource a `$`-joined key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationResult<'a> {
    id: String,
    name: String,
    status: &'static str,
    start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<OperationProperties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<OperationError<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationProperties {
    resource_id: String,
}

#[derive(Serialize)]
struct OperationError<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> OperationResult<'a> {
    /// The document; `url` is where it was asked for, without query.
    pub fn of(operation: &'a Operation, url: String, version: ApiVersion) -> OperationResult<'a> {
        let key = || {
            let id = ResourceId::parse(&operation.resource_path).ok()?;
            Some(if version.is_flat() { id.flat_dollar_key() } else { id.dollar_key() })
        };
        let succeeded = operation.state == State::Succeeded;
        OperationResult {
            id: url,
            name: operation.id.to_string(),
            status: match operation.state {
                State::Running => "InProgress",
                State::Succeeded => "Succeeded",
                State::Failed => "Failed",
            },
            start_time: moment(operation.started_at),
            end_time: operation.ended_at.map(moment),
            properties: if succeeded { key().map(|resource_id| OperationProperties { resource_id }) } else { None },
            error: (operation.state == State::Failed).then(|| match &operation.error {
                Some(error) => OperationError { code: &error.code, message: &error.message },
                None => OperationError { code: "InternalServerError", message: "Internal server error." },
            }),
        }
    }
}
