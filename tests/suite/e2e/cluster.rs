//! Clusters grow, shrink and go, with jobs on them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::site;
use crate::harness::{Server, Site, privileged, until};

/// Longest time from the PUT of a cluster until its 20 nodes are idle.
const TWENTY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn twenty_nodes_are_idle_within_five_seconds() {
    if !privileged() {
        return;
    }
    // Of its own, so that no other test's nodes are counted.
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let began = Instant::now();
    site.cluster("c", 20).await;
    let took = began.elapsed();
    assert!(took < TWENTY, "20 nodes were idle after {took:?}");
    eprintln!("20 nodes were idle after {took:?}");
    let logins = site.api.post(&format!("{}/listRemoteLoginInformation", site.cluster_path("c"))).await.expect(200);
    let mut places: Vec<String> = logins.body["value"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|login| format!("{}:{}", login["ipAddress"], login["port"]))
        .collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 20, "each node has a place of its own to log in at");
}

#[tokio::test]
async fn a_cluster_grows_and_shrinks() {
    let site = site().await;
    site.cluster("c", 1).await;
    let one = site.get_cluster("c").await;
    assert_eq!(one["vmSize"], "STANDARD_D1");
    assert_eq!(one["vmPriority"], "dedicated");
    assert_eq!(one["scaleSettings"]["manual"], json!({ "targetNodeCount": 1, "nodeDeallocationOption": "requeue" }));
    site.resize("c", 3, "requeue").await;
    site.wait_idle("c", 3).await;
    site.resize("c", 1, "requeue").await;
    site.wait_idle("c", 1).await;
    assert!(site.get_cluster("c").await.get("errors").is_none());
}

/// [`long_job_on`] the server that the tests share.
async fn long_job(site: &Site, name: &str) -> std::path::PathBuf {
    long_job_on(Server::shared(), site, name).await
}

