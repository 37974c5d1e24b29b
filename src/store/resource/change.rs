//! Changing: groups' and workspaces' tags, the scale of clusters, the end of jobs that a user asks for.

use sqlx::PgPool;

use super::row::ResourceRow;
use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::domain::group::Group;
use crate::domain::job::{JobStatus, Phase};
use crate::domain::operation::{Operation, State};
use crate::domain::resource::{Envelope, Expected, Provisioning, Resource};
use crate::id::{Kind, PrincipalId, ResourceId, ResourceUid};
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;
use crate::store::{activity, operation};

/// What became of a change.
#[derive(Clone, Debug)]
pub(crate) enum Patched<T> {
    /// It was made.
    Done(T),
    /// The resource is being deleted.
    Deleting,
    /// The resource is not as the request expects it.
    Moved,
    /// There is none.
    Absent,
}

/// A group as a request wants it.
pub(crate) struct GroupChange<'a> {
    /// Where.
    pub(crate) id: &'a ResourceId,
    /// Its identity where it is made.
    pub(crate) uid: ResourceUid,
    /// Its region.
    pub(crate) location: &'a str,
    /// Its tags.
    pub(crate) tags: Option<Document>,
    /// What was asked for.
    pub(crate) spec: Document,
    /// The operation where it is made.
    pub(crate) operation: &'a Operation,
    /// When.
    pub(crate) at: Timestamp,
    /// Who asked, for people.
    pub(crate) why: &'a str,
    /// The request, for the record.
    pub(crate) activity: Option<Activity>,
    /// What the request expects.
    pub(crate) expected: Option<Expected>,
}

/// Makes a group, or gives one that exists in the same region other tags and manager. `None` where the group exists in another region or
/// is being deleted, or the subscription is absent; else whether it was made.
pub(crate) async fn upsert_group(pool: &PgPool, group: &GroupChange<'_>) -> Result<Option<(bool, Envelope<Group>)>, StoreError> {
    let row = sqlx::query!(
        r#"
        with put as (
            insert into resource (uid, subscription_id, kind, key, path, name, location, tags, spec, status, provisioning,
                provisioned_at, created_at, updated_at)
            select $1, s.id, 'group', $3, $4, $5, $6, $7, $8, '{}', 'succeeded', $9, $9, $9
            from subscription s
            where s.id = $2 and ($14::uuid is null or $15 = 0::bigint or exists (select from resource where key = $3))
            on conflict (key) do update
            set tags = excluded.tags, spec = excluded.spec, updated_at = excluded.updated_at,
                generation = resource.generation + 1, revision = resource.revision + 1
            where resource.location = excluded.location and resource.provisioning = 'succeeded'
                and ($14 is null or (resource.uid = $14 and resource.generation = $15))
            returning uid, path, name, location, tags, spec, provisioning, provisioned_at, created_at, updated_at, generation,
                revision
        ),
        promised as (
            insert into operation (id, subscription_id, location, resource_uid, resource_path, verb, state, started_at, ended_at, caller)
            select $10, $2, location, uid, path, 'create', 'succeeded', $9, $9, $11
            from put
            where uid = $1
        ),
        noted as (
            insert into event (at, resource_uid, path, caller, what, why)
            select $9, uid, path, $11, case when uid = $1 then 'created' else 'updated' end, $12
            from put
        ),
        logged as (
            insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                operation_id, request)
            select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path,
                case when put.uid = $1 then 201 else 200 end, null, a.request
            from put, jsonb_populate_recordset(null::activity, $13) a
        )
        select uid, path, name, location, tags as "tags: Document", spec as "spec: Document", provisioning, provisioned_at, created_at,
            updated_at, generation, revision
        from put
        "#,
        group.uid.0,
        group.id.subscription().0,
        group.id.key(),
        group.id.path(),
        group.id.name(),
        group.location,
        group.tags.as_ref() as _,
        &group.spec as _,
        group.at,
        group.operation.id.0,
        group.operation.caller.0,
        group.why,
        Document::of(&group.activity.as_slice())? as _,
        group.expected.map(|expected| expected.version().0),
        group.expected.map(|expected| expected.version().1),
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let envelope = Envelope {
        uid: ResourceUid(row.uid),
        subscription: group.id.subscription(),
        path: row.path,
        name: row.name,
        location: row.location,
        tags: row.tags.map(|tags| tags.read("tags")).transpose()?,
        spec: row.spec.read("group's spec")?,
        status: crate::domain::resource::NoStatus::default(),
        provisioning: word("provisioning", &row.provisioning, Provisioning::find)?,
        provisioned_at: row.provisioned_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        generation: row.generation,
        revision: row.revision,
    };
    Ok(Some((row.uid == group.uid.0, envelope)))
}

/// What a request changes of a resource.
#[derive(Default)]
pub(crate) struct Change {
    /// Its tags from now on; `None` leaves them.
    pub(crate) tags: Option<Document>,
    /// Members of its spec that become these; `None` leaves it.
    pub(crate) spec: Option<Document>,
    /// For a cluster, where its target becomes another: members of its status that become these.
    pub(crate) resizing: Option<Document>,
    /// The request, for the record.
    pub(crate) activity: Option<Activity>,
    /// What the request expects.
    pub(crate) expected: Option<Expected>,
}

