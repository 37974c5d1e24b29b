//! Putting many jobs into their queues with one statement and one commit.

use std::collections::HashMap;

use sqlx::PgPool;

use super::create::SealedSecret;
use crate::domain::activity::Activity;
use crate::domain::operation::Operation;
use crate::id::{ResourceId, ResourceUid};
use crate::store::{Document, StoreError};

/// A job that is to be made.
#[derive(Debug)]
pub(crate) struct Submission {
    /// Its identity.
    pub(crate) uid: ResourceUid,
    /// Its address.
    pub(crate) id: ResourceId,
    /// The key of its cluster, which must exist and not be deleted.
    pub(crate) cluster: String,
    /// What was asked for.
    pub(crate) spec: Document,
    /// What is recorded at first.
    pub(crate) status: Document,
    /// Its secrets.
    pub(crate) secrets: Vec<SealedSecret>,
    /// Greater goes first.
    pub(crate) rank: i16,
    /// Nodes that it needs.
    pub(crate) node_count: i32,
    /// File servers that it mounts, which must be there and not be deleted.
    pub(crate) servers: Vec<ResourceUid>,
    /// The operation that made it, at whose start everything is dated; it has ended already, as nothing of the making is left to do.
    pub(crate) operation: Operation,
    /// Who asked, for people.
    pub(crate) why: String,
    /// The request with its operation, for the record.
    pub(crate) activity: Option<Activity>,
    /// The span of the request, where it is told.
    pub(crate) trace: Option<String>,
}

/// A job that was made.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    /// Its region.
    pub(crate) location: String,
    /// The canonical path of its cluster, which the stored spec names.
    pub(crate) cluster: String,
}

