//! What runs containers on the node, from the agent's side.
//!
//! A node's own engine is Docker's, as the node's programs have it, in the node's namespaces: its containers have the node's network, see
//! the node's mounts, count against the limits of the node's jobs and end with the node. It is started when the first job wants it, and
//! outlives the agent as jobs do ([`keep`]). It has no more rights than the agent has: none over the network, so that a runtime of our own
//! ([`runtime`]) keeps containers in the network that is there.

mod keep;
mod passage;
mod runtime;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
