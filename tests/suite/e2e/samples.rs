//! What jobs use of their nodes: measured by agents, kept when the nodes are gone, asked over the public API.

use serde_json::{Value, json};

use super::site;
use crate::harness::api::Answer;
use crate::harness::{Site, until};

const OWN: &str = "2026-11-01-preview";

/// Burns one core and holds 200 MiB for as long as it is let.
const BURN: &str = "exec python3 -c 'x = b\"x\" * (200 << 20)\nwhile True: pass'";

async fn asked(site: &Site, path: &str, more: &str) -> Answer {
    site.api.get(&format!("{path}/samples?api-version={OWN}{more}")).await
}

fn most(answer: &Value, measure: &str) -> f64 {
    let points = answer["series"][0]["points"].as_array().into_iter().flatten();
    points.filter_map(|point| point[measure]["max"].as_f64()).fold(0.0, f64::max)
}

#[tokio::test]
async fn what_a_job_used_is_told_of_it_and_of_its_node_and_stays_when_the_node_is_gone() {
    let site = site().await;
    site.cluster("c", 1).await;
    site.submit("j", "c", BURN, json!({})).await;
    site.wait_state("j", "running").await;
    let job = site.job_path("j");
    // One core, less what others of this machine take of it.
    let is_seen = |answer: &Answer| most(&answer.body, "cores") > 0.2 && most(&answer.body, "memoryInBytes") > 190e6;
    let seen = until("the job is seen to compute", || asked(&site, &job, "&step=1"), is_seen).await.expect(200).body;
    assert!(most(&seen, "cores") < 1.6 && most(&seen, "memoryInBytes") < 500e6, "{seen}");
    let node = seen["series"][0]["nodeId"].as_str().expect("its node").to_owned();
    assert_eq!((&seen["attempt"], &seen["series"][0]["rank"]), (&json!(1), &json!(0)));

    let path = format!("{}/nodes/{node}", site.cluster_path("c"));
    let of_node = asked(&site, &path, "").await.expect(200).body;
    assert!(most(&of_node, "cores") > 0.2 && of_node["series"][0].get("rank").is_none(), "{of_node}");
    assert_eq!(asked(&site, &format!("{}/nodes/tvm-none", site.cluster_path("c")), "").await.expect(404).code(), "NodeNotFound");

    site.api.post(&format!("{job}/terminate")).await.expect(202);
    site.ended("j").await;
    site.api.delete(&site.cluster_path("c")).await.expect(202);
    let cluster = site.cluster_path("c");
    until("the cluster is gone", || site.api.get(&cluster), |answer| answer.status == 404).await;
    let after = asked(&site, &job, "&attempt=1").await.expect(200).body;
    assert!(most(&after, "cores") > 0.2 && after["series"][0]["nodeId"] == json!(node), "{after}");
    let whole = asked(&site, &job, "&step=86400").await.expect(200).body;
    assert_eq!(whole["series"][0]["points"].as_array().map(Vec::len), Some(1), "{whole}");
    assert!(
        whole["series"][0]["points"][0]["cores"]["mean"].as_f64() <= whole["series"][0]["points"][0]["cores"]["max"].as_f64()
    );
    assert_eq!(asked(&site, &job, "&attempt=2").await.expect(200).body["series"], json!([]));

    for wrong in ["&step=0", "&from=yesterday", "&attempt=x"] {
        assert_eq!(asked(&site, &job, wrong).await.expect(400).code(), "InvalidQueryParameterValue", "{wrong}");
    }
    assert_eq!(asked(&site, &site.job_path("none"), "").await.expect(404).code(), "JobNotFound");
    site.api.get(&format!("{job}/samples")).await.expect(400);
}