/// Makes those of the jobs that can be. What is missing in the answer was not made: it exists, its parent or cluster is absent or
/// being deleted, or the cluster is elsewhere or never large enough. Reading tells.
///
/// Parents are locked against being marked for deletion until the commit: whoever deletes one finds its children. Clusters are locked
/// against removal: whoever removes one finds its jobs. Rows are locked and made in the order of their keys, so that two of these
/// statements never wait for each other.
pub(crate) async fn submit(pool: &PgPool, jobs: &[Submission]) -> Result<HashMap<ResourceUid, Submitted>, StoreError> {
    let each = |value: fn(&Submission) -> uuid::Uuid| jobs.iter().map(value).collect::<Vec<_>>();
    let text = |value: fn(&Submission) -> String| jobs.iter().map(value).collect::<Vec<_>>();
    let secrets = || jobs.iter().flat_map(|job| job.secrets.iter().map(move |secret| (job.uid.0, secret)));
    let mounts = || jobs.iter().flat_map(|job| job.servers.iter().map(move |server| (job.uid.0, server.0)));
    let rows = sqlx::query!(
        r#"
        with asked as materialized (
            select *
            from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::jsonb[],
                $10::smallint[], $11::integer[], $12::timestamptz[], $13::uuid[], $14::uuid[], $15::text[], $23::bigint[],
                $24::text[])
                as t (uid, subscription_id, parent, cluster, key, path, name, spec, status, rank, node_count, at, operation, caller, why,
                    mounts, trace)
        ),
        parent as materialized (
            select uid, key, location
            from resource
            where key = any($3) and provisioning = 'succeeded'
            order by key
            for share
        ),
        cluster as materialized (
            select uid, key, path, location, (spec #>> '{scale,auto,maximum}')::integer as most
            from resource
            where key = any($4) and kind = 'cluster' and provisioning = 'succeeded'
            order by key
            for key share
        ),
        mount as materialized (
            select t.uid, server.uid as server_uid
            from unnest($21::uuid[], $22::uuid[]) as t (uid, server_uid)
            join resource server on server.uid = t.server_uid
            where server.kind = 'file_server' and server.provisioning = 'succeeded'
            for key share of server
        ),
        made as (
            insert into resource (uid, subscription_id, kind, parent_uid, key, path, name, location, spec, status, provisioning,
                provisioned_at, created_at, updated_at, phase, cluster_uid, rank, node_count, trace)
            select asked.uid, asked.subscription_id, 'job', parent.uid, asked.key, asked.path, asked.name, parent.location,
                asked.spec || jsonb_build_object('cluster', cluster.path), asked.status, 'succeeded',
                asked.at, asked.at, asked.at, 'queued', cluster.uid, asked.rank, asked.node_count,
                asked.trace
            from asked
            join parent on parent.key = asked.parent
            join cluster on cluster.key = asked.cluster
            where asked.mounts = (select count(*) from mount where mount.uid = asked.uid)
                and cluster.location = parent.location and asked.node_count <= coalesce(cluster.most, asked.node_count)
            order by asked.key
            on conflict (key) do nothing
            returning uid, path, location, cluster_uid
        ),
        kept as (
            insert into secret (resource_uid, field, key_id, sealed)
            select made.uid, t.field, t.key_id, t.sealed
            from unnest($16::uuid[], $17::text[], $18::text[], $19::bytea[]) as t (uid, field, key_id, sealed)
            join made on made.uid = t.uid
        ),
        used as (
            insert into file_server_use (user_uid, server_uid)
            select made.uid, mount.server_uid
            from made
            join mount on mount.uid = made.uid
        ),
        promised as (
            insert into operation (id, subscription_id, location, resource_uid, resource_path, verb, state, started_at, ended_at, caller)
            select asked.operation, asked.subscription_id, made.location, made.uid, made.path, 'create', 'succeeded', asked.at, asked.at,
                asked.caller
            from made
            join asked on asked.uid = made.uid
        ),
        noted as (
            insert into event (at, resource_uid, path, caller, what, why)
            select asked.at, made.uid, made.path, asked.caller, 'created', asked.why
            from made
            join asked on asked.uid = made.uid
        ),
        logged as (
            insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                operation_id, request)
            select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                a.operation_id, a.request
            from jsonb_populate_recordset(null::activity, $20) a
            join asked on asked.operation = a.operation_id
            join made on made.uid = asked.uid
        )
        select made.uid, made.location, cluster.path
        from made
        join cluster on cluster.uid = made.cluster_uid
        "#,
        &each(|job| job.uid.0),
        &each(|job| job.id.subscription().0),
        &text(|job| job.id.parent().map(|parent| parent.key()).unwrap_or_default()),
        &text(|job| job.cluster.clone()),
        &text(|job| job.id.key()),
        &text(|job| job.id.path()),
        &text(|job| job.id.name().to_owned()),
        &jobs.iter().map(|job| job.spec.clone()).collect::<Vec<_>>() as _,
        &jobs.iter().map(|job| job.status.clone()).collect::<Vec<_>>() as _,
        &jobs.iter().map(|job| job.rank).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.node_count).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.operation.started_at).collect::<Vec<_>>(),
        &each(|job| job.operation.id.0),
        &each(|job| job.operation.caller.0),
        &text(|job| job.why.clone()),
        &secrets().map(|(uid, _)| uid).collect::<Vec<_>>(),
        &secrets().map(|(_, secret)| secret.field.clone()).collect::<Vec<_>>(),
        &secrets().map(|(_, secret)| secret.sealed.key_id.clone()).collect::<Vec<_>>(),
        &secrets().map(|(_, secret)| secret.sealed.bytes.clone()).collect::<Vec<_>>(),
        Document::of(&jobs.iter().filter_map(|job| job.activity.as_ref()).collect::<Vec<_>>())? as _,
        &mounts().map(|(uid, _)| uid).collect::<Vec<_>>(),
        &mounts().map(|(_, server)| server).collect::<Vec<_>>(),
        &jobs.iter().map(|job| i64::try_from(job.servers.len()).unwrap_or(i64::MAX)).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.trace.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .fetch_all(pool)
    .await?;
    let submitted = |location, cluster| Submitted { location, cluster };
    Ok(rows.into_iter().map(|row| (ResourceUid(row.uid), submitted(row.location, row.path))).collect())
}
