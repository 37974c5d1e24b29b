//! Starting a node's first process: in namespaces that exist before it does, or as a plain process.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::descriptors;
use crate::driver::local::layout::{NodeFolder, NodeSpec, at};
use crate::driver::local::network;

/// Longest time from the start of a first process to its word that all is made.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) use crate::domain::bootstrap::NODE_VARIABLE;

/// The first process says that it has written itself down.
const WRITTEN: u8 = b'w';
/// The first process says that all is made and the agent started.
const READY: u8 = b'r';
/// The first process says why not all is made; the words follow.
const FAILED: u8 = b'f';

/// A first process that is being started, and the way to it.
pub(super) struct Starting {
    pub(super) child: Child,
    socket: UnixStream,
    written: bool,
}

/// What a node in namespaces has of networks that it is not in.
pub(super) struct Outside<'a> {
    /// Its cluster's.
    pub(super) fabric: BorrowedFd<'a>,
    /// Where users who log in come in, on the host's.
    pub(super) login: Option<BorrowedFd<'a>>,
}

/// Starts a node's first process. The calling thread is in the node's namespaces afterwards, so it must be one that ends soon.
///
/// The lock and the fabric are sent ahead: should this server die in between, they are in the hands of the process, or gone with it.
///
/// # Errors
/// Nothing runs then.
pub(super) fn start(
    binary: &Path,
    folder: &NodeFolder,
    spec: &NodeSpec,
    lock: &OwnedFd,
    network: Option<&Outside<'_>>,
) -> io::Result<Starting> {
    let (ours, theirs) = UnixStream::pair()?;
    // Of the process, whatever this thread is in.
    let outside = std::fs::File::open("/proc/self/ns/net").map_err(at("open", Path::new("/proc/self/ns/net")))?;
    let mut descriptors = vec![lock.as_fd()];
    // Always before the listener, which is not always there.
    let outside = network.map(|_| outside.as_fd());
    descriptors.extend(network.iter().flat_map(|network| [Some(network.fabric), outside, network.login].into_iter().flatten()));
    descriptors::send(&ours, b"d", &descriptors)?;

    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.log()).map_err(at("open", &folder.log()))?;
    if spec.isolation.has_root() {
        let outside = network.ok_or_else(|| io::Error::other("a node in namespaces needs a network"))?;
        if !spec.in_host_network {
            network::enter_new_namespace(outside.fabric, spec.address, spec.shell.as_ref())?;
        }
        unshare(CloneFlags::CLONE_NEWPID)?;
    }
    let child = Command::new(binary)
        .arg("node-init")
        .arg(folder.spec())
        .env_clear()
        .env(NODE_VARIABLE, folder.path())
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(at("start", binary))?;
    Ok(Starting { child, socket: ours, written: false })
}

impl Starting {
    /// Waits until the first process has written itself down, from when on any server finds it.
    ///
    /// # Errors
    /// It ended, or is late.
    pub(super) fn wait_written(&mut self) -> io::Result<()> {
        if !self.written {
            self.expect(WRITTEN)?;
            self.written = true;
        }
        Ok(())
    }

    /// Waits until all is made.
    ///
    /// # Errors
    /// In its own words what could not be made, or that it is late.
    pub(super) fn wait_ready(&mut self) -> io::Result<()> {
        self.wait_written()?;
        self.expect(READY)
    }

    fn expect(&mut self, word: u8) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        self.socket.set_read_timeout(Some(DEADLINE))?;
        let mut heard = [0u8; 1];
        match self.socket.read(&mut heard) {
            Ok(1) if heard == [word] => Ok(()),
            Ok(_) => {
                let mut words = Vec::new();
                self.socket
                    .set_read_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))))?;
                let _ = Read::by_ref(&mut self.socket).take(4096).read_to_end(&mut words);
                let words = String::from_utf8_lossy(&words);
                Err(io::Error::other(if words.is_empty() { "the first process ended without a word".into() } else { words }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the first process is late"))
            }
            Err(error) => Err(error),
        }
    }
}

/// The first process's end of the way to the server that started it.
pub(super) struct Parent {
    /// The lock that says that the node lives, kept as long as this process lives.
    _lock: OwnedFd,
    /// The cluster's fabric, where the node is in namespaces; kept likewise.
    pub(super) fabric: Option<OwnedFd>,
    /// The host's network, where the node is in namespaces; for the one thread that stays in it.
    pub(super) outside: Option<OwnedFd>,
    /// Where users who log in come in, if they can.
    pub(super) login: Option<OwnedFd>,
    socket: UnixStream,
}

impl Parent {
    /// Takes what the server handed over as standard input.
    ///
    /// # Errors
    /// This process was not started by a server.
    pub(super) fn receive() -> io::Result<Parent> {
        let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let mut descriptors = descriptors::receive(&socket, &mut [0])?.1.into_iter();
        let lock = descriptors.next().ok_or_else(|| io::Error::other("standard input is no server"))?;
        let (fabric, outside, login) = (descriptors.next(), descriptors.next(), descriptors.next());
        Ok(Parent { _lock: lock, fabric, outside, login, socket })
    }

    /// Says that this process has written itself down. A server that is gone does not hear it, which is no error.
    pub(super) fn say_written(&mut self) {
        let _ = self.socket.write_all(&[WRITTEN]);
    }

    /// Says that all is made.
    pub(super) fn say_ready(&mut self) {
        let _ = self.socket.write_all(&[READY]);
    }

    /// Says what could not be made.
    pub(super) fn say_failed(&mut self, error: &io::Error) {
        let _ = self.socket.write_all(&[&[FAILED], error.to_string().as_bytes()].concat());
    }
}
