//! What became of a job's attempts.

use sqlx::PgPool;

use crate::domain::attempt::{AssignmentState, AttemptState, History, HistoryPart};
use crate::id::ResourceUid;
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;

/// The latest attempts of a job, `most` of them, the latest first.
pub(crate) async fn attempts(pool: &PgPool, job: ResourceUid, most: u32) -> Result<Vec<History>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select a.number, a.state, a.cause, a.created_at, a.released_at, a.ended_at,
            s.node_id, s.rank, s.state as part_state, s.started_at, s.ended_at as part_ended_at, s.end_how as "end_how: Document"
        from (select * from attempt where job_uid = $1 order by number desc limit $2) a
        join assignment s on s.attempt_uid = a.uid
        order by a.number desc, s.rank
        "#,
        job.0,
        i64::from(most),
    )
    .fetch_all(pool)
    .await?;
    let mut found: Vec<History> = Vec::new();
    for row in rows {
        if found.last().is_none_or(|last| last.number != row.number) {
            found.push(History {
                number: row.number,
                state: word("attempt's state", &row.state, AttemptState::find)?,
                cause: row.cause,
                created_at: row.created_at,
                released_at: row.released_at,
                ended_at: row.ended_at,
                parts: Vec::new(),
            });
        }
        let part = HistoryPart {
            node_id: row.node_id,
            rank: row.rank,
            state: word("assignment's state", &row.part_state, AssignmentState::find)?,
            started_at: row.started_at,
            ended_at: row.part_ended_at,
            end: row.end_how.as_ref().map(|end| end.read("assignment's end")).transpose()?,
        };
        if let Some(last) = found.last_mut() {
            last.parts.push(part);
        }
    }
    Ok(found)
}
