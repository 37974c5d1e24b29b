//! What the codecs read and write, against the recorded shapes.

use serde_json::{Value, json};

use super::samples::{self, SUBSCRIPTION};
use super::{Encode, cluster, file_server, job, workspace};
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
        "\"secrets\":[{\"name\":\"TOKEN\"},{\"name\":\"KEY\",\"valueSecretReference\":{",
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
    assert!(text.contains("\"secrets\":[{\"name\":\"API_KEY\"},{\"name\":\"KEY\","), "{text}");
    assert!(text.contains("\"constraints\":{\"maxWallClockTime\":\"P7D\"}"), "{text}");
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
        "virtualMachineConfiguration": {"imageReference": {"publisher": "p", "virtualMachineImageId": "/subscriptions/s/images/i"}},
        "nodeSetup": {
            "mountVolumes": {"azureFileShares": [{}]},
            "performanceCountersSettings": {"appInsightsReference": {"component": {"id": "c"}}},
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
        (InvalidPropertyValue, "properties.virtualMachineConfiguration.imageReference.virtualMachineImageId"),
        (MissingRequiredProperty, "properties.nodeSetup.setupTask.commandLine"),
        (InvalidPropertyValue, "properties.nodeSetup.setupTask.environmentVariables[0].name"),
        (MissingRequiredProperty, "properties.nodeSetup.setupTask.environmentVariables[1].value"),
        (MissingRequiredProperty, "properties.nodeSetup.setupTask.stdOutErrPathPrefix"),
        (MissingRequiredProperty, "properties.nodeSetup.mountVolumes.azureFileShares[0].accountName"),
        (MissingRequiredProperty, "properties.nodeSetup.mountVolumes.azureFileShares[0].azureFileUrl"),
        (MissingRequiredProperty, "properties.nodeSetup.mountVolumes.azureFileShares[0].credentials"),
        (MissingRequiredProperty, "properties.nodeSetup.mountVolumes.azureFileShares[0].relativeMountPath"),
        (InvalidPropertyValue, "properties.nodeSetup.performanceCountersSettings.appInsightsReference.component.id"),
        (MissingRequiredProperty, "properties.nodeSetup.performanceCountersSettings.appInsightsReference.instrumentationKey"),
        (InvalidPropertyValue, "properties.userAccountSettings.adminUserName"),
        (InvalidPropertyValue, "properties.subnet.id"),
    ];
    assert_eq!(faults(&error), wanted.map(|(code, target)| (code, target.to_owned())));
}

#[test]
fn all_faults_of_a_job_are_told_at_once() {
    use ErrorCode::*;
    let reference = json!({"sourceVault": {"id": "/subscriptions/x"}, "secretUrl": "http://plain"});
    let body = json!({"properties": {
        "schedulingPriority": 7,
        "cluster": {"id": samples::workspace().path},
        "nodeCount": 0,
        "containerSettings": {
            "imageSourceRegistry": {"image": "-v /:/host", "credentials": {"username": "u"}},
            "shmSize": "much",
        },
        "tensorFlowSettings": {"workerCount": 0},
        "jobPreparation": {},
        "inputDirectories": [{"id": "a-b", "path": "x"}],
        "outputDirectories": [
            {"id": "stdOutErr", "pathPrefix": "x"},
            {"id": "O", "pathPrefix": "x", "pathSuffix": "../up"},
            {"id": "O", "pathPrefix": "x"},
        ],
        "secrets": [{"name": "K", "valueSecretReference": reference}, {"name": "K", "value": "1"}, {"name": "L"}],
        "constraints": {"maxWallClockTime": "P1Y"},
    }});
    let error = job::decode_create(&body).expect_err("faults");
    let wanted = [
        (InvalidPropertyValue, "properties.schedulingPriority"),
        (InvalidPropertyValue, "properties.cluster.id"),
        (InvalidPropertyValue, "properties.nodeCount"),
        (InvalidPropertyValue, "properties.containerSettings.shmSize"),
        (InvalidPropertyValue, "properties.containerSettings.imageSourceRegistry.image"),
        (MissingRequiredProperty, "properties.containerSettings.imageSourceRegistry.credentials.password"),
        (MissingRequiredProperty, "properties.tensorFlowSettings.pythonScriptFilePath"),
        (InvalidPropertyValue, "properties.tensorFlowSettings.workerCount"),
        (MissingRequiredProperty, "properties.jobPreparation.commandLine"),
        (MissingRequiredProperty, "properties.stdOutErrPathPrefix"),
        (InvalidPropertyValue, "properties.inputDirectories[0].id"),
        (InvalidPropertyValue, "properties.outputDirectories[0].id"),
        (InvalidPropertyValue, "properties.outputDirectories[1].pathSuffix"),
        (InvalidPropertyValue, "properties.outputDirectories[2].id"),
        (InvalidPropertyValue, "properties.secrets[0].valueSecretReference.secretUrl"),
        (InvalidPropertyValue, "properties.secrets[1].name"),
        (MissingRequiredProperty, "properties.secrets[2].value"),
        (InvalidPropertyValue, "properties.constraints.maxWallClockTime"),
    ];
    assert_eq!(faults(&error), wanted.map(|(code, target)| (code, target.to_owned())));
}

