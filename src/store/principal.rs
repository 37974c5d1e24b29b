//! Who may sign in, what roles they hold, and which installation this database is of.

use sqlx::types::Json;

use crate::clock::Timestamp;
use crate::domain::principal::{Grant, InstallationIds, Listed, Origin, Principal, Role};
use crate::domain::role::Held;
use crate::id::{PrincipalId, SubscriptionId, TenantId};
use crate::store::{Document, Store, StoreError, role};

/// The setting that holds [`InstallationIds`].
const INSTALLATION: &str = "installation";

impl Store {
    /// A principal and the hash of its secret, by the name that it signs in with.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn find_sign_in(&self, client_id: &str) -> Result<Option<(Principal, String)>, StoreError> {
        let row = sqlx::query!(
            "select id, tenant_id, client_id, display_name, secret_hash, valid_after, created_at
            from batchyard.principal
            where client_id = $1",
            client_id,
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| {
            let principal = Principal {
                id: PrincipalId(row.id),
                tenant: TenantId(row.tenant_id),
                client_id: row.client_id,
                display_name: row.display_name,
                valid_after: row.valid_after,
                created_at: row.created_at,
            };
            (principal, row.secret_hash)
        }))
    }

    /// A principal and what it may do.
    ///
    /// # Errors
    /// `Unavailable`; `Unreadable` where a role is not known here.
    pub async fn find_principal(&self, id: PrincipalId) -> Result<Option<(Principal, Vec<Held>)>, StoreError> {
        let rows = sqlx::query!(
            r#"select p.tenant_id, p.client_id, p.display_name, p.valid_after, p.created_at, r.role as "role?", r.scope as "scope?",
                r.definition_id as "definition_id?", d.name as "name?", d.permissions as "permissions?: Document"
            from batchyard.principal p
            left join batchyard.role_assignment r on r.principal_id = p.id
            left join batchyard.role_definition d on d.id = r.definition_id and d.tenant_id = p.tenant_id
            where p.id = $1
            order by r.scope, r.role"#,
            id.0,
        )
        .fetch_all(self.pool())
        .await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let principal = Principal {
            id,
            tenant: TenantId(first.tenant_id),
            client_id: first.client_id.clone(),
            display_name: first.display_name.clone(),
            valid_after: first.valid_after,
            created_at: first.created_at,
        };
        let mut grants = Vec::new();
        for row in rows {
            if let Some(scope) = row.scope {
                grants.extend(role::held(row.definition_id, row.role.as_deref(), row.name, row.permissions, scope)?);
            }
        }
        Ok(Some((principal, grants)))
    }

    /// Adds a principal that holds `grants`, in one transaction.
    ///
    /// # Errors
    /// `Constraint` (`principal_client_id_key`) where the name is taken; `Unavailable`.
    pub async fn create_principal(
        &self,
        new: &Principal,
        secret_hash: &str,
        grants: &[Grant],
        origin: Origin,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool().begin().await?;
        insert_principal(&mut transaction, new, secret_hash, grants, origin).await?;
        Ok(transaction.commit().await?)
    }

    /// All principals of a directory with the names of their roles, by client id.
    ///
    /// # Errors
    /// `Unavailable`; `Unreadable`.
    pub async fn list_principals(&self, tenant: TenantId) -> Result<Vec<Listed>, StoreError> {
        let rows = sqlx::query!(
            r#"select p.id, p.client_id, p.display_name, p.valid_after, p.created_at, p.configured, r.role as "role?",
                r.scope as "scope?", r.scope_path as "scope_path?", r.definition_id as "definition_id?", d.name as "name?",
                d.permissions as "permissions?: Document"
            from batchyard.principal p
            left join batchyard.role_assignment r on r.principal_id = p.id
            left join batchyard.role_definition d on d.id = r.definition_id and d.tenant_id = p.tenant_id
            where p.tenant_id = $1
            order by p.client_id, r.scope, r.definition_id"#,
            tenant.0,
        )
        .fetch_all(self.pool())
        .await?;
        let mut listed: Vec<Listed> = Vec::new();
        for row in rows {
            if listed.last().is_none_or(|last| last.principal.id.0 != row.id) {
                let principal = Principal {
                    id: PrincipalId(row.id),
                    tenant,
                    client_id: row.client_id,
                    display_name: row.display_name,
                    valid_after: row.valid_after,
                    created_at: row.created_at,
                };
                let origin = if row.configured { Origin::Settings } else { Origin::Command };
                listed.push(Listed { principal, origin, roles: Vec::new() });
            }
            if let (Some(scope), Some(last)) = (row.scope, listed.last_mut()) {
                let path = row.scope_path.unwrap_or_else(|| scope.clone());
                let held = role::held(row.definition_id, row.role.as_deref(), row.name, row.permissions, scope)?;
                last.roles.extend(held.map(|held| (held.name, path)));
            }
        }
        Ok(listed)
    }

    /// Removes a principal with its roles. Answers whether there was one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn delete_principal(&self, id: PrincipalId) -> Result<bool, StoreError> {
        let done = sqlx::query!("delete from batchyard.principal where id = $1", id.0).execute(self.pool()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Gives a principal of the settings the name and the roles that they say, in one transaction. A role that a user granted stays.
    /// Answers whether it is one of the settings.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn configure_principal(
        &self,
        id: PrincipalId,
        display_name: &str,
        grants: &[Grant],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let found = sqlx::query!(
            "update batchyard.principal
            set display_name = $2
            where id = $1 and configured",
            id.0,
            display_name,
        )
        .execute(&mut *transaction)
        .await?;
        if found.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let definitions: Vec<uuid::Uuid> = grants.iter().map(|grant| grant.role.id()).collect();
        let scopes: Vec<String> = grants.iter().map(|grant| grant.scope.clone()).collect();
        sqlx::query!(
            "delete from batchyard.role_assignment
            where principal_id = $1 and created_by is null
                and (definition_id, scope) not in (select d, s from unnest($2::uuid[], $3::text[]) as t (d, s))",
            id.0,
            &definitions,
            &scopes,
        )
        .execute(&mut *transaction)
        .await?;
        insert_grants(&mut transaction, id, grants, now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes the principals of the settings that are not among `kept`. Answers their client ids.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn delete_unconfigured(&self, tenant: TenantId, kept: &[String]) -> Result<Vec<String>, StoreError> {
        let removed = sqlx::query_scalar!(
            "delete from batchyard.principal
            where tenant_id = $1 and configured and client_id <> all ($2)
            returning client_id",
            tenant.0,
            kept,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(removed)
    }

    /// Gives a principal another secret and refuses its tokens issued before `valid_after`. Answers whether there is one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn replace_secret(&self, id: PrincipalId, secret_hash: &str, valid_after: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "update batchyard.principal
            set secret_hash = $2, valid_after = greatest(valid_after, $3)
            where id = $1",
            id.0,
            secret_hash,
            valid_after,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Refuses a principal's tokens issued before `valid_after`. Answers whether there is one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn revoke_tokens(&self, id: PrincipalId, valid_after: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "update batchyard.principal
            set valid_after = greatest(valid_after, $2)
            where id = $1",
            id.0,
            valid_after,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The directory that a subscription is in.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn find_tenant(&self, subscription: SubscriptionId) -> Result<Option<TenantId>, StoreError> {
        let tenant = sqlx::query_scalar!("select tenant_id from batchyard.subscription where id = $1", subscription.0)
            .fetch_optional(self.pool())
            .await?;
        Ok(tenant.map(TenantId))
    }

    /// What this installation is called, once it was made.
    ///
    /// # Errors
    /// `Unavailable`; `Unreadable`.
    pub async fn find_installation(&self) -> Result<Option<InstallationIds>, StoreError> {
        let value = sqlx::query_scalar!("select value from batchyard.setting where name = $1", INSTALLATION)
            .fetch_optional(self.pool())
            .await?;
        value.map(|value| serde_json::from_value(value).map_err(|e| StoreError::unreadable("installation", e))).transpose()
    }

    /// Records the installation with its subscription and `owner`, unless there is one already. Answers what is recorded.
    ///
    /// # Errors
    /// `Unavailable`; `Unreadable`.
    pub async fn ensure_installation(
        &self,
        ids: &InstallationIds,
        owner: &Principal,
        secret_hash: &str,
        now: Timestamp,
    ) -> Result<InstallationIds, StoreError> {
        let mut transaction = self.pool().begin().await?;
        // Waits for another server that is doing the same, and then finds its row.
        let inserted = sqlx::query!(
            "insert into batchyard.setting (name, value)
            values ($1, $2)
            on conflict on constraint setting_pkey do nothing",
            INSTALLATION,
            Json(ids) as _,
        )
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            transaction.rollback().await?;
            let found = self.find_installation().await?;
            return found.ok_or_else(|| StoreError::unreadable("installation", "it was removed while it was read"));
        }
        sqlx::query!(
            "insert into batchyard.subscription (id, tenant_id, display_name, registered_at, created_at)
            values ($1, $2, 'batchyard', $3, $3)",
            ids.subscription.0,
            ids.tenant.0,
            now,
        )
        .execute(&mut *transaction)
        .await?;
        let scope = format!("/subscriptions/{}", ids.subscription);
        insert_principal(&mut transaction, owner, secret_hash, &[Grant { role: Role::Owner, scope }], Origin::Command).await?;
        transaction.commit().await?;
        Ok(ids.clone())
    }

    /// The ids of all keys that something stored is sealed with.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sealing_keys_in_use(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!("select distinct key_id from batchyard.secret order by key_id").fetch_all(self.pool()).await?)
    }
}

