//! The world of one run: the truth that no part of the system sees, and what is checked against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use batchyard::clock::{Clock, Timestamp};
use batchyard::domain::attempt::{AttemptState, End};
use batchyard::domain::cluster::Scale;
use batchyard::domain::job::Phase;
use batchyard::domain::machine::MachineState;
use batchyard::domain::snapshot::Change;
use batchyard::driver::fake::{Fake, FakeSettings};
use batchyard::id::{AttemptUid, MachineUid, ResourceUid};
use batchyard::wake::{Topic, Wake};

use crate::executor::{Host, Shared, WORLD};
use crate::model::Model;

/// A mistake that is built in on purpose: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// The store does not check the lease.
    NoFence,
    /// The store does not check revisions.
    NoRevisions,
    /// A machine whose agent is not heard is taken for dead.
    RequeueOnSilence,
    /// What cannot be seen is taken for dead.
    DeleteOnUnknown,
    /// Identities repeat.
    NameReuse,
    /// The slow tick does not come, and no wake-up either.
    NoTick,
    /// A listing answers with what was so long before it began.
    StaleListing,
    /// The driver says that a machine is deleted before it is.
    DeletedTooEarly,
    /// What is to tell how much time has passed is set with the wall clock.
    SetMonotonic,
}

/// How rough one run is: drawn from its seed, so that gentle and rough runs both happen. Each of a thousand.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) servers: u32,
    /// A call of the store is slow.
    pub(crate) slow: u64,
    /// A call of the store fails before its effect, or after it.
    pub(crate) rows_fail: u64,
    /// A call of the driver fails.
    pub(crate) driver_fail: u64,
    /// A request to the driver takes effect late, its caller having been told of a fault.
    pub(crate) late: u64,
    /// A listing cannot see a machine clearly.
    pub(crate) blind: u64,
    /// A report or its answer is lost.
    pub(crate) lose: u64,
    /// A report comes twice, the second time late.
    pub(crate) copy: u64,
    /// A supervisor dies with its processes.
    pub(crate) supervisor_dies: u64,
    /// A node's setup, or a job's preparation, fails.
    pub(crate) setup_fails: u64,
    /// Wake-ups are dropped.
    pub(crate) deaf: bool,
    /// The chaos task acts.
    pub(crate) chaos: bool,
    /// One queued job cannot be written.
    pub(crate) poison: bool,
    /// Servers' clocks go wrong, and are set.
    pub(crate) clocks: bool,
    /// Nodes that hear no server for long end what runs on them, and servers count on that.
    pub(crate) fence: bool,
    pub(crate) capacity: usize,
}

/// A process of an attempt on a machine, as it truly is.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) attempt: AttemptUid,
    pub(crate) job: ResourceUid,
    pub(crate) machine: String,
    pub(crate) incarnation: u64,
    /// When it ends or ended.
    pub(crate) ends_ms: u64,
}

/// What a run shares.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) model: Mutex<Model>,
    pub(crate) fake: Arc<Fake>,
    pub(crate) mix: Mix,
    pub(crate) canary: Option<Canary>,
    pub(crate) state: Mutex<State>,
}

