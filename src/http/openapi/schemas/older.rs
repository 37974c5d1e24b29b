//! What the versions before 2018-05-01 have otherwise.

use serde_json::{Value, json};

use super::{Schemas, many, object, or, text, to, word};

/// 2018-03-01, told from 2018-05-01.
pub(super) fn v2018_03_01(mut all: Schemas) -> Schemas {
    let flag = |default: bool| json!({"type": "boolean", "default": default});
    let tags = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    for kind in ["Cluster", "Job", "FileServer"] {
        let create = format!("{kind}CreateParameters");
        add(&mut all, &create, &[("location!", text()), ("tags", tags())]);
        add(&mut all, "ClusterUpdateParameters", &[("tags", tags())]);
        add(&mut all, kind, &[("location", text()), ("tags", tags())]);
    }
    require(&mut all, "Cluster", "location");
    require(&mut all, "FileServer", "location");
    let priority = || or(json!({"type": "integer", "format": "int32", "minimum": -1000, "maximum": 1000}), json!(0));
    for job in ["JobBaseProperties", "JobProperties"] {
        forget(&mut all, job, &["schedulingPriority", "customMpiSettings", "horovodSettings", "experimentName"]);
        add(&mut all, job, &[("priority", priority()), ("experimentName", text())]);
    }
    require(&mut all, "JobProperties", "priority");
    let types = or(word(&["model", "logs", "summary", "custom"]), json!("custom"));
    add(&mut all, "OutputDirectory", &[("type", types), ("createNew", flag(true))]);
    add(&mut all, "SetupTask", &[("runElevated", flag(false))]);
    add(&mut all, "MountSettings", &[("fileServerType", word(&["nfs", "glusterfs"]))]);
    forget(&mut all, "ContainerSettings", &["shmSize"]);
    forget(&mut all, "File", &["fileType"]);
    add(&mut all, "File", &[("isDirectory!", json!({"type": "boolean"}))]);
    // The key of an account is shown under another name than it is asked for.
    add(&mut all, "UserAccountSettings", &[("adminUserSSHPublicKey", super::read_only(text()))]);
    all
}

/// 2017-09-01-preview, told from 2018-03-01.
pub(super) fn v2017_09_01_preview(all: Schemas) -> Schemas {
    let mut all = v2018_03_01(all);
    for job in ["JobBaseProperties", "JobProperties"] {
        forget(&mut all, job, &["mountVolumes", "secrets", "pyTorchSettings", "jobOutputDirectoryPathSegment"]);
    }
    forget(&mut all, "NodeSetup", &["performanceCountersSettings"]);
    forget(&mut all, "SetupTask", &["secrets", "stdOutErrPathSuffix"]);
    forget(&mut all, "ImageReference", &["virtualMachineImageId"]);
    forget(&mut all, "File", &["isDirectory"]);
    require(&mut all, "File", "downloadUrl");
    all.insert("EnvironmentSetting".into(), object([("name!", text()), ("value", text())]));
    for holder in ["JobBaseProperties", "JobProperties", "SetupTask"] {
        add(&mut all, holder, &[("environmentVariables", many(to("EnvironmentSetting")))]);
    }
    require(&mut all, "TensorFlowSettings", "masterCommandLineArgs");
    all
}

/// Adds members to a schema; one whose name ends in `!` is required.
fn add(all: &mut Schemas, schema: &str, members: &[(&str, Value)]) {
    for (name, member) in members {
        let bare = name.trim_end_matches('!');
        if let Some(properties) =
            all.get_mut(schema).and_then(|schema| schema.get_mut("properties")).and_then(Value::as_object_mut)
        {
            properties.insert(bare.to_owned(), member.clone());
        }
        if bare != *name {
            require(all, schema, bare);
        }
    }
}

fn require(all: &mut Schemas, schema: &str, name: &str) {
    let Some(schema) = all.get_mut(schema).and_then(Value::as_object_mut) else { return };
    if let Some(list) = schema.entry("required").or_insert_with(|| json!([])).as_array_mut() {
        list.push(json!(name));
    }
}

fn forget(all: &mut Schemas, schema: &str, names: &[&str]) {
    let Some(schema) = all.get_mut(schema).and_then(Value::as_object_mut) else { return };
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        names.iter().for_each(|name| drop(properties.remove(*name)));
    }
    if let Some(list) = schema.get_mut("required").and_then(Value::as_array_mut) {
        list.retain(|required| !names.iter().any(|name| required == name));
    }
}
