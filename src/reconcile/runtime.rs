//! What a reconciler needs of an executor: tasks beside its own, and time that passes. The simulation has one of its own.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::task::Tasks;

/// An executor.
pub trait Runtime: Send + Sync {
    /// Runs a task that may be dropped at any await.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Ends after `time`.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Time since some moment of this process; never jumps.
    fn monotonic(&self) -> Duration;
}

/// Tokio.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    tasks: Tasks,
    start: Instant,
}

impl TokioRuntime {
    /// Tasks end with `tasks`.
    pub fn new(tasks: Tasks) -> TokioRuntime {
        TokioRuntime { tasks, start: Instant::now() }
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.tasks.spawn_cancellable(name, task);
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
