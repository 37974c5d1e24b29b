//! What a driver leaves on a machine for the agent to start from: the same document for every driver.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::gpu::Gpu;

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
    /// The file of names that the agent tells of the nodes of each job, where the node is in its host's network, which is nobody's to tell:
    /// there nodes of one job reach each other at the port that containers have, as the host's ssh server has the usual one. `None`
    /// where the driver keeps the names.
    #[serde(default)]
    pub names: Option<PathBuf>,
    /// The file in which the agent writes down when it asked a server that answered, where the node ends itself without one; `None` where
    /// it does not.
    #[serde(default)]
    pub fence: Option<PathBuf>,
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
    /// The GPUs that are this node's alone.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// The vendor's library that tells of them, as the node sees it; `None` for the one that the driver installed.
    #[serde(default)]
    pub gpu_library: Option<PathBuf>,
    /// Where users log in, where that is not the listener that the agent has as its standard input but one that leads to it.
    #[serde(default)]
    pub login: Option<std::net::SocketAddr>,
    /// What a file server has; `None` for a node.
    #[serde(default)]
    pub store: Option<Store>,
}

/// The host name of the node with that id. Ids have an underscore, which no host name may have: MPI refuses them.
pub fn host_name(node_id: &str) -> String {
    node_id.replace('_', "-")
}

/// The names of nodes as `/etc/hosts` has them, of addresses and ids.
pub fn hosts_file<'a>(nodes: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for (address, id) in nodes {
        let name = host_name(id);
        let alias = if id == name { String::new() } else { format!(" {id}") };
        hosts.push_str(&format!("{address} {name}{alias}\n"));
    }
    hosts
}

/// What a file server has that its agent exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Where its file system is.
    pub data: PathBuf,
    /// Where what serves it keeps its passing state. Root of the file server alone may enter it.
    pub run: PathBuf,
    /// The folder of the socket at which nodes that may mount it are let in; `None` where the network leads there by itself.
    pub door: Option<PathBuf>,
    /// The address at which it is served: its own, or one that leads nowhere else, where whoever is let in comes through the door.
    pub address: std::net::IpAddr,
    /// Whether the kernel is the file server's alone, so that its server of NFS may be used.
    #[serde(default)]
    pub own_kernel: bool,
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
/// Asked with a [`Knock`](crate::domain::door::Knock), it hands over with this line the connection itself.
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
    /// A kernel of its own. The agent is root there.
    VirtualMachine,
    /// None beyond a process group and folders of its own.
    ProcessGroup,
}

impl Isolation {
    /// Whether the node has a root, processes and mounts of its own: then the agent may separate jobs from it and from each other.
    pub fn has_root(self) -> bool {
        self != Isolation::ProcessGroup
    }

    /// The word for people and for `Join::isolation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Namespaces => "namespaces",
            Isolation::VirtualMachine => "virtual machine",
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
