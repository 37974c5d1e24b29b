//! Long-running operations.

use sqlx::{PgConnection, PgPool};

use super::StoreError;
use super::document::Document;
use super::snapshot::word;
use crate::domain::operation::{Operation, State, Verb};
use crate::id::{OperationId, PrincipalId, ResourceUid, SubscriptionId};

/// Records an operation.
pub(crate) async fn insert(connection: &mut PgConnection, operation: &Operation) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into operation (id, subscription_id, location, resource_uid, resource_path, verb, state, started_at, ended_at, error, caller)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        operation.id.0,
        operation.subscription.0,
        operation.location,
        operation.resource.0,
        operation.resource_path,
        operation.verb.as_str(),
        operation.state.as_str(),
        operation.started_at,
        operation.ended_at,
        Document::maybe(operation.error.as_ref())? as _,
        operation.caller.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The operation `id` of a subscription.
pub(crate) async fn find(pool: &PgPool, subscription: SubscriptionId, id: OperationId) -> Result<Option<Operation>, StoreError> {
    let row = sqlx::query!(
        r#"
        select location, resource_uid, resource_path, verb, state, started_at, ended_at, error as "error: Document", caller
        from operation
        where id = $1 and subscription_id = $2
        "#,
        id.0,
        subscription.0,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Operation {
        id,
        subscription,
        location: row.location,
        resource: ResourceUid(row.resource_uid),
        resource_path: row.resource_path,
        verb: word("operation's verb", &row.verb, Verb::find)?,
        state: word("operation's state", &row.state, State::find)?,
        started_at: row.started_at,
        ended_at: row.ended_at,
        error: row.error.map(|error| error.read("operation's error")).transpose()?,
        caller: PrincipalId(row.caller),
    }))
}
