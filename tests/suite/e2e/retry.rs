//! Attempts and what is tried again, at our own version of the API and at no other.

use serde_json::{Value, json};

use super::site;
use crate::harness::{Server, Site, privileged, until};

const OWN: &str = "2026-11-01-preview";

async fn attempts(site: &Site, job: &str) -> Vec<Value> {
    let listed = site.api.get(&format!("{}/attempts?api-version={OWN}", site.job_path(job))).await.expect(200);
    listed.body["value"].as_array().expect("a list").clone()
}

async fn submit(site: &Site, job: &str, command: &str, over: Value) {
    let mut body = site.job_body("c", command);
    if let (Value::Object(into), Value::Object(from)) = (&mut body["properties"], over) {
        into.extend(from);
    }
    site.api.put(&format!("{}?api-version={OWN}", site.job_path(job)), &body).await.expect(201);
}

/// A command that counts its attempts in a file of the share.
fn counting(site: &Site, job: &str, then: &str) -> String {
    format!("f=$AZ_BATCHAI_MOUNT_ROOT/shared/count-{}-{job}; echo x >> $f; n=$(wc -l < $f); {then}", site.group)
}

#[tokio::test]
async fn what_fails_as_a_rule_says_runs_again_and_every_attempt_is_told() {
    let site = site().await;
    site.cluster("c", 1).await;
    let rules = json!([{ "exitCodes": [75], "limit": 2, "backoff": "PT1S" }]);
    submit(&site, "j", &counting(&site, "j", "echo attempt $n; [ $n = 3 ] || exit 75"), json!({ "retries": rules })).await;
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "attempt 3\n", "the outputs of the last one");
    let told = attempts(&site, "j").await;
    let shown: Vec<_> =
        told.iter().map(|a| (a["number"].as_i64(), a["cause"].as_str(), a["nodes"][0]["exitCode"].as_i64())).collect();
    assert_eq!(
        shown,
        [(Some(3), Some("Exited"), Some(0)), (Some(2), Some("Exited"), Some(75)), (Some(1), Some("Exited"), Some(75))]
    );
    for attempt in &told {
        assert!(attempt["nodes"][0]["nodeId"].as_str().is_some_and(|id| id.starts_with("tvm-")), "{attempt}");
        assert!(attempt["creationTime"].is_string() && attempt["endTime"].is_string(), "{attempt}");
    }
    let moment = |at: &Value| {
        time::OffsetDateTime::parse(at.as_str().expect("a time"), &time::format_description::well_known::Rfc3339).expect("a time")
    };
    let pause = moment(&told[1]["creationTime"]) - moment(&told[2]["endTime"]);
    assert!(pause >= time::Duration::milliseconds(900), "it backs off: {pause}");
    let pause = moment(&told[0]["creationTime"]) - moment(&told[1]["endTime"]);
    assert!(pause >= time::Duration::milliseconds(1_900), "and longer: {pause}");

    // It is shown as it was given, at this version alone.
    let own = site.api.get(&format!("{}?api-version={OWN}", site.job_path("j"))).await.expect(200);
    assert_eq!(
        own.body["properties"]["retries"],
        json!([{ "exitCodes": [75], "limit": 2, "backoff": "PT1S", "avoidNodes": false }])
    );
    let frozen = site.api.get(&site.job_path("j")).await.expect(200);
    assert!(!frozen.text.contains("retries"), "{}", frozen.text);
    site.api.get(&format!("{}/attempts", site.job_path("j"))).await.expect(400);
}

#[tokio::test]
async fn rules_are_used_up_and_frozen_requests_have_none() {
    let site = site().await;
    site.cluster("c", 1).await;
    let rules = json!([{ "exitCodes": [4], "limit": 1 }]);
    submit(&site, "j", &counting(&site, "j", "exit 4"), json!({ "retries": rules })).await;
    let job = site.ended("j").await;
    assert_eq!((&job["executionState"], &job["executionInfo"]["exitCode"]), (&json!("failed"), &json!(4)), "{job}");
    assert_eq!(attempts(&site, "j").await.len(), 2);
    // A frozen version reads no rules.
    site.run("frozen", "c", &counting(&site, "frozen", "exit 4"), json!({ "retries": rules })).await;
    assert_eq!(attempts(&site, "frozen").await.len(), 1);
    let bad = json!({ "retries": [{ "exitCodes": [4] }] });
    let mut body = site.job_body("c", "true");
    body["properties"]["retries"] = bad["retries"].clone();
    let refused = site.api.put(&format!("{}?api-version={OWN}", site.job_path("bad")), &body).await.expect(400);
    assert!(refused.text.contains("properties.retries[0].limit"), "{}", refused.text);
}

#[tokio::test]
async fn a_lost_node_costs_no_retry_and_what_ran_out_of_memory_is_tried_elsewhere() {
    if !privileged() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let mut body = Site::cluster_body(1);
    body["properties"]["vmSize"] = json!("STANDARD_A1");
    site.put_cluster("c", &body).await;
    site.wait_idle("c", 1).await;
    let hog = "python3 -c 'x = bytearray(2500 << 20); x[::4096] = b\"x\" * len(x[::4096])'";
    let command = counting(&site, "j", &format!("echo $n; case $n in 1) sleep 86400;; 2) {hog};; esac"));
    let rules = json!([{ "categories": ["OutOfMemory"], "limit": 1, "avoidNodes": true }]);
    submit(&site, "j", &command, json!({ "retries": rules })).await;
    until("it runs", || site.find_stdout("j"), |text| text == "1\n").await;
    server.kill_process(server.node_processes()[0]);
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let told = attempts(&site, "j").await;
    let causes: Vec<_> = told.iter().map(|attempt| attempt["cause"].as_str().unwrap_or_default()).collect();
    assert_eq!(causes, ["Exited", "OutOfMemory", "NodeLost"], "{told:?}");
    assert_eq!(told[2]["nodes"][0]["end"], "Lost");
    assert_eq!((&told[1]["nodes"][0]["end"], &told[1]["nodes"][0]["exitCode"]), (&json!("OutOf"), &json!(137)));
}
