//! What one pass decided, as data: changes in groups, calls of the driver, when to look again, and why.

use std::fmt;

use crate::clock::Timestamp;
use crate::domain::machine::MachineSpec;
use crate::domain::snapshot::Change;
use crate::id::{AttemptUid, MachineUid, ResourceUid};

/// What one pass decided.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Changes, in the order in which they are applied. A group may depend on those before it: any first part of the list may be
    /// applied alone, cut between groups.
    pub groups: Vec<Group>,
    /// What the driver is asked, each from a row that was committed when the plan was made.
    pub effects: Vec<Effect>,
    /// Whether more can be decided as soon as this is written. Where it is wrong, the next tick finds what is missing.
    pub goes_on: bool,
    /// When time alone changes what would be decided, if it does.
    pub look_again: Option<Timestamp>,
    /// Whether a node was left free: a job that is submitted from now on may go there.
    pub takes_jobs: bool,
    /// Clusters that lost a machine which nobody had asked to go, once for each machine: the budget of repairs counts them.
    pub losses: Vec<ResourceUid>,
    /// Why things wait.
    pub reasons: Vec<Reason>,
}

impl Plan {
    /// Whether there is nothing to write and nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.effects.is_empty()
    }

    /// All changes, in order.
    pub fn changes(&self) -> Vec<Change> {
        self.groups.iter().flat_map(|group| group.changes.iter().cloned()).collect()
    }
}

/// Changes that belong together: all of them or none.
#[derive(Clone, Debug)]
pub struct Group {
    /// The cluster, job or container that they are about: what is put aside where they cannot be written.
    pub about: ResourceUid,
    /// The changes, at least one.
    pub changes: Vec<Change>,
}

/// A call of the driver.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The machine should exist.
    Ensure(Box<MachineSpec>),
    /// What the machine wrote last is of use: its agent does not come home.
    Explain {
        /// Its identity, which is in its name.
        uid: MachineUid,
        /// Its name.
        name: String,
    },
    /// The machine should not exist.
    Delete {
        /// Its identity, which is in its name.
        uid: MachineUid,
        /// Its name.
        name: String,
        /// What allows it.
        why: DeleteWhy,
    },
}

/// What allows a machine to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteWhy {
    /// Its committed row says that it is to go, and nothing of a job is left on it.
    Leaving,
    /// Its committed row says that it is to go; its job was told to stop and did not in time. The delete is the proof of death.
    WouldNotStop,
    /// Its committed row says that it is taken away by now. The delete is the proof of death.
    Evicted,
    /// It is the disk of a file server whose committed row says that it is to go, and that has no machine any more.
    Disk,
    /// Two complete listings, a grace apart, showed it, and no row knows it.
    Stranger,
}

impl Effect {
    /// The machine that it is about.
    pub fn uid(&self) -> MachineUid {
        match self {
            Effect::Ensure(spec) => spec.uid,
            Effect::Delete { uid, .. } | Effect::Explain { uid, .. } => *uid,
        }
    }
}

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The first job of a cluster's queue waits for nodes, and all behind it wait for it.
    NodesWanted {
        /// The first job.
        job: ResourceUid,
        /// Nodes that it needs.
        needed: u32,
        /// Nodes that are free.
        free: u32,
        /// Nodes that the cluster is asked to have.
        target: u32,
    },
    /// A job needs more nodes than its cluster, which scales by its queue, can ever have.
    TooLarge {
        /// The job.
        job: ResourceUid,
        /// Nodes that it needs.
        needed: u32,
        /// Most nodes of the cluster.
        most: u32,
    },
    /// A cluster loses machines so often that new ones are made with pauses.
    RepairPaused {
        /// The cluster.
        cluster: ResourceUid,
        /// When the next machine is asked for.
        until: Timestamp,
    },
    /// So many nodes of a cluster in a row could not be used that no other is made until its scale is changed.
    RepairStopped {
        /// The cluster.
        cluster: ResourceUid,
        /// Nodes in a row.
        count: u32,
    },
    /// A cluster is to have more nodes than a quota of cores leaves.
    OverQuota {
        /// The cluster.
        cluster: ResourceUid,
        /// What the quota is for: a family of VM sizes, or all.
        quota: &'static str,
        /// Most cores.
        limit: u32,
        /// Cores that the quota leaves for it.
        left: u32,
        /// Nodes that are missing, with those that the quota leaves.
        missing: u32,
    },
    /// The driver does not offer the cluster's VM size.
    SizeUnknown {
        /// The cluster.
        cluster: ResourceUid,
        /// The size.
        size: String,
    },
    /// A machine to leave waits for its job.
    LeavesAfterJob {
        /// The machine.
        machine: MachineUid,
    },
    /// A job waits for the time of the next attempt that its rules give it.
    BacksOff {
        /// The job.
        job: ResourceUid,
        /// When that is.
        until: Timestamp,
    },
    /// An attempt waits until all its nodes are ready.
    GangPreparing {
        /// The attempt.
        attempt: AttemptUid,
        /// Nodes that are ready.
        ready: usize,
        /// All its nodes.
        of: usize,
    },
    /// A node of an attempt is not seen: its part is given up once the node has surely ended itself.
    Unseen {
        /// The attempt.
        attempt: AttemptUid,
        /// The node's machine.
        machine: MachineUid,
        /// When that is.
        until: Timestamp,
    },
    /// An attempt was told to stop and has parts that did not say so.
    Stopping {
        /// The attempt.
        attempt: AttemptUid,
    },
    /// A resource is put aside after failures that only it had.
    PutAside {
        /// The resource.
        about: ResourceUid,
    },
    /// A decision about one resource panicked; the others went on.
    Panicked {
        /// The resource.
        about: ResourceUid,
    },
}

