//! What our own version shows otherwise: titled states, `systemData`, operations of today's shape, and events.

use serde_json::{Value, json};

use super::{Schemas, int, long, many, object, page, text, time, to, word};
use crate::domain::retry::MAX_LIMIT;
use crate::domain::why::{Gate, Unit};
use crate::wire::v2026_11_01_preview::retries::CATEGORIES;
use crate::wire::v2026_11_01_preview::title;

/// Kinds, whose schemas are named after them.
const KINDS: [&str; 5] = ["Workspace", "Experiment", "Cluster", "FileServer", "Job"];

/// Members that hold a state.
const STATES: [&str; 3] = ["provisioningState", "allocationState", "executionState"];

pub(super) fn of(mut all: Schemas) -> Schemas {
    for kind in KINDS {
        if let Some(properties) = all.get_mut(&format!("{kind}Properties")) {
            STATES.iter().for_each(|state| title_words(properties, state));
        }
        if let Some(schema) = all.get_mut(kind) {
            if let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                members.insert("systemData".into(), to("SystemData"));
            }
            if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
                required.push(json!("systemData"));
            }
        }
    }
    for name in ["JobBaseProperties", "JobProperties"] {
        if let Some(members) = all.get_mut(name).and_then(|schema| schema.get_mut("properties")).and_then(Value::as_object_mut) {
            members.insert("retries".into(), many(to("RetryRule")));
        }
    }
    if let Some(members) =
        all.get_mut("ClusterProperties").and_then(|schema| schema.get_mut("properties")).and_then(Value::as_object_mut)
    {
        members.insert("scaling".into(), to("ClusterScaling"));
        members.insert("repairs".into(), to("ClusterRepairs"));
    }
    let who = || word(&["User", "Application", "ManagedIdentity", "Key"]);
    let made = [
        (
            "SystemData",
            object([
                ("createdBy", text()),
                ("createdByType", who()),
                ("createdAt!", time()),
                ("lastModifiedBy", text()),
                ("lastModifiedByType", who()),
                ("lastModifiedAt!", time()),
            ]),
        ),
        (
            "OperationStatus",
            object([
                ("id!", text()),
                ("name!", text()),
                ("resourceId!", text()),
                ("status!", word(&["InProgress", "Succeeded", "Failed", "Canceled"])),
                ("startTime!", time()),
                ("endTime", time()),
                ("error", object([("code!", text()), ("message!", text())])),
            ]),
        ),
        ("ClusterScaling", object([("targetNodeCount!", int()), ("surplusSince", time())])),
        ("ClusterRepairs", object([("unusableNodes!", int()), ("lastTime!", time()), ("stopped!", json!({"type": "boolean"}))])),
        ("ValidationResult", object([("outcome!", word(&["Create", "Unchanged", "Update"]))])),
        ("Bytes", json!({"type": "string", "format": "binary", "maxLength": crate::http::actions::inputs::MAX_INPUT})),
        (
            "JobInput",
            object([
                ("name!", text()),
                ("directory!", text()),
                ("size!", json!({"type": "integer", "format": "int64", "minimum": 0})),
            ]),
        ),
        (
            "RetryRule",
            object([
                ("exitCodes", many(json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 255}))),
                ("categories", many(word(&CATEGORIES.map(|(name, _)| name)))),
                ("limit!", json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_LIMIT})),
                ("backoff", json!({"type": "string", "format": "duration", "default": "PT0S"})),
                ("avoidNodes", json!({"type": "boolean", "default": false})),
            ]),
        ),
        (
            "JobAttempt",
            object([
                ("number!", int()),
                ("state!", word(&["Placed", "Released", "Ended"])),
                ("cause", text()),
                ("creationTime!", time()),
                ("releaseTime", time()),
                ("endTime", time()),
                ("nodes!", many(to("JobAttemptNode"))),
            ]),
        ),
        (
            "JobAttemptNode",
            object([
                ("nodeId", text()),
                ("rank!", int()),
                ("state!", word(&["Assigned", "Ready", "Running", "Ended"])),
                ("startTime", time()),
                ("endTime", time()),
                ("end", word(&["Exited", "OutOf", "PreparationFailed", "Stopped", "SetupFailed", "Lost"])),
                ("exitCode", int()),
                ("message", text()),
            ]),
        ),
        ("JobAttemptListResult", page("JobAttempt")),
        (
            "SampleCurves",
            object([
                ("attempt", int()),
                ("from!", time()),
                ("to!", time()),
                ("stepInSeconds!", int()),
                ("series!", many(to("SampleSeries"))),
            ]),
        ),
        ("SampleSeries", object([("nodeId", text()), ("rank", int()), ("points!", many(to("SamplePoint")))])),
        (
            "SamplePoint",
            object([
                ("time!", time()),
                ("cores", to("SampleSpread")),
                ("memoryInBytes", to("SampleSpread")),
                ("diskReadBytesPerSecond", to("SampleSpread")),
                ("diskWrittenBytesPerSecond", to("SampleSpread")),
                ("networkInBytesPerSecond", to("SampleSpread")),
                ("networkOutBytesPerSecond", to("SampleSpread")),
                ("gpuPercent", to("SampleSpread")),
                ("gpuMemoryInBytes", to("SampleSpread")),
            ]),
        ),
        ("SampleSpread", object([("mean!", json!({"type": "number"})), ("max!", json!({"type": "number"}))])),
        (
            "Node",
            object([
                ("nodeId!", text()),
                ("state!", word(&["Preparing", "Idle", "Running", "Unusable", "Leaving", "Gone"])),
                ("stateTransitionTime!", time()),
                ("creationTime!", time()),
                ("lastHeardTime", time()),
                ("evictionTime", time()),
                ("vmSize!", text()),
                ("ipAddress", text()),
                ("job", text()),
                ("gpus!", many(to("NodeGpu"))),
                ("health!", many(to("NodeProbe"))),
                ("errors!", many(to("BatchAIError"))),
            ]),
        ),
        (
            "NodeGpu",
            object([
                ("id!", text()),
                ("name!", text()),
                ("memoryInMiB!", json!({"type": "integer", "format": "int64"})),
                ("simulated!", json!({"type": "boolean"})),
            ]),
        ),
        ("NodeProbe", object([("name!", text()), ("result!", word(&["Passed", "Failed"])), ("found!", text())])),
        ("NodeListResult", page("Node")),
        (
            "Why",
            object([
                ("state!", text()),
                ("since!", time()),
                ("gate", word(&Gate::ALL.map(Gate::as_str))),
                ("message", text()),
                ("lack", to("WhyLack")),
                ("heldBy!", many(to("WhyHolder"))),
                ("clears", text()),
                ("clearsBy", time()),
            ]),
        ),
        (
            "WhyLack",
            object([
                ("unit!", word(&[Unit::Nodes, Unit::Cores, Unit::Jobs].map(Unit::as_str))),
                ("needed!", long()),
                ("available!", long()),
                ("missing!", long()),
            ]),
        ),
        ("WhyHolder", object([("resourceId", text()), ("nodeId", text()), ("count!", long()), ("until", time())])),
        (
            "JobCounts",
            object([
                ("queued!", long()),
                ("running!", long()),
                ("terminating!", long()),
                ("succeeded!", long()),
                ("failed!", long()),
                ("capped!", json!({"type": "boolean"})),
            ]),
        ),
        (
            "Event",
            object([
                ("id!", text()),
                ("time!", time()),
                ("resourceId!", text()),
                ("resourceType", text()),
                ("what!", text()),
                ("why!", text()),
                ("caller", text()),
            ]),
        ),
    ];
    all.extend(made.map(|(name, schema)| (name.to_owned(), schema)));
    all
}

fn title_words(properties: &mut Value, state: &str) {
    if let Some(words) = properties.pointer_mut(&format!("/properties/{state}/enum")).and_then(Value::as_array_mut) {
        for word in words {
            *word = json!(title(word.as_str().unwrap_or_default()));
        }
    }
}
