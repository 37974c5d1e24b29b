//! Who may act: the lease `reconcile`, held by one server at a time.
//!
//! The lease ends by the database's clock, and each commit checks its token there. What is kept here only saves useless work: a
//! holder that could not renew in time stops by its own monotonic clock.

use std::time::Duration;

use uuid::Uuid;

use crate::error::Error;
use crate::reconcile::limits::Limits;
use crate::store::{Lease, Rows};

/// The lease's name.
const NAME: &str = "reconcile";

/// A lease that this process holds, as far as it knows.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    /// When the request that was last granted was sent.
    sent: Duration,
}

impl Held {
    /// Asks for the lease. `None` while another holds it.
    pub(super) async fn take(rows: &dyn Rows, holder: Uuid, now: Duration, limits: &Limits) -> Result<Option<Held>, Error> {
        let lease = rows.take_lease(NAME, holder, limits.lease_ttl).await?;
        Ok(lease.map(|lease| Held { lease, sent: now }))
    }

    /// When it is to be renewed.
    pub(super) fn renew_at(&self, limits: &Limits) -> Duration {
        self.sent + limits.lease_renew
    }

    /// Whether it has surely not ended, if clocks run alike.
    pub(super) fn may_act(&self, now: Duration, limits: &Limits) -> bool {
        now < self.sent + limits.lease_ttl
    }
}
