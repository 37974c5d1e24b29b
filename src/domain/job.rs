//! Jobs: one script on the nodes of one cluster.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::container::ContainerSettings;
use crate::domain::mount::MountVolumes;
use crate::domain::older::Older;
use crate::domain::resource::{EntityError, Live, NameValue, Resource};
use crate::domain::retry::{Retried, RetryRule};
use crate::domain::secret::SecretVariable;
use crate::id::{Kind, MachineUid};

pub use crate::domain::framework::Framework;

/// A job.
#[derive(Clone, Copy, Debug)]
pub struct Job;

impl Resource for Job {
    const KIND: Kind = Kind::Job;
    type Spec = JobSpec;
    type Status = JobStatus;

    fn complete(status: &mut JobStatus, live: &Live) {
        status.phase = live.phase.unwrap_or(status.phase);
    }
}

/// Longest time that a job may run where its constraints say nothing.
///
/// Source: recorded 2018-05-01 answers (`P7D`).
pub const DEFAULT_MAX_WALL_CLOCK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The id of the directory that holds stdout, stderr and the execution log. No output directory of a user may have it.
///
/// Source: `outputdirectoryid`, openapi 2018-05-01 and recordings.
pub const STDOUTERR: &str = "stdouterr";

/// What the fields of a job's secret variables begin with.
pub const SECRETS: &str = "secrets.";

/// What a user asks of a job. Secrets are not here: they are sealed in the store, variables under `secrets.{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Which jobs go first.
    pub priority: Priority,
    /// The canonical id of the cluster that it runs on.
    pub cluster: String,
    /// Nodes that it runs on, all or none. Unit: machines, at least 1.
    pub node_count: u32,
    /// Storage mounted for this job alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_volumes: Option<MountVolumes>,
    /// The container that it runs in; `None` runs on the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerSettings>,
    /// What is run, by which framework's rules.
    pub framework: Framework,
    /// A command run on every node before the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<String>,
    /// Where stdout, stderr and the execution log go, unexpanded.
    pub std_out_err_path_prefix: String,
    /// Directories that the job reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_directories: Option<Vec<InputDirectory>>,
    /// Directories that the job writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_directories: Option<Vec<OutputDirectory>>,
    /// Variables that it sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<NameValue>>,
    /// Variables whose values are secret. (`secrets.{name}`)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<SecretVariable>>,
    /// Longest time that it may run. Unit: whole seconds.
    pub max_wall_clock_s: u64,
    /// What of its failures is tried again. Only our own version knows of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<RetryRule>,
    /// What only older versions of the contract know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older: Option<Older>,
}

impl JobSpec {
    /// The rank as the store sorts it: greater goes first.
    pub fn rank(&self) -> i16 {
        self.older.as_ref().and_then(|older| older.priority).unwrap_or(self.priority.rank())
    }
}

/// Which jobs of a cluster go first; age decides within one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After all others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// The number that older versions have for it. Range: -1000 to 1000.
    pub fn rank(self) -> i16 {
        match self {
            Priority::Low => -1_000,
            Priority::Normal => 0,
            Priority::High => 1_000,
        }
    }
}

/// A directory that the job reads, known to it as `AZ_BATCHAI_INPUT_{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDirectory {
    /// Its id.
    pub id: String,
    /// Where it is, unexpanded.
    pub path: String,
}

/// A directory that the job writes, known to it as `AZ_BATCHAI_OUTPUT_{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDirectory {
    /// Its id.
    pub id: String,
    /// The storage that it is on, unexpanded.
    pub path_prefix: String,
    /// Its place below `outputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_suffix: Option<String>,
}

/// Where a job is in its life. `Succeeded` and `Failed` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits for nodes.
    Queued,
    /// It has its nodes.
    Running,
    /// A terminate is under way.
    Terminating,
    /// It ended with exit code 0.
    Succeeded,
    /// It ended otherwise.
    Failed,
}

impl Phase {
    /// The phase as the store and the 2018-05-01 wire write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Running => "running",
            Phase::Terminating => "terminating",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
        }
    }

    /// The phase that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Phase> {
        [Phase::Queued, Phase::Running, Phase::Terminating, Phase::Succeeded, Phase::Failed]
            .into_iter()
            .find(|p| p.as_str() == text)
    }

    /// Whether nothing may follow.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// What the service recorded about a job. The phase is a column of its own in the store, as queries filter by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Where it is in its life. Stored in its column, not here.
    #[serde(skip, default = "queued")]
    pub phase: Phase,
    /// When the phase became what it is.
    #[serde(with = "time::serde::rfc3339")]
    pub phase_changed_at: Timestamp,
    /// When its most recent attempt started.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended for good.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The exit code of its command on the first node, or of the preparation that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it failed; never empty when it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<EntityError>,
    /// Nodes that took an attempt of it with them, one entry an attempt: bounds the retries, and the job avoids them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<MachineUid>,
    /// What its own rules gave it.
    #[serde(default, skip_serializing_if = "Retried::is_none")]
    pub retried: Retried,
}

fn queued() -> Phase {
    Phase::Queued
}

impl JobStatus {
    /// The status of a job that was just accepted.
    pub fn queued(at: Timestamp) -> JobStatus {
        JobStatus {
            phase: Phase::Queued,
            phase_changed_at: at,
            started_at: None,
            ended_at: None,
            exit_code: None,
            errors: Vec::new(),
            lost: Vec::new(),
            retried: Retried::default(),
        }
    }
}
