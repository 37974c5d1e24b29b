//! What the end of an attempt means for its job.
//!
//! In: how each part ended, why the attempt was told to stop, and what users asked meanwhile. Out: one [`Outcome`]. The order of
//! the rules is the policy: what a user asked for stands above what the processes did, what they did above what the platform did
//! to them, but for one thing: a job whose leading parts ended with 0 has succeeded whatever befell its neighbours.

use crate::clock::Timestamp;
use crate::domain::attempt::{End, Scarce, Stop};
use crate::domain::job::Phase;
use crate::domain::resource::EntityError;
use crate::domain::retry::{self, Again, Category, Cause};
use crate::domain::snapshot::JobRow;
use crate::id::MachineUid;

/// What the end of an attempt means for its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The short stable word that the attempt records.
    pub(super) cause: &'static str,
    /// What becomes of the job.
    pub(super) next: Next,
}

/// What becomes of a job whose attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed {
        /// The exit code that it shows.
        exit_code: Option<i32>,
        /// Why.
        error: EntityError,
    },
    /// It waits again. `lost` is the node that took the attempt with it.
    Queued {
        /// The node, where it was the platform's fault.
        lost: Option<MachineUid>,
    },
    /// It failed, and a rule of its own gives it another attempt.
    Again {
        /// Which, and when.
        again: Again,
        /// Nodes that it failed on.
        nodes: Vec<MachineUid>,
    },
    /// It is being deleted: its status stays.
    Removed,
}

/// A part that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) machine: MachineUid,
    pub(super) rank: i32,
    pub(super) end: &'a End,
    pub(super) ended_at: Option<Timestamp>,
}

impl Part<'_> {
    fn ended_well(&self) -> bool {
        matches!(self.end, End::Exited { code: 0 })
    }

    fn leads(&self, job: &JobRow) -> bool {
        u32::try_from(self.rank).is_ok_and(|rank| rank < job.leaders)
    }
}

