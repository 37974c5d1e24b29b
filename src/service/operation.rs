//! Long-running operations.

use super::Service;
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::domain::operation::{Operation, State, Verb};
use crate::error::{Error, ErrorCode};
use crate::id::{OperationId, ResourceId, ResourceUid, SubscriptionId};
use crate::store::operation;

/// An operation of `caller` on `id` that begins now and, where it `ends` at once, has ended. Resource, path and location are those of
/// the row and are filled in where it is known.
pub(super) fn begin(
    caller: &Caller,
    id: &ResourceId,
    resource: ResourceUid,
    verb: Verb,
    state: State,
    at: Timestamp,
) -> Operation {
    Operation {
        id: OperationId(uuid::Uuid::new_v4()),
        subscription: id.subscription(),
        location: String::new(),
        resource,
        resource_path: id.path(),
        verb,
        state,
        started_at: at,
        ended_at: (state != State::Running).then_some(at),
        error: None,
        caller: caller.principal,
    }
}

/// Who asked, for the record.
pub(super) fn asked_by(caller: &Caller) -> String {
    format!("Asked for by '{}'.", caller.client_id)
}

impl Service {
    /// An operation, valid in its own subscription alone.
    ///
    /// # Errors
    /// `NotFound`; `ServiceUnavailable`.
    pub async fn operation(&self, subscription: SubscriptionId, id: OperationId) -> Result<Operation, Error> {
        operation::find(self.pool(), subscription, id)
            .await?
            .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("The operation '{id}' could not be found.")))
    }

    /// Whether a write whose outcome is unknown happened: its operation was recorded in the same commit. Tried once, as the database may
    /// be back already where a connection was lost.
    pub(super) async fn find_committed(&self, operation: &Operation) -> Option<Operation> {
        operation::find(self.pool(), operation.subscription, operation.id).await.ok().flatten()
    }
}
