//! A small model of the store: rows in maps, one transaction at a time, revisions, a lease by its own clock. What the real store
//! must do is here in a page or two; what may never be committed is checked as it is committed.

use std::collections::{BTreeMap, BTreeSet};

use batchyard::clock::Timestamp;
use batchyard::domain::attempt::{Assignment, AssignmentState, Attempt, AttemptState};
use batchyard::domain::cluster::{Allocation, ClusterSpec, ClusterStatus, Deallocation, NodeCounts, Scale};
use batchyard::domain::job::{JobStatus, Phase};
use batchyard::domain::machine::{Bootstrap, Machine, MachineState, Setup};
use batchyard::domain::operation::Verb;
use batchyard::domain::report::{self, Judged, Report};
use batchyard::domain::snapshot::{Change, ClusterRow, DeletingRow, JobRow, Snapshot, UnreadableMachine};
use batchyard::id::{AttemptUid, Kind, MachineUid, ResourceUid};
use batchyard::store::{Applied, Lease};
use uuid::Uuid;

/// Known mistakes of a store, each of which the simulation must find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mistakes {
    /// Commits are not checked against the lease.
    pub(crate) no_fence: bool,
    /// Commits are not checked against revisions.
    pub(crate) no_revisions: bool,
}

/// All rows.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) clusters: BTreeMap<ResourceUid, ClusterRow>,
    pub(crate) jobs: BTreeMap<ResourceUid, Job>,
    pub(crate) containers: BTreeMap<ResourceUid, Container>,
    pub(crate) machines: BTreeMap<MachineUid, Node>,
    pub(crate) attempts: BTreeMap<AttemptUid, Past>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) removed: BTreeSet<ResourceUid>,
    pub(crate) poisoned: BTreeSet<ResourceUid>,
    pub(crate) unreadable: BTreeSet<MachineUid>,
    lease: Option<(Lease, u64)>,
    pub(crate) last_token: i64,
    pub(crate) commits: u64,
    pub(crate) mistakes: Mistakes,
}

#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) row: JobRow,
    pub(crate) parent: ResourceUid,
}

#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) kind: Kind,
    pub(crate) parent: Option<ResourceUid>,
    pub(crate) deleting: bool,
    revision: i64,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) row: Machine,
    token: String,
    /// The key that its first join bound: the machine's incarnation.
    key: Option<u64>,
    session: Option<Uuid>,
    past_sessions: Vec<Uuid>,
    seq: u64,
    boot: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Past {
    pub(crate) attempt: Attempt,
    pub(crate) cause: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) resource: ResourceUid,
    pub(crate) verb: Verb,
    pub(crate) ended: bool,
}

/// What a node should do with one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Prepare,
    Run,
    Stop,
}

/// What a node should be: one part at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Desired {
    pub(crate) part: Option<(AttemptUid, i32, Step)>,
}

/// Why a commit did not happen.
enum Refused {
    Stale,
    /// A constraint of the database: only ever a mistake or a poisoned row.
    Broken,
    /// Something that must never be committed.
    Violation(String),
}

impl From<String> for Refused {
    fn from(text: String) -> Refused {
        Refused::Violation(text)
    }
}

/// What became of a commit.
pub(crate) enum Commit {
    Applied(Applied),
    Broken,
    Violation(String),
}

fn must(holds: bool, rule: &str) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused::Violation(rule.to_owned())) }
}

impl Model {
    pub(crate) fn take_lease(&mut self, name: &str, holder: Uuid, ttl_ms: u64, now_ms: u64) -> Option<Lease> {
        let (lease, expires) = match self.lease.take() {
            Some((lease, expires)) if expires > now_ms && lease.holder != holder => {
                self.lease = Some((lease, expires));
                return None;
            }
            // Renewed without a gap: the same grant.
            Some((lease, expires)) if expires > now_ms => (lease, now_ms + ttl_ms),
            _ => {
                self.last_token += 1;
                (Lease { name: name.into(), holder, token: self.last_token }, now_ms + ttl_ms)
            }
        };
        self.lease = Some((lease.clone(), expires));
        Some(lease)
    }

    pub(crate) fn release_lease(&mut self, lease: &Lease) {
        if self.lease.as_ref().is_some_and(|(held, _)| held == lease) {
            self.lease = None;
        }
    }

