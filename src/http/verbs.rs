//! The verbs of the contract, written once for all kinds.
//!
//! PUT starts from the version's defaults: what the body leaves out gets its default, never what was stored before. PATCH starts
//! from the stored resource: what the body leaves out stays. Answers are encoded from what was stored.

use axum::http::StatusCode;

use crate::domain::resource::Expected;
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::http::call::{Answer, Call};
use crate::http::kinds::{Change, Changing, Made, Write};
use crate::http::respond::empty;
use crate::http::wait::{self, Seen};
use crate::http::{cursor, etag, flat, operations, present};
use crate::id::Kind;
use crate::service::{ListScope, PageRequest, Put};
use crate::wire::v2018_05_01::Encode;

/// Most items of a page, and the default.
///
/// Source: `maxresults`, openapi 2018-05-01.
pub(crate) const MAX_RESULTS: u32 = 1000;

/// GET of one resource.
pub(crate) async fn get<K: Encode>(call: Call) -> Answer {
    let stored = call.parts.service.get::<K>(call.id()?).await?;
    present::one(&call, StatusCode::OK, &stored).await
}

/// GET of one resource whose states change by themselves.
pub(crate) async fn get_changing<K: Changing>(call: Call) -> Answer {
    async fn read<K: Changing>(call: &Call) -> Result<Seen, Error> {
        let stored = call.parts.service.get::<K>(call.id()?).await?;
        let is_final = K::is_final(&stored);
        Ok(Seen { response: present::one(call, StatusCode::OK, &stored).await?, is_final })
    }
    wait::answer(&call, call.id()?, || Box::pin(read::<K>(&call))).await
}

/// HEAD of one resource: 204 where it exists, 404 where it does not, neither with a body.
pub(crate) async fn exists<K: Encode>(call: Call) -> Answer {
    match call.parts.service.get::<K>(call.id()?).await {
        Ok(_) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(error) if is_absence(error.code) => Ok(empty(StatusCode::NOT_FOUND)),
        Err(error) => Err(error),
    }
}

/// GET of a list: the children of what the path names, or all of a subscription.
pub(crate) async fn list<K: Encode>(call: Call) -> Answer {
    let limit = call.query.number("maxresults", 1, MAX_RESULTS, MAX_RESULTS)?;
    let limit = call.query.number("$top", 1, MAX_RESULTS, limit)?.min(limit);
    let scope = match call.id() {
        Ok(id) => ListScope::Parent(id.clone()),
        Err(_) => ListScope::Subscription(call.subscription()?),
    };
    let page = PageRequest { limit, after: cursor::position(&call, "")? };
    let found = call.parts.service.list::<K>(&scope, &page).await?;
    let next_link = found.next.as_deref().map(|position| cursor::next_link(&call, "", position)).transpose()?;
    present::many(&call, &found.items, next_link).await
}

/// PUT of one resource.
pub(crate) async fn put<K: Write>(mut call: Call) -> Answer {
    let new = K::decode(&mut call).await;
    let new = merged(std::mem::take(&mut call.found), new)?;
    check_conditions::<K>(&call, etag::Verb::Put).await?;
    if call.contract.is_flat() {
        flat::ensure_parents(&call).await?;
    }
    match (K::put(&call, new).await?, K::MADE) {
        (Put::Existing(_), _) if etag::wants_absence(&call.headers) => {
            // It came after the condition was looked at.
            Err(etag::failed().with_target(call.id()?.path()))
        }
        (Put::Existing(stored), _) => present::one(&call, StatusCode::OK, &stored).await,
        // Whatever is made is there at once, and today's convention says so.
        (Put::Created(stored, _), _) if !call.contract.is_frozen() => present::one(&call, StatusCode::CREATED, &stored).await,
        (Put::Created(stored, _), Made::Answered(status)) => present::one(&call, status, &stored).await,
        (Put::Created(_, operation), Made::Accepted) => operations::accepted(&call, &operation),
    }
}

/// PATCH of one resource.
pub(crate) async fn patch<K: Change>(mut call: Call) -> Answer {
    let patch = K::decode_patch(&mut call).await?;
    check_conditions::<K>(&call, etag::Verb::Other).await?;
    let stored = match patch {
        Some(patch) => K::patch(&call, patch).await?,
        None => call.parts.service.get::<K>(call.id()?).await?,
    };
    present::one(&call, StatusCode::OK, &stored).await
}

/// DELETE of one resource: 202, or 204 where it did not exist.
pub(crate) async fn delete<K: Encode>(call: Call) -> Answer {
    check_conditions::<K>(&call, etag::Verb::Other).await?;
    let id = call.id()?;
    match call.parts.service.delete(call.caller()?, id).await? {
        Some(operation) => operations::accepted(&call, &operation),
        None => {
            // The absence of a group is told on every verb but its own: a mistyped group is not a success.
            let group = id.ancestor(Kind::Group).ok_or_else(|| Error::internal("an id without a group"))?;
            match K::KIND {
                Kind::Group => Err(group_absent(group.name())),
                _ => {
                    call.parts.service.check_group(&group).await?;
                    Ok(empty(StatusCode::NO_CONTENT))
                }
            }
        }
    }
}

fn group_absent(name: &str) -> Error {
    Error::new(ErrorCode::ResourceGroupNotFound, format!("Resource group '{name}' could not be found."))
}

/// What was read, or all that is wrong with it: found before, and found while it was read.
pub(crate) fn merged<T>(mut found: Violations, read: Result<T, Error>) -> Result<T, Error> {
    if found.is_empty() {
        return read;
    }
    if let Err(error) = read {
        if error.details.is_empty() {
            found.push(Violation { code: error.code, target: error.target.unwrap_or_default(), message: error.message });
        }
        error.details.into_iter().for_each(|violation| found.push(violation));
    }
    found.into_result()?;
    Err(Error::internal("violations are no refusal"))
}

/// Preconditions are rare: the resource is read beforehand only where a request sets one.
async fn check_conditions<K: Encode>(call: &Call, verb: etag::Verb) -> Result<(), Error> {
    if !etag::has_conditions(&call.headers) {
        return Ok(());
    }
    let stored = match call.parts.service.get::<K>(call.id()?).await {
        Ok(stored) => Some(stored),
        Err(error) if is_absence(error.code) => None,
        Err(error) => return Err(error),
    };
    let present = match &stored {
        Some(stored) => Some(present::tag(call, stored).await?),
        None => None,
    };
    let target = call.id()?.path();
    etag::check(&call.headers, verb, present.as_deref()).map_err(|error| error.with_target(target))?;
    // What holds now must hold when it is written: the statement that writes checks again.
    if let Some(asked) = &call.caller()?.asked {
        match stored {
            None if verb == etag::Verb::Put && etag::wants_absence(&call.headers) => asked.expect(Expected::Absent),
            Some(stored) if etag::names_one(&call.headers) => {
                asked.expect(Expected::Is { uid: stored.uid, generation: stored.generation });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a failure says that a resource or what holds it does not exist.
pub(crate) fn is_absence(code: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        code,
        NotFound
            | ResourceGroupNotFound
            | WorkspaceNotFound
            | ClusterNotFound
            | FileServerNotFound
            | ExperimentNotFound
            | JobNotFound
    )
}