/// The truth, and what was counted.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) processes: Vec<Process>,
    /// Whether faults still happen.
    pub(crate) faults: bool,
    pub(crate) rows_away: bool,
    pub(crate) cut: BTreeSet<String>,
    /// Machines that the world took, or whose supervisor died: who may be blamed for a lost attempt.
    pub(crate) blamed: BTreeSet<MachineUid>,
    /// Exit codes that a job's command truly had, by attempt.
    pub(crate) exits: BTreeMap<AttemptUid, i32>,
    /// Servers that live, with their wake.
    pub(crate) servers: BTreeMap<Host, Wake>,
    /// Names that a server's last listing could not see, and those at its last read.
    pub(crate) unseen: BTreeMap<Host, BTreeSet<String>>,
    pub(crate) unseen_at_read: BTreeMap<Host, BTreeSet<String>>,
    /// The same as of when the call that is being polled was decided.
    pub(crate) unseen_of_call: BTreeMap<Host, BTreeSet<String>>,
    /// Final statuses: exit code and codes of errors.
    finals: BTreeMap<ResourceUid, (Phase, Option<i32>)>,
    /// Attempts that the rule about exit codes gave each job.
    retried: BTreeMap<ResourceUid, u32>,
    pub(crate) violation: Option<String>,
    pub(crate) sometimes: BTreeMap<&'static str, u64>,
    hash: u64,
    pub(crate) last_commit_ms: u64,
    pub(crate) log: Vec<String>,
    pub(crate) logging: bool,
}

/// The wall clock of a host; the world's own shows the true time.
pub(crate) struct SimClock {
    shared: Arc<Shared>,
    host: Host,
}

/// When each run begins.
const START: Timestamp = time::macros::datetime!(2026-11-01 00:00 UTC);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let ahead = time::Duration::milliseconds(self.shared.ahead_ms(self.host));
        START + Duration::from_millis(self.shared.now_ms()) + ahead
    }
}