    pub(crate) fn snapshot(&self, queue: u32) -> Snapshot {
        let queue = queue as usize;
        let alive = || self.attempts.values().filter(|past| past.attempt.state != AttemptState::Ended);
        let active: BTreeSet<ResourceUid> = alive().map(|past| past.attempt.job).collect();
        let mut waiting: BTreeMap<Option<ResourceUid>, Vec<&JobRow>> = BTreeMap::new();
        let mut jobs = Vec::new();
        for job in self.jobs.values() {
            if active.contains(&job.row.uid) || job.row.status.phase == Phase::Terminating {
                jobs.push(self.job_row(job));
            } else if job.row.status.phase == Phase::Queued {
                let cluster = job.row.cluster.filter(|uid| self.clusters.contains_key(uid));
                waiting.entry(cluster).or_default().push(&job.row);
            }
        }
        for list in waiting.values_mut() {
            list.sort_by_key(|row| (std::cmp::Reverse(row.rank), row.created_at, row.uid));
            // Those that can never have their nodes take no place from others.
            let most = |row: &JobRow| match row.cluster.and_then(|uid| self.clusters.get(&uid))?.spec.scale {
                Scale::Auto { maximum, .. } => Some(maximum),
                Scale::Manual { .. } => None,
            };
            let (fit, large): (Vec<&JobRow>, Vec<&JobRow>) =
                list.iter().partition(|row| most(row).is_none_or(|most| row.node_count <= most));
            jobs.extend(large.iter().take(8).filter_map(|row| self.jobs.get(&row.uid)).map(|job| self.job_row(job)));
            jobs.extend(fit.iter().take(queue).filter_map(|row| self.jobs.get(&row.uid)).map(|job| self.job_row(job)));
        }
        let living = || self.machines.values().filter(|node| node.row.state != MachineState::Gone);
        let children = |uid: ResourceUid| {
            let jobs = self.jobs.values().filter(|job| job.parent == uid).count();
            let containers = self.containers.values().filter(|c| c.parent == Some(uid)).count();
            let clusters =
                if self.containers.get(&uid).is_some_and(|c| c.kind == Kind::Workspace) { self.clusters.len() } else { 0 };
            (jobs + containers + clusters) as u32
        };
        let containers = self.containers.iter().filter(|(_, c)| c.deleting).map(|(uid, c)| DeletingRow {
            uid: *uid,
            kind: c.kind,
            path: String::new(),
            children: children(*uid),
            active: false,
            revision: c.revision,
        });
        let deleted_jobs = self.jobs.values().filter(|job| job.row.deleting).map(|job| DeletingRow {
            uid: job.row.uid,
            kind: Kind::Job,
            path: String::new(),
            children: 0,
            active: active.contains(&job.row.uid),
            revision: job.row.revision,
        });
        Snapshot {
            clusters: self.clusters.values().cloned().collect(),
            machines: living()
                .filter(|node| !self.unreadable.contains(&node.row.uid))
                .map(|node| {
                    let mut row = node.row.clone();
                    row.joined = node.key.is_some();
                    row.bootstrap = (row.state == MachineState::Asked && node.key.is_none())
                        .then(|| Bootstrap { join_token: node.token.clone() });
                    row
                })
                .collect(),
            attempts: alive().map(|past| past.attempt.clone()).collect(),
            jobs,
            deleting: containers.chain(deleted_jobs).collect(),
            file_servers: Vec::new(),
            unreadable_servers: Vec::new(),
            unreadable: living()
                .filter(|node| self.unreadable.contains(&node.row.uid))
                .map(|node| UnreadableMachine { name: node.row.name.clone(), cluster: node.row.cluster })
                .collect(),
        }
    }

    fn job_row(&self, job: &Job) -> JobRow {
        let mut row = job.row.clone();
        row.cluster = row.cluster.filter(|uid| self.clusters.contains_key(uid));
        row
    }

