//! Changing what exists: one commit, and the truth about it where its answer is lost.

use super::Service;
use super::operation::asked_by;
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::domain::resource::{Envelope, Resource};
use crate::error::Error;
use crate::id::ResourceId;
use crate::store::resource::{self, Change, Patched};

impl Service {
    /// Changes a resource at `at`, in one commit. Where its answer is lost, a resource that was last changed at that very moment tells that it
    /// was done.
    ///
    /// # Errors
    /// `ServiceUnavailable`: it was not done, or another request has changed the resource since, or the database stays away.
    pub(super) async fn change<K: Resource>(
        &self,
        caller: &Caller,
        id: &ResourceId,
        change: &Change,
        at: Timestamp,
    ) -> Result<Patched<Envelope<K>>, Error> {
        let key = id.key();
        match resource::change(self.pool(), &key, change, caller.principal, at, &asked_by(caller)).await {
            Err(error) if error.is_unavailable() => match resource::find::<K>(self.pool(), &key).await.ok().flatten() {
                Some(found) if found.updated_at == at => Ok(Patched::Done(found)),
                _ => Err(error.into()),
            },
            patched => Ok(patched?),
        }
    }
}
