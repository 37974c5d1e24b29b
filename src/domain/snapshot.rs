//! What reconcilers read in one pass and what they write in one commit.
//!
//! A [`Snapshot`] is rows as of one moment; a [`Change`] is data: the store, and the model store of the simulation, apply a list
//! of them in one transaction, each only if the revision it was decided from still stands.

use crate::clock::Timestamp;
use crate::domain::attempt::{Assignment, Attempt, End, Stop};
use crate::domain::cluster::{Allocation, AutoTarget, ClusterSpec, ClusterStatus, Deallocation, Repairs};
use crate::domain::file_server::{FileServerSpec, FileServerStatus, MountSettings};
use crate::domain::job::{JobStatus, Phase};
use crate::domain::machine::{Machine, MachineSpec};
use crate::domain::operation::Verb;
use crate::domain::resource::{EntityError, Provisioning};
use crate::domain::retry::RetryRule;
use crate::id::{AttemptUid, Kind, MachineUid, ResourceUid};

/// Rows as of one moment: everything that is not quiet.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All clusters, also those being deleted.
    pub clusters: Vec<ClusterRow>,
    /// All file servers, also those being deleted.
    pub file_servers: Vec<FileServerRow>,
    /// All machines that are not gone.
    pub machines: Vec<Machine>,
    /// All attempts that have not ended, with their assignments.
    pub attempts: Vec<Attempt>,
    /// Jobs of those attempts, all that are terminating, and the queued jobs that come first of each cluster, of those being
    /// deleted too, and of no cluster. In the order in which they go.
    pub jobs: Vec<JobRow>,
    /// Containers (groups, workspaces, experiments) and jobs that are being deleted.
    pub deleting: Vec<DeletingRow>,
    /// File servers whose row cannot be read: nothing is done to them, and their disks are no strangers.
    pub unreadable_servers: Vec<ResourceUid>,
    /// Machines that are not gone but whose row cannot be read: nothing is done to them, and they are no strangers.
    pub unreadable: Vec<UnreadableMachine>,
}

/// A machine whose row exists and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableMachine {
    /// Its name at the driver.
    pub name: String,
    /// The cluster or file server that it belongs to.
    pub cluster: ResourceUid,
}

/// A file server as reconcilers read it.
#[derive(Clone, Debug)]
pub struct FileServerRow {
    /// Its identity.
    pub uid: ResourceUid,
    /// What was asked for.
    pub spec: FileServerSpec,
    /// What was recorded.
    pub status: FileServerStatus,
    /// Making or unmaking.
    pub provisioning: Provisioning,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The greatest ordinal that any of its machines ever had.
    pub last_ordinal: i32,
    /// Counts changes of the row; writes check it.
    pub revision: i64,
}

/// A cluster as reconcilers read it.
#[derive(Clone, Debug)]
pub struct ClusterRow {
    /// Its identity.
    pub uid: ResourceUid,
    /// Its canonical path.
    pub path: String,
    /// Its region.
    pub location: String,
    /// What was asked for.
    pub spec: ClusterSpec,
    /// What was recorded.
    pub status: ClusterStatus,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The greatest ordinal that any of its machines ever had.
    pub last_ordinal: i32,
    /// Counts changes of the row; writes check it.
    pub revision: i64,
}

impl ClusterRow {
    /// What quotas are counted for: the subscription, which its path names second, and the region.
    pub fn account(&self) -> (&str, &str) {
        (self.path.split('/').nth(2).unwrap_or_default(), &self.location)
    }
}

/// A job as reconcilers read it.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its identity.
    pub uid: ResourceUid,
    /// Its canonical path.
    pub path: String,
    /// The cluster that it runs on; `None` once that is gone.
    pub cluster: Option<ResourceUid>,
    /// Greater goes first.
    pub rank: i16,
    /// Older goes first.
    pub created_at: Timestamp,
    /// Nodes that it needs.
    pub node_count: u32,
    /// Parts of an attempt, from the first, that decide how it ends; at least 1.
    pub leaders: u32,
    /// Longest time that it may run. Unit: whole seconds.
    pub max_wall_clock_s: u64,
    /// What of its failures is tried again.
    pub retries: Vec<RetryRule>,
    /// What was recorded.
    pub status: JobStatus,
    /// Attempts made so far.
    pub attempts: i32,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Counts changes of the row; writes check it.
    pub revision: i64,
}

/// A container or job that is being deleted.
#[derive(Clone, Debug)]
pub struct DeletingRow {
    /// Its identity.
    pub uid: ResourceUid,
    /// What it is. Clusters and file servers are not listed here but in [`Snapshot::clusters`] and [`Snapshot::file_servers`].
    pub kind: Kind,
    /// Its canonical path.
    pub path: String,
    /// Resources whose parent it is and that still exist.
    pub children: u32,
    /// For a job: whether an attempt of it has not ended.
    pub active: bool,
    /// Counts changes of the row; writes check it.
    pub revision: i64,
}

