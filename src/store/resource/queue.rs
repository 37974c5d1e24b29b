//! A job's place in its cluster's queue.

use sqlx::PgPool;

use crate::domain::snapshot::JobRow;
use crate::store::StoreError;

/// Jobs that go before `job` in its cluster's queue and may hold it up: those that wait for their time do not, nor do those that need
/// more than `most` nodes. 0 where it has no cluster.
pub(crate) async fn ahead(pool: &PgPool, job: &JobRow, most: Option<u32>) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from resource
        where cluster_uid = $1 and phase = 'queued' and provisioning <> 'deleting'
            and rank >= $2 and (rank > $2 or (created_at, uid) < ($3, $4))
            and ($5::bigint is null or node_count <= $5)
            and coalesce((status #>> '{retried,not_before}')::timestamptz, '-infinity') <= clock_timestamp()
        "#,
        job.cluster.map(|cluster| cluster.0),
        job.rank,
        job.created_at,
        job.uid.0,
        most.map(i64::from),
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
