//! The record of what was asked for. Rows of requests that changed something are written by the statement that changed it; the
//! others come here, many in one.

use sqlx::PgConnection;

use super::document::Document;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::domain::activity::{Activity, Recorded, Window};

/// Most rows that one pruning statement removes, so that it never holds up others.
const PRUNED_AT_ONCE: i64 = 5_000;

/// Adds rows.
pub(crate) async fn insert(connection: &mut PgConnection, rows: &[Activity]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status, operation_id,
            request)
        select event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status, operation_id, request
        from jsonb_populate_recordset(null::activity, $1)
        "#,
        Document::of(&rows)? as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Adds rows that no other statement wrote.
    pub(crate) async fn record_activities(&self, rows: &[Activity]) -> Result<(), StoreError> {
        insert(&mut *self.pool().acquire().await?, rows).await
    }

    /// Up to `limit` rows of a window, the latest first, with what their operations came to; those before the position `before`.
    pub(crate) async fn list_activities(
        &self,
        window: &Window,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Recorded>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select a.id, a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                a.operation_id, a.request as "request: Document", o.ended_at as "operation_ended_at?", o.state as "operation_state?"
            from activity a
            left join operation o on o.id = a.operation_id
            where a.subscription_id = $1
                and greatest(a.ended_at, case when a.operation_id is null then a.ended_at else coalesce(o.ended_at, 'infinity') end) >= $2
                and ($3::timestamptz is null or a.at <= $3)
                and ($4::text is null or a.key = $4 or starts_with(a.key, $4 || '/'))
                and ($5::text is null or a.key = $5)
                and ($6::text is null or starts_with(lower(a.action), $6 || '/'))
                and ($7::text is null or a.correlation = $7)
                and ($8::bigint is null or a.id < $8)
            order by a.id desc
            limit $9
            "#,
            window.subscription.0,
            window.from,
            window.to,
            window.below,
            window.at,
            window.provider,
            window.correlation,
            before,
            limit,
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let activity = Activity {
                    event_id: row.event_id,
                    subscription_id: row.subscription_id,
                    at: row.at,
                    ended_at: row.ended_at,
                    correlation: row.correlation,
                    caller: row.caller,
                    action: row.action,
                    key: row.key,
                    path: row.path,
                    status: row.status,
                    operation_id: row.operation_id,
                    request: row.request.read("activity's request")?,
                };
                let succeeded = row.operation_state.as_deref() == Some("succeeded");
                let outcome = row.operation_ended_at.map(|at| (at, succeeded));
                Ok(Recorded { position: row.id, activity, outcome })
            })
            .collect()
    }

    /// Removes rows older than `before`, some at once. Answers whether there may be more.
    pub(crate) async fn prune_activities(&self, before: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            r#"
            delete from activity
            where id in (select id from activity where at < $1 order by at limit $2)
            "#,
            before,
            PRUNED_AT_ONCE,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() >= PRUNED_AT_ONCE.unsigned_abs())
    }
}
