//! What reconcilers read in one pass: everything that is not quiet, as of one moment.
//!
//! A row that cannot be read spoils nothing but itself: it is logged and left out, a machine is named as unreadable.

use sqlx::{PgConnection, PgPool};

use super::document::Document;
use super::{StoreError, machine};
use crate::domain::attempt::{Assignment, AssignmentState, Attempt, AttemptState, Stop};
use crate::domain::job::{Framework, JobStatus, Phase};
use crate::domain::machine::{Bootstrap, Machine, MachineState};
use crate::domain::resource::Provisioning;
use crate::domain::snapshot::{ClusterRow, DeletingRow, FileServerRow, JobRow, Snapshot, UnreadableMachine};
use crate::id::{AttemptUid, Kind, MachineUid, ResourceUid};
use crate::secret::Sealer;

/// Most containers and jobs being deleted that one snapshot lists. What does not fit comes once these are gone.
const MAX_DELETING: i64 = 5000;

/// Queued jobs that are read of each cluster beyond one for each node that may take one: some may be put aside. Where no node may, the
/// first is read alone, which tells what the others wait for.
const BEYOND: i64 = 32;

/// Queued jobs that need more nodes than their cluster may have, and that are read to be told of.
const TOLD: i64 = 8;

pub(super) async fn read(pool: &PgPool, sealer: &Sealer, queue: u32) -> Result<Snapshot, StoreError> {
    let mut tx = pool.begin_with("begin isolation level repeatable read, read only").await?;
    let clusters = clusters(&mut tx).await?;
    let (file_servers, unreadable_servers) = file_servers(&mut tx).await?;
    let (machines, unreadable) = machines(&mut tx, sealer).await?;
    let attempts = attempts(&mut tx).await?;
    let jobs = jobs(&mut tx, queue).await?;
    let deleting = deleting(&mut tx).await?;
    tx.commit().await?;
    Ok(Snapshot { clusters, file_servers, machines, attempts, jobs, deleting, unreadable_servers, unreadable })
}

/// What could be read; the rest is logged.
fn readable<T>(what: &'static str, row: impl std::fmt::Display, read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(error = %chain(error), row = %row, "a stored {what} cannot be read and is left out"))
        .ok()
}

fn chain(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

async fn clusters(connection: &mut PgConnection) -> Result<Vec<ClusterRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, path, location, spec as "spec: Document", status as "status: Document", provisioning, revision,
            (select max(ordinal) from machine where cluster_uid = resource.uid) as last_ordinal
        from resource
        where kind = 'cluster'
        order by uid
        "#
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
        let read = || {
            Ok(ClusterRow {
                uid: ResourceUid(row.uid),
                path: row.path.clone(),
                location: row.location.clone(),
                spec: row.spec.read("cluster's spec")?,
                status: row.status.read("cluster's status")?,
                deleting: row.provisioning == "deleting",
                last_ordinal: row.last_ordinal.unwrap_or(0),
                revision: row.revision,
            })
        };
        readable("cluster", &row.path, read())
    });
    Ok(read.collect())
}

async fn file_servers(connection: &mut PgConnection) -> Result<(Vec<FileServerRow>, Vec<ResourceUid>), StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, path, spec as "spec: Document", status as "status: Document", provisioning, created_at, revision,
            (select max(ordinal) from machine where cluster_uid = resource.uid) as last_ordinal
        from resource
        where kind = 'file_server'
        order by uid
        "#
    )
    .fetch_all(connection)
    .await?;
    let (mut servers, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let read = || {
            Ok(FileServerRow {
                uid: ResourceUid(row.uid),
                spec: row.spec.read("file server's spec")?,
                status: row.status.read("file server's status")?,
                provisioning: word("provisioning", &row.provisioning, Provisioning::find)?,
                created_at: row.created_at,
                last_ordinal: row.last_ordinal.unwrap_or(0),
                revision: row.revision,
            })
        };
        match readable("file server", &row.path, read()) {
            Some(server) => servers.push(server),
            None => unreadable.push(ResourceUid(row.uid)),
        }
    }
    Ok((servers, unreadable))
}

