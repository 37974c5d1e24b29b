//! Making: the resource, its secrets, its operation and its event in one statement that checks the parent too.

use sqlx::{PgConnection, PgPool};

use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::domain::operation::Operation;
use crate::domain::resource::Provisioning;
use crate::id::{ResourceId, ResourceUid, SubscriptionId};
use crate::secret::Sealed;
use crate::store::StoreError;
use crate::store::document::Document;

/// A resource below a group that is to be made.
pub(crate) struct New<'a> {
    /// Its identity.
    pub(crate) uid: ResourceUid,
    /// Its address.
    pub(crate) id: &'a ResourceId,
    /// Its region; `None` takes the parent's.
    pub(crate) location: Option<&'a str>,
    /// Its tags.
    pub(crate) tags: Option<Document>,
    /// What was asked for.
    pub(crate) spec: Document,
    /// What is recorded at first.
    pub(crate) status: Document,
    /// Its secrets.
    pub(crate) secrets: &'a [SealedSecret],
    /// Whether it is made with this commit, will be, or cannot be.
    pub(crate) provisioning: Provisioning,
    /// File servers that it mounts, which must be there and not be deleted.
    pub(crate) servers: &'a [ResourceUid],
    /// The operation that makes it.
    pub(crate) operation: &'a Operation,
    /// When.
    pub(crate) at: Timestamp,
    /// Who asked, for people.
    pub(crate) why: &'a str,
    /// The request, for the record.
    pub(crate) activity: Option<Activity>,
}

/// A value to keep sealed.
#[derive(Debug)]
pub(crate) struct SealedSecret {
    /// Which.
    pub(crate) field: String,
    /// The value.
    pub(crate) sealed: Sealed,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) enum Created {
    /// It was made.
    Made {
        /// Its region.
        location: String,
    },
    /// It was not: it exists, or the parent or a file server is absent or being deleted. Reading tells.
    Refused,
}

/// Makes a resource. The statement is a transaction by itself, with one commit.
///
/// The parent is locked against being marked for deletion until the commit: whoever deletes it finds this child.
pub(crate) async fn create(connection: &mut PgConnection, new: &New<'_>) -> Result<Created, StoreError> {
    let parent = new.id.parent().map(|parent| parent.key()).unwrap_or_default();
    let fields: Vec<_> = new.secrets.iter().map(|secret| secret.field.clone()).collect();
    let keys: Vec<_> = new.secrets.iter().map(|secret| secret.sealed.key_id.clone()).collect();
    let sealed: Vec<_> = new.secrets.iter().map(|secret| secret.sealed.bytes.clone()).collect();
    let servers: Vec<_> = new.servers.iter().map(|server| server.0).collect();
    let row = sqlx::query!(
        r#"
        with parent as (
            select uid, location
            from resource
            where key = $1 and provisioning = 'succeeded'
            for share
        ),
        mounted as (
            select uid
            from resource
            where uid = any ($20) and kind = 'file_server' and provisioning = 'succeeded'
            for key share
        ),
        made as (
            insert into resource (uid, subscription_id, kind, parent_uid, key, path, name, location, tags, spec, status, provisioning,
                provisioned_at, created_at, updated_at)
            select $2, $3, $4, parent.uid, $5, $6, $7, coalesce($8, parent.location), $9, $10, $11, $21, $12, $12, $12
            from parent
            where (select count(*) from mounted) = cardinality($20::uuid[])
            on conflict (key) do nothing
            returning uid, path, location
        ),
        kept as (
            insert into secret (resource_uid, field, key_id, sealed)
            select made.uid, t.field, t.key_id, t.sealed
            from made, unnest($13::text[], $14::text[], $15::bytea[]) as t (field, key_id, sealed)
        ),
        used as (
            insert into file_server_use (user_uid, server_uid)
            select made.uid, mounted.uid
            from made, mounted
        ),
        promised as (
            insert into operation (id, subscription_id, location, resource_uid, resource_path, verb, state, started_at, ended_at, error,
                caller)
            select $16, $3, made.location, made.uid, made.path, 'create', $22, $12, $23, $24, $17
            from made
        ),
        noted as (
            insert into event (at, resource_uid, path, caller, what, why)
            select $12, made.uid, made.path, $17, 'created', $18
            from made
        ),
        logged as (
            insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                operation_id, request)
            select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                a.operation_id, a.request
            from made, jsonb_populate_recordset(null::activity, $19) a
        )
        select location
        from made
        "#,
        parent,
        new.uid.0,
        new.id.subscription().0,
        new.id.kind().as_str(),
        new.id.key(),
        new.id.path(),
        new.id.name(),
        new.location,
        new.tags.as_ref() as _,
        &new.spec as _,
        &new.status as _,
        new.at,
        &fields,
        &keys,
        &sealed,
        new.operation.id.0,
        new.operation.caller.0,
        new.why,
        Document::of(&new.activity.as_slice())? as _,
        &servers,
        new.provisioning.as_str(),
        new.operation.state.as_str(),
        new.operation.ended_at,
        Document::maybe(new.operation.error.as_ref())? as _,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        Some(row) => Created::Made { location: row.location },
        None => Created::Refused,
    })
}

/// Makes a resource of a kind of which a subscription has at most `most` in a region. Answers how many it has where it has as many
/// already.
pub(crate) async fn create_limited(pool: &PgPool, new: &New<'_>, most: u32) -> Result<Result<Created, i64>, StoreError> {
    let mut tx = pool.begin().await?;
    lock_subscription(&mut tx, new.id.subscription()).await?;
    let created = create(&mut tx, new).await?;
    if let Created::Made { location } = &created {
        let count = sqlx::query_scalar!(
            r#"
            select count(*) as "count!"
            from resource
            where subscription_id = $1 and kind = $2 and location = $3
            "#,
            new.id.subscription().0,
            new.id.kind().as_str(),
            location,
        )
        .fetch_one(&mut *tx)
        .await?;
        if count > i64::from(most) {
            tx.rollback().await?;
            return Ok(Err(count - 1));
        }
    }
    tx.commit().await?;
    Ok(Ok(created))
}

/// One maker of what is limited at a time in a subscription, so that none passes the limit unseen.
async fn lock_subscription(connection: &mut PgConnection, subscription: SubscriptionId) -> Result<(), StoreError> {
    sqlx::query!("select id from subscription where id = $1 for update", subscription.0).fetch_optional(connection).await?;
    Ok(())
}
