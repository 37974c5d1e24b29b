//! The schemas of bodies. Members that a request is refused for are described as what they are: part of the published contract,
//! and not offered yet.

use serde_json::{Map, Value, json};

use crate::domain::cluster::MAX_NODES;
use crate::wire::v2018_05_01::job::{CUSTOM, FRAMEWORKS};

/// The schema of a path parameter.
pub(super) fn path_parameter(name: &str) -> Value {
    match name {
        "subscriptionId" | "operationId" | "jobUid" => json!({"type": "string", "format": "uuid"}),
        "resourceGroupName" => json!({"type": "string", "minLength": 1, "maxLength": 90, "pattern": "^[-\\w._()]*[-\\w_()]$"}),
        "workspaceName" | "experimentName" | "jobName" | "clusterName" => {
            json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[-A-Za-z0-9_]+$"})
        }
        _ => json!({"type": "string", "minLength": 1}),
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn int() -> Value {
    json!({"type": "integer", "format": "int32"})
}

fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn to(schema: &str) -> Value {
    super::reference(schema)
}

fn many(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn tags() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn later(shape: &str) -> Value {
    json!({"type": shape, "description": "Part of the published contract; refused by this server, which does not offer it yet."})
}

/// An object; the first so many members are required.
fn object(required: usize, members: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> = members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = members.iter().take(required).map(|(name, _)| *name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if let (Value::Object(schema), false) = (&mut schema, required.is_empty()) {
        schema.insert("required".into(), json!(required));
    }
    schema
}

fn page(item: &str) -> Value {
    object(1, &[("value", many(to(item))), ("nextLink", text())])
}

fn resource(properties: &str) -> Value {
    object(4, &[("id", text()), ("name", text()), ("type", text()), ("properties", to(properties))])
}

const PROVISIONING: [&str; 4] = ["creating", "deleting", "succeeded", "failed"];

/// All schemas by name.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for part in [shared(), containers(), clusters(), jobs(), lists(), platform(), sign_in()] {
        all.extend(part.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    }
    Value::Object(all)
}

type Named = Vec<(&'static str, Value)>;

fn shared() -> Named {
    let body = object(2, &[("code", text()), ("message", text()), ("target", text()), ("details", many(to("CloudErrorBody")))]);
    vec![
        ("CloudError", object(1, &[("error", to("CloudErrorBody"))])),
        ("CloudErrorBody", body),
        ("Resource", object(3, &[("id", text()), ("name", text()), ("type", text()), ("properties", json!({"type": "object"}))])),
        ("ResourceId", object(1, &[("id", text())])),
        ("NameValuePair", object(2, &[("name", text()), ("value", text())])),
        ("BatchAIError", object(2, &[("code", text()), ("message", text()), ("details", many(to("NameValuePair")))])),
        ("EnvironmentVariable", object(2, &[("name", text()), ("value", text())])),
        (
            "EnvironmentVariableWithSecretValue",
            object(
                1,
                &[
                    ("name", text()),
                    ("value", json!({"type": "string", "writeOnly": true})),
                    ("valueSecretReference", later("object")),
                ],
            ),
        ),
        (
            "OperationResult",
            object(
                4,
                &[
                    ("id", text()),
                    ("name", text()),
                    ("status", word(&["InProgress", "Succeeded", "Failed"])),
                    ("startTime", time()),
                    ("endTime", time()),
                    ("properties", object(1, &[("resourceId", text())])),
                    ("error", object(2, &[("code", text()), ("message", text())])),
                ],
            ),
        ),
    ]
}

fn containers() -> Named {
    vec![
        (
            "ContainerProperties",
            object(
                3,
                &[
                    ("provisioningState", word(&PROVISIONING)),
                    ("provisioningStateTransitionTime", time()),
                    ("creationTime", time()),
                ],
            ),
        ),
        (
            "Workspace",
            object(
                5,
                &[
                    ("id", text()),
                    ("name", text()),
                    ("type", text()),
                    ("location", text()),
                    ("properties", to("ContainerProperties")),
                    ("tags", tags()),
                ],
            ),
        ),
        ("WorkspaceCreateParameters", object(1, &[("location", text()), ("tags", tags())])),
        ("WorkspaceUpdateParameters", object(0, &[("tags", tags())])),
        ("WorkspaceListResult", page("Workspace")),
        ("Experiment", resource("ContainerProperties")),
        ("ExperimentListResult", page("Experiment")),
    ]
}

fn clusters() -> Named {
    let base = [
        ("vmSize", text()),
        ("userAccountSettings", to("UserAccountSettings")),
        ("scaleSettings", to("ScaleSettings")),
        ("vmPriority", word(&["dedicated", "lowpriority"])),
        ("virtualMachineConfiguration", object(0, &[("imageReference", to("ImageReference"))])),
        ("nodeSetup", to("NodeSetup")),
        ("subnet", to("ResourceId")),
    ];
    let mut shown = base.to_vec();
    shown.splice(
        5..5,
        [
            ("provisioningState", word(&PROVISIONING)),
            ("allocationState", word(&["steady", "resizing"])),
            ("creationTime", time()),
            ("allocationStateTransitionTime", time()),
            ("provisioningStateTransitionTime", time()),
            ("currentNodeCount", int()),
            ("nodeStateCounts", to("NodeStateCounts")),
        ],
    );
    shown.push(("errors", many(to("BatchAIError"))));
    let count = json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": MAX_NODES, "default": 0});
    vec![
        ("ClusterBaseProperties", object(3, &base)),
        ("ClusterProperties", object(12, &shown)),
        ("ClusterCreateParameters", object(1, &[("properties", to("ClusterBaseProperties"))])),
        ("ClusterUpdateParameters", object(0, &[("properties", object(0, &[("scaleSettings", to("ScaleSettings"))]))])),
        ("Cluster", resource("ClusterProperties")),
        ("ClusterListResult", page("Cluster")),
        ("ScaleSettings", object(1, &[("manual", to("ManualScaleSettings")), ("autoScale", later("object"))])),
        (
            "ManualScaleSettings",
            object(
                1,
                &[
                    ("targetNodeCount", count),
                    ("nodeDeallocationOption", word(&["requeue", "terminate", "waitforjobcompletion"])),
                ],
            ),
        ),
        (
            "ImageReference",
            object(
                3,
                &[
                    ("publisher", text()),
                    ("offer", text()),
                    ("sku", text()),
                    ("version", text()),
                    ("virtualMachineImageId", text()),
                ],
            ),
        ),
        (
            "UserAccountSettings",
            object(
                1,
                &[
                    ("adminUserName", text()),
                    ("adminUserSshPublicKey", text()),
                    ("adminUserPassword", json!({"type": "string", "writeOnly": true})),
                ],
            ),
        ),
        (
            "NodeSetup",
            object(
                0,
                &[
                    ("setupTask", to("SetupTask")),
                    ("mountVolumes", later("object")),
                    ("performanceCountersSettings", later("object")),
                ],
            ),
        ),
        (
            "SetupTask",
            object(
                2,
                &[
                    ("commandLine", text()),
                    ("stdOutErrPathPrefix", text()),
                    ("environmentVariables", many(to("EnvironmentVariable"))),
                    ("secrets", many(to("EnvironmentVariableWithSecretValue"))),
                    ("stdOutErrPathSuffix", json!({"type": "string", "readOnly": true})),
                ],
            ),
        ),
        (
            "NodeStateCounts",
            object(
                5,
                &[
                    ("runningNodeCount", int()),
                    ("idleNodeCount", int()),
                    ("unusableNodeCount", int()),
                    ("preparingNodeCount", int()),
                    ("leavingNodeCount", int()),
                ],
            ),
        ),
    ]
}

fn jobs() -> Named {
    let count = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_NODES});
    let settings = object(0, &[("commandLine", text())]);
    let mut base = vec![
        ("cluster", to("ResourceId")),
        ("nodeCount", count),
        ("stdOutErrPathPrefix", text()),
        (CUSTOM, settings),
        ("schedulingPriority", word(&["low", "normal", "high"])),
        ("constraints", object(0, &[("maxWallClockTime", json!({"type": "string", "format": "duration", "default": "P7D"}))])),
        ("jobPreparation", object(1, &[("commandLine", text())])),
        ("inputDirectories", many(object(2, &[("id", text()), ("path", text())]))),
        ("outputDirectories", many(object(2, &[("id", text()), ("pathPrefix", text()), ("pathSuffix", text())]))),
        ("environmentVariables", many(to("EnvironmentVariable"))),
        ("secrets", many(to("EnvironmentVariableWithSecretValue"))),
    ];
    let mut shown = base.clone();
    shown.splice(
        6..6,
        [
            ("experimentName", text()),
            ("jobOutputDirectoryPathSegment", text()),
            ("toolType", text()),
            ("creationTime", time()),
            ("provisioningState", word(&PROVISIONING)),
            ("provisioningStateTransitionTime", time()),
            ("executionState", word(&["queued", "running", "terminating", "succeeded", "failed"])),
            ("executionStateTransitionTime", time()),
        ],
    );
    shown.push((
        "executionInfo",
        object(0, &[("startTime", time()), ("endTime", time()), ("exitCode", int()), ("errors", many(to("BatchAIError")))]),
    ));
    base.extend(FRAMEWORKS.into_iter().filter(|name| *name != CUSTOM).map(|name| (name, later("object"))));
    base.extend([("mountVolumes", later("object")), ("containerSettings", later("object"))]);
    vec![
        ("JobBaseProperties", object(4, &base)),
        ("JobProperties", object(14, &shown)),
        ("JobCreateParameters", object(1, &[("properties", to("JobBaseProperties"))])),
        ("Job", resource("JobProperties")),
        ("JobListResult", page("Job")),
    ]
}

fn lists() -> Named {
    let named = |members: &[&'static str]| object(members.len(), &members.iter().map(|name| (*name, text())).collect::<Vec<_>>());
    vec![
        (
            "File",
            object(
                2,
                &[
                    ("name", text()),
                    ("fileType", word(&["file", "directory"])),
                    ("downloadUrl", text()),
                    (
                        "properties",
                        object(2, &[("lastModified", time()), ("contentLength", json!({"type": "integer", "format": "int64"}))]),
                    ),
                ],
            ),
        ),
        ("FileListResult", page("File")),
        ("RemoteLoginInformation", object(3, &[("nodeId", text()), ("ipAddress", text()), ("port", int())])),
        ("RemoteLoginInformationListResult", page("RemoteLoginInformation")),
        (
            "Usage",
            object(
                4,
                &[
                    ("unit", text()),
                    ("currentValue", int()),
                    ("limit", json!({"type": "integer", "format": "int64"})),
                    ("name", named(&["value", "localizedValue"])),
                ],
            ),
        ),
        ("ListUsagesResult", page("Usage")),
        (
            "Operation",
            object(
                3,
                &[
                    ("name", text()),
                    ("display", named(&["provider", "operation", "resource", "description"])),
                    ("origin", text()),
                ],
            ),
        ),
        ("OperationListResult", page("Operation")),
    ]
}

fn platform() -> Named {
    vec![
        (
            "ResourceGroup",
            object(
                5,
                &[
                    ("id", text()),
                    ("name", text()),
                    ("type", text()),
                    ("location", text()),
                    ("properties", object(1, &[("provisioningState", text())])),
                    ("tags", tags()),
                    ("managedBy", text()),
                ],
            ),
        ),
        ("ResourceGroupParameters", object(1, &[("location", text()), ("tags", tags()), ("managedBy", text())])),
        ("ResourceGroupPatch", object(0, &[("tags", tags()), ("managedBy", text())])),
        ("ResourceGroupListResult", page("ResourceGroup")),
        (
            "Subscription",
            object(
                8,
                &[
                    ("id", text()),
                    ("subscriptionId", text()),
                    ("tenantId", text()),
                    ("displayName", text()),
                    ("state", text()),
                    ("subscriptionPolicies", json!({"type": "object"})),
                    ("authorizationSource", text()),
                    ("managedByTenants", many(json!({"type": "object"}))),
                ],
            ),
        ),
        ("SubscriptionListResult", page("Subscription")),
        ("Tenant", object(4, &[("id", text()), ("tenantId", text()), ("displayName", text()), ("tenantCategory", text())])),
        ("TenantListResult", page("Tenant")),
        (
            "Location",
            object(
                7,
                &[
                    ("id", text()),
                    ("subscriptionId", text()),
                    ("name", text()),
                    ("type", text()),
                    ("displayName", text()),
                    ("regionalDisplayName", text()),
                    ("metadata", json!({"type": "object"})),
                ],
            ),
        ),
        ("LocationListResult", page("Location")),
        (
            "Provider",
            object(
                5,
                &[
                    ("id", text()),
                    ("namespace", text()),
                    ("registrationPolicy", text()),
                    ("registrationState", text()),
                    ("resourceTypes", many(to("ProviderResourceType"))),
                ],
            ),
        ),
        (
            "ProviderResourceType",
            object(
                5,
                &[
                    ("resourceType", text()),
                    ("locations", many(text())),
                    ("apiVersions", many(text())),
                    ("defaultApiVersion", text()),
                    ("capabilities", text()),
                ],
            ),
        ),
        ("ProviderListResult", page("Provider")),
        ("Health", object(1, &[("status", text())])),
    ]
}

fn sign_in() -> Named {
    vec![
        ("CloudMetadata", json!({"description": "One cloud, or a list of one at 2019-05-01 and 2020-06-01."})),
        ("OpenIdConfiguration", object(3, &[("issuer", text()), ("token_endpoint", text()), ("jwks_uri", text())])),
        ("JsonWebKeySet", object(1, &[("keys", many(json!({"type": "object"})))])),
        (
            "TokenRequest",
            object(
                3,
                &[
                    ("grant_type", word(&["client_credentials"])),
                    ("client_id", text()),
                    ("client_secret", json!({"type": "string", "format": "password"})),
                    ("scope", text()),
                    ("resource", text()),
                ],
            ),
        ),
        ("Token", object(3, &[("token_type", text()), ("access_token", text()), ("expires_in", json!({}))])),
        ("TokenRefusal", object(2, &[("error", text()), ("error_description", text())])),
    ]
}
