//! Jobs that get their nodes: the attempt and its parts are made, the machines taken, the job runs, in one statement.

use sqlx::PgConnection;

use super::Written;
use crate::clock::Timestamp;
use crate::domain::snapshot::Change;
use crate::store::document::Document;

pub(super) async fn place(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut jobs, mut numbers, mut states) = (vec![], vec![], vec![], vec![]);
    let (mut created, mut released, mut nodes, mut revisions, mut phases, mut statuses) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    let (mut part_attempts, mut part_machines, mut part_ranks) = (vec![], vec![], vec![]);
    for change in changes {
        let Change::Place { attempt, job_revision, status } = change else { continue };
        uids.push(attempt.uid.0);
        jobs.push(attempt.job.0);
        numbers.push(attempt.number);
        states.push(attempt.state.as_str().to_owned());
        created.push(attempt.created_at);
        released.push(attempt.released_at);
        nodes.push(i32::try_from(attempt.assignments.len()).unwrap_or(i32::MAX));
        revisions.push(*job_revision);
        phases.push(status.phase.as_str().to_owned());
        statuses.push(Document::of(status)?);
        for part in &attempt.assignments {
            part_attempts.push(attempt.uid.0);
            part_machines.push(part.machine.0);
            part_ranks.push(part.rank);
        }
    }
    let written = sqlx::query!(
        r#"
        with t as (
            select uid, job_uid, number, state, created_at, released_at, nodes, job_revision, phase, status
            from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::int[],
                $8::bigint[], $9::text[], $10::jsonb[])
                as t (uid, job_uid, number, state, created_at, released_at, nodes, job_revision, phase, status)
        ),
        part as (
            select attempt_uid, machine_uid, rank
            from unnest($11::uuid[], $12::uuid[], $13::int[]) as t (attempt_uid, machine_uid, rank)
        ),
        job as (
            update resource r
            set phase = t.phase, status = t.status, attempts = t.number, revision = r.revision + 1
            from t
            where r.uid = t.job_uid and r.revision = t.job_revision and r.phase || '' = 'queued'
            returning r.path, t.uid, t.job_uid, t.number, t.state, t.created_at, t.released_at, t.nodes
        ),
        made as (
            insert into attempt (uid, job_uid, number, state, created_at, released_at)
            select uid, job_uid, number, state, created_at, released_at
            from job
            returning uid
        ),
        assigned as (
            insert into assignment (attempt_uid, machine_uid, rank, state, node_id)
            select part.attempt_uid, part.machine_uid, part.rank, 'assigned', m.node_id
            from part
            join made on made.uid = part.attempt_uid
            left join machine m on m.uid = part.machine_uid
        ),
        taken as (
            update machine m
            set attempt_uid = part.attempt_uid, desired = m.desired + 1, revision = m.revision + 1
            from part
            where m.uid = part.machine_uid and m.state || '' = 'ready' and m.attempt_uid is null
            returning m.uid
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select created_at, job_uid, path, 'placed', 'Attempt ' || number || ' has ' || nodes || ' node(s).'
            from job
        )
        select (select count(*) from made) as "made!", (select count(*) from taken) as "taken!"
        "#,
        &uids,
        &jobs,
        &numbers,
        &states,
        &created,
        &released as &[Option<Timestamp>],
        &nodes,
        &revisions,
        &phases,
        &statuses as _,
        &part_attempts,
        &part_machines,
        &part_ranks,
    )
    .fetch_one(connection)
    .await?;
    Ok(super::all(written.made, uids.len()) && super::all(written.taken, part_machines.len()))
}
