//! Making connections to a file server: through the node's gate, which hands over one that is made, or by the network.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::domain::bootstrap::GATE_OPEN;
use crate::domain::door::{Knock, Pass, Service};

/// Longest time until a connection is there.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest answer of a gate. Unit: bytes.
const MAX_ANSWER: usize = 1024;

/// How a file server is reached. Holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::agent) enum Way {
    /// Through the node's gate.
    Gate {
        /// Its socket.
        socket: PathBuf,
        /// What lets the node in.
        pass: Pass,
    },
    /// By the node's own network.
    Network(IpAddr),
}

impl Way {
    /// Connects to one of the server's services.
    ///
    /// # Errors
    /// Why there is no connection, within [`CONNECT`] or the gate's own time.
    pub(super) fn connect(&self, service: Service) -> io::Result<TcpStream> {
        let stream = match self {
            Way::Network(address) => TcpStream::connect_timeout(&SocketAddr::new(*address, service.port()), CONNECT)?,
            Way::Gate { socket, pass } => {
                let mut gate = UnixStream::connect(socket)?;
                gate.set_read_timeout(Some(CONNECT))?;
                gate.set_write_timeout(Some(CONNECT))?;
                writeln!(gate, "{}", Knock { pass: pass.clone(), service }.line())?;
                let (said, connection) = descriptors::receive_line(&gate, MAX_ANSWER)?;
                TcpStream::from(connection.filter(|_| said == GATE_OPEN).ok_or_else(|| io::Error::other(said))?)
            }
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
