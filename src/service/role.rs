//! Roles that users define, and who holds which role where. Whether a caller may give them is decided by `auth`, before.

use uuid::Uuid;

use super::Service;
use super::activity::{carried_out, is_recorded};
use crate::auth::Caller;
use crate::domain::role::{self, Assignment, NewAssignment, NewRole, RoleDefinition};
use crate::domain::scope::{Scope, covers};
use crate::error::{Error, ErrorCode};
use crate::id::{SubscriptionId, TenantId};
use crate::store::role::Assigned;
use crate::wake::Topic;

impl Service {
    /// All roles of a directory: the built-in ones, then those that users defined, by name.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn roles(&self, tenant: TenantId) -> Result<Vec<RoleDefinition>, Error> {
        let mut roles = role::built_in().to_vec();
        roles.extend(self.inner.store.list_roles(tenant).await?);
        Ok(roles)
    }

    /// One role of a directory.
    ///
    /// # Errors
    /// `RoleDefinitionDoesNotExist`; `ServiceUnavailable`.
    pub async fn role(&self, tenant: TenantId, id: Uuid) -> Result<RoleDefinition, Error> {
        if let Some(known) = role::find_built_in(id) {
            return Ok(known.clone());
        }
        self.inner.store.list_roles(tenant).await?.into_iter().find(|role| role.id == id).ok_or_else(|| no_role(id))
    }

    /// Defines a role, or defines it anew.
    ///
    /// # Errors
    /// `RoleDefinitionWithSameNameExists`, `BuiltInRoleChangeNotAllowed`, `RoleDefinitionDoesNotExist` where the id is taken elsewhere;
    /// `ServiceUnavailable`.
    pub async fn put_role(&self, caller: &Caller, new: &NewRole) -> Result<RoleDefinition, Error> {
        let taken = || {
            Error::new(
                ErrorCode::RoleDefinitionWithSameNameExists,
                "A custom role with the same name already exists in this directory. Use a different name.",
            )
        };
        if role::find_built_in(new.id).is_some() {
            return Err(built_in(new.id));
        }
        if role::built_in().iter().any(|role| role.name.eq_ignore_ascii_case(&new.name)) {
            return Err(taken());
        }
        let at = self.now();
        let put = self.inner.store.put_role(new, caller.principal, at, carried_out(caller, at, 201, None)).await;
        match put {
            Ok(Some(role)) => {
                self.roles_changed(caller);
                Ok(role)
            }
            // The id is another directory's: to this one it does not exist.
            Ok(None) => Err(no_role(new.id)),
            Err(error) if error.constraint() == Some("role_definition_name_key") => Err(taken()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a role that nobody holds. `None` where there is none.
    ///
    /// # Errors
    /// `RoleDefinitionHasAssignments`, `BuiltInRoleChangeNotAllowed`; `ServiceUnavailable`.
    pub async fn delete_role(&self, caller: &Caller, id: Uuid) -> Result<Option<RoleDefinition>, Error> {
        if role::find_built_in(id).is_some() {
            return Err(built_in(id));
        }
        let gone = self.inner.store.delete_role(caller.tenant, id, carried_out(caller, self.now(), 200, None)).await?;
        match gone {
            Some(role) => {
                self.roles_changed(caller);
                Ok(Some(role))
            }
            None => match self.role(caller.tenant, id).await {
                Ok(_) => Err(Error::new(
                    ErrorCode::RoleDefinitionHasAssignments,
                    "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments)",
                )),
                Err(error) if error.code == ErrorCode::RoleDefinitionDoesNotExist => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// The assignments at a subscription and all below it, with the keys of their scopes, by scope.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn role_assignments(&self, subscription: SubscriptionId) -> Result<Vec<(String, Assignment)>, Error> {
        Ok(self.inner.store.list_assignments(subscription).await?)
    }

    /// The assignment of this id at exactly this scope.
    ///
    /// # Errors
    /// `RoleAssignmentNotFound`; `ServiceUnavailable`.
    pub async fn role_assignment(&self, scope: &Scope, id: Uuid) -> Result<Assignment, Error> {
        let key = scope.key();
        let found = self.role_assignments(scope.subscription()).await?.into_iter().find(|(at, one)| *at == key && one.id == id);
        found
            .map(|(_, assignment)| assignment)
            .ok_or_else(|| Error::new(ErrorCode::RoleAssignmentNotFound, format!("The role assignment '{id}' is not found.")))
    }

    /// Gives a role, which exists, to a principal at a scope.
    ///
    /// # Errors
    /// `RoleAssignmentExists`, `RoleAssignmentUpdateNotPermitted`, `PrincipalNotFound`, the code of absence of the scope;
    /// `ServiceUnavailable`.
    pub async fn put_role_assignment(&self, caller: &Caller, scope: &Scope, new: &NewAssignment) -> Result<Assignment, Error> {
        let at = self.now();
        let row = carried_out(caller, at, 201, None);
        match self.inner.store.put_assignment(caller.tenant, scope, new, caller.principal, at, row).await? {
            Assigned::Done(assignment) => {
                self.roles_changed(caller);
                Ok(*assignment)
            }
            Assigned::Exists(id) => Err(Error::new(
                ErrorCode::RoleAssignmentExists,
                format!("The role assignment already exists. The ID of the existing role assignment is {}.", id.simple()),
            )),
            Assigned::Differs => Err(Error::new(
                ErrorCode::RoleAssignmentUpdateNotPermitted,
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
            )),
            Assigned::NoPrincipal => Err(Error::new(
                ErrorCode::PrincipalNotFound,
                format!("Principal {} does not exist in the directory {}.", new.principal.0.simple(), caller.tenant),
            )),
            Assigned::NoScope => match scope.resource() {
                Some(id) => Err(self.find_obstacle(id).await?.unwrap_or_else(|| super::missing::absent(id))),
                None => Err(self.subscription(scope.subscription()).await.err().unwrap_or_else(|| Error::internal("no scope"))),
            },
        }
    }

    /// Takes a role away. `None` where there was no such assignment at exactly this scope.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn delete_role_assignment(&self, caller: &Caller, scope: &Scope, id: Uuid) -> Result<Option<Assignment>, Error> {
        let found = match self.role_assignment(scope, id).await {
            Err(error) if error.code == ErrorCode::RoleAssignmentNotFound => return Ok(None),
            found => found?,
        };
        let row = carried_out(caller, self.now(), 200, None);
        let gone = self.inner.store.delete_assignment(&scope.key(), id, row).await?;
        if gone {
            self.roles_changed(caller);
        }
        Ok(gone.then_some(found))
    }

    fn roles_changed(&self, caller: &Caller) {
        is_recorded(caller);
        self.inner.wake.changed(Topic::Access);
    }
}

/// Whether a role may be assigned at a scope: at or below one that it names.
pub(crate) fn is_assignable(role: &RoleDefinition, scope: &Scope) -> bool {
    let key = scope.key();
    role.assignable_scopes.iter().any(|path| path == "/" || Scope::parse(path).is_some_and(|above| covers(&above.key(), &key)))
}

fn no_role(id: Uuid) -> Error {
    let message = format!("The specified role definition with ID '{}' does not exist.", id.simple());
    Error::new(ErrorCode::RoleDefinitionDoesNotExist, message)
}

fn built_in(id: Uuid) -> Error {
    let message = format!("The role definition with ID '{}' is built in and can be neither changed nor deleted.", id.simple());
    Error::new(ErrorCode::BuiltInRoleChangeNotAllowed, message)
}