    /// Applies all or none.
    pub(crate) fn apply(&mut self, lease: &Lease, changes: &[Change], now_ms: u64) -> Commit {
        let held = self.lease.as_ref().is_some_and(|(held, expires)| held.token == lease.token && *expires > now_ms);
        if !held && !self.mistakes.no_fence {
            return Commit::Applied(Applied::LeaseLost);
        }
        if lease.token < self.last_token {
            return Commit::Violation(format!("S7: a commit with token {} after {} was granted", lease.token, self.last_token));
        }
        let mut next = self.clone();
        for change in changes {
            match next.change(change) {
                Ok(()) => {}
                Err(Refused::Stale) => return Commit::Applied(Applied::Stale),
                Err(Refused::Broken) => return Commit::Broken,
                Err(Refused::Violation(rule)) => return Commit::Violation(format!("{rule}, by {change:?}")),
            }
        }
        next.commits += 1;
        *self = next;
        match self.check() {
            Ok(()) => Commit::Applied(Applied::All),
            Err(Refused::Violation(rule)) => Commit::Violation(rule),
            Err(_) => Commit::Broken,
        }
    }

    fn fresh(&self, found: i64, wanted: i64) -> Result<(), Refused> {
        if found == wanted || self.mistakes.no_revisions { Ok(()) } else { Err(Refused::Stale) }
    }

    fn node(&mut self, uid: MachineUid, revision: i64) -> Result<&mut Node, Refused> {
        let found = self.machines.get(&uid).ok_or(Refused::Stale)?.row.revision;
        self.fresh(found, revision)?;
        let node = self.machines.get_mut(&uid).ok_or(Refused::Stale)?;
        node.row.revision += 1;
        Ok(node)
    }

    fn move_node(&mut self, uid: MachineUid, revision: i64, to: MachineState, at: Timestamp) -> Result<&mut Node, Refused> {
        use MachineState::*;
        let node = self.node(uid, revision)?;
        let legal = match node.row.state {
            Asked => matches!(to, Preparing | Leaving | Gone),
            Preparing => matches!(to, Ready | Unusable | Leaving | Gone),
            Ready => matches!(to, Leaving | Gone),
            Unusable => matches!(to, Ready | Leaving | Gone),
            Leaving => matches!(to, Leaving | Gone),
            Gone => false,
        };
        must(legal, &format!("S8: machine {:?} → {to:?}", node.row.state))?;
        if node.row.state != to {
            node.row.state = to;
            node.row.state_changed_at = at;
        }
        Ok(node)
    }

    fn attempt(&mut self, uid: AttemptUid, revision: i64) -> Result<&mut Attempt, Refused> {
        let found = self.attempts.get(&uid).ok_or(Refused::Stale)?.attempt.revision;
        self.fresh(found, revision)?;
        let attempt = &mut self.attempts.get_mut(&uid).ok_or(Refused::Stale)?.attempt;
        must(attempt.state != AttemptState::Ended, "S3: an attempt that ended is written")?;
        attempt.revision += 1;
        Ok(attempt)
    }

    fn job_moves(&mut self, uid: ResourceUid, revision: i64, status: &JobStatus) -> Result<&mut Job, Refused> {
        use Phase::*;
        if self.poisoned.contains(&uid) {
            return Err(Refused::Broken);
        }
        let found = self.jobs.get(&uid).ok_or(Refused::Stale)?.row.revision;
        self.fresh(found, revision)?;
        let job = self.jobs.get_mut(&uid).ok_or(Refused::Stale)?;
        let legal = match job.row.status.phase {
            Queued => matches!(status.phase, Running | Failed),
            Running => matches!(status.phase, Succeeded | Failed | Queued),
            Terminating => status.phase == Failed,
            Succeeded | Failed => false,
        };
        must(legal, &format!("S8: job {:?} → {:?}", job.row.status.phase, status.phase))?;
        must(status.phase != Failed || !status.errors.is_empty(), "S15: a job fails without an error")?;
        must(status.phase.is_final() == status.ended_at.is_some(), "a job's end and its time differ")?;
        job.row.status = status.clone();
        job.row.revision += 1;
        Ok(job)
    }

