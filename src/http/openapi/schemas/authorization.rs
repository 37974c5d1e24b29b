//! Lists of any type, tags, locks, roles and the activity log.

use serde_json::{Value, json};

use super::{Named, many, object, page, tags, text, time, to};

fn number() -> Value {
    json!({"type": "integer", "format": "int64"})
}

fn any() -> Value {
    json!({"type": "object"})
}

pub(super) fn schemas() -> Named {
    let named = || object([("value!", text()), ("localizedValue!", text())]);
    vec![
        (
            "GenericResource",
            object([
                ("id!", text()),
                ("name!", text()),
                ("type!", text()),
                ("location!", text()),
                ("tags", tags()),
                ("createdTime", time()),
                ("changedTime", time()),
                ("provisioningState", text()),
            ]),
        ),
        ("GenericResourceListResult", page("GenericResource")),
        ("TagCount", object([("type!", text()), ("value!", number())])),
        ("TagValue", object([("id!", text()), ("tagValue!", text()), ("count!", to("TagCount"))])),
        (
            "TagDetails",
            object([("id!", text()), ("tagName!", text()), ("count!", to("TagCount")), ("values!", many(to("TagValue")))]),
        ),
        ("TagsListResult", page("TagDetails")),
        (
            "TagsResource",
            object([("id", text()), ("name", text()), ("type", text()), ("properties!", object([("tags", tags())]))]),
        ),
        (
            "TagsPatchResource",
            object([
                ("operation!", json!({"type": "string", "enum": ["Replace", "Merge", "Delete"]})),
                ("properties!", object([("tags", tags())])),
            ]),
        ),
        ("DeploymentListResult", object([("value!", many(any())), ("nextLink", text())])),
        (
            "ManagementLock",
            object([
                ("id", text()),
                ("type", text()),
                ("name", text()),
                (
                    "properties!",
                    object([
                        ("level!", json!({"type": "string", "enum": ["CanNotDelete", "ReadOnly"]})),
                        ("notes", json!({"type": "string", "maxLength": 512})),
                        ("owners", many(object([("applicationId!", text())]))),
                    ]),
                ),
            ]),
        ),
        ("ManagementLockListResult", page("ManagementLock")),
        (
            "RoleAssignment",
            object([
                ("id", text()),
                ("type", text()),
                ("name", text()),
                (
                    "properties!",
                    object([
                        ("roleDefinitionId!", text()),
                        ("principalId!", text()),
                        ("principalType", text()),
                        ("scope", text()),
                        ("description", text()),
                        ("condition", text()),
                        ("conditionVersion", text()),
                        ("createdOn", time()),
                        ("updatedOn", time()),
                        ("createdBy", text()),
                        ("updatedBy", text()),
                    ]),
                ),
            ]),
        ),
        ("RoleAssignmentListResult", page("RoleAssignment")),
        ("Permission", object(["actions", "notActions", "dataActions", "notDataActions"].map(|name| (name, many(text()))))),
        ("PermissionGetResult", page("Permission")),
        (
            "RoleDefinition",
            object([
                ("id", text()),
                ("type", text()),
                ("name", text()),
                (
                    "properties!",
                    object([
                        ("roleName!", text()),
                        ("type", text()),
                        ("description", text()),
                        ("permissions!", many(to("Permission"))),
                        ("assignableScopes", many(text())),
                        ("createdOn", time()),
                        ("updatedOn", time()),
                        ("createdBy", text()),
                        ("updatedBy", text()),
                    ]),
                ),
            ]),
        ),
        ("RoleDefinitionListResult", page("RoleDefinition")),
        (
            "EventData",
            object([
                ("authorization", object([("action!", text()), ("role", text()), ("scope!", text())])),
                ("caller", text()),
                ("channels", text()),
                ("claims", any()),
                ("correlationId", text()),
                ("description", text()),
                ("eventDataId", text()),
                ("eventName", named()),
                ("category", named()),
                ("httpRequest", any()),
                ("id", text()),
                ("level", text()),
                ("resourceGroupName", text()),
                ("resourceProviderName", named()),
                ("resourceId", text()),
                ("resourceType", named()),
                ("operationId", text()),
                ("operationName", named()),
                ("properties", any()),
                ("status", named()),
                ("subStatus", named()),
                ("eventTimestamp", time()),
                ("submissionTimestamp", time()),
                ("subscriptionId", text()),
                ("tenantId", text()),
            ]),
        ),
        ("EventDataCollection", page("EventData")),
    ]
}
