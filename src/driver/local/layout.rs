//! Where things of a node are, on the host and inside it, and the document that its first process starts from.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(in crate::driver) use crate::domain::bootstrap::host_name;
use crate::domain::bootstrap::{Isolation, JobUser};
use crate::domain::gpu::Gpu;
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
pub(in crate::driver) const PRIVATE: &str = "/run/batchyard";

/// The way to storage, below [`PRIVATE`].
pub(in crate::driver) const GATE: &str = "gate";

/// In the driver's folder: where storage is; read by every node's gate.
pub(super) const STORAGE: &str = "storage.json";

/// Inside a node: the vendor's library of GPUs, where it is not in its usual place. Below what its root alone may enter.
pub(super) const GPU_LIBRARY: &str = "gpu-library.so";

/// Inside a node: what all its users may read about their cluster; kept current from outside.
pub(in crate::driver) const CLUSTER: &str = "/run/cluster";

/// In that folder: the names of the cluster's nodes.
pub(in crate::driver) const HOSTS: &str = "hosts";

/// Inside a file server: where its disk is.
///
/// Source: `mountPoint` of recorded 2018-05-01 answers.
pub(in crate::driver) const DATA: &str = "/data";

/// Inside a file server, below [`PRIVATE`]: the folder of its door.
pub(in crate::driver) const DOOR: &str = "door";

/// The socket in a door's folder.
pub(in crate::driver) const DOOR_SOCKET: &str = "door";

/// Inside a node that is the shell of a virtual machine, below [`PRIVATE`]: what the machine is made of.
pub(in crate::driver) const MACHINE: &str = "machine";

/// In that folder: what is told of the machine, [`Told`].
pub(in crate::driver) const TOLD: &str = "told.json";

/// In that folder: the folder of a file server's disk.
pub(super) const DISK: &str = "disk";

/// Inside a node: what its container engine keeps; the default place of the engine's packages.
pub(super) const IMAGES: &str = "/var/lib/docker";

/// Inside a node: the agent's own folder. In memory, as nothing that it tells of outlives the node's first process: what is written
/// for each job waits for no disk.
pub(super) const STATE: &str = "/run/batchyard/state";

/// In that folder: when a server last answered the agent.
pub(super) const HEARD: &str = "heard";

/// Inside a virtual machine: the agent's own folder.
pub(super) const MACHINE_STATE: &str = "/var/lib/batchyard/agent";

/// The account that runs jobs in a node with a root of its own. In a range that neither Debian (people to 59999, packages from
/// 60000 on demand) nor systemd (60001 to 60577, from 61184) gives away, so that it is nobody on the host, and below 65536, so that
/// it exists in user namespaces too.
pub(in crate::driver) fn job_user() -> JobUser {
    JobUser { name: "batch".to_owned(), uid: 61_000, gid: 61_000 }
}

/// Names that are accounts or groups in every node.
const FIXED: [&str; 8] = ["root", "daemon", "bin", "sys", "sshd", "_rpc", "nobody", "nogroup"];

/// The account that the user asked for, where it can be one.
pub(super) fn admin_name(name: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let taken = FIXED.contains(&name) || name == job_user().name;
    (begins && name.len() <= 32 && name.bytes().all(plain) && !taken).then_some(name)
}

/// Whether `name` may be a machine of ours: it becomes a folder, a control group and an argument.
pub(super) fn is_machine_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=80).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain)
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
    /// Whether it is in the host's own network, which leads elsewhere.
    #[serde(default)]
    pub(super) in_host_network: bool,
    /// The time after which it ends itself where no server answers its agent.
    #[serde(default)]
    pub(super) fence: Option<Duration>,
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
    /// The GPUs of the host that are its own for as long as its folder is there.
    #[serde(default)]
    pub(super) gpus: Vec<Gpu>,
    /// Device files of the host that it has beside those of every node.
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    /// The vendor's library of GPUs on the host, where it is not in its usual place.
    #[serde(default)]
    pub(super) gpu_library: Option<PathBuf>,
    /// The folder of file servers' doors.
    #[serde(default)]
    pub(super) doors: PathBuf,
    /// The folder of the disk that it holds, where it is a file server.
    #[serde(default)]
    pub(super) disk: Option<PathBuf>,
    /// What it is made of, where it is the shell of a virtual machine.
    #[serde(default)]
    pub(super) shell: Option<Shell>,
}

