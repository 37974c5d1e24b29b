//! What the agent and the server say to each other: all that both sides share. Every message has a version.
//!
//! The agent pulls. It joins once ([`Join`] → [`Joined`]), then posts what it sees and gets, at once or when it changes, what it
//! should be ([`Sync`] → [`Synced`]). It takes no commands: [`Desired`] is a state, sent whole. Output goes ahead of the report
//! that needs it, small pieces inside [`Sync`], large ones as the body of a request of their own.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::attempt::Stop;
use crate::domain::container::PullLimits;
use crate::domain::door::Pass;
use crate::domain::gpu::Gpu;
use crate::domain::health::Probe;
use crate::domain::machine::{Setup as SetupState, Size};
use crate::domain::process::Process;
use crate::domain::resource::{EntityError, NameValue};
use crate::domain::sample::Sample;
use crate::domain::storage::{Endpoint, ShareAt};
use crate::id::{AttemptUid, MachineUid};

pub use crate::domain::report::Seen;

/// The version of these messages. The server refuses others.
pub const VERSION: u32 = 1;

/// Where an agent joins: `POST`, [`Join`] → [`Joined`].
pub const JOIN_PATH: &str = "/agent/join";

/// Where an agent reports and waits: `POST`, [`Sync`] → [`Synced`], with the credential as bearer token.
pub const SYNC_PATH: &str = "/agent/sync";

/// Where an agent puts a large piece of output: `POST` with the bytes as body and [`OutputQuery`] as query.
pub const OUTPUT_PATH: &str = "/agent/output";

/// Most bytes of output in one [`Sync`], decoded.
pub const MAX_INLINE_OUTPUT: usize = 128 * 1024;

/// Most bytes in the body of one output request.
pub const MAX_OUTPUT_BODY: usize = 4 * 1024 * 1024;

/// Longest time that the server holds a [`Sync`]. Unit: milliseconds.
pub const MAX_WAIT_MS: u32 = 25_000;

/// An agent comes home for the first time.
#[derive(Clone, Serialize, Deserialize)]
pub struct Join {
    /// [`VERSION`].
    pub protocol: u32,
    /// The machine's name.
    pub machine: String,
    /// The one-time token of its bootstrap. Secret.
    pub token: String,
    /// SHA-256, in hex, of a 256-bit key made on the node. The first join binds it: the same key again gets the same answer
    /// (a lost reply), another key is refused and the machine quarantined.
    pub key_hash: String,
    /// The kernel's boot id joined with the start of the node's first process: differs after any restart of the machine.
    pub boot_id: String,
    /// What separates this node from others, for people: `namespaces` or `process group`.
    pub isolation: String,
    /// How users log in to it.
    #[serde(default)]
    pub login: LoginWay,
    /// The GPUs that it found to be its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
}

/// How users log in to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginWay {
    /// By ssh at the node's own address, at the usual port.
    #[default]
    Direct,
    /// By ssh at another address, from where they are let through to it.
    At {
        /// The address.
        address: std::net::IpAddr,
        /// The port.
        port: u16,
    },
    /// Not at all.
    None,
}

/// The agent's own credential.
#[derive(Clone, Serialize, Deserialize)]
pub struct Joined {
    /// The machine's identity.
    pub machine: MachineUid,
    /// Bearer token of the agent routes. Opens only this node's state. Secret.
    pub credential: String,
    /// Seconds until it expires. Each [`Synced`] near that time carries a new one.
    pub expires_in_s: u64,
}

