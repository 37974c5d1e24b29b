//! What a driver leaves on a machine for the agent to start from: the same document for every driver.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The variable that everything in a node inherits: its folder. Where no namespace tells who belongs to a node, this does.
pub const NODE_VARIABLE: &str = "BATCHYARD_NODE";

/// The document that an agent reads when it starts. Holds a secret: root of the node alone may read it.
#[derive(Clone, Serialize, Deserialize)]
pub struct AgentBootstrap {
    /// The machine's name at the driver.
    pub machine: String,
    /// The node's id, which is its host name too.
    pub node_id: String,
    /// The one-time join token. Secret; worthless once spent.
    pub join_token: String,
    /// How the server is reached.
    pub server: ServerAddress,
    /// What separates this node from others: `namespaces` or `process group`.
    pub isolation: Isolation,
    /// A folder of the agent's own that survives its restart: key, credential, state of assignments. Mode 0700.
    pub state_dir: PathBuf,
    /// The root of all documented paths: `/mnt/batch/tasks` where the node has a root of its own, else a folder of the node.
    ///
    /// Below it are `shared/LS_root/mounts` (`AZ_BATCHAI_MOUNT_ROOT`), `shared/LS_root/jobs` and `startup`.
    /// Source: documented values of the `AZ_BATCHAI_*` variables.
    pub tasks_root: PathBuf,
    /// Mount points below `AZ_BATCHAI_MOUNT_ROOT` whose files the server reads by itself: nothing below them is shipped.
    pub shares: Vec<String>,
    /// Whom jobs run as; `None` runs them as whoever the agent is, where there is no privilege to change that.
    pub job_user: Option<JobUser>,
    /// Control groups for what the agent runs, one a hierarchy, as root of the node sees them: whoever writes `0` to the file
    /// `cgroup.procs` in each is in them with all that it starts. Empty where nodes have no limits.
    #[serde(default)]
    pub job_groups: Vec<PathBuf>,
    /// A folder that all nodes of the cluster have, and root alone may enter: attempts on several nodes have a folder of their own in
    /// it. `None` where the nodes have nothing in common.
    #[serde(default)]
    pub gangs: Option<PathBuf>,
    /// What runs containers on the node; `None` where nothing does.
    #[serde(default)]
    pub engine: Option<Engine>,
    /// The unix socket through which storage is reached, where the node's network leads nowhere; `None` where it leads there by itself.
    /// See [`GATE_OPEN`].
    #[serde(default)]
    pub gate: Option<PathBuf>,
    /// Whether mount commands of users may run, with the agent's own rights over the node.
    #[serde(default)]
    pub mount_commands: bool,
}

/// What runs containers on a node: a program that speaks the Docker Engine API on a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// One of the node's own, which the agent starts in the node's namespaces when the first job wants it. Images and containers are the
    /// node's, and end with it.
    Own {
        /// Where its socket and its passing state are. Root of the node alone may enter it.
        run: PathBuf,
        /// Where images and containers are kept.
        data: PathBuf,
        /// A folder of sockets, each of which is a server's passage to registries elsewhere; `None` where the node needs none, or has none.
        #[serde(default)]
        registries: Option<PathBuf>,
    },
    /// One that is there anyhow, by its socket. It sees the node's folders under the same paths, and its network is the node's.
    Socket(PathBuf),
}

/// What a gate answers once it is open. Asked with a line `host:port`, it answers a line: this, after which bytes go through, or why not.
pub const GATE_OPEN: &str = "open";

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerAddress {
    /// Plain HTTP over a unix socket: any socket file in this folder is a server of the same installation; a server that starts
    /// puts its own there, and one that is gone does not answer.
    Sockets(PathBuf),
    /// HTTPS, and the certificate authority that must have signed the server's certificate, as PEM.
    Https {
        /// Base URL.
        url: String,
        /// PEM.
        ca: String,
    },
}

/// What separates a node from others on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Its own network, mount, process and host-name namespaces, root and limits. The agent has root in them.
    Namespaces,
    /// None beyond a process group and folders of its own.
    ProcessGroup,
}

impl Isolation {
    /// The word for people and for `Join::isolation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Namespaces => "namespaces",
            Isolation::ProcessGroup => "process group",
        }
    }
}

/// The unprivileged account that runs jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobUser {
    /// Its name.
    pub name: String,
    /// Its user id, not 0.
    pub uid: u32,
    /// Its group id, not 0.
    pub gid: u32,
}
