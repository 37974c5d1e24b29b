//! What nodes cannot do is told where it is needed; clusters grow with their queue.

use serde_json::json;

use super::site;
use crate::harness::{Site, until};

#[tokio::test]
async fn a_node_that_needs_what_it_cannot_do_is_unusable_and_says_so() {
    let site = site().await;
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({ "mountVolumes": {
        "unmanagedFileSystems": [{ "mountCommand": "true", "relativeMountPath": "x" }] } });
    site.put_cluster("c", &body).await;
    let broken = until(
        "an unusable node",
        || site.get_cluster("c"),
        |cluster| cluster["nodeStateCounts"]["unusableNodeCount"] == 1 && cluster["errors"].is_array(),
    )
    .await;
    let error = &broken["errors"][0];
    let (code, why) = match rustix::process::geteuid().is_root() {
        true => ("UnmanagedMountError", "driver.mount_commands"),
        false => ("MountNotSupported", "process group"),
    };
    assert_eq!(error["code"], code, "{broken}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains(why)), "{broken}");
}

#[tokio::test]
async fn a_cluster_without_nodes_grows_for_its_jobs() {
    let site = site().await;
    let mut body = Site::cluster_body(0);
    body["properties"]["scaleSettings"] = json!({ "autoScale": { "minimumNodeCount": 0, "maximumNodeCount": 2 } });
    site.put_cluster("c", &body).await;
    assert_eq!(site.get_cluster("c").await["allocationState"], "steady");
    site.submit("a", "c", "true", json!({})).await;
    site.submit("b", "c", "true", json!({})).await;
    assert_eq!(site.ended("a").await["executionState"], "succeeded");
    assert_eq!(site.ended("b").await["executionState"], "succeeded");
    // It keeps its nodes for a while; by hand it gets rid of them at once.
    site.resize("c", 0, "requeue").await;
    site.wait_idle("c", 0).await;
}
