//! All that one pass decides from, indexed once: rows, what the leader remembers, the time and the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::machine::Machine;
use crate::domain::snapshot::{ClusterRow, FileServerRow, JobRow, Snapshot};
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::reconcile::limits::{Catalog, Limits};
use crate::reconcile::memory::{Memory, Sight};

/// All that one pass decides from.
pub struct World<'a> {
    /// Rows as of one moment.
    pub(super) snapshot: &'a Snapshot,
    /// What the driver was seen to have.
    pub(super) memory: &'a Memory,
    /// When it is decided.
    pub(super) now: Timestamp,
    /// Bounds and patience.
    pub(super) limits: &'a Limits,
    /// Sizes and names.
    pub(super) catalog: &'a Catalog,
    pub(super) clusters: BTreeMap<ResourceUid, &'a ClusterRow>,
    pub(super) file_servers: BTreeMap<ResourceUid, &'a FileServerRow>,
    pub(super) jobs: BTreeMap<ResourceUid, &'a JobRow>,
    pub(super) machines: BTreeMap<MachineUid, &'a Machine>,
    pub(super) attempts: BTreeMap<AttemptUid, &'a Attempt>,
    active: BTreeSet<ResourceUid>,
    nodes: BTreeMap<ResourceUid, Vec<&'a Machine>>,
    queues: BTreeMap<ResourceUid, Vec<&'a JobRow>>,
}

impl<'a> World<'a> {
    /// Indexes what was read. The order of rows in `snapshot` is irrelevant.
    pub fn new(
        snapshot: &'a Snapshot,
        memory: &'a Memory,
        now: Timestamp,
        limits: &'a Limits,
        catalog: &'a Catalog,
    ) -> World<'a> {
        let mut nodes: BTreeMap<ResourceUid, Vec<&Machine>> = BTreeMap::new();
        for machine in &snapshot.machines {
            nodes.entry(machine.cluster).or_default().push(machine);
        }
        for members in nodes.values_mut() {
            members.sort_by_key(|machine| (machine.ordinal, machine.uid));
        }
        let mut queues: BTreeMap<ResourceUid, Vec<&JobRow>> = BTreeMap::new();
        for job in &snapshot.jobs {
            if let Some(cluster) = job.cluster
                && is_waiting(job)
            {
                queues.entry(cluster).or_default().push(job);
            }
        }
        for queue in queues.values_mut() {
            queue.sort_by_key(|job| (std::cmp::Reverse(job.rank), job.created_at, job.uid));
        }
        World {
            snapshot,
            memory,
            now,
            limits,
            catalog,
            clusters: snapshot.clusters.iter().map(|row| (row.uid, row)).collect(),
            file_servers: snapshot.file_servers.iter().map(|row| (row.uid, row)).collect(),
            jobs: snapshot.jobs.iter().map(|row| (row.uid, row)).collect(),
            machines: snapshot.machines.iter().map(|row| (row.uid, row)).collect(),
            attempts: snapshot.attempts.iter().map(|row| (row.uid, row)).collect(),
            active: snapshot.attempts.iter().map(|row| row.job).collect(),
            nodes,
            queues,
        }
    }

    /// The machines of a cluster or file server that are not gone, by ordinal.
    pub(super) fn nodes(&self, cluster: ResourceUid) -> &[&'a Machine] {
        self.nodes.get(&cluster).map_or(&[], Vec::as_slice)
    }

    /// A cluster's waiting jobs, as far as they were read, in the order in which they go.
    pub(super) fn queue(&self, cluster: ResourceUid) -> &[&'a JobRow] {
        self.queues.get(&cluster).map_or(&[], Vec::as_slice)
    }

    /// Whether an attempt of a job has not ended.
    pub(super) fn has_attempt(&self, job: ResourceUid) -> bool {
        self.active.contains(&job)
    }

    /// Whether nothing of a machine runs any more, surely; and how that is known.
    pub(super) fn proof_of_death(&self, machine: MachineUid) -> Option<&'static str> {
        let Some(row) = self.machines.get(&machine) else {
            // A row that is gone stays so, and was written from such a proof. One that cannot be read proves nothing.
            let unreadable =
                self.snapshot.unreadable.iter().any(|row| crate::reconcile::limits::machine_of(&row.name) == Some(machine));
            return (!unreadable).then_some("the machine was recorded as gone");
        };
        match self.memory.sight(row) {
            Sight::Absent => Some("the driver no longer has the machine"),
            Sight::Remains => Some("the driver sees the machine off"),
            Sight::Unknown => self.is_fenced(row).then_some("no server heard the node for so long that it has ended itself"),
            Sight::Present(_) => None,
        }
    }

    /// Whether a node has surely ended itself, as nobody heard it.
    fn is_fenced(&self, machine: &Machine) -> bool {
        self.limits.fenced_after.is_some_and(|after| self.is_unheard_for(machine, after))
    }

    /// When a node that is not seen will surely have ended itself, where it does that.
    pub(super) fn fenced_at(&self, machine: MachineUid) -> Option<Timestamp> {
        let row = self.machines.get(&machine)?;
        let (heard_at, after) = self.memory.heard_at(row).zip(self.limits.fenced_after)?;
        (self.memory.sight(row) == Sight::Unknown).then(|| heard_at + after)
    }

    /// When a machine is taken away, or was.
    pub(super) fn evicted_at(&self, machine: &Machine) -> Option<Timestamp> {
        machine.evict_at.or_else(|| self.memory.evicted_at(machine.uid))
    }

    /// Whether a machine is taken away, or was.
    pub(super) fn is_evicted(&self, machine: MachineUid) -> bool {
        self.machines.get(&machine).is_some_and(|machine| self.evicted_at(machine).is_some())
    }

    /// Whether a resource is put aside.
    pub(super) fn is_aside(&self, about: ResourceUid) -> bool {
        self.memory.is_aside(about, self.now)
    }

    /// Whether something that began at `start` has lasted longer than `patience`, not counting time in which nobody watched.
    pub(super) fn has_lasted(&self, start: Timestamp, patience: Duration) -> bool {
        self.now - start.max(self.memory.since()) > patience
    }

    /// Whether a node came home, and was not heard for longer than `patience` since, not counting time in which nobody watched.
    pub(super) fn is_unheard_for(&self, machine: &Machine, patience: Duration) -> bool {
        self.memory.heard_at(machine).is_some_and(|heard_at| self.has_lasted(heard_at, patience))
    }

    /// Whether something waits for a moment that a row tells. No pause is longer than `longest`: a moment further off was written by a
    /// clock that was ahead, and nothing waits for it.
    pub(super) fn waits_until(&self, moment: Timestamp, longest: Duration) -> bool {
        moment > self.now && moment - self.now <= longest
    }
}

fn is_waiting(job: &JobRow) -> bool {
    job.status.phase == crate::domain::job::Phase::Queued && !job.deleting
}
