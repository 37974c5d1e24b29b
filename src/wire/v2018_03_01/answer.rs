//! Documents of answers, made of those of 2018-05-01.

use serde::Serialize;
use serde_json::{Value, json};

use super::request::members;
use crate::domain::older::Older;
use crate::domain::resource::{Envelope, Resource};
use crate::error::Error;
use crate::id::{Kind, ResourceId};

/// A resource's document, made of the one that 2018-05-01 shows.
///
/// # Errors
/// `InternalServerError` where that one cannot be written.
pub fn resource<K: Resource>(body: impl Serialize, stored: &Envelope<K>, older: Option<&Older>) -> Result<Value, Error> {
    let mut document = serde_json::to_value(body).map_err(Error::internal)?;
    let nothing = Older::default();
    let older = older.unwrap_or(&nothing);
    if let Some(envelope) = members(&mut document, "") {
        if let Ok(id) = ResourceId::parse(&stored.path) {
            envelope.insert("id".into(), json!(id.flat_path()));
        }
        envelope.insert("type".into(), json!(K::KIND.flat_type()));
        // Recorded: jobs show none, though the published schema has it.
        if K::KIND != Kind::Job {
            envelope.insert("location".into(), json!(stored.location));
        }
        if let Some(tags) = &stored.tags {
            envelope.insert("tags".into(), json!(tags));
        }
    }
    match K::KIND {
        Kind::Job => show_job(&mut document, older),
        Kind::Cluster => {
            if let Some(task) = members(&mut document, "/properties/nodeSetup/setupTask") {
                task.insert("runElevated".into(), json!(older.run_elevated));
            }
            rename_key(&mut document, "/properties/userAccountSettings");
        }
        Kind::FileServer => {
            if let Some(mount) = members(&mut document, "/properties/mountSettings") {
                mount.insert("fileServerType".into(), json!("nfs"));
            }
            rename_key(&mut document, "/properties/sshConfiguration/userAccountSettings");
        }
        Kind::Group | Kind::Workspace | Kind::Experiment => {}
    }
    for mounts in ["/properties/mountVolumes/fileServers", "/properties/nodeSetup/mountVolumes/fileServers"] {
        for entry in document.pointer_mut(mounts).and_then(Value::as_array_mut).into_iter().flatten() {
            flatten_id(entry.pointer_mut("/fileServer/id"));
        }
    }
    Ok(document)
}

fn show_job(document: &mut Value, older: &Older) {
    flatten_id(document.pointer_mut("/properties/cluster/id"));
    let Some(properties) = members(document, "/properties") else { return };
    let word = properties.remove("schedulingPriority");
    let priority = match word.as_ref().and_then(Value::as_str) {
        Some("low") => -1_000,
        Some("high") => 1_000,
        _ => 0,
    };
    properties.insert("priority".into(), json!(older.priority.unwrap_or(priority)));
    properties.remove("experimentName");
    if let Some(name) = &older.experiment_name {
        properties.insert("experimentName".into(), json!(name));
    }
    for name in ["customMpiSettings", "horovodSettings"] {
        properties.remove(name);
    }
    if let Some(container) = properties.get_mut("containerSettings").and_then(Value::as_object_mut) {
        container.remove("shmSize");
    }
    for entry in properties.get_mut("outputDirectories").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(directory) = entry.as_object_mut() {
            let id = directory.get("id").and_then(Value::as_str).unwrap_or_default();
            let holds = older.output_types.get(id).map_or("custom", String::as_str).to_owned();
            directory.insert("type".into(), json!(holds));
            directory.insert("createNew".into(), json!(true));
        }
    }
    let errors = properties.get_mut("executionInfo").and_then(|info| info.get_mut("errors")).and_then(Value::as_array_mut);
    for error in errors.into_iter().flatten() {
        // Recorded: the code of a job that a user ended lacks its last letter.
        if error.get("code").and_then(Value::as_str) == Some("JobTerminated")
            && let Some(error) = error.as_object_mut()
        {
            error.insert("code".into(), json!("JobTerminate"));
        }
    }
}

/// Recorded: the name of the key's member is written otherwise than it is asked for.
fn rename_key(document: &mut Value, pointer: &str) {
    if let Some(account) = members(document, pointer)
        && let Some(key) = account.remove("adminUserSshPublicKey")
    {
        account.insert("adminUserSSHPublicKey".into(), key);
    }
}

