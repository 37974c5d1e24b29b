//! What several kinds have: errors, ids, variables, workspaces and experiments, operations.

use super::{Named, PROVISIONING, many, object, page, resource, secret, tags, text, time, to, word};

pub(super) fn schemas() -> Named {
    let container = || {
        object([
            ("provisioningState!", word(&PROVISIONING)),
            ("provisioningStateTransitionTime!", time()),
            ("creationTime!", time()),
        ])
    };
    vec![
        ("CloudError", object([("error!", to("CloudErrorBody"))])),
        (
            "CloudErrorBody",
            object([("code!", text()), ("message!", text()), ("target", text()), ("details", many(to("CloudErrorBody")))]),
        ),
        ("Resource", resource_of_any_kind()),
        ("ResourceId", object([("id!", text())])),
        ("NameValuePair", object([("name!", text()), ("value!", text())])),
        ("BatchAIError", object([("code!", text()), ("message!", text()), ("details", many(to("NameValuePair")))])),
        ("EnvironmentVariable", object([("name!", text()), ("value!", text())])),
        (
            "EnvironmentVariableWithSecretValue",
            object([("name!", text()), ("value", secret()), ("valueSecretReference", to("KeyVaultSecretReference"))]),
        ),
        ("KeyVaultSecretReference", object([("sourceVault!", to("ResourceId")), ("secretUrl!", text())])),
        (
            "UserAccountSettings",
            object([("adminUserName!", text()), ("adminUserSshPublicKey", text()), ("adminUserPassword", secret())]),
        ),
        ("WorkspaceProperties", container()),
        (
            "Workspace",
            object([
                ("id!", text()),
                ("name!", text()),
                ("type!", text()),
                ("location!", text()),
                ("tags", tags()),
                ("properties!", to("WorkspaceProperties")),
            ]),
        ),
        ("WorkspaceCreateParameters", object([("location!", text()), ("tags", tags())])),
        ("WorkspaceUpdateParameters", object([("tags", tags())])),
        ("WorkspaceListResult", page("Workspace")),
        ("ExperimentProperties", container()),
        ("Experiment", resource("ExperimentProperties")),
        ("ExperimentListResult", page("Experiment")),
        (
            "OperationResult",
            object([
                ("id!", text()),
                ("name!", text()),
                ("status!", word(&["InProgress", "Succeeded", "Failed"])),
                ("startTime!", time()),
                ("endTime", time()),
                ("properties", object([("resourceId!", text())])),
                ("error", object([("code!", text()), ("message!", text())])),
            ]),
        ),
    ]
}

/// What an operation made.
fn resource_of_any_kind() -> serde_json::Value {
    let properties = serde_json::json!({"type": "object"});
    object([("id!", text()), ("name!", text()), ("type!", text()), ("properties", properties)])
}
