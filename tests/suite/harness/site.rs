//! A resource group with a workspace and an experiment of its own, to run jobs in.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::api::{Answer, Api, Fetched};
use crate::harness::wait::{PATIENCE, until, until_within};

/// The share, as job bodies name it.
pub const SHARE: &str = "$AZ_BATCHAI_MOUNT_ROOT/shared";

/// Where jobs of one test run.
#[derive(Clone, Debug)]
pub struct Site {
    /// The client.
    pub api: Api,
    /// The group's name.
    pub group: String,
}

impl Site {
    /// Registers the provider, as clients do, and makes group, workspace `w` and experiment `e`.
    pub async fn new(api: Api) -> Site {
        let site = Site { api, group: format!("t{}", &Uuid::new_v4().simple().to_string()[..12]) };
        site.api.post("providers/Microsoft.BatchAI/register").await.expect(200);
        site.api.put(&site.group_path(), &json!({ "location": "eastus" })).await.expect(201);
        site.api.put(&site.workspace(), &json!({ "location": "eastus" })).await.expect(200);
        site.api.send(Method::PUT, &site.experiment(), None).await.expect(200);
        site
    }

    /// The group's path below the subscription.
    pub fn group_path(&self) -> String {
        format!("resourceGroups/{}", self.group)
    }

    /// The workspace's.
    pub fn workspace(&self) -> String {
        format!("{}/providers/Microsoft.BatchAI/workspaces/w", self.group_path())
    }

    /// The experiment's.
    pub fn experiment(&self) -> String {
        format!("{}/experiments/e", self.workspace())
    }

    /// A cluster's.
    pub fn cluster_path(&self, name: &str) -> String {
        format!("{}/clusters/{name}", self.workspace())
    }

    /// A job's.
    pub fn job_path(&self, name: &str) -> String {
        format!("{}/jobs/{name}", self.experiment())
    }

    /// The body of a cluster.
    pub fn cluster_body(nodes: u32) -> Value {
        json!({ "properties": {
            "vmSize": "STANDARD_D1",
            "scaleSettings": { "manual": { "targetNodeCount": nodes } },
            "userAccountSettings": { "adminUserName": "ops" } } })
    }

    /// Asks for a cluster.
    pub async fn put_cluster(&self, name: &str, body: &Value) {
        let accepted = self.api.put(&self.cluster_path(name), body).await.expect(202);
        self.api.finish(accepted).await;
    }

    /// Asks for a cluster and waits for its nodes.
    pub async fn cluster(&self, name: &str, nodes: u32) {
        self.put_cluster(name, &Site::cluster_body(nodes)).await;
        self.wait_idle(name, nodes).await;
    }

    /// A cluster's properties.
    pub async fn get_cluster(&self, name: &str) -> Value {
        self.api.get(&self.cluster_path(name)).await.expect(200).body["properties"].take()
    }

    /// Waits until so many nodes, and no others, are idle.
    pub async fn wait_idle(&self, name: &str, nodes: u32) -> Value {
        until(
            &format!("{nodes} idle nodes of {name}"),
            || self.get_cluster(name),
            |cluster| {
                cluster["allocationState"] == "steady"
                    && cluster["currentNodeCount"] == nodes
                    && cluster["nodeStateCounts"]["idleNodeCount"] == nodes
            },
        )
        .await
    }

    /// Changes the number of nodes.
    pub async fn resize(&self, name: &str, nodes: u32, option: &str) {
        let body = json!({ "properties": { "scaleSettings": {
            "manual": { "targetNodeCount": nodes, "nodeDeallocationOption": option } } } });
        self.api.patch(&self.cluster_path(name), &body).await.expect(200);
    }

    /// The body of a job that runs a command on one node and writes to the share.
    pub fn job_body(&self, cluster: &str, command: &str) -> Value {
        json!({ "properties": {
            "cluster": { "id": format!("{}/{}", self.api.scope(), self.cluster_path(cluster)) },
            "nodeCount": 1,
            "stdOutErrPathPrefix": SHARE,
            "customToolkitSettings": { "commandLine": command } } })
    }

    /// Submits a job.
    pub async fn put_job(&self, name: &str, body: &Value) -> Answer {
        self.api.put(&self.job_path(name), body).await.expect(202)
    }

