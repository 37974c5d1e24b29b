//! What nodes used: taken from agents' reports, written many in one statement, read by range and step, and forgotten in time.
//!
//! What waits to be written is in memory: a crash loses two seconds of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::Service;
use super::background::prune;
use crate::clock::Timestamp;
use crate::domain::cluster::Cluster;
use crate::domain::job::Job;
use crate::domain::sample::{Curves, MOST, Range, Sample, Series};
use crate::error::{Error, ErrorCode};
use crate::id::{MachineUid, ResourceId};
use crate::store::sample::{self, SampleRow};
use crate::task::Tasks;

/// Most samples that wait; beyond them curves have a gap.
const WAITING: usize = 50_000;

/// Most rows of one statement.
const TOGETHER: usize = 2_000;

/// Pause in which samples of all agents gather for one statement.
const GATHER: Duration = Duration::from_secs(2);

/// How often what is too old is looked for.
const PRUNE: Duration = Duration::from_secs(600);

/// How much of a node is shown where no range is asked for.
const NODE_RANGE: time::Duration = time::Duration::hours(1);

/// Samples that wait to be written, each once.
#[derive(Default)]
pub(super) struct Waiting {
    rows: Mutex<BTreeMap<(MachineUid, Timestamp), Sample>>,
    more: Notify,
}

impl Waiting {
    /// Takes what an agent said of its machine. One that says more than can be is not heard out.
    pub(super) fn add(&self, machine: MachineUid, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let own = rows.range((machine, Timestamp::UNIX_EPOCH)..).take_while(|((of, _), _)| *of == machine).count();
        if rows.len() >= WAITING || own > MOST {
            tracing::debug!(machine.uid = %machine, "samples of a node are left out: too many wait to be written");
            return;
        }
        rows.extend(samples.into_iter().map(|sample| ((machine, sample.at), sample)));
        drop(rows);
        self.more.notify_one();
    }

    fn take(&self) -> Vec<SampleRow> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = rows.keys().nth(TOGETHER).copied().map(|at| rows.split_off(&at)).unwrap_or_default();
        let taken = std::mem::replace(&mut *rows, rest);
        taken.into_iter().map(|((machine_uid, _), sample)| SampleRow { machine_uid, sample }).collect()
    }
}

/// Which samples are asked for; what is `None` is chosen.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// From here.
    pub from: Option<Timestamp>,
    /// To here.
    pub to: Option<Timestamp>,
    /// Length of a point. Unit: seconds.
    pub step_s: Option<u32>,
}

impl Service {
    /// What the nodes of an attempt of a job used: of the attempt with that number, or the latest.
    ///
    /// # Errors
    /// `JobNotFound` and its parents' codes; `ServiceUnavailable`.
    pub async fn job_samples(&self, id: &ResourceId, number: Option<i32>, asked: &Asked) -> Result<Curves, Error> {
        let job = self.get::<Job>(id).await?;
        let now = self.now();
        let Some(found) = sample::attempt(self.pool(), job.uid, number).await? else {
            let range = Range::new(asked.from.unwrap_or(now), asked.to.unwrap_or(now), asked.step_s, 0);
            return Ok(Curves { attempt: None, range, series: Vec::new() });
        };
        let (from, to) = (asked.from.unwrap_or(found.from), asked.to.unwrap_or(found.to.unwrap_or(now)));
        let range = Range::new(from, to, asked.step_s, found.nodes.len());
        let series = self.fill(found.nodes, Some(found.attempt), &range).await?;
        Ok(Curves { attempt: Some(found.number), range, series })
    }

    /// What a node of a cluster used, in the last hour where nothing else is asked for.
    ///
    /// # Errors
    /// `NodeNotFound`; `ClusterNotFound` and its parents' codes; `ServiceUnavailable`.
    pub async fn node_samples(&self, id: &ResourceId, node_id: &str, asked: &Asked) -> Result<Curves, Error> {
        let cluster = self.get::<Cluster>(id).await?;
        let Some(machine) = sample::node(self.pool(), cluster.uid, node_id).await? else {
            let message = format!("The cluster '{}' has no node '{node_id}'.", id.name());
            return Err(Error::new(ErrorCode::NodeNotFound, message));
        };
        let to = asked.to.unwrap_or(self.now());
        let range = Range::new(asked.from.unwrap_or(to - NODE_RANGE), to, asked.step_s, 1);
        let node = Series { node_id: Some(node_id.to_owned()), rank: None, points: Vec::new() };
        Ok(Curves { attempt: None, series: self.fill(vec![(machine, node)], None, &range).await?, range })
    }

    async fn fill(&self, nodes: Vec<(Uuid, Series)>, attempt: Option<Uuid>, range: &Range) -> Result<Vec<Series>, Error> {
        let machines: Vec<Uuid> = nodes.iter().map(|(machine, _)| *machine).collect();
        let mut points: BTreeMap<Uuid, Vec<_>> = BTreeMap::new();
        for (machine, point) in sample::points(self.pool(), &machines, attempt, range).await? {
            points.entry(machine).or_default().push(point);
        }
        let fill = |(machine, series)| Series { points: points.remove(&machine).unwrap_or_default(), ..series };
        Ok(nodes.into_iter().map(fill).collect())
    }

    pub(super) fn keep_samples(&self, tasks: &Tasks) {
        let (service, shutdown) = (self.clone(), tasks.shutdown());
        tasks.spawn("service.samples", async move {
            // Statements are never cut off.
            while shutdown.run_until_cancelled(service.inner.samples.more.notified()).await.is_some() {
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(GATHER)).await;
                service.write_samples().await;
            }
            service.write_samples().await;
        });
        let service = self.clone();
        tasks.spawn_cancellable("service.prune_samples", async move {
            loop {
                service.prune_samples().await;
                tokio::time::sleep(PRUNE).await;
            }
        });
    }

    /// Writes all samples that wait.
    pub async fn write_samples(&self) {
        loop {
            let rows = self.inner.samples.take();
            if rows.is_empty() {
                return;
            }
            if let Err(error) = self.inner.store.add_samples(&rows).await {
                // Curves have a gap then, which is better than to hold them for a database that is away.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, rows = rows.len(), "what nodes used could not be written");
            }
        }
    }

    /// Removes samples that are older than they are kept.
    pub async fn prune_samples(&self) {
        let before = self.now() - self.inner.limits.samples_for;
        prune("what nodes used", || self.inner.store.prune_samples(before)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::Used;
    use crate::id::AttemptUid;

    #[test]
    fn each_sample_waits_once_and_nobody_takes_the_place_of_others() {
        let waiting = Waiting::default();
        let at = |second| Timestamp::UNIX_EPOCH + time::Duration::seconds(second);
        let sample = |second| Sample { attempt_uid: AttemptUid(Uuid::nil()), at: at(second), used: Used::default() };
        let (loud, other) = (MachineUid(Uuid::from_u128(1)), MachineUid(Uuid::from_u128(2)));
        for round in 0..10_000 {
            waiting.add(loud, vec![sample(round), sample(round)]);
        }
        waiting.add(other, vec![sample(1)]);
        let rows = waiting.take();
        assert_eq!(rows.iter().filter(|row| row.machine_uid == other).count(), 1);
        assert_eq!(rows.len(), MOST + 2, "what one machine said is bounded");
        assert!(waiting.take().is_empty());
    }
}
