//! Leases: who may act, by the database's clock.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::{Lease, StoreError};

pub(super) async fn take(pool: &PgPool, name: &str, holder: uuid::Uuid, ttl: Duration) -> Result<Option<Lease>, StoreError> {
    let token = sqlx::query_scalar!(
        r#"
        insert into lease (name, holder, token, expires_at)
        values ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
        on conflict (name) do update
        set holder = excluded.holder,
            token = case
                when lease.holder = excluded.holder and lease.expires_at > clock_timestamp() then lease.token
                else lease.token + 1
            end,
            expires_at = excluded.expires_at
        where lease.holder is null or lease.holder = excluded.holder or lease.expires_at <= clock_timestamp()
        returning token
        "#,
        name,
        holder,
        ttl.as_secs_f64(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(token.map(|token| Lease { name: name.to_owned(), holder, token }))
}

pub(super) async fn release(pool: &PgPool, lease: &Lease) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update lease
        set holder = null, expires_at = clock_timestamp()
        where name = $1 and holder = $2 and token = $3
        "#,
        lease.name,
        lease.holder,
        lease.token,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether the lease is held, and keeps others from taking it until the transaction of `connection` ends.
pub(super) async fn fence(connection: &mut PgConnection, lease: &Lease) -> Result<bool, StoreError> {
    let held = sqlx::query_scalar!(
        r#"
        select token
        from lease
        where name = $1 and holder = $2 and token = $3 and expires_at > clock_timestamp()
        for share
        "#,
        lease.name,
        lease.holder,
        lease.token,
    )
    .fetch_optional(connection)
    .await?;
    Ok(held.is_some())
}
