//! Machines: asked for, confirmed, ready or not, leaving, gone.

use sqlx::PgConnection;

use super::{Written, all};
use crate::clock::Timestamp;
use crate::domain::snapshot::Change;
use crate::secret::Sealer;
use crate::store::document::Document;
use crate::store::machine::{JOIN_LIFE, deallocation_word, seal_token, token_hash};

/// Inserts the rows of machines that drivers will be asked for.
pub(super) async fn ask(connection: &mut PgConnection, sealer: &Sealer, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut names, mut nodes, mut clusters, mut ordinals) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut sizes, mut ats, mut hashes, mut tokens, mut revisions) = (vec![], vec![], vec![], vec![], vec![]);
    for change in changes {
        let Change::AskMachine { cluster_revision, spec, ordinal, at } = change else { continue };
        uids.push(spec.uid.0);
        names.push(spec.name.clone());
        nodes.push(spec.node_id.clone());
        clusters.push(spec.cluster.0);
        ordinals.push(*ordinal);
        sizes.push(Document::of(&spec.size)?);
        ats.push(*at);
        hashes.push(token_hash(&spec.bootstrap.join_token));
        tokens.push(seal_token(sealer, spec.uid, &spec.bootstrap.join_token)?);
        revisions.push(*cluster_revision);
    }
    let written = sqlx::query_scalar!(
        r#"
        with asked as (
            select uid, name, node_id, cluster_uid, ordinal, size, at, token_hash, token, revision
            from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::int[], $6::jsonb[], $7::timestamptz[], $8::bytea[],
                $9::bytea[], $10::bigint[])
                as t (uid, name, node_id, cluster_uid, ordinal, size, at, token_hash, token, revision)
        ),
        cluster as (
            select uid, path, revision
            from resource
            where kind in ('cluster', 'file_server') and uid = any ($4)
            for share
        ),
        made as (
            insert into machine (uid, name, node_id, cluster_uid, ordinal, size, state, state_changed_at, created_at,
                join_token_hash, join_token_sealed, join_expires_at)
            select asked.uid, name, node_id, cluster_uid, ordinal, size, 'asked', at, at, token_hash, token,
                at + make_interval(secs => $11)
            from asked
            join cluster on cluster.uid = asked.cluster_uid and cluster.revision = asked.revision
            returning cluster_uid, name, created_at
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select made.created_at, made.cluster_uid, cluster.path, 'machine_asked', made.name || ' is asked for.'
            from made
            join cluster on cluster.uid = made.cluster_uid
        )
        select count(*) as "count!"
        from made
        "#,
        &uids,
        &names,
        &nodes,
        &clusters,
        &ordinals,
        &sizes as _,
        &ats,
        &hashes,
        &tokens,
        &revisions,
        JOIN_LIFE.as_secs_f64(),
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}

