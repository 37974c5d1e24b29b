//! Roles that users defined, and who holds which role where.

use uuid::Uuid;

use super::document::Document;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::domain::principal::Role;
use crate::domain::role::{self, Assignment, Held, NewAssignment, NewRole, Permissions, RoleDefinition, Written};
use crate::domain::scope::Scope;
use crate::id::{PrincipalId, ResourceUid, SubscriptionId, TenantId};

/// What became of a wish to assign a role.
#[derive(Clone, Debug)]
pub(crate) enum Assigned {
    /// It is assigned.
    Done(Box<Assignment>),
    /// The principal holds that role at that scope by another assignment.
    Exists(Uuid),
    /// There is an assignment of that id about something else.
    Differs,
    /// There is no such principal in the directory.
    NoPrincipal,
    /// The scope does not exist, or is being deleted.
    NoScope,
}

/// The GUID of an assigned role: its own column, or that of the word of the first version of the table.
fn role_id(definition: Option<Uuid>, word: Option<&str>) -> Result<Uuid, StoreError> {
    let of_word = || word.and_then(Role::find).map(Role::id);
    definition.or_else(of_word).ok_or_else(|| StoreError::unreadable("role", word.unwrap_or("none").to_owned()))
}

/// A role as its holder has it. `None` for a role that is not known any more: it allows nothing.
pub(super) fn held(
    definition: Option<Uuid>,
    word: Option<&str>,
    name: Option<String>,
    permissions: Option<Document>,
    scope: String,
) -> Result<Option<Held>, StoreError> {
    let id = role_id(definition, word)?;
    if let Some(known) = role::find_built_in(id) {
        return Ok(Some(Held { name: known.name.clone(), permissions: known.permissions.clone(), scope }));
    }
    match (name, permissions) {
        (Some(name), Some(permissions)) => Ok(Some(Held { name, permissions: permissions.read("role's permissions")?, scope })),
        _ => Ok(None),
    }
}

struct RoleRow {
    id: Uuid,
    name: String,
    description: String,
    permissions: Document,
    assignable_scopes: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    created_by: Uuid,
    updated_by: Uuid,
}

impl RoleRow {
    fn read(self) -> Result<RoleDefinition, StoreError> {
        Ok(RoleDefinition {
            id: self.id,
            name: self.name,
            description: self.description,
            built_in: false,
            permissions: self.permissions.read::<Vec<Permissions>>("role's permissions")?,
            assignable_scopes: self.assignable_scopes,
            written: Some(Written {
                created_at: self.created_at,
                created_by: Some(PrincipalId(self.created_by)),
                updated_at: self.updated_at,
                updated_by: Some(PrincipalId(self.updated_by)),
            }),
        })
    }
}

