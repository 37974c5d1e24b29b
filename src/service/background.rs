//! What the use cases need beside requests: telling agents that wait, and telling other servers.

use std::time::Duration;

use tokio::time::timeout;

use super::Service;
use crate::store::{Heard, Listener, StoreError, machine};
use crate::task::Tasks;
use crate::wake::Topic;

/// How often the numbers are read without any hint, while someone waits.
const TICK: Duration = Duration::from_secs(2);

/// Shortest time between two rounds of hints to other servers: what comes meanwhile goes into one.
const GATHER: Duration = Duration::from_millis(10);

/// Pause after the connection for hints was lost.
const RECONNECT: Duration = Duration::from_secs(1);

/// Has `some` remove rows of what is too old, until it answers that no more are left. What fails is left for the next time.
pub(super) async fn prune<F: Future<Output = Result<bool, StoreError>>>(what: &'static str, some: impl Fn() -> F) {
    loop {
        match some().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::debug!(%error, what, "what is too old was not removed");
                return;
            }
        }
    }
}

impl Service {
    /// Starts what the use cases need in the background: committing jobs, and telling waiting agents and other servers of changes.
    pub fn run(&self, tasks: &Tasks) {
        let stopping = self.inner.stopping.clone();
        let shutdown = tasks.shutdown();
        tasks.spawn("service.stop", async move {
            shutdown.cancelled().await;
            // Agents that wait are answered, so that their connections end.
            stopping.cancel();
        });
        self.answer_waiting_at_end_of(tasks);
        let service = self.clone();
        tasks.spawn_cancellable("service.tell_changes", async move { service.tell_changes().await });
        self.run_submissions(tasks);
        let service = self.clone();
        tasks.spawn_cancellable("service.tell_agents", async move { service.tell_agents().await });
        let service = self.clone();
        tasks.spawn_cancellable("service.tell_servers", async move { service.tell_servers().await });
        let service = self.clone();
        tasks.spawn_cancellable("service.hear_servers", async move { service.hear_servers().await });
        let service = self.clone();
        tasks.spawn_cancellable("service.forget_locks", async move { service.forget_locks().await });
        let service = self.clone();
        tasks.spawn_cancellable("service.tell_revocations", async move { service.tell_revocations().await });
        self.keep_record(tasks);
        self.keep_samples(tasks);
    }

    /// Answers clients that wait when `tasks` are asked to stop, so that their connections end.
    pub fn answer_waiting_at_end_of(&self, tasks: &Tasks) {
        let (leaving, shutdown) = (self.inner.leaving.clone(), tasks.shutdown());
        tasks.spawn("service.answer_waiting", async move {
            shutdown.cancelled().await;
            leaving.cancel();
        });
    }

    /// One query for all agents that wait, when a hint says that some number may have moved, and now and then without one.
    async fn tell_agents(&self) {
        let mut hints = self.inner.wake.subscribe(Topic::Desired);
        loop {
            // The tick catches a hint that was lost; that the sender is gone cannot be while this service holds it.
            let _ = timeout(TICK, hints.changed()).await;
            if self.inner.waiters.is_empty() {
                continue;
            }
            hints.borrow_and_update();
            match machine::numbers(self.pool()).await {
                Ok(numbers) => self.inner.waiters.publish(&numbers),
                Err(error) => {
                    tracing::debug!(%error, "the numbers of what nodes should be cannot be read");
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        }
    }

    /// Passes hints on to other servers after the commits that they are about, many in one.
    async fn tell_servers(&self) {
        let mut hints = self.inner.wake.subscribe_foreign();
        let mut told = *hints.borrow_and_update();
        while hints.changed().await.is_ok() {
            let now = *hints.borrow_and_update();
            let counts = now.iter().zip(&told);
            let topics = Topic::ALL.into_iter().zip(counts).filter(|(_, (now, told))| now != told);
            let topics: Vec<Topic> = topics.map(|(topic, _)| topic).collect();
            told = now;
            if let Err(error) = self.inner.store.tell(self.inner.server, &topics).await {
                tracing::debug!(%error, "other servers were not told of a change; their tick will see it");
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Reads locks anew once they changed, here or elsewhere.
    async fn forget_locks(&self) {
        let mut hints = self.inner.wake.subscribe(Topic::Access);
        while hints.changed().await.is_ok() {
            self.inner.locks.forget();
        }
    }

    /// Tells all servers when roles or locks went with their resources.
    async fn tell_revocations(&self) {
        let mut revocations = self.inner.store.revocations();
        while revocations.changed().await.is_ok() {
            self.inner.wake.changed(Topic::Access);
        }
    }

    /// Turns hints of other servers into hints of this process.
    async fn hear_servers(&self) {
        loop {
            match self.hear_until_lost().await {
                Ok(never) => match never {},
                Err(error) => tracing::debug!(%error, "hints of other servers are not heard; the tick goes on"),
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn hear_until_lost(&self) -> Result<std::convert::Infallible, crate::store::StoreError> {
        let mut listener = Listener::connect(&self.inner.store).await?;
        // What came while nobody listened.
        for topic in Topic::ALL {
            self.inner.wake.local(topic);
        }
        loop {
            let Heard { from, topic } = listener.next().await?;
            if from != self.inner.server {
                self.inner.wake.local(topic);
            }
        }
    }
}
