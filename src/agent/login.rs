//! Logging in to the node: the way from an address of the host to an ssh server of the node's own.
//!
//! The driver listens on an address that people can reach, and hands the listener over as this agent's standard input. Whoever comes in
//! is relayed to an `sshd` of their own. Neither the listener nor what it accepts gets into the hands of anything else in the node: a
//! socket of the host's network could be turned against that network.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::agent::account;
use crate::agent::isolate;
use crate::agent::protocol::{Account, LoginWay};
use crate::agent::start::PATH;
use crate::domain::address_range::AddressRange;
use crate::domain::bootstrap::{AgentBootstrap, ServerAddress};
use crate::task::Tasks;

/// The hidden subcommand of this binary that becomes the ssh server of one guest.
pub(super) const SUBCOMMAND: &str = "let-in";

/// Where the program is that serves a session.
const SSHD: &str = "/usr/sbin/sshd";

/// Where it wants to find a folder that nobody else can write to.
const SSHD_FOLDER: &str = "/run/sshd";

/// The agent's files for it: in memory, for root of the node alone, and in sight of what serves guests.
const FOLDER: &str = "/run/login";

/// In that folder.
const CONFIG: &str = "sshd_config";

/// In that folder: the ranges of addresses that guests may come from; not there where they may come from everywhere.
const FROM: &str = "from.json";

/// Longest time until whoever hands a guest over has said where the guest is.
const INTRODUCE: Duration = Duration::from_secs(5);

/// Longest address. Unit: bytes.
const MAX_ADDRESS: u64 = 64;

/// Time between two tries to let someone in where that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Guests at once; more are sent away.
const GUESTS: usize = 64;

/// What the ssh server of a guest is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// Files and folders of the agent's that no guest sees.
    hidden: Vec<PathBuf>,
    /// Control groups to be in.
    groups: Vec<PathBuf>,
}

/// The way in, if there is one.
pub(super) struct Login {
    way: LoginWay,
    listener: Option<TcpListener>,
    /// Whether guests are handed over by another, who says in a first line where they are.
    introduced: bool,
    serving: bool,
    hidden: Vec<PathBuf>,
    groups: Vec<PathBuf>,
    tasks: Tasks,
}

impl Login {
    /// What the driver handed over. Guests are let in at once where an earlier agent knew who may come.
    pub(super) fn find(bootstrap: &AgentBootstrap, hidden: Vec<PathBuf>, tasks: Tasks) -> Login {
        let found = find_listener();
        let way = match (&found, &bootstrap.server) {
            (Some((_, own)), _) if Path::new(SSHD).exists() => {
                let address = bootstrap.login.unwrap_or(*own);
                LoginWay::At { address: address.ip(), port: address.port() }
            }
            (Some(_), _) => {
                tracing::warn!("nobody can log in to this node: there is no {SSHD}; install openssh-server on its host");
                LoginWay::None
            }
            // A machine of its own has an ssh server of its own.
            (None, ServerAddress::Https { .. }) => LoginWay::Direct,
            (None, ServerAddress::Sockets(_)) => LoginWay::None,
        };
        let listener = found.map(|(listener, _)| listener).filter(|_| way != LoginWay::None);
        let introduced = bootstrap.login.is_some();
        let mut login = Login { way, listener, introduced, serving: false, hidden, groups: bootstrap.job_groups.clone(), tasks };
        if Path::new(FOLDER).join(CONFIG).exists() {
            login.serve();
        }
        login
    }

    /// How users log in.
    pub(super) fn way(&self) -> LoginWay {
        self.way.clone()
    }

    /// Lets the holder of an account in, and nobody else.
    pub(super) fn let_in(&mut self, account: &Account) {
        if self.listener.is_none() {
            return;
        }
        match account::ensure(account).and_then(|()| make_files(account)) {
            Ok(()) => self.serve(),
            Err(error) => tracing::error!(%error, "users cannot log in to this node"),
        }
    }

    fn serve(&mut self) {
        let Some(listener) = self.listener.as_ref().filter(|_| !self.serving) else { return };
        let session = Session { hidden: self.hidden.clone(), groups: self.groups.clone() };
        let started = serde_json::to_string(&session).map_err(io::Error::from).and_then(|session| {
            let listener = listener.try_clone()?;
            listener.set_nonblocking(true)?;
            Ok((tokio::net::TcpListener::from_std(listener)?, session))
        });
        match started {
            Ok((listener, session)) => {
                self.serving = true;
                let tasks = self.tasks.clone();
                self.tasks.spawn_cancellable("login", serve(listener, self.introduced, session, tasks));
            }
            Err(error) => tracing::error!(%error, "users cannot log in to this node"),
        }
    }
}

fn find_listener() -> Option<(TcpListener, SocketAddr)> {
    let input: OwnedFd = io::stdin().as_fd().try_clone_to_owned().ok()?;
    if !rustix::net::sockopt::socket_acceptconn(&input).unwrap_or(false) {
        return None;
    }
    let listener = TcpListener::from(input);
    let address = listener.local_addr().ok()?;
    // Nothing that this agent starts may find it as its own input.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null").ok()?).ok()?;
    Some((listener, address))
}

