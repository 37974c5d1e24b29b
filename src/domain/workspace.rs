//! Workspaces: what holds clusters and experiments, and fixes their region.

use serde::{Deserialize, Serialize};

use crate::domain::resource::{NoStatus, Resource};
use crate::id::Kind;

/// A workspace.
#[derive(Clone, Copy, Debug)]
pub struct Workspace;

/// What a user asks of a workspace: nothing beyond location and tags, which are in the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceSpec {}

impl Resource for Workspace {
    const KIND: Kind = Kind::Workspace;
    type Spec = WorkspaceSpec;
    type Status = NoStatus;
}
