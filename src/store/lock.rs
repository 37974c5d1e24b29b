//! Locks.

use super::document::Document;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::domain::lock::{Level, Lock, NewLock};
use crate::domain::scope::Scope;
use crate::id::{PrincipalId, SubscriptionId};
use crate::store::snapshot::word;

/// What became of a wish to set a lock.
#[derive(Clone, Debug)]
pub(crate) enum Locked {
    /// It is set; whether it is new.
    Done(bool),
    /// The scope does not exist.
    NoScope,
}

impl Store {
    /// All locks of a subscription and below it, by scope and name.
    pub(crate) async fn list_locks(&self, subscription: SubscriptionId) -> Result<Vec<Lock>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select scope, scope_path, name, level, notes, owners as "owners: Document"
            from management_lock
            where subscription_id = $1
            order by scope, name_key
            "#,
            subscription.0,
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let is = NewLock {
                    name: row.name,
                    level: word("lock's level", &row.level, Level::find)?,
                    notes: row.notes,
                    owners: row.owners.map(|owners| owners.read("lock's owners")).transpose()?,
                };
                Ok(Lock { key: row.scope, scope: row.scope_path, is })
            })
            .collect()
    }

    /// Sets a lock, or sets it anew.
    pub(crate) async fn put_lock(
        &self,
        scope: &Scope,
        new: &NewLock,
        caller: PrincipalId,
        at: Timestamp,
        activity: Option<Activity>,
    ) -> Result<Locked, StoreError> {
        let made = sqlx::query_scalar!(
            r#"
            with place as (
                select uid
                from resource
                where key = $1
                for key share
            ),
            put as (
                insert into management_lock (subscription_id, scope, scope_path, name_key, name, level, notes, owners, resource_uid,
                    created_at, updated_at, created_by, updated_by)
                select s.id, $1, $2, $3, $4, $5, $6, $7, place.uid, $8, $8, $9, $9
                from subscription s
                left join place on true
                where s.id = $10 and ($11 or place.uid is not null)
                on conflict (subscription_id, scope, name_key) do update
                set level = excluded.level, notes = excluded.notes, owners = excluded.owners, updated_at = excluded.updated_at,
                    updated_by = excluded.updated_by
                returning (xmax = 0) as made
            ),
            logged as (
                insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                    operation_id, request)
                select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                    a.operation_id, a.request
                from put, jsonb_populate_recordset(null::activity, $12) a
            )
            select made as "made!"
            from put
            "#,
            scope.key(),
            scope.path(),
            new.name.to_lowercase(),
            new.name,
            new.level.as_str(),
            new.notes,
            Document::maybe(new.owners.as_ref())? as _,
            at,
            caller.0,
            scope.subscription().0,
            scope.resource().is_none(),
            Document::of(&activity.as_slice())? as _,
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(made.map_or(Locked::NoScope, Locked::Done))
    }

    /// Takes a lock away. Answers whether there was one.
    pub(crate) async fn delete_lock(&self, scope: &Scope, name: &str, activity: Option<Activity>) -> Result<bool, StoreError> {
        let gone = sqlx::query_scalar!(
            r#"
            with gone as (
                delete from management_lock
                where subscription_id = $1 and scope = $2 and name_key = $3
                returning name
            ),
            logged as (
                insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                    operation_id, request)
                select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                    a.operation_id, a.request
                from gone, jsonb_populate_recordset(null::activity, $4) a
            )
            select name
            from gone
            "#,
            scope.subscription().0,
            scope.key(),
            name.to_lowercase(),
            Document::of(&activity.as_slice())? as _,
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(gone.is_some())
    }
}
