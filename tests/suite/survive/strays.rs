//! Kills of the server at any point of making, resizing and deleting clusters: no machine stays without a row, and none is missing.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::harness::{Server, Site, privileged, until};

/// Kills in one run. The part `heavy-strays` of `script/test` has 200, which is the proof; each push makes do with fewer.
#[allow(clippy::disallowed_methods)] // tests are told by the environment how far to go
fn crashes() -> u32 {
    std::env::var("BATCHYARD_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// Longest time from a request to the kill: a cluster is made, or is gone, in less.
const WITHIN_MS: u64 = 400;

#[tokio::test]
async fn a_server_killed_anywhere_leaves_no_stray_and_misses_no_machine() {
    if !privileged() {
        return;
    }
    let mut server = Server::up();
    let mut site = Site::new(server.api()).await;
    site.put_cluster("kept", &Site::cluster_body(2)).await;
    let (began, mut halfway) = (Instant::now(), 0);
    for round in 0..crashes() {
        let passing = format!("passing{}", round / 3);
        match round % 3 {
            0 => drop(site.api.put(&site.cluster_path(&passing), &Site::cluster_body(3)).await.expect(202)),
            1 => site.resize(&passing, 1, "requeue").await,
            _ => drop(site.api.delete(&site.cluster_path(&passing)).await.expect(202)),
        }
        site.resize("kept", 1 + round % 3, "requeue").await;
        // Anywhere in what follows; where that is does not repeat.
        let pause = rand::rng().random_range(0..WITHIN_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.kill();
        // As many as were asked for, or it died on the way there.
        let asked = 1 + round % 3 + [3, 1, 0][round as usize % 3];
        halfway += u32::from(server.node_processes().len() != asked as usize);
        server.restart();
        site.api = server.api();
    }
    site.resize("kept", 2, "requeue").await;
    for cluster in 0..=crashes() / 3 {
        let path = site.cluster_path(&format!("passing{cluster}"));
        let answer = site.api.delete(&path).await;
        assert!(answer.status.is_success(), "{}", answer.text);
        until("the cluster is gone", || site.api.get(&path), |answer| answer.status == 404).await;
    }
    site.wait_idle("kept", 2).await;
    let folders = |server: &Server| server.remains().iter().filter(|line| line.contains("/nodes/nodes/")).count();
    until("machines are as many as rows", || async { (server.node_processes().len(), folders(&server)) }, |found| found.0 == 2)
        .await;
    site.delete().await;
    until("nothing is left", || async { server.remains() }, Vec::is_empty).await;
    println!(
        "{} kills in {:?}, {halfway} of them while machines came or went: no stray, none missing",
        crashes(),
        began.elapsed()
    );
}
