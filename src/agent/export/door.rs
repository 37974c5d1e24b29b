//! The door of a file server: a socket out of reach for all nodes. What the driver put between them and it knocks there, says of which
//! cluster a node is, and hands on what the node showed. Who has a pass gets a connection; none of their bytes goes through here.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::Duration;

use crate::descriptors;
use crate::domain::bootstrap::GATE_OPEN;
use crate::domain::door::admit;

/// The socket in the door's folder.
const SOCKET: &str = "door";

/// Longest time until whoever knocks has spoken, and until the server takes a connection.
const ASK: Duration = Duration::from_secs(5);

/// Longest question. Unit: bytes.
const MAX_ASK: u64 = 300;

/// Memory of a thread's stack.
const STACK: usize = 128 * 1024;

/// Opens the door of the server at `address`, for as long as this process lives. Nobody is let in while it does not serve.
///
/// # Errors
/// It cannot be made.
pub(super) fn open(folder: &Path, address: IpAddr, key: String, serves: Arc<AtomicBool>) -> io::Result<()> {
    let path = folder.join(SOCKET);
    // Of a keeper that is gone: nobody else makes one here.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let key: Arc<str> = key.into();
    Builder::new().name("door".into()).stack_size(STACK).spawn(move || {
        for guest in listener.incoming() {
            let Ok(guest) = guest else {
                // Out of descriptors: some are given back as connections end.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let (key, serves) = (Arc::clone(&key), Arc::clone(&serves));
            let answer = move || {
                let _ = answer(guest, address, &key, &serves);
            };
            let _ = Builder::new().name("guest".into()).stack_size(STACK).spawn(answer);
        }
    })?;
    Ok(())
}

fn answer(mut guest: UnixStream, address: IpAddr, key: &str, serves: &AtomicBool) -> io::Result<()> {
    guest.set_read_timeout(Some(ASK))?;
    guest.set_write_timeout(Some(ASK))?;
    let mut asked = String::new();
    BufReader::with_capacity(1, (&guest).take(MAX_ASK)).read_line(&mut asked)?;
    let Some(service) = admit(asked.trim_end(), key) else {
        return writeln!(guest, "the file server does not let this node in");
    };
    if !serves.load(Ordering::Acquire) {
        return writeln!(guest, "the file server does not serve yet");
    }
    match TcpStream::connect_timeout(&SocketAddr::new(address, service.port()), ASK) {
        Ok(connection) => descriptors::send(&guest, format!("{GATE_OPEN}\n").as_bytes(), &[connection.as_fd()]),
        Err(error) => writeln!(guest, "the file server does not serve yet: {error}"),
    }
}
