//! Roles, who holds them where, and what a caller may do.
//!
//! Whoever gives a role must hold all that it allows, at that scope: assigning and defining ask the same function.

use axum::http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::role::{Assignment, NewAssignment, NewRole, RoleDefinition};
use crate::domain::scope::{Scope, covers};
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::respond::{empty, json};
use crate::service::is_assignable;
use crate::wire::authorization::{assignment_body, decode_assignment, decode_role, permissions_body, role_body};
use crate::wire::filter::{Clause, Comparison, Filter, unsupported};
use crate::wire::shapes::ListPage;

/// The permission to define roles.
const DEFINE: &str = "Microsoft.Authorization/roleDefinitions/write";

/// GET of the assignments at a scope, above it and below it.
pub(crate) async fn list_assignments(call: Call) -> Answer {
    let scope = call.scope()?;
    let key = scope.key();
    let (mut at_scope, mut principal) = (false, None);
    if let Some(text) = call.query.get("$filter").filter(|text| !text.is_empty()) {
        for clause in Filter::parse(text)?.all()? {
            match clause {
                Clause::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
                    ("atscope", []) => at_scope = true,
                    ("assignedto", [id]) => principal = Some(id.clone()),
                    _ => return Err(unsupported(&format!("'{name}' is not supported here"))),
                },
                Clause::Compare { name, by: Comparison::Equal, value } if name == "principalid" => {
                    principal = Some(value.clone())
                }
                Clause::Compare { name, .. } => return Err(unsupported(&format!("'{name}' is not supported here"))),
            }
        }
    }
    let fits = |(at, one): &(String, Assignment)| {
        let placed = covers(at, &key) || (!at_scope && covers(&key, at));
        placed && principal.as_ref().is_none_or(|id| one.principal.to_string().eq_ignore_ascii_case(id))
    };
    let all = call.parts.service.role_assignments(call.subscription()?).await?;
    let value: Vec<Value> = all.iter().filter(|one| fits(one)).map(|(_, one)| assignment_body(one, &scope)).collect();
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

/// GET of one assignment.
pub(crate) async fn get_assignment(call: Call) -> Answer {
    let scope = call.scope()?;
    let found = call.parts.service.role_assignment(&scope, assignment_id(&call)?).await?;
    json(StatusCode::OK, &assignment_body(&found, &scope))
}

/// PUT of one assignment: 201, as the published contract has it.
pub(crate) async fn put_assignment(mut call: Call) -> Answer {
    let id = assignment_id(&call)?;
    let wanted = decode_assignment(&call.document().await?)?;
    let (scope, caller) = (call.scope()?, call.caller()?);
    // A role's id may name its own subscription alone: elsewhere it does not exist.
    let elsewhere = wanted.role_scope.as_ref().is_some_and(|at| at.subscription() != scope.subscription());
    let role = call.parts.service.role(caller.tenant, if elsewhere { Uuid::nil() } else { wanted.role }).await?;
    if !is_assignable(&role, &scope) {
        let message = format!(
            "The role '{}' cannot be assigned at the scope '{scope}': its assignableScopes do not include it.",
            role.name
        );
        return Err(Error::new(ErrorCode::RoleDefinitionNotAssignable, message));
    }
    call.parts.auth.check_grant(caller, &role.permissions, &scope.key()).await?;
    let new = NewAssignment {
        id,
        principal: crate::id::PrincipalId(wanted.principal),
        principal_type: wanted.principal_type,
        role: role.id,
        description: wanted.description,
        resource: None,
    };
    let made = call.parts.service.put_role_assignment(caller, &scope, &new).await?;
    call.parts.auth.forget_roles();
    json(StatusCode::CREATED, &assignment_body(&made, &scope))
}

/// DELETE of one assignment: 200 with what is gone, or 204 where there was none.
pub(crate) async fn delete_assignment(call: Call) -> Answer {
    let scope = call.scope()?;
    match call.parts.service.delete_role_assignment(call.caller()?, &scope, assignment_id(&call)?).await? {
        Some(gone) => {
            call.parts.auth.forget_roles();
            json(StatusCode::OK, &assignment_body(&gone, &scope))
        }
        None => Ok(empty(StatusCode::NO_CONTENT)),
    }
}

