//! Clusters.

use serde_json::json;

use super::{Named, PROVISIONING, int, many, object, or, page, read_only, resource, secret, text, time, to, word};
use crate::domain::cluster::MAX_NODES;

pub(super) fn schemas() -> Named {
    let count = || json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": MAX_NODES});
    let priority = || or(word(&["dedicated", "lowpriority"]), json!("dedicated"));
    vec![
        (
            "ClusterBaseProperties",
            object([
                ("vmSize!", text()),
                ("vmPriority", priority()),
                ("scaleSettings!", to("ScaleSettings")),
                ("virtualMachineConfiguration", to("VirtualMachineConfiguration")),
                ("nodeSetup", to("NodeSetup")),
                ("userAccountSettings!", to("UserAccountSettings")),
                ("subnet", to("ResourceId")),
            ]),
        ),
        (
            "ClusterProperties",
            object([
                ("provisioningState!", word(&PROVISIONING)),
                ("allocationState!", word(&["steady", "resizing"])),
                ("creationTime!", time()),
                ("allocationStateTransitionTime!", time()),
                ("provisioningStateTransitionTime!", time()),
                ("vmSize!", text()),
                ("currentNodeCount!", int()),
                ("nodeStateCounts!", to("NodeStateCounts")),
                ("vmPriority!", priority()),
                ("scaleSettings!", to("ScaleSettings")),
                ("virtualMachineConfiguration!", to("VirtualMachineConfiguration")),
                ("userAccountSettings!", to("UserAccountSettings")),
                ("nodeSetup", to("NodeSetup")),
                ("subnet", to("ResourceId")),
                ("errors", many(to("BatchAIError"))),
            ]),
        ),
        ("ClusterCreateParameters", object([("properties!", to("ClusterBaseProperties"))])),
        ("ClusterUpdateProperties", object([("scaleSettings", to("ScaleSettings"))])),
        ("ClusterUpdateParameters", object([("properties", to("ClusterUpdateProperties"))])),
        ("Cluster", resource("ClusterProperties")),
        ("ClusterListResult", page("Cluster")),
        ("ScaleSettings", object([("manual", to("ManualScaleSettings")), ("autoScale", to("AutoScaleSettings"))])),
        (
            "ManualScaleSettings",
            object([
                ("targetNodeCount!", or(count(), json!(0))),
                ("nodeDeallocationOption", or(word(&["requeue", "terminate", "waitforjobcompletion"]), json!("requeue"))),
            ]),
        ),
        (
            "AutoScaleSettings",
            object([("minimumNodeCount!", count()), ("maximumNodeCount!", count()), ("initialNodeCount", or(count(), json!(0)))]),
        ),
        ("VirtualMachineConfiguration", object([("imageReference", to("ImageReference"))])),
        (
            "ImageReference",
            object([
                ("publisher!", text()),
                ("offer!", text()),
                ("sku!", text()),
                ("version", text()),
                ("virtualMachineImageId", text()),
            ]),
        ),
        (
            "NodeSetup",
            object([
                ("setupTask", to("SetupTask")),
                ("mountVolumes", to("MountVolumes")),
                ("performanceCountersSettings", to("PerformanceCountersSettings")),
            ]),
        ),
        (
            "SetupTask",
            object([
                ("commandLine!", text()),
                ("environmentVariables", many(to("EnvironmentVariable"))),
                ("secrets", many(to("EnvironmentVariableWithSecretValue"))),
                ("stdOutErrPathPrefix!", text()),
                ("stdOutErrPathSuffix", read_only(text())),
            ]),
        ),
        ("PerformanceCountersSettings", object([("appInsightsReference!", to("AppInsightsReference"))])),
        (
            "AppInsightsReference",
            object([
                ("component!", to("ResourceId")),
                ("instrumentationKey", secret()),
                ("instrumentationKeySecretReference", to("KeyVaultSecretReference")),
            ]),
        ),
        (
            "NodeStateCounts",
            object([
                ("runningNodeCount!", int()),
                ("idleNodeCount!", int()),
                ("unusableNodeCount!", int()),
                ("preparingNodeCount!", int()),
                ("leavingNodeCount!", int()),
            ]),
        ),
    ]
}
