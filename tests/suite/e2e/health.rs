//! Nodes prove themselves before they take work; those that cannot be used say why, are replaced, and not for ever.

use serde_json::{Value, json};

use super::setup::with_setup;
use crate::harness::site::SHARE;
use crate::harness::{Server, Settings, Site, privileged, until};

const OWN: &str = "2026-11-01-preview";

/// A server that gives up nodes soon.
async fn impatient() -> (Server, Site) {
    let limits = "unusable_for = \"300ms\"\nrepair_pause = \"200ms\"".to_owned();
    let server = Server::start(Settings { limits, ..Settings::default() });
    let site = Site::new(server.api()).await;
    (server, site)
}

async fn nodes(site: &Site) -> Vec<Value> {
    let listed = site.api.get(&format!("{}/nodes?api-version={OWN}", site.cluster_path("c"))).await.expect(200);
    listed.body["value"].as_array().expect("a list").clone()
}

async fn own(site: &Site) -> Value {
    site.api.get(&format!("{}?api-version={OWN}", site.cluster_path("c"))).await.expect(200).body["properties"].take()
}

fn codes(cluster: &Value) -> Vec<String> {
    let errors = cluster["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["code"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_wrong_setup_task_ends_in_an_error_with_its_words_and_not_in_nodes_without_end() {
    let (_server, site) = impatient().await;
    site.put_cluster("c", &with_setup(2, "echo the license server is away >&2; exit 9")).await;
    site.submit("j", "c", "true", json!({})).await;
    let stopped = |c: &Value| codes(c).last().is_some_and(|code| code == "NodeRepairStopped") && c["currentNodeCount"] == 0;
    let cluster = until("no other node is made", || site.get_cluster("c"), stopped).await;
    assert_eq!(cluster["allocationState"], "steady", "it is as large as it gets: {cluster}");
    let error = &cluster["errors"][0];
    assert_eq!(error["code"], "NodeSetupFailed", "{cluster}");
    let detail = |error: &Value, name: &str| {
        let details = error["details"].as_array().expect("details");
        details.iter().find(|d| d["name"] == name).map(|d| d["value"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(detail(error, "stderr").as_deref(), Some("the license server is away"), "{error}");
    // The nodes are gone, and what was wrong with them is not.
    let gone = nodes(&site).await;
    assert_eq!(gone.len(), 5, "two, and three tries more: {gone:#?}");
    for node in &gone {
        assert_eq!((&node["state"], &node["errors"][0]["code"]), (&json!("Gone"), &json!("NodeSetupFailed")), "{node}");
        assert_eq!(detail(&node["errors"][0], "exitCode").as_deref(), Some("9"), "{node}");
        assert!(node["health"].as_array().is_some_and(|health| health.iter().any(|probe| probe["name"] == "disk")), "{node}");
    }
    assert_eq!(own(&site).await["repairs"]["stopped"], true);
    assert_eq!(site.get_job("j").await["executionState"], "queued");
    // Whoever asks again has the nodes tried again.
    site.resize("c", 1, "requeue").await;
    until("another node was tried", || nodes(&site), |now| now.len() > gone.len()).await;
}

#[tokio::test]
async fn a_node_whose_setup_fails_once_is_replaced_by_one_that_is_of_use() {
    let (server, site) = impatient().await;
    let folder = server.share().join("tries");
    std::fs::create_dir_all(&folder).expect("made");
    let command = format!("mkdir {SHARE}/tries/first 2>/dev/null && exit 3; true");
    site.put_cluster("c", &with_setup(1, &command)).await;
    let cluster = site.wait_idle("c", 1).await;
    assert_eq!(codes(&cluster), Vec::<String>::new(), "what is mended is not told any more");
    let listed = nodes(&site).await;
    let states: Vec<_> = listed.iter().map(|node| (node["state"].as_str(), node["errors"][0]["code"].as_str())).collect();
    assert_eq!(states, [(Some("Idle"), None), (Some("Gone"), Some("NodeSetupFailed"))]);
    assert_eq!(site.run("j", "c", "true", json!({})).await["executionState"], "succeeded");
}

#[tokio::test]
async fn a_node_proves_itself_before_it_takes_work() {
    let (_server, site) = impatient().await;
    site.cluster("c", 1).await;
    let node = nodes(&site).await.remove(0);
    assert_eq!(node["state"], "Idle");
    let mut passed: Vec<&str> = Vec::new();
    for probe in node["health"].as_array().expect("probes") {
        assert_eq!(probe["result"], "Passed", "{probe}");
        passed.push(probe["name"].as_str().expect("named"));
    }
    // With an engine of its own it tells what makes containers.
    let engine: &[&str] = if privileged() { &["peers", "containers"] } else { &[] };
    assert_eq!(passed, [&["disk", "memory", "clock", "shell", "mounts"], engine].concat());
    let told = node["health"].as_array().and_then(|probes| probes.iter().find(|probe| probe["name"] == "containers"));
    let runs_containers = !engine.is_empty() && std::path::Path::new("/usr/sbin/runc").exists();
    assert!(
        !runs_containers || told.is_some_and(|probe| probe["found"].as_str().is_some_and(|text| text.starts_with("runc 1.")))
    );
    site.api.get(&format!("{}/nodes", site.cluster_path("c"))).await.expect(400);
}

#[tokio::test]
async fn a_node_that_its_setup_task_spoilt_takes_no_work() {
    // Its root is the node's own only with namespaces: elsewhere that would be the host's shell.
    if !privileged() {
        return;
    }
    let (_server, site) = impatient().await;
    site.put_cluster("c", &with_setup(1, "rm -f /bin/bash /bin/sh /usr/bin/bash /usr/bin/sh")).await;
    let told = |c: &Value| codes(c).iter().any(|code| code == "NodeHealthCheckFailed");
    let cluster = until("the cluster says why", || site.get_cluster("c"), told).await;
    let message = cluster["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("shell: there is none to run commands"), "{cluster}");
}
