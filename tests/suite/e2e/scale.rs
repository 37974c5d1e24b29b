//! Clusters that scale by their queue.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::{long_job_on, starts};
use crate::harness::{Server, Settings, Site, privileged, until};

const OWN: &str = "2026-11-01-preview";

/// Longest time from the PUT of a job to its process on a cluster without nodes. The target is a second on a machine that does
/// nothing else, which the benchmark measures.
const REACTION: Duration = Duration::from_secs(5);

/// A server whose clusters shrink after `patience`.
async fn server(patience: &str) -> (Server, Site) {
    let server = Server::start(Settings { limits: format!("scale_down_after = \"{patience}\""), ..Settings::default() });
    let site = Site::new(server.api()).await;
    (server, site)
}

async fn scale(site: &Site, minimum: u32, maximum: u32) -> Value {
    let body = json!({ "properties": { "scaleSettings": {
        "autoScale": { "minimumNodeCount": minimum, "maximumNodeCount": maximum } } } });
    site.api.patch(&site.cluster_path("c"), &body).await.expect(200).body["properties"].take()
}

async fn own(site: &Site) -> Value {
    site.api.get(&format!("{}?api-version={OWN}", site.cluster_path("c"))).await.expect(200).body["properties"].take()
}

#[tokio::test]
async fn from_nothing_to_what_a_gang_needs_and_back_to_nothing() {
    let (server, site) = server("1s").await;
    site.cluster("c", 0).await;
    let patched = scale(&site, 0, 3).await;
    assert_eq!(
        patched["scaleSettings"],
        json!({ "autoScale": { "minimumNodeCount": 0, "maximumNodeCount": 3, "initialNodeCount": 0 } })
    );
    let began = Instant::now();
    site.submit("gang", "c", "echo hi", json!({ "nodeCount": 2 })).await;
    let job = site.ended("gang").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert!(began.elapsed() < REACTION * 2, "a gang on an empty cluster ended after {:?}", began.elapsed());
    assert!(own(&site).await["scaling"]["targetNodeCount"].as_u64() <= Some(2), "as many as it needs");
    // The nodes go once nothing needed them for a while, and nothing of them is left.
    let empty = site.wait_idle("c", 0).await;
    assert!(empty.get("errors").is_none(), "{empty}");
    if privileged() {
        until("nothing is left of the nodes", || async { server.remains() }, Vec::is_empty).await;
    }
    let began = Instant::now();
    let marks = long_job_on(&server, &site, "again").await;
    let took = began.elapsed();
    eprintln!("from the PUT of a job to its process on an empty cluster: {took:?}");
    assert!(took < REACTION, "{took:?}");
    std::fs::write(marks.join("go"), "").expect("writes");
    site.ended("again").await;
    site.wait_idle("c", 0).await;
}

#[tokio::test]
async fn a_node_that_runs_a_job_is_not_taken_away_and_the_idle_one_is() {
    let (server, site) = server("1s").await;
    site.cluster("c", 2).await;
    let marks = long_job_on(&server, &site, "j").await;
    // What was scaled by hand begins with the nodes that it has.
    scale(&site, 0, 2).await;
    until("the idle node has gone", || site.get_cluster("c"), |c| c["currentNodeCount"] == 1).await;
    // A bound below what runs takes no node from a job either.
    scale(&site, 0, 0).await;
    until("the node is to go", || site.get_cluster("c"), |c| c["nodeStateCounts"]["leavingNodeCount"] == 1).await;
    assert_eq!(site.get_job("j").await["executionState"], "running");
    std::fs::write(marks.join("go"), "").expect("writes");
    assert_eq!(site.ended("j").await["executionState"], "succeeded");
    site.wait_idle("c", 0).await;
    assert_eq!(starts(&marks, "j"), 1);
    // And back to a number by hand.
    site.resize("c", 1, "requeue").await;
    site.wait_idle("c", 1).await;
    assert!(own(&site).await.get("scaling").is_none());
}

#[tokio::test]
async fn a_job_that_can_never_fit_is_told_and_holds_up_nobody() {
    let (_server, site) = server("5m").await;
    site.cluster("c", 0).await;
    site.submit("large", "c", "true", json!({ "nodeCount": 3 })).await;
    site.submit("small", "c", "true", json!({})).await;
    scale(&site, 0, 2).await;
    assert_eq!(site.ended("small").await["executionState"], "succeeded", "it goes past the large one");
    let told = |c: &Value| c["errors"][0]["code"] == "JobNeedsTooManyNodes";
    let cluster = until("the cluster says so", || site.get_cluster("c"), told).await;
    assert!(cluster["errors"][0]["message"].as_str().is_some_and(|text| text.contains("'large' needs 3 nodes")), "{cluster}");
    assert_eq!(cluster["currentNodeCount"], 1, "nothing grew for it: {cluster}");
    // A new one is refused at once.
    let mut body = site.job_body("c", "true");
    body["properties"]["nodeCount"] = json!(3);
    assert_eq!(site.api.put(&site.job_path("later"), &body).await.expect(400).code(), "InvalidPropertyValue");
    scale(&site, 0, 3).await;
    assert_eq!(site.ended("large").await["executionState"], "succeeded");
    until("nothing is said any more", || site.get_cluster("c"), |c| c.get("errors").is_none()).await;
}

#[tokio::test]
async fn what_changes_all_the_time_ends_where_it_was_last_sent_to() {
    let (server, site) = server("1s").await;
    site.put_cluster("c", &Site::cluster_body(6)).await;
    for (minimum, maximum) in [(0, 6), (3, 3), (0, 1)] {
        scale(&site, minimum, maximum).await;
        site.resize("c", 5 - maximum.min(5), "terminate").await;
    }
    scale(&site, 2, 4).await;
    site.wait_idle("c", 2).await;
    // Deleted in the midst of growing.
    site.resize("c", 8, "requeue").await;
    let accepted = site.api.delete(&site.cluster_path("c")).await.expect(202);
    site.api.finish(accepted).await;
    site.api.get(&site.cluster_path("c")).await.expect(404);
    if privileged() {
        until("nothing is left of the nodes", || async { server.remains() }, Vec::is_empty).await;
    }
}

#[tokio::test]
async fn a_new_cluster_begins_with_its_initial_nodes() {
    let (_server, site) = server("1s").await;
    let mut body = Site::cluster_body(0);
    body["properties"]["scaleSettings"] =
        json!({ "autoScale": { "minimumNodeCount": 1, "maximumNodeCount": 3, "initialNodeCount": 2 } });
    site.put_cluster("c", &body).await;
    until("two nodes are there", || site.get_cluster("c"), |c| c["currentNodeCount"] == 2).await;
    site.wait_idle("c", 1).await;
}