/// The cause of each reason, in one word: what is counted is what there is.
macro_rules! causes {
    ($($reason:ident => $word:literal,)*) => {
        impl Reason {
            /// All causes, in one word each.
            pub const CAUSES: &'static [&'static str] = &[$($word),*];

            /// Its cause.
            pub fn cause(&self) -> &'static str {
                match self {
                    $(Reason::$reason { .. } => $word,)*
                }
            }
        }
    };
}

causes! {
    NodesWanted => "nodes",
    TooLarge => "too_large",
    RepairPaused => "repair_paused",
    RepairStopped => "repair_stopped",
    OverQuota => "over_quota",
    SizeUnknown => "size_unknown",
    LeavesAfterJob => "leaves_after_job",
    BacksOff => "backs_off",
    GangPreparing => "gang_preparing",
    Stopping => "stopping",
    Unseen => "unseen",
    PutAside => "put_aside",
    Panicked => "panicked",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NodesWanted { job, needed, free, target } => write!(
                f,
                "job {job} needs {needed} nodes; {free} are free of the {target} that its cluster is to have; all behind it wait"
            ),
            Reason::TooLarge { job, needed, most } => {
                write!(f, "job {job} needs {needed} nodes, and its cluster can never have more than {most}")
            }
            Reason::RepairPaused { cluster, until } => {
                write!(f, "cluster {cluster} loses machines again and again; the next one is asked for at {until}")
            }
            Reason::RepairStopped { cluster, count } => {
                write!(
                    f,
                    "{count} nodes of cluster {cluster} in a row could not be used; no other is made until its scale is changed"
                )
            }
            Reason::OverQuota { cluster, quota, limit, left, missing } => write!(
                f,
                "cluster {cluster} wants {missing} nodes more; of the quota of {limit} cores of {quota}, {left} are left for it"
            ),
            Reason::SizeUnknown { cluster, size } => {
                write!(f, "cluster {cluster} is of size {size}, which the driver does not offer")
            }
            Reason::BacksOff { job, until } => write!(f, "job {job} failed and is tried again, not before {until}"),
            Reason::LeavesAfterJob { machine } => write!(f, "machine {machine} leaves once its job ends"),
            Reason::GangPreparing { attempt, ready, of } => {
                write!(f, "attempt {attempt} starts once all nodes are ready: {ready} of {of} are")
            }
            Reason::Unseen { attempt, machine, until } => {
                write!(f, "attempt {attempt} has a part on machine {machine}, which is not seen: it is given up at {until}")
            }
            Reason::Stopping { attempt } => write!(f, "attempt {attempt} was told to stop"),
            Reason::PutAside { about } => {
                write!(f, "resource {about} is put aside for a while: what was decided for it cannot be written")
            }
            Reason::Panicked { about } => write!(f, "deciding about resource {about} panicked"),
        }
    }
}