    fn change(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::AskMachine { cluster_revision, spec, ordinal, at } => {
                let cluster = self.clusters.get(&spec.cluster).ok_or(Refused::Stale)?;
                let found = cluster.revision;
                self.fresh(found, *cluster_revision)?;
                let reused = self.machines.values().any(|node| node.row.name == spec.name || node.row.uid == spec.uid);
                must(!reused, "S6: a name is used twice")?;
                if self.poisoned.contains(&spec.cluster) {
                    return Err(Refused::Broken);
                }
                if let Some(cluster) = self.clusters.get_mut(&spec.cluster) {
                    must(*ordinal > cluster.last_ordinal, "an ordinal is used twice")?;
                    cluster.last_ordinal = *ordinal;
                }
                let row = Machine {
                    uid: spec.uid,
                    name: spec.name.clone(),
                    node_id: spec.node_id.clone(),
                    cluster: spec.cluster,
                    ordinal: *ordinal,
                    size: spec.size.clone(),
                    state: MachineState::Asked,
                    state_changed_at: *at,
                    created_at: *at,
                    attempt: None,
                    evict_at: None,
                    deallocation: None,
                    address: None,
                    bootstrap: None,
                    joined: false,
                    quarantined: false,
                    login_address: None,
                    heard_at: None,
                    setup: Setup::Pending,
                    ensure_failures: 0,
                    retry_at: None,
                    problem: None,
                    revision: 1,
                };
                let token = spec.bootstrap.join_token.clone();
                let node = Node { row, token, key: None, session: None, past_sessions: Vec::new(), seq: 0, boot: None };
                self.machines.insert(spec.uid, node);
                let staying = self.machines.values().filter(|node| {
                    node.row.cluster == spec.cluster && !matches!(node.row.state, MachineState::Leaving | MachineState::Gone)
                });
                let most = self.clusters.get(&spec.cluster).map_or(0, |cluster| match cluster.spec.scale {
                    Scale::Manual { target, .. } => target as usize,
                    Scale::Auto { maximum, .. } => maximum as usize,
                });
                must(staying.count() <= most, "S13: more machines are asked for than the cluster is to have")?;
            }
            Change::MachinePresent { uid, revision, address, at } => {
                let node = self.move_node(*uid, *revision, MachineState::Preparing, *at)?;
                node.row.address.clone_from(address);
                node.row.problem = None;
                node.row.retry_at = None;
            }
            Change::MachineNotMade { uid, revision, problem, retry_at } => {
                let node = self.node(*uid, *revision)?;
                must(node.row.state == MachineState::Asked, "S8: a machine that was made is not made")?;
                node.row.ensure_failures += 1;
                node.row.problem = Some(problem.clone());
                node.row.retry_at = Some(*retry_at);
            }
            Change::MachineReady { uid, revision, at } => {
                let node = self.move_node(*uid, *revision, MachineState::Ready, *at)?;
                must(node.row.setup == Setup::Done, "a node is ready before its setup is done")?;
                node.row.problem = None;
            }
            Change::MachineUnusable { uid, revision, problem, at } => {
                self.move_node(*uid, *revision, MachineState::Unusable, *at)?.row.problem = Some(problem.clone());
            }
            Change::MachineLeaving { uid, revision, deallocation, evict_at, at } => {
                must(!self.takes_from_a_job(*uid, *deallocation), "S17: scaling takes a node from a job")?;
                let node = self.move_node(*uid, *revision, MachineState::Leaving, *at)?;
                node.row.deallocation = Some(*deallocation);
                node.row.evict_at = node.row.evict_at.or(*evict_at);
            }
            Change::MachineGone { uid, revision, at } => {
                self.move_node(*uid, *revision, MachineState::Gone, *at)?;
            }
            Change::Place { attempt, job_revision, status } => self.place(attempt, *job_revision, status)?,
            Change::Release { uid, revision, at } => {
                let attempt = self.attempt(*uid, *revision)?;
                must(attempt.state == AttemptState::Placed, "S4: an attempt is released twice")?;
                let ready = |part: &Assignment| part.state == AssignmentState::Ready;
                must(attempt.assignments.iter().all(ready), "S4: released before all parts were ready")?;
                attempt.state = AttemptState::Released;
                attempt.released_at = Some(*at);
            }
            Change::StopAttempt { uid, revision, why } => {
                let attempt = self.attempt(*uid, *revision)?;
                must(attempt.stop.is_none(), "a stop is set twice")?;
                attempt.stop = Some(*why);
            }
            Change::LosePart { attempt, assignment, end } => {
                let attempt = &mut self.attempts.get_mut(attempt).ok_or(Refused::Stale)?.attempt;
                let part = attempt.assignments.iter_mut().find(|part| part.rank == assignment.rank).ok_or(Refused::Stale)?;
                if part.state == AssignmentState::Ended {
                    return Err(Refused::Stale);
                }
                part.state = AssignmentState::Ended;
                part.end = Some(end.clone());
            }
            Change::EndAttempt { uid, revision, cause, .. } => {
                let attempt = self.attempt(*uid, *revision)?;
                let ended = attempt.assignments.iter().all(|part| part.state == AssignmentState::Ended);
                must(ended, "an attempt ends before its parts")?;
                must(!cause.is_empty(), "S15: an attempt ends without a cause")?;
                attempt.state = AttemptState::Ended;
                if let Some(past) = self.attempts.get_mut(uid) {
                    past.cause = Some(cause.clone());
                }
                for node in self.machines.values_mut().filter(|node| node.row.attempt == Some(*uid)) {
                    node.row.attempt = None;
                    node.row.revision += 1;
                }
            }
            Change::JobStatus { uid, revision, status, why } => {
                must(!why.is_empty(), "S15: a job's status changes without a reason")?;
                must(status.phase != Phase::Running, "a job runs without a place")?;
                self.job_moves(*uid, *revision, status)?;
            }
            Change::ClusterStatus { uid, revision, allocation, changed_at, errors, auto, repairs } => {
                let found = self.clusters.get(uid).ok_or(Refused::Stale)?.revision;
                self.fresh(found, *revision)?;
                let cluster = self.clusters.get_mut(uid).ok_or(Refused::Stale)?;
                cluster.status.allocation = *allocation;
                cluster.status.allocation_changed_at = *changed_at;
                cluster.status.errors.clone_from(errors);
                cluster.status.auto = *auto;
                cluster.status.repairs.clone_from(repairs);
                cluster.revision += 1;
            }
            Change::FileServerStatus { .. } => must(false, "a file server shows itself that nobody made")?,
            Change::FinishOperations { resource, verb, .. } => self.finish(*resource, *verb),
            Change::Remove { uid, revision, .. } => self.remove(*uid, *revision)?,
        }
        Ok(())
    }

    /// Whether a node leaves because its cluster, which scales by its queue, is to be smaller, though a job that may stay has it.
    fn takes_from_a_job(&self, uid: MachineUid, deallocation: Deallocation) -> bool {
        let Some(node) = self.machines.get(&uid).filter(|node| node.row.attempt.is_some()) else { return false };
        let Some(cluster) = self.clusters.get(&node.row.cluster).filter(|cluster| !cluster.deleting) else { return false };
        let Scale::Auto { maximum, .. } = cluster.spec.scale else { return false };
        let is_busy = |other: &&Node| {
            let row = &other.row;
            row.cluster == cluster.uid
                && row.attempt.is_some()
                && !matches!(row.state, MachineState::Leaving | MachineState::Gone)
        };
        let busy = self.machines.values().filter(is_busy).count();
        deallocation == Deallocation::WaitForJobCompletion && node.row.state == MachineState::Ready && busy <= maximum as usize
    }

    fn place(&mut self, attempt: &Attempt, job_revision: i64, status: &JobStatus) -> Result<(), Refused> {
        must(status.phase == Phase::Running, "a placed job does not run")?;
        let job = self.job_moves(attempt.job, job_revision, status)?;
        must(!job.row.deleting, "a job that is being deleted is placed")?;
        must(attempt.assignments.len() == job.row.node_count as usize, "S4: a gang of another size")?;
        job.row.attempts += 1;
        must(attempt.number == job.row.attempts, "attempts are counted wrongly")?;
        let cluster = job.row.cluster;
        let another =
            self.attempts.values().any(|past| past.attempt.job == attempt.job && past.attempt.state != AttemptState::Ended);
        must(!another, "S2: a job has two attempts")?;
        let alone = attempt.assignments.len() == 1;
        must(alone == (attempt.state == AttemptState::Released), "S4: a gang is released unseen")?;
        for part in &attempt.assignments {
            let node = self.machines.get_mut(&part.machine).ok_or(Refused::Stale)?;
            if node.row.state != MachineState::Ready || node.row.attempt.is_some() {
                return if self.mistakes.no_revisions {
                    Err("S5: a node is given twice".to_owned().into())
                } else {
                    Err(Refused::Stale)
                };
            }
            must(Some(node.row.cluster) == cluster, "S5: a node of another cluster")?;
            node.row.attempt = Some(attempt.uid);
            node.row.revision += 1;
        }
        must(!self.attempts.contains_key(&attempt.uid), "S6: an attempt's id is used twice")?;
        self.attempts.insert(attempt.uid, Past { attempt: attempt.clone(), cause: None });
        Ok(())
    }

    fn remove(&mut self, uid: ResourceUid, revision: i64) -> Result<(), Refused> {
        if let Some(job) = self.jobs.get(&uid) {
            let (found, deleting) = (job.row.revision, job.row.deleting);
            self.fresh(found, revision)?;
            must(deleting, "a job goes that nobody deleted")?;
            let alive = self.attempts.values().any(|past| past.attempt.job == uid && past.attempt.state != AttemptState::Ended);
            must(!alive, "a job goes before its attempt")?;
            self.jobs.remove(&uid);
        } else if let Some(cluster) = self.clusters.get(&uid) {
            let (found, deleting) = (cluster.revision, cluster.deleting);
            self.fresh(found, revision)?;
            must(deleting, "a cluster goes that nobody deleted")?;
            let machines = self.machines.values().any(|node| node.row.cluster == uid && node.row.state != MachineState::Gone);
            must(!machines, "L3: a cluster goes before its machines")?;
            self.clusters.remove(&uid);
        } else {
            let container = self.containers.get(&uid).ok_or(Refused::Stale)?;
            let (found, deleting) = (container.revision, container.deleting);
            self.fresh(found, revision)?;
            must(deleting, "a container goes that nobody deleted")?;
            let empty =
                !self.jobs.values().any(|job| job.parent == uid) && !self.containers.values().any(|c| c.parent == Some(uid));
            must(empty, "a container goes before its children")?;
            self.containers.remove(&uid);
        }
        self.removed.insert(uid);
        self.finish(uid, Verb::Delete);
        self.finish(uid, Verb::Terminate);
        Ok(())
    }

    fn finish(&mut self, resource: ResourceUid, verb: Verb) {
        for operation in self.operations.iter_mut().filter(|o| o.resource == resource && o.verb == verb) {
            operation.ended = true;
        }
    }

    /// What holds between commits.
    fn check(&self) -> Result<(), Refused> {
        let mut busy: BTreeMap<MachineUid, AttemptUid> = BTreeMap::new();
        for past in self.attempts.values().filter(|past| past.attempt.state != AttemptState::Ended) {
            for part in past.attempt.assignments.iter().filter(|part| part.state != AssignmentState::Ended) {
                must(busy.insert(part.machine, past.attempt.uid).is_none(), "S5: a node has two parts that have not ended")?;
            }
        }
        for operation in self.operations.iter().filter(|o| o.ended && o.verb == Verb::Terminate) {
            let ended = self.jobs.get(&operation.resource).is_none_or(|job| job.row.status.phase.is_final());
            must(ended, "S8: a terminate succeeded before its job ended")?;
        }
        Ok(())
    }
}

