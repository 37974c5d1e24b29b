//! Looking for jobs: what they must be, and in which order they come.

use crate::clock::Timestamp;
use crate::domain::job::Phase;
use crate::id::ResourceUid;

/// Which jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSearch {
    /// In this phase; in any where there is none.
    pub phase: Option<Phase>,
    /// On the cluster of this key.
    pub cluster: Option<String>,
    /// With this in their names, without regard to case.
    pub name: Option<String>,
    /// In which order.
    pub order: JobOrder,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobOrder {
    /// By experiment, then by name.
    #[default]
    Name,
    /// The newest first.
    Newest,
    /// The oldest first.
    Oldest,
}

/// The last job of a page: where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobPlace {
    /// Its key.
    Key(String),
    /// Its creation; its identity tells those apart that were made at once.
    Made(Timestamp, ResourceUid),
}

/// Most jobs of a phase that are counted.
pub const MAX_COUNTED: u64 = 10_000;

/// How many jobs there are in each phase, as far as they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Waiting.
    pub queued: u64,
    /// Running.
    pub running: u64,
    /// Being terminated.
    pub terminating: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended badly.
    pub failed: u64,
}

impl JobCounts {
    /// Whether there may be more of some phase than were counted.
    pub fn is_capped(&self) -> bool {
        [self.queued, self.running, self.terminating, self.succeeded, self.failed].into_iter().any(|count| count >= MAX_COUNTED)
    }

    /// The count of a phase.
    pub fn of(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Queued => &mut self.queued,
            Phase::Running => &mut self.running,
            Phase::Terminating => &mut self.terminating,
            Phase::Succeeded => &mut self.succeeded,
            Phase::Failed => &mut self.failed,
        }
    }
}
