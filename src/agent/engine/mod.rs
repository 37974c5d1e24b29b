//! What runs containers on the node, from the agent's side.
//!
//! A node's own engine is Docker's, as the node's programs have it, in the node's namespaces: its containers have the node's network, see
//! the node's mounts, count against the limits of the node's jobs and end with the node. It is started when the first job wants it, and
//! outlives the agent as jobs do ([`keep`]). It has no more rights than the agent has: none over the network, so that a runtime of our own
//! ([`runtime`]) keeps containers in the network that is there.

mod keep;
mod passage;
mod runtime;

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::domain::bootstrap::{AgentBootstrap, Engine};
use crate::domain::resource::EntityError;

pub use keep::keep;
pub use runtime::become_runtime;

/// The hidden subcommand of this binary that keeps a node's own engine running.
const KEEP: &str = "keep-engine";

/// The hidden subcommand of this binary that is an engine's runtime.
const RUNTIME: &str = "oci-runtime";

/// The name of the group of all containers, in that of what the node runs for others.
const CONTAINERS: &str = "containers";

/// Where the engine's program is looked for.
const FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// Longest time that a program has to tell its version.
const TELLING: Duration = Duration::from_secs(2);

/// Longest answer to that. Unit: bytes.
const LONGEST_VERSION: u64 = 4096;

/// The name of the keeper's socket, beside the engine's: whoever connects wants the engine to end, and is hung up on when it has.
const KEEPER: &str = "keeper";

/// Longest time until an engine has gone.
const ENDING: Duration = Duration::from_secs(5);

/// The code of a job's error where its node has nothing that runs containers.
const MISSING: &str = "JobSettingsNotSupported";

/// The way to an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Where it listens.
    pub(super) path: PathBuf,
    /// Whether it is the node's own, whose containers are in the node's network by themselves.
    pub(super) is_own: bool,
}

/// What the keeper of a node's own engine is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    /// Where its socket and its passing state are.
    run: PathBuf,
    /// Where images and containers are kept.
    data: PathBuf,
    /// The folder of passages to registries.
    registries: Option<PathBuf>,
    /// Control groups of what the node runs for others.
    groups: Vec<PathBuf>,
}

/// The node's engine.
pub(super) struct Engines {
    engine: Option<Engine>,
    groups: Vec<PathBuf>,
    keeper: Option<Child>,
}

impl Engines {
    /// The engine of the node that starts from `bootstrap`, as yet untouched.
    pub(super) fn new(bootstrap: &AgentBootstrap) -> Engines {
        Engines { engine: bootstrap.engine.clone(), groups: bootstrap.job_groups.clone(), keeper: None }
    }

    /// The socket of the engine; one of the node's own is running by then, or about to.
    ///
    /// # Errors
    /// The node has none, for people.
    pub(super) fn ensure(&mut self) -> Result<Socket, EntityError> {
        match self.engine.clone() {
            None => Err(missing("has no container engine")),
            Some(Engine::Socket(path)) => Ok(Socket { path, is_own: false }),
            Some(Engine::Own { run, data, registries }) => {
                if find_program("dockerd").is_none() {
                    return Err(missing("has no container engine: the program 'dockerd' is not installed"));
                }
                let path = socket(&run);
                self.ensure_kept(&Order { run, data, registries, groups: self.groups.clone() }).map_err(|error| {
                    tracing::error!(%error, "the container engine cannot be started");
                    missing(&format!("cannot start its container engine: {error}"))
                })?;
                Ok(Socket { path, is_own: true })
            }
        }
    }

    /// Starts a keeper unless ours runs. Where one of an earlier agent runs, a second one ends by itself.
    fn ensure_kept(&mut self, order: &Order) -> io::Result<()> {
        if let Some(keeper) = &mut self.keeper
            && keeper.try_wait()?.is_none()
        {
            return Ok(());
        }
        std::fs::create_dir_all(&order.data)?;
        let log = std::fs::File::options().create(true).append(true).open(order.data.join("engine.log"))?;
        let keeper = Command::new("/proc/self/exe")
            .arg(KEEP)
            .arg(serde_json::to_string(order)?)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.keeper = Some(keeper);
        Ok(())
    }
}

/// What the program that makes containers of a node's own engine tells of its version; `None` where it is not there or tells nothing
/// within [`TELLING`]. A setup task may have put anything in its place.
pub(super) fn find_runtime_version() -> Option<String> {
    let mut command = Command::new(find_program("runc")?);
    command.arg("--version").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = command.spawn().ok()?;
    let deadline = Instant::now() + TELLING;
    while program.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            let _ = program.kill();
            let _ = program.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut told = String::new();
    program.stdout.take()?.take(LONGEST_VERSION).read_to_string(&mut told).ok()?;
    Some(told)
}

/// Has the node's own engine that listens at `socket` ended, with all that it is doing, and started afresh. Returns when it has gone.
///
/// # Errors
/// Nothing keeps it, or it does not end.
pub(super) fn restart(socket: &Path) -> io::Result<()> {
    let mut keeper = UnixStream::connect(socket.with_file_name(KEEPER))?;
    keeper.set_read_timeout(Some(ENDING))?;
    keeper.read(&mut [0]).map(drop)
}

fn missing(what: &str) -> EntityError {
    let message = format!("The job needs what its node cannot do: containerSettings. The node {what}.");
    EntityError::new(MISSING, message).with_detail("property", "containerSettings")
}

/// Control groups with those of the containers in them.
pub(super) fn with_containers(groups: &[PathBuf]) -> Vec<PathBuf> {
    let inside = groups.iter().flat_map(|group| std::fs::read_dir(group.join(CONTAINERS)).into_iter().flatten().flatten());
    groups.iter().cloned().chain(inside.map(|entry| entry.path())).collect()
}

/// The engine's socket.
fn socket(run: &Path) -> PathBuf {
    run.join("socket")
}

/// A program of the node.
fn find_program(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}
