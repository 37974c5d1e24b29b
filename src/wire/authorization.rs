//! Locks, roles and their assignments as the platform writes them, at every version of theirs.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::lock::{Level, Lock, LockOwner, NewLock};
use crate::domain::role::{Assignment, MAX_PATTERN, Permissions, RoleDefinition, Written};
use crate::domain::scope::Scope;
use crate::error::{Error, Violations};
use crate::wire::fields::{Fields, SHORT_TEXT};
use crate::wire::times::moment;

/// Longest note on a lock. Unit: bytes. Source: `ManagementLockProperties.notes`.
const MAX_NOTES: usize = 512;

/// Longest name and description of a role. Unit: bytes. Source: the platform's published limits.
const MAX_NAME: usize = 512;
const MAX_DESCRIPTION: usize = 2048;

/// Most patterns of one list. Unit: entries.
const MAX_PATTERNS: usize = 200;

/// Most blocks of permissions, and most scopes of a role.
const MAX_BLOCKS: usize = 20;

/// Reads the body of a lock's PUT; `name` is the one of the address.
///
/// # Errors
/// Every violation.
pub fn decode_lock(document: &Value, name: &str) -> Result<NewLock, Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).and_then(|root| {
        let properties = root.required_object("properties", &mut found)?;
        let levels = [("CanNotDelete", Level::CanNotDelete), ("ReadOnly", Level::ReadOnly)];
        if !properties.has("level") {
            found.missing(properties.path_of("level"));
        }
        let level = properties.word("level", &levels, &mut found);
        let notes = properties.text("notes", MAX_NOTES, &mut found).map(str::to_owned);
        let owners = properties.objects("owners", &mut found).map(|owners| {
            let mut ids = Vec::new();
            for owner in owners {
                if let Some(id) = owner.required_text("applicationId", SHORT_TEXT, &mut found) {
                    ids.push(LockOwner { application_id: id.to_owned() });
                }
            }
            ids
        });
        level.map(|level| NewLock { name: name.to_owned(), level, notes, owners })
    });
    found.into_result()?;
    read.ok_or_else(|| Error::internal("a body without violations was not read"))
}

/// A lock in an answer.
pub fn lock_body(lock: &Lock) -> Value {
    let mut properties = json!({"level": lock.is.level.as_str()});
    if let Value::Object(members) = &mut properties {
        if let Some(notes) = &lock.is.notes {
            members.insert("notes".into(), json!(notes));
        }
        if let Some(owners) = &lock.is.owners {
            members.insert("owners".into(), json!(owners));
        }
    }
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/locks/{}", lock.scope, lock.is.name),
        "type": "Microsoft.Authorization/locks",
        "name": lock.is.name,
        "properties": properties,
    })
}

/// What a PUT of an assignment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentParameters {
    /// The role.
    pub role: Uuid,
    /// The subscription that the role's id names, where it names one.
    pub role_scope: Option<Scope>,
    /// Who is to hold it.
    pub principal: Uuid,
    /// What the principal is called.
    pub principal_type: Option<String>,
    /// What people say about it.
    pub description: Option<String>,
}

/// Reads the body of an assignment's PUT.
///
/// # Errors
/// Every violation.
pub fn decode_assignment(document: &Value) -> Result<AssignmentParameters, Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).and_then(|root| {
        let properties = root.required_object("properties", &mut found)?;
        let role = properties.required_text("roleDefinitionId", SHORT_TEXT, &mut found).and_then(|text| {
            let role = role_id(text);
            if role.is_none() {
                let path = properties.path_of("roleDefinitionId");
                found.invalid(
                    &path,
                    format!(
                        "The property '{path}' must be the id of a role definition: \
                         /subscriptions/{{id}}/providers/Microsoft.Authorization/roleDefinitions/{{guid}}."
                    ),
                );
            }
            role
        });
        let principal = properties.required_text("principalId", SHORT_TEXT, &mut found).and_then(|text| {
            let id = Uuid::try_parse(text).ok();
            if id.is_none() {
                let path = properties.path_of("principalId");
                found.invalid(&path, format!("The property '{path}' must be the object id of a principal, a GUID."));
            }
            id
        });
        let kinds = ["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"].map(|kind| (kind, kind));
        let principal_type = properties.word("principalType", &kinds, &mut found).map(str::to_owned);
        let description = properties.text("description", MAX_DESCRIPTION, &mut found).map(str::to_owned);
        for name in ["condition", "delegatedManagedIdentityResourceId"] {
            if properties.has(name) {
                let path = properties.path_of(name);
                found.invalid(&path, format!("The property '{path}' is not offered by this server. Leave it out."));
            }
        }
        let (role_scope, role) = role?;
        Some(AssignmentParameters { role, role_scope, principal: principal?, principal_type, description })
    });
    found.into_result()?;
    read.ok_or_else(|| Error::internal("a body without violations was not read"))
}

