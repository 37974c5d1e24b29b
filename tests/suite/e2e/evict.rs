//! Nodes that are taken away, rehearsed on real ones.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::{long_job_on, starts};
use super::site;
use crate::harness::{Server, Site, until};

const OWN: &str = "2026-11-01-preview";

async fn nodes(site: &Site) -> Vec<String> {
    let path = format!("{}/listRemoteLoginInformation", site.cluster_path("c"));
    let listed = site.api.post(&path).await.expect(200).body;
    listed["value"].as_array().expect("a list").iter().map(|node| node["nodeId"].as_str().expect("named").to_owned()).collect()
}

fn eviction(site: &Site, node: &str, notice: u32) -> String {
    format!("{}/nodes/{node}/simulateEviction?api-version={OWN}&noticeSeconds={notice}", site.cluster_path("c"))
}

async fn causes(site: &Site, job: &str) -> Vec<Value> {
    let listed = site.api.get(&format!("{}/attempts?api-version={OWN}", site.job_path(job))).await.expect(200);
    listed.body["value"].as_array().expect("a list").iter().map(|attempt| attempt["cause"].clone()).collect()
}

#[tokio::test]
async fn a_job_is_warned_saves_what_it_has_and_goes_on_elsewhere() {
    let site = site().await;
    let mut body = Site::cluster_body(1);
    body["properties"]["vmPriority"] = json!("lowpriority");
    site.put_cluster("c", &body).await;
    site.wait_idle("c", 1).await;
    // It needs a while to save, longer than a job is given that is stopped for another reason.
    let folder = format!("$AZ_BATCHAI_MOUNT_ROOT/shared/saved-{}", site.group);
    let command = format!(
        "if [ -e {folder} ]; then echo goes on from $(cat {folder}); exit 0; fi
         trap 'sleep 12; echo step 7 > {folder}; exit 1' TERM
         echo working; while :; do sleep 0.05; done"
    );
    site.submit("j", "c", &command, json!({})).await;
    until("it works", || site.find_stdout("j"), |text| text == "working\n").await;
    let before = nodes(&site).await;
    let evicted = Instant::now();
    site.api.post(&eviction(&site, &before[0], 25)).await.expect(204);
    until("the node leaves", || site.get_cluster("c"), |c| c["nodeStateCounts"]["leavingNodeCount"] == 1).await;
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert!(evicted.elapsed() >= Duration::from_secs(12), "it had its time");
    assert_eq!(site.stdout("j").await, "goes on from step 7\n");
    assert_eq!(causes(&site, "j").await, ["Exited", "Preempted"]);
    site.wait_idle("c", 1).await;
    let after = nodes(&site).await;
    assert_ne!(after, before, "another node took its place");
    assert!(after[0].ends_with("-p"), "{after:?}");
}

#[tokio::test]
async fn without_notice_the_job_runs_again_and_nobody_counts_it() {
    let server = Server::shared();
    let site = site().await;
    site.cluster("c", 1).await;
    let marks = long_job_on(server, &site, "j").await;
    // More often than the platform may lose nodes of a job.
    for round in 1..=5 {
        let node = nodes(&site).await.last().expect("a node").clone();
        site.api.post(&eviction(&site, &node, 0)).await.expect(204);
        until("it has started again", || async { starts(&marks, "j") }, |n| *n == round + 1).await;
    }
    std::fs::write(marks.join("go"), "").expect("writes");
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(causes(&site, "j").await, ["Exited", "Preempted", "Preempted", "Preempted", "Preempted", "Preempted"]);
}

#[tokio::test]
async fn what_cannot_be_taken_away_is_told() {
    let site = site().await;
    site.cluster("c", 1).await;
    let node = nodes(&site).await.remove(0);
    assert_eq!(site.api.post(&eviction(&site, "tvm-1_1-x", 0)).await.expect(404).code(), "NodeNotFound");
    let refused = site.api.post(&eviction(&site, &node, 3601)).await.expect(400);
    assert_eq!(refused.code(), "InvalidQueryParameterValue");
    let frozen = format!("{}/nodes/{node}/simulateEviction", site.cluster_path("c"));
    site.api.post(&frozen).await.expect(400);
    let gone = format!("{}/nodes/{node}/simulateEviction?api-version={OWN}", site.cluster_path("none"));
    assert_eq!(site.api.post(&gone).await.expect(404).code(), "ClusterNotFound");
    site.wait_idle("c", 1).await;
    assert_eq!(nodes(&site).await, [node], "nothing happened");
}
