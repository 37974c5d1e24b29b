//! Mounts that cannot be: the documented codes, with command, exit code and what the program said, in time, and never with a secret.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{container, put_cluster, share, shared};
use crate::harness::{Site, until};

/// Waits until the cluster's node is unusable. Answers the errors.
pub(super) async fn unusable(site: &Site) -> Value {
    let cluster = until(
        "an unusable node",
        || site.get_cluster("c"),
        |cluster| cluster["nodeStateCounts"]["unusableNodeCount"] == 1 && cluster["errors"].is_array(),
    )
    .await;
    cluster["errors"].clone()
}

fn detail(error: &Value, name: &str) -> String {
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let found = details.iter().find(|detail| detail["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {error}"))["value"].as_str().expect("text").to_owned()
}

const WRONG: &str = "d3JvbmctY2FuYXJ5LXdyb25nLWNhbmFyeS13cm9uZy1jYW5hcnktd3JvbmctY2FuYXJ5LXdyb25nLWNhbmFyeQ==";

#[tokio::test]
async fn a_wrong_key_fails_the_node_and_is_nowhere_to_be_read() {
    let Some((yard, site)) = shared().await else { return };
    let mut wrong = share(yard.storage, "share5", "afs");
    wrong["credentials"]["accountKey"] = json!(WRONG);
    put_cluster(&site, 1, json!({ "azureFileShares": [wrong] })).await;
    let errors = unusable(&site).await;
    let error = &errors[0];
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some("AZFMountError"), Some("Unable to mount Azure File")),
        "{error}"
    );
    assert_eq!(detail(error, "Info"), "Could not mount Azure File Share //127.0.0.1/share5 at afs");
    assert!(detail(error, "Command").starts_with("rclone lsf store:share5 "), "{error}");
    assert_eq!(detail(error, "ExitCode"), "1");
    assert!(detail(error, "StdErr").to_lowercase().contains("logon"), "{error}");
    assert!(detail(error, "nodeId").starts_with("tvm-"));
    let log = yard.server.log();
    let nodes: String = std::fs::read_dir(yard.server.dir().join("data/nodes/nodes"))
        .expect("readable")
        .flatten()
        .map(|entry| std::fs::read_to_string(entry.path().join("log")).unwrap_or_default())
        .collect();
    for (what, text) in [("the error", error.to_string()), ("the server's log", log), ("the nodes' logs", nodes)] {
        assert!(!text.contains("d3JvbmctY2FuYXJ5") && !text.contains(&yard.storage.key), "{what} has the key");
    }
}

#[tokio::test]
async fn a_container_that_is_not_there_or_not_ours_fails_the_job_and_the_node_goes_on() {
    let Some((yard, site)) = shared().await else { return };
    yard.storage.make_container("present").await;
    site.cluster("c", 1).await;
    let mut wrong = container(yard.storage, "present", "bfs");
    wrong["credentials"]["accountKey"] = json!(WRONG);
    for (name, mount, said) in
        [("absent", container(yard.storage, "nowhere", "bfs"), "directory not found"), ("wrong", wrong, "AuthorizationFailure")]
    {
        let over = json!({ "mountVolumes": { "azureBlobFileSystems": [mount] } });
        let job = site.run(name, "c", "echo never", over).await;
        assert_eq!(job["executionState"], "failed", "{job}");
        let error = &job["executionInfo"]["errors"][0];
        assert_eq!(error["code"], "BFSMountError", "{error}");
        assert_eq!(error["message"], "unable to mount blob fuse file system", "{error}");
        assert!(detail(error, "StdErr").contains(said), "{error}");
        assert!(!error.to_string().contains(WRONG) && !error.to_string().contains("sig="), "{error}");
        assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
    }
    let unknown = json!({ "mountVolumes": { "azureFileShares": [{
        "accountName": "stranger", "azureFileUrl": "https://127.0.0.1/share", "credentials": { "accountKey": WRONG },
        "relativeMountPath": "afs" }] } });
    let job = site.run("unknown", "c", "echo never", unknown).await;
    let error = &job["executionInfo"]["errors"][0];
    assert_eq!(error["code"], "AZFMountError", "{job}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("'127.0.0.1' is not where the shares")), "{error}");
    let command = json!({ "mountVolumes": { "unmanagedFileSystems": [
        { "mountCommand": "echo no such thing >&2; exit 32 #", "relativeMountPath": "u" }] } });
    let job = site.run("command", "c", "echo never", command).await;
    let error = &job["executionInfo"]["errors"][0];
    assert_eq!((error["code"].as_str(), detail(error, "ExitCode").as_str()), (Some("UnmanagedMountError"), "32"), "{job}");
    assert_eq!(detail(error, "StdErr"), "no such thing");
    assert_eq!(site.run("next", "c", "true", json!({})).await["executionState"], "succeeded");
}

#[tokio::test]
async fn storage_that_is_away_or_silent_fails_in_time() {
    let Some((yard, site)) = shared().await else { return };
    site.cluster("c", 1).await;
    let at = |account: &str| {
        let mut mount = share(yard.storage, "share5", "afs");
        mount["accountName"] = json!(account);
        mount["azureFileUrl"] = json!(format!("https://{account}.file.core.windows.net/share5"));
        json!({ "mountVolumes": { "azureFileShares": [mount] } })
    };
    let job = site.run("away", "c", "echo never", at("away")).await;
    let error = &job["executionInfo"]["errors"][0];
    assert_eq!(error["code"], "AZFMountError", "{job}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("refused")), "{error}");
    let began = Instant::now();
    let job = site.run("silent", "c", "echo never", at("silent")).await;
    let error = &job["executionInfo"]["errors"][0];
    assert_eq!(error["code"], "AZFMountError", "{job}");
    assert!(error["message"].as_str().is_some_and(|text| text.ends_with(": it was not mounted in time")), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // The agent was there all the time, and a job that is stopped while its mount hangs is stopped.
    site.submit("stopped", "c", "echo never", at("silent")).await;
    site.wait_state("stopped", "running").await;
    let accepted = site.api.post(&format!("{}/terminate", site.job_path("stopped"))).await.expect(202);
    site.api.finish(accepted).await;
    let job = site.ended("stopped").await;
    assert_eq!(job["executionInfo"]["errors"][0]["code"], "JobTerminated", "{job}");
    assert_eq!(site.run("next", "c", "true", json!({})).await["executionState"], "succeeded");
}
