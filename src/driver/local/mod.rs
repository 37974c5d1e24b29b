//! Nodes on this host: each with a network, processes, a root, and limits of its own; or, without the right to that, plain
//! processes in a folder.
//!
//! In: a machine that should exist. Out: a first process (`batchyard node-init`) that lives without this server, keeps the agent
//! running, and with which the node ends. What is recorded is in one folder, and what lives is asked of the kernel, so that
//! another server goes on from there. Refuses to know jobs, rows and the API.

mod base;
mod cgroup;
mod disk;
mod gpus;
mod init;
pub(in crate::driver) mod layout;
pub(in crate::driver) mod lock;
mod netlink;
pub(in crate::driver) mod network;
mod node;
mod privilege;
mod process;
mod remove;
mod renew;
mod start;
mod watch;

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch as signal};

use crate::domain::bootstrap::{Isolation, ServerAddress};
use crate::domain::machine::{MachineSpec, Observed, Size};
use crate::domain::storage::Storages;
use crate::driver::local::cgroup::Cgroups;
use crate::driver::local::disk::Disks;
use crate::driver::local::gpus::HostGpus;
use crate::driver::local::layout::NodeFolder;
use crate::driver::local::lock::{FolderLock, make_folder};
use crate::driver::local::network::Networks;
use crate::driver::local::node::{Host, LAYERED, SharedHost};
use crate::driver::local::watch::Processes;
use crate::driver::{Capabilities, Driver, DriverError, LONGEST_BOOT, Listing, sizes};

pub use init::node_init;
pub use network::{HostBridge, NodeNetwork};
pub use privilege::Privilege;

/// What the driver is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the driver keeps its nodes; made with mode 0700 where it is missing. All servers of an installation name the same.
    pub dir: PathBuf,
    /// The folder in which each server of the installation has the socket that its agents speak to. Made where it is missing.
    pub sockets: PathBuf,
    /// The folder in which each server has the socket through which nodes' container engines reach registries; `None` for no such way. Made
    /// where it is missing.
    pub registries: Option<PathBuf>,
    /// The host folder that every node has at `$AZ_BATCHAI_MOUNT_ROOT/shared`; `None` for no share. Made where it is missing, and
    /// given the mode 1777: jobs write to it as an account of their own.
    pub share: Option<PathBuf>,
    /// Where storage is that nodes may reach.
    pub storage: Storages,
    /// Whether users' mount commands run on nodes, with rights that reach the host's kernel.
    pub mount_commands: bool,
    /// Which installation this is: 1 to 32 lower-case letters, digits and dashes. Names its control groups.
    pub owner: String,
    /// How nodes are separated.
    pub privilege: Privilege,
    /// Folders that no node may see, wherever they are: the data folder. `dir` and the folders of sockets always are among them.
    pub hidden: Vec<PathBuf>,
    /// The program whose `node-init` and `agent` nodes run; `None` for this one.
    pub binary: Option<PathBuf>,
    /// The address of this host at which users log in to nodes in namespaces, each at a port of its own; `None` where they cannot.
    pub login: Option<IpAddr>,
    /// What nodes run in place of the agent, as seen from inside: for tests of the driver.
    pub program: Option<Vec<String>>,
    /// What runs containers on nodes; `None` for nothing.
    pub engine: Option<EngineChoice>,
    /// Which GPUs there are.
    pub gpus: GpuChoice,
    /// Files of the host that nodes with [`Privilege::VirtualMachines`] make their machines of, by the names that they have there.
    pub machine_files: Vec<(String, PathBuf)>,
    /// The network that nodes are in.
    pub network: NodeNetwork,
    /// How agents reach servers, where that is not by the sockets of this host.
    pub server: Option<ServerAddress>,
    /// The time after which a node ends itself where no server answers its agent; `None` for never. For nodes in namespaces.
    pub fence: Option<Duration>,
}

