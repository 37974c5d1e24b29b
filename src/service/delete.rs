//! Deleting: the resource and all below it are marked in one commit; reconcilers unmake what is left.

use super::Service;
use super::activity::{carried_out, is_recorded};
use super::expect::{expected, moved};
use super::operation::{asked_by, begin};
use crate::auth::Caller;
use crate::domain::operation::{Operation, State, Verb};
use crate::error::Error;
use crate::id::{Kind, ResourceId, ResourceUid};
use crate::store::resource::{self, Marked};
use crate::wake::Topic;

/// How often a deletion begins anew after it and another transaction waited for each other.
const TRIES: u32 = 3;

impl Service {
    /// Begins to delete a resource with all below it. Again while that is under way: another operation that ends with the first. `None`
    /// where the resource (or a parent of it) did not exist.
    ///
    /// # Errors
    /// `Conflict` for a file server that is mounted; `ServiceUnavailable`.
    pub async fn delete(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Operation>, Error> {
        if id.kind() == Kind::FileServer {
            self.check_unused(id).await?;
        }
        let at = self.now();
        let operation = begin(caller, id, ResourceUid(uuid::Uuid::nil()), Verb::Delete, State::Running, at);
        let (key, why) = (id.key(), asked_by(caller));
        let mut tries = 1;
        let marked = loop {
            let row = carried_out(caller, at, 202, Some(&operation));
            match resource::mark(self.pool(), &key, &operation, at, &why, row, expected(caller)).await {
                Err(error) if error.is_deadlock() && tries < TRIES => tries += 1,
                Err(error) if error.is_unavailable() => match self.find_committed(&operation).await {
                    Some(committed) => break Some(committed),
                    None => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
                Ok(Marked::Done(operation)) => break Some(*operation),
                Ok(Marked::Absent) => break None,
                Ok(Marked::Moved) => return Err(moved(id)),
            }
        };
        if marked.is_some() {
            is_recorded(caller);
            if id.kind() == Kind::Group {
                self.inner.groups.invalidate(&key);
            }
            self.inner.wake.changed(Topic::Reconcile);
        }
        Ok(marked)
    }
}
