//! Networks of clusters: a range of addresses each, and a bridge in a network namespace of its own that no process is in, so that
//! nodes of one cluster reach each other and nobody else, the host neither. Or one network for all, on a bridge of the host's.
//!
//! The bridge's namespace ("fabric") is kept by the first processes of the cluster's nodes, which hold a descriptor of it: it
//! survives this server, needs no mount, and goes with the last node by itself. Who has which address is on disk, one file an
//! address, so that several servers agree.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::domain::bootstrap::{Isolation, hosts_file};
use crate::driver::local::layout::{HOSTS as NAMES, NodeFolder, Shell, at, read_json, write_json, write_whole};
use crate::driver::local::lock::{FolderLock, make_folder};
use crate::driver::local::netlink::Netlink;
use crate::driver::local::process::boot_id;
use crate::driver::local::remove::remove_tree;
use crate::id::ResourceUid;

/// Length of the network part of a cluster's addresses.
pub(super) const PREFIX: u8 = 24;

/// Ranges there are: those of a /12.
const RANGES: u32 = 1 << (PREFIX - 12);

/// The first and last host number given to nodes: more than a cluster may have nodes, leaving ones included.
const HOSTS: std::ops::RangeInclusive<u32> = 4..=254;

/// The bridge's name in its namespace, where nothing else is.
const BRIDGE: &str = "br0";

/// In the namespace of a machine's shell: where the machine is plugged into its cluster's network.
pub(in crate::driver) const MACHINE_TAP: &str = "machine";

/// There: the link that the machine and its shell have to themselves.
pub(in crate::driver) const OWN_TAP: &str = "own";

/// The shell's address on that link, and the machine's. Nobody routes them.
pub(in crate::driver) const SHELL_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);
pub(in crate::driver) const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 2);

/// Length of the network part of these.
pub(in crate::driver) const LINK_PREFIX: u8 = 30;

/// The networks of all clusters of this installation.
pub(super) struct Networks {
    /// One folder a cluster.
    folder: PathBuf,
    /// The folders of nodes, to find who holds a fabric.
    nodes: PathBuf,
    isolation: Isolation,
    choice: NodeNetwork,
    /// Held before the folder's lock: threads of this process wait for each other without trying again and again.
    turns: Mutex<HashMap<ResourceUid, Arc<Mutex<()>>>>,
    fabrics: Mutex<HashMap<ResourceUid, Arc<OwnedFd>>>,
}

/// What is recorded of a cluster's network.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Record {
    /// Which range it has.
    range: u32,
    /// The fabric: its number in one run of the kernel, where it never is another's as long as it lives.
    fabric: Option<(uuid::Uuid, u64)>,
}

/// The network that nodes are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeNetwork {
    /// One of their cluster's own, which leads nowhere else.
    #[default]
    OfCluster,
    /// A bridge of the host's: for virtual machines alone.
    Bridge(HostBridge),
    /// The host's own, by this address of it, of which there is one: there is one node at a time.
    OfHost(Ipv4Addr),
}

/// A bridge of the host's that machines are plugged into, with the addresses that are theirs to have on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBridge {
    /// Its name.
    pub name: String,
    /// The first address and the last.
    pub addresses: (Ipv4Addr, Ipv4Addr),
    /// Length of the network part of them.
    pub prefix: u8,
    /// Where other networks are reached.
    pub gateway: Option<Ipv4Addr>,
    /// Who knows names.
    pub nameservers: Vec<IpAddr>,
}

/// Who has an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Taken {
    machine: String,
    node_id: String,
}

impl Networks {
    pub(super) fn new(folder: PathBuf, nodes: PathBuf, isolation: Isolation, choice: NodeNetwork) -> Networks {
        Networks { folder, nodes, isolation, choice, turns: Mutex::default(), fabrics: Mutex::default() }
    }

    /// The host's bridge that all machines are on, if they are.
    pub(super) fn bridge(&self) -> Option<&HostBridge> {
        match &self.choice {
            NodeNetwork::Bridge(bridge) => Some(bridge),
            NodeNetwork::OfCluster | NodeNetwork::OfHost(_) => None,
        }
    }

