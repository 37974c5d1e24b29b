//! Locks: set, taken away, and kept to.
//!
//! The locks of a subscription are remembered for a few seconds, so that a write costs no query for them. A change is seen at once by
//! the server that made it and by others with the next hint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use super::Service;
use super::activity::{carried_out, is_recorded};
use super::missing::absent;
use crate::auth::Caller;
use crate::domain::lock::{Deed, Lock, NewLock, forbidding};
use crate::domain::scope::Scope;
use crate::error::{Error, ErrorCode};
use crate::id::SubscriptionId;
use crate::store::lock::Locked;
use crate::wake::Topic;

/// How long the locks of a subscription are remembered where no hint came.
const REMEMBER: Duration = Duration::from_secs(5);

/// The locks of subscriptions as remembered.
pub(super) struct Locks {
    by_subscription: Cache<SubscriptionId, (u64, Arc<Vec<Lock>>)>,
    /// Counts the times that all were forgotten: what was read before the last one does not count.
    epoch: AtomicU64,
}

impl Default for Locks {
    fn default() -> Locks {
        let by_subscription = Cache::builder().max_capacity(10_000).time_to_live(REMEMBER).build();
        Locks { by_subscription, epoch: AtomicU64::new(0) }
    }
}

impl Locks {
    pub(super) fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

impl Service {
    /// The locks of a subscription and of all in it, by scope and name, from a cache of a few seconds.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn locks(&self, subscription: SubscriptionId) -> Result<Arc<Vec<Lock>>, Error> {
        let locks = &self.inner.locks;
        let epoch = locks.epoch.load(Ordering::Acquire);
        if let Some((read_in, found)) = locks.by_subscription.get(&subscription)
            && read_in == epoch
        {
            return Ok(found);
        }
        let found = Arc::new(self.inner.store.list_locks(subscription).await?);
        locks.by_subscription.insert(subscription, (epoch, Arc::clone(&found)));
        Ok(found)
    }

    /// Refuses what a lock forbids.
    ///
    /// # Errors
    /// `ScopeLocked`; `ServiceUnavailable`.
    pub async fn check_locks(&self, scope: &Scope, deed: Deed) -> Result<(), Error> {
        let locks = self.locks(scope.subscription()).await?;
        if locks.is_empty() {
            return Ok(());
        }
        let found = forbidding(&locks, deed, &scope.key());
        if found.is_empty() {
            return Ok(());
        }
        let deed = match deed {
            Deed::Write => "write",
            Deed::DeleteAt | Deed::Delete => "delete",
        };
        let message = format!(
            "The scope '{scope}' cannot perform {deed} operation because following scope(s) are locked: '{}'. Please remove the lock \
             and try again.",
            found.join(",")
        );
        Err(Error::new(ErrorCode::ScopeLocked, message))
    }

    /// Sets a lock, or sets it anew. Answers whether it is new.
    ///
    /// # Errors
    /// The code of absence of the scope; `ServiceUnavailable`.
    pub async fn put_lock(&self, caller: &Caller, scope: &Scope, new: &NewLock) -> Result<bool, Error> {
        let at = self.now();
        let status =
            if self.locks(scope.subscription()).await?.iter().any(|lock| is(lock, scope, &new.name)) { 200 } else { 201 };
        let row = carried_out(caller, at, status, None);
        match self.inner.store.put_lock(scope, new, caller.principal, at, row).await? {
            Locked::Done(made) => {
                self.locks_changed(caller);
                Ok(made)
            }
            Locked::NoScope => match scope.resource() {
                Some(id) => Err(self.find_obstacle(id).await?.unwrap_or_else(|| absent(id))),
                None => Err(self.subscription(scope.subscription()).await.err().unwrap_or_else(|| Error::internal("no scope"))),
            },
        }
    }

    /// Takes a lock away. Answers whether there was one.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn delete_lock(&self, caller: &Caller, scope: &Scope, name: &str) -> Result<bool, Error> {
        let gone = self.inner.store.delete_lock(scope, name, carried_out(caller, self.now(), 200, None)).await?;
        if gone {
            self.locks_changed(caller);
        }
        Ok(gone)
    }

    fn locks_changed(&self, caller: &Caller) {
        is_recorded(caller);
        self.inner.locks.forget();
        self.inner.wake.changed(Topic::Access);
    }
}

/// Whether a lock is the one of this name at this very scope.
fn is(lock: &Lock, scope: &Scope, name: &str) -> bool {
    lock.key == scope.key() && lock.is.name.to_lowercase() == name.to_lowercase()
}
