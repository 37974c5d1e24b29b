//! The way from a node to storage. A node's own network leads to its cluster's nodes alone; a thread of its first process is still
//! in the host's network, and lets through what the operator's settings know as storage, and nothing else.
//!
//! In: the host's network, and a socket that root of the node alone may enter. Out: bytes to and from storage. It lives as long as the
//! node, so that mounts outlive servers, and reads the settings anew for each connection, so that they may change.
//!
//! File servers are in networks of their own. Each has a door, a socket on the host at which it opens connections to itself; the gate
//! says there of which cluster its node is, and hands to the node what it gets: the connection itself, so that no byte goes through here.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use crate::descriptors;
use crate::domain::bootstrap::GATE_OPEN;
use crate::domain::door::{Knock, introduce};
use crate::domain::storage::{HostPort, Reach, Storages};
use crate::driver::local::layout::{DOOR_SOCKET, NodeSpec, read_json};
use crate::id::ResourceUid;
use crate::splice::splice;

/// Longest time until a storage takes a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest time until whoever came in has said where to.
const ASK: Duration = Duration::from_secs(10);

/// Longest question. Unit: bytes.
const MAX_ASK: u64 = 300;

/// Connections at once; each has two threads.
const AT_ONCE: usize = 128;

/// Memory of a thread's stack.
const STACK: usize = 128 * 1024;

/// What is beyond the gate, as the host has it.
pub(super) struct Beyond {
    /// The file that says where storage is.
    storage: PathBuf,
    /// The folder of file servers' doors.
    doors: PathBuf,
    /// The cluster that the node is of.
    cluster: ResourceUid,
}

impl Beyond {
    pub(super) fn of(spec: &NodeSpec) -> Beyond {
        Beyond { storage: spec.storage.clone(), doors: spec.doors.clone(), cluster: spec.cluster }
    }
}

/// Starts the thread, which must happen while this process still sees the host. It serves the socket that it is sent.
///
/// # Errors
/// There is no thread to be had, or the network cannot be entered.
pub(super) fn start(outside: OwnedFd, beyond: Beyond) -> io::Result<Sender<UnixListener>> {
    let (sender, listeners) = channel::<UnixListener>();
    let (entered, answer) = channel();
    Builder::new().name("gate".into()).stack_size(STACK).spawn(move || {
        let entering = setns(outside, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| {
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
            Ok(set_no_new_privs(true)?)
        });
        let failed = entering.is_err();
        let _ = entered.send(entering);
        if failed {
            return;
        }
        if let Ok(listener) = listeners.recv() {
            serve(&listener, beyond);
        }
    })?;
    answer.recv().map_err(io::Error::other)??;
    Ok(sender)
}

fn serve(listener: &UnixListener, beyond: Beyond) {
    let beyond = Arc::new(beyond);
    let under_way = Arc::new(AtomicUsize::new(0));
    for guest in listener.incoming() {
        let Ok(mut guest) = guest else {
            // Out of descriptors: some are given back as connections end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if under_way.fetch_add(1, Ordering::Relaxed) >= AT_ONCE {
            under_way.fetch_sub(1, Ordering::Relaxed);
            let _ = guest.write_all(b"too many connections\n");
            continue;
        }
        let (beyond, counted) = (Arc::clone(&beyond), Arc::clone(&under_way));
        let let_through = move || {
            let_through(guest, &beyond);
            counted.fetch_sub(1, Ordering::Relaxed);
        };
        if Builder::new().name("way".into()).stack_size(STACK).spawn(let_through).is_err() {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn let_through(mut guest: UnixStream, beyond: &Beyond) {
    let opened = asked(&guest).and_then(|asked| match Knock::find(&asked) {
        Some(knock) => knock_at(&knock, beyond).map(Opened::Server),
        None => open(&asked, &beyond.storage).map(Opened::Storage),
    });
    match opened {
        Ok(Opened::Server(connection)) => {
            let _ = descriptors::send(&guest, format!("{GATE_OPEN}\n").as_bytes(), &[connection.as_fd()]);
        }
        Ok(Opened::Storage(storage)) => {
            if writeln!(guest, "{GATE_OPEN}").is_ok() {
                let _ = splice(guest, storage, "way", STACK);
            }
        }
        Err(why) => {
            let _ = writeln!(guest, "{}", why.to_string().replace('\n', " "));
        }
    }
}

/// What is behind the gate.
enum Opened {
    /// A connection to storage, which goes through here.
    Storage(TcpStream),
    /// A connection to a file server, which does not.
    Server(OwnedFd),
}

fn asked(guest: &UnixStream) -> io::Result<String> {
    guest.set_read_timeout(Some(ASK))?;
    let mut asked = String::new();
    BufReader::with_capacity(1, guest.take(MAX_ASK)).read_line(&mut asked)?;
    guest.set_read_timeout(None)?;
    Ok(asked.trim_end().to_owned())
}

/// Knocks at the door of a file server. Answers the connection that it opened.
fn knock_at(knock: &Knock, beyond: &Beyond) -> io::Result<OwnedFd> {
    let absent = |_| io::Error::new(io::ErrorKind::NotFound, "the file server is not there, or not yet");
    // By its folder, as the whole path may be longer than a socket's may.
    let folder = File::open(beyond.doors.join(knock.pass.server.to_string())).map_err(absent)?;
    let path = format!("/proc/self/fd/{}/{DOOR_SOCKET}", folder.as_raw_fd());
    let mut door = UnixStream::connect(path).map_err(absent)?;
    door.set_read_timeout(Some(ASK))?;
    writeln!(door, "{}", introduce(beyond.cluster, knock))?;
    let (said, connection) = descriptors::receive_line(&door, 1024)?;
    connection.filter(|_| said == GATE_OPEN).ok_or_else(|| io::Error::other(said))
}

fn open(asked: &str, settings: &Path) -> io::Result<TcpStream> {
    let to = HostPort::parse(asked, 0).ok_or_else(|| io::Error::other("this is no host and port"))?;
    let known: Storages = read_json(settings).ok_or_else(|| io::Error::other("no storage is known"))?;
    let reach = known.reach(&to).ok_or_else(|| io::Error::other(format!("{to} is no storage that this server knows")))?;
    let addresses =
        (to.host.as_str(), to.port).to_socket_addrs().map_err(|error| io::Error::other(format!("{}: {error}", to.host)))?;
    let mut last = io::Error::other(format!("{to} has no address that may be reached"));
    for address in addresses.filter(|address| may_reach(reach, address)) {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(storage) => {
                storage.set_nodelay(true)?;
                return Ok(storage);
            }
            Err(error) => last = io::Error::other(format!("{to}: {error}")),
        }
    }
    Err(last)
}

/// The host itself, and what answers on its link alone, is no storage of a cloud, whatever a name leads to.
fn may_reach(reach: Reach, address: &SocketAddr) -> bool {
    let own = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast(),
    };
    reach == Reach::Named || !own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_cloud_never_leads_to_this_host() {
        let may = |reach, ip: &str| may_reach(reach, &SocketAddr::new(ip.parse().expect("an address"), 443));
        for own in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1"] {
            assert!(!may(Reach::Cloud, own), "{own}");
            assert!(may(Reach::Named, own), "{own}");
        }
        assert!(may(Reach::Cloud, "20.60.1.2") && may(Reach::Cloud, "10.1.2.3"));
    }
}
