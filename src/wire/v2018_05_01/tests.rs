//! What the codecs read and write, against the recorded shapes.

use serde_json::{Value, json};

use super::samples::{self, SUBSCRIPTION};
use super::{Encode, cluster, job, workspace};
use crate::domain::cluster::{Deallocation, ImageReference, Scale};
use crate::domain::job::{Framework, Phase, Priority};
use crate::domain::resource::Envelope;
use crate::error::{Error, ErrorCode};

fn written<K: Encode>(stored: &Envelope<K>) -> String {
    serde_json::to_string(&K::encode(stored)).expect("writes")
}

/// Codes and targets of all violations of a refusal.
fn faults(error: &Error) -> Vec<(ErrorCode, String)> {
    match error.details.as_slice() {
        [] => vec![(error.code, error.target.clone().unwrap_or_default())],
        details => details.iter().map(|v| (v.code, v.target.clone())).collect(),
    }
}

fn cluster_body() -> Value {
    json!({"location": "ignored", "properties": {
        "location": "ignored", "provisioningState": "succeeded",
        "vmSize": "Standard_D1",
        "scaleSettings": {"manual": {"targetNodeCount": 1}},
        "userAccountSettings": {"adminUserName": "ops", "adminUserPassword": "canary"},
    }})
}

fn job_body() -> Value {
    json!({"properties": {
        "cluster": {"id": samples::cluster().path},
        "nodeCount": 1,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/shared",
        "customToolkitSettings": {"commandLine": "true"},
    }})
}

#[test]
fn a_workspace_is_written_as_recorded() {
    assert_eq!(
        written(&samples::workspace()),
        format!(
            r#"{{"id":"/subscriptions/{SUBSCRIPTION}/resourceGroups/ml-rg/providers/Microsoft.BatchAI/workspaces/vision","name":"vision","type":"Microsoft.BatchAI/workspaces","location":"eastus","tags":{{"team":"Vision"}},"properties":{{"provisioningState":"succeeded","provisioningStateTransitionTime":"2018-06-14T09:13:01.3Z","creationTime":"2018-06-14T09:13:00.25Z"}}}}"#
        )
    );
}

#[test]
fn a_cluster_is_written_in_the_recorded_order() {
    let text = written(&samples::cluster());
    let order = [
        "provisioningState\"",
        "allocationState\"",
        "creationTime",
        "allocationStateTransitionTime",
        "provisioningStateTransitionTime",
        "vmSize",
        "currentNodeCount\":15",
        "nodeStateCounts",
        "\"runningNodeCount\":2,\"idleNodeCount\":1,\"unusableNodeCount\":4,\"preparingNodeCount\":3,\"leavingNodeCount\":5",
        "vmPriority\":\"lowpriority\"",
        "scaleSettings\":{\"manual\":{\"targetNodeCount\":2,\"nodeDeallocationOption\":\"waitforjobcompletion\"}}",
        "virtualMachineConfiguration",
        "userAccountSettings",
        "nodeSetup",
        "\"secrets\":[{\"name\":\"TOKEN\"}]",
        "ml-rg/workspaces/vision/clusters/nc6/0d6a4e0c-51b3-4a1e-8c5b-6f8f0a1b2c3d",
        "subnet",
        "errors",
    ];
    let mut at = 0;
    for part in order {
        let found = text[at..].find(part).unwrap_or_else(|| panic!("{part} after byte {at} of {text}"));
        at += found + part.len();
    }
    assert!(!text.contains("null") && !text.contains("assword"), "{text}");
}

#[test]
fn a_job_tells_of_its_execution_only_once_it_runs() {
    let mut stored = samples::job();
    let text = written(&stored);
    let segment = format!("{SUBSCRIPTION}/ml-rg/workspaces/vision/experiments/sweep/jobs/train01/{}", stored.uid);
    assert!(text.contains(&format!("\"jobOutputDirectoryPathSegment\":\"{segment}\"")), "{text}");
    assert!(text.contains("\"experimentName\":\"sweep\",\"schedulingPriority\":\"high\""), "{text}");
    assert!(text.contains("\"secrets\":[{\"name\":\"API_KEY\"}],\"constraints\":{\"maxWallClockTime\":\"P7D\"}"), "{text}");
    assert!(
        text.ends_with(
            "\"executionInfo\":{\"startTime\":\"2018-06-14T09:20:02.07Z\",\"endTime\":\"2018-06-14T09:20:31.4Z\",\"exitCode\":1,\
             \"errors\":[{\"code\":\"JobFailed\",\"message\":\"Job failed with non-zero exit code\"}]}}}"
        ),
        "{text}"
    );

    stored.status.phase = Phase::Queued;
    assert!(!written(&stored).contains("executionInfo"));

    stored.status.phase = Phase::Running;
    let text = written(&stored);
    assert!(text.ends_with("\"executionInfo\":{\"startTime\":\"2018-06-14T09:20:02.07Z\"}}}"), "{text}");

    stored.status.phase = Phase::Failed;
    stored.status.started_at = None;
    assert!(written(&stored).contains("\"startTime\":\"2018-06-14T09:20:31.4Z\""), "clients subtract start from end");
}

