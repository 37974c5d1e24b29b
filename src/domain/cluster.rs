//! Clusters: nodes of one VM size and image, scaled by hand or by their queue.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::older::Older;
use crate::domain::resource::{EntityError, Live, Resource};
use crate::id::Kind;

pub use crate::domain::account::UserAccount;
pub use crate::domain::node_setup::{NodeSetup, SetupTask};

/// A cluster.
#[derive(Clone, Copy, Debug)]
pub struct Cluster;

impl Resource for Cluster {
    const KIND: Kind = Kind::Cluster;
    type Spec = ClusterSpec;
    type Status = ClusterStatus;

    fn complete(status: &mut ClusterStatus, live: &Live) {
        status.nodes = live.nodes;
    }
}

/// Most nodes that one cluster may have.
///
/// Unit: machines. Source: Batch AI service limits (100 nodes a cluster).
pub const MAX_NODES: u32 = 100;

/// What a user asks of a cluster. Secrets are not here: they are sealed in the store under the names in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// The VM size, in upper case as the service returns it.
    pub vm_size: String,
    /// Dedicated or pre-emptible machines.
    pub vm_priority: VmPriority,
    /// How many nodes, and how they go away.
    pub scale: Scale,
    /// The image of the nodes.
    pub image: ImageReference,
    /// What is done on each node before it takes jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_setup: Option<NodeSetup>,
    /// The account made on each node. (`user_account.password`)
    pub user_account: UserAccount,
    /// A subnet's id as given; kept and returned, without effect on local nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// What only older versions of the contract know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older: Option<Older>,
}

/// Whether a cluster's machines may be taken away by the cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmPriority {
    /// They stay until released.
    #[default]
    Dedicated,
    /// They are cheaper and may be pre-empted.
    LowPriority,
}

/// How many nodes a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// As many as asked for.
    Manual {
        /// Nodes the cluster is asked to converge to. Unit: whole machines; 0 means "keep none".
        target: u32,
        /// What happens to jobs on nodes that leave.
        deallocation: Deallocation,
    },
    /// As many as the jobs need, within bounds.
    Auto {
        /// Fewest nodes, whatever the jobs need. Unit: whole machines.
        minimum: u32,
        /// Most nodes. Unit: whole machines, at least `minimum`.
        maximum: u32,
        /// Nodes to begin with. Unit: whole machines, from `minimum` to `maximum` or 0. Means nothing later.
        initial: u32,
    },
}

impl Scale {
    /// Nodes that a new cluster of this scale is to have.
    pub fn first_target(self) -> u32 {
        match self {
            Scale::Manual { target, .. } => target,
            Scale::Auto { minimum, maximum, initial } => initial.max(minimum).min(maximum),
        }
    }

    /// What is recorded at first of a cluster that scales by its queue.
    pub fn first_auto(self) -> Option<AutoTarget> {
        match self {
            Scale::Manual { .. } => None,
            Scale::Auto { .. } => Some(AutoTarget { target: self.first_target(), surplus_since: None }),
        }
    }

    /// What happens to jobs on nodes that leave because the cluster is to be smaller.
    pub fn deallocation(self) -> Deallocation {
        match self {
            Scale::Manual { deallocation, .. } => deallocation,
            // No node leaves under a job that it runs: the queue counts it.
            Scale::Auto { .. } => Deallocation::WaitForJobCompletion,
        }
    }
}

/// What happens to running jobs when their node is to leave.
///
/// Source: `nodeDeallocationOption`, openapi 2018-05-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deallocation {
    /// They stop and go back to the queue.
    #[default]
    Requeue,
    /// They stop for good.
    Terminate,
    /// They finish first; no new ones start meanwhile.
    WaitForJobCompletion,
}

/// A VM image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReference {
    /// Its publisher.
    pub publisher: String,
    /// Its offer.
    pub offer: String,
    /// Its sku.
    pub sku: String,
    /// Its version, `latest` where none was given.
    pub version: String,
    /// The id of a custom image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
}

impl Default for ImageReference {
    /// Source: recorded 2018-05-01 answers to clusters without an image.
    fn default() -> Self {
        ImageReference {
            publisher: "Canonical".into(),
            offer: "UbuntuServer".into(),
            sku: "16.04-LTS".into(),
            version: "latest".into(),
            image_id: None,
        }
    }
}

/// What the service recorded about a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Whether the number of nodes is right.
    pub allocation: Allocation,
    /// When `allocation` became what it is.
    #[serde(with = "time::serde::rfc3339")]
    pub allocation_changed_at: Timestamp,
    /// What went wrong with nodes; empty when nothing is wrong now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<EntityError>,
    /// Where the cluster scales by its queue: how many nodes it is to have now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<AutoTarget>,
    /// Where nodes could not be used of late: how many in a row, and what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairs: Option<Repairs>,
    /// The subnet of the file servers that its nodes mount, where the request named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Makes the setup task's output path unique to this cluster.
    pub output_uuid: uuid::Uuid,
    /// Nodes by state. Filled in on reading, from the machines; never stored.
    #[serde(skip)]
    pub nodes: NodeCounts,
}

/// How many nodes a cluster that scales by its queue is to have now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoTarget {
    /// Unit: whole machines, within the bounds of its scale.
    pub target: u32,
    /// Since when its jobs need fewer.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub surplus_since: Option<Timestamp>,
}

/// Nodes that could not be used, one after the other: what bounds how often others are made in their place. A node that proves to be of
/// use ends the row, and so does a change of the cluster's scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Nodes so far.
    pub count: u32,
    /// When the last of them was given up.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: Timestamp,
    /// What was wrong with the latest of them, [`Repairs::KEPT`] at most: told when they are gone.
    pub problems: Vec<EntityError>,
}

impl Repairs {
    /// Problems that are kept.
    const KEPT: usize = 4;

    /// Tries beyond one for each node that the cluster is to have. With none of use among them, another would not be either.
    pub const TRIES: u32 = 3;

    /// With one more node that could not be used.
    pub fn with(before: Option<Repairs>, problem: EntityError, at: Timestamp) -> Repairs {
        let mut repairs = before.unwrap_or(Repairs { count: 0, last_at: at, problems: Vec::new() });
        repairs.count = repairs.count.saturating_add(1);
        repairs.last_at = at;
        repairs.problems.push(problem);
        let surplus = repairs.problems.len().saturating_sub(Repairs::KEPT);
        repairs.problems.drain(..surplus);
        repairs
    }

    /// Tries beyond one for each of `target` nodes.
    pub fn beyond(&self, target: u32) -> u32 {
        self.count.saturating_sub(target.max(1))
    }

    /// Whether no other node is made in place of these.
    pub fn is_spent(&self, target: u32) -> bool {
        self.beyond(target) >= Repairs::TRIES
    }
}

/// Whether the number of nodes is right. `Steady` says nothing of their readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    /// It is.
    Steady,
    /// Nodes are being added or removed.
    Resizing,
}

/// Nodes by state. Unit: machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Ready for jobs.
    pub idle: u32,
    /// Executing jobs.
    pub running: u32,
    /// Being set up.
    pub preparing: u32,
    /// Broken; they stay until removed.
    pub unusable: u32,
    /// Being removed.
    pub leaving: u32,
}

impl NodeCounts {
    /// All machines that are there.
    pub fn current(&self) -> u32 {
        self.idle + self.running + self.preparing + self.unusable + self.leaving
    }
}
