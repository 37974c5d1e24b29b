//! Why things wait, told by any server: its own reading of the rows, and the reconcilers' decisions.
//!
//! What the leader alone remembers (what the driver was seen to have) is not known here; where that matters, a pass or two puts it
//! into the rows.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::domain::cluster::{Allocation, Cluster};
use crate::domain::job::{Job, Phase};
use crate::domain::machine::{Machine, MachineState};
use crate::domain::resource::{Envelope, Provisioning};
use crate::domain::snapshot::{ClusterRow, JobRow, Snapshot};
use crate::domain::why::Answer;
use crate::error::Error;
use crate::reconcile::{Ahead, Catalog, Limits, Memory, World, explain_cluster, explain_job, explain_node, most_nodes};
use crate::secret::Sealer;
use crate::service::Reasons;
use crate::store::{Rows, SealedRows, Store};

/// Tells why things wait.
pub(super) struct Explainer {
    store: Store,
    rows: SealedRows,
    clock: Arc<dyn Clock>,
    limits: Limits,
    catalog: Catalog,
    since: Timestamp,
}

impl Explainer {
    pub(super) fn new(store: Store, sealer: Sealer, clock: Arc<dyn Clock>, limits: Limits, catalog: Catalog) -> Explainer {
        let rows = store.rows_of_requests(sealer);
        let since = clock.now();
        Explainer { store, rows, clock, limits, catalog, since }
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.rows.snapshot(self.limits.queue).await
    }

    /// What is asked of a world of `snapshot` by a server that began to watch when this one started: time before that is nobody's silence.
    fn ask<T>(&self, snapshot: &Snapshot, question: impl FnOnce(&World<'_>) -> T) -> T {
        let memory = Memory::new(self.since);
        question(&World::new(snapshot, &memory, self.clock.now(), &self.limits, &self.catalog))
    }
}

#[async_trait::async_trait]
impl Reasons for Explainer {
    async fn job(&self, job: &Envelope<Job>) -> Result<Answer, Error> {
        let mut snapshot = self.snapshot().await?;
        let mut ahead = Ahead::Read;
        let row = match snapshot.jobs.iter().find(|row| row.uid == job.uid) {
            Some(row) => row.clone(),
            None => {
                let row = row(job, cluster_of(&snapshot, job));
                if row.status.phase == Phase::Queued {
                    let most = row.cluster.and_then(|cluster| self.ask(&snapshot, |world| most_nodes(world, cluster)));
                    ahead = Ahead::Counted(self.store.jobs_ahead(&row, most).await?);
                }
                snapshot.jobs.push(row.clone());
                row
            }
        };
        let why = self.ask(&snapshot, |world| explain_job(world, row.uid, ahead));
        Ok(Answer { state: row.status.phase.as_str().to_owned(), since: row.status.phase_changed_at, why })
    }

    async fn cluster(&self, cluster: &Envelope<Cluster>) -> Result<Answer, Error> {
        let snapshot = self.snapshot().await?;
        let why = self.ask(&snapshot, |world| explain_cluster(world, cluster.uid));
        let status = snapshot.clusters.iter().find(|row| row.uid == cluster.uid).map_or(&cluster.status, |row| &row.status);
        let state = match status.allocation {
            Allocation::Steady => "steady",
            Allocation::Resizing => "resizing",
        };
        Ok(Answer { state: state.to_owned(), since: status.allocation_changed_at, why })
    }

    async fn node(&self, cluster: &Envelope<Cluster>, node_id: &str) -> Result<Option<Answer>, Error> {
        let snapshot = self.snapshot().await?;
        let is_it = |machine: &&Machine| machine.cluster == cluster.uid && machine.node_id.eq_ignore_ascii_case(node_id);
        let Some(machine) = snapshot.machines.iter().find(is_it) else { return Ok(None) };
        let why = self.ask(&snapshot, |world| explain_node(world, machine.uid));
        Ok(Some(Answer { state: state_of(machine).to_owned(), since: machine.state_changed_at, why }))
    }
}

/// A node's state as lists of nodes show it.
fn state_of(machine: &Machine) -> &'static str {
    match machine.state {
        MachineState::Asked => MachineState::Preparing.as_str(),
        MachineState::Ready if machine.attempt.is_some() => "running",
        MachineState::Ready => "idle",
        state => state.as_str(),
    }
}

fn cluster_of<'s>(snapshot: &'s Snapshot, job: &Envelope<Job>) -> Option<&'s ClusterRow> {
    snapshot.clusters.iter().find(|row| row.path.eq_ignore_ascii_case(&job.spec.cluster))
}

/// A job as reconcilers read it, where they did not read as far.
fn row(job: &Envelope<Job>, cluster: Option<&ClusterRow>) -> JobRow {
    JobRow {
        uid: job.uid,
        path: job.path.clone(),
        cluster: cluster.map(|cluster| cluster.uid),
        rank: job.spec.rank(),
        created_at: job.created_at,
        node_count: job.spec.node_count,
        leaders: 1,
        max_wall_clock_s: job.spec.max_wall_clock_s,
        retries: job.spec.retries.clone(),
        status: job.status.clone(),
        attempts: 0,
        deleting: job.provisioning == Provisioning::Deleting,
        revision: 0,
    }
}
