//! Addresses of the versions before workspaces: what they name is found in whichever workspace it is, and what they make is put where the
//! retired service put it.
//!
//! Everything else is as ever: once an address is resolved, the handlers of the newer versions carry it out, and answers are written as
//! the older version has them.

use axum::http::StatusCode;

use crate::auth::Caller;
use crate::domain::resource::Provisioning;
use crate::domain::workspace::Workspace;
use crate::error::{Error, ErrorCode, Violations};
use crate::http::call::{Answer, Call, Target};
use crate::http::kinds::{Change, Write, check_location};
use crate::http::query::invalid;
use crate::http::respond::empty;
use crate::http::{cursor, present, verbs};
use crate::id::{FlatId, Kind, ResourceId};
use crate::service::PageRequest;
use crate::wire::fields::{Fields, SHORT_TEXT};
use crate::wire::platform::canonical_location;
use crate::wire::v2018_05_01::Encode;
use crate::wire::{ApiVersion, v2017_09_01_preview, v2018_03_01};

/// The failure of a request for what does not exist.
pub(crate) fn absent(id: &FlatId) -> Error {
    let code = match id.kind {
        Kind::Job => ErrorCode::JobNotFound,
        Kind::FileServer => ErrorCode::FileServerNotFound,
        _ => ErrorCode::ClusterNotFound,
    };
    Error::new(code, format!("The specified {} {} is not found", id.kind.noun(), id.name))
}

/// PUT: where it is made follows from its location.
pub(crate) async fn put<K: Write>(mut call: Call) -> Answer {
    let document = call.document().await?;
    let mut found = Violations::new();
    let location = Fields::root(&document, &mut found)
        .and_then(|root| root.required_text("location", SHORT_TEXT, &mut found))
        .map(canonical_location);
    if let Some(location) = &location {
        check_location(&call.parts, location, K::KIND.flat_type())?;
    }
    translate::<K>(&mut call, &document, found).await?;
    let Some(location) = location else {
        // It is made nowhere; the rest of the body is read for what else is wrong with it.
        let found = std::mem::take(&mut call.found);
        let refused = verbs::merged(found, K::decode(&mut call).await).err();
        return Err(refused.unwrap_or_else(|| Error::internal("a body without a location was taken")));
    };
    match &call.target {
        Target::Flat(id) => call.target = Target::Resource(id.migrated(&location).map_err(Error::internal)?),
        Target::Resource(id) => check_same_location(&call, id, &location).await?,
        _ => {}
    }
    verbs::put::<K>(call).await
}

/// PATCH.
pub(crate) async fn patch<K: Change>(mut call: Call) -> Answer {
    call.id()?;
    let document = call.document().await?;
    translate::<K>(&mut call, &document, Violations::new()).await?;
    std::mem::take(&mut call.found).into_result()?;
    verbs::patch::<K>(call).await
}

/// DELETE: 204 where it did not exist.
pub(crate) async fn delete<K: Encode>(call: Call) -> Answer {
    match call.target {
        Target::Flat(_) => Ok(empty(StatusCode::NO_CONTENT)),
        _ => verbs::delete::<K>(call).await,
    }
}

/// GET of a list: of a group, or of a subscription.
pub(crate) async fn list<K: Encode>(call: Call) -> Answer {
    for name in ["$filter", "$select"] {
        if call.query.get(name).is_some_and(|text| !text.is_empty()) {
            let message = format!("The query parameter '{name}' is not offered by this server. Leave it out.");
            return Err(invalid(name, message));
        }
    }
    let limit = call.query.number("maxresults", 1, verbs::MAX_RESULTS, verbs::MAX_RESULTS)?;
    let page = PageRequest { limit, after: cursor::position(&call, "")? };
    let group = match &call.target {
        Target::Resource(group) => Some(group),
        _ => None,
    };
    let found = call.parts.service.list_flat::<K>(call.subscription()?, group, &page).await?;
    let next_link = found.next.as_deref().map(|position| cursor::next_link(&call, "", position)).transpose()?;
    present::many(&call, &found.items, next_link).await
}

/// Turns the body into one of 2018-05-01, with ids of its kind.
async fn translate<K: Encode>(call: &mut Call, document: &serde_json::Value, mut found: Violations) -> Result<(), Error> {
    let mut read = match call.contract {
        ApiVersion::V2017_09_01Preview => v2017_09_01_preview::read(K::KIND, document, &mut found),
        _ => v2018_03_01::read(K::KIND, document, &mut found),
    };
    for reference in &read.references {
        let real = match call.parts.service.find_flat(&reference.id).await? {
            Some(id) => id,
            // It does not exist: the id of what would be it is refused with the name that the caller gave.
            None => reference.id.migrated(&default_location(call)).map_err(Error::internal)?,
        };
        if let Some(id) = read.document.pointer_mut(&reference.pointer) {
            *id = serde_json::Value::String(real.path());
        }
    }
    call.older = read.older;
    call.found = found;
    call.replace_document(&read.document);
    Ok(())
}

fn default_location(call: &Call) -> String {
    call.parts.locations.first().map(|location| location.name.clone()).unwrap_or_default()
}

/// What exists cannot be made again elsewhere.
async fn check_same_location(call: &Call, id: &ResourceId, location: &str) -> Result<(), Error> {
    let Some(workspace) = id.ancestor(Kind::Workspace) else { return Ok(()) };
    let found = call.parts.service.get::<Workspace>(&workspace).await?;
    if found.location == location {
        return Ok(());
    }
    let message = format!(
        "The resource '{}' already exists in location '{}' in resource group '{}'. A resource with the same name cannot be created in \
         location '{location}'. Please select a new resource name.",
        id.name(),
        found.location,
        id.group_name()
    );
    Err(Error::new(ErrorCode::InvalidResourceLocation, message))
}

/// Makes the workspace and the experiment that an older version's resource is put into, where they are not there yet.
pub(crate) async fn ensure_parents(call: &Call) -> Result<(), Error> {
    let id = call.id()?;
    if !id.is_migrated() {
        return Ok(());
    }
    let service = &call.parts.service;
    let Some(workspace) = id.ancestor(Kind::Workspace) else { return Ok(()) };
    // What is made on the way is not what was asked for: neither its record nor its condition are about these.
    let caller = &Caller { asked: None, ..call.caller()?.clone() };
    match service.get::<Workspace>(&workspace).await {
        Ok(found) if found.provisioning == Provisioning::Succeeded => {}
        Ok(_) => return Ok(()),
        Err(error) if error.code == ErrorCode::WorkspaceNotFound => {
            call.parts.auth.authorize(caller, "Microsoft.BatchAI/workspaces/write", &workspace.key()).await?;
            let location = workspace.name().get(crate::id::MIGRATED_WORKSPACE.len()..).unwrap_or_default().to_owned();
            service.put_workspace(caller, &workspace, location, None).await?;
        }
        Err(error) => return Err(error),
    }
    if let Some(experiment) = id.ancestor(Kind::Experiment) {
        service.put_experiment(caller, &experiment).await?;
    }
    Ok(())
}
