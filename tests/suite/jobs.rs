//! Jobs that behave badly, through real processes: each ends with a reason, what it wrote is told as it is, and its node and the server
//! go on.
//!
//! The tests of this process share one installation and work each in a resource group of its own.

#[path = "jobs/greedy.rs"]
mod greedy;
#[path = "jobs/outputs.rs"]
mod outputs;
#[path = "jobs/stubborn.rs"]
mod stubborn;
#[path = "jobs/words.rs"]
mod words;

use serde_json::Value;

use crate::harness::{Server, Site};

/// Storage that is on no share: the server keeps what is written there.
const KEPT: &str = "$AZ_BATCHAI_JOB_TEMP";

/// A resource group on the installation that the tests share.
async fn site() -> Site {
    Site::new(Server::shared().api()).await
}

/// The code and the message of a job's first error.
fn error(job: &Value) -> (&str, &str) {
    let error = &job["executionInfo"]["errors"][0];
    (error["code"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
}

/// Asserts that the node of cluster `c` is there and runs another job.
async fn goes_on(site: &Site) {
    let job = site.run("next", "c", "echo on", serde_json::json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("next").await, "on\n");
}