/// One row written, if its revision still stands. A list of changes is applied in one transaction, all or none, in its order.
///
/// A change counts up the revision of the row that it names, and a check sees what earlier changes of the list wrote; a list
/// holds at most one change that checks a given row. What else a change touches it does not check but counts: `Place` takes and
/// `EndAttempt` frees machines, so that a list may end one attempt and give its nodes away; the changes of a machine come before
/// those of the attempt that has it. `LosePart` counts up nothing. A report that moves a part counts up its attempt.
#[derive(Clone, Debug)]
pub enum Change {
    /// A machine's row is made, before any driver is asked. Checks the cluster's or file server's revision and counts up nothing: a
    /// list may ask for many.
    AskMachine {
        /// The cluster's or file server's revision it was decided from.
        cluster_revision: i64,
        /// What will be asked of the driver.
        spec: MachineSpec,
        /// Counts the machines of the cluster or file server.
        ordinal: i32,
        /// When.
        at: Timestamp,
    },
    /// The driver confirmed a machine.
    MachinePresent {
        /// Which.
        uid: MachineUid,
        /// The revision it was decided from.
        revision: i64,
        /// Its address among its cluster's nodes.
        address: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The driver refused or failed to make a machine.
    MachineNotMade {
        /// Which.
        uid: MachineUid,
        /// The revision it was decided from.
        revision: i64,
        /// What it said.
        problem: EntityError,
        /// Not asked again before this.
        retry_at: Timestamp,
    },
    /// The node's setup ended well: it takes jobs. What was wrong with it is forgotten.
    MachineReady {
        /// Which.
        uid: MachineUid,
        /// The revision it was decided from.
        revision: i64,
        /// When.
        at: Timestamp,
    },
    /// The node's setup failed.
    MachineUnusable {
        /// Which.
        uid: MachineUid,
        /// The revision it was decided from.
        revision: i64,
        /// Why.
        problem: EntityError,
        /// When.
        at: Timestamp,
    },
    /// A machine is to go. Applies to one that is leaving too: then only what happens to its job, and when it is taken, change.
    MachineLeaving {
        /// Which.
        uid: MachineUid,
        /// The revision it was decided from.
        revision: i64,
        /// What happens to its job.
        deallocation: Deallocation,
        /// When the cloud takes it, if that is why.
        evict_at: Option<Timestamp>,
        /// When.
        at: Timestamp,
    },
    /// The driver surely no longer has a machine.
    MachineGone {
        /// Which.
        uid: MachineUid,
        /// The revision it was decided from.
        revision: i64,
        /// When.
        at: Timestamp,
    },
    /// A job gets its nodes: the attempt with all its assignments is made, the machines are taken, the job runs. Stale where one of
    /// the machines is not ready or has an attempt.
    Place {
        /// The attempt; `Placed`, or `Released` at once where it has one node.
        attempt: Attempt,
        /// The job's revision it was decided from.
        job_revision: i64,
        /// The job's status from now on.
        status: JobStatus,
    },
    /// All parts are ready: the attempt's processes may start.
    Release {
        /// Which.
        uid: AttemptUid,
        /// The revision it was decided from.
        revision: i64,
        /// When.
        at: Timestamp,
    },
    /// An attempt is to stop.
    StopAttempt {
        /// Which.
        uid: AttemptUid,
        /// The revision it was decided from.
        revision: i64,
        /// Why.
        why: Stop,
    },
    /// A part is known to be dead without its agent's word. Stale where it has ended meanwhile.
    LosePart {
        /// The attempt.
        attempt: AttemptUid,
        /// The part.
        assignment: Assignment,
        /// How it ended.
        end: End,
    },
    /// Nothing of an attempt runs any more: its machines are free.
    EndAttempt {
        /// Which.
        uid: AttemptUid,
        /// The revision it was decided from.
        revision: i64,
        /// A short stable word: `exited`, `preparation_failed`, `setup_failed`, `terminated`, `timeout`, `requeued`, `node_lost`, ...
        cause: String,
        /// When.
        at: Timestamp,
    },
    /// A job's status changes: it ends, goes back to the queue, or terminates.
    JobStatus {
        /// Which.
        uid: ResourceUid,
        /// The revision it was decided from.
        revision: i64,
        /// The status from now on.
        status: JobStatus,
        /// Why, for the record.
        why: String,
    },
    /// A cluster's allocation state or errors change.
    ClusterStatus {
        /// Which.
        uid: ResourceUid,
        /// The revision it was decided from.
        revision: i64,
        /// The state from now on.
        allocation: Allocation,
        /// When it became so.
        changed_at: Timestamp,
        /// The errors from now on.
        errors: Vec<EntityError>,
        /// What is recorded from now on where the cluster scales by its queue.
        auto: Option<AutoTarget>,
        /// What is recorded from now on of nodes that could not be used.
        repairs: Option<Repairs>,
    },
    /// A file server is made, found elsewhere, or cannot be made; operations that made it end with the first or the last.
    FileServerStatus {
        /// Which.
        uid: ResourceUid,
        /// The revision it was decided from.
        revision: i64,
        /// How it is mounted, or why it cannot be made.
        made: Result<MountSettings, EntityError>,
        /// When.
        at: Timestamp,
    },
    /// The operations of a kind that run on a resource have done what they promised.
    FinishOperations {
        /// The resource.
        resource: ResourceUid,
        /// Which operations.
        verb: Verb,
        /// When.
        at: Timestamp,
    },
    /// A resource that is being deleted, and has nothing left, goes; all its operations end with it.
    Remove {
        /// Which.
        uid: ResourceUid,
        /// The revision it was decided from.
        revision: i64,
        /// When.
        at: Timestamp,
    },
}

/// A job's phase change that follows from its status alone.
pub fn is_active(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Terminating)
}