fn flatten_id(id: Option<&mut Value>) {
    if let Some(Value::String(text)) = id
        && let Ok(id) = ResourceId::parse(text)
    {
        *text = id.flat_path();
    }
}

/// An entry of a list of files: whether it is a directory is told by a flag.
///
/// # Errors
/// `InternalServerError` where it cannot be written.
pub fn file(body: impl Serialize) -> Result<Value, Error> {
    let mut document = serde_json::to_value(body).map_err(Error::internal)?;
    if let Some(entry) = members(&mut document, "") {
        let is_directory = entry.remove("fileType").is_some_and(|kind| kind == "directory");
        entry.insert("isDirectory".into(), json!(is_directory));
    }
    Ok(document)
}

/// Rows of the usages list, in their recorded order; the last is not in the newer one.
const USAGES: [&str; 11] = [
    "Clusters",
    "Total Cluster Dedicated Regional vCPUs",
    "Standard D Family Cluster Dedicated vCPUs",
    "Standard NC Family Cluster Dedicated vCPUs",
    "Standard Dv2 Family Cluster Dedicated vCPUs",
    "Standard NV Family Cluster Dedicated vCPUs",
    "Total Cluster LowPriority Regional vCPUs",
    "Standard D Family Cluster LowPriority vCPUs",
    "Standard Dv2 Family Cluster LowPriority vCPUs",
    "Standard NC Family Cluster LowPriority vCPUs",
    "Standard NV Family Cluster LowPriority vCPUs",
];

/// The rows of the usages list, made of those of 2018-05-01. `active_jobs` run or wait.
///
/// # Errors
/// `InternalServerError` where they cannot be written.
pub fn usages(rows: impl Serialize, active_jobs: u64) -> Result<Vec<Value>, Error> {
    let rows = serde_json::to_value(rows).map_err(Error::internal)?;
    let find =
        |name: &str| rows.as_array()?.iter().find(|row| row.pointer("/name/value").is_some_and(|value| value == name)).cloned();
    let mut shown: Vec<Value> = USAGES.iter().filter_map(|name| find(name)).collect();
    shown.push(json!({
        "unit": "Count", "currentValue": active_jobs, "limit": i32::MAX,
        "name": {"value": "ActiveJobs", "localizedValue": "Active Jobs"},
    }));
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::Cluster;
    use crate::domain::job::Job;
    use crate::wire::v2018_05_01::{Encode, samples};

    #[test]
    fn a_job_is_shown_as_recorded() {
        let mut stored = samples::job();
        stored.status.errors = vec![crate::domain::resource::EntityError::new("JobTerminated", "…")];
        let shown = resource(Job::encode(&stored), &stored, None).expect("writes");
        assert_eq!(shown["type"], "Microsoft.BatchAI/Jobs");
        assert!(
            shown["id"].as_str().is_some_and(|id| id.ends_with("/ml-rg/providers/Microsoft.BatchAI/jobs/train01")),
            "{shown}"
        );
        assert!(shown.get("location").is_none());
        let properties = &shown["properties"];
        assert_eq!(properties["priority"], 1000);
        assert!(properties.get("schedulingPriority").is_none() && properties.get("experimentName").is_none());
        assert_eq!(properties["outputDirectories"][0]["type"], "custom");
        assert_eq!(properties["outputDirectories"][0]["createNew"], true);
        assert_eq!(properties["executionInfo"]["errors"][0]["code"], "JobTerminate");
        assert!(properties["cluster"]["id"].as_str().is_some_and(|id| id.ends_with("Microsoft.BatchAI/clusters/nc6")));
    }

    #[test]
    fn a_cluster_is_shown_as_recorded() {
        let stored = samples::cluster();
        let shown = resource(Cluster::encode(&stored), &stored, None).expect("writes");
        assert_eq!((&shown["type"], &shown["location"]), (&json!("Microsoft.BatchAI/Clusters"), &json!("eastus")));
        assert_eq!(shown["properties"]["nodeSetup"]["setupTask"]["runElevated"], false);
        assert!(shown["properties"]["userAccountSettings"]["adminUserSSHPublicKey"].is_string());
    }
}
