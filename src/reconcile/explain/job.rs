//! Why a job does not run.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::domain::attempt::{AssignmentState, Attempt, AttemptState};
use crate::domain::cluster::Scale;
use crate::domain::job::Phase;
use crate::domain::machine::Machine;
use crate::domain::snapshot::{ClusterRow, JobRow};
use crate::domain::why::{Gate, Held, Holder, Lack, Unit, Why};
use crate::id::{AttemptUid, ResourceUid};
use crate::reconcile::draft::Draft;
use crate::reconcile::explain::{by_node, draft, growth, some, whole};
use crate::reconcile::job::wall_clock;
use crate::reconcile::placement::{Placing, Verdict, is_usable};
use crate::reconcile::world::World;

/// Jobs ahead of one in its cluster's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// The queue was read as far as to the job.
    Read,
    /// It was not, and so many that may hold it up were counted.
    Counted(u64),
}

/// What a job waits for; `None` where it runs, has ended, or is given its nodes by the next pass.
pub fn explain(world: &World<'_>, uid: ResourceUid, ahead: Ahead) -> Option<Why> {
    let job = world.jobs.get(&uid)?;
    let attempt = world.attempts.values().copied().find(|attempt| attempt.job == uid);
    match (job.status.phase, attempt) {
        (Phase::Succeeded | Phase::Failed, _) => None,
        (Phase::Terminating, attempt) => Some(stopping(world, attempt)),
        (Phase::Running | Phase::Queued, Some(attempt)) => at_nodes(world, attempt),
        (Phase::Running, None) => None,
        (Phase::Queued, None) => queued(world, job, ahead),
    }
}

/// A job that has its nodes: it starts once all have prepared it.
fn at_nodes(world: &World<'_>, attempt: &Attempt) -> Option<Why> {
    if attempt.stop.is_some() {
        return Some(stopping(world, Some(attempt)));
    }
    if attempt.state != AttemptState::Placed {
        return None;
    }
    let late: Vec<&Machine> = attempt
        .assignments
        .iter()
        .filter(|part| part.state == AssignmentState::Assigned)
        .filter_map(|part| world.machines.get(&part.machine).copied())
        .collect();
    let (all, ready) =
        (attempt.assignments.len(), attempt.assignments.iter().filter(|part| part.state != AssignmentState::Assigned).count());
    Some(Why {
        gate: Gate::Gang,
        message: format!("It has its {all} nodes, and starts once all have prepared it: {ready} have."),
        lack: Some(Lack::nodes(whole(all), whole(ready))),
        held_by: some(late.into_iter().map(by_node).collect()),
        clears: "All its nodes have mounted, pulled and prepared what it needs.",
        clears_by: None,
    })
}

/// A job that was told to stop.
fn stopping(world: &World<'_>, attempt: Option<&Attempt>) -> Why {
    let parts = attempt.map_or(&[][..], |attempt| &attempt.assignments);
    let left = parts.iter().filter(|part| part.state != AssignmentState::Ended);
    let nodes: Vec<&Machine> = left.filter_map(|part| world.machines.get(&part.machine).copied()).collect();
    Why {
        gate: Gate::Stopping,
        message: format!("It was told to stop, and has not ended on {} nodes.", nodes.len()),
        lack: None,
        held_by: some(nodes.into_iter().map(by_node).collect()),
        clears: "All its nodes say that nothing of it runs any more, or are deleted.",
        clears_by: None,
    }
}

fn queued(world: &World<'_>, job: &JobRow, ahead: Ahead) -> Option<Why> {
    // Without a cluster it ends: that is decided now.
    let cluster = job.cluster.and_then(|cluster| world.clusters.get(&cluster).copied()).filter(|cluster| !cluster.deleting)?;
    let draft = draft(world);
    let mut placing = Placing::begin(world, cluster, &draft);
    let mut before = Vec::new();
    for other in world.queue(cluster.uid) {
        let verdict = placing.judge(world, other, &draft);
        if other.uid == job.uid {
            return told(world, cluster, job, verdict, &before, ahead, &draft);
        }
        if matches!(verdict, Verdict::Short(_) | Verdict::Behind | Verdict::Placed(_)) {
            before.push(*other);
        }
    }
    None
}

/// A verdict, told. `before` are the jobs ahead that may hold it up.
fn told(
    world: &World<'_>,
    cluster: &ClusterRow,
    job: &JobRow,
    verdict: Verdict,
    before: &[&JobRow],
    ahead: Ahead,
    draft: &Draft,
) -> Option<Why> {
    let others = match ahead {
        Ahead::Read => before.len() as u64,
        Ahead::Counted(count) => count.max(before.len() as u64),
    };
    match verdict {
        Verdict::Settled => None,
        Verdict::PutAside => {
            Some(timed(Gate::PutAside, "What was decided for it could not be written.", "It is tried again.", None))
        }
        Verdict::BacksOff(until) => Some(timed(
            Gate::BackOff,
            "It failed, and its rules try it again.",
            "The time of its next attempt comes.",
            Some(until),
        )),
        Verdict::TooLarge(most) => Some(too_large(cluster, job, most)),
        // The queue was not read as far: whoever is between goes first.
        Verdict::Placed(_) | Verdict::Short(_) if others > before.len() as u64 => Some(behind(job, before, others)),
        Verdict::Behind => Some(behind(job, before, others)),
        Verdict::Short(free) => Some(short(world, cluster, job, free, draft)),
        Verdict::Placed(_) => None,
    }
}