/// What the agent sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sync {
    /// [`VERSION`].
    pub protocol: u32,
    /// One run of the agent process.
    pub session: uuid::Uuid,
    /// As in [`Join`].
    pub boot_id: String,
    /// Counts this session's reports from 1. Reports are accepted once and in order; others are acknowledged and ignored.
    pub seq: u64,
    /// The revision of the desired state that it acts on; 0 for none. The server answers when it has another.
    pub have: u64,
    /// How long it is willing to wait for another. Unit: milliseconds; 0 answers at once.
    pub wait_ms: u32,
    /// The node's setup.
    pub setup: SetupState,
    /// What the node proved of itself, once it is set up or could not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<Probe>,
    /// Every assignment that it knows, also ended ones that the server still lists.
    pub assignments: Vec<Seen>,
    /// New output, before anything that `assignments` says is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Chunk>,
    /// What the node used since the last report that was answered. May be said twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// Which bytes of which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputQuery {
    /// The attempt that wrote them.
    pub attempt: AttemptUid,
    /// The directory's id; `stdouterr` for the standard one.
    pub directory: String,
    /// The file's path below the directory: segments joined by `/`, none of them `.`, `..` or empty.
    pub path: String,
    /// Counts the contents that the file had: a file that was truncated or replaced begins a new one at offset 0. From 1.
    pub generation: u32,
    /// Where the bytes begin. Pieces of a generation are sent in order and without holes; a piece that is known is ignored.
    pub offset: u64,
    /// When the file was last written, in whole seconds since 1970.
    pub modified_at: i64,
}

/// Bytes of a file; none for a file that is empty so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Which bytes.
    #[serde(flatten)]
    pub at: OutputQuery,
    /// The bytes, as base64 on the wire.
    #[serde(with = "base64_bytes")]
    pub data: Vec<u8>,
}

/// What the node should be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Synced {
    /// The revision of the desired state; differs whenever the state does.
    pub revision: u64,
    /// The state, whole; `None` where the agent has it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// A new credential, near the end of the old one's life. Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The server's time when it answered, which the node's clock is held against.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
}

/// The state that a node should be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// What of the cluster's setup nodes here cannot do: the setup fails with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<EntityError>,
    /// Who may log in, until the setup is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// What it exports; `None` for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// What is mounted before that and stays mounted, below `AZ_BATCHAI_MOUNT_ROOT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What is done once, before any assignment; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<SetupTask>,
    /// What has the node; at most one at 2018-05-01. What is not listed any more is forgotten: its temporary folder goes.
    pub assignments: Vec<Assignment>,
}

/// What a file server exports: all of its disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// What passes are made with. Secret.
    pub key: String,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Export(..)")
    }
}

/// The account that users have on the node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its public key, as `authorized_keys` has it.
    pub ssh_public_key: Option<String>,
    /// Its password. Secret.
    pub password: Option<String>,
    /// Ranges of addresses that it may come from; `None` for all.
    #[serde(default)]
    pub from: Option<Vec<String>>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A storage that is mounted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Its place below the mount root: segments joined by `/`, none of them `.`, `..` or empty.
    pub place: String,
    /// What it is.
    pub source: Source,
    /// Whether the server lists and links what is on it by itself: then nothing on it is shipped.
    pub listed: bool,
    /// Longest time that mounting may take. Unit: milliseconds.
    pub deadline_ms: u32,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mount").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An Azure file share, over SMB.
    Share {
        /// Where it is.
        at: ShareAt,
        /// The account, which is the user as well.
        account: String,
        /// The account's key. Secret.
        key: String,
        /// Mode of its files, octal.
        file_mode: String,
        /// Mode of its directories, octal.
        directory_mode: String,
    },
    /// An Azure blob container.
    Container {
        /// The base URL of the account's containers.
        at: Endpoint,
        /// The account.
        account: String,
        /// The container.
        container: String,
        /// What opens it: the query of its signed URL. Secret.
        access: String,
        /// Options of the documented FUSE client.
        options: Option<String>,
    },
    /// A directory of a file server, over NFS.
    Server {
        /// Its address.
        address: String,
        /// The directory.
        directory: String,
        /// Options of the mount command.
        options: Option<String>,
        /// What lets the node in, where it has a gate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pass: Option<Pass>,
    },
    /// Whatever a command of the user's mounts. The place is appended to it.
    Command {
        /// Run by a shell.
        line: String,
    },
}