/// The scope and the GUID of a role definition's id.
fn role_id(text: &str) -> Option<(Option<Scope>, Uuid)> {
    let (before, guid) = text.rsplit_once('/')?;
    let id = Uuid::try_parse(guid).ok()?;
    let folded = before.to_ascii_lowercase();
    let scope = folded.strip_suffix("/providers/microsoft.authorization/roledefinitions")?;
    if scope.is_empty() {
        return Some((None, id));
    }
    Some((Some(Scope::parse(scope)?), id))
}

/// An assignment in an answer.
pub fn assignment_body(assignment: &Assignment, scope: &Scope) -> Value {
    let path = format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", assignment.scope, assignment.id);
    let mut properties = json!({
        "roleDefinitionId": role_path(scope, assignment.role),
        "principalId": assignment.principal,
        "principalType": assignment.principal_type.as_deref().unwrap_or("ServicePrincipal"),
        "scope": assignment.scope,
        "condition": null,
        "conditionVersion": null,
    });
    tell_written(&mut properties, Some(&assignment.written));
    if let (Value::Object(members), Some(description)) = (&mut properties, &assignment.description) {
        members.insert("description".into(), json!(description));
    }
    json!({"id": path, "type": "Microsoft.Authorization/roleAssignments", "name": assignment.id, "properties": properties})
}

fn role_path(scope: &Scope, role: Uuid) -> String {
    format!("/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{role}", scope.subscription())
}

fn tell_written(properties: &mut Value, written: Option<&Written>) {
    let Value::Object(members) = properties else { return };
    let at = |at: Option<crate::clock::Timestamp>| at.map_or(Value::Null, |at| json!(moment(at)));
    members.insert("createdOn".into(), at(written.map(|written| written.created_at)));
    members.insert("updatedOn".into(), at(written.map(|written| written.updated_at)));
    members.insert("createdBy".into(), json!(written.and_then(|written| written.created_by)));
    members.insert("updatedBy".into(), json!(written.and_then(|written| written.updated_by)));
}

/// What a PUT of a role asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleParameters {
    /// Its name.
    pub name: String,
    /// What people say about it.
    pub description: String,
    /// What it allows.
    pub permissions: Vec<Permissions>,
    /// The scopes at or below which it may be assigned.
    pub assignable_scopes: Vec<Scope>,
}

/// Reads the body of a role's PUT. It names the scopes at which it may be assigned; without them that is `scope`.
///
/// # Errors
/// Every violation.
pub fn decode_role(document: &Value, scope: &Scope) -> Result<RoleParameters, Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).and_then(|root| {
        let properties = root.required_object("properties", &mut found)?;
        let name = properties.required_text("roleName", MAX_NAME, &mut found);
        let description = properties.text("description", MAX_DESCRIPTION, &mut found).unwrap_or_default().to_owned();
        properties.word("type", &[("CustomRole", ())], &mut found);
        let blocks = properties.objects("permissions", &mut found);
        if !properties.has("permissions") {
            found.missing(properties.path_of("permissions"));
        }
        let blocks = blocks.unwrap_or_default();
        if blocks.len() > MAX_BLOCKS {
            found.invalid(
                "properties.permissions",
                format!("The property 'properties.permissions' has more than {MAX_BLOCKS} entries."),
            );
        }
        let permissions: Vec<Permissions> = blocks.iter().take(MAX_BLOCKS).map(|block| permissions(block, &mut found)).collect();
        let assignable_scopes = match properties.list_of_texts("assignableScopes", SHORT_TEXT, &mut found) {
            None => vec![scope.clone()],
            Some(texts) => scopes(&texts, scope, &mut found),
        };
        Some(RoleParameters { name: name?.to_owned(), description, permissions, assignable_scopes })
    });
    found.into_result()?;
    read.ok_or_else(|| Error::internal("a body without violations was not read"))
}

fn permissions(block: &Fields<'_>, found: &mut Violations) -> Permissions {
    let mut patterns = |name: &str| -> Vec<String> {
        let texts = block.list_of_texts(name, MAX_PATTERN, found).unwrap_or_default();
        let path = block.path_of(name);
        if texts.len() > MAX_PATTERNS {
            found.invalid(&path, format!("The property '{path}' has more than {MAX_PATTERNS} entries."));
        }
        for (index, text) in texts.iter().enumerate() {
            let sound =
                *text == "*" || (text.contains('/') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/*".contains(&b)));
            if !sound {
                let path = format!("{path}[{index}]");
                found.invalid(
                    &path,
                    format!("The property '{path}' must be '*' or an action such as 'Microsoft.BatchAI/*/read'."),
                );
            }
        }
        texts.into_iter().map(str::to_owned).collect()
    };
    Permissions {
        actions: patterns("actions"),
        not_actions: patterns("notActions"),
        data_actions: patterns("dataActions"),
        not_data_actions: patterns("notDataActions"),
    }
}

