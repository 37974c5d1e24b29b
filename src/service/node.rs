//! Nodes of clusters, as users see and rehearse with them.

use std::time::Duration;

use super::Service;
use super::activity::{carried_out, is_recorded};
use crate::auth::Caller;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;
use crate::store::machine::{self, Evicted};
use crate::wake::Topic;

impl Service {
    /// Takes a node away as a cloud takes one of low priority: after `notice`, or at once where that is zero. Safe to repeat.
    ///
    /// # Errors
    /// `NodeNotFound`, `ClusterNotFound` and its parents' codes; `ServiceUnavailable`.
    pub async fn simulate_eviction(
        &self,
        caller: &Caller,
        cluster: &ResourceId,
        node_id: &str,
        notice: Duration,
    ) -> Result<(), Error> {
        let at = self.now();
        let row = carried_out(caller, at, 204, None);
        match machine::evict(self.pool(), &cluster.key(), node_id, at + notice, at, caller.principal, row).await? {
            Evicted::Done => {
                is_recorded(caller);
                self.inner.wake.changed(Topic::Reconcile);
                Ok(())
            }
            Evicted::NoNode => {
                let message = format!("The cluster '{}' has no node '{node_id}' that could be taken away.", cluster.name());
                Err(Error::new(ErrorCode::NodeNotFound, message))
            }
            Evicted::Absent => Err(self.explain_absence(cluster).await),
        }
    }
}