/// The setup task, run as the node's root.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupTask {
    /// Run by a shell.
    pub command_line: String,
    /// Variables that it sees, secrets among them.
    pub environment: Vec<NameValue>,
    /// Where its output goes, unexpanded.
    pub std_out_err_path_prefix: String,
    /// The folder below the prefix.
    pub std_out_err_path_suffix: String,
}

impl std::fmt::Debug for SetupTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetupTask(..)")
    }
}

/// One part of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which attempt.
    pub attempt: AttemptUid,
    /// Counts the attempts of the job, from 1: outputs of an earlier one on a share are put aside.
    pub number: i32,
    /// The node's place in the gang, from 0.
    pub rank: u32,
    /// What it should be doing.
    pub step: Step,
    /// What is run. Constant for an attempt.
    pub task: Task,
}

/// What a part should be doing. Steps only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make the directories and run the job preparation; then be `Ready`.
    Prepare,
    /// All that [`Step::Prepare`] asks, then start the processes of this rank; be `Running`, and `Ended` when its leaders are or one
    /// process ends badly. A rank without leaders runs until it is told to stop.
    Run,
    /// Be `Ended`: nothing of it runs, and all its output is with the server.
    Stop {
        /// Why.
        why: Stop,
        /// Time between the polite signal and the last one. Unit: milliseconds.
        grace_ms: u32,
    },
}

/// What is run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What of the job nodes here cannot do: the part ends with it before anything is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<EntityError>,
    /// The subscription, workspace, experiment and job that it is part of, for names of folders.
    pub names: TaskNames,
    /// `jobOutputDirectoryPathSegment`: the part of output paths that is the job's own.
    pub output_segment: String,
    /// All nodes of the gang, by rank.
    pub hosts: Vec<Host>,
    /// This node's size.
    pub size: Size,
    /// What is started on this node, side by side; none where the job only reaches it from others.
    pub processes: Vec<Process>,
    /// The content of the host file.
    pub host_file: String,
    /// What is mounted for the time of the job, below `AZ_BATCHAI_JOB_MOUNT_ROOT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The job preparation, run on every node.
    pub preparation: Option<String>,
    /// The container that all of it runs in; `None` for the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Where stdout, stderr and the execution log go, unexpanded.
    pub std_out_err_path_prefix: String,
    /// Directories that the job reads: id and path, unexpanded.
    pub input_directories: Vec<(String, String)>,
    /// Directories that the job writes.
    pub output_directories: Vec<OutputDirectory>,
    /// Variables of the user, secrets among them; values unexpanded.
    pub environment: Vec<NameValue>,
    /// What lets the nodes of the attempt, and nobody else, reach each other; `None` for a job on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// A container to run in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The image's whole name: with its registry, and with a tag or a digest.
    pub image: String,
    /// Who may pull it; `None` for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<RegistryLogin>,
    /// Size of `/dev/shm`; `None` for the engine's default. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// What the pull may take.
    #[serde(default)]
    pub limits: PullLimits,
}

/// Who may pull an image.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The registry's address, as given.
    pub registry: Option<String>,
    /// The user.
    pub username: String,
    /// The password. Secret.
    pub password: String,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("image", &self.image).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryLogin(..)")
    }
}

/// The keys of one attempt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// As PEM. Secret.
    pub private_key: String,
    /// As a line of `authorized_keys`.
    pub public_key: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(..)")
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("output_segment", &self.output_segment).finish_non_exhaustive()
    }
}

/// Names that folders and variables are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNames {
    /// The workspace.
    pub workspace: String,
    /// The experiment.
    pub experiment: String,
    /// The job.
    pub job: String,
    /// The cluster.
    pub cluster: String,
}

/// A node of the gang.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The wire's node id, which is its host name too.
    pub node_id: String,
    /// Its address among its cluster's nodes.
    pub address: String,
}

/// A directory that the job writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDirectory {
    /// Its id.
    pub id: String,
    /// The storage that it is on, unexpanded.
    pub path_prefix: String,
    /// Its place below `outputs`.
    pub path_suffix: Option<String>,
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}
