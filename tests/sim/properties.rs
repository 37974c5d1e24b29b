//! Properties of the decision alone, over rows that were drawn: plans are followed in the model with a driver that does at once
//! what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batchyard::clock::Timestamp;
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::cluster::{Deallocation, Scale};
use batchyard::domain::job::JobStatus;
use batchyard::domain::machine::{MachineState, Observed, Presence, Setup};
use batchyard::domain::report::{Report, Seen};
use batchyard::domain::snapshot::{Change, JobRow, Snapshot};
use batchyard::driver::fake::FakeSettings;
use batchyard::id::{Kind, MachineUid, ResourceUid};
use batchyard::reconcile::{Answer, Catalog, Effect, Entropy, Limits, Memory, Plan, World, decide};
use batchyard::store::Applied;
use uuid::Uuid;

use crate::model::{Commit, Model};
use crate::rng::Rng;

const START: Timestamp = time::macros::datetime!(2026-11-01 00:00 UTC);

/// Rows, what the driver has, and a leader's memory of it.
struct Bench {
    rng: Rng,
    model: Model,
    made: Vec<Observed>,
    memory: Memory,
    limits: Limits,
    catalog: Catalog,
    entropy: Arc<Counting>,
    now: Timestamp,
}

/// Repeatable: two decisions that begin at one number draw alike.
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = Rng::new(self.0.fetch_add(1, Ordering::Relaxed));
        bytes.iter_mut().for_each(|byte| *byte = rng.next() as u8);
    }
}

impl Bench {
    /// Clusters and jobs that were drawn, some way into their lives.
    fn drawn(seed: u64) -> Bench {
        let limits = Limits { queue: 8, ..Limits::default() };
        let mut bench = Bench {
            rng: Rng::new(seed),
            model: Model::default(),
            made: Vec::new(),
            memory: Memory::new(START),
            limits,
            catalog: Catalog::new("by", &FakeSettings::default().sizes),
            entropy: Arc::new(Counting(AtomicU64::new(seed << 20))),
            now: START,
        };
        for _ in 0..bench.rng.between(5, 40) {
            bench.disturb();
            if bench.rng.chance(400) {
                bench.pass();
            }
        }
        bench
    }

    fn uid(&mut self) -> ResourceUid {
        ResourceUid(Uuid::from_u128(u128::from(self.rng.next())))
    }

    fn any<T: Copy>(&mut self, of: Vec<T>) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.rng.below(of.len() as u64) as usize]) }
    }

    /// Something that users, agents or fate do.
    fn disturb(&mut self) {
        self.now += Duration::from_millis(self.rng.between(1, 2_000));
        let (now, target) = (self.now, self.rng.below(5) as u32);
        let clusters: Vec<ResourceUid> = self.model.clusters.keys().copied().collect();
        let jobs: Vec<ResourceUid> = self.model.jobs.keys().copied().collect();
        let machines: Vec<MachineUid> =
            self.model.machines.values().filter(|node| node.row.state != MachineState::Gone).map(|node| node.row.uid).collect();
        match self.rng.below(12) {
            0 | 1 => {
                let uid = self.uid();
                let scale = self.scale(target);
                self.model.put_cluster(uid, scale, now);
            }
            2 => {
                let scale = self.scale(target);
                if let Some(uid) = self.any(clusters) {
                    self.model.resize(uid, scale, now);
                }
            }
            3 if self.rng.chance(300) => {
                self.any(clusters).map(|uid| self.model.delete(uid));
            }
            4 => {
                self.any(jobs).map(|uid| if target < 2 { self.model.delete(uid) } else { self.model.terminate(uid, now) });
            }
            5 => {
                if let Some(uid) = self.any(machines) {
                    let name = self.catalog.machine_name(uid);
                    self.made.retain(|seen| seen.name != name);
                }
            }
            6 | 7 => {
                if let Some(uid) = self.any(machines) {
                    if self.rng.chance(150) {
                        let notice = Duration::from_secs(self.rng.below(3) * 15);
                        self.model.evict(uid, now + notice);
                    }
                    self.report(uid);
                }
            }
            _ => self.submit(clusters),
        }
    }

    /// By hand or by the queue.
    fn scale(&mut self, target: u32) -> Scale {
        if self.rng.chance(500) {
            let minimum = target.min(self.rng.below(3) as u32);
            return Scale::Auto { minimum, maximum: target, initial: 0 };
        }
        let options = [Deallocation::Requeue, Deallocation::Terminate, Deallocation::WaitForJobCompletion];
        Scale::Manual { target, deallocation: options[self.rng.below(3) as usize] }
    }

    fn submit(&mut self, clusters: Vec<ResourceUid>) {
        let (uid, parent, now) = (self.uid(), ResourceUid(Uuid::nil()), self.now);
        self.model.put_container(parent, Kind::Experiment, None);
        let Some(cluster) = self.any(clusters) else { return };
        let row = JobRow {
            leaders: 1,
            uid,
            path: String::new(),
            cluster: Some(cluster),
            rank: self.rng.below(3) as i16 - 1,
            created_at: now,
            node_count: self.rng.between(1, 3) as u32,
            max_wall_clock_s: 600,
            retries: vec![],
            status: JobStatus::queued(now),
            attempts: 0,
            deleting: false,
            revision: 1,
        };
        self.model.put_job(row, parent);
    }

    /// A node says that it is set up, and that its part goes on or ended.
    fn report(&mut self, uid: MachineUid) {
        let name = self.catalog.machine_name(uid);
        if self.made.iter().all(|seen| seen.name != name) {
            return;
        }
        let token = self.model.token(uid);
        let (now, session, seq) = (self.now, Uuid::from_u128(uid.0.as_u128() ^ 1), self.rng.next() >> 8);
        self.model.join(&name, &token, 1, now);
        let part = self.model.machines.get(&uid).and_then(|node| node.row.attempt);
        let (state, end) = match self.rng.below(4) {
            0 => (AssignmentState::Ready, None),
            1 => (AssignmentState::Running, None),
            2 => (AssignmentState::Ended, Some(End::Exited { code: self.rng.below(2) as i32 })),
            _ => (AssignmentState::Ended, Some(End::Stopped)),
        };
        let assignments: Vec<Seen> =
            part.map(|attempt| Seen { attempt, state, started_at: None, end, ended_at: None }).into_iter().collect();
        let report = Report { session, seq, boot_id: "boot", setup: &Setup::Done, health: &[], assignments: &assignments };
        self.model.sync(uid, 1, &report, now);
    }

    fn plan(&self, snapshot: &Snapshot) -> Plan {
        decide(&World::new(snapshot, &self.memory, self.now, &self.limits, &self.catalog), &*self.entropy)
    }

    fn look(&mut self) {
        let began = self.memory.listing_begins();
        self.memory.listed(began, self.made.clone(), self.now, &self.limits);
    }

    fn read(&mut self) -> Snapshot {
        let snapshot = self.model.snapshot(self.limits.queue);
        self.memory.read(&snapshot, self.now);
        snapshot
    }

    /// One pass: look, decide, write, do. Answers whether anything was left to do.
    fn pass(&mut self) -> bool {
        let snapshot = self.read();
        self.look();
        let plan = self.plan(&snapshot);
        self.follow(&plan);
        !plan.is_empty()
    }

    fn follow(&mut self, plan: &Plan) {
        let changes = plan.changes();
        let lease = self.model.take_lease("l", Uuid::nil(), u64::MAX / 2, 0).expect("nobody else wants it");
        match self.model.apply(&lease, &changes, 1) {
            Commit::Applied(Applied::All) => {}
            Commit::Applied(refused) => panic!("{refused:?}: {changes:#?}"),
            Commit::Broken => panic!("broken: {changes:#?}"),
            Commit::Violation(rule) => panic!("{rule}"),
        }
        for effect in &plan.effects {
            self.memory.call_begins(effect.uid());
            let answer = match effect {
                Effect::Ensure(spec) => {
                    let seen = Observed::new(spec.name.clone(), Presence::Present, None);
                    if self.made.iter().all(|made| made.name != seen.name) {
                        self.made.push(seen.clone());
                    }
                    Answer::Made(seen)
                }
                Effect::Explain { .. } => Answer::Explained(None),
                Effect::Delete { name, .. } => {
                    self.made.retain(|made| made.name != *name);
                    Answer::Deleted
                }
            };
            self.memory.call_ended(effect.uid(), answer, self.now, &self.limits);
        }
    }
}

