//! Jobs that something may be decided of.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::known::{Read, versions};
use super::{readable, word};
use crate::domain::attempt::{AssignmentState, Attempt};
use crate::domain::cluster::Scale;
use crate::domain::job::{Framework, JobStatus, Phase};
use crate::domain::machine::{Machine, MachineState};
use crate::domain::snapshot::{ClusterRow, JobRow};
use crate::id::{MachineUid, ResourceUid};
use crate::store::{Document, StoreError};

/// Queued jobs that are read of each cluster beyond one for each node that may take one: some may be put aside. Where no node may, the
/// first is read alone, which tells what the others wait for.
const BEYOND: u32 = 32;

/// Queued jobs that need more nodes than their cluster may have, and that are read to be told of.
const TOLD: i64 = 8;

/// How far the queue of one cluster is read.
pub(super) struct Queue {
    cluster: ResourceUid,
    /// Most nodes that it may have, where it scales by its queue.
    most: Option<i32>,
    /// Most jobs that are read of it.
    read: i64,
}

impl Queue {
    /// Of each of `clusters`, as far as one pass could place them; `most` bounds each.
    pub(super) fn all(clusters: &[ClusterRow], machines: &[Machine], attempts: &[Attempt], most: u32) -> Vec<Queue> {
        let parts = attempts.iter().flat_map(|attempt| &attempt.assignments);
        let busy: HashSet<MachineUid> =
            parts.filter(|part| part.state != AssignmentState::Ended).map(|part| part.machine).collect();
        let mut free: HashMap<ResourceUid, u32> = HashMap::new();
        // A node whose part has ended may be free once this pass has ended the attempt.
        for machine in machines.iter().filter(|machine| machine.state == MachineState::Ready && !busy.contains(&machine.uid)) {
            *free.entry(machine.cluster).or_default() += 1;
        }
        let of = |cluster: &ClusterRow| {
            let (limit, read) = match (cluster.spec.scale, free.get(&cluster.uid)) {
                (Scale::Auto { maximum, .. }, _) => (Some(i32::try_from(maximum).unwrap_or(i32::MAX)), most),
                (Scale::Manual { .. }, _) if cluster.deleting => (None, most),
                (Scale::Manual { .. }, None) => (None, 1),
                (Scale::Manual { .. }, Some(free)) => (None, most.min(BEYOND.saturating_add(*free))),
            };
            Queue { cluster: cluster.uid, most: limit, read: i64::from(read) }
        };
        clusters.iter().map(of).collect()
    }
}

/// Jobs of attempts that have not ended, all that terminate, and the queued ones that go first; in the order in which they go.
pub(super) async fn read(
    connection: &mut PgConnection,
    queues: &[Queue],
    queue: u32,
    known: &mut Read<Option<JobRow>>,
) -> Result<Vec<JobRow>, StoreError> {
    let uids: Vec<Uuid> = queues.iter().map(|queue| queue.cluster.0).collect();
    let most: Vec<Option<i32>> = queues.iter().map(|queue| queue.most).collect();
    let read: Vec<i64> = queues.iter().map(|queue| queue.read).collect();
    let heads = sqlx::query!(
        r#"
        with cluster as (
            select uid, most, read
            from unnest($1::uuid[], $2::int[], $3::bigint[]) as t (uid, most, read)
        ),
        picked as (
            select job_uid as uid from attempt where state <> 'ended'
            union
            select uid from resource where phase = 'terminating'
            union
            select queued.uid
            from cluster
            cross join lateral (
                select uid
                from resource
                where cluster_uid = cluster.uid and phase = 'queued'
                    -- Those that can never have their nodes take no place from others either.
                    and (cluster.most is null or cluster.most = 0 or node_count <= cluster.most)
                    -- Those that wait for their time take no place from others; the next tick sees when it has come.
                    and coalesce((status #>> '{retried,not_before}')::timestamptz, '-infinity') <= clock_timestamp() + interval '10 s'
                order by rank desc, created_at, uid
                limit cluster.read
            ) queued
            union
            select large.uid
            from cluster
            cross join lateral (
                select uid
                from resource
                where cluster_uid = cluster.uid and phase = 'queued' and node_count > 1 and node_count > cluster.most
                order by node_count
                limit $5
            ) large
            union
            (
                select uid
                from resource
                where cluster_uid is null and phase = 'queued'
                order by rank desc, created_at, uid
                limit $4
            )
        )
        select coalesce(array_agg(r.uid), '{}') as "uids!", coalesce(array_agg(r.xmin::text::bigint), '{}') as "writers!"
        from picked
        -- One lookup each: whatever the planner believes of how many there are, the jobs of all time are not read.
        cross join lateral (select uid, xmin from resource where uid = picked.uid offset 0) r
        "#,
        &uids,
        &most as &[Option<i32>],
        &read,
        i64::from(queue),
        TOLD,
    )
    .fetch_one(&mut *connection)
    .await?;
    let heads = versions(heads.uids, heads.writers);
    let unread = known.unread(&heads);
    let rows = if unread.is_empty() { vec![] } else { jobs(connection, &unread).await? };
    let mut jobs: Vec<JobRow> = known.take(heads, rows).flatten().cloned().collect();
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.rank), job.created_at, job.uid));
    Ok(jobs)
}

async fn jobs(connection: &mut PgConnection, uids: &[Uuid]) -> Result<Vec<(Uuid, Option<JobRow>)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, path, cluster_uid, rank as "rank!", created_at, node_count as "node_count!",
            spec -> 'max_wall_clock_s' as "max_wall_clock_s: Document", spec -> 'retries' as "retries: Document",
            case when node_count > 1 then spec -> 'framework' end as "framework: Document", status as "status: Document", phase as "phase!",
            attempts, provisioning, revision
        from resource
        where uid = any($1)
        "#,
        uids,
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().map(|row| {
        let wall_clock = || match &row.max_wall_clock_s {
            Some(seconds) => seconds.read("job's longest time"),
            None => Err(StoreError::unreadable("job's longest time", "absent")),
        };
        let read = || {
            let mut status: JobStatus = row.status.read("job's status")?;
            let node_count = u32::try_from(row.node_count).map_err(|error| StoreError::unreadable("node count", error))?;
            let framework: Option<Framework> = row.framework.as_ref().map(|doc| doc.read("job's framework")).transpose()?;
            status.phase = word("job's phase", &row.phase, Phase::find)?;
            Ok(JobRow {
                uid: ResourceUid(row.uid),
                path: row.path.clone(),
                cluster: row.cluster_uid.map(ResourceUid),
                rank: row.rank,
                created_at: row.created_at,
                node_count,
                leaders: framework.map_or(1, |framework| framework.leaders(node_count)),
                max_wall_clock_s: wall_clock()?,
                retries: row.retries.as_ref().map(|doc| doc.read("job's rules")).transpose()?.unwrap_or_default(),
                status,
                attempts: row.attempts,
                deleting: row.provisioning == "deleting",
                revision: row.revision,
            })
        };
        (row.uid, readable("job", &row.path, read()))
    });
    Ok(read.collect())
}
