//! Why something is not running: what it waits for, the number that is missing, who holds it, and what will clear it.

use crate::clock::Timestamp;

/// What something waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What kind of thing stands in the way.
    pub gate: Gate,
    /// One sentence for people.
    pub message: String,
    /// The number that is missing, where it is one.
    pub lack: Option<Lack>,
    /// Who has what is missing, [`Why::HOLDERS`] at most.
    pub held_by: Vec<Holder>,
    /// The event that will clear it, as one sentence for people.
    pub clears: &'static str,
    /// When that is, or is at the latest, where it is known.
    pub clears_by: Option<Timestamp>,
}

impl Why {
    /// Most holders that one answer names.
    pub const HOLDERS: usize = 20;
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// A quota of cores.
    Quota,
    /// All nodes that could do are taken, or are not there yet.
    Capacity,
    /// Some nodes are there, but not all that are needed at the same time.
    Gang,
    /// Others go first.
    Priority,
    /// Nodes cannot be used, or are not heard.
    NodeHealth,
    /// Nodes cannot be used, as what they are to mount is not to be had.
    Mount,
    /// What makes nodes does not make them.
    Driver,
    /// The cluster may not have so many nodes.
    ScaleLimit,
    /// It failed, and is tried again later.
    BackOff,
    /// It was told to stop, and has not yet.
    Stopping,
    /// What was decided for it could not be written.
    PutAside,
}

impl Gate {
    /// The gate as our own version of the contract writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Gate::Quota => "Quota",
            Gate::Capacity => "Capacity",
            Gate::Gang => "Gang",
            Gate::Priority => "Priority",
            Gate::NodeHealth => "NodeHealth",
            Gate::Mount => "Mount",
            Gate::Driver => "Driver",
            Gate::ScaleLimit => "ScaleLimit",
            Gate::BackOff => "BackOff",
            Gate::Stopping => "Stopping",
            Gate::PutAside => "PutAside",
        }
    }

    /// All of them.
    pub const ALL: [Gate; 11] = [
        Gate::Quota,
        Gate::Capacity,
        Gate::Gang,
        Gate::Priority,
        Gate::NodeHealth,
        Gate::Mount,
        Gate::Driver,
        Gate::ScaleLimit,
        Gate::BackOff,
        Gate::Stopping,
        Gate::PutAside,
    ];
}

/// A number that is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What is counted.
    pub unit: Unit,
    /// How many are needed.
    pub needed: u64,
    /// How many there are.
    pub available: u64,
}

impl Lack {
    /// Nodes that are too few.
    pub fn nodes(needed: u32, available: u32) -> Lack {
        Lack { unit: Unit::Nodes, needed: needed.into(), available: available.into() }
    }

    /// How many more there must be; at least 1 where something lacks.
    pub fn missing(&self) -> u64 {
        self.needed.saturating_sub(self.available)
    }
}

/// What a lack is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nodes of a cluster.
    Nodes,
    /// Processor cores.
    Cores,
    /// Jobs ahead in the queue: those that must go first.
    Jobs,
}

impl Unit {
    /// The unit as our own version of the contract writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Nodes => "Nodes",
            Unit::Cores => "Cores",
            Unit::Jobs => "Jobs",
        }
    }
}

/// Who has what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub what: Held,
    /// How much, in the unit of the lack.
    pub count: u32,
    /// When it gives it back at the latest, where that is known.
    pub until: Option<Timestamp>,
}

/// One that holds something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A job or a cluster, by its canonical path.
    Resource(String),
    /// A node, by its id.
    Node(String),
}

/// An answer: how far something is, and why it is no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The state, as the contract writes it.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// What it waits for; `None` where nothing holds it.
    pub why: Option<Why>,
}
