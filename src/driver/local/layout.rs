//! Where things of a node are, on the host and inside it, and the document that its first process starts from.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::bootstrap::{Isolation, JobUser};
use crate::driver::local::cgroup::NodeGroup;
use crate::driver::local::process::Identity;
use crate::id::ResourceUid;

/// The root of the documented paths inside a node that has a root of its own.
///
/// Source: documented values of `AZ_BATCHAI_MOUNT_ROOT`.
pub(super) const TASKS_ROOT: &str = "/mnt/batch/tasks";

/// Below [`TASKS_ROOT`]: where shares and cluster-level mounts are.
pub(super) const MOUNTS: &str = "shared/LS_root/mounts";

/// The name of the share below [`MOUNTS`].
pub(super) const SHARE: &str = "shared";

/// Inside a node: what its root alone may enter.
pub(super) const PRIVATE: &str = "/run/batchyard";

/// The way to storage, below [`PRIVATE`].
pub(super) const GATE: &str = "gate";

/// In the driver's folder: where storage is; read by every node's gate.
pub(super) const STORAGE: &str = "storage.json";

/// Inside a node: what all its users may read about their cluster; kept current from outside.
pub(super) const CLUSTER: &str = "/run/cluster";

/// Inside a node: what its container engine keeps; the default place of the engine's packages.
pub(super) const IMAGES: &str = "/var/lib/docker";

/// Inside a node: the agent's own folder. In memory, as nothing that it tells of outlives the node's first process: what is written
/// for each job waits for no disk.
pub(super) const STATE: &str = "/run/batchyard/state";

/// The account that runs jobs in a node with a root of its own. In a range that neither Debian (people to 59999, packages from
/// 60000 on demand) nor systemd (60001 to 60577, from 61184) gives away, so that it is nobody on the host, and below 65536, so that
/// it exists in user namespaces too.
pub(super) fn job_user() -> JobUser {
    JobUser { name: "batch".to_owned(), uid: 61_000, gid: 61_000 }
}

/// Whether `name` may be a machine of ours: it becomes a folder, a control group and an argument.
pub(super) fn is_machine_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=80).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain)
}

/// The host name of the node with that id. Ids have an underscore, which no host name may have: MPI refuses them.
pub(super) fn host_name(node_id: &str) -> String {
    node_id.replace('_', "-")
}

/// Whether `name` may be a host name.
pub(super) fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    (1..=64).contains(&name.len()) && !name.starts_with(['-', '.']) && name.bytes().all(plain)
}

/// What a node's first process is told. Holds no secret: those are in the agent's document beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeSpec {
    /// The machine's name.
    pub(super) machine: String,
    /// The wire's node id. [`host_name`] makes the host name of it.
    pub(super) node_id: String,
    /// The cluster that it belongs to.
    pub(super) cluster: ResourceUid,
    /// What separates it from others.
    pub(super) isolation: Isolation,
    /// Its address among its cluster's nodes.
    pub(super) address: Ipv4Addr,
    /// What its first process starts, and starts again when it ends: program and arguments, as seen inside the node.
    pub(super) program: Vec<String>,
    /// The environment of that program, whole.
    pub(super) environment: Vec<(String, String)>,
    /// Its control groups; root of the node sees those of its jobs below `/run/batchyard/cgroup`.
    pub(super) groups: Vec<NodeGroup>,
    /// Host folders that it sees, each below a layer of its own.
    pub(super) layered: Vec<PathBuf>,
    /// The folder that its `/etc` is a layer over.
    pub(super) base_etc: PathBuf,
    /// Host folders that it must not see, wherever they are.
    pub(super) hidden: Vec<PathBuf>,
    /// The folder of agent sockets.
    pub(super) sockets: PathBuf,
    /// The folder of passages to registries.
    #[serde(default)]
    pub(super) registries: Option<PathBuf>,
    /// The file that says where storage is.
    #[serde(default)]
    pub(super) storage: PathBuf,
    /// The host folder that it has at `$AZ_BATCHAI_MOUNT_ROOT/shared`.
    pub(super) share: Option<PathBuf>,
    /// The folder of what all nodes of the cluster know.
    pub(super) cluster_folder: PathBuf,
    /// The folder that its agents share with those of the cluster's other nodes.
    pub(super) gangs: PathBuf,
    /// The account that the user asked for.
    pub(super) admin_user: String,
}

/// A node's folder on the host.
#[derive(Clone, Debug)]
pub(super) struct NodeFolder(PathBuf);

impl NodeFolder {
    pub(super) fn new(path: PathBuf) -> NodeFolder {
        NodeFolder(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What the first process is told.
    pub(super) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// What the agent is told. In namespaces the first process takes it away into memory.
    pub(super) fn bootstrap(&self) -> PathBuf {
        self.0.join("bootstrap.json")
    }

    /// Locked by the first process for as long as it lives, from before it starts.
    pub(super) fn alive(&self) -> PathBuf {
        self.0.join("alive")
    }

    /// Who the first process is; written by itself.
    pub(super) fn running(&self) -> PathBuf {
        self.0.join("running.json")
    }

    /// What the first process and the agent print.
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The root that the node sees.
    pub(super) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Upper and work folders of its layers.
    pub(super) fn layers(&self) -> PathBuf {
        self.0.join("layers")
    }

    /// As [`layers`](Self::layers), where memory is mounted for them.
    pub(super) fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }

    /// The root of the documented paths of a node without a root of its own.
    pub(super) fn tasks(&self) -> PathBuf {
        self.0.join("tasks")
    }

    /// The agent's own folder of a node without a root of its own.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The spec that was written, if one was.
    pub(super) fn find_spec(&self) -> Option<NodeSpec> {
        read_json(&self.spec())
    }

    /// Who the first process is or was, if one got so far.
    pub(super) fn find_running(&self) -> Option<Running> {
        read_json(&self.running())
    }
}

/// A node's first process, as it wrote itself down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// Who it is, as seen from the host.
    pub(super) identity: Identity,
    /// The descriptor by which it holds the cluster's network; other servers find the network through it.
    pub(super) fabric_fd: Option<i32>,
}

/// Writes `value` so that a reader sees all of it or none, with mode 0600.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec(value)?, 0o600)
}

/// Writes `content` so that a reader sees all of it or none.
pub(super) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(at("write", &beside))?;
    file.write_all(content).map_err(at("write", &beside))?;
    std::fs::rename(&beside, path).map_err(at("write", path))
}

/// The value in a file; none where it is not there or not whole.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Says what was being done when an error came, and where.
pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {doing} {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_to_a_path_are_no_machines() {
        assert!(is_machine_name("by-0123456789abcdef0123456789abcdef"));
        for bad in ["", ".", "..", "a/b", "-rf", "A", "a b", "a\n", "ä", &"x".repeat(81)] {
            assert!(!is_machine_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn host_names_hold_no_separators() {
        assert!(is_host_name("tvm-1392786932_1-20180301t000000z"));
        for bad in ["", "a b", "a\tb", "a\n10.0.0.1 x", "-a", ".a", "a/b"] {
            assert!(!is_host_name(bad), "{bad:?}");
        }
    }
}