async fn serve(listener: tokio::net::TcpListener, introduced: bool, session: String, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(GUESTS));
    loop {
        let Ok((mut guest, peer)) = listener.accept().await else {
            // Too many open files, for example: that passes.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let session = session.clone();
        tasks.spawn_cancellable("guest", async move {
            let from = if introduced { introduction(&mut guest).await } else { Ok(peer.ip()) };
            match from {
                Ok(from) if may_come(from) => {
                    if let Err(error) = relay(guest, &session).await {
                        tracing::info!(%error, guest = %from, "a guest was not served to the end");
                    }
                }
                Ok(from) => tracing::info!(guest = %from, "a guest is sent away: nobody may log in from there"),
                Err(error) => tracing::info!(%error, "a guest was not introduced"),
            }
            drop(place);
        });
    }
}

/// The address of a guest, as whoever hands the guest over says in a first line.
async fn introduction(guest: &mut TcpStream) -> io::Result<IpAddr> {
    let mut line = String::new();
    // A byte at a time: what follows the line is the guest's.
    let mut first = BufReader::with_capacity(1, guest.take(MAX_ADDRESS));
    let read = tokio::time::timeout(INTRODUCE, first.read_line(&mut line)).await;
    read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    line.trim_end().parse().map_err(io::Error::other)
}

/// Whether guests may come from there. What cannot be read lets nobody in.
fn may_come(from: IpAddr) -> bool {
    match std::fs::read(Path::new(FOLDER).join(FROM)) {
        Ok(ranges) => serde_json::from_slice::<Vec<String>>(&ranges).is_ok_and(|ranges| is_in(&ranges, from)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn is_in(ranges: &[String], from: IpAddr) -> bool {
    ranges.iter().filter_map(|range| AddressRange::parse(range)).any(|range| range.holds(from))
}

/// Host key and settings of the ssh server, in a folder that root alone may enter.
fn make_files(account: &Account) -> io::Result<()> {
    let folder = Path::new(FOLDER);
    for (path, mode) in [(folder, 0o700), (Path::new(SSHD_FOLDER), 0o755)] {
        match std::fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let key = folder.join("host_key");
    if !key.exists() {
        let made = Command::new("/usr/bin/ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
        if !made.success() {
            return Err(io::Error::other("the node's host key cannot be made"));
        }
    }
    let ranges = folder.join(FROM);
    match &account.from {
        Some(from) => {
            let beside = folder.join("from.new");
            std::fs::write(&beside, serde_json::to_vec(from)?)?;
            std::fs::rename(beside, ranges)?;
        }
        None => {
            let _ = std::fs::remove_file(ranges);
        }
    }
    let with_password = if account.password.is_some() { "yes" } else { "no" };
    let text = format!(
        "HostKey {}\nAllowUsers {}\nPermitRootLogin no\nPasswordAuthentication {with_password}\nKbdInteractiveAuthentication no\n\
         PermitEmptyPasswords no\nUsePAM no\nMaxAuthTries 3\nLoginGraceTime 30\nAllowAgentForwarding no\nX11Forwarding no\n\
         PermitTunnel no\nClientAliveInterval 60\nClientAliveCountMax 3\nGatewayPorts no\nPermitUserEnvironment no\nAcceptEnv LANG LC_*\nPrintMotd no\nPidFile none\n\
         Subsystem sftp internal-sftp\n",
        key.display(),
        account.name
    );
    let beside = folder.join("sshd_config.new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, folder.join(CONFIG))
}

/// Serves one guest until the guest's ssh server has ended.
async fn relay(mut guest: TcpStream, session: &str) -> io::Result<()> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let mut child = Command::new("/proc/self/exe")
        .arg0("batchyard")
        .arg(SUBCOMMAND)
        .arg(session)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .stdin(theirs.try_clone()?)
        .stdout(theirs)
        .process_group(0)
        .spawn()?;
    ours.set_nonblocking(true)?;
    let mut ours = UnixStream::from_std(ours)?;
    let _ = guest.set_nodelay(true);
    let (mut from_guest, mut to_guest) = guest.split();
    let (mut from_server, mut to_server) = ours.split();
    let there = async {
        let _ = tokio::io::copy(&mut from_guest, &mut to_server).await;
        let _ = to_server.shutdown().await;
        // What the server still says is waited for, not what the guest does.
        std::future::pending::<()>().await;
    };
    let back = tokio::io::copy(&mut from_server, &mut to_guest);
    let relayed = tokio::select! {
        back = back => back,
        () = there => Ok(0),
    };
    let _ = to_guest.shutdown().await;
    // It has ended, or has nobody to talk to any more.
    let _ = child.kill();
    child.wait()?;
    relayed.map(drop)
}

/// Becomes the ssh server of the guest that is this process's standard input.
///
/// # Errors
/// It cannot: the guest is sent away.
pub fn login(session: &str) -> io::Result<()> {
    let session: Session = serde_json::from_str(session)?;
    for group in &session.groups {
        std::fs::write(group.join("cgroup.procs"), "0")?;
    }
    isolate::hide_all(&session.hidden)?;
    // What makes the agent more than root of a container is not the guest's, whoever the guest becomes.
    remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)?;
    // Only returns where it fails.
    Err(Command::new(SSHD).args(["-i", "-e", "-f"]).arg(Path::new(FOLDER).join(CONFIG)).env_clear().exec())
}
