//! What reconcilers read in one pass: everything that is not quiet, as of one moment.
//!
//! A row that cannot be read spoils nothing but itself: it is logged and left out, a machine is named as unreadable. Of rows that are
//! many, only those are read that were written since the last snapshot ([`known`]).

mod attempt;
mod job;
mod known;
mod machine;

use sqlx::{PgConnection, PgPool};

use super::document::Document;
use job::Queue;

use super::StoreError;
use crate::domain::resource::Provisioning;
use crate::domain::snapshot::{ClusterRow, DeletingRow, FileServerRow, Snapshot};
use crate::id::{Kind, ResourceUid};
use crate::secret::Sealer;
pub(super) use known::Known;

/// Most containers and jobs being deleted that one snapshot lists. What does not fit comes once these are gone.
const MAX_DELETING: i64 = 5000;

pub(super) async fn read(pool: &PgPool, sealer: &Sealer, queue: u32, known: &mut Known) -> Result<Snapshot, StoreError> {
    let mut tx = pool.begin_with("begin isolation level repeatable read, read only").await?;
    let clusters = clusters(&mut tx).await?;
    let (file_servers, unreadable_servers) = file_servers(&mut tx).await?;
    let (machines, unreadable) = machine::read(&mut tx, sealer, &mut known.machines).await?;
    let attempts = attempt::read(&mut tx, &mut known.attempts).await?;
    let queues = Queue::all(&clusters, &machines, &attempts, queue);
    let jobs = job::read(&mut tx, &queues, queue, &mut known.jobs).await?;
    let deleting = deleting(&mut tx).await?;
    tx.commit().await?;
    Ok(Snapshot { clusters, file_servers, machines, attempts, jobs, deleting, unreadable_servers, unreadable })
}

/// What could be read; the rest is logged.
fn readable<T>(what: &'static str, row: impl std::fmt::Display, read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(error = %chain(error), row = %row, "a stored {what} cannot be read and is left out"))
        .ok()
}

fn chain(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

async fn clusters(connection: &mut PgConnection) -> Result<Vec<ClusterRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, path, location, spec as "spec: Document", status as "status: Document", provisioning, revision,
            (select max(ordinal) from machine where cluster_uid = resource.uid) as last_ordinal
        from resource
        where kind = 'cluster'
        order by uid
        "#
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
        let read = || {
            Ok(ClusterRow {
                uid: ResourceUid(row.uid),
                path: row.path.clone(),
                location: row.location.clone(),
                spec: row.spec.read("cluster's spec")?,
                status: row.status.read("cluster's status")?,
                deleting: row.provisioning == "deleting",
                last_ordinal: row.last_ordinal.unwrap_or(0),
                revision: row.revision,
            })
        };
        readable("cluster", &row.path, read())
    });
    Ok(read.collect())
}

async fn file_servers(connection: &mut PgConnection) -> Result<(Vec<FileServerRow>, Vec<ResourceUid>), StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, path, spec as "spec: Document", status as "status: Document", provisioning, created_at, revision,
            (select max(ordinal) from machine where cluster_uid = resource.uid) as last_ordinal
        from resource
        where kind = 'file_server'
        order by uid
        "#
    )
    .fetch_all(connection)
    .await?;
    let (mut servers, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let read = || {
            Ok(FileServerRow {
                uid: ResourceUid(row.uid),
                spec: row.spec.read("file server's spec")?,
                status: row.status.read("file server's status")?,
                provisioning: word("provisioning", &row.provisioning, Provisioning::find)?,
                created_at: row.created_at,
                last_ordinal: row.last_ordinal.unwrap_or(0),
                revision: row.revision,
            })
        };
        match readable("file server", &row.path, read()) {
            Some(server) => servers.push(server),
            None => unreadable.push(ResourceUid(row.uid)),
        }
    }
    Ok((servers, unreadable))
}

/// A word that the store wrote, as what it stands for.
pub(super) fn word<T>(what: &'static str, text: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    find(text).ok_or_else(|| StoreError::unreadable(what, format!("'{text}' is none of its words")))
}

async fn deleting(connection: &mut PgConnection) -> Result<Vec<DeletingRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select d.uid, d.kind, d.path, d.revision,
            case when d.kind = 'job' then 0 else (select count(*) from resource c where c.parent_uid = d.uid) end as "children!",
            d.kind = 'job' and exists (select from attempt a where a.job_uid = d.uid and a.state <> 'ended') as "active!"
        from resource d
        where d.provisioning = 'deleting' and d.kind not in ('cluster', 'file_server')
        order by d.kind <> 'job', d.uid
        limit $1
        "#,
        MAX_DELETING,
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
        let read = || {
            Ok(DeletingRow {
                uid: ResourceUid(row.uid),
                kind: word("kind", &row.kind, Kind::find)?,
                path: row.path.clone(),
                children: u32::try_from(row.children).unwrap_or(u32::MAX),
                active: row.active,
                revision: row.revision,
            })
        };
        readable("resource", &row.path, read())
    });
    Ok(read.collect())
}
