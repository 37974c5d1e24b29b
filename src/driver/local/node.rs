//! The steps of making and unmaking one node, and of telling whether one lives. All of it blocks; what enters namespaces runs in
//! a thread that ends with the call.
//!
//! Whoever changes a node holds its folder, so that calls at once, also of other servers, follow each other. A node exists as long
//! as its folder does; the folder is made first and removed last.

use std::collections::HashSet;
use std::io::{self, Read, Seek};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FlockOperation;
use rustix::process::{Signal, pidfd_send_signal};

use crate::domain::bootstrap::{AgentBootstrap, Engine, Isolation, ServerAddress, Store};
use crate::domain::machine::{MachineSpec, Observed, Presence, Role};
use crate::driver::local::EngineChoice;
use crate::driver::local::cgroup::{Cgroups, NodeGroup};
use crate::driver::local::disk::{self, Disks};
use crate::driver::local::gpus::{HostGpus, Lease};
use crate::driver::local::layout::{self, Device, NodeFolder, NodeSpec, Shell, Told, at, is_host_name, is_machine_name};
use crate::driver::local::lock::{FolderLock, is_held, make_folder};
use crate::driver::local::network::{self, Networks};
use crate::driver::local::process::{kill_all, list_marked};
use crate::driver::local::remove::{remove_contents, remove_tree};
use crate::driver::local::renew;
use crate::driver::local::start::{NODE_VARIABLE, Outside, start};
use crate::driver::local::watch::Processes;

/// Longest time from the signal to the end of everything in a node.
const END: Duration = Duration::from_secs(15);

/// Host folders that a node sees, where they are folders; links among them are made as they are on the host.
pub(super) const LAYERED: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt"];

/// What all nodes of this installation share.
pub(super) struct Host {
    /// The folders of nodes.
    pub(super) nodes: PathBuf,
    pub(super) isolation: Isolation,
    pub(super) sockets: PathBuf,
    /// How agents reach servers, where that is not by those.
    pub(super) server: Option<ServerAddress>,
    /// The time after which a node that hears no server ends itself.
    pub(super) fence: Option<Duration>,
    pub(super) registries: Option<PathBuf>,
    pub(super) share: Option<PathBuf>,
    /// The file that says where storage is.
    pub(super) storage: PathBuf,
    /// Whether users' mount commands run.
    pub(super) mount_commands: bool,
    pub(super) hidden: Vec<PathBuf>,
    /// This program, also when its file was replaced since.
    pub(super) binary: PathBuf,
    /// What first processes start instead of the agent.
    pub(super) program: Option<Vec<String>>,
    /// Where users who log in come in; `None` where they cannot.
    pub(super) login: Option<IpAddr>,
    /// What runs containers.
    pub(super) engine: Option<EngineChoice>,
    /// What virtual machines are made of.
    pub(super) machine_files: Vec<(String, PathBuf)>,
    /// The folder that every node's `/etc` is a layer over.
    pub(super) base_etc: PathBuf,
    pub(super) cgroups: Cgroups,
    pub(super) gpus: HostGpus,
    pub(super) networks: Networks,
    /// The disks of file servers.
    pub(super) disks: Disks,
    /// The folders of their doors.
    pub(super) doors: PathBuf,
    pub(super) processes: Processes,
}

impl Host {
    fn folder(&self, machine: &str) -> NodeFolder {
        NodeFolder::new(self.nodes.join(machine))
    }

