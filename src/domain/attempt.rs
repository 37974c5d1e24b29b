//! One attempt to run a job, and its part on each node.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::resource::EntityError;
use crate::id::{AttemptUid, MachineUid, ResourceUid};

/// One attempt to run a job on a gang of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its identity; never used twice.
    pub uid: AttemptUid,
    /// The job.
    pub job: ResourceUid,
    /// Counts the attempts of the job, from 1.
    pub number: i32,
    /// How far it is.
    pub state: AttemptState,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When all its nodes were ready and it was let go.
    pub released_at: Option<Timestamp>,
    /// Why it is to stop, if it is. Set once.
    pub stop: Option<Stop>,
    /// Its parts, by rank; rank 0 leads.
    pub assignments: Vec<Assignment>,
    /// Counts changes of the row and of its parts; writes check it.
    pub revision: i64,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// It has its nodes; they prepare.
    Placed,
    /// All nodes were ready: its processes may start.
    Released,
    /// Nothing of it runs any more. Final.
    Ended,
}

impl AttemptState {
    /// The state as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptState::Placed => "placed",
            AttemptState::Released => "released",
            AttemptState::Ended => "ended",
        }
    }

    /// The state that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<AttemptState> {
        use AttemptState::*;
        [Placed, Released, Ended].into_iter().find(|s| s.as_str() == text)
    }
}

/// Why an attempt is made to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// A user terminated the job.
    Terminate,
    /// The job, or what holds it, is being deleted.
    Delete,
    /// The job ran for as long as it may.
    Timeout,
    /// A node is to leave, and the job goes back to the queue.
    Requeue,
    /// A node is to leave, and the job ends with it.
    NodeRemoved,
    /// The cluster is being deleted.
    ClusterDeleted,
    /// A part of the gang failed or ended; the others have nothing left to do.
    Gang,
    /// The cloud takes a node away; the job goes back to the queue.
    Preempted,
}

impl Stop {
    /// The reason as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stop::Terminate => "terminate",
            Stop::Delete => "delete",
            Stop::Timeout => "timeout",
            Stop::Requeue => "requeue",
            Stop::NodeRemoved => "node_removed",
            Stop::ClusterDeleted => "cluster_deleted",
            Stop::Gang => "gang",
            Stop::Preempted => "preempted",
        }
    }

    /// The reason that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Stop> {
        use Stop::*;
        [Terminate, Delete, Timeout, Requeue, NodeRemoved, ClusterDeleted, Gang, Preempted]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// An attempt's part on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The node.
    pub machine: MachineUid,
    /// Its place in the gang, from 0.
    pub rank: i32,
    /// How far it is, as the node's agent reported.
    pub state: AssignmentState,
    /// How it ended, once it did.
    pub end: Option<End>,
    /// When its agent says that the processes started.
    pub started_at: Option<Timestamp>,
    /// When its agent says that it was known how it ends.
    pub ended_at: Option<Timestamp>,
}

/// How far a part is, as its node's agent reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// The agent has not said that it knows.
    Assigned,
    /// Directories are there and the job preparation ended well.
    Ready,
    /// Released; the command, if this rank has one, has started.
    Running,
    /// Nothing of it runs any more, and all its output is with the server. Final.
    Ended,
}

impl AssignmentState {
    /// The state as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            AssignmentState::Assigned => "assigned",
            AssignmentState::Ready => "ready",
            AssignmentState::Running => "running",
            AssignmentState::Ended => "ended",
        }
    }

    /// The state that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<AssignmentState> {
        use AssignmentState::*;
        [Assigned, Ready, Running, Ended].into_iter().find(|s| s.as_str() == text)
    }
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The command ended by itself. A signal shows as 128 + its number, as a shell shows it.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// The job preparation ended with another code than 0; the command was not started.
    PreparationFailed {
        /// Its exit code.
        code: i32,
    },
    /// It used up what its node has for it, and was ended, or ended itself, for that.
    OutOf {
        /// Of what there was no more.
        what: Scarce,
        /// The exit code that followed from it.
        code: i32,
    },
    /// It was stopped because the attempt was to stop.
    Stopped,
    /// It could not be set up: a fault of the job's spec or of the node, told in `error`.
    SetupFailed {
        /// What went wrong.
        error: EntityError,
    },
    /// The platform lost it: the supervisor or the node is gone. `why` says how that is known.
    Lost {
        /// The proof of death.
        why: String,
    },
}

/// What a node has only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scarce {
    /// Memory: the kernel ended a process of the job.
    Memory,
    /// Room on a disk that the node's jobs write to.
    Disk,
}

impl Scarce {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Scarce::Memory => "memory",
            Scarce::Disk => "disk space",
        }
    }
}

/// An attempt as it is shown: what happened, where and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Counts the attempts of the job, from 1.
    pub number: i32,
    /// How far it is.
    pub state: AttemptState,
    /// Why it ended: a short stable word.
    pub cause: Option<String>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When its processes were let go.
    pub released_at: Option<Timestamp>,
    /// When nothing of it ran any more.
    pub ended_at: Option<Timestamp>,
    /// Its parts, by rank.
    pub parts: Vec<HistoryPart>,
}

/// A part of an attempt as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPart {
    /// The node; `None` for one that was gone before nodes were kept by name.
    pub node_id: Option<String>,
    /// Its place in the gang, from 0.
    pub rank: i32,
    /// How far it is.
    pub state: AssignmentState,
    /// When its processes started, on the node's clock.
    pub started_at: Option<Timestamp>,
    /// When it was known how it ends, on the node's clock.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<End>,
}
