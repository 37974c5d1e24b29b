//! Which nodes run which job: priority, then age; gang or nothing; one job a node.
//!
//! Strict order within a cluster: a job that waits for more nodes than are free holds up all behind it, so that a large one is
//! never starved by small ones; one that waits for the time of its next attempt holds up none, nor does one that needs more nodes than
//! a cluster that scales by its queue can ever have. Nodes are used by ordinal; nodes that
//! took an attempt of the same job with them, or that its rules avoid, come last.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::domain::attempt::{Assignment, AssignmentState, Attempt, AttemptState};
use crate::domain::job::{JobStatus, Phase};
use crate::domain::machine::{Machine, MachineState};
use crate::domain::retry::{Retried, longest_pause};
use crate::domain::snapshot::{Change, ClusterRow, JobRow};
use crate::id::{AttemptUid, MachineUid};
use crate::reconcile::cluster::bound;
use crate::reconcile::draft::Draft;
use crate::reconcile::memory::Sight;
use crate::reconcile::mint::Mint;
use crate::reconcile::plan::Reason;
use crate::reconcile::world::World;

/// Which node is taken first. The order of the fields is the policy; the last one settles ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NodeScore {
    avoided: bool,
    ordinal: i32,
    uid: MachineUid,
}

/// What becomes of a waiting job, were it looked at now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has an attempt, or something else is decided about it in this pass.
    Settled,
    /// It is put aside after failures that only it had.
    PutAside,
    /// It waits for the time of its next attempt, and holds up nobody.
    BacksOff(Timestamp),
    /// It can never have more nodes than this, which are too few; it holds up nobody.
    TooLarge(u32),
    /// So many nodes are free, which are too few: all behind it wait for it.
    Short(u32),
    /// It waits for one ahead of it.
    Behind,
    /// It gets these nodes.
    Placed(Vec<MachineUid>),
}

/// A cluster's free nodes while its queue is gone through, in its order.
pub(super) struct Placing {
    free: BTreeSet<NodeScore>,
    most: Option<u32>,
    is_held: bool,
}

impl Placing {
    /// Before the first job of the queue.
    pub(super) fn begin(world: &World<'_>, cluster: &ClusterRow, draft: &Draft) -> Placing {
        let free = world
            .nodes(cluster.uid)
            .iter()
            .filter(|machine| is_free(world, machine, draft))
            .map(|machine| NodeScore { avoided: false, ordinal: machine.ordinal, uid: machine.uid })
            .collect();
        Placing { free, most: bound(world, cluster), is_held: false }
    }

    /// What becomes of the next job; its nodes are taken.
    pub(super) fn judge(&mut self, world: &World<'_>, job: &JobRow, draft: &Draft) -> Verdict {
        if draft.settled_jobs.contains(&job.uid) || world.has_attempt(job.uid) {
            return Verdict::Settled;
        }
        if world.is_aside(job.uid) {
            return Verdict::PutAside;
        }
        if let Some(until) = not_before(world, job) {
            return Verdict::BacksOff(until);
        }
        if let Some(most) = self.most.filter(|most| job.node_count > *most) {
            return Verdict::TooLarge(most);
        }
        if self.is_held {
            return Verdict::Behind;
        }
        let needed = usize::try_from(job.node_count.max(1)).unwrap_or(usize::MAX);
        if self.free.len() < needed {
            self.is_held = true;
            return Verdict::Short(u32::try_from(self.free.len()).unwrap_or(u32::MAX));
        }
        Verdict::Placed(take(&mut self.free, job, needed))
    }
}

