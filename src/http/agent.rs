//! The agents' routes: join, report and wait, put output. Who an agent is comes from its credential alone.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Response, StatusCode};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;

use crate::agent::protocol::{JOIN_PATH, Join, MAX_OUTPUT_BODY, OUTPUT_PATH, OutputQuery, SYNC_PATH, Sync, VERSION};
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, read};
use crate::http::query::{Query, invalid};
use crate::http::respond::{empty, failure, json, status_of};
use crate::id::{AttemptUid, MachineUid};
use crate::service::Service;
use crate::telemetry::{self, HeldAgent};

/// Longest report. Unit: bytes. Holds the most inline output, as base64, beside 256 KiB of states.
const MAX_REPORT: usize = 512 * 1024;

/// Longest path of an output file and longest id of a directory. Unit: bytes.
const MAX_PATH: usize = 4096;

/// What requests of agents are called, in logs and counts.
pub(crate) const OPERATION: &str = "Agent";

/// Whether a path is one of the agents'.
pub(crate) fn is_agents(path: &str) -> bool {
    [JOIN_PATH, SYNC_PATH, OUTPUT_PATH].contains(&path)
}

/// Answers one request of an agent, as the only thing that its socket serves.
pub(crate) async fn pass(service: Service, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let outcome = std::panic::AssertUnwindSafe(answer(&service, request)).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(Error::internal("a handler panicked"))).unwrap_or_else(|error| {
        if status_of(error.code).is_server_error() {
            let cause = error.context().map(ToString::to_string).unwrap_or_default();
            tracing::error!(http.path = path, error.code = %error.code, error.cause = cause, "request of an agent failed inside");
        } else {
            tracing::debug!(http.path = path, error.code = %error.code, error.message = error.message, "request of an agent refused");
        }
        failure(&error, "")
    })
}

/// Answers one request of an agent, and counts it.
pub(crate) async fn answer(service: &Service, request: Request) -> Answer {
    let kind = match request.uri().path() {
        JOIN_PATH => "join",
        SYNC_PATH => "sync",
        OUTPUT_PATH => "output",
        _ => "none",
    };
    let answer = carry_out(service, request).await;
    let status = answer.as_ref().map_or_else(|error| status_of(error.code), Response::status);
    telemetry::answered_agent(kind, status.as_u16());
    answer
}

async fn carry_out(service: &Service, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if !is_agents(path) {
        return Err(Error::new(ErrorCode::NotFound, "There is nothing at this address."));
    }
    if head.method != Method::POST {
        return Err(Error::new(ErrorCode::MethodNotAllowed, "Agents use POST."));
    }
    if path == JOIN_PATH {
        let join: Join = message(&read(body, &head.headers, MAX_REPORT).await?)?;
        check_protocol(join.protocol)?;
        return json(StatusCode::OK, &service.join(join).await?);
    }
    let machine = sender(service, &head)?;
    if path == SYNC_PATH {
        let sync: Sync = message(&read(body, &head.headers, MAX_REPORT).await?)?;
        check_protocol(sync.protocol)?;
        let _held = HeldAgent::begin();
        return json(StatusCode::OK, &service.sync(machine, sync).await?);
    }
    let at = output_query(head.uri.query().unwrap_or_default())?;
    let data = read(body, &head.headers, MAX_OUTPUT_BODY).await?;
    service.put_output(machine, at, data).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn sender(service: &Service, head: &axum::http::request::Parts) -> Result<MachineUid, Error> {
    let credential = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
        let (scheme, credential) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
    });
    match credential {
        Some(credential) => service.agent(credential),
        None => Err(Error::new(ErrorCode::AuthenticationFailed, "The agent's credential is missing.")),
    }
}

fn message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|problem| Error::new(ErrorCode::InvalidRequestContent, format!("The message does not read: {problem}.")))
}

/// An agent is the server's own binary: another version is one that must be replaced, not understood.
fn check_protocol(protocol: u32) -> Result<(), Error> {
    if protocol == VERSION {
        return Ok(());
    }
    let message = format!("The agent speaks version {protocol} of the protocol, this server version {VERSION}.");
    Err(Error::new(ErrorCode::BadRequest, message))
}

fn output_query(raw: &str) -> Result<OutputQuery, Error> {
    let query = Query::parse(raw)?;
    let text = |name: &str| {
        let value = query.get(name).filter(|value| !value.is_empty() && value.len() <= MAX_PATH);
        value.map(str::to_owned).ok_or_else(|| invalid(name, format!("The query parameter '{name}' is missing or too long.")))
    };
    fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Error> {
        text.parse().map_err(|_| invalid(name, format!("The query parameter '{name}' is not a number.")))
    }
    Ok(OutputQuery {
        attempt: uuid::Uuid::try_parse(&text("attempt")?)
            .map(AttemptUid)
            .map_err(|_| invalid("attempt", "The query parameter 'attempt' is not a GUID.".to_owned()))?,
        directory: text("directory")?,
        path: text("path")?,
        generation: number("generation", &text("generation")?)?,
        offset: number("offset", &text("offset")?)?,
        modified_at: number("modified_at", &text("modified_at")?)?,
    })
}
