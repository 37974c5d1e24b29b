//! The record of what was asked for.
//!
//! A request that changes something is recorded by the transaction that changes it. Refusals, and what changed nothing, are recorded
//! soon after their answer, many in one statement: what a crash loses of them is a fraction of a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Service;
use super::background::prune;
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::domain::activity::{Activity, Recorded, Window};
use crate::domain::operation::Operation;
use crate::error::Error;
use crate::id::{Kind, ResourceId};
use crate::task::Tasks;

/// Most rows that wait to be written; beyond them the record has a gap, and the log says so.
const WAITING: usize = 20_000;

/// Most rows of one statement.
const TOGETHER: usize = 500;

/// Pause in which rows gather for one statement.
const GATHER: Duration = Duration::from_millis(50);

/// Pause after the database did not take rows.
const AGAIN: Duration = Duration::from_secs(1);

/// How often what is too old is looked for.
const PRUNE: Duration = Duration::from_secs(3600);

/// Rows that wait to be written.
#[derive(Default)]
pub(super) struct Record {
    waiting: Mutex<Vec<Activity>>,
    more: Notify,
}

impl Record {
    fn take(&self) -> Vec<Activity> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(TOGETHER);
        waiting.drain(..count).collect()
    }

    fn put_back(&self, mut rows: Vec<Activity>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        rows.append(&mut waiting);
        rows.truncate(WAITING);
        *waiting = rows;
    }
}

/// The row of a request that is carried out now, for the transaction that does so.
pub(super) fn carried_out(caller: &Caller, at: Timestamp, status: u16, operation: Option<&Operation>) -> Option<Activity> {
    caller.asked.as_ref().map(|asked| asked.row(at, status, operation.map(|operation| operation.id)))
}

/// Tells that the transaction is committed.
pub(super) fn is_recorded(caller: &Caller) {
    if let Some(asked) = &caller.asked {
        asked.set_recorded();
    }
}

/// The status that the published contract has for the making of a resource.
pub(super) fn status_of_making(id: &ResourceId) -> u16 {
    match id.kind() {
        Kind::Group => 201,
        Kind::Workspace | Kind::Experiment => 200,
        _ => 202,
    }
}

impl Service {
    /// Records a request that no transaction recorded.
    pub fn record(&self, row: Activity) {
        {
            let mut waiting = self.inner.record.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING {
                tracing::warn!(action = row.action, "the record of requests has a gap: too many wait to be written");
                return;
            }
            waiting.push(row);
        }
        self.inner.record.more.notify_one();
    }

    /// A page of the record, the latest first: up to `limit` requests before the position `before`.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn activities(&self, window: &Window, before: Option<i64>, limit: u32) -> Result<Vec<Recorded>, Error> {
        Ok(self.inner.store.list_activities(window, before, i64::from(limit)).await?)
    }

    pub(super) fn keep_record(&self, tasks: &Tasks) {
        let (service, shutdown) = (self.clone(), tasks.shutdown());
        tasks.spawn("service.record", async move {
            let wait = |pause| shutdown.run_until_cancelled(tokio::time::sleep(pause));
            // Statements are never cut off: a row is lost with the process alone.
            while shutdown.run_until_cancelled(service.inner.record.more.notified()).await.is_some() {
                let mut pause = GATHER;
                while wait(pause).await.is_some() && !service.write_waiting().await {
                    pause = AGAIN;
                }
            }
            if !service.write_waiting().await {
                tracing::warn!("the last requests could not be recorded: the database is away");
            }
        });
        let service = self.clone();
        tasks.spawn_cancellable("service.prune_record", async move { service.prune_record().await });
    }

    /// Writes all that waits. Answers whether nothing is left.
    async fn write_waiting(&self) -> bool {
        loop {
            let rows = self.inner.record.take();
            if rows.is_empty() {
                return true;
            }
            match self.inner.store.record_activities(&rows).await {
                Ok(()) => {}
                Err(error) if error.is_unavailable() => {
                    tracing::debug!(%error, "the record of requests waits for the database");
                    self.inner.record.put_back(rows);
                    return false;
                }
                // Rows that the database never takes must not hold up the others.
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        rows = rows.len(),
                        "requests could not be recorded"
                    );
                }
            }
        }
    }

    async fn prune_record(&self) {
        loop {
            let before = self.now() - self.inner.limits.record_for;
            prune("the record of requests", || self.inner.store.prune_activities(before)).await;
            tokio::time::sleep(PRUNE).await;
        }
    }
}
