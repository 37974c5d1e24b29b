//! Subscriptions: the outermost scopes.

use sqlx::PgPool;

use super::{StoreError, activity};
use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::id::{SubscriptionId, TenantId};

/// A subscription's row.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionRow {
    /// Its GUID.
    pub(crate) id: SubscriptionId,
    /// Its directory.
    pub(crate) tenant: TenantId,
    /// What lists show.
    pub(crate) display_name: String,
    /// When the provider was registered.
    pub(crate) registered_at: Option<Timestamp>,
}

pub(crate) async fn find(pool: &PgPool, id: SubscriptionId) -> Result<Option<SubscriptionRow>, StoreError> {
    let row = sqlx::query!("select tenant_id, display_name, registered_at from subscription where id = $1", id.0)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| SubscriptionRow {
        id,
        tenant: TenantId(row.tenant_id),
        display_name: row.display_name,
        registered_at: row.registered_at,
    }))
}

/// All subscriptions of a directory, by id.
pub(crate) async fn list(pool: &PgPool, tenant: TenantId) -> Result<Vec<SubscriptionRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select id, display_name, registered_at
        from subscription
        where tenant_id = $1
        order by id
        "#,
        tenant.0,
    )
    .fetch_all(pool)
    .await?;
    let read = rows.into_iter().map(|row| SubscriptionRow {
        id: SubscriptionId(row.id),
        tenant,
        display_name: row.display_name,
        registered_at: row.registered_at,
    });
    Ok(read.collect())
}

/// Registers the provider; where it is registered, the time stays.
pub(crate) async fn register(
    pool: &PgPool,
    id: SubscriptionId,
    at: Timestamp,
    recorded: Option<Activity>,
) -> Result<Option<SubscriptionRow>, StoreError> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query!(
        r#"
        update subscription
        set registered_at = coalesce(registered_at, $2)
        where id = $1
        returning tenant_id, display_name, registered_at
        "#,
        id.0,
        at,
    )
    .fetch_optional(&mut *tx)
    .await?;
    activity::insert(&mut tx, recorded.as_slice()).await?;
    tx.commit().await?;
    Ok(row.map(|row| SubscriptionRow {
        id,
        tenant: TenantId(row.tenant_id),
        display_name: row.display_name,
        registered_at: row.registered_at,
    }))
}

/// Takes the registration away where the subscription has nothing of the provider. `None` where it has something.
pub(crate) async fn unregister(
    pool: &PgPool,
    id: SubscriptionId,
    recorded: Option<Activity>,
) -> Result<Option<SubscriptionRow>, StoreError> {
    let mut tx = pool.begin().await?;
    // Makers of workspaces do not lock the subscription: one that slips in finds itself unregistered, and works.
    let row = sqlx::query!(
        r#"
        update subscription
        set registered_at = null
        where id = $1 and not exists (select from resource where subscription_id = $1 and kind = 'workspace')
        returning tenant_id, display_name
        "#,
        id.0,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    activity::insert(&mut tx, recorded.as_slice()).await?;
    tx.commit().await?;
    Ok(Some(SubscriptionRow { id, tenant: TenantId(row.tenant_id), display_name: row.display_name, registered_at: None }))
}
