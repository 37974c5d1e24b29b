//! A job and its attempt: parts that are dead, when it is released, when it stops, and what it shows when it ended.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::attempt::{AssignmentState, Attempt, AttemptState, End, Stop};
use crate::domain::cluster::Deallocation;
use crate::domain::job::{JobStatus, Phase};
use crate::domain::machine::MachineState;
use crate::domain::operation::Verb;
use crate::domain::resource::EntityError;
use crate::domain::snapshot::{Change, JobRow};
use crate::reconcile::draft::Draft;
use crate::reconcile::job::outcome::{self, Next, Outcome, Part};
use crate::reconcile::plan::Reason;
use crate::reconcile::world::World;

/// Decides about an attempt that has not ended.
pub(in crate::reconcile) fn decide_attempt(world: &World<'_>, attempt: &Attempt, job: &JobRow, draft: &mut Draft) {
    let mut changes = Vec::new();
    let mut found_dead = Vec::new();
    // A part that went with a node that the cloud took says nothing of the job, nor of the platform's reliability.
    let is_taken = |part: &Part<'_>| matches!(part.end, End::Lost { .. }) && world.is_evicted(part.machine);
    for part in attempt.assignments.iter().filter(|part| part.end.is_none()) {
        if let Some(proof) = world.proof_of_death(part.machine) {
            // A part that was told to stop and whose node is gone has stopped: its loss is not why the attempt ends.
            let end = if attempt.stop.is_some() {
                End::Stopped
            } else if world.is_evicted(part.machine) {
                End::Lost { why: "the node was taken away".to_owned() }
            } else {
                End::Lost { why: proof.to_owned() }
            };
            changes.push(Change::LosePart { attempt: attempt.uid, assignment: part.clone(), end: end.clone() });
            found_dead.push((part.rank, end));
        } else if let Some(until) = world.fenced_at(part.machine) {
            draft.look_again(until + Duration::from_millis(1));
            draft.reason(Reason::Unseen { attempt: attempt.uid, machine: part.machine, until });
        }
    }
    let mut ended: Vec<Part<'_>> = attempt
        .assignments
        .iter()
        .filter_map(|part| {
            let dead = found_dead.iter().find(|(rank, _)| *rank == part.rank).map(|(_, end)| end);
            part.end.as_ref().or(dead).map(|end| Part { machine: part.machine, rank: part.rank, end, ended_at: part.ended_at })
        })
        .collect();
    ended.sort_by_key(|part| part.rank);
    if ended.len() == attempt.assignments.len() {
        let stop = match attempt.stop {
            None | Some(Stop::Gang) if ended.iter().any(is_taken) => Some(Stop::Preempted),
            stop => stop,
        };
        let outcome = outcome::outcome(job, stop, &ended, world.limits.platform_retries);
        changes.push(Change::EndAttempt {
            uid: attempt.uid,
            revision: attempt.revision,
            cause: outcome.cause.to_owned(),
            at: world.now,
        });
        settle(world, job, outcome, &mut changes);
        draft.group(job.uid, changes);
        draft.ended.insert(attempt.uid);
        draft.ended_jobs.insert(job.uid);
        draft.settled_jobs.insert(job.uid);
        return;
    }
    if attempt.stop.is_some() {
        draft.reason(Reason::Stopping { attempt: attempt.uid });
    } else if let Some(why) = {
        ended.retain(|part| !is_taken(part));
        wanted_stop(world, attempt, job, outcome::is_decided(job, &ended), draft)
    } {
        changes.push(Change::StopAttempt { uid: attempt.uid, revision: attempt.revision, why });
    } else if attempt.state == AttemptState::Placed {
        let ready = attempt.assignments.iter().filter(|part| part.state >= AssignmentState::Ready).count();
        if ready == attempt.assignments.len() {
            changes.push(Change::Release { uid: attempt.uid, revision: attempt.revision, at: world.now });
        } else {
            draft.reason(Reason::GangPreparing { attempt: attempt.uid, ready, of: attempt.assignments.len() });
        }
    }
    draft.group(job.uid, changes);
}

