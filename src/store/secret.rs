//! Sealed values: given once, never returned, opened only for the node that needs them.

use sqlx::PgPool;

use super::StoreError;
use crate::id::ResourceUid;
use crate::secret::Sealed;

/// One sealed value of a resource.
#[derive(Clone, Debug)]
pub(crate) struct SecretRow {
    /// Which, for example `secrets.TOKEN`.
    pub(crate) field: String,
    /// The value.
    pub(crate) sealed: Sealed,
}

/// All sealed values of a resource, by field.
pub(crate) async fn list(pool: &PgPool, resource: ResourceUid) -> Result<Vec<SecretRow>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select field, key_id, sealed
        from secret
        where resource_uid = $1
        order by field
        "#,
        resource.0,
    )
    .fetch_all(pool)
    .await?;
    let secret = |field, key_id, bytes| SecretRow { field, sealed: Sealed { key_id, bytes } };
    Ok(rows.into_iter().map(|row| secret(row.field, row.key_id, row.sealed)).collect())
}