#[test]
fn exactly_one_framework_is_asked_for() {
    let mut none = job_body();
    none["properties"].as_object_mut().expect("an object").remove("customToolkitSettings");
    let error = job::decode_create(&none).expect_err("a fault");
    assert_eq!(faults(&error), [(ErrorCode::InvalidPropertyValue, "properties.customToolkitSettings".to_owned())]);
    let mut three = job_body();
    three["properties"]["horovodSettings"] = json!({"pythonScriptFilePath": "x"});
    three["properties"]["caffeSettings"] = json!({});
    let error = job::decode_create(&three).expect_err("faults");
    let targets = ["properties.customToolkitSettings", "properties.horovodSettings"];
    assert_eq!(faults(&error), targets.map(|target| (ErrorCode::InvalidPropertyValue, target.to_owned())));
}

/// A framework's settings as they are read and written back on so many nodes.
fn echoed(nodes: u32, member: &str, settings: Value) -> Result<Value, Error> {
    let mut body = job_body();
    let properties = body["properties"].as_object_mut().expect("an object");
    properties.remove("customToolkitSettings");
    properties.insert(member.into(), settings);
    properties.insert("nodeCount".into(), json!(nodes));
    let mut stored = samples::job();
    stored.spec = job::decode_create(&body)?.spec;
    // What is stored is read back as the same.
    let document = serde_json::to_string(&stored.spec).expect("writes");
    assert_eq!(serde_json::from_str::<crate::domain::job::JobSpec>(&document).expect("reads"), stored.spec);
    let written: Value = serde_json::from_str(&written(&stored)).expect("JSON");
    let tool = written["properties"]["toolType"].as_str().expect("a tool type");
    assert!(member.to_lowercase().starts_with(tool), "{tool} of {member}");
    Ok(written["properties"][member].clone())
}

