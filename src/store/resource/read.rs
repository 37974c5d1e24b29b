//! Reading: one indexed query a resource, one a page.

use sqlx::PgPool;

use super::row::ResourceRow;
use super::select::{select_clusters, select_resources};
use crate::domain::resource::{Envelope, Provisioning, Resource};
use crate::id::{AttemptUid, Kind, ResourceUid, SubscriptionId};
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;

/// The resource at `key`, if there is one and it is a `K`.
pub(crate) async fn find<K: Resource>(pool: &PgPool, key: &str) -> Result<Option<Envelope<K>>, StoreError> {
    let row = if K::KIND == Kind::Cluster {
        find_cluster(pool, key).await?
    } else {
        select_resources!(
            r#"
            from resource r
            where r.key = $1 and r.kind = $2
            "#,
            key,
            K::KIND.as_str(),
        )
        .fetch_optional(pool)
        .await?
    };
    row.map(ResourceRow::read).transpose()
}

async fn find_cluster(pool: &PgPool, key: &str) -> Result<Option<ResourceRow>, StoreError> {
    Ok(select_clusters!(
        r#"
        from resource r
        "#,
        r#"
        where r.key = $1 and r.kind = 'cluster'
        "#,
        key,
    )
    .fetch_optional(pool)
    .await?)
}

/// The resource `uid`: whether a write whose outcome is unknown happened.
pub(crate) async fn find_by_uid<K: Resource>(pool: &PgPool, uid: ResourceUid) -> Result<Option<Envelope<K>>, StoreError> {
    let row = select_resources!(
        r#"
        from resource r
        where r.uid = $1 and r.kind = $2
        "#,
        uid.0,
        K::KIND.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    row.map(ResourceRow::read).transpose()
}

/// Whose children a list is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Children<'a> {
    /// A subscription's, at any depth.
    Of(SubscriptionId),
    /// Those right below the resource of this key.
    Below(&'a str),
}

/// Up to `limit` resources whose keys follow `after`, by key, with their keys. Does not tell an absent parent from an empty one.
pub(crate) async fn list<K: Resource>(
    pool: &PgPool,
    children: Children<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Envelope<K>)>, StoreError> {
    let kind = K::KIND.as_str();
    let rows = match children {
        Children::Of(subscription) if K::KIND == Kind::Cluster => {
            list_subscription_clusters(pool, subscription, after, limit).await?
        }
        Children::Of(subscription) => list_subscription(pool, subscription, kind, after, limit).await?,
        Children::Below(parent) if K::KIND == Kind::Cluster => list_clusters(pool, parent, after, limit).await?,
        Children::Below(parent) => list_children(pool, parent, kind, after, limit).await?,
    };
    rows.into_iter().map(|row| Ok((row.key.clone(), row.read()?))).collect()
}

async fn list_children(pool: &PgPool, parent: &str, kind: &str, after: &str, limit: i64) -> Result<Vec<ResourceRow>, StoreError> {
    Ok(select_resources!(
        r#"
        from resource p
        join resource r on r.parent_uid = p.uid
        where p.key = $1 and r.kind = $2 and r.key > $3
        order by r.key
        limit $4
        "#,
        parent,
        kind,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?)
}

async fn list_clusters(pool: &PgPool, parent: &str, after: &str, limit: i64) -> Result<Vec<ResourceRow>, StoreError> {
    Ok(select_clusters!(
        r#"
        from resource p
        join resource r on r.parent_uid = p.uid
        "#,
        r#"
        where p.key = $1 and r.kind = 'cluster' and r.key > $2
        order by r.key
        limit $3
        "#,
        parent,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?)
}

async fn list_subscription_clusters(
    pool: &PgPool,
    subscription: SubscriptionId,
    after: &str,
    limit: i64,
) -> Result<Vec<ResourceRow>, StoreError> {
    Ok(select_clusters!(
        r#"
        from resource r
        "#,
        r#"
        where r.subscription_id = $1 and r.kind = 'cluster' and r.key > $2
        order by r.key
        limit $3
        "#,
        subscription.0,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?)
}

/// For groups and workspaces.
async fn list_subscription(
    pool: &PgPool,
    subscription: SubscriptionId,
    kind: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<ResourceRow>, StoreError> {
    Ok(select_resources!(
        r#"
        from resource r
        where r.subscription_id = $1 and r.kind = $2 and r.kind in ('group', 'workspace', 'cluster') and r.key > $3
        order by r.key
        limit $4
        "#,
        subscription.0,
        kind,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?)
}

/// What is known of a resource without its documents.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its key.
    pub(crate) key: String,
    /// Its region.
    pub(crate) location: String,
    /// Making or unmaking.
    pub(crate) provisioning: Provisioning,
}

/// Which of `keys` exist: tells the outermost parent that is missing.
pub(crate) async fn known(pool: &PgPool, keys: &[String]) -> Result<Vec<Known>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select key, location, provisioning
        from resource
        where key = any ($1)
        "#,
        keys,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let provisioning = word("provisioning", &row.provisioning, Provisioning::find)?;
            Ok(Known { key: row.key, location: row.location, provisioning })
        })
        .collect()
}

/// The latest attempt of a job.
pub(crate) async fn last_attempt(pool: &PgPool, job: ResourceUid) -> Result<Option<AttemptUid>, StoreError> {
    let uid = sqlx::query_scalar!(
        r#"
        select uid
        from attempt
        where job_uid = $1
        order by number desc
        limit 1
        "#,
        job.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(uid.map(AttemptUid))
}

/// How a node is logged in to: its id, an address, and a port where it is not the usual one.
pub(crate) type Login = (String, String, Option<u16>);

/// How those of a cluster's nodes are logged in to that have an address, in their order.
pub(crate) async fn cluster_logins(pool: &PgPool, cluster: ResourceUid) -> Result<Vec<Login>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select node_id, coalesce(login_address, address) as "address!", login_port
        from machine
        where cluster_uid = $1 and state not in ('asked', 'gone') and address is not null
        order by ordinal
        "#,
        cluster.0,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.node_id, row.address, row.login_port.and_then(|port| u16::try_from(port).ok()))).collect())
}

/// How the nodes of a job's latest attempt that are still there are logged in to, by rank.
pub(crate) async fn job_logins(pool: &PgPool, job: ResourceUid) -> Result<Vec<Login>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select m.node_id, coalesce(m.login_address, m.address) as "address!", m.login_port
        from assignment s
        join machine m on m.uid = s.machine_uid
        where s.attempt_uid = (select uid from attempt where job_uid = $1 order by number desc limit 1)
            and m.state not in ('asked', 'gone') and m.address is not null
        order by s.rank
        "#,
        job.0,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.node_id, row.address, row.login_port.and_then(|port| u16::try_from(port).ok()))).collect())
}
