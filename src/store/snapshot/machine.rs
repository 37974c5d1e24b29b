//! Machines that are not gone.

use sqlx::PgConnection;
use uuid::Uuid;

use super::known::{Read, versions};
use super::{readable, word};
use crate::domain::machine::{Bootstrap, Machine, MachineState};
use crate::domain::snapshot::UnreadableMachine;
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::secret::Sealer;
use crate::store::{Document, StoreError, machine};

/// All that are not gone, and those of them whose row cannot be read.
pub(super) async fn read(
    connection: &mut PgConnection,
    sealer: &Sealer,
    known: &mut Read<Result<Machine, UnreadableMachine>>,
) -> Result<(Vec<Machine>, Vec<UnreadableMachine>), StoreError> {
    let heads = sqlx::query!(
        r#"
        select coalesce(array_agg(uid), '{}') as "uids!", coalesce(array_agg(xmin::text::bigint), '{}') as "writers!"
        from machine
        where state <> 'gone'
        "#
    )
    .fetch_one(&mut *connection)
    .await?;
    let heads = versions(heads.uids, heads.writers);
    let unread = known.unread(&heads);
    let rows = if unread.is_empty() { vec![] } else { machines(connection, sealer, &unread).await? };
    let (mut read, mut unreadable) = (Vec::with_capacity(heads.len()), Vec::new());
    for machine in known.take(heads, rows) {
        match machine {
            Ok(machine) => read.push(machine.clone()),
            Err(machine) => unreadable.push(machine.clone()),
        }
    }
    Ok((read, unreadable))
}

async fn machines(
    connection: &mut PgConnection,
    sealer: &Sealer,
    uids: &[Uuid],
) -> Result<Vec<(Uuid, Result<Machine, UnreadableMachine>)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select uid, name, node_id, cluster_uid, ordinal, size as "size: Document", state, state_changed_at, created_at,
            attempt_uid, deallocation, address, login_address, evict_at,
            case when state = 'asked' and key_hash is null then join_token_sealed end as join_token_sealed,
            key_hash is not null as "joined!", quarantined, seen_at, setup as "setup: Document", ensure_failures, retry_at,
            problem as "problem: Document", revision
        from machine
        where uid = any($1)
        "#,
        uids,
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().map(|row| {
        let uid = MachineUid(row.uid);
        let bootstrap = || -> Result<Option<Bootstrap>, StoreError> {
            let Some(sealed) = &row.join_token_sealed else { return Ok(None) };
            Ok(Some(Bootstrap { join_token: machine::open_token(sealer, uid, sealed)? }))
        };
        let read = || {
            Ok(Machine {
                uid,
                name: row.name.clone(),
                node_id: row.node_id.clone(),
                cluster: ResourceUid(row.cluster_uid),
                ordinal: row.ordinal,
                size: row.size.read("machine's size")?,
                state: word("machine's state", &row.state, MachineState::find)?,
                state_changed_at: row.state_changed_at,
                created_at: row.created_at,
                attempt: row.attempt_uid.map(AttemptUid),
                deallocation: row.deallocation.as_deref().map(machine::read_deallocation).transpose()?,
                evict_at: row.evict_at,
                address: row.address.clone(),
                login_address: row.login_address.clone(),
                bootstrap: bootstrap()?,
                joined: row.joined,
                quarantined: row.quarantined,
                heard_at: row.seen_at,
                setup: row.setup.read("machine's setup")?,
                ensure_failures: row.ensure_failures,
                retry_at: row.retry_at,
                problem: row.problem.as_ref().map(|problem| problem.read("machine's problem")).transpose()?,
                revision: row.revision,
            })
        };
        let unreadable = || UnreadableMachine { name: row.name.clone(), cluster: ResourceUid(row.cluster_uid) };
        (row.uid, readable("machine", &row.name, read()).ok_or_else(unreadable))
    });
    Ok(read.collect())
}
