//! Small builders for decision tables: a scene of rows and sightings, and what is decided about it, as words.

mod cluster;
mod explain;
mod file_server;
mod job;
mod memory;
mod placement;

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::attempt::{Assignment, AssignmentState, Attempt, AttemptState, End, Stop};
use crate::domain::cluster::{Allocation, ClusterSpec, ClusterStatus, Deallocation, NodeCounts, Scale, UserAccount, VmPriority};
use crate::domain::job::{JobStatus, Phase};
use crate::domain::machine::{Bootstrap, Machine, MachineState, Observed, Presence, Setup, Size};
use crate::domain::resource::EntityError;
use crate::domain::retry::RetryRule;
use crate::domain::snapshot::{Change, ClusterRow, JobRow, Snapshot};
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::reconcile::{Catalog, Effect, Entropy, Limits, Memory, Plan, World, decide};

pub(super) const NOW: Timestamp = time::macros::datetime!(2026-11-01 12:00 UTC);

pub(super) fn ago(seconds: u64) -> Timestamp {
    NOW - Duration::from_secs(seconds)
}

/// Repeatable, and never the same twice.
#[derive(Default)]
pub(super) struct Counting(std::sync::atomic::AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
        let length = bytes.len().min(next.len());
        let start = bytes.len() - length;
        bytes[start..].copy_from_slice(&next[next.len() - length..]);
    }
}

fn size() -> Size {
    Size { name: "STANDARD_D1".into(), cores: 1, memory_mib: 3584, gpus: 0 }
}

pub(super) fn catalog() -> Catalog {
    Catalog::new("by", &[size()])
}

/// What is seen of a machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Present,
    Off,
    Unclear,
    Nothing,
}

/// Its rules give it another attempt, after `until`.
pub(super) fn backs_off(job: &mut JobRow, until: Timestamp) {
    job.retries = vec![RetryRule { exit_codes: vec![1], limit: 1, backoff_s: 60, ..RetryRule::default() }];
    job.status.retried.not_before = Some(until);
}

/// Rows and sightings of one cluster.
pub(super) struct Scene {
    pub(super) snapshot: Snapshot,
    pub(super) limits: Limits,
    pub(super) since: Timestamp,
    listed: Option<Vec<Observed>>,
    next: u128,
}

/// The only cluster of a scene.
pub(super) const CLUSTER: ResourceUid = ResourceUid(Uuid::from_u128(0xc));

/// A steady cluster that should have `target` nodes.
pub(super) fn cluster(target: u32) -> Scene {
    let row = ClusterRow {
        uid: CLUSTER,
        path: "/clusters/c".into(),
        location: "eastus".into(),
        spec: ClusterSpec {
            vm_size: "STANDARD_D1".into(),
            vm_priority: VmPriority::Dedicated,
            scale: Scale::Manual { target, deallocation: Deallocation::Requeue },
            image: Default::default(),
            node_setup: None,
            user_account: UserAccount { name: "user".into(), ssh_public_key: None },
            subnet: None,
            older: None,
        },
        status: ClusterStatus {
            allocation: Allocation::Steady,
            allocation_changed_at: ago(500),
            errors: Vec::new(),
            auto: None,
            repairs: None,
            subnet: None,
            output_uuid: Uuid::nil(),
            nodes: NodeCounts::default(),
        },
        deleting: false,
        last_ordinal: 0,
        revision: 7,
    };
    Scene {
        snapshot: Snapshot { clusters: vec![row], ..Snapshot::default() },
        limits: Limits::default(),
        since: ago(100_000),
        listed: Some(Vec::new()),
        next: 0x1000,
    }
}

impl Scene {
    pub(super) fn row(&mut self) -> &mut ClusterRow {
        &mut self.snapshot.clusters[0]
    }

    pub(super) fn deallocation(mut self, deallocation: Deallocation) -> Scene {
        let target = self.row().spec.scale.first_target();
        self.row().spec.scale = Scale::Manual { target, deallocation };
        self
    }

    pub(super) fn deleting(mut self) -> Scene {
        self.row().deleting = true;
        self
    }

    pub(super) fn resizing(mut self) -> Scene {
        self.row().status.allocation = Allocation::Resizing;
        self
    }

    /// Nothing was listed yet.
    pub(super) fn unlisted(mut self) -> Scene {
        self.listed = None;
        self
    }

