//! The setup task of a cluster's nodes.

use serde_json::json;

use super::site;
use crate::harness::site::SHARE;
use crate::harness::{Server, Site, until};

pub(super) fn with_setup(nodes: u32, command: &str) -> serde_json::Value {
    let mut body = Site::cluster_body(nodes);
    body["properties"]["nodeSetup"] = json!({ "setupTask": {
        "commandLine": command,
        "stdOutErrPathPrefix": SHARE,
        "environmentVariables": [{ "name": "MODE", "value": "fast" }],
        "secrets": [{ "name": "TOKEN", "value": "hidden-canary" }] } });
    body
}

#[tokio::test]
async fn the_setup_task_runs_as_root_on_each_node_before_any_job() {
    let site = site().await;
    let command = "id -u; echo $MODE ${#TOKEN}; echo set-up > /opt/note 2>/dev/null || echo set-up > $AZ_BATCHAI_MOUNT_ROOT/note";
    site.put_cluster("c", &with_setup(2, command)).await;
    site.wait_idle("c", 2).await;
    let cluster = site.api.get(&site.cluster_path("c")).await.expect(200);
    assert!(!cluster.text.contains("hidden-canary"), "{}", cluster.text);
    let task = &cluster.body["properties"]["nodeSetup"]["setupTask"];
    assert_eq!(task["secrets"], json!([{ "name": "TOKEN" }]));
    let suffix = task["stdOutErrPathSuffix"].as_str().expect("is there");
    assert!(suffix.contains(&format!("/{}/workspaces/w/clusters/c/", site.group)), "{suffix}");
    let folder = Server::shared().share().join(suffix);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let stdouts: Vec<&String> = names.iter().filter(|name| name.starts_with("stdout-")).collect();
    assert_eq!(stdouts.len(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("stderr-")).count(), 2, "{names:?}");
    for name in stdouts {
        let text = std::fs::read_to_string(folder.join(name)).expect("reads");
        let user = if rustix::process::geteuid().is_root() { "0" } else { text.lines().next().unwrap_or_default() };
        assert_eq!(text, format!("{user}\nfast 13\n"));
    }
    let job = site.run("j", "c", "cat /opt/note || cat $AZ_BATCHAI_MOUNT_ROOT/note", json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "set-up\n");
}

#[tokio::test]
async fn a_failing_setup_task_makes_the_node_unusable_and_says_why() {
    let site = site().await;
    site.put_cluster("c", &with_setup(1, "echo oh no >&2; exit 7")).await;
    let cluster = until(
        "the node is unusable",
        || site.get_cluster("c"),
        |cluster| cluster["nodeStateCounts"]["unusableNodeCount"] == 1 && cluster["errors"].is_array(),
    )
    .await;
    let error = &cluster["errors"][0];
    assert!(error["code"].as_str().is_some_and(|code| code.contains("Setup")), "{error}");
    let detail = |name: &str| {
        let details = error["details"].as_array().expect("details");
        details.iter().find(|d| d["name"] == name).map(|d| d["value"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(detail("exitCode").as_deref(), Some("7"), "{error}");
    assert!(detail("nodeId").is_some_and(|id| id.starts_with("tvm-")), "{error}");
    site.submit("j", "c", "true", json!({})).await;
    site.resize("c", 0, "requeue").await;
    let empty = site.wait_idle("c", 0).await;
    assert!(empty.get("errors").is_none(), "errors go with their node: {empty}");
    assert_eq!(site.get_job("j").await["executionState"], "queued");
}