/// Whether the parts that ended leave nothing to do for the others: one ended badly, or all that lead ended well.
pub(super) fn is_decided(job: &JobRow, ended: &[Part<'_>]) -> bool {
    ended.iter().any(|part| !part.ended_well()) || has_succeeded(job, ended)
}

fn has_succeeded(job: &JobRow, ended: &[Part<'_>]) -> bool {
    ended.iter().filter(|part| part.leads(job) && part.ended_well()).count() >= job.leaders as usize
}

/// What it means that all parts ended. `parts` are sorted by rank. `retries` bounds the attempts that the platform may lose.
///
/// What failed by itself is tried again where a rule of the job says so; what a user ended, or the platform, never counts for that.
pub(super) fn outcome(job: &JobRow, stop: Option<Stop>, parts: &[Part<'_>], retries: usize) -> Outcome {
    let outcome = without_rules(job, stop, parts, retries);
    let Some(again) = find_cause(&outcome).and_then(|cause| retry::decide(&job.retries, &job.status.retried.used, cause)) else {
        return outcome;
    };
    let failed_there = |part: &&Part<'_>| !part.ended_well() && *part.end != End::Stopped;
    let nodes = parts.iter().filter(failed_there).map(|part| part.machine).collect();
    Outcome { cause: outcome.cause, next: Next::Again { again, nodes } }
}

/// Why an attempt failed, in the terms of rules; `None` where no rule is about it.
fn find_cause(outcome: &Outcome) -> Option<Cause> {
    let Next::Failed { exit_code, error } = &outcome.next else { return None };
    let category = match outcome.cause {
        "exited" | "preparation_failed" => None,
        "out_of_memory" => Some(Category::OutOfMemory),
        "out_of_disk" => Some(Category::OutOfDisk),
        "timeout" => Some(Category::Time),
        "node_lost" => Some(Category::NodeLost),
        "setup_failed" => Some(Category::of_error(&error.code)?),
        _ => return None,
    };
    Some(Cause { exit_code: *exit_code, category })
}

fn without_rules(job: &JobRow, stop: Option<Stop>, parts: &[Part<'_>], retries: usize) -> Outcome {
    if job.deleting {
        return Outcome { cause: "deleted", next: Next::Removed };
    }
    if job.status.phase == Phase::Terminating {
        return failed("terminated", None, terminated());
    }
    if has_succeeded(job, parts) {
        return Outcome { cause: "exited", next: Next::Succeeded };
    }
    match stop {
        None | Some(Stop::Gang) => {
            if let Some(lost) = parts.iter().find(|part| matches!(part.end, End::Lost { .. })) {
                return lost_outcome(job, lost, retries);
            }
            own_end(parts).unwrap_or_else(|| failed("stopped", None, job_failed()))
        }
        // Whatever ended badly meanwhile followed from it: what had done so before would have ended the attempt.
        Some(Stop::Preempted) => stopped(job, Stop::Preempted),
        Some(stop) => own_end(parts).unwrap_or_else(|| stopped(job, stop)),
    }
}

/// How the processes ended by themselves: the bad end that came first, which the others may only follow from; by rank where that is
/// not known.
fn own_end(parts: &[Part<'_>]) -> Option<Outcome> {
    let mut by_time: Vec<&Part<'_>> = parts.iter().collect();
    by_time.sort_by_key(|part| (part.ended_at.is_none(), part.ended_at));
    by_time.into_iter().find_map(|part| match part.end {
        End::Exited { code: 0 } | End::Stopped | End::Lost { .. } => None,
        End::Exited { code } => Some(failed("exited", Some(*code), job_failed())),
        End::OutOf { what: Scarce::Memory, code } => Some(failed("out_of_memory", Some(*code), out_of_memory())),
        End::OutOf { what: Scarce::Disk, code } => Some(failed("out_of_disk", Some(*code), out_of_disk())),
        End::PreparationFailed { code } => Some(failed(
            "preparation_failed",
            Some(*code),
            EntityError::new("JobPreparationFailed", "Job preparation task failed with non-zero exit code"),
        )),
        End::SetupFailed { error } => Some(failed("setup_failed", None, error.clone())),
    })
}

fn lost_outcome(job: &JobRow, lost: &Part<'_>, retries: usize) -> Outcome {
    let why = match lost.end {
        End::Lost { why } => why.as_str(),
        _ => "",
    };
    if job.status.lost.len() < retries {
        return Outcome { cause: "node_lost", next: Next::Queued { lost: Some(lost.machine) } };
    }
    let error =
        EntityError::new("JobNodesLost", "The platform lost a node of the job in each of its attempts; it is not tried again")
            .with_detail("Attempts", job.attempts.to_string())
            .with_detail("Info", why);
    failed("node_lost", None, error)
}

/// What a stop that took effect means.
fn stopped(job: &JobRow, stop: Stop) -> Outcome {
    match stop {
        Stop::Requeue => Outcome { cause: "requeued", next: Next::Queued { lost: None } },
        // However often that happens: whoever takes such machines has agreed to it.
        Stop::Preempted => Outcome { cause: "preempted", next: Next::Queued { lost: None } },
        Stop::Timeout => failed(
            "timeout",
            None,
            EntityError::new(
                "JobMaxWallClockTimeReached",
                format!("The job ran for longer than its maxWallClockTime of {} seconds", job.max_wall_clock_s),
            ),
        ),
        Stop::NodeRemoved => failed(
            "node_removed",
            None,
            EntityError::new(
                "JobNodeRemoved",
                "A node of the job was removed from its cluster with the option to terminate jobs",
            ),
        ),
        Stop::ClusterDeleted => failed("cluster_deleted", None, cluster_deleted()),
        // The wish was taken back by nobody, yet the job shows neither: the same error as if it did.
        Stop::Terminate | Stop::Delete => failed("terminated", None, terminated()),
        Stop::Gang => failed("stopped", None, job_failed()),
    }
}

fn failed(cause: &'static str, exit_code: Option<i32>, error: EntityError) -> Outcome {
    Outcome { cause, next: Next::Failed { exit_code, error } }
}

/// Source: recorded 2018-05-01 answers.
fn job_failed() -> EntityError {
    EntityError::new("JobFailed", "Job failed with non-zero exit code")
}

/// The published contract has no code for it.
fn out_of_memory() -> EntityError {
    EntityError::new(
        "JobOutOfMemory",
        "The job needed more memory than its node has for jobs, and a process of it was ended for that",
    )
}

/// The published contract has no code for it.
fn out_of_disk() -> EntityError {
    EntityError::new("JobOutOfDisk", "The job filled a disk of its node and was ended for that")
}

/// Source: recorded 2018-05-01 answers.
pub(super) fn terminated() -> EntityError {
    EntityError::new("JobTerminated", "The specified job has been terminated by the user")
}

/// What jobs of a deleted cluster show. The published contract leaves it open.
pub(super) fn cluster_deleted() -> EntityError {
    EntityError::new("JobClusterDeleted", "The cluster of the job was deleted")
}
