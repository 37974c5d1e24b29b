//! A machine asked of a driver, and the node it becomes.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::cluster::Deallocation;
use crate::domain::gpu::Gpu;
use crate::domain::health::Probe;
use crate::domain::resource::EntityError;
use crate::id::{AttemptUid, MachineUid, ResourceUid};

/// What one VM size gives.
///
/// Source: the published Azure size tables for the names users know; `LOCAL` is the whole host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The name in upper case.
    pub name: String,
    /// Processor cores.
    pub cores: u32,
    /// Memory in mebibytes.
    pub memory_mib: u64,
    /// GPUs.
    pub gpus: u32,
}

/// What a driver is asked to make. The name is chosen by us, committed before the driver is asked, and never used twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The row's identity.
    pub uid: MachineUid,
    /// The machine's name at the driver: `{prefix}-{32 hex digits of uid}`.
    pub name: String,
    /// The wire's node id, which is the node's host name too.
    pub node_id: String,
    /// What it has.
    pub size: Size,
    /// The trust domain: machines of one cluster may reach each other, others may not. A file server is one by itself.
    pub cluster: ResourceUid,
    /// The account made on it.
    pub admin_user: String,
    /// What it is for.
    pub role: Role,
    /// What the agent needs to come home.
    pub bootstrap: Bootstrap,
}

/// What a machine is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It runs jobs.
    #[default]
    Node,
    /// It holds a disk that nodes mount.
    FileServer(Disk),
}

/// A disk that outlives machines: made with the first one that has it, and deleted by its name as a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name at the driver: as a machine's, of its file server's identity.
    pub name: String,
    /// How large it is. Unit: GiB.
    pub size_gb: u64,
}

/// What an agent starts from, the same for every driver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Traded once for the agent's own credential. Secret.
    pub join_token: String,
}

impl std::fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bootstrap(..)")
    }
}

/// What a driver sees of a machine. Nothing is made or unmade on [`Presence::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The name that we chose.
    pub name: String,
    /// Whether it is there.
    pub presence: Presence,
    /// Its address among its cluster's nodes.
    pub address: Option<String>,
    /// When the cloud takes it away, or took it: told from the notice on, where there is one. `None` for a machine that stays until it
    /// is deleted.
    pub evict_at: Option<Timestamp>,
}

impl Observed {
    /// A machine that nobody takes away.
    pub fn new(name: impl Into<String>, presence: Presence, address: Option<String>) -> Observed {
        Observed { name: name.into(), presence, address, evict_at: None }
    }
}

/// Whether a machine is there, as far as a driver can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is there and on.
    Present,
    /// It is surely gone or off: no process of it runs.
    Absent,
    /// The driver cannot tell.
    Unknown,
}

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// The row is committed; the driver may or may not know it yet.
    Asked,
    /// The driver has it; its agent has not come home, or sets the node up.
    Preparing,
    /// It takes jobs, or runs one.
    Ready,
    /// Its setup failed; it stays until it is removed.
    Unusable,
    /// It is to go: it takes no new job, and is deleted once it has none.
    Leaving,
    /// The driver no longer has it. Final.
    Gone,
}

impl MachineState {
    /// The state as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            MachineState::Asked => "asked",
            MachineState::Preparing => "preparing",
            MachineState::Ready => "ready",
            MachineState::Unusable => "unusable",
            MachineState::Leaving => "leaving",
            MachineState::Gone => "gone",
        }
    }

    /// The state that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<MachineState> {
        use MachineState::*;
        [Asked, Preparing, Ready, Unusable, Leaving, Gone].into_iter().find(|s| s.as_str() == text)
    }
}

/// A machine's row, as reconcilers read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its identity.
    pub uid: MachineUid,
    /// Its name at the driver.
    pub name: String,
    /// The wire's node id.
    pub node_id: String,
    /// The cluster or file server that it belongs to, for its whole life.
    pub cluster: ResourceUid,
    /// Counts the machines of its cluster, from 1; nodes are used in this order.
    pub ordinal: i32,
    /// What it has.
    pub size: Size,
    /// Where it is in its life.
    pub state: MachineState,
    /// When the state became what it is.
    pub state_changed_at: Timestamp,
    /// When the row was committed.
    pub created_at: Timestamp,
    /// The attempt that has it, if one has; at most one.
    pub attempt: Option<AttemptUid>,
    /// What happens to its job when it is to leave.
    pub deallocation: Option<Deallocation>,
    /// When it is taken away, or was: told by its driver, or by who rehearses it.
    pub evict_at: Option<Timestamp>,
    /// Its address among its cluster's nodes.
    pub address: Option<String>,
    /// Where users log in to it, as its agent said; `None` for its own address.
    pub login_address: Option<String>,
    /// What its agent starts from, so that `ensure` can be repeated after a crash. Present while the machine is `Asked` and its
    /// token is not spent; the store keeps it sealed.
    pub bootstrap: Option<Bootstrap>,
    /// Whether its agent has come home.
    pub joined: bool,
    /// Whether a second key asked to be it: neither is heard any more, and it is unmade.
    pub quarantined: bool,
    /// When its agent was last heard, at most a minute behind the truth; `None` where that is not recorded. Silence proves
    /// nothing: it only keeps new jobs away.
    pub heard_at: Option<Timestamp>,
    /// Whether its agent reported the setup done, or what went wrong.
    pub setup: Setup,
    /// How many times the driver was asked in vain, and what it last said.
    pub ensure_failures: i32,
    /// Not asked again before this.
    pub retry_at: Option<Timestamp>,
    /// What went wrong, for the cluster's errors.
    pub problem: Option<EntityError>,
    /// Counts changes of the row; writes check it.
    pub revision: i64,
}

/// A node as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The wire's node id.
    pub node_id: String,
    /// Where the machine is in its life.
    pub state: MachineState,
    /// When the state became what it is.
    pub state_changed_at: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Whether an attempt has it.
    pub is_busy: bool,
    /// When it is taken away, or was.
    pub evict_at: Option<Timestamp>,
    /// When its agent was last heard, at most a minute behind the truth.
    pub heard_at: Option<Timestamp>,
    /// The canonical path of the job that has it.
    pub job: Option<String>,
    /// What it proved of itself when its setup was over.
    pub health: Vec<Probe>,
    /// Its address among its cluster's nodes.
    pub address: Option<String>,
    /// The name of its VM size.
    pub size: String,
    /// The GPUs that its agent found to be its own.
    pub gpus: Vec<Gpu>,
    /// What is wrong with it.
    pub problem: Option<EntityError>,
}

/// How far a node's setup is, as its agent reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setup {
    /// Nothing reported yet.
    #[default]
    Pending,
    /// The setup task, if any, ended well.
    Done,
    /// It did not.
    Failed(EntityError),
}