async fn insert_principal(
    connection: &mut sqlx::PgConnection,
    new: &Principal,
    secret_hash: &str,
    grants: &[Grant],
    origin: Origin,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into batchyard.principal (id, tenant_id, client_id, display_name, secret_hash, valid_after, created_at, configured)
        values ($1, $2, $3, $4, $5, $6, $7, $8)",
        new.id.0,
        new.tenant.0,
        new.client_id,
        new.display_name,
        secret_hash,
        new.valid_after,
        new.created_at,
        origin == Origin::Settings,
    )
    .execute(&mut *connection)
    .await?;
    insert_grants(connection, new.id, grants, new.created_at).await
}

/// Gives a principal roles; those that it holds already stay as they are.
async fn insert_grants(
    connection: &mut sqlx::PgConnection,
    id: PrincipalId,
    grants: &[Grant],
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids: Vec<uuid::Uuid> = grants.iter().map(|_| uuid::Uuid::now_v7()).collect();
    let roles: Vec<String> = grants.iter().map(|grant| grant.role.as_str().to_owned()).collect();
    let definitions: Vec<uuid::Uuid> = grants.iter().map(|grant| grant.role.id()).collect();
    let scopes: Vec<String> = grants.iter().map(|grant| grant.scope.clone()).collect();
    // What is granted at a resource that exists hangs on it and goes with it.
    sqlx::query!(
        "insert into batchyard.role_assignment (id, principal_id, role, definition_id, scope, scope_path, resource_uid, created_at)
        select t.id, $2, t.role, t.definition, t.scope, r.path, r.uid, $6
        from unnest($1::uuid[], $3::text[], $4::uuid[], $5::text[]) as t (id, role, definition, scope)
        left join batchyard.resource r on r.key = t.scope
        on conflict do nothing",
        &ids,
        id.0,
        &roles,
        &definitions,
        &scopes,
        now,
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}
