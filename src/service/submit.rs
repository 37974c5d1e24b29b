//! Submitting jobs, many in one commit.
//!
//! In: jobs that requests have checked and whose secrets are sealed. Out: what became of each, after its commit. Requests that come
//! while a commit is on its way share the next one, so that the cost of a commit is divided by as many as wait for it; one that comes
//! alone waits for nobody.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceUid;
use crate::store::StoreError;
use crate::store::resource::{self, Submission, Submitted};
use crate::task::Tasks;

/// Most jobs of one commit: what a statement of a few milliseconds holds.
const MOST: usize = 64;

/// Commits under way at once: while one waits for the disk, the next is put together.
const LANES: usize = 2;

/// Jobs that may wait for a commit. Whoever comes beyond that waits before its job is in line.
const LINE: usize = 1024;

/// What became of a job.
pub(super) enum Outcome {
    /// It was made.
    Made(Submitted),
    /// It exists, or something that it needs is absent or being deleted. Reading tells.
    Refused,
    /// The database was away when its commit was due, which may have happened: its operation tells.
    Unknown(Arc<StoreError>),
    /// It cannot be made.
    Failed(StoreError),
}

impl Outcome {
    fn of(made: Option<Submitted>) -> Outcome {
        made.map_or(Outcome::Refused, Outcome::Made)
    }
}

struct Pending {
    job: Submission,
    answer: oneshot::Sender<Outcome>,
}

/// The line of jobs that wait for a commit.
pub(super) struct Line {
    enter: mpsc::Sender<Pending>,
    waiting: Mutex<mpsc::Receiver<Pending>>,
}

impl Default for Line {
    fn default() -> Line {
        let (enter, waiting) = mpsc::channel(LINE);
        Line { enter, waiting: Mutex::new(waiting) }
    }
}

impl Service {
    /// Makes a job with the next commit.
    ///
    /// # Errors
    /// `ServiceUnavailable` where this server ends.
    pub(super) async fn submit(&self, job: Submission) -> Result<Outcome, Error> {
        let (answer, outcome) = oneshot::channel();
        let stopping = || Error::new(ErrorCode::ServiceUnavailable, "The server is stopping. Try again.");
        self.inner.line.enter.send(Pending { job, answer }).await.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())
    }

    /// Starts what commits jobs, without which `put_job` waits for ever. [`run`](Service::run) does so too.
    pub fn run_submissions(&self, tasks: &Tasks) {
        for _ in 0..LANES {
            let (service, shutdown) = (self.clone(), tasks.shutdown());
            tasks.spawn("service.submit", async move { service.commit_line(&shutdown).await });
        }
    }

    /// Takes what waits and commits it, until the server stops and nobody waits any more.
    async fn commit_line(&self, shutdown: &CancellationToken) {
        let mut taken = Vec::with_capacity(MOST);
        loop {
            let next = async { self.inner.line.waiting.lock().await.recv_many(&mut taken, MOST).await };
            tokio::select! {
                biased;
                _ = next => {}
                () = shutdown.cancelled() => return,
            }
            let (jobs, answers): (Vec<_>, Vec<_>) = taken.drain(..).map(|pending| (pending.job, pending.answer)).unzip();
            self.commit(jobs, answers).await;
        }
    }

    async fn commit(&self, jobs: Vec<Submission>, answers: Vec<oneshot::Sender<Outcome>>) {
        let uids: Vec<ResourceUid> = jobs.iter().map(|job| job.uid).collect();
        let outcomes = match resource::submit(self.pool(), &jobs).await {
            Ok(mut made) => uids.iter().map(|uid| Outcome::of(made.remove(uid))).collect(),
            Err(error) if error.is_unavailable() && !error.is_deadlock() => {
                let error = Arc::new(error);
                uids.iter().map(|_| Outcome::Unknown(Arc::clone(&error))).collect()
            }
            Err(error) => {
                tracing::debug!(jobs = jobs.len(), %error, "jobs are submitted one by one, as together they were refused");
                self.commit_each(&jobs).await
            }
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever asked may be gone.
            let _ = answer.send(outcome);
        }
    }

    /// Each by itself, so that one that the database does not take leaves the others alone.
    async fn commit_each(&self, jobs: &[Submission]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match resource::submit(self.pool(), std::slice::from_ref(job)).await {
                Ok(mut made) => Outcome::of(made.remove(&job.uid)),
                Err(error) if error.is_unavailable() => Outcome::Unknown(Arc::new(error)),
                Err(error) => Outcome::Failed(error),
            });
        }
        outcomes
    }
}