fn scopes(texts: &[&str], scope: &Scope, found: &mut Violations) -> Vec<Scope> {
    if texts.is_empty() || texts.len() > MAX_BLOCKS {
        let path = "properties.assignableScopes";
        found.invalid(path, format!("The property '{path}' must have 1 to {MAX_BLOCKS} entries."));
    }
    let mut read = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Scope::parse(text.trim_end_matches('/')) {
            Some(one) if one.subscription() == scope.subscription() => read.push(one),
            _ => {
                let path = format!("properties.assignableScopes[{index}]");
                let message =
                    format!("The property '{path}' must be the id of the role's own subscription, or of something in it.");
                found.invalid(&path, message);
            }
        }
    }
    read
}

/// A role in an answer; `scope` is where it was asked for, `None` for the directory.
pub fn role_body(role: &RoleDefinition, scope: Option<&Scope>) -> Value {
    let id = match scope {
        Some(scope) => role_path(scope, role.id),
        None => format!("/providers/Microsoft.Authorization/roleDefinitions/{}", role.id),
    };
    let mut properties = json!({
        "roleName": role.name,
        "type": if role.built_in { "BuiltInRole" } else { "CustomRole" },
        "description": role.description,
        "assignableScopes": role.assignable_scopes,
        "permissions": permissions_body(&role.permissions),
    });
    tell_written(&mut properties, role.written.as_ref());
    json!({"id": id, "type": "Microsoft.Authorization/roleDefinitions", "name": role.id, "properties": properties})
}

/// Permissions in an answer.
pub fn permissions_body(permissions: &[Permissions]) -> Value {
    let one = |permissions: &Permissions| {
        json!({
            "actions": permissions.actions,
            "notActions": permissions.not_actions,
            "dataActions": permissions.data_actions,
            "notDataActions": permissions.not_data_actions,
        })
    };
    Value::Array(permissions.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::id::SubscriptionId;

    const GUID: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

    fn scope() -> Scope {
        Scope::Subscription(SubscriptionId(Uuid::from_u128(1)))
    }

    #[test]
    fn a_role_is_named_at_any_scope_of_its_own() {
        for (text, known) in [
            (format!("/subscriptions/{GUID}/providers/Microsoft.Authorization/roleDefinitions/{GUID}"), true),
            (format!("/providers/microsoft.authorization/ROLEDEFINITIONS/{GUID}"), true),
            (format!("/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/{GUID}"), false),
            (format!("/providers/Microsoft.Authorization/locks/{GUID}"), false),
            (GUID.to_owned(), false),
            ("/providers/Microsoft.Authorization/roleDefinitions/Reader".to_owned(), false),
        ] {
            let body = json!({"properties": {"roleDefinitionId": text, "principalId": GUID}});
            assert_eq!(decode_assignment(&body).is_ok(), known, "{text}");
        }
        let conditional = json!({"properties": {
            "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{GUID}"), "principalId": "x", "condition": "true",
        }});
        let error = decode_assignment(&conditional).expect_err("two faults");
        assert_eq!((error.code, error.details.len()), (ErrorCode::MultipleErrorsOccurred, 2));
    }

    #[test]
    fn a_role_stays_in_its_subscription() {
        let body = |scopes: Value| json!({"properties": {"roleName": "R", "permissions": [{"actions": ["*/read"]}], "assignableScopes": scopes}});
        let read = decode_role(&body(json!([scope().path()])), &scope()).expect("valid");
        assert_eq!(read.assignable_scopes, [scope()]);
        for wrong in [json!([]), json!(["/"]), json!([format!("/subscriptions/{GUID}")]), json!("x"), json!([1])] {
            assert!(decode_role(&body(wrong.clone()), &scope()).is_err(), "{wrong}");
        }
        for action in ["", "read", "a b/read", "a/\u{e4}", "a/'"] {
            let body = json!({"properties": {"roleName": "R", "permissions": [{"actions": [action]}]}});
            assert!(decode_role(&body, &scope()).is_err(), "{action}");
        }
    }

    #[test]
    fn a_lock_has_a_level() {
        let read = decode_lock(&json!({"properties": {"level": "cannotdelete", "notes": "n"}}), "L").expect("valid");
        assert_eq!((read.level, read.notes.as_deref()), (Level::CanNotDelete, Some("n")));
        for wrong in [
            json!({}),
            json!({"level": "NotSpecified"}),
            json!({"level": 1}),
            json!({"level": "ReadOnly", "notes": "n".repeat(513)}),
        ] {
            assert!(decode_lock(&json!({ "properties": wrong }), "L").is_err());
        }
    }
}
