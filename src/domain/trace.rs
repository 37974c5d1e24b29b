//! What is told of an attempt of a job whose request is traced.

use crate::clock::Timestamp;
use crate::domain::attempt::End;
use crate::id::{AttemptUid, ResourceUid};

/// A part of an attempt of a job that is told, as rows have it.
#[derive(Clone, Debug)]
pub struct Part {
    /// The attempt.
    pub attempt: AttemptUid,
    /// The job.
    pub job: ResourceUid,
    /// Counts the attempts of the job, from 1.
    pub number: i32,
    /// The span of the request that made the job, as its row keeps it.
    pub trace: String,
    /// The node's place in the gang, from 0.
    pub rank: i32,
    /// When the attempt was placed.
    pub placed_at: Timestamp,
    /// When its processes started, on the node's clock.
    pub started_at: Option<Timestamp>,
    /// When it was known how the part ends, on the node's clock; else when the attempt ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<End>,
}
