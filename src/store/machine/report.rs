//! Reports of agents: each counts once and in order, in one commit with the output that goes ahead of it.

use sqlx::{PgConnection, PgPool};

use crate::clock::Timestamp;
use crate::domain::attempt::AssignmentState;
use crate::domain::output::OutputPiece;
use crate::domain::report::{Changes, Held, Judged, Record, Report, judge};
use crate::id::{AttemptUid, MachineUid};
use crate::store::document::Document;
use crate::store::snapshot::word;
use crate::store::{StoreError, append_output};

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// It was taken, or was late. `changed` where rows that reconcilers decide from changed; `desired` is the number of what the node
    /// should be, as of this report.
    Taken {
        /// Whether reconcilers have something to look at.
        changed: bool,
        /// The number of what the node should be.
        desired: i64,
        /// Objects of the archive that nothing refers to any more.
        unused: Vec<String>,
    },
    /// The machine is gone, in quarantine, or was never joined: its credential is worth nothing any more.
    Stranger,
}

/// How seldom it is written that an agent was heard: a quiet system writes next to nothing.
const HEARD_EVERY: time::Duration = time::Duration::seconds(30);

/// How often a report is judged anew because another of the same node was taken meanwhile.
const TRIES: u32 = 5;

/// Takes a report of `machine`.
pub(crate) async fn report(
    pool: &PgPool,
    machine: MachineUid,
    report: &Report<'_>,
    output: &[OutputPiece],
    at: Timestamp,
) -> Result<Reported, StoreError> {
    let mut connection = pool.acquire().await?;
    for _ in 0..TRIES {
        let Some(seen) = see(&mut connection, machine).await? else { return Ok(Reported::Stranger) };
        let unchanged = Reported::Taken { changed: false, desired: seen.desired, unused: Vec::new() };
        let Judged::Taken(changes) = judge(&seen.record, report) else { return Ok(unchanged) };
        // Only what the node's living attempts write is kept.
        let own: Vec<OutputPiece> =
            output.iter().filter(|piece| seen.record.held.iter().any(|held| held.attempt == piece.attempt)).cloned().collect();
        if changes.is_empty() && own.is_empty() {
            if seen.seen_at.is_none_or(|seen| (at - seen).abs() >= HEARD_EVERY) {
                sqlx::query!("update machine set seen_at = $2 where uid = $1", machine.0, at).execute(&mut *connection).await?;
            }
            return Ok(unchanged);
        }
        let changed = changes.setup.is_some() || !changes.moved.is_empty();
        let taken = |unused| Reported::Taken { changed, desired: seen.desired, unused };
        if own.is_empty() {
            // One statement is a transaction by itself.
            if write(&mut connection, machine, &seen.record, report.seq, &changes, at).await? {
                return Ok(taken(Vec::new()));
            }
            continue;
        }
        let mut tx = sqlx::Connection::begin(&mut *connection).await?;
        let unused = append_output(&mut tx, &own).await?;
        if write(&mut tx, machine, &seen.record, report.seq, &changes, at).await? {
            tx.commit().await?;
            return Ok(taken(unused));
        }
        tx.rollback().await?;
    }
    Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut))
}

/// A machine's row as reports are judged by.
struct Row {
    record: Record,
    seen_at: Option<Timestamp>,
    desired: i64,
}

