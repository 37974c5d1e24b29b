//! Locks, at any scope.

use axum::http::StatusCode;

use crate::domain::lock::Lock;
use crate::domain::scope::covers;
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::respond::{empty, json};
use crate::wire::authorization::{decode_lock, lock_body};
use crate::wire::filter::{Clause, Filter, unsupported};
use crate::wire::shapes::ListPage;

/// Longest name. Unit: characters. Source: `lockName`, the platform's published rule.
const MAX_NAME: usize = 260;

/// GET of the locks at a scope and below it; with `atScope()` those at it and above.
pub(crate) async fn list(call: Call) -> Answer {
    let key = call.scope()?.key();
    let at_scope = match call.query.get("$filter").filter(|text| !text.is_empty()) {
        None => false,
        Some(text) => match Filter::parse(text)?.all()? {
            [Clause::Call { name, arguments }] if name == "atscope" && arguments.is_empty() => true,
            _ => return Err(unsupported("only atScope() is supported for locks")),
        },
    };
    let locks = call.parts.service.locks(call.subscription()?).await?;
    let fits = |lock: &&Lock| if at_scope { covers(&lock.key, &key) } else { covers(&key, &lock.key) };
    json(StatusCode::OK, &ListPage { value: locks.iter().filter(fits).map(lock_body).collect(), next_link: None })
}

/// GET of one lock.
pub(crate) async fn get(call: Call) -> Answer {
    match find(&call).await? {
        Some(lock) => json(StatusCode::OK, &lock_body(&lock)),
        None => {
            let message = format!("The lock '{}' could not be found.", call.last_argument());
            Err(Error::new(ErrorCode::LockNotFound, message))
        }
    }
}

/// PUT of one lock: 201 where it is new, else 200.
pub(crate) async fn put(mut call: Call) -> Answer {
    let name = call.last_argument().to_owned();
    check_name(&name)?;
    let new = decode_lock(&call.document().await?, &name)?;
    let scope = call.scope()?;
    let made = call.parts.service.put_lock(call.caller()?, &scope, &new).await?;
    let is = match find(&call).await? {
        // The name as it was given first.
        Some(stored) => stored.is,
        None => new,
    };
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    json(status, &lock_body(&Lock { key: scope.key(), scope: scope.path(), is }))
}

/// DELETE of one lock: 200, or 204 where there was none.
pub(crate) async fn delete(call: Call) -> Answer {
    let gone = call.parts.service.delete_lock(call.caller()?, &call.scope()?, call.last_argument()).await?;
    Ok(empty(if gone { StatusCode::OK } else { StatusCode::NO_CONTENT }))
}

async fn find(call: &Call) -> Result<Option<Lock>, Error> {
    let (key, name) = (call.scope()?.key(), call.last_argument().to_lowercase());
    let locks = call.parts.service.locks(call.subscription()?).await?;
    Ok(locks.iter().find(|lock| lock.key == key && lock.is.name.to_lowercase() == name).cloned())
}

fn check_name(name: &str) -> Result<(), Error> {
    let sound = name.chars().count() <= MAX_NAME && !name.chars().any(|c| "<>%&:\\?/".contains(c) || c.is_control());
    if sound {
        return Ok(());
    }
    let message = format!(
        "The name of a lock must have 1 to {MAX_NAME} characters, none of them one of '<>%&:\\?/' or a control character."
    );
    Err(Error::new(ErrorCode::InvalidResourceName, message))
}
