//! Statuses of clusters and file servers, operations that did what they promised, and resources that go.

use sqlx::PgConnection;

use super::{Written, all};
use crate::clock::Timestamp;
use crate::domain::cluster::{Allocation, AutoTarget, Repairs};
use crate::domain::file_server::MountSettings;
use crate::domain::resource::EntityError;
use crate::domain::snapshot::Change;
use crate::store::document::Document;

/// The part of a cluster's status that reconcilers write; the rest of the stored document stays.
#[derive(serde::Serialize)]
struct StatusPatch<'a> {
    allocation: Allocation,
    #[serde(with = "time::serde::rfc3339")]
    allocation_changed_at: Timestamp,
    errors: &'a [EntityError],
    auto: Option<AutoTarget>,
    repairs: Option<&'a Repairs>,
}

pub(super) async fn cluster_status(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut patches, mut whys) = (vec![], vec![], vec![], vec![]);
    for change in changes {
        let Change::ClusterStatus { uid, revision, allocation, changed_at, errors, auto, repairs } = change else { continue };
        uids.push(uid.0);
        revisions.push(*revision);
        let patch = StatusPatch {
            allocation: *allocation,
            allocation_changed_at: *changed_at,
            errors,
            auto: *auto,
            repairs: repairs.as_ref(),
        };
        patches.push(Document::of(&patch)?);
        let state = match allocation {
            Allocation::Steady => "The number of nodes is right",
            Allocation::Resizing => "Nodes are being added or removed",
        };
        whys.push(format!("{state}; {} error(s).", errors.len()));
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, patch, why
            from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::text[]) as t (uid, revision, patch, why)
        ),
        changed as (
            update resource r
            set status = r.status || t.patch, revision = r.revision + 1
            from t
            where r.uid = t.uid and r.revision = t.revision and r.kind = 'cluster'
            returning r.uid, r.path, t.why
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select clock_timestamp(), uid, path, 'allocation', why
            from changed
        )
        select count(*) as "count!"
        from changed
        "#,
        &uids,
        &revisions,
        &patches as _,
        &whys,
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}

/// The part of a file server's status that reconcilers write.
#[derive(serde::Serialize)]
struct MountPatch<'a> {
    mount: &'a MountSettings,
}

/// Writes what became of file servers, and ends the operations that make them.
pub(super) async fn file_server_status(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut patches, mut errors, mut ats) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut states, mut whys) = (vec![], vec![]);
    for change in changes {
        let Change::FileServerStatus { uid, revision, made, at } = change else { continue };
        uids.push(uid.0);
        revisions.push(*revision);
        patches.push(Document::maybe(made.as_ref().ok().map(|mount| MountPatch { mount }).as_ref())?);
        errors.push(Document::maybe(made.as_ref().err())?);
        ats.push(*at);
        states.push(if made.is_ok() { "succeeded".to_owned() } else { "failed".to_owned() });
        whys.push(match made {
            Ok(mount) => format!("It exports {} at {}.", mount.mount_point, mount.internal_address),
            Err(error) => error.message.clone(),
        });
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, patch, error, at, state, why
            from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::jsonb[], $5::timestamptz[], $6::text[], $7::text[])
                as t (uid, revision, patch, error, at, state, why)
        ),
        changed as (
            update resource r
            set status = r.status || coalesce(t.patch, '{}'), provisioning = t.state, revision = r.revision + 1,
                provisioned_at = case when r.provisioning = t.state then r.provisioned_at else t.at end,
                updated_at = t.at, generation = r.generation + 1
            from t
            where r.uid = t.uid and r.revision = t.revision and r.kind = 'file_server' and r.provisioning <> 'deleting'
            returning r.uid, r.path, t.at, t.state, t.error, t.why
        ),
        ended as (
            update operation o
            set state = changed.state, ended_at = changed.at, error = changed.error
            from changed
            where o.resource_uid = changed.uid and o.verb = 'create' and o.state = 'running'
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select at, uid, path, 'file_server_' || state, why
            from changed
        )
        select count(*) as "count!"
        from changed
        "#,
        &uids,
        &revisions,
        &patches as _,
        &errors as _,
        &ats,
        &states,
        &whys,
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}

/// Operations that are not there or have ended are no conflict.
pub(super) async fn finish(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut resources, mut verbs, mut ats) = (vec![], vec![], vec![]);
    for change in changes {
        let Change::FinishOperations { resource, verb, at } = change else { continue };
        resources.push(resource.0);
        verbs.push(verb.as_str().to_owned());
        ats.push(*at);
    }
    sqlx::query!(
        r#"
        update operation o
        set state = 'succeeded', ended_at = t.at
        from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as t (resource_uid, verb, at)
        where o.resource_uid = t.resource_uid and o.verb = t.verb and o.state = 'running'
        "#,
        &resources,
        &verbs,
        &ats,
    )
    .execute(connection)
    .await?;
    Ok(true)
}

/// Deletes resources, ends whatever operation still runs on them, and lets the jobs of a cluster that goes no longer name it.
pub(super) async fn remove(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut ats) = (vec![], vec![], vec![]);
    for change in changes {
        let Change::Remove { uid, revision, at } = change else { continue };
        uids.push(uid.0);
        revisions.push(*revision);
        ats.push(*at);
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, at
            from unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) as t (uid, revision, at)
        ),
        gone as (
            delete from resource r
            using t
            where r.uid = t.uid and r.revision = t.revision and r.provisioning = 'deleting'
            returning r.uid, r.kind, r.path, t.at
        ),
        freed as (
            update resource job
            set cluster_uid = null, revision = job.revision + 1
            from gone
            where gone.kind = 'cluster' and job.cluster_uid = gone.uid
                and (job.phase = 'queued' or job.phase in ('running', 'terminating'))
                and job.uid not in (select uid from gone)
        ),
        ended as (
            update operation o
            set state = 'succeeded', ended_at = gone.at
            from gone
            where o.resource_uid = gone.uid and o.state = 'running'
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select at, uid, path, 'deleted', 'Nothing of it is left.'
            from gone
        )
        select count(*) as "count!"
        from gone
        "#,
        &uids,
        &revisions,
        &ats,
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}