/// Writes what became of machines.
pub(super) async fn change(connection: &mut PgConnection, changes: &[&Change]) -> Written {
    if changes.is_empty() {
        return Ok(true);
    }
    let (mut uids, mut revisions, mut whats, mut ats) = (vec![], vec![], vec![], vec![]);
    let (mut addresses, mut problems, mut retries, mut deallocations, mut whys) = (vec![], vec![], vec![], vec![], vec![]);
    let mut evictions = vec![];
    for change in changes {
        let row = Row::of(change);
        let Some(row) = row else { continue };
        uids.push(row.uid);
        revisions.push(row.revision);
        whats.push(row.what.to_owned());
        ats.push(row.at);
        addresses.push(row.address);
        problems.push(Document::maybe(row.problem)?);
        retries.push(row.retry_at);
        deallocations.push(row.deallocation.map(str::to_owned));
        whys.push(row.why);
        evictions.push(row.evict_at);
    }
    let written = sqlx::query_scalar!(
        r#"
        with t as (
            select uid, revision, what, at, address, problem, retry_at, deallocation, why, evict_at
            from unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[], $6::jsonb[], $7::timestamptz[],
                $8::text[], $9::text[], $11::timestamptz[])
                as t (uid, revision, what, at, address, problem, retry_at, deallocation, why, evict_at)
        ),
        changed as (
            update machine m
            set state = case
                    when t.what = 'not_made' or t.what = 'preparing' and m.state <> 'asked' then m.state
                    else t.what
                end,
                state_changed_at = case
                    when t.what = 'not_made' or t.what = 'preparing' and m.state <> 'asked' or t.what = m.state
                        then m.state_changed_at
                    else t.at
                end,
                address = coalesce(t.address, m.address),
                problem = case when t.what in ('leaving', 'gone') then m.problem else t.problem end,
                ensure_failures = case t.what
                    when 'not_made' then m.ensure_failures + 1
                    when 'preparing' then 0
                    else m.ensure_failures
                end,
                retry_at = case when t.what = 'leaving' then m.retry_at else t.retry_at end,
                deallocation = coalesce(t.deallocation, m.deallocation),
                evict_at = coalesce(m.evict_at, t.evict_at),
                join_token_sealed = case when t.what = 'gone' then null else m.join_token_sealed end,
                -- A machine that is made late joins late: its time begins when it is there, or is tried again.
                join_expires_at = case
                    when t.what in ('not_made', 'preparing') and m.key_hash is null
                        then greatest(m.join_expires_at, coalesce(t.retry_at, t.at) + make_interval(secs => $10))
                    else m.join_expires_at
                end,
                revision = m.revision + 1
            from t
            where m.uid = t.uid and m.revision = t.revision and m.state || '' <> 'gone'
            returning m.cluster_uid, m.name, t.at, t.what, t.why
        ),
        noted as (
            insert into event (at, resource_uid, path, what, why)
            select coalesce(changed.at, clock_timestamp()), changed.cluster_uid, cluster.path, 'machine_' || changed.what,
                changed.name || ' ' || changed.why
            from changed
            join resource cluster on cluster.uid = changed.cluster_uid
        )
        select count(*) as "count!"
        from changed
        "#,
        &uids,
        &revisions,
        &whats,
        &ats as &[Option<Timestamp>],
        &addresses as &[Option<String>],
        &problems as _,
        &retries as &[Option<Timestamp>],
        &deallocations as &[Option<String>],
        &whys,
        JOIN_LIFE.as_secs_f64(),
        &evictions as &[Option<Timestamp>],
    )
    .fetch_one(connection)
    .await?;
    Ok(all(written, uids.len()))
}

/// One change as the statement takes it. `what` is the state that follows, or `not_made`.
struct Row<'a> {
    uid: uuid::Uuid,
    revision: i64,
    what: &'static str,
    at: Option<Timestamp>,
    address: Option<String>,
    problem: Option<&'a crate::domain::resource::EntityError>,
    retry_at: Option<Timestamp>,
    deallocation: Option<&'static str>,
    evict_at: Option<Timestamp>,
    why: String,
}

impl Row<'_> {
    fn of(change: &Change) -> Option<Row<'_>> {
        let row = |uid: crate::id::MachineUid, revision: i64, what, at, why: &str| Row {
            uid: uid.0,
            revision,
            what,
            at,
            address: None,
            problem: None,
            retry_at: None,
            deallocation: None,
            evict_at: None,
            why: why.to_owned(),
        };
        Some(match change {
            Change::MachinePresent { uid, revision, address, at } => {
                Row { address: address.clone(), ..row(*uid, *revision, "preparing", Some(*at), "is there.") }
            }
            Change::MachineNotMade { uid, revision, problem, retry_at } => Row {
                problem: Some(problem),
                retry_at: Some(*retry_at),
                ..row(*uid, *revision, "not_made", None, &format!("could not be made: {}", problem.message))
            },
            Change::MachineReady { uid, revision, at } => row(*uid, *revision, "ready", Some(*at), "takes jobs."),
            Change::MachineUnusable { uid, revision, problem, at } => Row {
                problem: Some(problem),
                ..row(*uid, *revision, "unusable", Some(*at), &format!("cannot be used: {}", problem.message))
            },
            Change::MachineLeaving { uid, revision, deallocation, evict_at, at } => Row {
                deallocation: Some(deallocation_word(*deallocation)),
                evict_at: *evict_at,
                ..row(*uid, *revision, "leaving", Some(*at), if evict_at.is_some() { "is taken away." } else { "is to go." })
            },
            Change::MachineGone { uid, revision, at } => row(*uid, *revision, "gone", Some(*at), "is gone."),
            _ => return None,
        })
    }
}