impl Store {
    /// The roles that users of a directory defined, by name.
    pub(crate) async fn list_roles(&self, tenant: TenantId) -> Result<Vec<RoleDefinition>, StoreError> {
        let rows = sqlx::query_as!(
            RoleRow,
            r#"
            select id, name, description, permissions as "permissions: Document", assignable_scopes, created_at, updated_at, created_by,
                updated_by
            from role_definition
            where tenant_id = $1
            order by name_key, id
            "#,
            tenant.0,
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(RoleRow::read).collect()
    }

    /// Defines a role, or defines it anew. `None` where the id is another directory's.
    ///
    /// # Errors
    /// `Constraint` (`role_definition_name_key`) where another role of the directory has the name.
    pub(crate) async fn put_role(
        &self,
        new: &NewRole,
        caller: PrincipalId,
        at: Timestamp,
        activity: Option<Activity>,
    ) -> Result<Option<RoleDefinition>, StoreError> {
        let row = sqlx::query_as!(
            RoleRow,
            r#"
            with put as (
                insert into role_definition (id, tenant_id, name, name_key, description, permissions, assignable_scopes, created_at,
                    updated_at, created_by, updated_by)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $9)
                on conflict (id) do update
                set name = excluded.name, name_key = excluded.name_key, description = excluded.description,
                    permissions = excluded.permissions, assignable_scopes = excluded.assignable_scopes,
                    updated_at = excluded.updated_at, updated_by = excluded.updated_by
                where role_definition.tenant_id = excluded.tenant_id
                returning id, name, description, permissions, assignable_scopes, created_at, updated_at, created_by, updated_by
            ),
            logged as (
                insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                    operation_id, request)
                select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                    a.operation_id, a.request
                from put, jsonb_populate_recordset(null::activity, $10) a
            )
            select id, name, description, permissions as "permissions: Document", assignable_scopes, created_at, updated_at, created_by,
                updated_by
            from put
            "#,
            new.id,
            new.tenant.0,
            new.name,
            new.name.to_lowercase(),
            new.description,
            Document::of(&new.permissions)? as _,
            &new.assignable_scopes,
            at,
            caller.0,
            Document::of(&activity.as_slice())? as _,
        )
        .fetch_optional(self.pool())
        .await?;
        row.map(RoleRow::read).transpose()
    }

    /// Removes a role that nobody holds. `None` where there is none, or somebody holds it.
    pub(crate) async fn delete_role(
        &self,
        tenant: TenantId,
        id: Uuid,
        activity: Option<Activity>,
    ) -> Result<Option<RoleDefinition>, StoreError> {
        let row = sqlx::query_as!(
            RoleRow,
            r#"
            with gone as (
                delete from role_definition
                where id = $1 and tenant_id = $2 and not exists (select from role_assignment where definition_id = $1)
                returning id, name, description, permissions, assignable_scopes, created_at, updated_at, created_by, updated_by
            ),
            logged as (
                insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                    operation_id, request)
                select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                    a.operation_id, a.request
                from gone, jsonb_populate_recordset(null::activity, $3) a
            )
            select id, name, description, permissions as "permissions: Document", assignable_scopes, created_at, updated_at, created_by,
                updated_by
            from gone
            "#,
            id,
            tenant.0,
            Document::of(&activity.as_slice())? as _,
        )
        .fetch_optional(self.pool())
        .await?;
        row.map(RoleRow::read).transpose()
    }

    /// All assignments at a subscription and below it, by scope and id.
    pub(crate) async fn list_assignments(&self, subscription: SubscriptionId) -> Result<Vec<(String, Assignment)>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select id, principal_id, principal_type, role, definition_id, scope, scope_path, description, created_at, updated_at,
                created_by, updated_by
            from role_assignment
            where scope = $1 or starts_with(scope, $1 || '/')
            order by scope, id
            "#,
            format!("/subscriptions/{subscription}"),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let assignment = Assignment {
                    id: row.id,
                    principal: PrincipalId(row.principal_id),
                    principal_type: row.principal_type,
                    role: role_id(row.definition_id, row.role.as_deref())?,
                    scope: row.scope_path.unwrap_or_else(|| row.scope.clone()),
                    description: row.description,
                    written: Written {
                        created_at: row.created_at,
                        created_by: row.created_by.map(PrincipalId),
                        updated_at: row.updated_at.unwrap_or(row.created_at),
                        updated_by: row.updated_by.or(row.created_by).map(PrincipalId),
                    },
                };
                Ok((row.scope, assignment))
            })
            .collect()
    }

    /// Gives a role to a principal of `tenant` at a scope that exists; what hangs on a resource goes with it.
    pub(crate) async fn put_assignment(
        &self,
        tenant: TenantId,
        scope: &Scope,
        new: &NewAssignment,
        caller: PrincipalId,
        at: Timestamp,
        activity: Option<Activity>,
    ) -> Result<Assigned, StoreError> {
        let key = scope.key();
        let path = scope.path();
        let word = Role::of(new.role).map(Role::as_str);
        let made = sqlx::query!(
            r#"
            with place as (
                select uid
                from resource
                where key = $1 and provisioning <> 'deleting'
                for key share
            ),
            made as (
                insert into role_assignment (id, principal_id, role, definition_id, scope, scope_path, resource_uid, description,
                    principal_type, created_at, updated_at, created_by, updated_by)
                select $2, p.id, $3, $4, $1, $5, place.uid, $6, $7, $8, $8, $9, $9
                from principal p
                left join place on true
                where p.id = $10 and p.tenant_id = $11 and ($12 or place.uid is not null)
                on conflict (id) do update
                set description = excluded.description, principal_type = excluded.principal_type, updated_at = excluded.updated_at,
                    updated_by = excluded.updated_by
                where role_assignment.principal_id = excluded.principal_id and role_assignment.definition_id = excluded.definition_id
                    and role_assignment.scope = excluded.scope
                returning created_at, created_by
            ),
            logged as (
                insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                    operation_id, request)
                select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                    a.operation_id, a.request
                from made, jsonb_populate_recordset(null::activity, $13) a
            )
            select created_at, created_by
            from made
            "#,
            key,
            new.id,
            word,
            new.role,
            path,
            new.description,
            new.principal_type,
            at,
            caller.0,
            new.principal.0,
            tenant.0,
            scope.resource().is_none(),
            Document::of(&activity.as_slice())? as _,
        )
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::from);
        match made {
            Ok(Some(row)) => Ok(Assigned::Done(Box::new(Assignment {
                id: new.id,
                principal: new.principal,
                principal_type: new.principal_type.clone(),
                role: new.role,
                scope: path,
                description: new.description.clone(),
                written: Written {
                    created_at: row.created_at,
                    created_by: row.created_by.map(PrincipalId),
                    updated_at: at,
                    updated_by: Some(caller),
                },
            }))),
            Ok(None) => self.explain_unassigned(tenant, scope, new).await,
            Err(error) if matches!(error.constraint(), Some("role_assignment_definition_key" | "role_assignment_unique")) => {
                let existing = sqlx::query_scalar!(
                    "select id from role_assignment where principal_id = $1 and definition_id = $2 and scope = $3",
                    new.principal.0,
                    new.role,
                    key,
                )
                .fetch_optional(self.pool())
                .await?;
                existing.map(Assigned::Exists).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn explain_unassigned(&self, tenant: TenantId, scope: &Scope, new: &NewAssignment) -> Result<Assigned, StoreError> {
        let found = sqlx::query!(
            r#"
            select exists (select from principal where id = $1 and tenant_id = $2) as "principal!",
                exists (select from resource where key = $3 and provisioning <> 'deleting') as "scope!"
            "#,
            new.principal.0,
            tenant.0,
            scope.key(),
        )
        .fetch_one(self.pool())
        .await?;
        Ok(match (found.principal, found.scope || scope.resource().is_none()) {
            (false, _) => Assigned::NoPrincipal,
            (true, false) => Assigned::NoScope,
            (true, true) => Assigned::Differs,
        })
    }

    /// Takes an assignment at exactly this scope away. Answers whether there was one.
    pub(crate) async fn delete_assignment(&self, key: &str, id: Uuid, activity: Option<Activity>) -> Result<bool, StoreError> {
        let gone = sqlx::query_scalar!(
            r#"
            with gone as (
                delete from role_assignment
                where id = $1 and scope = $2
                returning id
            ),
            logged as (
                insert into activity (event_id, subscription_id, at, ended_at, correlation, caller, action, key, path, status,
                    operation_id, request)
                select a.event_id, a.subscription_id, a.at, a.ended_at, a.correlation, a.caller, a.action, a.key, a.path, a.status,
                    a.operation_id, a.request
                from gone, jsonb_populate_recordset(null::activity, $3) a
            )
            select id
            from gone
            "#,
            id,
            key,
            Document::of(&activity.as_slice())? as _,
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(gone.is_some())
    }
}

/// Takes away what hangs on resources that go: roles held there, and locks. Answers how much there was.
pub(super) async fn revoke(connection: &mut sqlx::PgConnection, resources: &[ResourceUid]) -> Result<i64, StoreError> {
    let uids: Vec<Uuid> = resources.iter().map(|uid| uid.0).collect();
    Ok(sqlx::query_scalar!(
        r#"
        with revoked as (
            delete from role_assignment
            where resource_uid = any ($1)
            returning id
        ),
        unlocked as (
            delete from management_lock
            where resource_uid = any ($1)
            returning scope
        )
        select (select count(*) from revoked) + (select count(*) from unlocked) as "count!"
        "#,
        &uids,
    )
    .fetch_one(connection)
    .await?)
}
