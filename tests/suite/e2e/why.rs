//! What waits is told the reason, the number, who holds it and what will clear it.

use serde_json::{Value, json};

use super::setup::with_setup;
use super::site;
use crate::harness::site::SHARE;
use crate::harness::{Server, Settings, Site, until};

const OWN: &str = "2026-11-01-preview";

async fn why(site: &Site, path: &str) -> Value {
    site.api.get(&format!("{path}/why?api-version={OWN}")).await.expect(200).body
}

/// What something waits for, once that is `gate`.
async fn gated(site: &Site, path: &str, gate: &str) -> Value {
    until(&format!("the gate {gate}"), || why(site, path), |why| why["gate"] == gate).await
}

/// A job that runs until it is terminated.
async fn holds(site: &Site, name: &str, nodes: u32) {
    site.submit(name, "c", "sleep 600", json!({ "nodeCount": nodes })).await;
    site.wait_state(name, "running").await;
}

async fn terminate(site: &Site, name: &str) {
    let accepted = site.api.post(&format!("{}/terminate", site.job_path(name))).await.expect(202);
    site.api.finish(accepted).await;
}

#[tokio::test]
async fn a_queue_tells_capacity_gang_priority_and_the_limit_of_the_scale() {
    let site = site().await;
    site.cluster("c", 2).await;
    holds(&site, "one", 1).await;
    let job = |name: &str| site.job_path(name);
    site.submit("pair", "c", "true", json!({ "nodeCount": 2 })).await;
    let gang = gated(&site, &job("pair"), "Gang").await;
    assert_eq!(gang["lack"], json!({ "unit": "Nodes", "needed": 2, "available": 1, "missing": 1 }), "{gang}");
    assert!(gang["heldBy"][0]["resourceId"].as_str().is_some_and(|id| id.ends_with("/jobs/one")), "{gang}");
    assert!(gang["clearsBy"].is_string() && gang["clears"].is_string() && gang["state"] == "Queued", "{gang}");
    // The free node is kept for the pair.
    site.submit("behind", "c", "true", json!({})).await;
    let behind = gated(&site, &job("behind"), "Priority").await;
    assert_eq!(behind["lack"]["missing"], 1, "{behind}");
    assert!(behind["heldBy"][0]["resourceId"].as_str().is_some_and(|id| id.ends_with("/jobs/pair")), "{behind}");
    // What runs and what has ended waits for nothing.
    assert!(why(&site, &job("one")).await.get("gate").is_none());
    terminate(&site, "one").await;
    assert_eq!(site.ended("behind").await["executionState"], "succeeded");
    assert_eq!(site.ended("pair").await["executionState"], "succeeded");
    assert!(why(&site, &job("pair")).await.get("gate").is_none());
    assert!(why(&site, &site.cluster_path("c")).await.get("gate").is_none());

    holds(&site, "both", 2).await;
    site.submit("next", "c", "true", json!({})).await;
    let capacity = gated(&site, &job("next"), "Capacity").await;
    assert_eq!((&capacity["lack"]["missing"], &capacity["heldBy"][0]["count"]), (&json!(1), &json!(2)), "{capacity}");
    terminate(&site, "next").await;
    site.submit("large", "c", "true", json!({ "nodeCount": 3 })).await;
    let limit = gated(&site, &job("large"), "ScaleLimit").await;
    assert_eq!(limit["lack"], json!({ "unit": "Nodes", "needed": 3, "available": 2, "missing": 1 }), "{limit}");
    site.api.get(&format!("{}/why?api-version={OWN}", job("absent"))).await.expect(404);
    let node = format!("{}/nodes/tvm-none/why?api-version={OWN}", site.cluster_path("c"));
    assert_eq!(site.api.get(&node).await.expect(404).code(), "NodeNotFound");
    let older = format!("{}/why?api-version=2018-05-01", job("large"));
    assert_eq!(site.api.get(&older).await.expect(400).code(), "NoRegisteredProviderFound");
}

#[tokio::test]
async fn a_quota_of_cores_is_told_to_the_job_and_the_cluster() {
    let server = Server::start(Settings { limits: "dedicated_cores = { total = 1 }".into(), ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.put_cluster("c", &Site::cluster_body(2)).await;
    site.submit("j", "c", "true", json!({ "nodeCount": 2 })).await;
    // Until the one node that there may be is asked for, two are missing.
    let lack = json!({ "unit": "Cores", "needed": 1, "available": 0, "missing": 1 });
    let job = site.job_path("j");
    let quota = until("one node is missing", || why(&site, &job), |why| why["lack"] == lack).await;
    assert_eq!(quota["gate"], "Quota", "{quota}");
    assert!(quota["heldBy"][0]["resourceId"].as_str().is_some_and(|id| id.ends_with("/clusters/c")), "{quota}");
    gated(&site, &site.cluster_path("c"), "Quota").await;
}

#[tokio::test]
async fn a_cluster_that_is_resizing_and_its_nodes_tell_what_they_wait_for() {
    let site = site().await;
    // Its setup ends once it is let go.
    let share = Server::shared().share();
    let go = format!("why-{}", site.group);
    let setup = format!("until [ -e {SHARE}/{go} ]; do sleep 0.05; done; exit 7");
    site.put_cluster("c", &with_setup(1, &setup)).await;
    site.submit("j", "c", "true", json!({})).await;
    let cluster = site.cluster_path("c");
    let resizing = gated(&site, &cluster, "Capacity").await;
    assert_eq!((&resizing["state"], &resizing["lack"]["missing"]), (&json!("Resizing"), &json!(1)), "{resizing}");
    gated(&site, &site.job_path("j"), "Capacity").await;
    let nodes = || async { site.api.get(&format!("{cluster}/nodes?api-version={OWN}")).await.expect(200).body["value"].take() };
    let listed = until("a node is listed", nodes, |nodes| nodes[0]["state"] == "Preparing").await;
    let node = format!("{cluster}/nodes/{}", listed[0]["nodeId"].as_str().expect("an id"));
    let preparing = gated(&site, &node, "NodeHealth").await;
    assert_eq!(preparing["state"], "Preparing", "{preparing}");
    std::fs::write(share.join(&go), "").expect("writes");
    let unusable = until("the node is unusable", || why(&site, &node), |why| why["state"] == "Unusable").await;
    assert_eq!(unusable["gate"], "NodeHealth", "{unusable}");
    assert!(unusable["clearsBy"].is_string(), "it is replaced then: {unusable}");
    let job = gated(&site, &site.job_path("j"), "NodeHealth").await;
    assert_eq!(job["heldBy"][0]["nodeId"], listed[0]["nodeId"], "{job}");
}
