//! Marking for deletion: a resource and all below it, from the top down. Reconcilers remove what is left once nothing uses it.

use sqlx::PgPool;

use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::domain::operation::Operation;
use crate::domain::resource::Expected;
use crate::store::StoreError;
use crate::store::{activity, operation};

/// What became of a wish to delete.
#[derive(Clone, Debug)]
pub(crate) enum Marked {
    /// It is under way: the operation tells.
    Done(Box<Operation>),
    /// The resource is not as the request expects it.
    Moved,
    /// There is none.
    Absent,
}

/// Marks the resource at `key` and all below it, and records the operation; its resource, path and location are filled in here.
/// `Absent` where there is no such resource, `Moved` where it is not as the request expects it.
///
/// Level by level: makers of children lock the parent, so that a child is either committed when its level is read, or finds the parent
/// marked.
pub(crate) async fn mark(
    pool: &PgPool,
    key: &str,
    operation: &Operation,
    at: Timestamp,
    why: &str,
    recorded: Option<Activity>,
    expected: Option<Expected>,
) -> Result<Marked, StoreError> {
    let mut tx = pool.begin().await?;
    let top = sqlx::query!(
        r#"
        select uid, path, location, generation
        from resource
        where key = $1
        for update
        "#,
        key,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(top) = top else { return Ok(Marked::Absent) };
    if expected.is_some_and(|expected| expected.version() != (top.uid, top.generation)) {
        return Ok(Marked::Moved);
    }
    let mut level = vec![top.uid];
    while !level.is_empty() {
        sqlx::query!(
            r#"
            with marked as (
                update resource
                set provisioning = 'deleting', provisioned_at = $2, revision = revision + 1,
                    updated_at = $2, generation = generation + 1
                where uid = any ($1) and provisioning <> 'deleting'
                returning uid, path
            )
            insert into event (at, resource_uid, path, caller, what, why)
            select $2, uid, path, $3, 'deleting', $4
            from marked
            "#,
            &level,
            at,
            operation.caller.0,
            why,
        )
        .execute(&mut *tx)
        .await?;
        level = sqlx::query_scalar!(
            r#"
            select uid
            from resource
            where parent_uid = any ($1)
            "#,
            &level,
        )
        .fetch_all(&mut *tx)
        .await?;
    }
    let operation = Operation {
        resource: crate::id::ResourceUid(top.uid),
        resource_path: top.path,
        location: top.location,
        ..operation.clone()
    };
    operation::insert(&mut tx, &operation).await?;
    activity::insert(&mut tx, recorded.as_slice()).await?;
    tx.commit().await?;
    Ok(Marked::Done(Box::new(operation)))
}
