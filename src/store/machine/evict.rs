//! Taking a node away for a rehearsal: what a cloud's notice does to a row.

use sqlx::PgPool;

use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::id::PrincipalId;
use crate::store::{StoreError, activity};

/// What became of a wish to take a node away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// It is taken away, at the time asked for or at an earlier one that was told before.
    Done,
    /// The cluster has no such node.
    NoNode,
    /// There is no such cluster.
    Absent,
}

/// Lets the node `node_id` of the cluster at `key` be taken away at `evict_at`.
pub(crate) async fn evict(
    pool: &PgPool,
    key: &str,
    node_id: &str,
    evict_at: Timestamp,
    at: Timestamp,
    caller: PrincipalId,
    recorded: Option<Activity>,
) -> Result<Evicted, StoreError> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query!(
        r#"
        with cluster as (
            select uid, path
            from resource
            where key = $1 and kind = 'cluster'
        ),
        evicted as (
            update machine m
            set evict_at = least(m.evict_at, $3), revision = m.revision + 1
            from cluster
            where m.cluster_uid = cluster.uid and m.node_id = $2 and m.state in ('preparing', 'ready', 'unusable', 'leaving')
            returning m.name
        ),
        noted as (
            insert into event (at, resource_uid, path, caller, what, why)
            select $4, cluster.uid, cluster.path, $5, 'evicting', evicted.name || ' is to be taken away, for a rehearsal.'
            from evicted
            cross join cluster
        )
        select exists (select from cluster) as "cluster!", exists (select from evicted) as "evicted!"
        "#,
        key,
        node_id,
        evict_at,
        at,
        caller.0,
    )
    .fetch_one(&mut *tx)
    .await?;
    if !row.evicted {
        return Ok(if row.cluster { Evicted::NoNode } else { Evicted::Absent });
    }
    activity::insert(&mut tx, recorded.as_slice()).await?;
    tx.commit().await?;
    Ok(Evicted::Done)
}
