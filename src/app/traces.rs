//! The reconciler's rows, with what becomes of jobs told to a collector of spans.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::clock::moment;
use crate::domain::snapshot::{Change, Snapshot};
use crate::error::Error;
use crate::id::AttemptUid;
use crate::store::{Applied, Lease, Rows, Store};
use crate::task::Tasks;
use crate::trace::Tracer;

/// What a reconciler works on. Spans are made once a pass is written, beside it: the reconciler waits for none of it.
pub(super) struct TracedRows {
    pub(super) rows: Arc<dyn Rows>,
    pub(super) store: Store,
    pub(super) tracer: Tracer,
    pub(super) tasks: Tasks,
    /// When the pass under way began to read.
    pub(super) began: Mutex<Option<SystemTime>>,
}

#[async_trait::async_trait]
impl Rows for TracedRows {
    async fn take_lease(&self, name: &str, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, Error> {
        self.rows.take_lease(name, holder, ttl).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), Error> {
        self.rows.release_lease(lease).await
    }

    async fn snapshot(&self, queue: u32) -> Result<Snapshot, Error> {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(moment());
        self.rows.snapshot(queue).await
    }

    async fn apply(&self, lease: &Lease, changes: &[Change]) -> Result<Applied, Error> {
        let applied = self.rows.apply(lease, changes).await?;
        if applied == Applied::All {
            self.tell(changes);
        }
        Ok(applied)
    }
}

impl TracedRows {
    /// Tells of the attempts that `changes` placed and ended.
    fn tell(&self, changes: &[Change]) {
        let (mut placed, mut ended) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Place { attempt, .. } => placed.push(attempt.uid),
                Change::EndAttempt { uid, .. } => ended.push(*uid),
                _ => {}
            }
        }
        if placed.is_empty() && ended.is_empty() {
            return;
        }
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(moment);
        let (store, tracer, done) = (self.store.clone(), self.tracer.clone(), moment());
        self.tasks.spawn_cancellable("spans", async move {
            if let Err(error) = tell(&store, &tracer, (began, done), &placed, &ended).await {
                tracing::debug!(error.code = %error.code, "what a pass did is not told as spans");
            }
        });
    }
}

async fn tell(
    store: &Store,
    tracer: &Tracer,
    pass: (SystemTime, SystemTime),
    placed: &[AttemptUid],
    ended: &[AttemptUid],
) -> Result<(), Error> {
    // One span an attempt, however many nodes it has.
    for part in store.traced_parts(placed).await?.iter().filter(|part| part.rank == 0) {
        tracer.placed(part, pass);
    }
    for part in &store.traced_parts(ended).await? {
        tracer.ended(part);
    }
    Ok(())
}