/// Reads what a report is judged by. `None` for a machine whose agent is not trusted.
async fn see(connection: &mut PgConnection, machine: MachineUid) -> Result<Option<Row>, StoreError> {
    let row = sqlx::query!(
        r#"
        select m.session, m.past_sessions, m.seq, m.boot_id, m.setup as "setup: Document", m.seen_at, m.desired,
            s.attempt_uid as "attempt_uid?", s.state as "part_state?", s.started_at as "started_at?",
            a.state as "attempt_state?"
        from machine m
        left join (assignment s join attempt a on a.uid = s.attempt_uid and a.state <> 'ended')
            on s.machine_uid = m.uid and s.state <> 'ended'
        where m.uid = $1 and m.state <> 'gone' and not m.quarantined and m.key_hash is not null
        "#,
        machine.0,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // A machine has one part that has not ended at most: an index sees to it.
    let held = match (row.attempt_uid, row.part_state) {
        (Some(attempt), Some(state)) => vec![Held {
            attempt: AttemptUid(attempt),
            released: row.attempt_state.as_deref() == Some("released"),
            state: word("assignment's state", &state, AssignmentState::find)?,
            started_at: row.started_at,
        }],
        _ => Vec::new(),
    };
    Ok(Some(Row {
        record: Record {
            session: row.session,
            past_sessions: row.past_sessions,
            seq: u64::try_from(row.seq).unwrap_or(0),
            boot_id: row.boot_id,
            setup: row.setup.read("machine's setup")?,
            held,
        },
        seen_at: row.seen_at,
        desired: row.desired,
    }))
}

/// Writes what a report changes, if no other report of the node was taken since `record` was read. A part that a reconciler ended
/// meanwhile stays as it is. Locks the machine, then the attempt, then the part.
async fn write(
    connection: &mut PgConnection,
    machine: MachineUid,
    record: &Record,
    seq: u64,
    changes: &Changes,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let (mut attempts, mut states, mut starts, mut ends, mut ended) = (vec![], vec![], vec![], vec![], vec![]);
    for seen in &changes.moved {
        attempts.push(seen.attempt.0);
        states.push(seen.state.as_str().to_owned());
        starts.push(seen.started_at);
        ends.push(Document::maybe(seen.end.as_ref())?);
        ended.push(seen.ended_at);
    }
    let new = changes.session.as_ref();
    let written = sqlx::query_scalar!(
        r#"
        with taken as (
            update machine
            set session = coalesce($4, session), boot_id = coalesce($5, boot_id), past_sessions = coalesce($6, past_sessions),
                seq = $7, setup = coalesce($8, setup), health = coalesce($15, health), seen_at = $9,
                -- A node that begins anew takes no work until it is set up again.
                state = case when $8::jsonb = '"pending"' and state in ('ready', 'unusable') then 'preparing' else state end,
                state_changed_at = case
                    when $8::jsonb = '"pending"' and state in ('ready', 'unusable') then $9
                    else state_changed_at
                end,
                problem = case when $8::jsonb = '"pending"' then null else problem end,
                revision = revision + case when $8::jsonb is null then 0 else 1 end
            where uid = $1 and session is not distinct from $2 and seq = $3
                and state <> 'gone' and not quarantined
            returning uid
        ),
        t as (
            select attempt_uid, state, started_at, end_how, ended_at
            from unnest($10::uuid[], $11::text[], $12::timestamptz[], $13::jsonb[], $14::timestamptz[])
                as t (attempt_uid, state, started_at, end_how, ended_at)
        ),
        counted as (
            update attempt a
            set revision = a.revision + 1
            from t, taken
            where a.uid = t.attempt_uid and a.state || '' <> 'ended'
            returning a.uid
        ),
        moved as (
            update assignment s
            set state = t.state, started_at = coalesce(s.started_at, t.started_at), end_how = t.end_how, ended_at = t.ended_at
            from t
            join counted on counted.uid = t.attempt_uid
            where s.attempt_uid = t.attempt_uid and s.machine_uid = $1 and s.state <> 'ended'
        )
        select exists (select from taken) as "taken!"
        "#,
        machine.0,
        record.session,
        i64::try_from(record.seq).unwrap_or(i64::MAX),
        new.map(|new| new.session),
        new.map(|new| new.boot_id.clone()),
        new.map(|new| new.past_sessions.clone()) as _,
        i64::try_from(seq).unwrap_or(i64::MAX),
        Document::maybe(changes.setup.as_ref())? as _,
        at,
        &attempts,
        &states,
        &starts as &[Option<Timestamp>],
        &ends as _,
        &ended as &[Option<Timestamp>],
        Document::maybe(changes.health.as_ref())? as _,
    )
    .fetch_one(connection)
    .await?;
    Ok(written)
}

/// Whether `attempt` has a part on `machine` that has not ended: only then is output of it taken.
pub(crate) async fn is_own_part(pool: &PgPool, machine: MachineUid, attempt: AttemptUid) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select exists (
            select
            from machine m
            join assignment s on s.machine_uid = m.uid
            join attempt a on a.uid = s.attempt_uid
            where m.uid = $1 and not m.quarantined and m.state <> 'gone'
                and s.attempt_uid = $2 and s.state <> 'ended' and a.state <> 'ended'
        ) as "own!"
        "#,
        machine.0,
        attempt.0,
    )
    .fetch_one(pool)
    .await?)
}
