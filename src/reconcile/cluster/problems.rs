//! What went wrong with machines: the codes that clusters show, and what they do to the next try.
//!
//! The published contract leaves codes of node errors open; these are this server's own.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::machine::Machine;
use crate::domain::resource::EntityError;
use crate::domain::snapshot::JobRow;
use crate::reconcile::limits::Limits;
use crate::reconcile::memory::{Failure, FailureKind};

/// The driver has no capacity or quota left for another machine.
const QUOTA: &str = "NodeAllocationQuotaReached";
/// The driver cannot make the machine until someone mends something.
const LASTING: &str = "NodeAllocationFailed";
/// The driver failed and may succeed next time.
const PASSING: &str = "NodeAllocationDelayed";
/// The agent of a machine did not come home in time.
const BOOT: &str = "NodeStartTimedOut";
/// The driver has no such size.
const SIZE: &str = "VmSizeNotAvailable";

/// A job needs more nodes than the cluster can ever have.
const TOO_LARGE: &str = "JobNeedsTooManyNodes";

/// So many nodes could not be used that no other is made.
const STOPPED: &str = "NodeRepairStopped";
/// A node cannot be used, and nobody said why.
const UNUSABLE: &str = "NodeUnusable";

/// Passing failures in a row that are worth showing.
const WORTH_SHOWING: i32 = 3;

/// What a failure to make a machine is shown as, and the pause before it is tried again.
pub(super) fn not_made(machine: &Machine, failure: &Failure, limits: &Limits) -> (EntityError, Duration) {
    let failures = u32::try_from(machine.ensure_failures).unwrap_or(0).saturating_add(1);
    let (code, message, pause) = match failure.kind {
        FailureKind::Quota => {
            (QUOTA, "There is no capacity for another node. It is asked for again until there is.", limits.quota_retry)
        }
        FailureKind::Lasting => (LASTING, "A node cannot be made.", limits.back_off(failures).max(limits.quota_retry)),
        FailureKind::Passing => {
            (PASSING, "Making a node failed again and again. It is tried further.", limits.back_off(failures))
        }
        FailureKind::Throttled(pause) => (
            PASSING,
            "Making a node failed again and again. It is tried further.",
            pause.clamp(limits.retry_first, limits.longest_retry()),
        ),
    };
    (EntityError::new(code, message).with_detail("Info", failure.text.clone()), pause)
}

/// A machine whose agent did not come home in time, with what it wrote last, if anything.
pub(super) fn boot_timed_out(machine: &Machine, deadline: Duration, evidence: &str) -> EntityError {
    let message = format!("The node did not report within {} seconds after it was made.", deadline.as_secs());
    let error = EntityError::new(BOOT, message).with_detail("nodeId", machine.node_id.clone());
    if evidence.is_empty() { error } else { error.with_detail("log", evidence) }
}

/// A node that cannot be used, where nothing else is known of it.
pub(super) fn unusable(machine: &Machine) -> EntityError {
    EntityError::new(UNUSABLE, "The node could not be used.").with_detail("nodeId", machine.node_id.clone())
}

/// No other node is made in place of those that could not be used.
pub(super) fn repair_stopped(count: u32) -> EntityError {
    let message = format!(
        "{count} nodes in a row could not be used, so that no other is made. Mend what their errors say, then change the cluster's \
         scaleSettings, to the same number if need be: nodes are tried again then."
    );
    EntityError::new(STOPPED, message).with_detail("unusableNodes", count.to_string())
}

/// What the agent said of a failed setup, with the node named.
pub(super) fn setup_failed(machine: &Machine, error: &EntityError) -> EntityError {
    if error.details.iter().any(|detail| detail.name == "nodeId") {
        return error.clone();
    }
    error.clone().with_detail("nodeId", machine.node_id.clone())
}

/// The cluster's size is not one that the driver has.
pub(in crate::reconcile) fn size_unknown(size: &str) -> EntityError {
    EntityError::new(SIZE, format!("Nodes of the size {size} cannot be made here."))
}

/// A quota of cores keeps nodes from being made.
///
/// Source: the documentation of the original: fewer nodes than asked for, and a cluster that stays usable.
pub(super) fn over_quota(name: &str, limit: u32) -> EntityError {
    EntityError::new(QUOTA, format!("Nodes are missing, as the quota of {limit} cores for {name} in this region is reached."))
        .with_detail("Limit", limit.to_string())
}

/// A job waits for more nodes than the cluster can ever have. The published contract refuses such a job; one that was taken before the
/// cluster's bound was lowered waits until it is raised.
pub(super) fn too_large(job: &JobRow, most: u32) -> EntityError {
    let (needed, name) = (job.node_count, job.path.rsplit('/').next().unwrap_or_default());
    let message = format!(
        "The job '{name}' needs {needed} nodes, and this cluster can have {most} at most. It and others like it wait \
         until maximumNodeCount, or the quota of cores, is raised, and hold up no other job."
    );
    EntityError::new(TOO_LARGE, message)
        .with_detail("job", job.path.clone())
        .with_detail("nodeCount", needed.to_string())
        .with_detail("maximumNodeCount", most.to_string())
}

/// Whether a machine that is not made yet waits for something that only others can change: then the cluster is as large as it
/// gets for now.
pub(super) fn is_held(problem: &EntityError) -> bool {
    problem.code == QUOTA || problem.code == LASTING
}

/// Whether a machine that is not made yet never will be before someone mends something.
pub(in crate::reconcile) fn is_lasting(problem: &EntityError) -> bool {
    problem.code == LASTING
}

/// A cluster's errors: one for each broken node, one for each kind of failure to make nodes, in the order of ordinals.
///
/// `problems` holds, by ordinal, the problem of each machine and how often in a row it was not made.
pub(super) fn errors<'a>(problems: impl Iterator<Item = (&'a EntityError, i32)>) -> Vec<EntityError> {
    let mut errors: Vec<EntityError> = Vec::new();
    for (problem, failures) in problems {
        let worth_showing = problem.code != PASSING || failures >= WORTH_SHOWING;
        let known = errors.iter().any(|error| error.code == problem.code && is_about_making(problem));
        if worth_showing && !known {
            errors.push(problem.clone());
        }
    }
    errors
}

fn is_about_making(problem: &EntityError) -> bool {
    [QUOTA, LASTING, PASSING].contains(&problem.code.as_str())
}

/// When a machine is asked for again after a pause.
pub(super) fn retry_at(now: Timestamp, pause: Duration) -> Timestamp {
    now + pause
}