/// Changes a resource by request, which counts up its generation even where nothing differs.
pub(crate) async fn change<K: Resource>(
    pool: &PgPool,
    key: &str,
    change: &Change,
    caller: PrincipalId,
    at: Timestamp,
    why: &str,
) -> Result<Patched<Envelope<K>>, StoreError> {
    let row = sqlx::query_as!(
        ResourceRow,
        r#"
        with changed as (
            update resource
            set tags = coalesce($3, tags),
                spec = spec || coalesce($4::jsonb, '{}'),
                -- Whoever changes a cluster's scale wants its nodes tried again.
                status = (case
                    when $5::jsonb is not null and (spec #> '{scale,manual,target}') is distinct from ($4::jsonb #> '{scale,manual,target}')
                        then status || $5::jsonb
                    else status
                end) - case when $4::jsonb ? 'scale' then 'repairs' else '' end,
                updated_at = $6, generation = generation + 1, revision = revision + 1
            where key = $1 and kind = $2 and provisioning = 'succeeded'
                and ($10::uuid is null or (uid = $10 and generation = $11::bigint))
            returning uid, subscription_id, key, path, name, location, tags, spec, status, provisioning, provisioned_at, created_at,
                updated_at, generation, revision, phase
        ),
        noted as (
            insert into event (at, resource_uid, path, caller, what, why)
            select $6, uid, path, $7, 'updated', $8
            from changed
        ),
        logged as (
            insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                operation_id, request)
            select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                a.operation_id, a.request
            from changed, jsonb_populate_recordset(null::activity, $9) a
        )
        select r.uid, r.subscription_id, r.key, r.path, r.name, r.location, r.tags as "tags: Document", r.spec as "spec: Document",
            r.status as "status: Document", r.provisioning, r.provisioned_at, r.created_at, r.updated_at, r.generation, r.revision,
            r.phase, n.idle, n.running, n.preparing, n.unusable, n.leaving
        from changed r
        cross join lateral (
            select count(*) filter (where state = 'ready' and attempt_uid is null) as idle,
                count(*) filter (where state = 'ready' and attempt_uid is not null) as running,
                count(*) filter (where state = 'preparing') as preparing,
                count(*) filter (where state = 'unusable') as unusable,
                count(*) filter (where state = 'leaving') as leaving
            from machine
            where cluster_uid = r.uid and state <> 'gone'
        ) n
        "#,
        key,
        K::KIND.as_str(),
        change.tags.as_ref() as _,
        change.spec.as_ref() as _,
        change.resizing.as_ref() as _,
        at,
        caller.0,
        why,
        Document::of(&change.activity.as_slice())? as _,
        change.expected.map(|expected| expected.version().0),
        change.expected.map(|expected| expected.version().1),
    )
    .fetch_optional(pool)
    .await?;
    match row {
        Some(row) => Ok(Patched::Done(row.read()?)),
        None => Ok(why_not(pool, key, K::KIND).await?),
    }
}

async fn why_not<T>(pool: &PgPool, key: &str, kind: Kind) -> Result<Patched<T>, StoreError> {
    let provisioning = sqlx::query_scalar!("select provisioning from resource where key = $1 and kind = $2", key, kind.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(match provisioning.as_deref() {
        None => Patched::Absent,
        Some("succeeded") => Patched::Moved,
        Some(_) => Patched::Deleting,
    })
}

/// What became of a wish to end a job.
#[derive(Clone, Debug)]
pub(crate) enum Terminated {
    /// It is under way, or done where the job had no nodes: the operation tells.
    Accepted(Box<Operation>),
    /// The job had ended.
    Ended,
    /// There is no such job.
    Absent,
}

/// Ends a job that waits for nodes with `ended`; one that has nodes terminates from `operation.started_at` on, and ends once they say so.
/// The operation's resource, path, location and end are filled in here.
pub(crate) async fn terminate(
    pool: &PgPool,
    key: &str,
    ended: &JobStatus,
    operation: &Operation,
    why: &str,
    recorded: Option<Activity>,
) -> Result<Terminated, StoreError> {
    let at = operation.started_at;
    let mut tx = pool.begin().await?;
    let job = sqlx::query!(
        r#"
        select uid, path, location, phase as "phase!", status as "status: Document"
        from resource
        where key = $1 and kind = 'job'
        for update
        "#,
        key,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(job) = job else { return Ok(Terminated::Absent) };
    let phase = word("job's phase", &job.phase, Phase::find)?;
    let mut status: JobStatus = job.status.read("job's status")?;
    let state = match phase {
        Phase::Succeeded | Phase::Failed => return Ok(Terminated::Ended),
        Phase::Queued => {
            status = JobStatus { lost: status.lost, ..ended.clone() };
            State::Succeeded
        }
        Phase::Running => {
            status.phase = Phase::Terminating;
            status.phase_changed_at = at;
            State::Running
        }
        Phase::Terminating => {
            status.phase = phase;
            State::Running
        }
    };
    let operation = Operation {
        resource: ResourceUid(job.uid),
        resource_path: job.path,
        location: job.location,
        state,
        ended_at: (state == State::Succeeded).then_some(at),
        ..operation.clone()
    };
    if status.phase != phase {
        sqlx::query!(
            r#"
            with changed as (
                update resource
                set phase = $2, status = $3, revision = revision + 1
                where uid = $1
                returning uid, path
            ),
            forgotten as (
                delete from secret
                where resource_uid = $1 and $2 = 'failed'
            )
            insert into event (at, resource_uid, path, caller, what, why)
            select $4, uid, path, $5, $2, $6
            from changed
            "#,
            job.uid,
            status.phase.as_str(),
            Document::of(&status)? as _,
            at,
            operation.caller.0,
            why,
        )
        .execute(&mut *tx)
        .await?;
    }
    operation::insert(&mut tx, &operation).await?;
    activity::insert(&mut tx, recorded.as_slice()).await?;
    tx.commit().await?;
    Ok(Terminated::Accepted(Box::new(operation)))
}