/// A job that says on the share that it ran, then runs until it is told to end.
pub(super) async fn long_job_on(server: &Server, site: &Site, name: &str) -> std::path::PathBuf {
    let marks = server.share().join(format!("marks-{}", site.group));
    std::fs::create_dir_all(&marks).expect("made");
    std::fs::set_permissions(&marks, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("opened");
    let folder = format!("$AZ_BATCHAI_MOUNT_ROOT/shared/marks-{}", site.group);
    let command = format!("echo start >> {folder}/{name}; until [ -e {folder}/go ]; do sleep 0.02; done");
    site.submit(name, "c", &command, json!({})).await;
    until(
        "the command has started",
        || async { std::fs::read_to_string(marks.join(name)).unwrap_or_default() },
        |text| text == "start\n",
    )
    .await;
    marks
}

pub(super) fn starts(marks: &std::path::Path, name: &str) -> usize {
    std::fs::read_to_string(marks.join(name)).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn requeue_puts_the_job_back_and_it_runs_again() {
    let site = site().await;
    site.cluster("c", 1).await;
    let marks = long_job(&site, "j").await;
    let first = site.get_job("j").await["executionInfo"]["startTime"].clone();
    site.resize("c", 0, "requeue").await;
    let queued = site.wait_state("j", "queued").await;
    assert!(queued["executionInfo"].get("endTime").is_none(), "{queued}");
    site.wait_idle("c", 0).await;
    std::fs::write(marks.join("go"), "").expect("writes");
    site.resize("c", 1, "requeue").await;
    let ended = site.ended("j").await;
    assert_eq!(ended["executionState"], "succeeded", "{ended}");
    assert_ne!(ended["executionInfo"]["startTime"], first, "the start is the latest one");
    assert_eq!(starts(&marks, "j"), 2);
}

#[tokio::test]
async fn terminate_ends_the_job_with_its_node() {
    let site = site().await;
    site.cluster("c", 1).await;
    let marks = long_job(&site, "j").await;
    site.resize("c", 0, "terminate").await;
    let ended = site.ended("j").await;
    assert_eq!(ended["executionState"], "failed");
    assert!(ended["executionInfo"]["errors"][0]["code"].is_string(), "{ended}");
    site.wait_idle("c", 0).await;
    assert_eq!(starts(&marks, "j"), 1);
}

#[tokio::test]
async fn waitforjobcompletion_lets_the_job_end_and_starts_no_other() {
    let site = site().await;
    site.cluster("c", 1).await;
    let marks = long_job(&site, "j").await;
    site.resize("c", 0, "waitforjobcompletion").await;
    site.submit("later", "c", "true", json!({})).await;
    until("the node is leaving", || site.get_cluster("c"), |c| c["allocationState"] == "resizing").await;
    assert_eq!(site.get_job("j").await["executionState"], "running");
    std::fs::write(marks.join("go"), "").expect("writes");
    let ended = site.ended("j").await;
    assert_eq!(ended["executionState"], "succeeded", "{ended}");
    site.wait_idle("c", 0).await;
    assert_eq!(site.get_job("later").await["executionState"], "queued");
}

#[tokio::test]
async fn deleting_a_cluster_ends_its_jobs_and_keeps_them() {
    let site = site().await;
    site.cluster("c", 1).await;
    let marks = long_job(&site, "running").await;
    site.submit("queued", "c", "true", json!({})).await;
    let accepted = site.api.delete(&site.cluster_path("c")).await.expect(202);
    let operation = site.api.finish(accepted).await;
    assert_eq!(operation["status"], "Succeeded");
    assert_eq!(site.api.get(&site.cluster_path("c")).await.expect(404).code(), "ClusterNotFound");
    for name in ["running", "queued"] {
        let job = site.ended(name).await;
        assert_eq!(job["executionState"], "failed", "{job}");
        assert!(job["executionInfo"]["errors"][0]["code"].is_string(), "{job}");
    }
    let list = site.api.get(&format!("{}/jobs", site.experiment())).await.expect(200);
    assert_eq!(list.body["value"].as_array().map(Vec::len), Some(2));
    assert_eq!(starts(&marks, "running"), 1);
}

#[tokio::test]
async fn deleting_a_group_leaves_nothing_of_its_nodes() {
    let server = Server::up();
    let site = Site::new(server.api()).await;
    site.cluster("a", 2).await;
    site.cluster("b", 1).await;
    site.submit("j", "a", "sleep 86400", json!({ "nodeCount": 2 })).await;
    site.submit("q", "a", "true", json!({})).await;
    site.wait_state("j", "running").await;
    let there = server.remains();
    assert!(there.iter().filter(|line| line.starts_with("folder")).count() >= 3, "the search finds what is there: {there:#?}");
    site.delete().await;
    assert_eq!(server.remains(), Vec::<String>::new());
    let groups = site.api.get("resourceGroups").await.expect(200);
    assert_eq!(groups.body["value"], json!([]));
    site.api.get(&site.job_path("j")).await.expect(404);
}

#[tokio::test]
async fn a_size_that_nobody_knows_is_refused_with_those_that_are() {
    let site = site().await;
    let mut body = Site::cluster_body(1);
    body["properties"]["vmSize"] = json!("Standard_D2s_v99");
    let refused = site.api.put(&site.cluster_path("c"), &body).await.expect(400);
    assert_eq!(refused.code(), "InvalidPropertyValue");
    let sizes = refused.body["error"]["details"][0]["message"].as_str().unwrap_or_default();
    assert!(sizes.split(',').any(|size| size == "STANDARD_D1"), "{}", refused.text);
}

#[tokio::test]
async fn a_node_that_is_killed_is_replaced() {
    let server = Server::up();
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let login = |answer: Value| answer["value"][0]["nodeId"].as_str().map(str::to_owned);
    let path = format!("{}/listRemoteLoginInformation", site.cluster_path("c"));
    let first = login(site.api.post(&path).await.expect(200).body);
    let nodes = server.node_processes();
    assert_eq!(nodes.len(), 1, "one first process of a node");
    server.kill_process(nodes[0]);
    until("another node", || async { login(site.api.post(&path).await.expect(200).body) }, |now| now.is_some() && *now != first)
        .await;
    site.wait_idle("c", 1).await;
    assert_eq!(site.run("j", "c", "echo hi", json!({})).await["executionState"], "succeeded");
}