/// A node whose one program is a virtual machine, which is what users see of it. It has the network, limits and ends of any node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shell {
    /// Files of the host that it sees in [`MACHINE`], by their names there.
    pub(super) files: Vec<(String, PathBuf)>,
    /// The bridge of the host's that it is plugged into, in place of its cluster's own.
    pub(super) bridge: Option<String>,
    /// What the program is told of the machine.
    pub(super) told: Told,
}

/// What makes one virtual machine another than the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::driver) struct Told {
    /// Its host name.
    pub(in crate::driver) host_name: String,
    /// Its address among its cluster's nodes.
    pub(in crate::driver) address: Ipv4Addr,
    /// Length of the network part of it.
    pub(in crate::driver) prefix: u8,
    /// Where other networks are reached, if they are.
    pub(in crate::driver) gateway: Option<Ipv4Addr>,
    /// Who knows names.
    pub(in crate::driver) nameservers: Vec<IpAddr>,
    /// Processors.
    pub(in crate::driver) cores: u32,
    /// Memory. Unit: MiB.
    pub(in crate::driver) memory_mib: u64,
    /// The account that the user asked for, where it can be one.
    pub(in crate::driver) admin: Option<String>,
    /// The file of a file server's disk, as the node sees it.
    pub(in crate::driver) disk: Option<PathBuf>,
}

/// A device file of the host, for characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    /// Its path below `/dev`.
    pub(super) name: String,
    /// The kernel's number of its kind.
    pub(super) major: u32,
    /// And of itself.
    pub(super) minor: u32,
}

impl Device {
    /// That device file of this host; none where there is none, which is said.
    pub(super) fn find(name: &str) -> Option<Device> {
        let meta = Path::new("/dev").join(name).metadata().ok().filter(|meta| meta.file_type().is_char_device());
        let Some(meta) = meta else {
            tracing::warn!(device = name, "a device that nodes are to have is not there");
            return None;
        };
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        Some(Device { name: name.to_owned(), major, minor })
    }
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

    /// Where a file server's disk is mounted before it has a root.
    pub(super) fn disk(&self) -> PathBuf {
        self.0.join("disk")
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
pub(in crate::driver) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
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
pub(in crate::driver) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Says what was being done when an error came, and where.
pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {doing} {}: {error}", path.display()))
    }
}

/// A document of a node with nothing, for tests.
#[cfg(test)]
pub(super) fn sample_spec() -> NodeSpec {
    NodeSpec {
        machine: "m".into(),
        node_id: "tvm-1".into(),
        cluster: ResourceUid(uuid::Uuid::from_u128(7)),
        isolation: Isolation::Namespaces,
        address: Ipv4Addr::new(10, 96, 0, 4),
        in_host_network: false,
        fence: None,
        program: vec![],
        environment: vec![],
        groups: vec![],
        layered: vec![],
        base_etc: Default::default(),
        hidden: vec![],
        sockets: Default::default(),
        registries: None,
        share: None,
        storage: Default::default(),
        cluster_folder: Default::default(),
        gangs: Default::default(),
        admin_user: String::new(),
        doors: PathBuf::new(),
        disk: None,
        gpus: vec![],
        devices: vec![],
        gpu_library: None,
        shell: None,
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

    #[test]
    fn hostile_names_become_no_account() {
        for bad in ["", "a:x:0:0::/:/bin/sh", "a\nroot2:x:0:0", "root", "batch", "nobody", "-a", "1", "ä", &"a".repeat(33)] {
            assert_eq!(admin_name(bad), None, "{bad:?}");
        }
        assert_eq!(admin_name("admin.User-1"), Some("admin.User-1"));
    }
}