/// Gives a cluster's free nodes to the jobs that come first.
pub(super) fn decide(world: &World<'_>, cluster: &ClusterRow, mint: &mut Mint<'_>, draft: &mut Draft) {
    if cluster.deleting {
        return;
    }
    let mut placing = Placing::begin(world, cluster, draft);
    for job in world.queue(cluster.uid) {
        match placing.judge(world, job, draft) {
            Verdict::Settled | Verdict::PutAside => {}
            Verdict::BacksOff(until) => {
                draft.look_again(until);
                draft.reason(Reason::BacksOff { job: job.uid, until });
            }
            Verdict::TooLarge(most) => draft.reason(Reason::TooLarge { job: job.uid, needed: job.node_count, most }),
            Verdict::Short(free) => {
                let target = wanted(cluster);
                draft.reason(Reason::NodesWanted { job: job.uid, needed: job.node_count, free, target });
                break;
            }
            Verdict::Behind => break,
            Verdict::Placed(nodes) => draft.group(job.uid, vec![place_on(world, job, &nodes, mint)]),
        }
    }
    draft.plan.takes_jobs |= !placing.free.is_empty();
}

/// Until when a job waits for the time of its next attempt, if it does.
fn not_before(world: &World<'_>, job: &JobRow) -> Option<Timestamp> {
    let until = job.status.retried.not_before?;
    world.waits_until(until, longest_pause(&job.retries)).then_some(until)
}

/// Nodes that a cluster is asked to have.
pub(super) fn wanted(cluster: &ClusterRow) -> u32 {
    cluster.status.auto.map_or_else(|| cluster.spec.scale.first_target(), |auto| auto.target)
}

/// Whether jobs may be on a node: it is ready, heard, and not about to change.
pub(super) fn is_usable(world: &World<'_>, machine: &Machine, draft: &Draft) -> bool {
    machine.state == MachineState::Ready
        && !draft.touched.contains(&machine.uid)
        && !matches!(world.memory.sight(machine), Sight::Absent | Sight::Remains)
        && !world.is_unheard_for(machine, world.limits.silence)
}

fn is_free(world: &World<'_>, machine: &Machine, draft: &Draft) -> bool {
    is_usable(world, machine, draft) && machine.attempt.is_none_or(|attempt| draft.ended.contains(&attempt))
}

fn take(free: &mut BTreeSet<NodeScore>, job: &JobRow, needed: usize) -> Vec<MachineUid> {
    let mut scores: Vec<NodeScore>;
    let avoided = |node: &MachineUid| job.status.lost.contains(node) || job.status.retried.avoided.contains(node);
    if job.status.lost.is_empty() && job.status.retried.avoided.is_empty() {
        scores = free.iter().copied().take(needed).collect();
    } else {
        scores = free.iter().map(|node| NodeScore { avoided: avoided(&node.uid), ..*node }).collect();
        scores.sort_unstable();
        scores.truncate(needed);
        // Ranks go by ordinal whatever was avoided.
        scores.sort_unstable_by_key(|node| (node.ordinal, node.uid));
    }
    for node in &scores {
        free.remove(&NodeScore { avoided: false, ..*node });
    }
    scores.into_iter().map(|node| node.uid).collect()
}

fn place_on(world: &World<'_>, job: &JobRow, nodes: &[MachineUid], mint: &mut Mint<'_>) -> Change {
    let now = world.now;
    // One node has nobody to wait for: its agent prepares and goes on.
    let alone = nodes.len() == 1;
    let assignments = nodes
        .iter()
        .zip(0..)
        .map(|(machine, rank)| Assignment {
            machine: *machine,
            rank,
            state: AssignmentState::Assigned,
            end: None,
            started_at: None,
            ended_at: None,
        })
        .collect();
    Change::Place {
        attempt: Attempt {
            uid: AttemptUid(mint.uuid()),
            job: job.uid,
            number: job.attempts.saturating_add(1),
            state: if alone { AttemptState::Released } else { AttemptState::Placed },
            created_at: now,
            released_at: alone.then_some(now),
            stop: None,
            assignments,
            revision: 1,
        },
        job_revision: job.revision,
        // `running` includes what is done on the nodes before the command starts.
        // Source: `executionState`, openapi 2018-05-01, and recorded start times.
        status: JobStatus {
            phase: Phase::Running,
            phase_changed_at: now,
            started_at: Some(now),
            ended_at: None,
            exit_code: None,
            errors: Vec::new(),
            lost: job.status.lost.clone(),
            retried: Retried { not_before: None, ..job.status.retried.clone() },
        },
    }
}
