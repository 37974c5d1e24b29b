//! The link between a machine and its shell: which end answers what, and how connections go across it.
//!
//! Nobody else is on the link. In the machine, others than root are: what the shell answers is for root, who alone may come from a low
//! port.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use rand::RngExt;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::descriptors;
use crate::domain::bootstrap::GATE_OPEN;
use crate::driver::local::network::{GUEST_ADDRESS, SHELL_ADDRESS};
use crate::splice::{Stream, splice};

/// Where the shell answers: agents' requests to servers, questions to the gate, and with the names of the cluster's nodes.
pub(super) const SERVERS: SocketAddrV4 = SocketAddrV4::new(SHELL_ADDRESS, 7_002);
pub(super) const GATE: SocketAddrV4 = SocketAddrV4::new(SHELL_ADDRESS, 7_000);
pub(super) const NAMES: SocketAddrV4 = SocketAddrV4::new(SHELL_ADDRESS, 7_003);

/// Where the machine answers: users who log in, and those who knock at a file server's door.
pub(super) const LOGIN: SocketAddrV4 = SocketAddrV4::new(GUEST_ADDRESS, 22);
pub(super) const DOOR: SocketAddrV4 = SocketAddrV4::new(GUEST_ADDRESS, 7_001);

/// Ports from which root alone may come.
const LOW: std::ops::Range<u16> = 512..1_024;

/// Longest time until a question is asked, and until it is answered.
const ASK: Duration = Duration::from_secs(10);

/// Longest question and answer. Unit: bytes.
const MAX_LINE: usize = 1_024;

/// Memory of a thread's stack.
const STACK: usize = 128 * 1024;

/// Serves each connection of `incoming` by a thread of its own, in a thread of its own. What fails is the guest's to find out.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn serve<S: Send + 'static>(
    incoming: impl Iterator<Item = io::Result<S>> + Send + 'static,
    answer: impl Fn(S) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let answer = Arc::new(answer);
    Builder::new().name("link".into()).stack_size(STACK).spawn(move || {
        for guest in incoming {
            let Ok(guest) = guest else {
                // Out of descriptors: some are given back as connections end.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let answer = Arc::clone(&answer);
            let _ = Builder::new().name("guest".into()).stack_size(STACK).spawn(move || answer(guest));
        }
    })?;
    Ok(())
}

/// Connections to a listener, for as long as this process lives.
pub(super) fn incoming(listener: TcpListener) -> impl Iterator<Item = io::Result<TcpStream>> + Send + 'static {
    std::iter::from_fn(move || Some(listener.accept().map(|(guest, _)| guest)))
}

/// Whether root of the machine is who came in.
pub(super) fn is_root(guest: &TcpStream) -> bool {
    guest.peer_addr().is_ok_and(|peer| peer.ip() == GUEST_ADDRESS && LOW.contains(&peer.port()))
}

/// Joins two connections until both have ended.
///
/// # Errors
/// There is no thread or descriptor to be had.
pub(super) fn join(guest: impl Stream, host: impl Stream) -> io::Result<()> {
    splice(guest, host, "link", STACK)
}

/// Connects to the shell as root of the machine.
///
/// # Errors
/// It does not answer, or all low ports are taken.
pub(super) fn connect_as_root(to: SocketAddrV4) -> io::Result<TcpStream> {
    let first = rand::rng().random_range(LOW);
    let mut last = Errno::ADDRINUSE;
    for port in (first..LOW.end).chain(LOW.start..first) {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let own = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        match bind(&socket, &own).and_then(|()| connect(&socket, &SocketAddr::V4(to))) {
            Ok(()) => {
                let stream = TcpStream::from(socket);
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            // Of a listener, or of a connection that has just ended.
            Err(taken @ (Errno::ADDRINUSE | Errno::ADDRNOTAVAIL)) => last = taken,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// Connects to the machine.
///
/// # Errors
/// It does not answer in time.
pub(super) fn connect_in_time(to: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(to), ASK)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one line, and not a byte more.
///
/// # Errors
/// It does not come in time, or is too long.
pub(super) fn read_line(from: impl Read) -> io::Result<String> {
    let mut line = String::new();
    BufReader::with_capacity(1, from.take(MAX_LINE as u64)).read_line(&mut line)?;
    line.strip_suffix('\n').map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Takes a question from the link to a socket that answers with a line and a connection, or with a line after which it is the
/// connection; joins the two.
///
/// # Errors
/// Nobody answers there.
pub(super) fn ask_socket(guest: TcpStream, socket: &Path) -> io::Result<()> {
    guest.set_read_timeout(Some(ASK))?;
    let asked = read_line(&guest)?;
    guest.set_read_timeout(None)?;
    let answered = UnixStream::connect(socket).and_then(|mut to| {
        to.set_read_timeout(Some(ASK))?;
        writeln!(to, "{asked}")?;
        let answer = descriptors::receive_line(&to, MAX_LINE)?;
        to.set_read_timeout(None)?;
        Ok((to, answer))
    });
    match answered {
        Ok((to, (said, connection))) => {
            writeln!(&guest, "{said}")?;
            match connection {
                _ if said != GATE_OPEN => Ok(()),
                Some(connection) => join(guest, TcpStream::from(connection)),
                None => join(guest, to),
            }
        }
        Err(error) => writeln!(&guest, "{}", error.to_string().replace('\n', " ")),
    }
}

/// Takes a question from a socket across the link, and hands what opens there to whoever asked: the connection itself, which is joined
/// to what was asked for at the other end.
///
/// # Errors
/// Nobody answers there.
pub(super) fn ask_link(guest: UnixStream, connect: impl Fn() -> io::Result<TcpStream>) -> io::Result<()> {
    guest.set_read_timeout(Some(ASK))?;
    let asked = read_line(&guest)?;
    guest.set_read_timeout(None)?;
    let answered = connect().and_then(|to| {
        to.set_read_timeout(Some(ASK))?;
        writeln!(&to, "{asked}")?;
        let said = read_line(&to)?;
        to.set_read_timeout(None)?;
        Ok((to, said))
    });
    match answered {
        Ok((to, said)) if said == GATE_OPEN => descriptors::send(&guest, format!("{GATE_OPEN}\n").as_bytes(), &[to.as_fd()]),
        Ok((_, said)) => writeln!(&guest, "{said}"),
        Err(error) => writeln!(&guest, "{}", error.to_string().replace('\n', " ")),
    }
}
