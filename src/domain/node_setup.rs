//! What is done on each node before it takes jobs.

use serde::{Deserialize, Serialize};

use crate::domain::mount::MountVolumes;
use crate::domain::resource::NameValue;
use crate::domain::secret::{SecretValue, SecretVariable};

/// What is done on each node before it takes jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// A command run as the node's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_task: Option<SetupTask>,
    /// Storage mounted before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_volumes: Option<MountVolumes>,
    /// Where the node's performance counters go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance_counters: Option<PerformanceCounters>,
}

/// A command run as the node's root on every node, before its first job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupTask {
    /// Run by a shell.
    pub command_line: String,
    /// Variables that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<NameValue>,
    /// Variables whose values are secret. (`setup_task.secrets.{name}`)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretVariable>,
    /// Where its output goes, unexpanded.
    pub std_out_err_path_prefix: String,
}

/// Where a node's performance counters go: a component of Application Insights.
///
/// Source: `PerformanceCountersSettings`, openapi 2018-05-01.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerformanceCounters {
    /// The component's resource id, as given.
    pub component: String,
    /// Where its instrumentation key is. ([`INSTRUMENTATION_KEY`])
    pub key: SecretValue,
}

/// The field under which the instrumentation key is sealed.
pub const INSTRUMENTATION_KEY: &str = "performance_counters.instrumentation_key";

/// What the fields of a setup task's secrets begin with.
pub const SETUP_SECRETS: &str = "setup_task.secrets.";
