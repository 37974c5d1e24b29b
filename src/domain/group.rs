//! Resource groups: the containers of the platform.

use serde::{Deserialize, Serialize};

use crate::domain::resource::{NoStatus, Resource};
use crate::id::Kind;

/// A resource group.
#[derive(Clone, Copy, Debug)]
pub struct Group;

/// What a user asks of a group; location and tags are in the envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// The id of the resource that manages the group, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

impl Resource for Group {
    const KIND: Kind = Kind::Group;
    type Spec = GroupSpec;
    type Status = NoStatus;
}
