//! Reconcilers: rows in, decisions as data, one commit, then the driver.
//!
//! In: the rows that are not quiet, as of one moment, and what the driver was seen to have. Out: one list of changes, applied all or
//! none under a lease, and calls of the driver that are harmless when late or repeated. Refuses to know HTTP, the wire and SQL.
//!
//! A wake-up carries no data: woken by an event or by the clock, a [`Reconciler`] reads the current rows and does the same either
//! way. Nothing is retried inside; the next pass is the retry. Each pass decides the whole: [`decide`] is pure and calls, in this
//! order, one decision for each noun:
//!
//! | noun | decides |
//! |---|---|
//! | `cluster` | which machines to ask for and which leave; whether the cluster is steady, and what is wrong with it |
//! | `cluster::machine` | what became of one machine; what the driver is asked for it |
//! | `file_server` | whether it has its one machine; what it shows of itself; when its disk goes |
//! | `job` | what an attempt does next, when it stops, what its end means for its job |
//! | `placement` | which nodes run which job |
//! | `container` | which deleted resources have nothing left and go |
//! | `stranger` | which machines no row knows |
//!
//! [`explain_job`] and its like tell why something waits, from the same decisions.
//!
//! To add one: its file, and a line in [`decide`].

mod cluster;
mod container;
mod decide;
mod draft;
mod explain;
mod file_server;
mod job;
mod lease;
mod limits;
mod memory;
mod mint;
mod placement;
mod plan;
mod runner;
mod runtime;
mod stranger;
#[cfg(test)]
mod tests;
mod world;

pub use decide::decide;
pub use explain::{Ahead, explain_cluster, explain_job, explain_node, most_nodes};
pub use limits::{Catalog, Limits};
pub use memory::{Answer, Memory, Sight};
pub use mint::{Entropy, SystemEntropy};
pub use plan::{DeleteWhy, Effect, Group, Plan, Reason};
pub use runner::{Parts, Reconciler};
pub use runtime::{Runtime, TokioRuntime};
pub use world::World;
