//! What changed, by whom and why: the append-only record.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{PrincipalId, ResourceUid};

/// One change of a resource. Holds no secret and no body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What was changed.
    pub resource: ResourceUid,
    /// Its canonical path, readable after it is gone.
    pub path: String,
    /// The principal whose request it was; `None` for the service itself.
    pub caller: Option<PrincipalId>,
    /// What happened, as a short stable word such as `created`, `resized`, `placed`, `attempt_ended`, `requeued`, `deleted`.
    pub what: &'static str,
    /// Why, as text for people.
    pub why: String,
}
