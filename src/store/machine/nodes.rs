//! The nodes of a cluster, as users see them.

use sqlx::PgPool;

use crate::domain::machine::{MachineState, Node, Size};
use crate::id::ResourceUid;
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;

/// Most nodes that are listed: more than a cluster may have.
const MOST: i64 = 200;

/// Those of a cluster's machines that are not gone, in their order; after them those that are gone and had a problem, the latest first.
pub(crate) async fn nodes(pool: &PgPool, cluster: ResourceUid) -> Result<Vec<Node>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select m.node_id, m.state, m.state_changed_at, m.created_at, m.address, m.evict_at, m.seen_at,
            m.size as "size: Document", m.gpus as "gpus: Document", m.health as "health: Document",
            m.problem as "problem: Document", m.attempt_uid is not null as "is_busy!", job.path as "job?"
        from machine m
        left join attempt a on a.uid = m.attempt_uid
        left join resource job on job.uid = a.job_uid
        where m.cluster_uid = $1 and (m.state <> 'gone' or m.problem is not null)
        order by m.state = 'gone', case when m.state = 'gone' then -m.ordinal else m.ordinal end
        limit $2
        "#,
        cluster.0,
        MOST,
    )
    .fetch_all(pool)
    .await?;
    let nodes = rows.into_iter().map(|row| {
        let size: Size = row.size.read("machine's size")?;
        Ok(Node {
            node_id: row.node_id,
            state: word("machine's state", &row.state, MachineState::find)?,
            state_changed_at: row.state_changed_at,
            created_at: row.created_at,
            is_busy: row.is_busy,
            evict_at: row.evict_at,
            heard_at: row.seen_at,
            job: row.job,
            health: row.health.map(|health| health.read("machine's health")).transpose()?.unwrap_or_default(),
            address: row.address,
            size: size.name,
            gpus: row.gpus.read("machine's GPUs")?,
            problem: row.problem.map(|problem| problem.read("machine's problem")).transpose()?,
        })
    });
    nodes.collect()
}