/// Why an attempt that goes on should stop, if it should. The order is the policy: users first.
fn wanted_stop(world: &World<'_>, attempt: &Attempt, job: &JobRow, decided: bool, draft: &mut Draft) -> Option<Stop> {
    if job.deleting {
        return Some(Stop::Delete);
    }
    if job.status.phase == Phase::Terminating {
        return Some(Stop::Terminate);
    }
    if has_no_cluster(world, job) {
        return Some(Stop::ClusterDeleted);
    }
    // It counts from the start that the job shows: waiting for nodes costs nothing, preparing does.
    let start = job.status.started_at.unwrap_or(attempt.created_at).checked_add(world.memory.set_by(attempt.uid));
    let deadline = start.and_then(|start| start.checked_add(wall_clock(job)));
    match deadline {
        Some(deadline) if deadline <= world.now => return Some(Stop::Timeout),
        Some(deadline) => draft.look_again(deadline),
        None => {}
    }
    if decided {
        return Some(Stop::Gang);
    }
    if attempt.assignments.iter().any(|part| world.is_evicted(part.machine)) {
        return Some(Stop::Preempted);
    }
    let wishes = attempt
        .assignments
        .iter()
        .filter_map(|part| world.machines.get(&part.machine))
        .filter_map(|machine| (machine.state == MachineState::Leaving).then_some(machine.deallocation.unwrap_or_default()));
    let mut stop = None;
    for wish in wishes {
        match wish {
            Deallocation::Terminate => return Some(Stop::NodeRemoved),
            Deallocation::Requeue => stop = Some(Stop::Requeue),
            Deallocation::WaitForJobCompletion => {}
        }
    }
    stop
}

pub(in crate::reconcile) fn wall_clock(job: &JobRow) -> time::Duration {
    time::Duration::try_from(Duration::from_secs(job.max_wall_clock_s)).unwrap_or(time::Duration::MAX)
}

/// A job whose cluster is gone or goes. A cluster that is only not in the snapshot may be one whose row cannot be read.
fn has_no_cluster(world: &World<'_>, job: &JobRow) -> bool {
    match job.cluster {
        None => true,
        Some(cluster) => world.clusters.get(&cluster).is_some_and(|row| row.deleting),
    }
}

/// Decides about a job that has no nodes: it ends where nothing can run it or a user ended it.
pub(in crate::reconcile) fn decide_without_nodes(world: &World<'_>, job: &JobRow, draft: &mut Draft) {
    if job.deleting || draft.settled_jobs.contains(&job.uid) {
        return;
    }
    let outcome = match job.status.phase {
        Phase::Terminating if !world.has_attempt(job.uid) => {
            Outcome { cause: "terminated", next: Next::Failed { exit_code: None, error: outcome::terminated() } }
        }
        Phase::Queued if has_no_cluster(world, job) => {
            Outcome { cause: "cluster_deleted", next: Next::Failed { exit_code: None, error: outcome::cluster_deleted() } }
        }
        _ => return,
    };
    let mut changes = Vec::new();
    settle(world, job, outcome, &mut changes);
    draft.settled_jobs.insert(job.uid);
    draft.group(job.uid, changes);
}

/// Writes what became of a job, and ends the terminate that asked for it.
fn settle(world: &World<'_>, job: &JobRow, outcome: Outcome, changes: &mut Vec<Change>) {
    let now = world.now;
    let status = match outcome.next {
        Next::Removed => return,
        Next::Succeeded => ended(job, Phase::Succeeded, now, Some(0), Vec::new()),
        Next::Failed { exit_code, error } => ended(job, Phase::Failed, now, exit_code, vec![error]),
        Next::Queued { lost } => {
            let mut status = JobStatus { phase: Phase::Queued, phase_changed_at: now, ..job.status.clone() };
            status.lost.extend(lost);
            status
        }
        Next::Again { again, nodes } => {
            let mut status = JobStatus { phase: Phase::Queued, phase_changed_at: now, ..job.status.clone() };
            status.retried.count(&again, &nodes, now);
            status
        }
    };
    let is_final = status.phase.is_final();
    changes.push(Change::JobStatus { uid: job.uid, revision: job.revision, status, why: outcome.cause.to_owned() });
    if is_final && job.status.phase == Phase::Terminating {
        changes.push(Change::FinishOperations { resource: job.uid, verb: Verb::Terminate, at: now });
    }
}

fn ended(job: &JobRow, phase: Phase, now: Timestamp, exit_code: Option<i32>, errors: Vec<EntityError>) -> JobStatus {
    // A job that was terminated in the queue shows the moment at which that began as its start.
    let terminated_at = (job.status.phase == Phase::Terminating).then_some(job.status.phase_changed_at);
    JobStatus {
        phase,
        phase_changed_at: now,
        started_at: job.status.started_at.or(terminated_at),
        ended_at: Some(now),
        exit_code,
        errors,
        lost: job.status.lost.clone(),
        retried: job.status.retried.clone(),
    }
}
