//! What a server and a machine of the pool say to each other, a line of JSON each: first who the server is, then questions, each with its
//! answer. Both ends are the same program, so that there is one version of it.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::bootstrap::ServerAddress;
use crate::domain::machine::{MachineSpec, Observed, Presence};

/// The hidden subcommand of this binary that is the machine's end.
pub(super) const SUBCOMMAND: &str = "pool-machine";

/// The folder of all that is ours on a machine. The program's own copies are in `bin` in it.
pub const FOLDER: &str = "/var/lib/batchyard-machine";

/// Who asks, and what nodes are made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The installation.
    pub(super) owner: String,
    /// The machine's address among the others of the pool.
    pub(super) address: Ipv4Addr,
    /// How agents reach servers.
    pub(super) server: ServerAddress,
    /// The time after which a node ends itself where no server answers its agent.
    pub(super) fence: Duration,
}

/// A question.
#[derive(Serialize, Deserialize)]
pub(super) enum Ask {
    /// What is there?
    Look,
    /// Be this node.
    Ensure(Box<MachineSpec>),
    /// Be it no more.
    Delete(String),
    /// What did it write last?
    Evidence(String),
    /// Be nobody's from now on, for this reason.
    Quarantine(String),
    /// Be anybody's again.
    Release,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// What is there.
    Seen(Seen),
    /// The node is there.
    Made(Node),
    /// It is so.
    Done,
    /// What it wrote last, if anything.
    Evidence(Option<String>),
    /// It is another's: whose, for people.
    Taken(String),
    /// It could not be done.
    Failed {
        /// Whether it may be done next time.
        passing: bool,
        /// In the machine's own words.
        why: String,
    },
}

/// What there is on a machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The other installation that has it.
    pub(super) holder: Option<String>,
    /// Nodes of this one.
    pub(super) nodes: Vec<Node>,
    /// Why it is to be nobody's.
    pub(super) quarantine: Option<String>,
}

/// A node, as its machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) presence: Presence,
    pub(super) address: Option<String>,
}

impl Node {
    /// One of which nothing else is known now.
    pub(super) fn unknown(name: &str) -> Node {
        Node { name: name.to_owned(), presence: Presence::Unknown, address: None }
    }
}

impl From<Observed> for Node {
    fn from(seen: Observed) -> Node {
        Node { name: seen.name, presence: seen.presence, address: seen.address }
    }
}

impl From<Node> for Observed {
    fn from(node: Node) -> Observed {
        Observed::new(node.name, node.presence, node.address)
    }
}