    /// Makes a node where there is none, and anew where a dead one is.
    ///
    /// # Errors
    /// Then nothing of the node runs, but for a first process that another server is starting right now.
    pub(super) fn ensure(&self, spec: &MachineSpec) -> io::Result<Observed> {
        if !is_machine_name(&spec.name) || !is_host_name(&spec.node_id) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the machine's name or node id is not one"));
        }
        let folder = self.folder(&spec.name);
        let _held = FolderLock::make(folder.path())?;
        match self.inspect_held(&spec.name) {
            (Presence::Present, address) => return Ok(observed(&spec.name, Presence::Present, address)),
            // Started by a server that died before it was ready.
            (Presence::Unknown, _) => return Err(io::Error::new(io::ErrorKind::WouldBlock, "the node is half made and runs")),
            (Presence::Absent, _) => {}
        }
        self.processes.remove(&spec.name);
        remove_contents(folder.path(), &[])?;
        let disk = match &spec.role {
            Role::FileServer(disk) => self.check_isolated().and_then(|()| self.disks.ensure(disk)),
            Role::Node => Ok(()),
        };
        match disk.and_then(|()| self.make(spec, &folder)) {
            Ok(address) => Ok(observed(&spec.name, Presence::Present, Some(address))),
            Err(error) => {
                // The next call begins at nothing; what cannot be removed now is found by `list`.
                if let Err(left) = self.unmake(&spec.name, &folder) {
                    tracing::warn!(machine.name = spec.name, error = %left, "a node that was not made left something");
                }
                Err(error)
            }
        }
    }

    fn check_isolated(&self) -> io::Result<()> {
        match self.isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => Ok(()),
            Isolation::ProcessGroup => {
                let why = "a process group cannot be a file server: it has no mounts of its own. The server needs the rights to make namespaces";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }

    fn make(&self, machine: &MachineSpec, folder: &NodeFolder) -> io::Result<Ipv4Addr> {
        let address = self.networks.with(machine.cluster, |n| n.take_address(&machine.name, &machine.node_id))?;
        let lease = self.gpus.take(&self.nodes, machine.size.gpus)?;
        let groups = match self.isolation {
            Isolation::Namespaces => self.cgroups.make(&machine.name, &machine.size, &lease.devices)?,
            Isolation::VirtualMachine => self.cgroups.make(&machine.name, &machine.size, &machine_devices())?,
            Isolation::ProcessGroup => Vec::new(),
        };
        let login = self.login.filter(|_| self.isolation.has_root()).map(listen).transpose()?;
        let mut bootstrap = self.bootstrap(machine, folder, address, &groups, &lease);
        if self.isolation == Isolation::VirtualMachine {
            bootstrap.login = login.as_ref().map(TcpListener::local_addr).transpose()?;
        }
        let spec = self.spec(machine, folder, address, groups, &lease);
        make_folder(&self.door(machine), 0o700)?;
        layout::write_json(&folder.bootstrap(), &bootstrap)?;
        layout::write_json(&folder.spec(), &spec)?;
        // From now on the spec says whose they are.
        drop(lease);
        let lock = lock_alive(folder)?;
        let login = login.as_ref().map(AsFd::as_fd);

        let mut starting = match self.isolation {
            Isolation::ProcessGroup => start(&self.binary, folder, &spec, &lock, None)?,
            Isolation::Namespaces | Isolation::VirtualMachine => self.networks.with(machine.cluster, |network| {
                if let Some(fabric) = network.find_fabric() {
                    return start(&self.binary, folder, &spec, &lock, Some(&Outside { fabric: fabric.as_fd(), login }));
                }
                // Nobody else may look for the new fabric before the first process can be found to hold it.
                let fabric = network.make_fabric()?;
                let mut starting = start(&self.binary, folder, &spec, &lock, Some(&Outside { fabric: fabric.as_fd(), login }))?;
                if let Err(error) = starting.wait_written() {
                    end_child(&mut starting.child);
                    return Err(error);
                }
                Ok(starting)
            })?,
        };
        drop(lock);
        if let Err(error) = starting.wait_ready() {
            end_child(&mut starting.child);
            return Err(error);
        }
        let process = folder.find_running().and_then(|running| running.identity.open());
        let process = process.ok_or_else(|| io::Error::other("the first process ended at once"))?;
        self.processes.add(&machine.name, process, address, Some(starting.child))?;
        Ok(address)
    }

    /// The folder of a file server's door: of its own, as long as there is one of its machines.
    fn door(&self, machine: &MachineSpec) -> PathBuf {
        match &machine.role {
            Role::FileServer(_) => self.doors.join(machine.cluster.to_string()),
            Role::Node => self.doors.clone(),
        }
    }

    fn bootstrap(
        &self,
        machine: &MachineSpec,
        folder: &NodeFolder,
        address: Ipv4Addr,
        groups: &[NodeGroup],
        lease: &Lease,
    ) -> AgentBootstrap {
        let inside = |name: &str| PathBuf::from(layout::PRIVATE).join(name);
        let is_machine = self.isolation == Isolation::VirtualMachine;
        let (server, state_dir, tasks_root, job_user) = match self.isolation {
            Isolation::Namespaces => {
                (inside("sockets"), layout::STATE.into(), layout::TASKS_ROOT.into(), Some(layout::job_user()))
            }
            // It starts again, and goes on as who it was.
            Isolation::VirtualMachine => {
                (inside("sockets"), layout::MACHINE_STATE.into(), layout::TASKS_ROOT.into(), Some(layout::job_user()))
            }
            Isolation::ProcessGroup => (self.sockets.clone(), folder.state(), folder.tasks(), None),
        };
        AgentBootstrap {
            machine: machine.name.clone(),
            node_id: machine.node_id.clone(),
            join_token: machine.bootstrap.join_token.clone(),
            server: self.server.clone().unwrap_or(ServerAddress::Sockets(server)),
            isolation: self.isolation,
            state_dir,
            tasks_root,
            shares: self.share.iter().map(|_| layout::SHARE.to_owned()).collect(),
            job_user,
            gangs: match self.isolation {
                // Those of other hosts do not have it.
                Isolation::Namespaces => (!self.networks.is_of_host()).then(|| inside("gangs")),
                Isolation::VirtualMachine => None,
                Isolation::ProcessGroup => Some(self.networks.gangs_folder(machine.cluster)),
            },
            engine: match (self.isolation, &self.engine) {
                (Isolation::Namespaces, Some(EngineChoice::Own)) => {
                    let registries = self.registries.as_ref().map(|_| inside("registries"));
                    Some(Engine::Own { run: inside("engine"), data: layout::IMAGES.into(), registries })
                }
                (_, Some(EngineChoice::Socket(socket))) => Some(Engine::Socket(socket.clone())),
                _ => None,
            },
            names: self.networks.is_of_host().then(|| Path::new(layout::CLUSTER).join(layout::HOSTS)),
            fence: self.fence.map(|_| Path::new(layout::STATE).join(layout::HEARD)),
            gate: (self.isolation.has_root() && !self.networks.is_of_host()).then(|| inside(layout::GATE)),
            // They reach the machine's own kernel, and no other.
            mount_commands: self.mount_commands || is_machine,
            login: None,
            store: matches!(machine.role, Role::FileServer(_)).then(|| Store {
                data: layout::DATA.into(),
                run: inside("export"),
                door: Some(inside(layout::DOOR)),
                address: if is_machine { Ipv4Addr::LOCALHOST } else { address }.into(),
                own_kernel: is_machine,
            }),
            gpus: lease.gpus.clone(),
            gpu_library: self.gpus.library().map(|library| match self.isolation {
                Isolation::Namespaces | Isolation::VirtualMachine => inside(layout::GPU_LIBRARY),
                Isolation::ProcessGroup => library.to_owned(),
            }),
            job_groups: match self.isolation {
                Isolation::VirtualMachine => Vec::new(),
                _ => groups.iter().map(|group| inside("cgroup").join(&group.name)).collect(),
            },
        }
    }

    fn spec(
        &self,
        machine: &MachineSpec,
        folder: &NodeFolder,
        address: Ipv4Addr,
        groups: Vec<NodeGroup>,
        lease: &Lease,
    ) -> NodeSpec {
        let (binary, bootstrap, home) = match self.isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => {
                (format!("{}/batchyard", layout::PRIVATE), format!("{}/bootstrap.json", layout::PRIVATE), "/root".into())
            }
            Isolation::ProcessGroup => {
                (self.binary.display().to_string(), folder.bootstrap().display().to_string(), folder.path().display().to_string())
            }
        };
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        NodeSpec {
            machine: machine.name.clone(),
            node_id: machine.node_id.clone(),
            cluster: machine.cluster,
            isolation: self.isolation,
            address,
            in_host_network: self.networks.is_of_host(),
            fence: self.fence,
            program: self.program.clone().unwrap_or_else(|| vec![binary, "agent".to_owned(), bootstrap]),
            environment: vec![
                text("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                text("LANG", "C.UTF-8"),
                text("HOME", &home),
                // Where no namespace tells who belongs to the node, this does.
                text(NODE_VARIABLE, &folder.path().display().to_string()),
            ],
            groups,
            layered: LAYERED.iter().map(PathBuf::from).collect(),
            base_etc: self.base_etc.clone(),
            hidden: self.hidden.clone(),
            sockets: self.sockets.clone(),
            registries: self.registries.clone(),
            share: self.share.clone(),
            storage: self.storage.clone(),
            cluster_folder: self.networks.shared_folder(machine.cluster),
            gangs: self.networks.gangs_folder(machine.cluster),
            admin_user: machine.admin_user.clone(),
            gpus: lease.gpus.clone(),
            devices: match self.isolation {
                Isolation::VirtualMachine => machine_devices(),
                _ => lease.devices.clone(),
            },
            gpu_library: self.gpus.library().filter(|_| !lease.gpus.is_empty()).map(PathBuf::from),
            shell: (self.isolation == Isolation::VirtualMachine).then(|| self.shell(machine, address)),
            doors: self.door(machine),
            disk: match &machine.role {
                Role::FileServer(disk) => Some(self.disks.folder(&disk.name)),
                Role::Node => None,
            },
        }
    }

    fn shell(&self, machine: &MachineSpec, address: Ipv4Addr) -> Shell {
        let disk = Path::new(layout::PRIVATE).join(layout::MACHINE).join(layout::DISK).join(disk::IMAGE);
        let bridge = self.networks.bridge();
        Shell {
            files: self.machine_files.clone(),
            bridge: bridge.map(|bridge| bridge.name.clone()),
            told: Told {
                host_name: layout::host_name(&machine.node_id),
                address,
                prefix: bridge.map_or(network::PREFIX, |bridge| bridge.prefix),
                gateway: bridge.and_then(|bridge| bridge.gateway),
                nameservers: bridge.map(|bridge| bridge.nameservers.clone()).unwrap_or_default(),
                cores: machine.size.cores,
                memory_mib: machine.size.memory_mib,
                admin: layout::admin_name(&machine.admin_user).map(str::to_owned),
                disk: matches!(machine.role, Role::FileServer(_)).then_some(disk),
            },
        }
    }

    /// Unmakes a node. None of that name is no error.
    ///
    /// # Errors
    /// Something of it is left, its folder at least.
    pub(super) fn delete(&self, machine: &str) -> io::Result<()> {
        if !is_machine_name(machine) {
            return Ok(());
        }
        let folder = self.folder(machine);
        if let Some(_held) = FolderLock::find(folder.path())? {
            return self.unmake(machine, &folder);
        }
        // One name is of a machine or of a disk.
        self.disks.delete(machine)
    }

    fn unmake(&self, machine: &str, folder: &NodeFolder) -> io::Result<()> {
        let deadline = Instant::now() + END;
        let spec = folder.find_spec();
        // Found before the node's own first process, which may be the last to hold it, is ended.
        let fabric = match &spec {
            Some(spec) if spec.isolation.has_root() && !spec.in_host_network => {
                self.networks.with(spec.cluster, |network| Ok(network.find_fabric()))?
            }
            _ => None,
        };
        self.end(machine, folder, deadline)?;
        self.processes.remove(machine);
        let is_known = spec.is_some();
        if let Some(spec) = spec {
            if let Some(fabric) = fabric {
                network::unplug(fabric.as_fd(), spec.address)?;
            }
            self.networks.with(spec.cluster, |network| network.release_address(machine))?;
            if spec.disk.is_some() {
                remove_tree(&spec.doors)?;
            }
        }
        self.cgroups.remove(machine, deadline)?;
        remove_tree(folder.path())?;
        if is_known {
            return Ok(());
        }
        // A server that died before it wrote the spec may have taken an address, of a cluster that nothing tells.
        self.networks.release_stale()
    }

    /// Ends everything of a node and waits until nothing of it runs.
    fn end(&self, machine: &str, folder: &NodeFolder, deadline: Instant) -> io::Result<()> {
        let spec = folder.find_spec();
        let plain = spec.is_some_and(|spec| spec.isolation == Isolation::ProcessGroup);
        if let Some(process) = folder.find_running().and_then(|running| running.identity.open()) {
            // In a namespace the kernel ends all others first. A plain one goes first, so that it starts nothing again.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            wait_end(&process, deadline)?;
        } else if is_held(&folder.alive()) && self.cgroups.is_empty(machine) && !plain {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "its first process is only just starting"));
        }
        self.cgroups.kill(machine, deadline)?;
        if plain { end_marked(folder, deadline) } else { Ok(()) }
    }

    /// Every node of this installation.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn list(&self) -> io::Result<Vec<Observed>> {
        let live = self.processes.list_live()?;
        let mut all = Vec::new();
        let mut names = HashSet::new();
        for entry in std::fs::read_dir(&self.nodes).map_err(at("read", &self.nodes))? {
            let Ok(name) = entry.map_err(at("read", &self.nodes))?.file_name().into_string() else { continue };
            if !is_machine_name(&name) {
                continue;
            }
            all.push(match live.get(&name) {
                Some(address) => observed(&name, Presence::Present, Some(*address)),
                None => self.inspect(&name),
            });
            names.insert(name);
        }
        self.processes.retain(&names);
        self.networks.forget_removed();
        all.extend(self.disks.list()?.into_iter().map(|disk| observed(&disk, Presence::Present, None)));
        Ok(all)
    }

    /// The last lines of a node's log, which its agent and its first process write.
    pub(super) fn evidence(&self, machine: &str) -> Option<String> {
        if !is_machine_name(machine) {
            return None;
        }
        let mut file = std::fs::File::open(self.folder(machine).log()).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(EVIDENCE_BYTES))).ok()?;
        let mut bytes = Vec::new();
        file.take(EVIDENCE_BYTES).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(EVIDENCE_LINES)..)?;
        (!last.is_empty()).then(|| last.join("\n"))
    }

    fn inspect(&self, machine: &str) -> Observed {
        let (presence, address) = match self.inspect_held(machine) {
            // Nothing runs, but someone is making or unmaking it.
            (Presence::Absent, _) if is_held(self.folder(machine).path()) => (Presence::Unknown, None),
            other => other,
        };
        observed(machine, presence, address)
    }

    /// As [`inspect`](Self::inspect), for whoever holds the folder.
    fn inspect_held(&self, machine: &str) -> (Presence, Option<Ipv4Addr>) {
        if let Some(address) = self.processes.find_live(machine) {
            return (Presence::Present, Some(address));
        }
        let folder = self.folder(machine);
        let spec = folder.find_spec();
        let running = folder.find_running().and_then(|running| Some((running.identity, running.identity.open()?)));
        if let (Some((first, process)), Some(spec)) = (running, &spec) {
            // Of another server, perhaps of another version.
            if let Err(error) = renew::ensure_program(&self.binary, &first, spec) {
                tracing::warn!(machine.name = machine, error = %error, "a node's agent is not renewed");
            }
            if let Err(error) = self.processes.add(machine, process, spec.address, None) {
                tracing::warn!(machine.name = machine, error = %error, "the end of a node will not be seen at once");
            }
            return (Presence::Present, Some(spec.address));
        }
        if is_held(&folder.alive()) || !self.cgroups.is_empty(machine) {
            return (Presence::Unknown, None);
        }
        let plain = spec.is_some_and(|spec| spec.isolation == Isolation::ProcessGroup);
        // A namespace ends with its first process; a process group has to be ended, so that its end is a fact too.
        if plain && end_marked(&folder, Instant::now() + Duration::from_secs(1)).is_err() {
            return (Presence::Unknown, None);
        }
        (Presence::Absent, None)
    }
}