fn timed(gate: Gate, message: &str, clears: &'static str, clears_by: Option<Timestamp>) -> Why {
    Why { gate, message: message.to_owned(), lack: None, held_by: Vec::new(), clears, clears_by }
}

fn too_large(cluster: &ClusterRow, job: &JobRow, most: u32) -> Why {
    let Scale::Auto { minimum, maximum, .. } = cluster.spec.scale else {
        return timed(Gate::ScaleLimit, "Its cluster can never have as many nodes.", "The cluster's scale is changed.", None);
    };
    let lack = Some(Lack::nodes(job.node_count, most));
    if job.node_count > maximum.max(minimum) {
        return Why {
            gate: Gate::ScaleLimit,
            message: format!("It needs {} nodes, and its cluster can never have more than {most}.", job.node_count),
            lack,
            held_by: vec![Holder { what: Held::Resource(cluster.path.clone()), count: most, until: None }],
            clears: "The cluster's maximum is raised.",
            clears_by: None,
        };
    }
    Why {
        gate: Gate::Quota,
        message: format!("It needs {} nodes, and the quota of cores allows no more than {most}.", job.node_count),
        lack,
        held_by: Vec::new(),
        clears: "The quota of cores is raised.",
        clears_by: None,
    }
}

fn behind(job: &JobRow, before: &[&JobRow], others: u64) -> Why {
    let above = before.iter().filter(|other| other.rank > job.rank).count();
    let message = match above {
        0 => format!("{others} jobs go first, as they are older; the first of them waits for nodes."),
        _ => format!("{others} jobs go first, by priority or as they are older; the first of them waits for nodes."),
    };
    let holder = |other: &&JobRow| Holder { what: Held::Resource(other.path.clone()), count: 1, until: None };
    Why {
        gate: Gate::Priority,
        message,
        lack: Some(Lack { unit: Unit::Jobs, needed: others, available: 0 }),
        held_by: some(before.iter().map(holder).collect()),
        clears: "The jobs ahead of it have got their nodes, or are gone.",
        clears_by: None,
    }
}

/// The first job of a queue, and fewer free nodes than it needs.
fn short(world: &World<'_>, cluster: &ClusterRow, job: &JobRow, free: u32, draft: &Draft) -> Why {
    let needed = job.node_count.max(1);
    let mut taken: BTreeMap<AttemptUid, u32> = BTreeMap::new();
    for machine in world.nodes(cluster.uid).iter().filter(|machine| is_usable(world, machine, draft)) {
        if let Some(attempt) = machine.attempt.filter(|attempt| !draft.ended.contains(attempt)) {
            *taken.entry(attempt).or_default() += 1;
        }
    }
    let ready = free.saturating_add(taken.values().sum());
    if ready < needed {
        return growth::explain(world, cluster, needed, ready, draft);
    }
    let mut holders: Vec<Holder> = taken.into_iter().filter_map(|(attempt, count)| holder(world, attempt, count)).collect();
    holders.sort_by(|a, b| a.until.is_none().cmp(&b.until.is_none()).then(a.until.cmp(&b.until)).then(a.what.cmp(&b.what)));
    let clears_by = enough_at(&holders, needed - free);
    Why {
        gate: if free == 0 { Gate::Capacity } else { Gate::Gang },
        message: match free {
            0 => format!("It needs {needed} nodes, and all {ready} have jobs."),
            _ => format!("It needs {needed} nodes at the same time, and {free} are free of {ready}."),
        },
        lack: Some(Lack::nodes(needed, free)),
        held_by: some(holders),
        clears: "Jobs that have the nodes end.",
        clears_by,
    }
}

/// The job that has nodes, until its time is over.
fn holder(world: &World<'_>, attempt: AttemptUid, count: u32) -> Option<Holder> {
    let attempt = world.attempts.get(&attempt)?;
    let job = world.jobs.get(&attempt.job)?;
    let until = job.status.started_at.unwrap_or(attempt.created_at).checked_add(wall_clock(job));
    Some(Holder { what: Held::Resource(job.path.clone()), count, until })
}

/// When so many nodes more are free at the latest, as `holders` give theirs back in this order.
fn enough_at(holders: &[Holder], missing: u32) -> Option<Timestamp> {
    let mut freed = 0u32;
    let last = holders.iter().find(|holder| {
        freed = freed.saturating_add(holder.count);
        freed >= missing
    });
    last?.until
}
