//! What a node proves of itself before it takes work.

use serde::{Deserialize, Serialize};

/// One thing that a node looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What: a short stable word.
    pub name: String,
    /// Whether it is as it has to be.
    pub passed: bool,
    /// What was found, for people.
    pub found: String,
}

/// Most probes of a node that are kept.
pub const MAX_PROBES: usize = 16;

/// The code of a node's error where it did not prove to be of use.
///
/// The published contract leaves codes of node errors open.
pub const UNHEALTHY: &str = "NodeHealthCheckFailed";
