//! The beginning of a way to storage: a port on the node's loopback that root's programs alone may use, through the node's gate.
//!
//! Programs that hold mounts speak TCP; the gate is a unix socket. What comes in is judged by the account of its socket: jobs are sent
//! away.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crate::agent::mount::plan::Way;
use crate::domain::bootstrap::GATE_OPEN;
use crate::domain::storage::HostPort;
use crate::splice::splice;

/// Longest time until a program has asked, and until the gate has answered.
const ASK: Duration = Duration::from_secs(20);

/// Longest head of a question to a proxy. Unit: bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Memory of a thread's stack.
const STACK: usize = 128 * 1024;

/// Opens the way. Answers where it begins; it is there as long as this process.
///
/// # Errors
/// There is no port or thread to be had.
pub(super) fn open(way: Way, gate: PathBuf) -> io::Result<HostPort> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
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

fn let_in(mut guest: TcpStream, own: SocketAddr, way: &Way, gate: &Path) -> io::Result<()> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    if account_of(&table, guest.peer_addr()?, own) != Some(0) {
        return Ok(());
    }
    guest.set_nodelay(true)?;
    if way.proxy && !asks_for(&mut guest, &way.to)? {
        return guest.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let storage = match through(gate, &way.to) {
        Ok(storage) => storage,
        Err(error) if way.proxy => {
            let _ = write!(guest, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if way.proxy {
        guest.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    }
    splice(guest, storage, "guest", STACK)
}

/// Goes through the gate.
///
/// # Errors
/// In the gate's words why it does not open.
fn through(gate: &Path, to: &HostPort) -> io::Result<UnixStream> {
    let mut storage = UnixStream::connect(gate)?;
    storage.set_read_timeout(Some(ASK))?;
    writeln!(storage, "{to}")?;
    let mut answer = String::new();
    // A byte at a time: what follows the line is the storage's.
    BufReader::with_capacity(1, (&storage).take(1024)).read_line(&mut answer)?;
    storage.set_read_timeout(None)?;
    match answer.trim_end() {
        GATE_OPEN => Ok(storage),
        why => Err(io::Error::other(why.to_owned())),
    }
}

/// Why `to` cannot be reached through the gate; `None` where it can.
pub(super) fn refusal(gate: &Path, to: &HostPort) -> Option<String> {
    through(gate, to).err().map(|error| error.to_string())
}

/// Reads the head of a question to a proxy. Whether it asks for `to`.
fn asks_for(guest: &mut TcpStream, to: &HostPort) -> io::Result<bool> {
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
    Ok(String::from_utf8_lossy(&head).starts_with(&format!("CONNECT {to} HTTP/1.")))
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
    fn sockets_have_an_account() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let guest = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
        let account = account_of(&table, guest.local_addr().expect("bound"), listener.local_addr().expect("bound"));
        assert_eq!(account, Some(rustix::process::geteuid().as_raw()));
        assert_eq!(account_of(&table, "127.0.0.1:1".parse().expect("an address"), listener.local_addr().expect("bound")), None);
    }
}
