//! An agent comes home: its token is spent, its key bound.

use sqlx::PgPool;
use subtle::ConstantTimeEq;

use super::token_hash;
use crate::clock::Timestamp;
use crate::domain::gpu::Gpu;
use crate::domain::resource::EntityError;
use crate::id::MachineUid;
use crate::store::StoreError;
use crate::store::document::Document;

/// What became of an attempt to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    /// The key is bound: by this request, or by an earlier one whose answer was lost.
    Bound(MachineUid),
    /// No such machine, a wrong or expired token, a machine that is gone, or one that is in quarantine.
    Refused,
    /// Another key than the bound one was presented with the right token: from now on both are refused.
    Quarantined(MachineUid),
}

/// Binds `key_hash` to the machine `name` if `token` is its own and not expired. `login` is where users log in, as the row has it; `gpus` are those
/// that it found.
pub(crate) async fn join(
    pool: &PgPool,
    name: &str,
    token: &str,
    key_hash: &[u8],
    login: Option<(String, u16)>,
    gpus: &[Gpu],
    at: Timestamp,
) -> Result<JoinOutcome, StoreError> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query!(
        r#"
        select uid, cluster_uid, state, join_token_hash, join_expires_at, key_hash, quarantined
        from machine
        where name = $1
        for update
        "#,
        name,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(JoinOutcome::Refused) };
    let fits: bool = row.join_token_hash.ct_eq(&token_hash(token)).into();
    if !fits || row.quarantined || row.state == "gone" {
        return Ok(JoinOutcome::Refused);
    }
    let uid = MachineUid(row.uid);
    let outcome = match row.key_hash {
        Some(bound) if bool::from(bound.ct_eq(key_hash)) => return Ok(JoinOutcome::Bound(uid)),
        Some(_) => {
            let problem = Document::of(&EntityError::new(
                "NodeQuarantined",
                "A second agent presented the node's join token with another key. Neither is trusted any more.",
            ))?;
            sqlx::query!(
                r#"
                with changed as (
                    update machine
                    set quarantined = true, problem = $2, revision = revision + 1,
                        state = case when state in ('asked', 'preparing', 'ready') then 'unusable' else state end,
                        state_changed_at = case when state in ('asked', 'preparing', 'ready') then $3 else state_changed_at end
                    where uid = $1
                    returning cluster_uid, name
                )
                insert into event (at, resource_uid, path, what, why)
                select $3, cluster.uid, cluster.path, 'machine_quarantined',
                    changed.name || ' was claimed by a second key.'
                from changed
                join resource cluster on cluster.uid = changed.cluster_uid
                "#,
                row.uid,
                problem as _,
                at,
            )
            .execute(&mut *tx)
            .await?;
            JoinOutcome::Quarantined(uid)
        }
        None if row.join_expires_at <= at => return Ok(JoinOutcome::Refused),
        None => {
            sqlx::query!(
                r#"
                update machine
                set key_hash = $2, join_token_sealed = null, seen_at = $3, login_address = $4, login_port = $5,
                    gpus = $6, revision = revision + 1
                where uid = $1
                "#,
                row.uid,
                key_hash,
                at,
                login.as_ref().map(|(address, _)| address.as_str()),
                login.as_ref().map(|(_, port)| i32::from(*port)),
                Document::of(&gpus)? as _,
            )
            .execute(&mut *tx)
            .await?;
            JoinOutcome::Bound(uid)
        }
    };
    tx.commit().await?;
    Ok(outcome)
}