/// The device files that virtual machines are made with.
fn machine_devices() -> Vec<Device> {
    ["net/tun", "kvm"].into_iter().filter_map(Device::find).collect()
}

/// Most of a node's log that is told. Unit: bytes, and lines.
const EVIDENCE_BYTES: u64 = 2_048;
const EVIDENCE_LINES: usize = 10;

/// Ports at which nodes are logged in to: those that clients of the retired service know, and more.
///
/// Source: recorded 2018-05-01 answers (50000, 50001, in the order of nodes).
const LOGIN_PORTS: std::ops::RangeInclusive<u16> = 50_000..=59_999;

/// A listener on the first port that is free.
fn listen(address: IpAddr) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::StorageFull, "all ports for logging in are taken");
    for port in LOGIN_PORTS {
        match TcpListener::bind((address, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                failed = io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
                break;
            }
            bound => return bound,
        }
    }
    Err(failed)
}

/// The lock that the first process will hold for its life.
fn lock_alive(folder: &NodeFolder) -> io::Result<OwnedFd> {
    let path = folder.alive();
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(at("make", &path))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(at("lock", &path))?;
    Ok(file.into())
}

fn wait_end(process: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, rustix::event::Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the first process does not end")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends a first process that did not become one.
fn end_child(child: &mut std::process::Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Ends what carries the mark of a node without a namespace.
fn end_marked(folder: &NodeFolder, deadline: Instant) -> io::Result<()> {
    loop {
        let marked = list_marked(folder.path());
        if marked.is_empty() {
            return Ok(());
        }
        kill_all(&marked);
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its processes do not end"));
        }
        // They are not our children: nothing tells when they have ended.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn observed(name: &str, presence: Presence, address: Option<Ipv4Addr>) -> Observed {
    Observed::new(name, presence, address.map(|a| a.to_string()))
}

/// The folders that this driver needs, for whoever may enter them.
pub(super) fn make_folders(dir: &std::path::Path) -> io::Result<()> {
    make_folder(dir, 0o700)?;
    for name in ["nodes", "clusters", "base", "disks", "doors"] {
        make_folder(&dir.join(name), 0o700)?;
    }
    Ok(())
}

/// Shared so that a call may outlive whoever made it.
pub(super) type SharedHost = Arc<Host>;