/// GET of the roles that may be assigned at a scope.
pub(crate) async fn list_roles(call: Call) -> Answer {
    // The list of the directory has no scope.
    let scope = call.scope().ok();
    let mut below = false;
    let mut wanted: Vec<(String, String)> = Vec::new();
    if let Some(text) = call.query.get("$filter").filter(|text| !text.is_empty()) {
        for clause in Filter::parse(text)?.all()? {
            match clause {
                Clause::Call { name, .. } if name == "atscopeandbelow" => below = true,
                Clause::Compare { name, by: Comparison::Equal, value } if name == "rolename" || name == "type" => {
                    wanted.push((name.clone(), value.clone()));
                }
                Clause::Call { name, .. } | Clause::Compare { name, .. } => {
                    return Err(unsupported(&format!("'{name}' is not supported here")));
                }
            }
        }
    }
    let placed = |role: &RoleDefinition| match &scope {
        None => role.built_in,
        Some(scope) => is_assignable(role, scope) || (below && is_below(role, scope)),
    };
    let fits = |role: &RoleDefinition| {
        wanted.iter().all(|(name, value)| match name.as_str() {
            "rolename" => role.name.eq_ignore_ascii_case(value),
            _ => (if role.built_in { "BuiltInRole" } else { "CustomRole" }).eq_ignore_ascii_case(value),
        })
    };
    let roles = call.parts.service.roles(call.caller()?.tenant).await?;
    let value = roles.iter().filter(|role| placed(role) && fits(role)).map(|role| role_body(role, scope.as_ref())).collect();
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

fn is_below(role: &RoleDefinition, scope: &Scope) -> bool {
    let key = scope.key();
    role.assignable_scopes.iter().any(|path| Scope::parse(path).is_some_and(|at| covers(&key, &at.key())))
}

/// GET of one role, at a scope or of the directory.
pub(crate) async fn get_role(call: Call) -> Answer {
    let scope = call.scope().ok();
    let role = call.parts.service.role(call.caller()?.tenant, role_id(&call)?).await?;
    let visible = match &scope {
        None => role.built_in,
        Some(scope) => is_assignable(&role, scope) || is_below(&role, scope),
    };
    if !visible {
        return Err(no_role(call.last_argument()));
    }
    json(StatusCode::OK, &role_body(&role, scope.as_ref()))
}

/// PUT of one role: 201, as the published contract has it.
pub(crate) async fn put_role(mut call: Call) -> Answer {
    let (id, scope) = (role_id(&call)?, call.scope()?);
    let wanted = decode_role(&call.document().await?, &scope)?;
    let caller = call.caller()?;
    let auth = &call.parts.auth;
    // What the role allows is as good as given wherever it may be assigned, and wherever a former version of it may be.
    let mut places = wanted.assignable_scopes.clone();
    match call.parts.service.role(caller.tenant, id).await {
        Ok(former) => places.extend(former.assignable_scopes.iter().filter_map(|path| Scope::parse(path))),
        Err(error) if error.code == ErrorCode::RoleDefinitionDoesNotExist => {}
        Err(error) => return Err(error),
    }
    for place in &places {
        auth.authorize(caller, DEFINE, &place.key()).await?;
        auth.check_grant(caller, &wanted.permissions, &place.key()).await?;
    }
    let new = NewRole {
        id,
        tenant: caller.tenant,
        name: wanted.name,
        description: wanted.description,
        permissions: wanted.permissions,
        assignable_scopes: wanted.assignable_scopes.iter().map(Scope::path).collect(),
    };
    let role = call.parts.service.put_role(caller, &new).await?;
    auth.forget_roles();
    json(StatusCode::CREATED, &role_body(&role, Some(&scope)))
}

/// DELETE of one role that nobody holds: 200 with what is gone, or 204 where there was none.
pub(crate) async fn delete_role(call: Call) -> Answer {
    let (id, scope, caller) = (role_id(&call)?, call.scope()?, call.caller()?);
    let service = &call.parts.service;
    let found = match service.role(caller.tenant, id).await {
        Err(error) if error.code == ErrorCode::RoleDefinitionDoesNotExist => return Ok(empty(StatusCode::NO_CONTENT)),
        found => found?,
    };
    for place in found.assignable_scopes.iter().filter_map(|path| Scope::parse(path)) {
        call.parts.auth.authorize(caller, "Microsoft.Authorization/roleDefinitions/delete", &place.key()).await?;
    }
    match service.delete_role(caller, id).await? {
        Some(gone) => {
            call.parts.auth.forget_roles();
            json(StatusCode::OK, &role_body(&gone, Some(&scope)))
        }
        None => Ok(empty(StatusCode::NO_CONTENT)),
    }
}

/// GET of what the caller may do at a scope.
pub(crate) async fn permissions(call: Call) -> Answer {
    let held = call.parts.auth.permissions(call.caller()?, &call.scope()?.key()).await?;
    json(StatusCode::OK, &serde_json::json!({"value": permissions_body(&held)}))
}

fn assignment_id(call: &Call) -> Result<Uuid, Error> {
    let text = call.last_argument();
    Uuid::try_parse(text).map_err(|_| {
        let shown: String = text.chars().take(100).collect();
        let message = format!("The role assignment ID '{shown}' is not valid. The role assignment ID must be a GUID.");
        Error::new(ErrorCode::InvalidRoleAssignmentId, message)
    })
}

fn role_id(call: &Call) -> Result<Uuid, Error> {
    Uuid::try_parse(call.last_argument()).map_err(|_| no_role(call.last_argument()))
}

fn no_role(text: &str) -> Error {
    let shown: String = text.chars().take(100).filter(|c| *c != '-').collect();
    let message = format!("The specified role definition with ID '{shown}' does not exist.");
    Error::new(ErrorCode::RoleDefinitionDoesNotExist, message)
}
