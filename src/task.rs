//! The only place that spawns: every task has a name and ends with the process's shutdown.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns named tasks and stops them together.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// A group without tasks.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// The token that is cancelled when the group is asked to stop; tasks with work in flight watch it and finish that first.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs `task` until it ends; it is expected to watch [`shutdown`](Self::shutdown) itself.
    #[allow(clippy::disallowed_methods)] // the one place that spawns
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(async move {
            tracing::trace!(task.name = name, "task started");
            task.await;
            tracing::trace!(task.name = name, "task ended");
        });
    }

    /// Runs `task` until it ends or the group stops, whichever comes first: for tasks that may end at any await.
    pub fn spawn_cancellable<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.shutdown();
        self.spawn(name, async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Asks all tasks to stop and waits for them until `deadline`. Answers whether all ended.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}
