//! Reading as older versions see it: clusters, jobs and file servers right below their group.
//!
//! Where several workspaces of a group have one name, these versions see one of them: what they made themselves, else the oldest.

use sqlx::PgPool;

use super::row::ResourceRow;
use crate::domain::resource::{Envelope, Resource};
use crate::id::{Kind, SubscriptionId};
use crate::store::StoreError;
use crate::store::document::Document;

/// The path of what a group has of this kind and name.
pub(crate) async fn find_flat(pool: &PgPool, kind: Kind, group: &str, name: &str) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select path
        from resource
        where kind = $1 and key > $2 || '/' and key < $2 || '0' and right(key, length($3) + 1) = '/' || $3
        order by starts_with(split_part(key, '/', 9), 'migrated-') desc, created_at, uid
        limit 1
        "#,
        kind.as_str(),
        group,
        name,
    )
    .fetch_optional(pool)
    .await?)
}

/// Up to `limit` resources at or below the scope, each group's by name, whose positions follow `after`; with their positions.
///
/// Built over all of the kind in the scope, as names repeat in workspaces: for clients of older versions, which have few.
pub(crate) async fn list_flat<K: Resource>(
    pool: &PgPool,
    scope: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Envelope<K>)>, StoreError> {
    let rows = sqlx::query_as!(
        ResourceRow,
        r#"
        with named as (
            select distinct on (place) uid, place
            from (
                select uid, key, created_at, split_part(key, '/', 5) || '/' || substring(key from '[^/]+$') as place
                from resource
                where kind = $1 and key > $2 || '/' and key < $2 || '0'
            ) k
            order by place, starts_with(split_part(key, '/', 9), 'migrated-') desc, created_at, uid
        )
        select r.uid, r.subscription_id, named.place as "key!", r.path, r.name, r.location, r.tags as "tags: Document",
            r.spec as "spec: Document", r.status as "status: Document", r.provisioning, r.provisioned_at, r.created_at, r.updated_at,
            r.generation, r.revision, r.phase, n.idle, n.running, n.preparing, n.unusable, n.leaving
        from named
        join resource r on r.uid = named.uid
        cross join lateral (
            select count(*) filter (where state = 'ready' and attempt_uid is null) as idle,
                count(*) filter (where state = 'ready' and attempt_uid is not null) as running,
                count(*) filter (where state = 'preparing') as preparing,
                count(*) filter (where state = 'unusable') as unusable,
                count(*) filter (where state = 'leaving') as leaving
            from machine
            where cluster_uid = r.uid and state <> 'gone'
        ) n
        where named.place > $3
        order by named.place
        limit $4
        "#,
        K::KIND.as_str(),
        scope,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok((row.key.clone(), row.read()?))).collect()
}

/// Jobs of a region that wait or run.
pub(crate) async fn active_jobs(pool: &PgPool, subscription: SubscriptionId, location: &str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from resource
        where subscription_id = $1 and location = $2 and phase in ('queued', 'running', 'terminating')
        "#,
        subscription.0,
        location,
    )
    .fetch_one(pool)
    .await?)
}