    /// Whether nodes are in the host's own network.
    pub(super) fn is_of_host(&self) -> bool {
        matches!(self.choice, NodeNetwork::OfHost(_))
    }

    /// Whose network a cluster's is: one of the host's is everybody's.
    fn owner(&self, cluster: ResourceUid) -> ResourceUid {
        if self.choice == NodeNetwork::OfCluster { cluster } else { ResourceUid(uuid::Uuid::nil()) }
    }

    /// What all nodes of a cluster know.
    pub(super) fn shared_folder(&self, cluster: ResourceUid) -> PathBuf {
        self.folder.join(self.owner(cluster).to_string()).join("shared")
    }

    /// What its nodes share of the jobs that run on several of them; for root of each alone.
    pub(super) fn gangs_folder(&self, cluster: ResourceUid) -> PathBuf {
        self.folder.join(self.owner(cluster).to_string()).join("gangs")
    }

    /// Does something with a cluster's network while nobody else does; makes its folder where it is missing.
    ///
    /// # Errors
    /// Those of `work`, and that another server does not let go of it.
    pub(super) fn with<T>(&self, cluster: ResourceUid, work: impl FnOnce(&Network<'_>) -> io::Result<T>) -> io::Result<T> {
        let cluster = self.owner(cluster);
        let turn = Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(cluster).or_default());
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.join(cluster.to_string());
        let _lock = FolderLock::make(&folder)?;
        work(&Network { all: self, cluster, folder })
    }

    /// Gives back addresses of machines that have no folder any more, and with a cluster's last one its folder: what servers that died in
    /// the middle of a start left behind.
    ///
    /// # Errors
    /// The folder cannot be read, or a record not be changed.
    pub(super) fn release_stale(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder).map_err(at("read", &self.folder))?.flatten() {
            let cluster = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(ResourceUid);
            if let Some(cluster) = cluster {
                self.with(cluster, |network| network.release(None))?;
            }
        }
        Ok(())
    }

    /// Lets go of fabrics of clusters that other servers removed.
    pub(super) fn forget_removed(&self) {
        let gone = |cluster: &ResourceUid| !self.folder.join(cluster.to_string()).exists();
        self.fabrics.lock().unwrap_or_else(PoisonError::into_inner).retain(|cluster, _| !gone(cluster));
    }
}

/// One cluster's network, held.
pub(super) struct Network<'a> {
    all: &'a Networks,
    cluster: ResourceUid,
    folder: PathBuf,
}

