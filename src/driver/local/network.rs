//! Networks of clusters: a range of addresses each, and a bridge in a network namespace of its own that no process is in, so that
//! nodes of one cluster reach each other and nobody else, the host neither.
//!
//! The bridge's namespace ("fabric") is kept by the first processes of the cluster's nodes, which hold a descriptor of it: it
//! survives this server, needs no mount, and goes with the last node by itself. Who has which address is on disk, one file an
//! address, so that several servers agree.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::domain::bootstrap::Isolation;
use crate::driver::local::layout::{NodeFolder, at, host_name, read_json, write_json, write_whole};
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

/// The networks of all clusters of this installation.
pub(super) struct Networks {
    /// One folder a cluster.
    folder: PathBuf,
    /// The folders of nodes, to find who holds a fabric.
    nodes: PathBuf,
    isolation: Isolation,
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

/// Who has an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Taken {
    machine: String,
    node_id: String,
}

impl Networks {
    pub(super) fn new(folder: PathBuf, nodes: PathBuf, isolation: Isolation) -> Networks {
        Networks { folder, nodes, isolation, turns: Mutex::default(), fabrics: Mutex::default() }
    }

    /// What all nodes of a cluster know.
    pub(super) fn shared_folder(&self, cluster: ResourceUid) -> PathBuf {
        self.folder.join(cluster.to_string()).join("shared")
    }

    /// What its nodes share of the jobs that run on several of them; for root of each alone.
    pub(super) fn gangs_folder(&self, cluster: ResourceUid) -> PathBuf {
        self.folder.join(cluster.to_string()).join("gangs")
    }

    /// Does something with a cluster's network while nobody else does; makes its folder where it is missing.
    ///
    /// # Errors
    /// Those of `work`, and that another server does not let go of it.
    pub(super) fn with<T>(&self, cluster: ResourceUid, work: impl FnOnce(&Network<'_>) -> io::Result<T>) -> io::Result<T> {
        let turn = Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(cluster).or_default());
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.join(cluster.to_string());
        let _lock = FolderLock::make(&folder)?;
        work(&Network { all: self, cluster, folder })
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
        let host = mine.or_else(|| HOSTS.clone().find(is_free)).ok_or_else(full)?;
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
        let mut left = 0;
        for (host, taken) in self.list_taken() {
            if taken.machine == machine || self.is_stale(&taken) {
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

    fn address(&self, record: Record, host: u32) -> Ipv4Addr {
        let first = match self.all.isolation {
            Isolation::Namespaces => Ipv4Addr::new(10, 96, 0, 0),
            Isolation::ProcessGroup => Ipv4Addr::new(127, 96, 0, 0),
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
        let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
        for (host, taken) in self.list_taken() {
            let (id, name) = (&taken.node_id, host_name(&taken.node_id));
            let alias = if *id == name { String::new() } else { format!(" {id}") };
            hosts.push_str(&format!("{} {name}{alias}\n", self.address(record, host)));
        }
        let shared = self.all.shared_folder(self.cluster);
        make_folder(&shared, 0o755)?;
        make_folder(&self.all.gangs_folder(self.cluster), 0o700)?;
        write_whole(&shared.join("hosts"), hosts.as_bytes(), 0o644)
    }
}

/// The name of a node's interface in its cluster's fabric.
pub(super) fn port(address: Ipv4Addr) -> String {
    format!("node{}", address.octets()[3])
}

/// Makes a network namespace with a loopback and an `eth0` that is plugged into the fabric. The calling thread is in it
/// afterwards, so it must be one that ends soon.
///
/// # Errors
/// The right is missing.
pub(super) fn enter_new_namespace(fabric: BorrowedFd<'_>, address: Ipv4Addr) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = this_namespace()?;
    let mut inside = Netlink::open()?;
    let loopback = inside.index("lo")?;
    inside.turn_on(loopback)?;
    setns(fabric, CloneFlags::CLONE_NEWNET)?;
    let mut outside = Netlink::open()?;
    // A port that a dead node left: its peer is not gone yet.
    outside.delete(&port(address))?;
    let bridge = outside.index(BRIDGE)?;
    outside.add_pair(&port(address), bridge, "eth0", own.as_fd())?;
    setns(own.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let eth0 = inside.index("eth0")?;
    inside.add_address(eth0, address, PREFIX)?;
    inside.turn_on(eth0)
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
        let networks = Networks::new(dir.join("clusters"), dir.join("nodes"), Isolation::Namespaces);
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
        networks.with(two, |n| n.release_address("c")).expect("released");
        remove_tree(&dir).expect("removed");
    }
}
