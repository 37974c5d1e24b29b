//! Clusters: how fast they grow, shrink, and follow their queue.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use crate::load::{Connection, median};
use crate::product::{Product, Site};
use crate::{Report, is_final};

/// Nodes of the clusters that are made.
const SIZES: [u32; 3] = [1, 20, 100];

/// From the PUT of a cluster until all its nodes are idle, and from the PATCH to none until none is there.
pub(crate) async fn nodes(report: &Report, product: &Product, runs: usize) -> Result<()> {
    let site = product.furnish(0).await?;
    let mut on = Connection::open(product.address).await?;
    for count in SIZES {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for run in 0..runs {
            let path = format!("{}{count}r{run}", site.cluster());
            let began = Instant::now();
            product.ask(&mut on, Method::PUT, &path, Some(&product.cluster(count))).await?;
            product.wait_for(&mut on, &path, |c| c["properties"]["nodeStateCounts"]["idleNodeCount"] == count).await?;
            up.push(began.elapsed().as_secs_f64());
            let none = json!({ "properties": { "scaleSettings": { "manual": { "targetNodeCount": 0 } } } });
            let began = Instant::now();
            product.ask(&mut on, Method::PATCH, &path, Some(&none)).await?;
            product.wait_for(&mut on, &path, is_empty).await?;
            down.push(began.elapsed().as_secs_f64());
        }
        report.line(json!({ "peer": "product", "stage": "nodes", "n": count, "up_s": median(up), "down_s": median(down) }));
    }
    product.clear(site).await
}

/// From the PUT of a job to its process, on a cluster that scales by its queue and has no node.
pub(crate) async fn autoscale(report: &Report, product: &Product, runs: usize) -> Result<()> {
    let site: Site = product.furnish(0).await?;
    let mut on = Connection::open(product.address).await?;
    let stamps = product.share().join("reactions");
    std::fs::create_dir_all(&stamps)?;
    std::fs::set_permissions(&stamps, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    let scale = |settings: Value| json!({ "properties": { "scaleSettings": settings } });
    let mut reactions = Vec::new();
    for n in 0..3 * runs {
        let auto = scale(json!({ "autoScale": { "minimumNodeCount": 0, "maximumNodeCount": 1 } }));
        product.ask(&mut on, Method::PATCH, &site.cluster(), Some(&auto)).await?;
        let command = format!("echo $EPOCHREALTIME > $AZ_BATCHAI_MOUNT_ROOT/shared/reactions/{n}");
        let path = format!("{}/a{n}", site.jobs());
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        product.ask(&mut on, Method::PUT, &path, Some(&product.job(&site, &command))).await?;
        let job = product.wait_for(&mut on, &path, is_final).await?;
        ensure!(job["properties"]["executionState"] == "succeeded", "the job failed: {job}");
        let stamp: f64 = std::fs::read_to_string(stamps.join(n.to_string()))?.trim().parse()?;
        reactions.push(Duration::from_secs_f64((stamp - wall.as_secs_f64()).max(0.0)).as_secs_f64());
        // By hand, as that does not wait until the node was idle for long enough.
        let none = scale(json!({ "manual": { "targetNodeCount": 0 } }));
        product.ask(&mut on, Method::PATCH, &site.cluster(), Some(&none)).await?;
        product.wait_for(&mut on, &site.cluster(), is_empty).await?;
    }
    report.line(json!({ "peer": "product", "stage": "autoscale", "start_s": median(reactions) }));
    product.clear(site).await
}

fn is_empty(cluster: &Value) -> bool {
    cluster["properties"]["currentNodeCount"] == 0 && cluster["properties"]["allocationState"] == "steady"
}
