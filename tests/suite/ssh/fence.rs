//! Machines that are cut off: nobody sees that they end, and no job runs twice.

use std::time::Duration;

use batchyard::domain::machine::Presence;
use batchyard::driver::Driver;
use serde_json::json;

use super::pool::{is_within, wait_within};
use super::{Pool, START, new_cluster, presence, spec};
use crate::harness::{Site, until, until_within};

/// Shorter than any that is taken from the settings.
const SHORT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_no_server_answers_ends_itself() {
    if !is_within("ssh::fence::a_node_that_no_server_answers_ends_itself") {
        return;
    }
    let pool = Pool::start(1);
    let driver = pool.driver_with(&Pool::owner(), SHORT);
    let node = spec(new_cluster());
    driver.ensure(&node).await.expect("free");
    assert_eq!(presence(&driver, &node).await, Some(Presence::Present));
    until("it has ended itself", || presence(&driver, &node), |seen| *seen == Some(Presence::Absent)).await;
    let evidence = driver.evidence(&node.name).await.expect("it says why");
    assert!(evidence.contains("no server answered for 5s: the node ends"), "{evidence}");
    driver.delete(&node.name).await.expect("deleted");
    assert_eq!(pool.remains(), Vec::<String>::new());
}

/// The shortest time of the settings, the minutes that a server waits longer, and what they are asked for before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes five minutes"]
async fn a_job_on_a_machine_that_is_cut_off_goes_to_another_once_its_node_has_ended() {
    if !is_within("ssh::fence::a_job_on_a_machine_that_is_cut_off_goes_to_another_once_its_node_has_ended") {
        return;
    }
    let pool = Pool::start(2);
    let server = pool.server_with("fence = \"60s\"\n");
    let site = Site::new(server.api()).await;
    site.put_cluster("c", &Site::cluster_body(2)).await;
    let idle = |nodes: u32| move |cluster: &serde_json::Value| cluster["nodeStateCounts"]["idleNodeCount"] == nodes;
    until_within(START, "two idle nodes", || site.get_cluster("c"), idle(2)).await;
    // Longer than a node lives without a server: it has one.
    site.submit(
        "j",
        "c",
        "hostname; sleep 75; echo well; sleep 1000",
        json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" }),
    )
    .await;
    until_within(START, "it is well after longer than that", || site.find_stdout("j"), |said| said.contains("well")).await;
    let attempts = async || {
        let path = format!("{}/attempts?api-version=2026-11-01-preview", site.job_path("j"));
        site.api.get(&path).await.expect(200).body["value"].as_array().map_or(0, Vec::len)
    };
    let busy = pool.hosts.iter().find(|host| host.runs("sleep 1000")).expect("one has it");
    busy.set_network("down");
    wait_within(START, "the node ends itself", || !busy.runs("sleep 1000"));
    assert_eq!(site.get_job("j").await["executionState"], "running", "nobody can know that yet");
    assert_eq!(attempts().await, 1);
    let other = pool.hosts.iter().find(|host| host.machine.name != busy.machine.name).expect("there are two");
    wait_within(3 * START, "the other machine has it", || other.runs("sleep 75"));
    assert_eq!(attempts().await, 2);
    busy.set_network("up");
    site.delete().await;
    assert_eq!(pool.remains(), Vec::<String>::new());
}
