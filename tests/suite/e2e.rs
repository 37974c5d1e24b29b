//! Real jobs through real processes: the binary, its Postgres, nodes, agents; asked over the public API as a client would.
//!
//! The tests of this process share one installation and work each in a resource group of its own.

#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/evict.rs"]
mod evict;
#[path = "e2e/health.rs"]
mod health;
#[path = "e2e/job.rs"]
mod job;
#[path = "e2e/output.rs"]
mod output;
#[path = "e2e/retry.rs"]
mod retry;
#[path = "e2e/samples.rs"]
mod samples;
#[path = "e2e/scale.rs"]
mod scale;
#[path = "e2e/setup.rs"]
mod setup;
#[path = "e2e/unmet.rs"]
mod unmet;
#[path = "e2e/why.rs"]
mod why;

use crate::harness::{Server, Site};

/// A resource group on the installation that the tests share.
async fn site() -> Site {
    Site::new(Server::shared().api()).await
}