#[test]
fn a_cluster_gets_its_defaults_and_its_secrets_apart() {
    let decoded = cluster::decode_create(&cluster_body()).expect("valid");
    assert_eq!(decoded.spec.vm_size, "STANDARD_D1");
    assert_eq!(decoded.spec.scale, Scale::Manual { target: 1, deallocation: Deallocation::Requeue });
    assert_eq!(decoded.spec.image, ImageReference::default());
    assert_eq!(decoded.secrets.keys().collect::<Vec<_>>(), ["user_account.password"]);
    assert!(!format!("{decoded:?}").contains("canary"));

    let mut body = cluster_body();
    body["properties"]["virtualMachineConfiguration"] =
        json!({"imageReference": {"publisher": "p", "offer": "o", "sku": "s", "version": ""}});
    assert_eq!(cluster::decode_create(&body).expect("valid").spec.image.version, "latest");
}

#[test]
fn a_job_gets_its_defaults_and_its_secrets_apart() {
    let mut body = job_body();
    body["properties"]["secrets"] = json!([{"name": "T", "value": "canary"}]);
    let decoded = job::decode_create(&body).expect("valid");
    assert_eq!(decoded.spec.priority, Priority::Normal);
    assert_eq!(decoded.spec.max_wall_clock_s, 604_800);
    assert_eq!(decoded.spec.framework, Framework::Custom { command_line: Some("true".into()) });
    assert_eq!(decoded.spec.output_directories, None);
    assert_eq!(decoded.secrets.keys().collect::<Vec<_>>(), ["secrets.T"]);
    assert!(!format!("{decoded:?}").contains("canary"));
}

#[test]
fn all_faults_of_a_cluster_are_told_at_once() {
    use ErrorCode::*;
    let body = json!({"properties": {
        "vmPriority": "cheap",
        "scaleSettings": {"manual": {"targetNodeCount": 101, "nodeDeallocationOption": "x"}},
        "virtualMachineConfiguration": {"imageReference": {"publisher": "p"}},
        "nodeSetup": {
            "mountVolumes": {"azureFileShares": [{}]},
            "performanceCountersSettings": {"appInsightsReference": {}},
            "setupTask": {"environmentVariables": [{"name": "A=B", "value": "1"}, {"name": "C"}]},
        },
        "userAccountSettings": {"adminUserName": "root"},
        "subnet": {"id": "x"},
    }});
    let error = cluster::decode_create(&body).expect_err("faults");
    let wanted = [
        (MissingRequiredProperty, "properties.vmSize"),
        (InvalidPropertyValue, "properties.vmPriority"),
        (InvalidPropertyValue, "properties.scaleSettings.manual.targetNodeCount"),
        (InvalidPropertyValue, "properties.scaleSettings.manual.nodeDeallocationOption"),
        (MissingRequiredProperty, "properties.virtualMachineConfiguration.imageReference.offer"),
        (MissingRequiredProperty, "properties.virtualMachineConfiguration.imageReference.sku"),
        (InvalidPropertyValue, "properties.nodeSetup.mountVolumes"),
        (InvalidPropertyValue, "properties.nodeSetup.performanceCountersSettings"),
        (MissingRequiredProperty, "properties.nodeSetup.setupTask.commandLine"),
        (InvalidPropertyValue, "properties.nodeSetup.setupTask.environmentVariables[0].name"),
        (MissingRequiredProperty, "properties.nodeSetup.setupTask.environmentVariables[1].value"),
        (MissingRequiredProperty, "properties.nodeSetup.setupTask.stdOutErrPathPrefix"),
        (InvalidPropertyValue, "properties.userAccountSettings.adminUserName"),
        (InvalidPropertyValue, "properties.subnet.id"),
    ];
    assert_eq!(faults(&error), wanted.map(|(code, target)| (code, target.to_owned())));
}

