//! The record of what changed, read in an order that never changes afterwards.

use sqlx::PgPool;

use super::StoreError;
use crate::domain::event::{Authors, Event, Place};
use crate::id::{PrincipalId, ResourceUid};

/// Events after a place.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    /// Complete up to [`to`](Self::to): none of before will ever be added.
    pub(crate) settled: Vec<Event>,
    /// Committed already, while an earlier transaction is still under way: these are read again.
    pub(crate) early: Vec<Event>,
    /// Where to go on.
    pub(crate) to: Place,
    /// Whether there may be more settled ones at once.
    pub(crate) is_full: bool,
}

/// Up to `limit` events after `place` whose paths begin with `prefix`, in order.
pub(crate) async fn after(pool: &PgPool, place: Place, prefix: &str, limit: i64) -> Result<Following, StoreError> {
    let rows = sqlx::query!(
        r#"
        select h.horizon::text::bigint as "horizon!", e.id as "id?", e.tx::text::bigint as tx, e.at as "at?",
            e.resource_uid as "resource_uid?", e.path as "path?", e.caller, e.what as "what?", e.why as "why?"
        from (select pg_snapshot_xmin(pg_current_snapshot()) as horizon) h
        left join lateral (
            select id, tx, at, resource_uid, path, caller, what, why
            from event
            where (tx, id) > ($1::text::xid8, $2) and starts_with(path, $3)
            order by tx, id
            limit $4
        ) e on true
        order by e.tx, e.id
        "#,
        place.transaction.to_string(),
        place.id,
        prefix,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let mut horizon = place;
    let (mut settled, mut early) = (Vec::new(), Vec::new());
    for row in rows {
        horizon = horizon.max(Place { transaction: row.horizon, id: 0 });
        // The one row without an event tells the horizon alone.
        let (Some(id), Some(transaction), Some(at), Some(resource), Some(path), Some(what), Some(why)) =
            (row.id, row.tx, row.at, row.resource_uid, row.path, row.what, row.why)
        else {
            continue;
        };
        let event = Event {
            place: Place { transaction, id },
            at,
            resource: ResourceUid(resource),
            path,
            caller: row.caller.map(PrincipalId),
            what,
            why,
        };
        if event.place < horizon { settled.push(event) } else { early.push(event) }
    }
    // Settled ones come first: where an early one was read, all of them were.
    let is_full = is_full && early.is_empty() && !settled.is_empty();
    let to = match settled.last() {
        Some(last) if is_full => last.place,
        _ => horizon,
    };
    Ok(Following { settled, early, to, is_full })
}

/// The place that everything before is complete up to.
pub(crate) async fn horizon(pool: &PgPool) -> Result<Place, StoreError> {
    let transaction = sqlx::query_scalar!(r#"select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!""#)
        .fetch_one(pool)
        .await?;
    Ok(Place { transaction, id: 0 })
}

/// Who made and last changed each of these resources.
pub(crate) async fn authors(pool: &PgPool, resources: &[ResourceUid]) -> Result<Vec<(ResourceUid, Authors)>, StoreError> {
    let uids: Vec<uuid::Uuid> = resources.iter().map(|uid| uid.0).collect();
    let rows = sqlx::query!(
        r#"
        select t.uid as "uid!", coalesce(creator.client_id, created.caller::text) as created_by,
            coalesce(changer.client_id, changed.caller::text) as updated_by
        from unnest($1::uuid[]) as t (uid)
        left join lateral (
            select caller
            from event
            where resource_uid = t.uid and caller is not null and what = 'created'
            order by id
            limit 1
        ) created on true
        left join lateral (
            select caller
            from event
            where resource_uid = t.uid and caller is not null and what in ('created', 'updated')
            order by id desc
            limit 1
        ) changed on true
        left join principal creator on creator.id = created.caller
        left join principal changer on changer.id = changed.caller
        "#,
        &uids,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (ResourceUid(row.uid), Authors { created_by: row.created_by, updated_by: row.updated_by }))
        .collect())
}