impl Network<'_> {
    /// The machine's address: the one that it has, or the lowest that is free.
    ///
    /// # Errors
    /// None is free ([`io::ErrorKind::StorageFull`]), or the record cannot be written.
    pub(super) fn take_address(&self, machine: &str, node_id: &str) -> io::Result<Ipv4Addr> {
        let record = self.ensure_record()?;
        let taken = self.list_taken();
        let mine = taken.iter().find(|(_, t)| t.machine == machine).map(|(host, _)| *host);
        let is_free = |host: &u32| taken.iter().find(|(h, _)| h == host).is_none_or(|(_, t)| self.is_stale(t));
        let host = mine.or_else(|| self.hosts().find(is_free)).ok_or_else(full)?;
        let slots = self.slots();
        make_folder(&slots, 0o700)?;
        let owner = Taken { machine: machine.to_owned(), node_id: node_id.to_owned() };
        write_json(&slots.join(host.to_string()), &owner)?;
        self.write_hosts(record)?;
        Ok(self.address(record, host))
    }

    /// The machine no longer has an address; with the last one the cluster's folder goes.
    ///
    /// # Errors
    /// The record cannot be changed.
    pub(super) fn release_address(&self, machine: &str) -> io::Result<()> {
        self.release(Some(machine))
    }

    fn release(&self, machine: Option<&str>) -> io::Result<()> {
        let mut left = 0;
        for (host, taken) in self.list_taken() {
            if machine == Some(&taken.machine) || self.is_stale(&taken) {
                let path = self.slots().join(host.to_string());
                std::fs::remove_file(&path).map_err(at("remove", &path))?;
            } else {
                left += 1;
            }
        }
        if left == 0 {
            self.all.fabrics.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.cluster);
            return remove_tree(&self.folder);
        }
        self.write_hosts(self.ensure_record()?)
    }

    /// The cluster's fabric, if it has one that lives.
    pub(super) fn find_fabric(&self) -> Option<Arc<OwnedFd>> {
        if self.all.choice != NodeNetwork::OfCluster {
            // Of the process, whatever this thread is in.
            return Some(Arc::new(File::open("/proc/self/ns/net").ok()?.into()));
        }
        let (boot, number) = read_json::<Record>(&self.record())?.fabric?;
        if Some(boot) != boot_id() {
            return None;
        }
        let known = self.all.fabrics.lock().unwrap_or_else(PoisonError::into_inner).get(&self.cluster).cloned();
        if let Some(fabric) = known.filter(|fabric| is_number(fabric.as_fd(), number)) {
            return Some(fabric);
        }
        let holders = self.list_taken().into_iter().filter_map(|(_, taken)| {
            let running = NodeFolder::new(self.all.nodes.join(taken.machine)).find_running()?;
            let _alive = running.identity.open()?;
            let path = format!("/proc/{}/fd/{}", running.identity.pid(), running.fabric_fd?);
            let file = OwnedFd::from(File::open(path).ok()?);
            is_number(file.as_fd(), number).then_some(file)
        });
        let fabric = Arc::new(holders.into_iter().next()?);
        self.remember(&fabric);
        Some(fabric)
    }

    /// Makes a new fabric. The calling thread is in it afterwards, so it must be one that ends soon.
    ///
    /// # Errors
    /// The right is missing, or it cannot be recorded.
    pub(super) fn make_fabric(&self) -> io::Result<Arc<OwnedFd>> {
        let mut record = self.ensure_record()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        Netlink::open()?.add_bridge(BRIDGE)?;
        let fabric = Arc::new(OwnedFd::from(this_namespace()?));
        record.fabric = boot_id().zip(Some(File::from(fabric.try_clone()?).metadata()?.ino()));
        write_json(&self.record(), &record)?;
        self.remember(&fabric);
        Ok(fabric)
    }

    fn remember(&self, fabric: &Arc<OwnedFd>) {
        self.all.fabrics.lock().unwrap_or_else(PoisonError::into_inner).insert(self.cluster, Arc::clone(fabric));
    }

    fn record(&self) -> PathBuf {
        self.folder.join("network.json")
    }

    fn slots(&self) -> PathBuf {
        self.folder.join("slots")
    }

    /// The host numbers that nodes may have.
    fn hosts(&self) -> std::ops::RangeInclusive<u32> {
        match &self.all.choice {
            NodeNetwork::Bridge(HostBridge { addresses: (first, last), .. }) => {
                0..=last.to_bits().saturating_sub(first.to_bits())
            }
            NodeNetwork::OfHost(_) => 0..=0,
            NodeNetwork::OfCluster => HOSTS,
        }
    }

    fn address(&self, record: Record, host: u32) -> Ipv4Addr {
        let first = match (&self.all.choice, self.all.isolation) {
            (NodeNetwork::Bridge(HostBridge { addresses: (first, _), .. }) | NodeNetwork::OfHost(first), _) => {
                return Ipv4Addr::from_bits(first.to_bits() + host);
            }
            (NodeNetwork::OfCluster, Isolation::Namespaces | Isolation::VirtualMachine) => Ipv4Addr::new(10, 96, 0, 0),
            (NodeNetwork::OfCluster, Isolation::ProcessGroup) => Ipv4Addr::new(127, 96, 0, 0),
        };
        Ipv4Addr::from_bits(first.to_bits() + (record.range << (32 - PREFIX)) + host)
    }

    /// An address whose machine has no folder: its server died between the two.
    fn is_stale(&self, taken: &Taken) -> bool {
        !self.all.nodes.join(&taken.machine).exists()
    }

    /// Who has which host number, in the order of numbers.
    fn list_taken(&self) -> Vec<(u32, Taken)> {
        let entries = std::fs::read_dir(self.slots()).into_iter().flatten().flatten();
        let mut taken: Vec<(u32, Taken)> =
            entries.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, read_json(&e.path())?))).collect();
        taken.sort_unstable_by_key(|(host, _)| *host);
        taken
    }

    /// What is recorded of this network; a range is chosen the first time.
    fn ensure_record(&self) -> io::Result<Record> {
        if let Some(record) = read_json(&self.record()) {
            return Ok(record);
        }
        let _all = FolderLock::make(&self.all.folder)?;
        let others = std::fs::read_dir(&self.all.folder).map_err(at("read", &self.all.folder))?;
        let ranges: Vec<u32> =
            others.flatten().filter_map(|e| read_json::<Record>(&e.path().join("network.json"))).map(|r| r.range).collect();
        let range = (0..RANGES).find(|range| !ranges.contains(range)).ok_or_else(full)?;
        let record = Record { range, fabric: None };
        write_json(&self.record(), &record)?;
        Ok(record)
    }

    /// The names of the cluster's nodes, as all of them see it.
    fn write_hosts(&self, record: Record) -> io::Result<()> {
        let nodes: Vec<(String, String)> =
            self.list_taken().into_iter().map(|(host, taken)| (self.address(record, host).to_string(), taken.node_id)).collect();
        let hosts = hosts_file(nodes.iter().map(|(address, node_id)| (address.as_str(), node_id.as_str())));
        let shared = self.all.shared_folder(self.cluster);
        make_folder(&shared, 0o755)?;
        make_folder(&self.all.gangs_folder(self.cluster), 0o700)?;
        write_whole(&shared.join(NAMES), hosts.as_bytes(), 0o644)
    }
}