#[test]
fn settings_of_each_framework_come_back_with_their_defaults() {
    let script = json!({"pythonScriptFilePath": "$P/a.py", "pythonInterpreterPath": "/opt/python", "commandLineArgs": "-x"});
    let with = |more: Value| {
        let mut all = script.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let config = json!({"configFilePath": "$P/a.cntk", "commandLineArgs": "rootDir=."});
    let bare = json!({"pythonScriptFilePath": "a.py"});
    let distributed = json!({
        "pythonScriptFilePath": "a.py", "masterCommandLineArgs": "m", "workerCommandLineArgs": "w",
        "parameterServerCommandLineArgs": "p", "workerCount": 4, "parameterServerCount": 2,
    });
    let table = [
        (2, "cntkSettings", script.clone(), with(json!({"languageType": "Python", "processCount": 2}))),
        (
            1,
            "cntkSettings",
            with(json!({"languageType": "python", "processCount": 4})),
            with(json!({"languageType": "Python", "processCount": 4})),
        ),
        (
            1,
            "cntkSettings",
            config.clone(),
            json!({"languageType": "BrainScript", "configFilePath": "$P/a.cntk", "commandLineArgs": "rootDir=.", "processCount": 1}),
        ),
        (
            3,
            "caffeSettings",
            config.clone(),
            json!({"configFilePath": "$P/a.cntk", "commandLineArgs": "rootDir=.", "processCount": 3}),
        ),
        (1, "caffeSettings", bare.clone(), json!({"pythonScriptFilePath": "a.py", "processCount": 1})),
        (2, "caffe2Settings", script.clone(), script.clone()),
        (2, "chainerSettings", script.clone(), with(json!({"processCount": 2}))),
        (2, "horovodSettings", with(json!({"processCount": 8})), with(json!({"processCount": 8}))),
        (
            2,
            "pyTorchSettings",
            with(json!({"communicationBackend": "gloo"})),
            with(json!({"communicationBackend": "Gloo", "processCount": 2})),
        ),
        (1, "pyTorchSettings", bare.clone(), json!({"pythonScriptFilePath": "a.py", "processCount": 1})),
        (2, "tensorFlowSettings", distributed.clone(), distributed),
        (
            2,
            "tensorFlowSettings",
            bare.clone(),
            json!({"pythonScriptFilePath": "a.py", "workerCount": 2, "parameterServerCount": 1}),
        ),
        (1, "tensorFlowSettings", bare.clone(), bare),
        (2, "customMpiSettings", json!({"commandLine": "true"}), json!({"commandLine": "true", "processCount": 2})),
    ];
    for (nodes, member, sent, wanted) in table {
        assert_eq!(echoed(nodes, member, sent.clone()).expect("valid"), wanted, "{member} {sent}");
    }
    assert_eq!(echoed(1, "customToolkitSettings", json!({})).expect("valid"), json!({}));
}

#[test]
fn settings_that_do_not_go_together_are_told() {
    let table = [
        ("cntkSettings", json!({}), vec!["pythonScriptFilePath"]),
        ("cntkSettings", json!({"languageType": "BrainScript"}), vec!["configFilePath"]),
        ("cntkSettings", json!({"languageType": "R", "configFilePath": "c"}), vec!["languageType"]),
        ("cntkSettings", json!({"configFilePath": "c", "pythonScriptFilePath": "s"}), vec!["configFilePath"]),
        ("cntkSettings", json!({"configFilePath": "c", "pythonInterpreterPath": "i"}), vec!["pythonInterpreterPath"]),
        (
            "caffeSettings",
            json!({"configFilePath": "c", "pythonScriptFilePath": "s", "processCount": 0}),
            vec!["processCount", "pythonScriptFilePath"],
        ),
        ("pyTorchSettings", json!({"communicationBackend": "pigeon"}), vec!["pythonScriptFilePath", "communicationBackend"]),
        ("tensorFlowSettings", json!({"pythonScriptFilePath": "s", "parameterServerCount": 2}), vec!["parameterServerCount"]),
        ("tensorFlowSettings", json!({"pythonScriptFilePath": "s", "workerCount": 5}), vec!["workerCount"]),
        ("customMpiSettings", json!({"processCount": -1}), vec!["commandLine", "processCount"]),
        ("caffe2Settings", json!({"pythonScriptFilePath": ""}), vec!["pythonScriptFilePath"]),
    ];
    for (member, settings, wanted) in table {
        let error = echoed(1, member, settings.clone()).expect_err("a fault");
        let targets: Vec<String> = faults(&error).into_iter().map(|(_, target)| target).collect();
        let wanted: Vec<String> = wanted.into_iter().map(|name| format!("properties.{member}.{name}")).collect();
        assert_eq!(targets, wanted, "{member} {settings}");
    }
}

#[test]
fn mounts_come_back_without_their_secrets() {
    let reference = json!({"sourceVault": {"id": "/subscriptions/x/v"}, "secretUrl": "https://v.example/s"});
    let mounts = |key: Value| {
        json!({
            "azureFileShares": [{
                "accountName": "acct01", "azureFileUrl": "https://acct01.file.core.windows.net/logs", "credentials": key,
                "relativeMountPath": "afs",
            }],
            "azureBlobFileSystems": [{
                "accountName": "acct01", "containerName": "data", "credentials": {"accountKeySecretReference": reference},
                "relativeMountPath": "a/bfs",
            }],
            "unmanagedFileSystems": [{"mountCommand": "mount -t nfs 10.0.0.4:/x", "relativeMountPath": "nfs"}],
        })
    };
    let mut body = job_body();
    body["properties"]["mountVolumes"] = mounts(json!({"accountKey": "canary"}));
    let decoded = job::decode_create(&body).expect("valid");
    assert_eq!(decoded.secrets.keys().collect::<Vec<_>>(), ["mount_volumes.azure_file_shares[0].account_key"]);
    let mut stored = samples::job();
    stored.spec = decoded.spec;
    let text = written(&stored);
    assert!(!text.contains("canary"));
    let mut wanted = mounts(json!({}));
    wanted["azureFileShares"][0]["fileMode"] = json!("0777");
    wanted["azureFileShares"][0]["directoryMode"] = json!("0777");
    let written: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(written["properties"]["mountVolumes"], wanted);
}

#[test]
fn mounts_stay_in_places_of_their_own() {
    let unmanaged = |place: &str| json!({"mountCommand": "m", "relativeMountPath": place});
    for place in ["/abs", "../up", "a/../b", "a//b", ".", "", "a\\b", "a\nb", "a/"] {
        let mut body = job_body();
        body["properties"]["mountVolumes"] = json!({"unmanagedFileSystems": [unmanaged(place)]});
        let error = job::decode_create(&body).expect_err(place);
        let target = "properties.mountVolumes.unmanagedFileSystems[0].relativeMountPath";
        assert_eq!(faults(&error), [(ErrorCode::InvalidPropertyValue, target.to_owned())], "{place}");
    }
    let mut body = job_body();
    body["properties"]["mountVolumes"] = json!({
        "fileServers": [{"fileServer": {"id": samples::cluster().path}, "relativeMountPath": "x"}],
        "unmanagedFileSystems": [unmanaged("x"), unmanaged("x/y")],
    });
    let error = job::decode_create(&body).expect_err("faults");
    let targets: Vec<String> = faults(&error).into_iter().map(|(_, target)| target).collect();
    let mounts = "properties.mountVolumes";
    assert_eq!(
        targets,
        [format!("{mounts}.fileServers[0].fileServer.id"), format!("{mounts}.unmanagedFileSystems[0].relativeMountPath"),]
    );
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
    let auto = |minimum: u32, maximum: u32| {
        let auto = json!({"minimumNodeCount": minimum, "maximumNodeCount": maximum});
        json!({"properties": {"scaleSettings": {"autoScale": auto}}})
    };
    let wanted = Scale::Auto { minimum: 1, maximum: 2, initial: 0 };
    assert_eq!(cluster::decode_update(&auto(1, 2)).expect("valid"), Some(wanted));
    let error = cluster::decode_update(&auto(3, 2)).expect_err("a fault");
    assert_eq!(error.target.as_deref(), Some("properties.scaleSettings.autoScale.minimumNodeCount"));
    let mut both = auto(0, 1);
    both["properties"]["scaleSettings"]["manual"] = json!({"targetNodeCount": 1});
    let error = cluster::decode_update(&both).expect_err("a fault");
    assert_eq!(error.target.as_deref(), Some("properties.scaleSettings.autoScale"));
    let neither = json!({"properties": {"scaleSettings": {}}});
    assert_eq!(cluster::decode_update(&neither).expect_err("a fault").code, ErrorCode::MissingRequiredProperty);
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

#[test]
fn a_file_server_is_written_as_recorded() {
    let text = written(&samples::file_server());
    let properties = r#""properties":{"provisioningState":"succeeded","creationTime":"2018-06-14T09:13:00.25Z","provisioningStateTransitionTime":"2018-06-14T09:13:01.3Z","vmSize":"STANDARD_DS1","sshConfiguration":{"publicIPsToAllow":["203.0.113.0/24"],"userAccountSettings":{"adminUserName":"ops","adminUserSshPublicKey":"ssh-rsa AAAA"}},"dataDisks":{"diskSizeInGB":10,"cachingType":"readonly","diskCount":2,"storageAccountType":"Premium_LRS"},"subnet":{"id":"/subscriptions/x/subnets/own"},"mountSettings":{"mountPoint":"/data","fileServerPublicIP":"203.0.113.7","fileServerInternalIP":"10.0.0.4"}}"#;
    assert!(text.contains("/workspaces/vision/fileservers/nfs01\""), "{text}");
    assert!(text.contains("\"type\":\"Microsoft.BatchAI/workspaces/fileservers\""), "{text}");
    assert!(text.contains(properties), "{text}");
}

#[test]
fn all_faults_of_a_file_server_are_told_at_once() {
    use ErrorCode::*;
    let body = json!({"properties": {
        "vmSize": "Standard_D1",
        "sshConfiguration": {"publicIPsToAllow": ["*", "10.0.0.0/8", "::1/129", "10.0.0.0/", 7, "host"]},
        "dataDisks": {"diskSizeInGB": 0, "cachingType": "readwrite", "diskCount": 65, "storageAccountType": "Premium_LRS"},
        "subnet": {"id": "x"},
    }});
    let error = file_server::decode_create(&body).expect_err("faults");
    let wanted = [
        (InvalidPropertyValue, "properties.sshConfiguration.publicIPsToAllow[4]"),
        (InvalidPropertyValue, "properties.sshConfiguration.publicIPsToAllow[2]"),
        (InvalidPropertyValue, "properties.sshConfiguration.publicIPsToAllow[3]"),
        (InvalidPropertyValue, "properties.sshConfiguration.publicIPsToAllow[5]"),
        (MissingRequiredProperty, "properties.sshConfiguration.userAccountSettings"),
        (InvalidPropertyValue, "properties.dataDisks.diskSizeInGB"),
        (InvalidPropertyValue, "properties.dataDisks.diskCount"),
        (InvalidPropertyValue, "properties.dataDisks.cachingType"),
        (InvalidPropertyValue, "properties.dataDisks.storageAccountType"),
        (InvalidPropertyValue, "properties.subnet.id"),
    ];
    assert_eq!(faults(&error), wanted.map(|(code, target)| (code, target.to_owned())));
    let bare = json!({"properties": {}});
    let targets: Vec<String> =
        faults(&file_server::decode_create(&bare).expect_err("faults")).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, ["properties.vmSize", "properties.sshConfiguration", "properties.dataDisks"]);
}
