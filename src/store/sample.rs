//! What nodes used, written many at once, read as few, and forgotten after a time.

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::document::Document;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::domain::sample::{Point, Range, Sample, Series, Spread};
use crate::id::{MachineUid, ResourceUid};

/// Most rows that one pruning statement removes, so that it never holds up others.
const PRUNED_AT_ONCE: i64 = 20_000;

/// A sample with the machine that it is of.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SampleRow {
    /// Who measured it.
    pub(crate) machine_uid: MachineUid,
    /// What.
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

/// An attempt whose samples are asked for.
pub(crate) struct Sampled {
    /// Its identity.
    pub(crate) attempt: Uuid,
    /// Its number.
    pub(crate) number: i32,
    /// When it began.
    pub(crate) from: Timestamp,
    /// When it ended, if it did.
    pub(crate) to: Option<Timestamp>,
    /// Its nodes, by rank.
    pub(crate) nodes: Vec<(Uuid, Series)>,
}

impl Store {
    /// Adds samples. Those of attempts that the machine does not have, or had until long before, are left out, and those that are known.
    pub(crate) async fn add_samples(&self, rows: &[SampleRow]) -> Result<(), StoreError> {
        sqlx::query!(
            r#"
            insert into sample (machine_uid, at, attempt_uid, cpu_milli, memory, disk_read, disk_written, net_in, net_out, gpu_milli,
                gpu_memory)
            select n.machine_uid, n.at, n.attempt_uid, n.cpu_milli, n.memory, n.disk_read, n.disk_written, n.net_in, n.net_out,
                n.gpu_milli, n.gpu_memory
            from jsonb_populate_recordset(null::sample, $1) n
            join assignment s on s.attempt_uid = n.attempt_uid and s.machine_uid = n.machine_uid
                and (s.ended_at is null or n.at <= s.ended_at + interval '1 minute')
            on conflict do nothing
            "#,
            Document::of(&rows)? as _,
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Removes rows older than `before`, some at once. Answers whether there may be more.
    pub(crate) async fn prune_samples(&self, before: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            r#"
            delete from sample
            where ctid = any (array(select ctid from sample where at < $1 limit $2))
            "#,
            before,
            PRUNED_AT_ONCE,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() >= PRUNED_AT_ONCE.unsigned_abs())
    }
}

/// An attempt of a job, and its nodes: the one of that number, or the latest.
pub(crate) async fn attempt(pool: &PgPool, job: ResourceUid, number: Option<i32>) -> Result<Option<Sampled>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select a.uid, a.number, a.created_at, a.ended_at, s.machine_uid, s.node_id, s.rank
        from (select * from attempt where job_uid = $1 and ($2::integer is null or number = $2) order by number desc limit 1) a
        join assignment s on s.attempt_uid = a.uid
        order by s.rank
        "#,
        job.0,
        number,
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (attempt, number, from, to) = (first.uid, first.number, first.created_at, first.ended_at);
    let node = |row: &Option<String>, rank| Series { node_id: row.clone(), rank: Some(rank), points: Vec::new() };
    let nodes = rows.iter().map(|row| (row.machine_uid, node(&row.node_id, row.rank))).collect();
    Ok(Some(Sampled { attempt, number, from, to, nodes }))
}

/// A node of a cluster.
pub(crate) async fn node(pool: &PgPool, cluster: ResourceUid, node_id: &str) -> Result<Option<Uuid>, StoreError> {
    let found = sqlx::query_scalar!("select uid from machine where cluster_uid = $1 and node_id = $2", cluster.0, node_id);
    Ok(found.fetch_optional(pool).await?)
}

/// What machines used, of one attempt or of all, by machine and time.
pub(crate) async fn points(
    pool: &PgPool,
    machines: &[Uuid],
    attempt: Option<Uuid>,
    range: &Range,
) -> Result<Vec<(Uuid, Point)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select machine_uid, min(at) as "at!",
            avg(cpu_milli)::bigint as cpu_mean, max(cpu_milli) as cpu_max,
            avg(memory)::bigint as memory_mean, max(memory) as memory_max,
            avg(disk_read)::bigint as read_mean, max(disk_read) as read_max,
            avg(disk_written)::bigint as written_mean, max(disk_written) as written_max,
            avg(net_in)::bigint as in_mean, max(net_in) as in_max,
            avg(net_out)::bigint as out_mean, max(net_out) as out_max,
            avg(gpu_milli)::bigint as gpu_mean, max(gpu_milli) as gpu_max,
            avg(gpu_memory)::bigint as gpu_memory_mean, max(gpu_memory) as gpu_memory_max
        from sample
        where machine_uid = any ($1) and at between $2 and $3 and ($4::uuid is null or attempt_uid = $4)
        group by machine_uid, floor(extract(epoch from at - $2) / $5)
        order by machine_uid, min(at)
        "#,
        machines,
        range.from,
        range.to,
        attempt,
        f64::from(range.step_s) as _,
    )
    .fetch_all(pool)
    .await?;
    let spread = |mean: Option<i64>, max: Option<i64>| Some(Spread { mean: mean?, max: max? });
    let point = rows.into_iter().map(|row| {
        let used = [
            spread(row.cpu_mean, row.cpu_max),
            spread(row.memory_mean, row.memory_max),
            spread(row.read_mean, row.read_max),
            spread(row.written_mean, row.written_max),
            spread(row.in_mean, row.in_max),
            spread(row.out_mean, row.out_max),
            spread(row.gpu_mean, row.gpu_max),
            spread(row.gpu_memory_mean, row.gpu_memory_max),
        ];
        (row.machine_uid, Point { at: row.at, used })
    });
    Ok(point.collect())
}
