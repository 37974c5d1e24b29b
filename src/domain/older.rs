//! What only older versions of the contract know of a resource: kept for them, and shown by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What only older versions know. Absent where everything of it is as it would be without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Older {
    /// Job: its priority, where no word of the newer versions says it exactly. Range: -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Job: what it calls its experiment. It groups nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment_name: Option<String>,
    /// Job: what output directories hold, by their ids, where it is not `custom`. It changes nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output_types: BTreeMap<String, String>,
    /// Cluster: whether the setup task asks to run as root. It runs as root in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_elevated: bool,
}

impl Older {
    /// The same, or `None` where it says nothing.
    pub fn unless_empty(self) -> Option<Older> {
        (self != Older::default()).then_some(self)
    }
}
