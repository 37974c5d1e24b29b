//! Attempts that live: parts that are lost, attempts released, told to stop, and ended.
//!
//! A report of an agent locks its machine, then the attempt, then its part. Each statement here locks the machines of its attempts
//! first too (`locked`, which the next step is made to wait for), so that neither waits for the other for ever.

use sqlx::PgConnection;

use super::{Written, all};
use crate::clock::Timestamp;
use crate::domain::snapshot::Change;
use crate::store::document::Document;

/// Ends parts without their agents' word.
pub(super) async fn lose(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut attempts, mut ranks, mut ends, mut whys) = (vec![], vec![], vec![], vec![]);
    for change in changes {
        let Change::LosePart { attempt, assignment, end } = change else { continue };
        attempts.push(attempt.0);
        ranks.push(assignment.rank);
        ends.push(Document::of(end)?);
        whys.push(match end {
            crate::domain::attempt::End::Lost { why } => why.clone(),
            end => format!("{end:?}"),
        });
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select attempt_uid, rank, end_how, why
            from unnest($1::uuid[], $2::int[], $3::jsonb[], $4::text[]) as t (attempt_uid, rank, end_how, why)
        ),
        locked as (
            select m.uid
            from machine m
            join assignment s on s.machine_uid = m.uid
            join t on t.attempt_uid = s.attempt_uid
            order by m.uid
            for update of m
        ),
        changed as (
            update assignment s
            set state = 'ended', end_how = t.end_how
            from t
            where s.attempt_uid = t.attempt_uid and s.rank = t.rank and s.state <> 'ended'
                and (select count(*) from locked) >= 0
            returning s.attempt_uid, s.rank, t.why
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select clock_timestamp(), job.uid, job.path, 'part_lost',
                'Part ' || changed.rank || ' of attempt ' || a.number || ' is lost: ' || changed.why
            from changed
            join attempt a on a.uid = changed.attempt_uid
            join resource job on job.uid = a.job_uid
        )
        select count(*) as "count!"
        from changed
        "#,
        &attempts,
        &ranks,
        &ends as _,
        &whys,
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, attempts.len()))
}

/// Releases attempts and tells attempts to stop; their nodes should be something else from then on.
pub(super) async fn steer(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut ats, mut stops) = (vec![], vec![], vec![], vec![]);
    for change in changes {
        let (uid, revision, at, stop) = match change {
            Change::Release { uid, revision, at } => (uid, revision, Some(*at), None),
            Change::StopAttempt { uid, revision, why } => (uid, revision, None, Some(why.as_str().to_owned())),
            _ => continue,
        };
        uids.push(uid.0);
        revisions.push(*revision);
        ats.push(at);
        stops.push(stop);
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, released_at, stop
            from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[]) as t (uid, revision, released_at, stop)
        ),
        locked as (
            select m.uid
            from machine m
            join assignment s on s.machine_uid = m.uid
            join t on t.uid = s.attempt_uid
            order by m.uid
            for update of m
        ),
        changed as (
            update attempt a
            set state = case when t.stop is null then 'released' else a.state end,
                released_at = coalesce(a.released_at, t.released_at),
                stop = coalesce(a.stop, t.stop),
                revision = a.revision + 1
            from t
            where a.uid = t.uid and a.revision = t.revision and a.state || '' <> 'ended' and (select count(*) from locked) >= 0
            returning a.uid, a.job_uid, a.number, t.stop, t.released_at
        ),
        told as (
            update machine m
            set desired = m.desired + 1
            from assignment s
            join changed on changed.uid = s.attempt_uid
            where m.uid = s.machine_uid
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select coalesce(changed.released_at, clock_timestamp()), job.uid, job.path,
                case when changed.stop is null then 'released' else 'stopping' end,
                case
                    when changed.stop is null then 'All nodes of attempt ' || changed.number || ' are ready.'
                    else 'Attempt ' || changed.number || ' is to stop: ' || changed.stop || '.'
                end
            from changed
            join resource job on job.uid = changed.job_uid
        )
        select count(*) as "count!"
        from changed
        "#,
        &uids,
        &revisions,
        &ats as &[Option<Timestamp>],
        &stops as &[Option<String>],
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}

/// Ends attempts and frees their machines.
pub(super) async fn end(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut causes, mut ats) = (vec![], vec![], vec![], vec![]);
    for change in changes {
        let Change::EndAttempt { uid, revision, cause, at } = change else { continue };
        uids.push(uid.0);
        revisions.push(*revision);
        causes.push(cause.clone());
        ats.push(*at);
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, cause, at
            from unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[]) as t (uid, revision, cause, at)
        ),
        locked as (
            select m.uid
            from machine m
            join assignment s on s.machine_uid = m.uid
            join t on t.uid = s.attempt_uid
            order by m.uid
            for update of m
        ),
        changed as (
            update attempt a
            set state = 'ended', cause = t.cause, ended_at = t.at, session_key_id = null, session_sealed = null,
                revision = a.revision + 1
            from t
            where a.uid = t.uid and a.revision = t.revision and a.state || '' <> 'ended' and (select count(*) from locked) >= 0
            returning a.uid, a.job_uid, a.number, t.cause, t.at
        ),
        freed as (
            update machine m
            set attempt_uid = null, desired = m.desired + 1, revision = m.revision + 1
            from assignment s
            join changed on changed.uid = s.attempt_uid
            where m.uid = s.machine_uid and m.attempt_uid = s.attempt_uid
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select changed.at, job.uid, job.path, 'attempt_ended',
                'Attempt ' || changed.number || ' ended: ' || changed.cause || '.'
            from changed
            join resource job on job.uid = changed.job_uid
        )
        select count(*) as "count!"
        from changed
        "#,
        &uids,
        &revisions,
        &causes,
        &ats,
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}
