//! The beginning of a way to storage: a port on the node's loopback that root's programs alone may use, through the node's gate.
//!
//! Programs that hold mounts speak TCP; the gate is a unix socket. What comes in is judged by the account of its socket: jobs are sent
//! away.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crate::agent::mount::plan::{To, Way};
use crate::descriptors;
use crate::domain::bootstrap::GATE_OPEN;
use crate::domain::storage::HostPort;
use crate::splice::splice;

/// Longest time until a program has asked, and until the gate has answered.
const ASK: Duration = Duration::from_secs(20);

/// Longest head of a question to a proxy. Unit: bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Longest answer of a gate. Unit: bytes.
const MAX_ANSWER: usize = 1024;

/// Memory of a thread's stack.
const STACK: usize = 128 * 1024;

/// Opens the way. Answers where it begins; it is there as long as this process.
///
/// # Errors
/// There is no port or thread to be had.
pub(super) fn open(way: Way, gate: PathBuf) -> io::Result<HostPort> {
    let listener = listen(&way)?;
    let own = listener.local_addr()?;
    let way = Arc::new((way, gate));
    Builder::new().name("way".into()).stack_size(STACK).spawn(move || {
        for guest in listener.incoming() {
            let Ok(guest) = guest else {
                // Out of descriptors: some are given back as connections end.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let way = Arc::clone(&way);
            let let_in = move || {
                let (way, gate) = &*way;
                let _ = let_in(guest, own, way, gate);
            };
            let _ = Builder::new().name("guest".into()).stack_size(STACK).spawn(let_in);
        }
    })?;
    Ok(HostPort { host: own.ip().to_string(), port: own.port() })
}

/// Where the way begins. For storage on the host's own loopback that is the same address on the node's, where it can be had: what is
/// copied or renamed on it is named to it by its URL, which then means the same to both. Each mount of it begins there.
fn listen(way: &Way) -> io::Result<TcpListener> {
    if let To::Storage(HostPort { host, port }) = &way.to
        && (host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()))
        && !way.proxy
    {
        match listen_together(*port) {
            Ok(listener) => return Ok(listener),
            Err(error) => eprintln!("the port {port} of the node is taken: {error}; nothing can be renamed on the mount"),
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// Listens at a port at which other processes of this account may listen, too.
fn listen_together(port: u16) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    listen(&socket, 128)?;
    Ok(TcpListener::from(socket))
}

fn let_in(mut guest: TcpStream, own: SocketAddr, way: &Way, gate: &Path) -> io::Result<()> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    if account_of(&table, guest.peer_addr()?, own) != Some(0) {
        return Ok(());
    }
    guest.set_nodelay(true)?;
    if way.proxy && !asks_for(&mut guest, &way.to)? {
        return guest.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let opened = match through(gate, &way.to) {
        Ok(opened) => opened,
        Err(error) if way.proxy => {
            let _ = write!(guest, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if way.proxy {
        guest.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    }
    match opened {
        Opened::Gate(gate) => splice(guest, gate, "guest", STACK),
        Opened::Handed(connection) => splice(guest, connection, "guest", STACK),
    }
}

/// What is beyond the gate.
enum Opened {
    /// It is the gate's own connection from now on.
    Gate(UnixStream),
    /// A connection that the gate handed over.
    Handed(TcpStream),
}

/// Goes through the gate.
///
/// # Errors
/// In the gate's words why it does not open.
fn through(gate: &Path, to: &To) -> io::Result<Opened> {
    let mut gate = UnixStream::connect(gate)?;
    gate.set_read_timeout(Some(ASK))?;
    writeln!(gate, "{}", to.line())?;
    let (said, connection) = descriptors::receive_line(&gate, MAX_ANSWER)?;
    gate.set_read_timeout(None)?;
    match connection {
        _ if said != GATE_OPEN => Err(io::Error::other(said)),
        Some(connection) => Ok(Opened::Handed(TcpStream::from(connection))),
        None => Ok(Opened::Gate(gate)),
    }
}

/// Why `to` cannot be reached through the gate; `None` where it can.
pub(super) fn refusal(gate: &Path, to: &To) -> Option<String> {
    through(gate, to).err().map(|error| error.to_string())
}

/// Reads the head of a question to a proxy. Whether it asks for `to`.
fn asks_for(guest: &mut TcpStream, to: &To) -> io::Result<bool> {
    guest.set_read_timeout(Some(ASK))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || guest.read(&mut byte)? == 0 {
            return Ok(false);
        }
        head.extend(byte);
    }
    guest.set_read_timeout(None)?;
    Ok(String::from_utf8_lossy(&head).starts_with(&format!("CONNECT {} HTTP/1.", to.line())))
}

/// The account that has the socket at `peer` that speaks to `own`, by the kernel's table of sockets.
fn account_of(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let (peer, own) = (shown(peer)?, shown(own)?);
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let fits = *fields.get(1)? == peer && *fields.get(2)? == own;
        fits.then(|| fields.get(7)?.parse().ok())?
    })
}

/// An address as the table shows it: in the order of this processor's bytes.
fn shown(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let mut text = String::new();
    write!(text, "{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_to_this_hosts_loopback_begins_where_it_ends_for_every_mount() {
        let storage = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound").local_addr().expect("bound");
        let way = |host: &str, proxy| Way { to: To::Storage(HostPort { host: host.into(), port: storage.port() }), proxy };
        let first = listen(&way("127.0.0.1", false)).expect("listens");
        let second = listen(&way("localhost", false)).expect("so does another");
        assert_eq!((first.local_addr().expect("bound"), second.local_addr().expect("bound")), (storage, storage));
        for other in [way("storage.example", false), way("127.0.0.1", true)] {
            assert_ne!(listen(&other).expect("listens").local_addr().expect("bound").port(), storage.port());
        }
    }

    #[test]
    fn sockets_have_an_account() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let guest = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
        let account = account_of(&table, guest.local_addr().expect("bound"), listener.local_addr().expect("bound"));
        assert_eq!(account, Some(rustix::process::geteuid().as_raw()));
        assert_eq!(account_of(&table, "127.0.0.1:1".parse().expect("an address"), listener.local_addr().expect("bound")), None);
    }
}