/// What users and agents do, each one transaction.
impl Model {
    pub(crate) fn put_container(&mut self, uid: ResourceUid, kind: Kind, parent: Option<ResourceUid>) {
        self.containers.insert(uid, Container { kind, parent, deleting: false, revision: 1 });
    }

    pub(crate) fn put_cluster(&mut self, uid: ResourceUid, scale: Scale, at: Timestamp) {
        let spec = ClusterSpec {
            vm_size: "STANDARD_D1".into(),
            vm_priority: batchyard::domain::cluster::VmPriority::Dedicated,
            scale,
            image: Default::default(),
            node_setup: None,
            user_account: batchyard::domain::cluster::UserAccount { name: "user".into(), ssh_public_key: None },
            subnet: None,
            older: None,
        };
        let status = ClusterStatus {
            allocation: if scale.first_target() == 0 { Allocation::Steady } else { Allocation::Resizing },
            allocation_changed_at: at,
            errors: Vec::new(),
            auto: scale.first_auto(),
            repairs: None,
            subnet: None,
            output_uuid: uid.0,
            nodes: NodeCounts::default(),
        };
        let path = format!("/clusters/{uid}");
        self.clusters.insert(
            uid,
            ClusterRow { uid, path, location: "eastus".into(), spec, status, deleting: false, last_ordinal: 0, revision: 1 },
        );
    }

