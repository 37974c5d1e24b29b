//! Long-running operations: the 202 that promises one, and the addresses at which clients ask how far it is.
//!
//! An operation is valid in its subscription alone and is authorised like the resource that it is about: to everyone else it does
//! not exist.

use axum::http::StatusCode;
use serde_json::json;

use crate::domain::cluster::Cluster;
use crate::domain::experiment::Experiment;
use crate::domain::job::Job;
use crate::domain::operation::{Operation, State, Verb};
use crate::domain::workspace::Workspace;
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::respond::{self, empty, poll_again};
use crate::http::verbs::entity;
use crate::id::{Kind, OperationId, ResourceId};
use crate::wire::v2018_05_01::operation::OperationResult;

/// 202 with the addresses of an operation.
pub(crate) fn accepted(call: &Call, operation: &Operation) -> Answer {
    if kind_of(operation)? == Kind::Group {
        return respond::pending(&group_url(call, operation));
    }
    respond::accepted(call, &url(call, operation, "operationresults"), &url(call, operation, "operationstatuses"))
}

/// `operationresults`: always 200, the status is in the body.
pub(crate) async fn result(call: Call) -> Answer {
    let operation = find(&call).await?;
    let document = OperationResult::of(&operation, url(&call, &operation, "operationresults"));
    let mut response = respond::json(StatusCode::OK, &document)?;
    if operation.state == State::Running {
        poll_again(response.headers_mut());
    }
    Ok(response)
}

/// `operationstatuses`: 202 while it runs, then what the call itself would have answered.
pub(crate) async fn status(call: Call) -> Answer {
    let operation = find(&call).await?;
    let status_url = format!("{}?api-version={}", url(&call, &operation, "operationstatuses"), call.api_version());
    match (operation.state, operation.verb) {
        (State::Running, _) => respond::pending(&status_url),
        (State::Failed, _) => failed(&operation),
        (State::Succeeded, Verb::Delete | Verb::Terminate) => Ok(empty(StatusCode::NO_CONTENT)),
        (State::Succeeded, Verb::Create) => {
            let id = ResourceId::parse(&operation.resource_path).map_err(Error::internal)?;
            let service = &call.parts.service;
            match id.kind() {
                Kind::Workspace => entity(StatusCode::OK, &service.get::<Workspace>(&id).await?),
                Kind::Experiment => entity(StatusCode::OK, &service.get::<Experiment>(&id).await?),
                Kind::Cluster => entity(StatusCode::OK, &service.get::<Cluster>(&id).await?),
                Kind::Job => entity(StatusCode::OK, &service.get::<Job>(&id).await?),
                Kind::FileServer | Kind::Group => Err(Error::internal("a group is made at once")),
            }
        }
    }
}

/// `operationresults` of the platform, for the delete of a group: 202 while it runs, then 200.
pub(crate) async fn group(call: Call) -> Answer {
    let operation = find(&call).await?;
    match operation.state {
        State::Running => respond::pending(&group_url(&call, &operation)),
        State::Failed => failed(&operation),
        State::Succeeded => Ok(empty(StatusCode::OK)),
    }
}

fn failed(operation: &Operation) -> Answer {
    let (code, message) = match &operation.error {
        Some(error) => (error.code.as_str(), error.message.as_str()),
        None => ("InternalServerError", "Internal server error."),
    };
    respond::json(StatusCode::CONFLICT, &json!({"error": {"code": code, "message": message}}))
}

async fn find(call: &Call) -> Result<Operation, Error> {
    let absent = || Error::new(ErrorCode::NotFound, "The entity was not found.");
    let id = uuid::Uuid::try_parse(call.last_argument()).map(OperationId).map_err(|_| absent())?;
    let operation = match call.parts.service.operation(call.subscription()?, id).await {
        Err(error) if error.code == ErrorCode::NotFound => return Err(absent()),
        other => other?,
    };
    let resource = ResourceId::parse(&operation.resource_path).map_err(Error::internal)?;
    let action = match resource.kind() {
        Kind::Group => "Microsoft.Resources/subscriptions/resourceGroups/read",
        Kind::Workspace => "Microsoft.BatchAI/workspaces/read",
        Kind::Cluster => "Microsoft.BatchAI/workspaces/clusters/read",
        Kind::FileServer => "Microsoft.BatchAI/workspaces/fileservers/read",
        Kind::Experiment => "Microsoft.BatchAI/workspaces/experiments/read",
        Kind::Job => "Microsoft.BatchAI/workspaces/experiments/jobs/read",
    };
    match call.parts.auth.authorize(call.caller()?, action, &resource.key()).await {
        Err(error) if error.code == ErrorCode::AuthorizationFailed => Err(absent()),
        other => other.map(|()| operation),
    }
}

fn kind_of(operation: &Operation) -> Result<Kind, Error> {
    ResourceId::parse(&operation.resource_path).map(|id| id.kind()).map_err(Error::internal)
}

fn url(call: &Call, operation: &Operation, what: &str) -> String {
    let Operation { id, subscription, location, .. } = operation;
    format!("{}/subscriptions/{subscription}/providers/Microsoft.BatchAI/locations/{location}/{what}/{id}", call.base)
}

fn group_url(call: &Call, operation: &Operation) -> String {
    let Operation { id, subscription, .. } = operation;
    format!("{}/subscriptions/{subscription}/operationresults/{id}?api-version={}", call.base, call.api_version())
}
