//! Attempts that have not ended.

use std::collections::HashMap;
use std::iter;

use sqlx::PgConnection;
use uuid::Uuid;

use super::known::{Read, Version};
use super::{readable, word};
use crate::domain::attempt::{Assignment, AssignmentState, Attempt, AttemptState, Stop};
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::store::{Document, StoreError};

/// All that have not ended, with their parts. One of which a part cannot be read is left out: nothing is decided from half of a gang.
pub(super) async fn read(connection: &mut PgConnection, known: &mut Read<Option<Attempt>>) -> Result<Vec<Attempt>, StoreError> {
    let parts = sqlx::query!(
        r#"
        select coalesce(array_agg(a.uid), '{}') as "uids!", coalesce(array_agg(a.xmin::text::bigint), '{}') as "writers!",
            coalesce(array_agg(s.rank), '{}') as "ranks!", coalesce(array_agg(s.xmin::text::bigint), '{}') as "part_writers!"
        from attempt a
        cross join lateral (select rank, xmin from assignment where attempt_uid = a.uid offset 0) s
        where a.state <> 'ended'
        "#
    )
    .fetch_one(&mut *connection)
    .await?;
    let parts = parts.uids.into_iter().zip(parts.writers).zip(parts.ranks.into_iter().zip(parts.part_writers));
    let mut versions: HashMap<(Uuid, i64), Vec<(i32, i64)>> = HashMap::new();
    for (attempt, part) in parts {
        versions.entry(attempt).or_default().push(part);
    }
    let version = |((uid, writer), mut parts): ((Uuid, i64), Vec<(i32, i64)>)| {
        parts.sort_unstable();
        (uid, iter::once(writer).chain(parts.into_iter().map(|(_, writer)| writer)).collect())
    };
    let heads: Vec<(Uuid, Version)> = versions.into_iter().map(version).collect();
    let unread = known.unread(&heads);
    let rows = if unread.is_empty() { vec![] } else { attempts(connection, &unread).await? };
    Ok(known.take(heads, rows).flatten().cloned().collect())
}

async fn attempts(connection: &mut PgConnection, uids: &[Uuid]) -> Result<Vec<(Uuid, Option<Attempt>)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select a.uid, a.job_uid, a.number, a.state, a.created_at, a.released_at, a.stop, a.revision,
            s.machine_uid, s.rank, s.state as part_state, s.started_at, s.end_how as "end_how: Document", s.ended_at
        from attempt a
        cross join lateral (select * from assignment where attempt_uid = a.uid offset 0) s
        where a.uid = any($1)
        order by a.uid, s.rank
        "#,
        uids,
    )
    .fetch_all(connection)
    .await?;
    let mut attempts: Vec<(Uuid, Option<Attempt>)> = Vec::with_capacity(uids.len());
    for row in rows {
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
        if attempts.last().is_none_or(|(last, _)| *last != row.uid) {
            attempts.push((row.uid, readable("attempt", row.uid, attempt())));
        }
        let Some((_, attempt)) = attempts.last_mut() else { continue };
        match (attempt.as_mut(), readable("attempt's part", row.uid, part())) {
            (Some(attempt), Some(part)) => attempt.assignments.push(part),
            _ => *attempt = None,
        }
    }
    Ok(attempts)
}