    pub(crate) fn resize(&mut self, uid: ResourceUid, scale: Scale, at: Timestamp) -> bool {
        let Some(cluster) = self.clusters.get_mut(&uid).filter(|cluster| !cluster.deleting) else { return false };
        cluster.spec.scale = scale;
        cluster.status.repairs = None;
        if matches!(scale, Scale::Manual { .. }) {
            cluster.status.allocation = Allocation::Resizing;
            cluster.status.allocation_changed_at = at;
        }
        cluster.revision += 1;
        true
    }

    /// A user rehearses that a node is taken away.
    pub(crate) fn evict(&mut self, uid: MachineUid, evict_at: Timestamp) {
        use MachineState::*;
        let node = self.machines.get_mut(&uid);
        if let Some(node) = node.filter(|node| matches!(node.row.state, Preparing | Ready | Unusable | Leaving)) {
            node.row.evict_at = Some(node.row.evict_at.map_or(evict_at, |before| before.min(evict_at)));
            node.row.revision += 1;
        }
    }

    pub(crate) fn put_job(&mut self, row: JobRow, parent: ResourceUid) -> bool {
        let cluster = row.cluster.and_then(|uid| self.clusters.get(&uid)).is_some_and(|cluster| !cluster.deleting);
        let experiment = self.containers.get(&parent).is_some_and(|container| !container.deleting);
        if cluster && experiment {
            self.jobs.insert(row.uid, Job { row, parent });
        }
        cluster && experiment
    }

