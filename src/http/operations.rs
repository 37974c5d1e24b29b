//! Long-running operations: the 202 that promises one, and the addresses at which clients ask how far it is.
//!
//! An operation is valid in its subscription alone and is authorised like the resource that it is about: to everyone else but who
//! asked for a deletion it does not exist.

use axum::http::StatusCode;
use axum::http::header::ETAG;
use serde_json::json;

use crate::domain::cluster::Cluster;
use crate::domain::experiment::Experiment;
use crate::domain::file_server::FileServer;
use crate::domain::job::Job;
use crate::domain::operation::{Operation, State, Verb};
use crate::domain::workspace::Workspace;
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::present;
use crate::http::respond::{self, empty, poll_again};
use crate::http::wait::{self, Seen};
use crate::id::{Kind, OperationId, ResourceId};
use crate::wire::ApiVersion;
use crate::wire::v2018_05_01::operation::OperationResult;
use crate::wire::v2026_11_01_preview::operation::OperationStatus;

/// Where the status document of an operation is, and where its outcome: the retired service had the names the other way round from
/// what the platform's contract says.
fn segments(call: &Call) -> (&'static str, &'static str) {
    match call.contract {
        ApiVersion::V2018_05_01 | ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview => {
            ("operationresults", "operationstatuses")
        }
        ApiVersion::V2026_11_01Preview => ("operationStatuses", "operationResults"),
    }
}

/// 202 with the addresses of an operation.
pub(crate) fn accepted(call: &Call, operation: &Operation) -> Answer {
    if kind_of(operation)? == Kind::Group {
        return respond::pending(&group_url(call, operation));
    }
    let (document, outcome) = segments(call);
    respond::accepted(call, &url(call, operation, document), &url(call, operation, outcome))
}

/// `operationresults`.
pub(crate) async fn result(call: Call) -> Answer {
    match call.contract {
        contract if contract.is_frozen() => document(&call).await,
        _ => outcome(&call).await,
    }
}

/// `operationstatuses`.
pub(crate) async fn status(call: Call) -> Answer {
    match call.contract {
        contract if contract.is_frozen() => outcome(&call).await,
        _ => document(&call).await,
    }
}

/// The status document: always 200, the status is in the body.
async fn document(call: &Call) -> Answer {
    let resource = ResourceId::parse(&find(call).await?.resource_path).map_err(Error::internal)?;
    wait::answer(call, &resource, || Box::pin(read_document(call))).await
}

async fn read_document(call: &Call) -> Result<Seen, Error> {
    let operation = find(call).await?;
    let url = url(call, &operation, segments(call).0);
    let mut response = match call.contract {
        contract if contract.is_frozen() => respond::json(StatusCode::OK, &OperationResult::of(&operation, url, contract))?,
        _ => {
            let path = url.strip_prefix(&call.base).unwrap_or(&url).to_owned();
            let document = serde_json::to_value(OperationStatus::of(&operation, path)).map_err(Error::internal)?;
            let mut response = respond::json(StatusCode::OK, &document)?;
            response.headers_mut().insert(ETAG, respond::header(&present::tag_of(&document)?)?);
            response
        }
    };
    if operation.state == State::Running {
        poll_again(response.headers_mut());
    }
    Ok(Seen { response, is_final: operation.state != State::Running })
}

/// The outcome: 202 while it runs, then what the call itself would have answered.
async fn outcome(call: &Call) -> Answer {
    let resource = ResourceId::parse(&find(call).await?.resource_path).map_err(Error::internal)?;
    wait::answer(call, &resource, || Box::pin(read_outcome(call))).await
}

async fn read_outcome(call: &Call) -> Result<Seen, Error> {
    let operation = find(call).await?;
    let address = format!("{}?api-version={}", url(call, &operation, segments(call).1), call.api_version());
    let response = match (operation.state, operation.verb) {
        (State::Running, _) => respond::pending(&address)?,
        (State::Failed, _) => failed(&operation)?,
        (State::Succeeded, Verb::Delete | Verb::Terminate) => empty(StatusCode::NO_CONTENT),
        (State::Succeeded, Verb::Create) => {
            let id = ResourceId::parse(&operation.resource_path).map_err(Error::internal)?;
            let service = &call.parts.service;
            match id.kind() {
                Kind::Workspace => present::one(call, StatusCode::OK, &service.get::<Workspace>(&id).await?).await?,
                Kind::Experiment => present::one(call, StatusCode::OK, &service.get::<Experiment>(&id).await?).await?,
                Kind::Cluster => present::one(call, StatusCode::OK, &service.get::<Cluster>(&id).await?).await?,
                Kind::Job => present::one(call, StatusCode::OK, &service.get::<Job>(&id).await?).await?,
                Kind::FileServer => present::one(call, StatusCode::OK, &service.get::<FileServer>(&id).await?).await?,
                Kind::Group => return Err(Error::internal("a group is made at once")),
            }
        }
    };
    Ok(Seen { response, is_final: operation.state != State::Running })
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
    let caller = call.caller()?;
    match call.parts.auth.authorize(caller, resource.kind().read_action(), &resource.key()).await {
        // A role that hung on what was deleted went with it: whoever asked for that is told of the end nevertheless.
        Err(error)
            if error.code == ErrorCode::AuthorizationFailed
                && operation.verb == Verb::Delete
                && operation.caller == caller.principal =>
        {
            Ok(operation)
        }
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