async fn machines(connection: &mut PgConnection, sealer: &Sealer) -> Result<(Vec<Machine>, Vec<UnreadableMachine>), StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, name, node_id, cluster_uid, ordinal, size as "size: Document", state, state_changed_at, created_at,
            attempt_uid, deallocation, address, login_address, evict_at,
            case when state = 'asked' and key_hash is null then join_token_sealed end as join_token_sealed,
            key_hash is not null as "joined!", quarantined, seen_at, setup as "setup: Document", ensure_failures, retry_at,
            problem as "problem: Document", revision
        from machine
        where state <> 'gone'
        order by cluster_uid, ordinal
        "#
    )
    .fetch_all(connection)
    .await?;
    let (mut machines, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let uid = MachineUid(row.uid);
        let bootstrap = || -> Result<Option<Bootstrap>, StoreError> {
            let Some(sealed) = &row.join_token_sealed else { return Ok(None) };
            Ok(Some(Bootstrap { join_token: machine::open_token(sealer, uid, sealed)? }))
        };
        let read = || {
            Ok(Machine {
                uid,
                name: row.name.clone(),
                node_id: row.node_id.clone(),
                cluster: ResourceUid(row.cluster_uid),
                ordinal: row.ordinal,
                size: row.size.read("machine's size")?,
                state: word("machine's state", &row.state, MachineState::find)?,
                state_changed_at: row.state_changed_at,
                created_at: row.created_at,
                attempt: row.attempt_uid.map(AttemptUid),
                deallocation: row.deallocation.as_deref().map(machine::read_deallocation).transpose()?,
                evict_at: row.evict_at,
                address: row.address.clone(),
                login_address: row.login_address.clone(),
                bootstrap: bootstrap()?,
                joined: row.joined,
                quarantined: row.quarantined,
                heard_at: row.seen_at,
                setup: row.setup.read("machine's setup")?,
                ensure_failures: row.ensure_failures,
                retry_at: row.retry_at,
                problem: row.problem.as_ref().map(|problem| problem.read("machine's problem")).transpose()?,
                revision: row.revision,
            })
        };
        match readable("machine", &row.name, read()) {
            Some(machine) => machines.push(machine),
            None => unreadable.push(UnreadableMachine { name: row.name, cluster: ResourceUid(row.cluster_uid) }),
        }
    }
    Ok((machines, unreadable))
}

/// A word that the store wrote, as what it stands for.
pub(super) fn word<T>(what: &'static str, text: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    find(text).ok_or_else(|| StoreError::unreadable(what, format!("'{text}' is none of its words")))
}

async fn attempts(connection: &mut PgConnection) -> Result<Vec<Attempt>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select a.uid, a.job_uid, a.number, a.state, a.created_at, a.released_at, a.stop, a.revision,
            s.machine_uid, s.rank, s.state as part_state, s.started_at, s.end_how as "end_how: Document", s.ended_at
        from attempt a
        cross join lateral (select * from assignment where attempt_uid = a.uid offset 0) s
        where a.state <> 'ended'
        order by a.created_at, a.uid, s.rank
        "#
    )
    .fetch_all(connection)
    .await?;
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut skipped = None;
    for row in rows {
        if skipped == Some(row.uid) {
            continue;
        }
        let part = || {
            Ok(Assignment {
                machine: MachineUid(row.machine_uid),
                rank: row.rank,
                state: word("assignment's state", &row.part_state, AssignmentState::find)?,
                end: row.end_how.as_ref().map(|end| end.read("assignment's end")).transpose()?,
                started_at: row.started_at,
                ended_at: row.ended_at,
            })
        };
        let attempt = || {
            Ok(Attempt {
                uid: AttemptUid(row.uid),
                job: ResourceUid(row.job_uid),
                number: row.number,
                state: word("attempt's state", &row.state, AttemptState::find)?,
                created_at: row.created_at,
                released_at: row.released_at,
                stop: row.stop.as_deref().map(|stop| word("attempt's stop", stop, Stop::find)).transpose()?,
                assignments: Vec::new(),
                revision: row.revision,
            })
        };
        let is_new = attempts.last().is_none_or(|last| last.uid.0 != row.uid);
        let read = part().and_then(|part| if is_new { attempt().map(|attempt| (Some(attempt), part)) } else { Ok((None, part)) });
        match readable("attempt", row.uid, read) {
            Some((attempt, part)) => {
                attempts.extend(attempt);
                if let Some(last) = attempts.last_mut() {
                    last.assignments.push(part);
                }
            }
            // An attempt with a part that cannot be read is none: nothing is decided from half of a gang.
            None => {
                attempts.retain(|attempt| attempt.uid.0 != row.uid);
                skipped = Some(row.uid);
            }
        }
    }
    Ok(attempts)
}