/// The name of a node's interface in its fabric.
fn port(address: Ipv4Addr) -> String {
    format!("by{:08x}", address.to_bits())
}

/// Makes a network namespace with a loopback and an `eth0` that is plugged into the fabric. For a `shell` the address is not this
/// namespace's but that of the machine behind [`MACHINE_TAP`], and the bridge may be another. The calling thread is in it afterwards, so it
/// must be one that ends soon.
///
/// # Errors
/// The right is missing.
pub(super) fn enter_new_namespace(fabric: BorrowedFd<'_>, address: Ipv4Addr, shell: Option<&Shell>) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = this_namespace()?;
    let mut inside = Netlink::open()?;
    let loopback = inside.index("lo")?;
    inside.turn_on(loopback)?;
    setns(fabric, CloneFlags::CLONE_NEWNET)?;
    let mut outside = Netlink::open()?;
    // A port that a dead node left: its peer is not gone yet.
    outside.delete(&port(address))?;
    let name = shell.and_then(|shell| shell.bridge.as_deref()).unwrap_or(BRIDGE);
    let bridge =
        outside.index(name).map_err(|error| io::Error::new(error.kind(), format!("there is no bridge {name}: {error}")))?;
    outside.add_pair(&port(address), bridge, "eth0", own.as_fd())?;
    setns(own.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let eth0 = inside.index("eth0")?;
    if shell.is_none() {
        inside.add_address(eth0, address, PREFIX)?;
        return inside.turn_on(eth0);
    }
    inside.add_bridge(BRIDGE)?;
    let bridge = inside.index(BRIDGE)?;
    for tap in [MACHINE_TAP, OWN_TAP] {
        add_tap(tap)?;
    }
    inside.plug(eth0, bridge)?;
    inside.plug(inside.index(MACHINE_TAP)?, bridge)?;
    let own = inside.index(OWN_TAP)?;
    inside.add_address(own, SHELL_ADDRESS, LINK_PREFIX)?;
    inside.turn_on(own)
}

/// Makes a tap of root's, in the namespace of this thread. The kernel makes one for whoever holds the device alone; iproute2 does that.
fn add_tap(name: &str) -> io::Result<()> {
    let made = Command::new("ip").args(["tuntap", "add", "dev", name, "mode", "tap", "user", "0"]).stdin(Stdio::null()).output();
    let made = made.map_err(|error| io::Error::new(error.kind(), format!("cannot start ip, of iproute2: {error}")))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(io::Error::other(format!("ip cannot make a tap: {}", said.trim())))
}

/// Unplugs a node from its fabric. The calling thread is in the fabric afterwards, so it must be one that ends soon.
///
/// # Errors
/// The right is missing.
pub(super) fn unplug(fabric: BorrowedFd<'_>, address: Ipv4Addr) -> io::Result<()> {
    setns(fabric, CloneFlags::CLONE_NEWNET)?;
    Netlink::open()?.delete(&port(address))
}

fn this_namespace() -> io::Result<File> {
    let path = Path::new("/proc/thread-self/ns/net");
    File::open(path).map_err(at("open", path))
}

fn is_number(namespace: BorrowedFd<'_>, number: u64) -> bool {
    rustix::fs::fstat(namespace).is_ok_and(|stat| stat.st_ino == number)
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "all addresses are taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> (PathBuf, Networks) {
        let dir = std::env::temp_dir().join(format!("batchyard-network-{}", uuid::Uuid::now_v7()));
        let networks = Networks::new(dir.join("clusters"), dir.join("nodes"), Isolation::Namespaces, NodeNetwork::OfCluster);
        (dir, networks)
    }

    #[test]
    fn addresses_are_taken_once_and_given_back() {
        let (dir, networks) = networks();
        let (one, two) = (ResourceUid(uuid::Uuid::from_u128(1)), ResourceUid(uuid::Uuid::from_u128(2)));
        for machine in ["a", "b", "c", "d"] {
            make_folder(&dir.join("nodes").join(machine), 0o700).expect("made");
        }
        let take = |cluster, machine: &'static str| networks.with(cluster, |n| n.take_address(machine, machine)).expect("free");
        assert_eq!(take(one, "a").to_string(), "10.96.0.4");
        assert_eq!(take(one, "b").to_string(), "10.96.0.5");
        assert_eq!(take(one, "a").to_string(), "10.96.0.4", "asked again");
        assert_eq!(take(two, "c").to_string(), "10.96.1.4", "another cluster has another range");
        let hosts = std::fs::read_to_string(networks.shared_folder(one).join("hosts")).expect("written");
        assert!(hosts.contains("10.96.0.4 a\n10.96.0.5 b\n") && !hosts.contains("10.96.1"), "{hosts}");

        networks.with(one, |n| n.release_address("a")).expect("released");
        assert_eq!(take(one, "d").to_string(), "10.96.0.4");
        std::fs::remove_dir(dir.join("nodes/b")).expect("removed");
        networks.with(one, |n| n.release_address("d")).expect("released");
        assert!(!dir.join("clusters").join(one.to_string()).exists(), "one that is stale keeps nothing");
        networks.release_stale().expect("released");
        assert!(dir.join("clusters").join(two.to_string()).exists(), "one that is used stays");
        std::fs::remove_dir(dir.join("nodes/c")).expect("removed");
        networks.release_stale().expect("released");
        assert!(!dir.join("clusters").join(two.to_string()).exists(), "nobody is there to release it");
        remove_tree(&dir).expect("removed");
    }

    #[test]
    fn on_a_bridge_of_the_hosts_all_clusters_share_its_addresses() {
        let (dir, _) = networks();
        let bridge = HostBridge {
            name: "br7".into(),
            addresses: (Ipv4Addr::new(192, 168, 7, 100), Ipv4Addr::new(192, 168, 7, 101)),
            prefix: 24,
            gateway: None,
            nameservers: vec![],
        };
        let networks =
            Networks::new(dir.join("clusters"), dir.join("nodes"), Isolation::VirtualMachine, NodeNetwork::Bridge(bridge));
        for machine in ["a", "b", "c"] {
            make_folder(&dir.join("nodes").join(machine), 0o700).expect("made");
        }
        let (one, two) = (ResourceUid(uuid::Uuid::from_u128(1)), ResourceUid(uuid::Uuid::from_u128(2)));
        let take = |cluster, machine: &'static str| networks.with(cluster, |n| n.take_address(machine, machine));
        assert_eq!(take(one, "a").expect("free").to_string(), "192.168.7.100");
        assert_eq!(take(two, "b").expect("free").to_string(), "192.168.7.101");
        assert_eq!(take(one, "c").expect_err("none is left").kind(), io::ErrorKind::StorageFull);
        networks.with(two, |n| n.release_address("b")).expect("released");
        assert_eq!(take(one, "c").expect("free").to_string(), "192.168.7.101");
        remove_tree(&dir).expect("removed");
    }
}
