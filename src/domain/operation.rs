//! Long-running operations: what a 202 promised and how it ended.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::resource::EntityError;
use crate::id::{OperationId, PrincipalId, ResourceUid, SubscriptionId};

/// A long-running operation. Kept after its resource is gone, as clients poll it after a DELETE.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id, in the URLs that clients poll.
    pub id: OperationId,
    /// The only subscription in which the id is valid.
    pub subscription: SubscriptionId,
    /// The region in the URLs that clients poll.
    pub location: String,
    /// What is made, unmade or stopped.
    pub resource: ResourceUid,
    /// The resource's canonical path: the operation is authorised like its resource.
    pub resource_path: String,
    /// What is done.
    pub verb: Verb,
    /// How far it is.
    pub state: State,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<EntityError>,
    /// Who asked.
    pub caller: PrincipalId,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Makes a resource.
    Create,
    /// Unmakes it.
    Delete,
    /// Stops a job.
    Terminate,
}

impl Verb {
    /// The verb as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::Terminate => "terminate",
        }
    }

    /// The verb that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Verb> {
        [Verb::Create, Verb::Delete, Verb::Terminate].into_iter().find(|v| v.as_str() == text)
    }
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running,
    /// It did what it promised.
    Succeeded,
    /// It could not.
    Failed,
}

impl State {
    /// The state as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
        }
    }

    /// The state that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<State> {
        [State::Running, State::Succeeded, State::Failed].into_iter().find(|s| s.as_str() == text)
    }
}
