//! What spans of attempts are made of.

use super::Store;
use super::StoreError;
use super::document::Document;
use crate::domain::trace::Part;
use crate::error::Error;
use crate::id::{AttemptUid, ResourceUid};

impl Store {
    /// The parts of those of `attempts` whose jobs keep a span, by attempt and rank.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the database is away.
    pub async fn traced_parts(&self, attempts: &[AttemptUid]) -> Result<Vec<Part>, Error> {
        let uids: Vec<_> = attempts.iter().map(|attempt| attempt.0).collect();
        let rows = sqlx::query!(
            r#"
            select a.uid, a.job_uid, a.number, a.created_at, job.trace as "trace!", s.rank, s.started_at,
                coalesce(s.ended_at, a.ended_at) as ended_at, s.end_how as "end_how: Document"
            from attempt a
            join resource job on job.uid = a.job_uid
            join assignment s on s.attempt_uid = a.uid
            where a.uid = any($1) and job.trace is not null
            order by a.uid, s.rank
            "#,
            &uids,
        )
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::from)?;
        let mut parts = Vec::new();
        for row in rows {
            let end = row.end_how.as_ref().map(|end| end.read("assignment's end")).transpose()?;
            parts.push(Part {
                attempt: AttemptUid(row.uid),
                job: ResourceUid(row.job_uid),
                number: row.number,
                trace: row.trace,
                rank: row.rank,
                placed_at: row.created_at,
                started_at: row.started_at,
                ended_at: row.ended_at,
                end,
            });
        }
        Ok(parts)
    }
}
