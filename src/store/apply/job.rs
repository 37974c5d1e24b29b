//! Jobs whose status changes: they end, go back to the queue, or terminate.

use sqlx::PgConnection;

use super::{Written, all};
use crate::domain::job::Phase;
use crate::domain::snapshot::Change;
use crate::store::document::Document;

/// Writes new statuses. What ended stays as it is, and its secrets are forgotten: nothing will ask for them again, but for the
/// keys of storage, with which its outputs are listed and linked.
pub(super) async fn status(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut phases, mut statuses) = (vec![], vec![], vec![], vec![]);
    let (mut ats, mut whats, mut whys) = (vec![], vec![], vec![]);
    for change in changes {
        let Change::JobStatus { uid, revision, status, why } = change else { continue };
        uids.push(uid.0);
        revisions.push(*revision);
        phases.push(status.phase.as_str().to_owned());
        statuses.push(Document::of(status)?);
        ats.push(status.phase_changed_at);
        let what = if status.phase == Phase::Queued { "requeued" } else { status.phase.as_str() };
        whats.push(what.to_owned());
        whys.push(why.clone());
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, phase, status, at, what, why
            from unnest($1::uuid[], $2::bigint[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::text[], $7::text[])
                as t (uid, revision, phase, status, at, what, why)
        ),
        changed as (
            update resource r
            set phase = t.phase, status = t.status, revision = r.revision + 1
            from t
            where r.uid = t.uid and r.revision = t.revision and r.phase not in ('succeeded', 'failed')
            returning r.uid, r.path, t.phase, t.at, t.what, t.why
        ),
        forgotten as (
            delete from secret
            using changed
            where secret.resource_uid = changed.uid and changed.phase in ('succeeded', 'failed')
                and secret.field not like 'mount_volumes.%'
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select at, uid, path, what, why
            from changed
        )
        select count(*) as "count!"
        from changed
        "#,
        &uids,
        &revisions,
        &phases,
        &statuses as _,
        &ats,
        &whats,
        &whys,
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}