const DRAWS: u64 = 300;

#[test]
fn plans_are_followed_to_where_nothing_is_left_to_do() {
    for seed in 0..DRAWS {
        let mut bench = Bench::drawn(seed);
        let mut passes = 0;
        while bench.pass() {
            passes += 1;
            assert!(passes < 60, "draw {seed}: no end after {passes} passes");
        }
        // The limits hold: the model refuses machines beyond a target, gangs of another size, and nodes given twice.
        assert!(!bench.pass(), "draw {seed}: a plan after the empty one");
    }
}

#[test]
fn the_order_of_rows_is_irrelevant() {
    for seed in 0..DRAWS {
        let mut bench = Bench::drawn(seed);
        let mut snapshot = bench.read();
        bench.look();
        let start = bench.entropy.0.load(Ordering::Relaxed);
        let words = |plan: &Plan| (format!("{:?}", plan.changes()), format!("{:?}", plan.effects));
        let first = words(&bench.plan(&snapshot));
        bench.entropy.0.store(start, Ordering::Relaxed);
        snapshot.clusters.reverse();
        snapshot.machines.reverse();
        snapshot.attempts.reverse();
        snapshot.jobs.reverse();
        assert_eq!(words(&bench.plan(&snapshot)), first, "draw {seed}");
    }
}

#[test]
fn what_is_unknown_is_untouched() {
    for seed in 0..DRAWS {
        let mut bench = Bench::drawn(seed);
        bench.memory = Memory::new(bench.now);
        let snapshot = bench.read();
        let plan = bench.plan(&snapshot);
        assert!(plan.effects.is_empty(), "draw {seed}: {:?}", plan.effects);
        for change in plan.changes() {
            let from_sight =
                matches!(change, Change::MachinePresent { .. } | Change::MachineGone { .. } | Change::LosePart { .. });
            assert!(!from_sight, "draw {seed}: {change:?}");
        }
    }
}

#[test]
fn any_first_part_of_a_plan_may_be_written_alone() {
    for seed in 0..DRAWS {
        let mut bench = Bench::drawn(seed);
        let snapshot = bench.read();
        bench.look();
        let mut plan = bench.plan(&snapshot);
        let keep = bench.rng.below(plan.groups.len() as u64 + 1) as usize;
        plan.groups.truncate(keep);
        plan.effects.clear();
        bench.follow(&plan);
        while bench.pass() {}
    }
}
