//! Descriptions of what the platform has around the provider: lists of any type, tags, locks, roles, the activity log.

use serde_json::{Value, json};

use super::{Operation, answers, list};

fn text() -> Value {
    json!({"type": "string"})
}

fn filter() -> (&'static str, bool, Value) {
    ("$filter", false, text())
}

fn top() -> (&'static str, bool, Value) {
    ("$top", false, json!({"type": "integer", "minimum": 1, "maximum": super::MAX_RESULTS}))
}

fn found(summary: &'static str) -> Operation {
    answers(summary, "").only(204, "It exists.", None).or(404, "It does not.", None)
}

fn removed(summary: &'static str, schema: Option<&'static str>) -> Operation {
    answers(summary, "").only(200, "It is gone.", schema).or(204, "There was none.", None)
}

fn kept(summary: &'static str, schema: &'static str) -> Operation {
    answers(summary, schema).or(201, "It is new.", Some(schema))
}

fn made(summary: &'static str, schema: &'static str) -> Operation {
    answers(summary, "").only(201, "It is stored.", Some(schema)).body(schema)
}

/// The description of an operation by its id; `None` where it is none of these.
pub(super) fn describe(operation: &str) -> Option<Operation> {
    Some(match operation {
        "Providers_Unregister" => {
            answers("Takes the registration of a provider back, once the subscription has nothing of it.", "Provider")
        }
        "Resources_List" => {
            list("Lists the tracked resources of a subscription that the caller may read.", "GenericResourceListResult")
                .query(vec![filter(), top(), ("$expand", false, text())])
        }
        "Resources_ListByResourceGroup" => list("Lists the tracked resources of a group.", "GenericResourceListResult")
            .query(vec![filter(), top(), ("$expand", false, text())]),
        "Workspaces_CheckExistence" => found("Tells whether a workspace exists."),
        "Clusters_CheckExistence" => found("Tells whether a cluster exists."),
        "FileServers_CheckExistence" => found("Tells whether a file server exists."),
        "Experiments_CheckExistence" => found("Tells whether an experiment exists."),
        "Jobs_CheckExistence" => found("Tells whether a job exists."),
        "Tags_List" => answers("Lists names of tags, kept or in use, with their values.", "TagsListResult"),
        "Tags_CreateOrUpdate" => kept("Keeps a name of tags.", "TagDetails"),
        "Tags_Delete" => removed("Forgets a name that no resource has.", None),
        "Tags_CreateOrUpdateValue" => kept("Keeps a value of a name.", "TagValue"),
        "Tags_DeleteValue" => removed("Forgets a value that no resource has.", None),
        "Tags_GetAtScope" => answers("Gets the tags of a subscription, group or resource.", "TagsResource"),
        "Tags_CreateOrUpdateAtScope" => answers("Replaces all tags.", "TagsResource").body("TagsResource"),
        "Tags_UpdateAtScope" => answers("Merges, replaces or takes tags away.", "TagsResource").body("TagsPatchResource"),
        "Tags_DeleteAtScope" => answers("Takes all tags away.", "").only(200, "There are none.", None),
        "Deployments_ListAtSubscriptionScope" | "Deployments_ListByResourceGroup" => {
            answers("Lists template deployments, of which there are none.", "DeploymentListResult")
        }
        "Deployments_GetAtSubscriptionScope" | "Deployments_Get" => {
            answers("Gets a template deployment, of which there are none.", "").only(404, "There is none.", Some("CloudError"))
        }
        "Deployments_CheckExistenceAtSubscriptionScope" | "Deployments_CheckExistence" => {
            answers("Tells whether a template deployment exists.", "").only(404, "It does not.", None)
        }
        "Directory_FindServicePrincipals" => {
            answers("Finds a principal by its client id.", "ServicePrincipalListResult").query(vec![("$filter", true, text())])
        }
        "Directory_FindUsers" => {
            answers("Finds people, of whom there are none.", "ServicePrincipalListResult").query(vec![filter()])
        }
        "Directory_GetByIds" => answers("Tells what object ids are of.", "ServicePrincipalListResult").body("DirectoryObjectIds"),
        "ManagementLocks_ListByScope" => {
            answers("Lists the locks at a scope and below it.", "ManagementLockListResult").query(vec![filter()])
        }
        "ManagementLocks_GetByScope" => answers("Gets a lock.", "ManagementLock"),
        "ManagementLocks_CreateOrUpdateByScope" => kept("Sets a lock.", "ManagementLock").body("ManagementLock"),
        "ManagementLocks_DeleteByScope" => removed("Takes a lock away.", None),
        "RoleAssignments_ListForScope" => {
            answers("Lists who holds which role at, above or below a scope.", "RoleAssignmentListResult").query(vec![filter()])
        }
        "RoleAssignments_Get" => answers("Gets a role assignment.", "RoleAssignment"),
        "RoleAssignments_Create" => made("Gives a role to a principal.", "RoleAssignment"),
        "RoleAssignments_Delete" => removed("Takes a role away.", Some("RoleAssignment")),
        "RoleDefinitions_List" => {
            answers("Lists the roles that may be assigned at a scope.", "RoleDefinitionListResult").query(vec![filter()])
        }
        "RoleDefinitions_ListAtTenantScope" => {
            answers("Lists the roles that every directory has.", "RoleDefinitionListResult").query(vec![filter()])
        }
        "RoleDefinitions_Get" | "RoleDefinitions_GetAtTenantScope" => answers("Gets a role.", "RoleDefinition"),
        "RoleDefinitions_CreateOrUpdate" => made("Defines a role.", "RoleDefinition"),
        "RoleDefinitions_Delete" => removed("Removes a role that nobody holds.", Some("RoleDefinition")),
        "Permissions_ListForScope" => answers("Lists what the caller may do at a scope.", "PermissionGetResult"),
        "ActivityLogs_List" => answers("Lists what was asked for in a subscription, the latest first.", "EventDataCollection")
            .query(vec![("$filter", true, text()), ("$select", false, text()), ("$skiptoken", false, text())]),
        _ => return None,
    })
}