async fn jobs(connection: &mut PgConnection, queue: u32) -> Result<Vec<JobRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        with picked as (
            select job_uid as uid from attempt where state <> 'ended'
            union
            select uid from resource where phase = 'terminating'
            union
            select queued.uid
            from (
                select uid, kind, provisioning, (spec #> '{scale,auto,maximum}')::int as most
                from resource
                where kind = 'cluster'
            ) cluster
            cross join lateral (
                select uid
                from resource
                where cluster_uid = cluster.uid and phase = 'queued'
                    -- Those that can never have their nodes take no place from others either.
                    and (cluster.most is null or cluster.most = 0 or node_count <= cluster.most)
                    -- Those that wait for their time take no place from others; the next tick sees when it has come.
                    and coalesce((status #>> '{retried,not_before}')::timestamptz, '-infinity') <= clock_timestamp() + interval '10 s'
                order by rank desc, created_at, uid
                limit case
                    when cluster.provisioning = 'deleting' or cluster.most is not null then $1
                    else (
                        -- A node whose part has ended may be free once this pass has ended the attempt.
                        select case count(*) when 0 then 1 else least($1, $2 + count(*)) end
                        from machine m
                        where m.cluster_uid = cluster.uid and m.state = 'ready'
                            and not exists (select from assignment s where s.machine_uid = m.uid and s.state <> 'ended')
                    )
                end
            ) queued
            union
            select large.uid
            from (
                select uid, (spec #> '{scale,auto,maximum}')::int as most
                from resource
                where kind = 'cluster' and spec #> '{scale,auto}' is not null
            ) cluster
            cross join lateral (
                select uid
                from resource
                where cluster_uid = cluster.uid and phase = 'queued' and node_count > 1 and node_count > cluster.most
                order by node_count
                limit $3
            ) large
            union
            (
                select uid
                from resource
                where cluster_uid is null and phase = 'queued'
                order by rank desc, created_at, uid
                limit $1
            )
        )
        select r.uid, r.path, r.cluster_uid, r.rank as "rank!", r.created_at, r.node_count as "node_count!",
            r.spec -> 'max_wall_clock_s' as "max_wall_clock_s: Document", r.spec -> 'retries' as "retries: Document",
            case when r.node_count > 1 then r.spec -> 'framework' end as "framework: Document", r.status as "status: Document", r.phase as "phase!",
            r.attempts, r.provisioning, r.revision
        from picked
        -- One lookup each: whatever the planner believes of how many there are, the jobs of all time are not read.
        cross join lateral (select * from resource where uid = picked.uid offset 0) r
        order by r.rank desc, r.created_at, r.uid
        "#,
        i64::from(queue),
        BEYOND,
        TOLD,
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
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
        readable("job", &row.path, read())
    });
    Ok(read.collect())
}

async fn deleting(connection: &mut PgConnection) -> Result<Vec<DeletingRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select d.uid, d.kind, d.path, d.revision,
            case when d.kind = 'job' then 0 else (select count(*) from resource c where c.parent_uid = d.uid) end as "children!",
            d.kind = 'job' and exists (select from attempt a where a.job_uid = d.uid and a.state <> 'ended') as "active!"
        from resource d
        where d.provisioning = 'deleting' and d.kind not in ('cluster', 'file_server')
        order by d.kind <> 'job', d.uid
        limit $1
        "#,
        MAX_DELETING,
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
        let read = || {
            Ok(DeletingRow {
                uid: ResourceUid(row.uid),
                kind: word("kind", &row.kind, Kind::find)?,
                path: row.path.clone(),
                children: u32::try_from(row.children).unwrap_or(u32::MAX),
                active: row.active,
                revision: row.revision,
            })
        };
        readable("resource", &row.path, read())
    });
    Ok(read.collect())
}