/// Which GPUs a host has, and what becomes of sizes with more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuChoice {
    /// So many that do not exist, in place of those that do; 0 for those that do.
    pub simulated: u32,
    /// The vendor's library that tells of them; `None` for the one that the driver installed.
    pub library: Option<PathBuf>,
    /// Whether there are no sizes with more GPUs than the host has, rather than with those that it has.
    pub refuse_missing: bool,
}

/// What runs containers on nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// An engine of each node's own, where nodes have namespaces; none where they have not.
    Own,
    /// The host's, by its socket: for nodes without namespaces alone, which see the host's folders and network as it does.
    Socket(PathBuf),
}

/// Makes nodes on this host.
pub struct LocalDriver {
    host: SharedHost,
    sizes: Vec<Size>,
}

impl LocalDriver {
    /// Finds out what this host allows and makes the driver's folders. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`DriverError::Permanent`]: a setting is wrong, a folder cannot be made, or namespaces are demanded and cannot be had.
    pub fn new(settings: Settings) -> Result<LocalDriver, DriverError> {
        LocalDriver::build(settings).map_err(|error| DriverError::Permanent(error.into()))
    }

    fn build(settings: Settings) -> io::Result<LocalDriver> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&settings.owner.len()) || !settings.owner.bytes().all(plain) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the owner is not a short name"));
        }
        let isolation = privilege::decide(settings.privilege)?;
        if isolation.has_root() && matches!(settings.engine, Some(EngineChoice::Socket(_))) {
            let why = "a container engine of the host cannot see nodes that have namespaces: they have engines of their own";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        node::make_folders(&settings.dir)?;
        make_folder(&settings.sockets, 0o700)?;
        // Nodes see these under other names, or not at all: only the real path tells whether one is in a folder they see.
        let dir = settings.dir.canonicalize()?;
        let sockets = settings.sockets.canonicalize()?;
        let share = settings.share.as_deref().map(open_share).transpose()?;
        let mut hidden = vec![dir.clone(), sockets.clone()];
        let registries = settings.registries.as_deref().map(|folder| {
            make_folder(folder, 0o700)?;
            folder.canonicalize()
        });
        let registries = registries.transpose()?;
        hidden.extend(registries.clone());
        hidden.extend(settings.hidden.iter().filter_map(|path| path.canonicalize().ok()));
        if let Some(shown) = LAYERED.iter().find(|shown| hidden.iter().any(|path| Path::new(shown).starts_with(path))) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{shown}, which nodes see, is in a folder that they must not see"),
            ));
        }
        let nodes = dir.join("nodes");
        let base_etc = match isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => prepare_base(&dir.join("base"), &nodes)?,
            Isolation::ProcessGroup => PathBuf::new(),
        };
        let storage = dir.join(layout::STORAGE);
        layout::write_json(&storage, &settings.storage)?;
        let cgroups = match isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => Cgroups::detect(&settings.owner),
            Isolation::ProcessGroup => Cgroups::none(),
        };
        let (cores, memory_mib) = host_size();
        let gpus = HostGpus::find(&settings.gpus, dir.join("gpus"));
        let sizes = sizes::for_host(cores, memory_mib, gpus.count());
        let sizes = if settings.gpus.refuse_missing { sizes::without_missing_gpus(sizes) } else { sizes };
        let host = Host {
            gpus,
            disks: Disks::new(dir.join("disks")),
            doors: dir.join("doors"),
            networks: Networks::new(dir.join("clusters"), nodes.clone(), isolation, settings.network),
            nodes,
            isolation,
            sockets,
            server: settings.server,
            fence: settings.fence,
            registries,
            share,
            storage,
            mount_commands: settings.mount_commands,
            hidden,
            // Not by its name: the file may be another one by the time a node is made.
            binary: settings.binary.unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
            program: settings.program,
            login: settings.login,
            engine: settings.engine,
            machine_files: settings.machine_files,
            base_etc,
            cgroups,
            processes: Processes::new()?,
        };
        if let Err(error) = host.networks.release_stale() {
            tracing::warn!(error = %error, "what an earlier server left of clusters' networks stays for now");
        }
        tracing::info!(isolation = isolation.as_str(), cores, memory_mib, "nodes are made on this host");
        Ok(LocalDriver { host: Arc::new(host), sizes })
    }
}

