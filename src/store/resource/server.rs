//! File servers as those who mount them need them.

use sqlx::PgPool;

use crate::domain::file_server::FileServerStatus;
use crate::domain::resource::Provisioning;
use crate::id::ResourceUid;
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;

/// What is known of a file server that is to be mounted.
#[derive(Clone, Debug)]
pub(crate) struct KnownServer {
    /// Its identity.
    pub(crate) uid: ResourceUid,
    /// Its key.
    pub(crate) key: String,
    /// Its canonical path.
    pub(crate) path: String,
    /// Its region.
    pub(crate) location: String,
    /// Making or unmaking.
    pub(crate) provisioning: Provisioning,
    /// Its subnet.
    pub(crate) subnet: String,
}

/// The file servers at `keys` that exist.
pub(crate) async fn servers(pool: &PgPool, keys: &[String]) -> Result<Vec<KnownServer>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, key, path, location, provisioning, status as "status: Document"
        from resource
        where key = any ($1) and kind = 'file_server'
        "#,
        keys,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let status: FileServerStatus = row.status.read("file server's status")?;
            Ok(KnownServer {
                uid: ResourceUid(row.uid),
                key: row.key,
                path: row.path,
                location: row.location,
                provisioning: word("provisioning", &row.provisioning, Provisioning::find)?,
                subnet: status.subnet,
            })
        })
        .collect()
}

/// Paths of the clusters, and of the jobs that have not ended, that mount the file server at `key`; the first few.
pub(crate) async fn users(pool: &PgPool, key: &str) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select r.path
        from resource s
        join file_server_use u on u.server_uid = s.uid
        join resource r on r.uid = u.user_uid
        where s.key = $1 and r.provisioning <> 'deleting' and (r.phase is null or r.phase in ('queued', 'running', 'terminating'))
        order by r.key
        limit 3
        "#,
        key,
    )
    .fetch_all(pool)
    .await?)
}