    /// One more machine, changed by `edit`.
    pub(super) fn machine(mut self, state: MachineState, seen: Seen, edit: impl FnOnce(&mut Machine)) -> Scene {
        self.next += 1;
        let uid = MachineUid(Uuid::from_u128(self.next));
        let ordinal = i32::try_from(self.snapshot.machines.len()).expect("few") + 1;
        let asked = state == MachineState::Asked;
        let mut machine = Machine {
            uid,
            name: catalog().machine_name(uid),
            node_id: format!("tvm-{ordinal}"),
            cluster: CLUSTER,
            ordinal,
            size: size(),
            state,
            state_changed_at: ago(60),
            created_at: ago(60),
            attempt: None,
            evict_at: None,
            deallocation: (state == MachineState::Leaving).then_some(Deallocation::Requeue),
            address: None,
            bootstrap: asked.then(|| Bootstrap { join_token: "t".into() }),
            joined: state == MachineState::Ready,
            quarantined: false,
            login_address: None,
            heard_at: (state == MachineState::Ready).then(|| ago(5)),
            setup: if state == MachineState::Ready { Setup::Done } else { Setup::Pending },
            ensure_failures: 0,
            retry_at: None,
            problem: None,
            revision: 3,
        };
        edit(&mut machine);
        let presence = match seen {
            Seen::Present => Some(Presence::Present),
            Seen::Off => Some(Presence::Absent),
            Seen::Unclear => Some(Presence::Unknown),
            Seen::Nothing => None,
        };
        if let (Some(listed), Some(presence)) = (&mut self.listed, presence) {
            listed.push(Observed::new(machine.name.clone(), presence, Some("10.0.0.4".into())));
        }
        self.row().last_ordinal = ordinal;
        self.snapshot.machines.push(machine);
        self
    }

    /// Machines that take jobs.
    pub(super) fn idle(mut self, count: u32) -> Scene {
        for _ in 0..count {
            self = self.machine(MachineState::Ready, Seen::Present, |_| {});
        }
        self
    }

    /// One more job that waits for `nodes`, changed by `edit`.
    pub(super) fn queued(mut self, nodes: u32, edit: impl FnOnce(&mut JobRow)) -> Scene {
        self.next += 1;
        let mut job = JobRow {
            leaders: 1,
            uid: ResourceUid(Uuid::from_u128(self.next)),
            path: "/jobs/j".into(),
            cluster: Some(CLUSTER),
            rank: 0,
            created_at: ago(50),
            node_count: nodes,
            max_wall_clock_s: 600,
            retries: vec![],
            status: JobStatus::queued(ago(50)),
            attempts: 0,
            deleting: false,
            revision: 4,
        };
        edit(&mut job);
        self.snapshot.jobs.push(job);
        self
    }

    /// A job that runs on machines, one for each part, with the attempt changed by `edit`.
    pub(super) fn running(mut self, parts: &[Part], edit: impl FnOnce(&mut Attempt, &mut JobRow)) -> Scene {
        self.next += 1;
        let attempt = AttemptUid(Uuid::from_u128(self.next));
        let mut assignments = Vec::new();
        for (part, rank) in parts.iter().zip(0..) {
            self = self.machine(MachineState::Ready, part.seen, |machine| machine.attempt = Some(attempt));
            let machine = self.snapshot.machines.last().expect("just made").uid;
            assignments.push(Assignment {
                machine,
                rank,
                state: part.state,
                end: part.end.clone(),
                started_at: None,
                ended_at: None,
            });
        }
        self = self.queued(u32::try_from(parts.len()).expect("few"), |job| {
            job.status.phase = Phase::Running;
            job.status.started_at = Some(ago(30));
            job.attempts = 1;
        });
        let mut job = self.snapshot.jobs.pop().expect("just made");
        let mut row = Attempt {
            uid: attempt,
            job: job.uid,
            number: 1,
            state: AttemptState::Released,
            created_at: ago(30),
            released_at: Some(ago(30)),
            stop: None,
            assignments,
            revision: 9,
        };
        edit(&mut row, &mut job);
        self.snapshot.attempts.push(row);
        self.snapshot.jobs.push(job);
        self
    }

    /// Like `running`, where the attempt is to stop.
    pub(super) fn stopping(self, stop: Stop, parts: &[Part]) -> Scene {
        self.running(parts, |attempt, _| attempt.stop = Some(stop))
    }

    pub(super) fn memory(&self) -> Memory {
        let mut memory = Memory::new(self.since);
        // All that rows tell came about while they were watched.
        let told =
            self.snapshot.machines.iter().flat_map(|machine| machine.heard_at.into_iter().chain([machine.state_changed_at]));
        let moments: BTreeSet<Timestamp> = told.filter(|at| *at > self.since).chain([self.since]).collect();
        for now in moments {
            let mut before = self.snapshot.clone();
            for machine in &mut before.machines {
                machine.heard_at = machine.heard_at.filter(|at| *at <= now);
                machine.state_changed_at =
                    Some(machine.state_changed_at).filter(|at| *at <= now).unwrap_or(Timestamp::UNIX_EPOCH);
            }
            memory.read(&before, now);
        }
        if let Some(listed) = &self.listed {
            let began = memory.listing_begins();
            memory.listed(began, listed.clone(), ago(1), &self.limits);
        }
        memory.read(&self.snapshot, NOW);
        memory
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan_with(&self.memory())
    }