#[test]
fn all_faults_of_a_job_are_told_at_once() {
    use ErrorCode::*;
    let body = json!({"properties": {
        "schedulingPriority": 7,
        "cluster": {"id": samples::workspace().path},
        "nodeCount": 0,
        "containerSettings": {"imageSourceRegistry": {"image": "ubuntu"}},
        "tensorFlowSettings": {"pythonScriptFilePath": "x"},
        "jobPreparation": {},
        "inputDirectories": [{"id": "a-b", "path": "x"}],
        "outputDirectories": [
            {"id": "stdOutErr", "pathPrefix": "x"},
            {"id": "O", "pathPrefix": "x", "pathSuffix": "../up"},
            {"id": "O", "pathPrefix": "x"},
        ],
        "secrets": [{"name": "K", "valueSecretReference": {"secretUrl": "https://v"}}, {"name": "K", "value": "1"}],
        "constraints": {"maxWallClockTime": "P1Y"},
    }});
    let error = job::decode_create(&body).expect_err("faults");
    let wanted = [
        (InvalidPropertyValue, "properties.schedulingPriority"),
        (InvalidPropertyValue, "properties.cluster.id"),
        (InvalidPropertyValue, "properties.nodeCount"),
        (InvalidPropertyValue, "properties.containerSettings"),
        (InvalidPropertyValue, "properties.tensorFlowSettings"),
        (MissingRequiredProperty, "properties.jobPreparation.commandLine"),
        (MissingRequiredProperty, "properties.stdOutErrPathPrefix"),
        (InvalidPropertyValue, "properties.inputDirectories[0].id"),
        (InvalidPropertyValue, "properties.outputDirectories[0].id"),
        (InvalidPropertyValue, "properties.outputDirectories[1].pathSuffix"),
        (InvalidPropertyValue, "properties.outputDirectories[2].id"),
        (InvalidPropertyValue, "properties.secrets[0].valueSecretReference"),
        (InvalidPropertyValue, "properties.secrets[1].name"),
        (InvalidPropertyValue, "properties.constraints.maxWallClockTime"),
    ];
    assert_eq!(faults(&error), wanted.map(|(code, target)| (code, target.to_owned())));
}

#[test]
fn exactly_one_framework_is_asked_for() {
    let mut none = job_body();
    none["properties"].as_object_mut().expect("an object").remove("customToolkitSettings");
    let mut two = job_body();
    two["properties"]["horovodSettings"] = json!({"pythonScriptFilePath": "x"});
    for body in [none, two] {
        let error = job::decode_create(&body).expect_err("a fault");
        assert!(faults(&error).iter().any(|(_, target)| target == "properties.customToolkitSettings"), "{error:?}");
    }
}

#[test]
fn a_patch_changes_the_scale_alone() {
    let scale =
        json!({"properties": {"scaleSettings": {"manual": {"targetNodeCount": 0, "nodeDeallocationOption": "Terminate"}}}});
    assert_eq!(
        cluster::decode_update(&scale).expect("valid"),
        Some(Scale::Manual { target: 0, deallocation: Deallocation::Terminate })
    );
    assert_eq!(cluster::decode_update(&json!({"properties": {}})).expect("valid"), None);
    let other = json!({"properties": {"vmSize": "Standard_D2"}});
    assert_eq!(cluster::decode_update(&other).expect_err("a fault").code, ErrorCode::PropertyChangeNotAllowed);
    let auto = json!({"properties": {"scaleSettings": {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 1}}}});
    let error = cluster::decode_update(&auto).expect_err("a fault");
    assert_eq!(error.target.as_deref(), Some("properties.scaleSettings.autoScale"));
    assert!(error.message.contains("not offered"), "{}", error.message);
}

#[test]
fn a_workspace_needs_a_region() {
    let read = workspace::decode_create(&json!({"location": "North Europe", "tags": {"a": "b"}})).expect("valid");
    assert_eq!(read.location, "northeurope");
    let error = workspace::decode_create(&json!({"tags": 1})).expect_err("faults");
    assert_eq!(
        faults(&error),
        [(ErrorCode::MissingRequiredProperty, "location".to_owned()), (ErrorCode::InvalidPropertyValue, "tags".to_owned()),]
    );
    assert!(workspace::decode_create(&json!([])).is_err());
    assert_eq!(workspace::decode_update(&json!({})).expect("valid"), None);
}
