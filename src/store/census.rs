//! Counting what there is, for who watches an installation.

use sqlx::PgPool;

use super::StoreError;
use crate::domain::census::{Census, Connections};

/// States of jobs that have not ended, as they are stored.
const JOBS: [&str; 3] = ["queued", "running", "terminating"];

/// States of machines that are not gone; one that is ready is idle, or runs a job.
const NODES: [&str; 6] = ["asked", "preparing", "idle", "running", "unusable", "leaving"];

/// Counts all that has not ended, by indexes that hold nothing else.
pub(crate) async fn take(pool: &PgPool) -> Result<Census, StoreError> {
    let rows = sqlx::query!(
        r#"
        select 'job' as "what!", phase as "state!", count(*) as "count!", 0::float8 as "age!"
        from resource
        where phase = 'queued'
        group by phase
        union all
        select 'job', phase, count(*), 0
        from resource
        where phase in ('running', 'terminating')
        group by phase
        union all
        select 'node', state, count(*), 0
        from (
            select case when state <> 'ready' then state when attempt_uid is null then 'idle' else 'running' end as state
            from machine
            where state <> 'gone'
        ) node
        group by state
        union all
        select 'operation', 'running', count(*), coalesce(extract(epoch from clock_timestamp() - min(started_at)), 0)::float8
        from operation
        where state = 'running'
        "#
    )
    .fetch_all(pool)
    .await?;
    let count =
        |what: &str, state: &str| rows.iter().find(|row| row.what == what && row.state == state).map_or(0, |row| row.count);
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    Ok(Census {
        jobs: JOBS.map(|state| (state, count("job", state))).to_vec(),
        nodes: NODES.map(|state| (state, count("node", state))).to_vec(),
        operations: count("operation", "running"),
        oldest_operation_s: rows.iter().map(|row| row.age).fold(0.0, f64::max),
        connections: Connections { used: pool.size().saturating_sub(idle), idle, limit: pool.options().get_max_connections() },
    })
}
