//! Jobs and their frameworks.

use serde_json::{Value, json};

use super::{Named, PROVISIONING, int, many, object, or, page, resource, secret, text, time, to, word};
use crate::domain::cluster::MAX_NODES;

/// Members that choose a framework, and their schemas.
const FRAMEWORKS: [(&str, &str); 9] = [
    ("cntkSettings", "CNTKsettings"),
    ("pyTorchSettings", "PyTorchSettings"),
    ("tensorFlowSettings", "TensorFlowSettings"),
    ("caffeSettings", "CaffeSettings"),
    ("caffe2Settings", "Caffe2Settings"),
    ("chainerSettings", "ChainerSettings"),
    ("customToolkitSettings", "CustomToolkitSettings"),
    ("customMpiSettings", "CustomMpiSettings"),
    ("horovodSettings", "HorovodSettings"),
];

pub(super) fn schemas() -> Named {
    let mut all = jobs();
    all.extend(frameworks());
    all.extend(containers());
    all
}

/// What a request and an answer share.
fn base() -> Vec<(&'static str, Value)> {
    let priority = or(word(&["low", "normal", "high"]), json!("normal"));
    let wall_clock = json!({"type": "string", "format": "duration", "default": "7.00:00:00"});
    let mut base = vec![
        ("schedulingPriority", priority),
        ("cluster!", to("ResourceId")),
        ("mountVolumes", to("MountVolumes")),
        ("nodeCount!", json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_NODES})),
        ("containerSettings", to("ContainerSettings")),
    ];
    base.extend(FRAMEWORKS.map(|(member, schema)| (member, to(schema))));
    base.extend([
        ("jobPreparation", to("JobPreparation")),
        ("stdOutErrPathPrefix!", text()),
        ("inputDirectories", many(to("InputDirectory"))),
        ("outputDirectories", many(to("OutputDirectory"))),
        ("environmentVariables", many(to("EnvironmentVariable"))),
        ("secrets", many(to("EnvironmentVariableWithSecretValue"))),
        ("constraints", object([("maxWallClockTime", wall_clock)])),
    ]);
    base
}

fn jobs() -> Named {
    let tools = ["cntk", "tensorflow", "caffe", "caffe2", "chainer", "horovod", "custommpi", "custom", "pytorch"];
    let mut shown: Vec<(&str, Value)> = base();
    for (name, _) in &mut shown {
        // They have defaults, so that an answer always has them.
        *name = match *name {
            "schedulingPriority" => "schedulingPriority!",
            "constraints" => "constraints!",
            other => other,
        };
    }
    shown.extend([
        ("experimentName!", text()),
        ("toolType!", word(&tools)),
        ("jobOutputDirectoryPathSegment!", text()),
        ("creationTime!", time()),
        ("provisioningState!", word(&PROVISIONING)),
        ("provisioningStateTransitionTime!", time()),
        ("executionState!", word(&["queued", "running", "terminating", "succeeded", "failed"])),
        ("executionStateTransitionTime!", time()),
        (
            "executionInfo",
            object([("startTime", time()), ("endTime", time()), ("exitCode", int()), ("errors", many(to("BatchAIError")))]),
        ),
    ]);
    vec![
        ("JobBaseProperties", object(base())),
        ("JobProperties", object(shown)),
        ("JobCreateParameters", object([("properties!", to("JobBaseProperties"))])),
        ("Job", resource("JobProperties")),
        ("JobListResult", page("Job")),
        ("JobPreparation", object([("commandLine!", text())])),
        ("InputDirectory", object([("id!", text()), ("path!", text())])),
        ("OutputDirectory", object([("id!", text()), ("pathPrefix!", text()), ("pathSuffix", text())])),
    ]
}

fn frameworks() -> Named {
    let count = || json!({"type": "integer", "format": "int32", "minimum": 1});
    // What every framework that runs a script has.
    let script = |more: Vec<(&'static str, Value)>| {
        let mut members = vec![("pythonScriptFilePath!", text()), ("pythonInterpreterPath", text()), ("commandLineArgs", text())];
        members.extend(more);
        object(members)
    };
    // Of these, one that may be started from a configuration instead.
    let configured = |more: Vec<(&'static str, Value)>| {
        let mut members = vec![
            ("configFilePath", text()),
            ("pythonScriptFilePath", text()),
            ("pythonInterpreterPath", text()),
            ("commandLineArgs", text()),
            ("processCount", count()),
        ];
        members.extend(more);
        object(members)
    };
    vec![
        ("CNTKsettings", configured(vec![("languageType", text())])),
        ("PyTorchSettings", script(vec![("processCount", count()), ("communicationBackend", text())])),
        (
            "TensorFlowSettings",
            object([
                ("pythonScriptFilePath!", text()),
                ("pythonInterpreterPath", text()),
                ("masterCommandLineArgs", text()),
                ("workerCommandLineArgs", text()),
                ("parameterServerCommandLineArgs", text()),
                ("workerCount", count()),
                ("parameterServerCount", count()),
            ]),
        ),
        ("CaffeSettings", configured(vec![])),
        ("Caffe2Settings", script(vec![])),
        ("ChainerSettings", script(vec![("processCount", count())])),
        ("CustomToolkitSettings", object([("commandLine", text())])),
        ("CustomMpiSettings", object([("commandLine!", text()), ("processCount", count())])),
        ("HorovodSettings", script(vec![("processCount", count())])),
    ]
}

fn containers() -> Named {
    vec![
        ("ContainerSettings", object([("imageSourceRegistry!", to("ImageSourceRegistry")), ("shmSize", text())])),
        (
            "ImageSourceRegistry",
            object([("serverUrl", text()), ("image!", text()), ("credentials", to("PrivateRegistryCredentials"))]),
        ),
        (
            "PrivateRegistryCredentials",
            object([("username!", text()), ("password", secret()), ("passwordSecretReference", to("KeyVaultSecretReference"))]),
        ),
    ]
}