impl World {
    pub(crate) fn new(shared: Arc<Shared>, mix: Mix, canary: Option<Canary>, logging: bool) -> Arc<World> {
        let clock = Arc::new(SimClock { shared: shared.clone(), host: WORLD });
        let settings = FakeSettings { capacity: mix.capacity, boot: Duration::from_millis(300), ..FakeSettings::default() };
        let fake = Arc::new(Fake::new(clock.clone(), settings));
        let mut model = Model::default();
        model.mistakes.no_fence = canary == Some(Canary::NoFence);
        model.mistakes.no_revisions = canary == Some(Canary::NoRevisions);
        let state = State { faults: true, logging, ..State::default() };
        Arc::new(World { shared, clock, model: Mutex::new(model), fake, mix, canary, state: Mutex::new(state) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// The true time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock of a host.
    pub(crate) fn clock_of(&self, host: Host) -> Arc<SimClock> {
        Arc::new(SimClock { shared: self.shared.clone(), host })
    }

    /// The time by the clock of whichever server is asked.
    pub(crate) fn time_of_any_server(&self) -> Timestamp {
        if !self.mix.clocks {
            return self.now();
        }
        let hosts: Vec<Host> = self.state().servers.keys().copied().collect();
        let pick = self.shared.below(hosts.len().max(1) as u64) as usize;
        self.clock_of(hosts.get(pick).copied().unwrap_or(WORLD)).now()
    }

    /// How far a clock that goes wrong is ahead, or behind: by moments, minutes or an hour.
    pub(crate) fn draw_clock(&self) -> i64 {
        let most = [4_000, 60_000, 600_000, 3_600_000][self.shared.below(4) as usize];
        let by = self.shared.between(1, most) as i64;
        if self.shared.chance(500) { by } else { -by }
    }

    /// Draws whether a fault of the mix happens now.
    pub(crate) fn strikes(&self, per_mille: u64) -> bool {
        self.state().faults && self.shared.chance(per_mille)
    }

    pub(crate) fn sometimes(&self, what: &'static str) {
        *self.state().sometimes.entry(what).or_default() += 1;
    }

    pub(crate) fn violation(&self, rule: impl Into<String>) {
        let mut state = self.state();
        if state.violation.is_none() {
            state.violation = Some(rule.into());
        }
    }

    /// Adds to the trace.
    pub(crate) fn see(&self, value: u128) {
        let mut state = self.state();
        for part in [value as u64, (value >> 64) as u64] {
            state.hash = (state.hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.state().hash
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        let now = self.shared.now_ms();
        let mut state = self.state();
        if state.logging {
            let line = format!("{:>9.3}  {}", now as f64 / 1000.0, text());
            state.log.push(line);
        }
    }

    /// Hints that rows changed, where hints are not dropped.
    pub(crate) fn wake(&self, topic: Topic) {
        if self.mix.deaf || self.canary == Some(Canary::NoTick) {
            return;
        }
        for wake in self.state().servers.values() {
            wake.changed(topic);
        }
    }

    /// Whether a process lives now.
    fn lives(&self, process: &Process) -> bool {
        process.ends_ms > self.shared.now_ms()
            && self.fake.find_alive(&process.machine).is_some_and(|machine| machine.incarnation == process.incarnation)
    }

    /// A process of an attempt starts.
    pub(crate) fn starts(&self, process: Process) {
        let rule = {
            let state = self.state();
            let model = self.model();
            let rival = state
                .processes
                .iter()
                .find(|other| other.job == process.job && other.attempt != process.attempt && self.lives(other));
            let attempt = model.attempts.get(&process.attempt);
            let finished = model.jobs.get(&process.job).is_some_and(|job| job.row.status.phase.is_final());
            if rival.is_some() {
                Some("S2: a process starts while one of another attempt of its job lives")
            } else if finished {
                Some("S3: a process of a job that ended starts")
            } else if attempt.is_some_and(|past| past.attempt.released_at.is_none()) {
                Some("S4: a process starts before its attempt was released")
            } else {
                None
            }
        };
        if let Some(rule) = rule {
            self.violation(format!("{rule}: attempt {} on {}", process.attempt, process.machine));
        }
        self.state().processes.push(process);
    }

    /// Checks a commit against the truth, after it was applied.
    pub(crate) fn committed(&self, changes: &[Change]) {
        let mut broken = None;
        for change in changes {
            Model::trace(change, |value| self.see(value));
            let rule = match change {
                Change::EndAttempt { uid, .. } => self
                    .has_processes(|process| process.attempt == *uid)
                    .then_some("S2: an attempt ends while a process of it lives"),
                Change::LosePart { attempt, assignment, .. } => self
                    .has_processes(|process| {
                        process.attempt == *attempt && self.machine_of(&process.machine) == Some(assignment.machine)
                    })
                    .then_some("S2: a part is given up while its process lives"),
                Change::JobStatus { uid, status, .. } => self.check_end(*uid, status),
                _ => None,
            };
            if let Some(rule) = rule {
                broken = Some(format!("{rule}: {change:?}"));
            }
            self.count(change);
        }
        if let Some(rule) = broken {
            self.violation(rule);
        }
        let now = self.shared.now_ms();
        self.state().last_commit_ms = now;
    }

    fn machine_of(&self, name: &str) -> Option<MachineUid> {
        self.model().machines.values().find(|node| node.row.name == name).map(|node| node.row.uid)
    }

    fn has_processes(&self, of: impl Fn(&Process) -> bool) -> bool {
        let processes: Vec<Process> = self.state().processes.iter().filter(|process| of(process)).cloned().collect();
        processes.iter().any(|process| self.lives(process))
    }

    fn check_end(&self, job: ResourceUid, status: &batchyard::domain::job::JobStatus) -> Option<&'static str> {
        let mut state = self.state();
        if status.phase.is_final() {
            state.finals.insert(job, (status.phase, status.exit_code));
        }
        let model = self.model();
        let last = model.attempts.values().filter(|past| past.attempt.job == job).max_by_key(|past| past.attempt.number);
        let truth = last.and_then(|past| state.exits.get(&past.attempt.uid)).copied();
        if status.phase == Phase::Succeeded && truth != Some(0) {
            return Some("S3: a job succeeds whose command did not");
        }
        if status.errors.iter().any(|error| error.code == "JobFailed") && (truth != status.exit_code || truth == Some(0)) {
            return Some("S16: a job fails otherwise than its command did");
        }
        let by_code = status.retried.used.first().copied().unwrap_or(0);
        let before = state.retried.insert(job, by_code).unwrap_or(0);
        if by_code > before && truth == Some(0) {
            return Some("S3: a job whose command did well is tried again");
        }
        let rules = model.jobs.get(&job).map(|job| job.row.retries.clone()).unwrap_or_default();
        let is_over = |(place, used): (usize, &u32)| rules.get(place).is_none_or(|rule| *used > rule.limit);
        if model.jobs.contains_key(&job) && status.retried.used.iter().enumerate().any(is_over) {
            return Some("S16: a job is tried again more often than its rules say");
        }
        if status.phase == Phase::Queued && status.lost.last().is_some_and(|machine| !state.blamed.contains(machine)) {
            return Some("S16: the platform is blamed for what it did not do");
        }
        None
    }

    fn count(&self, change: &Change) {
        match change {
            Change::LosePart { end: End::Lost { why }, .. } if why.starts_with("no server heard") => {
                self.sometimes("a node was given up that nobody saw or heard");
            }
            Change::LosePart { end: End::Lost { .. }, .. } => self.sometimes("a part was lost with its node"),
            Change::LosePart { .. } => self.sometimes("a node died while its part was to stop"),
            Change::Release { .. } => self.sometimes("a gang was released"),
            Change::ClusterStatus { repairs: Some(_), .. } => self.sometimes("a node that could not be used was replaced"),
            Change::ClusterStatus { auto: Some(auto), .. } if auto.target > 0 => self.sometimes("a cluster grew with its queue"),
            Change::MachineLeaving { evict_at: Some(_), .. } => self.sometimes("a machine was taken away"),
            Change::MachineNotMade { .. } => self.sometimes("a machine was not made"),
            Change::MachineUnusable { .. } => self.sometimes("a node was unusable"),
            Change::EndAttempt { cause, .. } => match cause.as_str() {
                "node_lost" => self.sometimes("an attempt was lost"),
                "requeued" => self.sometimes("a job was requeued by a resize"),
                "preempted" => self.sometimes("a job was requeued by an eviction"),
                "timeout" => self.sometimes("a job ran for too long"),
                "terminated" => self.sometimes("a running job was terminated"),
                "cluster_deleted" => self.sometimes("a running job's cluster was deleted"),
                _ => {}
            },
            Change::JobStatus { status, .. }
                if status.phase == Phase::Queued && status.retried.used.iter().any(|used| *used > 0) =>
            {
                self.sometimes("a job was tried again by its own rules");
            }
            Change::JobStatus { status, .. } if status.errors.iter().any(|error| error.code == "JobNodesLost") => {
                self.sometimes("a job ran out of retries");
            }
            _ => {}
        }
    }

    /// What must hold once faults are over and all is quiet; the first rule that does not.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let model = self.model();
        let machines = self.fake.machines();
        if let Some(dead) = machines.iter().find(|machine| machine.dead) {
            return Some(format!("L3: {} is dead and nobody cleared it away", dead.spec.name));
        }
        let made: BTreeSet<String> = machines.into_iter().map(|machine| machine.spec.name).collect();
        let rows: BTreeSet<String> = model
            .machines
            .values()
            .filter(|node| node.row.state != MachineState::Gone)
            .map(|node| node.row.name.clone())
            .collect();
        if made != rows || self.fake.has_late() {
            return Some(format!("L3: machines {made:?} are not the rows {rows:?}"));
        }
        for cluster in model.clusters.values() {
            if cluster.deleting {
                return Some(format!("L2: cluster {} is still being deleted", cluster.uid));
            }
            let target = match (cluster.spec.scale, cluster.status.auto) {
                (Scale::Manual { target, .. }, _) => target,
                (Scale::Auto { minimum, maximum, .. }, Some(auto))
                    if auto.target == needed(&model, cluster, minimum, maximum) =>
                {
                    auto.target
                }
                (scale, auto) => return Some(format!("L2: cluster {} of {scale:?} is to have {auto:?}", cluster.uid)),
            };
            let nodes: Vec<MachineState> = model
                .machines
                .values()
                .filter(|node| node.row.cluster == cluster.uid && node.row.state != MachineState::Gone)
                .map(|node| node.row.state)
                .collect();
            let there = nodes.iter().all(|state| *state == MachineState::Ready);
            let is_stopped = cluster.status.repairs.as_ref().is_some_and(|repairs| repairs.is_spent(target));
            if nodes.len() != target as usize && !(is_stopped && nodes.len() < target as usize)
                || !there
                || cluster.status.allocation != batchyard::domain::cluster::Allocation::Steady
            {
                return Some(format!(
                    "L2: cluster {} has {nodes:?}, is {:?} and should have {target}",
                    cluster.uid, cluster.status.allocation
                ));
            }
        }
        if let Some((uid, _)) = model.containers.iter().find(|(_, container)| container.deleting) {
            return Some(format!("L2: container {uid} is still being deleted"));
        }
        for job in model.jobs.values().filter(|job| !model.poisoned.contains(&job.row.uid)) {
            if job.row.deleting {
                return Some(format!("L2: job {} is still being deleted", job.row.uid));
            }
            if !job.row.status.phase.is_final() && !has_true_gate(&model, &job.row) {
                return Some(format!("L1: job {} is {:?} without a gate", job.row.uid, job.row.status.phase));
            }
        }
        if let Some(operation) =
            model.operations.iter().find(|operation| !operation.ended && !model.poisoned.contains(&operation.resource))
        {
            return Some(format!("L2: a {:?} of {} has not ended", operation.verb, operation.resource));
        }
        let alive = model.attempts.values().find(|past| past.attempt.state != AttemptState::Ended);
        alive.map(|past| format!("L1: attempt {} has not ended", past.attempt.uid))
    }
}

/// Nodes that the waiting jobs of a cluster that scales by its queue need, as far as a snapshot has them, where none runs.
fn needed(model: &Model, cluster: &batchyard::domain::snapshot::ClusterRow, minimum: u32, maximum: u32) -> u32 {
    let mut waiting: Vec<_> = model
        .jobs
        .values()
        .map(|job| &job.row)
        .filter(|row| row.cluster == Some(cluster.uid) && row.status.phase == Phase::Queued && row.node_count <= maximum)
        .collect();
    waiting.sort_by_key(|row| (std::cmp::Reverse(row.rank), row.created_at, row.uid));
    let read = waiting.into_iter().take(crate::server::limits().queue as usize);
    read.map(|row| row.node_count).sum::<u32>().clamp(minimum, maximum)
}

/// Whether a job waits behind one, or is one, that needs more nodes than its cluster can give. One that needs more than a cluster
/// that scales by its queue may ever have is its own gate, and nobody else's.
fn has_true_gate(model: &Model, job: &batchyard::domain::snapshot::JobRow) -> bool {
    let Some(row) = job.cluster.and_then(|uid| model.clusters.get(&uid)) else { return false };
    let cluster = row.uid;
    let most = match row.spec.scale {
        Scale::Manual { .. } => u32::MAX,
        Scale::Auto { maximum, .. } => maximum,
    };
    if job.node_count > most {
        return job.status.phase == Phase::Queued;
    }
    let ready =
        model.machines.values().filter(|node| node.row.cluster == cluster && node.row.state == MachineState::Ready).count();
    let key = |row: &batchyard::domain::snapshot::JobRow| (std::cmp::Reverse(row.rank), row.created_at, row.uid);
    job.status.phase == Phase::Queued
        && model.jobs.values().any(|other| {
            other.row.cluster == Some(cluster)
                && other.row.status.phase == Phase::Queued
                && key(&other.row) <= key(job)
                && other.row.node_count <= most
                && other.row.node_count as usize > ready
        })
}