#[async_trait::async_trait]
impl Driver for LocalDriver {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        let spec = spec.clone();
        self.in_thread(move |host| host.ensure(&spec)).await
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        let host = Arc::clone(&self.host);
        let listed = tokio::task::spawn_blocking(move || host.list()).await;
        listed.unwrap_or_else(|broken| Err(io::Error::other(broken))).map(Listing::from).map_err(sort_error)
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        let name = name.to_owned();
        self.in_thread(move |host| host.delete(&name)).await
    }

    async fn evidence(&self, name: &str) -> Option<String> {
        let (host, name) = (Arc::clone(&self.host), name.to_owned());
        tokio::task::spawn_blocking(move || host.evidence(&name)).await.ok().flatten()
    }

    fn changes(&self) -> Option<signal::Receiver<u64>> {
        Some(self.host.processes.changes())
    }

    fn sizes(&self) -> &[Size] {
        &self.sizes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "local",
            isolation: self.host.isolation.as_str().to_owned(),
            share: self.host.share.is_some(),
            // A disk is mounted, which a process group cannot.
            file_servers: self.host.isolation.has_root() && disk::is_possible(),
            fence: self.host.fence,
            longest_boot: LONGEST_BOOT,
        }
    }
}

impl LocalDriver {
    /// Runs `work` in a thread of its own, whose namespaces may change because it ends with the call. Work that was begun is
    /// finished, whether or not someone still waits for it.
    async fn in_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Host) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DriverError> {
        let host = Arc::clone(&self.host);
        let (sender, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("node".into()).spawn(move || {
            let _ = sender.send(work(&host));
        });
        thread.map_err(sort_error)?;
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the work broke off"))).map_err(sort_error)
    }
}

/// Sorts what the host said by what the caller does next.
fn sort_error(error: io::Error) -> DriverError {
    use io::ErrorKind::{InvalidInput, OutOfMemory, QuotaExceeded, StorageFull, Unsupported};
    match error.kind() {
        StorageFull | QuotaExceeded | OutOfMemory => DriverError::Quota(error.into()),
        InvalidInput | Unsupported => DriverError::Permanent(error.into()),
        _ => DriverError::Transient(error.into()),
    }
}

/// The copy of `/etc` for new nodes; older ones that no node is on go.
fn prepare_base(folder: &Path, nodes: &Path) -> io::Result<PathBuf> {
    let _held = FolderLock::make(folder)?;
    let base = base::ensure_base(folder)?;
    let entries = std::fs::read_dir(nodes)?.flatten();
    let mut used: Vec<PathBuf> =
        entries.filter_map(|e| NodeFolder::new(e.path()).find_spec()).map(|spec| spec.base_etc).collect();
    used.push(base.clone());
    base::remove_unused(folder, &used);
    Ok(base)
}

/// Makes the share where it is missing, and lets every account write to it, each its own files.
fn open_share(path: &Path) -> io::Result<PathBuf> {
    make_folder(path, 0o755)?;
    let path = path.canonicalize()?;
    let meta = path.metadata()?;
    if meta.mode() & 0o1777 != 0o1777 {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).map_err(layout::at("open to jobs", &path))?;
    }
    Ok(path)
}

/// Cores and mebibytes of memory that this host has.
fn host_size() -> (u32, u64) {
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    (cores, total.map_or(1024, |kib| kib >> 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_size() {
        let (cores, memory_mib) = host_size();
        assert!(cores >= 1 && memory_mib > 64);
    }

    #[test]
    fn a_full_host_is_waited_for_and_a_wrong_name_is_not() {
        assert!(matches!(sort_error(io::Error::from_raw_os_error(28)), DriverError::Quota(_)));
        assert!(matches!(sort_error(io::ErrorKind::InvalidInput.into()), DriverError::Permanent(_)));
        assert!(matches!(sort_error(io::ErrorKind::TimedOut.into()), DriverError::Transient(_)));
    }
}