    /// Submits a job that runs a command, with other properties laid over those of [`job_body`](Self::job_body).
    pub async fn submit(&self, name: &str, cluster: &str, command: &str, over: Value) {
        let mut body = self.job_body(cluster, command);
        if let (Value::Object(into), Value::Object(from)) = (&mut body["properties"], over) {
            into.extend(from);
        }
        self.put_job(name, &body).await;
    }

    /// Submits a job, waits for its end and answers its properties.
    pub async fn run(&self, name: &str, cluster: &str, command: &str, over: Value) -> Value {
        self.submit(name, cluster, command, over).await;
        self.ended(name).await
    }

    /// A job's properties.
    pub async fn get_job(&self, name: &str) -> Value {
        self.api.get(&self.job_path(name)).await.expect(200).body["properties"].take()
    }

    /// Waits for a job's execution state.
    pub async fn wait_state(&self, name: &str, state: &str) -> Value {
        until(&format!("job {name} is {state}"), || self.get_job(name), |job| job["executionState"] == state).await
    }

    /// Waits for a job's end.
    pub async fn ended(&self, name: &str) -> Value {
        self.ended_within(PATIENCE, name).await
    }

    /// The same with a deadline of its own.
    pub async fn ended_within(&self, deadline: Duration, name: &str) -> Value {
        let is_final = |job: &Value| matches!(job["executionState"].as_str(), Some("succeeded" | "failed"));
        until_within(deadline, &format!("job {name} ends"), || self.get_job(name), is_final).await
    }

    /// What an output directory lists.
    pub async fn list(&self, job: &str, directory_id: &str, directory: &str) -> Vec<Value> {
        let path = format!("{}/listOutputFiles?outputdirectoryid={directory_id}&directory={directory}", self.job_path(job));
        match self.api.post(&path).await.expect(200).body["value"].take() {
            Value::Array(entries) => entries,
            other => panic!("a list has a value: {other}"),
        }
    }

    /// Names of an output directory's entries.
    pub async fn names(&self, job: &str, directory_id: &str) -> Vec<String> {
        self.list(job, directory_id, ".").await.iter().map(|e| e["name"].as_str().expect("named").to_owned()).collect()
    }

    /// The link to a file; `None` while it is not listed.
    pub async fn find_link(&self, job: &str, directory_id: &str, file: &str) -> Option<String> {
        let (directory, name) = file.rsplit_once('/').unwrap_or((".", file));
        let entries = self.list(job, directory_id, directory).await;
        let entry = entries.iter().find(|entry| entry["name"] == name && entry["fileType"] == "file")?;
        Some(entry["downloadUrl"].as_str().expect("files have links").to_owned())
    }

    /// The link to a file, once it is listed.
    pub async fn link(&self, job: &str, directory_id: &str, file: &str) -> String {
        until(&format!("{file} is listed"), || self.find_link(job, directory_id, file), Option::is_some).await.expect("found")
    }

    /// The content of a file that is listed.
    pub async fn read(&self, job: &str, directory_id: &str, file: &str) -> String {
        let link = self.find_link(job, directory_id, file).await.unwrap_or_else(|| panic!("{file} is listed"));
        let fetched = self.download(&link, None).await;
        assert_eq!(fetched.status, 200, "{}", fetched.text());
        fetched.text()
    }

    /// A job's standard output.
    pub async fn stdout(&self, job: &str) -> String {
        self.read(job, "stdouterr", "stdout.txt").await
    }

    /// A job's standard output so far; empty while there is none.
    pub async fn find_stdout(&self, job: &str) -> String {
        match self.find_link(job, "stdouterr", "stdout.txt").await {
            Some(link) => self.download(&link, None).await.text(),
            None => String::new(),
        }
    }

    /// A download by its link.
    pub async fn download(&self, link: &str, range: Option<&str>) -> Fetched {
        self.api.fetch(Method::GET, link, range).await
    }

    /// Deletes the group and waits until it is gone.
    pub async fn delete(&self) {
        let accepted = self.api.delete(&self.group_path()).await.expect(202);
        self.api.finish(accepted).await;
        self.api.get(&self.group_path()).await.expect(404);
    }
}
