//! Looking for jobs in an experiment, or in all of a workspace.
//!
//! By age, each phase of each experiment is read by the index in the order that is wanted, so that a page costs what it shows and not what
//! is stored; a part of a name alone is looked for in all.

use sqlx::PgPool;
use time::macros::datetime;

use super::row::ResourceRow;
use super::select::select_resources;
use crate::clock::Timestamp;
use crate::domain::job::{Job, Phase};
use crate::domain::resource::Envelope;
use crate::domain::search::{JobCounts, JobOrder, JobPlace, JobSearch};
use crate::id::ResourceUid;
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;

/// Before and after every job.
const EVER: (Timestamp, Timestamp) = (datetime!(0001-01-01 0:00 UTC), datetime!(9999-12-31 0:00 UTC));

/// Up to `limit` jobs of the workspace or experiment `scope` (a key) after a place of the same search, with the place of each. Does not
/// tell an absent scope from an empty one.
pub(crate) async fn search_jobs(
    pool: &PgPool,
    scope: &str,
    search: &JobSearch,
    after: Option<&JobPlace>,
    limit: i64,
) -> Result<Vec<(JobPlace, Envelope<Job>)>, StoreError> {
    let made = |otherwise: Timestamp, edge: uuid::Uuid| match after {
        Some(JobPlace::Made(at, uid)) => (*at, uid.0),
        _ => (otherwise, edge),
    };
    let rows = match search.order {
        JobOrder::Newest => newest(pool, scope, search, made(EVER.1, uuid::Uuid::max()), limit).await?,
        JobOrder::Oldest => oldest(pool, scope, search, made(EVER.0, uuid::Uuid::nil()), limit).await?,
        JobOrder::Name => {
            let key = match after {
                Some(JobPlace::Key(key)) => key.as_str(),
                _ => "",
            };
            by_name(pool, scope, search, key, limit).await?
        }
    };
    rows.into_iter()
        .map(|row| {
            let place = match search.order {
                JobOrder::Name => JobPlace::Key(row.key.clone()),
                JobOrder::Newest | JobOrder::Oldest => JobPlace::Made(row.created_at, ResourceUid(row.uid)),
            };
            Ok((place, row.read()?))
        })
        .collect()
}

fn phases(search: &JobSearch) -> Vec<String> {
    let all = [Phase::Queued, Phase::Running, Phase::Terminating, Phase::Succeeded, Phase::Failed];
    all.into_iter()
        .filter(|phase| search.phase.is_none_or(|wanted| wanted == *phase))
        .map(|phase| phase.as_str().to_owned())
        .collect()
}

/// A function that finds jobs on one side of a moment, in an order: as many as are wanted of each phase of each experiment, and of those the
/// first.
macro_rules! by_age {
    ($name:ident, $side:tt, $order:tt) => {
        async fn $name(
            pool: &PgPool,
            scope: &str,
            search: &JobSearch,
            (at, uid): (Timestamp, uuid::Uuid),
            limit: i64,
        ) -> Result<Vec<ResourceRow>, StoreError> {
            let phases = phases(search);
            Ok(select_resources!(
                r#"
                from resource s
                join resource e on e.kind = 'experiment' and (e.uid = s.uid or e.parent_uid = s.uid)
                cross join unnest($2::text[]) as p (phase)
                cross join lateral (
                    select *
                    from resource j
                    where j.parent_uid = e.uid and j.kind = 'job' and j.phase = p.phase
                        and ($3::text is null or lower(j.spec ->> 'cluster') = $3)
                        and ($4::text is null or strpos(lower(j.name), $4) > 0)
                        and "#
                    + $side
                    + r#"
                    limit $5
                ) r
                where s.key = $1
                order by "#
                    + $order
                    + r#"
                limit $5
                "#,
                scope,
                &phases,
                search.cluster,
                search.name,
                limit,
                at,
                uid,
            )
            .fetch_all(pool)
            .await?)
        }
    };
}

by_age!(newest, "(j.created_at, j.uid) < ($6, $7) order by j.created_at desc, j.uid desc", "r.created_at desc, r.uid desc");
by_age!(oldest, "(j.created_at, j.uid) > ($6, $7) order by j.created_at, j.uid", "r.created_at, r.uid");

/// By key: by experiment, then by name.
async fn by_name(
    pool: &PgPool,
    scope: &str,
    search: &JobSearch,
    after: &str,
    limit: i64,
) -> Result<Vec<ResourceRow>, StoreError> {
    let phases = phases(search);
    Ok(select_resources!(
        r#"
        from resource s
        join resource e on e.kind = 'experiment' and (e.uid = s.uid or e.parent_uid = s.uid)
        cross join lateral (
            select *
            from resource j
            where j.parent_uid = e.uid and j.kind = 'job' and j.phase = any ($2)
                and ($3::text is null or lower(j.spec ->> 'cluster') = $3)
                and ($4::text is null or strpos(lower(j.name), $4) > 0)
                and j.key > $6
            order by j.key
            limit $5
        ) r
        where s.key = $1
        order by r.key
        limit $5
        "#,
        scope,
        &phases,
        search.cluster,
        search.name,
        limit,
        after,
    )
    .fetch_all(pool)
    .await?)
}

/// How many jobs of each phase are in the workspace or experiment `scope`, a key; none is counted beyond `most`, which bounds the cost.
pub(crate) async fn count_jobs(pool: &PgPool, scope: &str, most: i64) -> Result<JobCounts, StoreError> {
    let phases = phases(&JobSearch::default());
    let rows = sqlx::query!(
        r#"
        select p.phase as "phase!", c.count as "count!"
        from resource s
        cross join unnest($2::text[]) as p (phase)
        cross join lateral (
            select count(*) as count
            from (
                select 1
                from resource e
                join resource j on j.parent_uid = e.uid and j.kind = 'job' and j.phase = p.phase
                where e.kind = 'experiment' and (e.uid = s.uid or e.parent_uid = s.uid)
                limit $3
            ) counted
        ) c
        where s.key = $1
        "#,
        scope,
        &phases,
        most,
    )
    .fetch_all(pool)
    .await?;
    let mut counts = JobCounts::default();
    for row in rows {
        *counts.of(word("job's phase", &row.phase, Phase::find)?) = u64::try_from(row.count).unwrap_or_default();
    }
    Ok(counts)
}