    pub(super) fn plan_with(&self, memory: &Memory) -> Plan {
        let catalog = catalog();
        decide(&World::new(&self.snapshot, memory, NOW, &self.limits, &catalog), &Counting::default())
    }

    /// What is decided, as words in order.
    pub(super) fn decides(&self) -> Vec<String> {
        self.words(&self.plan())
    }

    pub(super) fn words(&self, plan: &Plan) -> Vec<String> {
        plan.changes().iter().map(|change| self.word(change)).chain(plan.effects.iter().map(|effect| self.call(effect))).collect()
    }

    fn node(&self, uid: MachineUid) -> String {
        self.snapshot.machines.iter().find(|row| row.uid == uid).map_or("new".into(), |row| row.ordinal.to_string())
    }

    fn nth(&self, uid: ResourceUid) -> usize {
        self.snapshot.jobs.iter().position(|job| job.uid == uid).map_or(0, |index| index + 1)
    }

    fn word(&self, change: &Change) -> String {
        match change {
            Change::AskMachine { ordinal, .. } => format!("ask {ordinal}"),
            Change::MachinePresent { uid, .. } => format!("present {}", self.node(*uid)),
            Change::MachineNotMade { uid, problem, .. } => format!("not made {}: {}", self.node(*uid), problem.code),
            Change::MachineReady { uid, .. } => format!("ready {}", self.node(*uid)),
            Change::MachineUnusable { uid, problem, .. } => format!("unusable {}: {}", self.node(*uid), problem.code),
            Change::MachineLeaving { uid, deallocation, .. } => format!("leave {}: {deallocation:?}", self.node(*uid)),
            Change::MachineGone { uid, .. } => format!("gone {}", self.node(*uid)),
            Change::Place { attempt, .. } => {
                let nodes: Vec<String> = attempt.assignments.iter().map(|part| self.node(part.machine)).collect();
                format!("place {} on {} {:?}", self.nth(attempt.job), nodes.join(","), attempt.state)
            }
            Change::Release { .. } => "release".into(),
            Change::StopAttempt { why, .. } => format!("stop: {why:?}"),
            Change::LosePart { assignment, end, .. } => {
                format!("lose {}: {}", assignment.rank, if *end == End::Stopped { "stopped" } else { "lost" })
            }
            Change::EndAttempt { cause, .. } => format!("end: {cause}"),
            Change::JobStatus { uid, status, .. } => {
                let code = status.exit_code.map_or(String::new(), |code| format!(" {code}"));
                let errors: Vec<&str> = status.errors.iter().map(|error| error.code.as_str()).collect();
                format!("job {} {:?}{code} {}", self.nth(*uid), status.phase, errors.join(",")).trim_end().to_owned()
            }
            Change::ClusterStatus { allocation, errors, .. } => {
                let errors: Vec<&str> = errors.iter().map(|error: &EntityError| error.code.as_str()).collect();
                format!("cluster {allocation:?} {}", errors.join(",")).trim_end().to_owned()
            }
            Change::FinishOperations { verb, .. } => format!("finish {verb:?}"),
            Change::FileServerStatus { made, .. } => match made {
                Ok(mount) => format!("serves {}", mount.internal_address),
                Err(error) => format!("failed {}", error.message),
            },
            Change::Remove { .. } => "remove".into(),
        }
    }

    fn call(&self, effect: &Effect) -> String {
        match effect {
            Effect::Ensure(spec) => format!("ensure {}", self.node(spec.uid)),
            Effect::Explain { uid, .. } => format!("explain {}", self.node(*uid)),
            Effect::Delete { uid, why, .. } => format!("delete {}: {why:?}", self.node(*uid)),
        }
    }
}

/// A part of an attempt.
#[derive(Clone)]
pub(super) struct Part {
    state: AssignmentState,
    end: Option<End>,
    seen: Seen,
}

pub(super) fn part(state: AssignmentState) -> Part {
    Part { state, end: None, seen: Seen::Present }
}

pub(super) fn over(end: End) -> Part {
    Part { state: AssignmentState::Ended, end: Some(end), seen: Seen::Present }
}

pub(super) fn exited(code: i32) -> Part {
    over(End::Exited { code })
}

impl Part {
    pub(super) fn seen(mut self, seen: Seen) -> Part {
        self.seen = seen;
        self
    }
}