    pub(crate) fn terminate(&mut self, uid: ResourceUid, at: Timestamp) -> bool {
        let Some(job) = self.jobs.get_mut(&uid).filter(|job| !job.row.deleting && !job.row.status.phase.is_final()) else {
            return false;
        };
        if job.row.status.phase != Phase::Terminating {
            job.row.status.phase = Phase::Terminating;
            job.row.status.phase_changed_at = at;
            job.row.revision += 1;
        }
        self.operations.push(Operation { resource: uid, verb: Verb::Terminate, ended: false });
        true
    }

    /// Marks a resource and all below it.
    pub(crate) fn delete(&mut self, uid: ResourceUid) -> bool {
        if !self.mark(uid) {
            return false;
        }
        self.operations.push(Operation { resource: uid, verb: Verb::Delete, ended: false });
        true
    }

    fn mark(&mut self, uid: ResourceUid) -> bool {
        if let Some(job) = self.jobs.get_mut(&uid) {
            let was = std::mem::replace(&mut job.row.deleting, true);
            job.row.revision += i64::from(!was);
            return true;
        }
        if let Some(cluster) = self.clusters.get_mut(&uid) {
            let was = std::mem::replace(&mut cluster.deleting, true);
            cluster.revision += i64::from(!was);
            return true;
        }
        let Some(container) = self.containers.get_mut(&uid) else { return false };
        let was = std::mem::replace(&mut container.deleting, true);
        container.revision += i64::from(!was);
        let below: Vec<ResourceUid> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.parent == uid)
            .map(|(uid, _)| *uid)
            .chain(self.containers.iter().filter(|(_, c)| c.parent == Some(uid)).map(|(uid, _)| *uid))
            .collect();
        for child in below {
            self.mark(child);
        }
        true
    }

    /// The join token of a machine, as its bootstrap has it.
    pub(crate) fn token(&self, uid: MachineUid) -> String {
        self.machines.get(&uid).map(|node| node.token.clone()).unwrap_or_default()
    }

    /// An agent comes home. `key` is made on the machine: the first one is bound, another one is refused.
    pub(crate) fn join(&mut self, name: &str, token: &str, key: u64, at: Timestamp) -> Option<MachineUid> {
        let node = self.machines.values_mut().find(|node| node.row.name == name)?;
        if node.row.state == MachineState::Gone || node.token != token || node.row.quarantined {
            return None;
        }
        if node.key.is_some_and(|bound| bound != key) {
            node.row.quarantined = true;
            node.row.revision += 1;
            if matches!(node.row.state, MachineState::Asked | MachineState::Preparing | MachineState::Ready) {
                node.row.state = MachineState::Unusable;
                node.row.state_changed_at = at;
            }
            return None;
        }
        if node.key.is_none() {
            node.key = Some(key);
            node.row.heard_at = Some(at);
            node.row.revision += 1;
        }
        Some(node.row.uid)
    }

    /// An agent reports. `None` where it is refused.
    pub(crate) fn sync(&mut self, uid: MachineUid, key: u64, report: &Report<'_>, at: Timestamp) -> Option<(Desired, bool)> {
        let node = self.machines.get_mut(&uid)?;
        if node.key != Some(key) || node.row.state == MachineState::Gone || node.row.quarantined {
            return None;
        }
        let held = self
            .attempts
            .values()
            .filter(|past| past.attempt.state != AttemptState::Ended)
            .flat_map(|past| past.attempt.assignments.iter().map(move |part| (&past.attempt, part)))
            .filter(|(_, part)| part.machine == uid && part.state != AssignmentState::Ended)
            .map(|(attempt, part)| report::Held {
                attempt: attempt.uid,
                released: attempt.state == AttemptState::Released,
                state: part.state,
                started_at: part.started_at,
            })
            .collect();
        let record = report::Record {
            session: node.session,
            past_sessions: node.past_sessions.clone(),
            seq: node.seq,
            boot_id: node.boot.clone(),
            setup: node.row.setup.clone(),
            held,
        };
        let mut changed = false;
        if let Judged::Taken(changes) = report::judge(&record, report) {
            changed = !changes.is_empty();
            node.row.heard_at = Some(at);
            if let Some(new) = changes.session {
                (node.session, node.boot, node.past_sessions) = (Some(new.session), Some(new.boot_id), new.past_sessions);
            }
            node.seq = report.seq;
            if let Some(setup) = changes.setup {
                if setup == Setup::Pending && matches!(node.row.state, MachineState::Ready | MachineState::Unusable) {
                    node.row.state = MachineState::Preparing;
                    node.row.state_changed_at = at;
                    node.row.problem = None;
                }
                node.row.setup = setup;
                node.row.revision += 1;
            }
            for seen in changes.moved {
                let Some(past) = self.attempts.get_mut(&seen.attempt) else { continue };
                past.attempt.revision += 1;
                for part in past.attempt.assignments.iter_mut().filter(|part| part.machine == uid) {
                    part.state = seen.state;
                    part.end.clone_from(&seen.end);
                    part.started_at = seen.started_at;
                }
            }
        }
        Some((self.desired(uid), changed))
    }

    fn desired(&self, uid: MachineUid) -> Desired {
        let part = self.machines.get(&uid).and_then(|node| node.row.attempt).and_then(|attempt| {
            let attempt = &self.attempts.get(&attempt)?.attempt;
            let part = attempt.assignments.iter().find(|part| part.machine == uid)?;
            let step = match (attempt.stop, attempt.state) {
                (Some(_), _) => Step::Stop,
                (None, AttemptState::Placed) => Step::Prepare,
                (None, _) => Step::Run,
            };
            Some((attempt.uid, part.rank, step))
        });
        Desired { part }
    }

    /// Calls `see` with each value that a run's trace is made of, for one change.
    pub(crate) fn trace(change: &Change, mut see: impl FnMut(u128)) {
        let (kind, id) = match change {
            Change::AskMachine { spec, .. } => (1, spec.uid.0),
            Change::MachinePresent { uid, .. } => (2, uid.0),
            Change::MachineNotMade { uid, .. } => (3, uid.0),
            Change::MachineReady { uid, .. } => (4, uid.0),
            Change::MachineUnusable { uid, .. } => (5, uid.0),
            Change::MachineLeaving { uid, .. } => (6, uid.0),
            Change::MachineGone { uid, .. } => (7, uid.0),
            Change::Place { attempt, .. } => (8, attempt.uid.0),
            Change::Release { uid, .. } => (9, uid.0),
            Change::StopAttempt { uid, .. } => (10, uid.0),
            Change::LosePart { attempt, .. } => (11, attempt.0),
            Change::EndAttempt { uid, .. } => (12, uid.0),
            Change::JobStatus { uid, .. } => (13, uid.0),
            Change::ClusterStatus { uid, .. } => (14, uid.0),
            Change::FinishOperations { resource, .. } => (15, resource.0),
            Change::Remove { uid, .. } => (16, uid.0),
            Change::FileServerStatus { uid, .. } => (17, uid.0),
        };
        see(kind);
        see(id.as_u128());
    }
}
