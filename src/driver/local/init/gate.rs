//! The way from a node to storage. A node's own network leads to its cluster's nodes alone; a thread of its first process is still
//! in the host's network, and lets through what the operator's settings know as storage, and nothing else.
//!
//! In: the host's network, and a socket that root of the node alone may enter. Out: bytes to and from storage. It lives as long as the
//! node, so that mounts outlive servers, and reads the settings anew for each connection, so that they may change.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use crate::domain::bootstrap::GATE_OPEN;
use crate::domain::storage::{HostPort, Reach, Storages};
use crate::driver::local::layout::read_json;
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

/// Starts the thread, which must happen while this process still sees the host. It serves the socket that it is sent.
///
/// # Errors
/// There is no thread to be had, or the network cannot be entered.
pub(super) fn start(outside: OwnedFd, settings: PathBuf) -> io::Result<Sender<UnixListener>> {
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
            serve(&listener, &settings);
        }
    })?;
    answer.recv().map_err(io::Error::other)??;
    Ok(sender)
}

fn serve(listener: &UnixListener, settings: &Path) {
    let settings: Arc<Path> = Arc::from(settings);
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
        let (settings, counted) = (Arc::clone(&settings), Arc::clone(&under_way));
        let let_through = move || {
            let_through(guest, &settings);
            counted.fetch_sub(1, Ordering::Relaxed);
        };
        if Builder::new().name("way".into()).stack_size(STACK).spawn(let_through).is_err() {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn let_through(mut guest: UnixStream, settings: &Path) {
    match open(&guest, settings) {
        Ok(storage) => {
            if writeln!(guest, "{GATE_OPEN}").is_ok() {
                let _ = splice(guest, storage, "way", STACK);
            }
        }
        Err(why) => {
            let _ = writeln!(guest, "{}", why.to_string().replace('\n', " "));
        }
    }
}

fn open(guest: &UnixStream, settings: &Path) -> io::Result<TcpStream> {
    guest.set_read_timeout(Some(ASK))?;
    let mut asked = String::new();
    BufReader::with_capacity(1, guest.take(MAX_ASK)).read_line(&mut asked)?;
    guest.set_read_timeout(None)?;
    let to = HostPort::parse(asked.trim_end(), 0).ok_or_else(|| io::Error::other("this is no host and port"))?;
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
